/* Layers whose runs go down columns that are neighbours in memory, as in channels-last tensors: what the forward and
 * the backward pass over them share. */
#ifndef NORMA_COLUMN_PLAN_H
#define NORMA_COLUMN_PLAN_H

#include "vector.h"

/*
 * The axes that are kept are either COLUMNS, next to each other in memory, or PLANES. A unit (or a parameter) is a
 * column, or `middle` of them; each has outer_count runs of `rows`.
 */
typedef struct norma_column_plan {
  const norma_call *call;
  const norma_kernels *kernels;
  norma_axes planes, columns, outer, run;
  int64_t plane_count, width, rows, middle;
  int64_t outer_count, outer_middle; /* the middle level may be outside the columns: the last factor of outer_count */
  int64_t stretch, pieces_of_run; /* rows of a stretch, stretches */
  norma_walk unit_planes, unit_columns; /* the unit of a plane and column, in norma_saved */
} norma_column_plan;

/* An array along the axes of a plan. */
typedef struct norma_column_view {
  norma_walk planes, outer;
  char *data;
  int64_t row_stride, column_stride;
  int64_t size; /* bytes per element */
} norma_column_view;

bool norma_column_plan_make(norma_column_plan *p, const norma_call *call, const norma_operand *also,
                            norma_extent extent);
/* False if the array has other steps along rows or columns than one each. An absent array has none. */
bool norma_column_view_make(const norma_column_plan *p, const norma_operand *operand, norma_column_view *view);
char *norma_column_at(const norma_column_view *view, int64_t plane, int64_t outer, int64_t row, int64_t column);

/* The unit of a column. */
int64_t norma_column_unit(const norma_column_plan *p, int64_t plane, int64_t column);
/* Those of n columns from `column` on, and their means unless `means` is NULL: where they are, if each column has the
 * unit after the one before it; else in `room`, which has n of both. */
typedef struct norma_column_units {
  const norma_saved *saved;
  const norma_pair *means;
} norma_column_units;
norma_column_units norma_column_units_of(const norma_column_plan *p, const norma_saved *saved, const norma_pair *means,
                                         int64_t plane, int64_t column, int64_t n, norma_saved *saved_room,
                                         norma_pair *means_room);

/* The most columns that are measured and written at once, and whose coefficients are made at once, on the stack: the
 * longer the pieces of rows, the faster, as long as those stay in the first-level cache. */
enum { NORMA_WRITTEN = 1024 };

/* Parameters of as many columns. */
typedef struct norma_column_affine {
  float weight[NORMA_WRITTEN], bias[NORMA_WRITTEN];
} norma_column_affine;

/* Rows row .. row + rows - 1 of a run. */
typedef struct norma_column_chunk {
  int64_t plane, outer, row, rows;
} norma_column_chunk;

/* Chunks begin .. end - 1 of those that an array is divided into, planes outermost. */
typedef struct norma_column_chunks {
  const norma_column_plan *plan;
  int64_t rows, per_run; /* of a chunk, chunks */
  int64_t begin, end;
} norma_column_chunks;
norma_column_chunk norma_column_chunk_at(const norma_column_chunks *chunks, int64_t i);

/* Writes the results of all these chunks in columns column .. column + n - 1, n <= NORMA_WRITTEN. */
typedef void norma_column_write(const void *pass, const norma_column_chunks *chunks, int64_t column, int64_t n);
/* All of them by threads; bytes as in norma_parallel. whole: a chunk is a run. */
void norma_column_write_all(const norma_column_plan *p, norma_column_write *write, const void *pass, bool stream,
                            bool whole, int64_t bytes);

/* Those of one plane, by the calling thread; the fence is the caller's. */
void norma_column_write_plane(const norma_column_plan *p, norma_column_write *write, const void *pass, int64_t plane);
/* Elements from a plane of an array to the next, which is read soon; 0 at the last. */
static inline int64_t norma_column_ahead(const norma_column_plan *p, const norma_column_view *v, int64_t plane) {
  if (plane + 1 >= p->plane_count) return 0;
  return norma_walk_offset(&v->planes, plane + 1) - norma_walk_offset(&v->planes, plane);
}

/* Elements from a row to one that is read soon, where rows of n columns are read in order: two rows on at least,
 * because rows of a tile lie apart and no prefetcher of a processor goes from one to the next; and 4 KiB on. */
static inline int64_t norma_column_soon(const norma_column_view *v, int64_t n) {
  int64_t rows = 4096 / (n * v->size);
  return v->row_stride * (rows > 2 ? rows : 2);
}

/* How many rows are written as one: few columns make loops that end before they have begun. They are so taken where the
 * rows of all elements follow each other without a gap, and no parameter changes with the row; else 1. */
int64_t norma_column_fold(const norma_column_plan *p, const norma_column_view *const elements[], int count,
                          const norma_column_view *weight, const norma_column_view *bias);
/* Takes from these rows those that are left where `fold` are written as one. */
norma_column_chunk norma_column_rest(norma_column_chunk *rows, int64_t fold);
/* The coefficients of a row, as those of `fold` rows. */
void norma_column_repeat(void *of_a_row, size_t bytes, int64_t fold);
/* The units of n columns, and their means where there are any, in rooms that they may be in. */
void norma_column_repeat_units(norma_column_units *units, norma_saved *saved_room, norma_pair *means_room, int64_t n,
                               int64_t fold);
/* The parameters of n columns with the steps in c, in `room`; where there are none, or one for all, they stay. */
void norma_column_repeat_params(norma_coefs *c, int64_t n, int64_t fold, norma_column_affine *room);

/* Sets where weight, bias and after begin for these rows, from some column on, and the steps of all three. */
void norma_column_params_at(norma_coefs *c, const norma_column_view *weight, const norma_column_view *bias,
                            const norma_column_view *after, const norma_column_chunk *rows, int64_t column);

/* Columns of a piece of work, at most `wide`: fewer where `others` pieces beside each other are too few for all
 * threads. */
int64_t norma_column_piece(const norma_column_plan *p, int64_t others, int64_t wide);

static inline int64_t norma_smaller(int64_t a, int64_t b) { return a < b ? a : b; }

#endif
