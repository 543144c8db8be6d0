/* The sums of the backward pass down neighbouring columns, which dx and the gradients of the parameters are made of. */
#ifndef NORMA_COLUMN_SUMS_H
#define NORMA_COLUMN_SUMS_H

#include "column_plan.h"

typedef struct norma_column_pass {
  norma_column_plan plan;
  norma_column_view x, dy, dx, after, dsum, dafter, weight, bias;
  const norma_saved *saved;
  norma_pair *means;
  bool varies;         /* the weight changes along a run: with the row */
  bool by_row;         /* the unit changes with the row, not with the column */
  int64_t row_doubles; /* then: from one row's norma_saved to the next */
  norma_walk row_planes, row_outer;
  norma_partial_sums *pieces; /* [piece of the run][plane][outer][column] */
  norma_walk dweight_planes, dweight_columns, dbias_planes, dbias_columns;
  bool stream;
  int64_t wide;  /* columns of a piece of work for threads */
  int64_t fold;  /* rows of all columns that are written as one */
  bool keeps;    /* dz, in dx */
  bool by_plane; /* a plane is written while it is in a cache, and the next one fetched */
  bool sums_with_dx; /* dx does not wait for the sums: a run is written while it is in a cache */
} norma_column_pass;

/* Columns of a piece of work, at most. */
enum { NORMA_WIDE = 2 * NORMA_COLUMNS };

/* Of columns first .. first + n - 1, n <= NORMA_COLUMNS, of one piece of a run. */
void norma_column_sum_piece(const norma_column_pass *p, int64_t plane, int64_t outer, int64_t piece, int64_t first,
                            int64_t n);
/* Of all; and of one plane. */
void norma_column_sum_all(norma_column_pass *p);
void norma_column_sum_plane(norma_column_pass *p, int64_t plane);
/* A norma_range over units: what their dx needs, from the sums. */
void norma_column_unit_means(void *pass, int64_t begin, int64_t end);
/* dweight and dbias, where the runs of the parameters are those of the units. */
void norma_column_params_from_units(const norma_column_pass *p);
/* A norma_range over units that are single runs: each as a value, in call->sums. */
void norma_column_put_sums(void *pass, int64_t begin, int64_t end);

/* Whether an array that the call may lack has neighbouring columns as neighbours. */
static inline bool norma_column_is_dense(const norma_column_view *view) {
  return !view->data || view->column_stride == 1;
}

#endif
