/* Batch norm: its formula, its running statistics, its neighbours, evaluation, and a batch of one. */
#include "e0.h"

#include <math.h>
#include <string.h>

enum { N = 4, C = 3, S = 30, ELEMENTS = N * C * S, OUT = 5 };

static const int64_t shape[] = {N, C, 5, S / 5};

static void make_layer(norma_layer *layer) {
  norma_error error;
  e0_must(norma_layer_batch(layer, 4, shape, &error), &error);
}

/* Mean and variance (divided by m) of channel c. */
static void moments_of(const float *x, int c, double *mean, double *var) {
  double sum = 0, squares = 0;
  for (int i = 0; i < N * S; i++) sum += (double)x[(i / S * C + c) * S + i % S];
  *mean = sum / (N * S);
  for (int i = 0; i < N * S; i++) squares += pow((double)x[(i / S * C + c) * S + i % S] - *mean, 2);
  *var = squares / (N * S);
}

static void formula(e0_state *e0) {
  float x[ELEMENTS], y[ELEMENTS], gamma[C], beta[C];
  norma_layer layer;
  make_layer(&layer);
  e0_fill(e0, x, ELEMENTS, 3, 2);
  e0_fill(e0, gamma, C, 1, 0.3);
  e0_fill(e0, beta, C, 0, 1);
  e0_norm(&layer, x, y, gamma, beta);
  double most = 0;
  for (int i = 0; i < ELEMENTS; i++) {
    double mean, var;
    int c = i / S % C;
    moments_of(x, c, &mean, &var);
    double scaled = (double)gamma[c] * ((double)x[i] - mean) / sqrt(var + 1e-5);
    most = fmax(most, fabs((double)y[i] - scaled - (double)beta[c]) / (fabs(scaled) + fabs((double)beta[c])));
  }
  e0_set(e0, "bn_formula_error", most);
}

/* One training step in PyTorch's convention, then evaluation with what it left. */
static void running(e0_state *e0) {
  float x[ELEMENTS], trained[ELEMENTS], evaluated[ELEMENTS], back[ELEMENTS], mean[C] = {0}, var[C] = {1, 1, 1};
  double scale[C], shift[C], error_of_var = 0;
  norma_moments moments[C];
  norma_layer layer;
  norma_error error;
  make_layer(&layer);
  e0_fill(e0, x, ELEMENTS, 3, 2);
  norma_forward_args args = {.size = sizeof args, .layer = &layer, .x = x, .y = trained, .moments = moments};
  e0_must(norma_forward(&args, &error), &error);
  norma_running_args update = {
      .size = sizeof update, .channels = C, .moments = moments, .running_mean = mean, .running_var = var};
  e0_must(norma_running_update(&update, &error), &error);
  for (int c = 0; c < C; c++) {
    double exact_mean, biased;
    moments_of(x, c, &exact_mean, &biased);
    double wanted = 0.9 + 0.1 * biased * (N * S) / (N * S - 1);
    error_of_var = fmax(error_of_var, fabs((double)var[c] - wanted) / wanted);
  }
  e0_set(e0, "bn_running_variance_error", error_of_var);
  e0_given(&layer, x, evaluated, mean, var);
  e0_set(e0, "bn_train_eval_difference", e0_distance(trained, evaluated, ELEMENTS));

  norma_fold_args fold = {
      .size = sizeof fold, .layer = &layer, .mean = mean, .var = var, .scale = scale, .shift = shift};
  e0_must(norma_fold(&fold, &error), &error);
  for (int i = 0; i < ELEMENTS; i++) {
    int c = i / S % C;
    back[i] = (float)(((double)evaluated[i] - shift[c]) / scale[c]);
  }
  e0_set(e0, "bn_inverse_error", e0_distance(back, x, ELEMENTS));
}

/* What the output of sample 0 does when sample 1 changes: batch norm in training, and group norm. */
static void mates(e0_state *e0) {
  float x[ELEMENTS], before[ELEMENTS], after[ELEMENTS];
  norma_layer batch, group;
  norma_error error;
  make_layer(&batch);
  e0_must(norma_layer_group(&group, C, 4, shape, &error), &error);
  for (int i = 0; i < 2; i++) {
    const norma_layer *layer = i == 0 ? &batch : &group;
    e0_fill(e0, x, ELEMENTS, 1, 1);
    e0_norm(layer, x, before, NULL, NULL);
    for (int j = C * S; j < 2 * C * S; j++) x[j] *= 2;
    e0_norm(layer, x, after, NULL, NULL);
    e0_set(e0, i == 0 ? "bn_mates_change" : "gn_mates_change", e0_distance(before, after, C * S));
  }
}

static void batch_of_one(e0_state *e0) {
  const int64_t one[] = {1, C, 5, S / 5}, single[] = {1, C, 1, 1};
  float x[C * S], batch[C * S], instance[C * S];
  norma_layer layer;
  norma_error error;
  e0_fill(e0, x, C * S, 3, 2);
  e0_must(norma_layer_batch(&layer, 4, one, &error), &error);
  e0_norm(&layer, x, batch, NULL, NULL);
  e0_must(norma_layer_instance(&layer, 4, one, &error), &error);
  e0_norm(&layer, x, instance, NULL, NULL);
  e0_set(e0, "bn1_minus_in", e0_distance(batch, instance, C * S));

  int refused = 0;
  for (int i = 0; i < 2; i++) {
    e0_must((i == 0 ? norma_layer_batch : norma_layer_instance)(&layer, 4, single, &error), &error);
    norma_forward_args args = {.size = sizeof args, .layer = &layer, .x = x, .y = batch, .flags = NORMA_REFUSE_SINGLE};
    refused += norma_forward(&args, &error) == NORMA_SINGLE_VALUE;
  }
  e0_set(e0, "single_refused", refused);
}

/* linear(batch norm in evaluation(x)) against one linear layer with the norm folded into its weights. */
static void fold_forward(e0_state *e0) {
  enum { ROWS = 20, D = 16 };
  const int64_t rows[] = {ROWS, D};
  float x[ROWS * D], y[ROWS * D], mean[D], var[D], weight[OUT * D];
  double scale[D], shift[D], difference = 0, largest = 0;
  norma_layer layer;
  norma_error error;
  e0_must(norma_layer_batch(&layer, 2, rows, &error), &error);
  e0_fill(e0, x, ROWS * D, 1, 2);
  e0_fill(e0, mean, D, 1, 0.5);
  e0_fill(e0, weight, OUT * D, 0, 1);
  for (int d = 0; d < D; d++) var[d] = (float)(1 + fabs(e0_normal(e0)));
  e0_given(&layer, x, y, mean, var);
  norma_fold_args fold = {
      .size = sizeof fold, .layer = &layer, .mean = mean, .var = var, .scale = scale, .shift = shift};
  e0_must(norma_fold(&fold, &error), &error);
  for (int i = 0; i < ROWS * OUT; i++) {
    const float *w = weight + i % OUT * D, *in = x + i / OUT * D, *normalized = y + i / OUT * D;
    double apart = 0, folded = 0;
    for (int d = 0; d < D; d++) {
      apart += (double)w[d] * (double)normalized[d];
      folded += (double)w[d] * scale[d] * (double)in[d] + (double)w[d] * shift[d];
    }
    difference = fmax(difference, fabs(apart - folded));
    largest = fmax(largest, fabs(apart));
  }
  e0_set(e0, "bn_fold_error", difference / largest);
}

/* A call whose fields are zero is PyTorch's default call. */
static void defaults(e0_state *e0) {
  float x[ELEMENTS], plain[ELEMENTS], named[ELEMENTS], ones[C] = {1, 1, 1}, zeros[C] = {0}, state[4][C] = {{0}};
  norma_moments moments[C];
  norma_layer layer;
  norma_error error;
  make_layer(&layer);
  e0_fill(e0, x, ELEMENTS, 3, 2);
  e0_norm(&layer, x, plain, NULL, NULL);
  norma_forward_args args = {.size = sizeof args,
                             .layer = &layer,
                             .x = x,
                             .y = named,
                             .weight = ones,
                             .bias = zeros,
                             .eps = 1e-5,
                             .moments = moments};
  e0_must(norma_forward(&args, &error), &error);
  double difference = e0_distance(plain, named, ELEMENTS);
  for (int i = 0; i < 2; i++) {
    norma_running_args update = {.size = sizeof update,
                                 .momentum = i == 0 ? 0 : 0.1,
                                 .channels = C,
                                 .moments = moments,
                                 .running_mean = state[2 * i],
                                 .running_var = state[2 * i + 1]};
    e0_must(norma_running_update(&update, &error), &error);
  }
  difference += e0_distance(state[0], state[2], C) + e0_distance(state[1], state[3], C);
  e0_set(e0, "torch_defaults_difference", difference);
}

void e0_batch(e0_state *e0) {
  formula(e0);
  running(e0);
  mates(e0);
  batch_of_one(e0);
  fold_forward(e0);
  defaults(e0);
}
