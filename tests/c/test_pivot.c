/* Two outliers in the places where a pivot is looked for, and one element equal to the mean, where nothing but the
 * error of the mean is left of xhat: 1e-14 standard deviations are allowed (docs/accuracy.md). And a pivot of 0. */
#include "judge.h"

#include <math.h>

static norma_error error;

enum { LENGTH = 4096, PLACE = 5 };

/* The element at PLACE becomes the mean of the others, and so of all. */
static void put_mean(trial *t) {
  double sum = 0;
  t->x[PLACE] = 0;
  for (int64_t i = 0; i < LENGTH; i++) {
    sum += t->x[i];
  }
  t->x[PLACE] = sum / (LENGTH - 1);
  round_array(t->type, t->x, LENGTH);
}

static void an_element_at_the_mean_far_from_the_pivot(void **state) {
  (void)state;
  uint64_t seed = 14;
  norma_layer layer;
  assert_ok(norma_layer_parse(&layer, "n [d]", "", NULL, 2, (int64_t[]){1, LENGTH}, &error), &error);
  for (int k = 0; k < 60; k++) {
    trial t = trial_new(&layer, NORMA_F64, &seed, 1, 1);
    double outlier = ldexp(1 + t.x[7] / 16, 10 + k), other = t.x[8];
    t.type = k % 2 ? NORMA_F64 : NORMA_F32;
    t.flags = NORMA_EPS_ZERO;
    for (int64_t i = 0; i < LENGTH; i++) {
      t.x[i] = i == 0 || i == (LENGTH - 1) / 2 ? outlier : other;
    }
    round_array(t.type, t.x, LENGTH);
    round_array(t.type, t.dy, LENGTH);
    put_mean(&t);
    problem_is("%s, outliers of %g", norma_type_name(t.type), outlier);
    outcome o = trial_run(&t, &(manner){0});
    judge_forward(&t, &o);
    outcome_free(&o);
    trial_free(&t);
  }
}

/* Three values that differ enough for a pivot of 0, while all others are at 1 and some 500 standard deviations from it:
 * squares about 0 alone would have lost six digits of the variance. */
static void a_pivot_of_0_is_given_up_where_it_is_far_from_the_mean(void **state) {
  (void)state;
  uint64_t seed = 15;
  norma_layer layer;
  assert_ok(norma_layer_parse(&layer, "n [d]", "", NULL, 2, (int64_t[]){1, LENGTH}, &error), &error);
  for (int k = 0; k < 20; k++) {
    trial t = trial_new(&layer, NORMA_F32, &seed, 1, 1);
    for (int64_t i = 0; i < LENGTH; i++) {
      t.x[i] = 1 + t.x[i] / 1e6;
    }
    t.x[0] = 0.88, t.x[(LENGTH - 1) / 2] = 0.94;
    round_array(t.type, t.x, LENGTH);
    problem_is("float32, 0.88 and 0.94 among values near 1, case %d", k);
    long double mean = 0, m2 = 0;
    for (int64_t i = 0; i < LENGTH; i++) {
      mean += t.x[i] / (long double)LENGTH;
    }
    for (int64_t i = 0; i < LENGTH; i++) {
      m2 += (t.x[i] - mean) * (t.x[i] - mean);
    }
    outcome o = trial_run(&t, &(manner){.x = (layout)(k % LAYOUT_COUNT)});
    if (fabsl(o.moments->m2 + o.moments->m2_lo - m2) > 1e-13L * m2) {
      fail_problem("m2 is %.17g, not %.17Lg", o.moments->m2, m2);
    }
    outcome_free(&o);
    trial_free(&t);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_pivot_of_0_is_given_up_where_it_is_far_from_the_mean),
      cmocka_unit_test(an_element_at_the_mean_far_from_the_pivot),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
