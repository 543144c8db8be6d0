/* Sums: the tree over consecutive positions, and what joins its results. Their order is a promise: it decides the last
 * bits of every statistic. */
#include "kernels.h"

#include <math.h>

static double quarter_sum(const double *v) {
  double lane[4];
  for (int j = 0; j < 4; j++) lane[j] = ((v[j] + v[j + 4]) + v[j + 8]) + v[j + 12];
  return (lane[0] + lane[1]) + (lane[2] + lane[3]);
}

void norma_tree_add(norma_tree *tree, const double *value, int64_t n) {
  int64_t whole = n / NORMA_QUARTER;
  for (int64_t k = 0; k < whole; k++) tree->accumulator[k & 3] += quarter_sum(value + k * NORMA_QUARTER);
  int64_t rest = n - whole * NORMA_QUARTER;
  if (rest > 0) {
    double padded[NORMA_QUARTER] = {0};
    for (int64_t i = 0; i < rest; i++) padded[i] = value[whole * NORMA_QUARTER + i];
    tree->accumulator[whole & 3] += quarter_sum(padded);
  }
}

double norma_tree_sum(const norma_tree *tree) {
  const double *a = tree->accumulator;
  return (a[0] + a[1]) + (a[2] + a[3]);
}

/* a + b = *sum + *error exactly (Knuth 1969, for operands of any size). */
static void two_sum(double a, double b, double *sum, double *error) {
  double s = a + b, part = s - a;
  *error = (a - (s - part)) + (b - part);
  *sum = s;
}

void norma_sum_add(norma_sum *into, norma_sum other) {
  double error;
  two_sum(into->hi, other.hi, &into->hi, &error);
  into->lo = isfinite(into->hi) ? into->lo + (error + other.lo) : 0; /* Inf - Inf must not turn an Inf into NaN */
}

norma_moments norma_moments_about(double pivot, double deviations, double squares, int64_t count) {
  norma_moments moments = {.count = count};
  double shift = deviations / (double)count;
  two_sum(pivot, shift, &moments.mean, &moments.mean_lo);
  moments.m2 = squares - deviations * shift;
  if (moments.m2 < 0) moments.m2 = 0;
  return moments;
}

void norma_moments_join(norma_moments *into, const norma_moments *other) {
  if (other->count == 0) return;
  if (into->count == 0) {
    *into = *other;
    return;
  }
  double count = (double)into->count, share = (double)other->count / (double)(into->count + other->count);
  double delta = (other->mean - into->mean) + (other->mean_lo - into->mean_lo);
  double shift = into->mean_lo + delta * share;
  two_sum(into->mean, shift, &into->mean, &into->mean_lo);
  norma_sum m2 = {into->m2, into->m2_lo};
  norma_sum_add(&m2, (norma_sum){other->m2, other->m2_lo});
  norma_sum_add(&m2, (norma_sum){delta * delta * (count * share), 0});
  into->m2 = m2.hi;
  into->m2_lo = m2.lo;
  into->count += other->count;
}
