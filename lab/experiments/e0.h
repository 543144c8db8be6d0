/*
 * E0: what the definitions promise, measured on random tensors through norma.h, one number per property.
 * lab/claims.json says what each number must be. e0_units.c asks which elements share statistics; e0_batch.c,
 * e0_layer.c and e0_spatial.c ask what the layers do, e0_weights.c what scaling and shifting of weights does; e0.c runs
 * them all and writes.
 */
#ifndef NORMA_LAB_E0_H
#define NORMA_LAB_E0_H

#include "norma.h"

#include <stdbool.h>

enum { E0_METRICS = 64 };

typedef struct e0_state {
  uint64_t random;
  const char *name[E0_METRICS];
  double value[E0_METRICS];
  int count;
} e0_state;

/* Runs E0 with seeds 1 to `seeds` and writes FOLDER/runs/E0/exact.seedN.json. 0, or 2 after one line on stderr. */
int e0_run(const char *folder, int seeds);

/* All properties with one seed. */
void e0_measure(e0_state *e0, int seed);

void e0_set(e0_state *e0, const char *name, double value);
/* Standard normal numbers times `deviation` plus `mean`. */
double e0_normal(e0_state *e0);
void e0_fill(e0_state *e0, float *x, int n, double mean, double deviation);
/* Ends the program with the library's words if a call that must work does not. */
void e0_must(norma_status status, const norma_error *error);
/* y = layer(x), float32, dense; gamma and beta may be NULL. */
void e0_norm(const norma_layer *layer, const float *x, float *y, const float *gamma, const float *beta);
/* The same with the statistics given, one per unit. */
void e0_given(const norma_layer *layer, const float *x, float *y, const float *mean, const float *var);
double e0_distance(const float *a, const float *b, int n);

void e0_units(e0_state *e0);
void e0_batch(e0_state *e0);
void e0_layer(e0_state *e0);
void e0_spatial(e0_state *e0);
void e0_weights(e0_state *e0);

#endif
