/* norma_running_update: each convention against plain arithmetic, and what it refuses. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CHANNELS = 4 };

static norma_error error;

static const double old_mean[CHANNELS] = {1, -2, 0.5, 100}, old_var[CHANNELS] = {1, 4, 0.25, 9};

/* Moments of `count` elements with these means; the variances (biased) are 1, 2, 3, ... */
static void some_moments(norma_moments *m, int64_t n, int64_t count) {
  for (int64_t i = 0; i < n; i++) {
    m[i] = (norma_moments){.count = count, .mean = 3 * (double)i - 2, .m2 = (double)((i + 1) * count)};
  }
}

static norma_running_args args_for(norma_type type, const norma_moments *moments, void *mean, void *var) {
  return (norma_running_args){.size = sizeof(norma_running_args), .type = type, .channels = CHANNELS,
                              .moments = moments, .running_mean = mean, .running_var = var};
}

/* Each running value equals (1 - f) * old + f * new to one rounding of the type. */
static void assert_moved(norma_type type, const void *running, const double *old, const double *new, double f) {
  double got[CHANNELS];
  norma_to_double(type, running, 1, got, CHANNELS);
  for (int c = 0; c < CHANNELS; c++) {
    double expected = (1 - f) * old[c] + f * new[c];
    double bound = (type == NORMA_F32 ? 0x1p-24 : 0x1p-51) * (fabs(old[c]) + fabs(new[c]));
    if (!(fabs(got[c] - expected) <= bound)) {
      fail_problem("channel %d is %.17g, not %.17g", c, got[c], expected);
    }
  }
}

typedef struct convention_case {
  norma_convention convention;
  double momentum, weight_of_new;
  int64_t batches;
  int ddof;
} convention_case;

static const convention_case convention_cases[] = {
    {NORMA_PYTORCH, 0, 0.1, 0, 1},      {NORMA_PYTORCH, 0.1, 0.1, 0, 1},  {NORMA_PYTORCH, 0.75, 0.75, 0, 1},
    {NORMA_PYTORCH, 1, 1, 0, 1},        {NORMA_ONNX, 0, 0.1, 0, 0},       {NORMA_ONNX, 0.9, 0.1, 0, 0},
    {NORMA_ONNX, 0.25, 0.75, 0, 0},     {NORMA_ONNX, 1, 0, 0, 0},         {NORMA_CUMULATIVE, 0, 1, 1, 1},
    {NORMA_CUMULATIVE, 0, 0.25, 4, 1},  {NORMA_CUMULATIVE, 0.5, 0.001, 1000, 1},
};

static void each_convention_is_its_formula(void **state) {
  (void)state;
  norma_moments m[CHANNELS];
  some_moments(m, CHANNELS, 5);
  for (size_t k = 0; k < COUNT(convention_cases); k++) {
    const convention_case *c = &convention_cases[k];
    double mean[CHANNELS], var[CHANNELS];
    for (int i = 0; i < CHANNELS; i++) {
      mean[i] = m[i].mean;
      var[i] = m[i].m2 / (5 - c->ddof);
    }
    for (int t = NORMA_F32; t <= NORMA_F64; t++) {
      double running_mean[CHANNELS], running_var[CHANNELS];
      norma_from_double((norma_type)t, old_mean, running_mean, 1, CHANNELS);
      norma_from_double((norma_type)t, old_var, running_var, 1, CHANNELS);
      norma_running_args args = args_for((norma_type)t, m, running_mean, running_var);
      args.convention = c->convention;
      args.momentum = c->momentum;
      args.batches = c->batches;
      problem_is("%s convention %d momentum %g batches %lld", norma_type_name((norma_type)t), (int)c->convention,
                 c->momentum, (long long)c->batches);
      assert_ok(norma_running_update(&args, &error), &error);
      assert_moved((norma_type)t, running_mean, old_mean, mean, c->weight_of_new);
      assert_moved((norma_type)t, running_var, old_var, var, c->weight_of_new);
    }
  }
}

static void three_cumulative_batches_give_the_plain_average(void **state) {
  (void)state;
  double running_mean[CHANNELS] = {9, 9, 9, 9}, running_var[CHANNELS] = {9, 9, 9, 9}, zero[CHANNELS] = {0};
  double mean[CHANNELS] = {0}, var[CHANNELS] = {0};
  for (int64_t batch = 1; batch <= 3; batch++) {
    norma_moments m[CHANNELS];
    some_moments(m, CHANNELS, 3 * batch + 1);
    norma_running_args args = args_for(NORMA_F64, m, running_mean, running_var);
    args.convention = NORMA_CUMULATIVE;
    args.batches = batch;
    assert_ok(norma_running_update(&args, &error), &error);
    for (int c = 0; c < CHANNELS; c++) {
      mean[c] += m[c].mean / 3;
      var[c] += m[c].m2 / (double)(3 * batch) / 3;
    }
  }
  assert_moved(NORMA_F64, running_mean, zero, mean, 1);
  assert_moved(NORMA_F64, running_var, zero, var, 1);
}

static void either_running_array_may_be_missing(void **state) {
  (void)state;
  norma_moments m[CHANNELS];
  some_moments(m, CHANNELS, 5);
  double mean[CHANNELS], var[CHANNELS], only_mean[CHANNELS], only_var[CHANNELS];
  memcpy(mean, old_mean, sizeof mean);
  memcpy(only_mean, old_mean, sizeof mean);
  memcpy(var, old_var, sizeof var);
  memcpy(only_var, old_var, sizeof var);
  norma_running_args args = args_for(NORMA_F64, m, mean, var);
  assert_ok(norma_running_update(&args, &error), &error);
  args = args_for(NORMA_F64, m, only_mean, NULL);
  assert_ok(norma_running_update(&args, &error), &error);
  args = args_for(NORMA_F64, m, NULL, only_var);
  assert_ok(norma_running_update(&args, &error), &error);
  assert_memory_equal(only_mean, mean, sizeof mean);
  assert_memory_equal(only_var, var, sizeof var);
}

static void a_channel_without_elements_stays_as_it_was(void **state) {
  (void)state;
  norma_moments m[CHANNELS];
  some_moments(m, CHANNELS, 5);
  m[2] = (norma_moments){0};
  for (int policy = NORMA_NOT_FINITE_STORE; policy <= NORMA_NOT_FINITE_SKIP; policy++) {
    double mean[CHANNELS], var[CHANNELS];
    memcpy(mean, old_mean, sizeof mean);
    memcpy(var, old_var, sizeof var);
    norma_running_args args = args_for(NORMA_F64, m, mean, var);
    args.not_finite = (norma_not_finite)policy;
    problem_is("policy %d", policy);
    assert_ok(norma_running_update(&args, &error), &error);
    assert_true(mean[2] == old_mean[2] && var[2] == old_var[2]);
    assert_true(mean[1] != old_mean[1] && mean[3] != old_mean[3] && var[3] != old_var[3]);
  }
}

/* Instance norm: one update per sample from the same old value, and the average of the results. */
static void several_samples_are_averaged(void **state) {
  (void)state;
  enum { SAMPLES = 3 };
  norma_moments m[SAMPLES * CHANNELS];
  some_moments(m, SAMPLES * CHANNELS, 7);
  double mean[CHANNELS] = {0}, var[CHANNELS] = {0};
  for (int i = 0; i < SAMPLES * CHANNELS; i++) {
    mean[i % CHANNELS] += m[i].mean / SAMPLES;
    var[i % CHANNELS] += m[i].m2 / 6 / SAMPLES;
  }
  for (int t = NORMA_F32; t <= NORMA_F64; t++) {
    double running_mean[CHANNELS], running_var[CHANNELS];
    norma_from_double((norma_type)t, old_mean, running_mean, 1, CHANNELS);
    norma_from_double((norma_type)t, old_var, running_var, 1, CHANNELS);
    norma_running_args args = args_for((norma_type)t, m, running_mean, running_var);
    args.samples = SAMPLES;
    args.momentum = 0.25;
    problem_is("%s", norma_type_name((norma_type)t));
    assert_ok(norma_running_update(&args, &error), &error);
    assert_moved((norma_type)t, running_mean, old_mean, mean, 0.25);
    assert_moved((norma_type)t, running_var, old_var, var, 0.25);
  }
}

static void the_running_variance_is_never_negative(void **state) {
  (void)state;
  norma_moments m[CHANNELS] = {{.count = 3}, {.count = 3, .m2 = 1e-310}, {.count = 3, .m2 = 0x1p-1074}, {.count = 3}};
  static const double momenta[] = {1e-9, 0.1, 0.3, 1 - 0x1p-53, 1};
  for (size_t k = 0; k < COUNT(momenta); k++) {
    double var[CHANNELS] = {0x1p-1074, 1e-300, 0, 1e-45};
    norma_running_args args = args_for(NORMA_F64, m, NULL, var);
    args.momentum = momenta[k];
    problem_is("momentum %g", momenta[k]);
    for (int step = 0; step < 50; step++) {
      assert_ok(norma_running_update(&args, &error), &error);
      for (int c = 0; c < CHANNELS; c++) {
        assert_true(var[c] >= 0 && !signbit(var[c]));
      }
    }
  }
}

/* Mean and variance are stored as they are, and a NaN as the canonical one. */
static void store_keeps_what_is_not_finite(void **state) {
  (void)state;
  norma_moments m[CHANNELS];
  some_moments(m, CHANNELS, 5);
  m[1].mean = -NAN;
  m[3].m2 = INFINITY;
  float mean[CHANNELS], var[CHANNELS], untouched_mean = 0, untouched_var = 0;
  norma_from_double(NORMA_F32, old_mean, mean, 1, CHANNELS);
  norma_from_double(NORMA_F32, old_var, var, 1, CHANNELS);
  norma_running_args args = args_for(NORMA_F32, m, mean, var);
  assert_ok(norma_running_update(&args, &error), &error);
  untouched_mean = mean[0];
  untouched_var = var[0];
  static const uint32_t canonical = 0x7fc00000;
  assert_memory_equal(&mean[1], &canonical, sizeof canonical);
  assert_true(isinf(var[3]) && isfinite(mean[3]));
  assert_true(fabsf(untouched_mean - 0.7f) < 1e-6f && fabsf(untouched_var - 1.025f) < 1e-6f);
}

static void refuse_names_the_channel_and_changes_none(void **state) {
  (void)state;
  static const double bad[] = {NAN, INFINITY, -INFINITY};
  for (int what = 0; what < 6; what++) {
    norma_moments m[2 * CHANNELS];
    some_moments(m, 2 * CHANNELS, 5);
    int channel = what % CHANNELS;
    if (what % 2) {
      m[CHANNELS + channel].mean = bad[what / 2];
    } else {
      m[CHANNELS + channel].m2 = bad[what / 2];
    }
    double mean[CHANNELS], var[CHANNELS];
    memcpy(mean, old_mean, sizeof mean);
    memcpy(var, old_var, sizeof var);
    norma_running_args args = args_for(NORMA_F64, m, mean, var);
    args.samples = 2;
    args.not_finite = NORMA_NOT_FINITE_REFUSE;
    char name[32];
    snprintf(name, sizeof name, "channel %d", channel);
    problem_is("%g in the %s of channel %d", bad[what / 2], what % 2 ? "mean" : "variance", channel);
    assert_int_equal(norma_running_update(&args, &error), NORMA_NOT_FINITE);
    if (!strstr(error.detail, name)) {
      fail_problem("the detail does not say '%s': %s", name, error.detail);
    }
    assert_memory_equal(mean, old_mean, sizeof mean);
    assert_memory_equal(var, old_var, sizeof var);
  }
}

static void skip_leaves_only_that_channel_as_it_was(void **state) {
  (void)state;
  norma_moments m[CHANNELS], good[CHANNELS];
  some_moments(good, CHANNELS, 5);
  memcpy(m, good, sizeof m);
  m[0].mean = NAN;
  m[2].m2 = INFINITY;
  double mean[CHANNELS], var[CHANNELS], all_mean[CHANNELS], all_var[CHANNELS];
  memcpy(mean, old_mean, sizeof mean);
  memcpy(all_mean, old_mean, sizeof mean);
  memcpy(var, old_var, sizeof var);
  memcpy(all_var, old_var, sizeof var);
  norma_running_args args = args_for(NORMA_F64, m, mean, var);
  args.not_finite = NORMA_NOT_FINITE_SKIP;
  assert_ok(norma_running_update(&args, &error), &error);
  args = args_for(NORMA_F64, good, all_mean, all_var);
  assert_ok(norma_running_update(&args, &error), &error);
  for (int c = 0; c < CHANNELS; c++) {
    int skipped = c == 0 || c == 2;
    problem_is("channel %d", c);
    assert_true(mean[c] == (skipped ? old_mean : all_mean)[c]);
    assert_true(var[c] == (skipped ? old_var : all_var)[c]);
  }
}

static void an_unbiased_variance_of_one_element_is_refused(void **state) {
  (void)state;
  norma_moments m[CHANNELS];
  some_moments(m, CHANNELS, 5);
  m[3] = (norma_moments){.count = 1, .mean = 5};
  double mean[CHANNELS], var[CHANNELS];
  memcpy(mean, old_mean, sizeof mean);
  memcpy(var, old_var, sizeof var);
  norma_running_args args = args_for(NORMA_F64, m, mean, var);
  assert_int_equal(norma_running_update(&args, &error), NORMA_SINGLE_VALUE);
  assert_non_null(strstr(error.detail, "channel 3"));
  args.convention = NORMA_CUMULATIVE;
  args.batches = 2;
  assert_int_equal(norma_running_update(&args, &error), NORMA_SINGLE_VALUE);
  assert_memory_equal(mean, old_mean, sizeof mean);
  assert_memory_equal(var, old_var, sizeof var);
  args.convention = NORMA_ONNX;
  assert_ok(norma_running_update(&args, &error), &error);
  assert_true(fabs(var[3] - 0.9 * old_var[3]) <= 1e-15);
}

/* One wrong field each; the detail names it and nothing changes. */
static void wrong_arguments_are_refused_by_name(void **state) {
  (void)state;
  norma_moments m[CHANNELS];
  some_moments(m, CHANNELS, 5);
  double mean[CHANNELS], var[CHANNELS];
  memcpy(mean, old_mean, sizeof mean);
  memcpy(var, old_var, sizeof var);
  const norma_running_args good = args_for(NORMA_F64, m, mean, var);
  static const struct {
    const char *name, *value;
    norma_status status;
  } expected[] = {
      {"size", "0", NORMA_BAD_ARGUMENT},         {"momentum", "-0.5", NORMA_BAD_ARGUMENT},
      {"momentum", "1.5", NORMA_BAD_ARGUMENT},   {"momentum", "nan", NORMA_BAD_ARGUMENT},
      {"batches", "0", NORMA_BAD_ARGUMENT},      {"channels", "-4", NORMA_BAD_ARGUMENT},
      {"samples", "-1", NORMA_BAD_ARGUMENT},        {"moments", "NULL", NORMA_BAD_ARGUMENT},
      {"type", "f16", NORMA_BAD_ARGUMENT},       {"type", "7", NORMA_BAD_ARGUMENT},
      {"convention", "3", NORMA_BAD_ARGUMENT},   {"not_finite", "3", NORMA_BAD_ARGUMENT},
  };
  for (size_t k = 0; k < COUNT(expected); k++) {
    norma_running_args args = good;
    args.size = k == 0 ? 0 : args.size;
    args.momentum = k == 1 ? -0.5 : k == 2 ? 1.5 : k == 3 ? NAN : 0;
    args.convention = k == 4 ? NORMA_CUMULATIVE : k == 10 ? (norma_convention)3 : NORMA_PYTORCH;
    args.channels = k == 5 ? -4 : CHANNELS;
    args.samples = k == 6 ? -1 : 0;
    args.moments = k == 7 ? NULL : m;
    args.type = k == 8 ? NORMA_F16 : k == 9 ? (norma_type)7 : NORMA_F64;
    args.not_finite = k == 11 ? (norma_not_finite)3 : NORMA_NOT_FINITE_STORE;
    problem_is("%s %s", expected[k].name, expected[k].value);
    norma_status status = norma_running_update(&args, &error);
    if (status != expected[k].status || error.status != status || !strstr(error.detail, expected[k].name) ||
        !strstr(error.detail, expected[k].value)) {
      fail_problem("%s: %s", norma_status_text(status), error.detail);
    }
    assert_int_equal(norma_running_update(&args, NULL), expected[k].status);
    assert_memory_equal(mean, old_mean, sizeof mean);
    assert_memory_equal(var, old_var, sizeof var);
  }
  assert_int_equal(norma_running_update(NULL, &error), NORMA_BAD_ARGUMENT);
}

/* All arrays of a call, to see that a refused one changes none of them. */
typedef struct arrays {
  norma_moments moments[CHANNELS + 1];
  double mean[CHANNELS + 1], var[CHANNELS + 1];
} arrays;

static void arrays_that_cannot_be_are_refused_and_nothing_changes(void **state) {
  (void)state;
  static const struct {
    const char *what, *named;
    norma_status status;
  } expected[] = {
      {"count -1", "moments[1] has count -1", NORMA_BAD_ARGUMENT},
      {"negative m2", "m2 -0.5", NORMA_BAD_ARGUMENT},
      {"samples times channels overflows", "overflow", NORMA_BAD_SHAPE},
      {"channels overflow", "overflow", NORMA_BAD_SHAPE},
      {"misaligned moments", "moments is at address", NORMA_BAD_ARGUMENT},
      {"misaligned running_mean", "running_mean is at address", NORMA_BAD_ARGUMENT},
      {"misaligned running_var", "running_var is at address", NORMA_BAD_ARGUMENT},
      {"running_mean is running_var", "running_var overlaps running_mean", NORMA_OVERLAP},
      {"running_var begins in running_mean", "running_var overlaps running_mean", NORMA_OVERLAP},
      {"running_mean in moments", "running_mean overlaps moments", NORMA_OVERLAP},
      {"running_var in the last moments", "running_var overlaps moments", NORMA_OVERLAP},
      {"running_var is negative", "running_var[3] is -0.25", NORMA_BAD_ARGUMENT},
  };
  for (size_t k = 0; k < COUNT(expected); k++) {
    arrays a = {.mean = {1, 2, 3, 4, 5}, .var = {1, 2, 3, k == 11 ? -0.25 : 4, 5}}, before;
    some_moments(a.moments, CHANNELS + 1, 5);
    a.moments[1].count = k == 0 ? -1 : 5;
    a.moments[2].m2 = k == 1 ? -0.5 : 1;
    norma_running_args args = args_for(NORMA_F64, a.moments, a.mean, a.var);
    args.samples = k == 2 ? INT64_MAX / 2 : 0;
    args.channels = k == 3 ? INT64_MAX / 2 : CHANNELS;
    args.moments = k == 4 ? (void *)((char *)a.moments + 4) : a.moments;
    args.running_mean = k == 5 ? (void *)((char *)a.mean + 4) : k == 9 ? (void *)&a.moments[0].m2 : a.mean;
    args.running_var = k == 6    ? (void *)((char *)a.var + 4)
                       : k == 7  ? a.mean
                       : k == 8  ? a.mean + 1
                       : k == 10 ? (void *)&a.moments[CHANNELS - 1].m2_lo
                                 : a.var;
    memcpy(&before, &a, sizeof a);
    problem_is("%s", expected[k].what);
    norma_status status = norma_running_update(&args, &error);
    if (status != expected[k].status || error.status != status || !strstr(error.detail, expected[k].named)) {
      fail_problem("%s: '%s', expected '%s'", norma_status_text(status), error.detail, expected[k].named);
    }
    assert_memory_equal(&a, &before, sizeof a);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_convention_is_its_formula),
      cmocka_unit_test(three_cumulative_batches_give_the_plain_average),
      cmocka_unit_test(either_running_array_may_be_missing),
      cmocka_unit_test(a_channel_without_elements_stays_as_it_was),
      cmocka_unit_test(several_samples_are_averaged),
      cmocka_unit_test(the_running_variance_is_never_negative),
      cmocka_unit_test(store_keeps_what_is_not_finite),
      cmocka_unit_test(refuse_names_the_channel_and_changes_none),
      cmocka_unit_test(skip_leaves_only_that_channel_as_it_was),
      cmocka_unit_test(an_unbiased_variance_of_one_element_is_refused),
      cmocka_unit_test(wrong_arguments_are_refused_by_name),
      cmocka_unit_test(arrays_that_cannot_be_are_refused_and_nothing_changes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
