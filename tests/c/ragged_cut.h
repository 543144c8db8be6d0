/* Ragged batches in the tests: what a call on padded tensors and calls on cut samples take and return. */
#ifndef NORMA_TESTS_RAGGED_CUT_H
#define NORMA_TESTS_RAGGED_CUT_H

#include <norma_ragged.h>
#include <stdbool.h>

#include "support.h"

/* Everything that determines a result: dense arrays in logical order, of the type; NULL: not given. */
typedef struct ragged_case {
  norma_layer layer;
  norma_type type;
  norma_activation activation;
  int ddof;
  norma_padding padding;
  int dim;
  int64_t lengths[16];
  double *x, *dy, *after, *residual, *weight, *bias;
} ragged_case;

/* Results, dense, of the types of the library. */
typedef struct ragged_results {
  void *y, *sum, *dx, *dafter, *mean, *var, *rstd, *dweight, *dbias;
  norma_saved *saved;
  norma_moments *moments;
} ragged_results;

/* How it is computed, which may change nothing. */
typedef struct ragged_manner {
  layout l;
  bool in_place;    /* y is x (or sum is x), dx is dy */
  bool recompute;   /* backward without saved */
  const uint8_t *mask; /* in place of lengths, with these strides */
  const int64_t *mask_strides;
  const norma_threads *threads;
  double poison;    /* what stands at padding: 0 leaves it */
} ragged_manner;

enum extent_bits { ALL_AXES, UNIT_AXES, PARAM_AXES };

/* Fills x, dy, weight, bias and, if asked, after and residual. */
void ragged_fill(ragged_case *c, uint64_t *seed, bool fused);
void ragged_free(ragged_case *c);
/* Whether the element at this dense index is valid; by lengths, or by the mask of a manner. */
bool ragged_valid(const ragged_case *c, const ragged_manner *m, int64_t element);
/* Forward and backward through norma_ragged.h. */
ragged_results ragged_run(const ragged_case *c, const ragged_manner *m);
void ragged_results_free(ragged_results *r);
int64_t ragged_count(const norma_layer *layer, enum extent_bits extent);

/* The part of a dense array that belongs to a sample (-1: all) below a length along dim; a new array. */
void *cut_items(const norma_layer *layer, enum extent_bits extent, const void *data, size_t item, int64_t sample,
                int dim, int64_t length);
norma_layer cut_layer(const norma_layer *layer, int64_t samples, int dim, int64_t length);

#endif
