/* The value of a test for each seed: a sum of terms, or the ratio of two. A term is a number; [factor, arm, metric];
 * or ["min", [arms], metric], with "max", "-min" and "-max". A test of an exact property names one metric of the arm
 * "exact". */
#include "answer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct place {
  const answer_runs *runs;
  const char *experiment;
  int seed;
} place;

static bool metric_of(const place *at, const char *arm, const char *metric, double *value) {
  const answer_run *run =
      arm != NULL && metric != NULL ? answer_find_run(at->runs, at->experiment, arm, at->seed) : NULL;
  return run != NULL && answer_metric(run, metric, value);
}

/* The smallest or largest metric of several arms; all must have been run. */
static bool extreme_of(const place *at, const char *which, const cJSON *arms, const char *metric, double *value) {
  bool smallest = strstr(which, "min") != NULL;
  *value = smallest ? INFINITY : -INFINITY;
  const cJSON *arm;
  cJSON_ArrayForEach(arm, arms) {
    double one;
    if (!metric_of(at, cJSON_GetStringValue(arm), metric, &one)) return false;
    *value = smallest ? fmin(*value, one) : fmax(*value, one);
  }
  if (which[0] == '-') *value = -*value;
  return cJSON_GetArraySize(arms) > 0;
}

static bool term_value(const place *at, const cJSON *term, double *value) {
  if (cJSON_IsNumber(term)) {
    *value = term->valuedouble;
    return true;
  }
  const cJSON *first = cJSON_GetArrayItem(term, 0), *arm = cJSON_GetArrayItem(term, 1);
  const char *metric = cJSON_GetStringValue(cJSON_GetArrayItem(term, 2));
  if (cJSON_IsString(first)) return extreme_of(at, first->valuestring, arm, metric, value);
  if (!cJSON_IsNumber(first) || !metric_of(at, cJSON_GetStringValue(arm), metric, value)) return false;
  *value *= first->valuedouble;
  return true;
}

static bool sum_of(const place *at, const cJSON *terms, double *sum) {
  const cJSON *term;
  *sum = 0;
  cJSON_ArrayForEach(term, terms) {
    double value;
    if (!term_value(at, term, &value)) return false;
    *sum += value;
  }
  return cJSON_GetArraySize(terms) > 0;
}

static bool value_of(const place *at, const cJSON *test, double *value) {
  const char *metric = answer_string(test, "metric");
  if (*metric != '\0') return metric_of(at, "exact", metric, value);
  const cJSON *over = cJSON_GetObjectItemCaseSensitive(test, "over");
  if (!sum_of(at, cJSON_GetObjectItemCaseSensitive(test, "value"), value)) return false;
  if (over == NULL) return true;
  double below;
  if (!sum_of(at, over, &below)) return false;
  *value /= below;
  return true;
}

void answer_values(const answer_runs *runs, answer_outcome *outcome) {
  const char *experiment = answer_string(outcome->test, "experiment");
  const char *mode = answer_mode(runs, experiment);
  int seeds[ANSWER_SEEDS], count = answer_seeds(runs, experiment, seeds);
  snprintf(outcome->mode, sizeof outcome->mode, "%s", mode != NULL ? mode : "");
  outcome->n = 0;
  for (int i = 0; i < count; i++) {
    place at = {runs, experiment, seeds[i]};
    double value;
    if (!value_of(&at, outcome->test, &value)) continue;
    outcome->seed[outcome->n] = seeds[i];
    outcome->value[outcome->n++] = value;
  }
}
