/* The default threads and the instruction set. */
#include "module.h"

PyObject *py_set_num_threads(PyObject *module, PyObject *argument) {
  (void)module;
  int64_t count = 0;
  if (py_integer("set_num_threads", "count", argument, &count)) return NULL;
  if (count < 0) return PyErr_Format(PyExc_ValueError, "set_num_threads: count is %R, must be at least 0", argument);
  norma_set_num_threads(count > INT_MAX ? INT_MAX : (int)count);
  Py_RETURN_NONE;
}

PyObject *py_get_num_threads(PyObject *module, PyObject *nothing) {
  (void)module, (void)nothing;
  return PyLong_FromLong(norma_num_threads());
}

PyObject *py_isa(PyObject *module, PyObject *nothing) {
  (void)module, (void)nothing;
  return PyUnicode_FromString(norma_isa());
}
