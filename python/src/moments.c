/* Moments: counts, means and squared distances as a value, one per unit of a pattern. They merge as sets do. */
#include "module.h"
#include "moments_docs.h"

#include <stdlib.h>
#include <string.h>

typedef struct moments {
  PyObject_HEAD PyObject *pattern; /* owned string */
  axis_sizes sizes;
  bool rms, filled; /* filled: the shape and the values are there */
  int ndim;
  int64_t shape[NORMA_MAX_AXES], units;
  norma_moments *values; /* owned, `units` of them and room for one more */
} moments;

static const char *const name = "Moments";

static PyObject *moments_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
  (void)arguments, (void)keywords;
  PyObject *self = type->tp_alloc(type, 0);
  if (self) ((moments *)self)->pattern = PyUnicode_FromString("[...]");
  if (self && !((moments *)self)->pattern) Py_CLEAR(self);
  return self;
}

static int moments_init(PyObject *self, PyObject *arguments, PyObject *keywords) {
  moments *m = (moments *)self;
  PyObject *pattern = NULL, *key, *value;
  Py_ssize_t at = 0;
  const char *text;
  if (!PyArg_ParseTuple(arguments, "|O:Moments", &pattern)) return -1;
  axis_sizes sizes = {.text = ""};
  bool rms = false;
  while (keywords && PyDict_Next(keywords, &at, &key, &value)) {
    if (PyUnicode_CompareWithASCIIString(key, "rms") == 0) {
      if (py_bool(name, "rms", value, &rms)) return -1;
    } else if (PyUnicode_CompareWithASCIIString(key, "pattern") == 0 && !pattern) {
      pattern = value;
    } else if (py_axis_size(name, key, value, &sizes)) {
      return -1;
    }
  }
  if (pattern && py_string(name, "pattern", pattern, &text)) return -1;
  if (pattern) Py_XSETREF(m->pattern, Py_NewRef(pattern));
  free(m->values);
  m->values = NULL;
  m->filled = false;
  m->sizes = sizes;
  m->rms = rms;
  return 0;
}

static void moments_dealloc(PyObject *self) {
  Py_XDECREF(((moments *)self)->pattern);
  free(((moments *)self)->values);
  Py_TYPE(self)->tp_free(self);
}

static norma_moments *make_values(int64_t units) {
  norma_moments *values = calloc((size_t)units + 1, sizeof *values);
  if (!values) PyErr_NoMemory();
  return values;
}

static int require_filled(const moments *m, const char *function) {
  return m->filled ? 0 : py_fail(PyExc_ValueError, function, "nothing was added so far");
}

/* Merges `values`, of that shape, into m; an empty m takes the shape. */
static int merge(moments *m, const char *function, const char *argument, int ndim, const int64_t *shape,
                 const norma_moments *values) {
  if (!m->filled) {
    int64_t units = 1;
    for (int d = 0; d < ndim; d++) units *= shape[d];
    norma_moments *room = make_values(units);
    if (!room) return -1;
    m->values = room;
    m->ndim = ndim;
    m->units = units;
    memcpy(m->shape, shape, (size_t)ndim * sizeof *shape);
    m->filled = true;
  }
  bool same = m->ndim == ndim;
  for (int d = 0; d < ndim && same; d++) same = m->shape[d] == shape[d];
  if (!same) return py_fail(PyExc_ValueError, function, "%s has other units than what was added before", argument);
  for (int64_t u = 0; u < m->units; u++) norma_moments_merge(&m->values[u], &values[u]);
  return 0;
}

static int add(moments *m, tensor *x, norma_moments **values) {
  static const char *const function = "Moments.add";
  norma_layer layer;
  norma_error error;
  norma_status status;
  int64_t shape[NORMA_MAX_AXES];
  if (py_pattern_layer(function, PyUnicode_AsUTF8(m->pattern), "", m->sizes.text, m->rms, x, &layer)) return -1;
  *values = make_values(norma_layer_units(&layer));
  if (!*values) return -1;
  norma_forward_args args = {.size = sizeof args, .layer = &layer, .type = x->type, .moments = *values};
  args.x = PyArray_DATA(x->array);
  args.x_strides = x->strides;
  Py_BEGIN_ALLOW_THREADS;
  status = norma_forward(&args, &error);
  Py_END_ALLOW_THREADS;
  if (status) return py_core_error(function, status, &error);
  return merge(m, function, "x", py_unit_shape(&layer, false, shape), shape, *values);
}

static PyObject *moments_add(PyObject *self, PyObject *object) {
  tensor x = {.array = NULL};
  norma_moments *values = NULL;
  int status = py_tensor("Moments.add", "x", object == Py_None ? NULL : object, &x);
  if (!status) status = add((moments *)self, &x, &values);
  free(values);
  py_tensor_clear(&x);
  return status ? NULL : Py_NewRef(Py_None);
}

static PyObject *moments_merge(PyObject *self, PyObject *object) {
  static const char *const function = "Moments.merge";
  moments *m = (moments *)self, *other = (moments *)object;
  int status = 0;
  if (!PyObject_TypeCheck(object, &py_moments_type))
    status = py_fail(PyExc_TypeError, function, "other must be Moments, not %.80s", Py_TYPE(object)->tp_name);
  else if (m->rms != other->rms)
    status = py_fail(PyExc_ValueError, function, "other has rms=%s, this rms=%s", other->rms ? "True" : "False",
                     m->rms ? "True" : "False");
  else if (m == other) status = py_fail(PyExc_ValueError, function, "other is the same object");
  else if (other->filled) status = merge(m, function, "other", other->ndim, other->shape, other->values);
  return status ? NULL : Py_NewRef(Py_None);
}

static PyObject *moments_finish(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  static signature s = {"Moments.finish", 1, 0, {"unbiased"}, {0}};
  moments *m = (moments *)self;
  PyObject *v[1];
  bool unbiased = false;
  if (py_arguments(&s, arguments, count, keywords, v, NULL) || py_bool(s.function, s.names[0], v[0], &unbiased))
    return NULL;
  if (require_filled(m, s.function)) return NULL;
  PyArrayObject *mean = py_new_array(NORMA_F64, m->ndim, m->shape), *var = py_new_array(NORMA_F64, m->ndim, m->shape);
  norma_error error;
  norma_status status = NORMA_OK;
  for (int64_t u = 0; mean && var && u < m->units && !status; u++)
    status = norma_moments_finish(&m->values[u], unbiased, (double *)PyArray_DATA(mean) + u,
                                  (double *)PyArray_DATA(var) + u, &error);
  if (status) py_core_error(s.function, status, &error);
  PyObject *result = mean && var && !status ? PyTuple_Pack(2, mean, var) : NULL;
  Py_XDECREF(mean);
  Py_XDECREF(var);
  return result;
}

/* ------------------------------------------------------------------------------------------------------- update --- */

static int read_update(const moments *m, PyObject *const *v, norma_running_args *args) {
  enum { MOMENTUM = 2, CONVENTION, BATCHES, NOT_FINITE };
  static const char *const function = "Moments.update";
  static const char *const conventions[] = {"pytorch", "onnx", "cumulative", NULL};
  static const char *const choices[] = {"store", "refuse", "skip", NULL};
  int convention = NORMA_PYTORCH, not_finite = NORMA_NOT_FINITE_STORE;
  if (require_filled(m, function)) return -1;
  if (m->ndim > 2)
    return py_fail(PyExc_ValueError, function, "there are %d axes of units, must be channels or samples and channels",
                   m->ndim);
  if (py_double(function, "momentum", v[MOMENTUM], &args->momentum)) return -1;
  if (v[MOMENTUM] && !(args->momentum > 0 && args->momentum <= 1))
    return py_fail(PyExc_ValueError, function, "momentum is %R, must be above 0 and at most 1", v[MOMENTUM]);
  if (py_choice(function, "convention", v[CONVENTION], conventions, &convention)) return -1;
  if (py_integer(function, "batches", v[BATCHES], &args->batches)) return -1;
  if (py_choice(function, "not_finite", v[NOT_FINITE], choices, &not_finite)) return -1;
  args->convention = (norma_convention)convention;
  args->not_finite = (norma_not_finite)not_finite;
  args->channels = m->ndim > 0 ? m->shape[m->ndim - 1] : 1;
  args->samples = m->ndim == 2 ? m->shape[0] : 1;
  args->moments = m->values;
  return 0;
}

static PyObject *moments_update(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  static signature s = {
      "Moments.update", 2, 0, {"running_mean", "running_var", "momentum", "convention", "batches", "not_finite"}, {0}};
  moments *m = (moments *)self;
  PyObject *v[6];
  norma_running_args args = {.size = 0};
  running r = {.type = NORMA_F32};
  int status = py_arguments(&s, arguments, count, keywords, v, NULL);
  if (!status) status = read_update(m, v, &args);
  if (!status) status = py_running(s.function, v[0], v[1], args.channels, NORMA_F64, &r);
  if (!status && m->units > 0) status = py_running_update(s.function, &r, &args);
  py_running_clear(&r);
  return status ? NULL : Py_NewRef(Py_None);
}

/* ------------------------------------------------------------------------------------------- attributes, pickle --- */

static PyObject *shape_tuple(const moments *m) {
  npy_intp shape[NORMA_MAX_AXES];
  for (int d = 0; d < m->ndim; d++) shape[d] = (npy_intp)m->shape[d];
  return PyArray_IntTupleFromIntp(m->ndim, shape);
}

static PyObject *get_shape(PyObject *self, void *unused) {
  moments *m = (moments *)self;
  (void)unused;
  return m->filled ? shape_tuple(m) : Py_NewRef(Py_None);
}

static PyObject *get_count(PyObject *self, void *unused) {
  moments *m = (moments *)self;
  npy_intp shape[NORMA_MAX_AXES] = {0};
  (void)unused;
  if (require_filled(m, "Moments.count")) return NULL;
  for (int d = 0; d < m->ndim; d++) shape[d] = (npy_intp)m->shape[d];
  PyObject *array = PyArray_SimpleNew(m->ndim, shape, NPY_INT64);
  for (int64_t u = 0; array && u < m->units; u++)
    ((int64_t *)PyArray_DATA((PyArrayObject *)array))[u] = m->values[u].count;
  return array;
}

/* The state: lengths of axes, rms, and, if there are any, shape and values. */
static PyObject *moments_reduce(PyObject *self, PyObject *nothing) {
  moments *m = (moments *)self;
  (void)nothing;
  PyObject *shape = m->filled ? shape_tuple(m) : Py_NewRef(Py_None);
  if (!shape) return NULL;
  const char *bytes = m->filled ? (const char *)m->values : "";
  Py_ssize_t size = m->filled ? (Py_ssize_t)((size_t)m->units * sizeof *m->values) : 0;
  return Py_BuildValue("O(O)(sOy#N)", Py_TYPE(self), m->pattern, m->sizes.text, m->rms ? Py_True : Py_False, bytes,
                       size, shape);
}

static PyObject *moments_setstate(PyObject *self, PyObject *state) {
  static const char *const function = "Moments.__setstate__";
  moments *m = (moments *)self, made = {.ndim = 0};
  const char *sizes, *bytes;
  Py_ssize_t size;
  int rms;
  PyObject *shape;
  if (!PyTuple_Check(state)) return PyErr_Format(PyExc_TypeError, "%s: the state must be a tuple", function);
  if (!PyArg_ParseTuple(state, "spy#O", &sizes, &rms, &bytes, &size, &shape)) return NULL;
  if (strlen(sizes) >= sizeof made.sizes.text) return PyErr_Format(PyExc_ValueError, "%s: bad state", function);
  made.filled = shape != Py_None;
  if (made.filled && py_integers(function, "shape", shape, &made.ndim, made.shape)) return NULL;
  made.units = 1;
  for (int d = 0; d < made.ndim; d++) {
    if (made.shape[d] < 0 || (made.units > 0 && made.shape[d] > PTRDIFF_MAX / 64 / made.units))
      return PyErr_Format(PyExc_ValueError, "%s: bad shape", function);
    made.units *= made.shape[d];
  }
  if (made.filled && (size_t)size != (size_t)made.units * sizeof *made.values)
    return PyErr_Format(PyExc_ValueError, "%s: %zd bytes do not fit the shape", function, size);
  if (made.filled) {
    made.values = make_values(made.units);
    if (!made.values) return NULL;
    memcpy(made.values, bytes, (size_t)size);
  }
  free(m->values);
  m->values = made.values;
  m->filled = made.filled;
  m->ndim = made.ndim;
  m->units = made.units;
  memcpy(m->shape, made.shape, sizeof m->shape);
  m->rms = rms;
  m->sizes.used = strlen(sizes);
  memcpy(m->sizes.text, sizes, m->sizes.used + 1);
  Py_RETURN_NONE;
}

static PyObject *moments_repr(PyObject *self) {
  moments *m = (moments *)self;
  PyObject *shape = get_shape(self, NULL);
  PyObject *text = shape ? PyUnicode_FromFormat("Moments(%R%s%s), shape %R", m->pattern, m->rms ? ", rms=True" : "",
                                                m->sizes.used ? ", ..." : "", shape)
                         : NULL;
  Py_XDECREF(shape);
  return text;
}

static PyMethodDef methods[] = {
    {"add", moments_add, METH_O, py_doc_moments_add},
    {"merge", moments_merge, METH_O, py_doc_moments_merge},
    {"finish", (PyCFunction)(void (*)(void))moments_finish, METH_FASTCALL | METH_KEYWORDS, py_doc_moments_finish},
    {"update", (PyCFunction)(void (*)(void))moments_update, METH_FASTCALL | METH_KEYWORDS, py_doc_moments_update},
    {"__reduce__", moments_reduce, METH_NOARGS, NULL},
    {"__setstate__", moments_setstate, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
    {"shape", get_shape, NULL, "The shape of count, mean and variance; None before the first add.", NULL},
    {"count", get_count, NULL, "The number of elements that each unit has seen, an int64 array.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject py_moments_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "norma.Moments",
    .tp_basicsize = sizeof(moments),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = py_doc_moments,
    .tp_new = moments_new,
    .tp_init = moments_init,
    .tp_dealloc = moments_dealloc,
    .tp_repr = moments_repr,
    .tp_methods = methods,
    .tp_getset = attributes,
};
