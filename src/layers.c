/* The named layers, each a line of the notation, and what a layer counts. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

/* The layers with a batch and channels need dimensions 0 and 1. */
static norma_status check_channels(int ndim, norma_error *error) {
  if (ndim >= 2 && ndim <= NORMA_MAX_DIMS) return NORMA_OK;
  return norma_fail(error, NORMA_BAD_SHAPE, "ndim is %d, must be 2 to %d: batch, channels, space", ndim,
                    NORMA_MAX_DIMS);
}

norma_status norma_layer_batch(norma_layer *layer, int ndim, const int64_t *shape, norma_error *error) {
  norma_status status = check_channels(ndim, error);
  return status ? status : norma_layer_parse(layer, "[n] c [...]", "c", NULL, ndim, shape, error);
}

norma_status norma_layer_instance(norma_layer *layer, int ndim, const int64_t *shape, norma_error *error) {
  norma_status status = check_channels(ndim, error);
  return status ? status : norma_layer_parse(layer, "n c [...]", "c", NULL, ndim, shape, error);
}

norma_status norma_layer_group(norma_layer *layer, int64_t groups, int ndim, const int64_t *shape, norma_error *error) {
  char sizes[32];
  if (groups < 1) return norma_fail(error, NORMA_BAD_ARGUMENT, "groups is %lld, must be at least 1", (long long)groups);
  norma_status status = check_channels(ndim, error);
  if (status) return status;
  if (shape && shape[1] < 1)
    return norma_fail(error, NORMA_BAD_SHAPE, "the input has %lld channels, group norm needs at least 1",
                      (long long)shape[1]);
  if (shape && shape[1] % groups != 0)
    return norma_fail(error, NORMA_BAD_SHAPE, "groups is %lld, which does not divide the %lld channels of the input",
                      (long long)groups, (long long)shape[1]);
  snprintf(sizes, sizeof sizes, "g=%lld", (long long)groups);
  return norma_layer_parse(layer, "n (g [k]) [...]", "(g k)", sizes, ndim, shape, error);
}

/* How people name the dimensions of a tensor of this rank. */
static const char *const dim_names[NORMA_MAX_DIMS][NORMA_MAX_DIMS] = {
    {"d"},
    {"n", "d"},
    {"n", "t", "d"},
    {"n", "c", "h", "w"},
    {"n", "c", "d", "h", "w"},
    {"n", "c", "s1", "s2", "s3", "s4"},
    {"n", "c", "s1", "s2", "s3", "s4", "s5"},
    {"n", "c", "s1", "s2", "s3", "s4", "s5", "s6"},
};

norma_status norma_layer_norm_dims(norma_layer *layer, unsigned dims, int ndim, const int64_t *shape,
                                   norma_error *error) {
  if (ndim < 1 || ndim > NORMA_MAX_DIMS)
    return norma_fail(error, NORMA_BAD_SHAPE, "ndim is %d, must be 1 to %d", ndim, NORMA_MAX_DIMS);
  if (dims == 0 || dims >> ndim != 0)
    return norma_fail(error, NORMA_BAD_ARGUMENT,
                      "dims is 0x%x, must name at least one of the %d dimensions and no other", dims, ndim);
  char pattern[96] = "", affine[64] = "";
  for (int d = 0; d < ndim; d++) {
    const char *name = dim_names[ndim - 1][d];
    bool shared = dims >> d & 1;
    size_t used = strlen(pattern);
    snprintf(pattern + used, sizeof pattern - used, shared ? "[%s] " : "%s ", name);
    used = strlen(affine);
    if (shared) snprintf(affine + used, sizeof affine - used, "%s ", name);
  }
  return norma_layer_parse(layer, pattern, affine, NULL, ndim, shape, error);
}

norma_status norma_layer_norm(norma_layer *layer, int count, int ndim, const int64_t *shape, norma_error *error) {
  if (ndim < 1 || ndim > NORMA_MAX_DIMS)
    return norma_fail(error, NORMA_BAD_SHAPE, "ndim is %d, must be 1 to %d", ndim, NORMA_MAX_DIMS);
  if (count < 1 || count > ndim)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "count is %d, must be 1 to the %d dimensions of the shape", count,
                      ndim);
  return norma_layer_norm_dims(layer, ((1u << count) - 1) << (ndim - count), ndim, shape, error);
}

norma_status norma_layer_rms_dims(norma_layer *layer, unsigned dims, int ndim, const int64_t *shape,
                                  norma_error *error) {
  norma_status status = norma_layer_norm_dims(layer, dims, ndim, shape, error);
  if (!status) layer->rms = 1;
  return status;
}

norma_status norma_layer_rms(norma_layer *layer, int count, int ndim, const int64_t *shape, norma_error *error) {
  norma_status status = norma_layer_norm(layer, count, ndim, shape, error);
  if (!status) layer->rms = 1;
  return status;
}

static int64_t count_along(const norma_layer *layer, norma_extent extent) {
  int64_t count = 1;
  for (int a = 0; a < layer->axis_count; a++)
    if (norma_varies(&layer->axes[a], extent)) count *= layer->axes[a].length;
  return count;
}

int64_t norma_layer_elements(const norma_layer *layer) { return count_along(layer, NORMA_ELEMENTS); }

int64_t norma_layer_units(const norma_layer *layer) { return count_along(layer, NORMA_UNITS); }

int64_t norma_layer_unit_elements(const norma_layer *layer) {
  int64_t count = 1;
  for (int a = 0; a < layer->axis_count; a++)
    if (layer->axes[a].bits & NORMA_SHARE) count *= layer->axes[a].length;
  return count;
}

bool norma_layer_has_affine(const norma_layer *layer) {
  for (int a = 0; a < layer->axis_count; a++)
    if (layer->axes[a].bits & NORMA_AFFINE) return true;
  return false;
}

int64_t norma_layer_params(const norma_layer *layer) {
  return norma_layer_has_affine(layer) ? count_along(layer, NORMA_PARAMS) : 0;
}

norma_status norma_layer_check(const norma_layer *layer, const char *name, norma_error *error) {
  if (!layer) return norma_fail(error, NORMA_BAD_ARGUMENT, "%s is NULL", name);
  if (layer->size != sizeof *layer)
    return norma_fail(error, NORMA_BAD_ARGUMENT,
                      "%s->size is %zu, must be %zu: make it with norma_layer_parse or a named layer", name,
                      layer->size, sizeof *layer);
  if (layer->ndim < 1 || layer->ndim > NORMA_MAX_DIMS || layer->axis_count < 1 || layer->axis_count > NORMA_MAX_AXES)
    return norma_fail(error, NORMA_BAD_SHAPE, "%s has %d dimensions and %d axes, must have 1 to %d and 1 to %d", name,
                      layer->ndim, layer->axis_count, NORMA_MAX_DIMS, NORMA_MAX_AXES);
  int64_t elements = 1; /* lengths of 0 count as 1, so that the other strides do not overflow either */
  int a = 0;
  for (int d = 0; d < layer->ndim; d++) {
    int64_t product = 1;
    int first = a;
    for (; a < layer->axis_count && layer->axes[a].dim == d; a++) {
      int64_t length = layer->axes[a].length;
      if (!memchr(layer->axes[a].name, 0, NORMA_NAME_SIZE))
        return norma_fail(error, NORMA_BAD_ARGUMENT, "%s->axes[%d].name does not end within %d characters", name, a,
                          NORMA_NAME_SIZE - 1);
      if (layer->axes[a].bits & ~(unsigned)(NORMA_SHARE | NORMA_AFFINE))
        return norma_fail(error, NORMA_BAD_ARGUMENT,
                          "%s->axes[%d].bits is 0x%x, must be NORMA_SHARE and NORMA_AFFINE only", name, a,
                          layer->axes[a].bits);
      if (length < 0 || (length > 0 && elements > PTRDIFF_MAX / 8 / length))
        return norma_fail(error, NORMA_BAD_SHAPE, "%s: the size of the tensor overflows at axis '%.15s' of %lld", name,
                          layer->axes[a].name, (long long)length);
      if (length > 0) elements *= length;
      product *= length;
    }
    if (a == first || product != layer->shape[d])
      return norma_fail(error, NORMA_BAD_SHAPE, "%s: the axes of dimension %d do not multiply to its %lld elements",
                        name, d, (long long)layer->shape[d]);
  }
  if (a != layer->axis_count)
    return norma_fail(error, NORMA_BAD_SHAPE, "%s: axis '%.15s' belongs to dimension %d, out of order", name,
                      layer->axes[a].name, layer->axes[a].dim);
  return NORMA_OK;
}
