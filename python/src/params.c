/* Arrays per gamma and per unit: checked, and turned into dense arrays of the type that the core takes. They are small,
 * so a copy where they are something else costs nothing that matters. */
#include "module.h"

const int64_t py_per_channel[NORMA_MAX_DIMS] = {0, 1};

void *py_data(PyArrayObject *array) { return array ? PyArray_DATA(array) : NULL; }

/* What a 16-bit or float32 array holds, float32 and float64 hold too; float64 would lose digits in float32. */
static int check_type(const char *function, const char *name, norma_type type, norma_type x_type) {
  if (type != NORMA_F64 || x_type == NORMA_F64) return 0;
  return py_fail(PyExc_TypeError, function, "%s has dtype float64, with an x that is not float64 it must be float32%s",
                 name, x_type == NORMA_F32 ? "" : " or of 16 bits");
}

static int wrong_shape(const char *function, const char *name, PyArrayObject *array, int ndim, const int64_t *shape) {
  npy_intp dims[NORMA_MAX_AXES];
  for (int d = 0; d < ndim; d++) dims[d] = (npy_intp)shape[d];
  PyObject *is = PyArray_IntTupleFromIntp(PyArray_NDIM(array), PyArray_DIMS(array));
  PyObject *right = PyArray_IntTupleFromIntp(ndim, dims);
  if (is && right) py_fail(PyExc_ValueError, function, "%s has shape %R, must be %R", name, is, right);
  Py_XDECREF(is);
  Py_XDECREF(right);
  return -1;
}

static int take(PyArrayObject *array, norma_type x_type, PyArrayObject **taken) {
  *taken = py_dense(array, norma_param_type(x_type));
  return *taken ? 0 : -1;
}

int py_param(const char *function, const char *name, PyObject *object, const norma_layer *layer, norma_type x_type,
             PyArrayObject **param, int *type_number) {
  if (!object) return 0;
  norma_type own;
  int64_t axes[NORMA_MAX_AXES], whole[NORMA_MAX_AXES];
  PyArrayObject *array = py_float_array(function, name, object, &own);
  if (!array) return -1;
  if (type_number) *type_number = PyArray_TYPE(array);
  int status = check_type(function, name, own, x_type), ndim = py_param_shape(layer, true, whole);
  if (!status && ndim == 0) status = py_fail(PyExc_ValueError, function, "%s is given, but affine names no axis", name);
  if (!status && !py_same_shape(array, ndim, whole) && !py_same_shape(array, py_param_shape(layer, false, axes), axes))
    status = wrong_shape(function, name, array, ndim, whole);
  if (!status) return take(array, x_type, param);
  Py_DECREF(array);
  return -1;
}

int py_statistic(const char *function, const char *name, PyObject *object, int ndim, const int64_t *shape,
                 norma_type x_type, PyArrayObject **statistic) {
  if (!object) return 0;
  norma_type own;
  PyArrayObject *array = py_float_array(function, name, object, &own);
  if (!array) return -1;
  int status = check_type(function, name, own, x_type);
  if (!status && !py_same_shape(array, ndim, shape)) status = wrong_shape(function, name, array, ndim, shape);
  if (!status) return take(array, x_type, statistic);
  Py_DECREF(array);
  return -1;
}
