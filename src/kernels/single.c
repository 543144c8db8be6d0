/* y and dx in float32, where that is their definition (docs/accuracy.md): x is exact, the mean is subtracted in two
 * parts, and an element for which float32 would not do is computed in float64. The vector kernels have the same
 * formulas. */
#include "vector.h"

#include <math.h>
#include <string.h>

bool norma_is_single(const norma_call *call) {
  return call->type != NORMA_F64 && call->alpha == 1 && call->param_scale == 1 && call->weight.type != NORMA_F64;
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
    float weight = c->weight ? c->weight[at * c->weight_step] : 1;
    float bias = c->bias ? c->bias[at * c->bias_step] : -0.0f;
    y[i] = (float)exact_z(&c->saved[at * c->unit_step], x[i], weight, bias, after ? after[i] : -0.0f);
    if (isnan(y[i])) memcpy(&y[i], &quiet, sizeof quiet);
  }
}

/* ----------------------------------------------------------------------------------------------------------- dx --- */

norma_dx norma_dx_make(const norma_kernels *kernels, const norma_saved *saved, const norma_pair *means, int units,
                       norma_dx_block *b) {
  kernels->unit_views(saved, b->hi, b->lo, b->rstd, units);
  kernels->means_views(saved, b->rstd, means, b->q_hi, b->q_lo, b->q_xhat, units);
  return (norma_dx){b->hi, b->lo, b->rstd, b->q_hi, b->q_lo, b->q_xhat, saved, means};
}

/* dsum is -0 where there is none. */
static double exact_dx(const norma_saved *s, const norma_pair *means, float x, float dy, float gamma, float dsum) {
  double q = (double)dy * (double)gamma;
  if (means) q = (q - means->q) - ((((double)x - s->mean) - s->mean_lo) * s->rstd) * means->q_xhat;
  return q * s->rstd + (double)dsum;
}

float norma_single_dx(const norma_saved *saved, const norma_pair *means, float x, float dy, float gamma, float dsum) {
  float hi, lo, rstd, q_hi, q_lo, q_xhat;
  norma_coefs_set(saved, &hi, &lo, &rstd);
  norma_dx_means_set(saved, rstd, means, &q_hi, &q_lo, &q_xhat);
  float dx = (dy * gamma) * rstd;
  if (means) dx = ((dx - q_hi) - q_lo) - (((x - hi) - lo) * rstd) * q_xhat;
  dx += dsum;
  return isfinite(dx) ? dx : (float)exact_dx(saved, means, x, dy, gamma, dsum);
}

void norma_backward_exact(const norma_slopes *c, int64_t first, const float *x, const float *dy, const float *dsum,
                          float *dx, int64_t n) {
  const uint32_t quiet = 0x7fc00000;
  for (int64_t i = 0; i < n; i++) {
    int64_t at = first + i, unit = at * c->unit_step;
    if (isfinite(dx[i])) continue;
    float gamma = c->weight ? c->weight[at * c->weight_step] : 1;
    const norma_pair *means = c->dx.means ? &c->dx.means[unit] : NULL;
    dx[i] = (float)exact_dx(&c->dx.saved[unit], means, x[i], dy[i], gamma, dsum ? dsum[i] : -0.0f);
    if (isnan(dx[i])) memcpy(&dx[i], &quiet, sizeof quiet);
  }
}
