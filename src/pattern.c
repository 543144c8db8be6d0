/* The bracket notation: a pattern and a shape to a layer, and back. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One name of the pattern, or the ellipsis, before the shape is known. */
typedef struct item {
  char name[NORMA_NAME_SIZE]; /* "..." for the ellipsis */
  bool shared;
  int dim; /* counted as if the ellipsis stood for one dimension */
  bool in_parentheses;
} item;

typedef struct items {
  int count, dims;
  int ellipsis; /* index, or -1 */
  item item[NORMA_MAX_AXES];
} items;

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_space(char c) { return c == ' ' || c == '\t' || c == ','; }

/* Reads a name or "..." at *text; false if there is neither or it is too long. */
static bool read_name(const char **text, char name[NORMA_NAME_SIZE]) {
  const char *start = *text;
  size_t length = 0;
  if (strncmp(start, "...", 3) == 0) {
    length = 3;
  } else if (is_letter(*start)) {
    while (is_letter(start[length]) || is_digit(start[length]) || start[length] == '_') length++;
  }
  if (length == 0 || length >= NORMA_NAME_SIZE) return false;
  memcpy(name, start, length);
  name[length] = '\0';
  *text = start + length;
  return true;
}

static norma_status add_item(items *list, const char *pattern, const item *it, norma_error *error) {
  if (list->count == NORMA_MAX_AXES)
    return norma_fail(error, NORMA_BAD_PATTERN, "pattern '%.80s' has more than %d axes", pattern, NORMA_MAX_AXES);
  for (int i = 0; i < list->count; i++)
    if (strcmp(list->item[i].name, it->name) == 0)
      return norma_fail(error, NORMA_BAD_PATTERN, "pattern '%.80s' names '%s' twice", pattern, it->name);
  if (it->name[0] == '.') {
    if (it->in_parentheses)
      return norma_fail(error, NORMA_BAD_PATTERN, "pattern '%.80s' has '...' inside parentheses", pattern);
    list->ellipsis = list->count;
  }
  list->item[list->count++] = *it;
  return NORMA_OK;
}

static norma_status read_pattern(items *list, const char *pattern, norma_error *error) {
  bool bracket = false, parentheses = false, bracket_inside = false;
  int in_this = 0, before_bracket = 0;
  list->ellipsis = -1;
  for (const char *c = pattern; *c;) {
    bool inner = bracket && bracket_inside;
    if (*c == '[' && !bracket) {
      bracket = true;
      bracket_inside = parentheses;
      before_bracket = list->count;
    } else if (*c == ']' && bracket && bracket_inside == parentheses && list->count > before_bracket) {
      bracket = false;
    } else if (*c == '(' && !parentheses) {
      parentheses = true;
      in_this = 0;
    } else if (*c == ')' && parentheses && in_this > 0 && !inner) {
      parentheses = false;
      list->dims++;
    } else if (!is_space(*c)) {
      item it = {.shared = bracket, .dim = list->dims, .in_parentheses = parentheses};
      if (!read_name(&c, it.name))
        return norma_fail(
            error, NORMA_BAD_PATTERN,
            "pattern '%.80s' cannot be read at '%.20s': names of up to %d letters and digits, brackets and "
            "parentheses that are not empty and close in turn are right",
            pattern, c, NORMA_NAME_SIZE - 1);
      norma_status status = add_item(list, pattern, &it, error);
      if (status) return status;
      if (parentheses) in_this++;
      else list->dims++;
      continue;
    }
    c++;
  }
  if (bracket || parentheses)
    return norma_fail(error, NORMA_BAD_PATTERN, "pattern '%.80s' does not close its '%c'", pattern,
                      parentheses ? '(' : '[');
  return NORMA_OK;
}

/* What the axes of an ellipsis are called, so that a layer made with "..." prints as people write it. */
static void name_spatial(char name[NORMA_NAME_SIZE], int position, int count) {
  static const char *const familiar[4][3] = {{"h", "", ""}, {"l", "", ""}, {"h", "w", ""}, {"d", "h", "w"}};
  if (count <= 3) snprintf(name, NORMA_NAME_SIZE, "%s", familiar[count][position]);
  else snprintf(name, NORMA_NAME_SIZE, "s%d", position + 1);
}

static bool has_axis(const norma_layer *layer, const items *list, const char *name) {
  for (int a = 0; a < layer->axis_count; a++)
    if (strcmp(layer->axes[a].name, name) == 0) return true;
  for (int i = 0; i < list->count; i++)
    if (strcmp(list->item[i].name, name) == 0) return true;
  return false;
}

/* Puts the items as axes into the layer, the ellipsis unrolled; lengths of split dimensions are still -1. */
static norma_status place_axes(norma_layer *layer, const items *list, const char *pattern, int ellipsis_axes[2],
                               norma_error *error) {
  int spread = layer->ndim - (list->dims - (list->ellipsis >= 0));
  if (list->ellipsis < 0 ? list->dims != layer->ndim : spread < 0)
    return norma_fail(error, NORMA_BAD_PATTERN, "pattern '%.80s' has %d dimensions, the shape has %d", pattern,
                      list->dims - (list->ellipsis >= 0), layer->ndim);
  for (int i = 0; i < list->count; i++) {
    const item *it = &list->item[i];
    bool many = it->name[0] == '.';
    if (many) ellipsis_axes[0] = layer->axis_count, ellipsis_axes[1] = layer->axis_count + spread;
    for (int s = 0; s < (many ? spread : 1); s++) {
      if (layer->axis_count == NORMA_MAX_AXES)
        return norma_fail(error, NORMA_BAD_PATTERN, "pattern '%.80s' has more than %d axes", pattern, NORMA_MAX_AXES);
      norma_axis axis = {.bits = it->shared ? NORMA_SHARE : 0};
      bool after_ellipsis = list->ellipsis >= 0 && i > list->ellipsis;
      axis.dim = it->dim + s + (after_ellipsis ? spread - 1 : 0);
      axis.length = it->in_parentheses ? -1 : layer->shape[axis.dim];
      memcpy(axis.name, it->name, sizeof axis.name);
      if (many) {
        name_spatial(axis.name, s, spread);
        for (int k = 1; has_axis(layer, list, axis.name); k++) snprintf(axis.name, sizeof axis.name, "s%d", s + k);
      }
      layer->axes[layer->axis_count++] = axis;
    }
  }
  return NORMA_OK;
}

/* "g=32 k=2": fills lengths of split dimensions, checks those that the shape already gave. */
static norma_status read_sizes(norma_layer *layer, const char *sizes, norma_error *error) {
  bool seen[NORMA_MAX_AXES] = {false};
  for (const char *c = sizes; *c;) {
    if (is_space(*c)) {
      c++;
      continue;
    }
    char name[NORMA_NAME_SIZE];
    const char *start = c;
    char *end = NULL;
    if (!read_name(&c, name) || *c != '=' || !is_digit(c[1]))
      return norma_fail(error, NORMA_BAD_PATTERN, "sizes cannot be read at '%.40s': 'g=32' is right", start);
    long long value = strtoll(c + 1, &end, 10);
    c = end;
    int a = 0;
    while (a < layer->axis_count && strcmp(layer->axes[a].name, name) != 0) a++;
    if (a == layer->axis_count)
      return norma_fail(error, NORMA_BAD_PATTERN, "sizes gives %s=%lld, but the pattern has no axis '%s'", name, value,
                        name);
    if (seen[a]) return norma_fail(error, NORMA_BAD_PATTERN, "sizes gives '%s' twice", name);
    seen[a] = true;
    norma_axis *axis = &layer->axes[a];
    if (axis->length >= 0 && axis->length != value)
      return norma_fail(error, NORMA_BAD_SHAPE, "sizes gives %s=%lld, the shape has %lld there", name, value,
                        (long long)axis->length);
    axis->length = value;
  }
  return NORMA_OK;
}

/* In a split dimension the lengths must multiply to the dimension; one that is missing follows from the others. */
static norma_status solve_lengths(norma_layer *layer, norma_error *error) {
  for (int first = 0, end; first < layer->axis_count; first = end) {
    int dim = layer->axes[first].dim, missing = -1;
    int64_t total = layer->shape[dim], product = 1;
    for (end = first; end < layer->axis_count && layer->axes[end].dim == dim; end++) {
      const norma_axis *axis = &layer->axes[end];
      if (axis->length >= 0) {
        if (axis->length > 0 && product > INT64_MAX / axis->length)
          return norma_fail(error, NORMA_BAD_SHAPE, "the axes of dimension %d overflow", dim);
        product *= axis->length;
      } else if (missing >= 0) {
        return norma_fail(error, NORMA_BAD_SHAPE,
                          "dimension %d of %lld is split into '%s' and '%s', and sizes gives neither", dim,
                          (long long)total, layer->axes[missing].name, axis->name);
      } else {
        missing = end;
      }
    }
    if (missing < 0) {
      if (product != total)
        return norma_fail(error, NORMA_BAD_SHAPE, "the axes of dimension %d multiply to %lld, the shape has %lld there",
                          dim, (long long)product, (long long)total);
    } else if (end - first == 1) {
      layer->axes[missing].length = total;
    } else if (product == 0 || total == 0 || total % product != 0) {
      return norma_fail(error, NORMA_BAD_SHAPE,
                        "dimension %d has %lld elements, which cannot be split into %s=%lld equal parts", dim,
                        (long long)total, layer->axes[missing == first ? first + 1 : first].name, (long long)product);
    } else {
      layer->axes[missing].length = total / product;
    }
  }
  return NORMA_OK;
}

static norma_status read_affine(norma_layer *layer, const char *affine, const int ellipsis_axes[2],
                                norma_error *error) {
  int next = 0, open = 0;
  for (int a = 0; a < layer->axis_count; a++) layer->axes[a].bits &= ~(unsigned)NORMA_AFFINE;
  for (const char *c = affine ? affine : ""; *c;) {
    if (is_space(*c) || *c == '(' || *c == ')') {
      open += *c == '(' ? 1 : *c == ')' ? -1 : 0;
      if (open < 0 || open > 1) break;
      c++;
      continue;
    }
    char name[NORMA_NAME_SIZE];
    if (!read_name(&c, name))
      return norma_fail(error, NORMA_BAD_PATTERN,
                        "affine '%.60s' cannot be read at '%.20s': a list of axis names is right", affine, c);
    int from = next, to;
    if (name[0] == '.') {
      if (ellipsis_axes[0] < 0)
        return norma_fail(error, NORMA_BAD_PATTERN, "affine '%.60s' has '...', the pattern has none", affine);
      from = ellipsis_axes[0];
      to = ellipsis_axes[1];
    } else {
      while (from < layer->axis_count && strcmp(layer->axes[from].name, name) != 0) from++;
      to = from + 1;
    }
    if (from >= layer->axis_count && to > from) {
      for (from = 0; from < next && strcmp(layer->axes[from].name, name) != 0;) from++;
      return norma_fail(error, NORMA_BAD_PATTERN,
                        from < next ? "affine '%.60s' names '%s' out of order: the order of the pattern is right, and "
                                      "strides give another layout"
                                    : "affine '%.60s' names '%s', which the pattern does not have",
                        affine, name);
    }
    if (from < next && to > from)
      return norma_fail(error, NORMA_BAD_PATTERN, "affine '%.60s' has '...' out of order", affine);
    for (int a = from; a < to; a++) layer->axes[a].bits |= NORMA_AFFINE;
    if (to > from) next = to;
  }
  if (open != 0) return norma_fail(error, NORMA_BAD_PATTERN, "affine '%.60s' does not close its parentheses", affine);
  return NORMA_OK;
}

norma_status norma_layer_parse(norma_layer *layer, const char *pattern, const char *affine, const char *sizes, int ndim,
                               const int64_t *shape, norma_error *error) {
  if (!layer) return norma_fail(error, NORMA_BAD_ARGUMENT, "layer is NULL");
  if (!pattern) return norma_fail(error, NORMA_BAD_ARGUMENT, "pattern is NULL");
  if (!shape) return norma_fail(error, NORMA_BAD_ARGUMENT, "shape is NULL");
  if (ndim < 1 || ndim > NORMA_MAX_DIMS)
    return norma_fail(error, NORMA_BAD_SHAPE, "ndim is %d, must be 1 to %d", ndim, NORMA_MAX_DIMS);
  norma_layer made = {.size = sizeof made, .ndim = ndim};
  for (int d = 0; d < ndim; d++) {
    if (shape[d] < 0)
      return norma_fail(error, NORMA_BAD_SHAPE, "shape[%d] is %lld, must not be negative", d, (long long)shape[d]);
    made.shape[d] = shape[d];
  }
  items list = {0};
  int ellipsis_axes[2] = {-1, -1};
  norma_status status = read_pattern(&list, pattern, error);
  if (!status) status = place_axes(&made, &list, pattern, ellipsis_axes, error);
  if (!status) status = read_sizes(&made, sizes ? sizes : "", error);
  if (!status) status = solve_lengths(&made, error);
  if (!status) status = read_affine(&made, affine, ellipsis_axes, error);
  if (!status) status = norma_layer_check(&made, "layer", error);
  if (!status) *layer = made;
  return status;
}

norma_status norma_layer_affine(norma_layer *layer, const char *affine, norma_error *error) {
  norma_status status = norma_layer_check(layer, "layer", error);
  if (status) return status;
  norma_layer made = *layer;
  const int no_ellipsis[2] = {-1, -1};
  status = read_affine(&made, affine, no_ellipsis, error);
  if (!status) *layer = made;
  return status;
}

/* ----------------------------------------------------------------------------------------------------- and back --- */

typedef struct text {
  char *to;
  size_t size, length;
} text;

static void put(text *out, const char *piece) {
  size_t n = strlen(piece);
  if (out->length + n < out->size) memcpy(out->to + out->length, piece, n + 1);
  out->length += n;
}

static int end_of_dim(const norma_layer *layer, int first) {
  int end = first + 1;
  while (end < layer->axis_count && layer->axes[end].dim == layer->axes[first].dim) end++;
  return end;
}

/* The axes first..end-1, with brackets around neighbours that share. */
static void put_axes(text *out, const norma_layer *layer, int first, int end) {
  for (int a = first; a < end; a++) {
    bool shared = layer->axes[a].bits & NORMA_SHARE;
    put(out, a > first ? " " : "");
    if (shared && (a == first || !(layer->axes[a - 1].bits & NORMA_SHARE))) put(out, "[");
    put(out, layer->axes[a].name);
    if (shared && (a + 1 == end || !(layer->axes[a + 1].bits & NORMA_SHARE))) put(out, "]");
  }
}

static void put_pattern(text *out, const norma_layer *layer) {
  for (int first = 0, end; first < layer->axis_count; first = end) {
    put(out, first > 0 ? " " : "");
    end = end_of_dim(layer, first);
    bool split = end - first > 1;
    if (split) put(out, "(");
    else /* whole dimensions in a row go together, so that [h w] is one bracket */
      while (end < layer->axis_count && end_of_dim(layer, end) == end + 1) end++;
    put_axes(out, layer, first, end);
    if (split) put(out, ")");
  }
}

static void put_affine(text *out, const norma_layer *layer) {
  for (int first = 0, end; first < layer->axis_count; first = end) {
    end = end_of_dim(layer, first);
    int count = 0, done = 0;
    for (int a = first; a < end; a++) count += (layer->axes[a].bits & NORMA_AFFINE) != 0;
    for (int a = first; a < end; a++) {
      if (!(layer->axes[a].bits & NORMA_AFFINE)) continue;
      put(out, out->length > 0 ? " " : "");
      put(out, count > 1 && done++ == 0 ? "(" : "");
      put(out, layer->axes[a].name);
    }
    if (count > 1) put(out, ")");
  }
}

norma_status norma_layer_format(const norma_layer *layer, char *pattern, size_t pattern_size, char *affine,
                                size_t affine_size, norma_error *error) {
  norma_status status = norma_layer_check(layer, "layer", error);
  if (status) return status;
  text one = {pattern, pattern ? pattern_size : 0, 0}, two = {affine, affine ? affine_size : 0, 0}, measured = {0};
  put_pattern(&measured, layer);
  if (pattern && measured.length >= pattern_size)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "pattern_size is %zu, %zu are needed", pattern_size,
                      measured.length + 1);
  measured.length = 0;
  put_affine(&measured, layer);
  if (affine && measured.length >= affine_size)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "affine_size is %zu, %zu are needed", affine_size,
                      measured.length + 1);
  if (affine) affine[0] = '\0';
  put_pattern(&one, layer);
  put_affine(&two, layer);
  return NORMA_OK;
}
