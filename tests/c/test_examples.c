/* What a user does with the library, from the declarations of norma.h alone, on numbers small enough to follow by hand.
 * The expected values are written out, not computed by another implementation. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

static void assert_close(const char *name, const float *got, const double *expected, int n) {
  for (int i = 0; i < n; i++) {
    if (!(fabs(got[i] - expected[i]) <= 1e-6 * (1 + fabs(expected[i])))) {
      fail_problem("%s[%d] is %.9g, not %.9g", name, i, (double)got[i], expected[i]);
    }
  }
}

/* The rows of the table at the top of norma.h: n 2, c 6 (t, d: 6, 20), h 4, w 5. */
static void the_table_of_layers(void **state) {
  (void)state;
  static const struct {
    const char *pattern, *affine;
    int ndim;
    int64_t shape[4], units, elements_of_unit, params;
  } rows[] = {{"[n] c [h w]", "c", 4, {2, 6, 4, 5}, 6, 40, 6},
              {"n t [d]", "d", 3, {2, 6, 20}, 12, 20, 20},
              {"n [c] h w", "c", 4, {2, 6, 4, 5}, 40, 6, 6},
              {"n c [h w]", "c", 4, {2, 6, 4, 5}, 12, 20, 6},
              {"n (g [k]) [h w]", "(g k)", 4, {2, 6, 4, 5}, 6, 40, 6}};
  norma_error error;
  for (size_t i = 0; i < COUNT(rows); i++) {
    norma_layer layer;
    problem_is("'%s' affine '%s'", rows[i].pattern, rows[i].affine);
    assert_ok(norma_layer_parse(&layer, rows[i].pattern, rows[i].affine, i == 4 ? "g=3" : NULL, rows[i].ndim,
                                rows[i].shape, &error),
              &error);
    assert_int_equal(norma_layer_units(&layer), rows[i].units);
    assert_int_equal(norma_layer_unit_elements(&layer), rows[i].elements_of_unit);
    assert_int_equal(norma_layer_params(&layer), rows[i].params);
    char pattern[256], affine[256];
    assert_ok(norma_layer_format(&layer, pattern, sizeof pattern, affine, sizeof affine, &error), &error);
    assert_string_equal(pattern, rows[i].pattern);
    assert_string_equal(affine, rows[i].affine);
  }
}

/* Group norm of one bfloat16 image in NHWC, 2 groups of 2 channels, 2 pixels, forward and backward, nothing allocated
 * by the library. Group 0 holds 1 3 1 3 (mean 2, deviation 1), group 1 10 14 14 10 (mean 12, deviation 2). */
static void group_norm_of_an_nhwc_bfloat16_tensor_with_own_memory(void **state) {
  (void)state;
  enum { ELEMENTS = 8, CHANNELS = 4 };
  const double nhwc[ELEMENTS] = {1, 3, 10, 14, /* pixel 1 */ 1, 3, 14, 10};
  const float weight[CHANNELS] = {1, 2, 0.5f, 4}, bias[CHANNELS] = {0, 10, 0, -1};
  uint16_t x[ELEMENTS], y[ELEMENTS], dy[ELEMENTS], dx[ELEMENTS];
  float dweight[CHANNELS], dbias[CHANNELS];
  norma_from_double(NORMA_BF16, nhwc, x, 1, ELEMENTS);

  const int64_t shape[4] = {1, CHANNELS, 1, 2};
  int64_t strides[4];
  norma_layer layer;
  norma_error error;
  problem_is("group norm of bfloat16 NHWC");
  norma_strides_channels_last(4, shape, strides);
  assert_ok(norma_layer_group(&layer, 2, 4, shape, &error), &error);

  norma_saved saved[2];
  norma_forward_args forward = {.size = sizeof forward,
                                .layer = &layer,
                                .type = NORMA_BF16,
                                .x = x,
                                .x_strides = strides,
                                .y = y,
                                .y_strides = strides,
                                .weight = weight,
                                .bias = bias,
                                .flags = NORMA_EPS_ZERO,
                                .saved = saved};
  norma_backward_args backward = {.size = sizeof backward,
                                  .layer = &layer,
                                  .type = NORMA_BF16,
                                  .x = x,
                                  .x_strides = strides,
                                  .dy = dy,
                                  .dy_strides = strides,
                                  .dx = dx,
                                  .dx_strides = strides,
                                  .weight = weight,
                                  .dweight = dweight,
                                  .dbias = dbias,
                                  .flags = NORMA_EPS_ZERO,
                                  .saved = saved};
  size_t bytes = norma_forward_workspace(&forward), more = norma_backward_workspace(&backward);
  void *memory = malloc(bytes > more ? bytes : more);
  forward.workspace = backward.workspace = memory;
  forward.workspace_size = bytes;
  backward.workspace_size = more;

  assert_ok(norma_forward(&forward, &error), &error);
  double got[ELEMENTS];
  norma_to_double(NORMA_BF16, y, 1, got, ELEMENTS);
  const double expected[ELEMENTS] = {-1, 12, -0.5, 3, -1, 12, 0.5, -5};
  assert_memory_equal(got, expected, sizeof got);

  /* q = dy * weight is 1 0 | 4 0 | 0 0 | 0 0 in groups 0 and 1 of the two pixels. Its means are 1/4 and 1, those of
   * q * xhat -1/4 and -1, so dx = q - 1/4 + xhat / 4 in group 0 and (q - 1 + xhat) / 2 in group 1. */
  norma_from_double(NORMA_BF16, (const double[ELEMENTS]){1, 0, 8, 0, 0, 0, 0, 0}, dy, 1, ELEMENTS);
  assert_ok(norma_backward(&backward, &error), &error);
  norma_to_double(NORMA_BF16, dx, 1, got, ELEMENTS);
  const double gradient[ELEMENTS] = {0.5, 0, 1, 0, -0.5, 0, 0, -1};
  assert_memory_equal(got, gradient, sizeof got);
  assert_close("dweight", dweight, (const double[]){-1, 0, -8, 0}, CHANNELS);
  assert_close("dbias", dbias, (const double[]){1, 0, 8, 0}, CHANNELS);
  free(memory);
}

/* The mean, 16000001.5, is no float32 number. var = 1.25, and sqrt(1.25) = 1.11803399. */
static void layer_norm_of_numbers_whose_mean_is_no_float32(void **state) {
  (void)state;
  const float x[4] = {16000000, 16000001, 16000002, 16000003};
  float y[4];
  norma_layer layer;
  norma_error error;
  problem_is("layer norm of 16000000 .. 16000003");
  assert_ok(norma_layer_norm(&layer, 1, 2, (int64_t[]){1, 4}, &error), &error);
  assert_ok(norma_forward(
                &(norma_forward_args){
                    .size = sizeof(norma_forward_args), .layer = &layer, .x = x, .y = y, .flags = NORMA_EPS_ZERO},
                &error),
            &error);
  assert_close("y", y, (const double[]){-1.3416407865, -0.4472135955, 0.4472135955, 1.3416407865}, 4);
}

/* One step of training and one of evaluation. Channel 0 holds 1 2 3 4 (mean 2.5, variance 1.25, unbiased 5/3), channel
 * 1 holds -1 -1 1 1 (mean 0, variance 1, unbiased 4/3). */
static void batch_norm_trains_and_is_evaluated(void **state) {
  (void)state;
  const float x[8] = {1, -1, 2, -1, 3, 1, 4, 1};
  float y[8], running_mean[2] = {0, 0}, running_var[2] = {1, 1};
  norma_moments moments[2];
  norma_layer layer;
  norma_error error;
  problem_is("batch norm of 4 samples");
  assert_ok(norma_layer_batch(&layer, 2, (int64_t[]){4, 2}, &error), &error);
  norma_forward_args args = {.size = sizeof args, .layer = &layer, .x = x, .y = y, .moments = moments};
  assert_ok(norma_forward(&args, &error), &error);
  double r = 1 / sqrt(1.25 + 1e-5), s = 1 / sqrt(1 + 1e-5);
  assert_close("y in training", y, (const double[]){-1.5 * r, -s, -0.5 * r, -s, 0.5 * r, s, 1.5 * r, s}, 8);

  norma_running_args update = {.size = sizeof update,
                               .channels = 2,
                               .moments = moments,
                               .running_mean = running_mean,
                               .running_var = running_var};
  assert_ok(norma_running_update(&update, &error), &error);
  assert_close("running mean", running_mean, (const double[]){0.25, 0}, 2);
  assert_close("running variance", running_var, (const double[]){0.9 + 0.5 / 3, 0.9 + 0.4 / 3}, 2);

  norma_forward_args evaluation = {
      .size = sizeof evaluation, .layer = &layer, .x = x, .y = y, .given_mean = running_mean, .given_var = running_var};
  assert_ok(norma_forward(&evaluation, &error), &error);
  r = 1 / sqrt(0.9 + 0.5 / 3 + 1e-5);
  s = 1 / sqrt(0.9 + 0.4 / 3 + 1e-5);
  assert_close("y in evaluation", y, (const double[]){0.75 * r, -s, 1.75 * r, -s, 2.75 * r, s, 3.75 * r, s}, 8);
}

/* The same step by the convention of ONNX and Keras: 0.9 is the weight of the old value, the variance biased. */
static void running_statistics_by_the_other_convention(void **state) {
  (void)state;
  norma_moments moments = {0};
  norma_error error;
  float mean = 10, var = 1;
  problem_is("running statistics");
  assert_ok(norma_moments_add(&moments, NORMA_F32, (const float[]){1, 2, 3, 4}, 4, 1, &error), &error);
  assert_ok(norma_running_update(&(norma_running_args){.size = sizeof(norma_running_args),
                                                       .convention = NORMA_ONNX,
                                                       .momentum = 0.75,
                                                       .channels = 1,
                                                       .moments = &moments,
                                                       .running_mean = &mean,
                                                       .running_var = &var},
                                 &error),
            &error);
  assert_close("running mean", &mean, (const double[]){7.5 + 0.25 * 2.5}, 1);
  assert_close("running variance", &var, (const double[]){0.75 + 0.25 * 1.25}, 1);
}

/* Two machines with parts of one batch: their moments merge to those of the whole. */
static void a_batch_split_over_two_machines(void **state) {
  (void)state;
  norma_moments here = {0}, there = {0};
  norma_error error;
  double mean, var;
  problem_is("moments of 1 2 3 and 10");
  assert_ok(norma_moments_add(&here, NORMA_F32, (const float[]){1, 2, 3}, 3, 1, &error), &error);
  assert_ok(norma_moments_add(&there, NORMA_F64, (const double[]){10}, 1, 1, &error), &error);
  norma_moments_merge(&here, &there);
  assert_ok(norma_moments_finish(&here, 0, &mean, &var, &error), &error);
  assert_int_equal(here.count, 4);
  assert_true(fabs(mean - 4) < 1e-15 && fabs(var - 12.5) < 1e-14);
}

/* FiLM: one network gives (n, 2c) numbers, the first half of a row scales, the second shifts. 2 samples, 2 channels,
 * 2 pixels; every unit holds m-1, m+1. */
static void film_takes_its_scale_and_shift_from_one_tensor(void **state) {
  (void)state;
  const float x[8] = {0, 2, 4, 6, -3, -1, 9, 11};
  const float film[8] = {1, 2, 10, 20, 3, 4, 30, 40};
  const int64_t strides[4] = {4, 1, 0, 0};
  float y[8];
  norma_layer layer;
  norma_error error;
  problem_is("FiLM");
  assert_ok(norma_layer_instance(&layer, 4, (int64_t[]){2, 2, 1, 2}, &error), &error);
  assert_ok(norma_layer_affine(&layer, "n c", &error), &error);
  assert_int_equal(norma_layer_params(&layer), 4);
  assert_ok(norma_forward(&(norma_forward_args){.size = sizeof(norma_forward_args),
                                                .layer = &layer,
                                                .x = x,
                                                .y = y,
                                                .weight = film,
                                                .bias = film + 2,
                                                .weight_strides = strides,
                                                .bias_strides = strides,
                                                .flags = NORMA_EPS_ZERO},
                          &error),
            &error);
  assert_close("y", y, (const double[]){9, 11, 18, 22, 27, 33, 36, 44}, 8);
}

/* adaLN: gamma = 1 + scale, per sample and feature, the same for all tokens. */
static void adaln_adds_one_to_its_scale(void **state) {
  (void)state;
  const float x[8] = {0, 2, 4, 6, -3, -1, 9, 11}, scale[4] = {0, 1, -1, 0.5f}, shift[4] = {1, 2, 3, 4};
  float y[8];
  norma_layer layer;
  norma_error error;
  problem_is("adaLN");
  assert_ok(norma_layer_parse(&layer, "n t [d]", "n d", NULL, 3, (int64_t[]){2, 2, 2}, &error), &error);
  assert_ok(norma_forward(&(norma_forward_args){.size = sizeof(norma_forward_args),
                                                .layer = &layer,
                                                .x = x,
                                                .y = y,
                                                .weight = scale,
                                                .bias = shift,
                                                .flags = NORMA_EPS_ZERO | NORMA_WEIGHT_PLUS_ONE},
                          &error),
            &error);
  assert_close("y", y, (const double[]){0, 4, 0, 4, 3, 5.5, 3, 5.5}, 8);
}

/* In place, without gamma, and RMS: 3 and 4 have the mean square 12.5. */
static void rms_norm_in_place(void **state) {
  (void)state;
  float x[2] = {3, 4};
  norma_layer layer;
  norma_error error;
  problem_is("rms norm of 3 4");
  assert_ok(norma_layer_rms(&layer, 1, 1, (int64_t[]){2}, &error), &error);
  assert_ok(
      norma_forward(&(norma_forward_args){.size = sizeof(norma_forward_args), .layer = &layer, .x = x, .y = x}, &error),
      &error);
  double r = 1 / sqrt(12.5 + 0x1p-23);
  assert_close("y", x, (const double[]){3 * r, 4 * r}, 2);
}

/* A layer that has no name: one mean per row of the image, shared by the channels of a group. */
static void a_layer_of_ones_own(void **state) {
  (void)state;
  const float x[8] = {1, 3, /* row 1 */ 5, 5, /* channel 1 */ 3, 1, 7, 7};
  float y[8];
  norma_layer layer;
  norma_error error;
  problem_is("'n (g [k]) h [w]'");
  assert_ok(norma_layer_parse(&layer, "n (g [k]) h [w]", "h", "g=1", 4, (int64_t[]){1, 2, 2, 2}, &error), &error);
  assert_int_equal(norma_layer_units(&layer), 2);
  assert_ok(norma_forward(&(norma_forward_args){.size = sizeof(norma_forward_args),
                                                .layer = &layer,
                                                .x = x,
                                                .y = y,
                                                .weight = (const float[]){1, 10},
                                                .bias = (const float[]){0, 100},
                                                .flags = NORMA_EPS_ZERO},
                          &error),
            &error);
  assert_close("y", y, (const double[]){-1, 1, 90, 90, 1, -1, 110, 110}, 8);
}

/* The two published forms of AdaIN on a content of 0 2 (deviation 1, unbiased variance 2) and a style of 10 14 14 10
 * (mean 12, deviation 2, unbiased variance 16/3). */
static void both_published_forms_of_adain(void **state) {
  (void)state;
  const float content[2] = {0, 2}, style[4] = {10, 14, 14, 10};
  float y[2];
  norma_layer content_layer, style_layer;
  norma_error error;
  problem_is("AdaIN");
  assert_ok(norma_layer_instance(&content_layer, 3, (int64_t[]){1, 1, 2}, &error), &error);
  assert_ok(norma_layer_instance(&style_layer, 3, (int64_t[]){1, 1, 4}, &error), &error);
  norma_adain_args args = {.size = sizeof args,
                           .content_layer = &content_layer,
                           .style_layer = &style_layer,
                           .content = content,
                           .style = style,
                           .y = y};
  args.flags = NORMA_STYLE_EPS_ZERO;
  assert_ok(norma_adain(&args, &error), &error);
  double scale = 2 / sqrt(1 + 1e-5);
  assert_close("y of the authors' form", y, (const double[]){12 - scale, 12 + scale}, 2);

  args.flags = 0;
  args.content_ddof = args.style_ddof = 1;
  args.alpha = 0.5;
  assert_ok(norma_adain(&args, &error), &error);
  scale = sqrt(16.0 / 3 + 1e-5) / sqrt(2 + 1e-5);
  assert_close("y of the port, half blended", y, (const double[]){0.5 * (12 - scale), 0.5 * (12 + scale) + 1}, 2);
}

/* Constants that careless sums do not survive: exactly beta, exactly nothing added to dgamma. */
static void a_constant_gives_exactly_beta(void **state) {
  (void)state;
  static const float constants[] = {0, 0.1f, -3.3e9f, 16777215, 3e38f, 1e-44f};
  norma_layer layer;
  norma_error error;
  assert_ok(norma_layer_norm(&layer, 1, 2, (int64_t[]){1, 1000}, &error), &error);
  for (size_t i = 0; i < 2 * COUNT(constants); i++) {
    unsigned flags = i % 2 ? NORMA_EPS_ZERO : 0;
    float x[1000], y[1000], weight[1000], bias[1000], dx[1000], dweight[1000];
    problem_is("1000 times %g, flags %u", (double)constants[i / 2], flags);
    for (int k = 0; k < 1000; k++) {
      x[k] = constants[i / 2];
      weight[k] = 2;
      bias[k] = (float)k + 0.25f;
    }
    assert_ok(norma_forward(&(norma_forward_args){.size = sizeof(norma_forward_args),
                                                  .layer = &layer,
                                                  .x = x,
                                                  .y = y,
                                                  .weight = weight,
                                                  .bias = bias,
                                                  .flags = flags},
                            &error),
              &error);
    assert_same_bits("y", NORMA_F32, y, bias, 1000);
    assert_ok(norma_backward(&(norma_backward_args){.size = sizeof(norma_backward_args),
                                                    .layer = &layer,
                                                    .x = x,
                                                    .dy = weight,
                                                    .dx = dx,
                                                    .weight = weight,
                                                    .dweight = dweight,
                                                    .flags = flags},
                             &error),
              &error);
    for (int k = 0; k < 1000; k++) {
      assert_true(dx[k] == 0 && dweight[k] == 0);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_table_of_layers),
      cmocka_unit_test(group_norm_of_an_nhwc_bfloat16_tensor_with_own_memory),
      cmocka_unit_test(layer_norm_of_numbers_whose_mean_is_no_float32),
      cmocka_unit_test(batch_norm_trains_and_is_evaluated),
      cmocka_unit_test(running_statistics_by_the_other_convention),
      cmocka_unit_test(a_batch_split_over_two_machines),
      cmocka_unit_test(film_takes_its_scale_and_shift_from_one_tensor),
      cmocka_unit_test(adaln_adds_one_to_its_scale),
      cmocka_unit_test(rms_norm_in_place),
      cmocka_unit_test(a_layer_of_ones_own),
      cmocka_unit_test(both_published_forms_of_adain),
      cmocka_unit_test(a_constant_gives_exactly_beta),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
