/* The forward call, and the layers that are nothing but that: layer, RMS and group norm, and the general one. */
#include "module.h"

#include <stdlib.h>

static int make_stats(forward *f) {
  int64_t shape[NORMA_MAX_AXES];
  int ndim = py_unit_shape(&f->layer, f->keep_dims, shape);
  norma_type type = norma_param_type(f->x.type);
  f->rstd = py_new_array(type, ndim, shape);
  if (!f->rstd) return -1;
  if (!f->layer.rms) f->mean = py_new_array(type, ndim, shape);
  return f->mean || f->layer.rms ? 0 : -1;
}

int py_forward_arrays(forward *f, PyObject *weight, PyObject *bias, PyObject *eps, PyObject *out,
                      PyObject *return_stats) {
  if (py_param(f->function, "weight", weight, &f->layer, f->x.type, &f->weight, NULL)) return -1;
  if (py_param(f->function, "bias", bias, &f->layer, f->x.type, &f->bias, NULL)) return -1;
  if (py_double(f->function, "eps", eps, &f->eps)) return -1;
  if (eps && f->eps == 0) f->flags |= NORMA_EPS_ZERO;
  if (py_bool(f->function, "return_stats", return_stats, &f->return_stats)) return -1;
  if (py_output(f->function, "out", out, "x", &f->x, &f->y)) return -1;
  return f->return_stats ? make_stats(f) : 0;
}

int py_forward_run(forward *f) {
  norma_forward_args args = {.size = sizeof args, .layer = &f->layer, .type = f->x.type};
  args.x = PyArray_DATA(f->x.array);
  args.x_strides = f->x.strides;
  args.y = PyArray_DATA(f->y.array);
  args.y_strides = f->y.strides;
  args.weight = py_data(f->weight);
  args.bias = py_data(f->bias);
  args.eps = f->eps;
  args.flags = f->flags;
  args.given_mean = py_data(f->given_mean);
  args.given_var = py_data(f->given_var);
  args.given_strides = f->given_per_channel ? py_per_channel : NULL;
  args.mean = py_data(f->mean);
  args.rstd = py_data(f->rstd);
  args.moments = f->moments;
  args.activation = f->activation;
  norma_error error;
  norma_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = f->ragged.held ? norma_ragged_forward(&args, &f->ragged.valid, &error) : norma_forward(&args, &error);
  Py_END_ALLOW_THREADS;
  return status ? py_core_error(f->function, status, &error) : 0;
}

PyObject *py_forward_finish(forward *f, PyObject *out, int status) {
  PyObject *result = NULL;
  if (!status) {
    PyObject *y = out ? out : (PyObject *)f->y.array;
    if (!f->return_stats) result = Py_NewRef(y);
    else if (f->layer.rms) result = PyTuple_Pack(2, y, f->rstd);
    else result = PyTuple_Pack(3, y, f->mean, f->rstd);
  }
  PyArrayObject *held[] = {f->weight, f->bias, f->given_mean, f->given_var, f->mean, f->rstd, f->ragged.held};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++) Py_XDECREF(held[i]);
  py_tensor_clear(&f->x);
  py_tensor_clear(&f->y);
  free(f->moments);
  return result;
}

/* ------------------------------------------------------------------------------------------- layer and RMS norm --- */

enum { X, SHAPE, WEIGHT };

/* The part that layer and RMS norm share; `last` are the values from weight on. */
static PyObject *normalize_dims(const char *function, layer_kind kind, PyObject *const *first, PyObject *bias,
                                PyObject *eps, PyObject *const *last) {
  enum { AXES, OUT, RETURN_STATS, LENGTHS };
  forward f = {.function = function, .keep_dims = true};
  int64_t dims = 0;
  int status = py_tensor(function, "x", first[X], &f.x);
  if (!status) status = py_normalized_dims(function, first[SHAPE], last[AXES], &f.x, &dims);
  if (!status) status = py_layer(function, kind, dims, &f.x, &f.layer);
  if (!status) status = py_ragged(function, kind, dims, &f.x, &last[LENGTHS], &f.ragged);
  if (!status) status = py_forward_arrays(&f, first[WEIGHT], bias, eps, last[OUT], last[RETURN_STATS]);
  if (!status) status = py_forward_run(&f);
  return py_forward_finish(&f, last[OUT], status);
}

PyObject *py_layer_norm(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  enum { BIAS = WEIGHT + 1, EPS, AXES, COUNT = AXES + 7 };
  static signature s = {"layer_norm",
                        5,
                        1,
                        {"x", "normalized_shape", "weight", "bias", "eps", "axes", "out", "return_stats", "lengths",
                         "mask", "pad", "dim"},
                        {0}};
  PyObject *v[COUNT];
  (void)module;
  if (py_arguments(&s, arguments, count, keywords, v, NULL)) return NULL;
  return normalize_dims(s.function, LAYER_NORM, v, v[BIAS], v[EPS], &v[AXES]);
}

PyObject *py_rms_norm(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  enum { EPS = WEIGHT + 1, AXES, COUNT = AXES + 7 };
  static signature s = {"rms_norm",
                        4,
                        1,
                        {"x", "normalized_shape", "weight", "eps", "axes", "out", "return_stats", "lengths", "mask",
                         "pad", "dim"},
                        {0}};
  PyObject *v[COUNT];
  (void)module;
  if (py_arguments(&s, arguments, count, keywords, v, NULL)) return NULL;
  return normalize_dims(s.function, LAYER_RMS, v, NULL, v[EPS], &v[AXES]);
}

/* --------------------------------------------------------------------------------------------------- group norm --- */

PyObject *py_group_norm(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  enum { GROUPS = X + 1, GAMMA, BETA, EPS, OUT, RETURN_STATS, LENGTHS, COUNT = LENGTHS + 4 };
  static signature s = {"group_norm",
                        5,
                        2,
                        {"x", "num_groups", "weight", "bias", "eps", "out", "return_stats", "lengths", "mask", "pad",
                         "dim"},
                        {0}};
  PyObject *v[COUNT];
  (void)module;
  if (py_arguments(&s, arguments, count, keywords, v, NULL)) return NULL;
  forward f = {.function = s.function};
  int64_t groups = 0;
  int status = py_tensor(s.function, "x", v[X], &f.x);
  if (!status) status = py_integer(s.function, "num_groups", v[GROUPS] ? v[GROUPS] : Py_None, &groups);
  if (!status) status = py_layer(s.function, LAYER_GROUP, groups, &f.x, &f.layer);
  if (!status) status = py_ragged(s.function, LAYER_GROUP, 0, &f.x, &v[LENGTHS], &f.ragged);
  if (!status) status = py_forward_arrays(&f, v[GAMMA], v[BETA], v[EPS], v[OUT], v[RETURN_STATS]);
  if (!status) status = py_forward_run(&f);
  return py_forward_finish(&f, v[OUT], status);
}

/* -------------------------------------------------------------------------------------------------- any pattern --- */

const char *const py_activations[] = {"none", "relu", "silu", "gelu", "gelu_tanh", NULL};

PyObject *py_norm(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  enum { PATTERN = X + 1, AFFINE, GAMMA, BETA, EPS, RMS, MEAN, VAR, ACTIVATION, OUT, RETURN_STATS, COUNT };
  static signature s = {
      "norm",
      2,
      2,
      {"x", "pattern", "affine", "weight", "bias", "eps", "rms", "mean", "var", "activation", "out", "return_stats"},
      {0}};
  PyObject *v[COUNT];
  axis_sizes sizes = {.text = ""};
  (void)module;
  if (py_arguments(&s, arguments, count, keywords, v, &sizes)) return NULL;
  forward f = {.function = s.function};
  const char *pattern = NULL, *affine = "";
  bool rms = false;
  int activation = NORMA_ACT_NONE, ndim;
  int64_t units[NORMA_MAX_AXES];
  int status = py_tensor(s.function, "x", v[X], &f.x);
  if (!status) status = py_string(s.function, "pattern", v[PATTERN] ? v[PATTERN] : Py_None, &pattern);
  if (!status) status = py_string(s.function, "affine", v[AFFINE], &affine);
  if (!status) status = py_bool(s.function, "rms", v[RMS], &rms);
  if (!status) status = py_choice(s.function, "activation", v[ACTIVATION], py_activations, &activation);
  if (!status) status = py_pattern_layer(s.function, pattern, affine, sizes.text, rms, &f.x, &f.layer);
  if (!status) status = py_forward_arrays(&f, v[GAMMA], v[BETA], v[EPS], v[OUT], v[RETURN_STATS]);
  ndim = status ? 0 : py_unit_shape(&f.layer, false, units);
  if (!status) status = py_statistic(s.function, "mean", v[MEAN], ndim, units, f.x.type, &f.given_mean);
  if (!status) status = py_statistic(s.function, "var", v[VAR], ndim, units, f.x.type, &f.given_var);
  f.activation = (norma_activation)activation;
  if (!status) status = py_forward_run(&f);
  return py_forward_finish(&f, v[OUT], status);
}
