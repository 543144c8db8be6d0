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
