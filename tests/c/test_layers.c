/* The notation: named layers against the table at the top of norma.h, what layers count, the ellipsis, split
 * dimensions, the way back from layer to pattern, and patterns that cannot be read. */
#include "support.h"

#include <stdio.h>
#include <string.h>

static norma_error error;

static norma_layer parsed(const char *pattern, const char *affine, const char *sizes, int ndim, const int64_t *shape) {
  norma_layer layer;
  problem_is("'%s', affine '%s', sizes '%s'", pattern, affine, sizes ? sizes : "");
  assert_ok(norma_layer_parse(&layer, pattern, affine, sizes, ndim, shape, &error), &error);
  return layer;
}

static void assert_text(const norma_layer *layer, const char *pattern, const char *affine) {
  char got_pattern[256], got_affine[256];
  assert_ok(norma_layer_format(layer, got_pattern, sizeof got_pattern, got_affine, sizeof got_affine, &error), &error);
  if (strcmp(got_pattern, pattern) != 0 || strcmp(got_affine, affine) != 0) {
    fail_problem("prints as '%s' affine '%s', not '%s' affine '%s'", got_pattern, got_affine, pattern, affine);
  }
}

static void assert_counts(const norma_layer *layer, int64_t units, int64_t unit_elements, int64_t params,
                          int64_t elements) {
  if (norma_layer_units(layer) != units || norma_layer_unit_elements(layer) != unit_elements ||
      norma_layer_params(layer) != params || norma_layer_elements(layer) != elements) {
    fail_problem("%lld units of %lld, %lld params, %lld elements, not %lld of %lld, %lld, %lld",
                 (long long)norma_layer_units(layer), (long long)norma_layer_unit_elements(layer),
                 (long long)norma_layer_params(layer), (long long)norma_layer_elements(layer), (long long)units,
                 (long long)unit_elements, (long long)params, (long long)elements);
  }
}

/* Everything but the names of the axes, which an ellipsis chooses by itself. */
static void assert_same_layer(const norma_layer *a, const norma_layer *b) {
  assert_int_equal(a->size, b->size);
  assert_int_equal(a->ndim, b->ndim);
  assert_memory_equal(a->shape, b->shape, sizeof(int64_t) * (size_t)a->ndim);
  assert_int_equal(a->axis_count, b->axis_count);
  assert_int_equal(a->rms, b->rms);
  for (int i = 0; i < a->axis_count; i++) {
    if (a->axes[i].length != b->axes[i].length || a->axes[i].dim != b->axes[i].dim ||
        a->axes[i].bits != b->axes[i].bits) {
      fail_problem("axis %d is (%lld, %d, %u), not (%lld, %d, %u)", i, (long long)a->axes[i].length, a->axes[i].dim,
                   a->axes[i].bits, (long long)b->axes[i].length, b->axes[i].dim, b->axes[i].bits);
    }
  }
}

static const int64_t images[] = {6, 8, 5, 7}, tokens[] = {3, 10, 16};

static void named_layers_are_the_table_of_the_header(void **state) {
  (void)state;
  norma_layer layer, same;
  problem_is("batch");
  assert_ok(norma_layer_batch(&layer, 4, images, &error), &error);
  assert_text(&layer, "[n] c [h w]", "c");
  assert_counts(&layer, 8, 6 * 35, 8, 6 * 8 * 35);
  same = parsed("[n] c [h w]", "c", NULL, 4, images);
  assert_same_layer(&layer, &same);

  problem_is("layer");
  assert_ok(norma_layer_norm(&layer, 1, 3, tokens, &error), &error);
  assert_text(&layer, "n t [d]", "d");
  assert_counts(&layer, 30, 16, 16, 480);
  same = parsed("n t [d]", "d", NULL, 3, tokens);
  assert_same_layer(&layer, &same);

  problem_is("layer, channels first");
  assert_ok(norma_layer_norm_dims(&layer, 1u << 1, 4, images, &error), &error);
  assert_text(&layer, "n [c] h w", "c");
  assert_counts(&layer, 6 * 35, 8, 8, 6 * 8 * 35);
  same = parsed("n [c] h w", "c", NULL, 4, images);
  assert_same_layer(&layer, &same);

  problem_is("instance");
  assert_ok(norma_layer_instance(&layer, 4, images, &error), &error);
  assert_text(&layer, "n c [h w]", "c");
  assert_counts(&layer, 48, 35, 8, 6 * 8 * 35);
  same = parsed("n c [h w]", "c", NULL, 4, images);
  assert_same_layer(&layer, &same);

  problem_is("group");
  assert_ok(norma_layer_group(&layer, 2, 4, images, &error), &error);
  assert_text(&layer, "n (g [k]) [h w]", "(g k)");
  assert_counts(&layer, 12, 4 * 35, 8, 6 * 8 * 35);
  same = parsed("n (g [k]) [h w]", "(g k)", "g=2", 4, images);
  assert_same_layer(&layer, &same);
}

static void rms_is_layer_norm_with_one_bit_more(void **state) {
  (void)state;
  norma_layer layer, rms;
  for (int count = 1; count <= 3; count++) {
    problem_is("the last %d", count);
    assert_ok(norma_layer_norm(&layer, count, 3, tokens, &error), &error);
    assert_ok(norma_layer_rms(&rms, count, 3, tokens, &error), &error);
    assert_int_equal(layer.rms, 0);
    assert_int_equal(rms.rms, 1);
    layer.rms = 1;
    assert_same_layer(&layer, &rms);
  }
  for (unsigned dims = 1; dims < 8; dims++) {
    problem_is("dims %u", dims);
    assert_ok(norma_layer_norm_dims(&layer, dims, 3, tokens, &error), &error);
    assert_ok(norma_layer_rms_dims(&rms, dims, 3, tokens, &error), &error);
    layer.rms = 1;
    assert_same_layer(&layer, &rms);
  }
}

static void layer_norm_shares_exactly_its_dimensions_in_every_rank(void **state) {
  (void)state;
  static const int64_t shape[] = {2, 3, 4, 5, 6, 7, 8, 9};
  for (int ndim = 1; ndim <= NORMA_MAX_DIMS; ndim++) {
    for (unsigned dims = 1; dims < 1u << ndim; dims++) {
      norma_layer layer;
      problem_is("dims 0x%x of %d", dims, ndim);
      assert_ok(norma_layer_norm_dims(&layer, dims, ndim, shape, &error), &error);
      assert_int_equal(layer.axis_count, ndim);
      int64_t shared = 1, kept = 1;
      for (int d = 0; d < ndim; d++) {
        unsigned bits = dims >> d & 1 ? NORMA_SHARE | NORMA_AFFINE : 0;
        assert_int_equal(layer.axes[d].bits, bits);
        assert_int_equal(layer.axes[d].dim, d);
        *(bits ? &shared : &kept) *= shape[d];
      }
      assert_counts(&layer, kept, shared, shared, kept * shared);
    }
    for (int count = 1; count <= ndim; count++) {
      norma_layer last, by_dims;
      problem_is("the last %d of %d", count, ndim);
      assert_ok(norma_layer_norm(&last, count, ndim, shape, &error), &error);
      unsigned dims = ((1u << count) - 1) << (ndim - count);
      assert_ok(norma_layer_norm_dims(&by_dims, dims, ndim, shape, &error), &error);
      assert_same_layer(&last, &by_dims);
    }
  }
}

static void named_layers_take_every_rank_from_two_to_eight(void **state) {
  (void)state;
  static const int64_t shape[] = {3, 4, 2, 3, 2, 2, 1, 2};
  int64_t spatial = 1;
  for (int ndim = 2; ndim <= NORMA_MAX_DIMS; ndim++) {
    norma_layer layer;
    spatial *= ndim > 2 ? shape[ndim - 1] : 1;
    problem_is("batch of rank %d", ndim);
    assert_ok(norma_layer_batch(&layer, ndim, shape, &error), &error);
    assert_counts(&layer, 4, 3 * spatial, 4, 12 * spatial);
    problem_is("instance of rank %d", ndim);
    assert_ok(norma_layer_instance(&layer, ndim, shape, &error), &error);
    assert_counts(&layer, 12, spatial, 4, 12 * spatial);
    problem_is("group of rank %d", ndim);
    assert_ok(norma_layer_group(&layer, 2, ndim, shape, &error), &error);
    assert_counts(&layer, 6, 2 * spatial, 4, 12 * spatial);
  }
}

static void an_ellipsis_stands_for_all_that_is_left_over(void **state) {
  (void)state;
  norma_layer a = parsed("[n] c [...]", "c", NULL, 4, images), b = parsed("[n] c [h w]", "c", NULL, 4, images);
  assert_same_layer(&a, &b);
  assert_text(&a, "[n] c [h w]", "c");
  a = parsed("n c [...]", "c", NULL, 2, images);
  b = parsed("n c", "c", NULL, 2, images);
  assert_same_layer(&a, &b);
  assert_counts(&a, 48, 1, 8, 48);
  a = parsed("... [d]", "d", NULL, 3, tokens);
  b = parsed("n t [d]", "d", NULL, 3, tokens);
  assert_same_layer(&a, &b);
  a = parsed("n [...]", "...", NULL, 3, tokens);
  b = parsed("n [t d]", "t d", NULL, 3, tokens);
  assert_same_layer(&a, &b);
  a = parsed("[...]", "...", NULL, 4, images);
  b = parsed("[n c h w]", "n c h w", NULL, 4, images);
  assert_same_layer(&a, &b);
  a = parsed("n [...] c", "c", NULL, 4, images);
  b = parsed("n [h w] c", "c", NULL, 4, images);
  assert_same_layer(&a, &b);
  a = parsed("n ... [w]", "... w", NULL, 4, images);
  b = parsed("n c h [w]", "c h w", NULL, 4, images);
  assert_same_layer(&a, &b);
}

static void split_dimensions_get_the_lengths_that_sizes_leaves_out(void **state) {
  (void)state;
  static const int64_t shape[] = {2, 24, 10};
  norma_layer layer = parsed("n (g [k]) l", "(g k)", "k=3", 3, shape);
  norma_layer same = parsed("n (g [k]) l", "g k", "g=8", 3, shape);
  assert_same_layer(&layer, &same);
  assert_counts(&layer, 2 * 8 * 10, 3, 24, 480);
  layer = parsed("n (g [k]) l", "(g k)", "g=8 k=3", 3, shape);
  assert_same_layer(&layer, &same);
  layer = parsed("n (a [b] c) (d [e])", "b e", "a=2 c=4 e=5", 3, shape);
  assert_int_equal(layer.axis_count, 6);
  static const int64_t lengths[] = {2, 2, 3, 4, 2, 5};
  static const int dims[] = {0, 1, 1, 1, 2, 2};
  for (int i = 0; i < 6; i++) {
    assert_int_equal(layer.axes[i].length, lengths[i]);
    assert_int_equal(layer.axes[i].dim, dims[i]);
  }
  assert_counts(&layer, 2 * 2 * 4 * 2, 15, 15, 480);
  layer = parsed("n c l", "", "c=24", 3, shape);
  assert_counts(&layer, 480, 1, 0, 480);
}

static void empty_dimensions_are_counted(void **state) {
  (void)state;
  norma_layer layer = parsed("[n] c [h w]", "c", NULL, 4, (int64_t[]){0, 3, 2, 2});
  assert_counts(&layer, 3, 0, 3, 0);
  layer = parsed("n c [h w]", "c", NULL, 4, (int64_t[]){2, 3, 0, 2});
  assert_counts(&layer, 6, 0, 3, 0);
  layer = parsed("[n] c", "c", NULL, 2, (int64_t[]){4, 0});
  assert_counts(&layer, 0, 4, 0, 0);
  problem_is("group norm of an empty batch");
  assert_ok(norma_layer_group(&layer, 2, 3, (int64_t[]){0, 6, 4}, &error), &error);
  assert_counts(&layer, 0, 12, 6, 0);
}

static void printing_and_parsing_go_round(void **state) {
  (void)state;
  static const struct {
    const char *pattern, *affine, *sizes;
    int ndim;
  } cases[] = {
      {"[n] c [h w]", "c", NULL, 4},        {"n [c] h w", "c", NULL, 4},
      {"n (g [k]) [h w]", "(g k)", "g=4", 4}, {"n c [h w]", "n c", NULL, 4},
      {"n [c h w]", "c h w", NULL, 4},      {"[n c h w]", "", NULL, 4},
      {"n c h w", "n c h w", NULL, 4},      {"(a [b]) ([g] k) h [w]", "(a b) k w", "a=3 g=2", 4},
      {"[n] ([g k]) [h] w", "(g k)", "g=8", 4}, {"[first_axis1] X y_2 [Z]", "X Z", NULL, 4},
      {"n (a b c) h [w]", "b w", "a=2 b=2", 4}, {"n [s1] (p q) w", "q", "p=5", 4},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    norma_layer first = parsed(cases[i].pattern, cases[i].affine, cases[i].sizes, cases[i].ndim, images), second;
    assert_text(&first, cases[i].pattern, cases[i].affine);
    char pattern[256], affine[256], sizes[256] = "";
    assert_ok(norma_layer_format(&first, pattern, sizeof pattern, affine, sizeof affine, &error), &error);
    for (int a = 0; a < first.axis_count; a++) {
      size_t used = strlen(sizes);
      snprintf(sizes + used, sizeof sizes - used, "%s=%lld ", first.axes[a].name, (long long)first.axes[a].length);
    }
    second = parsed(pattern, affine, sizes, cases[i].ndim, images);
    assert_memory_equal(&first, &second, sizeof first);
  }
}

static void spaces_do_not_matter(void **state) {
  (void)state;
  norma_layer a = parsed("n (g [k]) [h w]", "(g k)", "g=2", 4, images);
  norma_layer b = parsed("  n(g[k])[ h  w ] ", " ( g  k ) ", "  g=2 ", 4, images);
  assert_memory_equal(&a, &b, sizeof a);
}

static void format_needs_room_for_the_end_of_the_text_and_allows_no_buffer(void **state) {
  (void)state;
  norma_layer layer = parsed("n (g [k]) [h w]", "(g k)", "g=2", 4, images);
  char pattern[16], affine[6];
  assert_ok(norma_layer_format(&layer, pattern, 16, affine, 6, &error), &error);
  assert_string_equal(pattern, "n (g [k]) [h w]");
  assert_string_equal(affine, "(g k)");
  assert_int_equal(norma_layer_format(&layer, pattern, 15, affine, 6, &error), NORMA_BAD_ARGUMENT);
  assert_non_null(strstr(error.detail, "15"));
  assert_non_null(strstr(error.detail, "16"));
  assert_int_equal(norma_layer_format(&layer, NULL, 0, affine, 5, &error), NORMA_BAD_ARGUMENT);
  assert_non_null(strstr(error.detail, "affine"));
  assert_ok(norma_layer_format(&layer, NULL, 0, affine, 6, &error), &error);
  assert_ok(norma_layer_format(&layer, pattern, 16, NULL, 0, &error), &error);
  assert_ok(norma_layer_format(&layer, NULL, 0, NULL, 0, NULL), &error);
}

/* One buffer too small is enough, whichever: neither is begun. */
static void a_buffer_that_is_too_small_leaves_both_as_they_were(void **state) {
  (void)state;
  norma_layer layer = parsed("n (g [k]) [h w]", "(g k)", "g=2", 4, images);
  for (size_t pattern_size = 0; pattern_size <= 16; pattern_size++) {
    for (size_t affine_size = 0; affine_size <= 6; affine_size++) {
      char pattern[16], affine[6], untouched[16];
      int fits = pattern_size == 16 && affine_size == 6;
      memset(pattern, 0x5a, sizeof pattern);
      memset(affine, 0x5a, sizeof affine);
      memset(untouched, 0x5a, sizeof untouched);
      problem_is("%zu and %zu bytes", pattern_size, affine_size);
      assert_int_equal(norma_layer_format(&layer, pattern, pattern_size, affine, affine_size, &error),
                       fits ? NORMA_OK : NORMA_BAD_ARGUMENT);
      assert_true((memcmp(pattern, untouched, sizeof pattern) == 0) == !fits);
      assert_true((memcmp(affine, untouched, sizeof affine) == 0) == !fits);
    }
  }
}

static void another_affine_list_changes_only_the_gammas(void **state) {
  (void)state;
  norma_layer layer = parsed("n c [h w]", "c", NULL, 4, images), film = parsed("n c [h w]", "n c", NULL, 4, images);
  assert_ok(norma_layer_affine(&layer, "n c", &error), &error);
  assert_same_layer(&layer, &film);
  assert_counts(&layer, 48, 35, 48, 6 * 8 * 35);
  assert_ok(norma_layer_affine(&layer, NULL, &error), &error);
  assert_counts(&layer, 48, 35, 0, 6 * 8 * 35);
  norma_layer before = layer;
  assert_int_equal(norma_layer_affine(&layer, "n z", &error), NORMA_BAD_PATTERN);
  assert_non_null(strstr(error.detail, "'z'"));
  assert_int_equal(norma_layer_affine(NULL, "n", &error), NORMA_BAD_ARGUMENT);
  assert_memory_equal(&layer, &before, sizeof layer);
}

typedef struct bad_pattern {
  const char *pattern, *affine, *sizes;
  int ndim;
  norma_status status;
  const char *named;  /* what the detail must mention */
} bad_pattern;

static const bad_pattern bad_patterns[] = {
    {"[n c h w", "", NULL, 4, NORMA_BAD_PATTERN, "["},
    {"n c] h w", "", NULL, 4, NORMA_BAD_PATTERN, "]"},
    {"n (g [k] h w", "", "g=2", 4, NORMA_BAD_PATTERN, "("},
    {"n g k) h w", "", NULL, 4, NORMA_BAD_PATTERN, ")"},
    {"n [[c]] h w", "", NULL, 4, NORMA_BAD_PATTERN, "[[c]]"},
    {"n [c [h] w]", "", NULL, 4, NORMA_BAD_PATTERN, "[h]"},
    {"n ((g k)) h w", "", NULL, 4, NORMA_BAD_PATTERN, "((g k))"},
    {"n (g [k) h] w", "", NULL, 4, NORMA_BAD_PATTERN, "[k)"},
    {"n [g (k] h) w", "", NULL, 4, NORMA_BAD_PATTERN, "(k]"},
    {"n () h w", "", NULL, 3, NORMA_BAD_PATTERN, "empty"},
    {"n [] c", "", NULL, 2, NORMA_BAD_PATTERN, "empty"},
    {"n [ ] c", "", NULL, 2, NORMA_BAD_PATTERN, "empty"},
    {"n ([] g k) h", "", "g=2", 3, NORMA_BAD_PATTERN, "empty"},
    {"[] n c", "", NULL, 2, NORMA_BAD_PATTERN, "empty"},
    {"n c c w", "", NULL, 4, NORMA_BAD_PATTERN, "'c' twice"},
    {"... n ...", "", NULL, 4, NORMA_BAD_PATTERN, "'...' twice"},
    {"n (... k) h w", "", NULL, 4, NORMA_BAD_PATTERN, "..."},
    {"n 1c h w", "", NULL, 4, NORMA_BAD_PATTERN, "1c"},
    {"n c* h w", "", NULL, 4, NORMA_BAD_PATTERN, "*"},
    {"n _c h w", "", NULL, 4, NORMA_BAD_PATTERN, "_c"},
    {"n sixteen_letters_ h w", "", NULL, 4, NORMA_BAD_PATTERN, "sixteen"},
    {"n c h w e", "", NULL, 4, NORMA_BAD_PATTERN, "5 dimensions"},
    {"n c h", "", NULL, 4, NORMA_BAD_PATTERN, "3 dimensions"},
    {"n c h w e ...", "", NULL, 4, NORMA_BAD_PATTERN, "4"},
    {"", "", NULL, 4, NORMA_BAD_PATTERN, "0 dimensions"},
    {"(a b c d e f g h i) (j k l m n o p q) r s", "", NULL, 4, NORMA_BAD_PATTERN, "16"},
    {"n c h w", "z", NULL, 4, NORMA_BAD_PATTERN, "'z'"},
    {"n c h w", "c n", NULL, 4, NORMA_BAD_PATTERN, "'n'"},
    {"n c h w", "c c", NULL, 4, NORMA_BAD_PATTERN, "'c'"},
    {"n c h w", "...", NULL, 4, NORMA_BAD_PATTERN, "'...'"},
    {"n c h w", "(c", NULL, 4, NORMA_BAD_PATTERN, "(c"},
    {"n c h w", "c)", NULL, 4, NORMA_BAD_PATTERN, "c)"},
    {"n c h w", "[c]", NULL, 4, NORMA_BAD_PATTERN, "[c]"},
    {"n (g k) h w", "", NULL, 4, NORMA_BAD_SHAPE, "'g' and 'k'"},
    {"n (g k) h w", "", "g=3", 4, NORMA_BAD_SHAPE, "g=3"},
    {"n (g k) h w", "", "g=0", 4, NORMA_BAD_SHAPE, "g=0"},
    {"n (g k) h w", "", "g=2 k=3", 4, NORMA_BAD_SHAPE, "6"},
    {"n (g k) h w", "", "g=4000000000000 k=4000000000000", 4, NORMA_BAD_SHAPE, "overflow"},
    {"n (g k) h w", "", "g=99999999999999999999999", 4, NORMA_BAD_SHAPE, "g="},
    {"n c h w", "", "c=9", 4, NORMA_BAD_SHAPE, "c=9"},
    {"n (g k) h w", "", "g=2 z=4", 4, NORMA_BAD_PATTERN, "'z'"},
    {"n (g k) h w", "", "g=2 g=2", 4, NORMA_BAD_PATTERN, "'g' twice"},
    {"n (g k) h w", "", "g", 4, NORMA_BAD_PATTERN, "'g'"},
    {"n (g k) h w", "", "g=-2", 4, NORMA_BAD_PATTERN, "g=-2"},
    {"n (g k) h w", "", "g=2x", 4, NORMA_BAD_PATTERN, "x"},
};

static void what_cannot_be_read_is_refused_and_the_layer_not_touched(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(bad_patterns); i++) {
    const bad_pattern *bad = &bad_patterns[i];
    norma_layer layer, before;
    memset(&layer, 0x5a, sizeof layer);
    before = layer;
    problem_is("'%s', affine '%s', sizes '%s'", bad->pattern, bad->affine, bad->sizes ? bad->sizes : "");
    norma_status status = norma_layer_parse(&layer, bad->pattern, bad->affine, bad->sizes, bad->ndim, images, &error);
    if (status != bad->status || error.status != status || !strstr(error.detail, bad->named)) {
      fail_problem("%s: %s (expected %s, naming %s)", norma_status_text(status), error.detail,
                   norma_status_text(bad->status), bad->named);
    }
    assert_int_equal(norma_layer_parse(&layer, bad->pattern, bad->affine, bad->sizes, bad->ndim, images, NULL), status);
    assert_memory_equal(&layer, &before, sizeof layer);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(named_layers_are_the_table_of_the_header),
      cmocka_unit_test(rms_is_layer_norm_with_one_bit_more),
      cmocka_unit_test(layer_norm_shares_exactly_its_dimensions_in_every_rank),
      cmocka_unit_test(named_layers_take_every_rank_from_two_to_eight),
      cmocka_unit_test(an_ellipsis_stands_for_all_that_is_left_over),
      cmocka_unit_test(split_dimensions_get_the_lengths_that_sizes_leaves_out),
      cmocka_unit_test(empty_dimensions_are_counted),
      cmocka_unit_test(printing_and_parsing_go_round),
      cmocka_unit_test(spaces_do_not_matter),
      cmocka_unit_test(format_needs_room_for_the_end_of_the_text_and_allows_no_buffer),
      cmocka_unit_test(a_buffer_that_is_too_small_leaves_both_as_they_were),
      cmocka_unit_test(another_affine_list_changes_only_the_gammas),
      cmocka_unit_test(what_cannot_be_read_is_refused_and_the_layer_not_touched),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
