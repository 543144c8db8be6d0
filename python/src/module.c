/* The extension norma._norma. */
#include "module.h"

static PyMethodDef methods[] = {
    {"set_num_threads", py_set_num_threads, METH_O, NULL},
    {"get_num_threads", py_get_num_threads, METH_NOARGS, NULL},
    {"isa", py_isa, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "norma._norma", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__norma(void) { return PyModule_Create(&definition); }
