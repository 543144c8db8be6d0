/* Template: batches of short rows of 16 bits. As float32, in a room in the first-level cache, they take the loops of
 * that: to load and to store the ends of such rows one by one costs more than what is computed. */
#ifndef NORMA_ROWS_HALVES_H
#define NORMA_ROWS_HALVES_H

#include "rows_short.h"

/* Elements of a room, which has two rows at least; and of the longest row that gains by it in the forward pass. */
enum { HALVES = 1024, HALVES_FORWARD = 128 };

NORMA_INLINE void widen_row(norma_type type, const void *from, int64_t n, float *to) {
  NORMA_ALIGNED float last[NORMA_GROUP];
  int64_t i = 0;
  for (; i + NORMA_GROUP <= n; i += NORMA_GROUP) load_group(type, from, i, to + i);
  if (i < n) copy_few(to + i, load_few(type, from, i, n - i, last), (n - i) * (int64_t)sizeof *to);
}

/* Of numbers, infinities, and the canonical NaN. */
NORMA_INLINE void narrow_row(norma_type type, const float *from, int64_t n, uint16_t *to) {
  NORMA_ALIGNED float last[NORMA_GROUP] = {0};
  NORMA_ALIGNED uint16_t halves[NORMA_GROUP];
  int64_t i = 0;
  for (; i + NORMA_GROUP <= n; i += NORMA_GROUP) narrow_group(type, from + i, to + i);
  if (i == n) return;
  copy_few(last, from + i, (n - i) * (int64_t)sizeof *from);
  narrow_group(type, last, halves);
  copy_few(to + i, halves, (n - i) * (int64_t)sizeof *halves);
}

/* Rows without a gap are one. */
NORMA_INLINE void widen_rows(norma_type type, const void *from, int64_t stride, int64_t ahead, int64_t rows, int64_t n,
                             float *to) {
  const uint16_t *row = from;
  bool one = stride == n;
  int64_t count = one ? 1 : rows, length = one ? rows * n : n;
  for (int64_t r = 0; r < count; r++) {
    prefetch_row(type, row + r * stride, ahead, length);
    widen_row(type, row + r * stride, length, to + r * n);
  }
}

NORMA_INLINE void narrow_rows(norma_type type, const float *from, int64_t rows, int64_t n, void *to, int64_t stride) {
  uint16_t *row = to;
  bool one = stride == n;
  int64_t count = one ? 1 : rows, length = one ? rows * n : n;
  for (int64_t r = 0; r < count; r++) narrow_row(type, from + r * n, length, row + r * stride);
}

NORMA_INLINE bool are_halves(norma_type type, const norma_rows *rows) {
  return type != NORMA_F32 && rows->rows > 1 && rows->n <= HALVES / 2;
}

/* From row r on, as many as a room holds, x (and dy, if it has a room) as float32. */
NORMA_INLINE norma_rows widened(norma_type type, const norma_rows *rows, int64_t r, float *x_room, float *dy_room) {
  norma_rows some = {.x = x_room, .dy = dy_room, .rows = HALVES / rows->n, .n = rows->n};
  some.x_stride = some.dy_stride = some.y_stride = rows->n;
  if (some.rows > rows->rows - r) some.rows = rows->rows - r;
  widen_rows(type, (const uint16_t *)rows->x + r * rows->x_stride, rows->x_stride, rows->x_ahead, some.rows, some.n,
             x_room);
  if (dy_room)
    widen_rows(type, (const uint16_t *)rows->dy + r * rows->dy_stride, rows->dy_stride, rows->dy_ahead, some.rows,
               some.n, dy_room);
  return some;
}

static NORMA_TARGET void batch_moments(norma_type type, const norma_rows *rows, bool rms, double *pivot, double *sum) {
  NORMA_ALIGNED float room[HALVES];
  if (!are_halves(type, rows)) {
    if (type == NORMA_F32) moments_rows(NORMA_F32, rows, rms, pivot, sum);
    else moments_rows(type, rows, rms, pivot, sum);
    return;
  }
  for (int64_t r = 0; r < rows->rows;) {
    norma_rows some = widened(type, rows, r, room, NULL);
    moments_rows(NORMA_F32, &some, rms, pivot + r, sum + 2 * r);
    r += some.rows;
  }
}

static NORMA_TARGET void batch_gradients(norma_type type, const norma_slopes *c, const norma_rows *rows,
                                         const double *pivot, double *sum) {
  NORMA_ALIGNED float x[HALVES], dy[HALVES];
  bool weights = c->weight && c->weight_step;
  if (!are_halves(type, rows) || weights || c->z) {
    if (type == NORMA_F32 && !weights) gradients_rows(NORMA_F32, c, false, rows, pivot, sum);
    else gradients_rows(type, c, weights, rows, pivot, sum);
    return;
  }
  norma_slopes from = *c;
  for (int64_t r = 0; r < rows->rows;) {
    norma_rows some = widened(type, rows, r, x, dy);
    int64_t unit = r * c->unit_row;
    from.mean = c->mean + unit, from.mean_lo = c->mean_lo + unit, from.rstd = c->rstd + unit;
    gradients_rows(NORMA_F32, &from, false, &some, pivot + r, sum + 2 * r);
    r += some.rows;
  }
}

NORMA_INLINE bool forward_is_halves(norma_type type, const norma_coefs *c, const norma_rows *rows, bool stream) {
  bool fits = rows->n >= NORMA_QUARTER && rows->n <= HALVES_FORWARD;
  return are_halves(type, rows) && fits && !stream && c->unit_step == 0 && !c->after && !c->activation;
}

NORMA_INLINE bool backward_is_halves(norma_type type, const norma_slopes *c, const norma_rows *rows, bool stream) {
  return are_halves(type, rows) && rows->n >= NORMA_QUARTER && !stream && c->unit_step == 0 && !c->z && !c->dsum &&
         !c->dafter;
}

#endif
