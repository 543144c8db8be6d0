// Batch norm on a part of a batch, the other parts being on other ranks: what norma.torch.SyncBatchNorm calls before
// and after its exchanges. Sets of statistics travel as float64 tensors that hold norma_moments and norma_sums.
#include "kernels.h"

#include <ATen/Functions.h>
#include <torch/library.h>

namespace norma_torch {

namespace {

void check(const Spec &spec, const Tensor &x, const Params &params) {
  TORCH_CHECK_VALUE(core_takes(spec, x, params, true), "norma: these tensors do not fit batch norm: x is ",
                    x.scalar_type(), " ", x.sizes(), ", eps ", spec.eps, "; eps must be at least 0, weight and bias ",
                    "of one type, and vectors of one element per channel");
}

// Sets of `fields` float64 numbers, one for each channel of each part.
void check_sets(const char *name, const Tensor &sets, const Tensor &x, int64_t fields) {
  TORCH_CHECK_VALUE(sets.scalar_type() == at::kDouble && sets.is_contiguous() && sets.dim() == 2 &&
                        sets.size(1) == fields && sets.size(0) % x.size(1) == 0,
                    "norma: ", name, " is ", sets.scalar_type(), " ", sets.sizes(),
                    ", must be contiguous float64 [k * ", x.size(1), ", ", fields, "]");
}

// The moments of x: of each sample, or of all samples together.
Tensor sync_moments(const Tensor &x, double eps, bool together) {
  const Spec spec{BATCH, 0, eps, 0};
  check(spec, x, {});
  Wanted wanted;
  wanted.y = false;
  wanted.moments = together;
  wanted.sample_moments = !together;
  if (!together && norma_layer_samples(&core_layer(spec, x)) == 0)
    return at::empty({0, 5}, x.options().dtype(at::kDouble));
  Forward out;
  run_forward(spec, x, {}, wanted, out);
  return together ? out.moments : out.sample_moments;
}

// y, norma_saved for backward, and the moments of the whole batch, made of the sets in `moments`.
std::tuple<Tensor, Tensor, Tensor> sync_forward(const Tensor &x, const OptionalTensor &weight,
                                                const OptionalTensor &bias, const Tensor &moments, double eps,
                                                int64_t activation) {
  const Spec spec{BATCH, 0, eps, activation};
  const Params params{tensor_or_none(weight), tensor_or_none(bias), {}, {}};
  check(spec, x, params);
  check_sets("moments", moments, x, 5);
  Wanted wanted;
  wanted.saved = wanted.moments = true;
  wanted.given_moments = moments;
  Forward out;
  run_forward(spec, x, params, wanted, out);
  return {out.y, out.saved, out.moments};
}

// a + b without an error: the sum and what it lost.
void add(double &hi, double &lo, double b) {
  const double sum = hi + b, part = sum - hi;
  lo += (hi - (sum - part)) + (b - part);
  hi = sum;
}

void join(norma_sums &into, const norma_sums &more, bool about_first) {
  if (more.count == 0) return;
  if (into.count == 0) into.first = more.first;
  add(into.dy, into.dy_lo, more.dy);
  if (about_first) add(into.dy, into.dy_lo, static_cast<double>(more.count) * (more.first - into.first));
  add(into.dy_xhat, into.dy_xhat_lo, more.dy_xhat);
  into.dy_lo += more.dy_lo;
  into.dy_xhat_lo += more.dy_xhat_lo;
  into.count += more.count;
}

// One set in place of those of all samples.
Tensor joined(const Tensor &sums, int64_t units, bool about_first) {
  Tensor result = at::zeros({units, 6}, sums.options());
  auto *into = static_cast<norma_sums *>(result.mutable_data_ptr());
  const auto *from = static_cast<const norma_sums *>(sums.const_data_ptr());
  for (int64_t i = 0; i < sums.size(0); i++) join(into[i % units], from[i], about_first);
  return result;
}

// The sums of each sample or of all samples together, and dweight and dbias of this x alone.
std::tuple<Tensor, Tensor, Tensor> sync_sums(const Tensor &dy, const Tensor &x, const OptionalTensor &weight,
                                             const OptionalTensor &bias, const Tensor &saved, double eps,
                                             int64_t activation, bool together, std::array<bool, 2> mask) {
  const Spec spec{BATCH, 0, eps, activation};
  const Params params{tensor_or_none(weight), tensor_or_none(bias), {}, {}};
  check(spec, x, params);
  check_sets("saved", saved, x, 4);
  const at::ScalarType as = params.weight.defined() ? params.weight.scalar_type()
                            : params.bias.defined() ? params.bias.scalar_type()
                                                    : x.scalar_type();
  Tensor sums;
  Shared shared;
  shared.sample_sums = &sums;
  Gradients out;
  run_backward(spec, dy, x, params, saved, {false, mask[0], mask[1]}, as, out, nullptr, shared);
  if (together) sums = joined(sums, x.size(1), x.scalar_type() == at::kDouble);
  return {sums, std::get<1>(out), std::get<2>(out)};
}

// dx through the statistics of the whole batch, whose sums are the sets in `sums`.
Tensor sync_backward(const Tensor &dy, const Tensor &x, const OptionalTensor &weight, const OptionalTensor &bias,
                     const Tensor &saved, const Tensor &sums, double eps, int64_t activation) {
  const Spec spec{BATCH, 0, eps, activation};
  const Params params{tensor_or_none(weight), tensor_or_none(bias), {}, {}};
  check(spec, x, params);
  check_sets("saved", saved, x, 4);
  check_sets("sums", sums, x, 6);
  Shared shared;
  shared.given_sums = sums;
  Gradients out;
  run_backward(spec, dy, x, params, saved, {true, false, false}, x.scalar_type(), out, nullptr, shared);
  return std::get<0>(out);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(norma, m) {
  m.def("sync_moments(Tensor x, float eps, bool together) -> Tensor");
  m.def("sync_forward(Tensor x, Tensor? weight, Tensor? bias, Tensor moments, float eps, int activation) "
        "-> (Tensor, Tensor, Tensor)");
  m.def("sync_sums(Tensor dy, Tensor x, Tensor? weight, Tensor? bias, Tensor saved, float eps, int activation, "
        "bool together, bool[2] mask) -> (Tensor, Tensor, Tensor)");
  m.def("sync_backward(Tensor dy, Tensor x, Tensor? weight, Tensor? bias, Tensor saved, Tensor sums, float eps, "
        "int activation) -> Tensor");
}

TORCH_LIBRARY_IMPL(norma, CPU, m) {
  m.impl("sync_moments", TORCH_FN(sync_moments));
  m.impl("sync_forward", TORCH_FN(sync_forward));
  m.impl("sync_sums", TORCH_FN(sync_sums));
  m.impl("sync_backward", TORCH_FN(sync_backward));
}

}  // namespace norma_torch
