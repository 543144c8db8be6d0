/* Arguments that are no arrays: sorting them by name, numbers, strings. */
#include "module.h"

#include <stdio.h>
#include <string.h>

static int intern_names(signature *s) {
  for (int i = 0; s->names[i] && !s->interned[i]; i++) {
    s->interned[i] = PyUnicode_InternFromString(s->names[i]);
    if (!s->interned[i]) return -1;
  }
  return 0;
}

/* The index of a keyword, -1 if the function has none of that name. Names in source code are interned. */
static int find_name(const signature *s, PyObject *keyword) {
  for (int i = 0; s->names[i]; i++)
    if (s->interned[i] == keyword) return i;
  for (int i = 0; s->names[i]; i++)
    if (PyUnicode_CompareWithASCIIString(keyword, s->names[i]) == 0) return i;
  return -1;
}

int py_axis_size(const char *function, PyObject *keyword, PyObject *value, axis_sizes *sizes) {
  const char *name = PyUnicode_AsUTF8(keyword);
  int64_t length = 0;
  if (!name) return -1;
  if (!PyIndex_Check(value))
    return py_fail(PyExc_TypeError, function,
                   "%s is no argument; as the length of an axis it must be an integer, not %.80s", name,
                   Py_TYPE(value)->tp_name);
  if (py_integer(function, name, value, &length)) return -1;
  size_t room = sizeof sizes->text - sizes->used;
  int wrote = snprintf(sizes->text + sizes->used, room, "%s%s=%lld", sizes->used ? " " : "", name, (long long)length);
  if (wrote < 0 || (size_t)wrote >= room) return py_fail(PyExc_ValueError, function, "too many lengths of axes");
  sizes->used += (size_t)wrote;
  return 0;
}

static int add_keyword(signature *s, PyObject *keyword, PyObject *value, PyObject **values, axis_sizes *sizes) {
  int i = find_name(s, keyword);
  if (i < 0 && sizes) return py_axis_size(s->function, keyword, value, sizes);
  if (i < 0) return py_fail(PyExc_TypeError, s->function, "there is no argument '%U'", keyword);
  if (values[i]) return py_fail(PyExc_TypeError, s->function, "%s is given twice", s->names[i]);
  values[i] = value;
  return 0;
}

int py_arguments(signature *s, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords, PyObject **values,
                 axis_sizes *sizes) {
  if (!s->interned[0] && intern_names(s)) return -1;
  if (count > s->positional)
    return py_fail(PyExc_TypeError, s->function, "%zd arguments by position, there are %d", count, s->positional);
  int total = 0;
  for (; s->names[total]; total++) values[total] = total < count ? arguments[total] : NULL;
  Py_ssize_t named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
  for (Py_ssize_t i = 0; i < named; i++)
    if (add_keyword(s, PyTuple_GET_ITEM(keywords, i), arguments[count + i], values, sizes)) return -1;
  for (int i = 0; i < s->required; i++)
    if (!values[i]) return py_fail(PyExc_TypeError, s->function, "the argument %s is missing", s->names[i]);
  for (int i = 0; i < total; i++)
    if (values[i] == Py_None) values[i] = NULL;
  return 0;
}

/* Replaces a TypeError by one that names the argument; other errors stay. */
static int wrong_type(const char *function, const char *name, const char *right, PyObject *object) {
  if (!PyErr_ExceptionMatches(PyExc_TypeError)) return -1;
  return py_fail(PyExc_TypeError, function, "%s must be %s, not %.80s", name, right, Py_TYPE(object)->tp_name);
}

int py_double(const char *function, const char *name, PyObject *object, double *value) {
  if (!object) return 0;
  *value = PyFloat_AsDouble(object);
  return *value == -1 && PyErr_Occurred() ? wrong_type(function, name, "a number", object) : 0;
}

int py_bool(const char *function, const char *name, PyObject *object, bool *value) {
  if (!object) return 0;
  if (!PyBool_Check(object) && !PyArray_IsScalar(object, Bool) && !PyLong_Check(object))
    return py_fail(PyExc_TypeError, function, "%s must be a bool, not %.80s", name, Py_TYPE(object)->tp_name);
  int truth = PyObject_IsTrue(object);
  *value = truth == 1;
  return truth < 0 ? -1 : 0;
}

int py_integer(const char *function, const char *name, PyObject *object, int64_t *value) {
  if (!object) return 0;
  PyObject *integer = PyNumber_Index(object);
  if (!integer) return wrong_type(function, name, "an integer", object);
  int overflow;
  *value = PyLong_AsLongLongAndOverflow(integer, &overflow);
  Py_DECREF(integer);
  return overflow ? py_fail(PyExc_ValueError, function, "%s is %R, which is too large", name, object) : 0;
}

int py_integers(const char *function, const char *name, PyObject *object, int *count, int64_t *values) {
  *count = 1;
  if (PyIndex_Check(object) && !PyArray_Check(object)) return py_integer(function, name, object, values);
  PyObject *list = PySequence_Tuple(object);
  if (!list) return wrong_type(function, name, "an integer or a sequence of integers", object);
  Py_ssize_t length = PyTuple_GET_SIZE(list);
  int status = 0;
  if (length > NORMA_MAX_DIMS)
    status = py_fail(PyExc_ValueError, function, "%s has %zd entries, at most %d dimensions are possible", name, length,
                     NORMA_MAX_DIMS);
  for (Py_ssize_t i = 0; i < length && !status; i++)
    status = py_integer(function, name, PyTuple_GET_ITEM(list, i), &values[i]);
  *count = (int)length;
  Py_DECREF(list);
  return status;
}

int py_string(const char *function, const char *name, PyObject *object, const char **text) {
  if (!object) return 0;
  if (!PyUnicode_Check(object))
    return py_fail(PyExc_TypeError, function, "%s must be a string, not %.80s", name, Py_TYPE(object)->tp_name);
  Py_ssize_t length;
  *text = PyUnicode_AsUTF8AndSize(object, &length);
  if (!*text) return -1;
  return (size_t)length == strlen(*text) ? 0 : py_fail(PyExc_ValueError, function, "%s holds a NUL character", name);
}

int py_choice(const char *function, const char *name, PyObject *object, const char *const *list, int *choice) {
  const char *text = NULL;
  if (py_string(function, name, object, &text)) return -1;
  if (!text) return 0;
  char right[128] = "";
  for (int i = 0; list[i]; i++) {
    if (strcmp(list[i], text) == 0) return *choice = i, 0;
    size_t used = strlen(right);
    snprintf(right + used, sizeof right - used, "%s'%s'", i ? ", " : "", list[i]);
  }
  return py_fail(PyExc_ValueError, function, "%s is '%.40s', must be one of %s", name, text, right);
}
