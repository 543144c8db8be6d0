/* The items of a problem string, for parse.c and keys.c. */
#ifndef NORMA_PROBLEM_ITEMS_H
#define NORMA_PROBLEM_ITEMS_H

#include "internal.h"

enum { PROBLEM_ITEM_SIZE = 256 };

/* One item while it is read; `value` is what stands behind the equals sign. */
typedef struct problem_item {
  char text[PROBLEM_ITEM_SIZE];
  const char *value;
  norma_error *error;
} problem_item;

/* The error "ITEM: text"; returns false. */
bool problem_wrong(const problem_item *it, const char *text);
/* A whole decimal number; `end` is where it must stop. */
bool problem_read_integer(const char *text, const char *end, int64_t *out);
/* An item with an equals sign. `seen` has one bit per key that was given. */
bool problem_read_key(const problem_item *it, problem *p, unsigned *seen);

#endif
