/* Convolution: each sample is padded, its windows become the columns of a matrix, a matrix product does the rest. */
#include <string.h>

#include "maths.h"

typedef struct conv_layer {
  layer base;
  int in, out, kernel, stride;
  padding padding;
  bool bias;
} conv_layer;

enum { CONV_Y, CONV_DX, CONV_PADDED, CONV_COLUMNS, CONV_DPADDED };

typedef struct conv_sizes {
  int64_t n, height, width;                /* of x */
  int64_t padded_height, padded_width;
  int64_t out_height, out_width, pixels;   /* of y */
  int64_t rows;                            /* of the matrix: in * kernel^2 */
} conv_sizes;

static conv_sizes sizes_of(const conv_layer *c, tensor x) {
  if (x.ndim != 4 || x.dim[1] != c->in) {
    engine_die("conv: got %lld channels in %d dimensions, expected %d channels in 4", (long long)x.dim[1], x.ndim,
               c->in);
  }
  conv_sizes s = {.n = x.dim[0], .height = x.dim[2], .width = x.dim[3]};
  int64_t pad = c->kernel / 2;
  s.padded_height = s.height + 2 * pad;
  s.padded_width = s.width + 2 * pad;
  s.out_height = (s.height - 1) / c->stride + 1;
  s.out_width = (s.width - 1) / c->stride + 1;
  s.pixels = s.out_height * s.out_width;
  s.rows = (int64_t)c->in * c->kernel * c->kernel;
  return s;
}

/* The pixel that lies at position i of a padded line, -1 for a zero. */
static int64_t source(padding padding, int64_t i, int64_t pad, int64_t length) {
  int64_t at = i - pad;
  if (at >= 0 && at < length) {
    return at;
  }
  if (padding == PAD_ZERO) {
    return -1;
  }
  if (padding == PAD_REPLICATE || length == 1) {
    return at < 0 ? 0 : length - 1;
  }
  return at < 0 ? -at : 2 * (length - 1) - at;
}

static void pad_sample(const conv_layer *c, const conv_sizes *s, const real *x, real *padded) {
  int64_t pad = c->kernel / 2;
  for (int64_t line = 0; line < c->in * s->padded_height; line++) {
    int64_t row = source(c->padding, line % s->padded_height, pad, s->height);
    real *to = padded + line * s->padded_width;
    if (row < 0) {
      memset(to, 0, (size_t)s->padded_width * sizeof *to);
      continue;
    }
    const real *from = x + (line / s->padded_height * s->height + row) * s->width;
    memcpy(to + pad, from, (size_t)s->width * sizeof *to);
    for (int64_t i = 0; i < pad; i++) {
      int64_t left = source(c->padding, i, pad, s->width), end = s->width + pad + i;
      int64_t right = source(c->padding, end, pad, s->width);
      to[i] = left < 0 ? 0 : from[left];
      to[end] = right < 0 ? 0 : from[right];
    }
  }
}

/* The adjoint: each gradient goes to the pixel that its element was copied from. */
static void unpad_gradient(const conv_layer *c, const conv_sizes *s, const real *padded, real *dx) {
  int64_t pad = c->kernel / 2;
  memset(dx, 0, (size_t)(c->in * s->height * s->width) * sizeof *dx);
  for (int64_t line = 0; line < c->in * s->padded_height; line++) {
    int64_t row = source(c->padding, line % s->padded_height, pad, s->height);
    if (row < 0) {
      continue;
    }
    const real *from = padded + line * s->padded_width;
    real *to = dx + (line / s->padded_height * s->height + row) * s->width;
    for (int64_t i = 0; i < s->width; i++) {
      to[i] += from[pad + i];
    }
    for (int64_t i = 0; i < pad && c->padding != PAD_ZERO; i++) {
      int64_t end = s->width + pad + i;
      to[source(c->padding, i, pad, s->width)] += from[i];
      to[source(c->padding, end, pad, s->width)] += from[end];
    }
  }
}

/* Row (channel, dy, dx) of `columns` is the padded channel shifted by (dy, dx), at the positions of the windows. */
static void gather(const conv_layer *c, const conv_sizes *s, const real *padded, real *columns) {
  int k = c->kernel, stride = c->stride;
  for (int64_t row = 0; row < s->rows; row++) {
    int64_t channel = row / (k * k), down = row / k % k, right = row % k;
    const real *from = padded + (channel * s->padded_height + down) * s->padded_width + right;
    for (int64_t i = 0; i < s->out_height; i++, columns += s->out_width) {
      const real *line = from + i * stride * s->padded_width;
      if (stride == 1) {
        memcpy(columns, line, (size_t)s->out_width * sizeof *columns);
      } else {
        for (int64_t j = 0; j < s->out_width; j++) {
          columns[j] = line[j * stride];
        }
      }
    }
  }
}

static void scatter(const conv_layer *c, const conv_sizes *s, const real *columns, real *padded) {
  int k = c->kernel, stride = c->stride;
  memset(padded, 0, (size_t)(c->in * s->padded_height * s->padded_width) * sizeof *padded);
  for (int64_t row = 0; row < s->rows; row++) {
    int64_t channel = row / (k * k), down = row / k % k, right = row % k;
    real *to = padded + (channel * s->padded_height + down) * s->padded_width + right;
    for (int64_t i = 0; i < s->out_height; i++, columns += s->out_width) {
      real *line = to + i * stride * s->padded_width;
      if (stride == 1) {
        for (int64_t j = 0; j < s->out_width; j++) {
          line[j] += columns[j];
        }
      } else {
        for (int64_t j = 0; j < s->out_width; j++) {
          line[j * stride] += columns[j];
        }
      }
    }
  }
}

/* The matrix of one sample. A 1 x 1 kernel of stride 1 needs none: it is the sample. */
static const real *columns_of(layer *l, const conv_sizes *s, const real *x) {
  const conv_layer *c = (const conv_layer *)l;
  if (c->kernel == 1 && c->stride == 1) {
    return x;
  }
  real *columns = layer_reals(l, CONV_COLUMNS, s->rows * s->pixels);
  if (c->kernel > 1) {
    real *padded = layer_reals(l, CONV_PADDED, c->in * s->padded_height * s->padded_width);
    pad_sample(c, s, x, padded);
    x = padded;
  }
  gather(c, s, x, columns);
  return columns;
}

static tensor conv_forward(layer *l, tensor x, phase phase) {
  (void)phase;
  conv_layer *c = (conv_layer *)l;
  conv_sizes s = sizes_of(c, x);
  int64_t in_item = tensor_item(x), out_item = c->out * s.pixels;
  real *y = layer_reals(l, CONV_Y, s.n * out_item);
  for (int64_t i = 0; i < s.n; i++) {
    const real *columns = columns_of(l, &s, x.at + i * in_item);
    gemm(false, false, c->out, s.pixels, s.rows, 1, l->params[0].value, s.rows, columns, s.pixels, 0, y + i * out_item,
         s.pixels);
    for (int64_t o = 0; o < c->out && c->bias; o++) {
      real *to = y + i * out_item + o * s.pixels, bias = l->params[1].value[o];
      for (int64_t p = 0; p < s.pixels; p++) {
        to[p] += bias;
      }
    }
  }
  return tensor4(y, s.n, c->out, s.out_height, s.out_width);
}

static void bias_gradient(const conv_layer *c, const real *dy, int64_t pixels, real *grad) {
  for (int64_t o = 0; o < c->out; o++) {
    double sum = 0;
    for (int64_t p = 0; p < pixels; p++) {
      sum += (double)dy[o * pixels + p];
    }
    grad[o] += (real)sum;
  }
}

static tensor conv_backward(layer *l, tensor dy) {
  conv_layer *c = (conv_layer *)l;
  tensor x = l->x;
  conv_sizes s = sizes_of(c, x);
  int64_t in_item = tensor_item(x), out_item = c->out * s.pixels;
  real *dx = l->no_dx ? NULL : layer_reals(l, CONV_DX, s.n * in_item);
  for (int64_t i = 0; i < s.n; i++) {
    const real *dy_i = dy.at + i * out_item;
    if (!l->fixed) {
      const real *columns = columns_of(l, &s, x.at + i * in_item);
      gemm(false, true, c->out, s.rows, s.pixels, 1, dy_i, s.pixels, columns, s.pixels, 1, l->params[0].grad, s.rows);
    }
    if (!l->fixed && c->bias) {
      bias_gradient(c, dy_i, s.pixels, l->params[1].grad);
    }
    if (dx == NULL) {
      continue;
    }
    bool direct = c->kernel == 1 && c->stride == 1;
    real *dcolumns = direct ? dx + i * in_item : layer_reals(l, CONV_COLUMNS, s.rows * s.pixels);
    gemm(true, false, s.rows, s.pixels, c->out, 1, l->params[0].value, s.rows, dy_i, s.pixels, 0, dcolumns, s.pixels);
    if (!direct) {
      real *dpadded = layer_reals(l, CONV_DPADDED, c->in * s.padded_height * s.padded_width);
      scatter(c, &s, dcolumns, dpadded);
      unpad_gradient(c, &s, dpadded, dx + i * in_item);
    }
  }
  return tensor_like(x, dx);
}

layer *conv(rng *r, int in, int out, int kernel, int stride, padding padding, bool bias) {
  static const layer_kind kind = {"conv", sizeof(conv_layer), conv_forward, conv_backward, NULL};
  layer *l = layer_new(&kind);
  conv_layer *c = (conv_layer *)l;
  c->in = in, c->out = out, c->kernel = kernel, c->stride = stride, c->padding = padding, c->bias = bias;
  param *weight = layer_param(l, "weight", (int64_t)out * in * kernel * kernel);
  double deviation = sqrt(2.0 / ((double)in * kernel * kernel));
  for (int64_t i = 0; i < weight->count; i++) {
    weight->value[i] = (real)(deviation * rng_normal(r));
  }
  if (bias) {
    layer_param(l, "bias", out);
  }
  return l;
}
