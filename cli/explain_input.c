/*
 * Reads what was typed: a problem string; a pattern and a shape; or a layer's name and a shape. The last two are
 * rewritten as a problem string, so that there is one reader of sizes, types and values.
 */
#include "explain.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_KEYS = 16 };

/* The words behind the name or the pattern. */
typedef struct typed {
  int ndim;
  int64_t shape[NORMA_MAX_DIMS];
  int key_count;
  const char *keys[MAX_KEYS]; /* "eps=1e-3"; NULL once used */
} typed;

static bool fail(norma_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool fail(norma_error *error, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  error->status = NORMA_BAD_ARGUMENT;
  vsnprintf(error->detail, sizeof error->detail, format, arguments);
  va_end(arguments);
  return false;
}

/* "64", and also "32,64,56,56" or "32x64x56x56". */
static bool read_lengths(const char *word, typed *t, norma_error *error) {
  for (const char *at = word; true; at++) {
    char *end;
    long long length = isdigit((unsigned char)*at) ? strtoll(at, &end, 10) : -1;
    if (length < 0 || (length == 0 && *end == 'x') || (*end != '\0' && *end != ',' && *end != 'x')) {
      return fail(error, "\"%.60s\" is neither a length nor key=value; a length is a whole number such as 64", word);
    }
    if (length == INT64_MAX) return fail(error, "\"%.60s\" is too large; a length is less than 2^63 - 1", word);
    if (t->ndim == NORMA_MAX_DIMS) return fail(error, "more than %d lengths; a tensor has at most 8", NORMA_MAX_DIMS);
    t->shape[t->ndim++] = length;
    if (*end == '\0') return true;
    at = end;
  }
}

static bool read_words(int count, char **words, typed *t, norma_error *error) {
  for (int i = 0; i < count; i++) {
    if (!strchr(words[i], '=')) {
      if (!read_lengths(words[i], t, error)) return false;
    } else if (t->key_count < MAX_KEYS) {
      t->keys[t->key_count++] = words[i];
    } else {
      return fail(error, "more than %d settings (key=value)", MAX_KEYS);
    }
  }
  return true;
}

/* The value of the first setting with one of these names (space between them), which is then used up. */
static const char *take(typed *t, const char *names) {
  for (int i = 0; i < t->key_count; i++) {
    if (!t->keys[i]) continue;
    size_t length = strcspn(t->keys[i], "=");
    for (const char *at = names; *at; at += strcspn(at, " "), at += *at == ' ') {
      if (strcspn(at, " ") == length && memcmp(at, t->keys[i], length) == 0) {
        const char *value = t->keys[i] + length + 1;
        t->keys[i] = NULL;
        return value;
      }
    }
  }
  return NULL;
}

/* Whole numbers between commas; brackets and spaces do not matter: 768, [64, 56, 56], (-1,). -1 if it is none. */
static int read_list(const char *text, long long out[NORMA_MAX_DIMS]) {
  int count = 0;
  for (const char *at = text; *at;) {
    if (strchr("[]() ,", *at)) {
      at++;
      continue;
    }
    char *end;
    long long value = strtoll(at, &end, 10);
    if (end == at || count == NORMA_MAX_DIMS) return -1;
    out[count++] = value;
    at = end;
  }
  return count > 0 ? count : -1;
}

/* How people name the dimensions of such a tensor. */
static const char *dimension_names(const explain_name *name, int ndim, bool channels_last) {
  static const char *const first[] = {"", "d", "nc", "ncl", "nchw", "ncdhw", "ncpqrs", "ncpqrst", "ncpqrstu"};
  static const char *const last[] = {"", "d", "nc", "nlc", "nhwc", "ndhwc", "npqrsc", "npqrstc", "npqrstuc"};
  bool rows = name->kind == PROBLEM_LAYER || name->kind == PROBLEM_RMS;
  if (rows && ndim <= 3 && !name->over_channels) return ndim == 3 ? "ntd" : ndim == 2 ? "nd" : "d";
  return channels_last ? last[ndim] : first[ndim];
}

/* ---------------------------------------------------------------------------------------------- settings --- */

static bool read_axis(const char *text, int ndim, int *out, norma_error *error) {
  long long list[NORMA_MAX_DIMS];
  if (read_list(text, list) != 1 || list[0] < -ndim || list[0] >= ndim) {
    return fail(error, "axis=%.40s: one number from %d to %d would be right", text, -ndim, ndim - 1);
  }
  *out = (int)(list[0] < 0 ? list[0] + ndim : list[0]);
  return true;
}

/* The normalized dimensions of layer and RMS norm, as each framework says them; bit d is dimension d. */
static bool normalized(const explain_name *name, typed *t, unsigned *out, norma_error *error) {
  long long list[NORMA_MAX_DIMS];
  const char *shape = take(t, "normalized_shape"), *axis = take(t, "axis axes");
  *out = name->over_channels ? 1u << 1 : 1u << (t->ndim - 1);
  if (shape) {
    int count = read_list(shape, list);
    if (count < 0 || count > t->ndim) {
      return fail(error, "normalized_shape=%.60s: the last lengths of the input would be right", shape);
    }
    for (int i = 0; i < count; i++) {
      if (list[i] != t->shape[t->ndim - count + i]) {
        return fail(error, "normalized_shape=%.60s does not end the input's shape: %lld was expected, not %lld", shape,
                    (long long)t->shape[t->ndim - count + i], list[i]);
      }
    }
    *out = ((1u << count) - 1) << (t->ndim - count);
  }
  if (!axis) return true;
  int count = read_list(axis, list);
  unsigned dims = 0;
  for (int i = 0; i < count; i++) {
    if (list[i] < -t->ndim || list[i] >= t->ndim) count = -1;
    else dims |= 1u << (list[i] < 0 ? list[i] + t->ndim : list[i]);
  }
  if (count < 0) {
    return fail(error, "axis=%.40s: numbers from %d to %d would be right", axis, -t->ndim, t->ndim - 1);
  }
  /* ONNX: this dimension and all that follow. */
  while (name->origin == FROM_ONNX && dims != 0 && !(dims >> (t->ndim - 1) & 1)) dims |= dims << 1;
  *out = dims & ((1u << t->ndim) - 1);
  return true;
}

/* Settings that every layer may have go on in the grammar's own words. */
static bool common_settings(typed *t, char *text, norma_error *error) {
  static const char *const types[][2] = {{"float32", "f32"}, {"float", "f32"}, {"float64", "f64"},  {"double", "f64"},
                                         {"float16", "f16"}, {"half", "f16"},  {"bfloat16", "bf16"}};
  const char *eps = take(t, "eps epsilon"), *type = take(t, "type dtype");
  const char *affine = take(t, "affine elementwise_affine");
  if (eps && strcmp(eps, "None") != 0) explain_append(text, ",eps=%s", eps);
  if (affine) {
    bool yes = strcmp(affine, "True") == 0 || strcmp(affine, "true") == 0;
    bool no = strcmp(affine, "False") == 0 || strcmp(affine, "false") == 0;
    explain_append(text, ",affine=%s", yes ? "yes" : no ? "no" : affine);
  }
  if (type && strncmp(type, "torch.", 6) == 0) type += 6;
  for (size_t i = 0; type && i < sizeof types / sizeof types[0]; i++) {
    if (strcmp(type, types[i][0]) == 0) type = types[i][1];
  }
  if (type) explain_append(text, ",type=%s", type);
  for (int i = 0; i < t->key_count; i++) {
    if (t->keys[i] && strchr(t->keys[i], ',')) return fail(error, "%.80s: a comma cannot stand here", t->keys[i]);
    if (t->keys[i]) explain_append(text, ",%s", t->keys[i]);
  }
  return true;
}

/* ------------------------------------------------------------------------------------------------- names --- */

static bool check_rank(const explain_name *name, const typed *t, norma_error *error) {
  if (t->ndim == 0) {
    bool rows = (name->kind == PROBLEM_LAYER || name->kind == PROBLEM_RMS) && !name->over_channels;
    return fail(error, "%s: the shape of its input is missing; norma explain %s %s%s would be right", name->name,
                name->name,
                rows                  ? "8 128 768"
                : name->max_dims == 5 ? "2 16 8 56 56"
                : name->max_dims == 3 ? "32 64 100"
                                      : "32 64 56 56",
                name->kind == PROBLEM_GROUP ? " g=32" : "");
  }
  if (t->ndim >= name->min_dims && t->ndim <= name->max_dims) return true;
  char range[32], other[64] = "";
  const explain_name *fitting = explain_other_rank(name, t->ndim);
  if (fitting) snprintf(other, sizeof other, "; %s takes %d", fitting->name, t->ndim);
  if (name->max_dims == name->min_dims) snprintf(range, sizeof range, "%d", name->min_dims);
  else if (name->max_dims == NORMA_MAX_DIMS) snprintf(range, sizeof range, "at least %d", name->min_dims);
  else snprintf(range, sizeof range, "%d or %d", name->min_dims, name->max_dims);
  return fail(error, "%s takes an input of %s dimensions, but %d %s given%s", name->name, range, t->ndim,
              t->ndim == 1 ? "was" : "were", other);
}

static bool take_channels(typed *t, int channels, norma_error *error) {
  const char *given = take(t, "num_features num_channels channels");
  if (!given || strtoll(given, NULL, 10) == t->shape[channels]) return true;
  return fail(error, "%.40s channels were named, but dimension %d of the shape is %lld", given, channels,
              (long long)t->shape[channels]);
}

/* Keras normalizes with the channels in any place, by default the last: a pattern says that. */
static void keras_pattern(const explain_name *name, const typed *t, const char *names, int channels, const char *groups,
                          char *text) {
  bool group = name->kind == PROBLEM_GROUP;
  explain_append(text, ",pattern=");
  for (int d = 0; d < t->ndim; d++) {
    const char *space = d > 0 ? " " : "";
    if (d == channels) explain_append(text, group ? "%s(g [k])" : "%s%c", space, names[d]);
    else explain_append(text, group && d == 0 ? "%s%c" : "%s[%c]", space, names[d]);
  }
  if (group) explain_append(text, ",g=%s", groups);
}

static bool no_groups(const explain_name *name, int64_t channels, norma_error *error) {
  char divisors[160];
  int64_t example = 32;
  while (example > 1 && channels % example != 0) example /= 2;
  explain_divisors(channels, divisors, sizeof divisors);
  return fail(error, "%s: the number of groups is missing, as in g=%lld%s%s", name->name, (long long)example,
              channels > 0 ? "; the groups can be " : "", divisors);
}

static bool name_to_problem(const explain_name *name, typed *t, char *text, norma_error *error) {
  if (!check_rank(name, t, error)) return false;
  int channels = name->origin == FROM_KERAS ? t->ndim - 1 : 1;
  unsigned dims = 0;
  bool rows = name->kind == PROBLEM_LAYER || name->kind == PROBLEM_RMS;
  const char *axis = rows ? NULL : take(t, "axis"), *groups = NULL;
  if (axis && !read_axis(axis, t->ndim, &channels, error)) return false;
  const char *names = dimension_names(name, t->ndim, name->origin == FROM_KERAS && channels == t->ndim - 1);
  if (rows ? !normalized(name, t, &dims, error) : !take_channels(t, channels, error)) return false;
  if (name->kind == PROBLEM_GROUP && !(groups = take(t, "g groups num_groups"))) {
    return no_groups(name, t->shape[channels], error);
  }
  bool pattern = !rows && channels != 1;
  explain_append(text, "%s:", pattern ? "norm" : problem_kind_name(name->kind));
  for (int d = 0; d < t->ndim; d++) {
    explain_append(text, "%s%c%lld", d > 0 ? "," : "", names[d], (long long)t->shape[d]);
  }
  if (pattern) keras_pattern(name, t, names, channels, groups, text);
  else if (groups) explain_append(text, ",g=%s", groups);
  for (int d = 0, first = 1; rows && d < t->ndim; d++) {
    if (dims >> d & 1) explain_append(text, "%s%c", first ? ",axes=" : ".", names[d]), first = 0;
  }
  bool torch_instance = name->origin == FROM_PYTORCH && name->kind == PROBLEM_INSTANCE; /* affine=False by default */
  bool own_affine = false;
  for (int i = 0; i < t->key_count; i++) own_affine |= t->keys[i] && strstr(t->keys[i], "affine=") != NULL;
  if (torch_instance && !own_affine) explain_append(text, ",affine=no");
  if (pattern && !own_affine) {
    if (name->kind == PROBLEM_GROUP) explain_append(text, ",affine=(g k)");
    else explain_append(text, ",affine=%c", names[channels]);
  }
  return common_settings(t, text, error);
}

static bool pattern_to_problem(const char *pattern, typed *t, char *text, norma_error *error) {
  static const char *const names = "abcdefgh";
  if (strchr(pattern, ',')) return fail(error, "'%.80s': axes are separated by spaces, not commas", pattern);
  if (t->ndim == 0) {
    return fail(error, "'%.80s': the shape is missing; norma explain '%.80s' 32 64 56 56 gives four lengths", pattern,
                pattern);
  }
  for (int d = 0; d < t->ndim; d++) {
    explain_append(text, "%s%c%lld", d > 0 ? "," : "norm:", names[d], (long long)t->shape[d]);
  }
  explain_append(text, ",pattern=%s", pattern);
  return common_settings(t, text, error);
}

/* The dimensions of a pattern get the names of their axes, run together where there are several, if the problem string
 * can have such names. */
static void name_dimensions(const norma_layer *layer, problem *p) {
  char names[NORMA_MAX_DIMS][NORMA_NAME_SIZE] = {{0}};
  for (int a = 0; a < layer->axis_count; a++) {
    char *name = names[layer->axes[a].dim];
    if (strlen(name) + strlen(layer->axes[a].name) >= NORMA_NAME_SIZE) return;
    strcat(name, layer->axes[a].name);
  }
  for (int d = 0; d < layer->ndim; d++) {
    size_t length = strlen(names[d]);
    if (length == 0 || isdigit((unsigned char)names[d][length - 1])) return;
    if (strspn(names[d], "abcdefghijklmnopqrstuvwxyz0123456789_") != length) return;
    for (int e = 0; e < d; e++) {
      if (strcmp(names[d], names[e]) == 0) return;
    }
  }
  memcpy(p->names, names, sizeof names);
}

/* ------------------------------------------------------------------------------------------------ finish --- */

static double default_eps(const explain_case *c) {
  if (!c->layer.rms) return c->origin == FROM_KERAS ? 1e-3 : 1e-5;
  if (c->origin == FROM_KERAS) return 1e-6;
  if (c->origin == FROM_ONNX) return 1e-5;
  return ldexp(1, c->p.type == NORMA_F64 ? -52 : -23);
}

static bool read_momentum(const char *text, explain_case *c, norma_error *error) {
  bool old = c->origin == FROM_ONNX || c->origin == FROM_KERAS;
  c->momentum = c->origin == FROM_KERAS ? 1 - 0.99 : 0.1;
  if (!text) return true;
  char *end;
  double value = strtod(text, &end);
  if (end == text || *end != '\0' || !(value >= 0 && value <= 1)) {
    return fail(error, "momentum=%.40s: a number from 0 to 1 would be right", text);
  }
  if (c->family != FAMILY_BATCH && c->family != FAMILY_INSTANCE) {
    return fail(error, "momentum=%.40s: this layer has no running statistics, only batch and instance norm do", text);
  }
  c->momentum = old ? 1 - value : value;
  return true;
}

static bool finish(explain_case *c, const char *momentum, norma_error *error) {
  const problem *p = &c->p;
  if (p->kind == PROBLEM_GROUP && p->ndim >= 2 && p->shape[1] > 0 && (p->groups < 1 || p->shape[1] % p->groups != 0)) {
    char divisors[160];
    explain_divisors(p->shape[1], divisors, sizeof divisors);
    return fail(error, "%lld channels cannot be split into %lld equal groups; the number of groups can be %s",
                (long long)p->shape[1], (long long)p->groups, divisors);
  }
  if (problem_layer(p, &c->layer, error) != NORMA_OK) return false;
  c->eps = p->has_eps ? p->eps : default_eps(c);
  if (!(c->eps >= 0) || isinf(c->eps)) return fail(error, "eps is %g, must be 0 or a positive number", c->eps);
  if (p->ddof > 1 || p->ddof2 > 1) {
    return fail(error, "ddof is %d, must be 0 (divide by m) or 1 (by m - 1)", p->ddof > 1 ? p->ddof : p->ddof2);
  }
  if (p->has_alpha && !isfinite(p->alpha)) return fail(error, "alpha is %g, must be a finite number", p->alpha);
  explain_classify(c);
  return read_momentum(momentum, c, error);
}

/* A known name and a parenthesis, whatever follows it. */
static bool is_call(const char *text) {
  char head[64];
  const char *suggestion, *at = strchr(text, '(');
  snprintf(head, sizeof head, "%.*s", at ? (int)(at - text) : 0, text);
  return at && explain_find_name(head, &suggestion);
}

bool explain_read(int count, char **words, explain_case *out, norma_error *error) {
  char text[EXPLAIN_LINE] = "";
  const char *suggestion = NULL, *momentum = NULL;
  *out = (explain_case){.origin = FROM_NORMA};
  if (strchr(words[0], ':')) {
    if (count > 1) return fail(error, "\"%.60s\": a problem string is one word; put quotes around it", words[1]);
    return problem_parse(words[0], &out->p, error) && finish(out, NULL, error);
  }
  typed t = {0};
  explain_lines settings = {0};
  const explain_name *name = explain_find_name(words[0], &suggestion);
  if (!name) name = explain_read_call(words[0], &settings);
  if (!name && is_call(words[0])) {
    return fail(error, "the arguments in \"%.60s\" cannot be read; settings can also follow the shape, as in eps=1e-5",
                words[0]);
  }
  bool pattern = !name && strpbrk(words[0], "[ ") != NULL;
  if (!pattern && !name) {
    if (suggestion) return fail(error, "no layer is called \"%.60s\"; did you mean %s?", words[0], suggestion);
    return fail(
        error,
        "\"%.60s\" is no layer, pattern or problem string; try BatchNorm2d 32 64 56 56, 'n c [h w]' 32 64 56 56 "
        "or group:n8,c64,h14,w14,g=32",
        words[0]);
  }
  for (int i = 0; i < settings.count; i++) {
    if (t.key_count < MAX_KEYS) t.keys[t.key_count++] = settings.text[i];
  }
  if (!read_words(count - 1, words + 1, &t, error)) return false;
  if (name) out->origin = name->origin;
  momentum = take(&t, "momentum");
  if (!(pattern ? pattern_to_problem(words[0], &t, text, error) : name_to_problem(name, &t, text, error))) return false;
  if (strlen(text) == EXPLAIN_LINE - 1) return fail(error, "too many settings");
  if (!problem_parse(text, &out->p, error) || !finish(out, momentum, error)) return false;
  if (pattern) name_dimensions(&out->layer, &out->p);
  return true;
}
