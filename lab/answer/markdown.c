/* docs/results.md from verdicts that were written earlier. */
#include "page.h"

#include <stdio.h>

static const char head[] =
    "# What the lab found\n"
    "\n"
    "Written by `build/norma-report --markdown lab/verdicts.json`; the [report](../lab/README.md) of a run on your "
    "own\n"
    "machine has the same with plots, in English and Chinese. The statements are those of a popular article on batch,\n"
    "layer, instance and group norm, in our words; the criteria were fixed in [lab/claims.json](../lab/claims.json)\n"
    "before the runs. CONFIRMED and REFUTED hold with 95 % confidence over at least three paired seeds; a small "
    "network on\n"
    "small pictures confirms a direction, never a figure of ImageNet.\n\n";

static void put_first_figure(text *t, const answer_results *results, const cJSON *claim) {
  const cJSON *tests = cJSON_GetObjectItemCaseSensitive(claim, "tests");
  if (cJSON_GetArraySize(tests) == 0) tests = cJSON_GetObjectItemCaseSensitive(claim, "against");
  const cJSON *id;
  bool first = true;
  cJSON_ArrayForEach(id, tests) {
    const answer_outcome *o = answer_find_outcome(results, cJSON_GetStringValue(id));
    if (o == NULL || o->n == 0) continue;
    text_put(t, first ? "" : "; ");
    text_add(t, "%s: ", answer_string(o->test, "experiment"));
    page_figure(t, o, ANSWER_EN);
    first = false;
  }
}

static void put_row(text *t, const answer_results *results, const answer_claim *claim) {
  const cJSON *paper = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(claim->claim, "paper"), 0);
  text_add(t, "| %d | %s | %s | ", claim->id, answer_string(claim->claim, "en"), answer_verdict_name(claim->verdict));
  put_first_figure(t, results, claim->claim);
  text_add(t, " | %s (%s) |\n", answer_string(paper, "en"), answer_string(paper, "cite"));
}

void page_print_markdown(const answer_results *results) {
  text t = {0};
  int count[ANSWER_VERDICTS] = {0};
  text_put(&t, head);
  for (int i = 0; i < results->claim_count; i++) count[results->claims[i].verdict]++;
  if (results->runs > 0) {
    text_add(&t, "%d runs, %.0f seconds of one core, on %s.\n\n", results->runs, results->seconds, results->machine);
  }
  for (int i = 0; i < ANSWER_VERDICTS; i++) {
    if (count[i] > 0) text_add(&t, "- %s: %d\n", answer_verdict_name((answer_verdict)i), count[i]);
  }
  if (count[ANSWER_NOT_RUN] > 0) {
    text_add(&t, "\nOf %d statements the experiments that decide them have not been run yet for this page:",
             count[ANSWER_NOT_RUN]);
    const char *before = " ";
    for (int i = 0; i < results->claim_count; i++) {
      if (results->claims[i].verdict != ANSWER_NOT_RUN) continue;
      text_add(&t, "%s%d", before, results->claims[i].id);
      before = ", ";
    }
    text_put(&t, ".\n");
  }
  text_put(&t, "\n| | statement | verdict | measured | published |\n|---|---|---|---|---|\n");
  for (int i = 0; i < results->claim_count; i++) put_row(&t, results, &results->claims[i]);
  fputs(t.at, stdout);
  text_free(&t);
}
