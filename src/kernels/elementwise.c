/* y and dx of every element, once the sums are known. Each element stands alone, so the order is that of memory. */
#include "kernels.h"

#include <math.h>

typedef struct job {
  const norma_call *call;
  norma_walk x, y, dy, dx, weight, bias, after, dafter, dsum;
  norma_walk mean, mean_lo, rstd, scale, gain;
  norma_walk q, q_xhat, first_q; /* no data in the forward pass and with given statistics */
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
    j.first_q = unit_walk(call, &axes, &means->first, MEANS_APART);
  }
  return j;
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
    for (int64_t i = 0; i < n; i++) values[i] *= weight[i] * by;
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

/* An array that the call may lack: NULL then. */
static const double *gather(const norma_walk *walk, int64_t first, int64_t n, double *to) {
  if (!walk->data) return NULL;
  norma_walk_gather(walk, 0, first, n, to);
  return to;
}

/* y before the activation, in float32 where that is its definition (single.c). */
static void single_block(const job *j, int64_t first, int64_t n, double *z) {
  double room[8][NORMA_BLOCK];
  norma_affine at = {.x = gather(&j->x, first, n, room[0]),
                     .mean = gather(&j->mean, first, n, room[1]),
                     .mean_lo = gather(&j->mean_lo, first, n, room[2]),
                     .rstd = gather(&j->rstd, first, n, room[3]),
                     .scale = gather(&j->scale, first, n, room[4]),
                     .weight = gather(&j->weight, first, n, room[5]),
                     .bias = gather(&j->bias, first, n, room[6]),
                     .after = gather(&j->after, first, n, room[7])};
  norma_before_activation(j->call, &at, z, n);
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

/* dx of n elements, in float32 where that is its definition (single.c); dy is dz. */
static void single_dx(const job *j, int64_t first, int64_t n, const double *dy, double *dx) {
  double room[6][NORMA_BLOCK], q[NORMA_BLOCK], q_xhat[NORMA_BLOCK], first_q[NORMA_BLOCK];
  const double *x = gather(&j->x, first, n, room[0]), *mean = gather(&j->mean, first, n, room[1]);
  const double *mean_lo = gather(&j->mean_lo, first, n, room[2]), *rstd = gather(&j->rstd, first, n, room[3]);
  const double *weight = gather(&j->weight, first, n, room[4]), *dsum = gather(&j->dsum, first, n, room[5]);
  if (j->q.data) norma_walk_gather(&j->q, 0, first, n, q);
  if (j->q.data) norma_walk_gather(&j->q_xhat, 0, first, n, q_xhat);
  if (j->q.data) norma_walk_gather(&j->first_q, 0, first, n, first_q);
  for (int64_t i = 0; i < n; i++) {
    norma_saved saved = {mean[i], mean_lo[i], rstd[i], 1};
    norma_pair means = {0};
    if (j->q.data) means = (norma_pair){q[i], q_xhat[i], first_q[i]};
    float gamma = weight ? (float)weight[i] : 1;
    dx[i] = norma_single_dx(&saved, j->q.data ? &means : NULL, (float)x[i], (float)dy[i], gamma,
                            dsum ? (float)dsum[i] : -0.0f);
  }
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
    if (norma_is_single(j->call)) {
      single_dx(j, first, n, dy, dx);
      norma_walk_scatter(&j->dx, 0, first, n, dx);
      continue;
    }
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

void norma_apply_backward(const norma_call *call, const norma_saved *saved, const norma_pair *means) {
  job j = job_make(call, saved, means);
  norma_parallel(call->threads, norma_layer_elements(call->layer), GRAIN, norma_pass_bytes(call, means ? 3 : 2),
                 backward_range, &j);
}
