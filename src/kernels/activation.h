/*
 * The activations and their derivatives, of one float32 or float64 number.
 *
 * They are made of + - * /, comparisons that select, and operations on the bits, in a fixed order, without branches,
 * libm and fused multiply-add. So a vector of them, on any processor, has the same bits. A comparison is written so
 * that NaN takes the value that keeps it: z < low ? low : z. tests/golden/fit_activation.py has made the coefficients,
 * docs/accuracy.md has the bounds.
 *
 *     silu(z)      = z / (1 + exp(-z))
 *     gelu_tanh(z) = z / (1 + exp(-w)),  w = sqrt(8/pi) (z + 0.044715 z^3),   since (1 + tanh(w/2))/2 = 1/(1 + exp(-w))
 *     gelu(z)      = max(z, 0) - t tail(t),  t = |z|,  tail(t) = erfc(t/sqrt(2))/2 = exp(-t^2/2) s Q(s),
 *                    s = 1/(1 + p t), Q a polynomial
 */
#ifndef NORMA_ACTIVATION_H
#define NORMA_ACTIVATION_H

#include "norma.h"

#include <string.h>

/* ----------------------------------------------------------------------------------------------------- float32 --- */

/* x * 2^n, where `magic` is 1.5 * 2^23 + n: the low bits of its mantissa are those of n. */
static inline float norma_scale_f32(float x, float magic) {
  uint32_t bits;
  float power;
  memcpy(&bits, &magic, sizeof bits);
  bits = (bits << 23) + 0x3f800000u;
  memcpy(&power, &bits, sizeof power);
  return x * power;
}

/* Its ends, e^-87 and e^88, stand for all that is beyond them. */
static inline float norma_exp_f32(float x) {
  x = x > 88 ? 88 : x;
  x = x < -87 ? -87 : x;
  float magic = x * 0x1.715476p+0f + 0x1.8p+23f, n = magic - 0x1.8p+23f;
  float r = (x - n * 0x1.63p-1f) - n * -0x1.bd0106p-13f; /* ln 2 = 0x1.63p-1 - 0x1.bd0106p-13 */
  float p = 0x1.6a23dp-10f;
  p = p * r + 0x1.123a2p-7f;
  p = p * r + 0x1.5558f2p-5f;
  p = p * r + 0x1.555492p-3f;
  p = p * r + 0x1.fffffcp-2f;
  return norma_scale_f32((p * (r * r) + r) + 1, magic);
}

static inline float norma_abs_f32(float z) {
  uint32_t bits;
  memcpy(&bits, &z, sizeof bits);
  bits &= 0x7fffffffu;
  memcpy(&z, &bits, sizeof z);
  return z;
}

/* tail(t) / exp(-t^2/2). */
static inline float norma_tail_f32(float t) {
  float s = 1 / (1 + 0.3f * t), q = 0x1.92bf18p-6f;
  q = q * s + -0x1.930d56p-4f;
  q = q * s + 0x1.318f38p-4f;
  q = q * s + 0x1.ba9f04p-4f;
  q = q * s + 0x1.6a89cp-7f;
  q = q * s + 0x1.341502p-3f;
  q = q * s + 0x1.bdd67ep-4f;
  q = q * s + 0x1.eedd98p-4f;
  return q * s;
}

/* max(z, 0), with +0 for -0. */
static inline float norma_relu_f32(float z) {
  float positive = z > 0 ? z : 0;
  return z == z ? positive : z;
}

static inline float norma_relu_grad_f32(float z) {
  float slope = z > 0 ? 1 : 0;
  return z == z ? slope : z;
}

/*
 * Each function of z is in two halves: the argument of its exponential, and what is made of z and the exponential e.
 * Vectors keep e in memory between them. In one piece, GCC moves the division into the branches of the exponential's
 * ends, and divides each element by e^88 too: denormal quotients, which take the processor several times as long.
 */

/* z / (1 + exp(-w)); below -88 it is 0. */
static inline float norma_gate_f32(float z, float w, float e) {
  float y = z / (1 + e);
  return w < -88 ? -0.0f : y;
}

/* Its derivative, where w has the derivative v / z: sigma (1 + v (1 - sigma)) with 1 - sigma = exp(-w) sigma. */
static inline float norma_gate_grad_f32(float v, float e) {
  float sigma = 1 / (1 + e);
  return sigma * (1 + v * (e * sigma));
}

/* Between its ends, which may be NaN. */
static inline float norma_within_f32(float z, float end) {
  float c = z > end ? end : z;
  return c < -end ? -end : c;
}

static inline float norma_silu_arg_f32(float z) { return -z; }
static inline float norma_silu_end_f32(float z, float e) { return norma_gate_f32(z, z, e); }

static inline float norma_silu_grad_arg_f32(float z) { return -norma_within_f32(z, 87); }
static inline float norma_silu_grad_end_f32(float z, float e) {
  float slope = norma_gate_grad_f32(norma_within_f32(z, 87), e);
  return z < -87 ? 0 : slope;
}

static inline float norma_gelu_tanh_w_f32(float z) { return z * (0x1.988454p+0f + 0x1.2444f2p-4f * (z * z)); }
static inline float norma_gelu_tanh_arg_f32(float z) { return -norma_gelu_tanh_w_f32(z); }
static inline float norma_gelu_tanh_end_f32(float z, float e) {
  return norma_gate_f32(z, norma_gelu_tanh_w_f32(z), e);
}

static inline float norma_gelu_tanh_grad_arg_f32(float z) {
  return -norma_gelu_tanh_w_f32(norma_within_f32(z, 9.9f));
}
static inline float norma_gelu_tanh_grad_end_f32(float z, float e) {
  float c = norma_within_f32(z, 9.9f), v = c * (0x1.988454p+0f + 0x1.b6676cp-3f * (c * c));
  float slope = norma_gate_grad_f32(v, e);
  return z < -9.9f ? 0 : slope;
}

static inline float norma_gelu_arg_f32(float z) {
  float t = norma_abs_f32(z);
  return -0.5f * (t * t);
}
static inline float norma_gelu_end_f32(float z, float e) {
  float t = norma_abs_f32(z), h = t * (e * norma_tail_f32(t));
  h = t > 13 ? 0 : h;
  return norma_relu_f32(z) - h;
}

/* tail(t) - t phi(t) for negative z, 1 minus that for positive. Like all slopes it ends in exact zeros, so that -Inf
 * has the slope 0. */
static inline float norma_gelu_grad_arg_f32(float z) { return norma_gelu_arg_f32(norma_within_f32(z, 13)); }
static inline float norma_gelu_grad_end_f32(float z, float e) {
  float t = norma_abs_f32(norma_within_f32(z, 13));
  float d = e * (norma_tail_f32(t) - 0x1.988454p-2f * t), slope = z < 0 ? d : 1 - d;
  return z < -13 ? 0 : slope;
}

static inline float norma_silu_f32(float z) {
  return norma_silu_end_f32(z, norma_exp_f32(norma_silu_arg_f32(z)));
}
static inline float norma_silu_grad_f32(float z) {
  return norma_silu_grad_end_f32(z, norma_exp_f32(norma_silu_grad_arg_f32(z)));
}
static inline float norma_gelu_tanh_f32(float z) {
  return norma_gelu_tanh_end_f32(z, norma_exp_f32(norma_gelu_tanh_arg_f32(z)));
}
static inline float norma_gelu_tanh_grad_f32(float z) {
  return norma_gelu_tanh_grad_end_f32(z, norma_exp_f32(norma_gelu_tanh_grad_arg_f32(z)));
}
static inline float norma_gelu_f32(float z) {
  return norma_gelu_end_f32(z, norma_exp_f32(norma_gelu_arg_f32(z)));
}
static inline float norma_gelu_grad_f32(float z) {
  return norma_gelu_grad_end_f32(z, norma_exp_f32(norma_gelu_grad_arg_f32(z)));
}

static inline float norma_activate_f32(norma_activation activation, float z) {
  switch (activation) {
    case NORMA_RELU: return norma_relu_f32(z);
    case NORMA_SILU: return norma_silu_f32(z);
    case NORMA_GELU: return norma_gelu_f32(z);
    case NORMA_GELU_TANH: return norma_gelu_tanh_f32(z);
    default: return z;
  }
}

static inline float norma_slope_f32(norma_activation activation, float z) {
  switch (activation) {
    case NORMA_RELU: return norma_relu_grad_f32(z);
    case NORMA_SILU: return norma_silu_grad_f32(z);
    case NORMA_GELU: return norma_gelu_grad_f32(z);
    case NORMA_GELU_TANH: return norma_gelu_tanh_grad_f32(z);
    default: return 1;
  }
}

/* ----------------------------------------------------------------------------------------------------- float64 --- */

/* The same, with the ends e^-708 and e^709, Taylor's series to degree 13 (its rest is below 2^-57), and Chebyshev
 * polynomials of 2s - 1 in place of the powers of s. */
static inline double norma_exp_f64(double x) {
  static const double factor[12] = {0x1.6124613a86d09p-33, 0x1.1eed8eff8d898p-29, 0x1.ae64567f544e4p-26,
                                    0x1.27e4fb7789f5cp-22, 0x1.71de3a556c734p-19, 0x1.a01a01a01a01ap-16,
                                    0x1.a01a01a01a01ap-13, 0x1.6c16c16c16c17p-10, 0x1.1111111111111p-7,
                                    0x1.5555555555555p-5,  0x1.5555555555555p-3,  0x1p-1};
  x = x > 709 ? 709 : x;
  x = x < -708 ? -708 : x;
  double magic = x * 0x1.71547652b82fep+0 + 0x1.8p+52, n = magic - 0x1.8p+52;
  double r = (x - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33, p = factor[0], power;
  for (int i = 1; i < 12; i++) p = p * r + factor[i];
  uint64_t bits;
  memcpy(&bits, &magic, sizeof bits);
  bits = (bits << 52) + 0x3ff0000000000000u;
  memcpy(&power, &bits, sizeof power);
  return ((p * (r * r) + r) + 1) * power;
}

static inline double norma_tail_f64(double t) {
  static const double chebyshev[30] = {
      0x1.3045263d71eb5p-2,   0x1.65db3f90b9ae8p-3,  0x1.cf75ac406ad0dp-6,   0x1.059a0842b1a90p-11,
      -0x1.5297854bb900cp-11, -0x1.2d65103ce25cdp-15, 0x1.7681c423efaf3p-16, 0x1.5dd0ed08aecf2p-21,
      -0x1.0a07a350beb45p-20, 0x1.c4157c595f010p-25, 0x1.76e5ca6e8a63fp-25,  -0x1.19a6e5cf0f6c1p-27,
      -0x1.5beb1321e3a5ep-30, 0x1.75882cc66e78bp-31, -0x1.654da4cfc2e53p-35, -0x1.38cad7c993e9fp-35,
      0x1.59a9e497dce09p-37,  0x1.728098cbd33b6p-42, -0x1.af0d2669c8874p-41, 0x1.61b6123beee78p-43,
      0x1.4940e17861410p-46,  -0x1.2cefd5e8aaed4p-46, 0x1.b33018820d3ffp-49, 0x1.24407fd2a0614p-51,
      -0x1.c3e702877d903p-52, 0x1.50045d7a2954cp-54, 0x1.963bfd4da5547p-57,  -0x1.572dbf3707f39p-57,
      0x1.ea80bddff666ap-60,  0x1.056a4a9fe37ecp-61};
  double s = 1 / (1 + 0.375 * t), u = 2 * s - 1, before = 0, sum = 0;
  for (int i = 29; i > 0; i--) { /* Clenshaw's recurrence */
    double next = (2 * u * sum - before) + chebyshev[i];
    before = sum;
    sum = next;
  }
  return ((u * sum - before) + chebyshev[0]) * s;
}

static inline double norma_relu_f64(double z) { return z == z ? (z > 0 ? z : 0) : z; }
static inline double norma_relu_grad_f64(double z) { return z == z ? (z > 0 ? 1 : 0) : z; }

static inline double norma_gate_f64(double z, double w) {
  return w < -708 ? -0.0 : z / (1 + norma_exp_f64(-w));
}

static inline double norma_gate_grad_f64(double w, double v) {
  double e = norma_exp_f64(-w), sigma = 1 / (1 + e);
  return sigma * (1 + v * (e * sigma));
}

static inline double norma_silu_f64(double z) { return norma_gate_f64(z, z); }

static inline double norma_silu_grad_f64(double z) {
  double c = z > 700 ? 700 : z < -700 ? -700 : z;
  return z < -700 ? 0 : norma_gate_grad_f64(c, c);
}

static inline double norma_gelu_tanh_f64(double z) {
  return norma_gate_f64(z, z * (0x1.9884533d43651p+0 + 0x1.2444f2a4d8b4bp-4 * (z * z)));
}

static inline double norma_gelu_tanh_grad_f64(double z) {
  double c = z > 21 ? 21 : z < -21 ? -21 : z, square = c * c;
  double w = c * (0x1.9884533d43651p+0 + 0x1.2444f2a4d8b4bp-4 * square);
  return z < -21 ? 0 : norma_gate_grad_f64(w, c * (0x1.9884533d43651p+0 + 0x1.b6676bf7450f0p-3 * square));
}

static inline double norma_gelu_f64(double z) {
  double t = z < 0 ? -z : z, h = t > 37 ? 0 : t * (norma_exp_f64(-0.5 * (t * t)) * norma_tail_f64(t));
  return norma_relu_f64(z) - h;
}

static inline double norma_gelu_grad_f64(double z) {
  double t = z < 0 ? -z : z;
  t = t > 37 ? 37 : t;
  double d = norma_exp_f64(-0.5 * (t * t)) * (norma_tail_f64(t) - 0x1.9884533d43651p-2 * t);
  return z < -37 ? 0 : z < 0 ? d : 1 - d;
}

static inline double norma_activate_f64(norma_activation activation, double z) {
  switch (activation) {
    case NORMA_RELU: return norma_relu_f64(z);
    case NORMA_SILU: return norma_silu_f64(z);
    case NORMA_GELU: return norma_gelu_f64(z);
    case NORMA_GELU_TANH: return norma_gelu_tanh_f64(z);
    default: return z;
  }
}

static inline double norma_slope_f64(norma_activation activation, double z) {
  switch (activation) {
    case NORMA_RELU: return norma_relu_grad_f64(z);
    case NORMA_SILU: return norma_silu_grad_f64(z);
    case NORMA_GELU: return norma_gelu_grad_f64(z);
    case NORMA_GELU_TANH: return norma_gelu_tanh_grad_f64(z);
    default: return 1;
  }
}

#endif
