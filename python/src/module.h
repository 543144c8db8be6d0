/* What the files of the extension norma._norma share. */
#ifndef NORMA_PYTHON_MODULE_H
#define NORMA_PYTHON_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <norma.h>

PyObject *py_set_num_threads(PyObject *module, PyObject *argument);
PyObject *py_get_num_threads(PyObject *module, PyObject *nothing);
PyObject *py_isa(PyObject *module, PyObject *nothing);

#endif
