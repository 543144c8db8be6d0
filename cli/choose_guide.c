/* docs/guide.md, from the same rules, statements and shipped verdicts as the answers. */
#include "choose.h"
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_claims(const cJSON *ids) {
  const cJSON *id;
  const char *before = "";
  cJSON_ArrayForEach(id, ids) {
    printf("%s%d %s", before, id->valueint, choose_verdict(id->valueint));
    before = ", ";
  }
}

static void print_condition(const cJSON *when) {
  static const struct {
    const char *key, *words;
  } said[] = {{"batch_min", "%lld or more per worker"},
              {"batch_max", "up to %lld per worker"},
              {"workers_min", "%lld or more workers"},
              {"total_min", "%lld or more on all workers"}};
  const cJSON *condition;
  const char *before = "";
  if (cJSON_GetArraySize(when) == 0) printf("else");
  cJSON_ArrayForEach(condition, when) {
    printf("%s", before);
    before = ", ";
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
      if (strcmp(condition->string, said[i].key) == 0) printf(said[i].words, (long long)condition->valuedouble);
    }
    if (strcmp(condition->string, "model") == 0) printf("%s", condition->valuestring);
    if (strcmp(condition->string, "pretrained") == 0) printf("weights pretrained with batch norm");
    if (strcmp(condition->string, "sequence") == 0) printf("varying length");
  }
}

static void print_rules(void) {
  const cJSON *rules = choose_rules(), *layers = cJSON_GetObjectItemCaseSensitive(rules, "layers"), *task, *rule;
  printf(
      "## Which layer for which task\n\nThe first line that fits holds. Where batch size or kind of network matter and "
      "are"
      " not given, the usual one of the\ntask is assumed.\n\n"
      "| task | if | first | second | because | statements |\n|---|---|---|---|---|---|\n");
  cJSON_ArrayForEach(task, cJSON_GetObjectItemCaseSensitive(rules, "tasks")) {
    const char *name = choose_string(task, "en");
    cJSON_ArrayForEach(rule, cJSON_GetObjectItemCaseSensitive(task, "rules")) {
      const cJSON *first = cJSON_GetObjectItemCaseSensitive(layers, choose_string(rule, "first"));
      const cJSON *second = cJSON_GetObjectItemCaseSensitive(layers, choose_string(rule, "second"));
      printf("| %s | ", name);
      name = "";
      if (cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(task, "rules")) > 1) {
        print_condition(cJSON_GetObjectItemCaseSensitive(rule, "when"));
      }
      printf(" | **%s** | %s: %s | %s | ", choose_string(first, "en"), choose_string(second, "en"),
             choose_string(rule, "second_en"), choose_string(rule, "en"));
      print_claims(cJSON_GetObjectItemCaseSensitive(rule, "claims"));
      printf(" |\n");
    }
  }
}

static void print_figure(const char *figure, void *count) {
  printf("%s%s", (*(int *)count)++ > 0 ? "; " : " Measured: ", figure);
}

static void print_statements(const char *title, const cJSON *ids) {
  const cJSON *id;
  printf("\n%s:\n\n", title);
  cJSON_ArrayForEach(id, ids) {
    const cJSON *claim = choose_claim(id->valueint);
    const cJSON *paper = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(claim, "paper"), 0);
    printf("- %d, **%s**: \"%s\"", id->valueint, choose_verdict(id->valueint), choose_string(claim, "en"));
    if (*choose_string(claim, "note_en") != '\0') printf(" %s", choose_string(claim, "note_en"));
    int count = 0;
    choose_figures(claim, print_figure, &count);
    printf("%s Published: %s (%s).\n", count > 0 ? "." : "", choose_string(paper, "en"), choose_string(paper, "cite"));
  }
}

static void print_questions(void) {
  const cJSON *question;
  printf("\n## The article's four questions\n");
  cJSON_ArrayForEach(question, cJSON_GetObjectItemCaseSensitive(choose_rules(), "four")) {
    printf("\n### %s\n\n", choose_string(question, "q"));
    choose_wrap("", choose_string(question, "en"));
    print_statements("For it", cJSON_GetObjectItemCaseSensitive(question, "for"));
    print_statements("Against it, or against the usual reason", cJSON_GetObjectItemCaseSensitive(question, "against"));
  }
}

static void print_footnotes(void) {
  const cJSON *footnote;
  printf("\n## Four footnotes that the article lacks\n\n");
  cJSON_ArrayForEach(footnote, cJSON_GetObjectItemCaseSensitive(choose_rules(), "footnotes")) {
    printf("- **%s.** %s (", choose_string(footnote, "title"), choose_string(footnote, "en"));
    print_claims(cJSON_GetObjectItemCaseSensitive(footnote, "claims"));
    printf(")\n");
  }
}

static void print_layers(void) {
  const choose_case none = {0};
  const choose_answer answer = {0};
  const cJSON *layer, *trap;
  printf("\n## Each layer: where, at what cost, and its traps\n");
  cJSON_ArrayForEach(layer, cJSON_GetObjectItemCaseSensitive(choose_rules(), "layers")) {
    char *setting = choose_fill(&none, &answer, choose_string(layer, "setting"));
    char *torch = choose_fill(&none, &answer, choose_string(layer, "pytorch"));
    char *c = choose_fill(&none, &answer, choose_string(layer, "c"));
    char *onnx = choose_fill(&none, &answer, choose_string(layer, "onnx"));
    printf("\n### %s\n\n", choose_string(layer, "en"));
    choose_wrap("- Setting: ", setting != NULL ? setting : "");
    choose_wrap("- Cost: ", choose_string(layer, "cost"));
    cJSON_ArrayForEach(trap, cJSON_GetObjectItemCaseSensitive(layer, "traps"))
        choose_wrap("- Trap: ", trap->valuestring);
    printf("- PyTorch: `%s`\n- C: `%s`\n- ONNX: `%s`\n", torch != NULL ? torch : "", c != NULL ? c : "",
           onnx != NULL ? onnx : "");
    free(setting);
    free(torch);
    free(c);
    free(onnx);
  }
}

static void print_groups(void) {
  static const int channels[] = {8, 16, 24, 32, 48, 64, 96, 100, 128, 256, 512};
  printf(
      "\n## How many groups\n\n32 where it divides the channels, as published; else the largest divisor up to 32 that "
      "leaves"
      " at least 4 channels\nper group (statements 39 and 40).\n\n| channels |");
  for (size_t i = 0; i < sizeof channels / sizeof channels[0]; i++) printf(" %d |", channels[i]);
  printf("\n|---|");
  for (size_t i = 0; i < sizeof channels / sizeof channels[0]; i++) printf("---|");
  printf("\n| groups |");
  for (size_t i = 0; i < sizeof channels / sizeof channels[0]; i++) printf(" %d |", (int)choose_groups(channels[i]));
  printf("\n");
}

int choose_print_guide(void) {
  const cJSON *sentence, *source;
  choose_load_shipped();
  printf(
      "# Which normalization layer?\n\n"
      "Written by `norma choose --guide` from [guide/rules.json](../guide/rules.json) and"
      " [lab/claims.json](../lab/claims.json). The numbers are\nstatements of the article that this project answers;"
      " beside each stands the verdict of the lab's last full run\n([results.md](results.md)), NOT RUN where there is"
      " none yet. `norma choose --task segmentation --batch 2` answers for one\ncase, with the verdicts of your own "
      "machine"
      " if you have run the lab.\n\n");
  print_rules();
  print_footnotes();
  print_questions();
  print_layers();
  print_groups();
  printf("\n## Sources of the rules\n\n");
  cJSON_ArrayForEach(source, cJSON_GetObjectItemCaseSensitive(choose_rules(), "sources")) {
    const cJSON *sure = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(choose_claims(), "sure"),
                                                         choose_string(source, "sure"));
    printf("- %s: %s (%s)\n", choose_string(source, "for"), choose_string(source, "en"), choose_string(sure, "en"));
  }
  printf("\n## One sentence each\n\n");
  cJSON_ArrayForEach(sentence, cJSON_GetObjectItemCaseSensitive(choose_rules(), "closing")) {
    printf("- %s\n", choose_string(sentence, "en"));
  }
  return EXIT_GOOD;
}
