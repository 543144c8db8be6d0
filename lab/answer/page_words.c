/* Numbers, criteria and verdicts in words. */
#include "page.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *page_say(const page *p, const char *english, const char *chinese) {
  return p->language == ANSWER_ZH ? chinese : english;
}

static const char *unit_in(const char *unit, answer_language language) {
  static const char *const words[][2] = {{"points", "个百分点"},
                                         {"mIoU points", "mIoU 点"},
                                         {"times", "倍"},
                                         {"elements", "个元素"},
                                         {"pairs", "对"},
                                         {"nats", "nat"},
                                         {"layers", "种层"},
                                         {"cells", "格"},
                                         {"standard deviations", "个标准差"}};
  for (size_t i = 0; language == ANSWER_ZH && i < sizeof words / sizeof words[0]; i++) {
    if (strcmp(unit, words[i][0]) == 0) return words[i][1];
  }
  return unit;
}

static void put_number(text *out, double value) {
  if (isinf(value)) text_put(out, value > 0 ? "∞" : "-∞");
  else if (value == 0) text_put(out, "0");
  else if (fabs(value) >= 0.001 && fabs(value) < 1e5) text_add(out, "%.3g", value);
  else text_add(out, "%.1e", value);
}

static bool is_exact(const answer_outcome *o) { return *answer_string(o->test, "metric") != '\0'; }

/* The largest of an exact property that must not be exceeded, the smallest of one that must be reached. */
static double extreme(const answer_outcome *o) {
  bool most = cJSON_GetObjectItemCaseSensitive(o->test, "at_most") != NULL;
  double value = o->value[0];
  for (int i = 1; i < o->n; i++) value = most ? fmax(value, o->value[i]) : fmin(value, o->value[i]);
  return value;
}

void page_figure(text *out, const answer_outcome *o, answer_language language) {
  const char *unit = unit_in(answer_string(o->test, "unit"), language);
  if (o->n == 0) {
    text_put(out, language == ANSWER_ZH ? "未运行" : "not run");
    return;
  }
  put_number(out, is_exact(o) ? extreme(o) : o->mean);
  if (!is_exact(o) && o->n > 1 && isfinite(o->deviation)) {
    text_put(out, " ± ");
    put_number(out, o->deviation);
  }
  if (*unit != '\0') text_add(out, " %s", unit);
  text_add(out, language == ANSWER_ZH ? "，n = %d" : ", n = %d", o->n);
}

void page_criterion(text *out, const answer_outcome *o, answer_language language) {
  bool zh = language == ANSWER_ZH;
  const cJSON *near = cJSON_GetObjectItemCaseSensitive(o->test, "near");
  const cJSON *most = cJSON_GetObjectItemCaseSensitive(o->test, "at_most");
  bool every = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o->test, "every"));
  if (cJSON_IsNumber(near)) text_put(out, zh ? "要求：绝对值小于 " : "wanted: less than ");
  else if (cJSON_IsNumber(most)) text_put(out, zh ? "要求：不超过 " : "wanted: at most ");
  else if (every) text_put(out, zh ? "要求：每个种子都不低于 " : "wanted: at least, with every seed, ");
  else text_put(out, zh ? "要求：不低于 " : "wanted: at least ");
  double bound = cJSON_IsNumber(near)   ? near->valuedouble
                 : cJSON_IsNumber(most) ? most->valuedouble
                                        : answer_number(o->test, "at_least", 0);
  put_number(out, bound);
  if (cJSON_IsNumber(near) && !zh) text_put(out, " either way");
}

void page_badge(page *p, answer_verdict verdict) {
  text_add(&p->out, "<span class=\"badge v%d\">%s</span>", (int)verdict, answer_verdict_text(verdict, p->language));
}

/* The number of a claim with a sign for its verdict, as a link. */
void page_reference(page *p, int claim) {
  static const char *const sign[ANSWER_VERDICTS] = {"✓", "≈", "○", "✗", "§", "…"};
  for (int i = 0; i < p->results->claim_count; i++) {
    answer_verdict verdict = p->results->claims[i].verdict;
    if (p->results->claims[i].id != claim) continue;
    text_add(&p->out, "<a class=\"ref v%d\" href=\"#c%d\" title=\"%s\">%d %s</a>", (int)verdict, claim,
             answer_verdict_text(verdict, p->language), claim, sign[verdict]);
  }
}
