/* Which elements share a mean? Nothing here knows: the library is run, one element is changed, and it is run again. */
#include "picture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

int picture_marked(void) { return (PICTURE_C - 1) * PICTURE_S; }

static norma_status make_layer(norma_layer *layer, picture_layer which, norma_error *error) {
  const int64_t shape[4] = {PICTURE_N, PICTURE_C, PICTURE_H, PICTURE_W};
  switch (which) {
    case PICTURE_BATCH: return norma_layer_batch(layer, 4, shape, error);
    case PICTURE_LAYER: return norma_layer_norm(layer, 3, 4, shape, error);
    case PICTURE_INSTANCE: return norma_layer_instance(layer, 4, shape, error);
    case PICTURE_GROUP: return norma_layer_group(layer, PICTURE_GROUPS, 4, shape, error);
    case PICTURE_CHANNELS_FIRST: return norma_layer_norm_dims(layer, 1u << 1, 4, shape, error);
    default: return norma_layer_rms_dims(layer, 1u << 1, 4, shape, error);
  }
}

static bool run(const norma_layer *layer, const double *x, double *y, norma_error *error) {
  norma_forward_args args = {.size = sizeof args, .layer = layer, .type = NORMA_F64, .x = x, .y = y};
  return norma_forward(&args, error) == NORMA_OK;
}

/* changed[i]: y[i] has other bits once x[element] is another number. */
static bool perturb(const norma_layer *layer, int element, bool changed[PICTURE_ELEMENTS], norma_error *error) {
  double x[PICTURE_ELEMENTS], before[PICTURE_ELEMENTS], after[PICTURE_ELEMENTS];
  /* Values without any pattern between them, so that a changed mean or variance moves every output that uses it. */
  for (int i = 0; i < PICTURE_ELEMENTS; i++) x[i] = sin(1 + i * (i + 0.7548776662466927));
  if (!run(layer, x, before, error)) return false;
  x[element] += 1.3247179572447460;
  if (!run(layer, x, after, error)) return false;
  for (int i = 0; i < PICTURE_ELEMENTS; i++) changed[i] = memcmp(&before[i], &after[i], sizeof before[i]) != 0;
  return true;
}

bool picture_panel_make(picture_panel *panel, picture_layer which, norma_error *error) {
  static bool changed[PICTURE_ELEMENTS][PICTURE_ELEMENTS];
  panel->which = which;
  if (make_layer(&panel->layer, which, error) != NORMA_OK) return false;
  int units = 0;
  for (int i = 0; i < PICTURE_ELEMENTS; i++) {
    if (!perturb(&panel->layer, i, changed[i], error)) return false;
    int first = 0;
    while (first < i && !changed[i][first]) first++;
    panel->unit[i] = first;
    units += first == i;
  }
  bool partition = units == norma_layer_units(&panel->layer);
  for (int i = 0; i < PICTURE_ELEMENTS; i++) {
    for (int j = 0; j < PICTURE_ELEMENTS; j++) partition &= changed[i][j] == (panel->unit[i] == panel->unit[j]);
  }
  if (!partition) {
    snprintf(error->detail, sizeof error->detail,
             "the library says %lld means, but the outputs that change together form %d sets that do not match them",
             (long long)norma_layer_units(&panel->layer), units);
  }
  return partition;
}
