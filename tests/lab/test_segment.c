/* lab/experiments/segment.c: the mean IoU of a net that passes its input on, so that the pixels are the logits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../lab/experiments/segment.h"

/* What a run would report: none of this may be called. */
void result_metric(result *r, const char *name, double value) { fail_msg("%p %s %g", (void *)r, name, value); }
void result_config(result *r, const char *name, double value) { fail_msg("%p %s %g", (void *)r, name, value); }
void result_config_text(result *r, const char *name, const char *text) { fail_msg("%p %s %s", (void *)r, name, text); }
void result_point(result *r, const char *curve, double x, double y) { fail_msg("%p %s %g %g", (void *)r, curve, x, y); }
void run_progress(double share) { fail_msg("%g", share); }

enum { COUNT = 5, SIDE = 2, PLANE = SIDE * SIDE, CLASSES = 3 };

/* A set of COUNT pictures, their labels, and logits that say `said`. */
static double iou(const int32_t labels[COUNT * PLANE], const int32_t said[COUNT * PLANE], int batch) {
  static real pixels[COUNT * CLASSES * PLANE];
  static int32_t copy[COUNT * PLANE];
  memcpy(copy, labels, sizeof copy);
  for (int i = 0; i < COUNT * PLANE; i++) {
    for (int c = 0; c < CLASSES; c++) {
      pixels[(i / PLANE * CLASSES + c) * PLANE + i % PLANE] = (real)(said[i] == c ? 2 : -c);
    }
  }
  scenes s = {.count = COUNT, .channels = CLASSES, .side = SIDE, .classes = CLASSES, .pixels = pixels, .labels = copy};
  pictures set = scenes_as_pictures(s);
  layer *net = sequence(0);
  double found = mean_iou(net, &set, batch, RUNNING, 0);
  layer_free(net);
  return found;
}

static void the_mean_is_over_classes_and_the_counts_over_all_pictures(void **state) {
  (void)state;
  static const int32_t labels[COUNT * PLANE] = {0, 0, 1, 1, 0, 2, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 2, 0, 0, 0};
  static const int32_t said[COUNT * PLANE] = {0, 1, 1, 1, 0, 2, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0};
  /* Class 0: 11 both, 12 labels + 13 said - 11 = 14 either. 1: 5 of 7. 2: 1 of 2. */
  double expected = 100 * (11.0 / 14 + 5.0 / 7 + 1.0 / 2) / 3;
  for (int batch = 1; batch <= COUNT + 1; batch++) { /* 5 pictures do not fill batches of 2, 3, 4 and 6 */
    assert_true(fabs(iou(labels, said, batch) - expected) < 1e-9);
  }
  assert_true(iou(labels, labels, 2) == 100);
}

static void a_class_that_never_occurs_does_not_count(void **state) {
  (void)state;
  static const int32_t labels[COUNT * PLANE] = {1, 1}, said[COUNT * PLANE] = {1};
  assert_true(fabs(iou(labels, said, 5) - 100 * (18.0 / 19 + 1.0 / 2) / 2) < 1e-9);
  static const int32_t wrong[COUNT * PLANE] = {2}; /* said, though there is none: 0 of 1 */
  static const int32_t none[COUNT * PLANE] = {0};
  assert_true(fabs(iou(none, wrong, 5) - 100 * (19.0 / 20) / 2) < 1e-9);
}

static void an_arm_names_its_norm(void **state) {
  (void)state;
  norm_spec gn = segment_norm("gn_b16", 4), bn = segment_norm("bn_b2", 4), none = segment_norm("none_b1", 4);
  assert_true(gn.kind == NORM_GROUP && gn.groups == 4 && none.kind == NORM_NONE);
  assert_true(bn.kind == NORM_BATCH && bn.ghost == 0); /* the whole batch: no ghost groups */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_mean_is_over_classes_and_the_counts_over_all_pictures),
      cmocka_unit_test(a_class_that_never_occurs_does_not_count),
      cmocka_unit_test(an_arm_names_its_norm),
  };
  return cmocka_run_group_tests_name("segment", tests, NULL, NULL);
}
