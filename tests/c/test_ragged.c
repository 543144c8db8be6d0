/* Lengths: the bits of every sample cut to its length, forward and backward, whatever stands in the padding. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ragged_cut.h"
#include "trial.h"

static const struct {
  const char *pattern, *affine, *sizes;
  int rms, ndim;
  int64_t shape[5];
  int dim;
} layers[] = {
    {"[n] c [l]", "c", NULL, 0, 3, {5, 3, 9}, 2},         {"[n] c [h w]", "c", NULL, 0, 4, {4, 3, 5, 6}, 2},
    {"[n] c [h w]", "c", NULL, 0, 4, {4, 33, 5, 6}, 3},   {"[n t] c", "c", NULL, 0, 3, {5, 9, 20}, 1},
    {"[n] c [l]", "c", NULL, 1, 3, {5, 3, 9}, 2},         {"[n] c [l]", "", NULL, 0, 3, {5, 3, 9}, 2},
    {"n c [l]", "c", NULL, 0, 3, {5, 3, 9}, 2},           {"n c [h w]", "c", NULL, 0, 4, {4, 3, 5, 6}, 3},
    {"n (g [k]) [l]", "(g k)", "g=2", 0, 3, {5, 6, 9}, 2}, {"n (g [k]) [h w]", "(g k)", "g=2", 0, 4, {4, 6, 5, 7}, 3},
    {"n [c l]", "c", NULL, 0, 3, {5, 3, 9}, 2},           {"n [c l]", "c l", NULL, 0, 3, {5, 3, 9}, 2},
    {"n [t d]", "t d", NULL, 0, 3, {5, 9, 20}, 1},        {"n [t d]", "d", NULL, 1, 3, {5, 9, 20}, 1},
    {"n t [d]", "d", NULL, 0, 3, {5, 9, 40}, 1},          {"n t [d]", "d", NULL, 1, 3, {5, 9, 40}, 1},
    {"n t [d]", "n d", NULL, 0, 3, {5, 9, 7}, 1},         {"n t [d]", "t d", NULL, 0, 3, {5, 9, 7}, 1},
    {"n [c] h w", "c", NULL, 0, 4, {4, 5, 4, 7}, 3},      {"n [c] h w", "c", NULL, 0, 4, {4, 5, 4, 7}, 2},
    {"n c [l]", "n c", NULL, 0, 3, {5, 3, 9}, 2},         {"n c [l]", "c", NULL, 0, 3, {4, 2, 4200}, 2},
    {"[n] c [l]", "c", NULL, 0, 3, {4, 2, 4200}, 2},      {"n c [l]", "c", NULL, 1, 3, {5, 3, 9}, 2},
};

typedef enum spread { RANDOM, EQUAL, SOME_EMPTY, ALL_EMPTY, ONES, SPREADS } spread;
static const char *const spread_names[] = {"random", "equal", "some empty", "all empty", "ones"};

static ragged_case make_case(size_t which, norma_type type, spread s, uint64_t *seed) {
  ragged_case c = {.type = type, .dim = layers[which].dim};
  c.layer = parse_layer(layers[which].pattern, layers[which].affine, layers[which].sizes, layers[which].ndim,
                        layers[which].shape);
  c.layer.rms = layers[which].rms;
  int64_t size = layers[which].shape[c.dim], common = 2 + random_below(seed, size - 2);
  for (int i = 0; i < layers[which].shape[0]; i++) {
    c.lengths[i] = s == EQUAL ? common : s == ONES ? 1 : s == ALL_EMPTY ? 0 : 2 + random_below(seed, size - 1);
    if (s == SOME_EMPTY && i % 2 == 0) c.lengths[i] = 0;
  }
  return c;
}

static bool across(const ragged_case *c) { return c->layer.axes[0].bits & NORMA_SHARE; }

/* One call of the core on dense arrays, forward and backward. `given` and `sums`: of all samples, may be NULL. */
typedef struct core_call {
  norma_layer layer;
  void *x, *dy, *after, *dsum, *weight, *bias, *y, *dx, *dafter, *mean, *var, *rstd, *dweight, *dbias;
  norma_saved *saved;
  norma_moments *moments;
} core_call;

static void *from_case(const ragged_case *c, enum extent_bits extent, const double *values, norma_type type,
                       int64_t sample, int64_t length) {
  if (!values) return NULL;
  void *whole = from_doubles(type, values, ragged_count(&c->layer, extent));
  void *cut = cut_items(&c->layer, extent, whole, norma_type_size(type), sample, c->dim, length);
  free(whole);
  return cut;
}

/* Sample `sample` of the case, or all where it is -1, cut to `length`; x is what the norm sees: with the residual. */
static core_call make_core(const ragged_case *c, const double *x, int64_t sample, int64_t length) {
  core_call k = {.layer = cut_layer(&c->layer, sample < 0 ? c->layer.shape[0] : 1, c->dim, length)};
  norma_type param = norma_param_type(c->type);
  size_t n = (size_t)norma_layer_elements(&c->layer), units = (size_t)norma_layer_units(&c->layer);
  size_t params = (size_t)norma_layer_params(&c->layer);
  k.x = from_case(c, ALL_AXES, x, c->type, sample, length);
  k.dy = from_case(c, ALL_AXES, c->dy, c->type, sample, length);
  k.after = from_case(c, ALL_AXES, c->after, c->type, sample, length);
  k.dsum = from_case(c, ALL_AXES, c->residual, c->type, sample, length);
  k.weight = from_case(c, PARAM_AXES, c->weight, param, sample, length);
  k.bias = from_case(c, PARAM_AXES, c->bias, param, sample, length);
  k.y = calloc(n, 8), k.dx = calloc(n, 8), k.dafter = calloc(n, 8);
  k.mean = calloc(units, 8), k.var = calloc(units, 8), k.rstd = calloc(units, 8);
  k.saved = calloc(units, sizeof *k.saved), k.moments = calloc(units, sizeof *k.moments);
  if (params) k.dweight = calloc(params, 8), k.dbias = calloc(params, 8);
  return k;
}

static void free_core(core_call *k) {
  void *all[] = {k->x, k->dy, k->after, k->dsum, k->weight, k->bias, k->y, k->dx, k->dafter, k->mean, k->var, k->rstd,
                 k->dweight, k->dbias, k->saved, k->moments};
  for (size_t i = 0; i < COUNT(all); i++) free(all[i]);
}

static norma_forward_args forward_of(const ragged_case *c, const core_call *k) {
  norma_forward_args a = {.size = sizeof a, .layer = &k->layer, .type = c->type, .ddof = c->ddof};
  a.x = k->x, a.y = k->y, a.weight = k->weight, a.bias = k->bias, a.after = k->after, a.activation = c->activation;
  a.mean = k->mean, a.var = k->var, a.rstd = k->rstd, a.saved = k->saved, a.moments = k->moments;
  if (norma_layer_elements(&k->layer) == 0) a.ddof = 0;
  return a;
}

static norma_backward_args backward_of(const ragged_case *c, const core_call *k) {
  norma_backward_args b = {.size = sizeof b, .layer = &k->layer, .type = c->type, .ddof = c->ddof};
  b.x = k->x, b.dy = k->dy, b.dx = k->dx, b.weight = k->weight, b.bias = k->bias, b.activation = c->activation;
  b.dweight = k->dweight, b.dbias = k->dbias, b.saved = k->saved;
  b.dsum = k->dsum;
  if (c->after) b.after = k->after, b.dafter = k->dafter;
  if (norma_layer_elements(&k->layer) == 0) b.ddof = 0;
  return b;
}

static void call_core(const norma_forward_args *a, const norma_backward_args *b) {
  norma_error error = {0};
  if (a) assert_ok(norma_forward(a, &error), &error);
  if (b) assert_ok(norma_backward(b, &error), &error);
}

/* ------------------------------------------------------------------------------------------------- comparisons --- */

static void assert_same_part(const ragged_case *c, const char *name, enum extent_bits extent, const void *whole,
                             const void *cut, size_t item, int64_t sample, int64_t length) {
  char *part = cut_items(&c->layer, extent, whole, item, sample, c->dim, length);
  norma_layer layer = cut_layer(&c->layer, sample < 0 ? c->layer.shape[0] : 1, c->dim, length);
  int64_t count = ragged_count(&layer, extent);
  if (memcmp(part, cut, (size_t)count * item) != 0) {
    if (item <= 8) assert_same_bits(name, item == norma_type_size(c->type) ? c->type : NORMA_F32, part, cut, count);
    fail_problem("%s of sample %d differs", name, (int)sample);
  }
  free(part);
}

static void assert_same_call(const ragged_case *c, const ragged_results *r, const core_call *k, int64_t sample,
                             int64_t length) {
  size_t item = norma_type_size(c->type), param = norma_type_size(norma_param_type(c->type));
  assert_same_part(c, "y", ALL_AXES, r->y, k->y, item, sample, length);
  assert_same_part(c, "dx", ALL_AXES, r->dx, k->dx, item, sample, length);
  if (c->after) assert_same_part(c, "dafter", ALL_AXES, r->dafter, k->dafter, item, sample, length);
  assert_same_part(c, "mean", UNIT_AXES, r->mean, k->mean, param, sample, length);
  assert_same_part(c, "var", UNIT_AXES, r->var, k->var, param, sample, length);
  assert_same_part(c, "rstd", UNIT_AXES, r->rstd, k->rstd, param, sample, length);
  assert_same_part(c, "saved", UNIT_AXES, r->saved, k->saved, sizeof *r->saved, sample, length);
  assert_same_part(c, "moments", UNIT_AXES, r->moments, k->moments, sizeof *r->moments, sample, length);
}

static void assert_same_params(const ragged_case *c, const ragged_results *r, const core_call *k, int64_t length) {
  size_t param = norma_type_size(norma_param_type(c->type));
  if (!c->weight) return;
  assert_same_part(c, "dweight", PARAM_AXES, r->dweight, k->dweight, param, -1, length);
  assert_same_part(c, "dbias", PARAM_AXES, r->dbias, k->dbias, param, -1, length);
}

/* dweight and dbias of samples, added up, within the rounding of each to its type. */
static void assert_close_params(const ragged_case *c, const ragged_results *r, const double *sums,
                                const double *sizes) {
  int64_t params = norma_layer_params(&c->layer);
  const void *got[2] = {r->dweight, r->dbias};
  for (int g = 0; g < 2 && params; g++) {
    double *values = to_doubles(norma_param_type(c->type), got[g], params);
    double allowed = (c->type == NORMA_F64 ? 1e-14 : 1e-6) * (1 + largest(sizes + g * params, params));
    for (int64_t i = 0; i < params; i++)
      if (!(fabs(values[i] - sums[g * params + i]) <= allowed))
        fail_problem("%s[%d] is %.9g, of the samples %.9g", g ? "dbias" : "dweight", (int)i, values[i],
                     sums[g * params + i]);
    free(values);
  }
}

/* Adds the parameter gradients of a sample to where they belong. */
static void add_params(const ragged_case *c, const core_call *k, int64_t sample, int64_t length, double *sums,
                       double *sizes) {
  int64_t params = norma_layer_params(&c->layer), count = norma_layer_params(&k->layer);
  double *places = malloc((size_t)params * sizeof *places);
  assert_non_null(places);
  for (int64_t i = 0; i < params; i++) places[i] = (double)i;
  double *where = cut_items(&c->layer, PARAM_AXES, places, sizeof *places, sample, c->dim, length);
  const void *from[2] = {k->dweight, k->dbias};
  for (int g = 0; g < 2; g++) {
    double *values = to_doubles(norma_param_type(c->type), from[g], count);
    for (int64_t i = 0; i < count; i++) {
      sums[g * params + (int64_t)where[i]] += values[i];
      sizes[g * params + (int64_t)where[i]] += fabs(values[i]);
    }
    free(values);
  }
  free(places), free(where);
}

/* ------------------------------------------------------------------------------------------------------ oracles --- */

/* The moments and sums of the cut samples, merged in their order by the core. */
static void share_statistics(const ragged_case *c, core_call *k, int64_t units) {
  int64_t samples = c->layer.shape[0];
  norma_moments *moments = calloc((size_t)(samples * units), sizeof *moments);
  norma_sums *sums = calloc((size_t)(samples * units), sizeof *sums);
  for (int64_t s = 0; s < samples; s++) {
    norma_forward_args a = forward_of(c, &k[s]);
    a.y = NULL, a.saved = NULL, a.moments = NULL, a.mean = a.var = a.rstd = NULL;
    a.sample_moments = moments + s * units;
    call_core(&a, NULL);
  }
  for (int64_t s = 0; s < samples; s++) {
    norma_forward_args a = forward_of(c, &k[s]);
    a.ddof = c->ddof;
    a.given_moments = moments, a.given_samples = samples;
    norma_backward_args b = backward_of(c, &k[s]);
    b.dx = b.dafter = NULL, b.sample_sums = sums + s * units;
    call_core(&a, &b);
  }
  for (int64_t s = 0; s < samples; s++) {
    norma_backward_args b = backward_of(c, &k[s]);
    b.dweight = b.dbias = NULL, b.given_sums = sums, b.given_samples = samples;
    call_core(NULL, &b);
  }
  free(moments), free(sums);
}

static void assert_cut_samples(const ragged_case *c, const ragged_results *r, const double *x) {
  int64_t samples = c->layer.shape[0], params = norma_layer_params(&c->layer);
  core_call k[8];
  double *sums = calloc((size_t)params * 2 + 1, sizeof *sums), *sizes = calloc((size_t)params * 2 + 1, sizeof *sizes);
  for (int64_t s = 0; s < samples; s++) k[s] = make_core(c, x, s, c->lengths[s]);
  if (across(c)) share_statistics(c, k, norma_layer_units(&c->layer));
  for (int64_t s = 0; s < samples; s++) {
    norma_forward_args a = forward_of(c, &k[s]);
    norma_backward_args b = backward_of(c, &k[s]);
    if (!across(c)) call_core(&a, &b);
    assert_same_call(c, r, &k[s], s, c->lengths[s]);
    if (params) add_params(c, &k[s], s, c->lengths[s], sums, sizes);
    free_core(&k[s]);
  }
  assert_close_params(c, r, sums, sizes);
  free(sums), free(sizes);
}

static void assert_cut_tensor(const ragged_case *c, const ragged_results *r, const double *x) {
  core_call k = make_core(c, x, -1, c->lengths[0]);
  norma_forward_args a = forward_of(c, &k);
  norma_backward_args b = backward_of(c, &k);
  call_core(&a, &b);
  assert_same_call(c, r, &k, -1, c->lengths[0]);
  assert_same_params(c, r, &k, c->lengths[0]);
  free_core(&k);
}

/* y is 0 or act(beta), all else 0. */
static void assert_padding(const ragged_case *c, const ragged_manner *m, const ragged_results *r) {
  int64_t n = norma_layer_elements(&c->layer);
  size_t item = norma_type_size(c->type);
  static const char zeros[8];
  ragged_case flat = *c;
  flat.layer.rms = 1; /* a layer of zeros, all alone: y = act(beta) */
  core_call k = make_core(&flat, flat.x, -1, c->layer.shape[c->dim]);
  k.layer.rms = 1;
  memset(k.x, 0, (size_t)n * item);
  norma_forward_args a = forward_of(&flat, &k);
  a.after = NULL, a.ddof = 0;
  call_core(&a, NULL);
  for (int64_t i = 0; i < n; i++) {
    if (ragged_valid(c, m, i)) continue;
    const void *y = c->padding == NORMA_PAD_BETA && c->bias ? (char *)k.y + (size_t)i * item : zeros;
    assert_same_bits("y of padding", c->type, (char *)r->y + (size_t)i * item, y, 1);
    assert_same_bits("dx of padding", c->type, (char *)r->dx + (size_t)i * item, zeros, 1);
    if (r->sum) assert_same_bits("sum of padding", c->type, (char *)r->sum + (size_t)i * item, zeros, 1);
    if (r->dafter) assert_same_bits("dafter of padding", c->type, (char *)r->dafter + (size_t)i * item, zeros, 1);
  }
  free_core(&k);
}

static void check(const ragged_case *c, spread s, const ragged_manner *m) {
  ragged_results r = ragged_run(c, m);
  double *x = r.sum ? to_doubles(c->type, r.sum, norma_layer_elements(&c->layer)) : NULL;
  if (s == EQUAL || s == ONES || s == ALL_EMPTY) assert_cut_tensor(c, &r, x ? x : c->x);
  if (s != ONES || !across(c)) assert_cut_samples(c, &r, x ? x : c->x);
  assert_padding(c, m, &r);
  free(x);
  ragged_results_free(&r);
}

static void every_sample_has_the_bits_of_the_cut_one(void **state) {
  (void)state;
  uint64_t seed = 5;
  for (size_t which = 0; which < COUNT(layers); which++)
    for (size_t k = 0; k < COUNT(all_types); k++)
      for (int l = 0; l < (layers[which].shape[2] > 4096 ? 2 : LAYOUT_COUNT); l++)
        for (int s = 0; s < SPREADS; s++) {
          ragged_case c = make_case(which, all_types[k], (spread)s, &seed);
          bool fused = l % 3 == 1;
          c.activation = l % 2 ? NORMA_SILU : NORMA_ACT_NONE;
          c.padding = (l + s) % 2 ? NORMA_PAD_BETA : NORMA_PAD_ZERO;
          c.ddof = s != ONES && (l + (int)which) % 2 ? 1 : 0;
          ragged_fill(&c, &seed, fused);
          ragged_manner m = {.l = (layout)l, .in_place = l % 2 == 0, .recompute = l % 4 == 1};
          m.poison = l % 3 == 0 ? NAN : l % 3 == 1 ? INFINITY : 3;
          problem_is("%s, affine %s, rms %d, dim %d, %s, %s, lengths %s", layers[which].pattern, layers[which].affine,
                     layers[which].rms, c.dim, norma_type_name(c.type), layout_name(m.l), spread_names[s]);
          check(&c, (spread)s, &m);
          ragged_free(&c);
        }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_sample_has_the_bits_of_the_cut_one)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
