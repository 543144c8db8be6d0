// Gradients. First derivatives are kernels of the core; second ones are taken of the formula in PyTorch's own operators.
#include "autograd.h"

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

// A variable that derivatives are taken by: the tensor itself, so that third derivatives can go on through it, or one
// that stands for it.
Tensor variable(const Tensor &t) {
  return !t.defined() || t.requires_grad() ? t : t.detach().requires_grad_();
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

struct Layer : torch::autograd::Function<Layer> {
  static Tensor forward(AutogradContext *ctx, const Tensor &x, const OptionalTensor &optional_weight,
                        const OptionalTensor &optional_bias, const Constants &given, const Spec &spec,
                        const Running &running) {
    const Tensor weight = tensor_or_none(optional_weight), bias = tensor_or_none(optional_bias);
    at::AutoDispatchBelowADInplaceOrView below;
    Tensor y, saved, moments;
    if (given.var.defined()) {
      y = call_forward(x, {weight, bias, given.mean, given.var}, spec);
    } else {
      const bool moving = running.mean.defined() || running.var.defined();
      std::tie(y, saved, moments) = call_forward_saved(x, {weight, bias, {}, {}}, spec, moving);
      if (moving)
        call_update(running.mean, running.var, moments, running.weight_of_new, running.biased, running.not_finite);
    }
    // Without an activation backward reads bias for its shape and type only, and that only where there is no weight.
    const bool bias_too = spec.activation != NORMA_ACT_NONE || !weight.defined();
    ctx->save_for_backward({x, weight, bias_too ? bias : Tensor(), given.mean, given.var, saved});
    keep_spec(ctx, spec);
    ctx->saved_data["has"] = int64_t(weight.defined()) + 2 * int64_t(bias.defined());
    return y;
  }

  static variable_list backward(AutogradContext *ctx, const variable_list &dy) {
    variable_list result(6);
    if (!dy[0].defined()) return result;
    const variable_list kept = ctx->get_saved_variables();
    const auto has = ctx->saved_data["has"].toInt();  // bits: a weight, a bias
    std::array<bool, 3> mask = {ctx->needs_input_grad(0), (has & 1) && ctx->needs_input_grad(1),
                                (has & 2) && ctx->needs_input_grad(1 + (has & 1))};
    std::tie(result[0], result[1], result[2]) =
        call_backward(dy[0], kept[0], {kept[1], kept[2], kept[3], kept[4]}, kept[5], kept_spec(ctx), mask);
    return result;
  }
};

Tensor forward_autograd(const Tensor &x, const OptionalTensor &weight, const OptionalTensor &bias,
                        const OptionalTensor &mean, const OptionalTensor &var, int64_t kind, int64_t number,
                        double eps, int64_t activation) {
  const Params params{tensor_or_none(weight), tensor_or_none(bias), tensor_or_none(mean), tensor_or_none(var)};
  const Spec spec{kind, number, eps, activation};
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

Tensor differentiable(const Tensor &x, const Params &params, const Spec &spec, const Running &running) {
  if (at::GradMode::is_enabled() && (wants_grad(x) || wants_grad(params.weight) || wants_grad(params.bias)))
    return Layer::apply(x, optional(params.weight), optional(params.bias), Constants{params.mean, params.var, {}}, spec,
                        running);
  at::AutoDispatchBelowADInplaceOrView below;
  if (params.var.defined() || (!running.mean.defined() && !running.var.defined()))
    return call_forward(x, params, spec);
  auto [y, saved, moments] = call_forward_saved(x, params, spec, true);
  call_update(running.mean, running.var, moments, running.weight_of_new, running.biased, running.not_finite);
  return y;
}

TORCH_LIBRARY_IMPL(norma, Autograd, m) {
  m.impl("forward", TORCH_FN(forward_autograd));
  m.impl("backward", TORCH_FN(backward_autograd));
}

}  // namespace norma_torch
