/* E10: style transfer. A generator learns to give photographs the texture of one picture (Ulyanov et al. 2016), with
 * one layer or another, and is judged on photographs that it has never seen. e10_adain.c is the other half. */
#include "e10.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "classify.h"
#include "album.h"

enum { BATCH_SIZE = 4, PRECISE_BATCHES = 64, GROUPS = 8, TEST_SEED = 11, WIDTH = 16 };

/* The rates of quick mode. Without normalization that of the others makes all pixels black within some steps, and then
 * nothing changes. */
static const double content_weight = 0.3, rate = 3e-3, rate_without = 1e-3;
static int list_arms(arm arms[EXPERIMENT_ARMS]) {
  static const char *const names[] = {"in",     "bn",     "gn",            "ln",           "none",
                                      "in_raw", "bn_raw", "in_normalized", "bn_normalized"};
  int count = 0;
  for (int i = 0; i < 9; i++) {
    count = arm_add(arms, count, names[i], strcmp(names[i], "none") == 0 ? rate_without : rate, i < 2);
  }
  count = arm_add(arms, count, "adain", rate, false);
  arms[count - 1].cost = 2;
  return count;
}

/* -------------------------------------------------------------------------------------------------- generator --- */

static void add_conv(layer *net, rng *r, int in, int out, int kernel, int stride, norm_spec spec, bool relu) {
  spec.relu = relu;
  sequence_add(net, conv(r, in, out, kernel, stride, PAD_REFLECT, spec.kind == NORM_NONE));
  sequence_add(net, norm(spec, out));
}

/* Pictures to pictures of the same size: once down and up again, two residual blocks between. */
static layer *generator(rng *r, norm_spec spec) {
  layer *net = sequence(0);
  add_conv(net, r, PHOTO_CHANNELS, WIDTH, 5, 1, spec, true);
  net->children[0]->no_dx = true;
  add_conv(net, r, WIDTH, 2 * WIDTH, 3, 2, spec, true);
  for (int i = 0; i < 2; i++) {
    layer *body = sequence(0);
    add_conv(body, r, 2 * WIDTH, 2 * WIDTH, 3, 1, spec, true);
    add_conv(body, r, 2 * WIDTH, 2 * WIDTH, 3, 1, spec, false);
    sequence_add(net, residual(body, NULL, false));
  }
  sequence_add(net, upsample());
  add_conv(net, r, 2 * WIDTH, WIDTH, 3, 1, spec, true);
  sequence_add(net, conv(r, WIDTH, PHOTO_CHANNELS, 3, 1, PAD_REFLECT, true));
  sequence_add(net, tanh_layer());
  return net;
}

/* ------------------------------------------------------------------------------------------------------ losses --- */

typedef struct transfer {
  const run *run;
  layer *net;
  filter_net filters;
  album training;
  exposure exposure;
  int side;
  double *gram[FILTER_SCALES];    /* of the style */
  real *content, *dfeature;       /* the features of the content at the last scale; a gradient by them */
  real *gradients[FILTER_SCALES];
  real *squares;
} transfer;

typedef struct losses {
  double style, content;
} losses;

static void learn_style(transfer *t, const photo *style) {
  tensor x = album_whole(style), f[FILTER_SCALES];
  filter_net_forward(&t->filters, x, f);
  for (int i = 0; i < FILTER_SCALES; i++) {
    int64_t c = f[i].dim[1];
    t->gram[i] = engine_alloc((size_t)(c * c) * sizeof *t->gram[i]);
    gram_matrix(f[i], t->gram[i]);
    t->gradients[i] = engine_alloc((size_t)(BATCH_SIZE * c * t->side * t->side) * sizeof(real));
  }
  int64_t last = BATCH_SIZE * f[FILTER_SCALES - 1].dim[1] * t->side * t->side;
  t->content = engine_alloc((size_t)last * sizeof(real));
  t->dfeature = engine_alloc((size_t)last * sizeof(real));
  t->squares = engine_alloc((size_t)(BATCH_SIZE * PHOTO_CHANNELS * t->side * t->side) * sizeof(real));
  free(x.at);
}

static void transfer_free(transfer *t) {
  for (int i = 0; i < FILTER_SCALES; i++) {
    free(t->gram[i]);
    free(t->gradients[i]);
  }
  free(t->content);
  free(t->dfeature);
  free(t->squares);
  layer_free(t->net);
  filter_net_free(&t->filters);
  album_free(&t->training);
}

static void scale(tensor x, double factor) {
  int64_t count = tensor_count(x);
  for (int64_t i = 0; i < count; i++) {
    x.at[i] *= (real)factor;
  }
}

/* Of the generator's picture of x; also the gradient by that picture if dy is not NULL. The content loss is divided by
 * a constant, 1: the mean square of each feature over the training photographs. One that is divided by the energy of
 * the very square explodes where the square is dark. */
static losses judge_batch(transfer *t, tensor x, phase phase, tensor *dy) {
  tensor f[FILTER_SCALES], df[FILTER_SCALES];
  const int last = FILTER_SCALES - 1;
  losses l = {0};
  filter_net_forward(&t->filters, x, f);
  memcpy(t->content, f[last].at, (size_t)tensor_count(f[last]) * sizeof(real));
  filter_net_forward(&t->filters, forward(t->net, x, phase), f);
  for (int i = 0; i < FILTER_SCALES; i++) {
    df[i] = tensor_like(f[i], t->gradients[i]);
    l.style += gram_loss(f[i], t->gram[i], df[i].at) / FILTER_SCALES;
    scale(df[i], 1.0 / FILTER_SCALES);
  }
  l.content = squared_error(f[last], t->content, t->dfeature);
  if (dy != NULL) {
    int64_t count = tensor_count(df[last]);
    for (int64_t j = 0; j < count; j++) {
      df[last].at[j] += (real)content_weight * t->dfeature[j];
    }
    *dy = filter_net_backward(&t->filters, df);
  }
  return l;
}

static tensor next_squares(const transfer *t, rng *r) {
  return album_random(&t->training, BATCH_SIZE, t->side, t->exposure, r, t->squares);
}

static bool train_generator(transfer *t, int steps, result *result) {
  optimizer adam = {.kind = ADAM};
  rng crops = rng_new((uint64_t)t->run->seed, STREAM_ORDER);
  double tail = 0, sum = 0;
  int every = (steps + 49) / 50, last = (steps + 9) / 10;
  bool finite = true;
  gradient_clear(t->net);
  for (int step = 0; step < steps && finite; step++) {
    tensor dy;
    losses l = judge_batch(t, next_squares(t, &crops), TRAIN, &dy);
    double loss = l.style + content_weight * l.content;
    finite = isfinite(loss);
    backward(t->net, dy);
    optimizer_step(&adam, t->net, t->run->rate);
    tail += step >= steps - last ? loss / last : 0;
    sum += loss / every;
    if ((step + 1) % every == 0) {
      result_point(result, "train_loss", step + 1, sum);
      sum = 0;
    }
    run_progress((double)(step + 1) / steps);
  }
  result_metric(result, "train_loss_final", finite ? tail : NAN);
  result_metric(result, "diverged", finite ? 0 : 1);
  return finite;
}

/* ------------------------------------------------------------------------------------------------------- judge --- */

static losses mean_losses(transfer *t, tensor test, phase phase) {
  losses mean = {0};
  int batches = (int)test.dim[0] / BATCH_SIZE;
  for (int i = 0; i < batches; i++) {
    tensor x = test;
    x.dim[0] = BATCH_SIZE;
    x.at += i * BATCH_SIZE * tensor_item(test);
    losses l = judge_batch(t, x, phase, NULL);
    mean.style += l.style / batches;
    mean.content += l.content / batches;
  }
  return mean;
}

static void judge_generator(transfer *t, tensor test, result *result) {
  static const struct {
    const char *style, *content;
    phase phase;
  } phases[] = {{"style_loss", "content_loss", RUNNING}, {"style_loss_running", "content_loss_running", RUNNING},
                {"style_loss_precise", "content_loss_precise", PRECISE},
                {"style_loss_batch", "content_loss_batch", BATCH}};
  bool batch_norm = net_has_batch_norm(t->net);
  if (batch_norm) {
    rng crops = rng_new((uint64_t)t->run->seed, STREAM_NOISE);
    norms_forget(t->net);
    for (int i = 0; i < PRECISE_BATCHES; i++) {
      forward(t->net, next_squares(t, &crops), COLLECT);
    }
  }
  for (int p = 0; p < (batch_norm ? 4 : 1); p++) {
    losses mean = mean_losses(t, test, phases[p].phase);
    result_metric(result, phases[p].style, mean.style);
    result_metric(result, phases[p].content, mean.content);
  }
}

/* Two rows for the report: photographs that were never seen, two of them again with less contrast; below, after the
 * style, what the generator makes of them. */
static void show(const transfer *t, const album *shown, const photo *style, int side) {
  enum { AGAIN = 2 };
  const real less = (real)0.3;
  int64_t size = (int64_t)PHOTO_CHANNELS * side * side;
  int columns = 1 + shown->count + AGAIN;
  char name[64];
  real *photos = engine_alloc((size_t)(columns * size) * sizeof *photos);
  real *made = engine_alloc((size_t)(columns * size) * sizeof *made);
  for (int64_t j = 0; j < size; j++) {
    photos[j] = 1; /* white above the style */
  }
  album_middle(style, side, made);
  for (int i = 1; i < columns; i++) {
    real *at = photos + i * size;
    album_middle(&shown->photos[(i - 1) % shown->count], side, at);
    for (int64_t j = 0; j < size && i > shown->count; j++) {
      at[j] *= less;
    }
    tensor y = forward(t->net, tensor4(at, 1, PHOTO_CHANNELS, side, side), RUNNING);
    memcpy(made + i * size, y.at, (size_t)size * sizeof *made);
  }
  snprintf(name, sizeof name, "E10_%s", t->run->arm.name);
  album_picture(t->run, "E10_photos", photos, 1, columns, side);
  album_picture(t->run, name, made, 1, columns, side);
  free(photos);
  free(made);
}

static void describe(const transfer *t, int steps, result *result) {
  static const char *const exposures[] = {"as taken", "varied", "normalized"};
  result_config(result, "steps", steps);
  result_config(result, "batch", BATCH_SIZE);
  result_config(result, "training_pictures", t->training.count);
  result_config(result, "side", t->side);
  result_config(result, "parameters", (double)param_total(t->net));
  result_config_text(result, "optimizer", "adam");
  result_config(result, "content_weight", content_weight);
  result_config_text(result, "contrast", exposures[t->exposure]);
}

/* LAYER, LAYER_raw or LAYER_normalized: what was done to the contrast of all squares, in training and test. */
static norm_spec read_arm(const run *run, exposure *exposure) {
  char name[sizeof run->arm.name];
  snprintf(name, sizeof name, "%s", run->arm.name);
  char *end = strchr(name, '_');
  *exposure = end == NULL ? VARIED : strcmp(end, "_raw") == 0 ? AS_TAKEN : NORMALIZED;
  if (end != NULL) {
    *end = '\0';
  }
  return norm_named(strcmp(name, "gn") == 0 ? "gn8" : name);
}

static void run_generator(const run *run, result *result) {
  bool quick = run->mode == QUICK, tune = run->mode == TUNE;
  int side = quick ? 32 : 64, shorter = 2 * side, steps = quick ? 150 : tune ? 100 : 300;
  transfer t = {.run = run, .side = side};
  norm_spec spec = read_arm(run, &t.exposure);
  album content = album_load(run->data, ALBUM_CONTENT, shorter);
  album style = album_load(run->data, ALBUM_STYLE, shorter);
  rng weights = rng_new((uint64_t)run->seed, STREAM_WEIGHTS);
  t.training = album_load(run->data, ALBUM_TRAINING, shorter);
  t.filters = album_filters(&t.training, side);
  album validation = album_take_last(&t.training, tune ? E10_VALIDATION : 0);
  t.net = generator(&weights, spec);
  learn_style(&t, &style.photos[0]);
  describe(&t, steps, result);
  if (spec.kind == NORM_GROUP) {
    result_config(result, "groups", GROUPS);
  }
  if (train_generator(&t, steps, result)) {
    rng exposures = rng_new(TEST_SEED, 0);
    tensor test = album_corners(tune ? &validation : &content, side, t.exposure, &exposures);
    if (tune) {
      losses l = mean_losses(&t, test, RUNNING);
      result_metric(result, "validation_error", l.style + content_weight * l.content);
    } else {
      result_config(result, "test_pictures", (double)test.dim[0]);
      judge_generator(&t, test, result);
    }
    free(test.at);
    if (run->seed == 1 && t.exposure == VARIED) {
      show(&t, &content, &style.photos[0], shorter);
    }
  }
  transfer_free(&t);
  album_free(&validation);
  album_free(&content);
  album_free(&style);
}

static void run_e10(const run *run, result *result) {
  (strcmp(run->arm.name, "adain") == 0 ? run_adain : run_generator)(run, result);
}

const experiment e10 = {.id = "E10",
                        .title = "style transfer: one layer or another in the generator, and AdaIN",
                        .headline = "train_loss_final",
                        .arms = list_arms,
                        .rates = adam_rates,
                        .quick_seeds = 3,
                        .full_seeds = 3,
                        .seconds = {4, 24, 8},
                        .missing = album_missing,
                        .run = run_e10};
