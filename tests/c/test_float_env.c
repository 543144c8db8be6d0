/* The rounding mode, flush-to-zero and denormals-are-zero of the calling thread and of the caller's pool change no bit
 * of a result, and stay as they were, also when a call fails. */
#include <fenv.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"
#include "support.h"
#include "trial.h"

static const manner plain = {.in_place = 0};

/* Under setting i, what a plain expression gives must differ, or the tests below would prove nothing. */
static void every_setting_changes_ordinary_arithmetic(void **state) {
  (void)state;
  volatile float small = 1e-20f, denormal = 1e-40f, large = 1e20f;
  volatile double one = 1, tiny = 0x1p-60;
  uint64_t control = control_get();
  float product = small * small, raised = denormal * large;
  double sum = one + tiny, below = one - tiny;
  for (int i = 0; i < control_settings(); i++) {
    control_set(control_setting(i, control));
    int changed = small * small != product || denormal * large != raised || one + tiny != sum || one - tiny != below;
    control_set(control);
    problem_is("%s", control_setting_name(i));
    assert_true(changed);
  }
}

/* Numbers at the lower end of a type: ordinary ones; denormal y, dx and parameters; denormal x with eps 0. */
enum { ORDINARY, DENORMAL_OUTPUT, DENORMAL_INPUT, SETS };

static const struct {
  double denormal, dy; /* x of this size gives a gradient of about dy / denormal */
} scale_of_type[] = {[NORMA_F32] = {1e-40, 1e-20},
                     [NORMA_F64] = {1e-310, 1e-200},
                     [NORMA_F16] = {1e-6, 1e-4},
                     [NORMA_BF16] = {1e-39, 1e-20}};

static void scale_array(norma_type type, double *values, int64_t n, double factor) {
  for (int64_t i = 0; i < n && values != NULL; i++) {
    values[i] *= factor;
  }
  if (values != NULL) {
    round_array(type, values, n);
  }
}

static trial hostile_trial(const norma_layer *layer, norma_type type, int set, uint64_t *seed) {
  trial t = trial_new(layer, type, seed, 0, 1);
  int64_t elements = norma_layer_elements(layer), params = trial_params(&t);
  norma_type ptype = norma_param_type(type);
  double denormal = scale_of_type[type].denormal;
  if (set == DENORMAL_OUTPUT) {
    double small = type == NORMA_F32 ? 1e-40 : denormal;
    scale_array(ptype, t.weight, params, small);
    scale_array(ptype, t.bias, params, small);
    scale_array(type, t.dy, elements, t.weight == NULL ? denormal : 1);
  }
  if (set == DENORMAL_INPUT) {
    t.flags = NORMA_EPS_ZERO;
    scale_array(type, t.x, elements, denormal);
    scale_array(type, t.dy, elements, scale_of_type[type].dy);
  }
  return t;
}

static void no_setting_changes_a_layer(void **state) {
  (void)state;
  uint64_t seed = 61, control = control_get();
  const char *name;
  norma_layer layer;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    for (size_t k = 0; k < COUNT(all_types) * SETS; k++) {
      trial t = hostile_trial(&layer, all_types[k / SETS], (int)(k % SETS), &seed);
      outcome expected = trial_run(&t, &plain);
      for (int s = 0; s < control_settings(); s++) {
        control_set(control_setting(s, control));
        outcome got = trial_run(&t, &plain);
        uint64_t after = control_get();
        control_set(control);
        problem_is("%s %s, numbers of set %zu, %s", name, norma_type_name(t.type), k % SETS, control_setting_name(s));
        assert_true(control_modes(after) == control_modes(control_setting(s, control)));
        assert_same_outcome(&t, &got, &expected);
        outcome_free(&got);
      }
      outcome_free(&expected);
      trial_free(&t);
    }
  }
}

/* The tests above would pass with denormals lost in both runs. */
static void denormals_are_computed_with(void **state) {
  (void)state;
  uint64_t seed = 62;
  norma_layer layer;
  norma_error error;
  problem_is("layer norm of denormal numbers");
  assert_ok(norma_layer_norm(&layer, 1, 2, (int64_t[]){3, 40}, &error), &error);
  for (size_t k = 0; k < COUNT(all_types); k++) {
    trial t = hostile_trial(&layer, all_types[k], DENORMAL_INPUT, &seed);
    outcome o = trial_run(&t, &plain);
    double *rstd = to_doubles(norma_param_type(t.type), o.rstd, 3), *y = to_doubles(t.type, o.y, 120), square = 0;
    for (int i = 0; i < 120; i++) {
      double xhat = (y[i] - t.bias[i % 40]) / t.weight[i % 40];
      square += xhat * xhat / 120;
    }
    problem_is("%s, denormal x", norma_type_name(t.type));
    assert_true(fabs(square - 1) < 0.05);
    assert_true(rstd[0] * scale_of_type[t.type].denormal > 0.1); /* it may be too large for its type: Inf */
    free(rstd);
    free(y);
    outcome_free(&o);
    trial_free(&t);

    t = hostile_trial(&layer, all_types[k], DENORMAL_OUTPUT, &seed);
    o = trial_run(&t, &plain);
    y = to_doubles(t.type, o.y, 120);
    int small = 0;
    for (int i = 0; i < 120; i++) {
      small += y[i] != 0 && fabs(y[i]) < (t.type == NORMA_F64 ? 0x1p-1022 : t.type == NORMA_F16 ? 0x1p-14 : 0x1p-126);
    }
    problem_is("%s, denormal y", norma_type_name(t.type));
    assert_true(small > 100);
    free(y);
    outcome_free(&o);
    trial_free(&t);
  }
}

static void no_setting_of_the_pool_changes_a_layer(void **state) {
  (void)state;
  uint64_t seed = 63, control = control_get();
  norma_layer layer;
  norma_error error;
  problem_is("batch norm");
  assert_ok(norma_layer_batch(&layer, 3, (int64_t[]){8, 16, 600}, &error), &error);
  for (size_t k = 0; k < COUNT(all_types) * SETS; k++) {
    trial t = hostile_trial(&layer, all_types[k / SETS], (int)(k % SETS), &seed);
    outcome expected = trial_run(&t, &plain);
    for (int s = 0; s < control_settings(); s++) {
      pool p = {.threads = 2, .control = control_setting(s, control)};
      norma_threads threads = pool_threads(&p);
      outcome got = trial_run(&t, &(manner){.threads = &threads});
      problem_is("batch %s, numbers of set %zu, pool with %s", norma_type_name(t.type), k % SETS,
                 control_setting_name(s));
      assert_true(p.calls > 0);
      assert_true(p.control_kept);
      assert_true(control_modes(control_get()) == control_modes(control));
      assert_same_outcome(&t, &got, &expected);
      outcome_free(&got);
    }
    outcome_free(&expected);
    trial_free(&t);
  }
}

static void no_setting_changes_adain(void **state) {
  (void)state;
  uint64_t seed = 64, control = control_get();
  const char *name;
  norma_layer content, style;
  for (int i = 0; sample_pair(i, &name, &content, &style); i++) {
    for (size_t k = 0; k < COUNT(all_types) * 2; k++) {
      adain_trial t = adain_new(&content, &style, all_types[k / 2], &seed);
      t.alpha = 0.3;
      if (k % 2) {
        t.flags = NORMA_STYLE_EPS_ZERO;
        scale_array(t.type, t.style, norma_layer_elements(&style), scale_of_type[t.type].denormal);
      }
      adain_outcome expected = adain_run(&t, &plain);
      for (int s = 0; s < control_settings(); s++) {
        control_set(control_setting(s, control));
        adain_outcome got = adain_run(&t, &plain);
        uint64_t after = control_get();
        control_set(control);
        problem_is("%s %s, %s", name, norma_type_name(t.type), control_setting_name(s));
        assert_true(control_modes(after) == control_modes(control_setting(s, control)));
        assert_same_adain(&t, &got, &expected);
        adain_outcome_free(&got);
      }
      adain_outcome_free(&expected);
      adain_free(&t);
    }
  }
}

/* ------------------------------------------------------------------------------------------ the other functions --- */

enum { N = 64 };

/* Everything that the remaining functions return, for numbers about this size. */
typedef struct others {
  norma_moments moments, merged;
  double finished[2], running[2][2], folded[4], folded_weight[6], wide[N];
  float narrow[N];
  uint16_t half[N], brain[N];
  double reference[N], reference_dx[N];
} others;

static void compute_others(const double *x, others *o) {
  norma_error error;
  memset(o, 0, sizeof *o);
  assert_ok(norma_moments_add(&o->moments, NORMA_F64, x, N, 1, &error), &error);
  assert_ok(norma_moments_add(&o->merged, NORMA_F64, x, N / 2, 1, &error), &error);
  norma_moments_merge(&o->merged, &o->moments);
  assert_ok(norma_moments_finish(&o->merged, 1, &o->finished[0], &o->finished[1], &error), &error);
  norma_moments both[2] = {o->moments, o->merged};
  o->running[1][0] = o->running[1][1] = 1;
  assert_ok(norma_running_update(&(norma_running_args){.size = sizeof(norma_running_args),
                                                       .type = NORMA_F64,
                                                       .momentum = 0.3,
                                                       .channels = 2,
                                                       .moments = both,
                                                       .running_mean = o->running[0],
                                                       .running_var = o->running[1]},
                                 &error),
            &error);
  norma_layer layer;
  assert_ok(norma_layer_batch(&layer, 2, (int64_t[]){N / 2, 2}, &error), &error);
  assert_ok(norma_fold(&(norma_fold_args){.size = sizeof(norma_fold_args),
                                          .layer = &layer,
                                          .type = NORMA_F64,
                                          .mean = x,
                                          .var = o->running[1],
                                          .gamma = x + 2,
                                          .beta = x + 4,
                                          .scale = o->folded,
                                          .shift = o->folded + 2,
                                          .op = NORMA_LINEAR,
                                          .op_type = NORMA_F64,
                                          .out_channels = 2,
                                          .in_channels = 2,
                                          .weight = x + 6,
                                          .bias = x + 10,
                                          .folded_weight = o->folded_weight,
                                          .folded_bias = o->folded_weight + 4},
                       &error),
            &error);
  norma_from_double(NORMA_F32, x, o->narrow, 1, N);
  norma_from_double(NORMA_F16, x, o->half, 1, N);
  norma_from_double(NORMA_BF16, x, o->brain, 1, N);
  norma_to_double(NORMA_BF16, o->brain, 1, o->wide, N);
  norma_to_double(NORMA_F16, o->half, 2, o->wide, N / 2);
  norma_forward_args forward = {.size = sizeof forward, .layer = &layer, .type = NORMA_F64, .x = x, .y = o->wide};
  assert_ok(
      norma_reference_forward(&forward, &(norma_reference){.size = sizeof(norma_reference), .y = o->reference}, &error),
      &error);
  norma_backward_args backward = {
      .size = sizeof backward, .layer = &layer, .type = NORMA_F64, .x = x, .dy = x, .dx = o->wide};
  assert_ok(norma_reference_backward(
                &backward, &(norma_reference){.size = sizeof(norma_reference), .dx = o->reference_dx}, &error),
            &error);
}

static void assert_same_others(const others *got, const others *expected) {
  assert_same_bits("moments", NORMA_F64, &got->moments.mean, &expected->moments.mean, 4);
  assert_same_bits("merged", NORMA_F64, &got->merged.mean, &expected->merged.mean, 4);
  assert_same_bits("finished", NORMA_F64, got->finished, expected->finished, 2);
  assert_same_bits("running", NORMA_F64, got->running, expected->running, 4);
  assert_same_bits("scale and shift", NORMA_F64, got->folded, expected->folded, 4);
  assert_same_bits("folded weight", NORMA_F64, got->folded_weight, expected->folded_weight, 6);
  assert_same_bits("to float32", NORMA_F32, got->narrow, expected->narrow, N);
  assert_same_bits("to float16", NORMA_F16, got->half, expected->half, N);
  assert_same_bits("to bfloat16", NORMA_BF16, got->brain, expected->brain, N);
  assert_same_bits("to float64", NORMA_F64, got->wide, expected->wide, N);
  assert_same_bits("reference y", NORMA_F64, got->reference, expected->reference, N);
  assert_same_bits("reference dx", NORMA_F64, got->reference_dx, expected->reference_dx, N);
}

static const double sizes[] = {1, 1e-5, 1e-39, 1e-310};

static void no_setting_changes_statistics_fold_conversions_or_reference(void **state) {
  (void)state;
  static others expected, got;
  uint64_t seed = 65, control = control_get();
  for (size_t i = 0; i < COUNT(sizes); i++) {
    double *x = random_array(&seed, NORMA_F64, N, 0, sizes[i]);
    problem_is("numbers about %g", sizes[i]);
    compute_others(x, &expected);
    for (int s = 0; s < control_settings(); s++) {
      control_set(control_setting(s, control));
      compute_others(x, &got);
      uint64_t after = control_get();
      control_set(control);
      problem_is("numbers about %g, %s", sizes[i], control_setting_name(s));
      assert_true(control_modes(after) == control_modes(control_setting(s, control)));
      assert_same_others(&got, &expected);
    }
    free(x);
  }
}

/* fesetround also turns the unit that long double is computed with, where that is another one. */
static void no_mode_of_fesetround_changes_a_result(void **state) {
  (void)state;
  static const int modes[] = {FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
  static others expected, got;
  uint64_t seed = 66;
  for (size_t i = 0; i < COUNT(sizes); i++) {
    double *x = random_array(&seed, NORMA_F64, N, 0, sizes[i]);
    compute_others(x, &expected);
    for (size_t m = 0; m < COUNT(modes); m++) {
      fesetround(modes[m]);
      compute_others(x, &got);
      int after = fegetround();
      fesetround(FE_TONEAREST);
      problem_is("numbers about %g, fesetround mode %zu", sizes[i], m);
      assert_int_equal(after, modes[m]);
      assert_same_others(&got, &expected);
    }
    free(x);
  }
}

static void a_call_that_fails_leaves_the_register_alone(void **state) {
  (void)state;
  uint64_t control = control_get();
  norma_layer layer;
  norma_error error;
  float x[8] = {0}, y[8], running[2] = {0, 1};
  norma_moments moments = {4, NAN, 0, 1, 0};
  problem_is("calls that fail");
  assert_ok(norma_layer_norm(&layer, 1, 2, (int64_t[]){2, 4}, &error), &error);
  for (int s = 0; s < control_settings(); s++) {
    control_set(control_setting(s, control));
    norma_status negative = norma_forward(
        &(norma_forward_args){.size = sizeof(norma_forward_args), .layer = &layer, .x = x, .y = y, .eps = -1}, &error);
    norma_status overlap = norma_forward(
        &(norma_forward_args){.size = sizeof(norma_forward_args), .layer = &layer, .x = x, .y = x + 1}, &error);
    norma_status memory = norma_forward(
        &(norma_forward_args){
            .size = sizeof(norma_forward_args), .layer = &layer, .x = x, .y = y, .workspace = y, .workspace_size = 1},
        &error);
    float given[4] = {0, 0, 1, -1};
    norma_status variance = norma_forward(&(norma_forward_args){.size = sizeof(norma_forward_args),
                                                                .layer = &layer,
                                                                .x = x,
                                                                .y = y,
                                                                .given_mean = given,
                                                                .given_var = given + 2},
                                          &error);
    norma_status refused = norma_running_update(&(norma_running_args){.size = sizeof(norma_running_args),
                                                                      .channels = 1,
                                                                      .moments = &moments,
                                                                      .running_mean = running,
                                                                      .running_var = running + 1,
                                                                      .not_finite = NORMA_NOT_FINITE_REFUSE},
                                                &error);
    uint64_t after = control_get();
    control_set(control);
    problem_is("%s", control_setting_name(s));
    assert_int_equal(negative, NORMA_BAD_ARGUMENT);
    assert_int_equal(overlap, NORMA_OVERLAP);
    assert_int_equal(memory, NORMA_NO_MEMORY);
    assert_int_equal(variance, NORMA_BAD_ARGUMENT);
    assert_int_equal(refused, NORMA_NOT_FINITE);
    assert_true(control_modes(after) == control_modes(control_setting(s, control)));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_setting_changes_ordinary_arithmetic),
      cmocka_unit_test(no_setting_changes_a_layer),
      cmocka_unit_test(denormals_are_computed_with),
      cmocka_unit_test(no_setting_of_the_pool_changes_a_layer),
      cmocka_unit_test(no_setting_changes_adain),
      cmocka_unit_test(no_setting_changes_statistics_fold_conversions_or_reference),
      cmocka_unit_test(no_mode_of_fesetround_changes_a_result),
      cmocka_unit_test(a_call_that_fails_leaves_the_register_alone),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
