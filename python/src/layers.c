/* Layers for the shapes that come, and the last ones kept: making one takes longer than a small call. */
#include "module.h"

#include <stdio.h>
#include <string.h>

enum { KIND_PATTERN = 100, CACHE_ENTRIES = 64, TEXT_SIZE = 200 };

typedef struct layer_key {
  int kind, ndim;
  int64_t number;
  int64_t shape[NORMA_MAX_DIMS];
  char text[TEXT_SIZE]; /* pattern, affine and sizes, a line each; zeros to its end */
} layer_key;

/* Read and written with the GIL only. Callers get a copy, because an entry may be replaced while they compute. */
static struct {
  layer_key key;
  bool used;
  norma_layer layer;
} cache[CACHE_ENTRIES];

/* The bytes of a key that say something. */
static size_t key_size(const layer_key *key) { return offsetof(layer_key, text) + strlen(key->text) + 1; }

/* FNV-1a, over words where there are words. */
static unsigned slot(const layer_key *key) {
  uint64_t hash = 14695981039346656037u;
  hash = (hash ^ (uint64_t)key->kind) * 1099511628211u;
  hash = (hash ^ (uint64_t)key->number) * 1099511628211u;
  for (int d = 0; d < key->ndim; d++) hash = (hash ^ (uint64_t)key->shape[d]) * 1099511628211u;
  for (const char *c = key->text; *c; c++) hash = (hash ^ (unsigned char)*c) * 1099511628211u;
  return (unsigned)((hash ^ hash >> 32) % CACHE_ENTRIES);
}

static void make_key(layer_key *key, int kind, int64_t number, const tensor *x) {
  key->kind = kind;
  key->number = number;
  key->ndim = x->ndim;
  memset(key->shape, 0, sizeof key->shape);
  memcpy(key->shape, x->shape, (size_t)x->ndim * sizeof *x->shape);
  key->text[0] = 0;
}

static bool find(const layer_key *key, unsigned at, norma_layer *layer) {
  if (!cache[at].used || memcmp(&cache[at].key, key, key_size(key)) != 0) return false;
  *layer = cache[at].layer;
  return true;
}

static void keep(const layer_key *key, unsigned at, const norma_layer *layer) {
  cache[at].key = *key;
  cache[at].layer = *layer;
  cache[at].used = true;
}

static norma_status make(layer_kind kind, int64_t number, const tensor *x, norma_layer *layer, norma_error *error) {
  switch (kind) {
    case LAYER_BATCH: return norma_layer_batch(layer, x->ndim, x->shape, error);
    case LAYER_INSTANCE: return norma_layer_instance(layer, x->ndim, x->shape, error);
    case LAYER_GROUP: return norma_layer_group(layer, number, x->ndim, x->shape, error);
    case LAYER_NORM: return norma_layer_norm_dims(layer, (unsigned)number, x->ndim, x->shape, error);
    case LAYER_RMS: break;
  }
  return norma_layer_rms_dims(layer, (unsigned)number, x->ndim, x->shape, error);
}

int py_layer(const char *function, layer_kind kind, int64_t number, const tensor *x, norma_layer *layer) {
  layer_key key;
  make_key(&key, kind, number, x);
  unsigned at = slot(&key);
  if (find(&key, at, layer)) return 0;
  norma_error error;
  norma_status status = make(kind, number, x, layer, &error);
  if (status) return py_core_error(function, status, &error);
  keep(&key, at, layer);
  return 0;
}

int py_pattern_layer(const char *function, const char *pattern, const char *affine, const char *sizes, bool rms,
                     const tensor *x, norma_layer *layer) {
  layer_key key;
  make_key(&key, KIND_PATTERN, rms, x);
  int length = snprintf(key.text, sizeof key.text, "%s\n%s\n%s", pattern, affine, sizes);
  bool fits = length >= 0 && (size_t)length < sizeof key.text;
  unsigned at = slot(&key);
  if (fits && find(&key, at, layer)) return 0;
  norma_error error;
  norma_status status = norma_layer_parse(layer, pattern, affine, sizes, x->ndim, x->shape, &error);
  if (status) return py_core_error(function, status, &error);
  layer->rms = rms;
  if (fits) keep(&key, at, layer);
  return 0;
}

/* ---------------------------------------------------------------------------------------- normalized dimensions --- */

static int read_axes(const char *function, PyObject *axes, const tensor *x, int *count, int64_t *list) {
  if (py_integers(function, "axes", axes, count, list)) return -1;
  if (*count == 0) return py_fail(PyExc_ValueError, function, "axes is empty, must name at least one dimension");
  for (int i = 0; i < *count; i++) {
    if (list[i] < -x->ndim || list[i] >= x->ndim)
      return py_fail(PyExc_ValueError, function, "axes is %R, but x has %d dimensions", axes, x->ndim);
    if (list[i] < 0) list[i] += x->ndim;
    if (i > 0 && list[i] <= list[i - 1])
      return py_fail(PyExc_ValueError, function, "axes is %R, must ascend: weight has the order of x", axes);
  }
  return 0;
}

int py_normalized_dims(const char *function, PyObject *normalized_shape, PyObject *axes, const tensor *x,
                       int64_t *dims) {
  int64_t list[NORMA_MAX_DIMS], lengths[NORMA_MAX_DIMS];
  int count = 0, wanted = 0;
  if (x->ndim == 0) return py_fail(PyExc_ValueError, function, "x has no dimension, must have at least 1");
  if (!normalized_shape && !axes) return py_fail(PyExc_TypeError, function, "the argument normalized_shape is missing");
  if (normalized_shape && py_integers(function, "normalized_shape", normalized_shape, &wanted, lengths)) return -1;
  if (axes && read_axes(function, axes, x, &count, list)) return -1;
  if (!axes) {
    if (wanted == 0)
      return py_fail(PyExc_ValueError, function, "normalized_shape is (), must have at least 1 dimension");
    for (count = 0; count < wanted && wanted <= x->ndim; count++) list[count] = x->ndim - wanted + count;
  }
  bool fits = !normalized_shape || wanted == count;
  *dims = 0;
  for (int i = 0; i < count && fits; i++) {
    *dims |= (int64_t)1 << list[i];
    fits = !normalized_shape || lengths[i] == x->shape[list[i]];
  }
  if (fits) return 0;
  PyObject *shape = PyArray_IntTupleFromIntp(x->ndim, PyArray_DIMS(x->array));
  if (shape)
    py_fail(PyExc_ValueError, function, "normalized_shape is %R, must be the lengths of the %s dimensions of x, %R",
            normalized_shape, axes ? "normalized" : "last", shape);
  Py_XDECREF(shape);
  return -1;
}

/* ------------------------------------------------------------------------------------------------------- shapes --- */

int py_param_shape(const norma_layer *layer, bool whole, int64_t *shape) {
  int ndim = 0, last = -1;
  for (int a = 0; a < layer->axis_count; a++) {
    if (!(layer->axes[a].bits & NORMA_AFFINE)) continue;
    if (!whole || layer->axes[a].dim != last) shape[ndim++] = 1;
    shape[ndim - 1] *= layer->axes[a].length;
    last = layer->axes[a].dim;
  }
  return ndim;
}

int py_unit_shape(const norma_layer *layer, bool keep, int64_t *shape) {
  int ndim = 0;
  for (int a = 0; a < layer->axis_count; a++) {
    bool shared = layer->axes[a].bits & NORMA_SHARE;
    if (keep || !shared) shape[ndim++] = shared ? 1 : layer->axes[a].length;
  }
  return ndim;
}
