/*
 * E6: does batch norm help because it keeps distributions stable? In the arm bn_noisy every norm is followed by a scale
 * and a shift that are drawn anew at every step, so that the next layer's input is less stable than without any norm
 * (Santurkar 2018). Measured beside the loss: how the distributions move from step to step, how much a layer's gradient
 * changes when the layers below it have moved, and how far gradient and loss change along the gradient.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "classify.h"

enum { SIDE = 14, CONVS = 6, BATCH_SIZE = 64, STEPS = 400, MEASURE_EVERY = 20, CHANNELS = 64 };

static int list_arms(arm arms[EXPERIMENT_ARMS]) {
  int count = arm_add(arms, 0, "none", 0.1, false);
  count = arm_add(arms, count, "bn", 0.1, false);
  return arm_add(arms, count, "bn_noisy", 0.1, false);
}

/* ----------------------------------------------------------------------------------------------------- noise --- */

typedef struct noise_layer {
  layer base;
  rng random;
} noise_layer;

enum { NOISE_Y, NOISE_SCALE, NOISE_DX };

/* y = s x + m: s and m of each sample and channel vary around values that are drawn for each channel and step. */
static tensor noise_forward(layer *l, tensor x, phase phase) {
  (void)phase;
  rng *r = &((noise_layer *)l)->random;
  int64_t n = x.dim[0], c = x.dim[1], pixels = tensor_item(x) / c;
  real *y = layer_reals(l, NOISE_Y, tensor_count(x)), *scale = layer_reals(l, NOISE_SCALE, n * c);
  double step_scale[CHANNELS], step_shift[CHANNELS];
  for (int64_t i = 0; i < c; i++) {
    step_scale[i] = 1 + 0.25 * rng_uniform(r);
    step_shift[i] = rng_uniform(r) - 0.5;
  }
  for (int64_t i = 0; i < n * c; i++) {
    scale[i] = (real)(step_scale[i % c] + 0.1 * rng_normal(r));
    real shift = (real)(step_shift[i % c] + 0.2 * (rng_uniform(r) - 0.5));
    for (int64_t j = i * pixels; j < (i + 1) * pixels; j++) {
      y[j] = scale[i] * x.at[j] + shift;
    }
  }
  return tensor_like(x, y);
}

static tensor noise_backward(layer *l, tensor dy) {
  int64_t maps = dy.dim[0] * dy.dim[1], pixels = tensor_count(dy) / maps;
  const real *scale = l->buffers[NOISE_SCALE];
  real *dx = layer_reals(l, NOISE_DX, tensor_count(dy));
  for (int64_t i = 0; i < maps * pixels; i++) {
    dx[i] = scale[i / pixels] * dy.at[i];
  }
  return tensor_like(dy, dx);
}

static layer *noise(uint64_t seed, uint64_t number) {
  static const layer_kind kind = {"noise", sizeof(noise_layer), noise_forward, noise_backward, NULL};
  layer *l = layer_new(&kind);
  ((noise_layer *)l)->random = rng_new(seed, 100 + number);
  return l;
}

/* ------------------------------------------------------------------------------------------------------- net --- */

/* A plain stack: [convolution, norm and noise, relu, pooling] six times. */
static layer *make_net(rng *r, uint64_t seed, const char *arm_name) {
  static const int widths[CONVS + 1] = {1, 16, 16, 32, 32, 64, CHANNELS};
  norm_spec spec = {.kind = strncmp(arm_name, "bn", 2) == 0 ? NORM_BATCH : NORM_NONE};
  layer *net = sequence(0);
  for (int i = 0; i < CONVS; i++) {
    layer *convolution = conv(r, widths[i], widths[i + 1], 3, 1, PAD_ZERO, true);
    convolution->no_dx = i == 0;
    layer *after = sequence(1, norm(spec, widths[i + 1]));
    if (strcmp(arm_name, "bn_noisy") == 0) {
      sequence_add(after, noise(seed, (uint64_t)i));
    }
    sequence_add(net, sequence(3, convolution, after, relu()));
    sequence_add(net, i % 2 == 1 && i < 5 ? max_pool() : sequence(0));
  }
  sequence_add(net, global_mean());
  sequence_add(net, linear(r, CHANNELS, 10, true));
  return net;
}

static layer *block(layer *net, int i) { return net->children[2 * i]; }

/* ------------------------------------------------------------------------------------------------ measurement --- */

typedef struct measurement {
  double mean[CONVS][CHANNELS], deviation[CONVS][CHANNELS];  /* of the last step */
  double drift_mean, drift_sd, drifts;
  double change, cosine, changes;
  double loss_range, gradient_range, ranges;
  real *params, *gradient, *other, *moved, *dy;
} measurement;

/* The input of each relu: how mean and deviation of a channel moved since the last step. */
static void measure_drift(measurement *m, layer *net, bool first) {
  for (int i = 0; i < CONVS; i++) {
    tensor x = block(net, i)->children[2]->x;
    int64_t c = x.dim[1], pixels = tensor_item(x) / c;
    for (int64_t k = 0; k < c; k++) {
      double sum = 0, squares = 0, n = (double)(x.dim[0] * pixels);
      for (int64_t j = 0; j < x.dim[0] * pixels; j++) {
        double v = (double)x.at[(j / pixels * c + k) * pixels + j % pixels];
        sum += v;
        squares += v * v;
      }
      double mean = sum / n, deviation = sqrt(fmax(squares / n - mean * mean, 1e-12));
      if (!first) {
        m->drift_mean += fabs(mean - m->mean[i][k]) / m->deviation[i][k];
        m->drift_sd += fabs(log(deviation / m->deviation[i][k]));
        m->drifts++;
      }
      m->mean[i][k] = mean;
      m->deviation[i][k] = deviation;
    }
  }
}

/* Loss and gradient with the net's present parameters; nothing but the gradients changes. */
static double gradient_here(measurement *m, layer *net, tensor x, const int32_t *labels) {
  gradient_clear(net);
  tensor y = forward(net, x, BATCH);
  double loss = cross_entropy(y, labels, m->dy, NULL);
  backward(net, tensor_like(y, m->dy));
  return loss;
}

static double dot(const real *a, const real *b, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) {
    sum += (double)a[i] * (double)b[i];
  }
  return sum;
}

/* How the gradient of each convolution changes when all that lies below has made its step. */
static void measure_change(measurement *m, layer *net, tensor x, const int32_t *labels, int64_t total) {
  int64_t at = param_total(block(net, 0));
  for (int i = 1; i < CONVS; i++) {
    int64_t own = param_total(block(net, i));
    memcpy(m->other, m->params, (size_t)total * sizeof(real));
    memcpy(m->other, m->moved, (size_t)at * sizeof(real));
    params_write(net, m->other);
    gradient_here(m, net, x, labels);
    gradients_read(net, m->other);
    const real *before = m->gradient + at, *after = m->other + at;
    double ab = dot(before, after, own), aa = dot(before, before, own), bb = dot(after, after, own);
    m->change += sqrt(fmax(aa + bb - 2 * ab, 0) / aa);
    m->cosine += ab / sqrt(aa * bb);
    m->changes++;
    at += own;
  }
}

/* How far loss and gradient differ along the gradient, at half the step to 4 times the step. */
static void measure_range(measurement *m, layer *net, tensor x, const int32_t *labels, double rate, int64_t total) {
  double low = INFINITY, high = -INFINITY, farthest = 0, length = dot(m->gradient, m->gradient, total);
  for (double factor = 0.5; factor <= 4; factor *= 2) {
    for (int64_t i = 0; i < total; i++) {
      m->other[i] = m->params[i] - (real)(factor * rate) * m->gradient[i];
    }
    params_write(net, m->other);
    double loss = gradient_here(m, net, x, labels);
    gradients_read(net, m->other);
    double cross = dot(m->gradient, m->other, total), there = dot(m->other, m->other, total);
    low = fmin(low, loss);
    high = fmax(high, loss);
    farthest = fmax(farthest, sqrt(fmax(length + there - 2 * cross, 0) / length));
  }
  m->loss_range += high - low;
  m->gradient_range += farthest;
  m->ranges++;
}

static void watch(void *context, const training *t, int64_t step, tensor x, const int32_t *labels) {
  measurement *m = context;
  int64_t total = param_total(t->net);
  double rate = one_cycle(step, t->steps, t->rate);
  measure_drift(m, t->net, step == 0);
  if (step % MEASURE_EVERY != MEASURE_EVERY - 1) {
    return;
  }
  params_read(t->net, m->params);
  gradients_read(t->net, m->gradient);
  for (int64_t i = 0; i < total; i++) {
    m->moved[i] = m->params[i] - (real)rate * m->gradient[i];
  }
  measure_change(m, t->net, x, labels, total);
  measure_range(m, t->net, x, labels, rate, total);
  params_write(t->net, m->params);
  gradients_write(t->net, m->gradient);
}

static void run_e6(const run *run, result *result) {
  rng weights = rng_new((uint64_t)run->seed, STREAM_WEIGHTS);
  pictures train_set = fashion_load(run->data, TRAINING, 12800, SIDE, false);
  layer *net = make_net(&weights, (uint64_t)run->seed, run->arm.name);
  size_t bytes = (size_t)param_total(net) * sizeof(real);
  measurement *m = engine_alloc(sizeof *m);
  m->params = engine_alloc(bytes), m->gradient = engine_alloc(bytes), m->other = engine_alloc(bytes);
  m->moved = engine_alloc(bytes), m->dy = engine_alloc(BATCH_SIZE * 10 * sizeof(real));
  training t = {.net = net, .set = &train_set, .steps = STEPS, .batch = BATCH_SIZE, .rate = run->rate,
                .optimizer = {.kind = SGD, .momentum = 0.9}, .seed = (uint64_t)run->seed, .watch = watch,
                .context = m};
  if (train(&t, result)) {
    result_metric(result, "drift_mean", m->drift_mean / m->drifts);
    result_metric(result, "drift_sd", m->drift_sd / m->drifts);
    result_metric(result, "gradient_change", m->change / m->changes);
    result_metric(result, "gradient_cosine", m->cosine / m->changes);
    result_metric(result, "loss_range", m->loss_range / m->ranges);
    result_metric(result, "gradient_range", m->gradient_range / m->ranges);
  }
  free(m->params), free(m->gradient), free(m->other), free(m->moved), free(m->dy), free(m);
  layer_free(net);
  pictures_free(&train_set);
}

const experiment e6 = {.id = "E6",
                       .title = "batch norm with unstable distributions (noise after every norm)",
                       .headline = "train_loss_final",
                       .arms = list_arms,
                       .full_seeds = 5,
                       .seconds = {0, 20, 0},
                       .missing = fashion_missing,
                       .run = run_e6};
