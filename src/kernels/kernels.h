/* Everything that touches elements: rows, walks, the summation tree, and the passes that a layer is made of. What comes
 * here has been checked. */
#ifndef NORMA_KERNELS_H
#define NORMA_KERNELS_H

#include "internal.h"
#include "merge.h"

#include <math.h>

/* ---------------------------------------------------------------------------------------------- rows, the tree --- */

/* n elements, `stride` apart; every NaN written is the canonical quiet NaN of its type. */
void norma_load(norma_type type, const void *from, int64_t stride, double *to, int64_t n);
void norma_store(norma_type type, const double *from, void *to, int64_t stride, int64_t n);
/* Element i of a dense array, or `absent` if there is no array. */
static inline double norma_load_one(norma_type type, const void *array, int64_t i, double absent) {
  double value = absent;
  if (type == NORMA_F32) return array ? ((const float *)array)[i] : absent; /* each short row needs three */
  if (array) norma_load(type, (const char *)array + i * (int64_t)norma_type_size(type), 0, &value, 1);
  return value;
}
void norma_store_one(norma_type type, void *array, int64_t i, double value);
/* float16 as float32 and back, NaN to the canonical one. */
void norma_widen_f16(const uint16_t *from, float *to, int64_t n);
void norma_narrow_f16(const float *from, uint16_t *to, int64_t n);

/* The summation trees, on consecutive positions (docs/accuracy.md). Of a unit: a group is 64 positions, position i
 * in lane i mod 8; lanes of groups are added in order; a stretch ends as ((A0 + A4) + (A1 + A5)) + ((A2 + A6) +
 * (A3 + A7)). Of parameters that are summed across units: a quarter is 16 positions, position i in lane i mod 4;
 * quarter k goes to accumulator k mod 4; a stretch ends as (A0 + A1) + (A2 + A3). It is shorter, because threads
 * take whole stretches and there have to be enough, and 16 rows at a time are what a cache holds. */
enum { NORMA_GROUP = 64, NORMA_LANES = 8, NORMA_QUARTER = 16, NORMA_BLOCK = 256, NORMA_STRETCH = 4096 };
enum { NORMA_ACROSS = 256 };

typedef struct norma_tree {
  bool across;
  double accumulator[NORMA_LANES];
} norma_tree;

/* Adds n <= NORMA_BLOCK values that start at a multiple of 64. */
void norma_tree_add(norma_tree *tree, const double *value, int64_t n);
double norma_tree_sum(const norma_tree *tree);

/* ------------------------------------------------------------------------------------------------------- walks --- */

/* Ordered subset of a layer's axes. A position in it counts in mixed radix, the last axis fastest. */
typedef struct norma_axes {
  int count;
  int index[NORMA_MAX_AXES];
} norma_axes;

int64_t norma_axes_length(const norma_layer *layer, const norma_axes *axes);
static inline bool norma_axes_contain(const norma_axes *axes, int axis) {
  for (int i = 0; i < axes->count; i++)
    if (axes->index[i] == axis) return true;
  return false;
}

/* An operand along a subset of axes in canonical form: no axes of length 1, neighbours merged where strides allow. */
typedef struct norma_walk {
  char *data;
  norma_type type;
  int count;
  int64_t length[NORMA_MAX_AXES], stride[NORMA_MAX_AXES];
} norma_walk;

/* Walks and reductions are large: small calls feel it if one is cleared or copied, hence the second form. */
void norma_walk_init(norma_walk *walk, const norma_layer *layer, const norma_axes *axes, const norma_operand *operand);
norma_walk norma_walk_make(const norma_layer *layer, const norma_axes *axes, const norma_operand *operand);
/* Elements from the operand's start to a position. */
int64_t norma_walk_locate(const norma_walk *walk, int64_t position);
static inline int64_t norma_walk_offset(const norma_walk *walk, int64_t position) {
  if (walk->count > 1) return norma_walk_locate(walk, position);
  return walk->count == 1 ? position * walk->stride[0] : 0; /* each short run asks several times */
}
/* Whether not all positions are one element. */
static inline bool norma_walk_moves(const norma_walk *walk) {
  for (int i = 0; i < walk->count; i++)
    if (walk->stride[i]) return true;
  return false;
}
/* Positions first .. first + n - 1, shifted by `offset` elements, to or from n doubles. */
void norma_walk_gather(const norma_walk *walk, int64_t offset, int64_t first, int64_t n, double *to);
void norma_walk_scatter(const norma_walk *walk, int64_t offset, int64_t first, int64_t n, const double *from);

/* -------------------------------------------------------------------------------------------------- reductions --- */

typedef struct norma_partial_sums {
  norma_sum first, second;
} norma_partial_sums;
static inline void norma_partial_sums_join(norma_partial_sums *into, const norma_partial_sums *piece) {
  norma_sum_add(&into->first, piece->first);
  norma_sum_add(&into->second, piece->second);
}

/* What a stretch of positions, or any union of them in order, adds up to. A reduction uses one half or the other. */
typedef struct norma_partial {
  norma_moments moments;
  norma_partial_sums sums;
} norma_partial;

enum { NORMA_MAX_VIEWS = 10 };

/* Sums along all axes that an array of the given extent does not vary along: one result per element of that array (a
 * "column"). The axes summed over form three levels, by the dimension they belong to; docs/accuracy.md has the tree. */
typedef struct norma_reduction {
  const norma_layer *layer;
  norma_axes kept, outer, middle, run;
  int64_t columns;
  int64_t stretch; /* positions that are summed before rounding errors are kept */
  int views;
  struct {
    norma_walk kept, outer, middle, run;
  } view[NORMA_MAX_VIEWS];
} norma_reduction;

/* Whether the runs of units and of parameters are the same: then one reading serves both. */
bool norma_runs_agree(const norma_layer *layer);
norma_reduction norma_reduction_make(const norma_layer *layer, norma_extent kept);
/* The same in place. */
void norma_reduction_init(norma_reduction *r, const norma_layer *layer, norma_extent kept);
/* Adds an array that is read; returns its index among the views. */
int norma_reduction_view(norma_reduction *reduction, const norma_operand *operand);

/* Sums positions first .. first + n - 1 of one run, n <= NORMA_STRETCH; offset[v] is where the run starts in view v. */
typedef void norma_stretch(void *context, const norma_reduction *reduction, const int64_t offset[], int64_t first,
                           int64_t n, norma_partial *piece);
void norma_reduce(const norma_reduction *reduction, int64_t column, norma_stretch *stretch, void *context,
                  norma_partial *total);
/* The same, with `end` applied to each run before it is joined; it may be NULL. */
typedef void norma_run_end(void *context, const norma_reduction *reduction, const int64_t offset[], norma_partial *run);
void norma_reduce_runs(const norma_reduction *reduction, int64_t column, norma_stretch *stretch, norma_run_end *end,
                       void *context, norma_partial *total);
/* The value of view v at the first position of a column. */
double norma_reduction_first(const norma_reduction *reduction, int v, int64_t column);

/* ------------------------------------------------------------------------------------------------------ passes --- */

/* parallel.c: calls range(context, begin, end) for pieces of 0..total-1 of at least `grain`; each piece runs in round
 * to nearest without flush-to-zero, whatever its thread had set. `bytes`: about what all of them read and write; the
 * default pool leaves small work to the calling thread. */
typedef void norma_range(void *context, int64_t begin, int64_t end);
void norma_parallel(const norma_threads *threads, int64_t total, int64_t grain, int64_t bytes, norma_range *range,
                    void *context);
/* The threads of the default pool; a caller's, whose number is not known, may have `guess`. */
static inline int norma_threads_or(const norma_threads *threads, int guess) {
  return threads && threads->run ? guess : norma_num_threads();
}
/* Bytes of a pass over the elements of so many arrays. */
int64_t norma_pass_bytes(const norma_call *call, int arrays);

/* statistics.c: what normalizes each unit, from x or from given statistics; also the outputs mean, var and rstd, and
 * moments where that is not NULL. */
void norma_statistics(const norma_call *call, norma_saved *saved, norma_moments *moments);
/* The merged moments of a unit, where they are given. */
norma_moments norma_given_moments(const norma_call *call, int64_t unit);
/* What is told of each unit once it is measured. */
typedef struct norma_unit_outputs {
  const norma_call *call;
  norma_walk mean, var, rstd;
  norma_saved *saved;
  norma_moments *moments;
} norma_unit_outputs;
void norma_unit_outputs_init(norma_unit_outputs *outputs, const norma_call *call, norma_saved *saved,
                             norma_moments *moments);
void norma_finish_unit(const norma_unit_outputs *outputs, int64_t unit, const norma_moments *m);
/* The same of n <= NORMA_BLOCK units of `count` elements each. */
void norma_finish_units(const norma_unit_outputs *outputs, int64_t unit, const norma_run_moments *m, int64_t count,
                        int64_t n);
/* The moments of column 0 of a reduction whose view 0 is the data, in the caller's float mode. */
norma_moments norma_column_moments(const norma_reduction *reduction);

/* Whether a stretch of a run without a weight is summed as sum(dy x) - mean sum(dy), whose products are exact, and not
 * as sum(dy (x - mean)): where 0 is no more than 8 standard deviations from the mean. Not where the first x is the
 * mean, for a constant unit has to give exactly 0; and where dy is not finite the sum is taken again, because an Inf
 * has to meet the sign of x - mean. */
static inline bool norma_takes_x(double mean, double rstd, double first) {
  return fabs(mean) * rstd <= 8 && first != mean;
}

/* gradients.c: for each unit mean(q) and sum(q xhat) / (m - ddof); for each gamma sum(dy xhat) and sum(dy). */
typedef struct norma_pair {
  double q, q_xhat;
  double first; /* the first q, which the mean of a constant q equals exactly; 0 for RMS */
} norma_pair;
void norma_unit_gradients(const norma_call *call, const norma_saved *saved, norma_pair *means);
/* The same from the sums of samples, of which there may be more than x has. */
void norma_means_from_sums(const norma_call *call, const norma_sums *sums, int64_t samples, norma_pair *means);
void norma_param_gradients(const norma_call *call, const norma_saved *saved);
/* For each unit, which is a single run, call->sums. */
void norma_unit_sums(const norma_call *call, const norma_saved *saved);

/* passes.c chooses: the whole forward pass by vector kernels where the strides allow it (false, and nothing is done,
 * where not), else the plain path. Units that are rows in memory (row_forward.c), or neighbouring columns
 * (column_forward.c). */
bool norma_row_forward(const norma_call *call, norma_saved *saved, norma_moments *moments);
bool norma_column_forward(const norma_call *call, norma_saved *saved, norma_moments *moments, void *workspace);
void norma_forward_pass(const norma_call *call, norma_saved *saved, norma_moments *moments, void *workspace);
/* Bytes of workspace that the passes over columns need. */
size_t norma_column_workspace(const norma_layer *layer);
/* The whole backward pass, likewise; statistics are known. */
bool norma_row_backward(const norma_call *call, const norma_saved *saved, norma_pair *means, void *workspace);
bool norma_column_backward(const norma_call *call, const norma_saved *saved, norma_pair *means, void *workspace);
void norma_backward_pass(const norma_call *call, const norma_saved *saved, norma_pair *means, void *workspace);
size_t norma_backward_scratch(const norma_layer *layer);
/* ../samples.c: the moments of each sample, which then are given to the call; `scratch` is one per sample and unit. */
void norma_sample_moments(norma_call *call, norma_saved *scratch, norma_moments *moments, void *workspace);
/* The sums of each sample, and with them the gradients of the parameters, which are then done. */
void norma_sample_sums(norma_call *call, const norma_saved *saved, norma_saved *of_samples, norma_pair *means,
                       norma_sums *sums, void *workspace);
/* single.c: whether float32 arithmetic is the definition of y: everywhere but in float64 data and AdaIN. */
bool norma_is_single(const norma_call *call);
/* y of one element before the activation, then; -0 for a bias or residual that is absent. And dx of one; means NULL:
 * statistics are given. */
float norma_single_z(const norma_saved *saved, float x, float weight, float bias, float after);
float norma_single_dx(const norma_saved *saved, const norma_pair *means, float x, float dy, float gamma, float dsum);
/* Whether the results of this call are better written past the caches: NORMA_STREAM_BYTES, read at the first call, can
 * say how many bytes it must read and write. */
bool norma_streams(const norma_call *call);

/* elementwise.c: y, and dx, of every element; means is NULL with given statistics. */
void norma_apply_forward(const norma_call *call, const norma_saved *saved);
void norma_apply_backward(const norma_call *call, const norma_saved *saved, const norma_pair *means);

/* elementwise.c: all axes, the one with the longest steps through the memory of an operand first. */
norma_axes norma_memory_order(const norma_layer *layer, const norma_operand *operand);

/* fused.c: writes the sum of x and the residual, which is x from here on, without a residual. */
void norma_add_residual(norma_call *call);
/* z becomes y: the activation of z rounded to float32, float64 for float64 data; and dy times the
 * slope there, dz, is rounded to float32 too: so it has few enough bits for exact products with gamma. */
void norma_activate(const norma_call *call, double *z, int64_t n);
void norma_times_slope(const norma_call *call, const double *z, double *dy, int64_t n);
/* Whether the backward pass keeps dz in dx between the sums and dx itself: an exponential costs more than a store. Not
 * where dx is dy, whose first elements are pivots and looked at again, or dsum. */
static inline bool norma_keeps_dz(const norma_call *call) {
  return call->activation && call->type == NORMA_F32 && call->dx.data && call->dx.data != call->dy.data &&
         call->dx.data != call->dsum.data && !call->given_var.data && !call->means_known;
}
/* dz of one element where float32 arithmetic is the definition; a bias or after that is absent is -0, a weight 1. */
float norma_single_dz(const norma_call *call, const norma_saved *saved, double x, double dy, double weight,
                      double bias, double after);
/* z of n elements, with the bits that norma_apply_forward has; what is absent is NULL. */
typedef struct norma_affine {
  const double *x, *mean, *mean_lo, *rstd, *scale;
  const double *weight, *bias, *after;
} norma_affine;
void norma_before_activation(const norma_call *call, const norma_affine *at, double *z, int64_t n);

/* fold.c: the operator's weights, counted and folded; the arguments are checked. */
int64_t norma_fold_weight_count(const norma_fold_args *args);
void norma_fold_channels(const norma_fold_args *args, double eps, int64_t channels);

#endif
