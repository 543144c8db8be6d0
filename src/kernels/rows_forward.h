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
  prefetch_group(type, x, i + 8 * NORMA_GROUP);
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

/* Whole quarters that are left from element i on. */
NORMA_INLINE int64_t forward_rest(const row_coefs *row, const shared_coefs *shared, bool units, bool weights,
                                  bool biases, const written_row *w, int64_t i, char **to, bool stream) {
  for (; i + NORMA_QUARTER <= w->n; i += NORMA_QUARTER, *to += sizeof(float[NORMA_QUARTER])) {
    const float *x = (const float *)w->x + i;
    wide bad = wide_set(0);
    if (stream) bad = forward_quarter(row, shared, units, weights, biases, i, x, (float *)*to, true, bad);
    else bad = forward_quarter(row, shared, units, weights, biases, i, x, (float *)*to, false, bad);
    if (wide_is_bad(bad)) break;
  }
  return i;
}

/* Whole groups from element i on, straight to where they go. Returns where it ended: at the last n < 64 elements, or at
 * a group with a result that is not finite; that has been measured, and is as it was where y is x or `after`. */
NORMA_INLINE int64_t forward_loop(norma_type type, bool units, bool weights, bool biases, const written_row *w,
                                  int64_t i, sink *out, measured_row *measured) {
  const int64_t bytes = group_bytes(type);
  const row_coefs row = w->row;
  const shared_coefs shared = coefs_share(&row, units);
  const int64_t at = i * element_bytes(type);
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
    sink_ahead(out, to, bytes);
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
  if (i + NORMA_GROUP > w->n && type == NORMA_F32 && !more && !in_place)
    i = forward_rest(&row, &shared, units, weights, biases, w, i, &to, stream);
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

/* ------------------------------------------------------------------------------------------------- other groups --- */

/* Of an array with one entry per element, those of n < 16 elements from `at` on, and zeros behind them. */
NORMA_INLINE const float *pad(float *room, const float *from, int64_t step, int64_t at, int64_t n) {
  if (!from || step == 0) return from;
  for (int64_t i = 0; i < NORMA_QUARTER; i++) room[i] = i < n ? from[at + i] : 0;
  return room;
}

/* Coefficients and x of a last quarter, of which n are there. */
typedef struct coef_room {
  float hi[NORMA_QUARTER], lo[NORMA_QUARTER], rstd[NORMA_QUARTER], weight[NORMA_QUARTER], bias[NORMA_QUARTER];
  float x[NORMA_QUARTER];
} coef_room;

NORMA_INLINE row_coefs coefs_pad(const row_coefs *row, const norma_coefs *c, coef_room *room, int64_t at, int64_t n) {
  row_coefs padded = {
      .hi = pad(room->hi, row->hi, c->unit_step, at, n),
      .lo = pad(room->lo, row->lo, c->unit_step, at, n),
      .rstd = pad(room->rstd, row->rstd, c->unit_step, at, n),
      .weight = pad(room->weight, row->weight, c->weight_step, at, n),
      .bias = pad(room->bias, row->bias, c->bias_step, at, n),
  };
  return padded;
}

/* z of n <= 64 elements of row r, `after` included, and zeros up to the end of the group. Whether all float32 results
 * were finite; the others have been computed in float64. */
NORMA_INLINE bool z_group_of(norma_type type, const norma_coefs *c, bool units, bool weights, bool biases, int64_t r,
                             int64_t at, const float *x, int64_t n, float *z) {
  NORMA_ALIGNED float after_room[NORMA_GROUP];
  const row_coefs row = coefs_of_row(c, r);
  const shared_coefs shared = coefs_share(&row, units);
  wide bad = wide_set(0);
  for (int64_t i = 0; i < n && n >= NORMA_QUARTER; i += NORMA_QUARTER) {
    int64_t k = i + NORMA_QUARTER <= n ? i : n - NORMA_QUARTER; /* some once more: an element stands alone */
    bad = forward_quarter(&row, &shared, units, weights, biases, at + k, x + k, z + k, false, bad);
  }
  if (n < NORMA_QUARTER) {
    coef_room room;
    const row_coefs padded = coefs_pad(&row, c, &room, at, n);
    bad = forward_quarter(&padded, &shared, units, weights, biases, 0, pad(room.x, x, 1, 0, n), z, false, bad);
  }
  for (int64_t i = n; i < NORMA_GROUP; i++) z[i] = 0;
  const float *after = load_after(type, c, r, at, n, after_room);
  for (int64_t i = 0; after && i < n; i++) z[i] += after[i];
  for (int i = 0; after && i < NORMA_GROUP; i += NORMA_WIDE) bad = wide_bad(bad, wide_load(z + i));
  bool finite = !wide_is_bad(bad);
  if (__builtin_expect(!finite, 0)) forward_exact(c, r, at, x, after, z, n);
  return finite;
}

NORMA_INLINE bool z_group(norma_type type, const norma_coefs *c, int64_t r, int64_t at, const float *x, int64_t n,
                          float *z) {
  bool units = c->unit_step, weights = c->weight && c->weight_step, biases = c->bias && c->bias_step;
  if (units && weights && biases) return z_group_of(type, c, true, true, true, r, at, x, n, z); /* channels-last */
  return z_group_of(type, c, units, weights, biases, r, at, x, n, z);
}

/* n <= 64 elements of row r from `at` on, whatever is wanted of them. */
NORMA_INLINE void forward_group(norma_type type, const norma_coefs *c, int64_t r, const void *x, int64_t at, int64_t n,
                                sink *out) {
  NORMA_ALIGNED float in[NORMA_GROUP], result[NORMA_GROUP];
  const float *from = n == NORMA_GROUP ? load_group(type, x, at, in) : load_few(type, x, at, n, in);
  bool finite = z_group(type, c, r, at, from, n, result);
  if (c->activation) activate_group(c->activation, result);
  store_group(type, out, result, n, finite);
}

/* Groups of float32 that are taken together where the activation is a loop of its own: from one loop to the next they
 * stay in the first-level cache. Few more are taken at once. */
enum { ACTIVE = 4, ACTIVE_MOST = 6 };

/* The groups from element i on, or that many. Returns the element behind them. */
static NORMA_TARGET __attribute__((noinline)) int64_t forward_active(const norma_coefs *c, int64_t r, written_row w,
                                                                     int64_t i, measured_row *measured, sink *out) {
  NORMA_ALIGNED float z[ACTIVE_MOST * NORMA_GROUP];
  int64_t left = (w.n - i) / NORMA_GROUP, groups = left <= ACTIVE_MOST ? left : ACTIVE;
  const float *x = w.x, *after = w.after;
  bool finite = true;
  sink to = {.to = (char *)z};
  to.end = to.to;
  w.n = i + groups * NORMA_GROUP;
  w.relu = false; /* what is not finite must be seen before it */
  for (int64_t at = i;; at += NORMA_GROUP, to.to += sizeof(float[NORMA_GROUP]), finite = false) {
    at = forward_loop_for(NORMA_F32, c)(&w, at, &to, measured);
    if (at == w.n) break;
    forward_exact(c, r, at, x + at, after ? after + at : NULL, (float *)to.to, NORMA_GROUP);
  }
  for (int64_t k = 0; k < groups; k++) {
    sink_ahead(out, out->to, sizeof(float[NORMA_GROUP]));
    activate_group(c->activation, z + k * NORMA_GROUP);
    store_group(NORMA_F32, out, z + k * NORMA_GROUP, NORMA_GROUP, finite);
  }
  return w.n;
}

/* ---------------------------------------------------------------------------------------------------- the rows --- */

/* Straight to where they go. */
NORMA_INLINE void forward_plain(norma_type type, const norma_coefs *c, int64_t r, const written_row *w,
                                measured_row *measured, sink *out) {
  forward_loop_of *loop = forward_loop_for(type, c);
  bool again = !out->stream && w->x != out->to && w->after != out->to; /* the last ones, with some before them */
  int64_t n = w->n, i = 0;
  for (;; i += NORMA_GROUP) {
    i = loop(w, i, out, measured);
    if (i + NORMA_GROUP > n) break;
    forward_group(type, c, r, w->x, i, NORMA_GROUP, out); /* has a result that is not finite */
  }
  if (i < n && n >= NORMA_GROUP && again) { /* an element stands alone; and what was not finite is so again */
    out->to -= (i + NORMA_GROUP - n) * element_bytes(type);
    i = loop(w, n - NORMA_GROUP, out, NULL);
  }
  if (i < n) forward_group(type, c, r, w->x, i, n - i, out);
}

NORMA_INLINE void forward_row(norma_type type, const norma_coefs *c, int64_t r, const void *x, int64_t n, sink *out,
                              norma_ahead *ahead, int64_t x_ahead) {
  measured_row m = {.x = ahead ? ahead->x : NULL, .pivot = ahead ? ahead->pivot : 0, .sums = sums_of_nothing()};
  written_row w = {.row = coefs_of_row(c, r), .x = x, .n = n, .x_ahead = x_ahead, .relu = c->activation == NORMA_RELU};
  if (c->after) w.after = (const char *)c->after + r * c->after_row * element_bytes(type);
  int64_t i = 0;
  if (c->activation <= NORMA_RELU) {
    forward_plain(type, c, r, &w, ahead ? &m : NULL, out);
    i = n;
  }
  while (type == NORMA_F32 && !c->unit_step && i + NORMA_GROUP <= n)
    i = forward_active(c, r, w, i, ahead ? &m : NULL, out);
  for (; i < n; i += NORMA_GROUP) {
    int64_t here = n - i < NORMA_GROUP ? n - i : NORMA_GROUP;
    if (ahead && here == NORMA_GROUP) measure_group(type, m.x, m.pivot, i, &m.sums);
    if (x_ahead) prefetch_group(type, x, i + x_ahead);
    sink_ahead(out, out->to, group_bytes(type));
    if (type == NORMA_F32 && here == NORMA_GROUP) forward_group(NORMA_F32, c, r, x, i, NORMA_GROUP, out);
    else forward_group(type, c, r, x, i, here, out);
  }
  int64_t rest = n % NORMA_GROUP;
  if (!ahead) return;
  if (rest) moments_piece(type, ahead->x, n - rest, (int)rest, ahead->pivot, &m.sums);
  sums_end(&m.sums, ahead->sum);
}

/* Row r of n elements, `stride` apart. */
NORMA_INLINE sink sink_of_row(norma_type type, void *to, int64_t stride, int64_t n, int64_t r, bool stream) {
  int64_t size = element_bytes(type);
  sink row = {.to = (char *)to + r * stride * size, .stream = stream, .jump = (stride - n) * size};
  row.end = row.to + n * size;
  return row;
}

NORMA_INLINE void forward_rows(norma_type type, const norma_coefs *c, const norma_rows *rows, bool stream,
                               norma_ahead *ahead) {
  int64_t size = element_bytes(type);
  for (int64_t r = 0; r < rows->rows; r++) {
    sink out = sink_of_row(type, rows->y, rows->y_stride, rows->n, r, stream);
    forward_row(type, c, r, (const char *)rows->x + r * rows->x_stride * size, rows->n, &out, ahead, rows->x_ahead);
  }
}

#endif
