/* Running statistics of batch and instance norm: torch's rule, updated in place, nothing written on error. */
#include "module.h"

static const char *const names[2] = {"running_mean", "running_var"};

/* 16-bit running statistics are worked on in float32. */
static norma_type work_type(norma_type a, norma_type b) {
  return a == NORMA_F64 || b == NORMA_F64 ? NORMA_F64 : NORMA_F32;
}

int py_running(const char *function, PyObject *mean, PyObject *var, int64_t channels, norma_type x_type, running *r) {
  PyObject *objects[2] = {mean, var};
  norma_type types[2] = {NORMA_F32, NORMA_F32};
  for (int i = 0; i < 2; i++) {
    if (!objects[i]) continue;
    r->array[i] = py_float_array(function, names[i], objects[i], &types[i]);
    if (!r->array[i]) return -1;
    if (types[i] == NORMA_F64 && x_type != NORMA_F64)
      return py_fail(PyExc_TypeError, function,
                     "%s has dtype float64, with an x that is not float64 it must be float32", names[i]);
    if (!py_same_shape(r->array[i], 1, &channels))
      return py_fail(PyExc_ValueError, function, "%s must have one entry for each of the %lld channels of x", names[i],
                     (long long)channels);
    if (!PyArray_Check(objects[i]) && !py_has_dlpack(objects[i]))
      return py_fail(PyExc_TypeError, function, "%s is updated, so it must be an array, not %.80s", names[i],
                     Py_TYPE(objects[i])->tp_name);
    if (!PyArray_ISWRITEABLE(r->array[i]))
      return py_fail(PyExc_ValueError, function, "%s is updated, and this array is read-only", names[i]);
  }
  r->type = work_type(types[0], types[1]);
  for (int i = 0; i < 2; i++) {
    if (!r->array[i]) continue;
    r->work[i] = py_dense((PyArrayObject *)Py_NewRef(r->array[i]), r->type);
    if (!r->work[i]) return -1;
  }
  return py_disjoint(function, names[0], r->array[0], names[1], r->array[1]);
}

static int update(const char *function, running *r, norma_running_args *args) {
  args->size = sizeof *args;
  args->type = r->type;
  args->running_mean = py_data(r->work[0]);
  args->running_var = py_data(r->work[1]);
  norma_error error;
  norma_status status = norma_running_update(args, &error);
  return status ? py_core_error(function, status, &error) : 0;
}

/* Moments without elements move nothing, and all the rest is looked at. */
int py_running_check(const char *function, running *r, norma_running_args *args) {
  norma_running_args trial = *args;
  trial.samples = 1;
  return update(function, r, &trial);
}

int py_running_update(const char *function, running *r, norma_running_args *args) {
  int status = update(function, r, args);
  for (int i = 0; i < 2 && !status; i++)
    if (r->work[i] && r->work[i] != r->array[i]) status = PyArray_CopyInto(r->array[i], r->work[i]);
  return status;
}

void py_running_clear(running *r) {
  for (int i = 0; i < 2; i++) {
    Py_CLEAR(r->array[i]);
    Py_CLEAR(r->work[i]);
  }
}
