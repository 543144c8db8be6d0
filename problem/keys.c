/* The keys of the grammar: which kinds have each, and how its value is read. */
#include "items.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_SIZE = 16, LIMIT = 64 };

bool problem_wrong(const problem_item *it, const char *text) {
  return problem_fail(it->error, NORMA_BAD_ARGUMENT, "%.80s: %s", it->text, text);
}

/* The place of the value in a table of words, 0 if it is not there. */
static int read_word(const problem_item *it, const problem_word *table, const char *what, bool *good) {
  int place = problem_find_word(table, it->value, strlen(it->value));
  *good = place >= 0;
  if (*good) {
    return place;
  }
  char words[128];
  problem_list_words(table, words, sizeof words);
  problem_fail(it->error, NORMA_BAD_ARGUMENT, "%.80s: no such %s; %s would be right", it->text, what, words);
  return 0;
}

bool problem_read_integer(const char *text, const char *end, int64_t *out) {
  if (text == end || !isdigit((unsigned char)*text)) {
    return false;
  }
  char *stop;
  errno = 0;
  long long value = strtoll(text, &stop, 10);
  *out = value;
  return stop == end && errno == 0;
}

static bool read_count(const problem_item *it, int64_t low, int64_t high, int64_t *out) {
  const char *end = it->value + strlen(it->value);
  if (problem_read_integer(it->value, end, out) && *out >= low && *out <= high) {
    return true;
  }
  return high == INT64_MAX
             ? problem_fail(it->error, NORMA_BAD_ARGUMENT, "%.80s: a whole number from %lld up would be right",
                            it->text, (long long)low)
             : problem_fail(it->error, NORMA_BAD_ARGUMENT, "%.80s: a whole number from %lld to %lld would be right",
                            it->text, (long long)low, (long long)high);
}

static bool read_small(const problem_item *it, int high, int *out) {
  int64_t value = 0;
  bool good = read_count(it, 0, high, &value);
  *out = good ? (int)value : 0;
  return good;
}

static bool read_flag(const problem_item *it, bool *out) {
  int value = 0;
  bool good = read_small(it, 1, &value);
  *out = value == 1;
  return good;
}

static bool read_number(const problem_item *it, const char *text, double *out) {
  char *end;
  *out = strtod(text, &end);
  if (*text == '\0' || isspace((unsigned char)*text) || *end != '\0') {
    return problem_wrong(it, "a number such as 1e-5 would be right");
  }
  return true;
}

static bool read_text(const problem_item *it, char *out, size_t size) {
  size_t length = strlen(it->value);
  if (length == 0 || length >= size) {
    return problem_wrong(it, length == 0 ? "a text must follow the equals sign" : "too long");
  }
  memcpy(out, it->value, length + 1);
  return true;
}

/* A kind of data, and its value behind a colon. */
static bool read_fill(const problem_item *it, problem_fill *out) {
  const char *colon = strchr(it->value, ':');
  size_t length = colon ? (size_t)(colon - it->value) : strlen(it->value);
  int data = problem_find_word(problem_data_words, it->value, length);
  if (data < 0) {
    char words[128];
    problem_list_words(problem_data_words, words, sizeof words);
    return problem_fail(it->error, NORMA_BAD_ARGUMENT, "%.80s: no such kind of data; %s would be right", it->text,
                        words);
  }
  out->data = (problem_data)data;
  out->value = 0;
  bool needs = data == PROBLEM_OFFSET || data == PROBLEM_SCALE || data == PROBLEM_CONSTANT;
  if (!colon) {
    return needs ? problem_wrong(it, "a value must follow, as in offset:1e4") : true;
  }
  if (!needs && data != PROBLEM_OUTLIER) {
    return problem_wrong(it, "only offset, scale, constant and outlier have a value");
  }
  return read_number(it, colon + 1, &out->value);
}

static bool take_affine(const problem_item *it, problem *p) {
  int word = problem_find_word(problem_affine_words, it->value, strlen(it->value));
  if (word == PROBLEM_AFFINE_NONE || (word > 0 && p->kind != PROBLEM_NORM)) {
    p->affine = (problem_affine)word;
    return true;
  }
  if (word > 0) {
    return problem_wrong(it, "a layer by its pattern has no affine list of its own; 'affine=n c' names one");
  }
  p->affine = PROBLEM_AFFINE_LIST;
  return read_text(it, p->affine_list, sizeof p->affine_list);
}

/* 5x7: the dimensions of the style after n and c. */
static bool take_style(const problem_item *it, problem *p) {
  const char *at = it->value;
  int count = 0;
  do {
    const char *end = at + strcspn(at, "x");
    if (count == NORMA_MAX_DIMS - 2 || !problem_read_integer(at, end, &p->style_shape[count])) {
      return problem_wrong(it, "up to 6 lengths, as in style=5x7, would be right");
    }
    count++;
    at = end;
  } while (*at++ == 'x');
  p->style_ndim = count;
  return true;
}

static bool read_seed(const problem_item *it, uint64_t *out) {
  char *end;
  errno = 0;
  unsigned long long value = strtoull(it->value, &end, 10);
  *out = value;
  return (isdigit((unsigned char)*it->value) && *end == '\0' && errno == 0) ||
         problem_wrong(it, "a whole number below 2^64 would be right");
}

/* layer and rms: the names of the normalized dimensions, joined by dots. */
static bool take_axes(const problem_item *it, problem *p) {
  for (const char *at = it->value, *end; true; at = end + 1) {
    end = at + strcspn(at, ".");
    int d = 0;
    while (d < p->ndim && (strlen(p->names[d]) != (size_t)(end - at) || memcmp(p->names[d], at, (size_t)(end - at)))) {
      d++;
    }
    if (d == p->ndim) {
      return problem_wrong(it, "the names of dimensions, as in axes=c.h.w, would be right; the dimensions come first");
    }
    p->axes |= 1u << d;
    if (*end == '\0') {
      return true;
    }
  }
}

/* norm: a named length of the pattern, kept as the library reads it. */
static bool read_size(const problem_item *it, problem *p) {
  int64_t length;
  for (const char *c = it->text; *c != '='; c++) {
    if (!isalnum((unsigned char)*c) && *c != '_') {
      return problem_wrong(it, "neither a key nor the name of an axis");
    }
  }
  if (!read_count(it, 0, INT64_MAX, &length)) {
    return false;
  }
  size_t used = strlen(p->sizes), more = strlen(it->text);
  if (used + more + 2 > sizeof p->sizes) {
    return problem_wrong(it, "too many named lengths");
  }
  if (used) {
    p->sizes[used++] = ' ';
  }
  memcpy(p->sizes + used, it->text, more + 1);
  return true;
}

static bool take_groups(const problem_item *it, problem *p) { return read_count(it, 0, INT64_MAX, &p->groups); }
static bool take_pattern(const problem_item *it, problem *p) { return read_text(it, p->pattern, sizeof p->pattern); }
static bool take_rms(const problem_item *it, problem *p) { return read_flag(it, &p->rms); }
static bool take_data(const problem_item *it, problem *p) { return read_fill(it, &p->x); }
static bool take_dy(const problem_item *it, problem *p) { return read_fill(it, &p->dy); }
static bool take_ddof(const problem_item *it, problem *p) { return read_small(it, INT_MAX, &p->ddof); }
static bool take_ddof2(const problem_item *it, problem *p) { return read_small(it, INT_MAX, &p->ddof2); }
static bool take_plus_one(const problem_item *it, problem *p) { return read_flag(it, &p->plus_one); }
static bool take_inplace(const problem_item *it, problem *p) { return read_flag(it, &p->inplace); }
static bool take_workspace(const problem_item *it, problem *p) { return read_flag(it, &p->workspace); }
static bool take_threads(const problem_item *it, problem *p) { return read_small(it, LIMIT, &p->threads); }
static bool take_align(const problem_item *it, problem *p) { return read_small(it, LIMIT, &p->align); }
static bool take_seed(const problem_item *it, problem *p) { return read_seed(it, &p->seed); }

static bool take_eps(const problem_item *it, problem *p) { return p->has_eps = read_number(it, it->value, &p->eps); }

static bool take_eps2(const problem_item *it, problem *p) { return p->has_eps2 = read_number(it, it->value, &p->eps2); }

static bool take_alpha(const problem_item *it, problem *p) {
  return p->has_alpha = read_number(it, it->value, &p->alpha);
}

static bool take_layout(const problem_item *it, problem *p) {
  bool good;
  p->layout = (problem_layout)read_word(it, problem_layout_words, "layout", &good);
  return good;
}

static bool take_out(const problem_item *it, problem *p) {
  bool good;
  p->out = (problem_layout)read_word(it, problem_layout_words, "layout", &good);
  return good;
}

static bool take_type(const problem_item *it, problem *p) {
  bool good;
  p->type = (norma_type)read_word(it, problem_type_words, "type", &good);
  return good;
}

static bool take_dir(const problem_item *it, problem *p) {
  bool good;
  p->direction = (problem_direction)read_word(it, problem_direction_words, "direction", &good);
  return good;
}

static bool take_stats(const problem_item *it, problem *p) {
  bool good;
  p->stats = (problem_stats)read_word(it, problem_stats_words, "kind of statistics", &good);
  return good;
}

static bool take_act(const problem_item *it, problem *p) {
  bool good;
  p->activation = (norma_activation)read_word(it, problem_activation_words, "activation", &good);
  return good;
}

static bool take_add(const problem_item *it, problem *p) {
  bool good;
  p->add = (problem_add)read_word(it, problem_add_words, "residual", &good);
  return good;
}

enum {
  ALL = (1 << PROBLEM_KINDS) - 1,
  ADAIN = 1 << PROBLEM_ADAIN,
  NORM = 1 << PROBLEM_NORM,
  AXES = 1 << PROBLEM_LAYER | 1 << PROBLEM_RMS
};

static const struct {
  char key[KEY_SIZE];
  unsigned kinds; /* bit k: kind k has this key */
  bool (*take)(const problem_item *it, problem *p);
} keys[] = {
    {"g", 1 << PROBLEM_GROUP, take_groups},
    {"axes", AXES, take_axes},
    {"pattern", NORM, take_pattern},
    {"rms", NORM, take_rms},
    {"affine", ALL & ~ADAIN, take_affine},
    {"layout", ALL, take_layout},
    {"out", ALL, take_out},
    {"type", ALL, take_type},
    {"dir", ALL, take_dir},
    {"stats", ALL & ~ADAIN, take_stats},
    {"data", ALL, take_data},
    {"dy", ALL, take_dy},
    {"eps", ALL, take_eps},
    {"ddof", ALL, take_ddof},
    {"plus_one", ALL & ~ADAIN, take_plus_one},
    {"act", ALL & ~ADAIN, take_act},
    {"add", ALL & ~ADAIN, take_add},
    {"style", ADAIN, take_style},
    {"alpha", ADAIN, take_alpha},
    {"eps2", ADAIN, take_eps2},
    {"ddof2", ADAIN, take_ddof2},
    {"inplace", ALL, take_inplace},
    {"threads", ALL, take_threads},
    {"workspace", ALL, take_workspace},
    {"align", ALL, take_align},
    {"seed", ALL, take_seed},
};
enum { KEYS = sizeof keys / sizeof keys[0] };

bool problem_read_key(const problem_item *it, problem *p, unsigned *seen) {
  size_t length = (size_t)(it->value - 1 - it->text);
  int k = 0;
  while (k < KEYS && (strlen(keys[k].key) != length || memcmp(keys[k].key, it->text, length) != 0)) {
    k++;
  }
  bool of_kind = k < KEYS && keys[k].kinds >> p->kind & 1;
  if (!of_kind && p->kind == PROBLEM_NORM && length > 0) {
    return read_size(it, p);
  }
  if (k == KEYS) {
    return problem_wrong(it, "no such key; docs/problem.md and 'norma check --help' list them");
  }
  if (!of_kind) {
    return problem_fail(it->error, NORMA_BAD_ARGUMENT, "%.80s: %s has no %s", it->text, problem_kind_name(p->kind),
                        keys[k].key);
  }
  if (*seen >> k & 1) {
    return problem_wrong(it, "given twice");
  }
  *seen |= 1u << k;
  return keys[k].take(it, p);
}
