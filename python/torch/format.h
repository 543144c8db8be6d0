// Tensors in another memory format.
#pragma once

#include <ATen/core/Tensor.h>

namespace norma_torch {

// t.contiguous(format), for the core's vector path needs tensors that agree in their order of dimensions. Between
// contiguous and channels last it is several times as fast as PyTorch's copy.
at::Tensor in_format(const at::Tensor &t, at::MemoryFormat format);

}  // namespace norma_torch
