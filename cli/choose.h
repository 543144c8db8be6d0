/*
 * The parts of `norma choose`: the command line (choose.c), questions on a terminal (choose_ask.c), the rules
 * (choose_rules.c), what the lab found on the statements they rest on (choose_evidence.c), and what is printed: text
 * (choose_print.c), JSON (choose_json.c), docs/guide.md (choose_guide.c), a table (choose_table.c). The rules are
 * guide/rules.json, the statements lab/claims.json, the shipped verdicts lab/verdicts.json; all three are part of the
 * program.
 */
#ifndef NORMA_CHOOSE_H
#define NORMA_CHOOSE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

/* What the user said, and what was assumed where nothing was said. */
typedef struct choose_case {
  const char *task, *model, *deploy;           /* NULL: not said */
  int64_t batch, workers, channels;            /* 0: not said */
  bool sequence, pretrained;
  bool batch_assumed, model_assumed;
} choose_case;

typedef struct choose_answer {
  const cJSON *task, *rule;                    /* of guide/rules.json */
  const cJSON *first, *second;                 /* layers; their keys are first->string, second->string */
  const cJSON *article;                        /* the layer that the article names, NULL if it names none */
  int64_t groups;                              /* for `channels`; 0: channels not said */
} choose_answer;

/* The data, parsed once. */
const cJSON *choose_rules(void);
const cJSON *choose_claims(void);
const char *choose_string(const cJSON *object, const char *key);

/* Finds the answer; fills in what was not said. EXIT_GOOD, or a usage error. */
int choose_find(choose_case *c, choose_answer *answer);
/* The number of groups of group norm for so many channels: 32 as published where it divides them, else the largest
 * divisor up to 32 that leaves at least 4 channels per group. */
int64_t choose_groups(int64_t channels);
/* Calls `each` for every note of the rules that fits the case and answer. */
void choose_notes(const choose_case *c, const choose_answer *a, void (*each)(const char *note, void *to), void *to);
/* A text of a layer with {C} and {G} replaced; the caller frees it. */
char *choose_fill(const choose_case *c, const choose_answer *a, const char *text);
/* The problem string that `norma bench` and `norma check` take for a layer, "" if there is none. */
void choose_problem(const choose_case *c, const choose_answer *a, const char *layer, char *out, int size);

/* The verdicts: those of `path`; else, if path is NULL, those of report/results.json if that is there; else those that
 * were shipped. EXIT_GOOD, or a usage error. */
int choose_load_verdicts(const char *path);
void choose_load_shipped(void);
/* "report/results.json", or NULL for the shipped ones. */
const char *choose_verdicts_from(void);
const cJSON *choose_claim(int id);
const char *choose_verdict(int id);
/* Calls `each` with the measured figure of every test of a claim that was run. */
void choose_figures(const cJSON *claim, void (*each)(const char *figure, void *to), void *to);

/* Asks what is missing. EXIT_GOOD, or a usage error if the input ends. */
int choose_ask(choose_case *c);

void choose_print(const choose_case *c, const choose_answer *a);
int choose_print_json(const choose_case *c, const choose_answer *a);
int choose_print_guide(void);
void choose_print_table(bool zh);
/* Prints words in lines of at most 100 columns; the first begins with `head`, the others are indented as far. */
void choose_wrap(const char *head, const char *words);

#endif
