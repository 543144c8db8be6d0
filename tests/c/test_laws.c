/* Laws that hold whatever the numbers are: what the output looks like, which layers are the same layer, what changes
 * nothing, and which sums of the gradients vanish. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"
#include "trial.h"

static const manner plain = {.in_place = 0};

/* The relative error of y that norm.h allows, doubled for types whose result is rounded once more. */
static double y_error(norma_type type) {
  static const double errors[] = {[NORMA_F32] = 5e-7, [NORMA_F64] = 2e-14, [NORMA_F16] = 0x1.01p-11, [NORMA_BF16] = 0x1.01p-8};
  return errors[type];
}

static norma_layer parse(const char *pattern, const char *affine, const char *sizes, int ndim, const int64_t *shape) {
  norma_layer layer;
  norma_error error;
  problem_is("'%s' affine '%s'", pattern, affine);
  assert_ok(norma_layer_parse(&layer, pattern, affine, sizes, ndim, shape, &error), &error);
  return layer;
}

/* weight and bias left out. */
static trial without_affine(const norma_layer *layer, norma_type type, uint64_t *seed, double mean, double deviation) {
  trial t = trial_new(layer, type, seed, mean, deviation);
  free(t.weight);
  free(t.bias);
  t.weight = t.bias = NULL;
  return t;
}

/* sums[u] = the sum over unit u of values[i], times factors[i] unless that is NULL. */
static double *unit_sums(const norma_layer *layer, const double *values, const double *factors) {
  int64_t elements = norma_layer_elements(layer), units = norma_layer_units(layer);
  int64_t *maps = malloc(sizeof(int64_t) * 2 * (size_t)elements);
  long double *sums = calloc((size_t)units, sizeof *sums);
  element_maps(layer, maps, maps + elements);
  for (int64_t i = 0; i < elements; i++) {
    sums[maps[i]] += (long double)values[i] * (factors != NULL ? (long double)factors[i] : 1);
  }
  double *rounded = malloc(sizeof(double) * (size_t)units);
  for (int64_t u = 0; u < units; u++) {
    rounded[u] = (double)sums[u];
  }
  free(maps);
  free(sums);
  return rounded;
}

static double largest(const double *values, int64_t n) {
  double most = 0;
  for (int64_t i = 0; i < n; i++) {
    most = fmax(most, fabs(values[i]));
  }
  return most;
}

/* The error of each y is at most y_error * |xhat|, and the mean of |xhat| is at most 1: so is the error of the mean
 * at most y_error, and that of the mean square 2 * y_error. */
static void y_has_mean_0_and_variance_1(void **state) {
  (void)state;
  uint64_t seed = 21;
  const char *name;
  norma_layer layer;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    for (size_t k = 0; k < COUNT(all_types); k++) {
      trial t = without_affine(&layer, all_types[k], &seed, 5, 2);
      t.flags = NORMA_EPS_ZERO;
      outcome o = trial_run(&t, &plain);
      double *y = to_doubles(t.type, o.y, norma_layer_elements(&layer));
      double *sums = unit_sums(&layer, y, NULL), *squares = unit_sums(&layer, y, y);
      double m = (double)norma_layer_unit_elements(&layer), error = y_error(t.type);
      for (int64_t u = 0; u < norma_layer_units(&layer); u++) {
        if (!layer.rms && fabs(sums[u] / m) > error) {
          fail_problem("%s: the mean of y is %g, more than %g", norma_type_name(t.type), sums[u] / m, error);
        }
        if (fabs(squares[u] / m - 1) > 2.1 * error) {
          fail_problem("%s: the mean square of y is 1 + %g", norma_type_name(t.type), squares[u] / m - 1);
        }
      }
      free(y);
      free(sums);
      free(squares);
      outcome_free(&o);
      trial_free(&t);
    }
  }
}

static void scale_array(double *values, int64_t n, double factor) {
  for (int64_t i = 0; i < n; i++) {
    values[i] *= factor;
  }
}

/* With eps 0, x and 2^k x have the same xhat: not a bit of y and dweight changes, and dx is divided by 2^k. */
static void a_power_of_two_times_x_changes_no_bit(void **state) {
  (void)state;
  uint64_t seed = 22;
  const char *name;
  norma_layer layer;
  static const struct {
    norma_type type;
    double factor;
  } scales[] = {{NORMA_F32, 0x1p-10}, {NORMA_F32, 0x1p20},   {NORMA_F32, 0x1p-60}, {NORMA_F32, 0x1p100}, {NORMA_F64, 0x1p-30},
                {NORMA_F64, 0x1p200}, {NORMA_F64, 0x1p-300}, {NORMA_F16, 4},       {NORMA_F16, 64},      {NORMA_BF16, 0x1p-40}};
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    for (size_t k = 0; k < COUNT(scales); k++) {
      trial t = trial_new(&layer, scales[k].type, &seed, 3, 1);
      int64_t elements = norma_layer_elements(&layer), params = trial_params(&t);
      t.flags = NORMA_EPS_ZERO;
      outcome before = trial_run(&t, &plain);
      scale_array(t.x, elements, scales[k].factor);
      outcome after = trial_run(&t, &plain);
      problem_is("%s %s times %a", name, norma_type_name(t.type), scales[k].factor);
      assert_same_bits("y", t.type, after.y, before.y, elements);
      assert_same_bits("dweight", norma_param_type(t.type), after.dweight, before.dweight, params);
      if (t.type != NORMA_F16) {  /* whose dx leaves the range of normal numbers */
        double *dx = to_doubles(t.type, before.dx, elements);
        scale_array(dx, elements, 1 / scales[k].factor);
        void *expected = from_doubles(t.type, dx, elements);
        assert_same_bits("dx", t.type, after.dx, expected, elements);
        free(expected);
        free(dx);
      }
      outcome_free(&before);
      outcome_free(&after);
      trial_free(&t);
    }
  }
}

/* x + c where that is exact: the same xhat; y may differ by the error that either has. */
static void an_exact_shift_of_x_changes_y_by_no_more_than_its_error(void **state) {
  (void)state;
  uint64_t seed = 23;
  const char *name;
  norma_layer layer;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    for (size_t k = 0; k < 2 && !layer.rms; k++) {
      trial t = trial_new(&layer, all_types[k], &seed, 0, 1);
      int64_t elements = norma_layer_elements(&layer);
      double shift = t.type == NORMA_F32 ? 0x1p20 : 0x1p48;
      for (int64_t j = 0; j < elements; j++) {
        t.x[j] = (double)(random_below(&seed, 64) - 32) * 0.125;
      }
      outcome before = trial_run(&t, &plain);
      for (int64_t j = 0; j < elements; j++) {
        t.x[j] += shift;
      }
      outcome after = trial_run(&t, &plain);
      double *y = to_doubles(t.type, before.y, elements), *shifted = to_doubles(t.type, after.y, elements);
      double most = largest(y, elements) + 4; /* |gamma xhat| + |beta| is at most |y| + 2 |beta| */
      double offset = t.type == NORMA_F32 ? 1e-14 * shift * 4 : 0;
      for (int64_t j = 0; j < elements; j++) {
        if (fabs(y[j] - shifted[j]) > 2 * (y_error(t.type) * most + offset)) {
          fail_problem("%s: y[%lld] is %.17g, and %.17g when %g is added to x", norma_type_name(t.type), (long long)j,
                       y[j], shifted[j], shift);
        }
      }
      free(y);
      free(shifted);
      outcome_free(&before);
      outcome_free(&after);
      trial_free(&t);
    }
  }
}

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
} shapes[] = {{3, {3, 6, 35}}, {4, {2, 6, 5, 7}}, {4, {3, 12, 8, 8}}, {4, {1, 4, 1, 19}}, {5, {2, 4, 3, 2, 5}}, {3, {2, 2, 4099}}};

static void group_norm_with_one_group_is_layer_norm_over_a_sample(void **state) {
  (void)state;
  static const char *const patterns[] = {"n [c l]", "n [c h w]", "n [c d h w]"};
  uint64_t seed = 24;
  for (size_t i = 0; i < COUNT(shapes); i++) {
    norma_layer group, layer = parse(patterns[shapes[i].ndim - 3], "c", NULL, shapes[i].ndim, shapes[i].shape);
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
    norma_layer group, instance, pattern = parse(patterns[shapes[i].ndim - 3], "c", NULL, shapes[i].ndim, shapes[i].shape);
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
  norma_layer rms = parse("n t [d]", "d", NULL, 3, (int64_t[]){3, 5, 37});
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

/* dx sums to 0 over a unit, and with eps 0 so does dx * xhat: the layer undoes a shift and a scaling of x. */
static void dx_sums_to_zero_alone_and_times_xhat(void **state) {
  (void)state;
  uint64_t seed = 30;
  const char *name;
  norma_layer layer;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    for (size_t k = 0; k < 2; k++) {
      trial t = trial_new(&layer, all_types[k], &seed, 5, 2), bare = t;
      t.flags = bare.flags = NORMA_EPS_ZERO;
      bare.weight = bare.bias = NULL;
      outcome o = trial_run(&t, &plain), normalized = trial_run(&bare, &plain);
      int64_t elements = norma_layer_elements(&layer);
      double *dx = to_doubles(t.type, o.dx, elements), *xhat = to_doubles(t.type, normalized.y, elements);
      double *sums = unit_sums(&layer, dx, NULL), *products = unit_sums(&layer, dx, xhat);
      /* Per element 1e-5 of the largest gradient and 1e-7 of the largest term, rstd * q with rstd < 1 and q < 20. */
      double each = t.type == NORMA_F32 ? 1e-5 * largest(dx, elements) + 1e-7 * 20 : 1e-12 * (largest(dx, elements) + 20);
      double m = (double)norma_layer_unit_elements(&layer);
      for (int64_t u = 0; u < norma_layer_units(&layer); u++) {
        if (!layer.rms && fabs(sums[u]) > m * each) {
          fail_problem("%s: dx sums to %g, allowed is %g", norma_type_name(t.type), sums[u], m * each);
        }
        if (fabs(products[u]) > m * each + m * largest(dx, elements) * 3 * y_error(t.type)) {
          fail_problem("%s: dx * xhat sums to %g", norma_type_name(t.type), products[u]);
        }
      }
      free(dx);
      free(xhat);
      free(sums);
      free(products);
      outcome_free(&o);
      outcome_free(&normalized);
      trial_free(&t);
    }
  }
}

/* float16 and bfloat16 are the float32 result of the same numbers, rounded once; parameters and statistics are equal. */
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
  static const char *const bases[][2] = {{"n c [h w]", "c"}, {"[n] c [h w]", "c"}, {"n c h [w]", "h"}, {"n (g [k]) [h w]", "(g k)"}};
  static const char *const rows[] = {"n c", "n c", "n h", "n (g k)"};
  uint64_t seed = 32;
  for (size_t i = 0; i < COUNT(bases); i++) {
    norma_layer base = parse(bases[i][0], bases[i][1], i == 3 ? "g=2" : NULL, 4, (int64_t[]){3, 6, 4, 5}), per_sample = base;
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

/* The layer's own mean and variance, given: y is what it was (float64: but for rounding the variance), and
 * dx = rstd * dy * gamma. */
static void given_statistics_equal_to_the_computed_ones_give_the_same_y(void **state) {
  (void)state;
  uint64_t seed = 34;
  const char *name;
  norma_layer layer;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    for (size_t k = 0; k < 2; k++) {
      trial t = trial_new(&layer, all_types[k], &seed, 1, 1);
      t.eps = 1e-3;
      int64_t elements = norma_layer_elements(&layer), units = norma_layer_units(&layer);
      outcome computed = trial_run(&t, &plain);
      t.given_var = to_doubles(t.type, computed.var, units);
      t.given_mean = layer.rms ? NULL : to_doubles(t.type, computed.mean, units);
      outcome given = trial_run(&t, &plain);
      double *y = to_doubles(t.type, computed.y, elements), *again = to_doubles(t.type, given.y, elements);
      double *rstd = to_doubles(t.type, computed.rstd, units), *dx = to_doubles(t.type, given.dx, elements);
      int64_t *maps = malloc(sizeof(int64_t) * 2 * (size_t)elements);
      element_maps(&layer, maps, maps + elements);
      double unit_roundoff = t.type == NORMA_F32 ? 0x1p-24 : 0x1p-53;
      for (int64_t j = 0; j < elements; j++) {
        double gamma = t.weight != NULL ? t.weight[maps[elements + j]] : 1, q = t.dy[j] * gamma;
        /* The mean and the variance were rounded: half a unit each of numbers below 4, times gamma * rstd. */
        if (fabs(y[j] - again[j]) > 32 * unit_roundoff * (1 + fabs(gamma)) + 2 * y_error(t.type) * (fabs(y[j]) + 4)) {
          fail_problem("%s: y[%lld] is %.17g, with given statistics %.17g", norma_type_name(t.type), (long long)j, y[j],
                       again[j]);
        }
        if (fabs(dx[j] - rstd[maps[j]] * q) > 8 * unit_roundoff * fabs(rstd[maps[j]] * q)) {
          fail_problem("%s: dx[%lld] is %.17g with given statistics, rstd * q is %.17g", norma_type_name(t.type),
                       (long long)j, dx[j], rstd[maps[j]] * q);
        }
      }
      free(maps);
      free(y);
      free(again);
      free(rstd);
      free(dx);
      outcome_free(&given);
      outcome_free(&computed);
      trial_free(&t);
    }
  }
}

/* y = NULL gives the statistics that the whole call gives; the moments say the same as mean and var. */
static void statistics_alone_are_those_of_the_whole_call(void **state) {
  (void)state;
  uint64_t seed = 35;
  const char *name;
  norma_layer layer;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    for (size_t k = 0; k < COUNT(all_types); k++) {
      trial t = trial_new(&layer, all_types[k], &seed, 7, 1);
      t.ddof = (int)(i + (int)k) % 2;
      outcome whole = trial_run(&t, &plain);
      int64_t units = norma_layer_units(&layer);
      norma_type ptype = norma_param_type(t.type);
      size_t size = norma_type_size(ptype);
      void *x = from_doubles(t.type, t.x, norma_layer_elements(&layer));
      void *mean = malloc(size * (size_t)units), *var = malloc(size * (size_t)units), *rstd = malloc(size * (size_t)units);
      norma_moments *moments = malloc(sizeof *moments * (size_t)units);
      norma_error error;
      problem_is("%s %s ddof %d, statistics alone", name, norma_type_name(t.type), t.ddof);
      assert_ok(norma_forward(&(norma_forward_args){.size = sizeof(norma_forward_args), .layer = &layer, .type = t.type,
                                                    .x = x, .ddof = t.ddof, .mean = mean, .var = var, .rstd = rstd,
                                                    .moments = moments},
                              &error),
                &error);
      assert_same_bits("mean", ptype, mean, whole.mean, units);
      assert_same_bits("var", ptype, var, whole.var, units);
      assert_same_bits("rstd", ptype, rstd, whole.rstd, units);
      for (int64_t u = 0; u < units; u++) {
        assert_int_equal(moments[u].count, norma_layer_unit_elements(&layer));
        assert_same_bits("moments", NORMA_F64, &moments[u].mean, &whole.moments[u].mean, 4);
        double finished[2];
        assert_ok(norma_moments_finish(&moments[u], t.ddof, &finished[0], &finished[1], &error), &error);
        void *narrow = from_doubles(ptype, finished, 2);
        assert_same_bits("mean of the moments", ptype, narrow, (char *)mean + size * (size_t)u, 1);
        assert_same_bits("variance of the moments", ptype, (char *)narrow + size, (char *)var + size * (size_t)u, 1);
        free(narrow);
      }
      free(x);
      free(mean);
      free(var);
      free(rstd);
      free(moments);
      outcome_free(&whole);
      trial_free(&t);
    }
  }
}

/* Only the unit that holds a changed element changes, and a NaN poisons that unit's y and dx and no other's. */
static void a_unit_depends_on_its_own_elements_alone(void **state) {
  (void)state;
  uint64_t seed = 36;
  const char *name;
  norma_layer layer;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    for (size_t k = 0; k < COUNT(all_types); k++) {
      trial t = trial_new(&layer, all_types[k], &seed, 1, 1);
      int64_t elements = norma_layer_elements(&layer), at = random_below(&seed, elements);
      int64_t *maps = malloc(sizeof(int64_t) * 2 * (size_t)elements);
      element_maps(&layer, maps, maps + elements);
      outcome before = trial_run(&t, &plain);
      t.x[at] = NAN;
      outcome after = trial_run(&t, &plain);
      double *y = to_doubles(t.type, after.y, elements), *dx = to_doubles(t.type, after.dx, elements);
      size_t size = norma_type_size(t.type);
      problem_is("%s %s with x[%lld] = NaN", name, norma_type_name(t.type), (long long)at);
      for (int64_t j = 0; j < elements; j++) {
        if (maps[j] == maps[at]) {
          assert_true(isnan(y[j]) && isnan(dx[j]));
        } else {
          assert_same_bits("y of another unit", t.type, (char *)after.y + size * (size_t)j, (char *)before.y + size * (size_t)j, 1);
          assert_same_bits("dx of another unit", t.type, (char *)after.dx + size * (size_t)j, (char *)before.dx + size * (size_t)j, 1);
        }
      }
      free(maps);
      free(y);
      free(dx);
      outcome_free(&before);
      outcome_free(&after);
      trial_free(&t);
    }
  }
}

/* With eps 0 on both sides y has the style's mean and variance. Errors of y: y_error * (sigma_s |xhat| + |mean_s|). */
static void adain_gives_the_content_the_moments_of_the_style(void **state) {
  (void)state;
  uint64_t seed = 37;
  const char *name;
  norma_layer content, style;
  for (int i = 0; sample_pair(i, &name, &content, &style); i++) {
    for (size_t k = 0; k < COUNT(all_types); k++) {
      adain_trial t = adain_new(&content, &style, all_types[k], &seed);
      t.flags = NORMA_EPS_ZERO | NORMA_STYLE_EPS_ZERO;
      adain_outcome o = adain_run(&t, &plain);
      double *y = to_doubles(t.type, o.y, norma_layer_elements(&content));
      double *sum = unit_sums(&content, y, NULL), *square = unit_sums(&content, y, y);
      double *style_sum = unit_sums(&style, t.style, NULL), *style_square = unit_sums(&style, t.style, t.style);
      double m = (double)norma_layer_unit_elements(&content), n = (double)norma_layer_unit_elements(&style);
      for (int64_t u = 0; u < norma_layer_units(&content); u++) {
        double mean = style_sum[u] / n, mean_square = style_square[u] / n, error = y_error(t.type);
        if (fabs(sum[u] / m - mean) > error * (sqrt(mean_square) + fabs(mean)) * 1.5) {
          fail_problem("%s: the mean of y is %.17g, of the style %.17g", norma_type_name(t.type), sum[u] / m, mean);
        }
        if (fabs(square[u] / m - mean_square) > error * mean_square * 4) {
          fail_problem("%s: the mean square of y is %.17g, of the style %.17g", norma_type_name(t.type), square[u] / m,
                       mean_square);
        }
      }
      free(y);
      free(sum);
      free(square);
      free(style_sum);
      free(style_square);
      adain_outcome_free(&o);
      adain_free(&t);
    }
  }
}

static void adain_with_alpha_0_gives_the_content_and_its_gradient(void **state) {
  (void)state;
  uint64_t seed = 38;
  const char *name;
  norma_layer content, style;
  for (int i = 0; sample_pair(i, &name, &content, &style); i++) {
    for (size_t k = 0; k < COUNT(all_types); k++) {
      adain_trial t = adain_new(&content, &style, all_types[k], &seed);
      t.flags = NORMA_ALPHA_ZERO;
      int64_t elements = norma_layer_elements(&content), style_elements = norma_layer_elements(&style);
      adain_outcome o = adain_run(&t, &plain);
      void *x = from_doubles(t.type, t.content, elements), *dy = from_doubles(t.type, t.dy, elements);
      problem_is("%s %s alpha 0", name, norma_type_name(t.type));
      assert_same_bits("y", t.type, o.y, x, elements);
      assert_same_bits("dcontent", t.type, o.dcontent, dy, elements);
      double *dstyle = to_doubles(t.type, o.dstyle, style_elements);
      assert_true(largest(dstyle, style_elements) == 0);
      free(dstyle);
      free(x);
      free(dy);
      adain_outcome_free(&o);
      adain_free(&t);
    }
  }
}

/* AdaIN is instance norm with gamma and beta per sample: sigma_s and mean_s. */
static void adain_is_conditional_instance_norm(void **state) {
  (void)state;
  uint64_t seed = 39;
  norma_layer content = parse("n c [h w]", "n c", NULL, 4, (int64_t[]){2, 3, 5, 4});
  norma_layer style = parse("n c [h w]", "", NULL, 4, (int64_t[]){2, 3, 3, 7});
  adain_trial pair = adain_new(&content, &style, NORMA_F64, &seed);
  trial t = {.layer = content, .type = NORMA_F64, .x = pair.content, .dy = pair.dy};
  double *sum = unit_sums(&style, pair.style, NULL), *square = unit_sums(&style, pair.style, pair.style);
  for (int u = 0; u < 6; u++) {
    sum[u] /= 21;
    square[u] = sqrt(square[u] / 21 - sum[u] * sum[u] + 1e-5);
  }
  t.weight = square;
  t.bias = sum;
  adain_outcome got = adain_run(&pair, &plain);
  outcome expected = trial_run(&t, &plain);
  problem_is("AdaIN and instance norm with the style's statistics");
  for (int64_t i = 0; i < norma_layer_elements(&content); i++) {
    assert_true(fabs(((double *)got.y)[i] - ((double *)expected.y)[i]) < 1e-13 * 20);
    assert_true(fabs(((double *)got.dcontent)[i] - ((double *)expected.dx)[i]) < 1e-12 * 20);
  }
  outcome_free(&expected);
  adain_outcome_free(&got);
  adain_free(&pair);
  free(sum);
  free(square);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(y_has_mean_0_and_variance_1),
      cmocka_unit_test(a_power_of_two_times_x_changes_no_bit),
      cmocka_unit_test(an_exact_shift_of_x_changes_y_by_no_more_than_its_error),
      cmocka_unit_test(group_norm_with_one_group_is_layer_norm_over_a_sample),
      cmocka_unit_test(group_norm_with_one_group_is_layer_norm_with_gamma_repeated),
      cmocka_unit_test(group_norm_with_a_group_per_channel_is_instance_norm),
      cmocka_unit_test(batch_norm_of_one_sample_is_instance_norm),
      cmocka_unit_test(an_rms_layer_is_the_layer_with_rms_set),
      cmocka_unit_test(rms_norm_is_layer_norm_with_the_mean_0_given),
      cmocka_unit_test(dx_sums_to_zero_alone_and_times_xhat),
      cmocka_unit_test(narrow_types_are_the_float32_result_rounded_once),
      cmocka_unit_test(conditional_affine_with_equal_rows_is_the_plain_layer),
      cmocka_unit_test(weight_plus_one_is_the_weight_with_one_added),
      cmocka_unit_test(given_statistics_equal_to_the_computed_ones_give_the_same_y),
      cmocka_unit_test(statistics_alone_are_those_of_the_whole_call),
      cmocka_unit_test(a_unit_depends_on_its_own_elements_alone),
      cmocka_unit_test(adain_gives_the_content_the_moments_of_the_style),
      cmocka_unit_test(adain_with_alpha_0_gives_the_content_and_its_gradient),
      cmocka_unit_test(adain_is_conditional_instance_norm),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
