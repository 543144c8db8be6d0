// The layers as autograd sees them.
#pragma once

#include "layer.h"

namespace norma_torch {

// Running statistics that a training step moves; either may be undefined.
struct Running {
  Tensor mean, var;
  double weight_of_new = 0;
  bool biased = false;
  int64_t not_finite = 0;
};

// y, differentiable in x, weight and bias. core_takes() has been asked. `running` is for BATCH and INSTANCE without
// given statistics.
Tensor differentiable(const Tensor &x, const Params &params, const Spec &spec, const Running &running);

// x.contiguous(), which is part of the graph; PyTorch's own where something else than autograd wants to see it.
Tensor contiguous_copy(const Tensor &x);

// Whether a function transform (vmap, grad, ...) is active or a tensor carries a forward-mode tangent: what our own
// formulas do not know.
bool needs_plain_operators(const Tensor &x, const Params &params);

}  // namespace norma_torch
