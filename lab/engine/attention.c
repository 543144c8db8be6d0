/* Self-attention: out = softmax(q k^T / sqrt(size)) v for each head, q, k and v side by side in the input. */
#include "maths.h"

typedef struct attention_layer {
  layer base;
  int heads;
  bool causal;
} attention_layer;

enum { ATTENTION_Y, ATTENTION_P, ATTENTION_DX, ATTENTION_DP };

/* Softmax of one row of scores; what lies beyond `visible` gets probability 0. */
static void softmax_row(real *row, int64_t visible, int64_t length) {
  real largest = row[0];
  double sum = 0;
  for (int64_t j = 1; j < visible; j++) {
    largest = row[j] > largest ? row[j] : largest;
  }
  for (int64_t j = 0; j < visible; j++) {
    row[j] = real_exp(row[j] - largest);
    sum += (double)row[j];
  }
  for (int64_t j = 0; j < length; j++) {
    row[j] = j < visible ? (real)((double)row[j] / sum) : 0;
  }
}

static tensor attention_forward(layer *l, tensor x, phase phase) {
  (void)phase;
  const attention_layer *a = (const attention_layer *)l;
  int64_t n = x.dim[0], t = x.dim[1], d = x.dim[2] / 3, size = d / a->heads;
  if (x.ndim != 3 || size * a->heads * 3 != x.dim[2]) {
    engine_die("attention: %lld features are not 3 times %d heads", (long long)x.dim[2], a->heads);
  }
  real *y = layer_reals(l, ATTENTION_Y, n * t * d), *p = layer_reals(l, ATTENTION_P, n * a->heads * t * t);
  for (int64_t i = 0; i < n * a->heads; i++) {
    const real *q = x.at + i / a->heads * t * 3 * d + i % a->heads * size, *k = q + d, *v = q + 2 * d;
    real *scores = p + i * t * t;
    gemm(false, true, t, t, size, (real)(1 / sqrt((double)size)), q, 3 * d, k, 3 * d, 0, scores, t);
    for (int64_t row = 0; row < t; row++) {
      softmax_row(scores + row * t, a->causal ? row + 1 : t, t);
    }
    gemm(false, false, t, size, t, 1, scores, t, v, 3 * d, 0, y + i / a->heads * t * d + i % a->heads * size, d);
  }
  return tensor3(y, n, t, d);
}

static tensor attention_backward(layer *l, tensor dy) {
  const attention_layer *a = (const attention_layer *)l;
  tensor x = l->x;
  int64_t t = x.dim[1], d = x.dim[2] / 3, size = d / a->heads;
  real scale = (real)(1 / sqrt((double)size));
  real *dx = layer_reals(l, ATTENTION_DX, tensor_count(x)), *dp = layer_reals(l, ATTENTION_DP, t * t);
  for (int64_t i = 0; i < x.dim[0] * a->heads; i++) {
    int64_t in = i / a->heads * t * 3 * d + i % a->heads * size;
    const real *q = x.at + in, *k = q + d, *v = q + 2 * d, *p = (real *)l->buffers[ATTENTION_P] + i * t * t;
    const real *dout = dy.at + i / a->heads * t * d + i % a->heads * size;
    gemm(true, false, t, size, t, 1, p, t, dout, d, 0, dx + in + 2 * d, 3 * d);
    gemm(false, true, t, t, size, 1, dout, d, v, 3 * d, 0, dp, t);
    for (int64_t row = 0; row < t; row++) {
      double dot = 0;
      for (int64_t j = 0; j < t; j++) {
        dot += (double)dp[row * t + j] * (double)p[row * t + j];
      }
      for (int64_t j = 0; j < t; j++) {
        dp[row * t + j] = p[row * t + j] * (dp[row * t + j] - (real)dot);
      }
    }
    gemm(false, false, t, size, t, scale, dp, t, k, 3 * d, 0, dx + in, 3 * d);
    gemm(true, false, t, size, t, scale, dp, t, q, 3 * d, 0, dx + in + d, 3 * d);
  }
  return tensor_like(x, dx);
}

layer *attention(int heads, bool causal) {
  static const layer_kind kind = {"attention", sizeof(attention_layer), attention_forward, attention_backward, NULL};
  layer *l = layer_new(&kind);
  ((attention_layer *)l)->heads = heads;
  ((attention_layer *)l)->causal = causal;
  return l;
}

tensor attention_probabilities(layer *l) {
  int64_t t = l->x.dim[1];
  return tensor3(l->buffers[ATTENTION_P], l->x.dim[0] * ((attention_layer *)l)->heads, t, t);
}
