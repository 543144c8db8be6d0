/* Template: the sums of the tree down neighbouring columns. The rows of one lane of a group, 8 apart, are summed in
 * registers, octs of columns side by side; the lanes of a column are kept beside its neighbours. */
#ifndef NORMA_COLUMNS_H
#define NORMA_COLUMNS_H

#include "rows.h"

typedef struct column_sums {
  NORMA_ALIGNED double first[NORMA_LANES][NORMA_COLUMNS], second[NORMA_LANES][NORMA_COLUMNS];
} column_sums;

/* Eight neighbours as float32. */
NORMA_INLINE const float *load_eight(norma_type type, const void *from, int64_t at, float *room) {
  if (type == NORMA_F32) return (const float *)from + at;
#if defined(NORMA_ISA_AVX2) || defined(NORMA_ISA_AVX512)
  __m128i halves = _mm_loadu_si128((const __m128i *)((const uint16_t *)from + at));
  __m256i high = _mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16);
  if (type == NORMA_BF16) _mm256_storeu_ps(room, _mm256_castsi256_ps(high));
  else _mm256_storeu_ps(room, _mm256_cvtph_ps(halves));
#else
  if (type == NORMA_BF16) widen_bf16((const uint16_t *)from + at, room, 8);
  else norma_widen_f16((const uint16_t *)from + at, room, 8);
#endif
  return room;
}

NORMA_INLINE oct load_oct(norma_type type, const void *from, int64_t at) {
  NORMA_ALIGNED float room[8];
  return oct_floats(load_eight(type, from, at, room));
}

/* Eight neighbours, of which `wide` are there if it is less. */
NORMA_INLINE oct load_columns(norma_type type, const void *from, int64_t at, int64_t wide) {
  NORMA_ALIGNED float room[NORMA_GROUP];
  if (wide >= 8) return load_oct(type, from, at);
  load_rest(type, from, at, wide, room);
  return oct_floats(room);
}

/* Octs of neighbouring columns that are summed side by side: so many columns are a line, or fit in the registers. */
#if defined(NORMA_ISA_AVX2) || defined(NORMA_ISA_AVX512) || defined(NORMA_ISA_NEON)
enum { OCTS = 2, SIDE = 8 * OCTS };
#else
enum { OCTS = 1, SIDE = 8 * OCTS };
#endif

/* A line that is read soon; it may be past the end. */
NORMA_INLINE void prefetch_at(norma_type type, const void *from, int64_t at) {
  __builtin_prefetch((const char *)((uintptr_t)from + (uintptr_t)(at * element_bytes(type))));
}

/* The rows of a lane of the group that starts at `row`, of n in all. */
NORMA_INLINE int rows_of_lane(int64_t row, int lane, int64_t n) {
  int64_t rows = (n - row - lane + NORMA_LANES - 1) / NORMA_LANES;
  return rows < NORMA_GROUP / NORMA_LANES ? (int)rows : NORMA_GROUP / NORMA_LANES;
}
/* The first row of the lane that is fetched with it: the fourth after it, since few columns are soon done. */
NORMA_INLINE int64_t row_after_lane(int64_t row, int lane) {
  int next = lane + 4;
  return next < NORMA_LANES ? row + next : row + NORMA_GROUP + next - NORMA_LANES;
}

/* The lane of the first group is the accumulator; the others are added. */
NORMA_INLINE void lane_end(double *into, bool first_group, oct sum) {
  oct_store(into, first_group ? sum : oct_add(oct_load(into), sum));
}

/* Of octs from column c on. */
NORMA_INLINE void octs_end(column_sums *s, int lane, int64_t c, bool first_group, const two_sums *sums, int octs) {
  for (int k = 0; k < octs; k++, c += 8) {
    lane_end(&s->first[lane][c], first_group, sums[k].first);
    lane_end(&s->second[lane][c], first_group, sums[k].second);
  }
}

/* ((A0 + A4) + (A1 + A5)) + ((A2 + A6) + (A3 + A7)) of each column; lanes of runs that are shorter are empty. */
NORMA_INLINE void columns_end(double (*lane)[NORMA_COLUMNS], int64_t n, int64_t columns, double *sum) {
  for (int64_t l = n; l < NORMA_LANES; l++) memset(lane[l], 0, (size_t)columns * sizeof *lane[l]);
  for (int64_t c = 0; c < columns; c++) {
    double a = (lane[0][c] + lane[4][c]) + (lane[1][c] + lane[5][c]);
    sum[c] = a + ((lane[2][c] + lane[6][c]) + (lane[3][c] + lane[7][c]));
  }
}

/* ------------------------------------------------------------------------------------------------------ moments --- */

NORMA_INLINE void moments_row_of(two_sums *sums, oct d, bool about_zero, oct pivot) {
  if (!about_zero) d = oct_sub(d, pivot);
  sums->first = oct_add(sums->first, d);
  sums->second = about_zero ? oct_exact_fma(d, d, sums->second) : oct_add(sums->second, oct_mul(d, d));
}

/* Octs of a lane's rows, `step` elements apart, from element `at` on; each row fetches the one `ahead` of it. Of a last
 * oct only `wide` columns may be there; about_zero is false for it, and subtracting a pivot of 0 changes nothing. */
NORMA_INLINE void moments_lane(norma_type type, const void *x, int64_t at, int64_t step, int rows, int64_t ahead,
                               int octs, int64_t wide, bool about_zero, const double *pivots, two_sums *sums) {
  oct pivot[OCTS];
  for (int k = 0; k < octs; k++) pivot[k] = oct_load(pivots + 8 * k), sums[k] = sums_of_nothing();
  NORMA_UNROLL(8)
  for (int r = 0; r < rows; r++, at += step) {
    prefetch_at(type, x, at + ahead);
    for (int k = 0; k < octs; k++)
      moments_row_of(&sums[k], load_columns(type, x, at + 8 * k, wide), about_zero, pivot[k]);
  }
}

/* Whether the pivots of columns side by side are 0. */
NORMA_INLINE bool side_is_zero(const double *v) {
  int zero = 0;
  for (int i = 0; i < SIDE; i++) zero += v[i] == 0;
  return zero == SIDE;
}

NORMA_INLINE void moments_columns(norma_type type, const void *x, int64_t stride, int64_t n, int64_t columns,
                                  const double *pivot, column_sums *s) {
  enum { ROWS = NORMA_GROUP / NORMA_LANES };
  const int64_t step = NORMA_LANES * stride, whole = columns - columns % SIDE;
  bool about_zero[NORMA_COLUMNS / SIDE];
  for (int64_t c = 0; c < whole; c += SIDE) about_zero[c / SIDE] = side_is_zero(pivot + c);
  for (int64_t r = 0; r < n; r += NORMA_GROUP) {
    for (int lane = 0; lane < NORMA_LANES && r + lane < n; lane++) {
      int rows = rows_of_lane(r, lane, n);
      int64_t at = (r + lane) * stride, ahead = (row_after_lane(r, lane) - r - lane) * stride, c = 0;
      two_sums sums[OCTS];
      for (; c < whole; c += SIDE) {
        bool zero = about_zero[c / SIDE];
        if (rows == ROWS && zero) moments_lane(type, x, at + c, step, ROWS, ahead, OCTS, 8, true, pivot + c, sums);
        else if (zero) moments_lane(type, x, at + c, step, rows, ahead, OCTS, 8, true, pivot + c, sums);
        else moments_lane(type, x, at + c, step, rows, ahead, OCTS, 8, false, pivot + c, sums);
        octs_end(s, lane, c, r == 0, sums, OCTS);
      }
      for (; c < columns; c += 8) {
        moments_lane(type, x, at + c, step, rows, ahead, 1, columns - c, false, pivot + c, sums);
        octs_end(s, lane, c, r == 0, sums, 1);
      }
    }
  }
}

NORMA_INLINE void pivots_of(norma_type type, const void *x, int64_t middle, int64_t last, int64_t columns,
                            double *restrict pivot) {
  for (int64_t i = 0; i < columns; i++)
    pivot[i] = norma_pivot_of(load_float(type, x, i), load_float(type, x, middle + i), load_float(type, x, last + i));
}

static NORMA_TARGET void column_pivots(norma_type type, const void *x, int64_t stride, int64_t n, int64_t columns,
                                       double *pivot) {
  int64_t middle = (n - 1) / 2 * stride, last = (n - 1) * stride;
  if (type == NORMA_F32) pivots_of(NORMA_F32, x, middle, last, columns, pivot);
  else pivots_of(type, x, middle, last, columns, pivot);
}

static NORMA_TARGET void column_moments(norma_type type, const void *x, int64_t stride, int64_t n, int64_t columns,
                                        const double *pivot, double *sum) {
  column_sums s;
  if (type == NORMA_F32) moments_columns(NORMA_F32, x, stride, n, columns, pivot, &s);
  else moments_columns(type, x, stride, n, columns, pivot, &s);
  columns_end(s.first, n, columns, sum);
  columns_end(s.second, n, columns, sum + columns);
}

#endif
