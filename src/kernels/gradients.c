/* The sums of the backward pass: per unit for dx, per gamma for dgamma and dbeta. One stretch serves both. */
#include "vector.h"

#include <math.h>

/* The arrays that a stretch reads; weight is absent (-1) in the sums per gamma, and those of z, which an activation
 * needs, where there are none. */
typedef struct views {
  int x, dy, mean, mean_lo, rstd, scale, weight, z_weight, z_bias, z_after;
} views;

typedef struct job {
  const norma_call *call;
  norma_reduction reduction;
  views at;
  norma_pair *means;         /* per unit */
  norma_walk dweight, dbias; /* per gamma */
  bool by_run;               /* the sums of a unit are made of weights times sums of runs (run_sums.c) */
  bool finishes;             /* a run has one unit, no weight, and few enough bits: norma_finish_run */
} job;

/* How a column is summed: about a pivot (the unit's first q, which makes the sum of a constant q exact), and with dy
 * multiplied by a power of two, 1 unless a float64 sum overflows on the way. */
typedef struct column {
  const job *job;
  double pivot, by;
} column;

static void gather(const norma_reduction *r, int v, const int64_t offset[], int64_t first, int64_t n, double *to) {
  norma_walk_gather(&r->view[v].run, offset[v], first, n, to);
}

/* An array that the call may lack: NULL then. */
static const double *gather_z(const norma_reduction *r, int v, const int64_t offset[], int64_t first, int64_t n,
                              double *to) {
  if (v < 0) return NULL;
  gather(r, v, offset, first, n, to);
  return to;
}

/* dy becomes dz, the gradient before the activation. */
static void times_slope(const job *j, const norma_reduction *r, const int64_t offset[], int64_t first, int64_t n,
                        norma_affine at, double *dy) {
  double weight[NORMA_BLOCK], bias[NORMA_BLOCK], after[NORMA_BLOCK], z[NORMA_BLOCK];
  at.weight = gather_z(r, j->at.z_weight, offset, first, n, weight);
  at.bias = gather_z(r, j->at.z_bias, offset, first, n, bias);
  at.after = gather_z(r, j->at.z_after, offset, first, n, after);
  norma_before_activation(j->call, &at, z, n);
  norma_times_slope(j->call, z, dy, n);
}

/* The dz of a column's or run's first element, with the bits that gradient_stretch has. */
static double first_dz(const job *j, const int64_t offset[]) {
  const norma_reduction *r = &j->reduction;
  const views *at = &j->at;
  double dz, mean, mean_lo, rstd, scale, x;
  gather(r, at->dy, offset, 0, 1, &dz);
  if (!j->call->activation) return dz;
  gather(r, at->x, offset, 0, 1, &x);
  gather(r, at->mean, offset, 0, 1, &mean);
  gather(r, at->mean_lo, offset, 0, 1, &mean_lo);
  gather(r, at->rstd, offset, 0, 1, &rstd);
  gather(r, at->scale, offset, 0, 1, &scale);
  norma_affine unit = {.x = &x, .mean = &mean, .mean_lo = &mean_lo, .rstd = &rstd, .scale = &scale};
  times_slope(j, r, offset, 0, 1, unit, &dz);
  return dz;
}

/* What is subtracted from all dy of a run that is summed without its weight: nothing where the sums are exact. */
static double first_of_run(const job *j, const int64_t offset[]) {
  return norma_is_single(j->call) ? 0 : first_dz(j, offset);
}

/* q - pivot where the weight belongs to the elements, dy - first where it belongs to the run. about_zero: of x, not of
 * x - mean; for a run that finishes. */
static void sum_stretch(const column *c, const norma_reduction *r, const int64_t offset[], int64_t first, int64_t n,
                        bool about_zero, norma_partial *piece) {
  const views *at = &c->job->at;
  norma_tree q_tree = {.across = r->stretch == NORMA_ACROSS}, q_xhat_tree = q_tree;
  double pivot = c->job->by_run ? first_of_run(c->job, offset) : c->pivot;
  for (int64_t i = 0; i < n; i += NORMA_BLOCK) {
    double x[NORMA_BLOCK], q[NORMA_BLOCK], weight[NORMA_BLOCK];
    double mean[NORMA_BLOCK], mean_lo[NORMA_BLOCK], rstd[NORMA_BLOCK], scale[NORMA_BLOCK];
    int64_t count = n - i < NORMA_BLOCK ? n - i : NORMA_BLOCK;
    gather(r, at->x, offset, first + i, count, x);
    gather(r, at->dy, offset, first + i, count, q);
    gather(r, at->mean, offset, first + i, count, mean);
    gather(r, at->mean_lo, offset, first + i, count, mean_lo);
    gather(r, at->rstd, offset, first + i, count, rstd);
    gather(r, at->scale, offset, first + i, count, scale);
    for (int64_t k = 0; c->by != 1 && k < count; k++) q[k] *= c->by;
    norma_affine unit = {.x = x, .mean = mean, .mean_lo = mean_lo, .rstd = rstd, .scale = scale};
    if (c->job->call->activation) times_slope(c->job, r, offset, first + i, count, unit, q);
    for (int64_t k = 0; k < count; k++) {
      double d = x[k] * scale[k] - (about_zero ? 0 : mean[k]);
      x[k] = q[k] * (c->job->finishes ? d : (d - mean_lo[k]) * rstd[k]);
    }
    if (at->weight >= 0 && !c->job->by_run) {
      gather(r, at->weight, offset, first + i, count, weight);
      for (int64_t k = 0; k < count; k++) q[k] *= weight[k], x[k] *= weight[k];
    }
    for (int64_t k = 0; k < count; k++) /* a unit with a NaN poisons both gradients */
      q[k] = rstd[k] == rstd[k] ? q[k] - pivot * c->by : rstd[k];
    norma_tree_add(&q_tree, q, count);
    norma_tree_add(&q_xhat_tree, x, count);
  }
  piece->sums.first.hi = norma_tree_sum(&q_tree);
  piece->sums.second.hi = norma_tree_sum(&q_xhat_tree);
}

static void gradient_stretch(void *context, const norma_reduction *r, const int64_t offset[], int64_t first, int64_t n,
                             norma_partial *piece) {
  const column *c = context;
  double x, mean, rstd;
  gather(r, c->job->at.x, offset, first, 1, &x);
  gather(r, c->job->at.mean, offset, first, 1, &mean);
  gather(r, c->job->at.rstd, offset, first, 1, &rstd);
  bool takes_x = c->job->finishes && norma_takes_x(mean, rstd, x);
  sum_stretch(c, r, offset, first, n, takes_x, piece);
  if (!takes_x) return;
  if (isfinite(piece->sums.first.hi)) piece->sums.second.hi -= mean * piece->sums.first.hi;
  else sum_stretch(c, r, offset, first, n, false, piece);
}

static void finish(const job *j, const norma_reduction *r, const int64_t offset[], norma_partial *run) {
  double mean_lo, rstd;
  if (!j->finishes || norma_axes_length(r->layer, &r->run) == 0) return;
  gather(r, j->at.mean_lo, offset, 0, 1, &mean_lo);
  gather(r, j->at.rstd, offset, 0, 1, &rstd);
  norma_finish_run(&run->sums.second, run->sums.first.hi, mean_lo, rstd);
}

static void end_run(void *context, const norma_reduction *r, const int64_t offset[], norma_partial *run) {
  const column *c = context;
  double weight = 1, n = (double)norma_axes_length(r->layer, &r->run);
  finish(c->job, r, offset, run);
  if (!c->job->by_run) return;
  if (c->job->at.weight >= 0) gather(r, c->job->at.weight, offset, 0, 1, &weight);
  norma_weigh_run(&run->sums, weight, n, first_of_run(c->job, offset) * c->by, c->pivot * c->by);
}

/* An array that the call may lack: -1 then. */
static int view_z(norma_reduction *r, const norma_operand *operand) {
  return operand->data ? norma_reduction_view(r, operand) : -1;
}

static job job_make(const norma_call *call, const norma_saved *saved, norma_extent kept) {
  job j = {.call = call, .reduction = norma_reduction_make(call->layer, kept), .at.weight = -1};
  const double *const field[4] = {&saved->mean, &saved->mean_lo, &saved->rstd, &saved->scale};
  int *const view[4] = {&j.at.mean, &j.at.mean_lo, &j.at.rstd, &j.at.scale};
  j.at.x = norma_reduction_view(&j.reduction, &call->x);
  j.at.dy = norma_reduction_view(&j.reduction, &call->dy);
  for (int f = 0; f < 4; f++) {
    norma_operand operand = norma_bind_doubles(call->layer, field[f], sizeof *saved / sizeof(double));
    *view[f] = norma_reduction_view(&j.reduction, &operand);
  }
  if (call->activation) {
    j.at.z_weight = view_z(&j.reduction, &call->weight);
    j.at.z_bias = view_z(&j.reduction, &call->bias);
    j.at.z_after = view_z(&j.reduction, &call->after);
  }
  return j;
}

/* The two sums of a column, each over its divisor; float64 sums that overflow are tried again, smaller. */
static norma_pair column_means(const job *j, int64_t at, double pivot, double m_q, double m_q_xhat) {
  norma_pair means = {.q = INFINITY, .q_xhat = INFINITY};
  for (double by = 1; by > 0x1p-1000; by *= 0x1p-512) {
    column c = {j, pivot, by};
    norma_partial total;
    norma_reduce_runs(&j->reduction, at, gradient_stretch, end_run, &c, &total);
    if (!isfinite(means.q)) means.q = (total.sums.first.hi + total.sums.first.lo) / m_q / by;
    if (!isfinite(means.q_xhat)) means.q_xhat = (total.sums.second.hi + total.sums.second.lo) / m_q_xhat / by;
    if (j->call->type != NORMA_F64 || (isfinite(means.q) && isfinite(means.q_xhat))) break;
  }
  return means;
}

/* That of a column. */
static double first_dz_at(const job *j, int64_t column) {
  int64_t offset[NORMA_MAX_VIEWS];
  for (int v = 0; v < j->reduction.views; v++) offset[v] = norma_walk_offset(&j->reduction.view[v].kept, column);
  return first_dz(j, offset);
}

static void sum_units(void *context, int64_t begin, int64_t end) {
  const job *j = context;
  double m = (double)norma_layer_unit_elements(j->call->layer);
  for (int64_t unit = begin; unit < end; unit++) {
    double pivot = first_dz_at(j, unit);
    if (j->at.weight >= 0) pivot *= norma_reduction_first(&j->reduction, j->at.weight, unit);
    j->means[unit] = norma_means_about(j->call, pivot, column_means(j, unit, pivot, m, m - j->call->ddof));
  }
}

void norma_unit_gradients(const norma_call *call, const norma_saved *saved, norma_pair *means) {
  job j = job_make(call, saved, NORMA_UNITS);
  j.means = means;
  j.by_run = !norma_weight_varies(call);
  j.finishes = j.by_run && norma_is_single(call);
  if (call->weight.data) j.at.weight = norma_reduction_view(&j.reduction, &call->weight);
  if (norma_layer_unit_elements(call->layer) > 0)
    norma_parallel(call->threads, j.reduction.columns, 1, norma_pass_bytes(call, 2), sum_units, &j);
}

static void finish_only(void *context, const norma_reduction *r, const int64_t offset[], norma_partial *run) {
  finish(((const column *)context)->job, r, offset, run);
}

static void sum_runs(void *context, int64_t begin, int64_t end) {
  const job *j = context;
  const norma_reduction *r = &j->reduction;
  int64_t n = norma_axes_length(r->layer, &r->run);
  column c = {j, 0, 1};
  for (int64_t unit = begin; unit < end; unit++) {
    norma_partial total;
    norma_reduce_runs(r, unit, gradient_stretch, finish_only, &c, &total);
    j->call->sums[unit] = norma_sums_of(n, first_dz_at(j, unit), &total.sums);
  }
}

void norma_unit_sums(const norma_call *call, const norma_saved *saved) {
  job j = job_make(call, saved, NORMA_UNITS);
  j.by_run = true;
  j.finishes = norma_is_single(call);
  if (norma_layer_unit_elements(call->layer) > 0)
    norma_parallel(call->threads, j.reduction.columns, 1, norma_pass_bytes(call, 2), sum_runs, &j);
}

/* The mean of a unit's q, as sum_units has it: each sample is weighed, then they are added. */
static norma_pair means_of(const norma_call *call, const norma_sums *sums, int64_t samples, int64_t apart,
                           double weight) {
  norma_partial_sums total = {0};
  double pivot = 0;
  int64_t count = 0;
  for (int64_t s = 0; s < samples; s++, sums += apart) {
    if (sums->count == 0) continue;
    if (count == 0) pivot = weight * sums->first;
    norma_partial_sums run = {{sums->dy, sums->dy_lo}, {sums->dy_xhat, sums->dy_xhat_lo}}, sample = {0};
    norma_weigh_run(&run, weight, (double)sums->count, norma_is_single(call) ? 0 : sums->first, pivot);
    norma_partial_sums_join(&sample, &run);
    norma_partial_sums_join(&total, &sample);
    count += sums->count;
  }
  double m = (double)count;
  norma_pair means = {.q = (total.first.hi + total.first.lo) / m};
  means.q_xhat = (total.second.hi + total.second.lo) / (m - call->ddof);
  return norma_means_about(call, pivot, means);
}

void norma_means_from_sums(const norma_call *call, const norma_sums *sums, int64_t samples, norma_pair *means) {
  norma_reduction r = norma_reduction_make(call->layer, NORMA_UNITS);
  if (norma_layer_unit_elements(call->layer) == 0) return; /* there is no dx, and no run to look at */
  int weight = call->weight.data ? norma_reduction_view(&r, &call->weight) : -1;
  for (int64_t u = 0; u < r.columns; u++)
    means[u] = means_of(call, sums + u, samples, r.columns, weight < 0 ? 1 : norma_reduction_first(&r, weight, u));
}

static void sum_params(void *context, int64_t begin, int64_t end) {
  const job *j = context;
  for (int64_t param = begin; param < end; param++) {
    norma_pair sums = column_means(j, param, 0, 1, 1);
    if (j->dweight.data) norma_walk_scatter(&j->dweight, 0, param, 1, &sums.q_xhat);
    if (j->dbias.data) norma_walk_scatter(&j->dbias, 0, param, 1, &sums.q);
  }
}

void norma_param_gradients(const norma_call *call, const norma_saved *saved) {
  if (!call->dweight.data && !call->dbias.data) return;
  job j = job_make(call, saved, NORMA_PARAMS);
  j.finishes = norma_is_single(call) && norma_runs_agree(call->layer);
  j.dweight = norma_walk_make(call->layer, &j.reduction.kept, &call->dweight);
  j.dbias = norma_walk_make(call->layer, &j.reduction.kept, &call->dbias);
  norma_parallel(call->threads, j.reduction.columns, 1, norma_pass_bytes(call, 2), sum_params, &j);
}
