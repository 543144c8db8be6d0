/* Verdicts as files: results.json, its inverse, and results.csv. */
#include "answer.h"
#include "text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------------ JSON --- */

/* JSON has no infinity: null. */
static void add_number(cJSON *object, const char *key, double value) {
  if (isfinite(value)) cJSON_AddNumberToObject(object, key, value);
  else cJSON_AddNullToObject(object, key);
}

static double number_or_infinity(const cJSON *object, const char *key) { return answer_number(object, key, INFINITY); }

static void add_outcome(cJSON *tests, const answer_outcome *o) {
  cJSON *one = cJSON_AddObjectToObject(tests, o->test->string);
  cJSON_AddStringToObject(one, "verdict", answer_verdict_name(o->verdict));
  if (o->n == 0) return;
  cJSON_AddStringToObject(one, "mode", o->mode);
  cJSON_AddNumberToObject(one, "n", o->n);
  add_number(one, "mean", o->mean);
  add_number(one, "deviation", o->deviation);
  add_number(one, "low", o->low);
  add_number(one, "high", o->high);
  cJSON *values = cJSON_AddObjectToObject(one, "values");
  for (int i = 0; i < o->n; i++) {
    char seed[16];
    snprintf(seed, sizeof seed, "%d", o->seed[i]);
    add_number(values, seed, o->value[i]);
  }
}

cJSON *answer_results_json(const answer_results *results) {
  cJSON *json = cJSON_CreateObject();
  cJSON_AddStringToObject(json, "about",
                          "Verdicts of norma-report on the statements of lab/claims.json, from the runs that it found");
  cJSON_AddStringToObject(json, "machine", results->machine);
  cJSON_AddNumberToObject(json, "runs", results->runs);
  cJSON_AddNumberToObject(json, "seconds", results->seconds);
  cJSON *claims = cJSON_AddArrayToObject(json, "claims");
  for (int i = 0; i < results->claim_count; i++) {
    cJSON *one = cJSON_CreateObject();
    cJSON_AddNumberToObject(one, "id", results->claims[i].id);
    cJSON_AddStringToObject(one, "verdict", answer_verdict_name(results->claims[i].verdict));
    cJSON_AddNumberToObject(one, "tests", results->claims[i].tests);
    cJSON_AddNumberToObject(one, "tests_run", results->claims[i].tests_run);
    cJSON_AddItemToArray(claims, one);
  }
  cJSON *tests = cJSON_AddObjectToObject(json, "tests");
  for (int i = 0; i < results->outcome_count; i++) add_outcome(tests, &results->outcomes[i]);
  return json;
}

/* --------------------------------------------------------------------------------------------------- reading --- */

static bool read_verdict(const cJSON *object, answer_verdict *verdict) {
  const char *name = answer_string(object, "verdict");
  for (int i = 0; i < ANSWER_VERDICTS; i++) {
    if (strcmp(name, answer_verdict_name((answer_verdict)i)) != 0) continue;
    *verdict = (answer_verdict)i;
    return true;
  }
  return false;
}

static bool read_outcome(const cJSON *json, answer_outcome *o) {
  const cJSON *value, *values = cJSON_GetObjectItemCaseSensitive(json, "values");
  o->verdict = ANSWER_NOT_RUN;
  if (json == NULL) return true; /* a test that is younger than the file */
  if (!read_verdict(json, &o->verdict)) return false;
  snprintf(o->mode, sizeof o->mode, "%s", answer_string(json, "mode"));
  cJSON_ArrayForEach(value, values) {
    if (o->n == ANSWER_SEEDS) return false;
    o->seed[o->n] = atoi(value->string);
    o->value[o->n++] = cJSON_IsNumber(value) ? value->valuedouble : INFINITY;
  }
  o->mean = number_or_infinity(json, "mean");
  o->deviation = number_or_infinity(json, "deviation");
  o->low = o->n > 1 ? number_or_infinity(json, "low") : -INFINITY;
  o->high = number_or_infinity(json, "high");
  return true;
}

static bool read_claim(const cJSON *claims, answer_claim *claim) {
  const cJSON *one;
  cJSON_ArrayForEach(one, claims) {
    if ((int)answer_number(one, "id", 0) != claim->id) continue;
    claim->tests = (int)answer_number(one, "tests", 0);
    claim->tests_run = (int)answer_number(one, "tests_run", 0);
    return read_verdict(one, &claim->verdict);
  }
  return false;
}

bool answer_results_from_json(const cJSON *data, const cJSON *json, answer_results *results) {
  const answer_runs none = {0};
  const cJSON *tests = cJSON_GetObjectItemCaseSensitive(json, "tests");
  const cJSON *claims = cJSON_GetObjectItemCaseSensitive(json, "claims");
  answer_judge(data, &none, results);
  bool good = cJSON_IsObject(tests) && cJSON_IsArray(claims);
  for (int i = 0; good && i < results->outcome_count; i++) {
    answer_outcome *o = &results->outcomes[i];
    good = read_outcome(cJSON_GetObjectItemCaseSensitive(tests, o->test->string), o);
  }
  for (int i = 0; good && i < results->claim_count; i++) good = read_claim(claims, &results->claims[i]);
  results->runs = (int)answer_number(json, "runs", 0);
  results->seconds = answer_number(json, "seconds", 0);
  snprintf(results->machine, sizeof results->machine, "%s", answer_string(json, "machine"));
  if (!good) answer_free_results(results);
  return good;
}

/* ------------------------------------------------------------------------------------------------------- CSV --- */

static void put_field(text *t, const char *words) {
  text_put(t, "\"");
  for (; *words != '\0'; words++) {
    char one[3] = {*words, *words == '"' ? '"' : '\0', '\0'};
    text_put(t, one);
  }
  text_put(t, "\"");
}

static void put_rows(text *t, const answer_results *results, const answer_claim *claim, const char *role) {
  const cJSON *id;
  cJSON_ArrayForEach(id, cJSON_GetObjectItemCaseSensitive(claim->claim, role)) {
    const answer_outcome *o = answer_find_outcome(results, cJSON_GetStringValue(id));
    if (o == NULL) continue;
    text_add(t, "%d,%s,%s,%s,%s,%s,", claim->id, answer_verdict_name(claim->verdict), o->test->string, role,
             answer_string(o->test, "experiment"), answer_verdict_name(o->verdict));
    if (o->n > 0) text_add(t, "%s,%d,%.9g,%.9g,%.9g,%.9g,", o->mode, o->n, o->mean, o->deviation, o->low, o->high);
    else text_put(t, ",0,,,,,");
    put_field(t, answer_string(o->test, "unit"));
    text_put(t, ",");
    put_field(t, answer_string(o->test, "en"));
    text_put(t, "\n");
  }
}

int answer_write_csv(const char *folder, const answer_results *results) {
  static const char *const roles[] = {"tests", "against", "asides"};
  text t = {0};
  text_put(&t, "claim,claim_verdict,test,role,experiment,test_verdict,mode,n,mean,deviation,low,high,unit,what\n");
  for (int i = 0; i < results->claim_count; i++) {
    const answer_claim *claim = &results->claims[i];
    for (int role = 0; role < 3; role++) put_rows(&t, results, claim, roles[role]);
    if (claim->verdict == ANSWER_LITERATURE) text_add(&t, "%d,LITERATURE,,,,,,,,,,,,\n", claim->id);
  }
  int failed = answer_save(folder, "results.csv", t.at, t.size);
  text_free(&t);
  return failed;
}
