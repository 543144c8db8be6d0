/* Layers without parameters that change the size: pooling, upsampling, means, the last step. */
#include <string.h>

#include "maths.h"

/* ------------------------------------------------------------------------------------------- 2 x 2 and stride 2 --- */

enum { POOL_Y, POOL_DX, POOL_CHOICE };

static tensor halved(tensor x) {
  if (x.ndim != 4 || x.dim[2] < 2 || x.dim[3] < 2) {
    engine_die("pooling: images of at least 2 x 2 are needed");
  }
  x.dim[2] /= 2;
  x.dim[3] /= 2;
  return x;
}

/* Where the upper left of the four elements of output i lies. */
static int64_t corner(tensor x, tensor y, int64_t i) {
  int64_t column = i % y.dim[3], row = i / y.dim[3] % y.dim[2], map = i / (y.dim[2] * y.dim[3]);
  return (map * x.dim[2] + 2 * row) * x.dim[3] + 2 * column;
}

static tensor max_forward(layer *l, tensor x, phase phase) {
  (void)phase;
  tensor y = halved(x);
  int64_t count = tensor_count(y), width = x.dim[3];
  y.at = layer_reals(l, POOL_Y, count);
  int64_t *choice = layer_buffer(l, POOL_CHOICE, (size_t)count * sizeof *choice);
  for (int64_t i = 0; i < count; i++) {
    int64_t at = corner(x, y, i), best = at;
    const int64_t others[3] = {at + 1, at + width, at + width + 1};
    for (int j = 0; j < 3; j++) {
      best = x.at[others[j]] > x.at[best] ? others[j] : best;
    }
    choice[i] = best;
    y.at[i] = x.at[best];
  }
  return y;
}

static tensor max_backward(layer *l, tensor dy) {
  int64_t in_count = tensor_count(l->x), count = tensor_count(dy);
  const int64_t *choice = l->buffers[POOL_CHOICE];
  real *dx = layer_reals(l, POOL_DX, in_count);
  memset(dx, 0, (size_t)in_count * sizeof *dx);
  for (int64_t i = 0; i < count; i++) {
    dx[choice[i]] += dy.at[i];
  }
  return tensor_like(l->x, dx);
}

layer *max_pool(void) {
  static const layer_kind kind = {"max_pool", sizeof(layer), max_forward, max_backward, NULL};
  return layer_new(&kind);
}

static tensor average_forward(layer *l, tensor x, phase phase) {
  (void)phase;
  tensor y = halved(x);
  int64_t count = tensor_count(y), width = x.dim[3];
  y.at = layer_reals(l, POOL_Y, count);
  for (int64_t i = 0; i < count; i++) {
    const real *at = x.at + corner(x, y, i);
    y.at[i] = (real)0.25 * (at[0] + at[1] + at[width] + at[width + 1]);
  }
  return y;
}

static tensor average_backward(layer *l, tensor dy) {
  int64_t in_count = tensor_count(l->x), count = tensor_count(dy), width = l->x.dim[3];
  real *dx = layer_reals(l, POOL_DX, in_count);
  memset(dx, 0, (size_t)in_count * sizeof *dx);
  for (int64_t i = 0; i < count; i++) {
    real *at = dx + corner(l->x, dy, i);
    at[0] = at[1] = at[width] = at[width + 1] = (real)0.25 * dy.at[i];
  }
  return tensor_like(l->x, dx);
}

layer *average_pool(void) {
  static const layer_kind kind = {"average_pool", sizeof(layer), average_forward, average_backward, NULL};
  return layer_new(&kind);
}

static tensor upsample_forward(layer *l, tensor x, phase phase) {
  (void)phase;
  tensor y = x;
  y.dim[2] *= 2;
  y.dim[3] *= 2;
  y.at = layer_reals(l, POOL_Y, tensor_count(y));
  for (int64_t i = 0; i < tensor_count(x); i++) {
    real *at = y.at + corner(y, x, i);
    at[0] = at[1] = at[y.dim[3]] = at[y.dim[3] + 1] = x.at[i];
  }
  return y;
}

static tensor upsample_backward(layer *l, tensor dy) {
  int64_t count = tensor_count(l->x), width = dy.dim[3];
  real *dx = layer_reals(l, POOL_DX, count);
  for (int64_t i = 0; i < count; i++) {
    const real *at = dy.at + corner(dy, l->x, i);
    dx[i] = at[0] + at[1] + at[width] + at[width + 1];
  }
  return tensor_like(l->x, dx);
}

layer *upsample(void) {
  static const layer_kind kind = {"upsample", sizeof(layer), upsample_forward, upsample_backward, NULL};
  return layer_new(&kind);
}

/* ------------------------------------------------------------------------------------------ to one vector each --- */

/* Image: a mean per channel over the pixels that follow each other. Sequence: per feature, `features` apart. */
static tensor mean_forward(layer *l, tensor x, phase phase) {
  (void)phase;
  bool image = x.ndim == 4;
  int64_t n = x.dim[0], features = image ? x.dim[1] : x.dim[2], length = tensor_item(x) / features;
  int64_t next = image ? 1 : features, start = image ? length : 1;
  real *y = layer_reals(l, 0, n * features);
  for (int64_t i = 0; i < n * features; i++) {
    const real *from = x.at + i / features * features * length + i % features * start;
    double sum = 0;
    for (int64_t j = 0; j < length; j++) {
      sum += (double)from[j * next];
    }
    y[i] = (real)(sum / (double)length);
  }
  return tensor2(y, n, features);
}

static tensor mean_backward(layer *l, tensor dy) {
  tensor x = l->x;
  int64_t count = tensor_count(x), features = dy.dim[1], length = tensor_item(x) / features;
  real *dx = layer_reals(l, 1, count), share = (real)(1.0 / (double)length);
  for (int64_t i = 0; i < count; i++) {
    int64_t from = x.ndim == 4 ? i / length : i / (features * length) * features + i % features;
    dx[i] = dy.at[from] * share;
  }
  return tensor_like(x, dx);
}

layer *global_mean(void) {
  static const layer_kind kind = {"global_mean", sizeof(layer), mean_forward, mean_backward, NULL};
  return layer_new(&kind);
}

static tensor last_forward(layer *l, tensor x, phase phase) {
  (void)phase;
  int64_t n = x.dim[0], t = x.dim[1], d = x.dim[2];
  real *y = layer_reals(l, 0, n * d);
  for (int64_t i = 0; i < n; i++) {
    memcpy(y + i * d, x.at + (i * t + t - 1) * d, (size_t)d * sizeof *y);
  }
  return tensor2(y, n, d);
}

static tensor last_backward(layer *l, tensor dy) {
  int64_t n = l->x.dim[0], t = l->x.dim[1], d = l->x.dim[2];
  real *dx = layer_reals(l, 1, n * t * d);
  memset(dx, 0, (size_t)(n * t * d) * sizeof *dx);
  for (int64_t i = 0; i < n; i++) {
    memcpy(dx + (i * t + t - 1) * d, dy.at + i * d, (size_t)d * sizeof *dx);
  }
  return tensor_like(l->x, dx);
}

layer *last_step(void) {
  static const layer_kind kind = {"last_step", sizeof(layer), last_forward, last_backward, NULL};
  return layer_new(&kind);
}
