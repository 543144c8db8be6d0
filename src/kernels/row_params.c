/* Gradients of parameters whose runs are rows in memory while units change along them, as in layer norm over the
 * channels of a tensor with channels first: the statistics of a stretch are laid out once and serve all parameters. */
#include "vector.h"

#include <math.h>

typedef struct pass {
  const norma_call *call;
  const norma_kernels *kernels;
  norma_reduction r; /* of the parameters */
  const norma_saved *saved;
  norma_partial_sums *pieces; /* [sample][middle][stretch][parameter] */
  int64_t outer, middle, run, stretches;
} pass;

/* The arrays of the pass, as views of its reduction; UNITS are norma_saved. */
enum { X, DY, AFTER, WEIGHT, BIAS, UNITS };

/* What is known of the elements of a stretch. */
typedef struct stretch {
  norma_saved unit[NORMA_ACROSS];
  double mean[NORMA_ACROSS], mean_lo[NORMA_ACROSS], rstd[NORMA_ACROSS];
  float hi[NORMA_ACROSS], lo[NORMA_ACROSS], one_rstd[NORMA_ACROSS];
  bool bad;
} stretch;

static int64_t offset_of(const pass *p, int v, int64_t outer, int64_t middle) {
  return norma_walk_offset(&p->r.view[v].outer, outer) + norma_walk_offset(&p->r.view[v].middle, middle);
}

static void lay_out(const pass *p, int64_t outer, int64_t middle, int64_t first, int64_t n, stretch *s) {
  const norma_walk *run = &p->r.view[UNITS].run;
  int64_t start = offset_of(p, UNITS, outer, middle);
  s->bad = false;
  for (int64_t i = 0; i < n; i++) {
    const double *unit = (const double *)run->data + start + norma_walk_offset(run, first + i);
    s->unit[i] = (norma_saved){unit[0], unit[1], unit[2], unit[3]};
    s->mean[i] = unit[0], s->mean_lo[i] = unit[1], s->rstd[i] = unit[2];
    s->bad = s->bad || isnan(unit[2]); /* a unit that has a NaN poisons every parameter */
    if (p->call->activation) norma_coefs_set(&s->unit[i], &s->hi[i], &s->lo[i], &s->one_rstd[i]);
  }
}

static const float *param_at(const pass *p, int v, int64_t param) {
  const norma_walk *kept = &p->r.view[v].kept;
  return kept->data ? (const float *)kept->data + norma_walk_offset(kept, param) : NULL;
}

/* A stretch of a parameter. */
static const char *start_of(const pass *p, int v, int64_t start, int64_t param) {
  int64_t at = start + norma_walk_offset(&p->r.view[v].kept, param);
  return p->r.view[v].run.data + at * (int64_t)norma_type_size(p->call->type);
}

/* The stretches of neighbouring parameters lie apart: no prefetcher of a processor finds the next one. */
static void fetch(const char *from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)((uintptr_t)from + (uintptr_t)i));
}

static void sum_item(const pass *p, int64_t item) {
  stretch s;
  int64_t at = item / p->stretches, first = item % p->stretches * p->r.stretch, n = p->run - first;
  int64_t outer = at / p->middle, middle = at % p->middle, size = (int64_t)norma_type_size(p->call->type);
  if (n > p->r.stretch) n = p->r.stretch;
  lay_out(p, outer, middle, first, n, &s);
  norma_coefs z = norma_coefs_make(p->call, s.hi, s.lo, s.one_rstd, s.unit);
  z.unit_step = 1;
  norma_slopes slopes = {.mean = s.mean, .mean_lo = s.mean_lo, .rstd = s.rstd, .unit_step = 1};
  if (z.activation) slopes.z = &z;
  int64_t after_start = offset_of(p, AFTER, outer, middle) + first;
  int64_t x_start = offset_of(p, X, outer, middle) + first, dy_start = offset_of(p, DY, outer, middle) + first;
  for (int64_t param = 0; param < p->r.columns; param++) {
    double sum[2];
    const char *x = start_of(p, X, x_start, param), *dy = start_of(p, DY, dy_start, param);
    if (param + 2 < p->r.columns) {
      fetch(start_of(p, X, x_start, param + 2), n * size);
      fetch(start_of(p, DY, dy_start, param + 2), n * size);
    }
    z.weight = param_at(p, WEIGHT, param), z.bias = param_at(p, BIAS, param);
    if (p->r.view[AFTER].run.data) z.after = start_of(p, AFTER, after_start, param);
    p->kernels->gradients(p->call->type, &slopes, x, dy, n, 0, sum);
    if (s.bad) sum[0] = sum[1] = NAN;
    p->pieces[item * p->r.columns + param] = (norma_partial_sums){{sum[0], 0}, {sum[1], 0}};
  }
}

static void sum_items(void *context, int64_t begin, int64_t end) {
  for (int64_t item = begin; item < end; item++) sum_item(context, item);
}

/* The stretches of each run become the first of them. */
static void join_stretches(void *context, int64_t begin, int64_t end) {
  const pass *p = context;
  for (int64_t run = begin; run < end; run++) {
    norma_partial_sums *first = p->pieces + run * p->stretches * p->r.columns;
    for (int64_t i = p->r.columns; i < p->stretches * p->r.columns; i++) {
      norma_partial_sums_join(&first[i % p->r.columns], &first[i]);
    }
  }
}

/* Where norma_params_from finds the sums of a run, in doubles. */
static norma_operand bind_pieces(const pass *p) {
  norma_operand operand = {.data = (char *)p->pieces, .type = NORMA_F64};
  int64_t stride = sizeof(norma_partial_sums) / sizeof(double);
  const norma_axes *const order[3] = {&p->r.kept, &p->r.middle, &p->r.outer};
  for (int k = 0; k < 3; k++) {
    for (int i = order[k]->count - 1; i >= 0; i--) {
      int axis = order[k]->index[i];
      operand.stride[axis] = stride;
      stride *= p->call->layer->axes[axis].length;
    }
    if (k == 0) stride *= p->stretches;
  }
  return operand;
}

/* Whether all parameters have the same units. */
static bool is_shared(const norma_walk *kept) {
  for (int i = 0; i < kept->count; i++)
    if (kept->stride[i] != 0) return false;
  return true;
}

static bool is_row(const norma_walk *run) { return run->count == 1 && run->stride[0] == 1; }

bool norma_row_params(const norma_call *call, const norma_saved *saved, void *workspace) {
  pass p = {.call = call, .kernels = norma_kernels_best(), .saved = saved, .pieces = workspace};
  norma_operand units = norma_bind_doubles(call->layer, &saved->mean, sizeof *saved / sizeof(double));
  const norma_operand *const arrays[] = {&call->x, &call->dy, &call->after, &call->weight, &call->bias, &units};
  norma_reduction_init(&p.r, call->layer, NORMA_PARAMS);
  for (int v = X; v <= UNITS; v++) norma_reduction_view(&p.r, arrays[v]);
  p.outer = norma_axes_length(call->layer, &p.r.outer);
  p.middle = norma_axes_length(call->layer, &p.r.middle);
  p.run = norma_axes_length(call->layer, &p.r.run);
  if (p.r.stretch != NORMA_ACROSS || !is_row(&p.r.view[X].run) || !is_row(&p.r.view[DY].run)) return false;
  if (call->after.data && !is_row(&p.r.view[AFTER].run)) return false;
  if (!is_shared(&p.r.view[UNITS].kept)) return false;
  p.stretches = (p.run + p.r.stretch - 1) / p.r.stretch;
  int64_t runs = p.outer * p.middle;
  norma_parallel(call->threads, runs * p.stretches, 1, norma_pass_bytes(call, 2), sum_items, &p);
  if (p.stretches > 1) norma_parallel(call->threads, runs, 1, runs * p.r.columns * 64, join_stretches, &p);
  norma_operand pieces = bind_pieces(&p);
  norma_params_from(call, &pieces);
  return true;
}
