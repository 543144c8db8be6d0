/* Every gradient is the derivative: float64, L = sum(dy * y), five-point central differences per element and along a
 * random direction. The step is 1e-3 on numbers of size 1: the truncation (h^4) and the rounding (1e-15 / h per term)
 * are both near 1e-12 of the terms that sum to L, and the tolerance stands two orders above them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"
#include "trial.h"

static const manner plain = {.in_place = 0};
static const double step = 1e-3, tolerance = 1e-9;
enum { CHECKED = 24 }; /* elements checked one by one, at most, in each array */

/* What is differentiated: L as a function of arrays that may be changed in place. */
typedef struct function {
  double (*value)(const void *context);
  const void *context;
} function;

static double weighted_sum(const double *y, const double *dy, int64_t n) {
  long double sum = 0;
  for (int64_t i = 0; i < n; i++) {
    sum += (long double)y[i] * dy[i];
  }
  return (double)sum;
}

/* Dense, forward only. */
static double layer_value(const void *context) {
  const trial *t = context;
  int64_t elements = norma_layer_elements(&t->layer);
  double *y = malloc(sizeof(double) * (size_t)elements);
  norma_error error;
  assert_ok(norma_forward(&(norma_forward_args){.size = sizeof(norma_forward_args),
                                                .layer = &t->layer,
                                                .type = NORMA_F64,
                                                .x = t->x,
                                                .y = y,
                                                .weight = t->weight,
                                                .bias = t->bias,
                                                .eps = t->eps,
                                                .ddof = t->ddof,
                                                .flags = t->flags,
                                                .given_mean = t->given_mean,
                                                .given_var = t->given_var},
                          &error),
            &error);
  double value = weighted_sum(y, t->dy, elements);
  free(y);
  return value;
}

static double adain_value(const void *context) {
  const adain_trial *t = context;
  int64_t elements = norma_layer_elements(&t->content_layer);
  double *y = malloc(sizeof(double) * (size_t)elements);
  norma_error error;
  assert_ok(norma_adain(&(norma_adain_args){.size = sizeof(norma_adain_args),
                                            .content_layer = &t->content_layer,
                                            .style_layer = &t->style_layer,
                                            .type = NORMA_F64,
                                            .content = t->content,
                                            .style = t->style,
                                            .y = y,
                                            .alpha = t->alpha,
                                            .content_eps = t->content_eps,
                                            .style_eps = t->style_eps,
                                            .content_ddof = t->content_ddof,
                                            .style_ddof = t->style_ddof,
                                            .flags = t->flags},
                        &error),
            &error);
  double value = weighted_sum(y, t->dy, elements);
  free(y);
  return value;
}

/* dL/dt at t = 0 of L(array + t * direction). */
static double derivative(const function *f, double *array, const double *direction, int64_t n) {
  static const double points[] = {-2, -1, 1, 2}, factors[] = {1, -8, 8, -1};
  double *kept = malloc(sizeof(double) * (size_t)n), sum = 0;
  memcpy(kept, array, sizeof(double) * (size_t)n);
  for (int k = 0; k < 4; k++) {
    for (int64_t i = 0; i < n; i++) {
      array[i] = kept[i] + points[k] * step * direction[i];
    }
    sum += factors[k] * f->value(f->context);
  }
  memcpy(array, kept, sizeof(double) * (size_t)n);
  free(kept);
  return sum / (12 * step);
}

static void check_gradient(const char *name, const function *f, double *array, const double *gradient, int64_t n,
                           uint64_t *seed) {
  double *direction = calloc((size_t)n, sizeof(double)), size = 0;
  for (int64_t i = 0; i < n; i++) {
    size = fmax(size, fabs(gradient[i]));
  }
  for (int64_t k = 0; k < (n < CHECKED ? n : CHECKED); k++) {
    int64_t i = n <= CHECKED ? k : random_below(seed, n);
    direction[i] = 1;
    double expected = derivative(f, array, direction, n);
    direction[i] = 0;
    if (!(fabs(gradient[i] - expected) <= tolerance * (size + 1))) {
      fail_problem("%s[%lld] is %.12g, the difference quotient is %.12g", name, (long long)i, gradient[i], expected);
    }
  }
  double along = 0, length = 0;
  for (int64_t i = 0; i < n; i++) {
    direction[i] = random_normal(seed) / sqrt((double)n);
    along += gradient[i] * direction[i];
    length += fabs(gradient[i] * direction[i]);
  }
  double expected = derivative(f, array, direction, n);
  if (!(fabs(along - expected) <= tolerance * (length + 1))) {
    fail_problem("%s along a random direction is %.12g, the difference quotient is %.12g", name, along, expected);
  }
  free(direction);
}

static void check_layer(trial *t, uint64_t *seed) {
  function f = {layer_value, t};
  outcome o = trial_run(t, &plain);
  check_gradient("dx", &f, t->x, o.dx, norma_layer_elements(&t->layer), seed);
  if (trial_params(t) > 0) {
    check_gradient("dweight", &f, t->weight, o.dweight, trial_params(t), seed);
    check_gradient("dbias", &f, t->bias, o.dbias, trial_params(t), seed);
  }
  outcome_free(&o);
}

static void check_every_layer(uint64_t seed, double eps, int ddof, unsigned flags, int given) {
  const char *name;
  norma_layer layer;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    trial t = trial_new(&layer, NORMA_F64, &seed, 0.5, 1);
    int64_t units = norma_layer_units(&layer);
    t.eps = eps, t.ddof = ddof, t.flags = flags;
    if (given) {
      t.given_mean = layer.rms ? NULL : random_array(&seed, NORMA_F64, units, 0.5, 0.5);
      t.given_var = random_array(&seed, NORMA_F64, units, 2, 0.1);
    }
    problem_is("%s f64 eps %g ddof %d flags %u%s", name, eps, ddof, flags, given ? " given statistics" : "");
    check_layer(&t, &seed);
    trial_free(&t);
  }
}

static void gradients_of_every_layer(void **state) { (void)state, check_every_layer(41, 0, 0, 0, 0); }

static void gradients_with_a_large_eps(void **state) { (void)state, check_every_layer(42, 0.75, 0, 0, 0); }

static void gradients_with_eps_0(void **state) { (void)state, check_every_layer(43, 0, 0, NORMA_EPS_ZERO, 0); }

static void gradients_with_the_unbiased_variance(void **state) { (void)state, check_every_layer(44, 0.25, 1, 0, 0); }

static void gradients_with_gamma_1_plus_weight(void **state) {
  (void)state;
  uint64_t seed = 45;
  const char *name;
  norma_layer layer;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    trial t = trial_new(&layer, NORMA_F64, &seed, 0.5, 1);
    t.flags = NORMA_WEIGHT_PLUS_ONE;
    problem_is("%s f64 gamma = 1 + weight", name);
    if (trial_params(&t) > 0) {
      check_layer(&t, &seed);
    }
    trial_free(&t);
  }
}

static void gradients_with_given_statistics(void **state) { (void)state, check_every_layer(46, 0.125, 0, 0, 1); }

static void gradients_of_random_layers(void **state) {
  (void)state;
  uint64_t seed = 50;
  for (int i = 0; i < 200; i++) {
    norma_layer layer = random_layer(&seed);
    trial t = trial_new(&layer, NORMA_F64, &seed, 0.5, 1);
    t.eps = 0.5;
    t.ddof = norma_layer_unit_elements(&layer) > 1 && i % 3 == 0;
    check_layer(&t, &seed);
    trial_free(&t);
  }
}

/* Two and three elements in a unit, where every term of the formula matters most. */
static void gradients_of_the_smallest_units(void **state) {
  (void)state;
  uint64_t seed = 47;
  for (int64_t m = 2; m <= 5; m++) {
    for (int rms = 0; rms < 2; rms++) {
      for (int ddof = 0; ddof < 2; ddof++) {
        norma_layer layer;
        norma_error error;
        problem_is("n [d] with d = %lld, rms %d, ddof %d", (long long)m, rms, ddof);
        assert_ok(norma_layer_norm(&layer, 1, 2, (int64_t[]){4, m}, &error), &error);
        layer.rms = rms;
        trial t = trial_new(&layer, NORMA_F64, &seed, 0, 1);
        t.eps = 0.5;
        t.ddof = ddof;
        check_layer(&t, &seed);
        trial_free(&t);
      }
    }
  }
}

static void gradients_of_one_element_per_rms_unit(void **state) {
  (void)state;
  uint64_t seed = 48;
  norma_layer layer;
  norma_error error;
  problem_is("rms of one element");
  assert_ok(norma_layer_rms(&layer, 1, 2, (int64_t[]){7, 1}, &error), &error);
  trial t = trial_new(&layer, NORMA_F64, &seed, 0, 1);
  t.eps = 0.5;
  check_layer(&t, &seed);
  trial_free(&t);
}

static void adain_gradients_with_every_option(void **state) {
  (void)state;
  uint64_t seed = 49;
  static const struct {
    double alpha, content_eps, style_eps;
    unsigned flags;
  } options[] = {{0, 0, 0, 0},
                 {0.375, 0, 0, 0},
                 {1, 0.5, 0.25, 0},
                 {0.75, 0.5, 0, 0},
                 {0, 0, 0, NORMA_EPS_ZERO | NORMA_STYLE_EPS_ZERO},
                 {0.5, 0, 0.25, NORMA_EPS_ZERO},
                 {0, 0, 0, NORMA_STYLE_EPS_ZERO},
                 {0, 0, 0, NORMA_ALPHA_ZERO}};
  const char *name;
  norma_layer content, style;
  for (int i = 0; sample_pair(i, &name, &content, &style); i++) {
    for (size_t k = 0; k < COUNT(options); k++) {
      for (int ddof = 0; ddof < 4; ddof++) {
        adain_trial t = adain_new(&content, &style, NORMA_F64, &seed);
        t.alpha = options[k].alpha, t.flags = options[k].flags;
        t.content_eps = options[k].content_eps, t.style_eps = options[k].style_eps;
        t.content_ddof = ddof & 1, t.style_ddof = ddof >> 1;
        problem_is("%s f64 alpha %g, eps %g and %g, ddof %d and %d, flags %u", name, t.alpha, t.content_eps,
                   t.style_eps, t.content_ddof, t.style_ddof, t.flags);
        function f = {adain_value, &t};
        adain_outcome o = adain_run(&t, &plain);
        check_gradient("dcontent", &f, t.content, o.dcontent, norma_layer_elements(&content), &seed);
        check_gradient("dstyle", &f, t.style, o.dstyle, norma_layer_elements(&style), &seed);
        adain_outcome_free(&o);
        adain_free(&t);
      }
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gradients_of_every_layer),
      cmocka_unit_test(gradients_with_a_large_eps),
      cmocka_unit_test(gradients_with_eps_0),
      cmocka_unit_test(gradients_with_the_unbiased_variance),
      cmocka_unit_test(gradients_with_gamma_1_plus_weight),
      cmocka_unit_test(gradients_with_given_statistics),
      cmocka_unit_test(gradients_of_random_layers),
      cmocka_unit_test(gradients_of_the_smallest_units),
      cmocka_unit_test(gradients_of_one_element_per_rms_unit),
      cmocka_unit_test(adain_gradients_with_every_option),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
