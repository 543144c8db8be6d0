/* The reference, which judges the library elsewhere, against numbers worked out by hand. eps is chosen so that
 * var + eps is a square, so every result is a small fraction. */
#include "support.h"

#include <math.h>
#include <string.h>

static norma_error error;

/* Correct to float64: the fraction and the reference may each be half a unit in the last place off. */
static void assert_near(const char *name, const double *got, const double *expected, int n) {
  for (int i = 0; i < n; i++) {
    if (!(fabs(got[i] - expected[i]) <= 2.3e-16 * fabs(expected[i]) + 1e-18)) {
      fail_problem("%s[%d] is %.17g, not %.17g", name, i, got[i], expected[i]);
    }
  }
}

static norma_layer layer_over(const char *pattern, const char *affine, int ndim, const int64_t *shape) {
  norma_layer layer;
  problem_is("'%s' affine '%s'", pattern, affine);
  assert_ok(norma_layer_parse(&layer, pattern, affine, NULL, ndim, shape, &error), &error);
  return layer;
}

/* mean 2.5, var 1.25, with eps 1 rstd = 1 / sqrt(2.25) = 2/3; xhat = -1, -1/3, 1/3, 1. */
static void layer_norm_of_1_2_3_4(void **state) {
  (void)state;
  norma_layer layer = layer_over("[d]", "d", 1, (int64_t[]){4});
  const double x[] = {1, 2, 3, 4}, weight[] = {1, 3, 6, -2}, bias[] = {0, 1, 0, 10};
  double y[4], mean, var, rstd;
  norma_reference out = {.size = sizeof out, .y = y, .mean = &mean, .var = &var, .rstd = &rstd};
  norma_forward_args args = {.size = sizeof args, .layer = &layer, .type = NORMA_F64, .x = x, .weight = weight,
                             .bias = bias, .eps = 1};
  assert_ok(norma_reference_forward(&args, &out, &error), &error);
  assert_near("y", y, (double[]){-1, 0, 2, 8}, 4);
  assert_near("mean", &mean, (double[]){2.5}, 1);
  assert_near("var", &var, (double[]){1.25}, 1);
  assert_near("rstd", &rstd, (double[]){2.0 / 3}, 1);
  args.weight = args.bias = NULL;
  assert_ok(norma_reference_forward(&args, &out, &error), &error);
  assert_near("y", y, (double[]){-1, -1.0 / 3, 1.0 / 3, 1}, 4);
}

/* q = dy = (1, 0, 0, 0): mean(q) = 1/4, sum(q xhat)/m = -1/4, dx = 2/3 (q - 1/4 + xhat/4). */
static void layer_norm_backward_of_1_2_3_4(void **state) {
  (void)state;
  norma_layer layer = layer_over("[d]", "d", 1, (int64_t[]){4});
  const double x[] = {1, 2, 3, 4}, dy[] = {1, 0, 0, 0}, weight[] = {3, 1, 1, 1};
  double dx[4], dweight[4], dbias[4];
  norma_reference out = {.size = sizeof out, .dx = dx, .dweight = dweight, .dbias = dbias};
  norma_backward_args args = {.size = sizeof args, .layer = &layer, .type = NORMA_F64, .x = x, .dy = dy, .eps = 1};
  assert_ok(norma_reference_backward(&args, &out, &error), &error);
  assert_near("dx", dx, (double[]){1.0 / 3, -2.0 / 9, -1.0 / 9, 0}, 4);
  assert_near("dweight", dweight, (double[]){-1, 0, 0, 0}, 4);
  assert_near("dbias", dbias, dy, 4);
  args.weight = weight;
  assert_ok(norma_reference_backward(&args, &out, &error), &error);
  assert_near("dx", dx, (double[]){1, -2.0 / 3, -1.0 / 3, 0}, 4);
  assert_near("dweight", dweight, (double[]){-1, 0, 0, 0}, 4);
}

/* m2 = 2, so var = 1 with ddof 1; eps 3 makes rstd 1/2 and xhat = -1/2, 0, 1/2. */
static void unbiased_variance_of_1_2_3(void **state) {
  (void)state;
  norma_layer layer = layer_over("[d]", "d", 1, (int64_t[]){3});
  const double x[] = {1, 2, 3}, dy[] = {1, 0, 0};
  double y[3], var, dx[3];
  norma_reference out = {.size = sizeof out, .y = y, .var = &var, .dx = dx};
  norma_forward_args args = {.size = sizeof args, .layer = &layer, .type = NORMA_F64, .x = x, .eps = 3, .ddof = 1};
  assert_ok(norma_reference_forward(&args, &out, &error), &error);
  assert_near("y", y, (double[]){-0.5, 0, 0.5}, 3);
  assert_near("var", &var, (double[]){1}, 1);
  norma_backward_args back = {.size = sizeof back, .layer = &layer, .type = NORMA_F64, .x = x, .dy = dy, .eps = 3,
                              .ddof = 1};
  assert_ok(norma_reference_backward(&back, &out, &error), &error);
  assert_near("dx", dx, (double[]){13.0 / 48, -8.0 / 48, -5.0 / 48}, 3);
}

/* The mean square is 12.5; eps 3.5 makes rstd 1/4 and xhat = 3/4, 1. */
static void rms_norm_of_3_4(void **state) {
  (void)state;
  norma_layer layer = layer_over("[d]", "d", 1, (int64_t[]){2});
  layer.rms = 1;
  const double x[] = {3, 4}, dy[] = {1, 0}, weight[] = {2, -8};
  double y[2], mean, var, dx[2], dweight[2];
  norma_reference out = {.size = sizeof out, .y = y, .mean = &mean, .var = &var, .dx = dx, .dweight = dweight};
  norma_forward_args args = {.size = sizeof args, .layer = &layer, .type = NORMA_F64, .x = x, .weight = weight,
                             .eps = 3.5};
  assert_ok(norma_reference_forward(&args, &out, &error), &error);
  assert_near("y", y, (double[]){1.5, -8}, 2);
  assert_true(mean == 0 && var == 12.5);
  norma_backward_args back = {.size = sizeof back, .layer = &layer, .type = NORMA_F64, .x = x, .dy = dy, .eps = 3.5};
  assert_ok(norma_reference_backward(&back, &out, &error), &error);
  assert_near("dx", dx, (double[]){0.1796875, -0.09375}, 2);
  assert_near("dweight", dweight, (double[]){0.75, 0}, 2);
}

/* Channel 0 holds 1 and 3, channel 1 holds 10 and 20: xhat is -1 and 1 in both. */
static void batch_norm_of_two_channels(void **state) {
  (void)state;
  norma_layer layer = layer_over("[n] c", "c", 2, (int64_t[]){2, 2});
  const double x[] = {1, 10, 3, 20}, dy[] = {1, 2, 3, 5}, weight[] = {2, 3}, bias[] = {1, -1};
  double y[4], mean[2], var[2], dx[4], dweight[2], dbias[2];
  norma_reference out = {.size = sizeof out, .y = y, .mean = mean, .var = var, .dx = dx, .dweight = dweight,
                         .dbias = dbias};
  norma_forward_args args = {.size = sizeof args, .layer = &layer, .type = NORMA_F64, .x = x, .weight = weight,
                             .bias = bias, .flags = NORMA_EPS_ZERO};
  assert_ok(norma_reference_forward(&args, &out, &error), &error);
  assert_near("y", y, (double[]){-1, -4, 3, 2}, 4);
  assert_near("mean", mean, (double[]){2, 15}, 2);
  assert_near("var", var, (double[]){1, 25}, 2);
  norma_backward_args back = {.size = sizeof back, .layer = &layer, .type = NORMA_F64, .x = x, .dy = dy,
                              .weight = weight, .flags = NORMA_EPS_ZERO};
  assert_ok(norma_reference_backward(&back, &out, &error), &error);
  assert_near("dx", dx, (double[]){0, 0, 0, 0}, 4);
  assert_near("dweight", dweight, (double[]){2, 3}, 2);
  assert_near("dbias", dbias, (double[]){4, 7}, 2);
}

/* Mean 1 and variance 3 given, eps 1: rstd = 1/2, and dx has no other term. */
static void given_statistics_are_constants(void **state) {
  (void)state;
  norma_layer layer = layer_over("n [d]", "d", 2, (int64_t[]){1, 2});
  const double x[] = {5, -3}, dy[] = {1, 4}, weight[] = {1, 10}, mean = 1, var = 3;
  double y[2], dx[2], dweight[2], dbias[2];
  norma_reference out = {.size = sizeof out, .y = y, .dx = dx, .dweight = dweight, .dbias = dbias};
  norma_forward_args args = {.size = sizeof args, .layer = &layer, .type = NORMA_F64, .x = x, .weight = weight,
                             .eps = 1, .given_mean = &mean, .given_var = &var};
  assert_ok(norma_reference_forward(&args, &out, &error), &error);
  assert_near("y", y, (double[]){2, -20}, 2);
  norma_backward_args back = {.size = sizeof back, .layer = &layer, .type = NORMA_F64, .x = x, .dy = dy,
                              .weight = weight, .eps = 1, .given_mean = &mean, .given_var = &var};
  assert_ok(norma_reference_backward(&back, &out, &error), &error);
  assert_near("dx", dx, (double[]){0.5, 20}, 2);
  assert_near("dweight", dweight, (double[]){2, -8}, 2);
  assert_near("dbias", dbias, dy, 2);
}

static void one_plus_weight_is_gamma(void **state) {
  (void)state;
  norma_layer layer = layer_over("[d]", "d", 1, (int64_t[]){2});
  const float x[] = {1, 3}, weight[] = {1, -1};
  double y[2];
  norma_reference out = {.size = sizeof out, .y = y};
  norma_forward_args args = {.size = sizeof args, .layer = &layer, .x = x, .weight = weight,
                             .flags = NORMA_EPS_ZERO | NORMA_WEIGHT_PLUS_ONE};
  assert_ok(norma_reference_forward(&args, &out, &error), &error);
  assert_near("y", y, (double[]){-2, 0}, 2);
}

/* Content: mean 2, var 1, eps 3, xhat -1/2 and 1/2. Style: mean 4, var 4, eps 5, sigma 3. */
static void adain_of_two_pairs(void **state) {
  (void)state;
  norma_layer layer = layer_over("n c [l]", "", 3, (int64_t[]){1, 1, 2});
  const double content[] = {1, 3}, style[] = {2, 6}, dy[] = {1, 0};
  double y[2], dx[2], dstyle[2];
  norma_reference out = {.size = sizeof out, .y = y, .dx = dx, .dstyle = dstyle};
  norma_adain_args args = {.size = sizeof args, .content_layer = &layer, .style_layer = &layer, .type = NORMA_F64,
                           .content = content, .style = style, .y = y, .content_eps = 3, .style_eps = 5};
  assert_ok(norma_reference_adain(&args, &out, &error), &error);
  assert_near("y", y, (double[]){2.5, 5.5}, 2);
  args.alpha = 0.5;
  assert_ok(norma_reference_adain(&args, &out, &error), &error);
  assert_near("y", y, (double[]){1.75, 4.25}, 2);
  args.alpha = 0;
  args.dy = dy;
  args.y = NULL;
  assert_ok(norma_reference_adain_backward(&args, &out, &error), &error);
  assert_near("dcontent", dx, (double[]){0.5625, -0.5625}, 2);
  assert_near("dstyle", dstyle, (double[]){2.0 / 3, 1.0 / 3}, 2);
  args.flags = NORMA_ALPHA_ZERO;
  assert_ok(norma_reference_adain_backward(&args, &out, &error), &error);
  assert_near("dcontent", dx, dy, 2);
  assert_near("dstyle", dstyle, (double[]){0, 0}, 2);
}

/* Group norm of 2 groups of 2 channels on 1 x 4 x 2: each group is (1, 2, 3, 4) in some order. */
static void a_group_is_the_same_set_as_in_layer_norm(void **state) {
  (void)state;
  norma_layer layer;
  assert_ok(norma_layer_group(&layer, 2, 3, (int64_t[]){1, 4, 2}, &error), &error);
  const double x[] = {1, 4, 2, 3, 12, 11, 14, 13}, weight[] = {1, 3, 1, 3}, bias[] = {0, 0, 5, 0};
  double y[8];
  norma_reference out = {.size = sizeof out, .y = y};
  norma_forward_args args = {.size = sizeof args, .layer = &layer, .type = NORMA_F64, .x = x, .weight = weight,
                             .bias = bias, .eps = 1};
  problem_is("group");
  assert_ok(norma_reference_forward(&args, &out, &error), &error);
  assert_near("y", y, (double[]){-1, 1, -1, 1, 5 - 1.0 / 3, 4, 3, 1}, 8);
}

static void sixteen_million_and_a_little_more(void **state) {
  (void)state;
  norma_layer layer = layer_over("[d]", "", 1, (int64_t[]){4});
  const float x[] = {16000000, 16000001, 16000002, 16000003};
  double y[4], mean, var;
  norma_reference out = {.size = sizeof out, .y = y, .mean = &mean, .var = &var};
  norma_forward_args args = {.size = sizeof args, .layer = &layer, .x = x, .eps = 1};
  assert_ok(norma_reference_forward(&args, &out, &error), &error);
  assert_near("y", y, (double[]){-1, -1.0 / 3, 1.0 / 3, 1}, 4);
  assert_true(mean == 16000001.5 && var == 1.25);
}

/* The bounds as norma.h prints them, for gamma 3, beta 1, xhat -1/3, mean * rstd = 5/3. */
static void bounds_are_those_of_the_header(void **state) {
  (void)state;
  norma_layer layer = layer_over("[d]", "d", 1, (int64_t[]){4});
  const double values[] = {1, 2, 3, 4}, weights[] = {1, 3, 6, -2}, biases[] = {0, 1, 0, 10};
  for (int t = 0; t < 4; t++) {
    norma_type type = all_types[t], param = norma_param_type(type);
    double x[4], weight[4], bias[4], y[4], bound[4], dx[4], dx_bound[4], dweight[4], dweight_bound[4];
    norma_from_double(type, values, x, 1, 4);
    norma_from_double(param, weights, weight, 1, 4);
    norma_from_double(param, biases, bias, 1, 4);
    norma_reference out = {.size = sizeof out, .y = y, .y_bound = bound, .dx = dx, .dx_bound = dx_bound,
                           .dweight = dweight, .dweight_bound = dweight_bound};
    norma_forward_args args = {.size = sizeof args, .layer = &layer, .type = type, .x = x, .weight = weight,
                               .bias = bias, .eps = 1};
    problem_is("%s", norma_type_name(type));
    assert_ok(norma_reference_forward(&args, &out, &error), &error);
    double f32 = 5e-7 * 2 + 1e-14 * 3 * (1 + 5.0 / 3) + 1e-37, f64 = 1e-14 * (1 + 1 + 3) + 1e-305;
    double expected = type == NORMA_F64 ? f64 : f32;
    double once = type == NORMA_F16 ? 0x1p-11 : type == NORMA_BF16 ? 0x1p-8 : 0;  /* half a unit in the last place */
    assert_true(bound[1] >= expected * (1 - 1e-12) && bound[1] <= (expected + 2 * once) * (1 + 1e-3));
    norma_backward_args back = {.size = sizeof back, .layer = &layer, .type = type, .x = x, .dy = x, .eps = 1};
    assert_ok(norma_reference_backward(&back, &out, &error), &error);
    double largest = 4, term = 4;  /* dweight = dy xhat: -1, -2/3, 1, 4, each its own only term */
    double f32_dweight = 1e-5 * largest + 1e-7 * term, f64_dweight = 1e-12 * (largest + term);
    expected = type == NORMA_F64 ? f64_dweight : f32_dweight;
    for (int i = 0; i < 4; i++) {
      assert_true(fabs(dweight_bound[i] - expected) <= 1e-12 * expected);
    }
  }
}

static void strides_place_the_elements(void **state) {
  (void)state;
  norma_layer layer = layer_over("n [d]", "d", 2, (int64_t[]){2, 2});
  const double x[] = {10, 3, 20, 1}, dense[] = {1, 20, 3, 10};
  const int64_t backwards_and_transposed[] = {-2, -2};
  double y[4], expected[4];
  norma_reference out = {.size = sizeof out, .y = expected};
  norma_forward_args args = {.size = sizeof args, .layer = &layer, .type = NORMA_F64, .x = dense, .eps = 1};
  assert_ok(norma_reference_forward(&args, &out, &error), &error);
  args.x = x + 3;
  args.x_strides = (int64_t[]){-2, -1};
  out.y = y;
  assert_ok(norma_reference_forward(&args, &out, &error), &error);
  assert_near("y", y, expected, 4);
  const double windows[] = {3, 0, 20, 0, 1};
  const double shared[] = {1, 20, 20, 3};
  args.x = shared;
  args.x_strides = NULL;
  out.y = expected;
  assert_ok(norma_reference_forward(&args, &out, &error), &error);
  args.x = windows + 4;
  args.x_strides = backwards_and_transposed;
  out.y = y;
  assert_ok(norma_reference_forward(&args, &out, &error), &error);
  assert_near("y", y, expected, 4);
}

static void every_output_may_be_missing_and_wrong_arguments_are_refused(void **state) {
  (void)state;
  norma_layer layer = layer_over("[d]", "d", 1, (int64_t[]){2});
  const double x[] = {1, 3};
  norma_reference out = {.size = sizeof out}, wrong = {.size = 3};
  norma_forward_args args = {.size = sizeof args, .layer = &layer, .type = NORMA_F64, .x = x};
  norma_backward_args back = {.size = sizeof back, .layer = &layer, .type = NORMA_F64, .x = x, .dy = x};
  assert_ok(norma_reference_forward(&args, &out, &error), &error);
  assert_ok(norma_reference_backward(&back, &out, &error), &error);
  assert_int_equal(norma_reference_forward(&args, NULL, &error), NORMA_BAD_ARGUMENT);
  assert_int_equal(norma_reference_forward(&args, &wrong, &error), NORMA_BAD_ARGUMENT);
  assert_non_null(strstr(error.detail, "out->size is 3"));
  assert_int_equal(norma_reference_backward(NULL, &out, &error), NORMA_BAD_ARGUMENT);
  args.eps = -1;
  assert_int_equal(norma_reference_forward(&args, &out, &error), NORMA_BAD_ARGUMENT);
  assert_non_null(strstr(error.detail, "eps is -1"));
  back.dy = NULL;
  assert_int_equal(norma_reference_backward(&back, &out, &error), NORMA_BAD_ARGUMENT);
  assert_non_null(strstr(error.detail, "dy is NULL"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(layer_norm_of_1_2_3_4),
      cmocka_unit_test(layer_norm_backward_of_1_2_3_4),
      cmocka_unit_test(unbiased_variance_of_1_2_3),
      cmocka_unit_test(rms_norm_of_3_4),
      cmocka_unit_test(batch_norm_of_two_channels),
      cmocka_unit_test(given_statistics_are_constants),
      cmocka_unit_test(one_plus_weight_is_gamma),
      cmocka_unit_test(adain_of_two_pairs),
      cmocka_unit_test(a_group_is_the_same_set_as_in_layer_norm),
      cmocka_unit_test(sixteen_million_and_a_little_more),
      cmocka_unit_test(bounds_are_those_of_the_header),
      cmocka_unit_test(strides_place_the_elements),
      cmocka_unit_test(every_output_may_be_missing_and_wrong_arguments_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
