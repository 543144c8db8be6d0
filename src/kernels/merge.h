/* Sums that keep their rounding errors, and what sets of numbers merge with. Inline: small runs have several. */
#ifndef NORMA_MERGE_H
#define NORMA_MERGE_H

#include "norma.h"

#include <math.h>
#include <stdbool.h>

/* a + b = *sum + *error exactly (Knuth 1969, for operands of any size). */
static inline void norma_two_sum(double a, double b, double *sum, double *error) {
  double s = a + b, part = s - a;
  *error = (a - (s - part)) + (b - part);
  *sum = s;
}

/* A sum held as hi + lo. */
typedef struct norma_sum {
  double hi, lo;
} norma_sum;

static inline void norma_sum_add(norma_sum *into, norma_sum other) {
  double error;
  norma_two_sum(into->hi, other.hi, &into->hi, &error);
  into->lo = isfinite(into->hi) ? into->lo + (error + other.lo) : 0; /* Inf - Inf must not turn an Inf into NaN */
}

/* From sums of deviations and of their squares about a pivot. */
static inline norma_moments norma_moments_about(double pivot, double deviations, double squares, int64_t count) {
  norma_moments moments = {.count = count};
  double shift = deviations / (double)count;
  norma_two_sum(pivot, shift, &moments.mean, &moments.mean_lo);
  moments.m2 = squares - deviations * shift;
  if (moments.m2 < 0) moments.m2 = 0;
  return moments;
}

/* Moments without the count, which the units of a block share. */
typedef struct norma_run_moments {
  double mean, mean_lo, m2, m2_lo;
} norma_run_moments;

/* Chan's merge, in the caller's float mode: `had` elements, and others whose share of all is `share`. */
static inline void norma_run_moments_merge(norma_run_moments *into, double had, const norma_run_moments *other,
                                           double share) {
  double delta = (other->mean - into->mean) + (other->mean_lo - into->mean_lo);
  double shift = into->mean_lo + delta * share;
  norma_two_sum(into->mean, shift, &into->mean, &into->mean_lo);
  norma_sum m2 = {into->m2, into->m2_lo};
  norma_sum_add(&m2, (norma_sum){other->m2, other->m2_lo});
  norma_sum_add(&m2, (norma_sum){delta * delta * (had * share), 0});
  into->m2 = m2.hi;
  into->m2_lo = m2.lo;
}

static inline norma_run_moments norma_without_count(const norma_moments *m) {
  return (norma_run_moments){m->mean, m->mean_lo, m->m2, m->m2_lo};
}
static inline norma_moments norma_with_count(const norma_run_moments *m, int64_t count) {
  return (norma_moments){count, m->mean, m->mean_lo, m->m2, m->m2_lo};
}

static inline void norma_moments_join(norma_moments *into, const norma_moments *other) {
  if (other->count == 0) return;
  if (into->count == 0) {
    *into = *other;
    return;
  }
  int64_t count = into->count + other->count;
  norma_run_moments both = norma_without_count(into), more = norma_without_count(other);
  norma_run_moments_merge(&both, (double)into->count, &more, (double)other->count / (double)count);
  *into = norma_with_count(&both, count);
}

/* The pivot of a stretch, from three of its values: 0 where they are not far from it for their distances, because
 * squares of float32 numbers are exact in float64; else the middle one. No single outlier becomes it, and a constant
 * has itself. */
static inline double norma_pivot_of(double a, double b, double c) {
  double low = a < b ? a : b, high = a > b ? a : b; /* comparisons of their own: minima and maxima, no jumps */
  double middle = c > low ? c : low;
  middle = middle < high ? middle : high;
  low = c < low ? c : low, high = c > high ? c : high;
  return fabs(middle) <= 8 * (high - low) ? 0 : middle;
}

/* Whether it lies so many standard deviations from the mean that this would cost precision: more than sqrt(1.5), or
 * more than 32 if it is 0, because the promise grows with the distance of the mean from 0. */
static inline bool norma_pivot_is_far(const norma_moments *about, double pivot) {
  double away = about->mean - pivot, most = pivot == 0 ? 32.0 * 32.0 : 1.5;
  return away * away * (double)about->count > most * about->m2;
}

#endif
