/* Template: the sums of the backward pass down neighbouring columns. */
#ifndef NORMA_COLUMNS_BACKWARD_H
#define NORMA_COLUMNS_BACKWARD_H

#include "columns.h"
#include "rows_backward.h"

/* ---------------------------------------------------------------------------------------------------- gradients --- */

typedef struct column_views {
  norma_type type, dy_type; /* dz is float32 */
  const void *x, *dy;
  int64_t x_stride, dy_stride;
} column_views;

/* dz of the rows of a lane, or of a quarter. */
typedef struct column_room {
  NORMA_ALIGNED float dz[NORMA_QUARTER][NORMA_COLUMNS];
} column_room;

/* So many rows of dy, `apart` rows from one to the next, become dz, where it is kept or else in `room`; the views then
 * have these rows of it, and nothing else, as dy. `p` has the coefficients of row 0. */
NORMA_INLINE void dz_columns(column_views *v, const norma_slopes *p, int64_t first, int rows, int64_t apart,
                                int64_t columns, column_room *room) {
  NORMA_ALIGNED float x_room[NORMA_GROUP], dy_room[NORMA_GROUP], last[NORMA_GROUP];
  int64_t size = v->type == NORMA_F32 ? 4 : 2;
  float *start = p->dz ? p->dz + first * p->dz_row : room->dz[0];
  int64_t step = p->dz ? apart * p->dz_row : NORMA_COLUMNS;
  for (int r = 0; r < rows; r++) {
    int64_t row = first + r * apart;
    float *dz = start + r * step;
    const char *x = (const char *)v->x + row * v->x_stride * size;
    const char *dy = (const char *)v->dy + row * v->dy_stride * size;
    for (int64_t i = 0; i < columns; i += NORMA_GROUP) {
      int64_t n = columns - i < NORMA_GROUP ? columns - i : NORMA_GROUP;
      bool whole = n == NORMA_GROUP;
      const float *xs = whole ? load_group(v->type, x, i, x_room) : load_rest(v->type, x, i, n, x_room);
      const float *dys = whole ? load_group(v->type, dy, i, dy_room) : load_rest(v->type, dy, i, n, dy_room);
      dz_group(v->type, p->z, row, i, xs, dys, n, whole ? dz + i : last);
      if (!whole) memcpy(dz + i, last, (size_t)n * sizeof *last);
    }
  }
  v->dy = start, v->dy_type = NORMA_F32, v->dy_stride = step;
}

/* ------------------------------------------------------------------------------------------ sums of the columns --- */

/* Rows of a lane from `row` on; dy has its own, from dy_at on and dy_step elements apart. takes_x: the center, which is
 * subtracted from x, is 0. */
NORMA_INLINE two_sums gradients_lane(const column_views *v, const norma_slopes *p, bool weights, bool takes_x,
                                     int64_t row, int rows, int64_t column, int64_t wide, int64_t dy_at,
                                     int64_t dy_step, oct center, oct pivot) {
  two_sums sums = sums_of_nothing();
  oct mean_lo = oct_set(0), rstd = oct_set(1);
  int64_t at = row * v->x_stride + column, step = NORMA_LANES * v->x_stride;
  if (weights) mean_lo = oct_load(p->mean_lo + column), rstd = oct_load(p->rstd + column);
  NORMA_UNROLL(8)
  for (int r = 0; r < rows; r++, at += step, dy_at += dy_step) {
    oct d = wide >= 8 ? load_oct(v->type, v->x, at) : load_oct_rest(v->type, v->x, at, wide);
    oct q = wide >= 8 ? load_oct(v->dy_type, v->dy, dy_at) : load_oct_rest(v->dy_type, v->dy, dy_at, wide);
    if (!takes_x) d = oct_sub(d, center);
    if (weights) {
      const float *weight = p->weight + (row + r * NORMA_LANES) * p->weight_row;
      oct gamma = oct_set(*weight + (float)p->weight_offset);
      d = oct_mul(q, oct_mul(oct_sub(d, mean_lo), rstd));
      sums.first = oct_add(sums.first, oct_sub(oct_mul(q, gamma), pivot));
      sums.second = oct_add(sums.second, oct_mul(d, gamma));
      continue;
    }
    sums.first = oct_add(sums.first, q);
    sums.second = takes_x ? oct_exact_fma(q, d, sums.second) : oct_add(sums.second, oct_mul(q, d));
  }
  return sums;
}

NORMA_INLINE void gradients_columns(const column_views *v, const norma_slopes *p, bool weights, int64_t n,
                                    int64_t columns, const double *center, const double *pivot, column_sums *s) {
  enum { ROWS = NORMA_GROUP / NORMA_LANES };
  column_room room;
  bool takes_x[NORMA_COLUMNS / 8];
  int lines = v->type == NORMA_F32 ? 4 : 2;
  for (int64_t c = 0; c < columns; c += 8) takes_x[c / 8] = !weights && eight_are_zero(center + c);
  for (int64_t r = 0; r < n; r += NORMA_GROUP) {
    for (int lane = 0; lane < NORMA_LANES && r + lane < n; lane++) {
      int rows = rows_of_lane(r, lane, n);
      int64_t row = r + lane, next = row_after_lane(r, lane), dy_at = row * v->dy_stride;
      int64_t dy_step = NORMA_LANES * v->dy_stride;
      lines_ahead x_ahead = ahead_of(v->type, v->x, next * v->x_stride, NORMA_LANES * v->x_stride, columns);
      lines_ahead dy_ahead = ahead_of(v->type, v->dy, next * v->dy_stride, dy_step, columns);
      column_views here = *v;
      if (p->z) {
        dz_columns(&here, p, row, rows, NORMA_LANES, columns, &room);
        dy_at = 0, dy_step = here.dy_stride;
      }
      for (int64_t c = 0; c < columns; c += 8) {
        oct from = oct_load(center + c), about = oct_load(pivot + c);
        two_sums sums;
        prefetch_lines(&x_ahead, lines);
        prefetch_lines(&dy_ahead, lines);
        if (rows < ROWS || c + 8 > columns)
          sums = gradients_lane(&here, p, weights, takes_x[c / 8], row, rows, c, columns - c, dy_at + c, dy_step, from,
                                about);
        else if (takes_x[c / 8])
          sums = gradients_lane(&here, p, weights, true, row, ROWS, c, 8, dy_at + c, dy_step, from, about);
        else sums = gradients_lane(&here, p, weights, false, row, ROWS, c, 8, dy_at + c, dy_step, from, about);
        lane_end(&s->first[lane][c], r == 0, sums.first);
        lane_end(&s->second[lane][c], r == 0, sums.second);
      }
    }
  }
}

/* The sums of all columns; those that are not finite once more about the mean. */
NORMA_INLINE void gradients_all(const column_views *v, const norma_slopes *p, int64_t n, int64_t columns,
                                const double *pivot, double *sum) {
  double center[NORMA_COLUMNS] = {0}, again[2 * NORMA_COLUMNS];
  column_sums s;
  int64_t not_finite = 0;
  for (int64_t c = 0; c < columns; c++)
    if (!norma_takes_x(p->mean[c], p->rstd[c], load_float(v->type, v->x, c))) center[c] = p->mean[c];
  gradients_columns(v, p, false, n, columns, center, pivot, &s);
  columns_end(s.first, n, columns, sum);
  columns_end(s.second, n, columns, sum + columns);
  for (int64_t c = 0; c < columns; c++) {
    not_finite += !isfinite(sum[c]);
    if (center[c] == 0) sum[columns + c] -= p->mean[c] * sum[c];
  }
  if (__builtin_expect(not_finite == 0, 1)) return;
  gradients_columns(v, p, false, n, columns, p->mean, pivot, &s);
  columns_end(s.first, n, columns, again);
  columns_end(s.second, n, columns, again + columns);
  for (int64_t c = 0; c < columns; c++)
    if (!isfinite(sum[c])) sum[columns + c] = again[columns + c];
}

#endif
