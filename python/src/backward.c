/* The backward call, and the backward twins of layer, RMS and group norm and of the general layer. They take the same
 * keywords as the functions they belong to; bias, which no gradient depends on, is read with an activation only. */
#include "module.h"

int py_backward_arrays(backward *b, PyObject *dy, PyObject *weight, PyObject *eps) {
  b->weight_type = norma_param_type(b->x.type) == NORMA_F64 ? NPY_DOUBLE : NPY_FLOAT;
  if (py_tensor_like(b->function, "dy", dy, "x", &b->x, &b->dy)) return -1;
  if (py_param(b->function, "weight", weight, &b->layer, b->x.type, &b->weight, &b->weight_type)) return -1;
  if (py_double(b->function, "eps", eps, &b->eps)) return -1;
  if (eps && b->eps == 0) b->flags |= NORMA_EPS_ZERO;
  return 0;
}

/* dweight and dbias have the shape of weight, or that of whole dimensions where there is none. */
static int make_outputs(backward *b) {
  int64_t shape[NORMA_MAX_AXES];
  int ndim = py_param_shape(&b->layer, true, shape);
  norma_type param = norma_param_type(b->x.type);
  if (py_output(b->function, "dx", NULL, "x", &b->x, &b->dx)) return -1;
  if (ndim == 0) return 0;
  if (b->weight) {
    ndim = PyArray_NDIM(b->weight);
    for (int d = 0; d < ndim; d++) shape[d] = PyArray_DIM(b->weight, d);
  }
  b->dweight = py_new_array(param, ndim, shape);
  if (!b->dweight) return -1;
  if (!b->layer.rms) b->dbias = py_new_array(param, ndim, shape);
  return b->dbias || b->layer.rms ? 0 : -1;
}

int py_backward_run(backward *b) {
  if (make_outputs(b)) return -1;
  norma_backward_args args = {.size = sizeof args, .layer = &b->layer, .type = b->x.type};
  args.x = PyArray_DATA(b->x.array);
  args.x_strides = b->x.strides;
  args.dy = PyArray_DATA(b->dy.array);
  args.dy_strides = b->dy.strides;
  args.dx = PyArray_DATA(b->dx.array);
  args.dx_strides = b->dx.strides;
  args.weight = py_data(b->weight);
  args.bias = py_data(b->bias);
  args.dweight = py_data(b->dweight);
  args.dbias = py_data(b->dbias);
  args.eps = b->eps;
  args.flags = b->flags;
  args.given_mean = py_data(b->given_mean);
  args.given_var = py_data(b->given_var);
  args.given_strides = b->given_per_channel ? py_per_channel : NULL;
  args.activation = b->activation;
  norma_error error;
  norma_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = b->ragged.held ? norma_ragged_backward(&args, &b->ragged.valid, &error) : norma_backward(&args, &error);
  Py_END_ALLOW_THREADS;
  return status ? py_core_error(b->function, status, &error) : 0;
}

/* A gradient in the type that weight had. Takes over the reference. */
static PyArrayObject *as_type(PyArrayObject *array, int type_number) {
  if (!array || PyArray_TYPE(array) == type_number) return array;
  PyArray_Descr *descr = PyArray_DescrFromType(type_number);
  PyObject *cast = descr ? PyArray_CastToType(array, descr, 0) : NULL;
  Py_DECREF(array);
  return (PyArrayObject *)cast;
}

PyObject *py_backward_finish(backward *b, int status) {
  PyObject *result = NULL;
  bool params = b->dweight;
  if (!status && params) {
    b->dweight = as_type(b->dweight, b->weight_type);
    b->dbias = as_type(b->dbias, b->weight_type);
    if (!b->dweight || (!b->dbias && !b->layer.rms)) status = -1;
  }
  if (!status && !params) result = Py_NewRef(b->dx.array);
  else if (!status && b->layer.rms) result = PyTuple_Pack(2, b->dx.array, b->dweight);
  else if (!status) result = PyTuple_Pack(3, b->dx.array, b->dweight, b->dbias);
  PyArrayObject *held[] = {b->weight, b->bias, b->given_mean, b->given_var, b->dweight, b->dbias, b->ragged.held};
  for (size_t i = 0; i < sizeof held / sizeof *held; i++) Py_XDECREF(held[i]);
  py_tensor_clear(&b->x);
  py_tensor_clear(&b->dy);
  py_tensor_clear(&b->dx);
  return result;
}

/* ------------------------------------------------------------------------------------------- layer and RMS norm --- */

enum { DY, X, SHAPE, WEIGHT, EPS, AXES };

static PyObject *normalize_dims(const char *function, layer_kind kind, PyObject *const *v, PyObject *const *valid) {
  backward b = {.function = function};
  int64_t dims = 0;
  int status = py_tensor(function, "x", v[X], &b.x);
  if (!status) status = py_normalized_dims(function, v[SHAPE], v[AXES], &b.x, &dims);
  if (!status) status = py_layer(function, kind, dims, &b.x, &b.layer);
  if (!status) status = py_ragged(function, kind, dims, &b.x, valid, &b.ragged);
  if (!status) status = py_backward_arrays(&b, v[DY], v[WEIGHT], v[EPS]);
  if (!status) status = py_backward_run(&b);
  return py_backward_finish(&b, status);
}

PyObject *py_layer_norm_backward(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  enum { BETA = AXES + 1, LENGTHS };
  static signature s = {"layer_norm_backward",
                        5,
                        2,
                        {"dy", "x", "normalized_shape", "weight", "eps", "axes", "bias", "lengths", "mask", "pad",
                         "dim"},
                        {0}};
  PyObject *v[LENGTHS + 4];
  (void)module;
  if (py_arguments(&s, arguments, count, keywords, v, NULL)) return NULL;
  return normalize_dims(s.function, LAYER_NORM, v, &v[LENGTHS]);
}

PyObject *py_rms_norm_backward(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  enum { LENGTHS = AXES + 1 };
  static signature s = {"rms_norm_backward",
                        5,
                        2,
                        {"dy", "x", "normalized_shape", "weight", "eps", "axes", "lengths", "mask", "pad", "dim"},
                        {0}};
  PyObject *v[LENGTHS + 4];
  (void)module;
  if (py_arguments(&s, arguments, count, keywords, v, NULL)) return NULL;
  return normalize_dims(s.function, LAYER_RMS, v, &v[LENGTHS]);
}

/* --------------------------------------------------------------------------------------------------- group norm --- */

PyObject *py_group_norm_backward(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  enum { GROUPS = X + 1, GAMMA, EPSILON, BETA, LENGTHS, COUNT = LENGTHS + 4 };
  static signature s = {"group_norm_backward",
                        5,
                        3,
                        {"dy", "x", "num_groups", "weight", "eps", "bias", "lengths", "mask", "pad", "dim"},
                        {0}};
  PyObject *v[COUNT];
  (void)module;
  if (py_arguments(&s, arguments, count, keywords, v, NULL)) return NULL;
  backward b = {.function = s.function};
  int64_t groups = 0;
  int status = py_tensor(s.function, "x", v[X], &b.x);
  if (!status) status = py_integer(s.function, "num_groups", v[GROUPS] ? v[GROUPS] : Py_None, &groups);
  if (!status) status = py_layer(s.function, LAYER_GROUP, groups, &b.x, &b.layer);
  if (!status) status = py_ragged(s.function, LAYER_GROUP, 0, &b.x, &v[LENGTHS], &b.ragged);
  if (!status) status = py_backward_arrays(&b, v[DY], v[GAMMA], v[EPSILON]);
  if (!status) status = py_backward_run(&b);
  return py_backward_finish(&b, status);
}

/* -------------------------------------------------------------------------------------------------- any pattern --- */

PyObject *py_norm_backward(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  enum { PATTERN = X + 1, AFFINE, GAMMA, BETA, EPSILON, RMS, MEAN, VAR, ACTIVATION, COUNT };
  static signature s = {"norm_backward",
                        3,
                        3,
                        {"dy", "x", "pattern", "affine", "weight", "bias", "eps", "rms", "mean", "var", "activation"},
                        {0}};
  PyObject *v[COUNT];
  axis_sizes sizes = {.text = ""};
  (void)module;
  if (py_arguments(&s, arguments, count, keywords, v, &sizes)) return NULL;
  backward b = {.function = s.function};
  const char *pattern = NULL, *affine = "";
  bool rms = false;
  int activation = NORMA_ACT_NONE, ndim;
  int64_t units[NORMA_MAX_AXES];
  int status = py_tensor(s.function, "x", v[X], &b.x);
  if (!status) status = py_string(s.function, "pattern", v[PATTERN] ? v[PATTERN] : Py_None, &pattern);
  if (!status) status = py_string(s.function, "affine", v[AFFINE], &affine);
  if (!status) status = py_bool(s.function, "rms", v[RMS], &rms);
  if (!status) status = py_choice(s.function, "activation", v[ACTIVATION], py_activations, &activation);
  if (!status) status = py_pattern_layer(s.function, pattern, affine, sizes.text, rms, &b.x, &b.layer);
  if (!status) status = py_backward_arrays(&b, v[DY], v[GAMMA], v[EPSILON]);
  if (!status) status = py_param(s.function, "bias", v[BETA], &b.layer, b.x.type, &b.bias, NULL);
  ndim = status ? 0 : py_unit_shape(&b.layer, false, units);
  if (!status) status = py_statistic(s.function, "mean", v[MEAN], ndim, units, b.x.type, &b.given_mean);
  if (!status) status = py_statistic(s.function, "var", v[VAR], ndim, units, b.x.type, &b.given_var);
  b.activation = (norma_activation)activation;
  if (!status) status = py_backward_run(&b);
  return py_backward_finish(&b, status);
}
