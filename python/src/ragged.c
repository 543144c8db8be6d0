/* lengths= and mask=: which positions of x are valid. Both are copied, because another thread could change them while
 * the core computes and counts on them. */
#include "module.h"

/* The order of the values that py_ragged takes. */
enum { LENGTHS, MASK, PAD, DIM };

static const char *const pads[] = {"zero", "beta", NULL};

static PyArrayObject *to_copy(const char *function, const char *name, PyObject *object) {
  PyObject *array = PyArray_FromAny(object, NULL, 0, 0, 0, NULL);
  if (!array) {
    PyErr_Clear();
    py_fail(PyExc_TypeError, function, "%s is no array and cannot be made one: %.80s", name, Py_TYPE(object)->tp_name);
    return NULL;
  }
  PyArrayObject *copy = (PyArrayObject *)PyArray_NewCopy((PyArrayObject *)array, NPY_CORDER);
  Py_DECREF(array);
  return copy;
}

static int read_lengths(const char *function, PyObject *object, const tensor *x, ragged *r) {
  PyArrayObject *copy = to_copy(function, "lengths", object);
  if (!copy) return -1;
  if (!PyArray_ISINTEGER(copy) && PyArray_SIZE(copy) > 0) {
    py_fail(PyExc_TypeError, function, "lengths has dtype %S, must be of integers", PyArray_DESCR(copy));
    Py_DECREF(copy);
    return -1;
  }
  r->held = (PyArrayObject *)PyArray_FromArray(copy, PyArray_DescrFromType(NPY_INT64),
                                               NPY_ARRAY_CARRAY | NPY_ARRAY_NOTSWAPPED | NPY_ARRAY_FORCECAST);
  Py_DECREF(copy);
  if (!r->held) return -1;
  if (!py_same_shape(r->held, 1, x->shape))
    return py_fail(PyExc_ValueError, function, "lengths must have one entry for each of the %lld samples of x",
                   (long long)x->shape[0]);
  r->valid.lengths = PyArray_DATA(r->held);
  return 0;
}

/* The mask's strides along the dimensions of x: all of them, or those that are not in `without`. */
static int place_mask(const char *function, const tensor *x, unsigned without, ragged *r) {
  bool whole = PyArray_NDIM(r->held) == x->ndim;
  int next = 0;
  bool fits = true;
  for (int d = 0; d < x->ndim; d++) {
    if (!whole && without >> d & 1) continue;
    if (next >= PyArray_NDIM(r->held)) {
      fits = false;
      break;
    }
    int64_t length = PyArray_DIM(r->held, next);
    fits = fits && (length == x->shape[d] || length == 1);
    r->strides[d] = length == 1 ? 0 : PyArray_STRIDE(r->held, next);
    next++;
  }
  if (fits && next == PyArray_NDIM(r->held)) return 0;
  PyObject *shape = PyArray_IntTupleFromIntp(PyArray_NDIM(r->held), PyArray_DIMS(r->held));
  PyObject *right = PyArray_IntTupleFromIntp(x->ndim, PyArray_DIMS(x->array));
  if (shape && right)
    py_fail(PyExc_ValueError, function,
            "mask has shape %R, must be x's shape %R without %s, or have an entry for each dimension of x, its length "
            "or 1",
            shape, right, without == 2 ? "the channels" : "what is normalized");
  Py_XDECREF(shape);
  Py_XDECREF(right);
  return -1;
}

static int read_mask(const char *function, PyObject *object, const tensor *x, unsigned without, ragged *r) {
  r->held = to_copy(function, "mask", object);
  if (!r->held) return -1;
  if (PyArray_TYPE(r->held) != NPY_BOOL && PyArray_TYPE(r->held) != NPY_UINT8)
    return py_fail(PyExc_TypeError, function, "mask has dtype %S, must be bool or uint8", PyArray_DESCR(r->held));
  r->valid.mask = PyArray_DATA(r->held);
  r->valid.mask_strides = r->strides;
  return place_mask(function, x, without, r);
}

int py_ragged(const char *function, layer_kind kind, int64_t dims, const tensor *x, PyObject *const *v, ragged *r) {
  bool channels = kind != LAYER_NORM && kind != LAYER_RMS;
  unsigned without = channels ? 2 : (unsigned)dims;
  int64_t dim = without == 2 ? x->ndim - 1 : 1;
  int pad = 0;
  if (!v[LENGTHS] && !v[MASK]) {
    if (!v[PAD] && !v[DIM]) return 0;
    return py_fail(PyExc_ValueError, function, "%s is given, but neither lengths nor mask", v[PAD] ? "pad" : "dim");
  }
  if (v[LENGTHS] && v[MASK])
    return py_fail(PyExc_ValueError, function, "lengths and mask are both given: one of them is right");
  if (v[MASK] && v[DIM]) return py_fail(PyExc_ValueError, function, "dim belongs to lengths, and mask is given");
  if (py_choice(function, "pad", v[PAD], pads, &pad)) return -1;
  if (v[DIM] && py_integer(function, "dim", v[DIM], &dim)) return -1;
  if (dim < -x->ndim || dim >= x->ndim)
    return py_fail(PyExc_ValueError, function, "dim is %lld, but x has %d dimensions", (long long)dim, x->ndim);
  r->valid.size = sizeof r->valid;
  r->valid.dim = (int)(dim < 0 ? dim + x->ndim : dim);
  r->valid.padding = pad ? NORMA_PAD_BETA : NORMA_PAD_ZERO;
  return v[LENGTHS] ? read_lengths(function, v[LENGTHS], x, r) : read_mask(function, v[MASK], x, without, r);
}
