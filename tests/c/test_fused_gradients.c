/* Residuals and activations: every gradient is the derivative of the forward pass (float64, central differences of five
 * points), and no layout, thread or place in memory changes a bit (problem strings). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "problem.h"
#include "support.h"

static norma_error error;

enum { N = 2, C = 4, L = 5, ELEMENTS = N * C * L };

/* ---------------------------------------------------------------------------------------------- the derivative --- */

/* What the loss depends on: sum(dy * y) + sum(dsum * s). */
typedef struct loss {
  norma_layer layer;
  norma_activation activation;
  int64_t params;
  double x[ELEMENTS], residual[ELEMENTS], after[ELEMENTS], weight[ELEMENTS], bias[ELEMENTS];
  double dy[ELEMENTS], dsum[ELEMENTS];
  double given_mean[ELEMENTS], given_var[ELEMENTS];
  int given;
} loss;

static norma_forward_args forward_of(const loss *l, double *y, double *sum) {
  return (norma_forward_args){.size = sizeof(norma_forward_args), .layer = &l->layer, .type = NORMA_F64, .x = l->x,
                              .y = y, .weight = l->weight, .bias = l->bias, .residual = l->residual, .sum = sum,
                              .after = l->after, .activation = l->activation,
                              .given_mean = l->given && !l->layer.rms ? l->given_mean : NULL,
                              .given_var = l->given ? l->given_var : NULL};
}

static long double value(const loss *l) {
  double y[ELEMENTS], sum[ELEMENTS];
  norma_forward_args args = forward_of(l, y, sum);
  assert_ok(norma_forward(&args, &error), &error);
  long double total = 0;
  for (int i = 0; i < ELEMENTS; i++) {
    total += (long double)l->dy[i] * y[i] + (long double)l->dsum[i] * sum[i];
  }
  return total;
}

static void check(const char *name, loss *l, double *array, const double *gradient, int64_t n) {
  static const double at[] = {-2, -1, 1, 2}, factor[] = {1, -8, 8, -1}, step = 1e-3;
  for (int64_t i = 0; i < n; i++) {
    double kept = array[i];
    long double sum = 0;
    for (int k = 0; k < 4; k++) {
      array[i] = kept + at[k] * step;
      sum += factor[k] * value(l);
    }
    array[i] = kept;
    double expected = (double)(sum / (12 * step));
    if (!(fabs(gradient[i] - expected) <= 1e-8 * (1 + fabs(expected)))) {
      fail_problem("%s[%lld] is %.12g, the difference quotient is %.12g", name, (long long)i, gradient[i], expected);
    }
  }
}

/* ReLU has a corner at 0: `after` is moved so that no z lies near it. */
static void keep_off_the_corner(loss *l) {
  double y[ELEMENTS], sum[ELEMENTS];
  norma_forward_args args = forward_of(l, y, sum);
  args.activation = NORMA_ACT_NONE;
  assert_ok(norma_forward(&args, &error), &error);
  for (int i = 0; i < ELEMENTS; i++) {
    l->after[i] += fabs(y[i]) > 0.1 ? 0 : y[i] < 0 ? -0.1 : 0.1;
  }
}

static void check_loss(loss *l) {
  double y[ELEMENTS], sum[ELEMENTS], dx[ELEMENTS], dweight[ELEMENTS], dbias[ELEMENTS], dafter[ELEMENTS];
  norma_forward_args args = forward_of(l, y, sum);
  assert_ok(norma_forward(&args, &error), &error);
  norma_backward_args back = {.size = sizeof back, .layer = &l->layer, .type = NORMA_F64, .x = sum, .dy = l->dy,
                              .dx = dx, .weight = l->weight, .dweight = dweight, .dbias = dbias,
                              .given_mean = args.given_mean, .given_var = args.given_var,
                              .activation = l->activation, .bias = l->bias, .after = l->after, .dafter = dafter,
                              .dsum = l->dsum};
  assert_ok(norma_backward(&back, &error), &error);
  check("dx", l, l->x, dx, ELEMENTS);
  check("dx as the gradient of the residual", l, l->residual, dx, ELEMENTS);
  check("dafter", l, l->after, dafter, ELEMENTS);
  check("dweight", l, l->weight, dweight, l->params);
  check("dbias", l, l->bias, dbias, l->params);
}

static void gradients_are_derivatives(void **state) {
  (void)state;
  static const char *const patterns[][3] = {{"[n] c [l]", "c", NULL},
                                            {"n c [l]", "l", NULL},
                                            {"n [c] l", "n c", NULL},
                                            {"n (g [k]) [l]", "(g k)", "g=2"},
                                            {"n c [l]", "l", "rms"}};
  uint64_t seed = 1;
  for (int p = 0; p < 10; p++) {
    for (int a = NORMA_ACT_NONE; a <= NORMA_GELU_TANH; a++) {
      const char *const *pattern = patterns[p / 2];
      int rms = pattern[2] && strcmp(pattern[2], "rms") == 0;
      loss l = {.activation = (norma_activation)a, .given = p % 2};
      problem_is("%s%s, activation %d%s", pattern[0], rms ? ", rms" : "", a, l.given ? ", given" : "");
      assert_ok(norma_layer_parse(&l.layer, pattern[0], pattern[1], rms ? NULL : pattern[2], 3,
                                  (int64_t[]){N, C, L}, &error),
                &error);
      l.layer.rms = rms;
      l.params = norma_layer_params(&l.layer);
      double *const arrays[] = {l.x, l.residual, l.after, l.weight, l.bias, l.dy, l.dsum, l.given_mean};
      for (size_t k = 0; k < COUNT(arrays); k++) {
        for (int i = 0; i < ELEMENTS; i++) {
          arrays[k][i] = random_normal(&seed);
          l.given_var[i] = 0.5 + random_uniform(&seed);
        }
      }
      keep_off_the_corner(&l);
      check_loss(&l);
    }
  }
}

/* ------------------------------------------------------------------------------------------------ the same bits --- */

static uint64_t checksum(const char *text) {
  problem p;
  problem_case c;
  problem_report report;
  problem_is("%s", text);
  if (!problem_parse(text, &p, &error) || !problem_build(&c, &p, &error) || !problem_run(&c, &error) ||
      !problem_judge(&c, &report, &error)) {
    fail_problem("%s", error.detail);
  }
  if (!report.pass) {
    fail_problem("beyond its bound");
  }
  problem_free(&c);
  return report.checksum;
}

static void no_manner_changes_a_bit(void **state) {
  (void)state;
  static const char *const layers[] = {"batch:n3,c5,h31,w33", "layer:n5,t7,d300", "instance:n3,c5,h31,w33,affine=n c",
                                       "group:n3,c6,h31,w33,g=3", "rms:n5,t7,d300"};
  static const char *const acts[] = {"none", "relu", "silu", "gelu", "gelu_tanh"};
  static const char *const manners[] = {"layout=channels_last", "layout=slice", "layout=reverse,align=3",
                                        "layout=transpose,out=contiguous", "threads=3", "inplace=1", "stats=saved",
                                        "layout=reverse,inplace=1,threads=2,workspace=1"};
  for (size_t l = 0; l < COUNT(layers); l++) {
    for (int t = 0; t < 4; t++) {
      size_t a = (l + (size_t)t) % COUNT(acts);
      char plain[160], text[256];
      snprintf(plain, sizeof plain, "%s,dir=both,type=%s,act=%s,add=both", layers[l], norma_type_name(all_types[t]),
               acts[a]);
      uint64_t expected = checksum(plain);
      for (size_t m = 0; m < COUNT(manners); m++) {
        snprintf(text, sizeof text, "%s,%s", plain, manners[m]);
        if (checksum(text) != expected) {
          fail_problem("other bits than %s", plain);
        }
      }
    }
  }
}

static void words_are_read_and_written(void **state) {
  (void)state;
  static const char *const good[] = {"batch:n2,c3,act=relu", "batch:n2,c3,act=gelu_tanh,add=before",
                                     "batch:n2,c3,act=silu,add=both,inplace=1", "batch:n2,c3,add=after"};
  problem p;
  char text[PROBLEM_TEXT_SIZE];
  for (size_t i = 0; i < COUNT(good); i++) {
    assert_true(problem_parse(good[i], &p, &error));
    problem_format(&p, text, sizeof text);
    assert_string_equal(text, good[i]);
  }
  assert_true(problem_parse("batch:n2,c3,act=none,add=none", &p, &error));
  problem_format(&p, text, sizeof text);
  assert_string_equal(text, "batch:n2,c3");
  assert_false(problem_parse("batch:n2,c3,act=swish", &p, &error));
  assert_non_null(strstr(error.detail, "none, relu, silu, gelu or gelu_tanh"));
  assert_false(problem_parse("batch:n2,c3,add=1", &p, &error));
  assert_non_null(strstr(error.detail, "none, before, after or both"));
  assert_false(problem_parse("adain:n2,c3,h4,act=relu", &p, &error));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gradients_are_derivatives),
      cmocka_unit_test(no_manner_changes_a_bit),
      cmocka_unit_test(words_are_read_and_written),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
