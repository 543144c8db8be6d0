/* From the values of the tests to verdicts. The rules stand in lab/README.md in words. */
#include "answer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ENOUGH_SEEDS = 3 }; /* fewer neither confirm nor refute */

static const char *const names[ANSWER_VERDICTS] = {"CONFIRMED", "DIRECTION ONLY", "NOT REPRODUCED",
                                                   "REFUTED",   "LITERATURE",     "NOT RUN"};

const char *answer_verdict_name(answer_verdict verdict) { return names[verdict]; }

const char *answer_verdict_text(answer_verdict verdict, answer_language language) {
  static const char *const chinese[ANSWER_VERDICTS] = {"已证实", "仅方向一致", "未能重现",
                                                       "被推翻", "仅有文献",   "未运行"};
  return language == ANSWER_ZH ? chinese[verdict] : names[verdict];
}

/* ------------------------------------------------------------------------------------------------- one test --- */

/* The 95 % quantile of Student's t. */
static double quantile(int freedom) {
  static const double table[] = {6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812,
                                 1.796, 1.782, 1.771, 1.761, 1.753, 1.746, 1.740, 1.734, 1.729, 1.725};
  const int last = sizeof table / sizeof table[0];
  return freedom <= last ? table[freedom - 1] : 1.7;
}

static void describe(answer_outcome *o) {
  double sum = 0, squares = 0;
  for (int i = 0; i < o->n; i++) sum += o->value[i];
  o->mean = sum / o->n;
  for (int i = 0; i < o->n; i++) squares += (o->value[i] - o->mean) * (o->value[i] - o->mean);
  o->deviation = o->n > 1 ? sqrt(squares / (o->n - 1)) : 0;
  double reach = o->n > 1 ? quantile(o->n - 1) * o->deviation / sqrt(o->n) : INFINITY;
  o->low = o->mean - reach;
  o->high = o->mean + reach;
}

static bool all_reach(const answer_outcome *o, double bound) {
  for (int i = 0; i < o->n; i++) {
    if (!(o->value[i] >= bound)) return false;
  }
  return true;
}

static bool none_reaches(const answer_outcome *o, double bound) {
  for (int i = 0; i < o->n; i++) {
    if (!(o->value[i] < bound)) return false;
  }
  return true;
}

/* An exact property holds in every run or not at all. */
static answer_verdict judge_exact(const answer_outcome *o) {
  double most = answer_number(o->test, "at_most", INFINITY), least = answer_number(o->test, "at_least", -INFINITY);
  for (int i = 0; i < o->n; i++) {
    if (!(o->value[i] <= most && o->value[i] >= least)) return ANSWER_REFUTED;
  }
  return ANSWER_CONFIRMED;
}

/* Two arms are level: |mean| < margin, and with confidence. */
static answer_verdict judge_near(const answer_outcome *o, double margin) {
  bool enough = o->n >= ENOUGH_SEEDS;
  if (fabs(o->mean) < margin) {
    return enough && o->low > -margin && o->high < margin ? ANSWER_CONFIRMED : ANSWER_DIRECTION_ONLY;
  }
  return enough && (o->low > margin || o->high < -margin) ? ANSWER_REFUTED : ANSWER_NOT_REPRODUCED;
}

/* Every seed on its own, for values that may be infinite. */
static answer_verdict judge_every(const answer_outcome *o, double least, double null) {
  bool enough = o->n >= ENOUGH_SEEDS;
  if (all_reach(o, least)) return enough ? ANSWER_CONFIRMED : ANSWER_DIRECTION_ONLY;
  if (all_reach(o, null)) return ANSWER_DIRECTION_ONLY;
  return enough && none_reaches(o, null) ? ANSWER_REFUTED : ANSWER_NOT_REPRODUCED;
}

/* The mean reaches `least`, and differs from `null` with confidence. */
static answer_verdict judge_mean(const answer_outcome *o, double least, double null) {
  bool enough = o->n >= ENOUGH_SEEDS;
  double refuted = answer_number(o->test, "refuted_below", null);
  if (enough && o->high < refuted) return ANSWER_REFUTED;
  if (enough && o->mean >= least && o->low > null) return ANSWER_CONFIRMED;
  return o->mean > null ? ANSWER_DIRECTION_ONLY : ANSWER_NOT_REPRODUCED;
}

void answer_judge_test(answer_outcome *o) {
  const cJSON *near = cJSON_GetObjectItemCaseSensitive(o->test, "near");
  double least = answer_number(o->test, "at_least", 0), null = answer_number(o->test, "null", 0);
  o->verdict = ANSWER_NOT_RUN;
  if (o->n == 0) return;
  describe(o);
  if (*answer_string(o->test, "metric") != '\0') o->verdict = judge_exact(o);
  else if (cJSON_IsNumber(near)) o->verdict = judge_near(o, near->valuedouble);
  else if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o->test, "every"))) o->verdict = judge_every(o, least, null);
  else o->verdict = judge_mean(o, least, null);
}

/* ------------------------------------------------------------------------------------------------ one claim --- */

/* What a test that speaks against a claim says about the claim. */
static answer_verdict mirrored(answer_verdict verdict) {
  switch (verdict) {
    case ANSWER_CONFIRMED: return ANSWER_REFUTED;
    case ANSWER_DIRECTION_ONLY: return ANSWER_NOT_REPRODUCED;
    case ANSWER_NOT_REPRODUCED: return ANSWER_DIRECTION_ONLY;
    case ANSWER_REFUTED: return ANSWER_CONFIRMED;
    default: return verdict;
  }
}

answer_verdict answer_combine(const answer_verdict *supporting, int count, const answer_verdict *against, int others) {
  answer_verdict worst = ANSWER_CONFIRMED;
  bool missing = false;
  if (count + others == 0) return ANSWER_LITERATURE;
  for (int i = 0; i < count + others; i++) {
    answer_verdict verdict = i < count ? supporting[i] : mirrored(against[i - count]);
    if (verdict == ANSWER_NOT_RUN) missing = true;
    else if (verdict > worst) worst = verdict;
  }
  return worst == ANSWER_REFUTED || !missing ? worst : ANSWER_NOT_RUN;
}

const answer_outcome *answer_find_outcome(const answer_results *results, const char *test) {
  for (int i = 0; test != NULL && i < results->outcome_count; i++) {
    if (strcmp(results->outcomes[i].test->string, test) == 0) return &results->outcomes[i];
  }
  return NULL;
}

enum { MAX_TESTS = 16 };

static int verdicts_of(const answer_results *results, const cJSON *ids, answer_verdict out[MAX_TESTS], int *run) {
  int count = 0;
  const cJSON *id;
  cJSON_ArrayForEach(id, ids) {
    const answer_outcome *outcome = answer_find_outcome(results, cJSON_GetStringValue(id));
    if (count == MAX_TESTS) break;
    out[count] = outcome != NULL ? outcome->verdict : ANSWER_NOT_RUN;
    *run += out[count++] != ANSWER_NOT_RUN;
  }
  return count;
}

static void judge_claim(const answer_results *results, answer_claim *claim) {
  answer_verdict supporting[MAX_TESTS], against[MAX_TESTS];
  claim->tests_run = 0;
  int count =
      verdicts_of(results, cJSON_GetObjectItemCaseSensitive(claim->claim, "tests"), supporting, &claim->tests_run);
  int others =
      verdicts_of(results, cJSON_GetObjectItemCaseSensitive(claim->claim, "against"), against, &claim->tests_run);
  claim->tests = count + others;
  claim->verdict = answer_combine(supporting, count, against, others);
}

/* ------------------------------------------------------------------------------------------------------ all --- */

/* A test that draws its conclusion only where another one holds. */
static void apply_condition(const answer_results *results, answer_outcome *o) {
  const char *needed = answer_string(o->test, "requires");
  const answer_outcome *other = *needed != '\0' ? answer_find_outcome(results, needed) : NULL;
  if (other == NULL || other->verdict == ANSWER_CONFIRMED || o->verdict == ANSWER_NOT_RUN) return;
  if (other->verdict == ANSWER_NOT_RUN) o->verdict = ANSWER_NOT_RUN;
  else if (o->verdict == ANSWER_CONFIRMED) o->verdict = ANSWER_DIRECTION_ONLY;
  else if (o->verdict == ANSWER_REFUTED) o->verdict = ANSWER_NOT_REPRODUCED;
}

/* "processor, BLAS, instruction set", from a string or an object of strings. */
static void name_machine(const cJSON *machine, char *out, size_t size) {
  if (cJSON_IsString(machine)) snprintf(out, size, "%s", machine->valuestring);
  if (!cJSON_IsObject(machine)) return;
  const cJSON *part;
  size_t used = 0;
  out[0] = '\0';
  cJSON_ArrayForEach(part, machine) {
    if (!cJSON_IsString(part) || used >= size) continue;
    used += (size_t)snprintf(out + used, size - used, "%s%s", used > 0 ? ", " : "", part->valuestring);
  }
}

static void describe_runs(const answer_runs *runs, answer_results *results) {
  results->runs = runs->count;
  for (int i = 0; i < runs->count; i++) {
    results->seconds += answer_number(runs->at[i].json, "seconds", 0);
    const cJSON *machine = cJSON_GetObjectItemCaseSensitive(runs->at[i].json, "machine");
    /* Runs that train name more of the machine than those of E0, which come first. */
    if (machine != NULL) name_machine(machine, results->machine, sizeof results->machine);
  }
}

void answer_judge(const cJSON *data, const answer_runs *runs, answer_results *results) {
  const cJSON *tests = cJSON_GetObjectItemCaseSensitive(data, "tests"), *test;
  const cJSON *claims = cJSON_GetObjectItemCaseSensitive(data, "claims"), *claim;
  *results = (answer_results){0};
  results->outcomes = calloc((size_t)cJSON_GetArraySize(tests) + 1, sizeof *results->outcomes);
  results->claims = calloc((size_t)cJSON_GetArraySize(claims) + 1, sizeof *results->claims);
  if (results->outcomes == NULL || results->claims == NULL) {
    answer_fail("no memory");
    exit(ANSWER_USAGE);
  }
  cJSON_ArrayForEach(test, tests) {
    answer_outcome *outcome = &results->outcomes[results->outcome_count++];
    outcome->test = test;
    answer_values(runs, outcome);
    answer_judge_test(outcome);
  }
  for (int i = 0; i < results->outcome_count; i++) apply_condition(results, &results->outcomes[i]);
  cJSON_ArrayForEach(claim, claims) {
    answer_claim *one = &results->claims[results->claim_count++];
    one->claim = claim;
    one->id = (int)answer_number(claim, "id", 0);
    judge_claim(results, one);
  }
  describe_runs(runs, results);
}

void answer_free_results(answer_results *results) {
  free(results->outcomes);
  free(results->claims);
  *results = (answer_results){0};
}

const answer_outcome *answer_failed_gate(const answer_results *results, bool exact) {
  for (int i = 0; i < results->outcome_count; i++) {
    const answer_outcome *o = &results->outcomes[i];
    bool gate = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o->test, "gate"));
    bool of_exact = strcmp(answer_string(o->test, "experiment"), "E0") == 0;
    if (gate && (of_exact || !exact) && o->verdict != ANSWER_CONFIRMED && o->verdict != ANSWER_NOT_RUN) return o;
  }
  return NULL;
}
