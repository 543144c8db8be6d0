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
  int64_t dy_first; /* the row that dy starts with */
} column_views;

/* dz of up to 16 rows. */
typedef struct column_room {
  NORMA_ALIGNED float dz[NORMA_QUARTER][NORMA_COLUMNS];
} column_room;

/* Rows row .. row + rows - 1 of dy become dz; `p` has the coefficients of row 0. */
NORMA_INLINE void dz_columns(const column_views *v, const norma_slopes *p, int64_t row, int rows, int64_t columns,
                             column_room *room) {
  NORMA_ALIGNED float x_room[NORMA_GROUP], dy_room[NORMA_GROUP], dz[NORMA_GROUP];
  int64_t size = v->type == NORMA_F32 ? 4 : 2;
  for (int r = 0; r < rows; r++) {
    norma_coefs c = *p->z;
    coefs_forward(v->type, &c, row + r);
    const char *x = (const char *)v->x + (row + r) * v->x_stride * size;
    const char *dy = (const char *)v->dy + (row + r) * v->dy_stride * size;
    for (int64_t i = 0; i < columns; i += NORMA_GROUP) {
      int64_t n = columns - i < NORMA_GROUP ? columns - i : NORMA_GROUP;
      bool whole = n == NORMA_GROUP;
      const float *xs = whole ? load_group(v->type, x, i, x_room) : load_rest(v->type, x, i, n, x_room);
      const float *dys = whole ? load_group(v->type, dy, i, dy_room) : load_rest(v->type, dy, i, n, dy_room);
      dz_group(v->type, &c, i, xs, dys, n, dz);
      memcpy(&room->dz[r][i], dz, (size_t)n * sizeof *dz);
      if (p->dz) memcpy(p->dz + (row + r) * p->dz_row + i, dz, (size_t)n * sizeof *dz);
    }
  }
}

NORMA_INLINE void gradients_quarter(const column_views *v, const norma_slopes *p, bool by_row, bool weights,
                                    int64_t row, int rows, int64_t column, int64_t wide, oct pivot, double *first,
                                    double *second) {
  oct zero = oct_set(0), q_lane[4] = {zero, zero, zero, zero}, x_lane[4] = {zero, zero, zero, zero};
  oct mean = zero, mean_lo = zero, rstd = zero;
  int64_t at = row * v->x_stride + column, dy_at = (row - v->dy_first) * v->dy_stride + column;
  int64_t unit = row * p->unit_step;
  if (!by_row) mean = oct_load(p->mean + column);
  if (!by_row && weights) mean_lo = oct_load(p->mean_lo + column), rstd = oct_load(p->rstd + column);
  for (int r = 0; r < rows; r += 4) {
  NORMA_UNROLL(4)
    for (int lane = 0; lane < 4; lane++) {
      if (rows < NORMA_QUARTER && r + lane >= rows) break;
      oct x = wide >= 8 ? load_oct(v->type, v->x, at) : load_oct_rest(v->type, v->x, at, wide);
      oct q = wide >= 8 ? load_oct(v->dy_type, v->dy, dy_at) : load_oct_rest(v->dy_type, v->dy, dy_at, wide);
      if (by_row) mean = oct_set(p->mean[unit]), mean_lo = oct_set(p->mean_lo[unit]), rstd = oct_set(p->rstd[unit]);
      if (weights) q = oct_mul(q, oct_set(p->weight[(row + r + lane) * p->weight_row] + (float)p->weight_offset));
      oct d = oct_sub(x, mean);
      if (by_row || weights) d = oct_mul(oct_sub(d, mean_lo), rstd);
      q_lane[lane] = oct_add(q_lane[lane], weights ? oct_sub(q, pivot) : q);
      x_lane[lane] = oct_add(x_lane[lane], oct_mul(q, d));
      at += v->x_stride;
      dy_at += v->dy_stride;
      unit += p->unit_step;
    }
  }
  quarter_end(first, q_lane);
  quarter_end(second, x_lane);
}

NORMA_INLINE void gradients_columns(const column_views *v, const norma_slopes *p, bool by_row, bool weights, int64_t n,
                                    int64_t columns, const double *pivot, column_sums *s) {
  column_room room;
  for (int64_t r = 0; r < n; r += NORMA_QUARTER) {
    int k = (int)(r / NORMA_QUARTER % 4), rows = n - r < NORMA_QUARTER ? (int)(n - r) : NORMA_QUARTER;
    int lines = v->type == NORMA_F32 ? 8 : 4;
    lines_ahead x_ahead = ahead_of(v->type, v->x, (r + NORMA_QUARTER) * v->x_stride, v->x_stride, columns);
    lines_ahead dy_ahead = ahead_of(v->type, v->dy, (r + NORMA_QUARTER) * v->dy_stride, v->dy_stride, columns);
    int64_t c = 0;
    column_views here = *v;
    if (p->z) {
      dz_columns(v, p, r, rows, columns, &room);
      here.dy = room.dz, here.dy_type = NORMA_F32, here.dy_stride = NORMA_COLUMNS;
      here.dy_first = r;
    }
    for (; rows == NORMA_QUARTER && c + 8 <= columns; c += 8) {
      prefetch_lines(&x_ahead, lines);
      prefetch_lines(&dy_ahead, lines);
      gradients_quarter(&here, p, by_row, weights, r, NORMA_QUARTER, c, 8, oct_load(pivot + c), &s->first[k][c],
                        &s->second[k][c]);
    }
    for (; c < columns; c += 8)
      gradients_quarter(&here, p, by_row, weights, r, rows, c, columns - c, oct_load(pivot + c), &s->first[k][c],
                        &s->second[k][c]);
  }
}

static NORMA_TARGET void column_gradients(norma_type type, const norma_slopes *p, bool by_row, const void *x,
                                          int64_t x_stride, const void *dy, int64_t dy_stride, int64_t n,
                                          int64_t columns, const double *pivot, double *sum) {
  column_sums s;
  memset(&s, 0, sizeof s);
  column_views v = {type, type, x, dy, x_stride, dy_stride, 0};
  bool weights = p->weight;
  if (type == NORMA_F32) v.type = v.dy_type = NORMA_F32;
  if (type == NORMA_F32 && by_row && !weights) gradients_columns(&v, p, true, false, n, columns, pivot, &s);
  else if (type == NORMA_F32 && !by_row && !weights) gradients_columns(&v, p, false, false, n, columns, pivot, &s);
  else gradients_columns(&v, p, by_row, weights, n, columns, pivot, &s);
  columns_end(&s, columns, sum);
}

#endif
