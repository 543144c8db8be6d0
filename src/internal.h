/* What the files of the library share: errors, operands (arrays seen along the axes of a layer) and walks over them. */
#ifndef NORMA_INTERNAL_H
#define NORMA_INTERNAL_H

#include "norma.h"

#include <stdbool.h>

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "norma needs IEEE arithmetic: compile without -ffast-math and -ffinite-math-only"
#endif

/* status.c: fills *error if there is one, and returns status. */
norma_status norma_fail(norma_error *error, norma_status status, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;

/* layers.c: a layer that a caller filled by hand is checked as strictly as one of ours. */
norma_status norma_layer_check(const norma_layer *layer, const char *name, norma_error *error);

/* --------------------------------------------------------------------------------------------------- operands --- */

/* Which axes of the layer an array varies along. */
typedef enum norma_extent { NORMA_ELEMENTS, NORMA_PARAMS, NORMA_UNITS } norma_extent;

bool norma_varies(const norma_axis *axis, norma_extent extent);

/* An array seen along the axes of a layer: the stride, in elements, of each axis; 0 where it does not vary. */
typedef struct norma_operand {
  char *data;  /* NULL: absent */
  norma_type type;
  int64_t stride[NORMA_MAX_AXES];
} norma_operand;

/* strides: one per dimension of the tensor, or NULL for a dense array in the order of the pattern. */
norma_operand norma_bind(const norma_layer *layer, norma_extent extent, const void *data, norma_type type,
                         const int64_t *strides);

/* One field of an array of norma_saved, which a walk then reads like any float64 array. */
norma_operand norma_bind_doubles(const norma_layer *layer, const double *field, int64_t doubles_apart);

/* Ordered subset of a layer's axes. A position in it counts in mixed radix, the last axis fastest. */
typedef struct norma_axes {
  int count;
  int index[NORMA_MAX_AXES];
} norma_axes;

int64_t norma_axes_length(const norma_layer *layer, const norma_axes *axes);

/* An operand along a subset of axes in canonical form: no axes of length 1, neighbours merged where strides allow. */
typedef struct norma_walk {
  char *data;
  norma_type type;
  int count;
  int64_t length[NORMA_MAX_AXES], stride[NORMA_MAX_AXES];
} norma_walk;

norma_walk norma_walk_make(const norma_layer *layer, const norma_axes *axes, const norma_operand *operand);
/* Elements from the operand's start to a position. */
int64_t norma_walk_offset(const norma_walk *walk, int64_t position);
/* Positions first .. first + n - 1, shifted by `offset` elements, to or from n doubles. */
void norma_walk_gather(const norma_walk *walk, int64_t offset, int64_t first, int64_t n, double *to);
void norma_walk_scatter(const norma_walk *walk, int64_t offset, int64_t first, int64_t n, const double *from);

/* --------------------------------------------------------------------------------------------- validation --- */

/* One array argument, as the checks see it. */
typedef struct norma_argument {
  const char *name;
  norma_operand operand;
  norma_extent extent;
  int64_t item;     /* bytes per element; operand.stride counts these */
  bool output;
  int in_place_of;  /* 1 + the index of the argument it may equal, or 0 */
  const norma_layer *layer;  /* if it is not the call's layer */
} norma_argument;

enum { NORMA_MAX_ARGUMENTS = 16 };

/* arguments.c: alignment, overflow, stride 0 and self-overlap of outputs, overlap of each output with everything else. */
norma_status norma_check_arguments(const norma_layer *layer, const norma_argument *arguments, int count,
                                   norma_error *error);

/* Checks eps and puts the default where the field is zero and `zero`, the caller's flag for a true 0, is not set. */
norma_status norma_resolve_eps(double *eps, const char *name, bool zero, double standard, norma_error *error);

/* ------------------------------------------------------------------------------------------------- reductions --- */

/* A sum held as hi + lo. */
typedef struct norma_sum {
  double hi, lo;
} norma_sum;
void norma_sum_add(norma_sum *into, norma_sum other);

/* moments.c: from sums of deviations and of their squares about a pivot; and Chan's merge, in the caller's float mode. */
norma_moments norma_moments_about(double pivot, double deviations, double squares, int64_t count);
void norma_moments_join(norma_moments *into, const norma_moments *other);

/* What a stretch of positions, or any union of them in order, adds up to. A reduction uses one half or the other. */
typedef struct norma_partial {
  norma_moments moments;
  norma_sum first, second;
} norma_partial;

enum { NORMA_MAX_VIEWS = 7 };

/* Sums along all axes that an array of the given extent does not vary along: one result per element of that array (a
 * "column"). The axes summed over form three levels, by the dimension they belong to; docs/accuracy.md has the tree. */
typedef struct norma_reduction {
  const norma_layer *layer;
  norma_axes kept, outer, middle, run;
  int64_t columns;
  int views;
  struct {
    norma_walk kept, outer, middle, run;
  } view[NORMA_MAX_VIEWS];
} norma_reduction;

norma_reduction norma_reduction_make(const norma_layer *layer, norma_extent kept);
/* Adds an array that is read; returns its index among the views. */
int norma_reduction_view(norma_reduction *reduction, const norma_operand *operand);

/* Sums positions first .. first + n - 1 of one run, n <= NORMA_STRETCH; offset[v] is where the run starts in view v. */
typedef void norma_stretch(void *context, const norma_reduction *reduction, const int64_t offset[], int64_t first,
                           int64_t n, norma_partial *piece);
void norma_reduce(const norma_reduction *reduction, int64_t column, norma_stretch *stretch, void *context,
                  norma_partial *total);
/* The value of view v at the first position of a column. */
double norma_reduction_first(const norma_reduction *reduction, int v, int64_t column);

/* -------------------------------------------------------------------------------------- the call, both ways --- */

/* A checked call of forward or backward, whichever interface it came from. */
typedef struct norma_call {
  const norma_layer *layer;
  norma_type type;
  norma_operand x, y, dy, dx, weight, bias;
  norma_operand given_mean, given_var;  /* present: statistics are given */
  norma_operand mean, var, rstd;        /* forward's outputs per unit */
  norma_operand dweight, dbias;         /* backward's outputs per gamma */
  double weight_offset;                 /* added to weight: 1 for the 1 + scale form */
  double eps, alpha;                    /* alpha: y is blended with x; 1 for all but AdaIN */
  int ddof;
  const norma_threads *threads;
} norma_call;

/* norma.c: checks all arguments and resolves the defaults. */
norma_status norma_check_forward(const norma_forward_args *args, norma_call *call, norma_error *error);
norma_status norma_check_backward(const norma_backward_args *args, norma_call *call, norma_error *error);

/* adain.c: the content and the style as two calls; gamma and beta change along everything that is kept. */
typedef struct norma_adain_call {
  norma_layer content_layer, style_layer;
  norma_call content, style;  /* style.y is dstyle */
} norma_adain_call;
norma_status norma_check_adain(const norma_adain_args *args, bool backward, norma_adain_call *made, norma_error *error);

/* statistics.c: what normalizes each unit, from x or from given statistics; also the outputs mean, var and rstd, and
 * moments where that is not NULL. */
void norma_statistics(const norma_call *call, norma_saved *saved, norma_moments *moments);
/* The moments of column 0 of a reduction whose view 0 is the data, in the caller's float mode. */
norma_moments norma_column_moments(const norma_reduction *reduction, bool rms);

/* gradients.c: for each unit mean(q) and sum(q xhat) / (m - ddof); for each gamma sum(dy xhat) and sum(dy). */
typedef struct norma_pair {
  double q, q_xhat;
} norma_pair;
void norma_unit_gradients(const norma_call *call, const norma_saved *saved, norma_pair *means);
void norma_param_gradients(const norma_call *call, const norma_saved *saved);

/* elementwise.c: y, and dx, of every element; means is NULL with given statistics. */
void norma_apply_forward(const norma_call *call, const norma_saved *saved);
void norma_apply_backward(const norma_call *call, const norma_saved *saved, const norma_pair *means);

/* ------------------------------------------------------------------------------------------------- resources --- */

/* resources.c: calls range(context, begin, end) for pieces of 0..total-1 of at least `grain`; each piece runs in round
 * to nearest without flush-to-zero, whatever its thread had set. */
typedef void norma_range(void *context, int64_t begin, int64_t end);
void norma_parallel(const norma_threads *threads, int64_t total, int64_t grain, norma_range *range, void *context);

/* The caller's workspace, or our own where they gave none. */
typedef struct norma_arena {
  char *next;
  void *owned;
} norma_arena;
norma_status norma_arena_open(norma_arena *arena, void *workspace, size_t given, size_t needed, norma_error *error);
void *norma_arena_take(norma_arena *arena, size_t bytes);
void norma_arena_close(norma_arena *arena);
size_t norma_arena_bytes(size_t bytes);  /* what taking that many bytes uses up; add 64 once for alignment */

#endif
