/* Template: the sums of the tree down neighbouring columns. 16 rows (a quarter) of 8 columns stay in registers, a row
 * in the lane that is its number modulo 4; a column's four accumulators are kept beside its neighbours'. */
#ifndef NORMA_COLUMNS_H
#define NORMA_COLUMNS_H

#include "blocks.h"

typedef struct column_sums {
  NORMA_ALIGNED double first[4][NORMA_COLUMNS], second[4][NORMA_COLUMNS];
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

/* Fewer than eight columns are left. */
NORMA_INLINE oct load_oct_rest(norma_type type, const void *from, int64_t at, int64_t n) {
  NORMA_ALIGNED float room[NORMA_GROUP];
  load_rest(type, from, at, n, room);
  return oct_floats(room);
}

/* The next 16 rows, in the order of addresses, a few lines for each step of 8 columns. */
typedef struct lines_ahead {
  const char *at;
  int64_t row_bytes, row_step, column;
} lines_ahead;

NORMA_INLINE lines_ahead ahead_of(norma_type type, const void *from, int64_t at, int64_t stride, int64_t columns) {
  int64_t size = type == NORMA_F32 ? 4 : 2;
  return (lines_ahead){(const char *)from + at * size, columns * size, stride * size, 0};
}

NORMA_INLINE void prefetch_lines(lines_ahead *a, int lines) {
  for (int i = 0; i < lines; i++) {
    __builtin_prefetch(a->at + a->column);
    a->column += 64;
    if (a->column >= a->row_bytes) a->column = 0, a->at += a->row_step;
  }
}

NORMA_INLINE void quarter_end(double *into, const oct lane[4]) {
  oct sum = oct_add(oct_add(lane[0], lane[1]), oct_add(lane[2], lane[3]));
  oct_store(into, oct_add(oct_load(into), sum));
}

/* (A0 + A1) + (A2 + A3) of each column. */
NORMA_INLINE void columns_end(const column_sums *s, int64_t columns, double *sum) {
  for (int64_t c = 0; c < columns; c++) {
    sum[c] = (s->first[0][c] + s->first[1][c]) + (s->first[2][c] + s->first[3][c]);
    sum[columns + c] = (s->second[0][c] + s->second[1][c]) + (s->second[2][c] + s->second[3][c]);
  }
}

/* ------------------------------------------------------------------------------------------------------ moments --- */

/* The first 4 i rows of a quarter are in lanes 0 to 3, i times; lanes start at 0, which changes no sum. */
NORMA_INLINE void moments_quarter(norma_type type, const void *x, int64_t at, int64_t stride, int rows, int64_t wide,
                                  oct pivot, double *first, double *second) {
  oct zero = oct_set(0), d_lane[4] = {zero, zero, zero, zero}, s_lane[4] = {zero, zero, zero, zero};
  for (int r = 0; r < rows; r += 4) {
  NORMA_UNROLL(4)
    for (int lane = 0; lane < 4; lane++, at += stride) {
      if (rows < NORMA_QUARTER && r + lane >= rows) break;
      oct d = oct_sub(wide >= 8 ? load_oct(type, x, at) : load_oct_rest(type, x, at, wide), pivot);
      d_lane[lane] = oct_add(d_lane[lane], d);
      s_lane[lane] = oct_add(s_lane[lane], oct_mul(d, d));
    }
  }
  quarter_end(first, d_lane);
  quarter_end(second, s_lane);
}

NORMA_INLINE void moments_columns(norma_type type, const void *x, int64_t stride, int64_t n, int64_t columns,
                                  const double *pivot, column_sums *s) {
  for (int64_t r = 0; r < n; r += NORMA_QUARTER) {
    int k = (int)(r / NORMA_QUARTER % 4), rows = n - r < NORMA_QUARTER ? (int)(n - r) : NORMA_QUARTER;
    lines_ahead ahead = ahead_of(type, x, (r + NORMA_QUARTER) * stride, stride, columns);
    int64_t c = 0;
    for (; rows == NORMA_QUARTER && c + 8 <= columns; c += 8) {
      prefetch_lines(&ahead, type == NORMA_F32 ? 8 : 4);
      moments_quarter(type, x, r * stride + c, stride, NORMA_QUARTER, 8, oct_load(pivot + c), &s->first[k][c],
                      &s->second[k][c]);
    }
    for (; c < columns; c += 8)
      moments_quarter(type, x, r * stride + c, stride, rows, columns - c, oct_load(pivot + c), &s->first[k][c],
                      &s->second[k][c]);
  }
}

static NORMA_TARGET void column_moments(norma_type type, const void *x, int64_t stride, int64_t n, int64_t columns,
                                        const double *pivot, double *sum) {
  column_sums s;
  memset(&s, 0, sizeof s);
  if (type == NORMA_F32) moments_columns(NORMA_F32, x, stride, n, columns, pivot, &s);
  else moments_columns(type, x, stride, n, columns, pivot, &s);
  columns_end(&s, columns, sum);
}

#endif
