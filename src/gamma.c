/* gamma = 1 + weight, made once before the passes, so that no loop has to add anything to a weight. */
#include "kernels/kernels.h"

enum { LINE = 64 / sizeof(double) };

size_t norma_gamma_bytes(const norma_layer *layer, const void *weight, unsigned flags) {
  if (!weight || !(flags & NORMA_WEIGHT_PLUS_ONE)) return 0;
  return norma_workspace_bytes(norma_layer_params(layer), 1);
}

/* Two float32 numbers are added in float64 and rounded back, which is their float32 sum: 53 bits are more than
 * 2 * 24 + 1, so that rounding twice changes nothing. */
double *norma_gamma_make(norma_call *call, double *gamma) {
  if (call->weight_offset == 0) return gamma;
  norma_axes params = norma_reduction_make(call->layer, NORMA_PARAMS).kept;
  norma_walk from = norma_walk_make(call->layer, &params, &call->weight);
  norma_bind_to(&call->weight, call->layer, NORMA_PARAMS, gamma, call->weight.type, NULL);
  norma_walk to = norma_walk_make(call->layer, &params, &call->weight);
  int64_t count = norma_layer_params(call->layer), n;
  for (int64_t first = 0; first < count; first += n) {
    double values[NORMA_BLOCK];
    n = count - first < NORMA_BLOCK ? count - first : NORMA_BLOCK;
    norma_walk_gather(&from, 0, first, n, values);
    for (int64_t i = 0; i < n; i++) values[i] += call->weight_offset;
    norma_walk_scatter(&to, 0, first, n, values);
  }
  return gamma + (count + LINE - 1) / LINE * LINE;
}
