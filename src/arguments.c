/* What is checked of every array before anything is written: alignment, extent, no output that meets anything else. */
#include "internal.h"

#include <math.h>

norma_status norma_check_args(const void *args, size_t size, size_t right, const char *type, norma_error *error) {
  if (!args) return norma_fail(error, NORMA_BAD_ARGUMENT, "args is NULL");
  if (size == right) return NORMA_OK;
  return norma_fail(error, NORMA_BAD_ARGUMENT, "args->size is %zu, must be sizeof(%s) = %zu", size, type, right);
}

norma_status norma_check_type(norma_type type, const char *name, norma_error *error) {
  if (norma_type_size(type) > 0) return NORMA_OK;
  return norma_fail(error, NORMA_BAD_ARGUMENT, "%s is %d, must be one of norma_type", name, (int)type);
}

norma_status norma_check_ddof(int ddof, const char *name, norma_error *error) {
  if (ddof == 0 || ddof == 1) return NORMA_OK;
  return norma_fail(error, NORMA_BAD_ARGUMENT, "%s is %d, must be 0 (biased) or 1 (unbiased)", name, ddof);
}

norma_status norma_check_flags(unsigned flags, unsigned known, norma_error *error) {
  if ((flags & ~known) == 0) return NORMA_OK;
  return norma_fail(error, NORMA_BAD_ARGUMENT, "flags is 0x%x, this function knows the bits 0x%x only", flags, known);
}

norma_status norma_resolve_eps(double *eps, const char *name, bool zero, double standard, norma_error *error) {
  if (!isgreaterequal(*eps, 0) || isinf(*eps)) /* quiet: a NaN raises nothing */
    return norma_fail(error, NORMA_BAD_ARGUMENT, "%s is %g, must be 0 or more and finite", name, *eps);
  if (*eps == 0 && !zero) *eps = standard;
  if (zero) *eps = 0;
  return NORMA_OK;
}

/* The bytes of an argument, first <= address < first + size, and the positive steps, in bytes, between its elements. */
typedef struct span {
  uintptr_t first;
  int64_t size;
  int count;
  int64_t length[2 * NORMA_MAX_AXES + 2], step[2 * NORMA_MAX_AXES + 2];
} span;

/* Steps are kept in descending order, equal ones joined: then two views of one layout have each step once. */
static void add_step(span *s, int64_t length, int64_t step) {
  for (int i = 0; i < s->count; i++) {
    if (s->step[i] != step) continue;
    s->length[i] += length - 1;
    return;
  }
  int i = s->count++;
  for (; i > 0 && s->step[i - 1] < step; i--) s->length[i] = s->length[i - 1], s->step[i] = s->step[i - 1];
  s->length[i] = length;
  s->step[i] = step;
}

norma_argument norma_array(const char *name, const norma_layer *layer, norma_extent extent,
                           const norma_operand *operand, norma_role role) {
  int64_t item = (int64_t)norma_type_size(operand->type);
  return (norma_argument){name, layer, operand, extent, role, item};
}

static bool is_empty(const norma_argument *argument) {
  if (!argument->operand->data) return true;
  int64_t count = argument->extent == NORMA_ELEMENTS ? norma_layer_elements(argument->layer)
                  : argument->extent == NORMA_UNITS  ? norma_layer_units(argument->layer)
                                                     : norma_layer_params(argument->layer);
  return count == 0;
}

static norma_status span_make(span *s, const norma_argument *argument, norma_error *error) {
  const norma_layer *layer = argument->layer;
  s->first = (uintptr_t)argument->operand->data;
  s->size = argument->item;
  s->count = 0; /* the rest is not read */
  int64_t limit = PTRDIFF_MAX / 4, room = limit;
  for (int a = 0; a < layer->axis_count; a++) {
    int64_t length = layer->axes[a].length, stride = argument->operand->stride[a];
    if (!norma_varies(&layer->axes[a], argument->extent) || length <= 1 || stride == 0) continue;
    if (stride <= -limit || (stride < 0 ? -stride : stride) > room / argument->item / length)
      return norma_fail(error, NORMA_BAD_SHAPE, "%s: stride %lld times length %lld overflows", argument->name,
                        (long long)stride, (long long)length);
    int64_t step = (stride < 0 ? -stride : stride) * argument->item, reach = step * (length - 1);
    room -= reach;
    s->size += reach;
    if (stride < 0) s->first -= (uintptr_t)reach;
    add_step(s, length, step);
  }
  return NORMA_OK;
}

/* Whether `distance` is a sum of k[i] * step[i] with 0 <= k[i] < length[i], for steps i and later. The larger steps
 * leave one or two choices each in any real layout; `budget` ends the search in artificial ones. */
static bool reachable(const span *s, int i, int64_t distance, int *budget) {
  if (distance == 0) return true;
  if (i == s->count || distance < 0) return false;
  if (--*budget < 0) return true;
  int64_t rest = 0;
  for (int k = i + 1; k < s->count; k++) rest += s->step[k] * (s->length[k] - 1);
  int64_t step = s->step[i], most = distance / step, least = distance > rest ? (distance - rest + step - 1) / step : 0;
  if (most > s->length[i] - 1) most = s->length[i] - 1;
  for (int64_t k = most; k >= least; k--)
    if (reachable(s, i + 1, distance - k * step, budget)) return true;
  return false;
}

static bool share_memory(const span *a, const span *b, int64_t item_a, int64_t item_b) {
  if (a->first + (uintptr_t)a->size <= b->first || b->first + (uintptr_t)b->size <= a->first) return false;
  /* a.first + (steps of a) + (byte of a) == b.first + (steps of b) + (byte of b); the steps of b, taken from their far
   * end, turn into steps with a positive sign. */
  span both = *a;
  for (int i = 0; i < b->count; i++) add_step(&both, b->length[i], b->step[i]);
  add_step(&both, item_a, 1);
  add_step(&both, item_b, 1);
  int budget = 100000;
  return reachable(&both, 0, (int64_t)(b->first - a->first) + b->size - 1, &budget);
}

static norma_status check_output(const norma_argument *argument, const span *s, norma_error *error) {
  const norma_layer *layer = argument->layer;
  int steps = 0;
  for (int a = 0; a < layer->axis_count; a++) {
    const norma_axis *axis = &layer->axes[a];
    if (!norma_varies(axis, argument->extent) || axis->length <= 1) continue;
    steps++;
    if (argument->operand->stride[a] == 0)
      return norma_fail(error, NORMA_OVERLAP,
                        "%s has stride 0 along dimension %d of %lld: only an input can be a broadcast", argument->name,
                        axis->dim, (long long)axis->length);
  }
  int64_t reach = 0;
  bool nested = s->count == steps;
  for (int i = s->count - 1; i >= 0 && nested; i--) {
    nested = s->step[i] > reach;
    reach += s->step[i] * (s->length[i] - 1);
  }
  return nested ? NORMA_OK
                : norma_fail(error, NORMA_OVERLAP,
                             "%s: its strides are not those of a permutation or slice of a dense tensor, so its "
                             "elements may meet",
                             argument->name);
}

static bool same_view(const norma_argument *a, const norma_argument *b) {
  bool same = a->operand->data == b->operand->data;
  for (int i = 0; i < a->layer->axis_count; i++) same = same && a->operand->stride[i] == b->operand->stride[i];
  return same;
}

static norma_status check_pair(const norma_argument *one, const norma_argument *other, const span *one_span,
                               const span *other_span, norma_error *error) {
  bool before = one->role == NORMA_IN_PLACE || one->role == NORMA_IN_PLACE_BOTH;
  bool next = one->role == NORMA_IN_PLACE_NEXT || one->role == NORMA_IN_PLACE_BOTH;
  bool in_place = (before && other + 1 == one) || (next && one + 1 == other);
  if (in_place && same_view(one, other)) return NORMA_OK;
  if (!share_memory(one_span, other_span, one->item, other->item)) return NORMA_OK;
  return norma_fail(error, NORMA_OVERLAP,
                    in_place ? "%s overlaps %s: in place needs the same pointer and the same strides"
                             : "%s overlaps %s: they must not share memory",
                    one->name, other->name);
}

static norma_status check_one(const norma_argument *one, span *s, norma_error *error) {
  int64_t alignment = one->item > 8 ? 8 : one->item;
  if ((uintptr_t)one->operand->data % (uintptr_t)alignment != 0)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "%s is at address %p, must be a multiple of %d bytes", one->name,
                      (const void *)one->operand->data, (int)alignment);
  norma_status status = span_make(s, one, error);
  return status || one->role == NORMA_INPUT ? status : check_output(one, s, error);
}

norma_status norma_check_arguments(const norma_argument *arguments, int count, norma_error *error) {
  span spans[NORMA_MAX_ARGUMENTS];
  int present[NORMA_MAX_ARGUMENTS], presents = 0;
  for (int i = 0; i < count; i++) {
    if (is_empty(&arguments[i])) continue;
    norma_status status = check_one(&arguments[i], &spans[i], error);
    if (status) return status;
    present[presents++] = i;
  }
  for (int p = 0; p < presents; p++) {
    int i = present[p];
    if (arguments[i].role == NORMA_INPUT) continue;
    for (int q = 0; q < presents; q++) {
      int k = present[q];
      if (k == i || (arguments[k].role != NORMA_INPUT && k > i)) continue;
      norma_status status = check_pair(&arguments[i], &arguments[k], &spans[i], &spans[k], error);
      if (status) return status;
    }
  }
  return NORMA_OK;
}
