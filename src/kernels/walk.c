/* Operands and walks: how an array of any strides is read and written in the order of logical positions. */
#include "kernels.h"

#include <string.h>

bool norma_varies(const norma_axis *axis, norma_extent extent) {
  switch (extent) {
    case NORMA_PARAMS: return axis->bits & NORMA_AFFINE;
    case NORMA_UNITS: return !(axis->bits & NORMA_SHARE);
    default: return true;
  }
}

/* Saturates; the checks refuse what does. */
static int64_t times(int64_t stride, int64_t count) {
  if (count == 1) return stride;
  if (stride > INT64_MAX / count || stride < -(INT64_MAX / count)) return INT64_MAX;
  return stride * count;
}

void norma_bind_to(norma_operand *to, const norma_layer *layer, norma_extent extent, const void *data, norma_type type,
                   const int64_t *strides) {
  int64_t dense = 1, within = 1;
  to->data = (char *)data;
  to->type = type;
  memset(to->stride, 0, (size_t)layer->axis_count * sizeof *to->stride);
  /* What is absent or empty is never read, and its strides may be anything. */
  if (!data) return;
  for (int a = 0; a < layer->axis_count; a++)
    if (layer->axes[a].length == 0 && norma_varies(&layer->axes[a], extent)) strides = NULL;
  int dim = -1;
  for (int a = layer->axis_count - 1; a >= 0; a--) {
    const norma_axis *axis = &layer->axes[a];
    if (axis->dim != dim) within = 1; /* the innermost axis of a dimension has that dimension's stride */
    dim = axis->dim;
    if (!norma_varies(axis, extent)) continue;
    if (axis->length > 1) to->stride[a] = strides ? times(strides[dim], within) : dense;
    if (axis->length > 0) {
      within *= axis->length;
      dense *= axis->length;
    }
  }
}

norma_operand norma_bind(const norma_layer *layer, norma_extent extent, const void *data, norma_type type,
                         const int64_t *strides) {
  norma_operand operand;
  norma_bind_to(&operand, layer, extent, data, type, strides);
  return operand;
}

norma_operand norma_bind_doubles(const norma_layer *layer, const double *field, int64_t doubles_apart) {
  norma_operand operand = norma_bind(layer, NORMA_UNITS, field, NORMA_F64, NULL);
  for (int a = 0; a < layer->axis_count; a++) operand.stride[a] *= doubles_apart;
  return operand;
}

int64_t norma_axes_length(const norma_layer *layer, const norma_axes *axes) {
  int64_t length = 1;
  for (int i = 0; i < axes->count; i++) length *= layer->axes[axes->index[i]].length;
  return length;
}

void norma_walk_init(norma_walk *walk, const norma_layer *layer, const norma_axes *axes, const norma_operand *operand) {
  walk->data = operand->data;
  walk->type = operand->type;
  walk->count = 0; /* only so many entries are used */
  for (int i = 0; i < axes->count; i++) {
    int64_t length = layer->axes[axes->index[i]].length, stride = operand->stride[axes->index[i]];
    if (length == 1) continue;
    int last = walk->count - 1;
    if (last >= 0 && walk->stride[last] == stride * length) {
      walk->length[last] *= length;
      walk->stride[last] = stride;
    } else {
      walk->length[walk->count] = length;
      walk->stride[walk->count++] = stride;
    }
  }
}

norma_walk norma_walk_make(const norma_layer *layer, const norma_axes *axes, const norma_operand *operand) {
  norma_walk walk;
  norma_walk_init(&walk, layer, axes, operand);
  return walk;
}

/* The index along each axis of a position, and the offset it means. */
static int64_t locate(const norma_walk *walk, int64_t position, int64_t index[]) {
  int64_t offset = 0;
  for (int i = walk->count - 1; i >= 0; i--) {
    index[i] = i > 0 ? position % walk->length[i] : position;
    position = i > 0 ? position / walk->length[i] : 0;
    offset += index[i] * walk->stride[i];
  }
  return offset;
}

int64_t norma_walk_locate(const norma_walk *walk, int64_t position) {
  int64_t index[NORMA_MAX_AXES];
  return locate(walk, position, index);
}

/* The next row: steps the axes before the last one, as an odometer does. */
static int64_t next_row(const norma_walk *walk, int64_t index[], int64_t offset) {
  for (int i = walk->count - 2; i >= 0; i--) {
    offset += walk->stride[i];
    if (++index[i] < walk->length[i]) break;
    offset -= index[i] * walk->stride[i];
    index[i] = 0;
  }
  return offset;
}

typedef void row_function(norma_type type, char *row, int64_t stride, double *values, int64_t n);

static void load_row(norma_type type, char *row, int64_t stride, double *values, int64_t n) {
  norma_load(type, row, stride, values, n);
}

static void store_row(norma_type type, char *row, int64_t stride, double *values, int64_t n) {
  norma_store(type, values, row, stride, n);
}

static void each_row(const norma_walk *walk, int64_t offset, int64_t first, int64_t n, double *values,
                     row_function *row) {
  int64_t item = (int64_t)norma_type_size(walk->type);
  if (walk->count == 0) {
    if (n > 0) row(walk->type, walk->data + offset * item, 0, values, n);
    return;
  }
  int64_t index[NORMA_MAX_AXES];
  offset += locate(walk, first, index);
  int last = walk->count - 1;
  while (n > 0) {
    int64_t piece = walk->length[last] - index[last];
    if (piece > n) piece = n;
    row(walk->type, walk->data + offset * item, walk->stride[last], values, piece);
    values += piece;
    n -= piece;
    offset = next_row(walk, index, offset - index[last] * walk->stride[last]);
    index[last] = 0;
  }
}

void norma_walk_gather(const norma_walk *walk, int64_t offset, int64_t first, int64_t n, double *to) {
  each_row(walk, offset, first, n, to, load_row);
}

void norma_walk_scatter(const norma_walk *walk, int64_t offset, int64_t first, int64_t n, const double *from) {
  each_row(walk, offset, first, n, (double *)from, store_row);
}

void norma_strides_contiguous(int ndim, const int64_t *shape, int64_t *strides) {
  int64_t stride = 1;
  for (int d = ndim - 1; d >= 0; d--) {
    strides[d] = stride;
    stride *= shape[d] > 0 ? shape[d] : 1;
  }
}

void norma_strides_channels_last(int ndim, const int64_t *shape, int64_t *strides) {
  int64_t stride = 1;
  if (ndim > 1) {
    strides[1] = 1;
    stride = shape[1] > 0 ? shape[1] : 1;
  }
  for (int d = ndim - 1; d >= 0; d--) {
    if (d == 1) continue;
    strides[d] = stride;
    stride *= shape[d] > 0 ? shape[d] : 1;
  }
}
