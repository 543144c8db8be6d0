/* The whole forward and backward pass of a call: the first kind of kernels that fits its strides. */
#include "vector.h"

/* What is smaller may well be read again soon, and stays in the caches. */
enum { STREAM_BYTES = 4 << 20 };

bool norma_streams(const norma_call *call) {
  return norma_layer_elements(call->layer) >= STREAM_BYTES / (int64_t)norma_type_size(call->type);
}

void norma_forward_pass(const norma_call *call, norma_saved *saved, norma_moments *moments, void *workspace) {
  if (norma_is_single(call)) {
    if (norma_row_forward(call, saved, moments) || norma_column_forward(call, saved, moments, workspace)) return;
  }
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
