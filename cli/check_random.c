/* `norma check --random`: many problems, the strings of those that fail (against the reference, or against their own
 * bits in another layout), and how close each kind and type came. */
#include "check.h"

#include "cli.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TYPES = 4 };

typedef struct worst {
  int64_t problems;
  double ratio; /* of the problems that passed */
  char text[PROBLEM_TEXT_SIZE];
} worst;

typedef struct sweep {
  bool json;
  int64_t failures;
  cJSON *failed;
  worst worst[PROBLEM_KINDS][TYPES];
} sweep;

/* The tensors that failed, or why nothing could be compared. */
static void describe_failure(const problem_report *report, const norma_error *refused, char *out, size_t size) {
  if (refused) {
    snprintf(out, size, "refused: %s", refused->detail);
    return;
  }
  size_t used = 0;
  out[0] = '\0';
  for (int i = 0; i < report->count && used < size; i++) {
    const problem_result *r = &report->results[i];
    if (!r->pass) {
      used += (size_t)snprintf(out + used, size - used, "%s%s %s%.2g", used ? ", " : "", problem_role_name(r->role),
                               r->stray ? "writes outside, " : "", r->ratio);
    }
  }
}

static void add_failure(sweep *s, const char *text, const char *detail) {
  s->failures++;
  if (!s->json) {
    printf("FAIL %s  (%s)\n", text, detail);
    fflush(stdout);
    return;
  }
  cJSON *failure = cJSON_CreateObject();
  cJSON_AddStringToObject(failure, "problem", text);
  cJSON_AddStringToObject(failure, "detail", detail);
  cJSON_AddItemToArray(s->failed, failure);
}

/* Whether the problem gives the same bits in the plainest manner: contiguous, out of place, statistics recomputed, no
 * threads. Only broadcast stays, which changes the values. */
static bool same_bits(const problem *p, uint64_t checksum, norma_error *error, bool *same) {
  problem plain = *p;
  plain.layout = p->layout == PROBLEM_BROADCAST ? PROBLEM_BROADCAST : PROBLEM_CONTIGUOUS;
  plain.out = PROBLEM_CONTIGUOUS;
  plain.stats = p->stats == PROBLEM_STATS_SAVED ? PROBLEM_STATS_INPUT : p->stats;
  plain.inplace = plain.workspace = false;
  plain.threads = plain.align = 0;
  problem_case c;
  if (!problem_build(&c, &plain, error)) {
    return false;
  }
  bool ran = problem_run(&c, error);
  *same = ran && problem_checksum(&c) == checksum;
  problem_free(&c);
  return ran;
}

static void try_problem(sweep *s, const problem *p) {
  char text[PROBLEM_TEXT_SIZE], detail[512];
  problem_format(p, text, sizeof text);
  problem_report report;
  norma_error error;
  bool judged = check_problem(p, &report, &error);
  worst *w = &s->worst[p->kind][p->type];
  w->problems++;
  if (!judged || !report.pass) {
    describe_failure(&report, judged ? NULL : &error, detail, sizeof detail);
    add_failure(s, text, detail);
    return;
  }
  bool same = true;
  if (!same_bits(p, report.checksum, &error, &same)) {
    describe_failure(&report, &error, detail, sizeof detail);
    add_failure(s, text, detail);
    return;
  }
  if (!same) {
    add_failure(s, text, "other bits than contiguous, out of place, without threads");
    return;
  }
  double ratio = check_worst_ratio(&report);
  if (ratio > w->ratio) {
    w->ratio = ratio;
    memcpy(w->text, text, sizeof text);
  }
}

static void show_progress(int64_t done, int64_t count) {
  if (isatty(STDERR_FILENO) && (done % 64 == 0 || done == count)) {
    fprintf(stderr, "\r%" PRId64 " of %" PRId64 "%s", done, count, done == count ? "\r\033[K" : "");
  }
}

static void print_summary(const sweep *s, int64_t count, uint64_t seed) {
  printf("%" PRId64 " problems of seed %" PRIu64 ", %" PRId64 " failed\n", count, seed, s->failures);
  printf("largest error / bound of y and the gradients, where it passed:\n");
  for (int kind = 0; kind < PROBLEM_KINDS; kind++) {
    for (int type = 0; type < TYPES; type++) {
      const worst *w = &s->worst[kind][type];
      if (w->problems > 0) {
        printf("  %-8s %-4s %6" PRId64 " problems  ratio %-6.3g %s\n", problem_kind_name((problem_kind)kind),
               norma_type_name((norma_type)type), w->problems, w->ratio, w->text);
      }
    }
  }
}

static void print_json(sweep *s, int64_t count, uint64_t seed) {
  cJSON *object = cJSON_CreateObject();
  cJSON_AddNumberToObject(object, "problems", (double)count);
  cJSON_AddNumberToObject(object, "seed", (double)seed);
  cJSON_AddItemToObject(object, "failures", s->failed);
  cJSON *list = cJSON_AddArrayToObject(object, "worst");
  for (int kind = 0; kind < PROBLEM_KINDS; kind++) {
    for (int type = 0; type < TYPES; type++) {
      const worst *w = &s->worst[kind][type];
      if (w->problems > 0) {
        cJSON *entry = cJSON_CreateObject();
        cJSON_AddStringToObject(entry, "kind", problem_kind_name((problem_kind)kind));
        cJSON_AddStringToObject(entry, "type", norma_type_name((norma_type)type));
        cJSON_AddNumberToObject(entry, "problems", (double)w->problems);
        cJSON_AddNumberToObject(entry, "ratio", w->ratio);
        cJSON_AddStringToObject(entry, "problem", w->text);
        cJSON_AddItemToArray(list, entry);
      }
    }
  }
  char *text = cJSON_Print(object);
  puts(text ? text : "{}");
  free(text);
  cJSON_Delete(object);
}

int check_random(int64_t count, uint64_t seed, bool json) {
  sweep *s = calloc(1, sizeof *s);
  if (!s) {
    return cli_fail("no memory");
  }
  s->json = json;
  s->failed = json ? cJSON_CreateArray() : NULL;
  for (int64_t i = 0; i < count; i++) {
    problem p;
    problem_random(seed, (uint64_t)i, &p);
    try_problem(s, &p);
    show_progress(i + 1, count);
  }
  if (json) {
    print_json(s, count, seed);
  } else {
    print_summary(s, count, seed);
  }
  int code = s->failures ? EXIT_FAILED : EXIT_GOOD;
  free(s);
  return code;
}
