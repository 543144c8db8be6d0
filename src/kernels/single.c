/* y in float32, where that is its definition (docs/accuracy.md): x is exact, the mean is subtracted in two parts, and
 * an element for which float32 would not do is computed in float64. The vector kernels have the same formula. */
#include "vector.h"

#include <math.h>
#include <string.h>

bool norma_is_single(const norma_call *call) {
  return call->type != NORMA_F64 && call->alpha == 1 && call->param_scale == 1 && call->weight.type != NORMA_F64;
}

/* Within this range no product of float32 loses more than the bound allows, and a unit's deviations, which are at most
 * sqrt(m) standard deviations, do not overflow (or give a result that is not finite, which is found). */
void norma_coefs_set(const norma_saved *saved, float *hi, float *lo, float *rstd) {
  bool fits = saved->scale == 1 && (saved->rstd == 0 || (saved->rstd >= 0x1p-110 && saved->rstd <= 0x1p98));
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

void norma_forward_exact(const norma_coefs *c, int64_t first, const float *x, const float *after, float *y,
                         int64_t n) {
  const uint32_t quiet = 0x7fc00000;
  for (int64_t i = 0; i < n; i++) {
    int64_t at = first + i;
    if (isfinite(y[i])) continue;
    float weight = (c->weight ? c->weight[at * c->weight_step] : 1) + c->weight_offset;
    float bias = c->bias ? c->bias[at * c->bias_step] : -0.0f;
    y[i] = (float)exact_z(&c->saved[at * c->unit_step], x[i], weight, bias, after ? after[i] : -0.0f);
    if (isnan(y[i])) memcpy(&y[i], &quiet, sizeof quiet);
  }
}
