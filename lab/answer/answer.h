/*
 * From runs to answers: reads the run files that the experiments leave in DIR/runs, judges the statements of
 * lab/claims.json by them, and writes DIR/results.json, DIR/results.csv and the page DIR/index.html.
 *
 * read.c reads, value.c computes one test's value per seed, verdict.c judges, results.c and results_read.c write and
 * read verdicts, markdown.c writes docs/results.md, page*.c the page, chart*.c its plots, text.c holds growing text.
 */
#ifndef NORMA_LAB_ANSWER_H
#define NORMA_LAB_ANSWER_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

enum { ANSWER_GOOD = 0, ANSWER_GATE_FAILED = 1, ANSWER_USAGE = 2 };
enum { ANSWER_PATH = 4096, ANSWER_SEEDS = 32 };

typedef enum answer_language { ANSWER_EN, ANSWER_ZH } answer_language;

/* ------------------------------------------------------------------------------------------------------ runs --- */

/* One finished run of one arm of an experiment with one seed. */
typedef struct answer_run {
  const char *experiment, *arm, *mode; /* inside json */
  int seed;
  cJSON *json;
} answer_run;

typedef struct answer_runs {
  answer_run *at;
  int count;
} answer_runs;

/* Reads DIR/runs/EXPERIMENT/ARM.seedN.json, all of them. Where an experiment has runs of full mode, its quick runs are
 * left out; runs of mode "tune", which looked for learning rates, are left out too. No folder is no runs. Returns
 * ANSWER_GOOD, or ANSWER_USAGE after one line on stderr. */
int answer_read_runs(const char *folder, answer_runs *runs);
void answer_free_runs(answer_runs *runs);
/* NULL: not run. */
const answer_run *answer_find_run(const answer_runs *runs, const char *experiment, const char *arm, int seed);
/* "quick" or "full"; NULL: the experiment was not run. */
const char *answer_mode(const answer_runs *runs, const char *experiment);
/* The distinct seeds of an experiment, ascending. */
int answer_seeds(const answer_runs *runs, const char *experiment, int seeds[ANSWER_SEEDS]);
/* A metric of a run: false if the run has no such metric. null in the file, what JSON has for NaN, is infinity. */
bool answer_metric(const answer_run *run, const char *metric, double *value);

/* ------------------------------------------------------------------------------------------------------ data --- */

/* The embedded lab/claims.json, guide/rules.json and lab/verdicts.json, parsed once; never freed. */
const cJSON *answer_claims_data(void);
const cJSON *answer_rules_data(void);
const cJSON *answer_shipped_data(void);
/* A whole file, parsed; NULL after one line on stderr. */
cJSON *answer_read_json(const char *path);
/* The string `key` of an object, "" if there is none; with a language `key` is "en" or "zh", or ends in it. */
const char *answer_string(const cJSON *object, const char *key);
const char *answer_in(const cJSON *object, answer_language language);
const char *answer_keyed(const cJSON *object, const char *stem, answer_language language);
double answer_number(const cJSON *object, const char *key, double otherwise);

/* -------------------------------------------------------------------------------------------------- verdicts --- */

typedef enum answer_verdict {
  ANSWER_CONFIRMED,
  ANSWER_DIRECTION_ONLY,
  ANSWER_NOT_REPRODUCED,
  ANSWER_REFUTED,
  ANSWER_LITERATURE,
  ANSWER_NOT_RUN,
  ANSWER_VERDICTS
} answer_verdict;

/* "CONFIRMED" and so on; in Chinese for people. */
const char *answer_verdict_name(answer_verdict verdict);
const char *answer_verdict_text(answer_verdict verdict, answer_language language);

/* What one test measured. Statistics are over the paired values of n seeds; low and high bound the mean, each with 95 %
 * confidence (Student's t, one-sided). */
typedef struct answer_outcome {
  const cJSON *test; /* of claims.json; its key is test->string */
  answer_verdict verdict;
  int n;
  int seed[ANSWER_SEEDS];
  double value[ANSWER_SEEDS];
  double mean, deviation, low, high;
  char mode[8];
} answer_outcome;

typedef struct answer_claim {
  const cJSON *claim; /* of claims.json */
  int id;
  answer_verdict verdict;
  int tests, tests_run; /* those that judge */
} answer_claim;

typedef struct answer_results {
  answer_outcome *outcomes;
  int outcome_count;
  answer_claim *claims;
  int claim_count;
  int runs;
  double seconds;    /* of all runs together */
  char machine[160]; /* "" if nothing was run */
} answer_results;

/* The values of a test, one per seed for which all that it needs was run; fills n, seed, value and mode. */
void answer_values(const answer_runs *runs, answer_outcome *outcome);
/* Judges one test by its values; fills the rest. */
void answer_judge_test(answer_outcome *outcome);
/* The verdict of a claim from those of the tests that speak for it and those that speak against it. */
answer_verdict answer_combine(const answer_verdict *supporting, int count, const answer_verdict *against, int others);
/* All tests and claims of `data`, which has the form of claims.json and lives as long as the results. */
void answer_judge(const cJSON *data, const answer_runs *runs, answer_results *results);
void answer_free_results(answer_results *results);
const answer_outcome *answer_find_outcome(const answer_results *results, const char *test);
/* The first gate that was run and is not CONFIRMED, NULL if there is none. `exact`: only those of E0. */
const answer_outcome *answer_failed_gate(const answer_results *results, bool exact);

/* ----------------------------------------------------------------------------------------------------- files --- */

cJSON *answer_results_json(const answer_results *results);
/* The inverse, for verdicts that were written earlier. False: not of that form. */
bool answer_results_from_json(const cJSON *data, const cJSON *json, answer_results *results);
int answer_write_csv(const char *folder, const answer_results *results);
/* Writes text to FOLDER/NAME, complete or not at all. */
int answer_save(const char *folder, const char *name, const char *text, size_t size);
/* Prints "norma-report: message" as one line and returns ANSWER_USAGE. */
int answer_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
