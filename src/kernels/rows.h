/* Template: a stretch of a row, consecutive in memory: its sums in the order of the tree, and the pieces of y. */
#ifndef NORMA_ROWS_H
#define NORMA_ROWS_H

#include "activation.h"
#include "blocks.h"

#include <math.h>

/* ---------------------------------------------------------------------------------------------- the tree's sums --- */

/* Two sums, in the eight lanes of the tree. */
typedef struct two_sums {
  oct first, second;
} two_sums;

NORMA_INLINE two_sums sums_of_nothing(void) { return (two_sums){oct_set(0), oct_set(0)}; }

NORMA_INLINE void sums_add(two_sums *s, two_sums more) {
  s->first = oct_add(s->first, more.first);
  s->second = oct_add(s->second, more.second);
}

/* (l0 + l1) + (l2 + l3) of both. */
NORMA_INLINE void quads_end(quad first, quad second, double sum[2]) {
  double both[4];
  quad_store(both, quad_sums(first, second, first, second));
  sum[0] = both[0], sum[1] = both[1];
}

NORMA_INLINE void sums_end(const two_sums *s, double sum[2]) {
  quads_end(quad_add(oct_low(s->first), oct_high(s->first)), quad_add(oct_low(s->second), oct_high(s->second)), sum);
}

/* ------------------------------------------------------------------------------------------------------ moments --- */

/* Eight deviations of which n are there, zeros behind them. about_zero: the pivot is 0, and squares are exact. */
NORMA_INLINE void moments_add(two_sums *lanes, oct x, int n, bool about_zero, oct pivot) {
  if (!about_zero) x = oct_sub(x, pivot);
  if (!about_zero && n < 8) x = oct_first(x, n);
  lanes->first = oct_add(lanes->first, x);
  lanes->second = about_zero ? oct_exact_fma(x, x, lanes->second) : oct_add(lanes->second, oct_mul(x, x));
}

/* Of n <= 64 elements, the lanes of a group. */
NORMA_INLINE two_sums moments_of(const float *x, int n, bool about_zero, oct pivot) {
  two_sums lanes = sums_of_nothing();
  int i = 0;
  NORMA_UNROLL(8)
  for (; i + 8 <= n; i += 8) moments_add(&lanes, oct_floats(x + i), 8, about_zero, pivot);
  if (i < n) moments_add(&lanes, oct_few(x + i, n - i), n - i, about_zero, pivot);
  return lanes;
}

/* The group from element `at` on, of which n <= 64 elements are there. */
NORMA_INLINE void moments_piece(norma_type type, const void *x, int64_t at, int n, double pivot, two_sums *s) {
  NORMA_ALIGNED float room[NORMA_GROUP];
  const float *from = n == NORMA_GROUP ? load_group(type, x, at, room) : load_few(type, x, at, n, room);
  if (type != NORMA_F32) NORMA_IN_MEMORY(room);
  if (pivot == 0) sums_add(s, moments_of(from, n, true, oct_set(0)));
  else sums_add(s, moments_of(from, n, false, oct_set(pivot)));
}

NORMA_INLINE void moments_row(norma_type type, const void *x, int64_t n, double pivot, double sum[2]) {
  two_sums s = sums_of_nothing();
  int64_t i = 0;
  for (; i + NORMA_GROUP <= n; i += NORMA_GROUP) moments_piece(type, x, i, NORMA_GROUP, pivot, &s);
  if (i < n) moments_piece(type, x, i, (int)(n - i), pivot, &s);
  sums_end(&s, sum);
}

static NORMA_TARGET void row_moments(norma_type type, const void *x, int64_t n, double pivot, double sum[2]) {
  if (type == NORMA_F32) moments_row(NORMA_F32, x, n, pivot, sum);
  else moments_row(type, x, n, pivot, sum);
}

/* An element as float32. */
NORMA_INLINE float load_float(norma_type type, const void *from, int64_t at) {
  float value;
  if (type == NORMA_F32) return ((const float *)from)[at];
  if (type == NORMA_BF16) widen_bf16((const uint16_t *)from + at, &value, 1);
  else norma_widen_f16((const uint16_t *)from + at, &value, 1);
  return value;
}

NORMA_INLINE void moments_rows(norma_type type, const norma_rows *rows, bool rms, double *pivot, double *sum) {
  int64_t n = rows->n, size = element_bytes(type);
  for (int64_t r = 0; r < rows->rows; r++) {
    const char *x = (const char *)rows->x + r * rows->x_stride * size;
    prefetch_row(type, x, rows->x_ahead, n);
    double a = load_float(type, x, 0), b = load_float(type, x, (n - 1) / 2), c = load_float(type, x, n - 1);
    pivot[r] = rms ? 0 : norma_pivot_of(a, b, c);
    moments_row(type, x, n, pivot[r], sum + 2 * r);
  }
}

/* ------------------------------------------------------------------------------------------------------ forward --- */

/* What all elements of a row share, in registers. An absent bias is -0, which changes no number when it is added. */
typedef struct shared_coefs {
  wide hi, lo, rstd, weight, bias;
} shared_coefs;

/* Where the coefficients of a row start. */
typedef struct row_coefs {
  const float *hi, *lo, *rstd, *weight, *bias;
} row_coefs;

NORMA_INLINE row_coefs coefs_of_row(const norma_coefs *c, int64_t r) {
  int64_t u = r * c->unit_row;
  row_coefs row = {c->hi + u, c->lo + u, c->rstd + u, NULL, NULL};
  if (c->weight) row.weight = c->weight + r * c->weight_row;
  if (c->bias) row.bias = c->bias + r * c->bias_row;
  return row;
}

NORMA_INLINE shared_coefs coefs_share(const row_coefs *c, bool units) {
  shared_coefs s = {.hi = wide_set(units ? 0 : c->hi[0]), .lo = wide_set(units ? 0 : c->lo[0])};
  s.rstd = wide_set(units ? 0 : c->rstd[0]);
  s.weight = wide_set(c->weight ? c->weight[0] : 1);
  s.bias = wide_set(c->bias ? c->bias[0] : -0.0f);
  return s;
}

/* The coefficients as those of a call that begins with row r; `after` stays that of the first. */
NORMA_INLINE norma_coefs coefs_from(const norma_coefs *c, int64_t r) {
  norma_coefs from = *c;
  int64_t u = r * c->unit_row;
  from.hi += u, from.lo += u, from.rstd += u, from.saved += u;
  if (c->weight) from.weight += r * c->weight_row;
  if (c->bias) from.bias += r * c->bias_row;
  return from;
}

/* norma_forward_exact of row r. */
static NORMA_TARGET __attribute__((noinline)) void forward_exact(const norma_coefs *c, int64_t r, int64_t at,
                                                                 const float *x, const float *after, float *y,
                                                                 int64_t n) {
  norma_coefs row = coefs_from(c, r);
  norma_forward_exact(&row, at, x, after, y, n);
}

/* A quarter. units, weights, biases: one coefficient for each element; constants in each caller. */
NORMA_INLINE wide forward_quarter(const row_coefs *c, const shared_coefs *s, bool units, bool weights, bool biases,
                                  int64_t at, const float *x, float *y, bool stream, wide bad) {
  NORMA_UNROLL(16)
  for (int i = 0; i < NORMA_QUARTER; i += NORMA_WIDE) {
    wide d = wide_sub(wide_load(x + i), units ? wide_load(c->hi + at + i) : s->hi);
    d = wide_sub(d, units ? wide_load(c->lo + at + i) : s->lo);
    d = wide_mul(d, units ? wide_load(c->rstd + at + i) : s->rstd);
    d = wide_mul(d, weights ? wide_load(c->weight + at + i) : s->weight);
    d = wide_add(d, biases ? wide_load(c->bias + at + i) : s->bias);
    if (stream) wide_stream(y + i, d);
    else wide_store(y + i, d);
    bad = wide_bad(bad, d);
  }
  return bad;
}

/* A function of z in its two halves (activation.h): loops without branches, which the compiler turns into vectors. */
#define NORMA_ACTIVATE(name, z)                                                               \
  do {                                                                                        \
    for (int i = 0; i < NORMA_GROUP; i++) e[i] = norma_exp_f32(norma_##name##_arg_f32(z[i])); \
    for (int i = 0; i < NORMA_GROUP; i++) z[i] = norma_##name##_end_f32(z[i], e[i]);          \
  } while (0)

static NORMA_TARGET __attribute__((noinline)) void activate_group(norma_activation activation, float *restrict z) {
  NORMA_ALIGNED float e[NORMA_GROUP];
  if (activation == NORMA_RELU)
    for (int i = 0; i < NORMA_GROUP; i++) z[i] = norma_relu_f32(z[i]);
  if (activation == NORMA_SILU) NORMA_ACTIVATE(silu, z);
  if (activation == NORMA_GELU) NORMA_ACTIVATE(gelu, z);
  if (activation == NORMA_GELU_TANH) NORMA_ACTIVATE(gelu_tanh, z);
}

/* What is added last to n <= 64 elements of row r from `at` on, as float32; NULL if there is nothing. */
NORMA_INLINE const float *load_after(norma_type type, const norma_coefs *c, int64_t r, int64_t at, int64_t n,
                                     float *room) {
  if (!c->after) return NULL;
  at += r * c->after_row;
  return n == NORMA_GROUP ? load_group(type, c->after, at, room) : load_few(type, c->after, at, n, room);
}

#endif
