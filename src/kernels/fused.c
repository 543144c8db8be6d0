/* What is done beside a norm in the same call: a residual before it, a residual after it, an activation. */
#include "vector.h"

#include "activation.h"

#include <math.h>
#include <string.h>

/* --------------------------------------------------------------------------------------------------- activation --- */

void norma_activate(const norma_call *call, double *z, int64_t n) {
  norma_activation a = call->activation;
  if (call->type == NORMA_F64)
    for (int64_t i = 0; a && i < n; i++) z[i] = norma_activate_f64(a, z[i]);
  else
    for (int64_t i = 0; a && i < n; i++) z[i] = norma_activate_f32(a, (float)z[i]);
}

void norma_times_slope(const norma_call *call, const double *z, double *dy, int64_t n) {
  norma_activation a = call->activation;
  if (call->type == NORMA_F64)
    for (int64_t i = 0; a && i < n; i++) dy[i] *= norma_slope_f64(a, z[i]);
  else
    for (int64_t i = 0; a && i < n; i++) dy[i] = (float)dy[i] * norma_slope_f32(a, (float)z[i]);
}

float norma_single_dz(const norma_call *call, const norma_saved *saved, double x, double dy, double weight,
                      double bias, double after) {
  if (!call->activation) return (float)dy;
  float z = norma_single_z(saved, (float)x, (float)weight, (float)bias, (float)after);
  return (float)dy * norma_slope_f32(call->activation, z);
}

static double z_of(const norma_affine *at, int64_t i, double by) {
  double xhat = ((at->x[i] * at->scale[i] - at->mean[i]) - at->mean_lo[i]) * at->rstd[i];
  double z = xhat * (at->weight ? at->weight[i] * by : by);
  if (at->bias) z += at->bias[i] * by;
  return at->after ? z + at->after[i] * by : z;
}

static float single_z(const norma_affine *at, int64_t i) {
  norma_saved saved = {at->mean[i], at->mean_lo[i], at->rstd[i], at->scale[i]};
  float weight = at->weight ? (float)at->weight[i] : 1;
  return norma_single_z(&saved, (float)at->x[i], weight, at->bias ? (float)at->bias[i] : -0.0f,
                        at->after ? (float)at->after[i] : -0.0f);
}

void norma_before_activation(const norma_call *call, const norma_affine *at, double *z, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    z[i] = norma_is_single(call) ? single_z(at, i) : z_of(at, i, 1);
    if (call->type == NORMA_F64 && !isfinite(z[i])) z[i] = z_of(at, i, 0x1p-64) * 0x1p64;
  }
}

/* ----------------------------------------------------------------------------------------------------- residual --- */

typedef struct job {
  norma_walk x, residual, sum;
} job;

static bool is_line(const norma_walk *walk) { return walk->count == 1 && walk->stride[0] == 1; }

/* The float64 sum of two float32 numbers, rounded to float32, is their float32 sum: 53 bits are more than 2 * 24 + 1,
 * so that rounding twice changes nothing. */
static void add_range(void *context, int64_t begin, int64_t end) {
  const job *j = context;
  norma_type type = j->sum.type;
  if (type != NORMA_F64 && is_line(&j->x) && is_line(&j->residual) && is_line(&j->sum)) {
    int64_t from = begin * (int64_t)norma_type_size(type);
    norma_kernels_best()->add(type, j->x.data + from, j->residual.data + from, (char *)j->sum.data + from, end - begin);
    return;
  }
  for (int64_t first = begin; first < end; first += NORMA_BLOCK) {
    double x[NORMA_BLOCK], residual[NORMA_BLOCK];
    int64_t n = end - first < NORMA_BLOCK ? end - first : NORMA_BLOCK;
    norma_walk_gather(&j->x, 0, first, n, x);
    norma_walk_gather(&j->residual, 0, first, n, residual);
    for (int64_t i = 0; i < n; i++) x[i] += residual[i];
    norma_walk_scatter(&j->sum, 0, first, n, x);
  }
}

enum { GRAIN = 16384 };

void norma_add_residual(norma_call *call) {
  norma_axes axes = norma_memory_order(call->layer, &call->sum);
  job j = {norma_walk_make(call->layer, &axes, &call->x), norma_walk_make(call->layer, &axes, &call->residual),
           norma_walk_make(call->layer, &axes, &call->sum)};
  norma_parallel(call->threads, norma_layer_elements(call->layer), GRAIN, norma_pass_bytes(call, 3), add_range, &j);
  call->x = call->sum;
  call->residual.data = NULL;
}
