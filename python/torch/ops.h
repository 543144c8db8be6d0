// The operators of the namespace norma, as C++ calls them: through the dispatcher wherever something
// may want to see them, such as tracing.
#pragma once

#include "layer.h"

#include <array>
#include <tuple>

namespace norma_torch {

// An operator called by its name may get anything: throws where the core would not take it. The functions below check
// nothing.
void check_operands(const Tensor &x, const Params &params, const Spec &spec);
void check_gradient(const Tensor &dy, const Tensor &x);

// Whether the dispatcher would go from autograd to the kernel of the CPU at once.
bool only_autograd_in_between(const Tensor &x);

// y alone.
Tensor call_forward(const Tensor &x, const Params &params, const Spec &spec);

// y, norma_saved for backward, and norma_moments for running statistics if they are asked for (else empty).
std::tuple<Tensor, Tensor, Tensor> call_forward_saved(const Tensor &x, const Params &params, const Spec &spec,
                                                      bool moments);

void call_update(const Tensor &running_mean, const Tensor &running_var, const Tensor &moments, double weight_of_new,
                 bool biased, int64_t not_finite);

// dx, dweight and dbias; undefined where the mask does not ask. `saved` may be undefined.
std::tuple<Tensor, Tensor, Tensor> call_backward(const Tensor &dy, const Tensor &x, const Params &params,
                                                 const Tensor &saved, const Spec &spec, std::array<bool, 3> mask);

}  // namespace norma_torch
