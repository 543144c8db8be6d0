// PyTorch's own CPU kernels of batch norm: one computation under the many names that its history left.
#include "override.h"

#include "counters.h"
#include "kernels.h"
#include "native.h"

#include <ATen/Functions.h>
#include <ATen/ops/_batch_norm_no_update_native.h>
#include <ATen/ops/_batch_norm_with_update_native.h>
#include <ATen/ops/_native_batch_norm_legit_native.h>
#include <ATen/ops/batch_norm_backward_native.h>
#include <ATen/ops/batch_norm_update_stats_native.h>
#include <ATen/ops/native_batch_norm_backward_native.h>
#include <ATen/ops/native_batch_norm_native.h>

namespace norma_torch {

namespace {

using Three = std::tuple<Tensor, Tensor, Tensor>;

bool has_negative(const Tensor &var) { return var.defined() && var.lt(0).any().item<bool>(); }

// What PyTorch refuses (no elements, one of the statistics) or computes to NaN (one value) is left to it, and what the core refuses.
bool can_run(const Tensor &x, const Params &all, double eps, bool training, double momentum) {
  if (!core_takes({BATCH, 0, eps, 0}, x, all, training) || x.numel() == 0 || all.mean.defined() != all.var.defined())
    return false;
  if (!training || (!all.mean.defined() && !all.var.defined())) return !has_negative(all.var);
  return momentum >= 0 && momentum <= 1 && x.numel() > x.size(1) && !has_negative(all.var);
}

Three run(const Tensor &x, const Params &all, double eps, bool training, double momentum) {
  const Spec spec{BATCH, 0, eps, 0};
  const at::ScalarType type = statistics_type(x, all);
  Forward out;
  if (!training) {
    run_forward(spec, x, all, {}, out);
    return {out.y, at::empty({0}, x.options().dtype(type)), at::empty({0}, x.options().dtype(type))};
  }
  Wanted wanted;
  wanted.mean = wanted.rstd = true;
  wanted.moments = all.mean.defined() || all.var.defined();
  run_forward(spec, x, {all.weight, all.bias, {}, {}}, wanted, out);
  if (wanted.moments) run_update(all.mean, all.var, out.moments, momentum, false, NORMA_NOT_FINITE_STORE);
  return {out.y, out.mean.to(type), out.rstd.to(type)};
}

Params params_of(const OptionalTensor &weight, const OptionalTensor &bias, const OptionalTensor &mean,
                 const OptionalTensor &var) {
  return {tensor_or_none(weight), tensor_or_none(bias), tensor_or_none(mean), tensor_or_none(var)};
}

Three batch_norm(const Tensor &x, const OptionalTensor &weight, const OptionalTensor &bias,
                 const OptionalTensor &running_mean, const OptionalTensor &running_var, bool training,
                 double momentum, double eps) {
  const Params all = params_of(weight, bias, running_mean, running_var);
  if (can_run(x, all, eps, training, momentum)) return run(x, all, eps, training, momentum);
  const PassThrough counted(BATCH);
  return at::native::batch_norm_cpu(x, weight, bias, running_mean, running_var, training, momentum, eps);
}

Three legit(const Tensor &x, const OptionalTensor &weight, const OptionalTensor &bias, Tensor &running_mean,
            Tensor &running_var, bool training, double momentum, double eps) {
  const Params all = params_of(weight, bias, running_mean, running_var);
  if (can_run(x, all, eps, training, momentum)) return run(x, all, eps, training, momentum);
  const PassThrough counted(BATCH);
  return at::native::_batch_norm_legit_cpu(x, weight, bias, running_mean, running_var, training, momentum, eps);
}

Three legit_no_stats(const Tensor &x, const OptionalTensor &weight, const OptionalTensor &bias, bool training,
                     double momentum, double eps) {
  const Params all = params_of(weight, bias, {}, {});
  if (can_run(x, all, eps, training, momentum)) return run(x, all, eps, training, momentum);
  const PassThrough counted(BATCH);
  return at::native::_batch_norm_legit_no_stats_cpu(x, weight, bias, training, momentum, eps);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> with_update(const Tensor &x, const OptionalTensor &weight,
                                                       const OptionalTensor &bias, Tensor &running_mean,
                                                       Tensor &running_var, double momentum, double eps) {
  const Params all = params_of(weight, bias, running_mean, running_var);
  if (can_run(x, all, eps, true, momentum))
    return std::tuple_cat(run(x, all, eps, true, momentum), std::tuple(at::empty({0}, x.options().dtype(at::kByte))));
  const PassThrough counted(BATCH);
  return at::native::_batch_norm_with_update_cpu(x, weight, bias, running_mean, running_var, momentum, eps);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> no_update(const Tensor &x, const OptionalTensor &weight,
                                                     const OptionalTensor &bias, const OptionalTensor &running_mean,
                                                     const OptionalTensor &running_var, double momentum, double eps) {
  const Params all = params_of(weight, bias, running_mean, running_var);
  if (can_run(x, all, eps, false, momentum))
    return std::tuple_cat(run(x, all, eps, false, momentum),
                          std::tuple(at::empty({0}, x.options().dtype(at::kByte))));
  const PassThrough counted(BATCH);
  return at::native::_batch_norm_no_update(x, weight, bias, running_mean, running_var, momentum, eps);
}

std::tuple<Tensor, Tensor> update_stats(const Tensor &x, const OptionalTensor &running_mean,
                                        const OptionalTensor &running_var, double momentum) {
  const Params all = params_of({}, {}, running_mean, running_var);
  if (!can_run(x, all, 0, true, momentum)) {
    const PassThrough counted(BATCH);
    return at::native::batch_norm_update_stats_cpu(x, running_mean, running_var, momentum);
  }
  Wanted wanted;
  wanted.y = false;
  wanted.mean = wanted.var = wanted.moments = true;
  Forward out;
  run_forward({BATCH, 0, 0, 0}, x, {}, wanted, out);
  run_update(all.mean, all.var, out.moments, momentum, false, NORMA_NOT_FINITE_STORE);
  const at::ScalarType type = statistics_type(x, all);
  return {out.mean.to(type), out.var.to(type)};
}

// Statistics of x are taken again from x: what was saved is rounded.
bool run_gradients(const Tensor &dy, const Tensor &x, const OptionalTensor &weight, const OptionalTensor &running_mean,
                   const OptionalTensor &running_var, bool train, double eps, std::array<bool, 3> mask, Three &out) {
  Params all = params_of(weight, {}, running_mean, running_var);
  const Spec spec{BATCH, 0, eps, 0};
  if (!core_takes(spec, x, all, train) || x.numel() == 0 || dy.sizes() != x.sizes() ||
      dy.scalar_type() != x.scalar_type())
    return false;
  const at::ScalarType type = statistics_type(x, all);
  if (train) all.mean = all.var = Tensor();
  return run_backward(spec, dy, x, all, {}, mask, type, out);
}

Three batch_norm_backward(const Tensor &dy, const Tensor &x, const OptionalTensor &weight,
                          const OptionalTensor &running_mean, const OptionalTensor &running_var,
                          const OptionalTensor &save_mean, const OptionalTensor &save_invstd, bool train, double eps,
                          std::array<bool, 3> mask) {
  Three out;
  if (run_gradients(dy, x, weight, running_mean, running_var, train, eps, mask, out)) return out;
  const PassThrough counted(BATCH);
  return at::native::batch_norm_backward_cpu(dy, x, weight, running_mean, running_var, save_mean, save_invstd, train,
                                             eps, mask);
}

Three new_batch_norm_backward(const Tensor &dy, const Tensor &x, const Tensor &weight,
                              const OptionalTensor &running_mean, const OptionalTensor &running_var,
                              const OptionalTensor &save_mean, const OptionalTensor &save_var, bool update,
                              double eps, std::array<bool, 3> mask, const Tensor &reserve) {
  Three out;
  if (run_gradients(dy, x, weight, running_mean, running_var, update, eps, mask, out)) return out;
  const PassThrough counted(BATCH);
  return at::native::_new_batch_norm_backward_cpu(dy, x, weight, running_mean, running_var, save_mean, save_var,
                                                  update, eps, mask, reserve);
}

}  // namespace

void override_native_batch(torch::Library &m) {
  m.impl("native_batch_norm", TORCH_FN(batch_norm));
  m.impl("_native_batch_norm_legit", TORCH_FN(legit));
  m.impl("_native_batch_norm_legit.no_stats", TORCH_FN(legit_no_stats));
  m.impl("_batch_norm_with_update", TORCH_FN(with_update));
  m.impl("_batch_norm_no_update", TORCH_FN(no_update));
  m.impl("batch_norm_update_stats", TORCH_FN(update_stats));
  m.impl("native_batch_norm_backward", TORCH_FN(batch_norm_backward));
  m.impl("batch_norm_backward", TORCH_FN(new_batch_norm_backward));
}

}  // namespace norma_torch
