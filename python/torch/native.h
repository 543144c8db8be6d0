// What native.cpp and native_batch.cpp share.
#pragma once

#include "layer.h"

namespace norma_torch {

// The type in which PyTorch's kernels return mean and rstd: that of the parameters, if there are any.
at::ScalarType statistics_type(const Tensor &x, const Params &params);

}  // namespace norma_torch
