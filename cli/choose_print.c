/* The answer as text. */
#include "choose.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 100 };

/* Columns, not bytes: continuation bytes of UTF-8 take none. */
static int width_of(const char *from, const char *to) {
  int width = 0;
  for (; from < to; from++) width += ((unsigned char)*from & 0xc0) != 0x80;
  return width;
}

void choose_wrap(const char *head, const char *words) {
  int indent = width_of(head, head + strlen(head)), column = indent;
  fputs(head, stdout);
  for (bool first = true; *words != '\0'; first = false) {
    const char *end = words + strcspn(words, " ");
    int width = width_of(words, end);
    if (!first && column + 1 + width > COLUMNS) {
      printf("\n%*s", indent, "");
      column = indent;
    } else if (!first) {
      putchar(' ');
      column++;
    }
    printf("%.*s", (int)(end - words), words);
    column += width;
    words = *end == ' ' ? end + 1 : end;
  }
  putchar('\n');
}

static void print_filled(const choose_case *c, const choose_answer *a, const char *head, const char *words) {
  char *filled = choose_fill(c, a, words);
  if (filled != NULL) choose_wrap(head, filled);
  free(filled);
}

static void print_case(const choose_case *c, const choose_answer *a) {
  printf("%s; %s%s, %lld per worker%s", choose_string(a->task, "en"), c->model, c->model_assumed ? " (assumed)" : "",
         (long long)c->batch, c->batch_assumed ? " (assumed)" : "");
  if (c->workers > 1) printf(", %lld workers", (long long)c->workers);
  if (c->channels > 0) printf(", %lld channels", (long long)c->channels);
  if (c->sequence) printf(", varying length");
  if (c->pretrained) printf(", weights pretrained with batch norm");
  if (c->deploy != NULL) printf(", deployed in %s", c->deploy);
  printf("\n\n");
}

static void print_choice(const choose_answer *a) {
  char words[600];
  snprintf(words, sizeof words, "%s: %s.", choose_string(a->first, "en"), choose_string(a->rule, "en"));
  choose_wrap("First   ", words);
  if (a->article == a->first) {
    choose_wrap("        ", "The article recommends the same.");
  } else if (a->article != NULL) {
    snprintf(words, sizeof words, "The article recommends %s here; the evidence below is why this answer differs.",
             choose_string(a->article, "en"));
    choose_wrap("        ", words);
  }
  snprintf(words, sizeof words, "%s: %s.", choose_string(a->second, "en"), choose_string(a->rule, "second_en"));
  choose_wrap("Second  ", words);
}

static void print_figure(const char *figure, void *unused) {
  (void)unused;
  choose_wrap("         measured  ", figure);
}

static void print_evidence(const choose_answer *a) {
  const cJSON *id, *paper, *claims = choose_claims();
  const char *from = choose_verdicts_from();
  printf("\nEvidence: statements of lab/claims.json, verdicts of %s\n", from != NULL ? from : "the lab as shipped");
  cJSON_ArrayForEach(id, cJSON_GetObjectItemCaseSensitive(a->rule, "claims")) {
    const cJSON *claim = choose_claim(id->valueint);
    char head[64], words[1200];
    snprintf(head, sizeof head, "  %2d %-14s  ", id->valueint, choose_verdict(id->valueint));
    choose_wrap(head, choose_string(claim, "en"));
    if (*choose_string(claim, "note_en") != '\0') choose_wrap("         note      ", choose_string(claim, "note_en"));
    choose_figures(claim, print_figure, NULL);
    cJSON_ArrayForEach(paper, cJSON_GetObjectItemCaseSensitive(claim, "paper")) {
      const cJSON *sure = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(claims, "sure"),
                                                           choose_string(paper, "sure"));
      snprintf(words, sizeof words, "%s. %s (%s)", choose_string(paper, "en"), choose_string(paper, "cite"),
               choose_string(sure, "en"));
      choose_wrap("         paper     ", words);
    }
  }
}

static void print_note(const char *note, void *unused) {
  (void)unused;
  choose_wrap("  - ", note);
}

static void print_layer(const choose_case *c, const choose_answer *a, const cJSON *layer) {
  char problem[96];
  const cJSON *trap;
  print_filled(c, a, "Setting  ", choose_string(layer, "setting"));
  print_filled(c, a, "Cost     ", choose_string(layer, "cost"));
  choose_problem(c, a, layer->string, problem, sizeof problem);
  if (problem[0] != '\0') printf("         its time here: norma bench %s,dir=both\n", problem);
  print_filled(c, a, "PyTorch  ", choose_string(layer, "pytorch"));
  print_filled(c, a, "C        ", choose_string(layer, "c"));
  print_filled(c, a, "ONNX     ", choose_string(layer, "onnx"));
  printf("Traps\n");
  cJSON_ArrayForEach(trap, cJSON_GetObjectItemCaseSensitive(layer, "traps")) print_note(trap->valuestring, NULL);
}

static void print_sources(const choose_answer *a) {
  const cJSON *source;
  printf("\nSources of this rule\n");
  cJSON_ArrayForEach(source, cJSON_GetObjectItemCaseSensitive(choose_rules(), "sources")) {
    const char *sure = choose_string(source, "sure"), *words = choose_string(source, "for");
    const char *at = strstr(words, choose_string(a->task, "id"));
    size_t length = strlen(choose_string(a->task, "id"));
    if (at == NULL || (at != words && at[-1] != ' ') || (at[length] != '\0' && at[length] != ' ')) continue;
    const cJSON *kind =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(choose_claims(), "sure"), sure);
    char line[400];
    snprintf(line, sizeof line, "%s (%s)", choose_string(source, "en"), choose_string(kind, "en"));
    print_note(line, NULL);
  }
}

void choose_print(const choose_case *c, const choose_answer *a) {
  print_case(c, a);
  print_choice(a);
  printf("\n%s\n", choose_string(a->first, "en"));
  print_layer(c, a, a->first);
  choose_notes(c, a, print_note, NULL);
  printf("\n%s\n", choose_string(a->second, "en"));
  print_layer(c, a, a->second);
  print_evidence(a);
  print_sources(a);
}
