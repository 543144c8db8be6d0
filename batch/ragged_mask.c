/* Masks: what they say, and the calls on the valid positions of each sample, taken together. */
#include "ragged.h"

#include <stdlib.h>

static norma_status check_group(const norma_valid *v, norma_error *error) {
  const norma_axis *last = norma_only_axis(v->layer, v->last);
  for (int d = v->first; d <= v->last; d++) {
    if (v->layer->shape[d] == 1) continue;
    const norma_axis *axis = norma_only_axis(v->layer, d);
    if (!axis || !last)
      return norma_batch_fail(error, NORMA_BAD_PATTERN,
                              "the mask changes along dimension %d, which the layer splits into several axes", d);
    if (axis->bits & NORMA_AFFINE)
      return norma_batch_fail(error, NORMA_BAD_PATTERN,
                              "the mask and gamma both change along dimension %d: lengths can cut it, a mask cannot",
                              d);
    if (v->mask_strides[d] == 0)
      return norma_batch_fail(error, NORMA_BAD_ARGUMENT,
                              "the mask changes along dimensions %d and %d, but not along %d between them: they must "
                              "be neighbours",
                              v->first, v->last, d);
    if (axis->bits != last->bits)
      return norma_batch_fail(error, NORMA_BAD_PATTERN,
                              "the mask changes along dimensions %d to %d, of which units span a part only", v->first,
                              v->last);
  }
  return NORMA_OK;
}

norma_status norma_mask_valid(norma_valid *v, const norma_layer *layer, const norma_ragged *ragged,
                              norma_error *error) {
  if (!ragged->mask_strides)
    return norma_batch_fail(error, NORMA_BAD_ARGUMENT,
                            "mask_strides is NULL, must have an entry per dimension: 0 along those that the mask does "
                            "not have");
  *v = (norma_valid){.layer = layer, .mask = ragged->mask, .mask_strides = ragged->mask_strides};
  for (int d = 1; d < layer->ndim; d++) {
    if (layer->shape[d] == 1 || v->mask_strides[d] == 0) continue;
    if (v->first == 0) v->first = d;
    v->last = d;
  }
  return v->first ? check_group(v, error) : NORMA_OK;
}

/* Whether the mask says: valid below lengths[sample] along `dim`. Lengths are counted at position 0 of the others. */
static bool is_lengths(const norma_valid *v, int dim, int64_t *lengths) {
  int64_t positions = 1, size = v->layer->shape[dim], step = v->mask_strides[dim];
  for (int d = v->first; d <= v->last; d++) positions *= d == dim ? 1 : v->layer->shape[d];
  for (int64_t s = 0; s < v->layer->shape[0]; s++) {
    const uint8_t *sample = v->mask + s * v->mask_strides[0];
    int64_t length = 0;
    if (positions > 0)
      while (length < size && sample[length * step]) length++;
    lengths[s] = length;
    for (int64_t p = 0; p < positions * size; p++) {
      int64_t rest = p, offset = 0, along = 0;
      for (int d = v->last; d >= v->first; d--) {
        int64_t index = rest % v->layer->shape[d];
        rest /= v->layer->shape[d];
        offset += index * v->mask_strides[d];
        if (d == dim) along = index;
      }
      if ((sample[offset] != 0) != (along < length)) return false;
    }
  }
  return true;
}

int norma_mask_lengths(const norma_valid *v, int64_t *lengths) {
  for (int d = v->first; d <= v->last; d++)
    if (is_lengths(v, d, lengths)) return d;
  return 0;
}

/* -------------------------------------------------------------------------------------------- on compact copies --- */

/* The layer whose samples are cut to their numbers of valid positions. */
static norma_status make_cut(const norma_valid *v, norma_cut *cut, int64_t *lengths, norma_error *error) {
  int64_t longest = 0;
  for (int64_t s = 0; s < v->layer->shape[0]; s++) {
    lengths[s] = norma_valid_count(v, s);
    if (lengths[s] > longest) longest = lengths[s];
  }
  norma_layer compact = norma_compact_layer(v, longest);
  return norma_cut_make(cut, &compact, v->first, lengths, NORMA_PAD_ZERO, error);
}

static int64_t *new_lengths(const norma_valid *v, norma_error *error) {
  int64_t *lengths = malloc(((size_t)v->layer->shape[0] + 1) * sizeof *lengths);
  if (!lengths)
    norma_batch_fail(error, NORMA_NO_MEMORY, "lengths of %lld samples could not be allocated",
                     (long long)v->layer->shape[0]);
  return lengths;
}

/* y = act(beta) everywhere; what is valid is written over it. */
static norma_status write_beta(const norma_valid *v, const norma_forward_args *args, norma_error *error) {
  static const double zero;
  static const int64_t still[NORMA_MAX_DIMS];
  norma_forward_args only = {.size = sizeof only, .layer = v->layer, .type = args->type, .x = &zero};
  only.x_strides = still;
  only.y = args->y, only.y_strides = args->y_strides;
  only.bias = args->bias, only.bias_strides = args->bias_strides;
  only.activation = args->activation, only.threads = args->threads;
  return norma_forward(&only, error);
}

static norma_status write_padding(const norma_valid *v, const norma_slots *slots, const norma_forward_args *args,
                                  norma_padding padding, norma_error *error) {
  bool beta = padding == NORMA_PAD_BETA && args->bias && args->y;
  bool within = norma_only_axis(v->layer, v->last)->bits & NORMA_SHARE;
  for (int i = 0; i < slots->count; i++) {
    const norma_slot *slot = &slots->slot[i];
    if (!slot->output || (beta && slot->field == (const void *)&args->y)) continue;
    if (slot->extent == NORMA_OF_ELEMENTS || (slot->extent == NORMA_OF_UNITS && !within)) norma_clear_padding(v, slot);
  }
  return beta ? write_beta(v, args, error) : NORMA_OK;
}

norma_status norma_mask_forward(const norma_valid *v, const norma_forward_args *args, norma_padding padding,
                                norma_error *error) {
  norma_cut cut;
  norma_slots full_slots, slots;
  norma_forward_args full = *args, compact;
  full.layer = v->layer;
  norma_forward_slots(&full_slots, &full);
  compact = full;
  norma_forward_slots(&slots, &compact);
  int64_t *lengths = new_lengths(v, error);
  norma_status status = lengths ? make_cut(v, &cut, lengths, error) : NORMA_NO_MEMORY;
  if (!status) status = norma_cut_check_single(&cut, args->given_var, args->flags, args->ddof, error);
  if (!status) status = norma_compact(v, &cut.layer, &slots, error);
  if (!status) status = norma_cut_forward(&cut, &compact, error);
  if (!status) status = write_padding(v, &full_slots, &full, padding, error);
  if (!status) norma_expand(v, &slots, &full_slots);
  norma_release(&slots);
  free(lengths);
  return status;
}

norma_status norma_mask_backward(const norma_valid *v, const norma_backward_args *args, norma_error *error) {
  norma_cut cut;
  norma_slots full_slots, slots;
  norma_backward_args full = *args, compact;
  full.layer = v->layer;
  norma_backward_slots(&full_slots, &full);
  compact = full;
  norma_backward_slots(&slots, &compact);
  int64_t *lengths = new_lengths(v, error);
  norma_status status = lengths ? make_cut(v, &cut, lengths, error) : NORMA_NO_MEMORY;
  if (!status) status = norma_cut_check_single(&cut, args->given_var, args->flags, args->ddof, error);
  if (!status) status = norma_compact(v, &cut.layer, &slots, error);
  if (!status) status = norma_cut_backward(&cut, &compact, error);
  for (int i = 0; i < full_slots.count && !status; i++)
    if (full_slots.slot[i].output && full_slots.slot[i].extent == NORMA_OF_ELEMENTS)
      norma_clear_padding(v, &full_slots.slot[i]);
  if (!status) norma_expand(v, &slots, &full_slots);
  norma_release(&slots);
  free(lengths);
  return status;
}
