/* Statistics shared with other tensors: a batch in any contiguous pieces has the bits that it has as one tensor. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"
#include "trial.h"

enum { MOST_PIECES = 4, MOST_UNITS = 600, MOST_SETS = 9 * 600 };

static const struct {
  const char *name, *pattern, *affine;
  int rms;
  int64_t shape[4];
} layers[] = {{"batch", "[n] c [h w]", "c", 0, {9, 5, 7, 9}},       {"batch", "[n] c [h w]", "c", 0, {6, 35, 1, 33}},
              {"batch", "[n] c [h w]", "c", 0, {7, 600, 2, 2}},     {"batch", "[n] c [h w]", "c", 0, {6, 3, 4, 1500}},
              {"batch rms", "[n] c [h w]", "c", 1, {7, 16, 5, 5}},  {"per column", "[n] c [h] w", "c", 0, {8, 4, 9, 5}},
              {"no gamma", "[n] c [h w]", "", 0, {7, 6, 8, 8}},     {"samples", "n c [h w]", "c", 0, {6, 4, 7, 5}},
              {"vectors", "[n] c h w", "c", 0, {9, 40, 1, 1}}};

static const int64_t splits[][MOST_PIECES + 1] = {{0, 2, 3, 5, -1}, {0, 0, 4, 4, -1}, {0, 1, -1, -1, -1}};

/* Sample i of an array of the whole. */
static void *from_sample(const tensor *t, int64_t i) {
  return (char *)t->data + i * t->strides[0] * (int64_t)norma_type_size(t->type);
}

typedef struct fixture {
  norma_layer layer;
  norma_type type;
  norma_activation activation;
  int ddof;
  tensor x, y, dy, dx;
  void *weight, *bias;
} fixture;

/* What the statistics and the whole pass say of units and gammas. */
typedef struct results {
  double mean[MOST_UNITS], var[MOST_UNITS], rstd[MOST_UNITS]; /* of the parameter type, in room enough for float64 */
  norma_saved saved[MOST_UNITS];
  norma_moments moments[MOST_UNITS];
  double dweight[MOST_UNITS], dbias[MOST_UNITS];
} results;

static norma_layer piece_layer(const fixture *f, int64_t first, int64_t end) {
  norma_layer piece = f->layer;
  piece.shape[0] = end - first;
  piece.axes[0].length = end - first;
  return piece;
}

static norma_forward_args forward_of(const fixture *f, const norma_layer *layer, int64_t first, const tensor *y) {
  norma_forward_args a = {.size = sizeof a, .layer = layer, .type = f->type, .ddof = f->ddof};
  a.x = from_sample(&f->x, first), a.x_strides = f->x.strides;
  if (y) a.y = from_sample(y, first), a.y_strides = y->strides;
  a.weight = f->weight, a.bias = f->bias, a.activation = f->activation;
  return a;
}

static norma_backward_args backward_of(const fixture *f, const norma_layer *layer, int64_t first, const tensor *dx) {
  norma_backward_args a = {.size = sizeof a, .layer = layer, .type = f->type, .ddof = f->ddof};
  a.x = from_sample(&f->x, first), a.x_strides = f->x.strides;
  a.dy = from_sample(&f->dy, first), a.dy_strides = f->dy.strides;
  if (dx) a.dx = from_sample(dx, first), a.dx_strides = dx->strides;
  a.weight = f->weight, a.activation = f->activation;
  a.bias = f->activation ? f->bias : NULL;
  return a;
}

static void take_outputs(norma_forward_args *a, results *r) {
  a->mean = r->mean, a->var = r->var, a->rstd = r->rstd, a->saved = r->saved, a->moments = r->moments;
}

static void forward(const norma_forward_args *a) {
  norma_error error = {0};
  assert_ok(norma_forward(a, &error), &error);
}

static void backward(const norma_backward_args *a) {
  norma_error error = {0};
  assert_ok(norma_backward(a, &error), &error);
}

static void run_whole(fixture *f, results *r) {
  norma_forward_args a = forward_of(f, &f->layer, 0, &f->y);
  take_outputs(&a, r);
  forward(&a);
  norma_backward_args b = backward_of(f, &f->layer, 0, &f->dx);
  b.saved = r->saved;
  if (f->weight) b.dweight = r->dweight, b.dbias = r->dbias;
  backward(&b);
}

/* Where the whole has one part, as (n, c) has, the pieces cannot be measured apart: then it is measured by all. */
static int64_t measure_pieces(const fixture *f, const int64_t *at, int pieces, norma_moments *sets) {
  int64_t units = norma_layer_units(&f->layer), count = 0;
  bool apart = norma_layer_samples(&f->layer) == f->layer.shape[0];
  for (int p = 0; p < (apart ? pieces : 1); p++) {
    norma_layer layer = apart ? piece_layer(f, at[p], at[p + 1]) : f->layer;
    norma_forward_args a = forward_of(f, &layer, apart ? at[p] : 0, NULL);
    a.sample_moments = sets + count * units;
    forward(&a);
    count += norma_layer_samples(&layer);
  }
  return count;
}

static int64_t sum_pieces(const fixture *f, const int64_t *at, int pieces, const norma_saved *saved, results *local,
                          norma_sums *sets) {
  int64_t units = norma_layer_units(&f->layer), count = 0;
  bool apart = norma_layer_samples(&f->layer) == f->layer.shape[0];
  for (int p = 0; p < (apart ? pieces : 1); p++) {
    norma_layer layer = apart ? piece_layer(f, at[p], at[p + 1]) : f->layer;
    norma_backward_args b = backward_of(f, &layer, apart ? at[p] : 0, NULL);
    b.saved = saved, b.sample_sums = sets + count * units;
    if (f->weight) b.dweight = local[p].dweight, b.dbias = local[p].dbias;
    backward(&b);
    count += norma_layer_samples(&layer);
  }
  return apart ? count : 1;
}

/* The gradients of the parameters, added over the pieces, are those of the whole but for rounding. */
static void assert_close_sums(const fixture *f, const results *whole, const results *local, int pieces) {
  int64_t params = norma_layer_params(&f->layer);
  norma_type type = norma_param_type(f->type);
  double scale = 0;
  if (!f->weight) return;
  for (int64_t i = 0; i < params; i++) {
    double all[2], one[2], sum[2] = {0, 0};
    norma_to_double(type, (const char *)whole->dweight + (size_t)i * norma_type_size(type), 1, &all[0], 1);
    norma_to_double(type, (const char *)whole->dbias + (size_t)i * norma_type_size(type), 1, &all[1], 1);
    for (int p = 0; p < pieces; p++) {
      norma_to_double(type, (const char *)local[p].dweight + (size_t)i * norma_type_size(type), 1, &one[0], 1);
      norma_to_double(type, (const char *)local[p].dbias + (size_t)i * norma_type_size(type), 1, &one[1], 1);
      sum[0] += one[0], sum[1] += one[1];
      scale = fmax(scale, fmax(fabs(one[0]), fabs(one[1])));
    }
    for (int k = 0; k < 2; k++)
      if (!(fabs(sum[k] - all[k]) <= 1e-6 * scale)) fail_problem("gradient %d: %g, pieces %g", (int)i, all[k], sum[k]);
  }
}

static void assert_pieces_are_the_whole(fixture *f, const results *whole, const int64_t *at, int pieces) {
  static norma_moments moments[MOST_SETS];
  static norma_sums sums[MOST_SETS];
  static results local[MOST_PIECES], r;
  int64_t units = norma_layer_units(&f->layer);
  size_t bytes = (size_t)units * norma_type_size(norma_param_type(f->type));
  tensor y = tensor_of(f->type, &f->layer, LAYOUT_DENSE, NULL), dx = y;
  dx = tensor_of(f->type, &f->layer, LAYOUT_CHANNELS_LAST, NULL);
  int64_t sets = measure_pieces(f, at, pieces, moments);
  for (int p = 0; p < pieces; p++) {
    norma_layer layer = piece_layer(f, at[p], at[p + 1]);
    norma_forward_args a = forward_of(f, &layer, at[p], &y);
    a.given_moments = moments, a.given_samples = sets;
    take_outputs(&a, &r);
    forward(&a);
    assert_memory_equal(r.mean, whole->mean, bytes);
    assert_memory_equal(r.var, whole->var, bytes);
    assert_memory_equal(r.rstd, whole->rstd, bytes);
    assert_memory_equal(r.saved, whole->saved, (size_t)units * sizeof *r.saved);
    assert_memory_equal(r.moments, whole->moments, (size_t)units * sizeof *r.moments);
  }
  sets = sum_pieces(f, at, pieces, r.saved, local, sums);
  for (int p = 0; p < pieces; p++) {
    norma_layer layer = piece_layer(f, at[p], at[p + 1]);
    norma_backward_args b = backward_of(f, &layer, at[p], &dx);
    b.saved = r.saved, b.given_sums = sums, b.given_samples = sets;
    if (f->weight) b.dweight = local[p].dweight, b.dbias = local[p].dbias;
    backward(&b);
  }
  const tensor *got[2] = {&y, &dx}, *expected[2] = {&f->y, &f->dx};
  for (int k = 0; k < 2; k++) {
    void *a = tensor_read(got[k]), *b = tensor_read(expected[k]);
    assert_same_bits(k ? "dx" : "y", f->type, a, b, f->y.elements);
    free(a);
    free(b);
  }
  assert_close_sums(f, whole, local, pieces);
  tensor_free(&y);
  tensor_free(&dx);
}

static void check_layer(size_t which, norma_type type, norma_activation activation, layout l, uint64_t *seed) {
  static results whole;
  fixture f = {.type = type, .activation = activation, .ddof = (int)random_below(seed, 2)};
  f.layer = parse_layer(layers[which].pattern, layers[which].affine, NULL, 4, layers[which].shape);
  f.layer.rms = layers[which].rms;
  int64_t n = norma_layer_elements(&f.layer), params = norma_layer_params(&f.layer), batch = f.layer.shape[0];
  double *x = random_array(seed, type, n, 3, 2), *dy = random_array(seed, type, n, 1, 1);
  double *weight = random_array(seed, norma_param_type(type), params, 1, 1);
  f.x = tensor_of(type, &f.layer, l, x), f.dy = tensor_of(type, &f.layer, l, dy);
  f.y = tensor_of(type, &f.layer, l, NULL), f.dx = tensor_of(type, &f.layer, l, NULL);
  if (*layers[which].affine) {
    f.weight = from_doubles(norma_param_type(type), weight, params);
    f.bias = from_doubles(norma_param_type(type), weight, params);
  }
  run_whole(&f, &whole);
  for (size_t s = 0; s < COUNT(splits); s++) {
    int64_t at[MOST_PIECES + 1];
    int pieces = 0;
    while ((at[pieces] = splits[s][pieces]) >= 0) pieces++;
    at[pieces] = batch;
    if (layers[which].pattern[0] == 'n' && s) break; /* samples share nothing: every split is a batch of its own */
    problem_is("%s, n %d, %s, %s, activation %d, ddof %d, split %d", layers[which].name, (int)batch,
               norma_type_name(type), layout_name(l), (int)activation, f.ddof, (int)s);
    if (layers[which].pattern[0] == 'n') at[0] = 0, at[1] = batch, pieces = 1;
    assert_pieces_are_the_whole(&f, &whole, at, pieces);
  }
  tensor *all[4] = {&f.x, &f.dy, &f.y, &f.dx};
  for (int i = 0; i < 4; i++) tensor_free(all[i]);
  free(f.weight), free(f.bias), free(x), free(dy), free(weight);
}

static void pieces_of_a_batch_have_the_bits_of_the_batch(void **state) {
  (void)state;
  static const layout layouts[] = {LAYOUT_DENSE, LAYOUT_CHANNELS_LAST, LAYOUT_MIXED};
  uint64_t seed = 17;
  for (size_t which = 0; which < COUNT(layers); which++)
    for (size_t k = 0; k < COUNT(all_types); k++)
      for (size_t l = 0; l < COUNT(layouts); l++)
        for (int act = NORMA_ACT_NONE; act <= NORMA_SILU; act++)
          check_layer(which, all_types[k], (norma_activation)act, layouts[l], &seed);
}

/* All zero is the empty set, in samples that have no elements too. */
static void samples_without_elements_have_empty_sets(void **state) {
  (void)state;
  static const int64_t shape[3] = {4, 3, 0};
  static const norma_moments no_moments[12];
  static const norma_sums no_sums[12];
  norma_layer layer = parse_layer("[n] c [l]", "c", NULL, 3, shape);
  norma_moments moments[12];
  norma_sums sums[12];
  norma_saved saved[3];
  float nothing[1];
  problem_is("samples without elements");
  memset(moments, 0xff, sizeof moments), memset(sums, 0xff, sizeof sums);
  norma_forward_args a = {.size = sizeof a, .layer = &layer, .x = nothing, .saved = saved, .sample_moments = moments};
  forward(&a);
  norma_backward_args b = {.size = sizeof b, .layer = &layer, .x = nothing, .dy = nothing, .saved = saved};
  b.sample_sums = sums;
  backward(&b);
  assert_memory_equal(moments, no_moments, sizeof moments);
  assert_memory_equal(sums, no_sums, sizeof sums);
}

/* ------------------------------------------------------------------------------------------------------- errors --- */

/* One call per mistake, on a batch of 4 samples, 3 channels, 5 positions. */
static void mistakes_are_named(void **state) {
  (void)state;
  static const int64_t shape[3] = {4, 3, 5};
  float x[60] = {0}, y[60], dx[60], mean[3] = {0}, weight[60] = {0};
  norma_moments sets[12] = {{0}};
  norma_sums sums[12] = {{0}};
  norma_saved saved[3] = {{0}};
  norma_layer batch = parse_layer("[n] c [l]", "c", NULL, 3, shape);
  norma_layer varies = parse_layer("[n] c [l]", "c l", NULL, 3, shape);
  norma_layer film = parse_layer("[n] c [l]", "n c", NULL, 3, shape);
  norma_layer layer = parse_layer("n [c l]", "c l", NULL, 3, shape);
  norma_layer ghost = parse_layer("(g [n]) c [l]", "c", "g=2", 3, shape);
  norma_error error;
  problem_is("mistakes");
#define FORWARD(expected, part, of, ...)                                                                          \
  do {                                                                                                            \
    norma_forward_args a = {.size = sizeof a, .layer = &(of), .x = x, .y = y, __VA_ARGS__};                       \
    assert_int_equal(norma_forward(&a, &error), expected);                                                        \
    if (!strstr(error.detail, part)) fail_problem("'%s' does not say '%s'", error.detail, part);                  \
  } while (0)
#define BACKWARD(expected, part, of, ...)                                                                         \
  do {                                                                                                            \
    norma_backward_args a = {.size = sizeof a, .layer = &(of), .x = x, .dy = y, .dx = dx, __VA_ARGS__};           \
    assert_int_equal(norma_backward(&a, &error), expected);                                                       \
    if (!strstr(error.detail, part)) fail_problem("'%s' does not say '%s'", error.detail, part);                  \
  } while (0)
  FORWARD(NORMA_BAD_ARGUMENT, "sums over dimension 1", layer, .sample_moments = sets);
  FORWARD(NORMA_BAD_ARGUMENT, "a part of dimension 0", ghost, .sample_moments = sets);
  FORWARD(NORMA_BAD_ARGUMENT, "both set", batch, .sample_moments = sets, .given_moments = sets, .given_samples = 4);
  FORWARD(NORMA_BAD_ARGUMENT, "both set", batch, .given_mean = mean, .given_var = mean, .given_moments = sets);
  FORWARD(NORMA_BAD_ARGUMENT, "sample_moments is set", batch, .given_mean = mean, .given_var = mean,
          .sample_moments = sets);
  FORWARD(NORMA_BAD_ARGUMENT, "must not be negative", batch, .given_moments = sets, .given_samples = -1);
  FORWARD(NORMA_BAD_ARGUMENT, "given_moments is NULL", batch, .given_samples = 4);
  FORWARD(NORMA_BAD_ARGUMENT, "of 0 elements, but x alone has 20", batch, .given_moments = sets, .given_samples = 4);
  FORWARD(NORMA_OVERLAP, "sample_moments overlaps", batch, .sample_moments = sets, .moments = sets);
  sets[0].count = -1;
  FORWARD(NORMA_BAD_ARGUMENT, "given_moments[0] has count -1", batch, .given_moments = sets, .given_samples = 4);
  BACKWARD(NORMA_BAD_ARGUMENT, "saved", batch, .sample_sums = sums);
  BACKWARD(NORMA_BAD_ARGUMENT, "both set", batch, .saved = saved, .sample_sums = sums, .given_sums = sums);
  BACKWARD(NORMA_BAD_ARGUMENT, "gamma changes", varies, .weight = weight, .saved = saved, .sample_sums = sums);
  BACKWARD(NORMA_BAD_ARGUMENT, "gamma changes", film, .weight = weight, .saved = saved, .sample_sums = sums);
  BACKWARD(NORMA_BAD_ARGUMENT, "gamma changes", film, .weight = weight, .saved = saved, .given_sums = sums,
           .given_samples = 4);
  BACKWARD(NORMA_BAD_ARGUMENT, "given_sums is NULL", batch, .given_samples = 4);
  BACKWARD(NORMA_BAD_ARGUMENT, "needs no sums", batch, .given_mean = mean, .given_var = mean, .sample_sums = sums);
  BACKWARD(NORMA_BAD_ARGUMENT, "are of 0 elements", batch, .saved = saved, .given_sums = sums, .given_samples = 4);
  BACKWARD(NORMA_OVERLAP, "sample_sums overlaps", batch, .saved = (norma_saved *)(void *)sums, .sample_sums = sums);
#undef FORWARD
#undef BACKWARD
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(pieces_of_a_batch_have_the_bits_of_the_batch),
                                     cmocka_unit_test(samples_without_elements_have_empty_sets),
                                     cmocka_unit_test(mistakes_are_named)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
