/* Layers whose units are rows: the run of a unit is consecutive in memory. While one block of units is written, the
 * sums of the next are taken in the same loop, so that its loads hide behind the stores. */
#include "row_plan.h"

#include <math.h>

/* The arrays of the pass, as views of its reduction. */
enum { X, Y, AFTER, ADDEND, RESIDUAL, WEIGHT, BIAS };

typedef struct pass {
  norma_row_plan plan;
  norma_saved *saved;
  norma_unit_outputs outputs;
  bool adds;         /* the sum with the residual is taken here, each stretch before it is measured; */
  norma_call summed; /* then, the call with that sum for x */
} pass;

/* The middle one of three values of a stretch, as in statistics.c. */
static double pivot_of(const norma_row_plan *p, const char *x, int64_t n) {
  if (p->call->layer->rms) return 0;
  norma_type type = p->call->type;
  return norma_pivot_of(norma_load_one(type, x, 0, 0), norma_load_one(type, x, (n - 1) / 2, 0),
                         norma_load_one(type, x, n - 1, 0));
}

/* Those of a stretch about a pivot; where that is far from the mean, which it never is for RMS, once more about the
 * mean. */
static norma_moments from_near(const norma_row_plan *p, const char *x, int64_t n, double pivot, norma_moments about) {
  double sum[2];
  if (!norma_pivot_is_far(&about, pivot)) return about;
  p->kernels->moments(p->call->type, x, n, about.mean, sum);
  return norma_moments_about(about.mean, sum[0], sum[1], n);
}

/* ------------------------------------------------------------------------------------------------------ forward --- */

/* A unit that is being written: its coefficients, which all its elements share. */
typedef struct writer {
  float hi, lo, rstd;
} writer;

typedef struct state {
  const pass *pass;
  writer writers[NORMA_BLOCK_UNITS];
} state;

/* x, which is the sum with the residual, of n elements of a run from element i on. */
static void add_stretch(const norma_row_plan *p, int64_t unit, int64_t o, int64_t m, int64_t i, int64_t n) {
  int64_t from = i * p->size;
  p->kernels->add(p->call->type, norma_row_start(p, ADDEND, unit, o, m) + from,
                  norma_row_start(p, RESIDUAL, unit, o, m) + from, (char *)norma_row_start(p, X, unit, o, m) + from, n);
}

/* One run of unit `written` (or none, -1) is written while the moments of the same run of unit `measured` (or none) are
 * added to `into`. */
static void forward_run(const pass *f, int64_t written, const writer *w, int64_t measured, int64_t o, int64_t m,
                        norma_moments *into) {
  const norma_row_plan *p = &f->plan;
  norma_moments run = {0};
  norma_coefs c = {0};
  const char *x = NULL, *y = NULL, *next = NULL;
  if (written >= 0) {
    x = norma_row_start(p, X, written, o, m), y = norma_row_start(p, Y, written, o, m);
    c = norma_coefs_make(p->call, &w->hi, &w->lo, &w->rstd, &f->saved[written]);
    c.weight = (const float *)norma_row_start(p, WEIGHT, written, o, m);
    c.bias = (const float *)norma_row_start(p, BIAS, written, o, m);
    c.weight_step = p->step[WEIGHT];
    c.bias_step = p->step[BIAS];
    c.after = norma_row_start(p, AFTER, written, o, m);
  }
  if (measured >= 0) next = norma_row_start(p, X, measured, o, m);
  for (int64_t i = 0; i < p->run; i += NORMA_STRETCH) {
    int64_t n = p->run - i < NORMA_STRETCH ? p->run - i : NORMA_STRETCH;
    norma_ahead ahead;
    if (next && f->adds) add_stretch(p, measured, o, m, i, n);
    if (next) ahead.x = next + i * p->size, ahead.pivot = pivot_of(p, ahead.x, n);
    if (x) {
      norma_rows row = {.x = x + i * p->size, .y = (char *)y + i * p->size, .rows = 1, .n = n, .x_ahead = p->ahead};
      p->kernels->forward(p->call->type, &c, &row, p->stream, next ? &ahead : NULL);
      if (c.weight) c.weight += n * c.weight_step;
      if (c.bias) c.bias += n * c.bias_step;
      if (c.after) c.after = (const char *)c.after + n * p->size;
    } else {
      p->kernels->moments(p->call->type, ahead.x, n, ahead.pivot, ahead.sum);
    }
    if (!next) continue;
    norma_moments piece = norma_moments_about(ahead.pivot, p->call->layer->rms ? 0 : ahead.sum[0], ahead.sum[1], n);
    piece = from_near(p, ahead.x, n, ahead.pivot, piece);
    norma_moments_join(&run, &piece);
  }
  if (next) norma_moments_join(into, &run);
}

/* Writes units first .. first + write - 1 and measures the `measure` units after them. */
static void forward_block(state *s, int64_t first, int write, int measure) {
  const norma_row_plan *p = &s->pass->plan;
  norma_moments total[NORMA_BLOCK_UNITS];
  int most = write > measure ? write : measure;
  for (int i = 0; i < measure; i++) total[i] = (norma_moments){0};
  for (int64_t o = 0; o < p->outer; o++) {
    for (int i = 0; i < most; i++) {
      norma_moments sample = {0};
      for (int64_t m = 0; m < p->middle; m++)
        forward_run(s->pass, i < write ? first + i : -1, &s->writers[i], i < measure ? first + write + i : -1, o, m,
                    &sample);
      if (i < measure) norma_moments_join(&total[i], &sample);
    }
  }
  for (int i = 0; i < measure; i++) {
    int64_t unit = first + write + i;
    norma_finish_unit(&s->pass->outputs, unit, &total[i]);
    norma_coefs_set(&s->pass->saved[unit], &s->writers[i].hi, &s->writers[i].lo, &s->writers[i].rstd);
  }
}

/* --------------------------------------------------------------------------------------------------- short runs --- */

/* What is read once is fetched so many bytes before. */
enum { AHEAD = 4096 };

/* The coefficients of the units of a batch. */
typedef struct batch {
  int64_t first;
  int count;
  float hi[NORMA_GIVEN_UNITS], lo[NORMA_GIVEN_UNITS], rstd[NORMA_GIVEN_UNITS];
} batch;

static norma_rows batch_rows(const norma_row_plan *p, const batch *b, int64_t o, int64_t m) {
  norma_rows rows = {.x = norma_row_start(p, X, b->first, o, m), .y = (char *)norma_row_start(p, Y, b->first, o, m)};
  rows.rows = b->count;
  rows.n = p->run;
  rows.x_stride = norma_row_step(p, X), rows.y_stride = norma_row_step(p, Y);
  return rows;
}

static void measure_again(const norma_row_plan *p, const norma_rows *rows, const double *pivot,
                          norma_run_moments *runs) {
  for (int64_t i = 0; i < rows->rows; i++) {
    const char *x = (const char *)rows->x + i * rows->x_stride * p->size;
    norma_moments m = from_near(p, x, rows->n, pivot[i], norma_with_count(&runs[i], rows->n));
    runs[i] = norma_without_count(&m);
  }
}

/* The same run of all units in one loop; it is at most a stretch. */
static void measure_batch(const pass *f, batch *b) {
  const norma_row_plan *p = &f->plan;
  norma_run_moments total[NORMA_BLOCK_UNITS], joined[NORMA_BLOCK_UNITS], run[NORMA_BLOCK_UNITS];
  norma_run_moments *sample = p->middle == 1 ? run : joined; /* the only run of a sample is the sample */
  double pivot[NORMA_BLOCK_UNITS], sum[2 * NORMA_BLOCK_UNITS];
  int64_t elements = p->middle * p->run;
  bool rms = p->call->layer->rms;
  for (int64_t o = 0; o < p->outer; o++) {
    for (int64_t m = 0; m < p->middle; m++) {
      norma_rows rows = batch_rows(p, b, o, m);
      rows.x_ahead = norma_row_next(p, X, b->first, b->count, o, m);
      p->kernels->batch_moments(p->call->type, &rows, rms, pivot, sum);
      if (p->kernels->run_moments(pivot, rms ? NULL : sum, sum + 1, 2, p->run, run, b->count))
        measure_again(p, &rows, pivot, run);
      if (p->middle > 1) p->kernels->join_moments(sample, m * p->run, run, 1, p->run, b->count);
    }
    p->kernels->join_moments(total, o * elements, sample, 1, elements, b->count);
  }
  norma_finish_units(&f->outputs, b->first, total, p->outer * elements, b->count);
}

static void write_batch(const pass *f, batch *b) {
  const norma_row_plan *p = &f->plan;
  norma_coefs c = norma_coefs_make(p->call, b->hi, b->lo, b->rstd, f->saved + b->first);
  c.unit_row = 1;
  p->kernels->unit_views(&f->saved[b->first], b->hi, b->lo, b->rstd, b->count);
  c.weight_step = p->step[WEIGHT], c.bias_step = p->step[BIAS];
  c.weight_row = norma_row_step(p, WEIGHT), c.bias_row = norma_row_step(p, BIAS);
  c.after_row = norma_row_step(p, AFTER);
  for (int64_t o = 0; o < p->outer; o++) {
    for (int64_t m = 0; m < p->middle; m++) {
      norma_rows rows = batch_rows(p, b, o, m);
      c.weight = (const float *)norma_row_start(p, WEIGHT, b->first, o, m);
      c.bias = (const float *)norma_row_start(p, BIAS, b->first, o, m);
      c.after = norma_row_start(p, AFTER, b->first, o, m);
      if (p->given) rows.x_ahead = AHEAD / p->size; /* else x was fetched to be measured */
      p->kernels->forward(p->call->type, &c, &rows, p->stream, NULL);
    }
  }
}

static void forward_batches(const pass *f, int64_t begin, int64_t end) {
  const norma_row_plan *p = &f->plan;
  batch b; /* only `count` entries are used */
  for (b.first = begin; b.first < end; b.first += b.count) {
    b.count = norma_row_batch(p, b.first, end);
    if (!p->given) measure_batch(f, &b);
    if (p->call->y.data) write_batch(f, &b);
  }
}

/* ----------------------------------------------------------------------------------------------- the whole pass --- */

static void forward_blocks(const pass *f, int64_t begin, int64_t end) {
  const norma_row_plan *p = &f->plan;
  state s;
  int written = 0, measured;
  s.pass = f;
  for (int64_t unit = begin; unit < end || written; unit += measured) {
    measured = end - unit < p->block ? (int)(end - unit) : p->block;
    if (p->given) {
      for (int i = 0; i < measured; i++)
        norma_coefs_set(&f->saved[unit + i], &s.writers[i].hi, &s.writers[i].lo, &s.writers[i].rstd);
      forward_block(&s, unit, measured, 0);
      continue;
    }
    forward_block(&s, unit - written, written, measured);
    written = p->call->y.data ? measured : 0;
  }
}

static void forward_units(void *context, int64_t begin, int64_t end) {
  const pass *f = context;
  if (f->plan.batch) forward_batches(f, begin, end);
  else forward_blocks(f, begin, end);
  if (f->plan.stream) f->plan.kernels->fence();
}

bool norma_row_forward(const norma_call *call, norma_saved *saved, norma_moments *moments) {
  const norma_operand none = {0};
  const norma_operand *addend = call->residual.data ? &call->x : &none;
  pass f;
  f.saved = saved;
  f.adds = call->residual.data;
  if (f.adds) {
    f.summed = *call;
    f.summed.x = call->sum;
    call = &f.summed;
  }
  const norma_operand *const arrays[] = {&call->x,        &call->y,      &call->after, addend,
                                         &call->residual, &call->weight, &call->bias};
  if (!norma_row_plan_make(&f.plan, call, arrays, 5, 2)) return false;
  if (f.adds && (f.plan.given || f.plan.batch)) return false; /* not measured here, or of runs too short to be added */
  norma_unit_outputs_init(&f.outputs, call, saved, moments);
  f.plan.stream = call->y.data && norma_streams(call);
  if (f.plan.given) norma_statistics(call, saved, moments);
  if (!f.plan.given || call->y.data)
    norma_parallel(call->threads, f.plan.r.columns, f.plan.grain, norma_pass_bytes(call, 2), forward_units, &f);
  return true;
}
