/* Arrays from Python as the core takes them: one of four types, any strides, native bytes. */
#include "module.h"

#include <string.h>

/* bfloat16 is a type that another package (ml_dtypes) adds to NumPy, found by its name. */
static bool is_bfloat16(PyArrayObject *array) {
  PyArray_Descr *descr = PyArray_DESCR(array);
  if (PyArray_ITEMSIZE(array) != 2 || PyTypeNum_ISNUMBER(descr->type_num) || !descr->typeobj) return false;
  const char *name = descr->typeobj->tp_name, *dot = strrchr(name, '.');
  return strcmp(dot ? dot + 1 : name, "bfloat16") == 0;
}

static int find_type(PyArrayObject *array, norma_type *type) {
  switch (PyArray_TYPE(array)) {
    case NPY_FLOAT: *type = NORMA_F32; return 0;
    case NPY_DOUBLE: *type = NORMA_F64; return 0;
    case NPY_HALF: *type = NORMA_F16; return 0;
    default: *type = NORMA_BF16; return is_bfloat16(array) ? 0 : -1;
  }
}

/* A masked array would be normalized without its mask. */
static int refuse_masked(const char *function, const char *name, PyObject *object) {
  PyObject *module = PyImport_ImportModule("numpy.ma");
  PyObject *type = module ? PyObject_GetAttrString(module, "MaskedArray") : NULL;
  int masked = type ? PyObject_IsInstance(object, type) : -1;
  Py_XDECREF(module);
  Py_XDECREF(type);
  if (masked == 1) py_fail(PyExc_TypeError, function, "%s is a masked array, whose mask would be ignored", name);
  return masked == 0 ? 0 : -1;
}

static PyArrayObject *to_array(const char *function, const char *name, PyObject *object) {
  if (!object) return py_fail(PyExc_TypeError, function, "%s is None, must be an array", name), NULL;
  if (PyArray_Check(object)) {
    if (!PyArray_CheckExact(object) && refuse_masked(function, name, object)) return NULL;
    return (PyArrayObject *)Py_NewRef(object);
  }
  if (py_has_dlpack(object)) return py_from_dlpack(function, name, object);
  PyObject *array = PyArray_FromAny(object, NULL, 0, 0, 0, NULL);
  if (array) return (PyArrayObject *)array;
  if (PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_ValueError))
    py_fail(PyExc_TypeError, function, "%s is no array and cannot be made one: %.80s", name, Py_TYPE(object)->tp_name);
  return NULL;
}

PyArrayObject *py_float_array(const char *function, const char *name, PyObject *object, norma_type *type) {
  PyArrayObject *array = to_array(function, name, object);
  if (!array || find_type(array, type) == 0) return array;
  py_fail(PyExc_TypeError, function, "%s has dtype %S, must be float32, float64, float16 or bfloat16", name,
          PyArray_DESCR(array));
  Py_DECREF(array);
  return NULL;
}

/* A copy with this machine's bytes, in the same memory order. */
static PyArrayObject *native(PyArrayObject *array) {
  PyArray_Descr *descr = PyArray_DescrFromType(PyArray_TYPE(array));
  PyObject *copy = descr ? PyArray_NewLikeArray(array, NPY_KEEPORDER, descr, 0) : NULL;
  if (copy && PyArray_CopyInto((PyArrayObject *)copy, array)) Py_CLEAR(copy);
  Py_DECREF(array);
  return (PyArrayObject *)copy;
}

/* Shape and strides of t->array; strides of lengths 0 and 1 mean nothing in NumPy. */
static int read_layout(const char *function, const char *name, tensor *t) {
  const npy_intp *shape = PyArray_DIMS(t->array), *strides = PyArray_STRIDES(t->array);
  npy_intp item = PyArray_ITEMSIZE(t->array);
  t->ndim = PyArray_NDIM(t->array);
  if (t->ndim > NORMA_MAX_DIMS)
    return py_fail(PyExc_ValueError, function, "%s has %d dimensions, at most %d are possible", name, t->ndim,
                   NORMA_MAX_DIMS);
  bool empty = PyArray_SIZE(t->array) == 0;
  for (int d = 0; d < t->ndim; d++) {
    t->shape[d] = shape[d];
    t->strides[d] = shape[d] > 1 && !empty ? strides[d] / item : 1;
    if (shape[d] > 1 && !empty && strides[d] % item != 0)
      return py_fail(PyExc_TypeError, function, "%s has a stride of %zd bytes, no multiple of the %zd of an element",
                     name, strides[d], item);
  }
  return 0;
}

int py_tensor(const char *function, const char *name, PyObject *object, tensor *t) {
  t->array = py_float_array(function, name, object, &t->type);
  if (t->array && PyArray_ISBYTESWAPPED(t->array)) t->array = native(t->array);
  return t->array ? read_layout(function, name, t) : -1;
}

void py_tensor_clear(tensor *t) { Py_CLEAR(t->array); }

bool py_same_shape(PyArrayObject *array, int ndim, const int64_t *shape) {
  if (PyArray_NDIM(array) != ndim) return false;
  for (int d = 0; d < ndim; d++)
    if (PyArray_DIM(array, d) != shape[d]) return false;
  return true;
}

static int check_like(const char *function, const char *name, const char *like_name, const tensor *like,
                      const tensor *t) {
  if (t->type != like->type)
    return py_fail(PyExc_TypeError, function, "%s has dtype %S, must be %S as %s", name, PyArray_DESCR(t->array),
                   PyArray_DESCR(like->array), like_name);
  if (py_same_shape(t->array, like->ndim, like->shape)) return 0;
  PyObject *is = PyArray_IntTupleFromIntp(PyArray_NDIM(t->array), PyArray_DIMS(t->array));
  PyObject *right = PyArray_IntTupleFromIntp(like->ndim, PyArray_DIMS(like->array));
  if (is && right) py_fail(PyExc_ValueError, function, "%s has shape %R, must be %R as %s", name, is, right, like_name);
  Py_XDECREF(is);
  Py_XDECREF(right);
  return -1;
}

int py_tensor_like(const char *function, const char *name, PyObject *object, const char *like_name, const tensor *like,
                   tensor *t) {
  int status = py_tensor(function, name, object, t);
  return status ? status : check_like(function, name, like_name, like, t);
}

int py_output(const char *function, const char *name, PyObject *object, const char *like_name, const tensor *like,
              tensor *t) {
  if (!object) {
    t->array = (PyArrayObject *)PyArray_NewLikeArray(like->array, NPY_KEEPORDER, NULL, 0);
    t->type = like->type;
    return t->array ? read_layout(function, name, t) : -1;
  }
  if (!PyArray_Check(object) && !py_has_dlpack(object))
    return py_fail(PyExc_TypeError, function, "%s must be an array, not %.80s", name, Py_TYPE(object)->tp_name);
  t->array = py_float_array(function, name, object, &t->type);
  if (!t->array || read_layout(function, name, t) || check_like(function, name, like_name, like, t)) return -1;
  if (PyArray_ISBYTESWAPPED(t->array))
    return py_fail(PyExc_TypeError, function, "%s has dtype %S, its bytes must be in native order", name,
                   PyArray_DESCR(t->array));
  if (!PyArray_ISWRITEABLE(t->array)) return py_fail(PyExc_ValueError, function, "%s is read-only", name);
  return 0;
}

PyArrayObject *py_new_array(norma_type type, int ndim, const int64_t *shape) {
  npy_intp dims[NORMA_MAX_AXES];
  for (int d = 0; d < ndim; d++) dims[d] = (npy_intp)shape[d];
  return (PyArrayObject *)PyArray_SimpleNew(ndim, dims, type == NORMA_F64 ? NPY_DOUBLE : NPY_FLOAT);
}

PyArrayObject *py_dense(PyArrayObject *array, norma_type type) {
  int wanted = type == NORMA_F64 ? NPY_DOUBLE : NPY_FLOAT;
  if (PyArray_TYPE(array) == wanted && PyArray_ISCARRAY_RO(array)) return array;
  PyObject *dense = PyArray_FromArray(array, PyArray_DescrFromType(wanted),
                                      NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED | NPY_ARRAY_FORCECAST);
  Py_DECREF(array);
  return (PyArrayObject *)dense;
}

/* The first byte of an array and the one after its last. */
static void extent(PyArrayObject *array, const char **first, const char **end) {
  *first = PyArray_BYTES(array), *end = *first + PyArray_ITEMSIZE(array);
  for (int d = 0; d < PyArray_NDIM(array); d++) {
    npy_intp reach = PyArray_STRIDE(array, d) * (PyArray_DIM(array, d) - 1);
    if (reach < 0) *first += reach;
    else *end += reach;
  }
}

int py_disjoint(const char *function, const char *name, PyArrayObject *a, const char *other, PyArrayObject *b) {
  if (!a || !b || PyArray_SIZE(a) == 0 || PyArray_SIZE(b) == 0) return 0;
  const char *a_first, *a_end, *b_first, *b_end;
  extent(a, &a_first, &a_end);
  extent(b, &b_first, &b_end);
  if (a_end <= b_first || b_end <= a_first) return 0;
  PyObject *numpy = PyImport_ImportModule("numpy");
  PyObject *answer = numpy ? PyObject_CallMethod(numpy, "shares_memory", "OO", a, b) : NULL;
  int shared = answer ? PyObject_IsTrue(answer) : -1;
  Py_XDECREF(numpy);
  Py_XDECREF(answer);
  if (shared == 1) py_fail(PyExc_ValueError, function, "%s overlaps %s: they must not share memory", name, other);
  return shared == 0 ? 0 : -1;
}
