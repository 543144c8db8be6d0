/* Batch and instance norm, whose statistics come from the input or are running ones. */
#include "module.h"

#include <stdlib.h>

/* The arguments of both, in torch's order; FROM_INPUT is training or use_input_stats. */
enum { X, RUNNING_MEAN, RUNNING_VAR, WEIGHT, BIAS, FROM_INPUT, MOMENTUM, EPS, OUT, RETURN_STATS, LENGTHS,
       COUNT = LENGTHS + 4 };

static int read_momentum(const char *function, PyObject *object, double *momentum) {
  *momentum = 0.1;
  if (py_double(function, "momentum", object, momentum)) return -1;
  if (*momentum >= 0 && *momentum <= 1) return 0;
  return py_fail(PyExc_ValueError, function, "momentum is %R, must be from 0 to 1", object);
}

/* Running statistics in place of the input's. */
static int given(const char *function, PyObject *mean, PyObject *var, const char *switch_name, const tensor *x,
                 PyArrayObject **given_mean, PyArrayObject **given_var) {
  if (!mean || !var)
    return py_fail(PyExc_ValueError, function, "%s is None, with %s=False it is what x is normalized with",
                   mean ? "running_var" : "running_mean", switch_name);
  if (py_statistic(function, "running_mean", mean, 1, &x->shape[1], x->type, given_mean)) return -1;
  return py_statistic(function, "running_var", var, 1, &x->shape[1], x->type, given_var);
}

/* The running statistics that the call will update, and room for what they get. */
static int prepare(forward *f, PyObject *const *v, running *r, norma_running_args *args) {
  f->flags |= NORMA_REFUSE_SINGLE;
  if (read_momentum(f->function, v[MOMENTUM], &args->momentum)) return -1;
  if (!v[RUNNING_MEAN] && !v[RUNNING_VAR]) return 0;
  args->channels = f->x.shape[1];
  if (py_running(f->function, v[RUNNING_MEAN], v[RUNNING_VAR], args->channels, f->x.type, r)) return -1;
  if (py_disjoint(f->function, "out", f->y.array, "running_mean", r->array[0])) return -1;
  if (py_disjoint(f->function, "out", f->y.array, "running_var", r->array[1])) return -1;
  int64_t units = norma_layer_units(&f->layer), room = units > args->channels ? units : args->channels;
  f->moments = calloc((size_t)room + 1, sizeof *f->moments);
  if (!f->moments) return PyErr_NoMemory(), -1;
  args->moments = f->moments;
  return py_running_check(f->function, r, args);
}

static PyObject *normalize(signature *s, layer_kind kind, bool from_input, PyObject *const *arguments, Py_ssize_t count,
                           PyObject *keywords) {
  PyObject *v[COUNT];
  if (py_arguments(s, arguments, count, keywords, v, NULL)) return NULL;
  forward f = {.function = s->function, .given_per_channel = kind == LAYER_INSTANCE};
  running r = {.type = NORMA_F32};
  norma_running_args args = {.convention = NORMA_PYTORCH};
  int status = py_tensor(s->function, "x", v[X], &f.x);
  if (!status) status = py_layer(s->function, kind, 0, &f.x, &f.layer);
  if (!status) status = py_bool(s->function, s->names[FROM_INPUT], v[FROM_INPUT], &from_input);
  if (!status) status = py_ragged(s->function, kind, 0, &f.x, &v[LENGTHS], &f.ragged);
  if (!status) status = py_forward_arrays(&f, v[WEIGHT], v[BIAS], v[EPS], v[OUT], v[RETURN_STATS]);
  if (!status && from_input) status = prepare(&f, v, &r, &args);
  if (!status && !from_input)
    status =
        given(s->function, v[RUNNING_MEAN], v[RUNNING_VAR], s->names[FROM_INPUT], &f.x, &f.given_mean, &f.given_var);
  if (!status) status = py_forward_run(&f);
  if (!status && from_input && f.moments && args.momentum > 0) {
    args.samples = kind == LAYER_INSTANCE ? f.x.shape[0] : 1;
    status = py_running_update(s->function, &r, &args);
  }
  py_running_clear(&r);
  return py_forward_finish(&f, v[OUT], status);
}

PyObject *py_batch_norm(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  static signature s = {
      "batch_norm",
      8,
      1,
      {"x", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps", "out", "return_stats",
       "lengths", "mask", "pad", "dim"},
      {0}};
  (void)module;
  return normalize(&s, LAYER_BATCH, false, arguments, count, keywords);
}

PyObject *py_instance_norm(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  static signature s = {"instance_norm",
                        8,
                        1,
                        {"x", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps",
                         "out", "return_stats", "lengths", "mask", "pad", "dim"},
                        {0}};
  (void)module;
  return normalize(&s, LAYER_INSTANCE, true, arguments, count, keywords);
}

/* ----------------------------------------------------------------------------------------------------- backward --- */

static PyObject *gradients(signature *s, layer_kind kind, bool from_input, PyObject *const *arguments, Py_ssize_t count,
                           PyObject *keywords) {
  enum { DY, INPUT, MEAN, VAR, GAMMA, STATS, EPSILON, BETA, FACTOR, LENGTHS_TOO, ALL = LENGTHS_TOO + 4 };
  PyObject *v[ALL];
  if (py_arguments(s, arguments, count, keywords, v, NULL)) return NULL;
  backward b = {.function = s->function, .given_per_channel = kind == LAYER_INSTANCE};
  int status = py_tensor(s->function, "x", v[INPUT], &b.x);
  if (!status) status = py_layer(s->function, kind, 0, &b.x, &b.layer);
  if (!status) status = py_bool(s->function, s->names[STATS], v[STATS], &from_input);
  if (!status) status = py_ragged(s->function, kind, 0, &b.x, &v[LENGTHS_TOO], &b.ragged);
  if (!status) status = py_backward_arrays(&b, v[DY], v[GAMMA], v[EPSILON]);
  if (from_input) b.flags |= NORMA_REFUSE_SINGLE;
  else if (!status) status = given(s->function, v[MEAN], v[VAR], s->names[STATS], &b.x, &b.given_mean, &b.given_var);
  if (!status) status = py_backward_run(&b);
  return py_backward_finish(&b, status);
}

PyObject *py_batch_norm_backward(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  static signature s = {"batch_norm_backward",
                        7,
                        2,
                        {"dy", "x", "running_mean", "running_var", "weight", "training", "eps", "bias", "momentum",
                         "lengths", "mask", "pad", "dim"},
                        {0}};
  (void)module;
  return gradients(&s, LAYER_BATCH, false, arguments, count, keywords);
}

PyObject *py_instance_norm_backward(PyObject *module, PyObject *const *arguments, Py_ssize_t count,
                                    PyObject *keywords) {
  static signature s = {
      "instance_norm_backward",
      7,
      2,
      {"dy", "x", "running_mean", "running_var", "weight", "use_input_stats", "eps", "bias", "momentum", "lengths",
       "mask", "pad", "dim"},
      {0}};
  (void)module;
  return gradients(&s, LAYER_INSTANCE, true, arguments, count, keywords);
}
