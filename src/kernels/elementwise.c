/* y and dx of every element, once the sums are known. Each element stands alone, so the order is that of memory. */
#include "vector.h"

#include <math.h>
#include <string.h>

typedef struct job {
  const norma_call *call;
  norma_walk x, y, dy, dx, weight, bias, after, dafter, dsum;
  norma_walk mean, mean_lo, rstd, scale, gain;
  norma_walk q, q_xhat; /* no data in the forward pass and with given statistics */
} job;

static int64_t magnitude(int64_t stride) { return stride < 0 ? -stride : stride; }

norma_axes norma_memory_order(const norma_layer *layer, const norma_operand *operand) {
  norma_axes axes = {.count = layer->axis_count};
  for (int a = 0; a < layer->axis_count; a++) {
    int i = a;
    while (i > 0 && magnitude(operand->stride[axes.index[i - 1]]) < magnitude(operand->stride[a])) {
      axes.index[i] = axes.index[i - 1];
      i--;
    }
    axes.index[i] = a;
  }
  return axes;
}

static norma_walk unit_walk(const norma_call *call, const norma_axes *axes, const double *field,
                            int64_t doubles_apart) {
  norma_operand operand = norma_bind_doubles(call->layer, field, doubles_apart);
  return norma_walk_make(call->layer, axes, &operand);
}

static job job_make(const norma_call *call, const norma_saved *saved, const norma_pair *means) {
  enum { APART = sizeof *saved / sizeof(double), MEANS_APART = sizeof *means / sizeof(double) };
  norma_axes axes = norma_memory_order(call->layer, &call->x);
  job j = {.call = call};
  j.x = norma_walk_make(call->layer, &axes, &call->x);
  j.y = norma_walk_make(call->layer, &axes, &call->y);
  j.dy = norma_walk_make(call->layer, &axes, &call->dy);
  j.dx = norma_walk_make(call->layer, &axes, &call->dx);
  j.weight = norma_walk_make(call->layer, &axes, &call->weight);
  j.bias = norma_walk_make(call->layer, &axes, &call->bias);
  j.after = norma_walk_make(call->layer, &axes, &call->after);
  j.dafter = norma_walk_make(call->layer, &axes, &call->dafter);
  j.dsum = norma_walk_make(call->layer, &axes, &call->dsum);
  j.mean = unit_walk(call, &axes, &saved->mean, APART);
  j.mean_lo = unit_walk(call, &axes, &saved->mean_lo, APART);
  j.rstd = unit_walk(call, &axes, &saved->rstd, APART);
  j.scale = unit_walk(call, &axes, &saved->scale, APART);
  j.gain = call->gain.data ? norma_walk_make(call->layer, &axes, &call->gain) : j.scale;
  if (means) {
    j.q = unit_walk(call, &axes, &means->q, MEANS_APART);
    j.q_xhat = unit_walk(call, &axes, &means->q_xhat, MEANS_APART);
  }
  return j;
}

bool norma_is_single(const norma_call *call) {
  return call->type != NORMA_F64 && call->alpha == 1 && call->param_scale == 1 && call->weight.type != NORMA_F64;
}

/* Within this range no product of float32 loses more than the bound allows, and a unit's deviations, which are at most
 * sqrt(m) standard deviations, do not overflow (or give a result that is not finite, which is found). */
void norma_coefs_set(const norma_saved *saved, float *hi, float *lo, float *rstd) {
  bool fits = saved->scale == 1 && (saved->rstd == 0 || (saved->rstd >= 0x1p-110 && saved->rstd <= 0x1p100));
  *hi = (float)saved->mean;
  *lo = (float)((saved->mean - (double)*hi) + saved->mean_lo);
  *rstd = fits ? (float)saved->rstd : NAN;
}

static double exact_z(const norma_saved *s, float x, float weight, float bias, float after) {
  double xhat = (((double)x * s->scale - s->mean) - s->mean_lo) * s->rstd;
  return (xhat * (double)weight + (double)bias) + (double)after;
}

float norma_single_z(const norma_saved *saved, float x, float weight, float bias, float after) {
  float hi, lo, rstd;
  norma_coefs_set(saved, &hi, &lo, &rstd);
  float z = ((((x - hi) - lo) * rstd) * weight + bias) + after;
  return isfinite(z) ? z : (float)exact_z(saved, x, weight, bias, after);
}

void norma_forward_exact(const norma_coefs *c, int64_t first, const float *x, float *y, int64_t n) {
  const uint32_t quiet = 0x7fc00000;
  for (int64_t i = 0; i < n; i++) {
    int64_t at = first + i;
    if (isfinite(y[i])) continue;
    float weight = (c->weight ? c->weight[at * c->weight_step] : 1) + c->weight_offset;
    float bias = c->bias ? c->bias[at * c->bias_step] : -0.0f;
    y[i] = (float)exact_z(&c->saved[at * c->unit_step], x[i], weight, bias, -0.0f);
    if (isnan(y[i])) memcpy(&y[i], &quiet, sizeof quiet);
  }
}

/* xhat of a block; x is overwritten. */
static void normalize(const job *j, int64_t first, int64_t n, double *x) {
  double mean[NORMA_BLOCK], mean_lo[NORMA_BLOCK], rstd[NORMA_BLOCK], scale[NORMA_BLOCK];
  norma_walk_gather(&j->mean, 0, first, n, mean);
  norma_walk_gather(&j->mean_lo, 0, first, n, mean_lo);
  norma_walk_gather(&j->rstd, 0, first, n, rstd);
  norma_walk_gather(&j->scale, 0, first, n, scale);
  for (int64_t i = 0; i < n; i++) x[i] = ((x[i] * scale[i] - mean[i]) - mean_lo[i]) * rstd[i];
}

/* Multiplies by gamma, 1 where there is none, times `by`. */
static void times_weight(const job *j, int64_t first, int64_t n, double by, double *values) {
  double weight[NORMA_BLOCK];
  if (j->weight.data) norma_walk_gather(&j->weight, 0, first, n, weight);
  if (j->weight.data)
    for (int64_t i = 0; i < n; i++) values[i] *= norma_gamma(j->call, weight[i]) * by;
  else if (by != 1)
    for (int64_t i = 0; i < n; i++) values[i] *= by;
}

/* y before the activation, times a power of two that is 1 unless y overflows on the way. */
static void forward_block(const job *j, int64_t first, int64_t n, double by, double *y) {
  double x[NORMA_BLOCK], bias[NORMA_BLOCK], params_by = by * j->call->param_scale;
  norma_walk_gather(&j->x, 0, first, n, x);
  for (int64_t i = 0; i < n; i++) y[i] = x[i];
  normalize(j, first, n, y);
  times_weight(j, first, n, params_by, y);
  if (j->bias.data) {
    norma_walk_gather(&j->bias, 0, first, n, bias);
    for (int64_t i = 0; i < n; i++) y[i] += bias[i] * params_by;
  }
  if (j->after.data) {
    norma_walk_gather(&j->after, 0, first, n, bias);
    for (int64_t i = 0; i < n; i++) y[i] += bias[i] * by;
  }
  if (by != 1)
    for (int64_t i = 0; i < n; i++) x[i] *= by;
  double alpha = j->call->alpha;
  for (int64_t i = 0; alpha != 1 && i < n; i++) y[i] = alpha * y[i] + (1 - alpha) * x[i];
}

/* y before the activation, in float32 where that is its definition (docs/accuracy.md). An absent addend is -0. */
static void single_block(const job *j, int64_t first, int64_t n, double *y) {
  double weight[NORMA_BLOCK], bias[NORMA_BLOCK], after[NORMA_BLOCK], mean[NORMA_BLOCK], mean_lo[NORMA_BLOCK],
      rstd[NORMA_BLOCK], scale[NORMA_BLOCK];
  if (j->weight.data) norma_walk_gather(&j->weight, 0, first, n, weight);
  if (j->bias.data) norma_walk_gather(&j->bias, 0, first, n, bias);
  if (j->after.data) norma_walk_gather(&j->after, 0, first, n, after);
  norma_walk_gather(&j->x, 0, first, n, y);
  norma_walk_gather(&j->mean, 0, first, n, mean);
  norma_walk_gather(&j->mean_lo, 0, first, n, mean_lo);
  norma_walk_gather(&j->rstd, 0, first, n, rstd);
  norma_walk_gather(&j->scale, 0, first, n, scale);
  for (int64_t i = 0; i < n; i++) {
    norma_saved saved = {mean[i], mean_lo[i], rstd[i], scale[i]};
    float w = (j->weight.data ? (float)weight[i] : 1) + (float)j->call->weight_offset;
    y[i] = norma_single_z(&saved, (float)y[i], w, j->bias.data ? (float)bias[i] : -0.0f,
                          j->after.data ? (float)after[i] : -0.0f);
  }
}

/* In float64 gamma * xhat + beta may overflow although the sum does not. Far from overflow the same sum has the same
 * rounding, so only such elements are taken from the second try. */
static void forward_again(const job *j, int64_t first, int64_t n, double *y) {
  double small[NORMA_BLOCK];
  bool finite = true;
  for (int64_t i = 0; i < n; i++) finite = finite && isfinite(y[i]);
  if (finite) return;
  forward_block(j, first, n, 0x1p-64, small);
  for (int64_t i = 0; i < n; i++)
    if (!isfinite(y[i])) y[i] = small[i] * 0x1p64;
}

static void z_block(const job *j, int64_t first, int64_t n, double *z) {
  if (norma_is_single(j->call)) single_block(j, first, n, z);
  else forward_block(j, first, n, 1, z);
  if (j->call->type == NORMA_F64) forward_again(j, first, n, z);
}

static void forward_range(void *context, int64_t begin, int64_t end) {
  const job *j = context;
  for (int64_t first = begin; first < end; first += NORMA_BLOCK) {
    double y[NORMA_BLOCK];
    int64_t n = end - first < NORMA_BLOCK ? end - first : NORMA_BLOCK;
    z_block(j, first, n, y);
    norma_activate(j->call, y, n);
    norma_walk_scatter(&j->y, 0, first, n, y);
  }
}

/* dy becomes dz, the gradient before the activation, which is also that of `after`. */
static void backward_activation(const job *j, int64_t first, int64_t n, double *dy) {
  double z[NORMA_BLOCK];
  if (j->call->activation) {
    z_block(j, first, n, z);
    norma_times_slope(j->call, z, dy, n);
  }
  if (j->dafter.data) norma_walk_scatter(&j->dafter, 0, first, n, dy);
}

static void backward_range(void *context, int64_t begin, int64_t end) {
  const job *j = context;
  for (int64_t first = begin; first < end; first += NORMA_BLOCK) {
    double dy[NORMA_BLOCK], dx[NORMA_BLOCK], x[NORMA_BLOCK], q[NORMA_BLOCK], q_xhat[NORMA_BLOCK];
    double rstd[NORMA_BLOCK], gain[NORMA_BLOCK], alpha = j->call->alpha;
    int64_t n = end - first < NORMA_BLOCK ? end - first : NORMA_BLOCK;
    norma_walk_gather(&j->dy, 0, first, n, dy);
    backward_activation(j, first, n, dy);
    if (!j->dx.data) continue;
    norma_walk_gather(&j->rstd, 0, first, n, rstd);
    norma_walk_gather(&j->gain, 0, first, n, gain);
    for (int64_t i = 0; i < n; i++) dx[i] = dy[i];
    times_weight(j, first, n, 1, dx);
    if (j->q.data) {
      norma_walk_gather(&j->x, 0, first, n, x);
      norma_walk_gather(&j->q, 0, first, n, q);
      norma_walk_gather(&j->q_xhat, 0, first, n, q_xhat);
      normalize(j, first, n, x);
      for (int64_t i = 0; i < n; i++) dx[i] = (dx[i] - q[i]) - x[i] * q_xhat[i];
    }
    /* One factor at a time: rstd * gain alone may overflow where the product does not. */
    for (int64_t i = 0; i < n; i++) dx[i] = dx[i] * rstd[i] * alpha * gain[i];
    for (int64_t i = 0; alpha != 1 && i < n; i++) dx[i] += (1 - alpha) * dy[i];
    if (j->dsum.data) norma_walk_gather(&j->dsum, 0, first, n, q);
    for (int64_t i = 0; j->dsum.data && i < n; i++) dx[i] += q[i];
    norma_walk_scatter(&j->dx, 0, first, n, dx);
  }
}

enum { GRAIN = 16384 };

void norma_apply_forward(const norma_call *call, const norma_saved *saved) {
  job j = job_make(call, saved, NULL);
  norma_parallel(call->threads, norma_layer_elements(call->layer), GRAIN, norma_pass_bytes(call, 2), forward_range, &j);
}

/* What is smaller may well be read again soon, and stays in the caches. */
enum { STREAM_BYTES = 4 << 20 };

bool norma_streams(const norma_call *call) {
  return norma_layer_elements(call->layer) >= STREAM_BYTES / (int64_t)norma_type_size(call->type);
}

void norma_forward_pass(const norma_call *call, norma_saved *saved, norma_moments *moments, void *workspace) {
  if (norma_is_single(call) && !call->after.data) {
    if (norma_row_forward(call, saved, moments) || norma_column_forward(call, saved, moments, workspace)) return;
  }
  norma_statistics(call, saved, moments);
  if (call->y.data) norma_apply_forward(call, saved);
}

void norma_apply_backward(const norma_call *call, const norma_saved *saved, const norma_pair *means) {
  job j = job_make(call, saved, means);
  norma_parallel(call->threads, norma_layer_elements(call->layer), GRAIN, norma_pass_bytes(call, means ? 3 : 2),
                 backward_range, &j);
}

void norma_param_pass(const norma_call *call, const norma_saved *saved, void *workspace) {
  if (!norma_column_params(call, saved, workspace)) norma_param_gradients(call, saved);
}

size_t norma_backward_scratch(const norma_layer *layer) {
  size_t statistics = norma_column_workspace(layer), sums = norma_column_sums_bytes(layer);
  return statistics > sums ? statistics : sums;
}

void norma_backward_pass(const norma_call *call, const norma_saved *saved, norma_pair *means, void *workspace) {
  bool plain = norma_is_single(call) && !call->activation && !call->after.data && !call->dafter.data &&
               !call->dsum.data;
  if (plain && norma_row_backward(call, saved, means, workspace)) return;
  if (plain && norma_column_backward(call, saved, means, workspace)) return;
  norma_param_gradients(call, saved);
  if (!call->dx.data && !call->dafter.data) return;
  bool through = call->dx.data && !call->given_var.data; /* through the statistics */
  if (through) norma_unit_gradients(call, saved, means);
  norma_apply_backward(call, saved, through ? means : NULL); /* last: dx and dafter may be dy */
}
