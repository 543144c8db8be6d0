/* Template: the sums and the dx of the backward pass, for a stretch of a row. */
#ifndef NORMA_ROWS_BACKWARD_H
#define NORMA_ROWS_BACKWARD_H

#include "rows_forward.h"

/* ---------------------------------------------------------------------------------------------------- gradients --- */

/* Eight of an array of which n are there, in `room` with zeros behind them. */
NORMA_INLINE const float *first_of_eight(const float *from, int n, float *room) {
  for (int i = 0; i < 8; i++) room[i] = i < n ? from[i] : 0;
  return room;
}

/* dz = dy times the slope at z, rounded to float32; n <= 64 elements, and zeros up to the end of their quarter. */
static NORMA_TARGET __attribute__((noinline)) const float *dz_group(norma_type type, const norma_coefs *c, int64_t r,
                                                                    int64_t at, const float *x, const float *dy,
                                                                    int64_t n, float *dz) {
  NORMA_ALIGNED float z[NORMA_GROUP], e[NORMA_GROUP];
  z_group(type, c, r, at, x, n, z);
  if (c->activation == NORMA_RELU)
    for (int i = 0; i < NORMA_GROUP; i++) z[i] = norma_relu_grad_f32(z[i]);
  if (c->activation == NORMA_SILU) NORMA_ACTIVATE(silu_grad, z);
  if (c->activation == NORMA_GELU) NORMA_ACTIVATE(gelu_grad, z);
  if (c->activation == NORMA_GELU_TANH) NORMA_ACTIVATE(gelu_tanh_grad, z);
  for (int64_t i = 0; i < n; i++) dz[i] = dy[i] * z[i];
  for (int64_t i = n; i % NORMA_QUARTER; i++) dz[i] = 0;
  return dz;
}

/* dy of n <= 64 elements of row r from `at` on as float32; where there is a z dz, which is kept where the slopes say
 * so. */
NORMA_INLINE const float *load_dz(norma_type type, const norma_slopes *c, int64_t r, const float *x, const void *dy,
                                  int64_t at, int64_t n, float *room, float *dz_room) {
  const float *dys = n == NORMA_GROUP ? load_group(type, dy, at, room) : load_few(type, dy, at, n, room);
  if (!c->z) return dys;
  dys = dz_group(type, c->z, r, at, x, dys, n, dz_room);
  if (c->dz) memcpy(c->dz + r * c->dz_row + at, dys, (size_t)n * sizeof *dys);
  return dys;
}

/* What the sums of a row need beside x and dy. */
typedef struct sum_slopes {
  oct mean, mean_lo, rstd, minus_pivot;
  const float *weight; /* of the first element; NULL: none varies along the row */
} sum_slopes;

/* Eight elements from the i-th on, of which n are there. takes_x: nothing is subtracted from x, whose products with dy
 * are exact. */
NORMA_INLINE void gradients_add(two_sums *lanes, const sum_slopes *c, bool weights, bool takes_x, const float *x,
                                const float *dy, int i, int n) {
  NORMA_ALIGNED float room[8];
  oct q = n == 8 ? oct_floats(dy + i) : oct_few(dy + i, n), d = n == 8 ? oct_floats(x + i) : oct_few(x + i, n);
  if (takes_x) {
    lanes->first = oct_add(lanes->first, q);
    lanes->second = oct_exact_fma(q, d, lanes->second);
    return;
  }
  oct about_mean = oct_sub(d, c->mean), first = q, second;
  if (weights) {
    const float *weight = n == 8 ? c->weight + i : first_of_eight(c->weight + i, n, room);
    oct gamma = oct_floats(weight);
    first = oct_exact_fma(q, gamma, c->minus_pivot);
    second = oct_mul(oct_mul(q, oct_mul(oct_sub(about_mean, c->mean_lo), c->rstd)), gamma);
  } else {
    second = oct_mul(q, about_mean);
  }
  lanes->first = oct_add(lanes->first, weights && n < 8 ? oct_first(first, n) : first);
  lanes->second = oct_add(lanes->second, n == 8 ? second : oct_first(second, n));
}

/* The lanes of a group from element `at` on, of which n <= 64 are there. */
NORMA_INLINE two_sums gradients_of(const norma_slopes *c, int64_t r, bool weights, bool takes_x, int64_t at,
                                   const float *x, const float *dy, int n, double pivot) {
  two_sums lanes = sums_of_nothing();
  int64_t unit = r * c->unit_row;
  sum_slopes row = {.mean = oct_set(c->mean[unit]), .minus_pivot = oct_set(-pivot)};
  row.mean_lo = oct_set(weights ? c->mean_lo[unit] : 0), row.rstd = oct_set(weights ? c->rstd[unit] : 1);
  row.weight = weights ? c->weight + r * c->weight_row + at : NULL;
  int i = 0;
  NORMA_UNROLL(8)
  for (; i + 8 <= n; i += 8) gradients_add(&lanes, &row, weights, takes_x, x, dy, i, 8);
  if (i < n) gradients_add(&lanes, &row, weights, takes_x, x, dy, i, n - i);
  return lanes;
}

/* The group of row r from element `at` on, of which n <= 64 elements are there. */
NORMA_INLINE void gradients_piece(norma_type type, const norma_slopes *c, int64_t r, bool weights, bool takes_x,
                                  const void *x, const void *dy, int64_t at, int n, double pivot, two_sums *s) {
  NORMA_ALIGNED float x_room[NORMA_GROUP], dy_room[NORMA_GROUP], dz_room[NORMA_GROUP];
  const float *xs = n == NORMA_GROUP ? load_group(type, x, at, x_room) : load_few(type, x, at, n, x_room);
  const float *dys = load_dz(type, c, r, xs, dy, at, n, dy_room, dz_room);
  if (type != NORMA_F32) {
    NORMA_IN_MEMORY(x_room);
    NORMA_IN_MEMORY(dy_room);
  }
  if (weights) sums_add(s, gradients_of(c, r, true, false, at, xs, dys, n, pivot));
  else if (takes_x) sums_add(s, gradients_of(c, r, false, true, at, xs, dys, n, 0));
  else sums_add(s, gradients_of(c, r, false, false, at, xs, dys, n, 0));
}

NORMA_INLINE void gradients_over(norma_type type, const norma_slopes *c, int64_t r, bool weights, bool takes_x,
                                 const void *x, const void *dy, int64_t n, double pivot, double sum[2]) {
  two_sums s = sums_of_nothing();
  int64_t i = 0;
  for (; i + NORMA_GROUP <= n; i += NORMA_GROUP)
    gradients_piece(type, c, r, weights, takes_x, x, dy, i, NORMA_GROUP, pivot, &s);
  if (i < n) gradients_piece(type, c, r, weights, takes_x, x, dy, i, (int)(n - i), pivot, &s);
  sums_end(&s, sum);
}

NORMA_INLINE bool row_takes_x(norma_type type, const norma_slopes *c, int64_t r, bool weights, const void *x) {
  int64_t unit = r * c->unit_row;
  return !weights && norma_takes_x(c->mean[unit], c->rstd[unit], load_float(type, x, 0));
}

static NORMA_TARGET __attribute__((noinline)) void gradients_about_mean(norma_type type, const norma_slopes *c,
                                                                        int64_t r, const void *x, const void *dy,
                                                                        int64_t n, double sum[2]) {
  gradients_over(type, c, r, false, false, x, dy, n, 0, sum);
}

/* sum(dy x) becomes sum(dy (x - mean)). */
NORMA_INLINE void gradients_end(norma_type type, const norma_slopes *c, int64_t r, const void *x, const void *dy,
                                int64_t n, double sum[2]) {
  if (__builtin_expect(isfinite(sum[0]), 1)) sum[1] -= c->mean[r * c->unit_row] * sum[0];
  else gradients_about_mean(type, c, r, x, dy, n, sum);
}

NORMA_INLINE void gradients_row(norma_type type, const norma_slopes *c, int64_t r, bool weights, const void *x,
                                const void *dy, int64_t n, double pivot, double sum[2]) {
  bool takes_x = row_takes_x(type, c, r, weights, x);
  gradients_over(type, c, r, weights, takes_x, x, dy, n, pivot, sum);
  if (takes_x) gradients_end(type, c, r, x, dy, n, sum);
}

NORMA_INLINE void gradients_rows(norma_type type, const norma_slopes *c, bool weights, const norma_rows *rows,
                                 const double *pivot, double *sum) {
  int64_t size = element_bytes(type);
  for (int64_t r = 0; r < rows->rows; r++) {
    const char *x = (const char *)rows->x + r * rows->x_stride * size;
    const char *dy = (const char *)rows->dy + r * rows->dy_stride * size;
    prefetch_row(type, x, rows->x_ahead, rows->n);
    prefetch_row(type, dy, rows->dy_ahead, rows->n);
    gradients_row(type, c, r, weights, x, dy, rows->n, pivot[r], sum + 2 * r);
  }
}

/* ----------------------------------------------------------------------------------------------------- backward --- */

/* What all elements of a row share. */
typedef struct shared_slopes {
  wide hi, lo, rstd, q_hi, q_lo, q_xhat, weight;
} shared_slopes;

/* Where the slopes of a row start; dx.saved and dx.means stay those of the first. */
typedef struct row_slopes {
  norma_dx dx;
  const float *weight;
} row_slopes;

NORMA_INLINE row_slopes slopes_of_row(const norma_slopes *c, int64_t r) {
  const norma_dx *d = &c->dx;
  int64_t u = r * c->unit_row;
  row_slopes row = {.dx = {d->hi + u, d->lo + u, d->rstd + u, d->q_hi + u, d->q_lo + u, d->q_xhat + u, NULL, NULL}};
  if (c->weight) row.weight = c->weight + r * c->weight_row;
  return row;
}

NORMA_INLINE shared_slopes slopes_share(const row_slopes *row, bool units) {
  const norma_dx *d = &row->dx;
  shared_slopes s = {.weight = wide_set(row->weight ? row->weight[0] : 1)};
  if (units) return s;
  s.hi = wide_set(d->hi[0]), s.lo = wide_set(d->lo[0]), s.rstd = wide_set(d->rstd[0]);
  s.q_hi = wide_set(d->q_hi[0]), s.q_lo = wide_set(d->q_lo[0]), s.q_xhat = wide_set(d->q_xhat[0]);
  return s;
}

/* The slopes as those of a call that begins with row r; z, dsum and dafter stay those of the first. */
NORMA_INLINE norma_slopes slopes_from(const norma_slopes *c, int64_t r) {
  norma_slopes from = *c;
  int64_t u = r * c->unit_row;
  from.dx.hi += u, from.dx.lo += u, from.dx.rstd += u;
  from.dx.q_hi += u, from.dx.q_lo += u, from.dx.q_xhat += u, from.dx.saved += u;
  if (c->dx.means) from.dx.means += u;
  if (c->weight) from.weight += r * c->weight_row;
  return from;
}

/* norma_backward_exact of row r. */
static NORMA_TARGET __attribute__((noinline)) void backward_exact(const norma_slopes *c, int64_t r, int64_t at,
                                                                  const float *x, const float *dy, const float *dsum,
                                                                  float *dx, int64_t n) {
  norma_slopes row = slopes_from(c, r);
  norma_backward_exact(&row, at, x, dy, dsum, dx, n);
}

/* dx of a quarter from element `at` on; `given`: statistics are. dsum is NULL where nothing is added. */
NORMA_INLINE wide backward_quarter(const row_slopes *row, const shared_slopes *s, bool given, bool units, bool weights,
                                   int64_t at, const float *x, const float *dy, const float *dsum, float *dx,
                                   wide bad) {
  const norma_dx *u = &row->dx;
  NORMA_UNROLL(16)
  for (int i = 0; i < NORMA_QUARTER; i += NORMA_WIDE) {
    wide rstd = units ? wide_load(u->rstd + at + i) : s->rstd;
    wide gamma = weights ? wide_load(row->weight + at + i) : s->weight;
    wide d = wide_mul(wide_mul(wide_load(dy + i), gamma), rstd);
    if (!given) {
      wide xhat = wide_sub(wide_load(x + i), units ? wide_load(u->hi + at + i) : s->hi);
      xhat = wide_mul(wide_sub(xhat, units ? wide_load(u->lo + at + i) : s->lo), rstd);
      d = wide_sub(d, units ? wide_load(u->q_hi + at + i) : s->q_hi);
      d = wide_sub(d, units ? wide_load(u->q_lo + at + i) : s->q_lo);
      d = wide_sub(d, wide_mul(xhat, units ? wide_load(u->q_xhat + at + i) : s->q_xhat));
    }
    if (dsum) d = wide_add(d, wide_load(dsum + i));
    wide_store(dx + i, d);
    bad = wide_bad(bad, d);
  }
  return bad;
}

/* What a piece of row r is computed with; the flags are constants in each caller. */
typedef struct dx_row {
  const norma_slopes *all;
  int64_t r;
  row_slopes row;
  shared_slopes shared;
} dx_row;

/* Whether all float32 results were finite, so that none is NaN. */
NORMA_INLINE bool backward_group(const dx_row *c, bool given, bool units, bool weights, int64_t at, const float *x,
                                 const float *dy, const float *dsum, float *dx) {
  wide bad = wide_set(0);
  NORMA_UNROLL(4)
  for (int i = 0; i < NORMA_GROUP; i += NORMA_QUARTER)
    bad = backward_quarter(&c->row, &c->shared, given, units, weights, at + i, x + i, dy + i, dsum ? dsum + i : NULL,
                           dx + i, bad);
  bool finite = !wide_is_bad(bad);
  if (__builtin_expect(!finite, 0)) backward_exact(c->all, c->r, at, x, dy, dsum, dx, NORMA_GROUP);
  return finite;
}

/* A last quarter, of which n are there. */
typedef struct slope_room {
  float hi[NORMA_QUARTER], lo[NORMA_QUARTER], rstd[NORMA_QUARTER];
  float q_hi[NORMA_QUARTER], q_lo[NORMA_QUARTER], q_xhat[NORMA_QUARTER], weight[NORMA_QUARTER];
  float x[NORMA_QUARTER], dy[NORMA_QUARTER], dsum[NORMA_QUARTER];
} slope_room;

NORMA_INLINE row_slopes slopes_pad(const dx_row *c, slope_room *room, int64_t at, int64_t n) {
  const norma_dx *from = &c->row.dx;
  int64_t step = c->all->unit_step;
  row_slopes padded = {
      .dx = {pad(room->hi, from->hi, step, at, n), pad(room->lo, from->lo, step, at, n),
             pad(room->rstd, from->rstd, step, at, n), pad(room->q_hi, from->q_hi, step, at, n),
             pad(room->q_lo, from->q_lo, step, at, n), pad(room->q_xhat, from->q_xhat, step, at, n), NULL, NULL},
      .weight = pad(room->weight, c->row.weight, c->all->weight_step, at, n),
  };
  return padded;
}

/* The last n < 64 elements. */
NORMA_INLINE bool backward_rest(const dx_row *c, bool given, bool units, bool weights, int64_t at, const float *x,
                                const float *dy, const float *dsum, int64_t n, float *dx) {
  slope_room room;
  wide bad = wide_set(0);
  int64_t i = 0;
  for (; i + NORMA_QUARTER <= n; i += NORMA_QUARTER)
    bad = backward_quarter(&c->row, &c->shared, given, units, weights, at + i, x + i, dy + i, dsum ? dsum + i : NULL,
                           dx + i, bad);
  if (i < n && i > 0) { /* once more what is before them: an element stands alone */
    i = n - NORMA_QUARTER;
    bad = backward_quarter(&c->row, &c->shared, given, units, weights, at + i, x + i, dy + i, dsum ? dsum + i : NULL,
                           dx + i, bad);
  } else if (i < n) {
    row_slopes padded = slopes_pad(c, &room, at, n);
    const float *xs = pad(room.x, x, 1, 0, n), *dys = pad(room.dy, dy, 1, 0, n), *add = pad(room.dsum, dsum, 1, 0, n);
    bad = backward_quarter(&padded, &c->shared, given, units, weights, 0, xs, dys, add, dx, bad);
  }
  bool finite = !wide_is_bad(bad);
  if (__builtin_expect(!finite, 0)) backward_exact(c->all, c->r, at, x, dy, dsum, dx, n);
  return finite;
}

/* dz, as what is written: NaN is canonical. */
NORMA_INLINE void put_dafter(norma_type type, const float *dz, int64_t n, sink *dafter) {
  NORMA_ALIGNED float result[NORMA_GROUP] = {0};
  wide bad = wide_set(0);
  memcpy(result, dz, (size_t)n * sizeof *dz);
  for (int i = 0; i < NORMA_GROUP; i += NORMA_WIDE) bad = wide_bad(bad, wide_load(result + i));
  canonical(bad, result, n);
  store_group(type, dafter, result, n, !wide_is_bad(bad));
}

/* dafter: NULL where it is not wanted. */
NORMA_INLINE void backward_piece(norma_type type, const dx_row *c, bool given, bool units, bool weights, const void *x,
                                 const void *dy, int64_t at, int64_t n, sink *out, sink *dafter) {
  NORMA_ALIGNED float x_room[NORMA_GROUP], dy_room[NORMA_GROUP], dz_room[NORMA_GROUP], dsum_room[NORMA_GROUP];
  NORMA_ALIGNED float result[NORMA_GROUP];
  const norma_slopes *all = c->all;
  bool whole = n == NORMA_GROUP;
  const float *xs = whole ? load_group(type, x, at, x_room) : load_few(type, x, at, n, x_room);
  const float *dys = whole ? load_group(type, dy, at, dy_room) : load_few(type, dy, at, n, dy_room), *dsum = NULL;
  int64_t dsum_at = c->r * all->dsum_row + at;
  bool direct = sink_is_direct(type, out, dys, n) && !all->z && !all->dsum;
  float *dx = direct ? (float *)out->to : result;
  if (all->z) dys = dz_group(type, all->z, c->r, at, xs, dys, n, dz_room);
  if (all->dsum)
    dsum = whole ? load_group(type, all->dsum, dsum_at, dsum_room) : load_few(type, all->dsum, dsum_at, n, dsum_room);
  bool finite;
  if (whole && dsum) finite = backward_group(c, given, units, weights, at, xs, dys, dsum, dx);
  else if (whole) finite = backward_group(c, given, units, weights, at, xs, dys, NULL, dx);
  else if (dsum) finite = backward_rest(c, given, units, weights, at, xs, dys, dsum, n, dx);
  else finite = backward_rest(c, given, units, weights, at, xs, dys, NULL, n, dx);
  if (dafter) put_dafter(type, dys, n, dafter); /* may be dy */
  if (direct) out->to += n * (int64_t)sizeof *dx;
  else store_group(type, out, result, n, finite);
}

NORMA_INLINE void backward_row(norma_type type, const norma_slopes *c, bool units, bool weights, const norma_rows *rows,
                               int64_t r, sink *out, sink *dafter, norma_ahead *ahead) {
  int64_t size = element_bytes(type), n = rows->n, i = 0;
  const char *x = (const char *)rows->x + r * rows->x_stride * size;
  const char *dy = (const char *)rows->dy + r * rows->dy_stride * size;
  two_sums s = sums_of_nothing();
  bool takes_x = ahead && row_takes_x(type, &ahead->slopes, 0, weights, ahead->x), given = !c->dx.means;
  dx_row here = {.all = c, .r = r, .row = slopes_of_row(c, r)};
  here.shared = slopes_share(&here.row, units);
  for (; i + NORMA_GROUP <= n; i += NORMA_GROUP) {
    if (ahead) {
      prefetch_group(type, ahead->x, i + 8 * NORMA_GROUP);
      prefetch_group(type, ahead->dy, i + 8 * NORMA_GROUP);
      gradients_piece(type, &ahead->slopes, 0, weights, takes_x, ahead->x, ahead->dy, i, NORMA_GROUP, ahead->pivot, &s);
    }
    if (rows->x_ahead) prefetch_group(type, x, i + rows->x_ahead);
    if (rows->dy_ahead) prefetch_group(type, dy, i + rows->dy_ahead);
    sink_ahead(out, out->to, group_bytes(type));
    backward_piece(type, &here, given, units, weights, x, dy, i, NORMA_GROUP, out, dafter);
  }
  if (i < n) {
    if (ahead)
      gradients_piece(type, &ahead->slopes, 0, weights, takes_x, ahead->x, ahead->dy, i, (int)(n - i), ahead->pivot,
                      &s);
    backward_piece(type, &here, given, units, weights, x, dy, i, n - i, out, dafter);
  }
  if (ahead) sums_end(&s, ahead->sum);
  if (takes_x) gradients_end(type, &ahead->slopes, 0, ahead->x, ahead->dy, n, ahead->sum);
}

NORMA_INLINE void backward_rows(norma_type type, const norma_slopes *c, bool units, bool weights,
                                const norma_rows *rows, bool stream, norma_ahead *ahead) {
  bool lines = stream && are_lines(type, c->dafter, c->dafter_row, rows->rows, rows->n);
  for (int64_t r = 0; r < rows->rows; r++) {
    sink out = sink_of_row(type, rows->y, rows->y_stride, rows->n, r, stream), dafter;
    if (c->dafter) dafter = sink_of_row(type, c->dafter, c->dafter_row, rows->n, r, lines);
    backward_row(type, c, units, weights, rows, r, &out, c->dafter ? &dafter : NULL, ahead);
  }
}

#endif
