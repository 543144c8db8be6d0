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
  int64_t size = element_bytes(v->type);
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

/* The rows of a lane: x and dy of the first, from one to the next, and from each to one that is read soon. */
typedef struct column_lane {
  norma_type type, dy_type;
  const void *x, *dy;
  int64_t x_at, dy_at, x_step, dy_step;
  int64_t row; /* the first */
  const void *dy_next; /* dy itself, which dz is made of */
  int64_t x_ahead, dy_next_at, dy_next_step;
} column_lane;

/* What is subtracted from x; and, where the weight changes with the row, what the second sum and the first need. */
typedef struct column_slopes {
  oct center, mean_lo, rstd, pivot;
} column_slopes;

NORMA_INLINE column_slopes column_slopes_at(const norma_slopes *p, bool weights, const double *center,
                                            const double *pivot, int64_t c) {
  column_slopes s = {oct_load(center + c), oct_set(0), oct_set(1), oct_load(pivot + c)};
  if (weights) s.mean_lo = oct_load(p->mean_lo + c), s.rstd = oct_load(p->rstd + c);
  return s;
}

/* takes_x: the center is 0. */
NORMA_INLINE void gradients_row_of(two_sums *sums, const column_slopes *s, bool weights, bool takes_x, oct x, oct q,
                                   oct gamma) {
  oct d = takes_x ? x : oct_sub(x, s->center);
  if (weights) {
    oct q_xhat = oct_mul(q, oct_mul(oct_sub(d, s->mean_lo), s->rstd));
    sums->first = oct_add(sums->first, oct_sub(oct_mul(q, gamma), s->pivot));
    sums->second = oct_add(sums->second, oct_mul(q_xhat, gamma));
  } else {
    sums->first = oct_add(sums->first, q);
    sums->second = takes_x ? oct_exact_fma(q, d, sums->second) : oct_add(sums->second, oct_mul(q, d));
  }
}

NORMA_INLINE oct gamma_of_row(const norma_slopes *p, bool weights, int64_t row) {
  return oct_set(weights ? p->weight[row * p->weight_row] : 1);
}

/* As moments_lane. */
NORMA_INLINE void gradients_lane(const column_lane *l, const norma_slopes *p, bool weights, bool takes_x, int rows,
                                 int octs, int64_t wide, int64_t c, const double *center, const double *pivot,
                                 two_sums *sums) {
  column_slopes slopes[OCTS];
  int64_t x_at = l->x_at + c, dy_at = l->dy_at + c, dy_next_at = l->dy_next_at + c;
  for (int k = 0; k < octs; k++) {
    slopes[k] = column_slopes_at(p, weights, center, pivot, c + 8 * k);
    sums[k] = sums_of_nothing();
  }
  NORMA_UNROLL(8)
  for (int r = 0; r < rows; r++, x_at += l->x_step, dy_at += l->dy_step, dy_next_at += l->dy_next_step) {
    oct gamma = gamma_of_row(p, weights, l->row + r * NORMA_LANES);
    prefetch_at(l->type, l->x, x_at + l->x_ahead);
    prefetch_at(l->type, l->dy_next, dy_next_at);
    for (int k = 0; k < octs; k++)
      gradients_row_of(&sums[k], &slopes[k], weights, takes_x, load_columns(l->type, l->x, x_at + 8 * k, wide),
                       load_columns(l->dy_type, l->dy, dy_at + 8 * k, wide), gamma);
  }
}

/* A lane of the group that starts at row r. */
NORMA_INLINE column_lane lane_of(const column_views *v, int64_t r, int lane) {
  int64_t row = r + lane, next = row_after_lane(r, lane);
  column_lane l = {.type = v->type, .dy_type = v->dy_type, .x = v->x, .dy = v->dy, .row = row, .dy_next = v->dy};
  l.x_at = row * v->x_stride, l.x_step = NORMA_LANES * v->x_stride;
  l.dy_at = row * v->dy_stride, l.dy_step = NORMA_LANES * v->dy_stride;
  l.x_ahead = (next - row) * v->x_stride;
  l.dy_next_at = next * v->dy_stride, l.dy_next_step = l.dy_step;
  return l;
}

NORMA_INLINE void gradients_columns(const column_views *v, const norma_slopes *p, bool weights, int64_t n,
                                    int64_t columns, const double *center, const double *pivot, column_sums *s) {
  enum { ROWS = NORMA_GROUP / NORMA_LANES };
  column_room room;
  int64_t whole = columns - columns % SIDE;
  bool takes_x[NORMA_COLUMNS / SIDE];
  for (int64_t c = 0; c < whole; c += SIDE) takes_x[c / SIDE] = !weights && side_is_zero(center + c);
  for (int64_t r = 0; r < n; r += NORMA_GROUP) {
    for (int lane = 0; lane < NORMA_LANES && r + lane < n; lane++) {
      int rows = rows_of_lane(r, lane, n);
      int64_t c = 0;
      column_lane l = lane_of(v, r, lane);
      two_sums sums[OCTS];
      if (p->z) {
        column_views here = *v;
        dz_columns(&here, p, l.row, rows, NORMA_LANES, columns, &room);
        l.dy = here.dy, l.dy_type = here.dy_type, l.dy_at = 0, l.dy_step = here.dy_stride;
      }
      for (; c < whole; c += SIDE) {
        bool x = takes_x[c / SIDE];
        if (rows == ROWS && x) gradients_lane(&l, p, weights, true, ROWS, OCTS, 8, c, center, pivot, sums);
        else if (x) gradients_lane(&l, p, weights, true, rows, OCTS, 8, c, center, pivot, sums);
        else gradients_lane(&l, p, weights, false, rows, OCTS, 8, c, center, pivot, sums);
        octs_end(s, lane, c, r == 0, sums, OCTS);
      }
      for (; c < columns; c += 8) {
        gradients_lane(&l, p, weights, false, rows, 1, columns - c, c, center, pivot, sums);
        octs_end(s, lane, c, r == 0, sums, 1);
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
