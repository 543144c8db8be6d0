/* The table THE RULES of norma.h, line by line, in every kind of layer, every type, both directions: units of 0
 * elements, of 1, constant units, variance 0. NaN and Inf are in test_not_finite.c, what is an error in
 * test_errors.c. */
#include "judge.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static norma_error error;

static norma_layer parsed(const char *pattern, const char *affine, const char *sizes, int ndim, const int64_t *shape) {
  norma_layer layer;
  assert_ok(norma_layer_parse(&layer, pattern, affine, sizes, ndim, shape, &error), &error);
  return layer;
}

typedef struct small_layer {
  const char *pattern, *affine, *sizes;
  int ndim;
  int64_t shape[4];
  int rms;
} small_layer;

static norma_layer make(const small_layer *s) {
  norma_layer layer = parsed(s->pattern, s->affine, s->sizes, s->ndim, s->shape);
  layer.rms = s->rms;
  return layer;
}

static void assert_all(const char *name, norma_type type, const void *got, double expected, int64_t n) {
  double *values = to_doubles(type, got, n);
  for (int64_t i = 0; i < n; i++) {
    if (!(values[i] == expected)) {
      fail_problem("%s[%lld] is %.17g, not exactly %g", name, (long long)i, values[i], expected);
    }
  }
  free(values);
}

/* y is beta, rounded to the type. */
static void assert_y_is_beta(const trial *t, const outcome *o) {
  int64_t n = norma_layer_elements(&t->layer);
  int64_t *unit = malloc(sizeof *unit * (size_t)(n + 1)), *param = malloc(sizeof *param * (size_t)(n + 1));
  double *beta = calloc((size_t)n + 1, sizeof *beta), *y = to_doubles(t->type, o->y, n);
  element_maps(&t->layer, unit, param);
  for (int64_t i = 0; i < n; i++) {
    beta[i] = t->bias ? t->bias[param[i]] : 0;
  }
  round_array(t->type, beta, n);
  for (int64_t i = 0; i < n; i++) {
    if (y[i] != beta[i]) {
      fail_problem("y[%lld] is %.17g, beta is %.17g", (long long)i, y[i], beta[i]);
    }
  }
  free(y);
  free(beta);
  free(param);
  free(unit);
}

static const small_layer empty_layers[] = {
    {"[n] c [h w]", "c", NULL, 4, {0, 3, 2, 2}, 0}, {"[n] c [h w]", "c", NULL, 4, {3, 4, 0, 2}, 0},
    {"[n] c [h w]", "c", NULL, 4, {3, 0, 2, 2}, 0}, {"n c [l]", "c", NULL, 3, {2, 3, 0}, 0},
    {"n c [l]", "n c", NULL, 3, {0, 3, 4}, 0},      {"n [d]", "d", NULL, 2, {3, 0}, 0},
    {"n [d]", "d", NULL, 2, {0, 5}, 0},             {"n t [d]", "n d", NULL, 3, {2, 0, 5}, 0},
    {"n (g [k]) [l]", "(g k)", "g=2", 3, {0, 4, 3}, 0}, {"n (g [k]) [l]", "(g k)", "g=2", 3, {2, 4, 0}, 0},
    {"n [c] l", "c", NULL, 3, {2, 0, 3}, 0},        {"n [d]", "d", NULL, 2, {0, 5}, 1},
    {"n [d]", "d", NULL, 2, {3, 0}, 1},             {"n [c] (h [k]) w", "h w", "h=2", 4, {2, 3, 4, 0}, 0},
};

static void a_unit_of_0_elements_gives_zero_gradients_and_moments_of_count_0(void **state) {
  (void)state;
  uint64_t seed = 1;
  for (size_t k = 0; k < COUNT(empty_layers); k++) {
    for (int t = 0; t < 4; t++) {
      for (int ddof = 0; ddof < 2; ddof++) {
        norma_layer layer = make(&empty_layers[k]);
        trial tr = trial_new(&layer, all_types[t], &seed, 0, 1);
        tr.ddof = ddof;
        problem_is("'%s' with an empty dimension, %s", empty_layers[k].pattern, norma_type_name(tr.type));
        outcome o = trial_run(&tr, &(manner){.own_workspace = 1});
        norma_type param = norma_param_type(tr.type);
        assert_all("dweight", param, o.dweight, 0, norma_layer_params(&layer));
        assert_all("dbias", param, o.dbias, 0, norma_layer_params(&layer));
        for (int64_t u = 0; u < norma_layer_units(&layer); u++) {
          assert_int_equal(o.moments[u].count, 0);
        }
        outcome_free(&o);
        trial_free(&tr);
      }
    }
  }
}

static void an_empty_batch_leaves_running_statistics_as_they_were(void **state) {
  (void)state;
  norma_layer layer;
  assert_ok(norma_layer_batch(&layer, 3, (int64_t[]){0, 2, 5}, &error), &error);
  norma_moments moments[2];
  memset(moments, 0x5a, sizeof moments);
  norma_forward_args args = {.size = sizeof args, .layer = &layer, .moments = moments};
  assert_ok(norma_forward(&args, &error), &error);
  float mean[] = {1, 2}, var[] = {3, 4};
  norma_running_args update = {.size = sizeof update, .channels = 2, .moments = moments, .running_mean = mean,
                               .running_var = var, .not_finite = NORMA_NOT_FINITE_REFUSE};
  assert_ok(norma_running_update(&update, &error), &error);
  assert_true(mean[0] == 1 && mean[1] == 2 && var[0] == 3 && var[1] == 4);
}

static void adain_of_empty_content_is_empty(void **state) {
  (void)state;
  norma_layer content, style;
  assert_ok(norma_layer_instance(&content, 3, (int64_t[]){2, 3, 0}, &error), &error);
  assert_ok(norma_layer_instance(&style, 3, (int64_t[]){2, 3, 4}, &error), &error);
  uint64_t seed = 2;
  problem_is("AdaIN of 0 positions");
  adain_trial t = adain_new(&content, &style, NORMA_F32, &seed);
  adain_outcome o = adain_run(&t, &(manner){.own_workspace = 1});
  assert_all("dstyle", NORMA_F32, o.dstyle, 0, 24);
  adain_outcome_free(&o);
  adain_free(&t);
}

/* rstd of the content does not matter, and sigma of a style of 1 element only through eps. */
static void adain_of_1_position_is_the_mean_of_the_style(void **state) {
  (void)state;
  norma_layer content, style;
  assert_ok(norma_layer_instance(&content, 3, (int64_t[]){1, 2, 1}, &error), &error);
  assert_ok(norma_layer_instance(&style, 3, (int64_t[]){1, 2, 2}, &error), &error);
  const float x[] = {7, -1e30f}, s[] = {1, 3, -5, -7}, dy[] = {3, 4};
  float y[2], dcontent[2], dstyle[4];
  norma_adain_args args = {.size = sizeof args, .content_layer = &content, .style_layer = &style, .content = x,
                           .style = s, .y = y};
  assert_ok(norma_adain(&args, &error), &error);
  assert_true(y[0] == 2 && y[1] == -6);
  args.y = NULL;
  args.dy = dy;
  args.dcontent = dcontent;
  args.dstyle = dstyle;
  assert_ok(norma_adain_backward(&args, &error), &error);
  assert_true(dcontent[0] == 0 && dcontent[1] == 0);
  assert_true(dstyle[0] == 1.5f && dstyle[1] == 1.5f && dstyle[2] == 2 && dstyle[3] == 2);
}

static const small_layer single_layers[] = {
    {"[n] c", "c", NULL, 2, {1, 5}, 0},      {"[n] c [h w]", "c", NULL, 4, {1, 3, 1, 1}, 0},
    {"n c [l]", "c", NULL, 3, {3, 4, 1}, 0}, {"n (g [k])", "(g k)", "g=4", 2, {3, 4}, 0},
    {"n [d]", "d", NULL, 2, {4, 1}, 0},      {"n [c] l", "c", NULL, 3, {2, 1, 3}, 0},
    {"n c l", "c l", NULL, 3, {2, 3, 4}, 0}, {"n c [l]", "n c", NULL, 3, {2, 3, 1}, 0},
};

/* dy holds small integers, so that dbias is exact in any order. */
static void a_unit_of_1_element_gives_beta_and_no_gradient_but_dbias(void **state) {
  (void)state;
  static const double values[] = {0, 1.5, -3e4, 6e-8};
  uint64_t seed = 3;
  for (size_t k = 0; k < COUNT(single_layers) * COUNT(values) * 4; k++) {
    norma_layer layer = make(&single_layers[k / COUNT(values) / 4]);
    trial tr = trial_new(&layer, all_types[k % 4], &seed, values[k / 4 % COUNT(values)], 1);
    int64_t n = norma_layer_elements(&layer), params = norma_layer_params(&layer), unit[32], param[32];
    double sums[16] = {0};
    element_maps(&layer, unit, param);
    for (int64_t i = 0; i < n; i++) {
      tr.dy[i] = (double)random_below(&seed, 9) - 4;
      sums[param[i]] += tr.dy[i];
    }
    problem_is("'%s', %s, x near %g", single_layers[k / COUNT(values) / 4].pattern, norma_type_name(tr.type),
               values[k / 4 % COUNT(values)]);
    outcome o = trial_run(&tr, &(manner){.in_place = 1});
    assert_y_is_beta(&tr, &o);
    assert_all("dx", tr.type, o.dx, 0, n);
    assert_all("dweight", norma_param_type(tr.type), o.dweight, 0, params);
    double *dbias = to_doubles(norma_param_type(tr.type), o.dbias, params);
    assert_memory_equal(dbias, sums, sizeof(double) * (size_t)params);
    free(dbias);
    outcome_free(&o);
    trial_free(&tr);
  }
}

static void a_unit_of_1_element_follows_the_formula_in_rms_norm(void **state) {
  (void)state;
  uint64_t seed = 4;
  for (size_t k = 0; k < COUNT(single_layers); k++) {
    norma_layer layer = make(&single_layers[k]);
    layer.rms = 1;
    trial tr = trial_new(&layer, NORMA_F32, &seed, 1, 1);
    problem_is("RMS '%s'", single_layers[k].pattern);
    outcome o = trial_run(&tr, &(manner){.use_saved = 1});
    judge_forward(&tr, &o);
    judge_backward(&tr, &o);
    outcome_free(&o);
    trial_free(&tr);
  }
}

/* Both directions, on memory that must not change. */
static void assert_single_refused(const norma_layer *layer, const float *x, unsigned flags) {
  float out[64];
  unsigned char before[sizeof out];
  memset(out, 0x5a, sizeof out);
  memcpy(before, out, sizeof out);
  norma_forward_args forward = {.size = sizeof forward, .layer = layer, .x = x, .y = out, .mean = out + 32,
                                .flags = flags};
  norma_backward_args backward = {.size = sizeof backward, .layer = layer, .x = x, .dy = x, .dx = out,
                                  .dweight = out + 32, .flags = flags};
  norma_status status = norma_forward(&forward, &error);
  if (status != NORMA_SINGLE_VALUE || !strstr(error.detail, "1 value")) {
    fail_problem("forward: %s: %s", norma_status_text(status), error.detail);
  }
  status = norma_backward(&backward, &error);
  if (status != NORMA_SINGLE_VALUE || !strstr(error.detail, "1 value")) {
    fail_problem("backward: %s: %s", norma_status_text(status), error.detail);
  }
  assert_memory_equal(out, before, sizeof before);
}

static void refuse_single_refuses_exactly_the_units_of_1_element(void **state) {
  (void)state;
  float x[32] = {0}, y[32], mean[32] = {0}, var[32] = {0};
  for (size_t k = 0; k < COUNT(single_layers); k++) {
    norma_layer layer = make(&single_layers[k]);
    problem_is("'%s'", single_layers[k].pattern);
    assert_single_refused(&layer, x, NORMA_REFUSE_SINGLE);
    norma_forward_args args = {.size = sizeof args, .layer = &layer, .x = x, .y = y, .flags = NORMA_REFUSE_SINGLE,
                               .given_mean = mean, .given_var = var};
    assert_ok(norma_forward(&args, &error), &error);
  }
  norma_layer two = parsed("n c [l]", "c", NULL, 3, (int64_t[]){2, 3, 2});
  norma_forward_args args = {.size = sizeof args, .layer = &two, .x = x, .y = y, .flags = NORMA_REFUSE_SINGLE};
  assert_ok(norma_forward(&args, &error), &error);
}

static void constants_of(norma_type type, double constants[8]) {
  double smallest = type == NORMA_F64 ? 0x1p-1074 : type == NORMA_F32 ? 0x1p-149 : 0x1p-133;
  smallest = type == NORMA_F16 ? 0x1p-24 : smallest;
  double large = type == NORMA_F16 ? -3.3e4 : -3.3e9, larger = type == NORMA_F16 ? 6e4 : 1e30;
  double list[8] = {0, 5, large, larger, smallest, largest_number(type), -largest_number(type), 0.1};
  memcpy(constants, list, sizeof list);
  round_array(type, constants, 8);
}

/* Every unit constant; two neighbouring units have opposite signs. */
static trial constant_trial(const norma_layer *layer, norma_type type, double constant, uint64_t *seed) {
  trial t = trial_new(layer, type, seed, 0, 1);
  int64_t n = norma_layer_elements(layer);
  int64_t *unit = malloc(sizeof *unit * (size_t)n), *param = malloc(sizeof *param * (size_t)n);
  element_maps(layer, unit, param);
  for (int64_t i = 0; i < n; i++) {
    t.x[i] = unit[i] % 2 ? -constant : constant;
  }
  free(param);
  free(unit);
  return t;
}

/* Runs f for every sample layer that is not RMS, every type and every constant. */
static void for_every_constant(void (*f)(trial *t)) {
  const char *name;
  norma_layer layer;
  uint64_t seed = 5;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    for (int k = 0; k < 4 * 8 && !layer.rms; k++) {
      double constants[8];
      constants_of(all_types[k / 8], constants);
      trial t = constant_trial(&layer, all_types[k / 8], constants[k % 8], &seed);
      problem_is("%s, %s, all %g", name, norma_type_name(t.type), constants[k % 8]);
      f(&t);
      trial_free(&t);
    }
  }
}

static void check_constant(trial *t) {
  outcome o = trial_run(t, &(manner){.use_saved = 1});
  assert_y_is_beta(t, &o);
  if (o.dweight) {
    assert_all("dweight", norma_param_type(t->type), o.dweight, 0, norma_layer_params(&t->layer));
  }
  judge_backward(t, &o);
  outcome_free(&o);
}

static void a_constant_unit_gives_exactly_beta_and_adds_exactly_0_to_dgamma(void **state) {
  (void)state;
  for_every_constant(check_constant);
}

static void check_constant_q(trial *t) {
  double dy = t->dy[0];
  for (int64_t i = 0; i < norma_layer_elements(&t->layer); i++) {
    t->dy[i] = dy;
  }
  for (int64_t p = 0; t->weight && p < norma_layer_params(&t->layer); p++) {
    t->weight[p] = 0.3f;
  }
  outcome o = trial_run(t, &(manner){.in_place = 1});
  assert_all("dx", t->type, o.dx, 0, norma_layer_elements(&t->layer));
  outcome_free(&o);
}

static void a_constant_unit_with_constant_q_has_dx_exactly_0(void **state) {
  (void)state;
  for_every_constant(check_constant_q);
}

static void check_constant_eps_zero(trial *t) {
  t->flags = NORMA_EPS_ZERO;
  outcome o = trial_run(t, &(manner){.x = LAYOUT_CHANNELS_LAST});
  assert_y_is_beta(t, &o);
  assert_all("dx", t->type, o.dx, 0, norma_layer_elements(&t->layer));
  assert_all("rstd", norma_param_type(t->type), o.rstd, 0, norma_layer_units(&t->layer));
  outcome_free(&o);
}

static void variance_0_and_eps_0_give_beta_and_dx_0(void **state) {
  (void)state;
  for_every_constant(check_constant_eps_zero);
  const char *name;
  norma_layer layer;
  uint64_t seed = 6;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    trial t = constant_trial(&layer, all_types[i % 4], 0, &seed);
    problem_is("%s of zeros, %s", name, norma_type_name(t.type));
    check_constant_eps_zero(&t);
    trial_free(&t);
  }
}

static void given_variance_0_and_eps_0_give_beta_and_dx_0(void **state) {
  (void)state;
  const char *name;
  norma_layer layer;
  uint64_t seed = 7;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    trial t = trial_new(&layer, all_types[i % 4], &seed, 3, 1);
    t.flags = NORMA_EPS_ZERO;
    t.given_var = calloc((size_t)norma_layer_units(&layer), sizeof(double));
    t.given_mean = layer.rms ? NULL : random_array(&seed, NORMA_F32, norma_layer_units(&layer), 0, 1);
    problem_is("%s, given variance 0, %s", name, norma_type_name(t.type));
    outcome o = trial_run(&t, &(manner){.x = LAYOUT_MIXED});
    assert_y_is_beta(&t, &o);
    assert_all("dx", t.type, o.dx, 0, norma_layer_elements(&layer));
    outcome_free(&o);
    trial_free(&t);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_unit_of_0_elements_gives_zero_gradients_and_moments_of_count_0),
      cmocka_unit_test(an_empty_batch_leaves_running_statistics_as_they_were),
      cmocka_unit_test(adain_of_empty_content_is_empty),
      cmocka_unit_test(adain_of_1_position_is_the_mean_of_the_style),
      cmocka_unit_test(a_unit_of_1_element_gives_beta_and_no_gradient_but_dbias),
      cmocka_unit_test(a_unit_of_1_element_follows_the_formula_in_rms_norm),
      cmocka_unit_test(refuse_single_refuses_exactly_the_units_of_1_element),
      cmocka_unit_test(a_constant_unit_gives_exactly_beta_and_adds_exactly_0_to_dgamma),
      cmocka_unit_test(a_constant_unit_with_constant_q_has_dx_exactly_0),
      cmocka_unit_test(variance_0_and_eps_0_give_beta_and_dx_0),
      cmocka_unit_test(given_variance_0_and_eps_0_give_beta_and_dx_0),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
