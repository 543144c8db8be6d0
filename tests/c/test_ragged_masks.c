/* Masks: within the bounds of the reference on the valid positions alone, the bits of lengths where they are lengths,
 * nothing of what stands in the padding, and derivatives; and what is refused. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"
#include "ragged_cut.h"
#include "trial.h"

static const struct {
  const char *pattern, *affine, *sizes;
  int rms, ndim;
  int64_t shape[4];
  int first, last; /* the dimensions of the mask besides 0; 0: none */
} layers[] = {
    {"[n] c [h w]", "c", NULL, 0, 4, {3, 5, 4, 6}, 2, 3},        {"[n] c [l]", "c", NULL, 0, 3, {4, 20, 9}, 2, 2},
    {"[n t] c", "c", NULL, 0, 3, {4, 9, 7}, 1, 1},               {"[n] c", "c", NULL, 0, 2, {9, 5}, 0, 0},
    {"[n] c [h w]", "c", NULL, 1, 4, {3, 5, 4, 6}, 2, 3},        {"n c [h w]", "c", NULL, 0, 4, {3, 5, 4, 6}, 2, 3},
    {"n (g [k]) [h w]", "(g k)", "g=2", 0, 4, {3, 6, 4, 5}, 2, 3}, {"n [c h w]", "c", NULL, 0, 4, {3, 5, 4, 6}, 2, 3},
    {"n t [d]", "d", NULL, 0, 3, {4, 6, 20}, 1, 1},              {"n t [d]", "d", NULL, 1, 3, {4, 6, 20}, 1, 1},
    {"n [c] h w", "c", NULL, 0, 4, {3, 5, 4, 6}, 2, 3},          {"n h w [d]", "d", NULL, 0, 4, {3, 4, 5, 8}, 1, 2},
    {"n [d]", "d", NULL, 0, 2, {9, 20}, 0, 0},                   {"n [t d]", "d", NULL, 1, 3, {4, 6, 20}, 1, 1},
};

enum { MOST_POSITIONS = 200 };

typedef struct mask_case {
  ragged_case c;
  ragged_manner m;
  uint8_t bytes[MOST_POSITIONS];
  int64_t strides[NORMA_MAX_DIMS];
} mask_case;

/* `density` of 0 to 1: how many positions are valid. */
static void make_case(mask_case *k, size_t which, norma_type type, double density, bool fused, uint64_t *seed) {
  *k = (mask_case){.c.type = type};
  k->c.layer = parse_layer(layers[which].pattern, layers[which].affine, layers[which].sizes, layers[which].ndim,
                           layers[which].shape);
  k->c.layer.rms = layers[which].rms;
  int64_t count = 1;
  for (int d = layers[which].last; d > 0 && d >= layers[which].first; d--) {
    k->strides[d] = count;
    count *= layers[which].shape[d];
  }
  k->strides[0] = count;
  for (int i = 0; i < MOST_POSITIONS; i++) k->bytes[i] = random_uniform(seed) < density ? (uint8_t)(1 + i % 3) : 0;
  k->m.mask = k->bytes, k->m.mask_strides = k->strides;
  ragged_fill(&k->c, seed, fused);
}

static bool across(const ragged_case *c) { return c->layer.axes[0].bits & NORMA_SHARE; }

/* ---------------------------------------------------------------------------------------------- the reference --- */

/* The valid elements of samples first..end-1 as one dense tensor [1][c][m], or, without positions, in their order. */
typedef struct compact {
  norma_layer layer;
  int64_t count, *where;
  double *x, *dy;
} compact;

static compact make_compact(const mask_case *k, size_t which, int64_t first, int64_t end) {
  const ragged_case *c = &k->c;
  int64_t n = norma_layer_elements(&c->layer), per_sample = n / c->layer.shape[0];
  compact t = {.where = malloc((size_t)n * sizeof *t.where)};
  t.x = malloc((size_t)n * sizeof *t.x), t.dy = malloc((size_t)n * sizeof *t.dy);
  int64_t rows = across(c) && layers[which].first == 2 ? c->layer.shape[1] : 1, row = per_sample / rows;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = first * per_sample; i < end * per_sample; i++) {
      if (i % per_sample / row != r || !ragged_valid(c, &k->m, i)) continue;
      t.x[t.count] = c->x[i], t.dy[t.count] = c->dy[i];
      t.where[t.count++] = i;
    }
  /* One dimension in place of the positions; samples, where several are taken together, join it. */
  int64_t shape[NORMA_MAX_DIMS], others = 1;
  int ndim = 0;
  for (int d = 0; d < c->layer.ndim; d++) {
    bool position = d > 0 && d >= layers[which].first && d <= layers[which].last;
    if (position && d > layers[which].first) continue;
    shape[ndim++] = position || d == 0 ? 1 : c->layer.shape[d];
    others *= shape[ndim - 1];
  }
  shape[layers[which].first ? layers[which].first : 0] = t.count / others;
  char pattern[64];
  snprintf(pattern, sizeof pattern, "%s", layers[which].pattern);
  char *space = strstr(pattern, "h w");
  if (space) memcpy(space, "  m", 3);
  t.layer = parse_layer(pattern, layers[which].affine, layers[which].sizes, ndim, shape);
  t.layer.rms = c->layer.rms;
  return t;
}

static void free_compact(compact *t) { free(t->where), free(t->x), free(t->dy); }

static void assert_within(const char *name, double got, double right, double bound, int64_t i) {
  if (!(fabs(got - right) <= bound))
    fail_problem("%s[%d] is %.9g, the reference has %.9g, allowed is %.3g", name, (int)i, got, right, bound);
}

typedef struct param_sums {
  double value[2][64], bound[2][64];
} param_sums;

static void judge(const mask_case *k, const compact *t, const double *y, const double *dx, param_sums *sums) {
  const ragged_case *c = &k->c;
  int64_t params = norma_layer_params(&c->layer);
  double *out[4];
  for (int i = 0; i < 4; i++) out[i] = calloc((size_t)t->count + 1, sizeof *out[i]);
  double dw[64], dwb[64], db[64], dbb[64];
  norma_type param = norma_param_type(c->type);
  void *x = from_doubles(c->type, t->x, t->count), *dy = from_doubles(c->type, t->dy, t->count);
  void *weight = from_doubles(param, c->weight, params), *bias = from_doubles(param, c->bias, params);
  norma_forward_args a = {.size = sizeof a, .layer = &t->layer, .type = c->type, .x = x};
  norma_backward_args b = {.size = sizeof b, .layer = &t->layer, .type = c->type, .x = x, .dy = dy, .weight = weight};
  a.weight = weight, a.bias = bias;
  norma_reference ref = {.size = sizeof ref, .y = out[0], .y_bound = out[1], .dx = out[2], .dx_bound = out[3]};
  ref.dweight = dw, ref.dweight_bound = dwb, ref.dbias = db, ref.dbias_bound = dbb;
  norma_error error = {0};
  assert_ok(norma_reference_forward(&a, &ref, &error), &error);
  assert_ok(norma_reference_backward(&b, &ref, &error), &error);
  for (int64_t i = 0; i < t->count; i++) {
    assert_within("y", y[t->where[i]], out[0][i], out[1][i], t->where[i]);
    assert_within("dx", dx[t->where[i]], out[2][i], out[3][i], t->where[i]);
  }
  for (int64_t i = 0; i < params; i++) {
    sums->value[0][i] += dw[i], sums->bound[0][i] += dwb[i];
    sums->value[1][i] += db[i], sums->bound[1][i] += dbb[i];
  }
  for (int i = 0; i < 4; i++) free(out[i]);
  free(x), free(dy), free(weight), free(bias);
}

static void check_reference(mask_case *k, size_t which) {
  const ragged_case *c = &k->c;
  ragged_results r = ragged_run(c, &k->m);
  int64_t n = norma_layer_elements(&c->layer), params = norma_layer_params(&c->layer), samples = c->layer.shape[0];
  double *y = to_doubles(c->type, r.y, n), *dx = to_doubles(c->type, r.dx, n);
  param_sums sums = {0};
  for (int64_t s = 0; s < (across(c) ? 1 : samples); s++) {
    compact t = make_compact(k, which, s, across(c) ? samples : s + 1);
    if (t.count > 0) judge(k, &t, y, dx, &sums);
    free_compact(&t);
  }
  for (int64_t i = 0; i < n; i++)
    if (!ragged_valid(c, &k->m, i) && (y[i] != 0 || dx[i] != 0)) fail_problem("padding %d is not 0", (int)i);
  const void *got[2] = {r.dweight, r.dbias};
  for (int g = 0; g < 2; g++) {
    double *values = to_doubles(norma_param_type(c->type), got[g], params);
    for (int64_t i = 0; i < params; i++)
      assert_within(g ? "dbias" : "dweight", values[i], sums.value[g][i], sums.bound[g][i], i);
    free(values);
  }
  free(y), free(dx);
  ragged_results_free(&r);
}

static void any_mask_is_within_the_bounds_of_the_valid_positions(void **state) {
  (void)state;
  static const double densities[] = {0.6, 0.97, 0.25};
  uint64_t seed = 23;
  for (size_t which = 0; which < COUNT(layers); which++)
    for (size_t t = 0; t < COUNT(all_types); t++)
      for (int l = 0; l < LAYOUT_COUNT; l++) {
        mask_case k;
        make_case(&k, which, all_types[t], densities[l % 3], false, &seed);
        k.m.l = (layout)l, k.m.in_place = l % 2, k.m.recompute = l % 3 == 0;
        k.m.poison = l % 3 ? NAN : -INFINITY;
        problem_is("%s, rms %d, %s, %s", layers[which].pattern, layers[which].rms, norma_type_name(all_types[t]),
                   layout_name(k.m.l));
        check_reference(&k, which);
        ragged_free(&k.c);
      }
}

/* ------------------------------------------------------------------------------------------------------- bits --- */

static void assert_same_results(const ragged_case *c, const ragged_results *a, const ragged_results *b) {
  int64_t n = norma_layer_elements(&c->layer), params = norma_layer_params(&c->layer);
  norma_type param = norma_param_type(c->type);
  size_t units = (size_t)norma_layer_units(&c->layer);
  assert_same_bits("y", c->type, a->y, b->y, n);
  assert_same_bits("dx", c->type, a->dx, b->dx, n);
  assert_same_bits("sum", c->type, a->sum, b->sum, n);
  assert_same_bits("dafter", c->type, a->dafter, b->dafter, n);
  assert_same_bits("dweight", param, a->dweight, b->dweight, params);
  assert_same_bits("dbias", param, a->dbias, b->dbias, params);
  assert_same_bits("mean", param, a->mean, b->mean, (int64_t)units);
  assert_same_bits("var", param, a->var, b->var, (int64_t)units);
  assert_same_bits("rstd", param, a->rstd, b->rstd, (int64_t)units);
  assert_memory_equal(a->saved, b->saved, units * sizeof *a->saved);
  assert_memory_equal(a->moments, b->moments, units * sizeof *a->moments);
}

static void padding_and_layout_change_no_bit(void **state) {
  (void)state;
  static const double poisons[] = {NAN, INFINITY, -1000, 3};
  uint64_t seed = 29;
  for (size_t which = 0; which < COUNT(layers); which++)
    for (size_t t = 0; t < COUNT(all_types); t++) {
      mask_case k;
      make_case(&k, which, all_types[t], 0.7, true, &seed);
      k.c.padding = which % 2 ? NORMA_PAD_BETA : NORMA_PAD_ZERO;
      k.c.activation = which % 3 ? NORMA_GELU : NORMA_ACT_NONE;
      ragged_results first = ragged_run(&k.c, &k.m);
      for (int l = 0; l < LAYOUT_COUNT; l++) {
        k.m.l = (layout)l, k.m.poison = poisons[l % 4], k.m.in_place = l % 2, k.m.recompute = l % 3 == 0;
        problem_is("%s, %s, %s, padding of %g", layers[which].pattern, norma_type_name(all_types[t]),
                   layout_name(k.m.l), k.m.poison);
        ragged_results again = ragged_run(&k.c, &k.m);
        assert_same_results(&k.c, &again, &first);
        ragged_results_free(&again);
      }
      ragged_results_free(&first);
      ragged_free(&k.c);
    }
}

static void threads_change_no_bit(void **state) {
  (void)state;
  static const char *const patterns[] = {"[n] c [l]", "n c [l]", "n [c] l"};
  static const int64_t shape[3] = {5, 400, 500};
  uint64_t seed = 41;
  for (size_t which = 0; which < COUNT(patterns); which++) {
    ragged_case c = {.dim = 2, .lengths = {500, 17, 0, 400, 400}};
    c.layer = parse_layer(patterns[which], "c", NULL, 3, shape);
    ragged_fill(&c, &seed, true);
    pool p = {.threads = 3, .order = POOL_SHUFFLED, .seed = 1};
    norma_threads threads = pool_threads(&p);
    ragged_manner alone = {.poison = 3}, together = {.threads = &threads, .poison = NAN};
    ragged_results right = ragged_run(&c, &alone), got = ragged_run(&c, &together);
    assert_true(p.calls > 0);
    assert_same_results(&c, &got, &right);
    ragged_results_free(&right), ragged_results_free(&got);
    ragged_free(&c);
  }
}

static void a_mask_of_lengths_has_the_bits_of_lengths(void **state) {
  (void)state;
  uint64_t seed = 31;
  for (size_t which = 0; which < COUNT(layers); which++)
    for (int dim = layers[which].first; dim > 0 && dim <= layers[which].last; dim++)
      for (size_t t = 0; t < COUNT(all_types); t++) {
        mask_case k;
        make_case(&k, which, all_types[t], 0, true, &seed);
        k.c.dim = dim, k.c.padding = NORMA_PAD_BETA;
        for (int64_t s = 0; s < k.c.layer.shape[0]; s++) k.c.lengths[s] = random_below(&seed, k.c.layer.shape[dim] + 1);
        for (int64_t i = 0; i < norma_layer_elements(&k.c.layer); i++) {
          int64_t rest = i, at = 0, along = 0;
          for (int d = k.c.layer.ndim - 1; d > 0; rest /= k.c.layer.shape[d--]) {
            at += rest % k.c.layer.shape[d] * k.strides[d];
            if (d == dim) along = rest % k.c.layer.shape[d];
          }
          k.bytes[at + rest * k.strides[0]] = along < k.c.lengths[rest];
        }
        ragged_manner by_lengths = {.poison = 7};
        problem_is("%s, dim %d, %s", layers[which].pattern, dim, norma_type_name(all_types[t]));
        k.m.poison = NAN;
        ragged_results masked = ragged_run(&k.c, &k.m), cut = ragged_run(&k.c, &by_lengths);
        assert_same_results(&k.c, &masked, &cut);
        ragged_results_free(&masked), ragged_results_free(&cut);
        ragged_free(&k.c);
      }
}

/* ------------------------------------------------------------------------------------------------- derivatives --- */

static double loss(const mask_case *k) {
  int64_t n = norma_layer_elements(&k->c.layer);
  ragged_results r = ragged_run(&k->c, &k->m);
  long double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += (long double)((double *)r.y)[i] * k->c.dy[i];
  ragged_results_free(&r);
  return (double)sum;
}

/* The five-point formula. */
static double slope(const mask_case *k, double *at) {
  static const double step = 1e-3;
  double kept = *at, value[4];
  static const int moves[4] = {-2, -1, 1, 2};
  for (int i = 0; i < 4; i++) {
    *at = kept + moves[i] * step;
    value[i] = loss(k);
  }
  *at = kept;
  return (value[0] - 8 * value[1] + 8 * value[2] - value[3]) / (12 * step);
}

static void assert_slopes(const char *name, const mask_case *k, double *at, const double *gradient, int64_t n) {
  for (int64_t i = 0; i < n; i += 1 + n / 40) {
    double measured = slope(k, &at[i]);
    if (!(fabs(measured - gradient[i]) <= 1e-9))
      fail_problem("%s[%d] is %g, not %g", name, (int)i, gradient[i], measured);
  }
}

static void gradients_are_derivatives(void **state) {
  (void)state;
  uint64_t seed = 37;
  for (size_t which = 0; which < COUNT(layers); which++) {
    mask_case k;
    make_case(&k, which, NORMA_F64, 0.8, false, &seed);
    k.c.activation = which % 2 ? NORMA_SILU : NORMA_ACT_NONE;
    problem_is("%s, rms %d", layers[which].pattern, layers[which].rms);
    ragged_results r = ragged_run(&k.c, &k.m);
    assert_slopes("dx", &k, k.c.x, r.dx, norma_layer_elements(&k.c.layer));
    assert_slopes("dweight", &k, k.c.weight, r.dweight, norma_layer_params(&k.c.layer));
    assert_slopes("dbias", &k, k.c.bias, r.dbias, norma_layer_params(&k.c.layer));
    ragged_results_free(&r);
    ragged_free(&k.c);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(any_mask_is_within_the_bounds_of_the_valid_positions),
                                     cmocka_unit_test(padding_and_layout_change_no_bit),
                                     cmocka_unit_test(threads_change_no_bit),
                                     cmocka_unit_test(a_mask_of_lengths_has_the_bits_of_lengths),
                                     cmocka_unit_test(gradients_are_derivatives)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
