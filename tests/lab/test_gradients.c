/* Every layer's gradients against central differences, in float64: of the input and of all parameters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "maths.h"

/* loss = sum(weight * y) for fixed random weights. */
static double loss_of(layer *net, tensor x, const real *weight, phase phase) {
  tensor y = forward(net, x, phase);
  double sum = 0;
  for (int64_t i = 0; i < tensor_count(y); i++) {
    sum += y.at[i] * weight[i];
  }
  return sum;
}

static double difference(layer *net, tensor x, const real *weight, phase phase, real *at, double h) {
  real held = *at;
  *at = held + h;
  double above = loss_of(net, x, weight, phase);
  *at = held - h;
  double below = loss_of(net, x, weight, phase);
  *at = held;
  return (above - below) / (2 * h);
}

typedef struct trial {
  layer *net;
  tensor x;
  const real *weight;
  phase phase;
  double worst;
  int64_t compared;
} trial;

#define ALLOWED 2e-6

/* Up to 40 elements of an array, spread over it. A kink of relu or max pool may lie within a step, but hardly within
 * the smaller ones too. */
static void compare(trial *t, real *values, const real *gradients, int64_t count) {
  int64_t step = count / 40 + 1;
  for (int64_t i = 0; i < count; i += step) {
    double error = 1;
    for (double h = 1e-5; h > 5e-8 && !(error < ALLOWED); h /= 10) {
      double expected = difference(t->net, t->x, t->weight, t->phase, &values[i], h);
      error = fabs(gradients[i] - expected) / (1 + fabs(expected));
    }
    t->worst = error > t->worst ? error : t->worst;
    t->compared++;
  }
}

typedef struct all_params {
  param *params[256];
  int count;
} all_params;

static void list_visit(layer *l, void *context) {
  all_params *all = context;
  for (int i = 0; i < l->param_count; i++) {
    assert_true(all->count < 256);
    all->params[all->count++] = &l->params[i];
  }
}

typedef enum input { NUMBERS, FIRST, TOKENS } input; /* the last two have no gradient */

static void check_layer(const char *name, layer *net, tensor shape, phase phase, input input) {
  rng r = rng_new(7, 1);
  int64_t count = tensor_count(shape);
  tensor x = tensor_like(shape, engine_alloc((size_t)count * sizeof(real)));
  for (int64_t i = 0; i < count; i++) {
    x.at[i] = input == TOKENS ? (real)rng_below(&r, 5) : rng_normal(&r);
  }
  tensor y = forward(net, x, phase);
  int64_t out_count = tensor_count(y);
  tensor dy = tensor_like(y, engine_alloc((size_t)out_count * sizeof(real)));
  for (int64_t i = 0; i < out_count; i++) {
    dy.at[i] = rng_normal(&r);
  }
  gradient_clear(net);
  tensor dx = backward(net, dy);
  real *dx_copy = engine_alloc((size_t)count * sizeof(real));
  trial t = {net, x, dy.at, phase, 0, 0};
  if (input == NUMBERS) {
    memcpy(dx_copy, dx.at, (size_t)count * sizeof(real));
    assert_true(tensor_same_shape(dx, x));
    compare(&t, x.at, dx_copy, count);
  }
  all_params all = {0};
  layer_visit(net, list_visit, &all);
  for (int i = 0; i < all.count; i++) {
    compare(&t, all.params[i]->value, all.params[i]->grad, all.params[i]->count);
  }
  assert_true(t.compared > 0);
  if (!(t.worst < ALLOWED)) {
    fail_msg("%s: a gradient is off by %g", name, t.worst);
  }
  free(x.at);
  free(dy.at);
  free(dx_copy);
  layer_free(net);
}

static tensor image(int64_t n, int64_t c, int64_t h, int64_t w) { return tensor4(NULL, n, c, h, w); }

static norm_spec spec_of(const char *text) {
  norm_spec spec;
  assert_true(norm_parse(text, &spec));
  return spec;
}

static void test_conv(void **state) {
  (void)state;
  rng r = rng_new(1, 0);
  static const padding paddings[] = {PAD_ZERO, PAD_REPLICATE, PAD_REFLECT};
  for (int i = 0; i < 3; i++) {
    for (int stride = 1; stride <= 2; stride++) {
      check_layer("conv 3", conv(&r, 2, 3, 3, stride, paddings[i], true), image(2, 2, 5, 6), TRAIN, NUMBERS);
      check_layer("conv 5", conv(&r, 2, 3, 5, stride, paddings[i], false), image(2, 2, 5, 6), TRAIN, NUMBERS);
      check_layer("conv 1", conv(&r, 3, 2, 1, stride, paddings[i], true), image(2, 3, 4, 5), TRAIN, NUMBERS);
    }
  }
}

static void test_sizes(void **state) {
  (void)state;
  check_layer("max pool", max_pool(), image(2, 3, 4, 6), TRAIN, NUMBERS);
  check_layer("max pool, odd", max_pool(), image(2, 3, 5, 7), TRAIN, NUMBERS);
  check_layer("average pool", average_pool(), image(2, 3, 5, 6), TRAIN, NUMBERS);
  check_layer("upsample", upsample(), image(2, 3, 3, 2), TRAIN, NUMBERS);
  check_layer("mean of images", global_mean(), image(2, 3, 3, 2), TRAIN, NUMBERS);
  check_layer("mean of sequences", global_mean(), tensor3(NULL, 2, 5, 3), TRAIN, NUMBERS);
  check_layer("last step", last_step(), tensor3(NULL, 2, 5, 3), TRAIN, NUMBERS);
}

static void test_features(void **state) {
  (void)state;
  rng r = rng_new(2, 0);
  check_layer("linear", linear(&r, 4, 3, true), tensor2(NULL, 5, 4), TRAIN, NUMBERS);
  check_layer("linear on tokens", linear(&r, 4, 3, false), tensor3(NULL, 2, 5, 4), TRAIN, NUMBERS);
  check_layer("embedding", embedding(&r, 5, 3, 6), tensor2(NULL, 4, 6), TRAIN, TOKENS);
  check_layer("position", position(&r, 6, 3), tensor3(NULL, 4, 5, 3), TRAIN, NUMBERS);
  check_layer("relu", relu(), tensor2(NULL, 5, 7), TRAIN, NUMBERS);
  check_layer("gelu", gelu(), tensor2(NULL, 5, 7), TRAIN, NUMBERS);
  check_layer("tanh", tanh_layer(), tensor2(NULL, 5, 7), TRAIN, NUMBERS);
  check_layer("attention", attention(2, false), tensor3(NULL, 2, 5, 12), TRAIN, NUMBERS);
  check_layer("attention, causal", attention(2, true), tensor3(NULL, 2, 5, 12), TRAIN, NUMBERS);
}

static const char *const norm_names[] = {"bn", "bn_b2", "bn_b1", "ln", "pixel_ln", "in", "gn2", "gn_c2", "rms",
                                         "bn_frozen"};
enum { NORM_NAMES = sizeof norm_names / sizeof *norm_names };

static void test_norms(void **state) {
  (void)state;
  for (int i = 0; i < NORM_NAMES; i++) {
    for (int with_relu = 0; with_relu < 2; with_relu++) {
      norm_spec spec = spec_of(norm_names[i]);
      spec.relu = with_relu;
      check_layer(norm_names[i], norm(spec, 4), image(4, 4, 3, 5), spec.frozen ? TRAIN : BATCH, NUMBERS);
      check_layer(norm_names[i], norm(spec, 4), tensor3(NULL, 4, 5, 4), spec.frozen ? TRAIN : BATCH, NUMBERS);
      if (spec.kind == NORM_BATCH) {
        check_layer(norm_names[i], norm(spec, 4), image(4, 4, 3, 5), RUNNING, NUMBERS);
      }
    }
  }
}

/* Groups of neighbours and interleaved groups are one function under another numbering of the channels. */
static void test_interleaved_groups(void **state) {
  (void)state;
  rng r = rng_new(8, 0);
  norm_spec spec = spec_of("gn2");
  layer *plain = norm(spec, 6);
  spec.interleaved = true;
  layer *other = norm(spec, 6);
  real x[2 * 6 * 5], renumbered[2 * 6 * 5];
  for (int i = 0; i < 60; i++) {
    int channel = i / 5 % 6;
    x[i] = rng_normal(&r);
    renumbered[(i / 30 * 6 + channel % 3 * 2 + channel / 3) * 5 + i % 5] = x[i];
  }
  tensor a = forward(plain, tensor4(x, 2, 6, 1, 5), TRAIN), b = forward(other, tensor4(renumbered, 2, 6, 1, 5), TRAIN);
  for (int i = 0; i < 60; i++) {
    int channel = i / 5 % 6;
    real there = b.at[(i / 30 * 6 + channel % 3 * 2 + channel / 3) * 5 + i % 5];
    assert_true(fabs(a.at[i] - there) < 1e-12 && fabs(a.at[i]) > 0);
  }
  layer_free(plain);
  check_layer("interleaved groups", other, image(4, 6, 3, 5), TRAIN, NUMBERS);
}

static void test_structure(void **state) {
  (void)state;
  rng r = rng_new(3, 0);
  layer *body = sequence(2, conv(&r, 3, 3, 3, 1, PAD_ZERO, true), tanh_layer());
  check_layer("residual", residual(body, NULL, true), image(2, 3, 4, 4), TRAIN, NUMBERS);
  body = conv(&r, 3, 5, 3, 2, PAD_ZERO, true);
  check_layer("residual with a shortcut", residual(body, conv(&r, 3, 5, 1, 2, PAD_ZERO, false), false),
              image(2, 3, 5, 4), TRAIN, NUMBERS);
  body = sequence(3, max_pool(), conv(&r, 3, 5, 3, 1, PAD_ZERO, true), upsample());
  check_layer("skip", skip_connection(body), image(2, 3, 4, 6), TRAIN, NUMBERS);
}

/* The first layer of a net has no gradient of its input (no_dx), so only the parameters are compared. */
static void test_nets(void **state) {
  (void)state;
  rng r = rng_new(4, 0);
  check_layer("resnet", resnet(&r, 1, 2, 3, spec_of("gn2")), image(3, 1, 8, 8), TRAIN, FIRST);
  check_layer("resnet", resnet(&r, 1, 2, 3, spec_of("bn")), image(3, 1, 8, 8), BATCH, FIRST);
  check_layer("unet", unet(&r, 3, 2, 3, 2, spec_of("in")), image(2, 3, 8, 8), TRAIN, FIRST);
  check_layer("transformer, norm first", transformer_block(&r, 6, 2, true, true, spec_of("ln")),
              tensor3(NULL, 2, 5, 6), TRAIN, NUMBERS);
  check_layer("transformer, norm last", transformer_block(&r, 6, 3, false, false, spec_of("rms")),
              tensor3(NULL, 2, 5, 6), TRAIN, NUMBERS);
}

static void test_lstm(void **state) {
  (void)state;
  rng r = rng_new(5, 0);
  static const char *const names[] = {"none", "ln", "bn", "rms"};
  for (int i = 0; i < 4; i++) {
    for (int steps = 0; steps <= 3; steps += 3) {
      lstm_options options = {spec_of(names[i]), steps};
      options.norm.gamma = 0.5;
      check_layer(names[i], lstm(&r, 3, 4, options), tensor3(NULL, 5, 4, 3), BATCH, NUMBERS);
    }
  }
}

/* The gradient of a loss is that of its value. */
static void test_losses(void **state) {
  (void)state;
  rng r = rng_new(6, 0);
  real y[2 * 3 * 2 * 2], dy[24], target[24];
  int32_t labels[8] = {0, 2, 1, -1, 2, 2, 0, 1};
  for (int i = 0; i < 24; i++) {
    y[i] = rng_normal(&r);
    target[i] = rng_normal(&r);
  }
  tensor shapes[2] = {tensor4(y, 2, 3, 2, 2), tensor2(y, 8, 3)};
  for (int s = 0; s < 3; s++) {
    s < 2 ? cross_entropy(shapes[s], labels, dy, NULL) : squared_error(shapes[0], target, dy);
    for (int i = 0; i < 24; i++) {
      real held = y[i];
      y[i] = held + 1e-6;
      double above = s < 2 ? cross_entropy(shapes[s], labels, NULL, NULL) : squared_error(shapes[0], target, NULL);
      y[i] = held - 1e-6;
      double below = s < 2 ? cross_entropy(shapes[s], labels, NULL, NULL) : squared_error(shapes[0], target, NULL);
      y[i] = held;
      assert_true(fabs((above - below) / 2e-6 - dy[i]) < 1e-8);
    }
  }
}

static void fill(real *at, int count, rng *r) {
  for (int i = 0; i < count; i++) {
    at[i] = rng_normal(r);
  }
}

static void test_adain(void **state) {
  (void)state;
  rng r = rng_new(9, 0);
  real style[2 * 3 * 4 * 5];
  fill(style, 120, &r);
  layer *l = adain();
  adain_style(l, tensor4(style, 2, 3, 4, 5));
  check_layer("adain", l, image(2, 3, 5, 6), TRAIN, NUMBERS);
}

/* Losses of features, alone (which < 0) and through the fixed filters with a weight for each scale. */
enum { GRAM, MOMENTS, LOSSES };
typedef struct style_trial {
  filter_net filters;
  double target[2 * 64 * 64];
} style_trial;

static double style_loss(const style_trial *t, int which, tensor f, real *df) {
  const double *deviations = t->target + f.dim[0] * f.dim[1];
  return which == GRAM ? gram_loss(f, t->target, df) : moment_loss(f, t->target, deviations, df);
}

static double filtered_loss(style_trial *t, int which, tensor x, real *dx) {
  tensor f[FILTER_SCALES], df[FILTER_SCALES];
  double total = 0;
  filter_net_forward(&t->filters, x, f);
  for (int i = 0; i < FILTER_SCALES; i++) {
    df[i] = tensor_like(f[i], engine_alloc((size_t)tensor_count(f[i]) * sizeof(real)));
    total += (1 + i) * style_loss(t, which, f[i], df[i].at);
    for (int64_t j = 0; j < tensor_count(f[i]); j++) {
      df[i].at[j] *= 1 + i;
    }
  }
  if (dx != NULL) {
    memcpy(dx, filter_net_backward(&t->filters, df).at, (size_t)tensor_count(x) * sizeof(real));
  }
  for (int i = 0; i < FILTER_SCALES; i++) {
    free(df[i].at);
  }
  return total;
}

static void test_style(void **state) {
  (void)state;
  static style_trial t;
  rng r = rng_new(10, 0);
  real at[2 * 3 * 8 * 8], dx[384];
  tensor x = tensor4(at, 2, 3, 8, 8);
  t.filters = filter_net_new(&r);
  fill(at, 384, &r);
  filter_net_calibrate(&t.filters, x);
  for (int i = 0; i < 2 * 64 * 64; i++) {
    t.target[i] = 0.5; /* a symmetric matrix of any size */
  }
  for (int which = 0; which < LOSSES; which++) {
    for (int filtered = 0; filtered < 2; filtered++) {
      filtered ? filtered_loss(&t, which, x, dx) : style_loss(&t, which, x, dx);
      for (int i = 0; i < 384; i += 7) {
        double error = 1, held = at[i];
        for (double h = 1e-5; h > 5e-8 && !(error < ALLOWED); h /= 10) { /* relu has kinks */
          at[i] = held + h;
          double above = filtered ? filtered_loss(&t, which, x, NULL) : style_loss(&t, which, x, NULL);
          at[i] = held - h;
          double below = filtered ? filtered_loss(&t, which, x, NULL) : style_loss(&t, which, x, NULL);
          at[i] = held;
          error = fabs((above - below) / (2 * h) - dx[i]) / (1 + fabs(dx[i]));
        }
        assert_true(error < ALLOWED);
      }
    }
  }
  filter_net_free(&t.filters);
}

/* The picture of the targets has no loss; after calibration each feature has mean square 1. */
static void test_style_targets(void **state) {
  (void)state;
  rng r = rng_new(11, 0);
  filter_net filters = filter_net_new(&r);
  static real at[3 * 16 * 16];
  static double gram[64 * 64], mean[64], deviation[64];
  fill(at, 768, &r);
  tensor x = tensor4(at, 1, 3, 16, 16), f[FILTER_SCALES];
  filter_net_calibrate(&filters, x);
  filter_net_forward(&filters, x, f);
  for (int i = 0; i < FILTER_SCALES; i++) {
    gram_matrix(f[i], gram);
    channel_moments(f[i], mean, deviation);
    assert_true(gram_loss(f[i], gram, NULL) < 1e-20 && moment_loss(f[i], mean, deviation, NULL) < 1e-20);
    for (int c = 0; c < f[i].dim[1]; c++) {
      assert_true(fabs(gram[c * f[i].dim[1] + c] - 1) < 1e-9);
    }
    mean[0] += 3;
    assert_true(fabs(moment_loss(f[i], mean, deviation, NULL) - 9.0 / (double)f[i].dim[1]) < 1e-9);
  }
  filter_net_free(&filters);
}

int main(void) {
  engine_start();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_conv),      cmocka_unit_test(test_sizes), cmocka_unit_test(test_features),
      cmocka_unit_test(test_norms),     cmocka_unit_test(test_nets),  cmocka_unit_test(test_structure),
      cmocka_unit_test(test_lstm),      cmocka_unit_test(test_losses),
      cmocka_unit_test(test_interleaved_groups), cmocka_unit_test(test_adain),
      cmocka_unit_test(test_style),     cmocka_unit_test(test_style_targets)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
