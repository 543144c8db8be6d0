/* Template: what runs add to neighbouring units, side by side. Each unit is a chain of additions, one after the other;
 * these are plain loops over units, which the compiler turns into vectors. The operations are those of merge.h. */
#ifndef NORMA_CHAINS_H
#define NORMA_CHAINS_H

#include "simd.h"
#include "vector.h"

/* --------------------------------------------------------------------------------------------------------- sums --- */

NORMA_INLINE void runs_of(const double *first, const double *second, int64_t step, const double *mean_lo,
                          const double *rstd, norma_partial_sums *restrict runs, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    norma_sum xhat = {second[i * step], 0};
    if (mean_lo) norma_finish_run(&xhat, first[i * step], mean_lo[i], rstd[i]);
    bool bad = rstd && isnan(rstd[i]);
    runs[i].first.hi = bad ? NAN : first[i * step], runs[i].first.lo = 0;
    runs[i].second.hi = bad ? NAN : xhat.hi, runs[i].second.lo = xhat.lo;
  }
}

static NORMA_TARGET void finish_runs(const double *first, const double *second, int64_t step, const double *mean_lo,
                                     const double *rstd, norma_partial_sums *runs, int64_t n) {
  if (mean_lo && step == 1) runs_of(first, second, 1, mean_lo, rstd, runs, n);
  else if (mean_lo) runs_of(first, second, 2, mean_lo, rstd, runs, n);
  else runs_of(first, second, step, NULL, rstd, runs, n);
}

NORMA_INLINE void join_sums(norma_partial_sums *restrict into, const norma_partial_sums *restrict runs, int64_t step,
                            const norma_weighing *w, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    norma_partial_sums run = runs[i * step];
    if (w) norma_weigh_run(&run, w->weight[i], w->elements, 0, w->pivot[i]);
    norma_partial_sums_join(&into[i], &run);
  }
}

static NORMA_TARGET void join_runs(norma_partial_sums *into, const norma_partial_sums *runs, int64_t step,
                                   const norma_weighing *w, int64_t n) {
  if (w && step == 1) join_sums(into, runs, 1, w, n);
  else if (w) join_sums(into, runs, step, w, n);
  else if (step == 1) join_sums(into, runs, 1, NULL, n);
  else join_sums(into, runs, step, NULL, n);
}

/* ------------------------------------------------------------------------------------------------------ moments --- */

NORMA_INLINE bool moments_of_runs(const double *pivot, const double *deviations, const double *squares, int64_t step,
                                  int64_t count, norma_run_moments *restrict runs, int64_t n) {
  int64_t far = 0;
  for (int64_t i = 0; i < n; i++) {
    norma_moments m = norma_moments_about(pivot[i], deviations ? deviations[i * step] : 0, squares[i * step], count);
    runs[i] = (norma_run_moments){m.mean, m.mean_lo, m.m2, 0};
    far += norma_pivot_is_far(&m, pivot[i]);
  }
  return far > 0;
}

static NORMA_TARGET bool run_moments(const double *pivot, const double *deviations, const double *squares,
                                     int64_t step, int64_t count, norma_run_moments *runs, int64_t n) {
  if (!deviations) return moments_of_runs(pivot, NULL, squares, step, count, runs, n);
  if (step == 1) return moments_of_runs(pivot, deviations, squares, 1, count, runs, n);
  return moments_of_runs(pivot, deviations, squares, 2, count, runs, n);
}

NORMA_INLINE void merge_moments(norma_run_moments *restrict into, double had, const norma_run_moments *restrict runs,
                                int64_t step, double share, int64_t n) {
  for (int64_t i = 0; i < n; i++) norma_run_moments_merge(&into[i], had, &runs[i * step], share);
}

static NORMA_TARGET void join_moments(norma_run_moments *into, int64_t had, const norma_run_moments *runs,
                                      int64_t step, int64_t count, int64_t n) {
  double share = (double)count / (double)(had + count);
  if (had == 0)
    for (int64_t i = 0; i < n; i++) into[i] = runs[i * step];
  else if (step == 1) merge_moments(into, (double)had, runs, 1, share, n);
  else merge_moments(into, (double)had, runs, step, share, n);
}

/* ------------------------------------------------------------------------------------------- views of the units --- */

static NORMA_TARGET void unit_views(const norma_saved *saved, float *restrict hi, float *restrict lo,
                                    float *restrict rstd, int64_t n) {
  for (int64_t i = 0; i < n; i++) norma_coefs_set(&saved[i], &hi[i], &lo[i], &rstd[i]);
}

static NORMA_TARGET void means_views(const norma_saved *saved, const float *restrict rstd, const norma_pair *means,
                                     float *restrict hi, float *restrict lo, float *restrict xhat, int64_t n) {
  for (int64_t i = 0; i < n && !means; i++) norma_dx_means_set(&saved[i], rstd[i], NULL, &hi[i], &lo[i], &xhat[i]);
  for (int64_t i = 0; i < n && means; i++) norma_dx_means_set(&saved[i], rstd[i], &means[i], &hi[i], &lo[i], &xhat[i]);
}

/* ------------------------------------------------------------------------------------------------ what is given --- */

static NORMA_TARGET void narrow(const double *restrict from, float *restrict to, int64_t n) {
  const uint32_t quiet = 0x7fc00000;
  uint64_t nans = 0;
  for (int64_t i = 0; i < n; i++) {
    to[i] = (float)from[i];
    nans += from[i] != from[i];
  }
  for (int64_t i = 0; nans && i < n; i++)
    if (to[i] != to[i]) memcpy(&to[i], &quiet, sizeof quiet);
}

#endif
