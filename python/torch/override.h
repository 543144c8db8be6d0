// What replaces PyTorch's kernels while the override is on.
#pragma once

#include <torch/library.h>

namespace norma_torch {

void override_entry_points(torch::Library &m);  // at AutogradCPU, and at CPU for inference mode
void override_native_layer_and_group(torch::Library &m);  // at CPU
void override_native_batch(torch::Library &m);            // at CPU

}  // namespace norma_torch
