/* The tensors of a case: memory in every layout, poisoned where no element lies, and copies in logical order. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum { GUARD = 64 }; /* poisoned bytes before and behind the elements; keeps the alignment */

/* Lengths, strides and the offset of the logical element 0 in the allocation, all in elements. */
static int64_t lay_out(problem_tensor *t, problem_layout layout, int64_t *first) {
  int64_t lengths[NORMA_MAX_DIMS], span = 1;
  *first = 0;
  for (int d = 0; d < t->ndim; d++) {
    lengths[d] = t->shape[d] > 0 ? t->shape[d] : 1;
    if (layout == PROBLEM_SLICE) {
      lengths[d] = d == t->ndim - 1 ? 2 * lengths[d] + 1 : lengths[d] + 1;
    } else if (layout == PROBLEM_BROADCAST && d == 0) {
      lengths[d] = 1;
    }
    span *= lengths[d];
  }
  if (layout == PROBLEM_CHANNELS_LAST) {
    norma_strides_channels_last(t->ndim, lengths, t->strides);
  } else {
    norma_strides_contiguous(t->ndim, lengths, t->strides);
  }
  for (int d = 0; layout == PROBLEM_TRANSPOSE && d < t->ndim; d++) {
    t->strides[d] = d == 0 ? 1 : t->strides[d - 1] * lengths[d - 1];
  }
  for (int d = 0; d < t->ndim; d++) {
    if (layout == PROBLEM_SLICE) {
      *first += t->strides[d];
      t->strides[d] *= d == t->ndim - 1 ? 2 : 1;
    } else if (layout == PROBLEM_REVERSE) {
      *first += (lengths[d] - 1) * t->strides[d];
      t->strides[d] = -t->strides[d];
    } else if (layout == PROBLEM_BROADCAST && d == 0) {
      t->strides[d] = 0;
    }
  }
  return span;
}

bool problem_tensor_make(problem_tensor *t, norma_type type, int ndim, const int64_t *shape, problem_layout layout,
                         int align, norma_error *error) {
  const int64_t limit = (int64_t)1 << 40;
  int64_t elements = 1, extent = 1; /* extent: as if lengths of 0 were 1 */
  for (int d = 0; d < ndim; d++) {
    t->shape[d] = shape[d];
    elements *= shape[d];
    if (shape[d] > limit || extent > limit / (shape[d] > 0 ? shape[d] : 1)) {
      return problem_fail(error, NORMA_NO_MEMORY, "a tensor has more than 2^40 elements, too many to allocate");
    }
    extent *= shape[d] > 0 ? shape[d] : 1;
  }
  t->type = type;
  t->ndim = ndim;
  t->elements = elements;
  size_t item = norma_type_size(type);
  int64_t first;
  int64_t span = lay_out(t, layout, &first);
  t->buffer_size = (size_t)(span + align) * item + 2 * GUARD;
  void *memory;
  if (posix_memalign(&memory, GUARD, t->buffer_size) != 0) {
    return problem_fail(error, NORMA_NO_MEMORY, "no memory for a tensor of %lld elements", (long long)elements);
  }
  t->buffer = memory;
  t->data = t->buffer + GUARD + (size_t)(first + align) * item;
  problem_tensor_poison(t);
  return true;
}

void problem_tensor_free(problem_tensor *t) {
  free(t->buffer);
  memset(t, 0, sizeof *t);
}

void problem_tensor_poison(problem_tensor *t) { memset(t->buffer, PROBLEM_POISON, t->buffer_size); }

/* Calls `row` for each run along the last dimension, in logical order; `index` is the logical index of its start. */
typedef void row_function(const problem_tensor *t, unsigned char *at, int64_t index, void *context);

static void each_row(const problem_tensor *t, row_function *row, void *context) {
  if (t->elements == 0) {
    return;
  }
  int64_t position[NORMA_MAX_DIMS] = {0}, offset = 0;
  int64_t n = t->shape[t->ndim - 1], item = (int64_t)norma_type_size(t->type);
  for (int64_t index = 0; index < t->elements; index += n) {
    row(t, t->data + offset * item, index, context);
    for (int d = t->ndim - 2; d >= 0; d--) {
      offset += t->strides[d];
      if (++position[d] < t->shape[d]) {
        break;
      }
      offset -= position[d] * t->strides[d];
      position[d] = 0;
    }
  }
}

static void set_row(const problem_tensor *t, unsigned char *at, int64_t index, void *context) {
  const double *from = context;
  int64_t n = t->shape[t->ndim - 1], stride = t->strides[t->ndim - 1];
  bool repeated = t->ndim > 1 && t->strides[0] == 0 && index >= t->elements / t->shape[0];
  if (!repeated) { /* of elements that share memory the first one counts */
    norma_from_double(t->type, from + index, at, stride, stride == 0 ? 1 : n);
  }
}

static void get_row(const problem_tensor *t, unsigned char *at, int64_t index, void *context) {
  double *to = context;
  norma_to_double(t->type, at, t->strides[t->ndim - 1], to + index, t->shape[t->ndim - 1]);
}

static void gather_row(const problem_tensor *t, unsigned char *at, int64_t index, void *context) {
  int64_t item = (int64_t)norma_type_size(t->type);
  unsigned char *to = context;
  for (int64_t i = 0; i < t->shape[t->ndim - 1]; i++) {
    memcpy(to + (index + i) * item, at + i * t->strides[t->ndim - 1] * item, (size_t)item);
  }
}

static void scatter_row(const problem_tensor *t, unsigned char *at, int64_t index, void *context) {
  int64_t item = (int64_t)norma_type_size(t->type);
  const unsigned char *from = context;
  for (int64_t i = 0; i < t->shape[t->ndim - 1]; i++) {
    memcpy(at + i * t->strides[t->ndim - 1] * item, from + (index + i) * item, (size_t)item);
  }
}

static void poison_row(const problem_tensor *t, unsigned char *at, int64_t index, void *context) {
  int64_t item = (int64_t)norma_type_size(t->type);
  (void)index;
  (void)context;
  for (int64_t i = 0; i < t->shape[t->ndim - 1]; i++) {
    memset(at + i * t->strides[t->ndim - 1] * item, PROBLEM_POISON, (size_t)item);
  }
}

void problem_tensor_set(problem_tensor *t, const double *from) { each_row(t, set_row, (void *)(uintptr_t)from); }

void problem_to_double(const problem_tensor *t, double *to) { each_row(t, get_row, to); }

void problem_tensor_gather(const problem_tensor *t, unsigned char *to) { each_row(t, gather_row, to); }

void problem_tensor_scatter(problem_tensor *t, const unsigned char *from) {
  each_row(t, scatter_row, (void *)(uintptr_t)from);
}

bool problem_tensor_stray(const problem_tensor *t, norma_error *error, bool *stray) {
  problem_tensor copy = *t;
  copy.buffer = malloc(t->buffer_size);
  if (!copy.buffer) {
    return problem_fail(error, NORMA_NO_MEMORY, "no memory to check a tensor of %lld elements", (long long)t->elements);
  }
  memcpy(copy.buffer, t->buffer, t->buffer_size);
  copy.data = copy.buffer + (t->data - t->buffer);
  each_row(&copy, poison_row, NULL);
  *stray = false;
  for (size_t i = 0; i < copy.buffer_size; i++) {
    *stray |= copy.buffer[i] != PROBLEM_POISON;
  }
  free(copy.buffer);
  return true;
}
