/* The arrays of a call as one list, each with its strides. */
#include "ragged.h"

#include <string.h>

bool norma_axis_varies(const norma_axis *axis, norma_ragged_extent extent) {
  if (extent == NORMA_OF_ELEMENTS) return true;
  return extent == NORMA_OF_UNITS ? !(axis->bits & NORMA_SHARE) : (axis->bits & NORMA_AFFINE) != 0;
}

const norma_axis *norma_only_axis(const norma_layer *layer, int dim) {
  const norma_axis *found = NULL;
  for (int a = 0; a < layer->axis_count; a++) {
    if (layer->axes[a].dim != dim) continue;
    if (found) return NULL;
    found = &layer->axes[a];
  }
  return found;
}

/* Strides of a dense array of this extent, or those given; 0 along dimensions that it does not vary along. */
static void resolve(const norma_layer *layer, norma_ragged_extent extent, const int64_t *given, int64_t *strides) {
  int64_t dense = 1;
  for (int d = layer->ndim - 1, a = layer->axis_count - 1; d >= 0; d--) {
    int64_t length = 1;
    bool varies = false;
    for (; a >= 0 && layer->axes[a].dim == d; a--) {
      if (!norma_axis_varies(&layer->axes[a], extent)) continue;
      varies = true;
      length *= layer->axes[a].length;
    }
    strides[d] = !varies ? 0 : given ? given[d] : dense;
    if (length > 0) dense *= length;
  }
}

/* `field` is the address of a pointer, to items of some type. */
static void add(norma_slots *slots, const norma_layer *layer, void *field, const int64_t **strides_field,
                norma_ragged_extent extent, size_t item, bool output) {
  norma_slot *slot = &slots->slot[slots->count++];
  *slot = (norma_slot){field, strides_field, extent, item, output, {0}, NULL, NULL};
  resolve(layer, extent, strides_field ? *strides_field : NULL, slot->strides);
}

static void point_to_strides(norma_slots *slots) {
  for (int i = 0; i < slots->count; i++)
    if (slots->slot[i].strides_field) *slots->slot[i].strides_field = slots->slot[i].strides;
}

void norma_forward_slots(norma_slots *slots, norma_forward_args *a) {
  const norma_layer *l = a->layer;
  size_t item = norma_type_size(a->type), param = norma_type_size(norma_param_type(a->type));
  slots->count = 0;
  add(slots, l, &a->x, &a->x_strides, NORMA_OF_ELEMENTS, item, false);
  add(slots, l, &a->residual, &a->residual_strides, NORMA_OF_ELEMENTS, item, false);
  add(slots, l, &a->after, &a->after_strides, NORMA_OF_ELEMENTS, item, false);
  add(slots, l, &a->y, &a->y_strides, NORMA_OF_ELEMENTS, item, true);
  add(slots, l, &a->sum, &a->sum_strides, NORMA_OF_ELEMENTS, item, true);
  add(slots, l, &a->weight, &a->weight_strides, NORMA_OF_PARAMS, param, false);
  add(slots, l, &a->bias, &a->bias_strides, NORMA_OF_PARAMS, param, false);
  add(slots, l, &a->given_mean, &a->given_strides, NORMA_OF_UNITS, param, false);
  add(slots, l, &a->given_var, &a->given_strides, NORMA_OF_UNITS, param, false);
  add(slots, l, &a->mean, NULL, NORMA_OF_UNITS, param, true);
  add(slots, l, &a->var, NULL, NORMA_OF_UNITS, param, true);
  add(slots, l, &a->rstd, NULL, NORMA_OF_UNITS, param, true);
  add(slots, l, &a->saved, NULL, NORMA_OF_UNITS, sizeof *a->saved, true);
  add(slots, l, &a->moments, NULL, NORMA_OF_UNITS, sizeof *a->moments, true);
  point_to_strides(slots);
}

void norma_backward_slots(norma_slots *slots, norma_backward_args *a) {
  const norma_layer *l = a->layer;
  size_t item = norma_type_size(a->type), param = norma_type_size(norma_param_type(a->type));
  slots->count = 0;
  add(slots, l, &a->x, &a->x_strides, NORMA_OF_ELEMENTS, item, false);
  add(slots, l, &a->dy, &a->dy_strides, NORMA_OF_ELEMENTS, item, false);
  add(slots, l, &a->after, &a->after_strides, NORMA_OF_ELEMENTS, item, false);
  add(slots, l, &a->dsum, &a->dsum_strides, NORMA_OF_ELEMENTS, item, false);
  add(slots, l, &a->dx, &a->dx_strides, NORMA_OF_ELEMENTS, item, true);
  add(slots, l, &a->dafter, &a->dafter_strides, NORMA_OF_ELEMENTS, item, true);
  add(slots, l, &a->weight, &a->weight_strides, NORMA_OF_PARAMS, param, false);
  add(slots, l, &a->bias, &a->bias_strides, NORMA_OF_PARAMS, param, false);
  add(slots, l, &a->dweight, &a->dweight_strides, NORMA_OF_PARAMS, param, true);
  add(slots, l, &a->dbias, &a->dbias_strides, NORMA_OF_PARAMS, param, true);
  add(slots, l, &a->given_mean, &a->given_strides, NORMA_OF_UNITS, param, false);
  add(slots, l, &a->given_var, &a->given_strides, NORMA_OF_UNITS, param, false);
  add(slots, l, &a->saved, NULL, NORMA_OF_UNITS, sizeof *a->saved, false);
  point_to_strides(slots);
}

/* Pointers to const and to other types have one representation; the bytes are copied, since their types differ. */
void *norma_slot_data(const norma_slot *slot) {
  void *data;
  memcpy(&data, slot->field, sizeof data);
  return data;
}

void norma_slots_advance(norma_slots *slots, int dim, int64_t position) {
  for (int i = 0; i < slots->count; i++) {
    norma_slot *slot = &slots->slot[i];
    char *data = norma_slot_data(slot);
    if (!data) continue;
    data += position * slot->strides[dim] * (int64_t)slot->item;
    memcpy(slot->field, &data, sizeof data);
  }
}
