/* Template: sums of parameters across units, by the tree of quarters; and, of a row or of columns, whichever sums are
 * wanted. */
#ifndef NORMA_ACROSS_H
#define NORMA_ACROSS_H

#include "columns_backward.h"

/* ------------------------------------------------------------------------------------------------------- a row --- */

/* A group of elements, each of its own unit, in four quarters of four lanes. */
NORMA_INLINE void across_group(const double *mean, const double *mean_lo, const double *rstd, const float *x,
                               const float *dy, quad sums[2]) {
  quad first[4], second[4];
  NORMA_UNROLL(4)
  for (int k = 0; k < 4; k++) {
    first[k] = second[k] = quad_set(0);
  NORMA_UNROLL(4)
    for (int i = k * NORMA_QUARTER; i < (k + 1) * NORMA_QUARTER; i += 4) {
      quad q = quad_floats(dy + i), d = quad_sub(quad_floats(x + i), quad_load(mean + i));
      d = quad_mul(quad_sub(d, quad_load(mean_lo + i)), quad_load(rstd + i));
      first[k] = quad_add(first[k], q), second[k] = quad_add(second[k], quad_mul(q, d));
    }
  }
  sums[0] = quad_add(sums[0], quad_sums(first[0], first[1], first[2], first[3]));
  sums[1] = quad_add(sums[1], quad_sums(second[0], second[1], second[2], second[3]));
}

/* The last n < 64 elements, and zeros behind them. */
NORMA_INLINE void across_rest(const norma_slopes *c, int64_t at, const float *x, const float *dy, int64_t n,
                              quad sums[2]) {
  NORMA_ALIGNED double unit[3][NORMA_GROUP] = {{0}};
  NORMA_ALIGNED float data[2][NORMA_GROUP] = {{0}};
  for (int64_t i = 0; i < n; i++) {
    unit[0][i] = c->mean[at + i], unit[1][i] = c->mean_lo[at + i], unit[2][i] = c->rstd[at + i];
    data[0][i] = x[i], data[1][i] = dy[i];
  }
  across_group(unit[0], unit[1], unit[2], data[0], data[1], sums);
}

static NORMA_TARGET void across_row(norma_type type, const norma_slopes *c, const void *x, const void *dy, int64_t n,
                                    double sum[2]) {
  NORMA_ALIGNED float x_room[NORMA_GROUP], dy_room[NORMA_GROUP], dz_room[NORMA_GROUP];
  quad sums[2] = {quad_set(0), quad_set(0)};
  for (int64_t i = 0; i < n; i += NORMA_GROUP) {
    int64_t here = n - i < NORMA_GROUP ? n - i : NORMA_GROUP;
    const float *xs = here == NORMA_GROUP ? load_group(type, x, i, x_room) : load_few(type, x, i, here, x_room);
    const float *dys = load_dz(type, c, 0, xs, dy, i, here, dy_room, dz_room);
    if (here == NORMA_GROUP) across_group(c->mean + i, c->mean_lo + i, c->rstd + i, xs, dys, sums);
    else across_rest(c, i, xs, dys, here, sums);
  }
  quads_end(sums[0], sums[1], sum);
}

/* ----------------------------------------------------------------------------------------------------- columns --- */

/* Accumulators of columns, as many as a stretch of parameters has. */
NORMA_INLINE void quarter_end(double *into, const oct lane[4]) {
  oct sum = oct_add(oct_add(lane[0], lane[1]), oct_add(lane[2], lane[3]));
  oct_store(into, oct_add(oct_load(into), sum));
}

/* A quarter of rows, each of its own unit: the first 4 i of them are in lanes 0 to 3, i times. */
NORMA_INLINE void across_quarter(const column_views *v, const norma_slopes *p, int64_t row, int rows, int64_t column,
                                 int64_t wide, int64_t dy_at, double *first, double *second) {
  oct zero = oct_set(0), q_lane[4] = {zero, zero, zero, zero}, x_lane[4] = {zero, zero, zero, zero};
  int64_t at = row * v->x_stride + column, unit = row * p->unit_step;
  for (int r = 0; r < rows; r += 4) {
  NORMA_UNROLL(4)
    for (int lane = 0; lane < 4; lane++) {
      if (rows < NORMA_QUARTER && r + lane >= rows) break;
      oct x = load_columns(v->type, v->x, at, wide);
      oct q = load_columns(v->dy_type, v->dy, dy_at, wide);
      oct d = oct_sub(oct_sub(x, oct_set(p->mean[unit])), oct_set(p->mean_lo[unit]));
      q_lane[lane] = oct_add(q_lane[lane], q);
      x_lane[lane] = oct_add(x_lane[lane], oct_mul(q, oct_mul(d, oct_set(p->rstd[unit]))));
      at += v->x_stride;
      dy_at += v->dy_stride;
      unit += p->unit_step;
    }
  }
  quarter_end(first, q_lane);
  quarter_end(second, x_lane);
}

NORMA_INLINE void across_columns(const column_views *v, const norma_slopes *p, int64_t n, int64_t columns,
                                 double *sum) {
  NORMA_ALIGNED double first[4][NORMA_COLUMNS], second[4][NORMA_COLUMNS];
  column_room room;
  memset(first, 0, sizeof first);
  memset(second, 0, sizeof second);
  for (int64_t r = 0; r < n; r += NORMA_QUARTER) {
    int k = (int)(r / NORMA_QUARTER % 4), rows = n - r < NORMA_QUARTER ? (int)(n - r) : NORMA_QUARTER;
    int64_t c = 0, dy_at = r * v->dy_stride;
    column_views here = *v;
    if (p->z) {
      dz_columns(&here, p, r, rows, 1, columns, &room);
      dy_at = 0;
    }
    for (; rows == NORMA_QUARTER && c + 8 <= columns; c += 8) {
      for (int i = 0; i < NORMA_QUARTER && c % 16 == 0; i++) { /* the next quarter */
        prefetch_at(v->type, v->x, (r + NORMA_QUARTER + i) * v->x_stride + c);
        prefetch_at(v->type, v->dy, (r + NORMA_QUARTER + i) * v->dy_stride + c);
      }
      across_quarter(&here, p, r, NORMA_QUARTER, c, 8, dy_at + c, &first[k][c], &second[k][c]);
    }
    for (; c < columns; c += 8)
      across_quarter(&here, p, r, rows, c, columns - c, dy_at + c, &first[k][c], &second[k][c]);
  }
  for (int64_t c = 0; c < columns; c++) {
    sum[c] = (first[0][c] + first[1][c]) + (first[2][c] + first[3][c]);
    sum[columns + c] = (second[0][c] + second[1][c]) + (second[2][c] + second[3][c]);
  }
}

/* -------------------------------------------------------------------------------------------------- either tree --- */

static NORMA_TARGET void row_gradients(norma_type type, const norma_slopes *slopes, const void *x, const void *dy,
                                       int64_t n, double pivot, double sum[2]) {
  if (slopes->unit_step) across_row(type, slopes, x, dy, n, sum);
  else if (slopes->weight && slopes->weight_step) gradients_row(type, slopes, 0, true, x, dy, n, pivot, sum);
  else gradients_row(type, slopes, 0, false, x, dy, n, pivot, sum);
}

static NORMA_TARGET void column_gradients(norma_type type, const norma_slopes *p, bool by_row, const void *x,
                                          int64_t x_stride, const void *dy, int64_t dy_stride, int64_t n,
                                          int64_t columns, const double *pivot, double *sum) {
  column_sums s;
  column_views v = {type, type, x, dy, x_stride, dy_stride};
  if (type == NORMA_F32) v.type = v.dy_type = NORMA_F32;
  if (by_row) {
    if (type == NORMA_F32) across_columns(&v, p, n, columns, sum);
    else across_columns(&v, p, n, columns, sum);
    return;
  }
  if (!p->weight) {
    if (type == NORMA_F32) gradients_all(&v, p, n, columns, pivot, sum);
    else gradients_all(&v, p, n, columns, pivot, sum);
    return;
  }
  gradients_columns(&v, p, true, n, columns, p->mean, pivot, &s);
  columns_end(s.first, n, columns, sum);
  columns_end(s.second, n, columns, sum + columns);
}

#endif
