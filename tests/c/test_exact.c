/* Data whose mean, variance and gradients are exact numbers of few bits and whose rstd is a power of two: what the
 * library returns must equal what the formulas say, without tolerance, at all sizes around the summation tree's
 * boundaries (4 lanes, 16 to a quarter, 4096 to a stretch).
 *
 * A run of the summation tree (the innermost level of a unit) is filled with blocks of distances d from the mean whose
 * sum is 0 and whose squares have the mean 2 (in a run of two elements 1); times a power of two, s. eps makes
 * var + eps = 4 s^2, so rstd = 1 / (2 s) and xhat = d / 2. The gradient is q = a + b d + e where e is orthogonal to 1
 * and d, so dx = rstd * (e + b d (1 - var / (4 s^2))). gamma is a power of two, so dy = q / gamma is exact. */
#include <math.h>
#include <stdlib.h>

#include "support.h"
#include "trial.h"

typedef struct block {
  int length;
  signed char d[4], e[4];
} block;

static const block quad = {4, {2, 0, -2, 0}, {1, -1, 1, -1}};
static const block rich_quad = {4, {2, 1, -2, -1}, {1, -2, -1, 2}}; /* squares of 10, 2 more than its share */
static const block remainders[4] = {{0, {0}, {0}}, {1, {0}, {0}}, {2, {1, -1}, {0, 0}}, {3, {1, -2, 1}, {1, 0, -1}}};

/* d and e of element i in a run of n elements, n >= 2: quads, and behind them a remainder that leaves every stretch of
 * 4096 with the same mean. A remainder of 1 or 2 elements has squares of 2 less than its share. */
static void element_of_run(int64_t i, int64_t n, int *d, int *e) {
  int rest = (int)(n % 4);
  const block *b = i >= n - rest ? &remainders[rest] : i < 4 && (rest == 1 || rest == 2) ? &rich_quad : &quad;
  int64_t at = b->length == 4 ? i % 4 : i - (n - rest);
  *d = b->d[at];
  *e = b->e[at];
}

/* The elements of the innermost level: dimensions from 2 on, or dimension 1 or 0 where those have no shared axis. */
static int64_t run_length(const norma_layer *layer) {
  for (int level = 2; level >= 0; level--) {
    int64_t length = 1;
    for (int k = 0; k < layer->axis_count; k++) {
      const norma_axis *axis = &layer->axes[k];
      length *= (axis->dim < 2 ? axis->dim : 2) == level && axis->bits & NORMA_SHARE ? axis->length : 1;
    }
    if (length > 1) {
      return length;
    }
  }
  return 1;
}

typedef struct expectation {
  trial t;
  double *y, *dx, *dweight, *dbias;
  double mean, var, rstd;
  int64_t m;
} expectation;

static double power(uint64_t *seed, int from, int count) { return ldexp(1, from + (int)random_below(seed, count)); }

/* Numbers of few bits: x has the given mean and distances s * d. */
static expectation expect(const norma_layer *layer, norma_type type, double mean, double s, uint64_t *seed) {
  int64_t elements = norma_layer_elements(layer), units = norma_layer_units(layer);
  int64_t m = norma_layer_unit_elements(layer), params = norma_layer_params(layer), run = run_length(layer);
  size_t bytes = sizeof(double) * (size_t)elements;
  expectation x = {.t = {.layer = *layer, .type = type}, .mean = mean, .rstd = 1 / (2 * s), .m = m};
  x.var = run == 2 ? s * s : 2 * s * s;
  x.t.eps = 4 * s * s - x.var;
  x.t.x = malloc(bytes);
  x.t.dy = malloc(bytes);
  x.y = malloc(bytes);
  x.dx = malloc(bytes);
  x.t.weight = malloc(sizeof(double) * (size_t)params);
  x.t.bias = malloc(sizeof(double) * (size_t)params);
  x.dweight = calloc((size_t)params, sizeof(double));
  x.dbias = calloc((size_t)params, sizeof(double));
  for (int64_t p = 0; p < params; p++) {
    x.t.weight[p] = power(seed, -1, 3);
    x.t.bias[p] = 16 + (double)random_below(seed, 4);
  }
  int64_t *unit = malloc(sizeof(int64_t) * (size_t)elements), *param = malloc(sizeof(int64_t) * (size_t)elements);
  int64_t *filled = calloc((size_t)units, sizeof(int64_t));
  element_maps(layer, unit, param);
  for (int64_t i = 0; i < elements; i++) {
    int d, e;
    element_of_run(filled[unit[i]]++ % run, run, &d, &e);
    double gamma = x.t.weight[param[i]], a = (double)(unit[i] % 3), b = (double)(1 + unit[i] % 2);
    double q = a + 4 * b * d + e, xhat = d * 0.5;
    x.t.x[i] = mean + s * d;
    x.t.dy[i] = q / gamma;
    x.y[i] = xhat * gamma + x.t.bias[param[i]];
    x.dx[i] = x.rstd * ((layer->rms ? a : 0) + e + 4 * b * d * (1 - x.var * x.rstd * x.rstd));
    x.dweight[param[i]] += x.t.dy[i] * xhat;
    x.dbias[param[i]] += x.t.dy[i];
  }
  free(unit);
  free(param);
  free(filled);
  return x;
}

static void assert_equals(const char *name, norma_type type, const void *got, const double *expected, int64_t n) {
  void *narrow = from_doubles(type, expected, n);
  assert_same_bits(name, type, got, narrow, n);
  free(narrow);
}

static void check(const char *name, expectation *x, const manner *m) {
  norma_type type = x->t.type, ptype = norma_param_type(type);
  int64_t elements = norma_layer_elements(&x->t.layer), params = norma_layer_params(&x->t.layer);
  problem_is("%s %s, %lld elements in a unit, %lld in all, mean %g, rstd %g, %s", name, norma_type_name(type),
             (long long)x->m, (long long)elements, x->mean, x->rstd, layout_name(m->x));
  outcome o = trial_run(&x->t, m);
  double var = x->var + (x->t.layer.rms ? x->mean * x->mean : 0), mean = x->t.layer.rms ? 0 : x->mean;
  for (int64_t u = 0; u < norma_layer_units(&x->t.layer); u++) {
    size_t at = norma_type_size(ptype) * (size_t)u;
    assert_equals("mean", ptype, (char *)o.mean + at, &mean, 1);
    assert_equals("var", ptype, (char *)o.var + at, &var, 1);
    assert_equals("rstd", ptype, (char *)o.rstd + at, &x->rstd, 1);
    assert_int_equal(o.moments[u].count, x->m);
    double total = o.moments[u].mean + o.moments[u].mean_lo, m2 = o.moments[u].m2 + o.moments[u].m2_lo;
    assert_equals("moments.mean", NORMA_F64, &total, &mean, 1);
    assert_equals("moments.m2", NORMA_F64, &m2, &(double){var * (double)x->m}, 1);
  }
  assert_equals("y", type, o.y, x->y, elements);
  assert_equals("dx", type, o.dx, x->dx, elements);
  assert_equals("dweight", ptype, o.dweight, x->dweight, params);
  assert_equals("dbias", ptype, o.dbias, x->dbias, params);
  outcome_free(&o);
}

static void expectation_free(expectation *x) {
  trial_free(&x->t);
  free(x->y);
  free(x->dx);
  free(x->dweight);
  free(x->dbias);
}

/* A mean with so many bits that mean + s * d is just representable: a mean that is lost in a narrower sum shows. */
static double large_mean(norma_type type) {
  static const double means[] = {
      [NORMA_F32] = 0x1p22 + 3, [NORMA_F64] = 0x1p50 + 3, [NORMA_F16] = 1003, [NORMA_BF16] = 67};
  return means[type];
}

static void check_all_types(const char *name, const norma_layer *layer, layout l) {
  uint64_t seed = 11;
  for (size_t k = 0; k < COUNT(all_types); k++) {
    norma_type type = all_types[k];
    const double means[] = {0, -3, large_mean(type)}, scales[] = {0.25, 0.5, 1};
    for (int i = 0; i < (layer->rms ? 1 : 3); i++) {
      expectation x = expect(layer, type, means[i], scales[i], &seed);
      check(name, &x, &(manner){.x = l, .y = l, .dy = l, .dx = l});
      expectation_free(&x);
    }
  }
}

static void every_sample_layer_is_exact_in_every_layout(void **state) {
  (void)state;
  const char *name;
  norma_layer layer;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    for (layout l = LAYOUT_DENSE; l < LAYOUT_COUNT && trial_params(&(trial){.layer = layer}) > 0; l++) {
      check_all_types(name, &layer, l);
    }
  }
}

static void units_of_2_to_80_elements_are_exact(void **state) {
  (void)state;
  for (int64_t m = 2; m <= 80; m++) {
    norma_layer layer = parse_layer("n [d]", "d", NULL, 2, (int64_t[]){3, m});
    check_all_types("layer 2-D", &layer, m % 2 ? LAYOUT_DENSE : LAYOUT_REVERSED);
    layer.rms = 1;
    check_all_types("rms 2-D", &layer, LAYOUT_DENSE);
    layer = parse_layer("n c [l]", "c", NULL, 3, (int64_t[]){2, 3, m});
    check_all_types("instance 3-D", &layer, m % 2 ? LAYOUT_CHANNELS_LAST : LAYOUT_DENSE);
    layer = parse_layer("[n] c", "c", NULL, 2, (int64_t[]){m, 5});
    check_all_types("batch 2-D", &layer, LAYOUT_DENSE);
    layer = parse_layer("[n] c [l]", "c", NULL, 3, (int64_t[]){3, 2, m});
    check_all_types("batch 3-D", &layer, m % 2 ? LAYOUT_DENSE : LAYOUT_CHANNELS_LAST);
    layer = parse_layer("n [c] h", "c", NULL, 3, (int64_t[]){2, m, 3});
    check_all_types("layer channels first", &layer, LAYOUT_DENSE);
    layer = parse_layer("n (g [k]) [l]", "(g k)", "g=2", 3, (int64_t[]){2, 6, m});
    check_all_types("group 3-D", &layer, m % 2 ? LAYOUT_DENSE : LAYOUT_CHANNELS_LAST);
  }
}

static void units_around_every_boundary_of_the_tree_are_exact(void **state) {
  (void)state;
  static const int64_t sizes[] = {127,  128,  129,  255,  256,  257,  1023, 1025,
                                  4080, 4095, 4096, 4097, 4112, 8191, 8192, 8197};
  for (size_t i = 0; i < COUNT(sizes); i++) {
    int64_t m = sizes[i];
    norma_layer layer = parse_layer("n [d]", "d", NULL, 2, (int64_t[]){1, m});
    check_all_types("layer 2-D", &layer, LAYOUT_DENSE);
    layer = parse_layer("n c [l]", "c", NULL, 3, (int64_t[]){1, 2, m});
    check_all_types("instance 3-D", &layer, LAYOUT_CHANNELS_LAST);
    layer = parse_layer("[n] c [l]", "c", NULL, 3, (int64_t[]){2, 1, m});
    check_all_types("batch 3-D", &layer, LAYOUT_DENSE);
    layer = parse_layer("[n] c", "c", NULL, 2, (int64_t[]){m, 2});
    check_all_types("batch 2-D", &layer, LAYOUT_DENSE);
    layer = parse_layer("n (g [k]) [l]", "(g k)", "g=1", 3, (int64_t[]){1, 2, m});
    check_all_types("group 3-D", &layer, LAYOUT_DENSE);
    layer = parse_layer("n [c] h", "c", NULL, 3, (int64_t[]){1, m, 2});
    check_all_types("layer channels first", &layer, LAYOUT_DENSE);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_sample_layer_is_exact_in_every_layout),
      cmocka_unit_test(units_of_2_to_80_elements_are_exact),
      cmocka_unit_test(units_around_every_boundary_of_the_tree_are_exact),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
