// The operators norma::*, on tensors that have data (CPU) and on tensors that have none (Meta). Their gradients are in
// autograd.cpp.
#include "ops.h"

#include "kernels.h"
#include "plain.h"

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

namespace norma_torch {

namespace {

#define NORMA_PARAMS "Tensor x, Tensor? weight, Tensor? bias, Tensor? mean, Tensor? var, "
#define NORMA_SPEC "int kind, int number, float eps, int activation"

Params params_of(const OptionalTensor &weight, const OptionalTensor &bias, const OptionalTensor &mean,
                 const OptionalTensor &var) {
  return {tensor_or_none(weight), tensor_or_none(bias), tensor_or_none(mean), tensor_or_none(var)};
}

// ---------------------------------------------------------------------------------------------------------- CPU ---

Tensor forward_here(const Tensor &x, const Params &params, const Spec &spec) {
  Forward out;
  if (!run_forward(spec, x, params, {}, out)) return plain_forward_passed_through(x, params, spec);
  return out.y;
}

std::tuple<Tensor, Tensor, Tensor> forward_saved_here(const Tensor &x, const Params &params, const Spec &spec,
                                                      bool moments) {
  Wanted wanted;
  wanted.saved = true;
  wanted.moments = moments;
  Forward out;
  run_forward(spec, x, params, wanted, out);
  return {out.y, out.saved, out.moments};
}

std::tuple<Tensor, Tensor, Tensor> backward_here(const Tensor &dy, const Tensor &x, const Params &params,
                                                 const Tensor &saved, const Spec &spec, std::array<bool, 3> mask) {
  const at::ScalarType as = params.weight.defined() ? params.weight.scalar_type()
                            : params.bias.defined() ? params.bias.scalar_type()
                                                    : x.scalar_type();
  Gradients out;
  if (!run_backward(spec, dy, x, params, saved, mask, as, out))
    return plain_backward_passed_through(dy, x, params, spec, mask);
  return out;
}

// The same as operators, which get anything and return no undefined tensor.
Tensor forward_cpu(const Tensor &x, const OptionalTensor &weight, const OptionalTensor &bias,
                   const OptionalTensor &mean, const OptionalTensor &var, int64_t kind, int64_t number, double eps,
                   int64_t activation) {
  const Spec spec{kind, number, eps, activation};
  const Params params = params_of(weight, bias, mean, var);
  check_operands(x, params, spec);
  return forward_here(x, params, spec);
}

std::tuple<Tensor, Tensor, Tensor> forward_saved_cpu(const Tensor &x, const OptionalTensor &weight,
                                                     const OptionalTensor &bias, int64_t kind, int64_t number,
                                                     double eps, int64_t activation, bool moments) {
  const Spec spec{kind, number, eps, activation};
  const Params params = params_of(weight, bias, {}, {});
  check_operands(x, params, spec);
  auto [y, saved, of_units] = forward_saved_here(x, params, spec, moments);
  if (!moments) of_units = at::empty({0, 5}, saved.options());
  return {y, saved, of_units};
}

void update_cpu(const OptionalTensor &running_mean, const OptionalTensor &running_var, const Tensor &moments,
                double weight_of_new, bool biased, int64_t not_finite) {
  run_update(tensor_or_none(running_mean), tensor_or_none(running_var), moments, weight_of_new, biased, not_finite);
}

std::tuple<Tensor, Tensor, Tensor> backward_cpu(const Tensor &dy, const Tensor &x, const OptionalTensor &weight,
                                                const OptionalTensor &bias, const OptionalTensor &mean,
                                                const OptionalTensor &var, const OptionalTensor &saved, int64_t kind,
                                                int64_t number, double eps, int64_t activation,
                                                std::array<bool, 3> mask) {
  const Spec spec{kind, number, eps, activation};
  const Params params = params_of(weight, bias, mean, var);
  check_operands(x, params, spec);
  check_gradient(dy, x);
  return backward_here(dy, x, params, tensor_or_none(saved), spec, mask);
}

// --------------------------------------------------------------------------------------------------------- Meta ---

c10::SymInt units_of(const Spec &spec, const Tensor &x) {
  if (spec.kind == BATCH) return x.sym_size(1);
  if (spec.kind == INSTANCE) return x.sym_size(0) * x.sym_size(1);
  if (spec.kind == GROUP) return x.sym_size(0) * spec.number;
  c10::SymInt units = 1;
  for (int64_t d = 0; d < x.dim(); d++)
    if (!(spec.number >> d & 1)) units *= x.sym_size(d);
  return units;
}

Tensor like(const Tensor &x, const Spec &spec) { return at::empty_like(x, x.options(), result_format(spec, x)); }

Tensor forward_meta(const Tensor &x, const OptionalTensor &, const OptionalTensor &, const OptionalTensor &,
                    const OptionalTensor &, int64_t kind, int64_t number, double eps, int64_t activation) {
  return like(x, {kind, number, eps, activation});
}

std::tuple<Tensor, Tensor, Tensor> forward_saved_meta(const Tensor &x, const OptionalTensor &, const OptionalTensor &,
                                                      int64_t kind, int64_t number, double eps, int64_t activation,
                                                      bool moments) {
  const Spec spec{kind, number, eps, activation};
  const c10::SymInt units = units_of(spec, x), sets = moments ? units : c10::SymInt(0);
  const at::TensorOptions options = x.options().dtype(at::kDouble);
  return {like(x, spec), at::empty_symint({units, 4}, options), at::empty_symint({sets, 5}, options)};
}

void update_meta(const OptionalTensor &, const OptionalTensor &, const Tensor &, double, bool, int64_t) {}

Tensor param_like(const OptionalTensor &param, const Tensor &x, const Spec &spec) {
  if (param) return at::empty_symint(param->sym_sizes(), param->options());
  std::vector<c10::SymInt> shape;
  for (int64_t d = 0; d < x.dim(); d++)
    if (spec.kind >= LAYER ? (spec.number >> d & 1) : d == 1) shape.push_back(x.sym_size(d));
  return at::empty_symint(shape, x.options());
}

std::tuple<Tensor, Tensor, Tensor> backward_meta(const Tensor &, const Tensor &x, const OptionalTensor &weight,
                                                 const OptionalTensor &bias, const OptionalTensor &,
                                                 const OptionalTensor &, const OptionalTensor &, int64_t kind,
                                                 int64_t number, double eps, int64_t activation,
                                                 std::array<bool, 3> mask) {
  const Spec spec{kind, number, eps, activation};
  const OptionalTensor &either = weight ? weight : bias;
  return {mask[0] ? like(x, spec) : Tensor(), mask[1] ? param_like(either, x, spec) : Tensor(),
          mask[2] ? param_like(either, x, spec) : Tensor()};
}

// The keys that the dispatcher asks in turn, but those that do nothing here.
c10::DispatchKeySet keys_asked(c10::DispatchKeySet keys) {
  constexpr c10::DispatchKeySet nothing({c10::DispatchKey::BackendSelect, c10::DispatchKey::ADInplaceOrView});
  const auto local = c10::impl::tls_local_dispatch_key_set();
  return ((keys | local.included_) - local.excluded_) - nothing;
}

// Whether the dispatcher would choose the kernel of the CPU: no gradient is to be recorded, and no mode, tracer,
// transform or subclass wants to see the operator. To call that kernel itself saves time that a small layer feels.
bool nothing_in_between(std::initializer_list<const Tensor *> tensors) {
  c10::DispatchKeySet keys;
  for (const Tensor *t : tensors)
    if (t->defined()) keys = keys | t->key_set();
  return keys_asked(keys).highestPriorityTypeId() == c10::DispatchKey::CPU;
}

template <typename Signature>
auto handle(const char *name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

}  // namespace

void check_operands(const Tensor &x, const Params &params, const Spec &spec) {
  TORCH_CHECK_VALUE(core_takes(spec, x, params, !params.var.defined()),
                    "norma: these tensors do not fit this layer: x is ", x.scalar_type(), " ", x.sym_sizes(), ", eps ",
                    spec.eps, ", kind ", spec.kind, ", number ", spec.number,
                    "; eps must be at least 0, weight, bias and statistics of one type and of the layer's shape");
}

void check_gradient(const Tensor &dy, const Tensor &x) {
  TORCH_CHECK_VALUE(dy.sym_sizes() == x.sym_sizes() && dy.scalar_type() == x.scalar_type(), "norma: dy is ",
                    dy.scalar_type(), " ", dy.sym_sizes(), ", must be as x, ", x.scalar_type(), " ", x.sym_sizes());
}

bool only_autograd_in_between(const Tensor &x) {
  const c10::DispatchKeySet keys = keys_asked(x.key_set()) - c10::autograd_dispatch_keyset;
  return keys.highestPriorityTypeId() == c10::DispatchKey::CPU;
}

// -------------------------------------------------------------------------------------- through the dispatcher ---

Tensor call_forward(const Tensor &x, const Params &p, const Spec &spec) {
  if (nothing_in_between({&x, &p.weight, &p.bias, &p.mean, &p.var})) return forward_here(x, p, spec);
  static const auto op = handle<decltype(forward_cpu)>("norma::forward");
  return op.call(x, optional(p.weight), optional(p.bias), optional(p.mean), optional(p.var), spec.kind, spec.number,
                 spec.eps, spec.activation);
}

std::tuple<Tensor, Tensor, Tensor> call_forward_saved(const Tensor &x, const Params &p, const Spec &spec,
                                                      bool moments) {
  if (nothing_in_between({&x, &p.weight, &p.bias})) return forward_saved_here(x, p, spec, moments);
  static const auto op = handle<decltype(forward_saved_cpu)>("norma::forward_saved");
  return op.call(x, optional(p.weight), optional(p.bias), spec.kind, spec.number, spec.eps, spec.activation, moments);
}

void call_update(const Tensor &running_mean, const Tensor &running_var, const Tensor &moments, double weight_of_new,
                 bool biased, int64_t not_finite) {
  static const auto op = handle<decltype(update_cpu)>("norma::running_update_");
  op.call(optional(running_mean), optional(running_var), moments, weight_of_new, biased, not_finite);
}

std::tuple<Tensor, Tensor, Tensor> call_backward(const Tensor &dy, const Tensor &x, const Params &p,
                                                 const Tensor &saved, const Spec &spec, std::array<bool, 3> mask) {
  if (nothing_in_between({&dy, &x, &p.weight, &p.bias, &p.mean, &p.var, &saved}))
    return backward_here(dy, x, p, saved, spec, mask);
  static const auto op = handle<decltype(backward_cpu)>("norma::backward");
  return op.call(dy, x, optional(p.weight), optional(p.bias), optional(p.mean), optional(p.var), optional(saved),
                 spec.kind, spec.number, spec.eps, spec.activation, mask);
}

TORCH_LIBRARY_FRAGMENT(norma, m) {
  const std::vector<at::Tag> tags = {at::Tag::pt2_compliant_tag};
  m.def("forward(" NORMA_PARAMS NORMA_SPEC ") -> Tensor", tags);
  m.def("forward_saved(Tensor x, Tensor? weight, Tensor? bias, " NORMA_SPEC ", bool moments) "
        "-> (Tensor, Tensor, Tensor)", tags);
  m.def("running_update_(Tensor(a!)? running_mean, Tensor(b!)? running_var, Tensor moments, float weight_of_new, "
        "bool biased, int not_finite) -> ()", tags);
  m.def("backward(Tensor dy, " NORMA_PARAMS "Tensor? saved, " NORMA_SPEC ", bool[3] mask) "
        "-> (Tensor, Tensor, Tensor)", tags);
}

TORCH_LIBRARY_IMPL(norma, CPU, m) {
  m.impl("forward", TORCH_FN(forward_cpu));
  m.impl("forward_saved", TORCH_FN(forward_saved_cpu));
  m.impl("running_update_", TORCH_FN(update_cpu));
  m.impl("backward", TORCH_FN(backward_cpu));
}

TORCH_LIBRARY_IMPL(norma, Meta, m) {
  m.impl("forward", TORCH_FN(forward_meta));
  m.impl("forward_saved", TORCH_FN(forward_saved_meta));
  m.impl("running_update_", TORCH_FN(update_meta));
  m.impl("backward", TORCH_FN(backward_meta));
}

}  // namespace norma_torch
