/* Layers on (n, c) alone: samples as dense rows. */
#include "sync.h"

#include <string.h>

/* One sample, from any strides, element by element in logical order. */
static void pack_sample(char *to, const norma_layer *layer, size_t size, const char *from, const int64_t *strides) {
  int64_t at[NORMA_MAX_DIMS] = {0};
  int last = layer->ndim - 1;
  for (;;) {
    const char *element = from;
    for (int d = 1; d < layer->ndim; d++) element += at[d] * strides[d] * (int64_t)size;
    memcpy(to, element, size);
    to += size;
    int d = last;
    while (d > 0 && ++at[d] == layer->shape[d]) at[d--] = 0;
    if (d <= 0) return;
  }
}

void norma_sync_pack(char *to, const norma_layer *layer, size_t size, int arrays, const void *const *from,
                     const int64_t *const *strides) {
  int64_t dense[NORMA_MAX_DIMS], row = 1;
  for (int d = 1; d < layer->ndim; d++) row *= layer->shape[d];
  if (row == 0) return;
  norma_strides_contiguous(layer->ndim, layer->shape, dense);
  for (int64_t i = 0; i < layer->shape[0]; i++)
    for (int k = 0; k < arrays; k++, to += row * (int64_t)size) {
      const int64_t *steps = strides[k] ? strides[k] : dense;
      if (!from[k]) continue;
      const char *sample = (const char *)from[k] + i * steps[0] * (int64_t)size;
      if (strides[k]) pack_sample(to, layer, size, sample, steps);
      else memcpy(to, sample, (size_t)row * size);
    }
}

void norma_sync_row_strides(const norma_layer *layer, int arrays, int64_t *strides) {
  norma_strides_contiguous(layer->ndim, layer->shape, strides);
  strides[0] = arrays;
  for (int d = 1; d < layer->ndim; d++) strides[0] *= layer->shape[d];
}
