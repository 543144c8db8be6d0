/* Strides and sizes at the ends of int64_t. Strides of arrays that are absent or empty are not looked at; a stride that
 * overflows is refused, also where the lengths of split axes multiply it; a workspace that no memory holds is refused
 * whatever size the caller claims. The sanitizers see what arithmetic does on the way. */
#include "support.h"

#include <string.h>

static norma_error error;

enum { N = 2, C = 4, L = 3, ELEMENTS = N * C * L, UNITS = N * C };

static const float numbers[ELEMENTS] = {1, 2, 4, 7, 3, 1, 5, 2, 8, 4, 9, 6, 1, 3, 2, 5, 7, 4, 6, 8, 1, 9, 2, 3};

static const int64_t wild[][3] = {
    {INT64_MAX, INT64_MAX, INT64_MAX}, {INT64_MIN, INT64_MIN, INT64_MIN}, {INT64_MIN, INT64_MAX, -1},
    {0x5a5a5a5a5a5a5a5a, -0x3c3c3c3c3c3c3c3c, INT64_MAX / 2}, {0, 0, 0}};

static void strides_of_absent_arrays_are_not_looked_at(void **state) {
  (void)state;
  norma_layer layer;
  assert_ok(norma_layer_group(&layer, 2, 3, (int64_t[]){N, C, L}, &error), &error);
  for (size_t k = 0; k < COUNT(wild); k++) {
    const int64_t *w = wild[k];
    float y[ELEMENTS], dx[ELEMENTS], style[ELEMENTS], expected[ELEMENTS], mean[N * 2], expected_mean[N * 2];
    float dbias[C], expected_dbias[C];
    problem_is("strides of absent arrays %lld %lld %lld", (long long)w[0], (long long)w[1], (long long)w[2]);
    norma_forward_args forward = {.size = sizeof forward, .layer = &layer, .x = numbers, .y = expected,
                                  .mean = expected_mean};
    assert_ok(norma_forward(&forward, &error), &error);
    forward.weight_strides = forward.bias_strides = forward.given_strides = w;
    forward.y = y;
    assert_ok(norma_forward(&forward, &error), &error);
    assert_same_bits("y", NORMA_F32, y, expected, ELEMENTS);
    forward.y = NULL;
    forward.y_strides = w;
    forward.mean = mean;
    assert_ok(norma_forward(&forward, &error), &error);
    assert_same_bits("mean", NORMA_F32, mean, expected_mean, N * 2);

    norma_backward_args backward = {.size = sizeof backward, .layer = &layer, .x = numbers, .dy = numbers,
                                    .dx = expected, .dbias = expected_dbias};
    assert_ok(norma_backward(&backward, &error), &error);
    backward.weight_strides = backward.dweight_strides = backward.dbias_strides = backward.given_strides = w;
    backward.dx = dx;
    backward.dbias = NULL;
    assert_ok(norma_backward(&backward, &error), &error);
    assert_same_bits("dx", NORMA_F32, dx, expected, ELEMENTS);
    backward.dx = NULL;
    backward.dx_strides = w;
    backward.dbias = dbias;
    backward.dbias_strides = NULL;
    assert_ok(norma_backward(&backward, &error), &error);
    assert_same_bits("dbias", NORMA_F32, dbias, expected_dbias, C);

    norma_adain_args adain = {.size = sizeof adain, .content_layer = &layer, .style_layer = &layer,
                              .content = numbers, .style = numbers, .y = expected};
    assert_ok(norma_adain(&adain, &error), &error);
    adain.y = y;
    adain.dy_strides = adain.dcontent_strides = adain.dstyle_strides = w;
    assert_ok(norma_adain(&adain, &error), &error);
    assert_same_bits("AdaIN y", NORMA_F32, y, expected, ELEMENTS);
    adain = (norma_adain_args){.size = sizeof adain, .content_layer = &layer, .style_layer = &layer,
                               .content = numbers, .style = numbers, .dy = numbers, .dstyle = expected};
    assert_ok(norma_adain_backward(&adain, &error), &error);
    adain.dstyle = style;
    adain.y_strides = adain.dcontent_strides = w;
    assert_ok(norma_adain_backward(&adain, &error), &error);
    assert_same_bits("dstyle", NORMA_F32, style, expected, ELEMENTS);
  }
}

static void strides_of_empty_tensors_and_of_single_elements_may_be_anything(void **state) {
  (void)state;
  static const int64_t empty[][3] = {{0, C, L}, {N, C, 0}, {0, C, 0}};
  for (size_t k = 0; k < COUNT(wild) * COUNT(empty); k++) {
    const int64_t *shape = empty[k % COUNT(empty)], *w = wild[k / COUNT(empty)];
    float canary[2] = {42, 42}, mean[UNITS], dbias[C];
    norma_layer layer;
    assert_ok(norma_layer_group(&layer, 2, 3, shape, &error), &error);
    problem_is("shape %lld %lld %lld, strides %lld %lld %lld", (long long)shape[0], (long long)shape[1],
               (long long)shape[2], (long long)w[0], (long long)w[1], (long long)w[2]);
    norma_forward_args forward = {.size = sizeof forward, .layer = &layer, .x = numbers, .x_strides = w,
                                  .y = canary, .y_strides = w, .mean = mean};
    assert_ok(norma_forward(&forward, &error), &error);
    norma_backward_args backward = {.size = sizeof backward, .layer = &layer, .x = numbers, .x_strides = w,
                                    .dy = numbers, .dy_strides = w, .dx = canary, .dx_strides = w, .dbias = dbias};
    assert_ok(norma_backward(&backward, &error), &error);
    norma_adain_args adain = {.size = sizeof adain, .content_layer = &layer, .style_layer = &layer,
                              .content = numbers, .content_strides = w, .style = numbers, .style_strides = w,
                              .y = canary, .y_strides = w, .dy = numbers, .dy_strides = w, .dcontent = canary,
                              .dcontent_strides = w, .dstyle = canary + 1, .dstyle_strides = w};
    assert_ok(norma_adain(&adain, &error), &error);
    assert_ok(norma_adain_backward(&adain, &error), &error);
    assert_true(canary[0] == 42 && canary[1] == 42);
  }
  for (size_t k = 0; k < COUNT(wild); k++) {
    norma_layer layer;
    norma_moments moments = {0};
    float y = 42;
    problem_is("one element, stride %lld", (long long)wild[k][1]);
    assert_ok(norma_layer_group(&layer, 1, 3, (int64_t[]){1, 1, 1}, &error), &error);
    norma_forward_args forward = {.size = sizeof forward, .layer = &layer, .x = numbers, .x_strides = wild[k],
                                  .y = &y, .y_strides = wild[k]};
    assert_ok(norma_forward(&forward, &error), &error);
    assert_true(y == 0);
    assert_ok(norma_moments_add(&moments, NORMA_F32, numbers, 0, wild[k][1], &error), &error);
    assert_int_equal(moments.count, 0);
    assert_ok(norma_moments_add(&moments, NORMA_F32, numbers + 3, 1, wild[k][1], &error), &error);
    assert_true(moments.count == 1 && moments.mean == 7);
  }
}

static void assert_too_far(norma_status status, const char *name) {
  if (status != NORMA_BAD_SHAPE || strncmp(error.detail, name, strlen(name)) != 0) {
    fail_problem("%s: %s: '%s', not refused as a shape that overflows", name, norma_status_text(status), error.detail);
  }
}

/* The stride of the groups is the channel stride times the channels of a group: this product overflows first. */
static void a_channel_stride_that_overflows_between_groups_is_refused(void **state) {
  (void)state;
  static const int64_t channel[] = {INT64_MAX, INT64_MIN, INT64_MAX / 2 + 1, -(INT64_MAX / 2) - 2, INT64_MIN / 2,
                                    INT64_MAX / 4 + 1, INT64_MIN / 4};
  for (size_t k = 0; k < COUNT(channel) * 2; k++) {
    const int64_t strides[] = {L * C, channel[k / 2], 1};
    int64_t groups = k % 2 ? 1 : 2; /* four channels in one group, or two in each of two */
    float out[ELEMENTS], untouched[ELEMENTS];
    norma_layer layer;
    memset(out, 0x5a, sizeof out);
    memset(untouched, 0x5a, sizeof untouched);
    assert_ok(norma_layer_group(&layer, groups, 3, (int64_t[]){N, C, L}, &error), &error);
    problem_is("channel stride %lld, %lld groups", (long long)channel[k / 2], (long long)groups);
    norma_forward_args forward = {.size = sizeof forward, .layer = &layer, .x = numbers, .y = out};
    norma_forward_args f = forward;
    f.x_strides = strides;
    assert_too_far(norma_forward(&f, &error), "x");
    f = forward;
    f.y_strides = strides;
    assert_too_far(norma_forward(&f, &error), "y");
    f = forward;
    f.weight = numbers;
    f.weight_strides = strides;
    assert_too_far(norma_forward(&f, &error), "weight");
    norma_backward_args backward = {.size = sizeof backward, .layer = &layer, .x = numbers, .dy = numbers, .dx = out};
    norma_backward_args b = backward;
    b.dy_strides = strides;
    assert_too_far(norma_backward(&b, &error), "dy");
    b = backward;
    b.dx_strides = strides;
    assert_too_far(norma_backward(&b, &error), "dx");
    b = backward;
    b.dx = NULL;
    b.dweight = out;
    b.dweight_strides = strides;
    assert_too_far(norma_backward(&b, &error), "dweight");
    assert_memory_equal(out, untouched, sizeof out);
  }
}

/* The tensor is empty, its gammas are not: each gradient is 0, and written where the strides say. */
static void parameter_gradients_of_an_empty_batch_go_through_their_strides(void **state) {
  (void)state;
  norma_layer layer;
  float dweight[16], dbias[16];
  assert_ok(norma_layer_batch(&layer, 3, (int64_t[]){0, C, L}, &error), &error);
  for (int k = 0; k < 16; k++) {
    dweight[k] = dbias[k] = 42;
  }
  norma_backward_args args = {.size = sizeof args, .layer = &layer, .x = numbers, .x_strides = wild[0],
                              .dy = numbers, .dy_strides = wild[1], .dweight = dweight + 1,
                              .dweight_strides = (int64_t[]){INT64_MIN, 3, INT64_MAX}, .dbias = dbias + 14,
                              .dbias_strides = (int64_t[]){INT64_MAX, -4, INT64_MIN}};
  problem_is("gradients of an empty batch, strides 3 and -4");
  assert_ok(norma_backward(&args, &error), &error);
  for (int k = 0; k < 16; k++) {
    int in_dweight = k >= 1 && k <= 10 && (k - 1) % 3 == 0, in_dbias = k >= 2 && (14 - k) % 4 == 0;
    problem_is("place %d: dweight %g, dbias %g", k, (double)dweight[k], (double)dbias[k]);
    assert_true(dweight[k] == (in_dweight ? 0 : 42));
    assert_true(dbias[k] == (in_dbias ? 0 : 42));
  }
}

/* 2^59 units of one element, all the same element: what is kept of them has more bytes than size_t counts. */
static void a_workspace_that_no_memory_holds_is_refused(void **state) {
  (void)state;
  static const int64_t still[] = {0, 0};
  guarded memory = guarded_new(64); /* a call that believes the caller runs into the page behind it */
  void *small = guarded_place(&memory, GUARD_AFTER, 0, 64);
  norma_layer layer;
  assert_ok(norma_layer_parse(&layer, "n [d]", "", NULL, 2, (int64_t[]){INT64_C(1) << 59, 1}, &error), &error);
  norma_forward_args forward = {.size = sizeof forward, .layer = &layer, .x = numbers, .x_strides = still};
  norma_backward_args backward = {.size = sizeof backward, .layer = &layer, .x = numbers, .x_strides = still,
                                  .dy = numbers, .dy_strides = still};
  norma_adain_args adain = {.size = sizeof adain, .content_layer = &layer, .style_layer = &layer,
                            .content = numbers, .content_strides = still, .style = numbers, .style_strides = still,
                            .dy = numbers, .dy_strides = still};
  assert_true(norma_forward_workspace(&forward) == SIZE_MAX);
  assert_true(norma_backward_workspace(&backward) == SIZE_MAX);
  assert_true(norma_adain_workspace(&adain) == SIZE_MAX);
  forward.workspace = backward.workspace = adain.workspace = small;
  forward.workspace_size = backward.workspace_size = adain.workspace_size = SIZE_MAX;
  problem_is("2^59 units, a workspace that is of SIZE_MAX bytes, says the caller");
  assert_int_equal(norma_forward(&forward, &error), NORMA_NO_MEMORY);
  assert_int_equal(norma_backward(&backward, &error), NORMA_NO_MEMORY);
  assert_int_equal(norma_adain_backward(&adain, &error), NORMA_NO_MEMORY);
  guarded_check(&memory, small, 0, "workspace");
  guarded_free(&memory);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(strides_of_absent_arrays_are_not_looked_at),
      cmocka_unit_test(strides_of_empty_tensors_and_of_single_elements_may_be_anything),
      cmocka_unit_test(a_channel_stride_that_overflows_between_groups_is_refused),
      cmocka_unit_test(parameter_gradients_of_an_empty_batch_go_through_their_strides),
      cmocka_unit_test(a_workspace_that_no_memory_holds_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
