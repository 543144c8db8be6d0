/* The layer of a problem. */
#include "internal.h"

#include <string.h>

static int64_t product(int n, const int64_t *lengths) {
  int64_t elements = 1;
  for (int i = 0; i < n; i++) {
    if (lengths[i] == 0) {
      return 0;
    }
  }
  for (int i = 0; i < n; i++) {
    if (lengths[i] > INT64_MAX / elements) {
      return -1;
    }
    elements *= lengths[i];
  }
  return elements;
}

/* n and c of the content, then the style's own lengths. */
static int style_shape(const problem *p, int64_t *shape) {
  if (p->style_ndim == 0) {
    memcpy(shape, p->shape, sizeof p->shape);
    return p->ndim;
  }
  shape[0] = p->shape[0];
  shape[1] = p->ndim > 1 ? p->shape[1] : 1;
  memcpy(shape + 2, p->style_shape, (size_t)p->style_ndim * sizeof *shape);
  return 2 + p->style_ndim;
}

int64_t problem_elements(const problem *p) {
  int64_t elements = product(p->ndim, p->shape);
  if (p->kind == PROBLEM_ADAIN) {
    int64_t shape[NORMA_MAX_DIMS];
    int64_t style = product(style_shape(p, shape), shape);
    elements = elements < 0 || style < 0 ? -1 : style > elements ? style : elements;
  }
  return elements;
}

/* Gives each axis that is a whole dimension the name that the problem has for it. */
static void rename_axes(norma_layer *layer, const problem *p) {
  for (int a = 0; a < layer->axis_count; a++) {
    int d = layer->axes[a].dim;
    bool whole = (a == 0 || layer->axes[a - 1].dim != d) && (a + 1 == layer->axis_count || layer->axes[a + 1].dim != d);
    if (whole) {
      memcpy(layer->axes[a].name, p->names[d], NORMA_NAME_SIZE);
    }
  }
}

static norma_status base_layer(const problem *p, norma_layer *layer, norma_error *error) {
  switch (p->kind) {
    case PROBLEM_BATCH: return norma_layer_batch(layer, p->ndim, p->shape, error);
    case PROBLEM_GROUP: return norma_layer_group(layer, p->groups, p->ndim, p->shape, error);
    case PROBLEM_LAYER: return norma_layer_norm_dims(layer, p->axes, p->ndim, p->shape, error);
    case PROBLEM_RMS: return norma_layer_rms_dims(layer, p->axes, p->ndim, p->shape, error);
    case PROBLEM_NORM:
      return norma_layer_parse(layer, p->pattern, p->affine == PROBLEM_AFFINE_LIST ? p->affine_list : NULL,
                               p->sizes[0] ? p->sizes : NULL, p->ndim, p->shape, error);
    default: return norma_layer_instance(layer, p->ndim, p->shape, error);
  }
}

norma_status problem_layer(const problem *p, norma_layer *layer, norma_error *error) {
  norma_status status = base_layer(p, layer, error);
  if (status != NORMA_OK) {
    return status;
  }
  if (p->kind == PROBLEM_NORM) {
    layer->rms = p->rms; /* its axes have the names of the pattern, its affine list is already in */
    return NORMA_OK;
  }
  rename_axes(layer, p);
  if (p->affine == PROBLEM_AFFINE_LIST) {
    return norma_layer_affine(layer, p->affine_list, error);
  }
  return p->affine == PROBLEM_AFFINE_NONE ? norma_layer_affine(layer, "", error) : NORMA_OK;
}

norma_status problem_style_layer(const problem *p, norma_layer *layer, norma_error *error) {
  int64_t shape[NORMA_MAX_DIMS];
  int ndim = style_shape(p, shape);
  return norma_layer_instance(layer, ndim, shape, error);
}
