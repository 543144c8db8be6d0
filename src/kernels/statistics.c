/* The mean, variance and rstd of every unit, from the input or given. */
#include "kernels.h"

#include <math.h>

/* How the moments of a unit are taken: of scale * x, about 0 for RMS. */
typedef struct measure {
  double scale;
  bool rms;
} measure;

/* The middle one of three positions: no single outlier becomes the pivot, and a constant has itself as pivot. */
static double choose_pivot(const norma_walk *run, int64_t offset, int64_t first, int64_t n, double scale) {
  double v[3];
  for (int i = 0; i < 3; i++) norma_walk_gather(run, offset, first + i * (n - 1) / 2, 1, &v[i]);
  return norma_pivot_of(v[0], v[1], v[2]) * scale;
}

static norma_moments sweep(const norma_walk *run, int64_t offset, int64_t first, int64_t n, measure how, double pivot) {
  norma_tree deviations = {0}, squares = {0};
  for (int64_t i = 0; i < n; i += NORMA_BLOCK) {
    double value[NORMA_BLOCK], square[NORMA_BLOCK];
    int64_t piece = n - i < NORMA_BLOCK ? n - i : NORMA_BLOCK;
    norma_walk_gather(run, offset, first + i, piece, value);
    for (int64_t k = 0; k < piece; k++) {
      value[k] = value[k] * how.scale - pivot;
      square[k] = value[k] * value[k];
    }
    norma_tree_add(&deviations, value, piece);
    norma_tree_add(&squares, square, piece);
  }
  return norma_moments_about(pivot, how.rms ? 0 : norma_tree_sum(&deviations), norma_tree_sum(&squares), n);
}

static void moments_stretch(void *context, const norma_reduction *r, const int64_t offset[], int64_t first, int64_t n,
                            norma_partial *piece) {
  const measure *how = context;
  const norma_walk *run = &r->view[0].run;
  double pivot = how->rms ? 0 : choose_pivot(run, offset[0], first, n, how->scale);
  piece->moments = sweep(run, offset[0], first, n, *how, pivot);
  /* Once more about the mean, where nothing cancels: for float64 data, which has no bits to spare, and where two
   * outliers made the pivot one that is far away. */
  if ((run->type == NORMA_F64 || norma_pivot_is_far(&piece->moments, pivot)) && !how->rms)
    piece->moments = sweep(run, offset[0], first, n, *how, piece->moments.mean);
}

static void largest_stretch(void *context, const norma_reduction *r, const int64_t offset[], int64_t first, int64_t n,
                            norma_partial *piece) {
  double *largest = context, value[NORMA_BLOCK];
  (void)piece;
  for (int64_t i = 0; i < n; i += NORMA_BLOCK) {
    int64_t count = n - i < NORMA_BLOCK ? n - i : NORMA_BLOCK;
    norma_walk_gather(&r->view[0].run, offset[0], first + i, count, value);
    for (int64_t k = 0; k < count; k++)
      if (!(fabs(value[k]) <= *largest)) *largest = fabs(value[k]); /* a NaN stays */
  }
}

static norma_moments column_moments(const norma_reduction *r, int64_t column, measure how) {
  norma_partial total;
  norma_reduce(r, column, moments_stretch, &how, &total);
  return total.moments;
}

norma_moments norma_column_moments(const norma_reduction *reduction) {
  return column_moments(reduction, 0, (measure){1, false});
}

static double variance(const norma_moments *m, int ddof) {
  return m->count > 0 ? (m->m2 + m->m2_lo) / (double)(m->count - ddof) : 0;
}

static double reciprocal_std(double variance_plus_eps) {
  return variance_plus_eps == 0 ? 0 : 1 / sqrt(variance_plus_eps);
}

/* Squares of float64 data can leave the range of float64. Then the unit is measured again, scaled by a power of two
 * that brings its largest element near 1; a unit that is not finite has no such scale. */
static double rescue_scale(const norma_call *call, const norma_reduction *r, int64_t column, const norma_moments *m) {
  double var = variance(m, call->ddof), largest = 0;
  norma_partial unused;
  int exponent;
  if (call->type != NORMA_F64 || m->count == 0) return 1;
  if (isfinite(m->mean) && isfinite(var) && var + call->eps > 1e-270) return 1;
  norma_reduce(r, column, largest_stretch, &largest, &unused);
  if (!(largest > 0) || !isfinite(largest)) return 1;
  frexp(fmax(largest, sqrt(call->eps)), &exponent); /* eps is scaled too, and must not overflow */
  return ldexp(1, exponent > 1000 ? -1000 : exponent < -1000 ? 1000 : -exponent);
}

void norma_unit_outputs_init(norma_unit_outputs *o, const norma_call *call, norma_saved *saved,
                             norma_moments *moments) {
  o->call = call;
  o->saved = saved;
  o->moments = moments;
  o->mean.data = o->var.data = o->rstd.data = NULL;
  if (!call->mean.data && !call->var.data && !call->rstd.data) return;
  norma_axes units = norma_reduction_make(call->layer, NORMA_UNITS).kept;
  o->mean = norma_walk_make(call->layer, &units, &call->mean);
  o->var = norma_walk_make(call->layer, &units, &call->var);
  o->rstd = norma_walk_make(call->layer, &units, &call->rstd);
}

static void put(const norma_walk *to, int64_t unit, double value) {
  if (to->data) norma_walk_scatter(to, 0, unit, 1, &value);
}

static void put_outputs(const norma_unit_outputs *o, int64_t unit, const norma_saved *s, double var) {
  put(&o->mean, unit, (s->mean + s->mean_lo) / s->scale);
  put(&o->var, unit, var / s->scale / s->scale);
  put(&o->rstd, unit, s->rstd * s->scale);
  if (o->saved) o->saved[unit] = *s;
}

/* From the moments of scale * x. One NaN or Inf makes all of a unit NaN, in every layer. */
static norma_saved saved_of(const norma_call *call, const norma_moments *m, double scale, double *var) {
  *var = variance(m, call->ddof);
  norma_saved s = {m->mean, m->mean_lo, reciprocal_std(*var + call->eps * scale * scale), scale};
  if (!isfinite(m->mean) || !isfinite(*var)) *var = s.mean = s.mean_lo = s.rstd = NAN;
  return s;
}

static void put_moments(const norma_unit_outputs *o, int64_t unit, const norma_moments *m, const norma_saved *s) {
  double scale = s->scale;
  if (!o->moments) return; /* before the divisions, which short runs feel */
  o->moments[unit] = isnan(s->mean) ? (norma_moments){m->count, NAN, 0, NAN, 0}
                                    : (norma_moments){m->count, m->mean / scale, m->mean_lo / scale,
                                                      m->m2 / scale / scale, m->m2_lo / scale / scale};
}

static void finish_scaled(const norma_unit_outputs *o, int64_t unit, const norma_moments *m, double scale) {
  double var;
  norma_saved s = saved_of(o->call, m, scale, &var);
  put_outputs(o, unit, &s, var);
  put_moments(o, unit, m, &s);
}

void norma_finish_unit(const norma_unit_outputs *outputs, int64_t unit, const norma_moments *m) {
  finish_scaled(outputs, unit, m, 1);
}

static void put_all(const norma_walk *to, int64_t unit, int64_t n, const double *values) {
  if (to->data) norma_walk_scatter(to, 0, unit, n, values);
}

void norma_finish_units(const norma_unit_outputs *o, int64_t unit, const norma_run_moments *m, int64_t count,
                        int64_t n) {
  double mean[NORMA_BLOCK], var[NORMA_BLOCK], rstd[NORMA_BLOCK];
  for (int64_t i = 0; i < n; i++) {
    norma_moments about = norma_with_count(&m[i], count);
    norma_saved s = saved_of(o->call, &about, 1, &var[i]);
    mean[i] = s.mean + s.mean_lo, rstd[i] = s.rstd;
    if (o->saved) o->saved[unit + i] = s;
    put_moments(o, unit + i, &about, &s);
  }
  put_all(&o->mean, unit, n, mean);
  put_all(&o->var, unit, n, var);
  put_all(&o->rstd, unit, n, rstd);
}

typedef struct job {
  const norma_call *call;
  norma_reduction reduction;
  norma_walk given_mean, given_var;
  norma_unit_outputs outputs;
} job;

static void measure_units(void *context, int64_t begin, int64_t end) {
  const job *j = context;
  for (int64_t unit = begin; unit < end; unit++) {
    bool rms = j->call->layer->rms;
    norma_moments m = column_moments(&j->reduction, unit, (measure){1, rms});
    double scale = rescue_scale(j->call, &j->reduction, unit, &m);
    if (scale != 1) m = column_moments(&j->reduction, unit, (measure){scale, rms});
    finish_scaled(&j->outputs, unit, &m, scale);
  }
}

/* n <= NORMA_BLOCK units; the walks are not called for each. */
static void take_block(const job *j, int64_t unit, int64_t n) {
  double mean[NORMA_BLOCK] = {0}, var[NORMA_BLOCK], rstd[NORMA_BLOCK];
  const norma_unit_outputs *o = &j->outputs;
  if (j->given_mean.data) norma_walk_gather(&j->given_mean, 0, unit, n, mean);
  norma_walk_gather(&j->given_var, 0, unit, n, var);
  for (int64_t i = 0; i < n; i++) rstd[i] = reciprocal_std(var[i] + j->call->eps);
  for (int64_t i = 0; i < n && o->saved; i++) {
    /* x - mean must not overflow where both are near the end of float64; a quarter of them cannot. */
    double scale = fabs(mean[i]) > 0x1p1000 ? 0.25 : 1;
    o->saved[unit + i] = (norma_saved){mean[i] * scale, 0, scale == 1 ? rstd[i] : rstd[i] / scale, scale};
  }
  put_all(&o->mean, unit, n, mean);
  put_all(&o->var, unit, n, var);
  put_all(&o->rstd, unit, n, rstd);
}

static void take_given(void *context, int64_t begin, int64_t end) {
  for (int64_t unit = begin; unit < end; unit += NORMA_BLOCK)
    take_block(context, unit, end - unit < NORMA_BLOCK ? end - unit : NORMA_BLOCK);
}

static void merge_given(void *context, int64_t begin, int64_t end) {
  const job *j = context;
  for (int64_t unit = begin; unit < end; unit++) {
    norma_moments m = norma_given_moments(j->call, unit);
    finish_scaled(&j->outputs, unit, &m, 1);
  }
}

norma_moments norma_given_moments(const norma_call *call, int64_t unit) {
  int64_t units = norma_layer_units(call->layer);
  norma_moments total = {0};
  for (int64_t s = 0; s < call->given_samples; s++)
    norma_moments_join(&total, &call->given_moments[s * units + unit]);
  return total;
}

void norma_statistics(const norma_call *call, norma_saved *saved, norma_moments *moments) {
  job j = {.call = call, .reduction = norma_reduction_make(call->layer, NORMA_UNITS)};
  const norma_axes *units = &j.reduction.kept;
  norma_reduction_view(&j.reduction, &call->x);
  j.given_mean = norma_walk_make(call->layer, units, &call->given_mean);
  j.given_var = norma_walk_make(call->layer, units, &call->given_var);
  norma_unit_outputs_init(&j.outputs, call, saved, moments);
  int64_t elements = norma_layer_unit_elements(call->layer);
  int64_t grain = elements < 4096 ? 4096 / (elements > 0 ? elements : 1) : 1;
  if (call->given_moments) norma_parallel(call->threads, j.reduction.columns, 64, 0, merge_given, &j);
  else if (call->given_var.data) norma_parallel(call->threads, j.reduction.columns, grain, 0, take_given, &j);
  else norma_parallel(call->threads, j.reduction.columns, grain, norma_pass_bytes(call, 1), measure_units, &j);
}
