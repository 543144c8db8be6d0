/* What all layers have in common, and the layers that are made of layers. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "maths.h"

layer *layer_new(const layer_kind *kind) {
  layer *l = engine_alloc(kind->size);
  l->kind = kind;
  return l;
}

param *layer_param(layer *l, const char *name, int64_t count) {
  if (l->param_count == LAYER_PARAMS) {
    engine_die("%s: more than %d parameters", l->kind->name, LAYER_PARAMS);
  }
  param *p = &l->params[l->param_count++];
  size_t bytes = (size_t)count * sizeof(real);
  *p = (param){.name = name, .count = count, .value = engine_alloc(bytes), .grad = engine_alloc(bytes)};
  return p;
}

void layer_child(layer *l, layer *child) {
  layer **children = realloc(l->children, (size_t)(l->child_count + 1) * sizeof *children);
  if (children == NULL) {
    engine_die("no memory");
  }
  l->children = children;
  children[l->child_count++] = child;
}

void *layer_buffer(layer *l, int slot, size_t bytes) {
  if (l->buffer_bytes[slot] < bytes) {
    free(l->buffers[slot]);
    l->buffers[slot] = engine_alloc(bytes);
    l->buffer_bytes[slot] = bytes;
  }
  return l->buffers[slot];
}

real *layer_reals(layer *l, int slot, int64_t count) { return layer_buffer(l, slot, (size_t)count * sizeof(real)); }

tensor forward(layer *l, tensor x, phase phase) {
  l->x = x;
  l->y = l->kind->forward(l, x, phase);
  return l->y;
}

tensor backward(layer *l, tensor dy) { return l->kind->backward(l, dy); }

void layer_free(layer *l) {
  if (l == NULL) {
    return;
  }
  if (l->kind->free != NULL) {
    l->kind->free(l);
  }
  for (int i = 0; i < l->child_count; i++) {
    layer_free(l->children[i]);
  }
  free(l->children);
  for (int i = 0; i < l->param_count; i++) {
    param *p = &l->params[i];
    free(p->value);
    free(p->grad);
    free(p->first);
    free(p->second);
  }
  for (int i = 0; i < LAYER_BUFFERS; i++) {
    free(l->buffers[i]);
  }
  free(l);
}

void layer_visit(layer *l, void (*visit)(layer *l, void *context), void *context) {
  visit(l, context);
  for (int i = 0; i < l->child_count; i++) {
    layer_visit(l->children[i], visit, context);
  }
}

/* ------------------------------------------------------------------------------------- all parameters of a net --- */

typedef struct tally {
  int64_t count;
  double squares;
  real *out;
  const real *in;
} tally;

static void count_visit(layer *l, void *context) {
  for (int i = 0; i < l->param_count; i++) {
    ((tally *)context)->count += l->params[i].count;
  }
}

int64_t param_total(layer *l) {
  tally t = {0};
  layer_visit(l, count_visit, &t);
  return t.count;
}

static void clear_visit(layer *l, void *context) {
  (void)context;
  for (int i = 0; i < l->param_count; i++) {
    memset(l->params[i].grad, 0, (size_t)l->params[i].count * sizeof(real));
  }
}

void gradient_clear(layer *l) { layer_visit(l, clear_visit, NULL); }

static void square_visit(layer *l, void *context) {
  tally *t = context;
  for (int i = 0; i < l->param_count; i++) {
    for (int64_t j = 0; j < l->params[i].count; j++) {
      double g = (double)l->params[i].grad[j];
      t->squares += g * g;
    }
  }
}

double gradient_norm(layer *l) {
  tally t = {0};
  layer_visit(l, square_visit, &t);
  return sqrt(t.squares);
}

static void read_visit(layer *l, void *context) {
  tally *t = context;
  for (int i = 0; i < l->param_count; i++) {
    memcpy(t->out, l->params[i].value, (size_t)l->params[i].count * sizeof(real));
    t->out += l->params[i].count;
  }
}

static void write_visit(layer *l, void *context) {
  tally *t = context;
  for (int i = 0; i < l->param_count; i++) {
    memcpy(l->params[i].value, t->in, (size_t)l->params[i].count * sizeof(real));
    t->in += l->params[i].count;
  }
}

static void write_gradient_visit(layer *l, void *context) {
  tally *t = context;
  for (int i = 0; i < l->param_count; i++) {
    memcpy(l->params[i].grad, t->in, (size_t)l->params[i].count * sizeof(real));
    t->in += l->params[i].count;
  }
}

static void gradient_visit(layer *l, void *context) {
  tally *t = context;
  for (int i = 0; i < l->param_count; i++) {
    memcpy(t->out, l->params[i].grad, (size_t)l->params[i].count * sizeof(real));
    t->out += l->params[i].count;
  }
}

void params_read(layer *l, real *out) { layer_visit(l, read_visit, &(tally){.out = out}); }

void params_write(layer *l, const real *in) { layer_visit(l, write_visit, &(tally){.in = in}); }

void gradients_read(layer *l, real *out) { layer_visit(l, gradient_visit, &(tally){.out = out}); }

void gradients_write(layer *l, const real *in) { layer_visit(l, write_gradient_visit, &(tally){.in = in}); }

/* -------------------------------------------------------------------------------------------------- structure --- */

static tensor sequence_forward(layer *l, tensor x, phase phase) {
  for (int i = 0; i < l->child_count; i++) {
    x = forward(l->children[i], x, phase);
  }
  return x;
}

static tensor sequence_backward(layer *l, tensor dy) {
  for (int i = l->child_count - 1; i >= 0; i--) {
    dy = backward(l->children[i], dy);
  }
  return dy;
}

layer *sequence(int count, ...) {
  static const layer_kind kind = {"sequence", sizeof(layer), sequence_forward, sequence_backward, NULL};
  layer *l = layer_new(&kind);
  va_list arguments;
  va_start(arguments, count);
  for (int i = 0; i < count; i++) {
    layer_child(l, va_arg(arguments, layer *));
  }
  va_end(arguments);
  return l;
}

void sequence_add(layer *sequence, layer *l) { layer_child(sequence, l); }

typedef struct residual_layer {
  layer base;
  bool relu;
} residual_layer;

enum { RESIDUAL_Y, RESIDUAL_DY, RESIDUAL_DX };

static tensor residual_forward(layer *l, tensor x, phase phase) {
  tensor body = forward(l->children[0], x, phase);
  tensor shortcut = l->child_count > 1 ? forward(l->children[1], x, phase) : x;
  if (!tensor_same_shape(body, shortcut)) {
    engine_die("residual: the body and the shortcut have different shapes");
  }
  int64_t count = tensor_count(body);
  real *y = layer_reals(l, RESIDUAL_Y, count);
  bool clip = ((residual_layer *)l)->relu;
  for (int64_t i = 0; i < count; i++) {
    real sum = body.at[i] + shortcut.at[i];
    y[i] = clip && sum < 0 ? 0 : sum;
  }
  return tensor_like(body, y);
}

static tensor residual_backward(layer *l, tensor dy) {
  int64_t count = tensor_count(dy);
  if (((residual_layer *)l)->relu) {
    const real *y = l->buffers[RESIDUAL_Y];
    real *dz = layer_reals(l, RESIDUAL_DY, count);
    for (int64_t i = 0; i < count; i++) {
      dz[i] = y[i] > 0 ? dy.at[i] : 0;
    }
    dy.at = dz;
  }
  tensor body = backward(l->children[0], dy);
  tensor shortcut = l->child_count > 1 ? backward(l->children[1], dy) : dy;
  int64_t in_count = tensor_count(body);
  real *dx = layer_reals(l, RESIDUAL_DX, in_count);
  for (int64_t i = 0; i < in_count; i++) {
    dx[i] = body.at[i] + shortcut.at[i];
  }
  return tensor_like(body, dx);
}

layer *residual(layer *body, layer *shortcut, bool relu) {
  static const layer_kind kind = {"residual", sizeof(residual_layer), residual_forward, residual_backward, NULL};
  layer *l = layer_new(&kind);
  layer_child(l, body);
  if (shortcut != NULL) {
    layer_child(l, shortcut);
  }
  ((residual_layer *)l)->relu = relu;
  return l;
}

enum { SKIP_Y, SKIP_DBODY, SKIP_DX };

static tensor skip_forward(layer *l, tensor x, phase phase) {
  tensor body = forward(l->children[0], x, phase);
  int64_t own = tensor_item(x), added = tensor_item(body), n = x.dim[0];
  if (x.ndim != body.ndim || body.dim[0] != n || own / x.dim[1] != added / body.dim[1]) {
    engine_die("skip: the body changes more than the number of channels");
  }
  real *y = layer_reals(l, SKIP_Y, n * (own + added));
  for (int64_t i = 0; i < n; i++) {
    memcpy(y + i * (own + added), x.at + i * own, (size_t)own * sizeof *y);
    memcpy(y + i * (own + added) + own, body.at + i * added, (size_t)added * sizeof *y);
  }
  body.dim[1] += x.dim[1];
  return tensor_like(body, y);
}

static tensor skip_backward(layer *l, tensor dy) {
  tensor x = l->x;
  int64_t own = tensor_item(x), both = tensor_item(dy), added = both - own, n = x.dim[0];
  real *dbody = layer_reals(l, SKIP_DBODY, n * added), *dx = layer_reals(l, SKIP_DX, n * own);
  for (int64_t i = 0; i < n; i++) {
    memcpy(dbody + i * added, dy.at + i * both + own, (size_t)added * sizeof *dx);
  }
  dy.dim[1] -= x.dim[1];
  tensor through = backward(l->children[0], tensor_like(dy, dbody));
  dy.dim[1] += x.dim[1];
  for (int64_t i = 0; i < n; i++) {
    for (int64_t j = 0; j < own; j++) {
      dx[i * own + j] = dy.at[i * both + j] + through.at[i * own + j];
    }
  }
  return tensor_like(x, dx);
}

layer *skip_connection(layer *body) {
  static const layer_kind kind = {"skip", sizeof(layer), skip_forward, skip_backward, NULL};
  layer *l = layer_new(&kind);
  layer_child(l, body);
  return l;
}
