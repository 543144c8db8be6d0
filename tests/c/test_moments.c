/* Statistics as a value: empty is neutral, parts make the whole, precision beyond float64, finish, and the agreement
 * of norma_forward's moments with norma_moments_add. The oracle is a two-pass sum in long double. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static norma_error error;

/* mean + mean_lo and m2 + m2_lo in long double. */
static long double full_mean(const norma_moments *m) { return (long double)m->mean + m->mean_lo; }
static long double full_m2(const norma_moments *m) { return (long double)m->m2 + m->m2_lo; }

static norma_moments moments_of(norma_type type, const double *values, int64_t n) {
  norma_moments m = {0};
  void *narrow = from_doubles(type, values, n);
  assert_ok(norma_moments_add(&m, type, narrow, n, 1, &error), &error);
  free(narrow);
  return m;
}

/* Offsets from the first value are summed, so that no digit of a large mean is lost. */
static void oracle(const double *x, int64_t n, long double *mean, long double *m2) {
  long double sum = 0;
  for (int64_t i = 0; i < n; i++) {
    sum += (long double)x[i] - x[0];
  }
  long double offset = sum / n;
  *m2 = 0;
  for (int64_t i = 0; i < n; i++) {
    long double d = (long double)x[i] - x[0] - offset;
    *m2 += d * d;
  }
  *mean = x[0] + offset;
}

/* The mean within `bound` standard deviations, m2 within `bound` of itself. */
static void assert_moments(const norma_moments *m, const double *x, int64_t n, double bound) {
  long double mean, m2;
  oracle(x, n, &mean, &m2);
  long double deviation = sqrtl(m2 / n);
  long double mean_error = fabsl(full_mean(m) - mean), m2_error = fabsl(full_m2(m) - m2);
  if (m->count != n || !(mean_error <= bound * deviation) || !(m2_error <= bound * m2)) {
    fail_problem("count %lld of %lld; mean off by %.3Lg deviations, m2 by %.3Lg of itself", (long long)m->count,
                 (long long)n, mean_error / deviation, m2_error / m2);
  }
}

static void assert_same_moments(const norma_moments *a, const norma_moments *b) {
  if (a->count != b->count || a->mean != b->mean || a->mean_lo != b->mean_lo || a->m2 != b->m2 ||
      a->m2_lo != b->m2_lo) {
    fail_problem("moments (%lld, %a, %a, %a, %a) and (%lld, %a, %a, %a, %a)", (long long)a->count, a->mean, a->mean_lo,
                 a->m2, a->m2_lo, (long long)b->count, b->mean, b->mean_lo, b->m2, b->m2_lo);
  }
}

static void the_empty_set_is_neutral(void **state) {
  (void)state;
  uint64_t seed = 1;
  double *x = random_array(&seed, NORMA_F64, 100, 3, 2);
  const norma_moments empty = {0}, some = moments_of(NORMA_F64, x, 100);
  norma_moments left = empty, right = some, both = empty;
  norma_moments_merge(&left, &some);
  norma_moments_merge(&right, &empty);
  norma_moments_merge(&both, &empty);
  problem_is("empty + some");
  assert_same_moments(&left, &some);
  problem_is("some + empty");
  assert_same_moments(&right, &some);
  problem_is("empty + empty");
  assert_same_moments(&both, &empty);
  free(x);
}

static void adding_no_elements_changes_nothing(void **state) {
  (void)state;
  norma_moments m = moments_of(NORMA_F64, (double[]){1, 2, 4}, 3), before = m;
  assert_ok(norma_moments_add(&m, NORMA_F32, NULL, 0, 1, &error), &error);
  assert_same_moments(&m, &before);
}

static void small_sets_have_exact_moments(void **state) {
  (void)state;
  for (int t = 0; t < 4; t++) {
    norma_moments m = moments_of(all_types[t], (double[]){1, 2, 3, 4}, 4);
    assert_true(m.count == 4 && m.mean == 2.5 && m.mean_lo == 0 && full_m2(&m) == 5);
    m = moments_of(all_types[t], (double[]){-7.5}, 1);
    assert_true(m.count == 1 && m.mean == -7.5 && m.mean_lo == 0 && full_m2(&m) == 0);
  }
  norma_moments m = moments_of(NORMA_F32, (double[]){16000000, 16000001, 16000002, 16000003}, 4);
  assert_true(full_mean(&m) == 16000001.5L && full_m2(&m) == 5);
}

static void a_constant_has_no_spread_whatever_it_is(void **state) {
  (void)state;
  static const double constants[] = {0, 0.1, -3.3e9, 1e30, 3e-39};
  double x[1000];
  for (int t = 0; t < 2; t++) {
    for (size_t k = 0; k < COUNT(constants); k++) {
      for (size_t i = 0; i < COUNT(x); i++) {
        x[i] = constants[k];
      }
      round_array(all_types[t], x, 1000);
      norma_moments m = moments_of(all_types[t], x, 1000);
      problem_is("%s constant %g", norma_type_name(all_types[t]), constants[k]);
      assert_true(m.mean == x[0] && m.mean_lo == 0 && m.m2 == 0 && m.m2_lo == 0);
    }
  }
}

static void merged_parts_equal_the_whole(void **state) {
  (void)state;
  enum { N = 5000 };
  uint64_t seed = 2;
  static const double means[] = {0, 1, 1e3, -1e7};
  for (int t = 0; t < 4; t++) {
    for (size_t k = 0; k < COUNT(means); k++) {
      double mean = all_types[t] == NORMA_F16 ? (double)k : means[k];
      double *x = random_array(&seed, all_types[t], N, mean, 1 + fabs(mean) / 9e3);
      problem_is("%s mean %g", norma_type_name(all_types[t]), means[k]);
      norma_moments whole = moments_of(all_types[t], x, N);
      assert_moments(&whole, x, N, 1e-15);
      for (int64_t cut = 1; cut < N; cut = cut * 3 + 1) {
        norma_moments merged = moments_of(all_types[t], x, cut), rest = moments_of(all_types[t], x + cut, N - cut);
        norma_moments_merge(&merged, &rest);
        problem_is("%s mean %g cut at %lld", norma_type_name(all_types[t]), means[k], (long long)cut);
        assert_moments(&merged, x, N, 1e-15);
        merged = moments_of(all_types[t], x, cut);
        void *tail = from_doubles(all_types[t], x + cut, N - cut);
        assert_ok(norma_moments_add(&merged, all_types[t], tail, N - cut, 1, &error), &error);
        assert_moments(&merged, x, N, 1e-15);
        free(tail);
      }
      free(x);
    }
  }
}

static void the_order_of_merging_changes_only_the_last_bits(void **state) {
  (void)state;
  enum { PARTS = 64, N = PARTS * 50 };
  uint64_t seed = 3;
  double *x = random_array(&seed, NORMA_F64, N, 100, 1);
  norma_moments part[PARTS], forward = {0}, backward = {0}, tree[PARTS];
  for (int p = 0; p < PARTS; p++) {
    part[p] = tree[p] = moments_of(NORMA_F64, x + p * 50, 50);
  }
  for (int p = 0; p < PARTS; p++) {
    norma_moments_merge(&forward, &part[p]);
    norma_moments_merge(&backward, &part[PARTS - 1 - p]);
  }
  for (int step = 1; step < PARTS; step *= 2) {
    for (int p = 0; p < PARTS; p += 2 * step) {
      norma_moments_merge(&tree[p], &tree[p + step]);
    }
  }
  problem_is("first to last");
  assert_moments(&forward, x, N, 1e-15);
  problem_is("last to first");
  assert_moments(&backward, x, N, 1e-15);
  problem_is("as a tree");
  assert_moments(&tree[0], x, N, 1e-15);
  free(x);
}

static void a_million_merges_lose_nothing(void **state) {
  (void)state;
  enum { N = 1000000 };
  uint64_t seed = 4;
  double *x = random_array(&seed, NORMA_F32, N, 1e4, 1);
  norma_moments singles = {0}, pairs = {0};
  for (int64_t i = 0; i < N; i++) {
    norma_moments one = {.count = 1, .mean = x[i]};
    norma_moments_merge(&singles, &one);
  }
  problem_is("a million merges of single elements");
  assert_moments(&singles, x, N, 1e-15);
  for (int64_t i = 0; i < N; i += 2) {  /* middle - half and middle + half are exact, and so is m2 as hi + lo */
    double middle = x[i], half = rint(ldexp(random_normal(&seed), 38)) * 0x1p-38, square = half * half;
    norma_moments two = {.count = 2, .mean = middle, .m2 = 2 * square, .m2_lo = 2 * fma(half, half, -square)};
    x[i] = middle - half;
    x[i + 1] = middle + half;
    norma_moments_merge(&pairs, &two);
  }
  problem_is("half a million merges of pairs");
  assert_moments(&pairs, x, N, 1e-15);
  free(x);
}

static void the_mean_is_held_beyond_float64(void **state) {
  (void)state;
  enum { N = 1001 };
  uint64_t seed = 5;
  static const double means[] = {1e15, -1e15, 1e12};
  for (size_t k = 0; k < COUNT(means); k++) {
    double x[N];
    for (int i = 0; i < N; i++) {
      x[i] = means[k] + 0.125 * (double)random_below(&seed, 64);
    }
    problem_is("mean %g", means[k]);
    norma_moments m = moments_of(NORMA_F64, x, N), merged = moments_of(NORMA_F64, x, 333),
                  rest = moments_of(NORMA_F64, x + 333, N - 333);
    assert_moments(&m, x, N, 1e-14);
    norma_moments_merge(&merged, &rest);
    assert_moments(&merged, x, N, 1e-14);
  }
}

static void strides_choose_the_elements(void **state) {
  (void)state;
  enum { N = 700 };
  uint64_t seed = 6;
  for (int t = 0; t < 4; t++) {
    double *x = random_array(&seed, all_types[t], N, 1, 1);
    double *reversed = malloc(sizeof(double) * N), *spread = calloc(3 * N, sizeof(double));
    for (int i = 0; i < N; i++) {
      reversed[N - 1 - i] = x[i];
      spread[3 * i] = x[i];
    }
    norma_moments dense = moments_of(all_types[t], x, N), backward = {0}, sparse = {0}, repeated = {0};
    unsigned char *r = from_doubles(all_types[t], reversed, N), *s = from_doubles(all_types[t], spread, 3 * N);
    size_t size = norma_type_size(all_types[t]);
    assert_ok(norma_moments_add(&backward, all_types[t], r + (N - 1) * size, N, -1, &error), &error);
    assert_ok(norma_moments_add(&sparse, all_types[t], s, N, 3, &error), &error);
    assert_ok(norma_moments_add(&repeated, all_types[t], s, N, 0, &error), &error);
    problem_is("%s", norma_type_name(all_types[t]));
    assert_same_moments(&backward, &dense);
    assert_same_moments(&sparse, &dense);
    assert_true(repeated.count == N && repeated.mean == x[0] && repeated.m2 == 0);
    free(s);
    free(r);
    free(spread);
    free(reversed);
    free(x);
  }
}

/* One run of a unit: rows of layer norm, planes of instance norm. Sizes around the ends of lanes and stretches. */
static void forward_and_add_give_the_same_moments(void **state) {
  (void)state;
  static const int64_t lengths[] = {1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 100, 1000, 4095, 4096, 4097, 9000};
  uint64_t seed = 7;
  for (int t = 0; t < 4; t++) {
    for (size_t k = 0; k < COUNT(lengths); k++) {
      int64_t n = lengths[k];
      norma_layer layers[2];
      assert_ok(norma_layer_norm(&layers[0], 1, 2, (int64_t[]){3, n}, &error), &error);
      assert_ok(norma_layer_instance(&layers[1], 3, (int64_t[]){1, 3, n}, &error), &error);
      double *values = random_array(&seed, all_types[t], 3 * n, 5, 2);
      unsigned char *x = from_doubles(all_types[t], values, 3 * n);
      for (int l = 0; l < 2; l++) {
        norma_moments got[3], expected;
        norma_forward_args args = {
            .size = sizeof args, .layer = &layers[l], .type = all_types[t], .x = x, .moments = got};
        assert_ok(norma_forward(&args, &error), &error);
        for (int u = 0; u < 3; u++) {
          memset(&expected, 0, sizeof expected);
          unsigned char *row = x + (size_t)(u * n) * norma_type_size(all_types[t]);
          assert_ok(norma_moments_add(&expected, all_types[t], row, n, 1, &error), &error);
          problem_is("%s, %s of %lld, unit %d", norma_type_name(all_types[t]), l ? "instance" : "layer",
                     (long long)n, u);
          assert_same_moments(&got[u], &expected);
        }
      }
      free(x);
      free(values);
    }
  }
}

static void infinity_and_nan_are_not_lost(void **state) {
  (void)state;
  static const double bad[] = {NAN, INFINITY, -INFINITY};
  for (size_t k = 0; k < COUNT(bad); k++) {
    double x[40] = {0}, mean, var;
    x[17] = bad[k];
    norma_moments m = moments_of(NORMA_F32, x, 40), more = moments_of(NORMA_F32, (double[]){1, 2}, 2);
    norma_moments_merge(&more, &m);
    assert_ok(norma_moments_finish(&more, 0, &mean, &var, &error), &error);
    problem_is("an element %g", bad[k]);
    assert_int_equal(more.count, 42);
    assert_false(isfinite(mean));
    assert_false(isfinite(var));
  }
}

static void finish_divides_by_count_minus_ddof(void **state) {
  (void)state;
  norma_moments m = moments_of(NORMA_F64, (double[]){1, 2, 3, 4}, 4);
  double mean, var;
  assert_ok(norma_moments_finish(&m, 0, &mean, &var, &error), &error);
  assert_true(mean == 2.5 && var == 1.25);
  assert_ok(norma_moments_finish(&m, 1, &mean, &var, &error), &error);
  assert_true(mean == 2.5 && fabs(var - 5.0 / 3) <= 1e-16);
  assert_ok(norma_moments_finish(&m, 0, NULL, &var, NULL), &error);
  assert_true(var == 1.25);
  assert_ok(norma_moments_finish(&m, 1, &mean, NULL, NULL), &error);
  assert_ok(norma_moments_finish(&m, 0, NULL, NULL, NULL), &error);
}

static void finish_refuses_what_leaves_nothing_to_divide_by(void **state) {
  (void)state;
  const norma_moments empty = {0}, one = moments_of(NORMA_F64, (double[]){7}, 1);
  double mean = -1, var = -1;
  assert_int_equal(norma_moments_finish(&empty, 0, &mean, &var, &error), NORMA_SINGLE_VALUE);
  assert_int_equal(error.status, NORMA_SINGLE_VALUE);
  assert_int_equal(norma_moments_finish(&empty, 0, &mean, &var, NULL), NORMA_SINGLE_VALUE);
  assert_int_equal(norma_moments_finish(&one, 1, &mean, &var, &error), NORMA_SINGLE_VALUE);
  assert_int_equal(norma_moments_finish(NULL, 0, &mean, &var, &error), NORMA_BAD_ARGUMENT);
  assert_int_equal(norma_moments_finish(&one, -1, &mean, &var, &error), NORMA_BAD_ARGUMENT);
  assert_non_null(strstr(error.detail, "ddof"));
  assert_true(mean == -1 && var == -1);
  assert_ok(norma_moments_finish(&one, 0, &mean, &var, &error), &error);
  assert_true(mean == 7 && var == 0);
}

static void add_refuses_wrong_arguments_and_changes_nothing(void **state) {
  (void)state;
  norma_moments m = moments_of(NORMA_F64, (double[]){1, 2, 4}, 3), before = m;
  float x[2] = {0};
  assert_int_equal(norma_moments_add(NULL, NORMA_F32, x, 2, 1, &error), NORMA_BAD_ARGUMENT);
  assert_non_null(strstr(error.detail, "moments"));
  assert_int_equal(norma_moments_add(&m, NORMA_F32, NULL, 2, 1, &error), NORMA_BAD_ARGUMENT);
  assert_non_null(strstr(error.detail, "x"));
  assert_int_equal(norma_moments_add(&m, (norma_type)9, x, 2, 1, &error), NORMA_BAD_ARGUMENT);
  assert_non_null(strstr(error.detail, "type"));
  assert_int_equal(norma_moments_add(&m, NORMA_F32, x, -2, 1, &error), NORMA_BAD_SHAPE);
  assert_non_null(strstr(error.detail, "-2"));
  assert_same_moments(&m, &before);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_empty_set_is_neutral),
      cmocka_unit_test(adding_no_elements_changes_nothing),
      cmocka_unit_test(small_sets_have_exact_moments),
      cmocka_unit_test(a_constant_has_no_spread_whatever_it_is),
      cmocka_unit_test(merged_parts_equal_the_whole),
      cmocka_unit_test(the_order_of_merging_changes_only_the_last_bits),
      cmocka_unit_test(a_million_merges_lose_nothing),
      cmocka_unit_test(the_mean_is_held_beyond_float64),
      cmocka_unit_test(strides_choose_the_elements),
      cmocka_unit_test(forward_and_add_give_the_same_moments),
      cmocka_unit_test(infinity_and_nan_are_not_lost),
      cmocka_unit_test(finish_divides_by_count_minus_ddof),
      cmocka_unit_test(finish_refuses_what_leaves_nothing_to_divide_by),
      cmocka_unit_test(add_refuses_wrong_arguments_and_changes_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
