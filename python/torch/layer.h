// A normalization layer as the operators of this extension pass it around, and what the core makes of it.
#pragma once

#include <ATen/core/Tensor.h>
#include <norma.h>

#include <optional>

namespace norma_torch {

using at::Tensor;
using OptionalTensor = std::optional<at::Tensor>;

// The order is that of norma.torch (python/norma/torch/_layers.py) and of counters.h.
enum Kind : int64_t { BATCH = 0, INSTANCE = 1, GROUP = 2, LAYER = 3, RMS = 4, KINDS = 5 };

// Which layer: `number` is the count of groups for GROUP, and for LAYER and RMS the dimensions that share a mean (bit i
// for dimension i). For INSTANCE 1 keeps channels_last, which PyTorch does not; for BATCH it is 0.
struct Spec {
  int64_t kind;
  int64_t number;
  double eps;
  int64_t activation;  // a norma_activation
};

// Weight, bias and given statistics; each may be undefined.
struct Params {
  Tensor weight, bias, mean, var;
};

inline Tensor tensor_or_none(const OptionalTensor &t) { return t ? *t : Tensor(); }
inline OptionalTensor optional(const Tensor &t) { return t.defined() ? OptionalTensor(t) : std::nullopt; }

// The dimensions of layer norm over the last `count` of `ndim`, as a number for Spec.
int64_t trailing_dims(int64_t ndim, int64_t count);

// The memory format of the result: PyTorch's.
at::MemoryFormat result_format(const Spec &spec, const Tensor &x);

// Whether the core takes these tensors. If not, PyTorch decides what happens. Reads no data, so that it may be asked
// about tensors that have none; `training` is false where statistics are given.
bool core_takes(const Spec &spec, const Tensor &x, const Params &params, bool training);

norma_type core_type(at::ScalarType type);
at::ScalarType param_type(at::ScalarType data_type);

// The core's layer for x; kept for the next call of this thread on the same shape. Throws what the core says.
const norma_layer &core_layer(const Spec &spec, const Tensor &x);

}  // namespace norma_torch
