/* float64 numbers whose squares, quotients or products leave float64: what can be told is told, and held to the bounds
 * of norma_reference_*. */
#include "judge.h"
#include "problem.h"

#include <math.h>
#include <stdio.h>

static norma_error error;

/* var is 1e-600, so rstd is 1 / sqrt(eps), and eps itself must survive whatever x is scaled by. */
static void eps_far_larger_than_a_variance_that_is_no_float64(void **state) {
  (void)state;
  static const double eps[] = {1e-271, 1e-300, 1e-250, 1e-200, 1e-100, 1e-5, 1, 1e300};
  static const double sizes[] = {1e-300, 1e-306, 1e-320, 1e-250, 1e-200};
  norma_layer layer;
  uint64_t seed = 81;
  assert_ok(norma_layer_norm(&layer, 1, 2, (int64_t[]){3, 12}, &error), &error);
  for (size_t k = 0; k < COUNT(eps) * COUNT(sizes); k++) {
    double e = eps[k / COUNT(sizes)], size = sizes[k % COUNT(sizes)];
    trial t = trial_new(&layer, NORMA_F64, &seed, 0, 1);
    t.eps = e;
    for (int i = 0; i < 36; i++) {
      t.x[i] *= size;
    }
    problem_is("eps %g, x about %g", e, size);
    outcome o = trial_run(&t, &(manner){.use_saved = 1});
    const double *rstd = o.rstd;
    for (int u = 0; u < 3 && size * size < 1e-20 * e; u++) {
      if (!(fabs(rstd[u] * sqrt(e) - 1) <= 1e-15)) {
        fail_problem("rstd[%d] is %.17g, not %.17g", u, rstd[u], 1 / sqrt(e));
      }
    }
    judge_forward(&t, &o);
    if (size > 1e-307) { /* the mean of denormal x has too few bits for an xhat of 1e-195 */
      judge_backward(&t, &o);
    }
    outcome_free(&o);
    trial_free(&t);
  }
}

/* xhat is 1e350: dweight may be lost, dbias is a sum of two ordinary numbers. */
static void dbias_does_not_share_the_overflow_of_dweight(void **state) {
  (void)state;
  static const double x[][2] = {{1e200, 1e200}, {1e200, -1e200}, {1e200, 1}}, mean = 0, var = 1e-300;
  static const double dy[] = {1e-250, 1e-250}, large_dy[] = {1e300, 1e300};
  norma_layer layer;
  assert_ok(norma_layer_batch(&layer, 2, (int64_t[]){2, 1}, &error), &error);
  for (size_t k = 0; k < COUNT(x) * 2; k++) {
    double dweight, dbias, exact;
    norma_backward_args args = {.size = sizeof args, .layer = &layer, .type = NORMA_F64, .x = x[k / 2],
                                .dy = k % 2 ? large_dy : dy, .dweight = &dweight, .dbias = &dbias,
                                .flags = NORMA_EPS_ZERO, .given_mean = &mean, .given_var = &var};
    problem_is("x %g and %g, dy %g", x[k / 2][0], x[k / 2][1], k % 2 ? large_dy[0] : dy[0]);
    assert_ok(norma_backward(&args, &error), &error);
    norma_reference out = {.size = sizeof out, .dbias = &exact};
    assert_ok(norma_reference_backward(&args, &out, &error), &error);
    if (dbias != (k % 2 ? 2e300 : 2e-250) || dbias != exact) {
      fail_problem("dbias is %.17g, by the reference %.17g", dbias, exact);
    }
  }
}

/* A problem passes, and the gradients of its input are finite. */
static void assert_passes_finite(const char *text) {
  problem p;
  problem_case c;
  problem_report report;
  double values[64];
  problem_is("%s", text);
  if (!problem_parse(text, &p, &error) || !problem_build(&c, &p, &error)) {
    fail_problem("%s", error.detail);
  }
  if (!problem_run(&c, &error) || !problem_judge(&c, &report, &error)) {
    fail_problem("%s", error.detail);
  }
  assert_true(report.pass);
  for (int role = PROBLEM_DX; role <= PROBLEM_DSTYLE; role++) {
    const problem_tensor *t = &c.tensors[role];
    assert_true(t->elements <= (int64_t)COUNT(values));
    if (t->data) {
      problem_to_double(t, values);
    }
    for (int64_t i = 0; t->data && i < t->elements; i++) {
      if (!isfinite(values[i])) {
        fail_problem("%s[%lld] is %g", problem_role_name((problem_role)role), (long long)i, values[i]);
      }
    }
  }
  problem_free(&c);
}

/* rstd of such a content may be Inf or the next thing to it; times an alpha of 0 it is still 0. */
static void alpha_0_gives_finite_gradients_of_tiny_data(void **state) {
  (void)state;
  static const char form[] =
      "adain:n2,c1,w11,type=f64,dir=bwd,data=tiny,dy=scale:1.9e+06,eps=0,alpha=0,workspace=1,seed=%d";
  char text[PROBLEM_TEXT_SIZE];
  for (int seed = 71850; seed <= 71900; seed++) { /* 71890 was NaN */
    snprintf(text, sizeof text, form, seed);
    assert_passes_finite(text);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(eps_far_larger_than_a_variance_that_is_no_float64),
      cmocka_unit_test(dbias_does_not_share_the_overflow_of_dweight),
      cmocka_unit_test(alpha_0_gives_finite_gradients_of_tiny_data),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
