/* Template: the sum of two rows, which is the residual before a norm. */
#ifndef NORMA_RESIDUAL_H
#define NORMA_RESIDUAL_H

#include "blocks.h"

/* n <= 64 elements from `at` on, rounded to the type; NaN is canonical. */
NORMA_INLINE void add_piece(norma_type type, const void *x, const void *residual, int64_t at, int64_t n, sink *sum) {
  NORMA_ALIGNED float x_room[NORMA_GROUP], other_room[NORMA_GROUP], result[NORMA_GROUP];
  bool whole = n == NORMA_GROUP;
  const float *a = whole ? load_group(type, x, at, x_room) : load_few(type, x, at, n, x_room);
  const float *b = whole ? load_group(type, residual, at, other_room) : load_few(type, residual, at, n, other_room);
  wide bad = wide_set(0);
  for (int64_t i = 0; i < NORMA_GROUP; i++) result[i] = i < n ? a[i] + b[i] : 0;
  for (int i = 0; i < NORMA_GROUP; i += NORMA_WIDE) bad = wide_bad(bad, wide_load(result + i));
  canonical(bad, result, n);
  store_group(type, sum, result, n, !wide_is_bad(bad));
}

NORMA_INLINE void add_pieces(norma_type type, const void *x, const void *residual, void *sum, int64_t n) {
  sink to = {.to = sum};
  int64_t i = 0;
  for (; i + NORMA_GROUP <= n; i += NORMA_GROUP) add_piece(type, x, residual, i, NORMA_GROUP, &to);
  if (i < n) add_piece(type, x, residual, i, n - i, &to);
}

static NORMA_TARGET void add_rows(norma_type type, const void *x, const void *residual, void *sum, int64_t n) {
  if (type == NORMA_F32) add_pieces(NORMA_F32, x, residual, sum, n);
  else if (type == NORMA_BF16) add_pieces(NORMA_BF16, x, residual, sum, n);
  else add_pieces(NORMA_F16, x, residual, sum, n);
}

#endif
