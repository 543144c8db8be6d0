/* LSTM with a norm on what comes from the input, on what comes from the state, and on the cell (Cooijmans 2016). */
#include <string.h>

#include "maths.h"

typedef struct lstm_layer {
  layer base;
  int in, hidden, steps;
  bool normalized;
  int64_t n, t; /* of the last forward pass */
} lstm_layer;

enum { WEIGHT_X, WEIGHT_H, BIAS };
enum { CHILD_X, CHILD_H, CHILD_CELL };
/* All with the step as their first dimension; the states have one more step, the zeros before the first. */
enum { LSTM_Y, FROM_X, FROM_H, GATES, CELLS, HIDDENS, CELL_TANH, NORMED, LSTM_DX, DGATES, DSTATES };

static real sigmoid(real x) { return 1 / (1 + real_exp(-x)); }

/* out = norm(in), or `in` itself where there is no norm. */
static const real *normed(layer *l, int child, int64_t step, real *in, int64_t features, real *out, phase phase) {
  const lstm_layer *m = (const lstm_layer *)l;
  if (!m->normalized) {
    return in;
  }
  int set = m->steps == 0 ? 0 : (int)(step < m->steps ? step : m->steps - 1);
  norm_run(l->children[child], tensor2(in, m->n, features), out, phase, (int)step, set);
  return out;
}

/* d = the gradient before the norm, of that after it, in place. */
static void through_norm(layer *l, int child, int64_t step, real *d, int64_t features) {
  const lstm_layer *m = (const lstm_layer *)l;
  if (m->normalized) {
    norm_back(l->children[child], tensor2(d, m->n, features), d, (int)step);
  }
}

static void step_forward(layer *l, tensor x, int64_t step, phase phase) {
  lstm_layer *m = (lstm_layer *)l;
  int64_t n = m->n, h = m->hidden, four = 4 * h;
  real *from_x = (real *)l->buffers[FROM_X] + step * n * four, *from_h = (real *)l->buffers[FROM_H] + step * n * four;
  real *gates = (real *)l->buffers[GATES] + step * n * four, *room = l->buffers[NORMED];
  real *cell = (real *)l->buffers[CELLS] + step * n * h, *next_cell = cell + n * h;
  real *hidden = (real *)l->buffers[HIDDENS] + step * n * h, *next_hidden = hidden + n * h;
  real *cell_tanh = (real *)l->buffers[CELL_TANH] + step * n * h;
  gemm(false, true, n, four, m->in, 1, x.at + step * m->in, m->t * m->in, l->params[WEIGHT_X].value, m->in, 0, from_x,
       four);
  gemm(false, true, n, four, h, 1, hidden, h, l->params[WEIGHT_H].value, h, 0, from_h, four);
  const real *a = normed(l, CHILD_X, step, from_x, four, room, phase);
  const real *b = normed(l, CHILD_H, step, from_h, four, room + n * four, phase);
  for (int64_t i = 0; i < n * four; i++) {
    real sum = a[i] + b[i] + l->params[BIAS].value[i % four];
    gates[i] = i % four / h == 2 ? real_tanh(sum) : sigmoid(sum); /* in, forget, candidate, out */
  }
  for (int64_t i = 0; i < n * h; i++) {
    const real *g = gates + i / h * four + i % h;
    next_cell[i] = g[h] * cell[i] + g[0] * g[2 * h];
  }
  const real *c = normed(l, CHILD_CELL, step, next_cell, h, room, phase);
  for (int64_t i = 0; i < n * h; i++) {
    cell_tanh[i] = real_tanh(c[i]);
    next_hidden[i] = gates[i / h * four + 3 * h + i % h] * cell_tanh[i];
  }
}

static tensor lstm_forward(layer *l, tensor x, phase phase) {
  lstm_layer *m = (lstm_layer *)l;
  if (x.ndim != 3 || x.dim[2] != m->in) {
    engine_die("lstm: got %lld features, expected %d", (long long)x.dim[2], m->in);
  }
  int64_t n = m->n = x.dim[0], t = m->t = x.dim[1], h = m->hidden;
  layer_reals(l, FROM_X, t * n * 4 * h);
  layer_reals(l, FROM_H, t * n * 4 * h);
  layer_reals(l, GATES, t * n * 4 * h);
  layer_reals(l, CELL_TANH, t * n * h);
  layer_reals(l, NORMED, 2 * n * 4 * h);
  memset(layer_reals(l, CELLS, (t + 1) * n * h), 0, (size_t)(n * h) * sizeof(real));
  memset(layer_reals(l, HIDDENS, (t + 1) * n * h), 0, (size_t)(n * h) * sizeof(real));
  for (int i = 0; i < l->child_count; i++) {
    norm_slots(l->children[i], (int)t, m->steps > 0 ? m->steps : 1);
  }
  real *y = layer_reals(l, LSTM_Y, n * t * h);
  for (int64_t step = 0; step < t; step++) {
    step_forward(l, x, step, phase);
    const real *hidden = (const real *)l->buffers[HIDDENS] + (step + 1) * n * h;
    for (int64_t i = 0; i < n; i++) {
      memcpy(y + (i * t + step) * h, hidden + i * h, (size_t)h * sizeof *y);
    }
  }
  return tensor3(y, n, t, h);
}

/* From dh, the gradient of the state after the step, and dc, that of the cell: those of the gates before their
 * functions, and dc of the step before. */
static void cell_backward(layer *l, int64_t step, const real *dh, real *dc, real *room, real *dgates) {
  const lstm_layer *m = (const lstm_layer *)l;
  int64_t n = m->n, h = m->hidden, four = 4 * h;
  const real *gates = (const real *)l->buffers[GATES] + step * n * four;
  const real *cell = (const real *)l->buffers[CELLS] + step * n * h;
  const real *cell_tanh = (const real *)l->buffers[CELL_TANH] + step * n * h;
  for (int64_t i = 0; i < n * h; i++) {
    real out = gates[i / h * four + 3 * h + i % h];
    room[i] = dh[i] * out * (1 - cell_tanh[i] * cell_tanh[i]);
  }
  through_norm(l, CHILD_CELL, step, room, h);
  for (int64_t i = 0; i < n * h; i++) {
    const real *g = gates + i / h * four + i % h;
    real *d = dgates + i / h * four + i % h, dcell = dc[i] + room[i];
    d[0] = dcell * g[2 * h] * g[0] * (1 - g[0]);
    d[h] = dcell * cell[i] * g[h] * (1 - g[h]);
    d[2 * h] = dcell * g[0] * (1 - g[2 * h] * g[2 * h]);
    d[3 * h] = dh[i] * cell_tanh[i] * g[3 * h] * (1 - g[3 * h]);
    dc[i] = dcell * g[h];
  }
}

static tensor lstm_backward(layer *l, tensor dy) {
  const lstm_layer *m = (const lstm_layer *)l;
  int64_t n = m->n, t = m->t, h = m->hidden, four = 4 * h, in = m->in;
  real *dx = layer_reals(l, LSTM_DX, n * t * in), *dstates = layer_reals(l, DSTATES, 3 * n * h);
  real *dh = dstates, *dc = dstates + n * h, *room = dstates + 2 * n * h;
  real *dgates = layer_reals(l, DGATES, 2 * n * four), *copy = dgates + n * four;
  memset(dstates, 0, (size_t)(2 * n * h) * sizeof *dstates);
  for (int64_t step = t - 1; step >= 0; step--) {
    for (int64_t i = 0; i < n * h; i++) {
      dh[i] += dy.at[(i / h * t + step) * h + i % h];
    }
    cell_backward(l, step, dh, dc, room, dgates);
    for (int64_t i = 0; i < n * four; i++) {
      l->params[BIAS].grad[i % four] += dgates[i];
    }
    memcpy(copy, dgates, (size_t)(n * four) * sizeof *copy);
    through_norm(l, CHILD_X, step, copy, four);
    gemm(true, false, four, in, n, 1, copy, four, l->x.at + step * in, t * in, 1, l->params[WEIGHT_X].grad, in);
    gemm(false, false, n, in, four, 1, copy, four, l->params[WEIGHT_X].value, in, 0, dx + step * in, t * in);
    through_norm(l, CHILD_H, step, dgates, four);
    const real *hidden = (const real *)l->buffers[HIDDENS] + step * n * h;
    gemm(true, false, four, h, n, 1, dgates, four, hidden, h, 1, l->params[WEIGHT_H].grad, h);
    gemm(false, false, n, h, four, 1, dgates, four, l->params[WEIGHT_H].value, h, 0, dh, h);
  }
  return tensor_like(l->x, dx);
}

layer *lstm(rng *r, int in, int hidden, lstm_options options) {
  static const layer_kind kind = {"lstm", sizeof(lstm_layer), lstm_forward, lstm_backward, NULL};
  layer *l = layer_new(&kind);
  lstm_layer *m = (lstm_layer *)l;
  m->in = in, m->hidden = hidden, m->steps = options.steps, m->normalized = options.norm.kind != NORM_NONE;
  param *weight_x = layer_param(l, "weight_x", (int64_t)4 * hidden * in);
  for (int64_t i = 0; i < weight_x->count; i++) {
    weight_x->value[i] = (real)(rng_normal(r) / sqrt(in));
  }
  param *weight_h = layer_param(l, "weight_h", (int64_t)4 * hidden * hidden);
  for (int64_t i = 0; i < weight_h->count; i++) {
    weight_h->value[i] = (real)(rng_normal(r) / sqrt(hidden));
  }
  param *bias = layer_param(l, "bias", (int64_t)4 * hidden);
  for (int i = 0; i < hidden; i++) {
    bias->value[hidden + i] = 1; /* remember at first */
  }
  if (m->normalized) {
    layer_child(l, norm(options.norm, 4 * hidden));
    layer_child(l, norm(options.norm, 4 * hidden));
    layer_child(l, norm(options.norm, hidden));
  }
  return l;
}
