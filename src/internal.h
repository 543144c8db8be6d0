/* What the files of the library share: errors, operands (arrays seen along the axes of a layer), a checked call. */
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

/* kernels/parallel.c: the body of a public function, in round to nearest without flush-to-zero and without traps. */
typedef norma_status norma_body(const void *args, norma_error *error);
norma_status norma_run(norma_body *body, const void *args, norma_error *error);

/* layers.c: a layer that a caller filled by hand is checked as strictly as one of ours. */
norma_status norma_layer_check(const norma_layer *layer, const char *name, norma_error *error);
bool norma_layer_has_affine(const norma_layer *layer);

/* --------------------------------------------------------------------------------------------------- operands --- */

/* Which axes of the layer an array varies along. */
typedef enum norma_extent { NORMA_ELEMENTS, NORMA_PARAMS, NORMA_UNITS } norma_extent;

/* kernels/walk.c has these three. */
bool norma_varies(const norma_axis *axis, norma_extent extent);

/* An array seen along the axes of a layer: the stride, in elements, of each axis; 0 where it does not vary. */
typedef struct norma_operand {
  char *data; /* NULL: absent */
  norma_type type;
  int64_t stride[NORMA_MAX_AXES];
} norma_operand;

/* strides: one per dimension of the tensor, or NULL for a dense array in the order of the pattern. Of an array that is
 * absent or empty they are not looked at; a step that does not fit is INT64_MAX, which the checks refuse. */
void norma_bind_to(norma_operand *to, const norma_layer *layer, norma_extent extent, const void *data, norma_type type,
                   const int64_t *strides);
norma_operand norma_bind(const norma_layer *layer, norma_extent extent, const void *data, norma_type type,
                         const int64_t *strides);

/* One field of an array of norma_saved, which a walk then reads like any float64 array. */
norma_operand norma_bind_doubles(const norma_layer *layer, const double *field, int64_t doubles_apart);

/* --------------------------------------------------------------------------------------------- validation --- */

/* One array argument, as the checks see it. */
typedef enum norma_role {
  NORMA_INPUT,
  NORMA_OUTPUT,
  NORMA_IN_PLACE,      /* may be the array before it in the list, */
  NORMA_IN_PLACE_NEXT, /* behind it, */
  NORMA_IN_PLACE_BOTH  /* either */
} norma_role;
typedef struct norma_argument {
  const char *name;
  const norma_layer *layer;
  const norma_operand *operand;
  norma_extent extent;
  norma_role role;
  int64_t item; /* bytes per element; operand->stride counts these */
} norma_argument;
norma_argument norma_array(const char *name, const norma_layer *layer, norma_extent extent,
                           const norma_operand *operand, norma_role role);

enum { NORMA_MAX_ARGUMENTS = 25 };

/* arguments.c: alignment, overflow, stride 0 and self-overlap of outputs, overlap of outputs with everything else. */
norma_status norma_check_arguments(const norma_argument *arguments, int count, norma_error *error);

/* Checks that all interfaces share. */
norma_status norma_check_args(const void *args, size_t size, size_t right, const char *type, norma_error *error);
norma_status norma_check_type(norma_type type, const char *name, norma_error *error);
norma_status norma_check_ddof(int ddof, const char *name, norma_error *error);
norma_status norma_check_flags(unsigned flags, unsigned known, norma_error *error);
/* Checks eps and puts the default where the field is zero and `zero`, the caller's flag for a true 0, is not set. */
norma_status norma_resolve_eps(double *eps, const char *name, bool zero, double standard, norma_error *error);

/* -------------------------------------------------------------------------------------- the call, both ways --- */

/* A checked call of forward or backward, whichever interface it came from. */
typedef struct norma_call {
  const norma_layer *layer;
  norma_type type;
  norma_operand x, y, dy, dx, weight, bias;
  norma_operand given_mean, given_var; /* present: statistics are given */
  norma_operand mean, var, rstd;       /* forward's outputs per unit */
  norma_operand dweight, dbias;        /* backward's outputs per gamma */
  norma_operand gain;                  /* per unit, present in AdaIN's backward: stands for gamma * scale in dx */
  double weight_offset;                /* 1 for the 1 + scale form: norma_gamma_make adds it to weight */
  double param_scale;                  /* multiplies weight and bias in the forward pass; 1 for all but AdaIN */
  double eps, alpha;                   /* alpha: y is blended with x; 1 for all but AdaIN */
  int ddof;
  const norma_threads *threads;
  norma_operand residual, sum, after; /* forward: sum = x + residual is what is normalized; after is added to y */
  norma_operand dafter, dsum;         /* backward: the gradient of after; what is added to dx */
  norma_activation activation;        /* of y; backward takes bias and after too where there is one */
  const norma_moments *given_moments; /* [given_samples][units], present: statistics are given; never with given_var */
  int64_t given_samples;
  norma_sums *sums;  /* backward, of a layer whose units are single runs: per unit, what its run adds up to */
  bool means_known;  /* backward: the means of the units are known, x and dy are not summed for them */
} norma_call;

/* Whether forward takes statistics instead of measuring x. */
static inline bool norma_is_given(const norma_call *call) { return call->given_var.data || call->given_moments; }

/* norma.c: checks all arguments and resolves the defaults. */
norma_status norma_check_forward(const norma_forward_args *args, norma_call *call, norma_error *error);
norma_status norma_check_backward(const norma_backward_args *args, norma_call *call, norma_error *error);

/* samples.c: whether the units of a layer come apart into runs, one per sample; the layer that has those as units; and
 * a table [samples][units] of structs, as the checks see it. */
norma_status norma_check_splits(const norma_layer *layer, const char *name, norma_error *error);
norma_layer norma_split_layer(const norma_layer *layer);
norma_layer norma_table(int64_t samples, const norma_layer *layer);
/* What is given must be sound, and of at least the elements of x. */
norma_status norma_check_given_moments(const norma_call *call, bool refuse_single, norma_error *error);
norma_status norma_check_given_sums(const norma_call *call, const norma_sums *sums, int64_t samples,
                                    norma_error *error);

/* adain.c: the content and the style as two calls; gamma and beta change along everything that is kept. */
typedef struct norma_adain_call {
  norma_layer content_layer, style_layer;
  norma_call content, style; /* style.y is dstyle */
} norma_adain_call;
norma_status norma_check_adain(const norma_adain_args *args, bool backward, norma_adain_call *made, norma_error *error);

/* ------------------------------------------------------------------------------------------------- workspace --- */

/* workspace.c: the caller's memory, or our own where they gave none; all that calls keep is doubles per unit. */
typedef struct norma_workspace {
  double *doubles;
  void *owned;
} norma_workspace;
size_t norma_workspace_bytes(int64_t units, int doubles_per_unit);
static inline size_t norma_add_bytes(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }
norma_status norma_workspace_open(norma_workspace *made, void *given, size_t given_size, size_t needed,
                                  norma_error *error);
void norma_workspace_close(norma_workspace *workspace);

/* gamma.c: where the caller's flags say 1 + weight, the bytes that it needs; and makes it, which then is the weight of
 * the call. Returns the workspace behind it. */
size_t norma_gamma_bytes(const norma_layer *layer, const void *weight, unsigned flags);
double *norma_gamma_make(norma_call *call, double *workspace);

#endif
