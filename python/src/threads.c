#include "module.h"

PyObject *py_set_num_threads(PyObject *module, PyObject *argument) {
  (void)module;
  long count = PyLong_AsLong(argument);
  if (count == -1 && PyErr_Occurred()) return NULL;
  if (count < 0 || count > INT_MAX) {
    return PyErr_Format(PyExc_ValueError, "set_num_threads: count is %ld, it must be at least 0", count);
  }
  norma_set_num_threads((int)count);
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
