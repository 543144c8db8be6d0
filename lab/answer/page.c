/* The page as a whole: head, picture, table, statements, and how they were judged. */
#include "page.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern const unsigned char norma_page_css[]; /* page.css, by cmake/embed.cmake */

/* ----------------------------------------------------------------------------------------------- the picture --- */

/* `norma`, built or installed beside this program, draws the four layers. */
static bool draw_layers(const char *path, const char *language) {
  extern char **environ;
  char program[ANSWER_PATH];
  ssize_t length = readlink("/proc/self/exe", program, sizeof program - 8);
  if (length <= 0) return false;
  program[length] = '\0';
  char *slash = strrchr(program, '/');
  if (slash == NULL) return false;
  strcpy(slash + 1, "norma");
  char *arguments[] = {program, "picture", "--lang", (char *)(size_t)language, "-o", (char *)(size_t)path, NULL};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", 1 /* O_WRONLY */, 0);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", 1, 0);
  pid_t child;
  int status = 1;
  bool good = posix_spawn(&child, program, &actions, NULL, arguments, environ) == 0;
  posix_spawn_file_actions_destroy(&actions);
  if (good) {
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  }
  return good && status == 0;
}

static void put_picture(page *p) {
  char path[ANSWER_PATH];
  bool zh = p->language == ANSWER_ZH;
  if (snprintf(path, sizeof path, "%s/%s", p->folder, zh ? "layers.zh.svg" : "layers.svg") >= (int)sizeof path) return;
  if (access(path, R_OK) != 0 && !draw_layers(path, zh ? "zh" : "en")) return;
  text_put(&p->out, "<div class=\"white\"><img alt=\"");
  text_put(&p->out, page_say(p, "Batch, layer, instance and group norm: the elements that share one mean are coloured",
                             "BN、LN、IN、GN：共享同一个均值的元素涂成同色"));
  text_put(&p->out, "\" src=\"data:image/svg+xml;base64,");
  text_base64(&p->out, path);
  text_put(&p->out, "\"></div>\n");
}

/* ------------------------------------------------------------------------------------------------- head, foot --- */

static void put_head(page *p) {
  const char *title = page_say(p, "Which normalization layer? The evidence", "归一化层怎么选？看证据");
  text_add(&p->out,
           "<!DOCTYPE html>\n<html lang=\"%s\">\n<head>\n<meta charset=\"utf-8\">\n"
           "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>%s</title>\n<style>",
           page_say(p, "en", "zh-CN"), title);
  text_put(&p->out, (const char *)norma_page_css);
  text_add(&p->out, "</style>\n</head>\n<body>\n<h1>%s</h1>\n<p>%s</p>\n", title,
           page_say(p,
                    "A popular article says which of BatchNorm, LayerNorm, InstanceNorm and GroupNorm to use, and why. "
                    "It makes 47 statements that can be checked. Here each stands beside a measurement or a source, "
                    "also where it was not confirmed.",
                    "一篇流传很广的文章讲了 BN、LN、IN、GN 各自用在哪里、为什么。其中有 47 条可以检验的陈述；"
                    "这里逐条给出测量结果或出处，没能证实的也照样列出。"));
}

static void put_counts(page *p) {
  int count[ANSWER_VERDICTS] = {0};
  for (int i = 0; i < p->results->claim_count; i++) count[p->results->claims[i].verdict]++;
  text_put(&p->out, "<ul class=\"counts\">");
  for (int i = 0; i < ANSWER_VERDICTS; i++) {
    if (count[i] == 0) continue;
    text_put(&p->out, "<li>");
    page_badge(p, (answer_verdict)i);
    text_add(&p->out, " <b>%d</b></li>", count[i]);
  }
  text_put(&p->out, "</ul>\n");
}

static void put_machine(page *p) {
  text_put(&p->out, "<p class=\"soft\">");
  if (p->results->runs == 0) {
    text_put(&p->out, page_say(p, "Nothing was run yet: <code>norma lab</code> takes a minute.",
                               "还没有运行任何实验：<code>norma lab</code> 只需一分钟。"));
  } else {
    text_add(&p->out, page_say(p, "%d runs, %.0f s of one core, on ", "共 %d 次运行，单核 %.0f 秒，机器："),
             p->results->runs, p->results->seconds);
    text_escape(&p->out, p->results->machine);
    text_put(&p->out, page_say(p, ". All numbers: results.json and results.csv beside this page.",
                               "。全部数字见同目录的 results.json 和 results.csv。"));
  }
  text_put(&p->out, "</p>\n");
}

int page_write(const char *folder, const cJSON *data, const answer_runs *runs, const answer_results *results,
               answer_language language) {
  page p = {.folder = folder, .data = data, .runs = runs, .results = results, .language = language};
  put_head(&p);
  put_counts(&p);
  put_picture(&p);
  page_table(&p);
  put_machine(&p);
  page_claims(&p);
  page_experiments(&p);
  text_put(&p.out, "</body>\n</html>\n");
  int failed = answer_save(folder, "index.html", p.out.at, p.out.size);
  text_free(&p.out);
  return failed;
}
