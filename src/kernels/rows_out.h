/* Template: the kernels that write rows: which loops, and the way to memory. */
#ifndef NORMA_ROWS_OUT_H
#define NORMA_ROWS_OUT_H

#include "rows_halves.h"

NORMA_INLINE void forward_floats(const norma_coefs *c, const norma_rows *rows) {
  bool weights = c->weight && c->weight_step, biases = c->bias && c->bias_step;
  if (weights && biases) forward_short(c, true, true, rows);
  else if (weights) forward_short(c, true, false, rows);
  else if (biases) forward_short(c, false, true, rows);
  else forward_short(c, false, false, rows);
}

static NORMA_TARGET __attribute__((noinline)) void forward_halves(norma_type type, const norma_coefs *c,
                                                                  const norma_rows *rows) {
  NORMA_ALIGNED float x[HALVES], y[HALVES];
  for (int64_t r = 0; r < rows->rows;) {
    norma_coefs from = coefs_from(c, r);
    norma_rows some = widened(type, rows, r, x, NULL);
    some.y = y;
    forward_floats(&from, &some);
    narrow_rows(type, y, some.rows, some.n, (uint16_t *)rows->y + r * rows->y_stride, rows->y_stride);
    r += some.rows;
  }
}

static NORMA_TARGET __attribute__((noinline)) void forward_straight(norma_type type, const norma_coefs *c,
                                                                    const norma_rows *rows, bool stream,
                                                                    norma_ahead *ahead) {
  if (forward_is_short(type, c, rows, stream)) forward_floats(c, rows);
  else if (forward_is_halves(type, c, rows, stream)) forward_halves(type, c, rows);
  else forward_rows(type, c, rows, stream, ahead);
}

NORMA_INLINE void backward_floats(const norma_slopes *c, const norma_rows *rows) {
  bool weights = c->weight && c->weight_step, given = !c->dx.means;
  if (given && weights) backward_short(c, true, true, rows);
  else if (given) backward_short(c, true, false, rows);
  else if (weights) backward_short(c, false, true, rows);
  else backward_short(c, false, false, rows);
}

static NORMA_TARGET __attribute__((noinline)) void backward_halves(norma_type type, const norma_slopes *c,
                                                                   const norma_rows *rows) {
  NORMA_ALIGNED float x[HALVES], dy[HALVES], dx[HALVES];
  for (int64_t r = 0; r < rows->rows;) {
    norma_slopes from = slopes_from(c, r);
    norma_rows some = widened(type, rows, r, x, dy);
    some.y = dx;
    backward_floats(&from, &some);
    narrow_rows(type, dx, some.rows, some.n, (uint16_t *)rows->y + r * rows->y_stride, rows->y_stride);
    r += some.rows;
  }
}

static NORMA_TARGET __attribute__((noinline)) void backward_straight(norma_type type, const norma_slopes *c,
                                                                     const norma_rows *rows, bool stream,
                                                                     norma_ahead *ahead) {
  bool units = c->unit_step, weights = c->weight && c->weight_step;
  if (backward_is_short(type, c, rows, stream)) backward_floats(c, rows);
  else if (backward_is_halves(type, c, rows, stream)) backward_halves(type, c, rows);
  else if (units && weights) backward_rows(type, c, true, true, rows, stream, NULL);
  else if (units) backward_rows(type, c, true, false, rows, stream, NULL);
  else if (weights) backward_rows(type, c, false, true, rows, stream, ahead);
  else backward_rows(type, c, false, false, rows, stream, ahead);
}

/* ---------------------------------------------------------------------------------------------- past the caches --- */

/* Only whole lines go past the caches. Rows that begin or end inside of a line, and those so short that the loops of
 * short rows gain more, are computed in a room in the first-level cache, several at once where no gap is between them,
 * and go from there. */
enum { ROOM_BYTES = NORMA_STRETCH * sizeof(float), FEW_LINES = 512 };

NORMA_INLINE bool rows_go_straight(norma_type type, const norma_rows *rows) {
  return rows->n > NORMA_GROUP && are_lines(type, rows->y, rows->y_stride, rows->rows, rows->n);
}

/* As many rows as are computed at once; 0: these are stored as usual. */
NORMA_INLINE int64_t rows_of_room(norma_type type, const norma_rows *rows) {
  int64_t bytes = rows->n * element_bytes(type), fit = ROOM_BYTES / bytes;
  bool gaps = rows->rows > 1 && rows->y_stride != rows->n;
  if (!gaps) return fit < rows->rows ? fit : rows->rows;
  return bytes >= FEW_LINES && fit > 0;
}

/* From row r on, `count` rows, in `room` at the same place in a line. */
NORMA_INLINE norma_rows rows_in_room(norma_type type, const norma_rows *rows, int64_t r, int64_t count, char *room) {
  int64_t size = element_bytes(type);
  norma_rows some = *rows;
  some.x = (const char *)rows->x + r * rows->x_stride * size;
  if (rows->dy) some.dy = (const char *)rows->dy + r * rows->dy_stride * size;
  some.y = room + ((uintptr_t)rows->y + (uintptr_t)(r * rows->y_stride * size)) % 64;
  some.y_stride = rows->n;
  some.rows = rows->rows - r < count ? rows->rows - r : count;
  return some;
}

NORMA_INLINE void rows_leave_room(norma_type type, const norma_rows *rows, int64_t r, const norma_rows *some) {
  int64_t size = element_bytes(type);
  stream_bytes((char *)rows->y + r * rows->y_stride * size, some->y, some->rows * some->n * size);
}

NORMA_INLINE norma_coefs coefs_in_room(norma_type type, const norma_coefs *c, int64_t r) {
  norma_coefs from = coefs_from(c, r);
  if (c->after) from.after = (const char *)c->after + r * c->after_row * element_bytes(type);
  return from;
}

static NORMA_TARGET void row_forward(norma_type type, const norma_coefs *c, const norma_rows *rows, bool stream,
                                     norma_ahead *ahead) {
  NORMA_ALIGNED char room[ROOM_BYTES + 64];
  bool straight = !stream || rows_go_straight(type, rows);
  int64_t count = straight ? 0 : rows_of_room(type, rows);
  if (count == 0) forward_straight(type, c, rows, stream && straight, ahead);
  for (int64_t r = 0; r < rows->rows && count > 0; r += count) {
    norma_rows some = rows_in_room(type, rows, r, count, room);
    norma_coefs from = coefs_in_room(type, c, r);
    forward_straight(type, &from, &some, false, ahead);
    rows_leave_room(type, rows, r, &some);
  }
}

/* z: room for the coefficients of an activation. */
NORMA_INLINE norma_slopes slopes_in_room(norma_type type, const norma_slopes *c, int64_t r, norma_coefs *z) {
  norma_slopes from = slopes_from(c, r);
  int64_t size = element_bytes(type);
  if (c->dsum) from.dsum = (const char *)c->dsum + r * c->dsum_row * size;
  if (c->dafter) from.dafter = (char *)c->dafter + r * c->dafter_row * size;
  if (!c->z) return from;
  *z = coefs_in_room(type, c->z, r);
  from.z = z;
  return from;
}

static NORMA_TARGET void row_backward(norma_type type, const norma_slopes *c, const norma_rows *rows, bool stream,
                                      norma_ahead *ahead) {
  NORMA_ALIGNED char room[ROOM_BYTES + 64];
  bool straight = !stream || rows_go_straight(type, rows);
  int64_t count = straight ? 0 : rows_of_room(type, rows);
  if (count == 0) backward_straight(type, c, rows, stream && straight, ahead);
  for (int64_t r = 0; r < rows->rows && count > 0; r += count) {
    norma_coefs z;
    norma_rows some = rows_in_room(type, rows, r, count, room);
    norma_slopes from = slopes_in_room(type, c, r, &z);
    backward_straight(type, &from, &some, false, ahead);
    rows_leave_room(type, rows, r, &some);
  }
}

#endif
