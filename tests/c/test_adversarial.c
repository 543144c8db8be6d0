/* Data that break careless sums: offsets, extreme magnitudes, one huge outlier, a million elements, tiny runs. Every
 * result is held to the bound that norma_reference_* states for it. The longest inputs are judged forward only. */
#include "judge.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static norma_error error;

/* Both directions, and frees the trial. */
static void judge(trial *t) {
  outcome o = trial_run(t, &(manner){.use_saved = 1});
  judge_forward(t, &o);
  judge_backward(t, &o);
  outcome_free(&o);
  trial_free(t);
}

/* Keeps the numbers inside the type, where rounding alone would make them infinite. */
static void clamp(norma_type type, double *values, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    values[i] = fmax(fmin(values[i], largest_number(type)), -largest_number(type));
  }
  round_array(type, values, n);
}

static trial trial_of(const norma_layer *layer, norma_type type, uint64_t *seed, double mean, double deviation) {
  trial t = trial_new(layer, NORMA_F64, seed, mean, deviation);
  int64_t n = norma_layer_elements(layer), params = trial_params(&t);
  t.type = type;
  clamp(type, t.x, n);
  round_array(type, t.dy, n);
  if (t.weight) {
    round_array(norma_param_type(type), t.weight, params);
    round_array(norma_param_type(type), t.bias, params);
  }
  return t;
}

static norma_layer parsed(const char *pattern, const char *affine, int ndim, const int64_t *shape) {
  norma_layer layer;
  assert_ok(norma_layer_parse(&layer, pattern, affine, NULL, ndim, shape, &error), &error);
  return layer;
}

static void sixteen_million_and_its_neighbours(void **state) {
  (void)state;
  norma_layer layer = parsed("[d]", "d", 1, (int64_t[]){4});
  uint64_t seed = 1;
  for (int t = 0; t < 2; t++) {
    trial tr = trial_new(&layer, all_types[t], &seed, 0, 1);
    memcpy(tr.x, (double[]){16000000, 16000001, 16000002, 16000003}, sizeof(double[4]));
    problem_is("16000000..16000003 in %s", norma_type_name(all_types[t]));
    judge(&tr);
  }
}

static void every_layer_at_every_offset(void **state) {
  (void)state;
  static const double offsets[] = {1e2, -1e3, 1e4, -1e5, 1e6, 1e7};
  const char *name;
  norma_layer layer;
  uint64_t seed = 2;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    for (size_t k = 0; k < COUNT(offsets); k++) {
      for (int t = 0; t < 4; t++) {
        int narrow = t >= 2;  /* 16-bit numbers near an offset differ only if they are spread in proportion to it */
        trial tr = trial_of(&layer, all_types[t], &seed, offsets[k], narrow ? fabs(offsets[k]) / 50 : 1);
        tr.ddof = (int)k % 2;
        problem_is("%s, %s, offset %g, ddof %d", name, norma_type_name(all_types[t]), offsets[k], tr.ddof);
        judge(&tr);
      }
    }
  }
}

static void every_layer_at_every_magnitude(void **state) {
  (void)state;
  static const double magnitudes[] = {1e-320, 1e-300, 1e-150, 1e-45, 1e-38, 1e-30, 1e-19, 1e-7, 1e7,
                                      1e19,   1e30,   1e38,   1e150, 1e300, 1e308};
  const char *name;
  norma_layer layer;
  uint64_t seed = 3;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    for (size_t k = 0; k < COUNT(magnitudes); k++) {
      for (int t = 0; t < 4; t++) {
        double smallest = t == 1 ? 0 : t == 2 ? 1e-7 : 1e-45;
        int inside = magnitudes[k] < largest_number(all_types[t]) && magnitudes[k] >= smallest;
        for (int eps_zero = 0; inside && eps_zero < 2; eps_zero++) {
          trial tr = trial_of(&layer, all_types[t], &seed, 0, magnitudes[k]);
          tr.flags = eps_zero ? NORMA_EPS_ZERO : 0;
          problem_is("%s, %s, |x| near %g, eps %s", name, norma_type_name(all_types[t]), magnitudes[k],
                     eps_zero ? "0" : "default");
          judge(&tr);
        }
      }
    }
  }
}

static void float64_far_from_zero(void **state) {
  (void)state;
  static const struct {
    double mean, deviation;
  } cases[] = {{1e15, 1}, {-1e15, 100}, {1e15, 1e10}, {1e300, 1e299}, {-1e300, 1e286}, {1e-300, 1e-301},
               {1e-300, 1e-314}, {1.5e308, 1e307}, {1e150, 1e140}};
  static const char *const patterns[] = {"[n] c [l]", "n c [l]", "n [c] l", "n [c l]"};
  uint64_t seed = 4;
  for (size_t k = 0; k < COUNT(cases); k++) {
    for (size_t p = 0; p < COUNT(patterns); p++) {
      for (int eps_zero = 0; eps_zero < 2; eps_zero++) {
        norma_layer layer = parsed(patterns[p], "c", 3, (int64_t[]){3, 5, 40});
        trial tr = trial_of(&layer, NORMA_F64, &seed, cases[k].mean, cases[k].deviation);
        tr.flags = eps_zero ? NORMA_EPS_ZERO : 0;
        problem_is("%s, mean %g, deviation %g, eps %s", patterns[p], cases[k].mean, cases[k].deviation,
                   eps_zero ? "0" : "default");
        judge(&tr);
      }
    }
  }
}

/* One unit of the last place is all the spread there is. */
static void a_constant_but_for_one_bit(void **state) {
  (void)state;
  static const double constants[] = {1, -3.3e9, 1e30, 1e-30, 0.1};
  norma_layer layer = parsed("n [d]", "d", 2, (int64_t[]){3, 100});
  uint64_t seed = 5;
  for (int t = 0; t < 2; t++) {
    for (size_t k = 0; k < COUNT(constants); k++) {
      trial tr = trial_of(&layer, all_types[t], &seed, 0, 1);
      for (int i = 0; i < 300; i++) {
        tr.x[i] = constants[k];
      }
      round_array(all_types[t], tr.x, 300);
      for (int row = 0; row < 3; row++) {
        double *at = &tr.x[row * 100 + row * 49];
        *at = t ? nextafter(*at, 1e300) : (double)nextafterf((float)*at, FLT_MAX);
      }
      tr.flags = NORMA_EPS_ZERO;
      problem_is("%s, %g", norma_type_name(all_types[t]), constants[k]);
      judge(&tr);
    }
  }
}

/* The first, the middle and the last element are far from all others, and whatever is subtracted before squaring. */
static void outliers_where_a_pivot_would_be_taken(void **state) {
  (void)state;
  static const int64_t lengths[] = {31, 4096, 10000};
  uint64_t seed = 13;
  for (size_t k = 0; k < COUNT(lengths) * 4; k++) {
    int64_t n = lengths[k / 4];
    norma_layer layer = parsed("n [d]", "d", 2, (int64_t[]){1, n});
    trial tr = trial_of(&layer, all_types[k % 2], &seed, 1, 1e-3);
    tr.x[0] = tr.x[n / 2] = tr.x[(n - 1) / 2] = tr.x[n - 1] = k / 2 % 2 ? 1e6 : -1e12;
    round_array(tr.type, tr.x, n);
    problem_is("%lld elements, %s, outliers of %g", (long long)n, norma_type_name(tr.type), tr.x[0]);
    judge(&tr);
  }
}

enum { MILLION = 1000000 };

static void one_outlier_among_a_million(void **state) {
  (void)state;
  static const double outliers[] = {1e10, 1e30};
  static const int64_t places[] = {0, MILLION / 2, MILLION - 1};
  norma_layer layer = parsed("n [d]", "", 2, (int64_t[]){1, MILLION});
  uint64_t seed = 6;
  trial tr = trial_of(&layer, NORMA_F32, &seed, 1, 1e-3);
  for (size_t k = 0; k < COUNT(outliers); k++) {
    for (size_t p = 0; p < COUNT(places); p++) {
      double small = tr.x[places[p]];
      tr.x[places[p]] = outliers[k];
      round_array(NORMA_F32, &tr.x[places[p]], 1);
      problem_is("%g at place %lld of a million", outliers[k], (long long)places[p]);
      outcome o = trial_run(&tr, &(manner){.in_place = 1});
      judge_forward(&tr, &o);
      if (k == 0 && p == 0) {
        judge_backward(&tr, &o);
      }
      outcome_free(&o);
      tr.x[places[p]] = small;
    }
  }
  trial_free(&tr);
}

static void a_million_elements_per_statistic(void **state) {
  (void)state;
  static const struct {
    const char *pattern;
    norma_type type;
    int rms, backward;
    int64_t shape[3];
    double mean;
  } cases[] = {
      {"n [c l]", NORMA_F32, 0, 1, {1, 1000, 1000}, 1e4},   {"[n] c [l]", NORMA_F32, 0, 0, {1000, 1, 1000}, 1e7},
      {"n [c l]", NORMA_F64, 0, 0, {1, 10, MILLION / 10}, 1e9}, {"n c [l]", NORMA_BF16, 0, 0, {1, 1, MILLION}, 100},
      {"n [c l]", NORMA_F32, 1, 0, {1, 100, MILLION / 100}, 3},
  };
  uint64_t seed = 7;
  for (size_t k = 0; k < COUNT(cases); k++) {
    norma_layer layer = parsed(cases[k].pattern, "", 3, cases[k].shape);
    layer.rms = cases[k].rms;
    trial tr = trial_of(&layer, cases[k].type, &seed, cases[k].mean, 1);
    problem_is("%s of a million in %s, mean %g", cases[k].pattern, norma_type_name(cases[k].type), cases[k].mean);
    outcome o = trial_run(&tr, &(manner){.x = LAYOUT_DENSE});
    judge_forward(&tr, &o);
    if (cases[k].backward) judge_backward(&tr, &o);
    outcome_free(&o);
    trial_free(&tr);
  }
}

/* A million runs of one element, and a quarter of a million of two. */
static void batch_norm_over_a_million_tiny_runs(void **state) {
  (void)state;
  uint64_t seed = 8;
  for (int space = 0; space < 2; space++) {
    norma_layer layer = space ? parsed("[n] c [l]", "c", 3, (int64_t[]){MILLION / 4, 2, 2})
                              : parsed("[n] c", "c", 2, (int64_t[]){MILLION, 2});
    trial tr = trial_of(&layer, NORMA_F32, &seed, 1e4, 1);
    problem_is("batch norm of %lld samples", (long long)layer.shape[0]);
    outcome o = trial_run(&tr, &(manner){.use_saved = 1});
    judge_forward(&tr, &o);
    if (space) {
      judge_backward(&tr, &o);
    }
    outcome_free(&o);
    trial_free(&tr);
  }
}

static void ones_add_up_to_the_number_of_rows(void **state) {
  (void)state;
  enum { ROWS = 65536, D = 4 };
  norma_layer layer = parsed("n [d]", "d", 2, (int64_t[]){ROWS, D});
  uint64_t seed = 9;
  for (int t = 0; t < 4; t++) {
    double *values = random_array(&seed, all_types[t], ROWS * D, 0, 1), *ones = calloc(ROWS * D, sizeof *ones);
    for (int i = 0; i < ROWS * D; i++) {
      ones[i] = 1;
    }
    void *x = from_doubles(all_types[t], values, ROWS * D), *dy = from_doubles(all_types[t], ones, ROWS * D);
    double narrow[D], dbias[D];
    norma_backward_args args = {.size = sizeof args, .layer = &layer, .type = all_types[t], .x = x, .dy = dy,
                                .dbias = narrow};
    problem_is("%s", norma_type_name(all_types[t]));
    assert_ok(norma_backward(&args, &error), &error);
    norma_to_double(norma_param_type(all_types[t]), narrow, 1, dbias, D);
    for (int d = 0; d < D; d++) {
      assert_true(dbias[d] == ROWS);
    }
    free(dy);
    free(x);
    free(ones);
    free(values);
  }
}

static void scaled(double *values, int64_t n, double factor, norma_type type) {
  for (int64_t i = 0; i < n; i++) {
    values[i] *= factor;
  }
  round_array(type, values, n);
}

static void extreme_gradients_and_parameters(void **state) {
  (void)state;
  static const double factors[] = {1e-30, 1e-15, 1e15, 1e30};
  norma_layer layers[] = {parsed("n t [d]", "d", 3, (int64_t[]){3, 4, 50}),
                          parsed("[n] c [l]", "c", 3, (int64_t[]){4, 3, 50}),
                          parsed("n t [d]", "n d", 3, (int64_t[]){3, 4, 50})};
  uint64_t seed = 10;
  for (size_t l = 0; l < COUNT(layers); l++) {
    for (size_t k = 0; k < COUNT(factors); k++) {
      for (int what = 0; what < 3; what++) {
        trial tr = trial_of(&layers[l], NORMA_F32, &seed, 1e4, 1);
        problem_is("layer %zu, %s times %g", l, what == 0 ? "dy" : what == 1 ? "gamma" : "beta", factors[k]);
        double *array = what == 0 ? tr.dy : what == 1 ? tr.weight : tr.bias;
        scaled(array, what == 0 ? 600 : norma_layer_params(&layers[l]), factors[k], NORMA_F32);
        judge(&tr);
      }
    }
  }
}

/* Infinite, as the exact sum rounds to float64, and not the NaN of Inf - Inf. */
static void sums_beyond_float64_are_infinite(void **state) {
  (void)state;
  norma_layer layer = parsed("[n] c", "c", 2, (int64_t[]){4, 2});
  const double x[] = {1, 8, 2, 7, 3, 6, 5, 5}, dy[] = {1e308, -1e308, 1e308, -1e308, 1e308, -1e308, 1e308, -1e308};
  double dbias[2];
  norma_backward_args args = {.size = sizeof args, .layer = &layer, .type = NORMA_F64, .x = x, .dy = dy,
                              .dbias = dbias};
  assert_ok(norma_backward(&args, &error), &error);
  if (!(dbias[0] == INFINITY && dbias[1] == -INFINITY)) {
    fail_msg("dbias is %g and %g, not Inf and -Inf", dbias[0], dbias[1]);
  }
}

static void given_statistics_close_to_the_data(void **state) {
  (void)state;
  static const struct {
    norma_type type;
    double mean, deviation, var, eps;
  } cases[] = {{NORMA_F32, 1e4, 0.01, 1e-4, 1e-5},   {NORMA_F32, 1e7, 1, 1, 1e-5},     {NORMA_F32, 1e38, 1e37, 1e30, 1},
               {NORMA_F32, 1, 1e-6, 1e-30, 1e-36},   {NORMA_F32, 1e-38, 1e-38, 0, 1e-30}, {NORMA_F64, 1e15, 1, 1, 1e-5},
               {NORMA_F64, 1e308, 1e307, 1e300, 1},  {NORMA_F64, 1e-300, 1e-301, 1e-310, 1e-320},
               {NORMA_BF16, 100, 10, 90, 1e-5},      {NORMA_F16, 1000, 10, 90, 1e-3}};
  uint64_t seed = 11;
  for (size_t k = 0; k < COUNT(cases); k++) {
    norma_layer layer = parsed("[n] c [l]", "c", 3, (int64_t[]){3, 4, 30});
    trial tr = trial_of(&layer, cases[k].type, &seed, cases[k].mean, cases[k].deviation);
    tr.eps = cases[k].eps;
    tr.given_mean = random_array(&seed, norma_param_type(tr.type), 4, cases[k].mean, cases[k].deviation / 10);
    tr.given_var = random_array(&seed, norma_param_type(tr.type), 4, cases[k].var, 0);
    problem_is("%s, mean %g, given variance %g", norma_type_name(tr.type), cases[k].mean, cases[k].var);
    outcome o = trial_run(&tr, &(manner){.x = LAYOUT_CHANNELS_LAST});
    judge_forward(&tr, &o);
    judge_backward(&tr, &o);
    outcome_free(&o);
    trial_free(&tr);
  }
}

static void adain_between_hard_tensors(void **state) {
  (void)state;
  static const struct {
    norma_type type;
    double content, content_deviation, style, style_deviation, alpha;
    int ddof;
  } cases[] = {{NORMA_F32, 1e4, 1, -1e4, 1, 0, 0},          {NORMA_F32, 1e7, 1, 1e-20, 1e-25, 0.3, 1},
               {NORMA_F32, 1e-30, 1e-31, 1e30, 1e29, 0, 0}, {NORMA_F32, 1e37, 1e36, 1, 1e-3, 0.9, 0},
               {NORMA_F64, 1e15, 1, 1e15, 1, 0, 0},         {NORMA_F64, 1e300, 1e290, 1e-300, 1e-301, 0, 1},
               {NORMA_F64, 1, 1, 1e300, 1e299, 0.5, 0},     {NORMA_BF16, 1e3, 50, -100, 20, 0.3, 1},
               {NORMA_F16, 1e3, 50, -100, 20, 0, 0}};
  const char *name;
  norma_layer content, style;
  uint64_t seed = 12;
  for (size_t k = 0; k < COUNT(cases); k++) {
    for (int i = 0; sample_pair(i, &name, &content, &style); i++) {
      adain_trial t = adain_new(&content, &style, cases[k].type, &seed);
      int64_t n = norma_layer_elements(&content), m = norma_layer_elements(&style);
      free(t.content);
      free(t.style);
      t.content = random_array(&seed, t.type, n, cases[k].content, cases[k].content_deviation);
      t.style = random_array(&seed, t.type, m, cases[k].style, cases[k].style_deviation);
      t.alpha = cases[k].alpha;
      t.content_ddof = t.style_ddof = cases[k].ddof;
      t.flags = k % 2 ? NORMA_EPS_ZERO | NORMA_STYLE_EPS_ZERO : 0;
      problem_is("%s, %s, content near %g, style near %g", name, norma_type_name(t.type), cases[k].content,
                 cases[k].style);
      adain_outcome o = adain_run(&t, &(manner){.in_place = 1});
      judge_adain(&t, &o);
      adain_outcome_free(&o);
      adain_free(&t);
    }
  }
}

/* x - mean is 3.4e308, more than float64 holds; y is not. */
static void a_difference_beyond_float64_is_normalized(void **state) {
  (void)state;
  norma_layer layer = parsed("n [d]", "", 2, (int64_t[]){1, 2});
  uint64_t seed = 14;
  trial tr = trial_of(&layer, NORMA_F64, &seed, 0, 1);
  tr.x[0] = 1.7e308;
  tr.x[1] = -1.7e308;
  tr.given_mean = random_array(&seed, NORMA_F64, 1, -1.7e308, 0);
  tr.given_var = random_array(&seed, NORMA_F64, 1, 1.7e308, 0);
  problem_is("1.7e308 with mean -1.7e308");
  judge(&tr);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sixteen_million_and_its_neighbours),
      cmocka_unit_test(every_layer_at_every_offset),
      cmocka_unit_test(every_layer_at_every_magnitude),
      cmocka_unit_test(float64_far_from_zero),
      cmocka_unit_test(a_constant_but_for_one_bit),
      cmocka_unit_test(outliers_where_a_pivot_would_be_taken),
      cmocka_unit_test(one_outlier_among_a_million),
      cmocka_unit_test(a_million_elements_per_statistic),
      cmocka_unit_test(batch_norm_over_a_million_tiny_runs),
      cmocka_unit_test(ones_add_up_to_the_number_of_rows),
      cmocka_unit_test(extreme_gradients_and_parameters),
      cmocka_unit_test(sums_beyond_float64_are_infinite),
      cmocka_unit_test(given_statistics_close_to_the_data),
      cmocka_unit_test(a_difference_beyond_float64_is_normalized),
      cmocka_unit_test(adain_between_hard_tensors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
