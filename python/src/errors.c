/* How errors are said: which function, which argument, what would be right. */
#include "module.h"

#include <ctype.h>
#include <string.h>

int py_fail(PyObject *exception, const char *function, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  PyObject *text = PyUnicode_FromFormatV(format, arguments);
  va_end(arguments);
  if (text) PyErr_Format(exception, "%s: %U", function, text);
  Py_XDECREF(text);
  return -1;
}

/* The core's names of arguments, and Python's. */
static const char *renamed(const char *function, const char *word, size_t length) {
  static const char *const names[][2] = {{"y", "out"},
                                         {"groups", "num_groups"},
                                         {"given_mean", "running_mean"},
                                         {"given_var", "running_var"},
                                         {"content_eps", "eps"},
                                         {"ndim", "x.ndim"},
                                         {"NULL", "None"}};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (strlen(names[i][0]) != length || strncmp(names[i][0], word, length) != 0) continue;
    bool general = strncmp(function, "norm", 4) == 0 && strncmp(names[i][0], "given_", 6) == 0;
    return general ? names[i][0] + strlen("given_") : names[i][1];
  }
  return NULL;
}

static bool in_word(char c) { return isalnum((unsigned char)c) || c == '_'; }

int py_core_error(const char *function, norma_status status, const norma_error *error) {
  if (status == NORMA_NO_MEMORY) {
    PyErr_NoMemory();
    return -1;
  }
  char text[2 * sizeof error->detail];
  size_t used = 0;
  for (const char *c = error->detail; *c && used < sizeof text - 32;) {
    size_t length = 0;
    while (in_word(c[length])) length++;
    const char *name = length > 0 ? renamed(function, c, length) : NULL;
    if (length == 0) length = 1;
    size_t size = name ? strlen(name) : length;
    if (size > sizeof text - 1 - used) break;
    memcpy(text + used, name ? name : c, size);
    used += size;
    c += length;
  }
  text[used] = 0;
  return py_fail(PyExc_ValueError, function, "%s", text);
}
