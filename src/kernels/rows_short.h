/* Template: short rows, of a few vectors each, for which the other loops cost more than what is computed. (The tiles of
 * layer norm's backward pass, whose rows may be long, lose nothing here.) */
#ifndef NORMA_ROWS_SHORT_H
#define NORMA_ROWS_SHORT_H

#include "rows_backward.h"

/* Whether rows are a batch of short ones, of whole quarters and perhaps some once more. */
NORMA_INLINE bool is_short(norma_type type, const norma_rows *rows, int64_t unit_step, bool stream) {
  return type == NORMA_F32 && !stream && unit_step == 0 && rows->rows > 1 && rows->n >= NORMA_QUARTER;
}

/* Where the quarter from element i on begins: the last one overlaps the one before it, for an element stands alone. */
NORMA_INLINE int64_t short_quarter(int64_t i, int64_t n) {
  return i + NORMA_QUARTER <= n ? i : n - NORMA_QUARTER;
}

/* Short rows of float32 of which nothing else is wanted, in the cache and not in place: where a row has a few vectors,
 * the other loops cost more than they do. */
NORMA_INLINE void forward_short(const norma_coefs *c, bool weights, bool biases, const norma_rows *rows) {
  int64_t n = rows->n;
  for (int64_t r = 0; r < rows->rows; r++) {
    const float *x = (const float *)rows->x + r * rows->x_stride;
    float *y = (float *)rows->y + r * rows->y_stride;
    const row_coefs row = coefs_of_row(c, r);
    const shared_coefs shared = coefs_share(&row, false);
    wide bad = wide_set(0);
    prefetch_row(NORMA_F32, x, rows->x_ahead, n);
    for (int64_t i = 0; i < n; i += NORMA_QUARTER) {
      int64_t at = short_quarter(i, n);
      bad = forward_quarter(&row, &shared, false, weights, biases, at, x + at, y + at, false, bad);
    }
    if (__builtin_expect(wide_is_bad(bad), 0)) forward_exact(c, r, 0, x, NULL, y, n);
  }
}

NORMA_INLINE bool forward_is_short(norma_type type, const norma_coefs *c, const norma_rows *rows, bool stream) {
  return is_short(type, rows, c->unit_step, stream) && rows->x != rows->y && !c->after && !c->activation;
}

/* Short rows of float32 of which nothing else is wanted, in the cache and not in place. */
NORMA_INLINE void backward_short(const norma_slopes *c, bool given, bool weights, const norma_rows *rows) {
  int64_t n = rows->n;
  for (int64_t r = 0; r < rows->rows; r++) {
    const float *x = (const float *)rows->x + r * rows->x_stride, *dy = (const float *)rows->dy + r * rows->dy_stride;
    float *dx = (float *)rows->y + r * rows->y_stride;
    const row_slopes row = slopes_of_row(c, r);
    const shared_slopes shared = slopes_share(&row, false);
    wide bad = wide_set(0);
    prefetch_row(NORMA_F32, x, rows->x_ahead, n);
    prefetch_row(NORMA_F32, dy, rows->dy_ahead, n);
    for (int64_t i = 0; i < n; i += NORMA_QUARTER) {
      int64_t at = short_quarter(i, n);
      bad = backward_quarter(&row, &shared, given, false, weights, at, x + at, dy + at, NULL, dx + at, bad);
    }
    if (__builtin_expect(wide_is_bad(bad), 0)) backward_exact(c, r, 0, x, dy, NULL, dx, n);
  }
}

NORMA_INLINE bool backward_is_short(norma_type type, const norma_slopes *c, const norma_rows *rows, bool stream) {
  return is_short(type, rows, c->unit_step, stream) && rows->dy != rows->y && !c->z && !c->dsum && !c->dafter;
}

#endif
