/* Each statement with its verdict, our figure, the paper's, the plot and the command. */
#include "chart.h"
#include "page.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void open_entry(page *p, const char *english, const char *chinese) {
  text_add(&p->out, "<dt>%s</dt><dd>", page_say(p, english, chinese));
}

static void put_judgement(page *p, const cJSON *claim) {
  const cJSON *judgements = cJSON_GetObjectItemCaseSensitive(p->data, "judgements");
  const cJSON *judgement = cJSON_GetObjectItemCaseSensitive(judgements, answer_string(claim, "judgement"));
  open_entry(p, "the article", "对原文");
  text_escape(&p->out, answer_in(judgement, p->language));
  text_put(&p->out, p->language == ANSWER_ZH ? "" : " ");
  text_escape(&p->out, answer_keyed(claim, "note", p->language));
  text_put(&p->out, "</dd>");
}

static void put_test(page *p, const cJSON *id, const char *before) {
  const answer_outcome *o = answer_find_outcome(p->results, cJSON_GetStringValue(id));
  if (o == NULL) return;
  text_add(&p->out, "<li>%s", before);
  text_escape(&p->out, answer_in(o->test, p->language));
  text_put(&p->out, p->language == ANSWER_ZH ? "：<span class=\"num\">" : ": <span class=\"num\">");
  page_figure(&p->out, o, p->language);
  text_put(&p->out, p->language == ANSWER_ZH ? "</span>（" : "</span> (");
  page_criterion(&p->out, o, p->language);
  text_put(&p->out, p->language == ANSWER_ZH ? "） " : ") ");
  page_badge(p, o->verdict);
  text_put(&p->out, "</li>");
}

static void put_tests(page *p, const cJSON *claim) {
  static const char *const roles[] = {"tests", "against", "asides"};
  const char *before[] = {"", page_say(p, "Against it. ", "反面证据。"), page_say(p, "Beside it. ", "附带测量。")};
  const cJSON *id;
  int count = 0;
  for (int i = 0; i < 3; i++) count += cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(claim, roles[i]));
  if (count == 0) return;
  open_entry(p, "measured here", "本机测量");
  text_put(&p->out, "<ul>");
  for (int i = 0; i < 3; i++) {
    cJSON_ArrayForEach(id, cJSON_GetObjectItemCaseSensitive(claim, roles[i])) put_test(p, id, before[i]);
  }
  text_put(&p->out, "</ul></dd>");
}

static void put_papers(page *p, const cJSON *claim) {
  const cJSON *paper, *sure = cJSON_GetObjectItemCaseSensitive(p->data, "sure");
  open_entry(p, "published", "已发表");
  text_put(&p->out, "<ul>");
  cJSON_ArrayForEach(paper, cJSON_GetObjectItemCaseSensitive(claim, "paper")) {
    text_put(&p->out, "<li>");
    text_escape(&p->out, answer_in(paper, p->language));
    text_put(&p->out, page_say(p, ". ", "。"));
    text_escape(&p->out, answer_string(paper, "cite"));
    text_put(&p->out, " <span class=\"soft\">(");
    text_escape(&p->out, answer_in(cJSON_GetObjectItemCaseSensitive(sure, answer_string(paper, "sure")), p->language));
    text_put(&p->out, ")</span></li>");
  }
  text_put(&p->out, "</ul></dd>");
}

static void put_command(page *p, const cJSON *claim) {
  const cJSON *experiment;
  bool any = cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(claim, "experiments")) > 0;
  open_entry(p, "repeat it", "重做");
  if (!any) {
    text_put(&p->out, page_say(p, "no experiment here decides it: read the sources",
                               "本实验室没有能判定它的实验：请读上面的出处"));
  }
  cJSON_ArrayForEach(experiment, cJSON_GetObjectItemCaseSensitive(claim, "experiments")) {
    text_add(&p->out, "<code>norma lab %s</code> ", cJSON_GetStringValue(experiment));
  }
  text_put(&p->out, "</dd>");
}

/* ----------------------------------------------------------------------------------------------------- plots --- */

static int is_picture(const struct dirent *entry) {
  size_t length = strlen(entry->d_name);
  return entry->d_name[0] != '.' && length > 4 && strcmp(entry->d_name + length - 4, ".png") == 0;
}

/* A row of a figure: its label and FOLDER/pictures/FILE, inside the page. */
static void put_picture(page *p, const char *file, const cJSON *label) {
  char path[ANSWER_PATH + 300];
  snprintf(path, sizeof path, "%s/pictures/%s", p->folder, file);
  text_put(&p->out, "<p>");
  text_escape(&p->out, answer_in(label, p->language));
  text_put(&p->out, "</p><img alt=\"\" src=\"data:image/png;base64,");
  text_base64(&p->out, path);
  text_put(&p->out, "\">");
}

/* The entry of the plot's files that names this one, else the plot itself: both have `en` and `zh`. */
static const cJSON *label_of(const cJSON *plot, const char *file) {
  const cJSON *entry;
  cJSON_ArrayForEach(entry, cJSON_GetObjectItemCaseSensitive(plot, "files")) {
    if (strcmp(answer_string(entry, "file"), file) == 0) return entry;
  }
  return plot;
}

static bool begins_with(const char *name, const char *prefix) {
  size_t length = strlen(prefix);
  return strncmp(name, prefix, length) == 0 && !(name[length] >= '0' && name[length] <= '9');
}

static void put_labelled(page *p, const cJSON *plot, const cJSON *label, struct dirent **entries, int count) {
  for (int i = 0; i < count; i++) {
    const char *name = entries[i]->d_name;
    if (begins_with(name, answer_string(plot, "prefix")) && label_of(plot, name) == label) put_picture(p, name, label);
  }
}

/* Every FOLDER/pictures/PREFIX*.png: those that the plot lists in the order of its list, then the others. */
static bool put_pictures(page *p, const cJSON *plot) {
  char folder[ANSWER_PATH];
  const char *prefix = answer_string(plot, "prefix");
  struct dirent **entries;
  bool any = false;
  snprintf(folder, sizeof folder, "%s/pictures", p->folder);
  int count = scandir(folder, &entries, is_picture, alphasort);
  for (int i = 0; i < count; i++) any = any || begins_with(entries[i]->d_name, prefix);
  if (any) {
    const cJSON *listed = cJSON_GetObjectItemCaseSensitive(plot, "files");
    text_put(&p->out, "<figure class=\"shots\"><figcaption>");
    text_escape(&p->out, answer_in(plot, p->language));
    text_put(&p->out, "</figcaption>");
    for (listed = listed != NULL ? listed->child : NULL; listed != NULL; listed = listed->next) {
      put_labelled(p, plot, listed, entries, count);
    }
    put_labelled(p, plot, plot, entries, count);
    text_put(&p->out, "</figure>");
  }
  for (int i = 0; i < count; i++) free(entries[i]);
  if (count >= 0) free(entries);
  return any;
}

static bool put_plot(page *p, const cJSON *plot) {
  static chart c;
  const char *kind = answer_string(plot, "kind");
  if (strcmp(kind, "pictures") == 0) return put_pictures(p, plot);
  if (!chart_collect(&c, plot, p->runs, p->language)) return false;
  if (strcmp(kind, "dots") == 0) chart_draw_rows(&p->out, &c);
  else chart_draw(&p->out, &c);
  return true;
}

/* The claim under which a plot was drawn, 0 if it was not. */
static int drawn_under(const page *p, const cJSON *plot) {
  for (int i = 0; i < p->drawn_count; i++) {
    if (p->drawn[i] == plot) return p->drawn_at[i];
  }
  return 0;
}

static void put_plots(page *p, const cJSON *claim, int id) {
  const cJSON *name, *plots = cJSON_GetObjectItemCaseSensitive(p->data, "plots");
  text_put(&p->out, "<div class=\"plots\">");
  cJSON_ArrayForEach(name, cJSON_GetObjectItemCaseSensitive(claim, "plots")) {
    const cJSON *plot = cJSON_GetObjectItemCaseSensitive(plots, cJSON_GetStringValue(name));
    int under = drawn_under(p, plot);
    if (under > 0) {
      text_add(&p->out, "<p class=\"soft\">%s <a href=\"#c%d\">%d</a>: ", page_say(p, "Plot under statement", "图见第"),
               under, under);
      text_escape(&p->out, answer_in(plot, p->language));
      text_put(&p->out, "</p>");
    } else if (plot != NULL && p->drawn_count < 64 && put_plot(p, plot)) {
      p->drawn[p->drawn_count] = plot;
      p->drawn_at[p->drawn_count++] = id;
    }
  }
  text_put(&p->out, "</div>");
}

static void put_claim(page *p, const answer_claim *claim) {
  text_add(&p->out, "<article class=\"claim\" id=\"c%d\"><div class=\"head\"><h3><span class=\"id\">%d</span>",
           claim->id, claim->id);
  text_escape(&p->out, answer_in(claim->claim, p->language));
  text_put(&p->out, "</h3>");
  page_badge(p, claim->verdict);
  text_put(&p->out, "</div><dl>");
  put_judgement(p, claim->claim);
  put_tests(p, claim->claim);
  if (claim->verdict == ANSWER_NOT_RUN && claim->tests_run > 0) {
    open_entry(p, "still missing", "尚缺");
    text_add(&p->out, page_say(p, "%d of the %d tests that decide it were run", "判定它的 %2$d 项测试只运行了 %1$d 项"),
             claim->tests_run, claim->tests);
    text_put(&p->out, "</dd>");
  }
  put_papers(p, claim->claim);
  put_command(p, claim->claim);
  text_put(&p->out, "</dl>");
  put_plots(p, claim->claim, claim->id);
  text_put(&p->out, "</article>\n");
}

void page_claims(page *p) {
  text_add(&p->out, "<h2>%s</h2>\n", page_say(p, "The statements, one by one", "逐条检验"));
  for (int i = 0; i < p->results->claim_count; i++) put_claim(p, &p->results->claims[i]);
}
