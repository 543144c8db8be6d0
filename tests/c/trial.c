/* See trial.h. */
#include "trial.h"

#include <stdlib.h>
#include <string.h>

static int has_affine(const norma_layer *layer) {
  unsigned bits = 0;
  for (int i = 0; i < layer->axis_count; i++) {
    bits |= layer->axes[i].bits;
  }
  return (bits & NORMA_AFFINE) != 0;
}

int64_t trial_params(const trial *t) { return has_affine(&t->layer) ? norma_layer_params(&t->layer) : 0; }

trial trial_new(const norma_layer *layer, norma_type type, uint64_t *seed, double mean, double deviation) {
  int64_t n = norma_layer_elements(layer);
  trial t = {.layer = *layer, .type = type};
  t.x = random_array(seed, type, n, mean, deviation);
  t.dy = random_array(seed, type, n, 0, 1);
  if (has_affine(layer)) {
    t.weight = random_array(seed, norma_param_type(type), norma_layer_params(layer), 1, 0.5);
    t.bias = random_array(seed, norma_param_type(type), norma_layer_params(layer), 0, 1);
  }
  return t;
}

void trial_free(trial *t) {
  free(t->x);
  free(t->dy);
  free(t->weight);
  free(t->bias);
  free(t->given_mean);
  free(t->given_var);
}

/* Arrays per gamma (bit NORMA_AFFINE set) or per unit (bit NORMA_SHARE clear), with strides per dimension. */
typedef struct small_arrays {
  tensor weight, bias, dweight, dbias, mean, var;
} small_arrays;

/* An array without values to hold is one for a gradient. absent: no array. */
static tensor small_array(const trial *t, unsigned bit, layout l, const double *values, int absent) {
  if (absent) {
    return (tensor){.data = NULL};
  }
  int64_t shape[NORMA_MAX_DIMS] = {1, 1, 1, 1, 1, 1, 1, 1};
  int varies[NORMA_MAX_DIMS] = {0};
  for (int k = 0; k < t->layer.axis_count; k++) {
    const norma_axis *axis = &t->layer.axes[k];
    if ((bit == NORMA_AFFINE) == ((axis->bits & bit) != 0)) {
      shape[axis->dim] *= axis->length;
      varies[axis->dim] = 1;
    }
  }
  tensor array = tensor_new(norma_param_type(t->type), t->layer.ndim, shape, l);
  if (values != NULL) {
    tensor_write(&array, values);
  }
  for (int d = 0; d < t->layer.ndim; d++) {
    array.strides[d] = varies[d] ? array.strides[d] : INT64_MAX; /* must be ignored */
  }
  return array;
}

static void run_forward(const trial *t, const manner *m, const small_arrays *p, outcome *o) {
  tensor x = tensor_of(t->type, &t->layer, m->x, t->x), other = tensor_of(t->type, &t->layer, m->y, NULL);
  tensor *y = m->in_place ? &x : &other;
  norma_forward_args args = {.size = sizeof args,
                             .layer = &t->layer,
                             .type = t->type,
                             .x = x.data,
                             .x_strides = x.strides,
                             .y = y->data,
                             .y_strides = y->strides,
                             .weight = p->weight.data,
                             .weight_strides = p->weight.strides,
                             .bias = p->bias.data,
                             .bias_strides = p->bias.strides,
                             .eps = t->eps,
                             .ddof = t->ddof,
                             .flags = t->flags,
                             .given_mean = p->mean.data,
                             .given_var = p->var.data,
                             .given_strides = p->var.strides,
                             .mean = o->mean,
                             .rstd = o->rstd,
                             .var = o->var,
                             .saved = o->saved,
                             .moments = o->moments,
                             .threads = m->threads};
  unsigned char *base = NULL;
  if (m->own_workspace) {
    args.workspace_size = norma_forward_workspace(&args);
    base = workspace_new(args.workspace_size);
    args.workspace = base + WORKSPACE_PAD;
  }
  norma_error error;
  assert_ok(norma_forward(&args, &error), &error);
  workspace_free(base, args.workspace_size);
  tensor_check_gaps(&x, "x");
  tensor_check_gaps(&other, "y");
  o->y = tensor_read(y);
  tensor_free(&x);
  tensor_free(&other);
}

static void run_backward(const trial *t, const manner *m, const small_arrays *p, outcome *o) {
  tensor x = tensor_of(t->type, &t->layer, m->x, t->x), dy = tensor_of(t->type, &t->layer, m->dy, t->dy);
  tensor other = tensor_of(t->type, &t->layer, m->dx, NULL);
  tensor *dx = m->in_place ? &dy : &other;
  norma_backward_args args = {.size = sizeof args,
                              .layer = &t->layer,
                              .type = t->type,
                              .x = x.data,
                              .x_strides = x.strides,
                              .dy = dy.data,
                              .dy_strides = dy.strides,
                              .dx = dx->data,
                              .dx_strides = dx->strides,
                              .weight = p->weight.data,
                              .weight_strides = p->weight.strides,
                              .dweight = p->dweight.data,
                              .dweight_strides = p->dweight.strides,
                              .dbias = p->dbias.data,
                              .dbias_strides = p->dbias.strides,
                              .eps = t->eps,
                              .ddof = t->ddof,
                              .flags = t->flags,
                              .given_mean = p->mean.data,
                              .given_var = p->var.data,
                              .given_strides = p->var.strides,
                              .saved = m->use_saved ? o->saved : NULL,
                              .threads = m->threads};
  unsigned char *base = NULL;
  if (m->own_workspace) {
    args.workspace_size = norma_backward_workspace(&args);
    base = workspace_new(args.workspace_size);
    args.workspace = base + WORKSPACE_PAD;
  }
  norma_error error;
  assert_ok(norma_backward(&args, &error), &error);
  workspace_free(base, args.workspace_size);
  tensor_check_gaps(&x, "x");
  tensor_check_gaps(&dy, "dy");
  tensor_check_gaps(&other, "dx");
  o->dx = tensor_read(dx);
  tensor_free(&x);
  tensor_free(&dy);
  tensor_free(&other);
}

static void *read_small(tensor *array, const char *name) {
  if (array->data == NULL) {
    return NULL;
  }
  for (int d = 0; d < array->ndim; d++) {
    array->strides[d] = array->strides[d] == INT64_MAX ? 0 : array->strides[d];
  }
  tensor_check_gaps(array, name);
  return tensor_read(array);
}

outcome trial_run(const trial *t, const manner *m) {
  int64_t units = norma_layer_units(&t->layer);
  small_arrays p = {small_array(t, NORMA_AFFINE, m->params, t->weight, t->weight == NULL),
                    small_array(t, NORMA_AFFINE, m->params, t->bias, t->bias == NULL),
                    small_array(t, NORMA_AFFINE, m->params, NULL, m->only_dx || !has_affine(&t->layer)),
                    small_array(t, NORMA_AFFINE, m->params, NULL, m->only_dx || !has_affine(&t->layer)),
                    small_array(t, NORMA_SHARE, m->params, t->given_mean, t->given_mean == NULL),
                    small_array(t, NORMA_SHARE, m->params, t->given_var, t->given_var == NULL)};
  outcome o = {.y = NULL};
  if (t->given_var == NULL) {
    o.mean = calloc((size_t)units + 1, sizeof(double));
    o.rstd = calloc((size_t)units + 1, sizeof(double));
    o.var = calloc((size_t)units + 1, sizeof(double));
    o.saved = calloc((size_t)units + 1, sizeof *o.saved);
    o.moments = calloc((size_t)units + 1, sizeof *o.moments);
  }
  run_forward(t, m, &p, &o);
  run_backward(t, m, &p, &o);
  o.dweight = read_small(&p.dweight, "dweight");
  o.dbias = read_small(&p.dbias, "dbias");
  tensor *const all[] = {&p.weight, &p.bias, &p.dweight, &p.dbias, &p.mean, &p.var};
  for (size_t i = 0; i < COUNT(all); i++) {
    tensor_free(all[i]);
  }
  return o;
}

void outcome_free(outcome *o) {
  void *const arrays[] = {o->y, o->dx, o->dweight, o->dbias, o->mean, o->rstd, o->var, o->saved, o->moments};
  for (size_t i = 0; i < COUNT(arrays); i++) {
    free(arrays[i]);
  }
}

void assert_same_outcome(const trial *t, const outcome *got, const outcome *expected) {
  norma_type ptype = norma_param_type(t->type);
  int64_t elements = norma_layer_elements(&t->layer), units = norma_layer_units(&t->layer);
  int64_t params = norma_layer_params(&t->layer);
  assert_same_bits("y", t->type, got->y, expected->y, elements);
  assert_same_bits("dx", t->type, got->dx, expected->dx, elements);
  if (got->dweight != NULL) {
    assert_same_bits("dweight", ptype, got->dweight, expected->dweight, params);
    assert_same_bits("dbias", ptype, got->dbias, expected->dbias, params);
  }
  if (got->mean != NULL) {
    assert_same_bits("mean", ptype, got->mean, expected->mean, units);
    assert_same_bits("rstd", ptype, got->rstd, expected->rstd, units);
    assert_same_bits("var", ptype, got->var, expected->var, units);
    assert_same_bits("saved", NORMA_F64, got->saved, expected->saved, units * 4);
    for (int64_t u = 0; u < units; u++) {
      assert_int_equal(got->moments[u].count, expected->moments[u].count);
      assert_same_bits("moments", NORMA_F64, &got->moments[u].mean, &expected->moments[u].mean, 4);
    }
  }
}
