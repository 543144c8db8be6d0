// PyTorch's own CPU kernels of layer and group norm, for those who call aten::native_layer_norm directly: function
// transforms, forward-mode AD, decompositions, programs. native_batch.cpp has those of batch norm.
#include "override.h"

#include "counters.h"
#include "kernels.h"
#include "native.h"

#include <ATen/Functions.h>
#include <ATen/ops/native_group_norm_backward_native.h>
#include <ATen/ops/native_group_norm_native.h>
#include <ATen/ops/native_layer_norm_backward_native.h>
#include <ATen/ops/native_layer_norm_native.h>

namespace norma_torch {

at::ScalarType statistics_type(const Tensor &x, const Params &p) {
  for (const Tensor *t : {&p.weight, &p.bias, &p.mean, &p.var})
    if (t->defined()) return t->scalar_type();
  return x.scalar_type();
}

namespace {

using Three = std::tuple<Tensor, Tensor, Tensor>;

int64_t dims_of(const Tensor &x, at::IntArrayRef normalized_shape) {
  const auto count = static_cast<int64_t>(normalized_shape.size());
  if (count == 0 || count > x.dim() || x.dim() > NORMA_MAX_DIMS) return 0;
  return x.sizes().slice(x.dim() - count) == normalized_shape ? trailing_dims(x.dim(), count) : 0;
}

Three forward(const Tensor &x, const Params &params, const Spec &spec, at::IntArrayRef statistics_shape) {
  Wanted wanted;
  wanted.mean = wanted.rstd = true;
  Forward out;
  run_forward(spec, x, params, wanted, out);
  const at::ScalarType type = statistics_type(x, params);
  return {out.y, out.mean.view(statistics_shape).to(type), out.rstd.view(statistics_shape).to(type)};
}

// What PyTorch saved is a mean rounded to its type, and no eps. So the mean is taken again from x, and rstd, where
// rounding does no harm, is theirs.
Three backward(const Tensor &dy, const Tensor &x, const Tensor &rstd, const Params &params, Spec spec,
               std::array<bool, 3> mask) {
  Wanted wanted;
  wanted.y = false;
  wanted.saved = true;
  Forward statistics;
  run_forward(spec, x, {}, wanted, statistics);
  const Tensor given = rstd.to(at::kDouble).contiguous();
  const double *theirs = given.const_data_ptr<double>();
  auto *saved = static_cast<norma_saved *>(statistics.saved.mutable_data_ptr());
  for (int64_t u = 0; u < given.numel(); u++) saved[u].rstd = theirs[u] / saved[u].scale;
  Gradients out;
  run_backward(spec, dy, x, params, statistics.saved, mask, statistics_type(x, params), out);
  return out;
}

bool same_kind(const Tensor &a, const Tensor &b) {
  return a.scalar_type() == b.scalar_type() && a.device() == b.device() && a.layout() == b.layout();
}

Three layer_norm(const Tensor &x, at::IntArrayRef normalized_shape, const OptionalTensor &weight,
                 const OptionalTensor &bias, double eps) {
  const Params params{tensor_or_none(weight), tensor_or_none(bias), {}, {}};
  const Spec spec{LAYER, dims_of(x, normalized_shape), eps, 0};
  if (!core_takes(spec, x, params, true)) {
    const PassThrough counted(LAYER);
    return at::native::layer_norm_cpu(x, normalized_shape, weight, bias, eps);
  }
  at::DimVector shape(x.sizes().begin(), x.sizes().end() - static_cast<int64_t>(normalized_shape.size()));
  shape.resize(x.dim(), 1);
  return forward(x, params, spec, shape);
}

Three layer_norm_backward(const Tensor &dy, const Tensor &x, at::IntArrayRef normalized_shape, const Tensor &mean,
                          const Tensor &rstd, const OptionalTensor &weight, const OptionalTensor &bias,
                          std::array<bool, 3> mask) {
  const Params params{tensor_or_none(weight), tensor_or_none(bias), {}, {}};
  const Spec spec{LAYER, dims_of(x, normalized_shape), 0, 0};
  if (!core_takes(spec, x, params, true) || !same_kind(dy, x) || dy.sizes() != x.sizes() ||
      rstd.numel() * c10::multiply_integers(normalized_shape) != x.numel()) {
    const PassThrough counted(LAYER);
    return at::native::layer_norm_backward_cpu(dy, x, normalized_shape, mean, rstd, weight, bias, mask);
  }
  // PyTorch gives no gradient for a weight or bias that there is not.
  mask[1] = mask[1] && params.weight.defined();
  mask[2] = mask[2] && params.bias.defined();
  return backward(dy, x, rstd, params, spec, mask);
}

bool group_sizes_are(const Tensor &x, int64_t n, int64_t c, int64_t hxw) {
  return x.dim() >= 2 && x.size(0) == n && x.size(1) == c && x.numel() == n * c * hxw;
}

Three group_norm(const Tensor &x, const OptionalTensor &weight, const OptionalTensor &bias, int64_t n, int64_t c,
                 int64_t hxw, int64_t groups, double eps) {
  const Params params{tensor_or_none(weight), tensor_or_none(bias), {}, {}};
  const Spec spec{GROUP, groups, eps, 0};
  if (!core_takes(spec, x, params, true) || !group_sizes_are(x, n, c, hxw)) {
    const PassThrough counted(GROUP);
    return at::native::native_group_norm(x, weight, bias, n, c, hxw, groups, eps);
  }
  return forward(x, params, spec, {n, groups});
}

Three group_norm_backward(const Tensor &dy, const Tensor &x, const Tensor &mean, const Tensor &rstd,
                          const OptionalTensor &weight, int64_t n, int64_t c, int64_t hxw, int64_t groups,
                          std::array<bool, 3> mask) {
  const Params params{tensor_or_none(weight), {}, {}, {}};
  const Spec spec{GROUP, groups, 0, 0};
  if (!core_takes(spec, x, params, true) || !group_sizes_are(x, n, c, hxw) || !same_kind(dy, x) ||
      dy.sizes() != x.sizes() || rstd.numel() != n * groups) {
    const PassThrough counted(GROUP);
    return at::native::native_group_norm_backward(dy, x, mean, rstd, weight, n, c, hxw, groups, mask);
  }
  return backward(dy, x, rstd, params, spec, mask);
}

}  // namespace

void override_native_layer_and_group(torch::Library &m) {
  m.impl("native_layer_norm", TORCH_FN(layer_norm));
  m.impl("native_layer_norm_backward", TORCH_FN(layer_norm_backward));
  m.impl("native_group_norm", TORCH_FN(group_norm));
  m.impl("native_group_norm_backward", TORCH_FN(group_norm_backward));
}

}  // namespace norma_torch
