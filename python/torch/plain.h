// The layers in PyTorch's own operators: differentiable any number of times and in every way that PyTorch knows. For
// second derivatives, forward-mode AD, functorch, and what the core refuses.
#pragma once

#include "layer.h"

#include <array>
#include <tuple>

namespace norma_torch {

// In float64, rounded to the type of x at the end.
Tensor plain_forward(const Tensor &x, const Params &params, const Spec &spec);

// What the core refuses, a negative given variance: counted as passed through.
Tensor plain_forward_passed_through(const Tensor &x, const Params &params, const Spec &spec);
std::tuple<Tensor, Tensor, Tensor> plain_backward_passed_through(const Tensor &dy, const Tensor &x,
                                                                 const Params &params, const Spec &spec,
                                                                 std::array<bool, 3> mask);

}  // namespace norma_torch
