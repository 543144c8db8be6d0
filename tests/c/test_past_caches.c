/* Results that are written past the caches, in whole lines wherever the array begins, when some are not finite: these
 * are computed again, with what else is wanted of them. NORMA_STREAM_BYTES is read once, so this is a program of its
 * own. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 3, MOST = 704, ALIGNMENTS = 20 };

static const norma_type types[] = {NORMA_F32, NORMA_F16, NORMA_BF16};
static const int64_t widths[] = {5, 16, 40, 64, 100, 192, 256, 640, 700};

enum { MEMORY = sizeof(double) * ROWS * MOST, BESIDE = 0xa5 };

/* Nothing but the `bytes` from `first` on has been written. */
static void check_beside(const unsigned char *memory, const unsigned char *first, size_t bytes) {
  for (const unsigned char *at = memory; at < memory + MEMORY; at++)
    if ((at < first || at >= first + bytes) && *at != BESIDE)
      fail_problem("byte %td from the first result is not what it was", at - first);
}

/* Rows 0 and 2 have the bits of the clean call, row 1 is NaN. */
static void check(norma_type type, int64_t width, int activation, int align, int with_after) {
  norma_layer layer;
  norma_error error;
  uint64_t seed = (uint64_t)width;
  size_t size = norma_type_size(type), row = (size_t)width * size;
  double numbers[ROWS * MOST];
  for (int64_t i = 0; i < ROWS * width; i++) numbers[i] = (double)random_below(&seed, 1000) / 250 - 2;
  unsigned char *x = from_doubles(type, numbers, ROWS * width), *after = from_doubles(type, numbers, ROWS * width);
  unsigned char *memory = aligned_alloc(64, MEMORY), *clean = malloc(ROWS * row);
  unsigned char *y = memory + (size_t)align * size;
  assert_ok(norma_layer_norm(&layer, 1, 2, (int64_t[]){ROWS, width}, &error), &error);
  norma_forward_args args = {.size = sizeof args, .layer = &layer, .type = type, .x = x, .y = y};
  args.activation = (norma_activation)activation;
  if (with_after) args.after = after;
  problem_is("%s, 3 rows of %lld, activation %d, off by %d%s", norma_type_name(type), (long long)width, activation,
             align, with_after ? ", after" : "");
  memset(memory, BESIDE, MEMORY);
  assert_ok(norma_forward(&args, &error), &error);
  check_beside(memory, y, ROWS * row);
  memcpy(clean, y, ROWS * row);
  norma_from_double(type, (double[]){NAN}, x + row + (size_t)(width / 3) * size, 1, 1);
  assert_ok(norma_forward(&args, &error), &error);
  if (memcmp(y, clean, row) != 0 || memcmp(y + 2 * row, clean + 2 * row, row) != 0)
    fail_problem("a row has not the bits that it has without the NaN in another");
  for (int64_t i = 0; i < width; i++)
    if (bits_at(type, y + row, i) != canonical_nan(type))
      fail_problem("element %lld of the row that has a NaN is not the canonical one", (long long)i);
  free(clean);
  free(memory);
  free(after);
  free(x);
}

static void a_nan_takes_its_row_and_nothing_else(void **state) {
  (void)state;
  for (size_t t = 0; t < COUNT(types); t++)
    for (size_t w = 0; w < COUNT(widths); w++)
      for (int activation = 0; activation <= NORMA_GELU_TANH; activation++)
        for (int align = 0; align < ALIGNMENTS; align += 3)
          for (int with_after = 0; with_after < 2; with_after++)
            check(types[t], widths[w], activation, align, with_after);
}

/* dx of 3 rows of `width`, one unit each or with the others, has the bits that it has where each element stands apart,
 * which goes another way; a NaN in one row, and nothing beside it is written. */
static void check_dx(norma_type type, int64_t width, int in_rows, int align) {
  norma_layer layer;
  norma_error error;
  uint64_t seed = (uint64_t)width;
  size_t size = norma_type_size(type), bytes = (size_t)(ROWS * width) * size;
  double numbers[ROWS * MOST];
  for (int64_t i = 0; i < ROWS * width; i++) numbers[i] = (double)random_below(&seed, 1000) / 250 - 2;
  unsigned char *x = from_doubles(type, numbers, ROWS * width), *dy = from_doubles(type, numbers, ROWS * width);
  unsigned char *memory = aligned_alloc(64, MEMORY), *dx = memory + (size_t)align * size, *apart = calloc(2, bytes);
  int64_t rows[] = {ROWS, width}, images[] = {1, ROWS, width}, steps[] = {2 * ROWS * width, 2 * width, 2};
  if (in_rows) assert_ok(norma_layer_norm(&layer, 1, 2, rows, &error), &error);
  else assert_ok(norma_layer_instance(&layer, 3, images, &error), &error);
  norma_from_double(type, (double[]){NAN}, dy + (size_t)(width + width / 3) * size, 1, 1);
  norma_backward_args args = {.size = sizeof args, .layer = &layer, .type = type, .x = x, .dy = dy, .dx = apart};
  args.dx_strides = steps + in_rows;
  problem_is("%s, dx of 3 %s of %lld, off by %d", norma_type_name(type), in_rows ? "rows" : "images", (long long)width,
             align);
  assert_ok(norma_backward(&args, &error), &error);
  args.dx = dx, args.dx_strides = NULL;
  memset(memory, BESIDE, MEMORY);
  assert_ok(norma_backward(&args, &error), &error);
  check_beside(memory, dx, bytes);
  for (int64_t i = 0; i < ROWS * width; i++)
    if (bits_at(type, dx, i) != bits_at(type, apart, 2 * i)) fail_problem("element %lld has other bits", (long long)i);
  free(apart);
  free(memory);
  free(dy);
  free(x);
}

static void dx_is_the_same_wherever_it_begins(void **state) {
  (void)state;
  for (size_t t = 0; t < COUNT(types); t++)
    for (size_t w = 0; w < COUNT(widths); w++)
      for (int align = 0; align < ALIGNMENTS; align++)
        for (int in_rows = 0; in_rows < 2; in_rows++) check_dx(types[t], widths[w], in_rows, align);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_nan_takes_its_row_and_nothing_else),
                                     cmocka_unit_test(dx_is_the_same_wherever_it_begins)};
  setenv("NORMA_STREAM_BYTES", "1", 1);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
