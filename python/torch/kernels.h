// The core on tensors that have data: what the operators of ops.cpp and PyTorch's native operators run.
#pragma once

#include "layer.h"

#include <norma_ragged.h>

#include <array>
#include <tuple>

namespace norma_torch {

// What a forward pass gives besides y; undefined fields are not computed.
struct Wanted {
  bool y = true;
  bool saved = false, moments = false;  // float64 tensors (units, 4) and (units, 5): norma_saved, norma_moments
  bool mean = false, var = false, rstd = false;  // (units), float32 or float64
  bool sample_moments = false;                   // (sets * units, 5)
  Tensor given_moments;  // (sets * units, 5) of the whole batch that x is a part of; undefined: x is all of it
};
struct Forward {
  Tensor y, saved, moments, mean, var, rstd, sample_moments;
};

// Which positions are valid. One valid value per mean is refused, as in training, if `refuse_single`.
struct Ragged {
  norma_ragged valid;
  bool refuse_single;
};

// Throws nothing that core_takes() promised, but refuses a negative given variance: then false, and nothing is made.
// With `ragged` all that the core refuses is thrown.
bool run_forward(const Spec &spec, const Tensor &x, const Params &params, const Wanted &wanted, Forward &out,
                 const Ragged *ragged = nullptr);

using Gradients = std::tuple<Tensor, Tensor, Tensor>;

// Where x is a part of a batch: float64 tensors (sets * units, 6) of norma_sums.
struct Shared {
  Tensor *sample_sums = nullptr;  // out; nullptr: not computed
  Tensor given_sums;              // of the whole batch; undefined: x is all of it
};

// dx, dweight and dbias where the mask asks for them, else undefined; parameter gradients have the type `params_as`.
// `saved` may be undefined. False as above.
bool run_backward(const Spec &spec, const Tensor &dy, const Tensor &x, const Params &params, const Tensor &saved,
                  std::array<bool, 3> mask, at::ScalarType params_as, Gradients &out,
                  const Ragged *ragged = nullptr, const Shared &shared = {});

// One step of running statistics, either of which may be undefined: weight_of_new in [0, 1]. `biased` stores m2 / m.
// Where the core refuses (one value, a negative variance) the plain formula runs, with PyTorch's NaN. `not_finite` is
// a norma_not_finite.
void run_update(const Tensor &running_mean, const Tensor &running_var, const Tensor &moments, double weight_of_new,
                bool biased, int64_t not_finite);

}  // namespace norma_torch
