/* The extension norma._norma: its table of functions. */
#define NORMA_PYTHON_IMPORTS_NUMPY
#include "docs.h"
#include "module.h"

#define FUNCTION(name) \
  { #name, (PyCFunction)(void (*)(void))py_##name, METH_FASTCALL | METH_KEYWORDS, py_doc_##name }

static PyMethodDef methods[] = {
    FUNCTION(layer_norm),
    FUNCTION(rms_norm),
    FUNCTION(group_norm),
    FUNCTION(batch_norm),
    FUNCTION(instance_norm),
    FUNCTION(norm),
    FUNCTION(adain),
    FUNCTION(layer_norm_backward),
    FUNCTION(rms_norm_backward),
    FUNCTION(group_norm_backward),
    FUNCTION(batch_norm_backward),
    FUNCTION(instance_norm_backward),
    FUNCTION(norm_backward),
    FUNCTION(adain_backward),
    {"set_num_threads", py_set_num_threads, METH_O, py_doc_set_num_threads},
    {"get_num_threads", py_get_num_threads, METH_NOARGS, py_doc_get_num_threads},
    {"isa", py_isa, METH_NOARGS, py_doc_isa},
    {NULL, NULL, 0, NULL},
};

/* Caches and interned names are global: one interpreter. */
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "norma._norma", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__norma(void) {
  import_array();
  if (PyType_Ready(&py_moments_type) < 0) return NULL;
  PyObject *module = PyModule_Create(&definition);
  if (module && PyModule_AddObjectRef(module, "Moments", (PyObject *)&py_moments_type) < 0) Py_CLEAR(module);
  return module;
}
