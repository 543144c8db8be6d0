/* Laws that hold whatever the numbers are: what the output looks like, what changes nothing, which sums of gradients
 * vanish, and what a unit depends on. */
#include <math.h>
#include <stdlib.h>

#include "support.h"
#include "trial.h"

static const manner plain = {.in_place = 0};

/* weight and bias left out. */
static trial without_affine(const norma_layer *layer, norma_type type, uint64_t *seed, double mean, double deviation) {
  trial t = trial_new(layer, type, seed, mean, deviation);
  free(t.weight);
  free(t.bias);
  t.weight = t.bias = NULL;
  return t;
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

/* values * factor, rounded to the type, have the same bits as got. */
static void assert_scaled(const char *name, norma_type type, const void *got, const void *values, int64_t n,
                          double factor) {
  double *scaled = to_doubles(type, values, n);
  scale_array(scaled, n, factor);
  void *expected = from_doubles(type, scaled, n);
  assert_same_bits(name, type, got, expected, n);
  free(expected);
  free(scaled);
}

/* 2^k x with 4^k eps has the xhat of x: not a bit of y and dweight changes, and dx is divided by 2^k. The largest and
 * smallest factors of float64 take the squares out of its range. A negative one turns xhat around, and not dx. */
static void a_power_of_two_times_x_changes_no_bit(void **state) {
  (void)state;
  uint64_t seed = 22;
  const char *name;
  norma_layer layer;
  static const struct {
    norma_type type;
    double factor, eps;
  } scales[] = {{NORMA_F32, 0x1p-10, 0.5}, {NORMA_F32, 0x1p20, 0},     {NORMA_F32, 0x1p-60, 0.5},
                {NORMA_F32, 0x1p100, 0},   {NORMA_F64, 0x1p-30, 0.5},  {NORMA_F64, 0x1p200, 0.5},
                {NORMA_F64, 0x1p-300, 0},  {NORMA_F64, 0x1p-500, 0.5}, {NORMA_F64, 0x1p-500, 0},
                {NORMA_F64, 0x1p700, 0},   {NORMA_F64, -0x1p700, 0},   {NORMA_F16, 4, 0},
                {NORMA_F16, 64, 0.5},      {NORMA_BF16, 0x1p-40, 0.5}};
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    for (size_t k = 0; k < COUNT(scales); k++) {
      trial t = without_affine(&layer, scales[k].type, &seed, 3, 1);
      int64_t elements = norma_layer_elements(&layer), units = norma_layer_units(&layer);
      norma_type ptype = norma_param_type(t.type);
      double factor = scales[k].factor, sign = factor < 0 ? -1 : 1;
      t.flags = scales[k].eps == 0 ? NORMA_EPS_ZERO : 0;
      t.eps = scales[k].eps;
      problem_is("%s %s times %a, eps %g", name, norma_type_name(t.type), factor, scales[k].eps);
      outcome before = trial_run(&t, &plain);
      scale_array(t.x, elements, factor);
      t.eps *= t.eps > 0 ? factor * factor : 1;
      outcome after = trial_run(&t, &plain);
      assert_scaled("y", t.type, after.y, before.y, elements, sign);
      assert_scaled("mean", ptype, after.mean, before.mean, layer.rms ? 0 : units, factor);
      assert_scaled("var", ptype, after.var, before.var, units, factor * factor);
      assert_scaled("rstd", ptype, after.rstd, before.rstd, units, fabs(1 / factor));
      if (before.dweight != NULL) {
        assert_scaled("dweight", ptype, after.dweight, before.dweight, norma_layer_params(&layer), sign);
      }
      if (t.type != NORMA_F16) { /* whose dx leaves the range of normal numbers */
        assert_scaled("dx", t.type, after.dx, before.dx, elements, fabs(1 / factor));
      }
      outcome_free(&before);
      outcome_free(&after);
      trial_free(&t);
    }
  }
}

/* Two gradients that should be equal: each may err by 1e-5 of the largest and 2e-6 of its largest term (float64: 1e-12
 * of both). A term is dy * gamma * rstd or dy * xhat, below 100. */
static void assert_near(const char *name, norma_type type, const void *got, const void *expected, int64_t n) {
  double *a = to_doubles(type, got, n), *b = to_doubles(type, expected, n);
  double relative = type == NORMA_F64 ? 1e-12 : 1e-5, of_terms = type == NORMA_F64 ? 1e-12 : 2e-6;
  double allowed = 2 * (relative * largest(b, n) + of_terms * 100);
  for (int64_t i = 0; i < n; i++) {
    if (!(fabs(a[i] - b[i]) <= allowed)) {
      fail_problem("%s[%lld] is %.17g and %.17g, allowed is %g", name, (long long)i, a[i], b[i], allowed);
    }
  }
  free(a);
  free(b);
}

/* x + c where that is exact: the same xhat; y may differ by the error that either has. */
static void an_exact_shift_of_x_changes_results_by_no_more_than_their_errors(void **state) {
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
      assert_near("dx", t.type, after.dx, before.dx, elements);
      if (trial_params(&t) > 0) {
        assert_near("dweight", t.type, after.dweight, before.dweight, trial_params(&t));
      }
      free(y);
      free(shifted);
      outcome_free(&before);
      outcome_free(&after);
      trial_free(&t);
    }
  }
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
      /* Per element 1e-5 of the largest gradient and 2e-6 of the largest term, rstd * q with rstd < 1 and q < 20. */
      double each =
          t.type == NORMA_F32 ? 1e-5 * largest(dx, elements) + 2e-6 * 20 : 1e-12 * (largest(dx, elements) + 20);
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
      void *mean = malloc(size * (size_t)units), *var = malloc(size * (size_t)units),
           *rstd = malloc(size * (size_t)units);
      norma_moments *moments = malloc(sizeof *moments * (size_t)units);
      norma_error error;
      problem_is("%s %s ddof %d, statistics alone", name, norma_type_name(t.type), t.ddof);
      assert_ok(norma_forward(&(norma_forward_args){.size = sizeof(norma_forward_args),
                                                    .layer = &layer,
                                                    .type = t.type,
                                                    .x = x,
                                                    .ddof = t.ddof,
                                                    .mean = mean,
                                                    .var = var,
                                                    .rstd = rstd,
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
          assert_same_bits("y of another unit", t.type, (char *)after.y + size * (size_t)j,
                           (char *)before.y + size * (size_t)j, 1);
          assert_same_bits("dx of another unit", t.type, (char *)after.dx + size * (size_t)j,
                           (char *)before.dx + size * (size_t)j, 1);
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(y_has_mean_0_and_variance_1),
      cmocka_unit_test(a_power_of_two_times_x_changes_no_bit),
      cmocka_unit_test(an_exact_shift_of_x_changes_results_by_no_more_than_their_errors),
      cmocka_unit_test(dx_sums_to_zero_alone_and_times_xhat),
      cmocka_unit_test(given_statistics_equal_to_the_computed_ones_give_the_same_y),
      cmocka_unit_test(statistics_alone_are_those_of_the_whole_call),
      cmocka_unit_test(a_unit_depends_on_its_own_elements_alone),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
