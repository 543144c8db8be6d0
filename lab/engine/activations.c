/* Activations. */
#include "maths.h"

static tensor relu_forward(layer *l, tensor x, phase phase) {
  (void)phase;
  int64_t count = tensor_count(x);
  real *y = layer_reals(l, 0, count);
  for (int64_t i = 0; i < count; i++) {
    y[i] = x.at[i] < 0 ? 0 : x.at[i]; /* a NaN stays one */
  }
  return tensor_like(x, y);
}

static tensor relu_backward(layer *l, tensor dy) {
  int64_t count = tensor_count(dy);
  real *dx = layer_reals(l, 1, count);
  for (int64_t i = 0; i < count; i++) {
    dx[i] = l->x.at[i] > 0 ? dy.at[i] : 0;
  }
  return tensor_like(dy, dx);
}

layer *relu(void) {
  static const layer_kind kind = {"relu", sizeof(layer), relu_forward, relu_backward, NULL};
  return layer_new(&kind);
}

static const real gelu_scale = (real)1.5957691216057308; /* 2 sqrt(2 / pi) */
static const real gelu_cube = (real)0.044715;

enum { GELU_Y, GELU_DX, GELU_SHARE };

/* v (1 + tanh u) / 2 is v times the logistic function of 2 u: one exponential, which backward need not take again. */
static tensor gelu_forward(layer *l, tensor x, phase phase) {
  (void)phase;
  int64_t count = tensor_count(x);
  real *y = layer_reals(l, GELU_Y, count), *share = layer_reals(l, GELU_SHARE, count);
  for (int64_t i = 0; i < count; i++) {
    real v = x.at[i];
    share[i] = 1 / (1 + real_exp(-gelu_scale * (v + gelu_cube * v * v * v)));
    y[i] = v * share[i];
  }
  return tensor_like(x, y);
}

static tensor gelu_backward(layer *l, tensor dy) {
  int64_t count = tensor_count(dy);
  real *dx = layer_reals(l, GELU_DX, count);
  const real *share = l->buffers[GELU_SHARE];
  for (int64_t i = 0; i < count; i++) {
    real v = l->x.at[i], s = share[i];
    dx[i] = dy.at[i] * (s + v * s * (1 - s) * gelu_scale * (1 + 3 * gelu_cube * v * v));
  }
  return tensor_like(dy, dx);
}

layer *gelu(void) {
  static const layer_kind kind = {"gelu", sizeof(layer), gelu_forward, gelu_backward, NULL};
  return layer_new(&kind);
}

static tensor tanh_forward(layer *l, tensor x, phase phase) {
  (void)phase;
  int64_t count = tensor_count(x);
  real *y = layer_reals(l, 0, count);
  for (int64_t i = 0; i < count; i++) {
    y[i] = real_tanh(x.at[i]);
  }
  return tensor_like(x, y);
}

static tensor tanh_backward(layer *l, tensor dy) {
  int64_t count = tensor_count(dy);
  const real *y = l->buffers[0];
  real *dx = layer_reals(l, 1, count);
  for (int64_t i = 0; i < count; i++) {
    dx[i] = dy.at[i] * (1 - y[i] * y[i]);
  }
  return tensor_like(dy, dx);
}

layer *tanh_layer(void) {
  static const layer_kind kind = {"tanh", sizeof(layer), tanh_forward, tanh_backward, NULL};
  return layer_new(&kind);
}
