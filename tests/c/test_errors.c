/* Each wrong argument of forward, backward, AdaIN and the named layers: the status, the detail, and that nothing is
 * written. Patterns are in test_layers.c, memory in test_overlap.c, running statistics and fold in their own files. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static norma_error error;

enum { N = 2, C = 4, L = 3, ELEMENTS = N * C * L, UNITS = N * C };

/* A correct call of each function on one small instance norm; every test spoils a field. */
typedef struct call {
  norma_layer layer, style_layer;
  float x[ELEMENTS], dy[ELEMENTS], weight[C], given_mean[UNITS], given_var[UNITS];
  norma_saved given_saved[UNITS];
  struct outputs {  /* all canaries before, and after a refused call */
    float y[ELEMENTS], dx[ELEMENTS], mean[UNITS], var[UNITS], rstd[UNITS], dweight[C], dbias[C], dstyle[ELEMENTS];
    norma_saved saved[UNITS];
    norma_moments moments[UNITS];
  } out;
  norma_forward_args forward;
  norma_backward_args backward;
  norma_adain_args adain, adain_backward;
} call;

static void call_make(call *c) {
  uint64_t seed = 1;
  memset(c, 0, sizeof *c);
  memset(&c->out, 0x5a, sizeof c->out);
  assert_ok(norma_layer_instance(&c->layer, 3, (int64_t[]){N, C, L}, &error), &error);
  c->style_layer = c->layer;
  for (int i = 0; i < ELEMENTS; i++) {
    c->x[i] = (float)random_normal(&seed);
  }
  for (int u = 0; u < UNITS; u++) {
    c->given_var[u] = 1;
  }
  c->forward = (norma_forward_args){
      .size = sizeof c->forward, .layer = &c->layer, .x = c->x, .y = c->out.y, .weight = c->weight, .bias = c->weight,
      .mean = c->out.mean, .rstd = c->out.rstd, .var = c->out.var, .saved = c->out.saved, .moments = c->out.moments};
  c->backward = (norma_backward_args){
      .size = sizeof c->backward, .layer = &c->layer, .x = c->x, .dy = c->dy, .dx = c->out.dx, .weight = c->weight,
      .dweight = c->out.dweight, .dbias = c->out.dbias};
  c->adain = (norma_adain_args){
      .size = sizeof c->adain, .content_layer = &c->layer, .style_layer = &c->style_layer, .content = c->x,
      .style = c->dy, .y = c->out.y};
  c->adain_backward = (norma_adain_args){
      .size = sizeof c->adain, .content_layer = &c->layer, .style_layer = &c->style_layer, .content = c->x,
      .style = c->x, .dy = c->dy, .dcontent = c->out.dx, .dstyle = c->out.dstyle};
}

/* The detail is the text, or where the text ends in "...", begins with it. */
static int says(const char *detail, const char *text) {
  size_t n = strlen(text);
  int open = n >= 3 && strcmp(text + n - 3, "...") == 0;
  return open ? strncmp(detail, text, n - 3) == 0 : strcmp(detail, text) == 0;
}

static void assert_refused(const call *c, norma_status got, norma_status expected, const char *text) {
  struct outputs untouched;
  memset(&untouched, 0x5a, sizeof untouched);
  if (got != expected || error.status != expected || !says(error.detail, text)) {
    fail_problem("%s: '%s', not %s: '%s'", norma_status_text(got), error.detail, norma_status_text(expected), text);
  }
  if (memcmp(&c->out, &untouched, sizeof untouched) != 0) {
    fail_problem("refused, but an output was written");
  }
}

/* Runs one function on a call that `spoil` made wrong, with and without norma_error. */
#define REFUSED(function, args, spoil, status, text)                      \
  do {                                                                    \
    call c;                                                               \
    call_make(&c);                                                        \
    spoil;                                                                \
    problem_is("%s: %s", #function, #spoil);                              \
    memset(&error, 0, sizeof error);                                      \
    assert_refused(&c, function(&c.args, &error), status, text);          \
    assert_refused(&c, function(&c.args, NULL), status, text);            \
  } while (0)

#define FORWARD(spoil, status, text) REFUSED(norma_forward, forward, c.forward.spoil, status, text)
#define BACKWARD(spoil, status, text) REFUSED(norma_backward, backward, c.backward.spoil, status, text)
#define BOTH(spoil, status, text) FORWARD(spoil, status, text); BACKWARD(spoil, status, text)
#define ADAIN(spoil, status, text)                                    \
  REFUSED(norma_adain, adain, c.adain.spoil, status, text);           \
  REFUSED(norma_adain_backward, adain_backward, c.adain_backward.spoil, status, text)

static void the_calls_are_correct_before_they_are_spoilt(void **state) {
  (void)state;
  call c;
  call_make(&c);
  assert_ok(norma_forward(&c.forward, &error), &error);
  assert_ok(norma_backward(&c.backward, &error), &error);
  assert_ok(norma_adain(&c.adain, &error), &error);
  assert_ok(norma_adain_backward(&c.adain_backward, &error), &error);
}

static void sizes_of_structs_and_layers(void **state) {
  (void)state;
  FORWARD(size = 0, NORMA_BAD_ARGUMENT, "args->size is 0, must be sizeof(norma_forward_args) = ...");
  FORWARD(size += 8, NORMA_BAD_ARGUMENT, "args->size is ...");
  BACKWARD(size = 1, NORMA_BAD_ARGUMENT, "args->size is 1, must be sizeof(norma_backward_args) = ...");
  ADAIN(size = 2, NORMA_BAD_ARGUMENT, "args->size is 2, must be sizeof(norma_adain_args) = ...");
  BOTH(layer = NULL, NORMA_BAD_ARGUMENT, "layer is NULL");
  ADAIN(content_layer = NULL, NORMA_BAD_ARGUMENT, "content_layer is NULL");
  ADAIN(style_layer = NULL, NORMA_BAD_ARGUMENT, "style_layer is NULL");
  assert_int_equal(norma_forward(NULL, &error), NORMA_BAD_ARGUMENT);
  assert_string_equal(error.detail, "args is NULL");
  assert_int_equal(norma_backward(NULL, &error), NORMA_BAD_ARGUMENT);
  assert_int_equal(norma_adain(NULL, &error), NORMA_BAD_ARGUMENT);
  assert_int_equal(norma_adain_backward(NULL, NULL), NORMA_BAD_ARGUMENT);
}

#define LAYER(spoil, status, text)                                                  \
  REFUSED(norma_forward, forward, c.layer.spoil, status, "layer" text);             \
  REFUSED(norma_backward, backward, c.layer.spoil, status, "layer" text);           \
  REFUSED(norma_adain, adain, c.layer.spoil, status, "content_layer" text);         \
  REFUSED(norma_adain, adain, c.style_layer.spoil, status, "style_layer" text)

static void layers_that_were_filled_by_hand_are_checked(void **state) {
  (void)state;
  LAYER(size = 0, NORMA_BAD_ARGUMENT, "->size is 0, must be ...");
  LAYER(ndim = 0, NORMA_BAD_SHAPE, " has 0 dimensions and 3 axes...");
  LAYER(ndim = 9, NORMA_BAD_SHAPE, " has 9 dimensions and 3 axes...");
  LAYER(axis_count = 17, NORMA_BAD_SHAPE, " has 3 dimensions and 17 axes...");
  LAYER(shape[1] = 5, NORMA_BAD_SHAPE, ": the axes of dimension 1 do not multiply to its 5 elements");
  LAYER(axes[1].length = -4, NORMA_BAD_SHAPE, ": ...");
  LAYER(axes[2].length = INT64_MAX / 4, NORMA_BAD_SHAPE, ": the size of the tensor overflows at axis ...");
  LAYER(axes[2].dim = 1, NORMA_BAD_SHAPE, ": ...");
  LAYER(axes[0].dim = -1, NORMA_BAD_SHAPE, ": ...");
}

static void values_that_are_impossible(void **state) {
  (void)state;
  BOTH(type = (norma_type)7, NORMA_BAD_ARGUMENT, "type is 7, must be one of norma_type");
  BOTH(type = (norma_type)-1, NORMA_BAD_ARGUMENT, "type is -1, must be one of norma_type");
  ADAIN(type = (norma_type)4, NORMA_BAD_ARGUMENT, "type is 4, must be one of norma_type");
  BOTH(eps = -1e-5, NORMA_BAD_ARGUMENT, "eps is -1e-05, must be 0 or more and finite");
  BOTH(eps = NAN, NORMA_BAD_ARGUMENT, "eps is nan, must be 0 or more and finite");
  BOTH(eps = INFINITY, NORMA_BAD_ARGUMENT, "eps is inf, must be 0 or more and finite");
  ADAIN(content_eps = -1, NORMA_BAD_ARGUMENT, "content_eps is -1, must be 0 or more and finite");
  ADAIN(style_eps = NAN, NORMA_BAD_ARGUMENT, "style_eps is nan, must be 0 or more and finite");
  BOTH(ddof = 2, NORMA_BAD_ARGUMENT, "ddof is 2, must be 0 (biased) or 1 (unbiased)");
  BOTH(ddof = -1, NORMA_BAD_ARGUMENT, "ddof is -1, must be 0 (biased) or 1 (unbiased)");
  ADAIN(content_ddof = 3, NORMA_BAD_ARGUMENT, "content_ddof is 3, must be 0 (biased) or 1 (unbiased)");
  ADAIN(style_ddof = -2, NORMA_BAD_ARGUMENT, "style_ddof is -2, must be 0 (biased) or 1 (unbiased)");
  ADAIN(alpha = NAN, NORMA_BAD_ARGUMENT, "alpha is nan, must be finite");
}

static void arrays_that_are_missing_or_too_many(void **state) {
  (void)state;
  BOTH(x = NULL, NORMA_BAD_ARGUMENT, "x is NULL");
  BACKWARD(dy = NULL, NORMA_BAD_ARGUMENT, "dy is NULL");
  ADAIN(content = NULL, NORMA_BAD_ARGUMENT, "content is NULL");
  ADAIN(style = NULL, NORMA_BAD_ARGUMENT, "style is NULL");
  REFUSED(norma_adain, adain, c.adain.y = NULL, NORMA_BAD_ARGUMENT, "y is NULL");
  REFUSED(norma_adain_backward, adain_backward, c.adain_backward.dy = NULL, NORMA_BAD_ARGUMENT, "dy is NULL");
  BOTH(given_mean = c.given_mean, NORMA_BAD_ARGUMENT, "given_var is NULL: given_mean and given_var come together");
  BOTH(given_var = c.given_var, NORMA_BAD_ARGUMENT, "given_mean is NULL: given_mean and given_var come together");
  REFUSED(norma_forward, forward, (c.forward.given_mean = c.given_mean, c.forward.given_var = c.given_var),
          NORMA_BAD_ARGUMENT, "moments is set, but with given statistics none are taken: NULL is right");
  REFUSED(norma_backward, backward, (c.backward.given_mean = c.given_mean, c.backward.given_var = c.given_var,
                                     c.backward.saved = c.given_saved),
          NORMA_BAD_ARGUMENT, "saved and given_var are both set: saved holds statistics of x");
  REFUSED(norma_forward, forward, (c.layer.rms = 1, c.forward.given_mean = c.given_mean), NORMA_BAD_ARGUMENT,
          "given_mean is set, but the mean of an RMS layer is 0: given_var alone is right");
  REFUSED(norma_forward, forward, c.layer.axes[1].bits = 0, NORMA_BAD_ARGUMENT,
          "weight is given, but the affine list of the layer is empty: NULL is right");
  REFUSED(norma_backward, backward, (c.layer.axes[1].bits = 0, c.backward.weight = NULL), NORMA_BAD_ARGUMENT,
          "dweight is given, but the affine list of the layer is empty: NULL is right");
  REFUSED(norma_adain, adain, c.layer.rms = 1, NORMA_BAD_ARGUMENT,
          "content_layer is an RMS layer: AdaIN exchanges means too");
}

static void a_negative_given_variance_is_named_by_its_index(void **state) {
  (void)state;
  static const char text[] = "given_var[5] is -0.25, a variance must not be negative";
  REFUSED(norma_forward, forward, (c.given_var[5] = -0.25f, c.forward.moments = NULL,
                                   c.forward.given_mean = c.given_mean, c.forward.given_var = c.given_var),
          NORMA_BAD_ARGUMENT, text);
  REFUSED(norma_backward, backward,
          (c.given_var[5] = -0.25f, c.backward.given_mean = c.given_mean, c.backward.given_var = c.given_var),
          NORMA_BAD_ARGUMENT, text);
}

static void too_few_values(void **state) {
  (void)state;
  static const char one_mean[] =
      "each mean is taken over 1 value, more than 1 is expected when statistics come from the input";
  static const char one_var[] = "each variance is taken over 1 value, ddof 1 needs at least 2";
#define ONE_POSITION(layer) norma_layer_instance(&c.layer, 3, (int64_t[]){N, C, 1}, NULL)
  REFUSED(norma_forward, forward, (ONE_POSITION(layer), c.forward.flags = NORMA_REFUSE_SINGLE), NORMA_SINGLE_VALUE,
          one_mean);
  REFUSED(norma_backward, backward, (ONE_POSITION(layer), c.backward.flags = NORMA_REFUSE_SINGLE), NORMA_SINGLE_VALUE,
          one_mean);
  REFUSED(norma_forward, forward, (ONE_POSITION(layer), c.forward.ddof = 1), NORMA_SINGLE_VALUE, one_var);
  REFUSED(norma_backward, backward, (ONE_POSITION(layer), c.backward.ddof = 1), NORMA_SINGLE_VALUE, one_var);
  REFUSED(norma_adain, adain, (ONE_POSITION(layer), c.adain.content_ddof = 1), NORMA_SINGLE_VALUE,
          "each variance of the content is taken over 1 value, ddof 1 needs at least 2");
  REFUSED(norma_adain, adain, (ONE_POSITION(style_layer), c.adain.style_ddof = 1), NORMA_SINGLE_VALUE,
          "each variance of the style is taken over 1 value, ddof 1 needs at least 2");
  REFUSED(norma_adain, adain, (ONE_POSITION(layer), c.adain.flags = NORMA_REFUSE_SINGLE), NORMA_SINGLE_VALUE,
          "each mean of the content is taken over 1 value, more than 1 is expected");
  REFUSED(norma_adain_backward, adain_backward,
          (ONE_POSITION(style_layer), c.adain_backward.flags = NORMA_REFUSE_SINGLE), NORMA_SINGLE_VALUE,
          "each mean of the style is taken over 1 value, more than 1 is expected");
  REFUSED(norma_forward, forward, (ONE_POSITION(layer), c.layer.rms = 1, c.forward.flags = NORMA_REFUSE_SINGLE),
          NORMA_SINGLE_VALUE, one_mean);
}

static void content_and_style_must_have_the_same_units(void **state) {
  (void)state;
  REFUSED(norma_adain, adain, norma_layer_instance(&c.style_layer, 3, (int64_t[]){N, 3, 4}, NULL), NORMA_BAD_SHAPE,
          "style has 3 along 'c', the content has 4: they must have the same units");
  REFUSED(norma_adain_backward, adain_backward, norma_layer_norm(&c.style_layer, 1, 2, (int64_t[]){N, 12}, NULL),
          NORMA_BAD_SHAPE, "style has 2 units, the content has 8");
  REFUSED(norma_adain, adain, norma_layer_instance(&c.style_layer, 3, (int64_t[]){N, C, 0}, NULL), NORMA_BAD_SHAPE,
          "style has no elements, and so no statistics for the content");
}

static void pointers_that_are_not_aligned(void **state) {
  (void)state;
#define UNALIGNED(pointer) (void *)((char *)(pointer) + 1)
  FORWARD(x = UNALIGNED(c.x), NORMA_BAD_ARGUMENT, "x is at address ...");
  FORWARD(y = UNALIGNED(c.out.y), NORMA_BAD_ARGUMENT, "y is at address ...");
  FORWARD(weight = UNALIGNED(c.weight), NORMA_BAD_ARGUMENT, "weight is at address ...");
  FORWARD(mean = UNALIGNED(c.out.mean), NORMA_BAD_ARGUMENT, "mean is at address ...");
  FORWARD(saved = UNALIGNED(c.out.saved), NORMA_BAD_ARGUMENT, "saved is at address ...");
  FORWARD(moments = UNALIGNED(c.out.moments), NORMA_BAD_ARGUMENT, "moments is at address ...");
  BACKWARD(dy = UNALIGNED(c.dy), NORMA_BAD_ARGUMENT, "dy is at address ...");
  BACKWARD(dx = UNALIGNED(c.out.dx), NORMA_BAD_ARGUMENT, "dx is at address ...");
  BACKWARD(dbias = UNALIGNED(c.out.dbias), NORMA_BAD_ARGUMENT, "dbias is at address ...");
  BACKWARD(saved = UNALIGNED(c.given_saved), NORMA_BAD_ARGUMENT, "saved is at address ...");
  ADAIN(style = UNALIGNED(c.dy), NORMA_BAD_ARGUMENT, "style is at address ...");
  call c;
  call_make(&c);
  c.forward.y = UNALIGNED(c.out.y);
  assert_int_equal(norma_forward(&c.forward, &error), NORMA_BAD_ARGUMENT);
  assert_non_null(strstr(error.detail, ", must be a multiple of 4 bytes"));
}

static void strides_that_cannot_be(void **state) {
  (void)state;
  static const int64_t repeat[] = {0, 3, 1}, huge[] = {INT64_MAX / 4, 3, 1}, lowest[] = {INT64_MIN, 3, 1};
  static const char only_inputs[] = "y has stride 0 along dimension 0 of 2: only an input can be a broadcast";
  FORWARD(y_strides = repeat, NORMA_OVERLAP, only_inputs);
  BACKWARD(dx_strides = repeat, NORMA_OVERLAP,
           "dx has stride 0 along dimension 0 of 2: only an input can be a broadcast");
  BACKWARD(dbias_strides = (const int64_t[3]){0}, NORMA_OVERLAP,
           "dbias has stride 0 along dimension 1 of 4: only an input can be a broadcast");
  BOTH(x_strides = huge, NORMA_BAD_SHAPE, "x: stride 2305843009213693951 times length 2 overflows");
  BOTH(x_strides = lowest, NORMA_BAD_SHAPE, "x: stride -9223372036854775808 times length 2 overflows");
  FORWARD(y_strides = lowest, NORMA_BAD_SHAPE, "y: stride -9223372036854775808 times length 2 overflows");
  ADAIN(content_strides = huge, NORMA_BAD_SHAPE, "content: stride 2305843009213693951 times length 2 overflows");
}

static void a_workspace_that_is_too_small_says_how_much_is_needed(void **state) {
  (void)state;
  char small[8], text[3][80];
  call c;
  call_make(&c);
  size_t needed[] = {norma_forward_workspace(&c.forward), norma_backward_workspace(&c.backward),
                     norma_adain_workspace(&c.adain)};
  for (int i = 0; i < 3; i++) {
    snprintf(text[i], sizeof text[i], "workspace_size is 8, %zu are needed", needed[i]);
    assert_true(needed[i] > 8);
  }
#define SMALL(a) (c.a.workspace = small, c.a.workspace_size = 8)
  REFUSED(norma_forward, forward, SMALL(forward), NORMA_NO_MEMORY, text[0]);
  REFUSED(norma_backward, backward, SMALL(backward), NORMA_NO_MEMORY, text[1]);
  REFUSED(norma_adain, adain, SMALL(adain), NORMA_NO_MEMORY, text[2]);
  REFUSED(norma_adain_backward, adain_backward, SMALL(adain_backward), NORMA_NO_MEMORY, text[2]);
}

static void the_workspace_of_wrong_arguments_is_0(void **state) {
  (void)state;
  call c;
  call_make(&c);
  c.forward.eps = c.backward.eps = c.adain.style_eps = -1;
  assert_int_equal(norma_forward_workspace(&c.forward), 0);
  assert_int_equal(norma_backward_workspace(&c.backward), 0);
  assert_int_equal(norma_adain_workspace(&c.adain), 0);
  assert_int_equal(norma_forward_workspace(NULL), 0);
  assert_int_equal(norma_backward_workspace(NULL), 0);
  assert_int_equal(norma_adain_workspace(NULL), 0);
}

/* The layer stays as it was. */
#define BAD_LAYER(make, expected, text)                                                                 \
  do {                                                                                                  \
    norma_layer layer, before;                                                                          \
    memset(&layer, 0x5a, sizeof layer);                                                                 \
    before = layer;                                                                                     \
    norma_status got = make;                                                                            \
    if (got != expected || error.status != expected || !says(error.detail, text)) {                     \
      fail_msg("%s: %s: '%s', not '%s'", #make, norma_status_text(got), error.detail, text);            \
    }                                                                                                   \
    assert_memory_equal(&layer, &before, sizeof layer);                                                 \
  } while (0)

static void shapes_that_no_layer_takes(void **state) {
  (void)state;
  static const int64_t shape[9] = {2, 6, 4, 4, 2, 2, 2, 2, 2}, negative[] = {2, 6, -4}, none[] = {2, 0, 4};
  static const int64_t enormous[] = {INT64_MAX / 2, 6, 4}, overflow[] = {4000000000, 4000000000, 4};
  norma_layer *const nothing = NULL;
  BAD_LAYER(norma_layer_batch(nothing, 3, shape, &error), NORMA_BAD_ARGUMENT, "layer is NULL");
  BAD_LAYER(norma_layer_batch(&layer, 3, NULL, &error), NORMA_BAD_ARGUMENT, "shape is NULL");
  BAD_LAYER(norma_layer_parse(&layer, NULL, "", NULL, 3, shape, &error), NORMA_BAD_ARGUMENT, "pattern is NULL");
  BAD_LAYER(norma_layer_batch(&layer, 0, shape, &error), NORMA_BAD_SHAPE, "ndim is 0, must be ...");
  BAD_LAYER(norma_layer_batch(&layer, 9, shape, &error), NORMA_BAD_SHAPE, "ndim is 9, must be ...");
  BAD_LAYER(norma_layer_batch(&layer, 1, shape, &error), NORMA_BAD_SHAPE, "ndim is 1, must be ...");
  BAD_LAYER(norma_layer_instance(&layer, 9, shape, &error), NORMA_BAD_SHAPE, "ndim is 9, must be ...");
  BAD_LAYER(norma_layer_group(&layer, 2, -1, shape, &error), NORMA_BAD_SHAPE, "ndim is -1, must be ...");
  BAD_LAYER(norma_layer_group(&layer, 2, 1, shape, &error), NORMA_BAD_SHAPE, "ndim is 1, must be ...");
  BAD_LAYER(norma_layer_norm(&layer, 1, 0, shape, &error), NORMA_BAD_SHAPE, "ndim is 0, must be ...");
  BAD_LAYER(norma_layer_norm(&layer, 1, 9, shape, &error), NORMA_BAD_SHAPE, "ndim is 9, must be ...");
  BAD_LAYER(norma_layer_norm_dims(&layer, 1, 9, shape, &error), NORMA_BAD_SHAPE, "ndim is 9, must be ...");
  BAD_LAYER(norma_layer_rms(&layer, 1, 9, shape, &error), NORMA_BAD_SHAPE, "ndim is 9, must be ...");
  BAD_LAYER(norma_layer_batch(&layer, 3, negative, &error), NORMA_BAD_SHAPE, "shape[2] is -4, must not be negative");
  BAD_LAYER(norma_layer_norm(&layer, 1, 3, enormous, &error), NORMA_BAD_SHAPE,
            "layer: the size of the tensor overflows at axis ...");
  BAD_LAYER(norma_layer_instance(&layer, 3, overflow, &error), NORMA_BAD_SHAPE,
            "layer: the size of the tensor overflows at axis ...");
  BAD_LAYER(norma_layer_group(&layer, 0, 3, shape, &error), NORMA_BAD_ARGUMENT, "groups is 0, must be at least 1");
  BAD_LAYER(norma_layer_group(&layer, -3, 3, shape, &error), NORMA_BAD_ARGUMENT, "groups is -3, must be at least 1");
  BAD_LAYER(norma_layer_group(&layer, 4, 3, shape, &error), NORMA_BAD_SHAPE,
            "groups is 4, which does not divide the 6 channels of the input");
  BAD_LAYER(norma_layer_group(&layer, 1, 3, none, &error), NORMA_BAD_SHAPE,
            "the input has 0 channels, group norm needs at least 1");
  BAD_LAYER(norma_layer_norm(&layer, 0, 3, shape, &error), NORMA_BAD_ARGUMENT, "count is 0, must be ...");
  BAD_LAYER(norma_layer_norm(&layer, 4, 3, shape, &error), NORMA_BAD_ARGUMENT, "count is 4, must be ...");
  BAD_LAYER(norma_layer_rms(&layer, -1, 3, shape, &error), NORMA_BAD_ARGUMENT, "count is -1, must be ...");
  BAD_LAYER(norma_layer_norm_dims(&layer, 0, 3, shape, &error), NORMA_BAD_ARGUMENT, "dims is 0x0, must ...");
  BAD_LAYER(norma_layer_rms_dims(&layer, 8, 3, shape, &error), NORMA_BAD_ARGUMENT, "dims is 0x8, must ...");
}

static void texts_and_names(void **state) {
  (void)state;
  for (int s = NORMA_OK; s <= NORMA_RANK_LOST; s++) {
    const char *text = norma_status_text((norma_status)s);
    assert_true(strlen(text) > 5);
    for (int other = NORMA_OK; other < s; other++) {
      assert_string_not_equal(text, norma_status_text((norma_status)other));
    }
  }
  assert_string_equal(norma_status_text((norma_status)(NORMA_RANK_LOST + 1)), "unknown status");
  assert_string_equal(norma_status_text((norma_status)-1), "unknown status");
  static const char *const names[] = {"f32", "f64", "f16", "bf16"};
  static const size_t sizes[] = {4, 8, 2, 2};
  for (int t = 0; t < 4; t++) {
    assert_string_equal(norma_type_name((norma_type)t), names[t]);
    assert_int_equal(norma_type_size((norma_type)t), sizes[t]);
    assert_int_equal(norma_param_type((norma_type)t), t == NORMA_F64 ? NORMA_F64 : NORMA_F32);
  }
  assert_string_equal(norma_type_name((norma_type)4), "?");
  assert_int_equal(norma_type_size((norma_type)-1), 0);
  assert_int_equal(norma_version(), NORMA_VERSION);
}

static void strides_of_the_two_layouts(void **state) {
  (void)state;
  int64_t strides[5];
  norma_strides_contiguous(4, (int64_t[]){2, 3, 4, 5}, strides);
  assert_memory_equal(strides, ((int64_t[]){60, 20, 5, 1}), sizeof(int64_t[4]));
  norma_strides_channels_last(4, (int64_t[]){2, 3, 4, 5}, strides);
  assert_memory_equal(strides, ((int64_t[]){60, 1, 15, 3}), sizeof(int64_t[4]));
  norma_strides_channels_last(5, (int64_t[]){2, 3, 4, 5, 6}, strides);
  assert_memory_equal(strides, ((int64_t[]){360, 1, 90, 18, 3}), sizeof(int64_t[5]));
  norma_strides_channels_last(2, (int64_t[]){7, 3}, strides);
  assert_memory_equal(strides, ((int64_t[]){3, 1}), sizeof(int64_t[2]));
  norma_strides_contiguous(1, (int64_t[]){7}, strides);
  assert_int_equal(strides[0], 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_calls_are_correct_before_they_are_spoilt),
      cmocka_unit_test(sizes_of_structs_and_layers),
      cmocka_unit_test(layers_that_were_filled_by_hand_are_checked),
      cmocka_unit_test(values_that_are_impossible),
      cmocka_unit_test(arrays_that_are_missing_or_too_many),
      cmocka_unit_test(a_negative_given_variance_is_named_by_its_index),
      cmocka_unit_test(too_few_values),
      cmocka_unit_test(content_and_style_must_have_the_same_units),
      cmocka_unit_test(pointers_that_are_not_aligned),
      cmocka_unit_test(strides_that_cannot_be),
      cmocka_unit_test(a_workspace_that_is_too_small_says_how_much_is_needed),
      cmocka_unit_test(the_workspace_of_wrong_arguments_is_0),
      cmocka_unit_test(shapes_that_no_layer_takes),
      cmocka_unit_test(texts_and_names),
      cmocka_unit_test(strides_of_the_two_layouts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
