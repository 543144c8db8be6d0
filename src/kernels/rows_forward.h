/* Template: y of a stretch of a row, consecutive in memory. */
#ifndef NORMA_ROWS_FORWARD_H
#define NORMA_ROWS_FORWARD_H

#include "rows.h"

/* --------------------------------------------------------------------------------------------------- the loops --- */

/* Elements of a row that are written; the coefficients are those of the first. */
typedef struct written_row {
  row_coefs row;
  const void *x, *after; /* NULL: nothing is added */
  int64_t n, x_ahead;
  bool relu;
} written_row;

/* Elements of a row that is measured meanwhile. */
typedef struct measured_row {
  const void *x;
  double pivot;
  two_sums sums;
} measured_row;

NORMA_INLINE void measure_group(norma_type type, const void *x, double pivot, int64_t i, two_sums *s) {
  prefetch_group(type, x, i + 16 * NORMA_GROUP);
  moments_piece(type, x, i, NORMA_GROUP, pivot, s);
}

NORMA_INLINE wide forward_quarters(const row_coefs *row, const shared_coefs *shared, bool units, bool weights,
                                   bool biases, int64_t at, const float *x, float *y, bool stream) {
  wide bad = wide_set(0);
  NORMA_UNROLL(4)
  for (int k = 0; k < NORMA_GROUP; k += NORMA_QUARTER)
    bad = forward_quarter(row, shared, units, weights, biases, at + k, x + k, y + k, stream, bad);
  return bad;
}

/* What is added last. */
NORMA_INLINE wide add_group(const float *after, float *z, wide bad) {
  for (int i = 0; i < NORMA_GROUP; i += NORMA_WIDE) {
    wide sum = wide_add(wide_load(z + i), wide_load(after + i));
    wide_store(z + i, sum);
    bad = wide_bad(bad, sum);
  }
  return bad;
}

/* Whole groups from element i on, straight to where they go. Returns where it ended: at the last n < 64 elements, or at
 * a group with a result that is not finite; that has been measured, and is as it was where y is x or `after`. */
NORMA_INLINE int64_t forward_loop(norma_type type, bool units, bool weights, bool biases, const written_row *w,
                                  int64_t i, sink *out, measured_row *measured) {
  const int64_t bytes = group_bytes(type);
  const row_coefs row = w->row;
  const shared_coefs shared = coefs_share(&row, units);
  const int64_t at = i * bytes / NORMA_GROUP;
  const bool stream = out->stream, more = w->after || w->relu;
  const bool in_place = (const char *)w->x + at == out->to || (w->after && (const char *)w->after + at == out->to);
  const void *next = measured ? measured->x : NULL;
  const double pivot = measured ? measured->pivot : 0;
  two_sums s = measured ? measured->sums : sums_of_nothing();
  char *to = out->to;
  for (; i + NORMA_GROUP <= w->n; i += NORMA_GROUP) {
    NORMA_ALIGNED float in[NORMA_GROUP], result[NORMA_GROUP];
    NORMA_ALIGNED char kept[sizeof in];
    if (next) measure_group(type, next, pivot, i, &s);
    if (w->x_ahead) prefetch_group(type, w->x, i + w->x_ahead);
    if (out->end) sink_ahead(out, to, bytes);
    if (in_place) copy_lines(kept, to, bytes);
    const float *x = load_group(type, w->x, i, in);
    wide bad;
    if (more) {
      bad = forward_quarters(&row, &shared, units, weights, biases, i, x, result, false);
      if (w->after) bad = add_group(load_group(type, w->after, i, in), result, bad);
      for (int k = 0; k < NORMA_GROUP && w->relu; k += NORMA_WIDE)
        wide_store(result + k, wide_relu(wide_load(result + k)));
      put_group(type, result, to, stream);
    } else if (type == NORMA_F32 && stream) {
      bad = forward_quarters(&row, &shared, units, weights, biases, i, x, (float *)to, true);
    } else if (type == NORMA_F32) {
      bad = forward_quarters(&row, &shared, units, weights, biases, i, x, (float *)to, false);
    } else {
      bad = forward_quarters(&row, &shared, units, weights, biases, i, x, result, false);
      put_group(type, result, to, stream);
    }
    if (__builtin_expect(wide_is_bad(bad), 0)) {
      if (in_place) copy_lines(to, kept, bytes);
      break;
    }
    to += bytes;
  }
  if (measured) measured->sums = s;
  out->to = to;
  return i;
}

/* Each loop is a function of its own, without calls: what it needs stays in registers. */
typedef int64_t forward_loop_of(const written_row *w, int64_t i, sink *out, measured_row *measured);

#define FORWARD_LOOP(name, type, units, weights, biases)                                                         \
  static NORMA_TARGET __attribute__((noinline)) int64_t name(const written_row *w, int64_t i, sink *out,         \
                                                             measured_row *measured) {                           \
    return forward_loop(type, units, weights, biases, w, i, out, units ? NULL : measured);                       \
  }
#define FORWARD_LOOPS(name, type)                     \
  FORWARD_LOOP(name##_0, type, false, false, false)   \
  FORWARD_LOOP(name##_1, type, false, false, true)    \
  FORWARD_LOOP(name##_2, type, false, true, false)    \
  FORWARD_LOOP(name##_3, type, false, true, true)     \
  FORWARD_LOOP(name##_4, type, true, false, false)    \
  FORWARD_LOOP(name##_5, type, true, false, true)     \
  FORWARD_LOOP(name##_6, type, true, true, false)     \
  FORWARD_LOOP(name##_7, type, true, true, true)
#define EIGHT_LOOPS(name) {name##_0, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7}

FORWARD_LOOPS(forward_f32, NORMA_F32)
FORWARD_LOOPS(forward_f16, NORMA_F16)
FORWARD_LOOPS(forward_bf16, NORMA_BF16)

/* What has a coefficient for each element: units, weights, biases. */
static forward_loop_of *const forward_loops[][8] = {
    [NORMA_F32] = EIGHT_LOOPS(forward_f32),
    [NORMA_F16] = EIGHT_LOOPS(forward_f16),
    [NORMA_BF16] = EIGHT_LOOPS(forward_bf16),
};

NORMA_INLINE forward_loop_of *forward_loop_for(norma_type type, const norma_coefs *c) {
  int units = c->unit_step != 0, weights = c->weight && c->weight_step, biases = c->bias && c->bias_step;
  return forward_loops[type][4 * units + 2 * weights + biases];
}

/* ------------------------------------------------------------------------------------------------ some elements --- */

/* What is taken together where something else is wanted of the results: so many elements stay in the first-level cache
 * from one loop to the next. A few more than that are taken at once. */
enum { SOME = 4 * NORMA_GROUP, NORMA_SOME = SOME + NORMA_GROUP };
NORMA_INLINE int64_t some_of(int64_t n) { return n <= NORMA_SOME ? n : SOME; }

/* Coefficients of n < 64 elements, and zeros behind them. */
typedef struct coef_room {
  float hi[NORMA_GROUP], lo[NORMA_GROUP], rstd[NORMA_GROUP], weight[NORMA_GROUP], bias[NORMA_GROUP], x[NORMA_GROUP];
} coef_room;

NORMA_INLINE const float *pad(float *room, const float *from, int64_t step, int64_t n) {
  if (!from || step == 0) return from;
  for (int64_t i = 0; i < NORMA_GROUP; i++) room[i] = i < n ? from[i] : 0;
  return room;
}

/* Those of row r from element `at` on. */
NORMA_INLINE row_coefs coefs_at(const norma_coefs *c, int64_t r, int64_t at) {
  row_coefs row = coefs_of_row(c, r);
  int64_t unit = at * c->unit_step;
  row.hi += unit, row.lo += unit, row.rstd += unit;
  if (row.weight) row.weight += at * c->weight_step;
  if (row.bias) row.bias += at * c->bias_step;
  return row;
}

/* n <= NORMA_SOME elements of row r from `at` on, x as float32; `after`, `x_ahead` and `measured` may be absent. */
typedef struct some_elements {
  const norma_coefs *c;
  int64_t r, at, n;
  const float *x, *after;
  int64_t x_ahead;
  measured_row *measured; /* its whole groups */
} some_elements;

/* Of fewer than 64. */
NORMA_INLINE bool z_rest(const some_elements *e, float *z) {
  coef_room room;
  sink out;
  const norma_coefs *c = e->c;
  written_row w = {.row = coefs_at(c, e->r, e->at), .x = pad(room.x, e->x, 1, e->n), .n = NORMA_GROUP};
  w.row.hi = pad(room.hi, w.row.hi, c->unit_step, e->n), w.row.lo = pad(room.lo, w.row.lo, c->unit_step, e->n);
  w.row.rstd = pad(room.rstd, w.row.rstd, c->unit_step, e->n);
  w.row.weight = pad(room.weight, w.row.weight, c->weight_step, e->n);
  w.row.bias = pad(room.bias, w.row.bias, c->bias_step, e->n);
  sink_open(&out, z, false);
  return forward_loop_for(NORMA_F32, c)(&w, 0, &out, NULL) == NORMA_GROUP;
}

/* z, `after` included; whole groups of it are written. Whether all float32 results were finite; the others have been
 * computed in float64. */
static NORMA_TARGET __attribute__((noinline)) bool z_of_some(const some_elements *e, float *z) {
  const written_row w = {.row = coefs_at(e->c, e->r, e->at), .x = e->x, .n = e->n, .x_ahead = e->x_ahead};
  forward_loop_of *loop = forward_loop_for(NORMA_F32, e->c);
  sink out;
  bool finite = true;
  int64_t i = 0, n = e->n;
  sink_open(&out, z, false);
  out.end = NULL;
  for (;; i += NORMA_GROUP, out.to += group_bytes(NORMA_F32), finite = false) {
    i = loop(&w, i, &out, e->measured);
    if (i + NORMA_GROUP > n) break;
  }
  if (i < n && i > 0) { /* an element stands alone */
    out.to = (char *)(z + n - NORMA_GROUP);
    finite = loop(&w, n - NORMA_GROUP, &out, NULL) == n && finite;
  } else if (i < n) {
    finite = z_rest(e, z);
  }
  for (i = n; i % NORMA_GROUP; i++) z[i] = 0;
  if (e->after) {
    wide bad = wide_set(0);
    for (int64_t k = 0; k < n; k++) z[k] += e->after[k];
    for (int64_t k = 0; k < n; k += NORMA_WIDE) bad = wide_bad(bad, wide_load(z + k));
    finite = finite && !wide_is_bad(bad);
  }
  if (__builtin_expect(!finite, 0)) forward_exact(e->c, e->r, e->at, e->x, e->after, z, n);
  return finite;
}

/* Whatever is wanted of n elements of row r from `at` on; `measured` has its own from there on. */
NORMA_INLINE void forward_some(norma_type type, const norma_coefs *c, int64_t r, const void *x, int64_t at, int64_t n,
                               int64_t x_ahead, measured_row *measured, sink *out) {
  NORMA_ALIGNED float in[NORMA_SOME], after_room[NORMA_SOME], result[NORMA_SOME];
  some_elements e = {.c = c, .r = r, .at = at, .n = n, .x = load_some(type, x, at, n, in)};
  if (c->after) e.after = load_some(type, c->after, r * c->after_row + at, n, after_room);
  if (type == NORMA_F32) e.x_ahead = x_ahead, e.measured = measured;
  for (int64_t i = 0; i + NORMA_GROUP <= n; i += NORMA_GROUP) {
    if (type != NORMA_F32 && x_ahead) prefetch_group(type, x, at + i + x_ahead);
    if (type != NORMA_F32 && measured) measure_group(type, measured->x, measured->pivot, i, &measured->sums);
    sink_ahead(out, out->to + i * (group_bytes(type) / NORMA_GROUP), group_bytes(type));
  }
  bool finite = z_of_some(&e, result);
  if (c->activation) activate(c->activation, result, n);
  for (int64_t i = 0; i < n; i += NORMA_GROUP)
    store_group(type, out, result + i, n - i < NORMA_GROUP ? n - i : NORMA_GROUP, finite);
}

/* ---------------------------------------------------------------------------------------------------- the rows --- */

/* Straight to where they go. */
NORMA_INLINE void forward_plain(norma_type type, const norma_coefs *c, int64_t r, const written_row *w,
                                measured_row *measured, sink *out) {
  forward_loop_of *loop = forward_loop_for(type, c);
  bool again = !out->stream && w->x != out->to && w->after != out->to; /* the last ones, together with some before them */
  int64_t n = w->n, i = 0;
  for (;; i += NORMA_GROUP) {
    i = loop(w, i, out, measured);
    if (i + NORMA_GROUP > n) break;
    forward_some(type, c, r, w->x, i, NORMA_GROUP, 0, NULL, out); /* has a result that is not finite */
  }
  if (i < n && i > 0 && again) { /* an element stands alone; and what was not finite is so again */
    out->to -= (i + NORMA_GROUP - n) * (group_bytes(type) / NORMA_GROUP);
    i = loop(w, n - NORMA_GROUP, out, NULL);
  }
  if (i < n) forward_some(type, c, r, w->x, i, n - i, 0, NULL, out);
}

NORMA_INLINE void forward_row(norma_type type, const norma_coefs *c, int64_t r, const void *x, int64_t n, sink *out,
                              norma_ahead *ahead, int64_t x_ahead) {
  measured_row m = {.x = ahead ? ahead->x : NULL, .pivot = ahead ? ahead->pivot : 0, .sums = sums_of_nothing()};
  measured_row *measured = ahead ? &m : NULL;
  if (c->activation <= NORMA_RELU && sink_is_whole(out)) {
    written_row w = {.row = coefs_of_row(c, r), .x = x, .n = n, .x_ahead = x_ahead, .relu = c->activation};
    if (c->after) w.after = (const char *)c->after + r * c->after_row * (group_bytes(type) / NORMA_GROUP);
    forward_plain(type, c, r, &w, measured, out);
  } else {
    int64_t here, size = group_bytes(type) / NORMA_GROUP;
    for (int64_t i = 0; i < n; i += here) {
      here = some_of(n - i);
      if (ahead) m.x = (const char *)ahead->x + i * size;
      forward_some(type, c, r, x, i, here, x_ahead, measured, out);
    }
  }
  int64_t rest = n % NORMA_GROUP;
  if (x_ahead && rest) prefetch_group(type, x, n - rest + x_ahead);
  if (ahead && rest) moments_piece(type, ahead->x, n - rest, (int)rest, ahead->pivot, &m.sums);
  if (ahead) sums_end(&m.sums, ahead->sum);
}

/* Before row r of n elements, `stride` apart: rows without a gap are one stream. */
NORMA_INLINE void sink_row(sink *out, norma_type type, void *to, int64_t stride, int64_t n, int64_t r, bool stream) {
  if (r > 0 && stride == n) return;
  int64_t size = type == NORMA_F32 ? 4 : 2;
  if (r > 0) sink_close(out);
  sink_open(out, (char *)to + r * stride * size, stream);
  out->end = out->to + n * size, out->jump = (stride - n) * size;
}

NORMA_INLINE void forward_rows(norma_type type, const norma_coefs *c, const norma_rows *rows, bool stream,
                               norma_ahead *ahead) {
  sink out;
  int64_t size = type == NORMA_F32 ? 4 : 2;
  for (int64_t r = 0; r < rows->rows; r++) {
    sink_row(&out, type, rows->y, rows->y_stride, rows->n, r, stream);
    forward_row(type, c, r, (const char *)rows->x + r * rows->x_stride * size, rows->n, &out, ahead, rows->x_ahead);
  }
  sink_close(&out);
}

#endif
