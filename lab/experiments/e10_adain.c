/* The second half of E10: AdaIN (Huang and Belongie 2017). The features of a photograph get the mean and the deviation
 * that the features of a style have; a decoder has learned to make a picture of such features. Neither the photographs
 * nor the styles that judge were seen in training. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "classify.h"
#include "e10.h"
#include "album.h"

enum { BATCH_SIZE = 4, LAST = FILTER_SCALES - 1 };

static const double style_weight = 1;

typedef struct moments {
  double *mean, *deviation; /* [n][c] */
} moments;

typedef struct adain_net {
  filter_net encoder;
  layer *adain, *decoder;
  moments style[FILTER_SCALES];
  real *features;                  /* of the content at the last scale; then what the decoder gets */
  real *gradients[FILTER_SCALES], *dfeature;
} adain_net;

static layer *decoder_new(rng *r) {
  static const int channels[] = {64, 48, 32, 32, PHOTO_CHANNELS};
  layer *net = sequence(0);
  for (int i = 0; i < 4; i++) {
    sequence_add(net, conv(r, channels[i], channels[i + 1], 3, 1, PAD_REFLECT, true));
    sequence_add(net, i < 3 ? relu() : tanh_layer());
    if (i < 2) {
      sequence_add(net, upsample());
    }
  }
  net->children[0]->no_dx = true;
  return net;
}

/* With room for a batch of squares, or for one of twice the side. */
static adain_net adain_new(rng *weights, const album *training, int side) {
  adain_net a = {.encoder = album_filters(training, side), .adain = adain(), .decoder = decoder_new(weights)};
  static const int channels[FILTER_SCALES] = {32, 48, 64};
  for (int i = 0; i < FILTER_SCALES; i++) {
    size_t units = (size_t)(BATCH_SIZE * channels[i]);
    a.style[i] = (moments){engine_alloc(units * sizeof(double)), engine_alloc(units * sizeof(double))};
    a.gradients[i] = engine_alloc((units * (size_t)(side * side) >> 2 * i) * sizeof(real));
  }
  size_t last = (size_t)(BATCH_SIZE * channels[LAST] * side * side) >> 2 * LAST;
  a.features = engine_alloc(last * sizeof(real));
  a.dfeature = engine_alloc(last * sizeof(real));
  return a;
}

static void adain_free(adain_net *a) {
  for (int i = 0; i < FILTER_SCALES; i++) {
    free(a->style[i].mean);
    free(a->style[i].deviation);
    free(a->gradients[i]);
  }
  free(a->features);
  free(a->dfeature);
  filter_net_free(&a->encoder);
  layer_free(a->adain);
  layer_free(a->decoder);
}

/* A picture of `content` in the style of `style`. Its moments are then in a->style, the decoder's input in `target`. */
static tensor transfer(adain_net *a, tensor content, tensor style, tensor *target) {
  tensor f[FILTER_SCALES];
  filter_net_forward(&a->encoder, content, f);
  tensor features = tensor_like(f[LAST], a->features);
  memcpy(a->features, f[LAST].at, (size_t)tensor_count(features) * sizeof(real));
  filter_net_forward(&a->encoder, style, f);
  for (int i = 0; i < FILTER_SCALES; i++) {
    channel_moments(f[i], a->style[i].mean, a->style[i].deviation);
  }
  adain_style(a->adain, f[LAST]);
  *target = forward(a->adain, features, TRAIN);
  return forward(a->decoder, *target, TRAIN);
}

/* The features of the picture should be those that the decoder got, and have the style's moments at all scales. */
static double step_of(adain_net *a, tensor content, tensor style) {
  tensor target, f[FILTER_SCALES], df[FILTER_SCALES];
  filter_net_forward(&a->encoder, transfer(a, content, style, &target), f);
  double loss = squared_error(f[LAST], target.at, a->dfeature);
  for (int i = 0; i < FILTER_SCALES; i++) {
    df[i] = tensor_like(f[i], a->gradients[i]);
    loss += style_weight * moment_loss(f[i], a->style[i].mean, a->style[i].deviation, df[i].at);
    int64_t count = tensor_count(df[i]);
    for (int64_t j = 0; j < count; j++) {
      df[i].at[j] = (real)style_weight * df[i].at[j] + (i == LAST ? a->dfeature[j] : 0);
    }
  }
  backward(a->decoder, filter_net_backward(&a->encoder, df));
  return loss;
}

static bool train_decoder(adain_net *a, const album *training, const run *run, int side, int steps, result *result) {
  optimizer adam = {.kind = ADAM};
  rng crops = rng_new((uint64_t)run->seed, STREAM_ORDER);
  size_t bytes = (size_t)(BATCH_SIZE * PHOTO_CHANNELS * side * side) * sizeof(real);
  real *content = engine_alloc(bytes), *style = engine_alloc(bytes);
  int every = (steps + 49) / 50, last = (steps + 9) / 10;
  double tail = 0, sum = 0;
  bool finite = true;
  gradient_clear(a->decoder);
  for (int step = 0; step < steps && finite; step++) {
    tensor x = album_random(training, BATCH_SIZE, side, AS_TAKEN, &crops, content);
    double loss = step_of(a, x, album_random(training, BATCH_SIZE, side, AS_TAKEN, &crops, style));
    finite = isfinite(loss);
    optimizer_step(&adam, a->decoder, one_cycle(step, steps, run->rate));
    tail += step >= steps - last ? loss / last : 0;
    sum += loss / every;
    if ((step + 1) % every == 0) {
      result_point(result, "train_loss", step + 1, sum);
      sum = 0;
    }
    run_progress((double)(step + 1) / steps);
  }
  free(content);
  free(style);
  result_metric(result, "train_loss_final", finite ? tail : NAN);
  result_metric(result, "diverged", finite ? 0 : 1);
  return finite;
}

/* ------------------------------------------------------------------------------------------------------- judge --- */

/* From the moments of x to those in a->style: Euclidean over the channels, the mean of the scales. One picture. */
static double moment_distance(adain_net *a, tensor x, tensor f[FILTER_SCALES]) {
  double distance = 0;
  filter_net_forward(&a->encoder, x, f);
  for (int i = 0; i < FILTER_SCALES; i++) {
    double mean_square = moment_loss(f[i], a->style[i].mean, a->style[i].deviation, NULL);
    distance += sqrt(mean_square * (double)f[i].dim[1]) / FILTER_SCALES;
  }
  return distance;
}

static tensor item(tensor x, int64_t i) {
  x.at += i * tensor_item(x);
  x.dim[0] = 1;
  return x;
}

/* The loss of training, on pairs of squares that training has not seen. The gradients go nowhere. */
static double validate(adain_net *a, const album *photos, int side) {
  tensor squares = album_corners(photos, side, AS_TAKEN, NULL);
  int64_t count = squares.dim[0];
  double loss = 0;
  for (int64_t i = 0; i < count; i++) {
    loss += step_of(a, item(squares, i), item(squares, (i + 5) % count)) / (double)count;
  }
  free(squares.at);
  return loss;
}

/* Each square of content in each style. */
static void judge_decoder(adain_net *a, tensor contents, tensor styles, result *result) {
  double identity = 0, unseen = 0, content_loss = 0;
  int64_t pairs = contents.dim[0] * styles.dim[0];
  for (int64_t i = 0; i < pairs; i++) {
    tensor target, f[FILTER_SCALES], x = item(contents, i / styles.dim[0]);
    tensor y = transfer(a, x, item(styles, i % styles.dim[0]), &target);
    unseen += moment_distance(a, y, f) / (double)pairs;
    memcpy(a->dfeature, f[LAST].at, (size_t)tensor_count(f[LAST]) * sizeof(real));
    identity += moment_distance(a, x, f) / (double)pairs;
    content_loss += squared_error(f[LAST], a->dfeature, NULL) / (double)pairs;
  }
  result_metric(result, "moment_distance_identity", identity);
  result_metric(result, "moment_distance_unseen", unseen);
  result_metric(result, "content_loss", content_loss);
  result_config(result, "test_pictures", (double)pairs);
}

/* Photographs down the left, styles along the top. */
static void show_grid(adain_net *a, const run *run, const album *contents, const album *styles, int side) {
  int64_t size = (int64_t)PHOTO_CHANNELS * side * side;
  int rows = contents->count + 1, columns = styles->count + 1;
  real *squares = engine_alloc((size_t)(rows * columns * size) * sizeof *squares);
  tensor one = tensor4(squares, 1, PHOTO_CHANNELS, side, side), target;
  for (int64_t i = 0; i < size; i++) {
    squares[i] = 1; /* the corner is white */
  }
  for (int i = 1; i < rows * columns; i++) {
    int row = i / columns, column = i % columns;
    real *to = squares + i * size;
    if (row == 0) {
      album_middle(&styles->photos[column - 1], side, to);
    } else if (column == 0) {
      album_middle(&contents->photos[row - 1], side, to);
    } else {
      tensor y = transfer(a, tensor_like(one, squares + row * columns * size),
                          tensor_like(one, squares + column * size), &target);
      memcpy(to, y.at, (size_t)size * sizeof *to);
    }
  }
  album_picture(run, "E10_adain", squares, rows, columns, side);
  free(squares);
}

void run_adain(const run *run, result *result) {
  bool quick = run->mode == QUICK, tune = run->mode == TUNE;
  int side = quick ? 32 : 64, shorter = 2 * side, steps = quick ? 150 : tune ? 200 : 600;
  album training = album_load(run->data, ALBUM_TRAINING, shorter);
  album content = album_load(run->data, ALBUM_CONTENT, shorter), style = album_load(run->data, ALBUM_STYLE, shorter);
  rng weights = rng_new((uint64_t)run->seed, STREAM_WEIGHTS);
  adain_net a = adain_new(&weights, &training, side);
  album validation = album_take_last(&training, tune ? E10_VALIDATION : 0);
  result_config(result, "steps", steps);
  result_config(result, "batch", BATCH_SIZE);
  result_config(result, "training_pictures", training.count);
  result_config(result, "side", side);
  result_config(result, "parameters", (double)param_total(a.decoder));
  result_config_text(result, "optimizer", "adam");
  result_config(result, "style_weight", style_weight);
  bool finite = train_decoder(&a, &training, run, side, steps, result);
  if (finite && tune) {
    result_metric(result, "validation_error", validate(&a, &validation, side));
  } else if (finite) {
    tensor contents = album_corners(&content, side, AS_TAKEN, NULL);
    tensor styles = album_corners(&style, side, AS_TAKEN, NULL);
    judge_decoder(&a, contents, styles, result);
    free(contents.at);
    free(styles.at);
    if (run->seed == 1) {
      show_grid(&a, run, &content, &style, shorter);
    }
  }
  adain_free(&a);
  album_free(&training);
  album_free(&validation);
  album_free(&content);
  album_free(&style);
}
