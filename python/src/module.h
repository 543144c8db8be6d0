/* What the files of the extension norma._norma share. Functions that return int give 0, or -1 with a Python error set,
 * whose text starts with the function's name and names the argument. */
#ifndef NORMA_PYTHON_MODULE_H
#define NORMA_PYTHON_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define NPY_NO_DEPRECATED_API NPY_1_23_API_VERSION
#define NPY_TARGET_VERSION NPY_1_23_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL norma_numpy_api
#ifndef NORMA_PYTHON_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include <norma.h>
#include <norma_ragged.h>
#include <stdbool.h>

/* ---------------------------------------------------------------------------------------------------- errors.c --- */

/* Sets `exception` with the text "function: ..."; returns -1. */
int py_fail(PyObject *exception, const char *function, const char *format, ...);
/* The same for a failed call of the core: its words, with the names that the arguments have in Python. */
int py_core_error(const char *function, norma_status status, const norma_error *error);

/* ------------------------------------------------------------------------------------------------- arguments.c --- */

enum { PY_MAX_NAMES = 16 };

/* The arguments of a function: `positional` of them may come by position, the first `required` must be there. */
typedef struct signature {
  const char *function;
  int positional, required;
  const char *names[PY_MAX_NAMES]; /* NULL after the last */
  PyObject *interned[PY_MAX_NAMES];
} signature;

/* Lengths of axes that came as further keywords, as norma_layer_parse takes them: "g=32 k=2". */
typedef struct axis_sizes {
  char text[256];
  size_t used;
} axis_sizes;

/* Sorts the arguments of a METH_FASTCALL | METH_KEYWORDS call into `values`, NULL for one that is absent or None. Other
 * keywords go into `sizes`; they are an error if it is NULL. */
int py_arguments(signature *s, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords, PyObject **values,
                 axis_sizes *sizes);

/* Adds the length of one axis, an integer under its name. */
int py_axis_size(const char *function, PyObject *keyword, PyObject *value, axis_sizes *sizes);

/* A number; a bool; an integer. `value` stays as it is where object is NULL. */
int py_double(const char *function, const char *name, PyObject *object, double *value);
int py_bool(const char *function, const char *name, PyObject *object, bool *value);
int py_integer(const char *function, const char *name, PyObject *object, int64_t *value);
/* One integer or a sequence of up to NORMA_MAX_DIMS of them. */
int py_integers(const char *function, const char *name, PyObject *object, int *count, int64_t *values);
/* A string without NUL; borrowed from the object. */
int py_string(const char *function, const char *name, PyObject *object, const char **text);
/* The position of a string in a list that ends with NULL. */
int py_choice(const char *function, const char *name, PyObject *object, const char *const *list, int *choice);

/* ---------------------------------------------------------------------------------------------------- arrays.c --- */

/* An array as the core sees it. The reference keeps its memory alive while the core computes without the GIL; shape and
 * strides are copies, which other threads cannot change. */
typedef struct tensor {
  PyArrayObject *array; /* owned */
  norma_type type;
  int ndim;
  int64_t shape[NORMA_MAX_DIMS], strides[NORMA_MAX_DIMS];
} tensor;

/* Any array, DLPack object or nested list of one of the four types, of any strides and byte order. */
int py_tensor(const char *function, const char *name, PyObject *object, tensor *t);
/* The same, of the type and shape of another argument. */
int py_tensor_like(const char *function, const char *name, PyObject *object, const char *like_name, const tensor *like,
                   tensor *t);
/* An array to write to: `object`, or a new one in the memory order of `like`. */
int py_output(const char *function, const char *name, PyObject *object, const char *like_name, const tensor *like,
              tensor *t);
/* A float array argument in whatever type and layout it comes; new reference, NULL on error. */
PyArrayObject *py_float_array(const char *function, const char *name, PyObject *object, norma_type *type);
bool py_same_shape(PyArrayObject *array, int ndim, const int64_t *shape);
/* Fails unless the arrays, which may be NULL, share no element. */
int py_disjoint(const char *function, const char *name, PyArrayObject *a, const char *other, PyArrayObject *b);
void py_tensor_clear(tensor *t);

/* A new dense array of float32, or float64. */
PyArrayObject *py_new_array(norma_type type, int ndim, const int64_t *shape);
/* `array` as a dense native array of float32 or float64: itself, or a copy. Takes over the reference. */
PyArrayObject *py_dense(PyArrayObject *array, norma_type type);

/* ---------------------------------------------------------------------------------------------------- dlpack.c --- */

/* Whether the object has __dlpack__. */
bool py_has_dlpack(PyObject *object);
/* A NumPy array on the memory of such an object; new reference, NULL on error. */
PyArrayObject *py_from_dlpack(const char *function, const char *name, PyObject *object);

/* ---------------------------------------------------------------------------------------------------- layers.c --- */

typedef enum layer_kind { LAYER_BATCH, LAYER_INSTANCE, LAYER_GROUP, LAYER_NORM, LAYER_RMS } layer_kind;

/* A layer on tensors of the shape of x, from the cache or made. `number`: the groups of LAYER_GROUP, the bits of the
 * normalized dimensions of LAYER_NORM and LAYER_RMS. */
int py_layer(const char *function, layer_kind kind, int64_t number, const tensor *x, norma_layer *layer);
int py_pattern_layer(const char *function, const char *pattern, const char *affine, const char *sizes, bool rms,
                     const tensor *x, norma_layer *layer);
/* The bits of the dimensions that normalized_shape and axes= name. */
int py_normalized_dims(const char *function, PyObject *normalized_shape, PyObject *axes, const tensor *x,
                       int64_t *dims);

/* Shapes of arrays per gamma, an entry per axis or per dimension of x (`whole`), and per unit, an entry per axis, with
 * `keep` also for what is shared, 1. Return the number of entries. */
int py_param_shape(const norma_layer *layer, bool whole, int64_t *shape);
int py_unit_shape(const norma_layer *layer, bool keep, int64_t *shape);

/* ---------------------------------------------------------------------------------------------------- params.c --- */

/* weight or bias, of either shape of py_param_shape, dense, of the type that goes with x; NULL if object is. NumPy's
 * number of the type that it had goes to `type_number`, which may be NULL. */
int py_param(const char *function, const char *name, PyObject *object, const norma_layer *layer, norma_type x_type,
             PyArrayObject **param, int *type_number);
/* A statistic of the given shape, in the same way. */
int py_statistic(const char *function, const char *name, PyObject *object, int ndim, const int64_t *shape,
                 norma_type x_type, PyArrayObject **statistic);
/* The data of an array, NULL for NULL. */
void *py_data(PyArrayObject *array);
/* Strides of statistics per channel, for a layer with units per sample and channel. */
extern const int64_t py_per_channel[NORMA_MAX_DIMS];

/* ---------------------------------------------------------------------------------------------------- ragged.c --- */

/* Which positions are valid, with the memory that says so; all zero: no padding. */
typedef struct ragged {
  norma_ragged valid;
  PyArrayObject *held; /* owned */
  int64_t strides[NORMA_MAX_DIMS];
} ragged;

/* Reads lengths, mask, pad and dim, four values in this order. `dims`: what LAYER_NORM and LAYER_RMS normalize. */
int py_ragged(const char *function, layer_kind kind, int64_t dims, const tensor *x, PyObject *const *values, ragged *r);

/* --------------------------------------------------------------------------------------------------- forward.c --- */

/* One forward call; all references are owned. */
typedef struct forward {
  const char *function;
  norma_layer layer;
  tensor x, y;
  PyArrayObject *weight, *bias, *given_mean, *given_var, *mean, *rstd;
  bool given_per_channel; /* given_mean and given_var do not vary along dimension 0 */
  norma_moments *moments; /* owned */
  bool keep_dims;         /* return_stats: shapes as py_unit_shape takes it */
  bool return_stats;
  unsigned flags;
  double eps;
  norma_activation activation;
  ragged ragged;
} forward;

/* All arrays but x, once x and the layer are there: y is `out` or new. Then the call. */
int py_forward_arrays(forward *f, PyObject *weight, PyObject *bias, PyObject *eps, PyObject *out,
                      PyObject *return_stats);
int py_forward_run(forward *f);
/* What Python gets: y, or (y, mean, rstd), (y, rstd) for RMS. `status` -1: NULL. Lets go of everything. */
PyObject *py_forward_finish(forward *f, PyObject *out, int status);

/* -------------------------------------------------------------------------------------------------- backward.c --- */

/* One backward call; all references are owned. */
typedef struct backward {
  const char *function;
  norma_layer layer;
  tensor x, dy, dx;
  PyArrayObject *weight, *bias, *given_mean, *given_var, *dweight, *dbias;
  bool given_per_channel; /* given_mean and given_var do not vary along dimension 0 */
  int weight_type;        /* NumPy's number of the type that weight had, and that dweight and dbias get */
  unsigned flags;
  double eps;
  norma_activation activation;
  ragged ragged;
} backward;

int py_backward_arrays(backward *b, PyObject *dy, PyObject *weight, PyObject *eps);
int py_backward_run(backward *b);
/* What Python gets: (dx, dweight, dbias), without dbias for RMS, dx alone without an affine list. `status` -1: NULL.
 * Lets go of everything. */
PyObject *py_backward_finish(backward *b, int status);
/* For norm() and its twin: NORMA_ACT_NONE, and the others, by position. */
extern const char *const py_activations[];

/* --------------------------------------------------------------------------------------------------- running.c --- */

/* Running statistics that a call updates: the caller's arrays, and what the core works on, which is a copy where they
 * are not dense arrays of one type. */
typedef struct running {
  PyArrayObject *array[2], *work[2]; /* mean, var; each may be NULL; owned */
  norma_type type;
} running;

int py_running(const char *function, PyObject *mean, PyObject *var, int64_t channels, norma_type x_type, running *r);
/* Checks all that an update could fail on, or updates. `samples` and `moments` as in norma_running_args. */
int py_running_check(const char *function, running *r, norma_running_args *args);
int py_running_update(const char *function, running *r, norma_running_args *args);
void py_running_clear(running *r);

/* -------------------------------------------------------------------------------------- functions of the module --- */

typedef PyObject *py_function(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords);

py_function py_layer_norm, py_rms_norm, py_group_norm, py_norm;
py_function py_layer_norm_backward, py_rms_norm_backward, py_group_norm_backward, py_norm_backward;
py_function py_batch_norm, py_instance_norm, py_batch_norm_backward, py_instance_norm_backward;
py_function py_adain, py_adain_backward;
PyObject *py_set_num_threads(PyObject *module, PyObject *argument);
PyObject *py_get_num_threads(PyObject *module, PyObject *nothing);
PyObject *py_isa(PyObject *module, PyObject *nothing);

extern PyTypeObject py_moments_type;

#endif
