/*
 * Reads a problem string. A string is cut at its first colon (the kind) and then at commas (the items). An item with
 * an equals sign is a key (keys.c), any other one a dimension.
 */
#include "items.h"

#include <ctype.h>
#include <string.h>

/* A dimension: a name that ends before the trailing digits, and a length. */
static bool read_dimension(const problem_item *it, problem *p) {
  size_t end = strlen(it->text), name = end;
  while (name > 0 && isdigit((unsigned char)it->text[name - 1])) {
    name--;
  }
  bool good = name > 0 && name < end && name < NORMA_NAME_SIZE && islower((unsigned char)it->text[0]);
  for (size_t i = 0; good && i < name; i++) {
    unsigned char c = (unsigned char)it->text[i];
    good = islower(c) || isdigit(c) || c == '_';
  }
  if (!good) {
    return problem_wrong(it, "neither a dimension (a lowercase name and a length, as in c64) nor key=value");
  }
  if (p->ndim == NORMA_MAX_DIMS) {
    return problem_wrong(it, "a tensor has at most 8 dimensions");
  }
  if (!problem_read_integer(it->text + name, it->text + end, &p->shape[p->ndim])) {
    return problem_wrong(it, "this length does not fit 64 bits");
  }
  memcpy(p->names[p->ndim], it->text, name);
  p->names[p->ndim][name] = '\0';
  for (int d = 0; d < p->ndim; d++) {
    if (strcmp(p->names[d], p->names[p->ndim]) == 0) {
      return problem_wrong(it, "two dimensions have this name");
    }
  }
  if (p->kind == PROBLEM_GROUP && (strcmp(p->names[p->ndim], "g") == 0 || strcmp(p->names[p->ndim], "k") == 0)) {
    return problem_wrong(it, "group norm splits its channels into axes g and k; g=4 sets the number of groups");
  }
  p->ndim++;
  return true;
}

/* What no item can know alone. */
static bool complete(problem *p, norma_error *error) {
  const char *kind = problem_kind_name(p->kind);
  if (p->ndim == 0) {
    return problem_fail(error, NORMA_BAD_ARGUMENT, "%s: no dimensions; %s:n8,c64,h14,w14 has four", kind, kind);
  }
  if (p->kind == PROBLEM_GROUP && p->groups < 0) {
    return problem_fail(error, NORMA_BAD_ARGUMENT, "group: the number of groups is missing; g=4 would set it");
  }
  if (p->kind == PROBLEM_NORM && p->pattern[0] == '\0') {
    return problem_fail(error, NORMA_BAD_ARGUMENT, "norm: the pattern is missing; 'pattern=n (g [k]) [h w]' is one");
  }
  if (problem_has_axes(p->kind) && p->axes == 0) {
    p->axes = 1u << (p->ndim - 1);
  }
  if (p->out == PROBLEM_LAYOUTS) {
    p->out = p->layout == PROBLEM_BROADCAST ? PROBLEM_CONTIGUOUS : p->layout;
  }
  if (p->out == PROBLEM_BROADCAST) {
    return problem_fail(error, NORMA_BAD_ARGUMENT, "out=broadcast: elements of an output cannot share memory");
  }
  if (p->inplace && p->out != p->layout) {
    return problem_fail(error, NORMA_BAD_ARGUMENT,
                        "inplace=1: input and output must have one layout, but they are %s and %s",
                        problem_layout_name(p->layout), problem_layout_name(p->out));
  }
  if (p->stats == PROBLEM_STATS_SAVED && p->direction == PROBLEM_FORWARD) {
    return problem_fail(error, NORMA_BAD_ARGUMENT, "stats=saved: only backward uses them; dir=bwd would be right");
  }
  return true;
}

bool problem_parse(const char *text, problem *out, norma_error *error) {
  memset(out, 0, sizeof *out);
  size_t length = strcspn(text, ":");
  int kind = problem_find_word(problem_kind_words, text, length);
  if (kind < 0 || text[length] != ':') {
    char words[128];
    problem_list_words(problem_kind_words, words, sizeof words);
    return kind < 0 ? problem_fail(error, NORMA_BAD_ARGUMENT, "'%.*s': no such layer; %s would be right",
                                   length < 40 ? (int)length : 40, text, words)
                    : problem_fail(error, NORMA_BAD_ARGUMENT, "%s: a colon and dimensions must follow", text);
  }
  out->kind = (problem_kind)kind;
  out->affine = problem_default_affine(out->kind);
  out->groups = out->kind == PROBLEM_GROUP ? -1 : 0; /* not yet given, like the next */
  out->out = PROBLEM_LAYOUTS;
  unsigned seen = 0;
  problem_item it = {.error = error};
  for (const char *at = text + length + 1; true; at++) {
    size_t n = strcspn(at, ",");
    if (n >= PROBLEM_ITEM_SIZE) {
      return problem_fail(error, NORMA_BAD_ARGUMENT, "%.40s...: an item has at most %d characters", at,
                          PROBLEM_ITEM_SIZE - 1);
    }
    memcpy(it.text, at, n);
    it.text[n] = '\0';
    char *equals = strchr(it.text, '=');
    it.value = equals ? equals + 1 : NULL;
    if (n == 0) {
      return problem_fail(error, NORMA_BAD_ARGUMENT, "'%.160s': an item is empty", text);
    }
    if (!(equals ? problem_read_key(&it, out, &seen) : read_dimension(&it, out))) {
      return false;
    }
    at += n;
    if (*at == '\0') {
      return complete(out, error);
    }
  }
}
