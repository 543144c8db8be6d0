/* Layer norm on text, beside batch norm: lengths, linearity, padding, later tokens, a sample in a batch. */
#include "e0.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { B = 3, T = 5, PADS = 3, D = 64 };

static void norm_text(bool batch, int tokens, const float *x, float *y) {
  const int64_t text[] = {B, tokens, D};
  norma_layer layer;
  norma_error error;
  if (batch) e0_must(norma_layer_parse(&layer, "[n t] d", "", NULL, 3, text, &error), &error);
  else e0_must(norma_layer_norm(&layer, 1, 3, text, &error), &error);
  e0_norm(&layer, x, y, NULL, NULL);
}

static double length_of(const float *x) {
  double squares = 0;
  for (int d = 0; d < D; d++) squares += (double)x[d] * (double)x[d];
  return sqrt(squares);
}

static void lengths(e0_state *e0) {
  const int64_t text[] = {B, T, D};
  float x[B * T * D], y[B * T * D], gamma[D], beta[D];
  norma_layer layer;
  norma_error error;
  e0_must(norma_layer_norm(&layer, 1, 3, text, &error), &error);
  e0_fill(e0, x, B * T * D, 1, 2);
  e0_norm(&layer, x, y, NULL, NULL);
  double most = 0, sum = 0, squares = 0;
  for (int t = 0; t < B * T; t++) {
    double mean = 0, var = 0;
    for (int d = 0; d < D; d++) mean += (double)x[t * D + d] / D;
    for (int d = 0; d < D; d++) var += pow((double)x[t * D + d] - mean, 2) / D;
    most = fmax(most, fabs(length_of(y + t * D) / sqrt(D * var / (var + 1e-5)) - 1));
  }
  e0_set(e0, "ln_length_error", most);
  e0_fill(e0, gamma, D, 1, 0.3);
  e0_fill(e0, beta, D, 0, 0.3);
  e0_norm(&layer, x, y, gamma, beta);
  for (int t = 0; t < B * T; t++) {
    double length = length_of(y + t * D);
    sum += length;
    squares += length * length;
  }
  double mean = sum / (B * T);
  e0_set(e0, "ln_length_variation", sqrt(fmax(squares / (B * T) - mean * mean, 0)) / mean);
}

static void linearity(e0_state *e0) {
  float a[B * T * D], b[B * T * D], both[B * T * D], ya[B * T * D], yb[B * T * D], y[B * T * D];
  e0_fill(e0, a, B * T * D, 0, 1);
  e0_fill(e0, b, B * T * D, 0, 3);
  for (int i = 0; i < B * T * D; i++) both[i] = a[i] + b[i];
  norm_text(false, T, a, ya);
  norm_text(false, T, b, yb);
  norm_text(false, T, both, y);
  for (int i = 0; i < B * T * D; i++) ya[i] += yb[i];
  e0_set(e0, "ln_nonlinearity", e0_distance(ya, y, B * T * D));
}

/* The change of valid tokens when zeros are added behind each line. */
static double padding_change(bool batch, const float *x) {
  static float padded[B * (T + PADS) * D], out[B * (T + PADS) * D], y[B * T * D];
  double most = 0;
  memset(padded, 0, sizeof padded);
  for (int b = 0; b < B; b++) memcpy(padded + b * (T + PADS) * D, x + b * T * D, T * D * sizeof *x);
  norm_text(batch, T, x, y);
  norm_text(batch, T + PADS, padded, out);
  for (int b = 0; b < B; b++) most = fmax(most, e0_distance(y + b * T * D, out + b * (T + PADS) * D, T * D));
  return most;
}

/* The change of the first token of each line when the last one changes. */
static double future_leak(bool batch, const float *x) {
  static float changed[B * T * D], before[B * T * D], after[B * T * D];
  double most = 0;
  memcpy(changed, x, sizeof changed);
  for (int i = 0; i < B * D; i++) changed[(i / D * T + T - 1) * D + i % D] += 3;
  norm_text(batch, T, x, before);
  norm_text(batch, T, changed, after);
  for (int b = 0; b < B; b++) most = fmax(most, e0_distance(before + b * T * D, after + b * T * D, D));
  return most;
}

/* Samples alone and in a batch, at another place of it. */
static double changed_bits(const float *x) {
  static float alone[B * T * D], batch[B * T * D];
  double changed = 0;
  norm_text(false, T, x, batch);
  for (int b = 0; b < B; b++) {
    const int64_t one[] = {1, T, D};
    norma_layer layer;
    norma_error error;
    e0_must(norma_layer_norm(&layer, 1, 3, one, &error), &error);
    e0_norm(&layer, x + b * T * D, alone + b * T * D, NULL, NULL);
  }
  for (int i = 0; i < B * T * D; i++) changed += memcmp(&alone[i], &batch[i], sizeof *alone) != 0;
  return changed;
}

void e0_layer(e0_state *e0) {
  float x[B * T * D];
  lengths(e0);
  linearity(e0);
  e0_fill(e0, x, B * T * D, 1, 1);
  e0_set(e0, "bn_padding_change", padding_change(true, x));
  e0_set(e0, "bn_future_leak", future_leak(true, x));
  e0_set(e0, "ln_padding_change", fmax(padding_change(false, x), future_leak(false, x)));
  e0_set(e0, "ln_changed_bits", changed_bits(x));
}
