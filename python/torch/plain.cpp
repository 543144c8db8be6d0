#include "plain.h"

#include "counters.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <norma.h>

namespace norma_torch {

namespace {

Tensor activate(const Tensor &z, int64_t activation) {
  switch (activation) {
    case NORMA_RELU: return at::relu(z);
    case NORMA_SILU: return at::silu(z);
    case NORMA_GELU: return at::gelu(z, "none");
    case NORMA_GELU_TANH: return at::gelu(z, "tanh");
    default: return z;
  }
}

bool shares(const Spec &spec, int64_t dim) {
  if (spec.kind == BATCH) return dim != 1;
  if (spec.kind == INSTANCE) return dim >= 2;
  return spec.number >> dim & 1;
}

// The layer as it sees x: group norm has the dimension of its groups for itself.
Tensor units_view(const Tensor &x, const Spec &spec) {
  if (spec.kind != GROUP) return x;
  c10::SymInt elements = x.sym_size(1) / spec.number;
  for (int64_t d = 2; d < x.dim(); d++) elements *= x.sym_size(d);
  return x.reshape_symint({x.sym_size(0), spec.number, elements});
}

std::vector<int64_t> shared_dims(const Tensor &view, const Spec &spec) {
  std::vector<int64_t> dims;
  for (int64_t d = 0; d < view.dim(); d++)
    if (spec.kind == GROUP ? d == 2 : shares(spec, d)) dims.push_back(d);
  return dims;
}

// A parameter (or a statistic per channel) in float64, shaped to be multiplied with x.
Tensor beside(const Tensor &param, const Tensor &x, const Spec &spec) {
  std::vector<c10::SymInt> shape;
  for (int64_t d = 0; d < x.dim(); d++) {
    const bool along = spec.kind >= LAYER ? shares(spec, d) : d == 1;
    shape.push_back(along ? x.sym_size(d) : c10::SymInt(1));
  }
  return param.to(at::kDouble).reshape_symint(shape);
}

Tensor normalized(const Tensor &x, const Params &params, const Spec &spec) {
  const Tensor wide = x.to(at::kDouble);
  if (params.var.defined())
    return (wide - beside(params.mean, x, spec)) * (beside(params.var, x, spec) + spec.eps).rsqrt();
  const Tensor view = units_view(wide, spec);
  const std::vector<int64_t> dims = shared_dims(view, spec);
  const Tensor centered = spec.kind == RMS ? view : view - view.mean(dims, true);
  const Tensor var = (centered * centered).mean(dims, true);
  return (centered * (var + spec.eps).rsqrt()).view_symint(x.sym_sizes());
}

}  // namespace

Tensor plain_forward(const Tensor &x, const Params &params, const Spec &spec) {
  Tensor z = normalized(x, params, spec);
  if (params.weight.defined()) z = z * beside(params.weight, x, spec);
  if (params.bias.defined()) z = z + beside(params.bias, x, spec);
  return activate(z, spec.activation).to(x.scalar_type()).contiguous(result_format(spec, x));
}

Tensor plain_forward_passed_through(const Tensor &x, const Params &params, const Spec &spec) {
  const PassThrough counted(spec.kind);
  return plain_forward(x, params, spec);
}

std::tuple<Tensor, Tensor, Tensor> plain_backward_passed_through(const Tensor &dy, const Tensor &x,
                                                                 const Params &params, const Spec &spec,
                                                                 std::array<bool, 3> mask) {
  const PassThrough counted(spec.kind);
  Params without = params;
  without.weight = without.bias = Tensor();
  Spec linear = spec;
  linear.activation = NORMA_ACT_NONE;
  const Tensor xhat = normalized(x, without, linear), wide = dy.to(at::kDouble);
  Tensor z = xhat, dz = wide;
  if (params.weight.defined()) z = z * beside(params.weight, x, spec);
  if (params.bias.defined()) z = z + beside(params.bias, x, spec);
  if (spec.activation == NORMA_RELU) dz = at::threshold_backward(wide, z, 0);
  if (spec.activation == NORMA_SILU) dz = at::silu_backward(wide, z);
  if (spec.activation == NORMA_GELU) dz = at::gelu_backward(wide, z, "none");
  if (spec.activation == NORMA_GELU_TANH) dz = at::gelu_backward(wide, z, "tanh");
  std::vector<int64_t> all_but_channels;
  for (int64_t d = 0; d < x.dim(); d++)
    if (d != 1) all_but_channels.push_back(d);
  const at::ScalarType as = params.weight.defined() ? params.weight.scalar_type() : x.scalar_type();
  Tensor dx, dweight, dbias;
  if (mask[0]) {
    const Tensor q = params.weight.defined() ? dz * beside(params.weight, x, spec) : dz;
    dx = (q * (beside(params.var, x, spec) + spec.eps).rsqrt()).to(x.scalar_type()).contiguous(result_format(spec, x));
  }
  if (mask[1]) dweight = (dz * xhat).sum(all_but_channels).to(as);
  if (mask[2]) dbias = dz.sum(all_but_channels).to(as);
  return {dx, dweight, dbias};
}

}  // namespace norma_torch
