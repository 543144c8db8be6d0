/* norma_sync.h: ranks that hold a batch together have the bits of the batch, for every split. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"
#include "team.h"
#include "trial.h"

enum { MOST_UNITS = 320 };

static const struct {
  const char *name, *pattern, *affine;
  int rms, ndim;
  int64_t shape[4];
} layers[] = {{"batch", "[n] c [h w]", "c", 0, 4, {9, 5, 7, 9}},
              {"batch of few", "[n] c [h w]", "c", 0, 4, {3, 35, 1, 33}},
              {"batch of one", "[n] c [h w]", "c", 0, 4, {1, 6, 3, 5}},
              {"small", "[n] c [h w]", "c", 0, 4, {11, 300, 2, 2}},
              {"long", "[n] c [l]", "c", 0, 3, {5, 3, 5000}},
              {"batch rms", "[n] c [h w]", "c", 1, 4, {7, 16, 5, 5}},
              {"per column", "[n] c [h] w", "c", 0, 4, {8, 4, 9, 5}},
              {"no gamma", "[n] c [h w]", "", 0, 4, {7, 6, 8, 8}},
              {"tokens", "[n t] d", "d", 0, 3, {6, 7, 20}},
              {"split", "[(a b)] c [h w]", "c", 0, 4, {12, 4, 3, 3}},
              {"vectors", "[n] c", "c", 0, 2, {40, 70}},
              {"vectors rms", "[n] c", "c", 1, 2, {13, 9}},
              {"vectors of one", "[n] c", "c", 0, 2, {1, 9}},
              {"pixels", "[n] c h w", "c", 0, 4, {9, 10, 3, 2}},
              {"one pixel", "[n] c [h w]", "c", 0, 4, {9, 40, 1, 1}}};

/* Of units and gammas, in room enough for float64. */
typedef struct results {
  double mean[MOST_UNITS], var[MOST_UNITS], rstd[MOST_UNITS];
  norma_saved saved[MOST_UNITS];
  norma_moments moments[MOST_UNITS];
  double dweight[MOST_UNITS], dbias[MOST_UNITS];
} results;

typedef struct job {
  norma_layer layer;
  norma_type type;
  norma_activation activation;
  int ddof, ranks;
  bool fused; /* with a residual before the norm and one after it */
  norma_sync_merge merge;
  bool promised;
  int64_t first[TEAM_MOST + 1];
  tensor x, residual, sum, after, y, dy, dx, dafter;
  void *weight, *bias;
  norma_sync *sync[TEAM_MOST];
  results of[TEAM_MOST];
  int64_t shards_out[TEAM_MOST][TEAM_MOST];
  norma_status status[TEAM_MOST];
  norma_error error[TEAM_MOST];
} job;

static void *from_sample(const tensor *t, int64_t i) {
  return (char *)t->data + i * t->strides[0] * (int64_t)norma_type_size(t->type);
}

static norma_layer piece_of(const job *j, int64_t samples) {
  norma_layer piece = j->layer;
  piece.shape[0] = samples;
  if (piece.axis_count > 1 && piece.axes[1].dim == 0) piece.axes[0].length = 1, piece.axes[1].length = samples;
  else piece.axes[0].length = samples;
  return piece;
}

/* The calls on samples first..; `sum` is written where there is a residual, and is then what backward takes as x. */
static norma_forward_args forward_of(const job *j, const norma_layer *layer, int64_t first, const tensor *sum,
                                     const tensor *y, results *r) {
  norma_forward_args a = {.size = sizeof a, .layer = layer, .type = j->type, .ddof = j->ddof};
  a.x = from_sample(&j->x, first), a.x_strides = j->x.strides;
  a.y = from_sample(y, first), a.y_strides = y->strides;
  a.weight = j->weight, a.bias = j->bias, a.activation = j->activation;
  if (j->fused) {
    a.residual = from_sample(&j->residual, first), a.residual_strides = j->residual.strides;
    a.sum = from_sample(sum, first), a.sum_strides = sum->strides;
    a.after = from_sample(&j->after, first), a.after_strides = j->after.strides;
  }
  a.mean = r->mean, a.var = r->var, a.rstd = r->rstd, a.saved = r->saved, a.moments = r->moments;
  return a;
}

static norma_backward_args backward_of(const job *j, const norma_layer *layer, int64_t first, const tensor *sum,
                                       const tensor *dx, const tensor *dafter, results *r) {
  norma_backward_args a = {.size = sizeof a, .layer = layer, .type = j->type, .ddof = j->ddof};
  const tensor *x = j->fused ? sum : &j->x;
  a.x = from_sample(x, first), a.x_strides = x->strides;
  a.dy = from_sample(&j->dy, first), a.dy_strides = j->dy.strides;
  a.dx = from_sample(dx, first), a.dx_strides = dx->strides;
  a.weight = j->weight, a.activation = j->activation;
  a.saved = r->saved;
  if (j->activation) a.bias = j->bias;
  if (j->fused) {
    a.after = from_sample(&j->after, first), a.after_strides = j->after.strides;
    a.dafter = from_sample(dafter, first), a.dafter_strides = dafter->strides;
    a.dsum = from_sample(&j->residual, first), a.dsum_strides = j->residual.strides;
  }
  if (j->weight) a.dweight = r->dweight, a.dbias = r->dbias;
  return a;
}

static void run_rank(void *context, int rank) {
  job *j = context;
  int64_t begin = j->first[rank], shards[TEAM_MOST];
  norma_layer layer = piece_of(j, j->first[rank + 1] - begin);
  for (int r = 0; r < j->ranks; r++) shards[r] = j->first[r + 1] - j->first[r];
  norma_forward_args forward = forward_of(j, &layer, begin, &j->sum, &j->y, &j->of[rank]);
  norma_sync_forward_args f = {.size = sizeof f, .sync = j->sync[rank], .name = "norm", .forward = &forward};
  f.merge = j->merge, f.shards_out = j->shards_out[rank];
  f.shards = j->promised ? shards : NULL;
  j->status[rank] = norma_sync_forward(&f, &j->error[rank]);
  if (j->status[rank]) return;
  norma_backward_args backward = backward_of(j, &layer, begin, &j->sum, &j->dx, &j->dafter, &j->of[rank]);
  norma_sync_backward_args b = {.size = sizeof b, .sync = j->sync[rank], .name = "norm", .backward = &backward};
  b.merge = j->merge;
  b.shards = j->promised ? j->shards_out[rank] : NULL;
  j->status[rank] = norma_sync_backward(&b, &j->error[rank]);
}

static void run_team(job *j) {
  norma_error error;
  team *t = team_new(j->ranks, 600);
  for (int r = 0; r < j->ranks; r++) {
    norma_exchange exchange = team_exchange(t, r);
    assert_ok(norma_sync_new(&j->sync[r], &exchange, &error), &error);
  }
  team_run(j->ranks, run_rank, j);
  for (int r = 0; r < j->ranks; r++) {
    norma_sync_free(j->sync[r]);
    assert_ok(j->status[r], &j->error[r]);
    for (int k = 0; k < j->ranks; k++) assert_int_equal(j->shards_out[r][k], j->first[k + 1] - j->first[k]);
  }
  int expected = j->ranks == 1 ? 0 : j->promised ? 2 : 4;
  assert_int_equal(team_exchanges(t), expected);
  team_free(t);
}

static void assert_same_tensor(const char *name, const tensor *got, const tensor *expected) {
  void *a = tensor_read(got), *b = tensor_read(expected);
  assert_same_bits(name, got->type, a, b, got->elements);
  tensor_check_gaps(got, name);
  free(a), free(b);
}

/* Gradients of the parameters, added over the ranks: those of the whole to 1e-6 of the largest. */
static void assert_sums(const job *j, const double *whole, const double *(*of)(const results *)) {
  norma_type type = norma_param_type(j->type);
  int64_t n = norma_layer_params(&j->layer);
  double *all = to_doubles(type, whole, n), *sum = calloc((size_t)n + 1, sizeof *sum), scale = 0;
  for (int r = 0; r < j->ranks; r++) {
    double *one = to_doubles(type, of(&j->of[r]), n);
    for (int64_t i = 0; i < n; i++) sum[i] += one[i], scale = fmax(scale, fabs(one[i]));
    free(one);
  }
  for (int64_t i = 0; i < n; i++)
    if (!(fabs(sum[i] - all[i]) <= 1e-6 * scale)) fail_problem("gradient %d: %g, ranks %g", (int)i, all[i], sum[i]);
  free(all), free(sum);
}

static const double *dweight_of(const results *r) { return r->dweight; }
static const double *dbias_of(const results *r) { return r->dbias; }

/* What one process has. */
typedef struct whole {
  tensor sum, y, dx, dafter;
  results of;
} whole;

static void run_whole(const job *j, whole *w) {
  norma_error error;
  tensor *all[4] = {&w->sum, &w->y, &w->dx, &w->dafter};
  for (int i = 0; i < 4; i++) *all[i] = tensor_of(j->type, &j->layer, LAYOUT_DENSE, NULL);
  norma_forward_args f = forward_of(j, &j->layer, 0, &w->sum, &w->y, &w->of);
  assert_ok(norma_forward(&f, &error), &error);
  norma_backward_args b = backward_of(j, &j->layer, 0, &w->sum, &w->dx, &w->dafter, &w->of);
  assert_ok(norma_backward(&b, &error), &error);
}

static void free_whole(whole *w) {
  tensor *all[4] = {&w->sum, &w->y, &w->dx, &w->dafter};
  for (int i = 0; i < 4; i++) tensor_free(all[i]);
}

static void assert_the_whole(const job *j, const whole *w) {
  size_t units = (size_t)norma_layer_units(&j->layer), bytes = units * norma_type_size(norma_param_type(j->type));
  for (int r = 0; r < j->ranks; r++) {
    assert_memory_equal(j->of[r].mean, w->of.mean, bytes);
    assert_memory_equal(j->of[r].var, w->of.var, bytes);
    assert_memory_equal(j->of[r].rstd, w->of.rstd, bytes);
    assert_memory_equal(j->of[r].saved, w->of.saved, units * sizeof *w->of.saved);
    assert_memory_equal(j->of[r].moments, w->of.moments, units * sizeof *w->of.moments);
  }
  assert_same_tensor("y", &j->y, &w->y);
  assert_same_tensor("dx", &j->dx, &w->dx);
  if (j->fused) assert_same_tensor("sum", &j->sum, &w->sum), assert_same_tensor("dafter", &j->dafter, &w->dafter);
  if (j->weight) assert_sums(j, w->of.dweight, dweight_of), assert_sums(j, w->of.dbias, dbias_of);
}

/* The cheap way: within the bounds of the exact one, the same on all ranks. */
static void assert_near_the_whole(const job *j, const whole *w) {
  const tensor *got[2] = {&j->y, &j->dx}, *expected[2] = {&w->y, &w->dx};
  size_t units = (size_t)norma_layer_units(&j->layer), bytes = units * norma_type_size(norma_param_type(j->type));
  for (int r = 1; r < j->ranks; r++) {
    assert_memory_equal(j->of[r].mean, j->of[0].mean, bytes);
    assert_memory_equal(j->of[r].moments, j->of[0].moments, units * sizeof *j->of[0].moments);
  }
  for (int k = 0; k < 2; k++) {
    void *a = tensor_read(got[k]), *b = tensor_read(expected[k]);
    double *x = to_doubles(j->type, a, got[k]->elements), *y = to_doubles(j->type, b, got[k]->elements);
    double bound = 4 * y_error(j->type) * (1 + largest(y, got[k]->elements));
    for (int64_t i = 0; i < got[k]->elements; i++)
      if (!(fabs(x[i] - y[i]) <= bound)) fail_problem("%s[%d]: %g, not %g", k ? "dx" : "y", (int)i, x[i], y[i]);
    free(a), free(b), free(x), free(y);
  }
}

static void make_job(job *j, size_t which, norma_type type, layout l, uint64_t *seed) {
  memset(j, 0, sizeof *j);
  j->type = type;
  j->activation = (norma_activation)(random_below(seed, 3));
  j->fused = random_below(seed, 2);
  const char *sizes = strchr(layers[which].pattern, '(') ? "a=1" : NULL;
  j->layer = parse_layer(layers[which].pattern, layers[which].affine, sizes, layers[which].ndim, layers[which].shape);
  j->layer.rms = layers[which].rms;
  j->ddof = norma_layer_unit_elements(&j->layer) > 1 ? (int)random_below(seed, 2) : 0;
  int64_t n = norma_layer_elements(&j->layer), params = norma_layer_params(&j->layer);
  tensor *in[4] = {&j->x, &j->residual, &j->after, &j->dy}, *out[4] = {&j->sum, &j->y, &j->dx, &j->dafter};
  for (int i = 0; i < 4; i++) {
    double *values = random_array(seed, type, n, i == 0 ? 3 : 0.25, 1.5);
    *in[i] = tensor_of(type, &j->layer, i == 2 ? LAYOUT_DENSE : l, values);
    *out[i] = tensor_of(type, &j->layer, i == 1 ? LAYOUT_DENSE : l, NULL);
    free(values);
  }
  if (params > 0) {
    double *values = random_array(seed, norma_param_type(type), params, 1, 1);
    j->weight = from_doubles(norma_param_type(type), values, params);
    j->bias = from_doubles(norma_param_type(type), values, params);
    free(values);
  }
}

static void free_job(job *j) {
  tensor *all[8] = {&j->x, &j->residual, &j->after, &j->dy, &j->sum, &j->y, &j->dx, &j->dafter};
  for (int i = 0; i < 8; i++) tensor_free(all[i]);
  free(j->weight), free(j->bias);
}

static int compare_int64(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

/* A random contiguous split: empty shards are usual. */
static void split_job(job *j, uint64_t *seed) {
  int64_t n = j->layer.shape[0];
  j->ranks = 1 + (int)random_below(seed, TEAM_MOST);
  j->promised = random_below(seed, 2);
  j->first[0] = 0;
  for (int r = 1; r < j->ranks; r++) j->first[r] = random_below(seed, n + 1);
  j->first[j->ranks] = n;
  qsort(j->first, (size_t)j->ranks, sizeof *j->first, compare_int64);
}

static void check_layer(size_t which, norma_type type, layout l, uint64_t *seed) {
  static job j;
  static whole w;
  make_job(&j, which, type, l, seed);
  run_whole(&j, &w);
  for (int trial = 0; trial < 4; trial++) {
    split_job(&j, seed);
    j.merge = trial == 3 ? NORMA_SYNC_PER_RANK : NORMA_SYNC_PER_SAMPLE;
    char splits[64] = "";
    for (int r = 1; r <= j.ranks; r++)
      snprintf(splits + strlen(splits), sizeof splits - strlen(splits), " %d", (int)(j.first[r] - j.first[r - 1]));
    problem_is("%s, %s, %s, activation %d, ddof %d, fused %d, promised %d, merge %d, shards%s", layers[which].name,
               norma_type_name(type), layout_name(l), (int)j.activation, j.ddof, j.fused, j.promised, (int)j.merge,
               splits);
    run_team(&j);
    if (j.merge == NORMA_SYNC_PER_SAMPLE) assert_the_whole(&j, &w);
    else assert_near_the_whole(&j, &w);
  }
  free_whole(&w);
  free_job(&j);
}

static void any_split_has_the_bits_of_the_batch(void **state) {
  (void)state;
  static const layout layouts[] = {LAYOUT_DENSE, LAYOUT_CHANNELS_LAST, LAYOUT_MIXED, LAYOUT_NEGATIVE};
  uint64_t seed = 5;
  for (size_t which = 0; which < COUNT(layers); which++)
    for (size_t k = 0; k < COUNT(all_types); k++)
      for (size_t l = 0; l < COUNT(layouts); l++) check_layer(which, all_types[k], layouts[l], &seed);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(any_split_has_the_bits_of_the_batch)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
