/* The layer of `norma apply`, and the shapes of the arrays that go with it. */
#include "apply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "1,2" or "-1" as bits, one per dimension. */
static int parse_axes(const char *text, int ndim, unsigned *dims) {
  *dims = 0;
  for (const char *at = text;;) {
    char *end;
    long dim = strtol(at, &end, 10);
    bool number = end != at && (*end == ',' || *end == '\0');
    if (!number) return cli_fail("--axes is '%s'; it must be dimensions such as 1,2 or -1", text);
    if (dim < -ndim || dim >= ndim) {
      return cli_fail("--axes has %ld; the input has %d dimensions: 0 to %d or -%d to -1", dim, ndim, ndim - 1, ndim);
    }
    unsigned bit = 1u << (dim < 0 ? dim + ndim : dim);
    if (*dims & bit) return cli_fail("--axes '%s' names a dimension twice", text);
    *dims |= bit;
    if (*end == '\0') return EXIT_GOOD;
    at = end + 1;
  }
}

int layer_refuse(const apply_job *job, const tensor_view *view, const char *path, const norma_error *error) {
  char shape[NPY_SHAPE_SIZE];
  return cli_fail("%s on %s %s: %s", job->options.layer, path, npy_shape_text(view->ndim, view->shape, shape),
                  error->detail);
}

int layer_make(apply_job *job) {
  const apply_options *o = &job->options;
  const tensor_view *x = &job->x;
  norma_layer *layer = &job->layer;
  norma_error error;
  norma_status status = NORMA_OK;
  int64_t groups = 0;
  unsigned dims = 0;
  int bad = EXIT_GOOD;
  if (o->kind == KIND_GROUP) bad = option_integer(o, OPT_GROUPS, 1, &groups);
  if (o->value[OPT_AXES] != NULL) bad = parse_axes(o->value[OPT_AXES], x->ndim, &dims);
  if (bad != EXIT_GOOD) return bad;
  switch (o->kind) {
    case KIND_BATCH: status = norma_layer_batch(layer, x->ndim, x->shape, &error); break;
    case KIND_ADAIN:
    case KIND_INSTANCE: status = norma_layer_instance(layer, x->ndim, x->shape, &error); break;
    case KIND_GROUP: status = norma_layer_group(layer, groups, x->ndim, x->shape, &error); break;
    case KIND_LAYER:
      status = dims != 0 ? norma_layer_norm_dims(layer, dims, x->ndim, x->shape, &error)
                         : norma_layer_norm(layer, 1, x->ndim, x->shape, &error);
      break;
    case KIND_RMS:
      status = dims != 0 ? norma_layer_rms_dims(layer, dims, x->ndim, x->shape, &error)
                         : norma_layer_rms(layer, 1, x->ndim, x->shape, &error);
      break;
    case KIND_PATTERN:
      status = norma_layer_parse(layer, o->layer, o->value[OPT_AFFINE], o->value[OPT_SIZES], x->ndim, x->shape, &error);
      if (o->value[OPT_RMS] != NULL) layer->rms = 1;
      break;
  }
  if (status == NORMA_OK && o->kind != KIND_PATTERN && o->value[OPT_AFFINE] != NULL) {
    status = norma_layer_affine(layer, o->value[OPT_AFFINE], &error);
  }
  if (status != NORMA_OK) return layer_refuse(job, x, o->inputs[0], &error);
  if (o->kind == KIND_ADAIN) {
    const tensor_view *style = &job->style;
    status = norma_layer_instance(&job->style_layer, style->ndim, style->shape, &error);
    if (status != NORMA_OK) return layer_refuse(job, style, o->value[OPT_STYLE], &error);
  }
  return EXIT_GOOD;
}

/* ------------------------------------------------------------------------------------ arrays beside the tensor --- */

static bool varies(const norma_axis *axis, array_role role) {
  if (role == ROLE_PARAM) return (axis->bits & NORMA_AFFINE) != 0;
  if (role == ROLE_RUNNING && axis->dim == 0) return false; /* one per channel; samples are averaged */
  return (axis->bits & NORMA_SHARE) == 0;
}

array_shape layer_array_shape(const norma_layer *layer, array_role role) {
  array_shape result = {.count = 1};
  int last = -1, axes = 0;
  char names[112] = "";
  for (int i = 0; i < layer->axis_count; i++) {
    const norma_axis *axis = &layer->axes[i];
    if (!varies(axis, role)) continue;
    if (axis->dim != last) result.shape[result.ndim++] = 1;
    last = axis->dim;
    result.shape[result.ndim - 1] *= axis->length;
    result.count *= axis->length;
    size_t used = strlen(names);
    snprintf(names + used, sizeof names - used, "%s%s", axes++ > 0 ? " " : "", axis->name);
  }
  if (axes == 0) result.shape[result.ndim++] = 1;
  snprintf(result.axes, sizeof result.axes, "%s %s", axes == 1 ? "axis" : "axes", axes == 0 ? "none" : names);
  return result;
}

/* The sizes other than 1; returns how many. */
static int squeeze(int count, const int64_t *sizes, int64_t *kept) {
  int n = 0;
  for (int i = 0; i < count; i++) {
    if (sizes[i] != 1) kept[n++] = sizes[i];
  }
  return n;
}

bool layer_array_fits(const norma_layer *layer, array_role role, const npy_array *array) {
  array_shape natural = layer_array_shape(layer, role);
  int64_t by_axis[NORMA_MAX_AXES], ours[NORMA_MAX_DIMS], wanted[NORMA_MAX_AXES];
  int axes = 0;
  for (int i = 0; i < layer->axis_count; i++) {
    if (varies(&layer->axes[i], role)) by_axis[axes++] = layer->axes[i].length;
  }
  int n = squeeze(array->ndim, array->shape, ours);
  if (npy_count(array) != natural.count) return false;
  if (n <= 1) return true;
  int by_dims = squeeze(natural.ndim, natural.shape, wanted);
  if (n == by_dims && memcmp(ours, wanted, (size_t)n * sizeof *ours) == 0) return true;
  int split = squeeze(axes, by_axis, wanted);
  return n == split && memcmp(ours, wanted, (size_t)n * sizeof *ours) == 0;
}

tensor_view view_of(const npy_array *array, bool channels_last) {
  tensor_view view = {.ndim = array->ndim};
  int64_t strides[NORMA_MAX_DIMS];
  npy_strides(array, strides);
  for (int i = 0; i < array->ndim; i++) {
    int from = i;
    if (channels_last && i >= 1) from = i == 1 ? array->ndim - 1 : i - 1;
    view.shape[i] = array->shape[from];
    view.strides[i] = strides[from];
  }
  return view;
}
