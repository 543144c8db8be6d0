/* Template: a tile of up to 16 rows, each its own unit, whose columns are the parameters', as in layer norm. One
 * reading gives the sums of the rows, for dx, and a quarter of those down the columns, for dweight and dbias. */
#ifndef NORMA_TILES_H
#define NORMA_TILES_H

#include "rows_backward.h"

/* What a tile can leave out with the same bits: nothing; - mean_lo, where it is 0 for all rows; in RMS norm the mean
 * too, the sum of q, which nobody asks for, and that of dy, unless dbias is wanted. */
typedef enum tile_kind { TILE_FULL, TILE_NEAR, TILE_RMS } tile_kind;

/* Sums of 64 columns in each lane of the quarter. */
typedef struct tile_lanes {
  NORMA_ALIGNED double first[4][NORMA_GROUP], second[4][NORMA_GROUP];
} tile_lanes;

/* Rows of one lane: the elements of a group, and what their unit is. */
typedef struct lane_rows {
  const float *x[4], *dy[4];
  oct mean[4], mean_lo[4], rstd[4], minus_pivot[4];
  two_sums sums[4]; /* of the group */
} lane_rows;

/* Four positions of a lane's rows from `at` on, 16 columns; the first n columns of the group are there, and dy and
 * gamma are 0 behind them. */
NORMA_INLINE void lane_quarter(tile_kind kind, lane_rows *l, int count, const double *gamma, int at, int n,
                               double *first, double *second) {
  oct column_first[2], column_second[2];
  for (int i = 0; i < 2; i++) column_first[i] = column_second[i] = oct_set(0);
  NORMA_UNROLL(4)
  for (int j = 0; j < count; j++) {
    two_sums row = l->sums[j];
  NORMA_UNROLL(2)
    for (int i = 0; i < 2; i++) {
      int c = at + 8 * i;
      oct dy = oct_floats(l->dy[j] + c), weight = oct_load(gamma + c), d = oct_floats(l->x[j] + c);
      if (kind != TILE_RMS) d = oct_sub(d, l->mean[j]);
      if (kind == TILE_FULL) d = oct_sub(d, l->mean_lo[j]);
      oct dy_xhat = oct_mul(dy, oct_mul(d, l->rstd[j]));
      if (kind != TILE_RMS) {
        oct about = oct_exact_fma(dy, weight, l->minus_pivot[j]);
        if (n < NORMA_GROUP && c + 8 > n) about = oct_first(about, c < n ? n - c : 0);
        row.first = oct_add(row.first, about);
        column_first[i] = oct_add(column_first[i], dy);
      }
      row.second = oct_add(row.second, oct_mul(dy_xhat, weight));
      column_second[i] = oct_add(column_second[i], dy_xhat);
    }
    l->sums[j] = row;
  }
  for (int i = 0; i < 2; i++) {
    if (kind != TILE_RMS) oct_store(first + at + 8 * i, column_first[i]);
    oct_store(second + at + 8 * i, column_second[i]);
  }
}

/* How many columns before they are read x and dy are fetched; at the end of the rows it is those of the next tile. The
 * sums fetch and dx does not: both fetching and storing would share what a core has for lines on their way. */
enum { TILE_AHEAD = 2 * NORMA_GROUP };

/* n <= 64 columns of all rows from element `at` on. */
NORMA_INLINE void tile_group(norma_type type, tile_kind kind, const norma_tile *tile, int rows, int64_t at, int n,
                             const double *gamma, two_sums *sums, tile_lanes *lanes) {
  NORMA_ALIGNED float room[8][NORMA_GROUP], dz[4][NORMA_GROUP];
  lane_rows l;
  bool wraps = at + TILE_AHEAD >= tile->width, fetch = !wraps || tile->x_next;
  int64_t soon = !wraps ? at + TILE_AHEAD : tile->width > TILE_AHEAD ? at + TILE_AHEAD - tile->width : at;
  for (int lane = 0; lane < 4; lane++) {
    int count = (rows - lane + 3) / 4, whole = count == 4;
    if (lane >= rows) break; /* lanes_end knows */
    for (int j = 0; j < count; j++) {
      int r = lane + 4 * j;
      l.x[j] = n == NORMA_GROUP ? load_group(type, tile->x[r], at, room[j])
                                : load_rest(type, tile->x[r], at, n, room[j]);
      l.dy[j] = n == NORMA_GROUP ? load_group(type, tile->dy[r], at, room[4 + j])
                                 : load_rest(type, tile->dy[r], at, n, room[4 + j]);
      if (tile->z) {
        l.dy[j] = dz_group(type, tile->z, r, at, l.x[j], l.dy[j], n, dz[j]);
        if (tile->keeps) memcpy(tile->dz[r] + at, dz[j], (size_t)n * sizeof dz[j][0]);
      }
      if (fetch) prefetch_group(type, tile->x[r], soon + (wraps ? tile->x_next : 0));
      if (fetch) prefetch_group(type, tile->dy[r], soon + (wraps ? tile->dy_next : 0));
      l.mean[j] = oct_set(tile->mean[r]), l.mean_lo[j] = oct_set(tile->mean_lo[r]);
      l.rstd[j] = oct_set(tile->rstd[r]), l.minus_pivot[j] = oct_set(-tile->pivot[r]);
      l.sums[j] = sums_of_nothing();
    }
    for (int c = 0; c < n; c += NORMA_QUARTER)
      if (whole) lane_quarter(kind, &l, 4, gamma, c, n, lanes->first[lane], lanes->second[lane]);
      else lane_quarter(kind, &l, count, gamma, c, n, lanes->first[lane], lanes->second[lane]);
    for (int j = 0; j < count; j++) sums_add(&sums[lane + 4 * j], l.sums[j]);
  }
}

/* A quarter of n columns joins their accumulators; of fewer than 4 rows the other lanes are empty. */
NORMA_INLINE void lanes_end(double lane[4][NORMA_GROUP], int rows, int n, double *sum) {
  for (int c = 0; c < n && rows >= 4; c++) sum[c] += (lane[0][c] + lane[1][c]) + (lane[2][c] + lane[3][c]);
  for (int c = 0; c < n && rows == 3; c++) sum[c] += (lane[0][c] + lane[1][c]) + lane[2][c];
  for (int c = 0; c < n && rows == 2; c++) sum[c] += lane[0][c] + lane[1][c];
  for (int c = 0; c < n && rows == 1; c++) sum[c] += lane[0][c];
}

NORMA_INLINE void gamma_of(const norma_tile *tile, int64_t at, int n, double *gamma) {
  for (int c = 0; c < n; c++) gamma[c] = tile->weight ? (double)tile->weight[at + c] : 1;
  for (int c = n; c < NORMA_GROUP; c++) gamma[c] = 0;
}

NORMA_INLINE void tile_rows(norma_type type, tile_kind kind, const norma_tile *tile, int rows, int64_t from, int64_t n,
                            double *row_sum, double *first, double *second) {
  NORMA_ALIGNED double gamma[NORMA_GROUP];
  two_sums sums[NORMA_QUARTER];
  tile_lanes lanes;
  for (int r = 0; r < rows; r++) sums[r] = sums_of_nothing();
  for (int64_t i = 0; i < n; i += NORMA_GROUP) {
    int here = n - i < NORMA_GROUP ? (int)(n - i) : NORMA_GROUP;
    gamma_of(tile, from + i, here, gamma);
    if (here == NORMA_GROUP) tile_group(type, kind, tile, rows, from + i, NORMA_GROUP, gamma, sums, &lanes);
    else tile_group(type, kind, tile, rows, from + i, here, gamma, sums, &lanes);
    if (kind != TILE_RMS) lanes_end(lanes.first, rows, here, first + i);
    lanes_end(lanes.second, rows, here, second + i);
  }
  for (int r = 0; r < rows; r++) sums_end(&sums[r], row_sum + 2 * r);
}

NORMA_INLINE tile_kind kind_of_tile(const norma_tile *tile, int rows) {
  if (tile->rms) return TILE_RMS;
  for (int r = 0; r < rows; r++)
    if (tile->mean_lo[r] != 0) return TILE_FULL;
  return TILE_NEAR;
}

NORMA_INLINE void tile_of_kind(norma_type type, const norma_tile *tile, int rows, int64_t from, int64_t n,
                               double *row_sum, double *first, double *second) {
  tile_kind kind = kind_of_tile(tile, rows);
  if (kind == TILE_RMS) tile_rows(type, TILE_RMS, tile, rows, from, n, row_sum, first, second);
  else if (kind == TILE_NEAR) tile_rows(type, TILE_NEAR, tile, rows, from, n, row_sum, first, second);
  else tile_rows(type, TILE_FULL, tile, rows, from, n, row_sum, first, second);
}

static NORMA_TARGET void tile_gradients(norma_type type, const norma_tile *tile, int rows, int64_t from, int64_t n,
                                        double *row_sum, double *first, double *second) {
  if (type == NORMA_F32) tile_of_kind(NORMA_F32, tile, rows, from, n, row_sum, first, second);
  else tile_of_kind(type, tile, rows, from, n, row_sum, first, second);
}

#endif
