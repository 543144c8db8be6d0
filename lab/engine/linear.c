/* Layers on features and tokens: linear, embedding, position. */
#include <string.h>

#include "maths.h"

/* ---------------------------------------------------------------------------------------------------- linear --- */

typedef struct linear_layer {
  layer base;
  int in, out;
} linear_layer;

static tensor linear_forward(layer *l, tensor x, phase phase) {
  (void)phase;
  const linear_layer *f = (const linear_layer *)l;
  if (x.dim[x.ndim - 1] != f->in) {
    engine_die("linear: got %lld features, expected %d", (long long)x.dim[x.ndim - 1], f->in);
  }
  int64_t rows = tensor_count(x) / f->in;
  real *y = layer_reals(l, 0, rows * f->out);
  real beta = 0;
  if (l->param_count > 1) {
    beta = 1;
    for (int64_t i = 0; i < rows; i++) {
      memcpy(y + i * f->out, l->params[1].value, (size_t)f->out * sizeof *y);
    }
  }
  gemm(false, true, rows, f->out, f->in, 1, x.at, f->in, l->params[0].value, f->in, beta, y, f->out);
  x.dim[x.ndim - 1] = f->out;
  return tensor_like(x, y);
}

static tensor linear_backward(layer *l, tensor dy) {
  const linear_layer *f = (const linear_layer *)l;
  tensor x = l->x;
  int64_t rows = tensor_count(x) / f->in;
  gemm(true, false, f->out, f->in, rows, 1, dy.at, f->out, x.at, f->in, 1, l->params[0].grad, f->in);
  for (int64_t i = 0; i < rows && l->param_count > 1; i++) {
    for (int o = 0; o < f->out; o++) {
      l->params[1].grad[o] += dy.at[i * f->out + o];
    }
  }
  real *dx = layer_reals(l, 1, rows * f->in);
  if (!l->no_dx) {
    gemm(false, false, rows, f->in, f->out, 1, dy.at, f->out, l->params[0].value, f->in, 0, dx, f->in);
  }
  return tensor_like(x, dx);
}

layer *linear(rng *r, int in, int out, bool bias) {
  static const layer_kind kind = {"linear", sizeof(linear_layer), linear_forward, linear_backward, NULL};
  layer *l = layer_new(&kind);
  ((linear_layer *)l)->in = in;
  ((linear_layer *)l)->out = out;
  param *weight = layer_param(l, "weight", (int64_t)out * in);
  for (int64_t i = 0; i < weight->count; i++) {
    weight->value[i] = (real)(rng_normal(r) / sqrt(in));
  }
  if (bias) {
    layer_param(l, "bias", out);
  }
  return l;
}

/* ------------------------------------------------------------------------------------- embedding and position --- */

typedef struct embedding_layer {
  layer base;
  int tokens, features, positions;
} embedding_layer;

static int64_t token_of(const embedding_layer *e, real held) {
  int64_t token = (int64_t)held;
  if (token < 0 || token >= e->tokens) {
    engine_die("embedding: token %lld, expected 0 to %d", (long long)token, e->tokens - 1);
  }
  return token;
}

static tensor embedding_forward(layer *l, tensor x, phase phase) {
  (void)phase;
  const embedding_layer *e = (const embedding_layer *)l;
  int64_t n = x.dim[0], t = x.dim[1], d = e->features;
  if (x.ndim != 2 || (e->positions > 0 && t > e->positions)) {
    engine_die("embedding: %lld tokens in a row, there are %d positions", (long long)t, e->positions);
  }
  real *y = layer_reals(l, 0, n * t * d);
  for (int64_t i = 0; i < n * t; i++) {
    const real *from = l->params[0].value + token_of(e, x.at[i]) * d;
    const real *place = e->positions > 0 ? l->params[1].value + i % t * d : NULL;
    for (int64_t j = 0; j < d; j++) {
      y[i * d + j] = from[j] + (place != NULL ? place[j] : 0);
    }
  }
  return tensor3(y, n, t, d);
}

static tensor embedding_backward(layer *l, tensor dy) {
  const embedding_layer *e = (const embedding_layer *)l;
  int64_t t = l->x.dim[1], d = e->features;
  for (int64_t i = 0; i < tensor_count(l->x); i++) {
    real *to = l->params[0].grad + token_of(e, l->x.at[i]) * d;
    for (int64_t j = 0; j < d; j++) {
      to[j] += dy.at[i * d + j];
    }
    for (int64_t j = 0; j < d && e->positions > 0; j++) {
      l->params[1].grad[i % t * d + j] += dy.at[i * d + j];
    }
  }
  return l->x; /* tokens have no gradient */
}

static void small_normal(rng *r, param *p) {
  for (int64_t i = 0; i < p->count; i++) {
    p->value[i] = (real)(0.1 * rng_normal(r));
  }
}

layer *embedding(rng *r, int tokens, int features, int positions) {
  static const layer_kind kind = {"embedding", sizeof(embedding_layer), embedding_forward, embedding_backward, NULL};
  layer *l = layer_new(&kind);
  embedding_layer *e = (embedding_layer *)l;
  e->tokens = tokens, e->features = features, e->positions = positions;
  small_normal(r, layer_param(l, "token", (int64_t)tokens * features));
  if (positions > 0) {
    small_normal(r, layer_param(l, "position", (int64_t)positions * features));
  }
  return l;
}

static tensor position_forward(layer *l, tensor x, phase phase) {
  (void)phase;
  int64_t item = tensor_item(x);
  if (item > l->params[0].count) {
    engine_die("position: a sequence of %lld steps is longer than the positions", (long long)x.dim[1]);
  }
  real *y = layer_reals(l, 0, tensor_count(x));
  for (int64_t i = 0; i < tensor_count(x); i++) {
    y[i] = x.at[i] + l->params[0].value[i % item];
  }
  return tensor_like(x, y);
}

static tensor position_backward(layer *l, tensor dy) {
  int64_t item = tensor_item(dy);
  for (int64_t i = 0; i < tensor_count(dy); i++) {
    l->params[0].grad[i % item] += dy.at[i];
  }
  return dy;
}

layer *position(rng *r, int positions, int features) {
  static const layer_kind kind = {"position", sizeof(layer), position_forward, position_backward, NULL};
  layer *l = layer_new(&kind);
  small_normal(r, layer_param(l, "position", (int64_t)positions * features));
  return l;
}
