/* The summation trees over consecutive positions. Their order is a promise: it decides the last bits of every
 * statistic. */
#include "kernels.h"

/* One lane after the other: of n values, each `apart` from the next. */
static double lane_sum(const double *value, int64_t n, int64_t apart) {
  double sum = 0;
  for (int64_t i = 0; i < n; i += apart) sum += value[i];
  return sum;
}

static void add_group(norma_tree *tree, const double *value, int64_t n) {
  for (int64_t l = 0; l < NORMA_LANES && l < n; l++)
    tree->accumulator[l] += lane_sum(value + l, n - l, NORMA_LANES);
}

static void add_quarter(double *accumulator, const double *value, int64_t n) {
  double lane[4] = {0};
  for (int64_t l = 0; l < 4 && l < n; l++) lane[l] = lane_sum(value + l, n - l, 4);
  *accumulator += (lane[0] + lane[1]) + (lane[2] + lane[3]);
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

void norma_tree_add(norma_tree *tree, const double *value, int64_t n) {
  for (int64_t i = 0; i < n && tree->across; i += NORMA_QUARTER)
    add_quarter(&tree->accumulator[i / NORMA_QUARTER % 4], value + i, smaller(n - i, NORMA_QUARTER));
  for (int64_t i = 0; i < n && !tree->across; i += NORMA_GROUP)
    add_group(tree, value + i, smaller(n - i, NORMA_GROUP));
}

double norma_tree_sum(const norma_tree *tree) {
  const double *a = tree->accumulator;
  if (tree->across) return (a[0] + a[1]) + (a[2] + a[3]);
  return ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7]));
}
