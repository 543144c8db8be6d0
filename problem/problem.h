/*
 * A problem is one case of a normalization layer, written as one line:
 *
 *     group:n8,c64,h14,w14,g=32,layout=nhwc,type=bf16,dir=bwd,data=offset:1e4,eps=1e-5,seed=7
 *
 * The same line works in `norma check`, in the tests, in the fuzzers and in a bug report. docs/problem.md has the
 * grammar. A problem is parsed (or drawn at random), built (memory and values), run (the library) and judged (the
 * reference):
 *
 *     problem p;
 *     problem_case c;
 *     problem_report report;
 *     if (problem_parse(text, &p, &error) && problem_build(&c, &p, &error)) {
 *       if (problem_run(&c, &error) && problem_judge(&c, &report, &error)) ... report.pass ...
 *       problem_free(&c);
 *     }
 */
#ifndef NORMA_PROBLEM_H
#define NORMA_PROBLEM_H

#include "norma.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ------------------------------------------------------------------------------------------------- the problem --- */

enum {
  PROBLEM_TEXT_SIZE = 768,    /* holds every canonical string */
  PROBLEM_PATTERN_SIZE = 192, /* a pattern or an affine list */
  PROBLEM_SIZES_SIZE = 96     /* named lengths */
};

typedef enum problem_kind {
  PROBLEM_BATCH,
  PROBLEM_LAYER,
  PROBLEM_INSTANCE,
  PROBLEM_GROUP,
  PROBLEM_RMS,
  PROBLEM_ADAIN,
  PROBLEM_NORM, /* any layer, by its pattern */
  PROBLEM_KINDS
} problem_kind;

typedef enum problem_affine {
  PROBLEM_AFFINE_NONE,
  PROBLEM_AFFINE_WEIGHT, /* the layer's own list, no bias */
  PROBLEM_AFFINE_BOTH,   /* the layer's own list */
  PROBLEM_AFFINE_LIST    /* the list in affine_list, weight and bias */
} problem_affine;

typedef enum problem_layout {
  PROBLEM_CONTIGUOUS,
  PROBLEM_CHANNELS_LAST,
  PROBLEM_SLICE,     /* part of a larger tensor in every dimension, every second element of the last */
  PROBLEM_REVERSE,   /* negative strides */
  PROBLEM_TRANSPOSE, /* dimensions stored in reversed order; these three also apply to parameters */
  PROBLEM_BROADCAST, /* inputs have stride 0 in dimension 0, outputs are contiguous */
  PROBLEM_LAYOUTS
} problem_layout;

typedef enum problem_direction {
  PROBLEM_FORWARD,
  PROBLEM_BACKWARD,
  PROBLEM_FORWARD_BACKWARD,
  PROBLEM_DIRECTIONS
} problem_direction;

typedef enum problem_stats {
  PROBLEM_STATS_INPUT,
  PROBLEM_STATS_GIVEN, /* made-up mean and variance per unit */
  PROBLEM_STATS_SAVED, /* backward from norma_saved */
  PROBLEM_STATS
} problem_stats;

/* Residuals: before the norm, after it; a sum of the two bits is both. */
typedef enum problem_add { PROBLEM_ADD_NONE, PROBLEM_ADD_BEFORE, PROBLEM_ADD_AFTER, PROBLEM_ADD_BOTH } problem_add;

typedef enum problem_data {
  PROBLEM_NORMAL,   /* about N(0, 1) */
  PROBLEM_OFFSET,   /* value + N(0, 1) */
  PROBLEM_SCALE,    /* value * N(0, 1) */
  PROBLEM_CONSTANT, /* value */
  PROBLEM_EXACT,    /* M +- D in pairs, M and D few-bit numbers of the unit: mean M, variance D^2 (even units) */
  PROBLEM_HUGE,     /* magnitudes from half the type's maximum up to it */
  PROBLEM_TINY,     /* about the type's smallest normal number, denormals included */
  PROBLEM_OUTLIER,  /* N(0, 1), and one element per unit is value */
  PROBLEM_NAN,      /* N(0, 1), and one element of the tensor is NaN or Inf */
  PROBLEM_DATAS
} problem_data;

/* How a tensor is filled. Values depend on the seed, the tensor's role and the logical index, not on the layout. */
typedef struct problem_fill {
  problem_data data;
  double value;
} problem_fill;

typedef struct problem {
  problem_kind kind;
  int ndim;
  char names[NORMA_MAX_DIMS][NORMA_NAME_SIZE];
  int64_t shape[NORMA_MAX_DIMS];
  int64_t groups;                     /* group */
  unsigned axes;                      /* layer, rms: bit i is dimension i; never 0 after parsing */
  char pattern[PROBLEM_PATTERN_SIZE]; /* norm */
  char sizes[PROBLEM_SIZES_SIZE];     /* norm: "g=32" */
  bool rms;                           /* norm */
  problem_affine affine;
  char affine_list[PROBLEM_PATTERN_SIZE]; /* PROBLEM_AFFINE_LIST */
  int style_ndim;                         /* adain: 0 is the content's shape */
  int64_t style_shape[NORMA_MAX_DIMS];    /* the dimensions after n and c */
  problem_layout layout, out;             /* of the inputs and of the outputs */
  norma_type type;
  problem_direction direction;
  problem_stats stats;
  norma_activation activation;
  problem_add add;
  problem_fill x, dy;
  bool has_eps, has_eps2, has_alpha; /* false: the library's default */
  double eps, eps2, alpha;           /* eps2: of the style */
  int ddof, ddof2;
  bool plus_one, inplace;
  bool workspace; /* the caller gives exactly as much as the library asks for */
  int threads;    /* 0: none; else a callback with that many threads */
  int align;      /* elements by which each buffer is off a 64-byte boundary */
  uint64_t seed;
} problem;

/* Reads a problem. On failure `error` has one line that names the item, what it was and what would be right. */
bool problem_parse(const char *text, problem *out, norma_error *error);
/* Writes the canonical string: only what is not the default, in a fixed order. problem_parse of it gives the same
 * problem. PROBLEM_TEXT_SIZE is enough. */
void problem_format(const problem *p, char *out, size_t size);
/* Problem `index` of the endless random sweep `seed`: every kind, type, layout, direction and kind of data. */
void problem_random(uint64_t seed, uint64_t index, problem *out);

/* Elements of the tensor (of the larger one, for adain); -1 if that overflows int64_t. */
int64_t problem_elements(const problem *p);
/* The layer, its axes named as the problem names its dimensions. A style layer is made for adain only. */
norma_status problem_layer(const problem *p, norma_layer *layer, norma_error *error);
norma_status problem_style_layer(const problem *p, norma_layer *layer, norma_error *error);

/* The words of the grammar: "group", "channels_last" and so on. */
const char *problem_kind_name(problem_kind kind);
const char *problem_layout_name(problem_layout layout);
const char *problem_data_name(problem_data data);

/* ------------------------------------------------------------------------------------------------ build and run --- */

typedef enum problem_role {
  PROBLEM_X, /* adain: the content */
  PROBLEM_STYLE,
  PROBLEM_DY,
  PROBLEM_WEIGHT,
  PROBLEM_BIAS,
  PROBLEM_GIVEN_MEAN,
  PROBLEM_GIVEN_VAR,
  PROBLEM_RESIDUAL, /* added before the norm, */
  PROBLEM_AFTER,    /* after it */
  PROBLEM_DSUM,     /* the gradient that reaches the sum from elsewhere */
  PROBLEM_INPUTS,
  PROBLEM_Y = PROBLEM_INPUTS, /* the outputs, from here on */
  PROBLEM_MEAN,
  PROBLEM_VAR,
  PROBLEM_RSTD,
  PROBLEM_DX, /* adain: dcontent */
  PROBLEM_DWEIGHT,
  PROBLEM_DBIAS,
  PROBLEM_DSTYLE,
  PROBLEM_SUM, /* of x and the residual; backward reads it in place of x */
  PROBLEM_DAFTER,
  PROBLEM_ROLES
} problem_role;

/* "x", "dweight" and so on. */
const char *problem_role_name(problem_role role);

/* A tensor of a case. The logical element at coordinates i is data[sum(i[d] * strides[d])]. A parameter or a unit array
 * has length 1 in the dimensions that it does not vary along. */
typedef struct problem_tensor {
  norma_type type;
  int ndim;
  int64_t shape[NORMA_MAX_DIMS], strides[NORMA_MAX_DIMS];
  int64_t elements;
  unsigned char *data;   /* the logical element 0; NULL: the case does not have this tensor */
  unsigned char *buffer; /* what was allocated; bytes that are no element of the tensor are PROBLEM_POISON */
  size_t buffer_size;
} problem_tensor;

enum { PROBLEM_POISON = 0xFF }; /* all bytes 0xFF: a NaN in every type, but not the canonical one */

/* A problem in memory. It points into itself: don't copy it. */
typedef struct problem_case {
  problem spec;
  norma_layer layer, style_layer;
  problem_tensor tensors[PROBLEM_ROLES];
  norma_saved *saved;     /* one per unit, or NULL */
  norma_moments *moments; /* one per unit, or NULL */
  norma_threads threads;
  norma_forward_args forward;   /* forward and backward: every kind but adain. Change them before problem_run as you */
  norma_backward_args backward; /* like; it works on a copy with the workspace and, in place, x = y or dy = dx */
  norma_adain_args adain;
} problem_case;

/* Allocates and fills. In place, y (dx) is a tensor of its own that problem_run fills with x (dy) first, so that the
 * input is still there to be judged. */
bool problem_build(problem_case *c, const problem *p, norma_error *error);
void problem_free(problem_case *c);
/* Calls the library: forward, backward or both. Outputs are poisoned first, so it can be called again. */
bool problem_run(problem_case *c, norma_error *error);
/* FNV-1a (64 bit) over all outputs in logical order: two layouts of one problem have the same checksum. */
uint64_t problem_checksum(const problem_case *c);
/* How to run a problem, other than it says; PROBLEM_AS_IT_SAYS leaves a field alone. The layout is that of inputs and
 * outputs; `broadcast` stays what it is. */
enum { PROBLEM_AS_IT_SAYS = -1 };
typedef struct problem_manner {
  int layout, threads, align;
} problem_manner;
/* Writes "CHECKSUM STRING" lines: those of some thirty large problems, then of the first `count` of the sweep `seed`.
 * The string is the problem's own, so all manners, builds and machines give the same lines. */
bool problem_checksums(FILE *to, uint64_t seed, int64_t count, const problem_manner *manner, norma_error *error);
/* Elements of a tensor in logical order as float64; `to` has t->elements entries. */
void problem_to_double(const problem_tensor *t, double *to);

/* ------------------------------------------------------------------------------------------------------- judge --- */

typedef struct problem_result {
  problem_role role;
  bool pass;
  bool stray;           /* a byte outside the tensor's elements was written */
  double ratio;         /* the largest error / bound; Inf where NaN or Inf is wrong */
  int64_t where;        /* the logical index of that element, -1 of an empty tensor */
  double error, bound;  /* there */
  double got, expected; /* there */
  double largest_error; /* of the tensor */
} problem_result;

typedef struct problem_report {
  bool pass;
  int count;
  problem_result results[PROBLEM_ROLES];
  uint64_t checksum;
} problem_report;

/*
 * Compares every output with the reference after problem_run. y, dx, dweight, dbias, dstyle and dafter have the bounds
 * of norma_reference, sum must be exact; mean, var and rstd are rounded views of exact values and must be within one
 * rounding (and 1e-14 standard deviations for the mean). NaN must meet the canonical NaN, Inf the same Inf, and a value
 * that overflows the type Inf. False (with the error) only if the reference refuses the arguments or memory runs out.
 */
bool problem_judge(const problem_case *c, problem_report *report, norma_error *error);

#endif
