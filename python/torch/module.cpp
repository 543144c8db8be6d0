// The Python module norma.torch._C: switches the override on and off and reads the counters. What computes are
// operators, which PyTorch calls by itself.
#include <Python.h>

#include "counters.h"
#include "override.h"

#include <c10/util/Exception.h>
#include <torch/version.h>

#include <memory>
#include <vector>

namespace norma_torch {

namespace {

// Registrations last as long as these objects; what was registered before comes back when they go.
std::vector<std::unique_ptr<torch::Library>> &overrides() {
  static auto *libraries = new std::vector<std::unique_ptr<torch::Library>>;  // outlives the dispatcher's users
  return *libraries;
}

// PyTorch warns of each kernel that is replaced, which is what was asked for here.
struct Quiet : c10::WarningHandler {
  void process(const c10::Warning &) override {}
};

torch::Library &add(c10::DispatchKey key) {
  overrides().push_back(
      std::make_unique<torch::Library>(torch::Library::IMPL, "aten", key, __FILE__, uint32_t(__LINE__)));
  return *overrides().back();
}

void enable() {
  if (!overrides().empty()) return;
  Quiet quiet;
  c10::WarningUtils::WarningHandlerGuard guard(&quiet);
  override_entry_points(add(c10::DispatchKey::AutogradCPU));
  torch::Library &cpu = add(c10::DispatchKey::CPU);
  override_entry_points(cpu);
  override_native_layer_and_group(cpu);
  override_native_batch(cpu);
}

constexpr const char *kind_names[KINDS] = {"batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm"};
constexpr const char *count_names[COUNTS] = {"", "_backward", "_passed_through"};

// Runs body, and turns a C++ exception into a Python one.
template <typename Body>
PyObject *guarded(Body body) {
  try {
    return body();
  } catch (const std::exception &e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
    return nullptr;
  }
}

PyObject *py_enable(PyObject *, PyObject *) {
  return guarded([]() -> PyObject * {
    enable();
    Py_RETURN_NONE;
  });
}

PyObject *py_disable(PyObject *, PyObject *) {
  return guarded([]() -> PyObject * {
    overrides().clear();
    Py_RETURN_NONE;
  });
}

PyObject *py_is_enabled(PyObject *, PyObject *) { return PyBool_FromLong(!overrides().empty()); }

PyObject *py_calls(PyObject *, PyObject *) {
  PyObject *dict = PyDict_New();
  for (int kind = 0; dict && kind < KINDS; kind++) {
    for (int what = 0; what < COUNTS; what++) {
      const std::string name = std::string(kind_names[kind]) + count_names[what];
      PyObject *value = PyLong_FromLongLong(counters[kind][what].load(std::memory_order_relaxed));
      const bool failed = !value || PyDict_SetItemString(dict, name.c_str(), value) != 0;
      Py_XDECREF(value);
      if (failed) {
        Py_DECREF(dict);
        return nullptr;
      }
    }
  }
  return dict;
}

PyObject *py_reset_calls(PyObject *, PyObject *) {
  for (auto &kind : counters)
    for (auto &counter : kind) counter.store(0, std::memory_order_relaxed);
  Py_RETURN_NONE;
}

PyMethodDef methods[] = {
    {"enable", py_enable, METH_NOARGS, "Replace PyTorch's CPU kernels of the norms."},
    {"disable", py_disable, METH_NOARGS, "Give PyTorch its kernels back."},
    {"is_enabled", py_is_enabled, METH_NOARGS, "Whether they are replaced."},
    {"calls", py_calls, METH_NOARGS, "How often each kernel ran."},
    {"reset_calls", py_reset_calls, METH_NOARGS, "Count from 0 again."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

}  // namespace norma_torch

PyMODINIT_FUNC PyInit__C() {
  PyObject *module = PyModule_Create(&norma_torch::definition);
  if (module && (PyModule_AddStringConstant(module, "BUILT_FOR", TORCH_VERSION) != 0 ||
                 PyModule_AddIntConstant(module, "NORMA_VERSION", norma_version()) != 0)) {
    Py_DECREF(module);
    return nullptr;
  }
  return module;
}
