/* `norma bench`: how long the library takes, beside a pass over the same memory that computes nothing. */
#include "bench.h"

#include "cli.h"
#include "output.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char HELP[] =
    "usage: norma bench [--seconds S] [--repeats N] [--threads N,N] [--small] [--json FILE] PROBLEM...\n"
    "       norma bench --serve [--threads N] [--small] PROBLEM\n"
    "\n"
    "Times the library on problem strings (norma check --help has their words; dir=both makes two rows).\n"
    "Each repeat times one after the other: the floor, which is the fastest pass found that reads the\n"
    "inputs and writes the output and computes nothing; memcpy of one tensor; and norma's call. Forward\n"
    "writes y and what backward needs (stats=given: y alone); backward gets the statistics of a forward\n"
    "call that is not timed, unless stats=given. Memory is allocated and touched before.\n"
    "\n"
    "  --seconds S    time for each row (default 1)\n"
    "  --repeats N    this many repeats instead\n"
    "  --threads N,N  each row on each of these numbers of threads; the string's own otherwise\n"
    "  --small        for calls below 20 us: many calls in each repeat, times in microseconds\n"
    "  --json FILE    the rows for programs\n"
    "  --serve        prepares one row and says 'ready'; then each line of standard input is a number of\n"
    "                 seconds to measure for, and is answered by one line of JSON\n";

enum { MOST_COUNTS = 8, MOST_ROWS = 512 };

typedef struct options {
  bench_limits limits;
  int counts[MOST_COUNTS]; /* of threads */
  int count;
  bool small, serve;
  const char *json;
} options;

/* -------------------------------------------------------------------------------------------------- options --- */

static bool read_seconds(const char *text, double *out) {
  char *end;
  *out = strtod(text, &end);
  return end != text && *end == '\0' && isfinite(*out) && *out > 0 && *out <= 3600;
}

static bool read_whole(const char *text, const char *stop, int64_t most, int64_t *out) {
  char *end;
  errno = 0;
  long long value = strtoll(text, &end, 10);
  *out = value;
  return *text >= '0' && *text <= '9' && end == stop && errno == 0 && value >= 1 && value <= most;
}

static bool read_counts(const char *text, options *o) {
  for (o->count = 0; o->count < MOST_COUNTS;) {
    const char *stop = text + strcspn(text, ",");
    int64_t count;
    if (!read_whole(text, stop, BENCH_MOST_THREADS, &count)) {
      return false;
    }
    o->counts[o->count++] = (int)count;
    if (*stop == '\0') {
      return true;
    }
    text = stop + 1;
  }
  return false;
}

/* The option at argv[*i], and its value behind it. */
static int read_option(int argc, char **argv, int *i, options *o) {
  const char *name = argv[*i];
  if (strcmp(name, "--small") == 0) {
    o->small = true;
    return EXIT_GOOD;
  }
  if (strcmp(name, "--serve") == 0) {
    o->serve = true;
    return EXIT_GOOD;
  }
  const char *value = *i + 1 < argc ? argv[*i + 1] : "";
  ++*i;
  if (strcmp(name, "--seconds") == 0) {
    return read_seconds(value, &o->limits.seconds)
               ? EXIT_GOOD
               : cli_fail("--seconds '%s': a number above 0, up to 3600, would be right", value);
  }
  if (strcmp(name, "--repeats") == 0) {
    return read_whole(value, value + strlen(value), 1000000, &o->limits.repeats)
               ? EXIT_GOOD
               : cli_fail("--repeats '%s': a whole number from 1 to 1000000 would be right", value);
  }
  if (strcmp(name, "--threads") == 0) {
    return read_counts(value, o) ? EXIT_GOOD
                                 : cli_fail("--threads '%s': whole numbers from 1 to %d, such as 1,2, would be right",
                                            value, BENCH_MOST_THREADS);
  }
  if (strcmp(name, "--json") == 0) {
    o->json = value;
    return *value ? EXIT_GOOD : cli_fail("--json: the name of a file is missing");
  }
  return cli_fail("%s: no such option; norma bench --help lists them", name);
}

/* ------------------------------------------------------------------------------------------------------ rows --- */

/* The rows of one string: each direction on each number of threads. */
static int plan_string(const char *text, const options *o, bench_row *rows, int *count) {
  problem p;
  norma_error error;
  if (!problem_parse(text, &p, &error)) {
    return cli_fail("%s", error.detail);
  }
  for (int t = 0; t < (o->count > 0 ? o->count : 1); t++) {
    for (int backward = 0; backward < 2; backward++) {
      if (p.direction == (backward ? PROBLEM_FORWARD : PROBLEM_BACKWARD)) {
        continue;
      }
      if (*count == MOST_ROWS) {
        return cli_fail("more than %d rows", MOST_ROWS);
      }
      bench_row *row = &rows[(*count)++];
      if (!bench_row_plan(row, &p, backward, o->count > 0 ? o->counts[t] : p.threads, o->small, &error)) {
        return cli_fail("%s: %s", text, error.detail);
      }
    }
  }
  return EXIT_GOOD;
}

static int fail_row(bench_row *row, const norma_error *error) {
  bench_row_free(row);
  return cli_fail("%s: %s", row->text, error->detail);
}

static int write_json(const char *path, const cJSON *list) {
  char *text = cJSON_Print(list);
  int code = text ? output_save(path, text, strlen(text)) : cli_fail("%s: no memory for its text", path);
  free(text);
  return code;
}

static int run_rows(bench_row *rows, int count, const options *o) {
  int width = bench_print_width(rows, count), code = EXIT_GOOD;
  cJSON *object = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(object, "rows");
  bench_print_head(rows, count, o->small);
  for (int i = 0; i < count && code == EXIT_GOOD; i++) {
    bench_result result;
    norma_error error;
    if (!bench_row_prepare(&rows[i], &error) || !bench_row_measure(&rows[i], &o->limits, &result, &error)) {
      code = fail_row(&rows[i], &error);
      break;
    }
    bench_print_row(&rows[i], &result, width);
    cJSON_AddItemToArray(list, bench_row_to_json(&rows[i], &result));
    bench_row_free(&rows[i]);
  }
  if (code == EXIT_GOOD) {
    bench_print_foot(rows, count);
    code = o->json ? write_json(o->json, object) : EXIT_GOOD;
  }
  cJSON_Delete(object);
  return code;
}

/* The row stays in memory between two measurements, so that a driver can time other programs in between. */
static int serve_row(bench_row *row) {
  norma_error error;
  if (!bench_row_prepare(row, &error)) {
    return fail_row(row, &error);
  }
  printf("ready\n");
  fflush(stdout);
  char line[64];
  while (fgets(line, sizeof line, stdin)) {
    bench_limits limits = {0};
    bench_result result;
    line[strcspn(line, "\n")] = '\0';
    if (!read_seconds(line, &limits.seconds)) {
      bench_row_free(row);
      return cli_fail("'%s': a number of seconds would be right", line);
    }
    if (!bench_row_measure(row, &limits, &result, &error)) {
      return fail_row(row, &error);
    }
    cJSON *object = bench_row_to_json(row, &result);
    char *text = cJSON_PrintUnformatted(object);
    puts(text ? text : "{}");
    fflush(stdout);
    free(text);
    cJSON_Delete(object);
  }
  bench_row_free(row);
  return EXIT_GOOD;
}

/* -------------------------------------------------------------------------------------------------- command --- */

static int plan_and_run(int strings, char **texts, const options *o) {
  bench_row *rows = calloc(MOST_ROWS, sizeof *rows);
  if (!rows) {
    return cli_fail("no memory");
  }
  int count = 0, code = EXIT_GOOD;
  for (int i = 0; i < strings && code == EXIT_GOOD; i++) { /* all of them can be read, or none is run */
    code = plan_string(texts[i], o, rows, &count);
  }
  if (code == EXIT_GOOD && o->serve && count != 1) {
    code = cli_fail("--serve takes one problem, one direction and one number of threads, not %d rows", count);
  }
  if (code == EXIT_GOOD) {
    code = o->serve ? serve_row(rows) : run_rows(rows, count, o);
  }
  free(rows);
  return code;
}

int command_bench(int argc, char **argv) {
  options o = {.limits = {.seconds = 1}};
  int strings = 0;
  /* Where the library has threads of its own, "the calling thread" must not mean them. */
  setenv("NORMA_NUM_THREADS", "1", 1);
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
      fputs(HELP, stdout);
      return EXIT_GOOD;
    }
    if (argv[i][0] != '-') {
      argv[1 + strings++] = argv[i];
    } else if (read_option(argc, argv, &i, &o) != EXIT_GOOD) {
      return EXIT_USAGE;
    }
  }
  if (strings == 0) {
    return cli_fail("a problem string is missing, such as layer:n4096,d1024; see norma bench --help");
  }
  if (o.serve && o.json) {
    return cli_fail("--serve prints JSON on standard output; --json FILE does not go with it");
  }
  return plan_and_run(strings, argv + 1, &o);
}
