/* `norma choose --table`: which layer for which task, each row with the verdicts of the statements it rests on. */
#include "choose.h"
#include "cli.h"

#include <stdio.h>
#include <string.h>

/* Columns on a terminal: a continuation byte of UTF-8 takes none, Chinese characters and their punctuation two. */
static int columns_of(const char *words) {
  int columns = 0;
  for (; *words != '\0'; words++) {
    unsigned char byte = (unsigned char)*words;
    if ((byte & 0xc0) != 0x80) columns += byte >= 0xe3 && byte < 0xf0 ? 2 : 1;
  }
  return columns;
}

static const char *mark_of(const char *verdict) {
  static const char *const marks[][2] = {{"CONFIRMED", "✓"}, {"DIRECTION ONLY", "≈"}, {"NOT REPRODUCED", "○"},
                                         {"REFUTED", "✗"},   {"LITERATURE", "§"}};
  for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
    if (strcmp(verdict, marks[i][0]) == 0) return marks[i][1];
  }
  return "…";
}

/* "14✓ 5✓ 24…" */
static void write_evidence(const cJSON *rule, char *out, size_t size) {
  const cJSON *claim;
  size_t used = 0;
  out[0] = '\0';
  cJSON_ArrayForEach(claim, cJSON_GetObjectItemCaseSensitive(rule, "claims")) {
    int added = snprintf(out + used, size - used, "%s%d%s", used > 0 ? " " : "", claim->valueint,
                         mark_of(choose_verdict(claim->valueint)));
    if (added < 0 || (size_t)added >= size - used) return;
    used += (size_t)added;
  }
}

static const cJSON *rule_of(const cJSON *row) {
  const cJSON *task;
  cJSON_ArrayForEach(task, cJSON_GetObjectItemCaseSensitive(choose_rules(), "tasks")) {
    if (strcmp(choose_string(task, "id"), choose_string(row, "task")) != 0) continue;
    return cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(task, "rules"),
                              cJSON_GetObjectItemCaseSensitive(row, "rule")->valueint);
  }
  return NULL;
}

static void print_row(const char *task, int width, const char *evidence, int evidence_width, const char *layer,
                      const char *mark) {
  printf("%s%*s  %s%*s  %s%s\n", task, width - columns_of(task), "", evidence,
         evidence_width - columns_of(evidence), "", layer, mark);
}

void choose_print_table(bool zh) {
  const cJSON *rules = choose_rules(), *table = cJSON_GetObjectItemCaseSensitive(rules, "table"), *row;
  const cJSON *layers = cJSON_GetObjectItemCaseSensitive(rules, "layers");
  const char *from = choose_verdicts_from(), *language = zh ? "zh" : "en";
  const char *heading = zh ? "证据" : "evidence";
  char evidence[120];
  int width = 0, evidence_width = columns_of(heading);
  cJSON_ArrayForEach(row, table) {
    int columns = columns_of(choose_string(row, language));
    write_evidence(rule_of(row), evidence, sizeof evidence);
    width = columns > width ? columns : width;
    evidence_width = columns_of(evidence) > evidence_width ? columns_of(evidence) : evidence_width;
  }
  print_row(zh ? "任务" : "task", width, heading, evidence_width, zh ? "推荐的层" : "layer", "");
  cJSON_ArrayForEach(row, table) {
    const cJSON *rule = rule_of(row);
    const cJSON *layer = cJSON_GetObjectItemCaseSensitive(layers, choose_string(rule, "first"));
    bool article = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(row, "article"));
    write_evidence(rule, evidence, sizeof evidence);
    print_row(choose_string(row, language), width, evidence, evidence_width, choose_string(layer, language),
              article ? "" : " *");
  }
  if (zh) {
    printf("* 与原文不同，或原文没有。数字是 lab/claims.json 中各条陈述的编号，结论取自%s%s：\n"
           "✓ 已证实，≈ 仅方向一致，○ 未能重现，✗ 被推翻，§ 仅有文献，… 未运行\n",
           from != NULL ? " " : "", from != NULL ? from : "程序自带的结果");
  } else {
    printf("* differs from the article, or is not in it. Numbers: statements of lab/claims.json, verdicts of %s:\n"
           "✓ confirmed, ≈ direction only, ○ not reproduced, ✗ refuted, § literature, … not run\n",
           from != NULL ? from : "the lab as shipped");
  }
}
