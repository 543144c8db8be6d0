/* What the vector kernels of every instruction set offer, and the table to choose them from. Each works on a stretch:
 * up to NORMA_STRETCH positions of float32, float16 or bfloat16 that are consecutive in memory (a row), or the same
 * number of rows of neighbouring columns. All give the same bits. */
#ifndef NORMA_VECTOR_H
#define NORMA_VECTOR_H

#include "kernels.h"

#include <math.h>

/* Units that are taken together, at most. */
enum { NORMA_BLOCK_UNITS = 32, NORMA_GIVEN_UNITS = 512 };

/* What the elements of a row are normalized with: y = (((x - hi) - lo) * rstd) * weight + bias in float32.
 * An array has one entry per element where its step is 1, and one for all where it is 0. */
typedef struct norma_coefs {
  const float *hi, *lo, *rstd; /* the mean in two parts; rstd is NaN where float32 would not do */
  const norma_saved *saved;    /* the same at full precision, for those elements */
  int64_t unit_step;           /* of these four */
  int64_t unit_row;            /* what is added to them for each further row */
  const float *weight, *bias;  /* NULL: 1 and none */
  int64_t weight_step, bias_step;
  int64_t weight_row, bias_row; /* what is added to weight and bias for each further row */
  const void *after; /* an element of the data's type for each, added last; NULL: none */
  int64_t after_row; /* elements to that of each further row */
  norma_activation activation;
} norma_coefs;

/* Of one unit or several; steps, and weight and bias, are the caller's to set. */
static inline norma_coefs norma_coefs_make(const norma_call *call, const float *hi, const float *lo, const float *rstd,
                                           const norma_saved *saved) {
  norma_coefs c = {.hi = hi, .lo = lo, .rstd = rstd, .saved = saved};
  c.activation = call->activation;
  return c;
}

/* Rows of n elements, strides in elements; a single row has any strides. */
typedef struct norma_rows {
  const void *x, *dy;
  void *y; /* dx in the backward pass */
  int64_t rows, n, x_stride, dy_stride, y_stride;
  int64_t x_ahead, dy_ahead; /* elements from a row to one that is read soon; 0: none */
} norma_rows;

/* What the gradient of x is made of, in float32 (docs/accuracy.md):
 * dx = (((dy * weight) * rstd - q_hi) - q_lo) - (((x - hi) - lo) * rstd) * q_xhat, then + dsum. */
typedef struct norma_dx {
  const float *hi, *lo, *rstd;        /* as in norma_coefs */
  const float *q_hi, *q_lo, *q_xhat;  /* the means of the unit times rstd, that of q in two parts */
  const norma_saved *saved;           /* at full precision, for elements where float32 would not do */
  const norma_pair *means;            /* NULL: statistics are given, dx = (dy * weight) * rstd */
} norma_dx;

/* What the backward pass needs beside the rows: the sums in float64, and dx. */
typedef struct norma_slopes {
  const double *mean, *mean_lo, *rstd; /* for the sums */
  norma_dx dx;
  int64_t unit_step;        /* of all of them */
  int64_t unit_row;         /* what is added to them for each further row */
  const float *weight;      /* NULL: 1 */
  int64_t weight_step, weight_row;
  const norma_coefs *z; /* of an activation, whose slope at z dy is multiplied by; NULL: none */
  float *dz;            /* that product is kept here, where dx will be; NULL: it is computed again */
  int64_t dz_row;       /* what is added to it for each further row */
  const void *dsum;     /* added to dx, of the data's type; NULL: none */
  void *dafter;         /* receives that product where dx is written, of the data's type; NULL: not wanted */
  int64_t dsum_row, dafter_row; /* elements to that of each further row */
} norma_slopes;

/* Up to 16 rows, each a unit of its own: a quarter of the runs of parameters that are columns. */
typedef struct norma_tile {
  const void *x[NORMA_QUARTER], *dy[NORMA_QUARTER];
  double mean[NORMA_QUARTER], mean_lo[NORMA_QUARTER], rstd[NORMA_QUARTER], pivot[NORMA_QUARTER];
  const float *weight; /* of each column; NULL: 1 */
  const norma_coefs *z;      /* of an activation: of the first row; NULL: none */
  float *dz[NORMA_QUARTER]; /* where dz is kept, if `keeps` */
  bool keeps;
  bool rms;             /* the means are 0, and the first sums are not wanted */
  int64_t width;           /* columns in all */
  int64_t x_next, dy_next; /* elements from a row to that of the next tile; 0: none */
} norma_tile;

/* Sums of another stretch of as many elements, taken in the same loop: its loads hide behind the stores. */
typedef struct norma_ahead {
  const void *x, *dy;
  double pivot;
  norma_slopes slopes; /* gradients only */
  double sum[2];
} norma_ahead;

/* What makes sums of dy and dy * xhat those of the units, whose runs have so many elements. */
typedef struct norma_weighing {
  const double *weight, *pivot;
  double elements;
} norma_weighing;

/* The second sum of a run without a weight becomes one of dy * xhat. An Inf in dy has made both what they should be. */
static inline void norma_finish_run(norma_sum *second, double first, double mean_lo, double rstd) {
  double beside = isfinite(first) ? mean_lo * first : 0;
  *second = (norma_sum){(second->hi - beside) * rstd, second->lo * rstd};
}
/* Sums of dy - first and dy * xhat become those of q - pivot and q * xhat, q = dy * weight, n elements. The first is
 * weight * sum(dy - first) + n * (weight * first - pivot). If q is constant this is exactly 0: where dy has few bits
 * and first is 0, because both terms are roundings of the same number (float32 products and their sums are exact in
 * float64); elsewhere because both are 0. */
static inline void norma_weigh_run(norma_partial_sums *run, double weight, double n, double first, double pivot) {
  run->first = (norma_sum){weight * run->first.hi + n * (weight * first - pivot), weight * run->first.lo};
  run->second = (norma_sum){weight * run->second.hi, weight * run->second.lo};
}

/* Makes the float32 view of a unit; `rstd` is NaN where its range would not do. Within it no product of float32 loses
 * more than the bound allows, and a unit's deviations, which are at most sqrt(m) standard deviations, do not overflow
 * (or give a result that is not finite, which is found). */
static inline void norma_coefs_set(const norma_saved *saved, float *hi, float *lo, float *rstd) {
  bool fits = saved->scale == 1 && (saved->rstd == 0 || (saved->rstd >= 0x1p-110 && saved->rstd <= 0x1p98));
  *hi = (float)saved->mean;
  *lo = (float)((saved->mean - (double)*hi) + saved->mean_lo);
  *rstd = fits ? (float)saved->rstd : NAN;
}

/* The same of its means, for dx; NULL: statistics are given. */
static inline void norma_dx_means_set(const norma_saved *saved, float rstd, const norma_pair *means, float *q_hi,
                                      float *q_lo, float *q_xhat) {
  if (means && means->q == means->first) { /* constant: rounded as the term of each element is, which it cancels */
    *q_hi = (float)means->first * rstd;
    *q_lo = 0;
  } else {
    double q = means ? means->q * (double)rstd : 0;
    *q_hi = (float)q;
    *q_lo = (float)(q - (double)*q_hi);
  }
  *q_xhat = means ? (float)(means->q_xhat * saved->rstd) : 0;
}

typedef struct norma_kernels {
  const char *name;
  /* sum[0] = sum(x - pivot), sum[1] = sum((x - pivot)^2), in the order of the tree */
  void (*moments)(norma_type type, const void *x, int64_t n, double pivot, double sum[2]);
  /* The same of rows, each about a pivot of its own that is chosen here (0 for RMS): sum[2 r], sum[2 r + 1]. */
  void (*batch_moments)(norma_type type, const norma_rows *rows, bool rms, double *pivot, double *sum);
  /* y of rows; `ahead`, where not NULL and there is one row, gets the moments of another row of as many elements.
   * `stream`: past the caches. */
  void (*forward)(norma_type type, const norma_coefs *coefs, const norma_rows *rows, bool stream, norma_ahead *ahead);
  /* sum[0] = sum(dy), sum[1] = sum(dy * (x - mean)), which norma_finish_run makes a sum of dy * xhat; where the weight
   * has step 1, sum(q - pivot) and sum((dy * xhat) * weight), q = dy * weight; with a step of units, and no weights,
   * sum(dy) and sum(dy * xhat). `ahead` has one unit. */
  void (*gradients)(norma_type type, const norma_slopes *slopes, const void *x, const void *dy, int64_t n, double pivot,
                    double sum[2]);
  /* The same of rows; the slopes are those of the first. */
  void (*batch_gradients)(norma_type type, const norma_slopes *slopes, const norma_rows *rows, const double *pivot,
                          double *sum);
  /* The same two sums of each row of a tile, columns from .. from + n - 1, n <= NORMA_STRETCH: row_sum[2 r] and
   * row_sum[2 r + 1]. And for each of these columns the sums of dy and of dy * xhat down the tile are added to `first`
   * and `second`. */
  void (*tile_gradients)(norma_type type, const norma_tile *tile, int rows, int64_t from, int64_t n, double *row_sum,
                         double *first, double *second);
  /* dx of rows, and the gradients of another one */
  void (*backward)(norma_type type, const norma_slopes *slopes, const norma_rows *rows, bool stream,
                   norma_ahead *ahead);
  /* The pivots of columns, from their first, middle and last row. */
  void (*column_pivots)(norma_type type, const void *x, int64_t stride, int64_t n, int64_t columns, double *pivot);
  /* The same sums for `columns` neighbouring columns of n rows, `stride` elements apart: sum[0..columns) and
   * sum[columns..2 columns). Gradients: by_row: mean, mean_lo and rstd belong to rows, unit_step apart, not to columns,
   * and the second sum is one of dy * xhat. At most NORMA_COLUMNS at a time; arrays per column have room for a multiple
   * of 8. */
  void (*column_moments)(norma_type type, const void *x, int64_t stride, int64_t n, int64_t columns,
                         const double *pivot, double *sum);
  void (*column_gradients)(norma_type type, const norma_slopes *slopes, bool by_row, const void *x, int64_t x_stride,
                           const void *dy, int64_t dy_stride, int64_t n, int64_t columns, const double *pivot,
                           double *sum);
  /* What n runs of neighbouring units add, each to its own; `step` from one run to the next. First the sums of runs
   * from those of gradients, at a step of 1 or 2; NaN where rstd is, unless that is NULL. mean_lo NULL: they are
   * finished. */
  void (*finish_runs)(const double *first, const double *second, int64_t step, const double *mean_lo,
                      const double *rstd, norma_partial_sums *runs, int64_t n);
  /* weighing NULL: as they are */
  void (*join_runs)(norma_partial_sums *into, const norma_partial_sums *runs, int64_t step,
                    const norma_weighing *weighing, int64_t n);
  /* The moments of runs of `count` elements from sums of deviations from a pivot (NULL: they are 0) and of their
   * squares, at a step of 1 or 2; whether any pivot is far, which the 0 of RMS never is. */
  bool (*run_moments)(const double *pivot, const double *deviations, const double *squares, int64_t step,
                      int64_t count, norma_run_moments *runs, int64_t n);
  /* Runs of `count` elements join units that had `had`; none of them overlaps. */
  void (*join_moments)(norma_run_moments *into, int64_t had, const norma_run_moments *runs, int64_t step,
                       int64_t count, int64_t n);
  /* The float32 views of n units, norma_coefs_set of each; and those of their means, norma_dx_means_set. */
  void (*unit_views)(const norma_saved *saved, float *hi, float *lo, float *rstd, int64_t n);
  void (*means_views)(const norma_saved *saved, const float *rstd, const norma_pair *means, float *q_hi, float *q_lo,
                      float *q_xhat, int64_t n);
  /* float64 as float32, NaN to the canonical one */
  void (*narrow)(const double *from, float *to, int64_t n);
  /* The sum of two rows of float32 or 16 bits, rounded to the type; NaN is canonical. It may be one of them. */
  void (*add)(norma_type type, const void *x, const void *residual, void *sum, int64_t n);
  void (*fence)(void); /* after streaming stores, before other threads read */
} norma_kernels;

extern const norma_kernels norma_kernels_scalar, norma_kernels_sse2, norma_kernels_avx2, norma_kernels_avx512,
    norma_kernels_neon;

/* The best that this processor has and NORMA_ISA allows. */
const norma_kernels *norma_kernels_best(void);

/* Elements whose float32 result is not finite are computed again in float64. */
void norma_forward_exact(const norma_coefs *coefs, int64_t first, const float *x, const float *after, float *y,
                         int64_t n);
/* The same of dx. */
void norma_backward_exact(const norma_slopes *slopes, int64_t first, const float *x, const float *dy,
                          const float *dsum, float *dx, int64_t n);
/* The float32 view of up to NORMA_BLOCK_UNITS units for dx; means NULL: statistics are given. */
typedef struct norma_dx_block {
  float hi[NORMA_BLOCK_UNITS], lo[NORMA_BLOCK_UNITS], rstd[NORMA_BLOCK_UNITS];
  float q_hi[NORMA_BLOCK_UNITS], q_lo[NORMA_BLOCK_UNITS], q_xhat[NORMA_BLOCK_UNITS];
} norma_dx_block;
norma_dx norma_dx_make(const norma_kernels *kernels, const norma_saved *saved, const norma_pair *means, int units,
                       norma_dx_block *block);

/* ------------------------------------------------------------------------------------ sums of the backward pass --- */

/* run_sums.c: whether the weight changes along the runs of a unit; where it does not, a run is summed without it. */
bool norma_weight_varies(const norma_call *call);
/* A run as a value; its sums are those before norma_weigh_run. */
static inline norma_sums norma_sums_of(int64_t count, double first, const norma_partial_sums *run) {
  return (norma_sums){count, first, run->first.hi, run->first.lo, run->second.hi, run->second.lo};
}
/* What dx needs of a unit, from the means of q - pivot and of q * xhat, or from their sums over m elements. */
norma_pair norma_means_about(const norma_call *call, double pivot, norma_pair means);
norma_pair norma_unit_means(const norma_call *call, double m, double pivot, const norma_partial_sums *total);

/* The sums of all runs, for the parameters. */
typedef struct norma_run_sums {
  norma_partial_sums *at; /* NULL: they are not kept */
  norma_walk kept, outer, middle;
} norma_run_sums;
int64_t norma_run_count(const norma_layer *layer);
norma_run_sums norma_run_sums_make(const norma_call *call, const norma_reduction *r, void *workspace);
void norma_run_sums_put(const norma_run_sums *s, int64_t unit, int64_t outer, int64_t middle,
                        const norma_partial_sums *run);
/* Where the same run of this unit and those after it is kept, if they are neighbours; else NULL. */
norma_partial_sums *norma_run_sums_row(const norma_run_sums *s, int64_t unit, int64_t outer, int64_t middle);
void norma_params_from_runs(const norma_call *call, const norma_run_sums *runs);
/* dweight and dbias from the sums of runs, norma_partial_sums that stand where the operand says. */
void norma_params_from(const norma_call *call, const norma_operand *sums);
/* dweight and dbias in a pass of their own, by whatever kernel fits. */
void norma_param_pass(const norma_call *call, const norma_saved *saved, void *workspace);
bool norma_column_params(const norma_call *call, const norma_saved *saved, void *workspace);
bool norma_row_params(const norma_call *call, const norma_saved *saved, void *workspace);
size_t norma_column_sums_bytes(const norma_layer *layer);
/* layer_backward.c: the whole pass, where units are rows and parameters columns. */
bool norma_layer_backward(const norma_call *call, const norma_saved *saved, void *workspace);
size_t norma_layer_backward_bytes(const norma_layer *layer);

/* One column at most this far at a time: the accumulators of a block of columns stay in the first-level cache. */
enum { NORMA_COLUMNS = 256 };

#endif
