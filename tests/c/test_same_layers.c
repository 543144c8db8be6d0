/* Layers that are the same layer: under two names, with gamma written in two ways, in a wider type. Bit for bit, except
 * where statistics are given. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"
#include "trial.h"

static const manner plain = {.in_place = 0};

/* Both layers, on the same numbers, in two layouts: all results have the same bits. */
static void assert_same_layer(const char *name, const norma_layer *a, const norma_layer *b, uint64_t *seed) {
  for (size_t k = 0; k < COUNT(all_types); k++) {
    trial one = trial_new(a, all_types[k], seed, 3, 1), other = one;
    other.layer = *b;
    problem_is("%s %s", name, norma_type_name(one.type));
    outcome expected = trial_run(&one, &plain), got = trial_run(&other, &plain);
    assert_same_outcome(&one, &got, &expected);
    outcome_free(&got);
    got = trial_run(&other, &(manner){.x = LAYOUT_CHANNELS_LAST, .dy = LAYOUT_CHANNELS_LAST, .use_saved = 1});
    assert_same_outcome(&one, &got, &expected);
    outcome_free(&got);
    outcome_free(&expected);
    trial_free(&one);
  }
}

static const struct {
  int ndim;
  int64_t shape[5];
} shapes[] = {{3, {3, 6, 35}},    {4, {2, 6, 5, 7}},    {4, {3, 12, 8, 8}},
              {4, {1, 4, 1, 19}}, {5, {2, 4, 3, 2, 5}}, {3, {2, 2, 4099}}};

static void group_norm_with_one_group_is_layer_norm_over_a_sample(void **state) {
  (void)state;
  static const char *const patterns[] = {"n [c l]", "n [c h w]", "n [c d h w]"};
  uint64_t seed = 24;
  for (size_t i = 0; i < COUNT(shapes); i++) {
    norma_layer group, layer = parse_layer(patterns[shapes[i].ndim - 3], "c", NULL, shapes[i].ndim, shapes[i].shape);
    norma_error error;
    assert_ok(norma_layer_group(&group, 1, shapes[i].ndim, shapes[i].shape, &error), &error);
    assert_same_layer("group norm with 1 group, layer norm", &group, &layer, &seed);
  }
}

/* The layer norm that has a gamma per element, where each channel's gamma is repeated. */
static void group_norm_with_one_group_is_layer_norm_with_gamma_repeated(void **state) {
  (void)state;
  uint64_t seed = 25;
  for (size_t i = 0; i < COUNT(shapes); i++) {
    norma_layer group, layer;
    norma_error error;
    assert_ok(norma_layer_group(&group, 1, shapes[i].ndim, shapes[i].shape, &error), &error);
    assert_ok(norma_layer_norm(&layer, shapes[i].ndim - 1, shapes[i].ndim, shapes[i].shape, &error), &error);
    trial one = trial_new(&group, NORMA_F32, &seed, 3, 1), other = one;
    other.layer = layer;
    int64_t params = norma_layer_params(&layer), each = params / shapes[i].shape[1];
    other.weight = malloc(sizeof(double) * (size_t)params);
    other.bias = malloc(sizeof(double) * (size_t)params);
    for (int64_t p = 0; p < params; p++) {
      other.weight[p] = one.weight[p / each];
      other.bias[p] = one.bias[p / each];
    }
    problem_is("group norm with 1 group, layer norm with %lld gammas", (long long)params);
    outcome expected = trial_run(&one, &plain), got = trial_run(&other, &plain);
    assert_same_bits("y", one.type, got.y, expected.y, norma_layer_elements(&group));
    assert_same_bits("dx", one.type, got.dx, expected.dx, norma_layer_elements(&group));
    outcome_free(&got);
    outcome_free(&expected);
    free(other.weight);
    free(other.bias);
    trial_free(&one);
  }
}

static void group_norm_with_a_group_per_channel_is_instance_norm(void **state) {
  (void)state;
  static const char *const patterns[] = {"n c [l]", "n c [h w]", "n c [d h w]"};
  uint64_t seed = 26;
  for (size_t i = 0; i < COUNT(shapes); i++) {
    norma_layer group, instance,
        pattern = parse_layer(patterns[shapes[i].ndim - 3], "c", NULL, shapes[i].ndim, shapes[i].shape);
    norma_error error;
    assert_ok(norma_layer_group(&group, shapes[i].shape[1], shapes[i].ndim, shapes[i].shape, &error), &error);
    assert_ok(norma_layer_instance(&instance, shapes[i].ndim, shapes[i].shape, &error), &error);
    assert_same_layer("group norm with a group per channel, instance norm", &group, &instance, &seed);
    assert_same_layer("group norm with a group per channel, 'n c [...]'", &group, &pattern, &seed);
  }
}

static void batch_norm_of_one_sample_is_instance_norm(void **state) {
  (void)state;
  uint64_t seed = 27;
  for (size_t i = 0; i < COUNT(shapes); i++) {
    norma_layer batch, instance;
    norma_error error;
    int64_t shape[5];
    memcpy(shape, shapes[i].shape, sizeof shape);
    shape[0] = 1;
    assert_ok(norma_layer_batch(&batch, shapes[i].ndim, shape, &error), &error);
    assert_ok(norma_layer_instance(&instance, shapes[i].ndim, shape, &error), &error);
    assert_same_layer("batch norm of one sample, instance norm", &batch, &instance, &seed);
  }
}

static void an_rms_layer_is_the_layer_with_rms_set(void **state) {
  (void)state;
  uint64_t seed = 28;
  for (size_t i = 0; i < COUNT(shapes); i++) {
    norma_layer rms, layer;
    norma_error error;
    assert_ok(norma_layer_rms(&rms, 2, shapes[i].ndim, shapes[i].shape, &error), &error);
    assert_ok(norma_layer_norm(&layer, 2, shapes[i].ndim, shapes[i].shape, &error), &error);
    layer.rms = 1;
    assert_same_layer("rms over 2, layer over 2 with rms set", &rms, &layer, &seed);
    assert_ok(norma_layer_rms_dims(&rms, 1u << 1, shapes[i].ndim, shapes[i].shape, &error), &error);
    assert_ok(norma_layer_norm_dims(&layer, 1u << 1, shapes[i].ndim, shapes[i].shape, &error), &error);
    layer.rms = 1;
    assert_same_layer("rms channels first, layer channels first with rms set", &rms, &layer, &seed);
  }
}

/* y of the layer with the mean given as 0 and the variance as x's mean square. */
static void rms_norm_is_layer_norm_with_the_mean_0_given(void **state) {
  (void)state;
  uint64_t seed = 29;
  norma_layer rms = parse_layer("n t [d]", "d", NULL, 3, (int64_t[]){3, 5, 37});
  rms.rms = 1;
  trial one = trial_new(&rms, NORMA_F64, &seed, 3, 1), other = one;
  int64_t units = norma_layer_units(&rms), elements = norma_layer_elements(&rms);
  one.eps = other.eps = 1e-3;
  outcome expected = trial_run(&one, &plain);
  other.layer.rms = 0;
  other.given_mean = calloc((size_t)units, sizeof(double));
  other.given_var = to_doubles(NORMA_F64, expected.var, units);
  outcome got = trial_run(&other, &plain);
  for (int64_t i = 0; i < elements; i++) {
    double a = ((double *)got.y)[i], b = ((double *)expected.y)[i];
    if (fabs(a - b) > 1e-14 * 16) {
      fail_problem("y[%lld] is %.17g, of RMS norm %.17g", (long long)i, a, b);
    }
  }
  outcome_free(&got);
  outcome_free(&expected);
  free(other.given_mean);
  free(other.given_var);
  trial_free(&one);
}

/* float16 and bfloat16 are the float32 result of the same numbers rounded once; parameters and statistics are equal. */
static void narrow_types_are_the_float32_result_rounded_once(void **state) {
  (void)state;
  uint64_t seed = 31;
  const char *name;
  norma_layer layer;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    for (size_t k = 2; k < COUNT(all_types); k++) {
      trial t = trial_new(&layer, all_types[k], &seed, 2, 1), wide = t;
      wide.type = NORMA_F32;
      problem_is("%s %s", name, norma_type_name(t.type));
      outcome got = trial_run(&t, &plain), expected = trial_run(&wide, &plain);
      int64_t elements = norma_layer_elements(&layer);
      void *const pairs[2][2] = {{&got.y, &expected.y}, {&got.dx, &expected.dx}};
      for (int p = 0; p < 2; p++) {
        double *values = to_doubles(NORMA_F32, *(void **)pairs[p][1], elements);
        free(*(void **)pairs[p][1]);
        *(void **)pairs[p][1] = from_doubles(t.type, values, elements);
        free(values);
      }
      assert_same_outcome(&t, &got, &expected);
      outcome_free(&got);
      outcome_free(&expected);
      trial_free(&t);
    }
  }
}

/* Gamma and beta per sample, all rows equal, are gamma and beta per channel. */
static void conditional_affine_with_equal_rows_is_the_plain_layer(void **state) {
  (void)state;
  static const char *const bases[][2] = {
      {"n c [h w]", "c"}, {"[n] c [h w]", "c"}, {"n c h [w]", "h"}, {"n (g [k]) [h w]", "(g k)"}};
  static const char *const rows[] = {"n c", "n c", "n h", "n (g k)"};
  uint64_t seed = 32;
  for (size_t i = 0; i < COUNT(bases); i++) {
    norma_layer base = parse_layer(bases[i][0], bases[i][1], i == 3 ? "g=2" : NULL, 4, (int64_t[]){3, 6, 4, 5}),
                per_sample = base;
    norma_error error;
    assert_ok(norma_layer_affine(&per_sample, rows[i], &error), &error);
    int64_t params = norma_layer_params(&base), elements = norma_layer_elements(&base);
    assert_int_equal(norma_layer_params(&per_sample), params * 3);
    for (size_t k = 0; k < COUNT(all_types); k++) {
      trial one = trial_new(&base, all_types[k], &seed, 1, 1), other = one;
      other.layer = per_sample;
      other.weight = malloc(sizeof(double) * 3 * (size_t)params);
      other.bias = malloc(sizeof(double) * 3 * (size_t)params);
      for (int64_t p = 0; p < 3 * params; p++) {
        other.weight[p] = one.weight[p % params];
        other.bias[p] = one.bias[p % params];
      }
      problem_is("'%s' affine '%s' and '%s' %s", bases[i][0], bases[i][1], rows[i], norma_type_name(one.type));
      outcome expected = trial_run(&one, &plain), got = trial_run(&other, &plain);
      assert_same_bits("y", one.type, got.y, expected.y, elements);
      assert_same_bits("dx", one.type, got.dx, expected.dx, elements);
      assert_same_bits("saved", NORMA_F64, got.saved, expected.saved, norma_layer_units(&base) * 4);
      outcome_free(&got);
      outcome_free(&expected);
      free(other.weight);
      free(other.bias);
      trial_free(&one);
    }
  }
}

/* 1 + weight is exact when weight has few bits. */
static void weight_plus_one_is_the_weight_with_one_added(void **state) {
  (void)state;
  uint64_t seed = 33;
  const char *name;
  norma_layer layer;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    for (size_t k = 0; k < COUNT(all_types); k++) {
      trial t = trial_new(&layer, all_types[k], &seed, 1, 1);
      for (int64_t p = 0; p < trial_params(&t); p++) {
        t.weight[p] = 1 + (double)(random_below(&seed, 64) - 32) / 64;
      }
      outcome expected = trial_run(&t, &plain);
      for (int64_t p = 0; p < trial_params(&t); p++) {
        t.weight[p] -= 1;
      }
      t.flags = trial_params(&t) > 0 ? NORMA_WEIGHT_PLUS_ONE : 0;
      problem_is("%s %s, gamma = 1 + weight", name, norma_type_name(t.type));
      outcome got = trial_run(&t, &plain);
      assert_same_outcome(&t, &got, &expected);
      outcome_free(&got);
      outcome_free(&expected);
      trial_free(&t);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(group_norm_with_one_group_is_layer_norm_over_a_sample),
      cmocka_unit_test(group_norm_with_one_group_is_layer_norm_with_gamma_repeated),
      cmocka_unit_test(group_norm_with_a_group_per_channel_is_instance_norm),
      cmocka_unit_test(batch_norm_of_one_sample_is_instance_norm),
      cmocka_unit_test(an_rms_layer_is_the_layer_with_rms_set),
      cmocka_unit_test(rms_norm_is_layer_norm_with_the_mean_0_given),
      cmocka_unit_test(narrow_types_are_the_float32_result_rounded_once),
      cmocka_unit_test(conditional_affine_with_equal_rows_is_the_plain_layer),
      cmocka_unit_test(weight_plus_one_is_the_weight_with_one_added),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
