/* What the files of `norma bench` share. */
#ifndef NORMA_CLI_BENCH_H
#define NORMA_CLI_BENCH_H

#include "problem.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

enum { BENCH_MOST_THREADS = 64 };

/* ------------------------------------------------------------------------------------------- bench_pool.c --- */

/* Threads that live as long as the row, so that no timing has their creation in it. */
typedef struct bench_pool bench_pool;

/* `threads` counts the caller. NULL if memory or threads run out. */
bench_pool *bench_pool_make(int threads);
void bench_pool_free(bench_pool *pool);
/* norma_threads.run: index i < threads goes to thread i, the others to whoever is free. */
void bench_pool_run(void *pool, int64_t count, void (*task)(void *context, int64_t index), void *context);
/* No thread sleeps just after this: what is timed next does not pay for waking it. */
void bench_pool_wake(bench_pool *pool);

/* ------------------------------------------------------------------------------------------ bench_floor.c --- */

/* What a pass that computes nothing would have to move: each input read once, each output written once. */
typedef struct bench_streams {
  int inputs, outputs; /* 1 to 4, 1 or 2 */
  const unsigned char *in[4];
  unsigned char *out[2];
  size_t bytes; /* of each stream */
} bench_streams;

typedef struct bench_floor {
  bench_streams streams;
  bench_pool *pool;
  int threads;
  int variant;
} bench_floor;

/* Tries every way of streaming that this processor has and keeps the fastest; `calls` as in bench_row. Writes the
 * outputs. */
void bench_floor_choose(bench_floor *f, int64_t calls);
void bench_floor_run(const bench_floor *f);
/* "avx, non-temporal, prefetch 512" */
const char *bench_floor_name(const bench_floor *f);
/* memcpy, each thread its part. */
void bench_copy_run(const bench_floor *f, const unsigned char *from, unsigned char *to);

double bench_now(void); /* seconds */

/* -------------------------------------------------------------------------------------------- bench_row.c --- */

/* One direction of one problem on a number of threads. */
typedef struct bench_row {
  problem spec;                 /* as it runs: one direction */
  char text[PROBLEM_TEXT_SIZE]; /* its string, without threads */
  int threads;                  /* 1: the calling thread alone */
  bool small;                   /* each repeat makes `calls` calls, so that the clock can see them */
  int64_t calls;
  problem_case c;
  norma_moments *moments;
  bench_pool *pool;
  norma_threads library_threads;
  void *workspace;
  bench_floor floor;
  const unsigned char *copy_from;
  unsigned char *copy_to;
} bench_row;

typedef struct bench_limits {
  double seconds;
  int64_t repeats; /* 0: until the seconds are over */
} bench_limits;

typedef struct bench_spread {
  double min, median;
} bench_spread;

typedef struct bench_result {
  int64_t repeats;
  bench_spread norma, floor, copy; /* seconds for one call or one pass */
  double ratio_min;                /* norma / floor of the two minima */
  double ratio_median;             /* of the two medians */
  double ratio_paired;             /* the median of the ratios of each repeat */
} bench_result;

/* Sets spec, text and threads. False, with the error, if bench has no floor for such a problem. */
bool bench_row_plan(bench_row *row, const problem *p, bool backward, int threads, bool small, norma_error *error);
/* Memory, data, threads, the saved statistics, the best floor, and one call to warm up. */
bool bench_row_prepare(bench_row *row, norma_error *error);
bool bench_row_measure(bench_row *row, const bench_limits *limits, bench_result *out, norma_error *error);
void bench_row_free(bench_row *row);

/* ------------------------------------------------------------------------------------------ bench_print.c --- */

void bench_print_head(const bench_row *rows, int count, bool small);
void bench_print_row(const bench_row *row, const bench_result *result, int width);
/* Notes on how to read the rows. */
void bench_print_foot(const bench_row *rows, int count);
/* The width of the column of problems. */
int bench_print_width(const bench_row *rows, int count);
cJSON *bench_row_to_json(const bench_row *row, const bench_result *result);

#endif
