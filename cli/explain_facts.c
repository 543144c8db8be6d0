/* What the layer is, in words and numbers. */
#include "explain.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void explain_append(char *text, const char *format, ...) {
  size_t used = strlen(text);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text + used, EXPLAIN_LINE - used, format, arguments);
  va_end(arguments);
}

void explain_add(explain_lines *lines, const char *format, ...) {
  if (lines->count == EXPLAIN_LINES) return;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(lines->text[lines->count++], EXPLAIN_LINE, format, arguments);
  va_end(arguments);
}

void explain_number(char *text, int64_t n) {
  char digits[32];
  int length = snprintf(digits, sizeof digits, "%lld", (long long)n), used = 0;
  for (int i = 0; i < length; i++) {
    if (i > 0 && (length - i) % 3 == 0) text[used++] = ',';
    text[used++] = digits[i];
  }
  text[used] = '\0';
}

void explain_divisors(int64_t n, char *text, size_t size) {
  enum { MOST = 24 };
  int64_t found[2 * MOST];
  int count = 0;
  for (int64_t d = 1; d <= n / d && count < MOST; d++) {
    if (n % d == 0) found[count++] = d;
  }
  for (int i = count - 1; i >= 0; i--) {
    if (n / found[i] != found[i]) found[count++] = n / found[i];
    if (count == 2 * MOST) break;
  }
  size_t used = 0;
  text[0] = '\0';
  for (int i = 0; i < count && used + 32 < size; i++) {
    bool more = i + 1 < count && used + 64 >= size;
    used += (size_t)snprintf(text + used, size - used, "%s%lld%s", i > 0 ? ", " : "", (long long)found[i],
                             more ? ", ..." : "");
    if (more) return;
  }
}

/* What the usual names of axes stand for. */
static const char *axis_word(const char *name) {
  static const char *const words[][2] = {{"n", "sample "}, {"c", "channel "}, {"g", "group "},
                                         {"t", "token "},  {"h", "row "},     {"w", "column "}};
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
    if (strcmp(name, words[i][0]) == 0) return words[i][1];
  }
  return "";
}

/* The kept axes as "sample n and group g", the shared ones as "k 2, h 56 and w 56". Returns how many there are. */
static int list_axes(const norma_layer *layer, bool shared, char *text) {
  int count = 0, done = 0;
  for (int a = 0; a < layer->axis_count; a++) count += ((layer->axes[a].bits & NORMA_SHARE) != 0) == shared;
  text[0] = '\0';
  for (int a = 0; a < layer->axis_count; a++) {
    const norma_axis *axis = &layer->axes[a];
    if (((axis->bits & NORMA_SHARE) != 0) != shared) continue;
    explain_append(text, "%s", done == 0 ? "" : done == count - 1 ? " and " : ", ");
    if (shared) explain_append(text, "%s %lld", axis->name, (long long)axis->length);
    else explain_append(text, "%s%s", axis_word(axis->name), axis->name);
    done++;
  }
  return count;
}

void explain_product(const norma_layer *layer, unsigned bit, bool has, char *text) {
  text[0] = '\0';
  for (int a = 0; a < layer->axis_count; a++) {
    if (((layer->axes[a].bits & bit) != 0) != has) continue;
    explain_append(text, "%s%s %lld", text[0] ? " x " : "", layer->axes[a].name, (long long)layer->axes[a].length);
  }
}

static const char *family_name(const explain_case *c) {
  if (c->p.kind == PROBLEM_ADAIN) return "AdaIN";
  switch (c->family) {
    case FAMILY_BATCH: return "Batch norm";
    case FAMILY_INSTANCE: return "Instance norm";
    case FAMILY_GROUP: return "Group norm";
    case FAMILY_LAYER: return c->layer.rms ? "RMS norm" : "Layer norm";
    default: return "A layer of your own";
  }
}

void explain_sentence(const explain_case *c, char *text) {
  const norma_layer *layer = &c->layer;
  char axes[EXPLAIN_LINE], units[32], elements[32];
  explain_number(units, norma_layer_units(layer));
  explain_number(elements, norma_layer_unit_elements(layer));
  const char *what = layer->rms ? "mean square" : "mean and variance";
  snprintf(text, EXPLAIN_LINE, "%s%s: ", family_name(c),
           layer->rms && c->family != FAMILY_LAYER ? " in its RMS form" : "");
  if (list_axes(layer, false, axes) == 0) explain_append(text, "a single %s", what);
  else explain_append(text, "one %s per %s, %s in all", what, axes, units);
  if (list_axes(layer, true, axes) == 0) explain_append(text, ", each of a single element.");
  else
    explain_append(text, ", %s %s element%s (%s).", norma_layer_units(layer) == 1 ? "over" : "each over", elements,
                   strcmp(elements, "1") == 0 ? "" : "s", axes);
}

/* The indices 0, 1, ... of a dimension's shared axes, as indices of the dimension; its kept axes stay at 0. */
static int64_t shared_index(const norma_layer *layer, int dim, int64_t k) {
  int64_t index = 0, stride = 1;
  for (int a = layer->axis_count - 1; a >= 0; a--) {
    const norma_axis *axis = &layer->axes[a];
    if (axis->dim != dim || axis->length == 0) continue;
    if (axis->bits & NORMA_SHARE) {
      index += k % axis->length * stride;
      k /= axis->length;
    }
    stride *= axis->length;
  }
  return index;
}

/* The indices of one dimension that belong to the first unit, written as Python would. */
static void first_indices(const norma_layer *layer, int dim, char *text) {
  int64_t count = 1;
  bool shares = false;
  for (int a = 0; a < layer->axis_count; a++) {
    if (layer->axes[a].dim != dim || !(layer->axes[a].bits & NORMA_SHARE)) continue;
    count *= layer->axes[a].length;
    shares = true;
  }
  if (!shares || count < 2) {
    explain_append(text, shares && layer->shape[dim] < 2 ? ":" : "0");
    return;
  }
  int64_t step = shared_index(layer, dim, 1), last = shared_index(layer, dim, count - 1);
  if (count == layer->shape[dim]) {
    explain_append(text, ":");
  } else if (last == step * (count - 1)) {
    explain_append(text, "0:%lld", (long long)last + 1);
    if (step > 1) explain_append(text, ":%lld", (long long)step);
  } else {
    explain_append(text, "[");
    for (int64_t k = 0; k < count && k < 6; k++) {
      explain_append(text, "%s%lld", k > 0 ? ", " : "", (long long)shared_index(layer, dim, k));
    }
    explain_append(text, count > 6 ? ", ...]" : "]");
  }
}

void explain_example(const explain_case *c, char *text) {
  text[0] = '\0';
  explain_append(text, "x[");
  for (int d = 0; d < c->layer.ndim; d++) {
    explain_append(text, d > 0 ? ", " : "");
    first_indices(&c->layer, d, text);
  }
  explain_append(text, "]");
}

void explain_mean_shape(const explain_case *c, char *text) {
  strcpy(text, "(");
  int count = 0;
  for (int a = 0; a < c->layer.axis_count; a++) {
    if (c->layer.axes[a].bits & NORMA_SHARE) continue;
    explain_append(text, "%s%lld", count++ > 0 ? ", " : "", (long long)c->layer.axes[a].length);
  }
  explain_append(text, count == 1 ? ",)" : ")");
}

/* One length per dimension along which gamma changes; a dimension it covers only in part has the part's length. */
void explain_gamma_shape(const explain_case *c, char *text) {
  strcpy(text, "(");
  int count = 0;
  for (int d = 0; d < c->layer.ndim; d++) {
    int64_t length = 1;
    bool any = false;
    for (int a = 0; a < c->layer.axis_count; a++) {
      if (c->layer.axes[a].dim != d || !(c->layer.axes[a].bits & NORMA_AFFINE)) continue;
      length *= c->layer.axes[a].length;
      any = true;
    }
    if (any) explain_append(text, "%s%lld", count++ > 0 ? ", " : "", (long long)length);
  }
  explain_append(text, count == 1 ? ",)" : ")");
}

int64_t explain_parameters(const explain_case *c) {
  return c->affine == AFFINE_NONE ? 0 : norma_layer_params(&c->layer) * (c->bias ? 2 : 1);
}
