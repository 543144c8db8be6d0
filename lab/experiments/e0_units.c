/* Which elements share statistics: one element is changed, and the elements whose output changes with it are compared
 * with what the definition says. */
#include "e0.h"

#include <stdlib.h>

enum { N = 3, C = 4, S = 6, GROUPS = 2, ELEMENTS = N * C * S };

/* The unit of an element by definition, from its sample, channel and position. */
typedef int unit_of(int n, int c, int s);
static int channel_of(int n, int c, int s) { return (void)n, (void)s, c; }
static int sample_of(int n, int c, int s) { return (void)c, (void)s, n; }
static int map_of(int n, int c, int s) { return (void)s, n * C + c; }
static int group_of(int n, int c, int s) { return (void)s, n * GROUPS + c / (C / GROUPS); }
/* The tensor read as (batch N, tokens C, features S). */
static int token_of(int n, int c, int s) { return (void)s, n * C + c; }

static int unit_at(unit_of *unit, int i) { return unit(i / (C * S), i / S % C, i % S); }

/* float64, in which no change of an input is lost by rounding. */
static void run(const norma_layer *layer, const double *x, double *y) {
  norma_error error;
  norma_forward_args args = {.size = sizeof args, .layer = layer, .type = NORMA_F64, .x = x, .y = y};
  e0_must(norma_forward(&args, &error), &error);
}

static double wrong_dependences(e0_state *e0, const norma_layer *layer, unit_of *unit) {
  double x[ELEMENTS], before[ELEMENTS], after[ELEMENTS], wrong = 0;
  for (int i = 0; i < ELEMENTS; i++) x[i] = e0_normal(e0);
  run(layer, x, before);
  for (int i = 0; i < ELEMENTS; i++) {
    double kept = x[i];
    x[i] += 0.5;
    run(layer, x, after);
    x[i] = kept;
    for (int j = 0; j < ELEMENTS; j++) {
      wrong += (before[j] != after[j]) != (unit_at(unit, i) == unit_at(unit, j));
    }
  }
  return wrong;
}

void e0_units(e0_state *e0) {
  const int64_t image[] = {N, C, 2, S / 2}, text[] = {N, C, S};
  norma_layer layer;
  norma_error error;
  e0_must(norma_layer_batch(&layer, 4, image, &error), &error);
  e0_set(e0, "bn_wrong_dependences", wrong_dependences(e0, &layer, channel_of));
  e0_must(norma_layer_norm(&layer, 3, 4, image, &error), &error);
  e0_set(e0, "ln_wrong_dependences", wrong_dependences(e0, &layer, sample_of));
  e0_must(norma_layer_norm(&layer, 1, 3, text, &error), &error);
  e0_set(e0, "ln_token_wrong_dependences", wrong_dependences(e0, &layer, token_of));
  e0_must(norma_layer_instance(&layer, 4, image, &error), &error);
  e0_set(e0, "in_wrong_dependences", wrong_dependences(e0, &layer, map_of));
  e0_must(norma_layer_group(&layer, GROUPS, 4, image, &error), &error);
  e0_set(e0, "gn_wrong_dependences", wrong_dependences(e0, &layer, group_of));
  const int64_t wide[] = {2, 48, 4, 4};
  e0_set(e0, "gn_48_refused", norma_layer_group(&layer, 32, 4, wide, &error) != NORMA_OK);
}
