/* Bits that mean nothing, in flags and in the axes of a layer, are refused: a caller's mistake, or one for a later
 * version of the library, must not pass for a call without them. */
#include "support.h"

#include <stdio.h>
#include <string.h>

static norma_error error;

enum { N = 2, C = 4, L = 3, ELEMENTS = N * C * L, BITS = 32 };

static norma_layer layer, folded;
static const float numbers[ELEMENTS] = {1, 2, 4, 7, 3, 1, 5, 2, 8, 4, 9, 6, 1, 3, 2, 5, 7, 4, 6, 8, 1, 9, 2, 3};
static struct outputs { /* canaries before every call */
  float tensor[ELEMENTS], other[ELEMENTS];
  double scale[C], shift[C];
} out;

static norma_status forward(unsigned flags) {
  return norma_forward(&(norma_forward_args){.size = sizeof(norma_forward_args), .layer = &layer, .x = numbers,
                                             .y = out.tensor, .flags = flags}, &error);
}

static norma_status backward(unsigned flags) {
  return norma_backward(&(norma_backward_args){.size = sizeof(norma_backward_args), .layer = &layer, .x = numbers,
                                               .dy = numbers, .dx = out.tensor, .flags = flags}, &error);
}

static norma_adain_args adain_args(unsigned flags) {
  return (norma_adain_args){.size = sizeof(norma_adain_args), .content_layer = &layer, .style_layer = &layer,
                            .content = numbers, .style = numbers, .y = out.tensor, .dy = numbers,
                            .dcontent = out.tensor, .dstyle = out.other, .flags = flags};
}

static norma_status adain(unsigned flags) {
  norma_adain_args args = adain_args(flags);
  return norma_adain(&args, &error);
}

static norma_status adain_backward(unsigned flags) {
  norma_adain_args args = adain_args(flags);
  return norma_adain_backward(&args, &error);
}

static norma_status fold(unsigned flags) {
  return norma_fold(&(norma_fold_args){.size = sizeof(norma_fold_args), .layer = &folded, .mean = numbers,
                                       .var = numbers, .scale = out.scale, .shift = out.shift, .flags = flags},
                    &error);
}

static norma_status reference_forward(unsigned flags) {
  return norma_reference_forward(&(norma_forward_args){.size = sizeof(norma_forward_args), .layer = &layer,
                                                       .x = numbers, .y = out.tensor, .flags = flags},
                                 &(norma_reference){.size = sizeof(norma_reference), .mean = out.scale}, &error);
}

static const struct {
  const char *name;
  norma_status (*call)(unsigned flags);
  unsigned known;
} functions[] = {
    {"norma_forward", forward, NORMA_EPS_ZERO | NORMA_REFUSE_SINGLE | NORMA_WEIGHT_PLUS_ONE},
    {"norma_backward", backward, NORMA_EPS_ZERO | NORMA_REFUSE_SINGLE | NORMA_WEIGHT_PLUS_ONE},
    {"norma_adain", adain, NORMA_EPS_ZERO | NORMA_REFUSE_SINGLE | NORMA_ALPHA_ZERO | NORMA_STYLE_EPS_ZERO},
    {"norma_adain_backward", adain_backward,
     NORMA_EPS_ZERO | NORMA_REFUSE_SINGLE | NORMA_ALPHA_ZERO | NORMA_STYLE_EPS_ZERO},
    {"norma_fold", fold, NORMA_EPS_ZERO | NORMA_WEIGHT_PLUS_ONE},
};

static void make_layers(void) {
  assert_ok(norma_layer_instance(&layer, 3, (int64_t[]){N, C, L}, &error), &error);
  assert_ok(norma_layer_batch(&folded, 3, (int64_t[]){N, C, L}, &error), &error);
}

static void assert_refused(norma_status status, const char *names) {
  struct outputs untouched;
  memset(&untouched, 0x5a, sizeof untouched);
  if (status != NORMA_BAD_ARGUMENT || error.status != NORMA_BAD_ARGUMENT || !strstr(error.detail, names)) {
    fail_problem("%s: '%s', expected a refusal that names %s", norma_status_text(status), error.detail, names);
  }
  if (memcmp(&out, &untouched, sizeof out) != 0) {
    fail_problem("refused, but something was written");
  }
}

static void each_unknown_flag_is_refused_and_each_known_one_taken(void **state) {
  (void)state;
  make_layers();
  for (size_t f = 0; f < COUNT(functions); f++) {
    for (int bit = 0; bit < BITS; bit++) {
      unsigned flag = 1u << bit;
      char value[16];
      memset(&out, 0x5a, sizeof out);
      memset(&error, 0, sizeof error);
      problem_is("%s, flag 0x%x", functions[f].name, flag);
      if (functions[f].known & flag) {
        assert_ok(functions[f].call(flag), &error);
        continue;
      }
      assert_refused(functions[f].call(flag), "flags");
      snprintf(value, sizeof value, "0x%x", flag);
      assert_non_null(strstr(error.detail, value));
      assert_refused(functions[f].call(flag | functions[f].known), "flags"); /* among right ones */
    }
  }
}

static void the_reference_and_the_workspaces_refuse_the_same(void **state) {
  (void)state;
  make_layers();
  for (int bit = 0; bit < BITS; bit++) {
    unsigned flag = 1u << bit;
    int known = (functions[0].known & flag) != 0, known_to_adain = (functions[2].known & flag) != 0;
    norma_adain_args args = adain_args(flag);
    memset(&out, 0x5a, sizeof out);
    problem_is("flag 0x%x", flag);
    assert_int_equal(reference_forward(flag), known ? NORMA_OK : NORMA_BAD_ARGUMENT);
    size_t forward_bytes = norma_forward_workspace(
        &(norma_forward_args){.size = sizeof(norma_forward_args), .layer = &layer, .flags = flag});
    size_t backward_bytes = norma_backward_workspace(
        &(norma_backward_args){.size = sizeof(norma_backward_args), .layer = &layer, .flags = flag});
    assert_true((forward_bytes > 0) == known);
    assert_true((backward_bytes > 0) == known);
    assert_true((norma_adain_workspace(&args) > 0) == known_to_adain);
  }
}

static void unknown_bits_of_an_axis_are_refused(void **state) {
  (void)state;
  make_layers();
  const norma_layer good = layer, good_folded = folded;
  for (int axis = 0; axis < good.axis_count; axis++) {
    for (int bit = 2; bit < BITS; bit++) {
      char named[32], pattern[64], affine[64];
      layer = good;
      folded = good_folded;
      layer.axes[axis].bits |= 1u << bit;
      folded.axes[axis].bits |= 1u << bit;
      snprintf(named, sizeof named, "axes[%d].bits", axis);
      memset(&out, 0x5a, sizeof out);
      for (size_t f = 0; f < COUNT(functions); f++) {
        problem_is("%s, axis %d, bit %d", functions[f].name, axis, bit);
        memset(&error, 0, sizeof error);
        assert_refused(functions[f].call(0), named);
      }
      problem_is("axis %d, bit %d", axis, bit);
      assert_refused(norma_layer_format(&layer, pattern, sizeof pattern, affine, sizeof affine, &error), named);
      norma_layer before = layer;
      assert_refused(norma_layer_affine(&layer, "c", &error), named);
      assert_memory_equal(&layer, &before, sizeof layer);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_unknown_flag_is_refused_and_each_known_one_taken),
      cmocka_unit_test(the_reference_and_the_workspaces_refuse_the_same),
      cmocka_unit_test(unknown_bits_of_an_axis_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
