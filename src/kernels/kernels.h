/* The inner loops: rows of typed elements to and from float64, and the summation tree. Portable C; nothing here knows
 * what a layer is. */
#ifndef NORMA_KERNELS_H
#define NORMA_KERNELS_H

#include "norma.h"

/* n elements, `stride` apart; every NaN written is the canonical quiet NaN of its type. */
void norma_load(norma_type type, const void *from, int64_t stride, double *to, int64_t n);
void norma_store(norma_type type, const double *from, void *to, int64_t stride, int64_t n);

/* The summation tree, on consecutive positions (docs/accuracy.md): a quarter is 16 positions, position i in lane i mod 4;
 * quarter k goes to accumulator k mod 4; a stretch of 4096 positions ends as (A0 + A1) + (A2 + A3). */
enum { NORMA_QUARTER = 16, NORMA_BLOCK = 256, NORMA_STRETCH = 4096 };

typedef struct norma_tree {
  double accumulator[4];
} norma_tree;

/* Adds n <= NORMA_BLOCK values that start at a multiple of 4 quarters. */
void norma_tree_add(norma_tree *tree, const double *value, int64_t n);
double norma_tree_sum(const norma_tree *tree);

#endif
