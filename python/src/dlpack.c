/* Arrays of other libraries, by the DLPack protocol. NumPy's own from_dlpack knows no bfloat16. */
#include "module.h"

/* The structs of the protocol, as its specification lays them out in memory. */
typedef struct dl_tensor {
  void *data;
  int32_t device_type, device_id;
  int32_t ndim;
  uint8_t type_code, type_bits;
  uint16_t type_lanes;
  int64_t *shape, *strides;
  uint64_t byte_offset;
} dl_tensor;

typedef struct dl_managed {
  dl_tensor tensor;
  void *context;
  void (*deleter)(struct dl_managed *self);
} dl_managed;

typedef struct dl_versioned {
  uint32_t major, minor;
  void *context;
  void (*deleter)(struct dl_versioned *self);
  uint64_t flags;
  dl_tensor tensor;
} dl_versioned;

enum { DEVICE_CPU = 1, CODE_FLOAT = 2, CODE_BFLOAT = 4, FLAG_READ_ONLY = 1 };

static const char *const plain_name = "dltensor", *const versioned_name = "dltensor_versioned";
/* Capsules of ours, which own what they hold and are the base object of the array. */
static const char *const plain_owner = "norma_dltensor", *const versioned_owner = "norma_dltensor_versioned";

bool py_has_dlpack(PyObject *object) { return PyObject_HasAttrString((PyObject *)Py_TYPE(object), "__dlpack__"); }

static void drop_plain(PyObject *capsule) {
  dl_managed *managed = PyCapsule_GetPointer(capsule, plain_owner);
  if (managed && managed->deleter) managed->deleter(managed);
}

static void drop_versioned(PyObject *capsule) {
  dl_versioned *managed = PyCapsule_GetPointer(capsule, versioned_owner);
  if (managed && managed->deleter) managed->deleter(managed);
}

/* object.__dlpack__(max_version=(1, 0)), without the keyword where the producer is older. */
static PyObject *export(PyObject *object) {
  PyObject *method = PyObject_GetAttrString(object, "__dlpack__");
  PyObject *none = PyTuple_New(0), *keywords = Py_BuildValue("{s:(ii)}", "max_version", 1, 0);
  PyObject *capsule = method && none && keywords ? PyObject_Call(method, none, keywords) : NULL;
  if (!capsule && method && none && keywords && PyErr_ExceptionMatches(PyExc_TypeError)) {
    PyErr_Clear();
    capsule = PyObject_CallNoArgs(method);
  }
  Py_XDECREF(method);
  Py_XDECREF(none);
  Py_XDECREF(keywords);
  return capsule;
}

/* The text of the current error, under the name of the argument. */
static int rename_error(const char *function, const char *name) {
  PyObject *type, *value, *trace;
  PyErr_Fetch(&type, &value, &trace);
  py_fail(PyExc_TypeError, function, "%s cannot be read by DLPack: %S", name, value ? value : type);
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(trace);
  return -1;
}

/* The type of the protocol as NumPy's, new reference. */
static PyArray_Descr *find_descr(const char *function, const char *name, const dl_tensor *t) {
  if (t->type_lanes == 1 && t->type_code == CODE_FLOAT && t->type_bits == 32) return PyArray_DescrFromType(NPY_FLOAT);
  if (t->type_lanes == 1 && t->type_code == CODE_FLOAT && t->type_bits == 64) return PyArray_DescrFromType(NPY_DOUBLE);
  if (t->type_lanes == 1 && t->type_code == CODE_FLOAT && t->type_bits == 16) return PyArray_DescrFromType(NPY_HALF);
  if (t->type_lanes != 1 || t->type_code != CODE_BFLOAT || t->type_bits != 16) {
    py_fail(PyExc_TypeError, function,
            "%s has DLPack type code %d of %d bits, must be float32, float64, float16 or "
            "bfloat16",
            name, t->type_code, t->type_bits);
    return NULL;
  }
  PyArray_Descr *descr = NULL;
  PyObject *module = PyImport_ImportModule("ml_dtypes");
  PyObject *type = module ? PyObject_GetAttrString(module, "bfloat16") : NULL;
  if (!type) py_fail(PyExc_TypeError, function, "%s is bfloat16, which NumPy has by the package ml_dtypes only", name);
  else if (!PyArray_DescrConverter(type, &descr)) descr = NULL;
  Py_XDECREF(module);
  Py_XDECREF(type);
  return descr;
}

/* An array on t, which lives as long as `owner`. Takes over the reference to owner. */
static PyArrayObject *view(const char *function, const char *name, const dl_tensor *t, bool writeable,
                           PyObject *owner) {
  npy_intp shape[NORMA_MAX_DIMS], strides[NORMA_MAX_DIMS], dense = t->type_bits / 8;
  if (t->device_type != DEVICE_CPU) {
    py_fail(PyExc_TypeError, function, "%s is on a device of DLPack type %d, must be on the CPU", name, t->device_type);
  } else if (t->ndim > NORMA_MAX_DIMS) {
    py_fail(PyExc_ValueError, function, "%s has %d dimensions, at most %d are possible", name, t->ndim, NORMA_MAX_DIMS);
  } else {
    for (int d = t->ndim - 1; d >= 0; d--) {
      shape[d] = (npy_intp)t->shape[d];
      strides[d] = t->strides ? (npy_intp)t->strides[d] * (t->type_bits / 8) : dense;
      dense *= shape[d];
    }
    PyArray_Descr *descr = find_descr(function, name, t);
    char *data = (char *)t->data + t->byte_offset;
    PyObject *array = descr ? PyArray_NewFromDescr(&PyArray_Type, descr, t->ndim, shape, strides, data,
                                                   writeable ? NPY_ARRAY_WRITEABLE : 0, NULL)
                            : NULL;
    if (array && PyArray_SetBaseObject((PyArrayObject *)array, owner) == 0) return (PyArrayObject *)array;
    if (array) return Py_DECREF(array), NULL; /* SetBaseObject took the owner */
  }
  Py_DECREF(owner);
  return NULL;
}

PyArrayObject *py_from_dlpack(const char *function, const char *name, PyObject *object) {
  PyObject *capsule = export(object), *owner = NULL;
  PyArrayObject *array = NULL;
  if (!capsule) return rename_error(function, name), NULL;
  if (PyCapsule_IsValid(capsule, versioned_name)) {
    dl_versioned *managed = PyCapsule_GetPointer(capsule, versioned_name);
    if (managed->major != 1) {
      py_fail(PyExc_TypeError, function, "%s has DLPack version %u, must be 1", name, managed->major);
    } else if (PyCapsule_SetName(capsule, "used_dltensor_versioned") == 0) {
      owner = PyCapsule_New(managed, versioned_owner, drop_versioned);
      if (owner) array = view(function, name, &managed->tensor, !(managed->flags & FLAG_READ_ONLY), owner);
    }
  } else if (PyCapsule_IsValid(capsule, plain_name)) {
    dl_managed *managed = PyCapsule_GetPointer(capsule, plain_name);
    if (PyCapsule_SetName(capsule, "used_dltensor") == 0) {
      owner = PyCapsule_New(managed, plain_owner, drop_plain);
      if (owner) array = view(function, name, &managed->tensor, true, owner);
    }
  } else {
    py_fail(PyExc_TypeError, function, "%s: __dlpack__ gave no DLPack capsule", name);
  }
  Py_DECREF(capsule);
  return array;
}
