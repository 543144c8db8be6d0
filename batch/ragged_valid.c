/* Runs of valid positions, and arrays whose valid positions are taken together and put back. */
#include "ragged.h"

#include <stdlib.h>
#include <string.h>

/* A part of an array: where it starts, and its lengths and strides, in items. */
typedef struct box {
  int count;
  int64_t length[NORMA_MAX_DIMS], from[NORMA_MAX_DIMS], to[NORMA_MAX_DIMS];
} box;

static void copy_items(size_t item, int64_t n, const char *from, int64_t from_step, char *to, int64_t to_step) {
  if (from_step == 1 && to_step == 1) {
    memcpy(to, from, (size_t)n * item);
    return;
  }
  int64_t size = (int64_t)item;
  from_step *= size, to_step *= size;
  if (item == 4) /* a size known to the compiler is one move */
    for (int64_t i = 0; i < n; i++) memcpy(to + i * to_step, from + i * from_step, 4);
  else if (item == 2)
    for (int64_t i = 0; i < n; i++) memcpy(to + i * to_step, from + i * from_step, 2);
  else
    for (int64_t i = 0; i < n; i++) memcpy(to + i * to_step, from + i * from_step, item);
}

static void copy_box(const box *b, int d, size_t item, const char *from, char *to) {
  if (d == b->count) {
    memcpy(to, from, item);
    return;
  }
  if (d == b->count - 1) {
    copy_items(item, b->length[d], from, b->from[d], to, b->to[d]);
    return;
  }
  int64_t size = (int64_t)item;
  for (int64_t i = 0; i < b->length[d]; i++)
    copy_box(b, d + 1, item, from + i * b->from[d] * size, to + i * b->to[d] * size);
}

/* --------------------------------------------------------------------------------------------------------- runs --- */

/* Where a run is: a position of the dimensions before `last` within first..last, and start..end along `last`. */
typedef struct run {
  int64_t outer, start, end;
} run;

static int64_t outer_count(const norma_valid *v) {
  int64_t count = 1;
  for (int d = v->first; d < v->last; d++) count *= v->layer->shape[d];
  return count;
}

/* The offset of an outer position in an array with these strides. */
static int64_t outer_offset(const norma_valid *v, int64_t outer, const int64_t *strides) {
  int64_t offset = 0;
  for (int d = v->last - 1; d >= v->first; d--) {
    offset += outer % v->layer->shape[d] * strides[d];
    outer /= v->layer->shape[d];
  }
  return offset;
}

/* Moves to the next run whose positions are all valid, or all not; false behind the last one. Begins with zeros. */
static bool next_run(const norma_valid *v, int64_t sample, bool wanted, run *r) {
  int64_t size = v->layer->shape[v->last], outers = outer_count(v);
  for (; r->outer < outers; r->outer++, r->end = 0) {
    if (v->lengths) {
      if (r->end > 0) continue;
      r->start = wanted ? 0 : v->lengths[sample];
      r->end = wanted ? v->lengths[sample] : size;
    } else {
      const uint8_t *row = v->mask + sample * v->mask_strides[0] + outer_offset(v, r->outer, v->mask_strides);
      int64_t step = v->mask_strides[v->last];
      for (r->start = r->end; r->start < size && (row[r->start * step] != 0) != wanted; r->start++) continue;
      for (r->end = r->start; r->end < size && (row[r->end * step] != 0) == wanted; r->end++) continue;
    }
    if (r->end > r->start) return true;
  }
  return false;
}

int64_t norma_valid_count(const norma_valid *v, int64_t sample) {
  int64_t count = 0;
  for (run r = {0}; next_run(v, sample, true, &r);) count += r.end - r.start;
  return count;
}

/* How long an array of this extent is along a dimension; 1 where it does not vary. */
static int64_t length_along(const norma_layer *layer, int dim, norma_ragged_extent extent) {
  int64_t length = 1;
  for (int a = 0; a < layer->axis_count; a++)
    if (layer->axes[a].dim == dim && norma_axis_varies(&layer->axes[a], extent)) length *= layer->axes[a].length;
  return length;
}

/* The dimensions of an array outside first..last, but for dimension 0; `to` has the compact strides, NULL: nothing. */
static box other_dims(const norma_valid *v, const norma_slot *slot, const int64_t *to) {
  box b = {0};
  for (int d = 1; d < v->layer->ndim; d++) {
    if (d >= v->first && d <= v->last) continue;
    int compact = d < v->first ? d : d - (v->last - v->first);
    int64_t length = length_along(v->layer, d, slot->extent);
    if (length == 1) continue;
    b.length[b.count] = length;
    b.from[b.count] = slot->strides[d];
    b.to[b.count++] = to ? to[compact] : 0;
  }
  return b;
}

static void add_run(box *b, int64_t length, int64_t from, int64_t to) {
  b->length[b->count] = length;
  b->from[b->count] = from;
  b->to[b->count++] = to;
}

void norma_clear_padding(const norma_valid *v, const norma_slot *slot) {
  static const char zeros[sizeof(norma_moments)];
  char *data = norma_slot_data(slot);
  int64_t size = (int64_t)slot->item;
  if (!data) return;
  for (int64_t s = 0; s < v->layer->shape[0]; s++)
    for (run r = {0}; next_run(v, s, false, &r);) {
      box b = other_dims(v, slot, NULL);
      for (int d = 0; d < b.count; d++) b.to[d] = b.from[d], b.from[d] = 0;
      add_run(&b, r.end - r.start, 0, slot->strides[v->last]);
      int64_t at = s * slot->strides[0] + outer_offset(v, r.outer, slot->strides) + r.start * slot->strides[v->last];
      copy_box(&b, 0, slot->item, zeros, data + at * size);
    }
}

/* ----------------------------------------------------------------------------------------------- compact copies --- */

norma_layer norma_compact_layer(const norma_valid *v, int64_t length) {
  norma_layer compact = *v->layer;
  int gone = v->last - v->first;
  compact.axis_count = compact.ndim = 0;
  for (int d = 0; d < v->layer->ndim; d++)
    if (d <= v->first || d > v->last) compact.shape[compact.ndim++] = d == v->first ? length : v->layer->shape[d];
  for (int a = 0; a < v->layer->axis_count; a++) {
    norma_axis axis = v->layer->axes[a];
    if (axis.dim > v->first && axis.dim <= v->last) continue;
    if (axis.dim == v->first) axis.length = length;
    if (axis.dim > v->last) axis.dim -= gone;
    compact.axes[compact.axis_count++] = axis;
  }
  return compact;
}

static bool varies_within(const norma_valid *v, const norma_slot *slot) {
  return norma_axis_varies(norma_only_axis(v->layer, v->last), slot->extent) && slot->extent != NORMA_OF_PARAMS;
}

static void compact_strides(const norma_valid *v, const norma_layer *compact, const norma_slot *slot,
                            int64_t *strides) {
  int gone = v->last - v->first;
  int64_t dense = 1;
  bool copied = varies_within(v, slot);
  for (int d = compact->ndim - 1; d >= 0; d--) {
    int full = d <= v->first ? d : d + gone;
    strides[d] = slot->strides[full];
    if (!copied) continue;
    int64_t length = length_along(compact, d, slot->extent);
    strides[d] = dense;
    if (length > 0) dense *= length;
  }
}

static void copy_valid(const norma_valid *v, const norma_slot *slot, const int64_t *full, const char *from, char *to,
                       norma_ragged_copy direction) {
  int64_t size = (int64_t)slot->item;
  norma_slot outside = *slot; /* with the strides of the full array */
  memcpy(outside.strides, full, sizeof outside.strides);
  for (int64_t s = 0; s < v->layer->shape[0]; s++) {
    int64_t done = 0;
    for (run r = {0}; next_run(v, s, true, &r); done += r.end - r.start) {
      box b = other_dims(v, &outside, slot->strides);
      add_run(&b, r.end - r.start, full[v->last], slot->strides[v->first]);
      int64_t at = s * full[0] + outer_offset(v, r.outer, full) + r.start * full[v->last];
      int64_t compact = s * slot->strides[0] + done * slot->strides[v->first];
      if (direction == NORMA_GATHER) {
        copy_box(&b, 0, slot->item, from + at * size, to + compact * size);
        continue;
      }
      for (int d = 0; d < b.count; d++) {
        int64_t kept = b.from[d];
        b.from[d] = b.to[d], b.to[d] = kept;
      }
      copy_box(&b, 0, slot->item, from + compact * size, to + at * size);
    }
  }
}

/* How many items a dense array of a layer has. */
static int64_t items(const norma_layer *layer, norma_ragged_extent extent) {
  return extent == NORMA_OF_ELEMENTS ? norma_layer_elements(layer) : norma_layer_units(layer);
}

norma_status norma_compact(const norma_valid *v, const norma_layer *compact, norma_slots *slots, norma_error *error) {
  for (int i = 0; i < slots->count; i++) {
    norma_slot *slot = &slots->slot[i];
    int64_t full[NORMA_MAX_DIMS], strides[NORMA_MAX_DIMS] = {0};
    char *data = norma_slot_data(slot);
    memcpy(full, slot->strides, sizeof full);
    compact_strides(v, compact, slot, strides);
    memcpy(slot->strides, strides, sizeof strides);
    if (!data || !varies_within(v, slot)) continue;
    slot->owned = calloc((size_t)items(compact, slot->extent) + 1, slot->item);
    if (!slot->owned)
      return norma_batch_fail(error, NORMA_NO_MEMORY, "a compact copy of %lld items could not be allocated",
                              (long long)items(compact, slot->extent));
    if (!slot->output) copy_valid(v, slot, full, data, slot->owned, NORMA_GATHER);
    slot->original = data;
    memcpy(slot->field, &slot->owned, sizeof slot->owned);
  }
  return NORMA_OK;
}

void norma_expand(const norma_valid *v, norma_slots *slots, const norma_slots *full) {
  for (int i = 0; i < slots->count; i++) {
    const norma_slot *slot = &slots->slot[i];
    if (slot->owned && slot->output)
      copy_valid(v, slot, full->slot[i].strides, slot->owned, slot->original, NORMA_SCATTER);
  }
}

void norma_release(norma_slots *slots) {
  for (int i = 0; i < slots->count; i++) free(slots->slot[i].owned);
}
