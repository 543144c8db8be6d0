/* The residual and the activations in the reference: the definitions with libm's long double functions, and the errors
 * that docs/accuracy.md allows. */
#include "reference.h"

#include "kernels/kernels.h"

#include <math.h>

typedef norma_real real;

static const real root_half = 0.707106781186547524400844362104849039L;
static const real root_two_over_pi = 0.797884560802865355879892119868763737L;

double norma_reference_sum(norma_type type, double x, double residual) {
  double sum = x + residual;
  uint64_t bits; /* room for an element of any type */
  norma_store(type, &sum, &bits, 1, 1);
  norma_load(type, &bits, 1, &sum, 1);
  return sum;
}

static real sigmoid(real w) { return 1 / (1 + expl(-w)); }

/* gelu_tanh(z) = z sigmoid(w(z)), since (1 + tanh(w / 2)) / 2 = sigmoid(w). */
static real w_of(real z) { return 2 * root_two_over_pi * (z + 0.044715L * z * z * z); }
static real w_slope(real z) { return 2 * root_two_over_pi * (1 + 3 * 0.044715L * z * z); }

real norma_reference_activation(norma_activation activation, real z) {
  if (isnan(z) || activation == NORMA_ACT_NONE) return z;
  if (isinf(z)) return z > 0 ? z : 0;
  switch (activation) {
    case NORMA_RELU: return z > 0 ? z : 0;
    case NORMA_SILU: return z * sigmoid(z);
    case NORMA_GELU: return z * (erfcl(-z * root_half) / 2);
    default: return z * sigmoid(w_of(z));
  }
}

/* Where each derivative is less than 1e-34 (float64: 1e-290) and counts as 0, which matters if dy is Inf. */
static real slope_end(norma_activation activation, norma_type type) {
  bool f64 = type == NORMA_F64;
  return activation == NORMA_SILU ? (f64 ? 700 : 87) : activation == NORMA_GELU ? (f64 ? 37 : 13) : f64 ? 21 : 9.9L;
}

real norma_reference_slope(norma_activation activation, norma_type type, real z) {
  if (isnan(z)) return z;
  if (activation == NORMA_ACT_NONE) return 1;
  if (activation == NORMA_RELU || fabsl(z) > slope_end(activation, type)) return z > 0;
  switch (activation) {
    case NORMA_SILU: return sigmoid(z) * (1 + z * sigmoid(-z));
    case NORMA_GELU: return erfcl(-z * root_half) / 2 + z * (root_two_over_pi / 2) * expl(-z * z / 2);
    default: return sigmoid(w_of(z)) * (1 + z * w_slope(z) * sigmoid(-w_of(z)));
  }
}

static real half_unit(norma_type type) { return type == NORMA_F64 ? 0x1p-53L : 0x1p-24L; }

/* The functions err by at most 3 half units of |y| + min(|z|, 1), and no slope is above 1.13. */
real norma_reference_activation_error(norma_activation activation, norma_type type, real z, real bound) {
  if (activation == NORMA_RELU) return bound;
  real own = fabsl(norma_reference_activation(activation, z)) + fminl(fabsl(z), 1);
  real least = type == NORMA_F64 ? 1e-300L : 1e-36L;
  return 1.13L * bound + 3 * half_unit(type) * (own + 2 * bound) + least;
}

/* The slopes err by at most 5 half units and change by at most 0.8 for each unit of z, and dz is rounded; the slope of
 * ReLU jumps at 0. */
real norma_reference_slope_error(norma_activation activation, norma_type type, real z, real bound) {
  if (activation == NORMA_RELU) return bound > 0 && fabsl(z) <= bound;
  return fminl(0.8L * bound, 1.3L) + 6 * half_unit(type);
}
