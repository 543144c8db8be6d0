#include "ragged_cut.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool varies(const norma_axis *axis, enum extent_bits extent) {
  if (extent == ALL_AXES) return true;
  return extent == UNIT_AXES ? !(axis->bits & NORMA_SHARE) : (axis->bits & NORMA_AFFINE) != 0;
}

int64_t ragged_count(const norma_layer *layer, enum extent_bits extent) {
  int64_t count = 1;
  for (int a = 0; a < layer->axis_count; a++)
    if (varies(&layer->axes[a], extent)) count *= layer->axes[a].length;
  return count;
}

void *cut_items(const norma_layer *layer, enum extent_bits extent, const void *data, size_t item, int64_t sample,
                int dim, int64_t length) {
  int64_t count = ragged_count(layer, extent), kept = 0;
  char *cut = malloc((size_t)count * item + 1);
  assert_non_null(cut);
  for (int64_t i = 0; data && i < count; i++) {
    int64_t rest = i;
    bool inside = true;
    for (int a = layer->axis_count - 1; a >= 0; a--) {
      const norma_axis *axis = &layer->axes[a];
      if (!varies(axis, extent)) continue;
      int64_t index = rest % axis->length;
      rest /= axis->length;
      if (axis->dim == 0 && sample >= 0 && index != sample) inside = false;
      if (axis->dim == dim && index >= length) inside = false;
    }
    if (inside) memcpy(cut + kept++ * (int64_t)item, (const char *)data + i * (int64_t)item, item);
  }
  return cut;
}

norma_layer cut_layer(const norma_layer *layer, int64_t samples, int dim, int64_t length) {
  norma_layer cut = *layer;
  cut.shape[0] = samples, cut.shape[dim] = length;
  for (int a = 0; a < cut.axis_count; a++) {
    if (cut.axes[a].dim == 0) cut.axes[a].length = samples;
    if (cut.axes[a].dim == dim) cut.axes[a].length = length;
  }
  return cut;
}

void ragged_fill(ragged_case *c, uint64_t *seed, bool fused) {
  int64_t n = norma_layer_elements(&c->layer), params = norma_layer_params(&c->layer);
  norma_type param = norma_param_type(c->type);
  c->x = random_array(seed, c->type, n, 2, 1.5), c->dy = random_array(seed, c->type, n, 0.5, 1);
  if (fused) c->after = random_array(seed, c->type, n, 0, 1), c->residual = random_array(seed, c->type, n, -1, 1);
  if (params) c->weight = random_array(seed, param, params, 1, 1), c->bias = random_array(seed, param, params, 1, 1);
}

void ragged_free(ragged_case *c) {
  double *all[] = {c->x, c->dy, c->after, c->residual, c->weight, c->bias};
  for (size_t i = 0; i < COUNT(all); i++) free(all[i]);
}

bool ragged_valid(const ragged_case *c, const ragged_manner *m, int64_t element) {
  int64_t index[NORMA_MAX_DIMS], at = 0;
  for (int d = c->layer.ndim - 1; d >= 0; d--) {
    index[d] = element % c->layer.shape[d];
    element /= c->layer.shape[d];
    if (m->mask) at += index[d] * m->mask_strides[d];
  }
  return m->mask ? m->mask[at] != 0 : index[c->dim] < c->lengths[index[0]];
}

/* A tensor with these values where they are valid, and the poison elsewhere. */
static tensor poisoned(const ragged_case *c, const ragged_manner *m, const double *values) {
  int64_t n = norma_layer_elements(&c->layer);
  double *copy = malloc((size_t)n * sizeof *copy + 1);
  assert_non_null(copy);
  if (values) memcpy(copy, values, (size_t)n * sizeof *copy);
  for (int64_t i = 0; values && i < n; i++)
    if (m->poison != 0 && !ragged_valid(c, m, i)) copy[i] = m->poison;
  tensor t = tensor_of(c->type, &c->layer, m->l, values ? copy : NULL);
  free(copy);
  return t;
}

static void *take(tensor *t, const char *name) {
  tensor_check_gaps(t, name);
  void *dense = tensor_read(t);
  tensor_free(t);
  return dense;
}

static void *room(int64_t count, size_t item) {
  void *array = malloc((size_t)count * item + 1);
  assert_non_null(array);
  memset(array, 0x5a, (size_t)count * item + 1);
  return array;
}

static void forward(const ragged_case *c, const ragged_manner *m, const norma_ragged *ragged, ragged_results *r) {
  int64_t units = norma_layer_units(&c->layer);
  size_t item = norma_type_size(norma_param_type(c->type));
  tensor x = poisoned(c, m, c->x), y = tensor_of(c->type, &c->layer, m->l, NULL);
  tensor after = poisoned(c, m, c->after), residual = poisoned(c, m, c->residual);
  tensor sum = tensor_of(c->type, &c->layer, m->l, NULL);
  void *weight = c->weight ? from_doubles(norma_param_type(c->type), c->weight, norma_layer_params(&c->layer)) : NULL;
  void *bias = c->bias ? from_doubles(norma_param_type(c->type), c->bias, norma_layer_params(&c->layer)) : NULL;
  r->mean = room(units, item), r->var = room(units, item), r->rstd = room(units, item);
  r->saved = room(units, sizeof *r->saved), r->moments = room(units, sizeof *r->moments);
  norma_forward_args a = {.size = sizeof a, .layer = &c->layer, .type = c->type, .ddof = c->ddof};
  a.x = x.data, a.x_strides = x.strides;
  a.y = m->in_place && !c->residual ? x.data : y.data, a.y_strides = y.strides;
  a.weight = weight, a.bias = bias, a.activation = c->activation, a.threads = m->threads;
  if (c->after) a.after = after.data, a.after_strides = after.strides;
  if (c->residual) {
    a.residual = residual.data, a.residual_strides = residual.strides;
    a.sum = m->in_place ? x.data : sum.data, a.sum_strides = sum.strides;
  }
  a.mean = r->mean, a.var = r->var, a.rstd = r->rstd, a.saved = r->saved, a.moments = r->moments;
  norma_error error = {0};
  assert_ok(norma_ragged_forward(&a, ragged, &error), &error);
  r->sum = c->residual ? tensor_read(m->in_place ? &x : &sum) : NULL;
  r->y = tensor_read(a.y == x.data ? &x : &y);
  tensor *all[] = {&x, &y, &after, &residual, &sum};
  for (size_t i = 0; i < COUNT(all); i++) free(take(all[i], "forward"));
  free(weight), free(bias);
}

static void backward(const ragged_case *c, const ragged_manner *m, const norma_ragged *ragged, ragged_results *r) {
  int64_t params = norma_layer_params(&c->layer), n = norma_layer_elements(&c->layer);
  norma_type param = norma_param_type(c->type);
  double *sum = r->sum ? to_doubles(c->type, r->sum, n) : NULL;
  tensor x = poisoned(c, m, sum ? sum : c->x), dy = poisoned(c, m, c->dy), after = poisoned(c, m, c->after);
  tensor dsum = poisoned(c, m, c->residual);
  tensor dx = tensor_of(c->type, &c->layer, m->l, NULL), dafter = tensor_of(c->type, &c->layer, m->l, NULL);
  void *weight = c->weight ? from_doubles(param, c->weight, params) : NULL;
  void *bias = c->bias ? from_doubles(param, c->bias, params) : NULL;
  norma_backward_args b = {.size = sizeof b, .layer = &c->layer, .type = c->type, .ddof = c->ddof};
  b.x = x.data, b.x_strides = x.strides, b.dy = dy.data, b.dy_strides = dy.strides;
  b.dx = m->in_place ? dy.data : dx.data, b.dx_strides = dx.strides;
  b.weight = weight, b.bias = bias, b.activation = c->activation, b.threads = m->threads;
  if (c->after) {
    b.after = after.data, b.after_strides = after.strides;
    b.dafter = dafter.data, b.dafter_strides = dafter.strides;
  }
  if (c->residual) b.dsum = dsum.data, b.dsum_strides = dsum.strides;
  if (params) {
    r->dweight = b.dweight = room(params, norma_type_size(param));
    r->dbias = b.dbias = room(params, norma_type_size(param));
  }
  b.saved = m->recompute ? NULL : r->saved;
  norma_error error = {0};
  assert_ok(norma_ragged_backward(&b, ragged, &error), &error);
  r->dx = tensor_read(m->in_place ? &dy : &dx);
  r->dafter = c->after ? tensor_read(&dafter) : NULL;
  tensor *all[] = {&x, &dy, &after, &dsum, &dx, &dafter};
  for (size_t i = 0; i < COUNT(all); i++) free(take(all[i], "backward"));
  free(weight), free(bias), free(sum);
}

ragged_results ragged_run(const ragged_case *c, const ragged_manner *m) {
  norma_ragged ragged = {.size = sizeof ragged, .padding = c->padding};
  if (m->mask) ragged.mask = m->mask, ragged.mask_strides = m->mask_strides;
  else ragged.dim = c->dim, ragged.lengths = c->lengths;
  ragged_results r = {0};
  forward(c, m, &ragged, &r);
  backward(c, m, &ragged, &r);
  return r;
}

void ragged_results_free(ragged_results *r) {
  void *all[] = {r->y, r->sum, r->dx, r->dafter, r->mean, r->var, r->rstd, r->dweight, r->dbias, r->saved, r->moments};
  for (size_t i = 0; i < COUNT(all); i++) free(all[i]);
}
