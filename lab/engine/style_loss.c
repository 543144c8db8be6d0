/* What makes two pictures alike in style: products of features, or their means and deviations. */
#include <stdlib.h>
#include <string.h>

#include "maths.h"

/* As sigma of norma_adain: no deviation is 0, so that each has a gradient. */
static const double variance_floor = 1e-5;

/* ------------------------------------------------------------------------------------------------------ Gram --- */

/* Of one sample, [c][c]. */
static void sample_gram(tensor f, int64_t sample, real *gram) {
  int64_t c = f.dim[1], pixels = f.dim[2] * f.dim[3];
  const real *at = f.at + sample * c * pixels;
  gemm(false, true, c, c, pixels, (real)(1.0 / (double)pixels), at, pixels, at, pixels, 0, gram, c);
}

void gram_matrix(tensor f, double *gram) {
  int64_t n = f.dim[0], count = f.dim[1] * f.dim[1];
  real *one = engine_alloc((size_t)count * sizeof *one);
  memset(gram, 0, (size_t)count * sizeof *gram);
  for (int64_t i = 0; i < n; i++) {
    sample_gram(f, i, one);
    for (int64_t j = 0; j < count; j++) {
      gram[j] += (double)one[j] / (double)n;
    }
  }
  free(one);
}

double gram_loss(tensor f, const double *target, real *dy) {
  int64_t n = f.dim[0], c = f.dim[1], pixels = f.dim[2] * f.dim[3];
  real *gram = engine_alloc((size_t)(c * c) * sizeof *gram);
  double norm = 0, total = 0;
  for (int64_t j = 0; j < c * c; j++) {
    norm += target[j] * target[j];
  }
  for (int64_t i = 0; i < n; i++) {
    sample_gram(f, i, gram);
    for (int64_t j = 0; j < c * c; j++) {
      double difference = (double)gram[j] - target[j];
      total += difference * difference;
      gram[j] = (real)difference;
    }
    if (dy != NULL) { /* the matrix is symmetric: each feature stands in it twice */
      gemm(false, false, c, pixels, c, (real)(4 / (norm * (double)(n * pixels))), gram, c, f.at + i * c * pixels,
           pixels, 0, dy + i * c * pixels, pixels);
    }
  }
  free(gram);
  return total / (norm * (double)n);
}

/* --------------------------------------------------------------------------------------------------- moments --- */

static void moments_of(const real *at, int64_t pixels, double *mean, double *deviation) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < pixels; i++) {
    sum += (double)at[i];
  }
  *mean = sum / (double)pixels;
  for (int64_t i = 0; i < pixels; i++) {
    squares += ((double)at[i] - *mean) * ((double)at[i] - *mean);
  }
  *deviation = sqrt(squares / (double)pixels + variance_floor);
}

void channel_moments(tensor f, double *mean, double *deviation) {
  int64_t pixels = f.dim[2] * f.dim[3];
  for (int64_t i = 0; i < f.dim[0] * f.dim[1]; i++) {
    moments_of(f.at + i * pixels, pixels, &mean[i], &deviation[i]);
  }
}

double moment_loss(tensor f, const double *mean, const double *deviation, real *dy) {
  int64_t pixels = f.dim[2] * f.dim[3], count = f.dim[0] * f.dim[1];
  double total = 0;
  for (int64_t i = 0; i < count; i++) {
    double m, s;
    moments_of(f.at + i * pixels, pixels, &m, &s);
    total += (m - mean[i]) * (m - mean[i]) + (s - deviation[i]) * (s - deviation[i]);
    double scale = 2 / (double)(count * pixels), by_mean = scale * (m - mean[i]);
    double by_deviation = scale * (s - deviation[i]) / s;
    for (int64_t j = i * pixels; j < (i + 1) * pixels && dy != NULL; j++) {
      dy[j] = (real)(by_mean + by_deviation * ((double)f.at[j] - m));
    }
  }
  return total / (double)count;
}
