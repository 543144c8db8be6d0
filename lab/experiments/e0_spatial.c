/* Instance norm, group norm and AdaIN on feature maps: what they keep, and where they are the same layer. */
#include "e0.h"

#include <math.h>

enum { N = 6, C = 8, SIDE = 12, S = SIDE * SIDE, MAPS = N * C, ELEMENTS = MAPS * S, GROUPS = 2 };

static const int64_t shape[] = {N, C, SIDE, SIDE};

static void make_layer(norma_layer *layer, int groups) {
  norma_error error;
  if (groups > 0) e0_must(norma_layer_group(layer, groups, 4, shape, &error), &error);
  else e0_must(norma_layer_instance(layer, 4, shape, &error), &error);
}

static void moments_of(const float *map, double *mean, double *deviation) {
  double sum = 0, squares = 0;
  for (int i = 0; i < S; i++) sum += (double)map[i];
  *mean = sum / S;
  for (int i = 0; i < S; i++) squares += pow((double)map[i] - *mean, 2);
  *deviation = sqrt(squares / S);
}

static void order(e0_state *e0, const norma_layer *instance, float *x, float *y) {
  double broken = 0;
  e0_fill(e0, x, ELEMENTS, 1, 1);
  e0_norm(instance, x, y, NULL, NULL);
  for (int i = 0; i < S; i++) {
    for (int j = 0; j < S; j++) broken += x[i] < x[j] && y[i] > y[j];
  }
  e0_set(e0, "in_order_broken", broken);
  static float changed[ELEMENTS];
  for (int i = 0; i < ELEMENTS; i++) x[i] = 3 * x[i] + 2;
  e0_norm(instance, x, changed, NULL, NULL);
  e0_set(e0, "in_scale_error", e0_distance(y, changed, ELEMENTS));
}

/* An animal of the upper and lower half of the map on a grey ground: back 0.8, belly 0.2, each with some texture. */
static void back_and_belly(e0_state *e0, const norma_layer *instance, float *x, float *y) {
  double back = 0, belly = 0;
  int each = 0;
  for (int i = 0; i < ELEMENTS; i++) {
    int row = i / SIDE % SIDE, column = i % SIDE;
    bool animal = row >= 2 && row < SIDE - 2 && column >= 2 && column < SIDE - 2;
    x[i] = (float)((!animal ? 0.5 : row < SIDE / 2 ? 0.8 : 0.2) + 0.05 * e0_normal(e0));
  }
  e0_norm(instance, x, y, NULL, NULL);
  for (int i = 0; i < S; i++) {
    int row = i / SIDE, column = i % SIDE;
    if (row < 2 || row >= SIDE - 2 || column < 2 || column >= SIDE - 2) continue;
    *(row < SIDE / 2 ? &back : &belly) += (double)y[i];
    each++;
  }
  e0_set(e0, "in_back_minus_belly", (back - belly) / (each / 2.0));
}

/* The mean over space of what comes out, which is all that a pooling head sees. */
static void pooled(e0_state *e0, const norma_layer *instance, float *x, float *y) {
  float beta[C], gamma[C];
  double most = 0, spread = 0;
  norma_layer group;
  make_layer(&group, GROUPS);
  e0_fill(e0, beta, C, 0, 1);
  e0_fill(e0, gamma, C, 1, 0.3);
  for (int m = 0; m < MAPS; m++) e0_fill(e0, x + m * S, S, e0_normal(e0), 1);
  e0_norm(instance, x, y, gamma, beta);
  for (int m = 0; m < MAPS; m++) {
    double mean, deviation;
    moments_of(y + m * S, &mean, &deviation);
    most = fmax(most, fabs(mean - (double)beta[m % C]));
  }
  e0_set(e0, "in_pooled_error", most);
  e0_norm(&group, x, y, NULL, NULL);
  for (int c = 0; c < C; c++) {
    double sum = 0, squares = 0;
    for (int n = 0; n < N; n++) {
      double mean, deviation;
      moments_of(y + (n * C + c) * S, &mean, &deviation);
      sum += mean;
      squares += mean * mean;
    }
    spread += sqrt(fmax(squares / N - sum / N * (sum / N), 0)) / C;
  }
  e0_set(e0, "gn_pooled_spread", spread);
}

static void same_layers(e0_state *e0, const norma_layer *instance, float *x, float *y) {
  static float other[ELEMENTS];
  norma_layer group, layer;
  norma_error error;
  e0_fill(e0, x, ELEMENTS, 2, 3);
  make_layer(&group, C);
  e0_norm(&group, x, y, NULL, NULL);
  e0_norm(instance, x, other, NULL, NULL);
  e0_set(e0, "gnc_minus_in", e0_distance(y, other, ELEMENTS));
  make_layer(&group, 1);
  e0_must(norma_layer_norm(&layer, 3, 4, shape, &error), &error);
  e0_norm(&group, x, y, NULL, NULL);
  e0_norm(&layer, x, other, NULL, NULL);
  e0_set(e0, "gn1_minus_ln", e0_distance(y, other, ELEMENTS));
}

static void adain(e0_state *e0, const norma_layer *instance, float *x, float *y) {
  static float style[ELEMENTS];
  double mean_error = 0, deviation_error = 0;
  norma_error error;
  e0_fill(e0, x, ELEMENTS, 0, 1);
  e0_fill(e0, style, ELEMENTS, 2, 3);
  norma_adain_args args = {
      .size = sizeof args, .content_layer = instance, .style_layer = instance, .content = x, .style = style, .y = y};
  e0_must(norma_adain(&args, &error), &error);
  for (int m = 0; m < MAPS; m++) {
    double mean, deviation, style_mean, style_deviation;
    moments_of(y + m * S, &mean, &deviation);
    moments_of(style + m * S, &style_mean, &style_deviation);
    mean_error = fmax(mean_error, fabs(mean - style_mean));
    deviation_error = fmax(deviation_error, fabs(deviation / style_deviation - 1));
  }
  e0_set(e0, "adain_mean_error", mean_error);
  e0_set(e0, "adain_deviation_error", deviation_error);
}

void e0_spatial(e0_state *e0) {
  static float x[ELEMENTS], y[ELEMENTS];
  norma_layer instance;
  make_layer(&instance, 0);
  order(e0, &instance, x, y);
  back_and_belly(e0, &instance, x, y);
  pooled(e0, &instance, x, y);
  same_layers(e0, &instance, x, y);
  adain(e0, &instance, x, y);
}
