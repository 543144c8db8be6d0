// norma::ragged_forward and norma::ragged_backward: the layers on the valid positions of x. What stands around them,
// gradients and running statistics, is Python (python/norma/torch/_ragged.py).
#include "kernels.h"

#include <ATen/Functions.h>
#include <torch/library.h>

namespace norma_torch {

namespace {

// `valid` is a vector of lengths along `dim` (int64), or a mask (bool or uint8) with a size or 1 for each dimension of
// x. A copy is kept: the core counts on what it read.
struct Reading {
  Tensor held;
  int64_t strides[NORMA_MAX_DIMS] = {};
  Ragged ragged{};

  Reading(const Tensor &x, const Tensor &valid, int64_t dim, bool beta, bool refuse_single) {
    held = valid.contiguous().clone();
    ragged.valid.size = sizeof ragged.valid;
    ragged.valid.padding = beta ? NORMA_PAD_BETA : NORMA_PAD_ZERO;
    ragged.refuse_single = refuse_single;
    TORCH_CHECK_VALUE(held.device().is_cpu(), "lengths and mask must be on the CPU, as x is");
    if (held.scalar_type() == at::kLong) {
      TORCH_CHECK_VALUE(held.dim() == 1 && x.dim() > 0 && held.size(0) == x.size(0), "lengths has shape ",
                        held.sizes(), ", must have one entry for each sample of x, ", x.sizes());
      ragged.valid.dim = static_cast<int>(dim);
      ragged.valid.lengths = static_cast<const int64_t *>(held.const_data_ptr());
      return;
    }
    TORCH_CHECK_TYPE(held.scalar_type() == at::kBool || held.scalar_type() == at::kByte, "mask is ",
                     held.scalar_type(), ", must be bool or uint8");
    TORCH_CHECK_VALUE(held.dim() == x.dim(), "mask has ", held.dim(), " dimensions, x has ", x.dim());
    for (int64_t d = 0; d < x.dim(); d++) {
      TORCH_CHECK_VALUE(held.size(d) == x.size(d) || held.size(d) == 1, "mask has shape ", held.sizes(),
                        ", which does not fit x, ", x.sizes());
      strides[d] = held.size(d) == 1 ? 0 : held.stride(d);
    }
    ragged.valid.mask = static_cast<const uint8_t *>(held.const_data_ptr());
    ragged.valid.mask_strides = strides;
  }
};

void check(const Spec &spec, const Tensor &x, const Params &params) {
  TORCH_CHECK_VALUE(core_takes(spec, x, params, !params.var.defined()),
                    "norma: these tensors do not fit this layer: x is ", x.scalar_type(), " ", x.sizes(), ", eps ",
                    spec.eps, "; eps must be at least 0, weight, bias and statistics of one type and of the layer's "
                    "shape");
}

// y; norma_saved, which is empty with given statistics; norma_moments, empty where they are not asked for.
std::tuple<Tensor, Tensor, Tensor> ragged_forward(const Tensor &x, const OptionalTensor &weight,
                                                  const OptionalTensor &bias, const OptionalTensor &mean,
                                                  const OptionalTensor &var, int64_t kind, int64_t number, double eps,
                                                  int64_t activation, const Tensor &valid, int64_t dim, bool beta,
                                                  bool refuse_single, bool moments) {
  const Spec spec{kind, number, eps, activation};
  const Params params{tensor_or_none(weight), tensor_or_none(bias), tensor_or_none(mean), tensor_or_none(var)};
  check(spec, x, params);
  const Reading reading(x, valid, dim, beta, refuse_single);
  Wanted wanted;
  wanted.saved = !params.var.defined();
  wanted.moments = moments && wanted.saved;
  Forward out;
  run_forward(spec, x, params, wanted, out, &reading.ragged);
  const at::TensorOptions doubles = x.options().dtype(at::kDouble).memory_format(at::MemoryFormat::Contiguous);
  if (!wanted.saved) out.saved = at::empty({0, 4}, doubles);
  if (!wanted.moments) out.moments = at::empty({0, 5}, doubles);
  return {out.y, out.saved, out.moments};
}

std::tuple<Tensor, Tensor, Tensor> ragged_backward(const Tensor &dy, const Tensor &x, const OptionalTensor &weight,
                                                   const OptionalTensor &bias, const OptionalTensor &mean,
                                                   const OptionalTensor &var, const Tensor &saved, int64_t kind,
                                                   int64_t number, double eps, int64_t activation, const Tensor &valid,
                                                   int64_t dim, bool refuse_single, std::array<bool, 3> mask) {
  const Spec spec{kind, number, eps, activation};
  const Params params{tensor_or_none(weight), tensor_or_none(bias), tensor_or_none(mean), tensor_or_none(var)};
  check(spec, x, params);
  TORCH_CHECK_VALUE(dy.sizes() == x.sizes() && dy.scalar_type() == x.scalar_type(), "norma: dy is ", dy.scalar_type(),
                    " ", dy.sizes(), ", must be as x, ", x.scalar_type(), " ", x.sizes());
  const Reading reading(x, valid, dim, false, refuse_single);
  const at::ScalarType as = params.weight.defined() ? params.weight.scalar_type()
                            : params.bias.defined() ? params.bias.scalar_type()
                                                    : x.scalar_type();
  Gradients out;
  run_backward(spec, dy, x, params, saved, mask, as, out, &reading.ragged);
  return out;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(norma, m) {
  m.def("ragged_forward(Tensor x, Tensor? weight, Tensor? bias, Tensor? mean, Tensor? var, int kind, int number, "
        "float eps, int activation, Tensor valid, int dim, bool beta, bool refuse_single, bool moments) "
        "-> (Tensor, Tensor, Tensor)");
  m.def("ragged_backward(Tensor dy, Tensor x, Tensor? weight, Tensor? bias, Tensor? mean, Tensor? var, Tensor saved, "
        "int kind, int number, float eps, int activation, Tensor valid, int dim, bool refuse_single, bool[3] mask) "
        "-> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(norma, CPU, m) {
  m.impl("ragged_forward", TORCH_FN(ragged_forward));
  m.impl("ragged_backward", TORCH_FN(ragged_backward));
}

}  // namespace norma_torch
