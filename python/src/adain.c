/* AdaIN: the content takes the mean and standard deviation of the style. */
#include "module.h"

typedef struct adain {
  tensor content, style, y, dy, dcontent, dstyle;
  norma_layer content_layer, style_layer;
  norma_adain_args args;
} adain;

/* One side in float32 and the other in float64 would be a call without a type. */
static int read_tensors(const char *function, PyObject *content, PyObject *style, adain *a) {
  if (py_tensor(function, "content", content, &a->content) || py_tensor(function, "style", style, &a->style)) return -1;
  if (a->content.type != a->style.type)
    return py_fail(PyExc_TypeError, function, "style has dtype %S, must be %S as content",
                   PyArray_DESCR(a->style.array), PyArray_DESCR(a->content.array));
  if (py_layer(function, LAYER_INSTANCE, 0, &a->content, &a->content_layer)) return -1;
  if (py_layer(function, LAYER_INSTANCE, 0, &a->style, &a->style_layer)) return -1;
  a->args.size = sizeof a->args;
  a->args.type = a->content.type;
  a->args.content_layer = &a->content_layer;
  a->args.style_layer = &a->style_layer;
  a->args.content = PyArray_DATA(a->content.array);
  a->args.content_strides = a->content.strides;
  a->args.style = PyArray_DATA(a->style.array);
  a->args.style_strides = a->style.strides;
  return 0;
}

static int read_numbers(const char *function, PyObject *alpha, PyObject *eps, PyObject *unbiased, norma_adain_args *a) {
  bool ddof = false;
  if (py_double(function, "alpha", alpha, &a->alpha) || py_double(function, "eps", eps, &a->content_eps)) return -1;
  if (py_bool(function, "unbiased", unbiased, &ddof)) return -1;
  if (alpha && a->alpha == 0) a->flags |= NORMA_ALPHA_ZERO;
  if (eps && a->content_eps == 0) a->flags |= NORMA_EPS_ZERO | NORMA_STYLE_EPS_ZERO;
  a->style_eps = a->content_eps;
  a->content_ddof = a->style_ddof = ddof;
  return 0;
}

static int run(const char *function, norma_status (*call)(const norma_adain_args *, norma_error *), adain *a) {
  norma_error error;
  norma_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = call(&a->args, &error);
  Py_END_ALLOW_THREADS;
  return status ? py_core_error(function, status, &error) : 0;
}

static void clear(adain *a) {
  tensor *all[] = {&a->content, &a->style, &a->y, &a->dy, &a->dcontent, &a->dstyle};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) py_tensor_clear(all[i]);
}

PyObject *py_adain(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  enum { CONTENT, STYLE, ALPHA, EPS, UNBIASED, OUT, COUNT };
  static signature s = {"adain", 5, 2, {"content", "style", "alpha", "eps", "unbiased", "out"}, {0}};
  PyObject *v[COUNT];
  (void)module;
  if (py_arguments(&s, arguments, count, keywords, v, NULL)) return NULL;
  adain a = {.args = {0}};
  int status = read_tensors(s.function, v[CONTENT], v[STYLE], &a);
  if (!status) status = read_numbers(s.function, v[ALPHA], v[EPS], v[UNBIASED], &a.args);
  if (!status) status = py_output(s.function, "out", v[OUT], "content", &a.content, &a.y);
  if (!status) {
    a.args.y = PyArray_DATA(a.y.array);
    a.args.y_strides = a.y.strides;
    status = run(s.function, norma_adain, &a);
  }
  PyObject *result = status ? NULL : Py_NewRef(v[OUT] ? v[OUT] : (PyObject *)a.y.array);
  clear(&a);
  return result;
}

PyObject *py_adain_backward(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  enum { DY, CONTENT, STYLE, ALPHA, EPS, UNBIASED, COUNT };
  static signature s = {"adain_backward", 6, 3, {"dy", "content", "style", "alpha", "eps", "unbiased"}, {0}};
  PyObject *v[COUNT];
  (void)module;
  if (py_arguments(&s, arguments, count, keywords, v, NULL)) return NULL;
  adain a = {.args = {0}};
  int status = read_tensors(s.function, v[CONTENT], v[STYLE], &a);
  if (!status) status = py_tensor_like(s.function, "dy", v[DY], "content", &a.content, &a.dy);
  if (!status) status = read_numbers(s.function, v[ALPHA], v[EPS], v[UNBIASED], &a.args);
  if (!status) status = py_output(s.function, "dcontent", NULL, "content", &a.content, &a.dcontent);
  if (!status) status = py_output(s.function, "dstyle", NULL, "style", &a.style, &a.dstyle);
  if (!status) {
    a.args.dy = PyArray_DATA(a.dy.array);
    a.args.dy_strides = a.dy.strides;
    a.args.dcontent = PyArray_DATA(a.dcontent.array);
    a.args.dcontent_strides = a.dcontent.strides;
    a.args.dstyle = PyArray_DATA(a.dstyle.array);
    a.args.dstyle_strides = a.dstyle.strides;
    status = run(s.function, norma_adain_backward, &a);
  }
  PyObject *result = status ? NULL : PyTuple_Pack(2, a.dcontent.array, a.dstyle.array);
  clear(&a);
  return result;
}
