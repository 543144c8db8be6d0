/* Which memory may be shared. Allowed: y = x and dx = dy in place, inputs that share or repeat elements, outputs that
 * interleave with other tensors without meeting them. Everything else is NORMA_OVERLAP, by name, and nothing is
 * written. All views lie in one buffer of SIZE floats. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = 4096, N = 3, CHANNELS = 4, WIDTH = 5, ELEMENTS = N * CHANNELS * WIDTH };

static norma_error error;

static _Alignas(16) float buffer[SIZE], before[SIZE];

static norma_layer instance_layer(void) {
  norma_layer layer;
  assert_ok(norma_layer_instance(&layer, 3, (int64_t[]){N, CHANNELS, WIDTH}, &error), &error);
  return layer;
}

static void fill_buffer(void) {
  uint64_t seed = 1;
  for (int i = 0; i < SIZE; i++) {
    buffer[i] = before[i] = (float)random_normal(&seed);
  }
}

/* A view of the buffer. Strides of NULL: dense. */
typedef struct view {
  int64_t offset;
  const int64_t *strides;
} view;

static norma_forward_args forward_of(const norma_layer *layer, view x, view y) {
  return (norma_forward_args){.size = sizeof(norma_forward_args), .layer = layer, .type = NORMA_F32,
                              .x = buffer + x.offset, .x_strides = x.strides, .y = buffer + y.offset,
                              .y_strides = y.strides};
}

/* Refused, the detail names both in either order, the buffer as it was. */
static void assert_overlap(norma_status status, const char *output, const char *other) {
  char one[64], two[64];
  snprintf(one, sizeof one, "%s overlaps %s:", output, other);
  snprintf(two, sizeof two, "%s overlaps %s:", other, output);
  size_t n = strlen(one);
  if (status != NORMA_OVERLAP || error.status != NORMA_OVERLAP ||
      (strncmp(error.detail, one, n) != 0 && strncmp(error.detail, two, n) != 0)) {
    fail_problem("%s: %s (expected '%s')", norma_status_text(status), error.detail, one);
  }
  if (memcmp(buffer, before, sizeof buffer) != 0) {
    fail_problem("refused, but memory was written");
  }
}

/* Runs on the views and on separate memory: the same y, and nothing but y was written. */
static void assert_allowed(view x, view y) {
  static const int64_t dense[] = {CHANNELS * WIDTH, WIDTH, 1};
  norma_layer layer = instance_layer();
  float expected[ELEMENTS];
  fill_buffer();
  norma_forward_args args = forward_of(&layer, x, y);
  args.y = expected;
  args.y_strides = NULL;
  assert_ok(norma_forward(&args, &error), &error);
  args = forward_of(&layer, x, y);
  assert_ok(norma_forward(&args, &error), &error);
  const int64_t *s = y.strides ? y.strides : dense;
  for (int64_t i = 0; i < ELEMENTS; i++) {
    int64_t n = i / (CHANNELS * WIDTH), c = i / WIDTH % CHANNELS, w = i % WIDTH;
    before[y.offset + n * s[0] + c * s[1] + w * s[2]] = expected[i];
  }
  for (int i = 0; i < SIZE; i++) {
    if (memcmp(&buffer[i], &before[i], sizeof(float)) != 0) {
      fail_problem("float %d of the buffer is %g, not %g", i, buffer[i], before[i]);
    }
  }
}

static void y_may_be_x(void **state) {
  (void)state;
  static const int64_t channels_last[] = {CHANNELS * WIDTH, 1, CHANNELS};
  static const int64_t backwards[] = {-CHANNELS * WIDTH, -WIDTH, -1};
  problem_is("dense");
  assert_allowed((view){100, NULL}, (view){100, NULL});
  problem_is("channels last");
  assert_allowed((view){100, channels_last}, (view){100, channels_last});
  problem_is("backwards");
  assert_allowed((view){1000, backwards}, (view){1000, backwards});
  static const int64_t written_out[] = {CHANNELS * WIDTH, WIDTH, 1};
  problem_is("dense, once by NULL");
  assert_allowed((view){100, NULL}, (view){100, written_out});
}

static void strides_of_dimensions_of_length_one_do_not_matter_in_place(void **state) {
  (void)state;
  norma_layer layer;
  assert_ok(norma_layer_instance(&layer, 3, (int64_t[]){1, CHANNELS, WIDTH}, &error), &error);
  static const int64_t a[] = {20, 5, 1}, b[] = {0, 5, 1};
  fill_buffer();
  norma_forward_args args = forward_of(&layer, (view){8, a}, (view){8, b});
  assert_ok(norma_forward(&args, &error), &error);
}

static void tensors_side_by_side_are_allowed(void **state) {
  (void)state;
  problem_is("y directly behind x");
  assert_allowed((view){100, NULL}, (view){100 + ELEMENTS, NULL});
  problem_is("y directly before x");
  assert_allowed((view){100 + ELEMENTS, NULL}, (view){100, NULL});
}

static void interleaved_views_that_never_meet_are_allowed(void **state) {
  (void)state;
  static const int64_t half_channels[] = {2 * CHANNELS * WIDTH, WIDTH, 1};
  static const int64_t half_channels_last[] = {2 * CHANNELS * WIDTH, 1, 2 * CHANNELS};
  static const int64_t every_second[] = {2 * CHANNELS * WIDTH, 2 * WIDTH, 2};
  static const int64_t every_second_back[] = {-2 * CHANNELS * WIDTH, 2 * WIDTH, -2};
  static const int64_t padded_rows[] = {CHANNELS * 16, 16, 1};
  problem_is("the first and the second half of the channels");
  assert_allowed((view){64, half_channels}, (view){64 + CHANNELS * WIDTH, half_channels});
  assert_allowed((view){64 + CHANNELS * WIDTH, half_channels}, (view){64, half_channels});
  problem_is("the same, channels last");
  assert_allowed((view){64, half_channels_last}, (view){64 + CHANNELS, half_channels_last});
  problem_is("even and odd columns");
  assert_allowed((view){64, every_second}, (view){65, every_second});
  assert_allowed((view){65, every_second}, (view){64, every_second});
  problem_is("even columns, and odd columns backwards");
  assert_allowed((view){64, every_second}, (view){65 + 4 * CHANNELS * WIDTH + 2 * WIDTH - 2, every_second_back});
  problem_is("two tensors in one array of padded rows");
  assert_allowed((view){64, padded_rows}, (view){64 + 8, padded_rows});
}

static void large_interleaved_halves_are_allowed(void **state) {
  (void)state;
  enum { C2 = 128, HW = 49, IMAGES = 4 };
  norma_layer layer;
  assert_ok(norma_layer_group(&layer, 8, 4, (int64_t[]){IMAGES, C2 / 2, 7, 7}, &error), &error);
  float *both = calloc(IMAGES * C2 * HW, sizeof *both);
  static const int64_t nchw[] = {C2 * HW, HW, 7, 1}, nhwc[] = {C2 * HW, 1, 7 * C2, C2};
  norma_forward_args args = {.size = sizeof args, .layer = &layer, .type = NORMA_F32, .x = both, .x_strides = nchw,
                             .y = both + C2 / 2 * HW, .y_strides = nchw};
  problem_is("channels 0..63 and 64..127, NCHW");
  assert_ok(norma_forward(&args, &error), &error);
  args.x_strides = args.y_strides = nhwc;
  args.y = both + C2 / 2;
  problem_is("channels 0..63 and 64..127, NHWC");
  assert_ok(norma_forward(&args, &error), &error);
  args.y = both + C2 / 2 - 1;
  problem_is("channels 0..63 and 63..126, NHWC");
  assert_int_equal(norma_forward(&args, &error), NORMA_OVERLAP);
  free(both);
}

static void partial_overlap_of_x_and_y_is_refused(void **state) {
  (void)state;
  static const int64_t every_second[] = {2 * CHANNELS * WIDTH, 2 * WIDTH, 2};
  static const int64_t channels_last[] = {CHANNELS * WIDTH, 1, CHANNELS};
  static const int64_t backwards[] = {-CHANNELS * WIDTH, -WIDTH, -1};
  static const struct {
    const char *name;
    view x, y;
  } cases[] = {
      {"y one element behind x", {100, NULL}, {101, NULL}},
      {"y one element before x", {100, NULL}, {99, NULL}},
      {"the last element of x is the first of y", {100, NULL}, {100 + ELEMENTS - 1, NULL}},
      {"the last element of y is the first of x", {100 + ELEMENTS - 1, NULL}, {100, NULL}},
      {"the same pointer, other strides", {100, NULL}, {100, channels_last}},
      {"the same memory, backwards", {100, NULL}, {100 + ELEMENTS - 1, backwards}},
      {"even columns in dense x", {100, NULL}, {100, every_second}},
      {"even columns, two columns apart", {100, every_second}, {102, every_second}},
  };
  norma_layer layer = instance_layer();
  for (size_t i = 0; i < COUNT(cases); i++) {
    problem_is("%s", cases[i].name);
    fill_buffer();
    norma_forward_args args = forward_of(&layer, cases[i].x, cases[i].y);
    assert_overlap(norma_forward(&args, &error), "y", "x");
    assert_int_equal(norma_forward(&args, NULL), NORMA_OVERLAP);
  }
}

static void an_output_whose_own_elements_meet_is_refused(void **state) {
  (void)state;
  static const int64_t broadcast[] = {0, WIDTH, 1}, same_channel[] = {CHANNELS * WIDTH, 0, 1};
  static const int64_t rows_too_close[] = {CHANNELS * WIDTH, WIDTH - 1, 1}, equal[] = {WIDTH, WIDTH, 1};
  static const int64_t *const strides[] = {broadcast, same_channel, rows_too_close, equal};
  norma_layer layer = instance_layer();
  for (size_t i = 0; i < COUNT(strides); i++) {
    problem_is("strides %lld, %lld, %lld", (long long)strides[i][0], (long long)strides[i][1],
               (long long)strides[i][2]);
    fill_buffer();
    norma_forward_args args = forward_of(&layer, (view){0, NULL}, (view){1000, strides[i]});
    assert_int_equal(norma_forward(&args, &error), NORMA_OVERLAP);
    assert_non_null(strstr(error.detail, i < 2 ? "y has stride 0" : "y: its strides are not those of a permutation"));
    assert_memory_equal(buffer, before, sizeof buffer);
  }
}

static void inputs_may_repeat_and_share_elements(void **state) {
  (void)state;
  static const int64_t one_image[] = {0, WIDTH, 1}, one_number[] = {0, 0, 0}, sliding[] = {1, 1, 1};
  problem_is("one image for the whole batch");
  assert_allowed((view){100, one_image}, (view){1000, NULL});
  problem_is("one number everywhere");
  assert_allowed((view){100, one_number}, (view){1000, NULL});
  problem_is("sliding windows");
  assert_allowed((view){100, sliding}, (view){1000, NULL});
  problem_is("weight, bias and x in the same memory");
  fill_buffer();
  norma_layer layer = instance_layer();
  norma_forward_args args = forward_of(&layer, (view){100, NULL}, (view){1000, NULL});
  args.weight = args.bias = buffer + 100;
  assert_ok(norma_forward(&args, &error), &error);
}

/* Every other output of forward, placed on x, on y and on each other. */
static void forward_outputs_share_nothing(void **state) {
  (void)state;
  enum { UNITS = N * CHANNELS };
  norma_layer layer = instance_layer();
  static const char *const names[] = {"mean", "rstd", "var", "saved", "moments"};
  for (int i = 0; i < 5; i++) {
    for (int other = 0; other < 4 + i; other++) {
      fill_buffer();
      norma_forward_args args = forward_of(&layer, (view){100, NULL}, (view){1000, NULL});
      args.weight = buffer + 2000;
      args.bias = buffer + 2300;
      float *free_place = buffer + 2600;
      float *places[] = {buffer + 100, buffer + 1000, buffer + 2000, buffer + 2300,
                         free_place,   free_place,    free_place,    free_place};
      void **outputs[] = {&args.mean, &args.rstd, &args.var, (void **)&args.saved, (void **)&args.moments};
      *outputs[i] = places[other];
      if (other >= 4) {
        *outputs[other - 4] = free_place;
      }
      static const char *const others[] = {"x", "y", "weight", "bias", "mean", "rstd", "var", "saved"};
      problem_is("%s on %s", names[i], others[other]);
      assert_overlap(norma_forward(&args, &error), names[i], others[other]);
    }
  }
}

static norma_backward_args backward_of(const norma_layer *layer) {
  return (norma_backward_args){.size = sizeof(norma_backward_args), .layer = layer, .type = NORMA_F32,
                               .x = buffer + 100, .dy = buffer + 300, .dx = buffer + 500, .weight = buffer + 700,
                               .dweight = buffer + 800, .dbias = buffer + 900};
}

static void dx_may_be_dy(void **state) {
  (void)state;
  norma_layer layer = instance_layer();
  fill_buffer();
  norma_backward_args args = backward_of(&layer);
  assert_ok(norma_backward(&args, &error), &error);
  float apart[ELEMENTS];
  memcpy(apart, buffer + 500, sizeof apart);
  args.dx = buffer + 300;
  assert_ok(norma_backward(&args, &error), &error);
  assert_memory_equal(buffer + 300, apart, sizeof apart);
}

static void gradients_share_nothing_else(void **state) {
  (void)state;
  norma_layer layer = instance_layer();
  static const struct {
    const char *output, *other;
    int which;
    int64_t offset;
  } cases[] = {
      {"dx", "x", 0, 100},           {"dx", "dy", 0, 301},           {"dx", "x", 0, 100 + ELEMENTS - 1},
      {"dx", "weight", 0, 690},      {"dweight", "x", 1, 110},       {"dweight", "dy", 1, 300 + ELEMENTS - 1},
      {"dweight", "dx", 1, 500},     {"dweight", "weight", 1, 700},  {"dbias", "dweight", 2, 800},
      {"dbias", "dweight", 2, 803},  {"dbias", "x", 2, 97},          {"dbias", "weight", 2, 702},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    fill_buffer();
    norma_backward_args args = backward_of(&layer);
    void **outputs[] = {&args.dx, &args.dweight, &args.dbias};
    *outputs[cases[i].which] = buffer + cases[i].offset;
    problem_is("%s on %s at %lld", cases[i].output, cases[i].other, (long long)cases[i].offset);
    assert_overlap(norma_backward(&args, &error), cases[i].output, cases[i].other);
  }
}

static void dweight_and_dbias_may_interleave(void **state) {
  (void)state;
  norma_layer layer = instance_layer();
  fill_buffer();
  norma_backward_args args = backward_of(&layer);
  assert_ok(norma_backward(&args, &error), &error);
  float dweight[CHANNELS], dbias[CHANNELS];
  memcpy(dweight, buffer + 800, sizeof dweight);
  memcpy(dbias, buffer + 900, sizeof dbias);
  static const int64_t pairs[] = {0, 2, 0};
  args.dbias = buffer + 801;
  args.dweight_strides = args.dbias_strides = pairs;
  assert_ok(norma_backward(&args, &error), &error);
  for (int c = 0; c < CHANNELS; c++) {
    assert_true(buffer[800 + 2 * c] == dweight[c] && buffer[801 + 2 * c] == dbias[c]);
  }
}

/* Arrays per gamma and per unit are written even where the tensor has no elements. */
static void outputs_of_an_empty_tensor_share_nothing_either(void **state) {
  (void)state;
  norma_layer layer;
  assert_ok(norma_layer_batch(&layer, 3, (int64_t[]){0, CHANNELS, WIDTH}, &error), &error);
  fill_buffer();
  norma_backward_args back = backward_of(&layer);
  back.dbias = back.dweight;
  problem_is("dbias on dweight, no samples");
  assert_overlap(norma_backward(&back, &error), "dbias", "dweight");
  norma_forward_args args = forward_of(&layer, (view){100, NULL}, (view){1000, NULL});
  args.mean = args.rstd = buffer + 2000;
  problem_is("mean on rstd, no samples");
  assert_overlap(norma_forward(&args, &error), "rstd", "mean");
}

static void fold_shares_only_weight_and_bias_with_their_folded_selves(void **state) {
  (void)state;
  norma_layer layer;
  assert_ok(norma_layer_batch(&layer, 3, (int64_t[]){N, CHANNELS, WIDTH}, &error), &error);
  static const struct {
    const char *output, *other;
    int64_t scale, shift, folded_weight, folded_bias;
  } cases[] = {
      {"scale", "mean", 100, 600, 700, 800},          {"shift", "scale", 500, 502, 700, 800},
      {"folded_weight", "weight", 500, 600, 301, 800}, {"folded_bias", "weight", 500, 600, 700, 310},
      {"folded_bias", "bias", 500, 600, 700, 401},     {"folded_weight", "var", 500, 600, 190, 800},
      {"folded_bias", "folded_weight", 500, 600, 700, 719},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    fill_buffer();
    memset(buffer + 200, 0, sizeof(float) * CHANNELS);
    memset(before + 200, 0, sizeof(float) * CHANNELS);
    norma_fold_args args = {.size = sizeof args, .layer = &layer, .mean = buffer + 100, .var = buffer + 200,
                            .scale = (double *)(void *)(buffer + cases[i].scale),
                            .shift = (double *)(void *)(buffer + cases[i].shift), .op = NORMA_LINEAR,
                            .out_channels = CHANNELS, .in_channels = 5, .weight = buffer + 300,
                            .bias = buffer + 400, .folded_weight = buffer + cases[i].folded_weight,
                            .folded_bias = buffer + cases[i].folded_bias};
    problem_is("fold: %s on %s", cases[i].output, cases[i].other);
    assert_overlap(norma_fold(&args, &error), cases[i].output, cases[i].other);
  }
}

static void adain_shares_only_y_with_content_and_dcontent_with_dy(void **state) {
  (void)state;
  norma_layer layer = instance_layer();
  norma_adain_args args = {.size = sizeof args, .content_layer = &layer, .style_layer = &layer, .type = NORMA_F32,
                           .content = buffer + 100, .style = buffer + 300, .y = buffer + 300};
  fill_buffer();
  problem_is("y on style");
  assert_overlap(norma_adain(&args, &error), "y", "style");
  args.y = buffer + 101;
  problem_is("y one behind content");
  assert_overlap(norma_adain(&args, &error), "y", "content");
  args.y = buffer + 100;
  assert_ok(norma_adain(&args, &error), &error);
  args.style = buffer + 100;
  args.y = buffer + 1000;
  problem_is("the content as its own style");
  assert_ok(norma_adain(&args, &error), &error);

  fill_buffer();
  args = (norma_adain_args){.size = sizeof args, .content_layer = &layer, .style_layer = &layer, .type = NORMA_F32,
                            .content = buffer + 100, .style = buffer + 300, .dy = buffer + 500,
                            .dcontent = buffer + 700, .dstyle = buffer + 700};
  problem_is("dstyle on dcontent");
  assert_overlap(norma_adain_backward(&args, &error), "dstyle", "dcontent");
  args.dstyle = buffer + 500;
  problem_is("dstyle on dy");
  assert_overlap(norma_adain_backward(&args, &error), "dstyle", "dy");
  args.dstyle = buffer + 900;
  args.dcontent = buffer + 500;
  assert_ok(norma_adain_backward(&args, &error), &error);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(y_may_be_x),
      cmocka_unit_test(strides_of_dimensions_of_length_one_do_not_matter_in_place),
      cmocka_unit_test(tensors_side_by_side_are_allowed),
      cmocka_unit_test(interleaved_views_that_never_meet_are_allowed),
      cmocka_unit_test(large_interleaved_halves_are_allowed),
      cmocka_unit_test(partial_overlap_of_x_and_y_is_refused),
      cmocka_unit_test(an_output_whose_own_elements_meet_is_refused),
      cmocka_unit_test(inputs_may_repeat_and_share_elements),
      cmocka_unit_test(forward_outputs_share_nothing),
      cmocka_unit_test(dx_may_be_dy),
      cmocka_unit_test(gradients_share_nothing_else),
      cmocka_unit_test(dweight_and_dbias_may_interleave),
      cmocka_unit_test(outputs_of_an_empty_tensor_share_nothing_either),
      cmocka_unit_test(fold_shares_only_weight_and_bias_with_their_folded_selves),
      cmocka_unit_test(adain_shares_only_y_with_content_and_dcontent_with_dy),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
