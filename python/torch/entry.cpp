// The operators that torch.nn.functional calls: aten::layer_norm and its kin, and the same with an activation under
// names of our own. PyTorch composes them of smaller ones; here each is one kernel.
#include "override.h"

#include "autograd.h"
#include "counters.h"

#include <ATen/Operators.h>


namespace norma_torch {

namespace {

// PyTorch's composition is still the kernel of every backend that is not overridden; which one makes no difference.
constexpr c10::DispatchKeySet PYTORCH(c10::DispatchKey::AutogradMeta);

// Where normalized_shape is not what x ends with: no dimensions, which core_takes() refuses.
int64_t dims_of(const Tensor &x, c10::SymIntArrayRef normalized_shape) {
  const auto count = static_cast<int64_t>(normalized_shape.size());
  if (count == 0 || count > x.dim() || x.dim() > NORMA_MAX_DIMS) return 0;
  if (x.sym_sizes().slice(x.dim() - count) != normalized_shape) return 0;
  return trailing_dims(x.dim(), count);
}

// PyTorch decides about weights that do not have the shape it wants; ours would be content with these.
bool affine_is(const Params &p, c10::SymIntArrayRef shape) {
  return (!p.weight.defined() || p.weight.sym_sizes() == shape) && (!p.bias.defined() || p.bias.sym_sizes() == shape);
}

Tensor layer_norm(const Tensor &x, c10::SymIntArrayRef normalized_shape, const OptionalTensor &weight,
                  const OptionalTensor &bias, double eps, bool cudnn_enable) {
  const Params params{tensor_or_none(weight), tensor_or_none(bias), {}, {}};
  const Spec spec{LAYER, dims_of(x, normalized_shape), eps, 0};
  if (!core_takes(spec, x, params, true) || !affine_is(params, normalized_shape)) {
    const PassThrough counted(LAYER);
    return at::_ops::layer_norm::redispatch(PYTORCH, x, normalized_shape, weight, bias, eps, cudnn_enable);
  }
  if (needs_plain_operators(x, params))
    return at::_ops::layer_norm::redispatch(PYTORCH, x, normalized_shape, weight, bias, eps, cudnn_enable);
  return differentiable(x, params, spec, {});
}

Tensor group_norm(const Tensor &x, int64_t groups, const OptionalTensor &weight, const OptionalTensor &bias,
                  double eps, bool cudnn_enabled) {
  const Params params{tensor_or_none(weight), tensor_or_none(bias), {}, {}};
  const Spec spec{GROUP, groups, eps, 0};
  if (!core_takes(spec, x, params, true)) {
    const PassThrough counted(GROUP);
    return at::_ops::group_norm::redispatch(PYTORCH, x, groups, weight, bias, eps, cudnn_enabled);
  }
  if (needs_plain_operators(x, params))
    return at::_ops::group_norm::redispatch(PYTORCH, x, groups, weight, bias, eps, cudnn_enabled);
  return differentiable(x, params, spec, {});
}

// 2^-23 or 2^-52, the eps of the type that PyTorch computes in.
double rms_eps(const Tensor &x, std::optional<double> eps) {
  return eps ? *eps : x.scalar_type() == at::kDouble ? 0x1p-52 : 0x1p-23;
}

Tensor rms_norm(const Tensor &x, c10::SymIntArrayRef normalized_shape, const OptionalTensor &weight,
                std::optional<double> eps) {
  const Params params{tensor_or_none(weight), {}, {}, {}};
  const Spec spec{RMS, dims_of(x, normalized_shape), rms_eps(x, eps), 0};
  if (!core_takes(spec, x, params, true) || !affine_is(params, normalized_shape) || needs_plain_operators(x, params)) {
    const PassThrough counted(RMS);
    return at::_ops::rms_norm::redispatch(PYTORCH, x, normalized_shape, weight, eps);
  }
  return differentiable(x, params, spec, {});
}

// A step that the core makes as PyTorch does. One value has no unbiased variance; instance norm averages over samples,
// and PyTorch moves its statistics over no samples to NaN.
bool step_is_usual(const Tensor &x, const Params &running, const Spec &spec, double momentum) {
  if (!running.mean.defined() && !running.var.defined()) return true;
  if (!(momentum >= 0 && momentum <= 1)) return false;
  c10::SymInt elements = 1;
  for (int64_t d = 2; d < x.dim(); d++) elements *= x.sym_size(d);
  if (spec.kind == INSTANCE) return x.sym_size(0) != 0 && (elements != 1 || !running.var.defined());
  return x.sym_size(0) * elements != 1 || !running.var.defined();
}

// Batch and instance norm with statistics of x (which move the running ones) or with the running ones.
Tensor with_running(const Tensor &x, const Params &all, const Spec &spec, bool training, double momentum) {
  if (!training) return differentiable(x, all, spec, {});
  return differentiable(x, {all.weight, all.bias, {}, {}}, spec, {all.mean, all.var, momentum});
}

bool takes_running(const Tensor &x, const Params &all, const Spec &spec, bool training, double momentum) {
  if (all.mean.defined() != all.var.defined()) return false;
  return core_takes(spec, x, all, training) && (!training || step_is_usual(x, all, spec, momentum));
}

Tensor batch_norm(const Tensor &x, const OptionalTensor &weight, const OptionalTensor &bias,
                  const OptionalTensor &running_mean, const OptionalTensor &running_var, bool training,
                  double momentum, double eps, bool cudnn_enabled) {
  const Params all{tensor_or_none(weight), tensor_or_none(bias), tensor_or_none(running_mean),
                   tensor_or_none(running_var)};
  const Spec spec{BATCH, 0, eps, 0};
  const auto pytorch = [&] {
    return at::_ops::batch_norm::redispatch(PYTORCH, x, weight, bias, running_mean, running_var, training, momentum,
                                           eps, cudnn_enabled);
  };
  if (!takes_running(x, all, spec, training, momentum)) {
    const PassThrough counted(BATCH);
    return pytorch();
  }
  return needs_plain_operators(x, all) ? pytorch() : with_running(x, all, spec, training, momentum);
}

Tensor instance_norm(const Tensor &x, const OptionalTensor &weight, const OptionalTensor &bias,
                     const OptionalTensor &running_mean, const OptionalTensor &running_var, bool use_input_stats,
                     double momentum, double eps, bool cudnn_enabled) {
  const Params all{tensor_or_none(weight), tensor_or_none(bias), tensor_or_none(running_mean),
                   tensor_or_none(running_var)};
  const Spec spec{INSTANCE, 0, eps, 0};
  const auto pytorch = [&] {
    return at::_ops::instance_norm::redispatch(PYTORCH, x, weight, bias, running_mean, running_var, use_input_stats,
                                              momentum, eps, cudnn_enabled);
  };
  if (!takes_running(x, all, spec, use_input_stats, momentum)) {
    const PassThrough counted(INSTANCE);
    return pytorch();
  }
  if (needs_plain_operators(x, all)) return pytorch();
  // y is contiguous, as PyTorch's. A copy that this takes is made here, so that backward finds it and makes no second.
  return with_running(contiguous_copy(x), all, spec, use_input_stats, momentum);
}

}  // namespace

void override_entry_points(torch::Library &m) {
  m.impl("layer_norm", TORCH_FN(layer_norm));
  m.impl("group_norm", TORCH_FN(group_norm));
  m.impl("rms_norm", TORCH_FN(rms_norm));
  m.impl("batch_norm", TORCH_FN(batch_norm));
  m.impl("instance_norm", TORCH_FN(instance_norm));
}

}  // namespace norma_torch
