/* The table "which layer for which task". Its rows name rules of guide/rules.json. */
#include "page.h"

static void put_row(page *p, const cJSON *row, const cJSON *rule, const cJSON *layers) {
  const cJSON *layer = cJSON_GetObjectItemCaseSensitive(layers, answer_string(rule, "first")), *claim;
  text_put(&p->out, "<tr><td class=\"task\">");
  text_escape(&p->out, answer_in(row, p->language));
  text_put(&p->out, "</td><td class=\"layer\">");
  text_escape(&p->out, answer_in(layer, p->language));
  text_put(&p->out, "</td><td>");
  text_escape(&p->out, answer_in(rule, p->language));
  if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(row, "article"))) {
    text_add(&p->out, " <span class=\"soft\">%s</span>",
             page_say(p, "(differs from the article, or is not in it)", "（与原文不同，或原文没有）"));
  }
  text_put(&p->out, "</td><td>");
  cJSON_ArrayForEach(claim, cJSON_GetObjectItemCaseSensitive(rule, "claims")) page_reference(p, claim->valueint);
  text_put(&p->out, "</td></tr>\n");
}

void page_table(page *p) {
  const cJSON *rules = answer_rules_data(), *row, *task;
  const cJSON *tasks = cJSON_GetObjectItemCaseSensitive(rules, "tasks");
  text_add(&p->out,
           "<h2>%s</h2>\n<table "
           "class=\"first\"><thead><tr><th>%s</th><th>%s</th><th>%s</th><th>%s</th></tr></thead><tbody>\n",
           page_say(p, "Which layer for which task", "什么任务用哪种层"), page_say(p, "task", "任务"),
           page_say(p, "layer", "推荐的层"), page_say(p, "reason", "理由"), page_say(p, "evidence", "证据"));
  cJSON_ArrayForEach(row, cJSON_GetObjectItemCaseSensitive(rules, "table")) {
    cJSON_ArrayForEach(task, tasks) {
      const cJSON *list = cJSON_GetObjectItemCaseSensitive(task, "rules");
      const cJSON *rule = cJSON_GetArrayItem(list, (int)answer_number(row, "rule", 0));
      if (rule == NULL || cJSON_Compare(cJSON_GetObjectItemCaseSensitive(task, "id"),
                                        cJSON_GetObjectItemCaseSensitive(row, "task"), true) == 0) {
        continue;
      }
      put_row(p, row, rule, cJSON_GetObjectItemCaseSensitive(rules, "layers"));
    }
  }
  text_add(&p->out, "</tbody></table>\n<p class=\"soft\">%s</p>\n",
           page_say(p,
                    "The numbers are the statements below: ✓ confirmed, ≈ direction only, ○ not reproduced, "
                    "✗ refuted, § literature, … not run. <code>norma choose</code> answers for your own case.",
                    "数字是下文各条陈述的编号：✓ 已证实，≈ 仅方向一致，○ 未能重现，✗ 被推翻，§ 仅有文献，… 未运行。"
                    "你自己的情况请用 <code>norma choose</code> 查询。"));
}
