/* A trial: one call of forward and one of backward with everything they return, in every manner of calling that may not
 * change the result (trial.c); the same for AdaIN (adain_trial.c); and the layers to try (samples.c). */
#ifndef NORMA_TESTS_TRIAL_H
#define NORMA_TESTS_TRIAL_H

#include "support.h"

/* One layer with one set of numbers: everything that determines a result. NULL weight, bias, given_*: not given. */
typedef struct trial {
  norma_layer layer;
  norma_type type;
  double eps;
  int ddof;
  unsigned flags;
  double *x, *dy; /* dense, logical order, representable in the type */
  double *weight, *bias;
  double *given_mean, *given_var;
} trial;

/* And how it is computed, which may change nothing. Zero: dense, nothing shared, statistics recomputed in backward. */
typedef struct manner {
  layout x, y, dy, dx;
  layout style, dstyle; /* AdaIN: x is the content, dx its gradient */
  layout params;        /* weight, bias, their gradients and given statistics */
  int in_place;         /* y is x, dx is dy */
  int use_saved;
  int only_dx;       /* no gradients of the parameters are asked for */
  int own_workspace; /* of the size asked for, full of NaN */
  const norma_threads *threads;
} manner;

/* All results, dense, in the types of the library. mean to moments are NULL where the trial has given statistics. */
typedef struct outcome {
  void *y, *dx, *dweight, *dbias, *mean, *rstd, *var;
  norma_saved *saved;
  norma_moments *moments;
} outcome;

/* Random x, dy, weight and bias for a layer; x has this mean and deviation. */
trial trial_new(const norma_layer *layer, norma_type type, uint64_t *seed, double mean, double deviation);
void trial_free(trial *t);
/* Runs forward and backward; checks that they succeed and that no gap was written. */
outcome trial_run(const trial *t, const manner *m);
void outcome_free(outcome *o);
/* Fails unless all results have the same bits. */
void assert_same_outcome(const trial *t, const outcome *got, const outcome *expected);

/* The number of elements that the trial's dweight and dbias have; 0 for a layer without gamma and beta. */
int64_t trial_params(const trial *t);

/* -------------------------------------------------------------------------------------------------------- AdaIN --- */

typedef struct adain_trial {
  norma_layer content_layer, style_layer;
  norma_type type;
  double alpha, content_eps, style_eps;
  int content_ddof, style_ddof;
  unsigned flags;
  double *content, *style, *dy;
} adain_trial;

typedef struct adain_outcome {
  void *y, *dcontent, *dstyle;
} adain_outcome;

adain_trial adain_new(const norma_layer *content, const norma_layer *style, norma_type type, uint64_t *seed);
void adain_free(adain_trial *t);
adain_outcome adain_run(const adain_trial *t, const manner *m);
void adain_outcome_free(adain_outcome *o);
void assert_same_adain(const adain_trial *t, const adain_outcome *got, const adain_outcome *expected);

/* ------------------------------------------------------------------------------------------------------ samples --- */

/* norma_layer_parse; the pattern becomes the problem, and a failure fails the test. */
norma_layer parse_layer(const char *pattern, const char *affine, const char *sizes, int ndim, const int64_t *shape);

/* Layers of 1 to 5 dimensions, all kinds, small shapes; name and layer are set. Returns 0 behind the last one. */
int sample_layer(int index, const char **name, norma_layer *layer);

/* A layer of 1 to 6 dimensions with any axes shared, any affine, some dimensions split, at most 600 elements. Its
 * pattern becomes the problem. */
norma_layer random_layer(uint64_t *seed);

/* Pairs of layers with equal units and different sizes. Returns 0 behind the last pair. */
int sample_pair(int index, const char **name, norma_layer *content, norma_layer *style);

/* The unit and the gamma (0 without any) of each element, in the order of the pattern. */
void element_maps(const norma_layer *layer, int64_t *unit, int64_t *param);
/* sums[u] = the sum over unit u of values[i], times factors[i] unless that is NULL. A new array; free() it. */
double *unit_sums(const norma_layer *layer, const double *values, const double *factors);

#endif
