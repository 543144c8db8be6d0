/* The whole forward and backward pass of a call: the first kind of kernels that fits its strides. */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE /* _SC_LEVEL3_CACHE_SIZE */
#endif
#include "vector.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

/* Where the system does not say. */
enum { LAST_CACHE_BYTES = 32 << 20 };

/* A pass that reads and writes less than a quarter of the last cache leaves its result there, since the next layer will
 * look for it: the cache is shared with other cores and other programs. */
static int64_t find_stream_bytes(void) {
  const char *set = getenv("NORMA_STREAM_BYTES");
  int64_t cache = 0, bytes = set ? strtoll(set, NULL, 10) : 0;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
  if (bytes > 0) return bytes;
  return (cache > 0 ? cache : LAST_CACHE_BYTES) / 4;
}

/* Found at the first call; every thread would find the same. */
static _Atomic int64_t norma_stream_bytes;

bool norma_streams(const norma_call *call) {
  int64_t least = atomic_load_explicit(&norma_stream_bytes, memory_order_relaxed);
  if (least == 0) {
    least = find_stream_bytes();
    atomic_store_explicit(&norma_stream_bytes, least, memory_order_relaxed);
  }
  return norma_pass_bytes(call, call->dy.data ? 3 : 2) >= least;
}

void norma_forward_pass(const norma_call *call, norma_saved *saved, norma_moments *moments, void *workspace) {
  bool single = norma_is_single(call);
  norma_call summed; /* is large: copied only where it is wanted */
  if (single && norma_row_forward(call, saved, moments)) return;
  if (call->residual.data) {
    summed = *call;
    norma_add_residual(&summed);
    call = &summed;
    if (single && norma_row_forward(call, saved, moments)) return;
  }
  if (single && norma_column_forward(call, saved, moments, workspace)) return;
  norma_statistics(call, saved, moments);
  if (call->y.data) norma_apply_forward(call, saved);
}

void norma_param_pass(const norma_call *call, const norma_saved *saved, void *workspace) {
  if (norma_column_params(call, saved, workspace) || norma_row_params(call, saved, workspace)) return;
  norma_param_gradients(call, saved);
}

size_t norma_backward_scratch(const norma_layer *layer) {
  const size_t needs[3] = {norma_column_workspace(layer), norma_column_sums_bytes(layer),
                           norma_layer_backward_bytes(layer)};
  size_t most = 0;
  for (int i = 0; i < 3; i++)
    if (needs[i] > most) most = needs[i];
  return most;
}

void norma_backward_pass(const norma_call *call, const norma_saved *saved, norma_pair *means, void *workspace) {
  bool in_vectors = norma_is_single(call) && (call->dx.data || !call->dafter.data);
  if (in_vectors && norma_layer_backward(call, saved, workspace)) return;
  if (in_vectors && norma_row_backward(call, saved, means, workspace)) return;
  if (in_vectors && norma_column_backward(call, saved, means, workspace)) return;
  norma_param_gradients(call, saved);
  if (call->sums) norma_unit_sums(call, saved);
  if (!call->dx.data && !call->dafter.data) return;
  bool through = call->dx.data && !call->given_var.data; /* through the statistics */
  if (through && !call->means_known) norma_unit_gradients(call, saved, means);
  norma_apply_backward(call, saved, through ? means : NULL); /* last: dx and dafter may be dy */
}
