// Batch and instance norm that move running statistics and end in an activation, for norma.torch.functional. What
// torch.nn.functional reaches without one is in entry.cpp.
#include "autograd.h"
#include "ops.h"
#include "plain.h"

#include <ATen/core/grad_mode.h>
#include <torch/library.h>

namespace norma_torch {

namespace {

// Statistics of x; running_mean and running_var move by weight_of_new.
Tensor training_norm(const Tensor &x, const OptionalTensor &weight, const OptionalTensor &bias,
                     const OptionalTensor &running_mean, const OptionalTensor &running_var, int64_t kind,
                     double weight_of_new, bool biased, int64_t not_finite, double eps, int64_t activation) {
  const Spec spec{kind, kind == INSTANCE, eps, activation};
  const Params params{tensor_or_none(weight), tensor_or_none(bias), {}, {}};
  const Running running{tensor_or_none(running_mean), tensor_or_none(running_var), weight_of_new, biased, not_finite};
  Params all = params;
  all.mean = running.mean;
  all.var = running.var;
  TORCH_CHECK_VALUE(kind == BATCH || kind == INSTANCE, "norma: kind is ", kind, ", must be 0 (batch) or 1 (instance)");
  TORCH_CHECK_VALUE(weight_of_new >= 0 && weight_of_new <= 1, "momentum is ", weight_of_new, ", must be in [0, 1]");
  TORCH_CHECK_VALUE(core_takes(spec, x, all, true), "norma: x is ", x.scalar_type(), " ", x.sym_sizes(), ", eps ", eps,
                    ": eps must be at least 0, weight, bias and running statistics of one type, and vectors of one "
                    "element per channel");
  if (!needs_plain_operators(x, params)) return differentiable(x, params, spec, running);
  if (running.mean.defined() || running.var.defined()) {
    const at::NoGradGuard no_grad;
    const auto moments = std::get<2>(call_forward_saved(x.detach(), {}, spec, true));
    call_update(running.mean, running.var, moments, weight_of_new, biased, not_finite);
  }
  return plain_forward(x, params, spec);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(norma, m) {
  m.def("training_norm(Tensor x, Tensor? weight, Tensor? bias, Tensor(a!)? running_mean, Tensor(b!)? running_var, "
        "int kind, float weight_of_new, bool biased, int not_finite, float eps, int activation) -> Tensor",
        {at::Tag::pt2_compliant_tag});
}

TORCH_LIBRARY_IMPL(norma, CompositeImplicitAutograd, m) { m.impl("training_norm", TORCH_FN(training_norm)); }

}  // namespace norma_torch
