// Gradients. First derivatives are kernels of the core; second ones are taken of the formula in PyTorch operators.
#include "autograd.h"

#include "format.h"
#include "ops.h"
#include "plain.h"

#include <ATen/Functions.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/library.h>

#include <bit>

namespace norma_torch {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

bool wants_grad(const Tensor &t) { return t.defined() && t.requires_grad(); }

// One entry, because each is a search in a map.
void keep_spec(AutogradContext *ctx, const Spec &spec) {
  ctx->saved_data["spec"] =
      std::vector<int64_t>{spec.kind, spec.number, spec.activation, std::bit_cast<int64_t>(spec.eps)};
}

Spec kept_spec(AutogradContext *ctx) {
  const auto kept = ctx->saved_data["spec"].toIntVector();
  return {kept[0], kept[1], std::bit_cast<double>(kept[3]), kept[2]};
}

// ------------------------------------------------------------------------------------------- second derivatives ---

// A variable to take partial derivatives by. A view, because dy may depend on x itself, and what reaches x by that way
// is not ours; further derivatives go on through the view.
Tensor variable(const Tensor &t) {
  if (!t.defined()) return t;
  return t.requires_grad() ? t.view_as(t) : t.detach().requires_grad_();
}

// What no derivative is taken by; in a struct, so that autograd does not see it.
struct Constants {
  Tensor mean, var, saved;
};

// Variables that are not there are optional ones without a value: autograd wants no undefined tensors.
struct Derivatives : torch::autograd::Function<Derivatives> {
  static variable_list forward(AutogradContext *ctx, const Tensor &dy, const Tensor &x, const OptionalTensor &weight,
                               const OptionalTensor &bias, const Constants &given, const Spec &spec,
                               std::array<bool, 3> mask) {
    at::AutoDispatchBelowADInplaceOrView below;
    const Params params{tensor_or_none(weight), tensor_or_none(bias), given.mean, given.var};
    const auto [dx, dweight, dbias] = call_backward(dy, x, params, given.saved, spec, mask);
    ctx->save_for_backward({dy, x, params.weight, params.bias, given.mean, given.var});
    keep_spec(ctx, spec);
    variable_list asked;
    for (const Tensor &gradient : {dx, dweight, dbias})
      if (gradient.defined()) asked.push_back(gradient);
    ctx->saved_data["mask"] = std::vector<int64_t>{dx.defined(), dweight.defined(), dbias.defined()};
    return asked;
  }

  // y = f(x, weight, bias) once more with PyTorch's operators; its gradients by dy, and theirs by the cotangents.
  static variable_list backward(AutogradContext *ctx, const variable_list &cotangents) {
    const bool graph = at::GradMode::is_enabled();
    const at::AutoGradMode enable(true);
    const variable_list kept = ctx->get_saved_variables();
    const auto mask = ctx->saved_data["mask"].toIntVector();
    variable_list in;  // dy, x, weight, bias
    for (int i = 0; i < 4; i++) in.push_back(variable(kept[i]));
    // Without an activation nothing depends on the value of bias, and it was not saved.
    if (mask[2] && !in[3].defined()) in[3] = at::zeros_like(kept[2]).requires_grad_();
    const Tensor y = plain_forward(in[1], {in[2], in[3], kept[4], kept[5]}, kept_spec(ctx));
    variable_list by, first_by, outputs, weights, result(7);
    for (int i = 0; i < 3; i++)
      if (mask[i]) first_by.push_back(in[i + 1]);
    const variable_list first = torch::autograd::grad({y}, first_by, {in[0]}, true, true, true);
    for (size_t i = 0; i < first.size(); i++) {
      if (!first[i].defined() || !first[i].requires_grad() || !cotangents[i].defined()) continue;
      outputs.push_back(first[i]);
      weights.push_back(cotangents[i]);
    }
    if (outputs.empty()) return result;
    for (const Tensor &t : in)
      if (t.defined()) by.push_back(t);
    const variable_list second = torch::autograd::grad(outputs, by, weights, true, graph, true);
    for (size_t i = 0, next = 0; i < in.size(); i++)
      if (in[i].defined()) result[i] = second[next++];
    return result;
  }
};

std::tuple<Tensor, Tensor, Tensor> backward_autograd(const Tensor &dy, const Tensor &x, const OptionalTensor &weight,
                                                     const OptionalTensor &bias, const OptionalTensor &mean,
                                                     const OptionalTensor &var, const OptionalTensor &saved,
                                                     int64_t kind, int64_t number, double eps, int64_t activation,
                                                     std::array<bool, 3> mask) {
  const Spec spec{kind, number, eps, activation};
  const Params params{tensor_or_none(weight), tensor_or_none(bias), tensor_or_none(mean), tensor_or_none(var)};
  check_operands(x, params, spec);
  check_gradient(dy, x);
  if (!at::GradMode::is_enabled() ||
      !(wants_grad(dy) || wants_grad(x) || wants_grad(params.weight) || wants_grad(params.bias))) {
    at::AutoDispatchBelowADInplaceOrView below;
    return call_backward(dy, x, params, tensor_or_none(saved), spec, mask);
  }
  const variable_list asked =
      Derivatives::apply(dy, x, optional(params.weight), optional(params.bias),
                         Constants{params.mean, params.var, tensor_or_none(saved)}, spec, mask);
  Tensor out[3];
  for (size_t i = 0, next = 0; i < 3 && next < asked.size(); i++)
    if (mask[i]) out[i] = asked[next++];
  return {out[0], out[1], out[2]};
}

// -------------------------------------------------------------------------------------------- first derivatives ---

// A node of its own, as PyTorch generates them: torch::autograd::Function costs as much as a small layer. Its inputs
// are x, weight and bias, whether they are there or not.
struct NormaBackward : torch::autograd::TraceableFunction {
  static constexpr int KEPT = 6;  // x, weight, bias, given mean and variance, norma_saved
  torch::autograd::SavedVariable kept[KEPT];
  Spec spec{};

  std::string name() const override { return "NormaBackward"; }

  void release_variables() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto &variable : kept) variable.reset_data();
  }

  variable_list apply(variable_list &&dy) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    variable_list result(3);
    if (!dy[0].defined()) return result;
    Tensor t[KEPT];
    for (int i = 0; i < KEPT; i++) t[i] = kept[i].unpack();
    const std::array<bool, 3> mask = {task_should_compute_output(0), task_should_compute_output(1),
                                      task_should_compute_output(2)};
    // Without a graph of the gradients there is nothing for autograd to see.
    std::optional<at::AutoDispatchBelowADInplaceOrView> below;
    if (!at::GradMode::is_enabled()) below.emplace();
    std::tie(result[0], result[1], result[2]) =
        call_backward(dy[0], t[0], {t[1], t[2], t[3], t[4]}, t[5], spec, mask);
    return result;
  }
};

// y, and norma_saved where statistics come from x and backward wants it.
std::pair<Tensor, Tensor> forward(const Tensor &x, const Params &params, const Spec &spec, const Running &running,
                                  bool want_saved) {
  const at::AutoDispatchBelowADInplaceOrView below;
  const bool moving = running.mean.defined() || running.var.defined();
  if (params.var.defined() || !(moving || want_saved)) return {call_forward(x, params, spec), Tensor()};
  auto [y, saved, moments] = call_forward_saved(x, params, spec, moving);
  if (moving)
    call_update(running.mean, running.var, moments, running.weight_of_new, running.biased, running.not_finite);
  return {y, saved};
}

Tensor forward_autograd(const Tensor &x, const OptionalTensor &weight, const OptionalTensor &bias,
                        const OptionalTensor &mean, const OptionalTensor &var, int64_t kind, int64_t number,
                        double eps, int64_t activation) {
  const Params params{tensor_or_none(weight), tensor_or_none(bias), tensor_or_none(mean), tensor_or_none(var)};
  const Spec spec{kind, number, eps, activation};
  check_operands(x, params, spec);
  if (needs_plain_operators(x, params)) return plain_forward(x, params, spec);
  return differentiable(x, params, spec, {});
}

}  // namespace

namespace {

// The key that functorch includes while a transform is active, and until it has come to its last level.
bool transform_is_active() {
  return c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::FuncTorchDynamicLayerBackMode);
}

}  // namespace

bool needs_plain_operators(const Tensor &x, const Params &params) {
  return transform_is_active() || torch::autograd::isFwGradDefined(x) ||
         torch::autograd::isFwGradDefined(params.weight) || torch::autograd::isFwGradDefined(params.bias);
}

namespace {

struct ContiguousCopy : torch::autograd::Function<ContiguousCopy> {
  static Tensor forward(AutogradContext *, const Tensor &x) { return in_format(x, at::MemoryFormat::Contiguous); }
  static variable_list backward(AutogradContext *, const variable_list &dy) { return {dy[0]}; }
};

}  // namespace

Tensor contiguous_copy(const Tensor &x) {
  if (x.is_contiguous()) return x;
  return only_autograd_in_between(x) ? ContiguousCopy::apply(x) : x.contiguous();
}

Tensor differentiable(const Tensor &x, const Params &params, const Spec &spec, const Running &running) {
  const auto &[weight, bias, mean, var] = params;
  if (!at::GradMode::is_enabled() || !(wants_grad(x) || wants_grad(weight) || wants_grad(bias)))
    return forward(x, params, spec, running, false).first;
  const auto node = c10::make_intrusive<NormaBackward>();
  node->set_next_edges(torch::autograd::collect_next_edges(x, weight, bias));
  node->spec = spec;
  const auto [y, saved] = forward(x, params, spec, running, true);
  // Without an activation backward reads bias for its shape and type only, and that only where there is no weight.
  const bool bias_too = spec.activation != NORMA_ACT_NONE || !weight.defined();
  int next = 0;
  for (const Tensor &t : {x, weight, bias_too ? bias : Tensor(), mean, var, saved})
    node->kept[next++] = torch::autograd::SavedVariable(t, false);
  torch::autograd::set_history(y, node);
  return y;
}

TORCH_LIBRARY_IMPL(norma, Autograd, m) {
  m.impl("forward", TORCH_FN(forward_autograd));
  m.impl("backward", TORCH_FN(backward_autograd));
}

}  // namespace norma_torch
