/* One row of `norma bench`: what is called, with which memory, against which streams, and the loop that times it. */
#include "bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool fail(norma_error *error, norma_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static bool fail(norma_error *error, norma_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  error->status = status;
  vsnprintf(error->detail, sizeof error->detail, format, arguments);
  va_end(arguments);
  return false;
}

/* ----------------------------------------------------------------------------------------------------- plan --- */

static bool has_floor(const problem *p, norma_error *error) {
  bool dense = p->layout != PROBLEM_SLICE && p->out != PROBLEM_SLICE;
  if (p->kind == PROBLEM_ADAIN) {
    return fail(error, NORMA_BAD_ARGUMENT, "adain works on two tensors; bench measures layers of one tensor");
  }
  if (p->layout == PROBLEM_BROADCAST || problem_elements(p) == 0) {
    return fail(error, NORMA_BAD_ARGUMENT, "no elements to stream; bench needs a tensor that is all in memory");
  }
  return !p->inplace || dense || fail(error, NORMA_BAD_ARGUMENT, "inplace=1 in a slice; bench needs a dense layout");
}

bool bench_row_plan(bench_row *row, const problem *p, bool backward, int threads, bool small, norma_error *error) {
  memset(row, 0, sizeof *row);
  row->spec = *p;
  row->spec.direction = backward ? PROBLEM_BACKWARD : PROBLEM_FORWARD;
  row->spec.threads = 0;
  row->threads = threads > 1 ? threads : 1;
  row->small = small;
  row->calls = 1;
  /* Autograd keeps the statistics of the forward pass. A forward row writes them too; its string stays as it was. */
  if (backward && p->stats != PROBLEM_STATS_GIVEN) {
    row->spec.stats = PROBLEM_STATS_SAVED;
  }
  problem_format(&row->spec, row->text, sizeof row->text);
  if (p->stats != PROBLEM_STATS_GIVEN) {
    row->spec.stats = PROBLEM_STATS_SAVED;
  }
  return has_floor(p, error);
}

/* -------------------------------------------------------------------------------------------------- prepare --- */

/* The first byte of a tensor in memory, which is not element 0 where strides are negative. */
static unsigned char *lowest(const problem_tensor *t) {
  int64_t offset = 0;
  for (int d = 0; d < t->ndim; d++) {
    offset += t->strides[d] < 0 ? (t->shape[d] - 1) * t->strides[d] : 0;
  }
  return t->data + offset * (int64_t)norma_type_size(t->type);
}

static void add_input(bench_row *row, problem_role role) {
  bench_streams *s = &row->floor.streams;
  if (row->c.tensors[role].data) {
    s->in[s->inputs++] = lowest(&row->c.tensors[role]);
  }
}

static void add_output(bench_row *row, problem_role role) {
  bench_streams *s = &row->floor.streams;
  if (row->c.tensors[role].data) {
    s->out[s->outputs++] = lowest(&row->c.tensors[role]);
  }
}

/* The floor works on the tensors of the call: the same pages, the same state of the caches. */
static void bind_streams(bench_row *row) {
  const problem_tensor *t = row->c.tensors;
  bool backward = row->spec.direction == PROBLEM_BACKWARD;
  const problem_tensor *from = &t[backward ? PROBLEM_DY : PROBLEM_X], *to = &t[backward ? PROBLEM_DX : PROBLEM_Y];
  bench_streams *s = &row->floor.streams;
  row->copy_from = lowest(from);
  row->copy_to = lowest(to);
  s->in[s->inputs++] = row->spec.inplace ? row->copy_to : row->copy_from;
  s->out[s->outputs++] = row->copy_to;
  if (backward) { /* of a sum in place of x; z is computed again from x and what is added after it */
    add_input(row, row->spec.add & PROBLEM_ADD_BEFORE ? PROBLEM_SUM : PROBLEM_X);
    add_input(row, PROBLEM_DSUM);
    if (row->spec.activation) {
      add_input(row, PROBLEM_AFTER);
    }
    add_output(row, PROBLEM_DAFTER);
  } else {
    add_input(row, PROBLEM_RESIDUAL);
    add_input(row, PROBLEM_AFTER);
    add_output(row, PROBLEM_SUM);
  }
  s->bytes = (size_t)from->elements * norma_type_size(from->type);
  row->floor.pool = row->pool;
  row->floor.threads = row->threads;
}

/* The call of a training step: y and what backward needs, or y alone in evaluation. A batch layer adds the moments that
 * the running statistics need. */
static bool choose_outputs(bench_row *row, norma_error *error) {
  norma_forward_args *args = &row->c.forward;
  args->mean = args->var = args->rstd = NULL;
  if (row->spec.kind == PROBLEM_BATCH && row->spec.stats != PROBLEM_STATS_GIVEN) {
    row->moments = calloc((size_t)norma_layer_units(&row->c.layer), sizeof *row->moments);
    args->moments = row->moments;
    return row->moments || fail(error, NORMA_NO_MEMORY, "no memory for the moments");
  }
  return true;
}

static bool make_workspace(bench_row *row, norma_error *error) {
  bool backward = row->spec.direction == PROBLEM_BACKWARD;
  size_t forward_size = norma_forward_workspace(&row->c.forward);
  size_t size = backward ? norma_backward_workspace(&row->c.backward) : 0;
  size = size > forward_size ? size : forward_size;
  row->workspace = size > 0 ? malloc(size) : NULL;
  if (size > 0 && !row->workspace) {
    return fail(error, NORMA_NO_MEMORY, "no memory for a workspace of %zu bytes", size);
  }
  if (size > 0) {
    memset(row->workspace, 0, size);
  }
  row->c.forward.workspace = row->c.backward.workspace = row->workspace;
  row->c.forward.workspace_size = row->c.backward.workspace_size = size;
  return true;
}

static bool call(bench_row *row, norma_error *error) {
  return (row->spec.direction == PROBLEM_BACKWARD ? norma_backward(&row->c.backward, error)
                                                  : norma_forward(&row->c.forward, error)) == NORMA_OK;
}

/* As many calls as take about 50 microseconds: a clock of some 20 ns is then no part of the result. */
static bool choose_calls(bench_row *row, norma_error *error) {
  const double enough = 50e-6;
  if (!row->small || row->spec.inplace) {
    return true; /* in place, memcpy puts the input back before each call */
  }
  for (;;) {
    double start = bench_now();
    for (int64_t i = 0; i < row->calls; i++) {
      if (!call(row, error)) {
        return false;
      }
    }
    if (bench_now() - start >= enough) {
      return true;
    }
    row->calls *= 2;
  }
}

bool bench_row_prepare(bench_row *row, norma_error *error) {
  if (!problem_build(&row->c, &row->spec, error)) {
    return false;
  }
  row->pool = bench_pool_make(row->threads);
  if (!row->pool) {
    return fail(error, NORMA_NO_MEMORY, "%d threads could not be started", row->threads);
  }
  row->library_threads = (norma_threads){bench_pool_run, row->pool};
  row->c.forward.threads = row->c.backward.threads = row->threads > 1 ? &row->library_threads : NULL;
  if (!choose_outputs(row, error) || !make_workspace(row, error)) {
    return false;
  }
  bool saved = row->spec.direction == PROBLEM_BACKWARD && row->c.saved;
  if (saved && norma_forward(&row->c.forward, error) != NORMA_OK) {
    return false;
  }
  bind_streams(row);
  if (row->spec.inplace) {
    bench_copy_run(&row->floor, row->copy_from, row->copy_to);
    row->c.forward.x = row->c.forward.y;
    row->c.backward.dy = row->c.backward.dx;
  }
  if (!call(row, error) || !choose_calls(row, error)) {
    return false;
  }
  bench_floor_choose(&row->floor, row->calls);
  bench_copy_run(&row->floor, row->copy_from, row->copy_to);
  return call(row, error);
}

void bench_row_free(bench_row *row) {
  bench_pool_free(row->pool);
  free(row->workspace);
  free(row->moments);
  problem_free(&row->c);
}

/* -------------------------------------------------------------------------------------------------- measure --- */

typedef struct samples {
  int64_t count, capacity;
  double *floor, *copy, *norma, *ratio; /* four parts of one block */
} samples;

static bool grow(samples *s, norma_error *error) {
  int64_t capacity = s->capacity > 0 ? 2 * s->capacity : 256;
  double *block = malloc(4 * (size_t)capacity * sizeof *block), *old = s->floor;
  if (!block) {
    return fail(error, NORMA_NO_MEMORY, "no memory for %lld timings", (long long)capacity);
  }
  for (int part = 0; part < 4 && s->count > 0; part++) {
    memcpy(block + part * capacity, old + part * s->capacity, (size_t)s->count * sizeof *block);
  }
  free(old);
  *s = (samples){s->count, capacity, block, block + capacity, block + 2 * capacity, block + 3 * capacity};
  return true;
}

typedef enum timed { FLOOR, COPY, NORMA } timed;

/* Seconds for one call or pass. */
static bool time_one(bench_row *row, timed what, double *seconds, norma_error *error) {
  bench_pool_wake(row->pool);
  double start = bench_now();
  for (int64_t i = 0; i < row->calls; i++) {
    if (what == FLOOR) {
      bench_floor_run(&row->floor);
    } else if (what == COPY) {
      bench_copy_run(&row->floor, row->copy_from, row->copy_to);
    } else if (!call(row, error)) {
      return false;
    }
  }
  double least = 1e-10; /* a clock that did not move must not divide by 0 */
  *seconds = (bench_now() - start) / (double)row->calls;
  *seconds = *seconds > least ? *seconds : least;
  return true;
}

/* One repeat: floor, memcpy and norma, close to each other, so that a slow moment of the machine meets all three. Each
 * runs twice and the second time counts: what the caches hold then is its own doing, and not that of a pass that wrote
 * past them. Peers are timed likewise: their calls follow each other. */
static bool repeat(bench_row *row, samples *s, norma_error *error) {
  double *const seconds[] = {[FLOOR] = s->floor, [COPY] = s->copy, [NORMA] = s->norma};
  int64_t i = s->count;
  for (timed what = FLOOR; what <= NORMA; what++) {
    if (!time_one(row, what, &seconds[what][i], error) || !time_one(row, what, &seconds[what][i], error)) {
      return false;
    }
  }
  s->ratio[i] = s->norma[i] / s->floor[i];
  s->count++;
  return true;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static bench_spread spread_of(double *values, int64_t count) {
  qsort(values, (size_t)count, sizeof *values, compare);
  return (bench_spread){values[0], (values[(count - 1) / 2] + values[count / 2]) / 2};
}

bool bench_row_measure(bench_row *row, const bench_limits *limits, bench_result *out, norma_error *error) {
  enum { LEAST = 3 };
  samples s = {0};
  bool good = true;
  for (double start = bench_now(); good;) {
    bool over = limits->repeats ? s.count >= limits->repeats : bench_now() - start >= limits->seconds;
    if (over && (limits->repeats || s.count >= LEAST)) {
      break;
    }
    good = (s.count < s.capacity || grow(&s, error)) && repeat(row, &s, error);
  }
  if (good) {
    *out = (bench_result){
        .repeats = s.count,
        .floor = spread_of(s.floor, s.count),
        .copy = spread_of(s.copy, s.count),
        .norma = spread_of(s.norma, s.count),
        .ratio_paired = spread_of(s.ratio, s.count).median,
    };
    out->ratio_min = out->norma.min / out->floor.min;
    out->ratio_median = out->norma.median / out->floor.median;
  }
  free(s.floor);
  return good;
}
