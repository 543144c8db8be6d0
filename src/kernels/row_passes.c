/* Layers whose units are rows: the run of a unit is consecutive in memory. While one block of units is written, the
 * sums of the next are taken in the same loop, so that its loads hide behind the stores. */
#include "vector.h"

#include <math.h>

/* Bytes of a unit's block: enough to amortize what is done once per block, little enough to stay in the second-level
 * cache until it is written. */
enum { BLOCK_LEAST = 16384, BLOCK_MOST = 196608, BLOCK_UNITS = 32, SLAB_LEAST = 4096 };

/* The arrays of a pass, as views of its reduction. */
enum { X, Y, DY = Y, WEIGHT, BIAS, DX = BIAS };

typedef struct plan {
  const norma_call *call;
  const norma_kernels *kernels;
  norma_reduction r;
  int64_t outer, middle, run;
  int64_t weight_step, bias_step;
  int block; /* units */
  bool stream, given;
  norma_saved *saved;
  norma_unit_outputs *outputs;
  norma_pair *means;
  norma_sum *run_sums; /* two for each run, in the order of runs_at; may be NULL */
  norma_walk runs_at[3];
} plan;

static bool is_row(const norma_walk *run) { return run->count == 0 || (run->count == 1 && run->stride[0] == 1); }

/* The step of a parameter along a run; -1: neither 0 nor 1. An absent one has none. */
static int64_t step_of(const norma_walk *run) {
  if (!run->data || run->count == 0) return 0;
  return run->count == 1 && (run->stride[0] == 0 || run->stride[0] == 1) ? run->stride[0] : -1;
}

static bool plan_make(plan *p, const norma_call *call, const norma_operand *second, const norma_operand *fourth) {
  *p = (plan){.call = call, .kernels = norma_kernels_best(), .given = call->given_var.data};
  p->r = norma_reduction_make(call->layer, NORMA_UNITS);
  norma_reduction_view(&p->r, &call->x);
  norma_reduction_view(&p->r, second);
  norma_reduction_view(&p->r, &call->weight);
  norma_reduction_view(&p->r, fourth);
  p->outer = norma_axes_length(call->layer, &p->r.outer);
  p->middle = norma_axes_length(call->layer, &p->r.middle);
  p->run = norma_axes_length(call->layer, &p->r.run);
  p->weight_step = step_of(&p->r.view[WEIGHT].run);
  int64_t unit_bytes = p->outer * p->middle * p->run * (int64_t)norma_type_size(call->type);
  if (p->run < 2 || unit_bytes == 0 || p->r.columns == 0) return false;
  int64_t slab = unit_bytes / p->outer, most = BLOCK_MOST / unit_bytes;
  int64_t wanted = p->outer > 1 ? SLAB_LEAST / slab : BLOCK_LEAST / unit_bytes;
  p->block = (int)(wanted < most ? wanted : most);
  if (p->block < 1) p->block = 1;
  if (p->block > BLOCK_UNITS) p->block = BLOCK_UNITS;
  return is_row(&p->r.view[X].run) && p->weight_step >= 0;
}

static int64_t run_offset(const plan *p, int v, int64_t unit, int64_t outer, int64_t middle) {
  return norma_walk_offset(&p->r.view[v].kept, unit) + norma_walk_offset(&p->r.view[v].outer, outer) +
         norma_walk_offset(&p->r.view[v].middle, middle);
}

static const char *element(const norma_walk *w, int64_t at) {
  return w->data + at * (int64_t)norma_type_size(w->type);
}

static const char *run_start(const plan *p, int v, int64_t unit, int64_t outer, int64_t middle) {
  return p->r.view[v].run.data ? element(&p->r.view[v].run, run_offset(p, v, unit, outer, middle)) : NULL;
}

static const char *further(const plan *p, const char *row, int64_t elements) {
  return row + elements * (int64_t)norma_type_size(p->call->type);
}

static double one(norma_type type, const char *at) {
  double value;
  norma_load(type, at, 0, &value, 1);
  return value;
}

/* The stretch of a run that starts at `first`. */
static int64_t stretch_length(const plan *p, int64_t first) {
  return p->run - first < NORMA_STRETCH ? p->run - first : NORMA_STRETCH;
}

/* The middle one of three values of a stretch, as in statistics.c. */
static double pivot_of(const plan *p, const char *x, int64_t n) {
  norma_type type = p->call->type;
  if (p->call->layer->rms) return 0;
  return norma_middle_of(one(type, x), one(type, further(p, x, (n - 1) / 2)), one(type, further(p, x, n - 1)));
}

static norma_moments stretch_moments(const plan *p, const char *x, int64_t n, double pivot, double sum[2]) {
  bool rms = p->call->layer->rms;
  norma_moments m = norma_moments_about(pivot, rms ? 0 : sum[0], sum[1], n);
  if (!rms && norma_pivot_is_far(&m, pivot)) {
    double mean = m.mean;
    p->kernels->moments(p->call->type, x, n, mean, sum);
    m = norma_moments_about(mean, sum[0], sum[1], n);
  }
  return m;
}

/* ------------------------------------------------------------------------------------------------------- forward --- */

/* A unit that is being written: its coefficients, which all its elements share. */
typedef struct writer {
  float hi, lo, rstd;
} writer;

typedef struct forward_state {
  const plan *p;
  writer writers[BLOCK_UNITS];
  norma_moments total[BLOCK_UNITS];
} forward_state;

/* One run of unit `written` (or none, -1) is written while the moments of the same run of unit `measured` (or none) are
 * added to `into`. */
static void forward_run(forward_state *s, int64_t written, const writer *w, int64_t measured, int64_t o, int64_t m,
                        norma_moments *into) {
  const plan *p = s->p;
  norma_moments run = {0};
  norma_coefs c = {0};
  const char *x = NULL, *y = NULL, *next = NULL;
  if (written >= 0) {
    x = run_start(p, X, written, o, m), y = run_start(p, Y, written, o, m);
    c = (norma_coefs){.hi = &w->hi, .lo = &w->lo, .rstd = &w->rstd, .saved = &p->saved[written]};
    c.weight_step = p->weight_step;
    c.bias_step = p->bias_step;
    c.activation = p->call->activation;
    c.weight = (const float *)run_start(p, WEIGHT, written, o, m);
    c.bias = (const float *)run_start(p, BIAS, written, o, m);
    c.weight_offset = (float)p->call->weight_offset;
  }
  if (measured >= 0) next = run_start(p, X, measured, o, m);
  for (int64_t i = 0; i < p->run; i += NORMA_STRETCH) {
    int64_t n = stretch_length(p, i);
    norma_ahead ahead = {0};
    if (next) ahead.x = further(p, next, i), ahead.pivot = pivot_of(p, ahead.x, n);
    if (x) {
      norma_coefs here = c;
      if (c.weight) here.weight += i * c.weight_step;
      if (c.bias) here.bias += i * c.bias_step;
      norma_rows row = {.x = further(p, x, i), .y = (char *)further(p, y, i), .rows = 1, .n = n};
      p->kernels->forward(p->call->type, &here, &row, p->stream, next ? &ahead : NULL);
    } else {
      p->kernels->moments(p->call->type, ahead.x, n, ahead.pivot, ahead.sum);
    }
    if (!next) continue;
    norma_moments piece = stretch_moments(p, ahead.x, n, ahead.pivot, ahead.sum);
    norma_moments_join(&run, &piece);
  }
  if (next) norma_moments_join(into, &run);
}

/* Writes units first .. first + write - 1 and measures the `measure` units after them. */
static void forward_block(forward_state *s, int64_t first, int write, int measure) {
  const plan *p = s->p;
  norma_moments total[BLOCK_UNITS] = {{0}};
  int most = write > measure ? write : measure;
  for (int64_t o = 0; o < p->outer; o++) {
    for (int i = 0; i < most; i++) {
      norma_moments sample = {0};
      for (int64_t m = 0; m < p->middle; m++)
        forward_run(s, i < write ? first + i : -1, &s->writers[i], i < measure ? first + write + i : -1, o, m, &sample);
      norma_moments_join(&total[i], &sample);
    }
  }
  for (int i = 0; i < measure; i++) {
    int64_t unit = first + write + i;
    norma_finish_unit(p->outputs, unit, &total[i]);
    norma_coefs_set(&p->saved[unit], &s->writers[i].hi, &s->writers[i].lo, &s->writers[i].rstd);
  }
}

static void forward_units(void *context, int64_t begin, int64_t end) {
  forward_state s = {.p = context};
  const plan *p = context;
  int written = 0, measured;
  for (int64_t unit = begin; unit < end || written; unit += measured) {
    measured = end - unit < p->block ? (int)(end - unit) : p->block;
    if (p->given) {
      for (int i = 0; i < measured; i++)
        norma_coefs_set(&p->saved[unit + i], &s.writers[i].hi, &s.writers[i].lo, &s.writers[i].rstd);
      forward_block(&s, unit, measured, 0);
      continue;
    }
    forward_block(&s, unit - written, p->call->y.data ? written : 0, measured);
    written = p->call->y.data ? measured : 0;
  }
  if (p->stream) p->kernels->fence();
}

/* Pieces of a pass are worth a thread, and long enough that the first block of each, which hides nothing, is little. */
enum { PIECE_BYTES = 1 << 18 };

static int64_t grain_of(const plan *p) {
  int64_t unit_bytes = p->outer * p->middle * p->run * (int64_t)norma_type_size(p->call->type);
  int64_t grain = PIECE_BYTES / unit_bytes;
  return grain > 4 * p->block ? grain : 4 * p->block;
}

bool norma_row_forward(const norma_call *call, norma_saved *saved, norma_moments *moments) {
  plan p;
  if (!plan_make(&p, call, call->y.data ? &call->y : &call->x, &call->bias)) return false;
  p.bias_step = step_of(&p.r.view[BIAS].run);
  if (!is_row(&p.r.view[Y].run) || p.bias_step < 0) return false;
  norma_unit_outputs outputs = norma_unit_outputs_make(call, saved, moments);
  p.outputs = &outputs;
  p.saved = saved;
  p.stream = call->y.data && norma_streams(call);
  if (p.given) norma_statistics(call, saved, moments);
  if (!p.given || call->y.data) 
    norma_parallel(call->threads, p.r.columns, grain_of(&p), norma_pass_bytes(call, 2), forward_units, &p);
  return true;
}
