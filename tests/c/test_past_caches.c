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

/* Rows 0 and 2 have the bits of the clean call, row 1 is NaN. */
static void check(norma_type type, int64_t width, int activation, int align, int with_after) {
  norma_layer layer;
  norma_error error;
  uint64_t seed = (uint64_t)width;
  size_t size = norma_type_size(type), row = (size_t)width * size;
  double numbers[ROWS * MOST];
  for (int64_t i = 0; i < ROWS * width; i++) numbers[i] = (double)random_below(&seed, 1000) / 250 - 2;
  unsigned char *x = from_doubles(type, numbers, ROWS * width), *after = from_doubles(type, numbers, ROWS * width);
  unsigned char *memory = aligned_alloc(64, sizeof(double) * ROWS * MOST), *clean = malloc(ROWS * row);
  unsigned char *y = memory + (size_t)align * size;
  assert_ok(norma_layer_norm(&layer, 1, 2, (int64_t[]){ROWS, width}, &error), &error);
  norma_forward_args args = {.size = sizeof args, .layer = &layer, .type = type, .x = x, .y = y};
  args.activation = (norma_activation)activation;
  if (with_after) args.after = after;
  problem_is("%s, 3 rows of %lld, activation %d, off by %d%s", norma_type_name(type), (long long)width, activation,
             align, with_after ? ", after" : "");
  assert_ok(norma_forward(&args, &error), &error);
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

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_nan_takes_its_row_and_nothing_else)};
  setenv("NORMA_STREAM_BYTES", "1", 1);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
