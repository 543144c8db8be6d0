/* How the verdicts are made, at which scale each experiment was run, and which were not. */
#include "page.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LAST_EXPERIMENT = 17 };

static void put_method(page *p) {
  text_add(&p->out, "<h2>%s</h2>\n<p>%s</p>\n", page_say(p, "How the verdicts are made", "判定方法"),
           page_say(p,
                    "The criteria were written down before the runs (lab/claims.json). Arms are compared seed by seed. "
                    "Confirmed: the mean difference reaches the value that was wanted, and with 95 % confidence "
                    "(one-sided t) differs from zero, with at least 3 seeds. Direction only: it points the right way, "
                    "but one of the two fails. Not reproduced: it does not. Refuted: with 95 % confidence the opposite "
                    "holds. A small network on small pictures can confirm a direction; it cannot verify a figure of "
                    "ImageNet. ± is the standard deviation over seeds, n their number.",
                    "判据在运行之前就写在 lab/claims.json 里。各方案按同一随机种子成对比较。"
                    "已证实：平均差达到要求，且在 95 % 置信度（单侧 t 检验）下不为零，种子不少于 3 个。"
                    "仅方向一致：方向对，但两者之一不满足。未能重现：方向不对或没有差别。"
                    "被推翻：在 95 % 置信度下结论相反。小网络、小图像能验证方向，不能验证 ImageNet 的具体数字。"
                    "± 是各种子之间的标准差，n 是种子数。"));
}

/* The range of a number of the configuration over all runs of an experiment. */
static bool range_of(const page *p, const char *experiment, const char *key, double *low, double *high) {
  *low = INFINITY;
  *high = -INFINITY;
  for (int i = 0; i < p->runs->count; i++) {
    const answer_run *run = &p->runs->at[i];
    if (strcmp(run->experiment, experiment) != 0) continue;
    double value = answer_number(cJSON_GetObjectItemCaseSensitive(run->json, "config"), key, NAN);
    *low = fmin(*low, value);
    *high = fmax(*high, value);
  }
  return *low <= *high;
}

static void put_scale(page *p, const char *experiment) {
  static const struct {
    const char *key, *english, *chinese;
  } shown[] = {{"parameters", "parameters", "参数量"},
               {"training_pictures", "training pictures", "训练图像"},
               {"text_characters", "characters of text", "文本字符数"},
               {"side", "pixels a side", "边长（像素）"},
               {"steps", "steps", "步数"},
               {"batch", "batch", "批量"},
               {"learning_rate", "learning rate", "学习率"}};
  for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++) {
    double low, high;
    if (!range_of(p, experiment, shown[i].key, &low, &high)) continue;
    text_add(&p->out, page_say(p, ", %s ", "，%s "), page_say(p, shown[i].english, shown[i].chinese));
    if (low < high) text_add(&p->out, page_say(p, "%.9g to %.9g", "%.9g 至 %.9g"), low, high);
    else text_add(&p->out, "%.9g", low);
  }
}

/* Does any test of the statements belong to it? */
static bool is_known(const page *p, const char *experiment) {
  const cJSON *test;
  cJSON_ArrayForEach(test, cJSON_GetObjectItemCaseSensitive(p->data, "tests")) {
    if (strcmp(answer_string(test, "experiment"), experiment) == 0) return true;
  }
  return false;
}

static void put_missing(page *p) {
  const char *before = "";
  text_put(&p->out, "<li>");
  text_put(&p->out, page_say(p, "not run: ", "未运行："));
  for (int i = 0; i <= LAST_EXPERIMENT; i++) {
    char name[16];
    snprintf(name, sizeof name, "E%d", i);
    if (answer_mode(p->runs, name) != NULL || !is_known(p, name)) continue;
    text_add(&p->out, "%s%s", before, name);
    before = page_say(p, ", ", "、");
  }
  if (*before == '\0') text_put(&p->out, page_say(p, "none", "无"));
  text_put(&p->out, page_say(p,
                             ". The full run (<code>norma lab --full</code>) has more than the quick one; "
                             "<code>norma lab --list</code> shows what there is.",
                             "。完整模式（<code>norma lab --full</code>）比快速模式多；"
                             "<code>norma lab --list</code> 列出全部实验。"));
  text_put(&p->out, "</li>");
}

void page_experiments(page *p) {
  put_method(p);
  text_put(&p->out, "<ul>");
  for (int i = 0; i <= LAST_EXPERIMENT; i++) {
    char name[16];
    int seeds[ANSWER_SEEDS];
    snprintf(name, sizeof name, "E%d", i);
    const char *mode = answer_mode(p->runs, name);
    if (mode == NULL) continue;
    text_add(&p->out, page_say(p, "<li>%s: %s mode, seeds %d", "<li>%s：%s 模式，种子数 %d"), name, mode,
             answer_seeds(p->runs, name, seeds));
    put_scale(p, name);
    text_put(&p->out, "</li>");
  }
  put_missing(p);
  text_put(&p->out, "</ul>\n");
}
