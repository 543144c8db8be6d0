#include "kernels.h"

#include "counters.h"
#include "format.h"

#include <ATen/EmptyTensor.h>
#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

namespace norma_torch {

namespace {

// PyTorch's threads, so that torch.set_num_threads rules and no second pool competes for the processors. Each takes the
// next task when it is done with one: they do not wait for the slowest.
void run_on_torch_threads(void *, int64_t count, void (*task)(void *, int64_t), void *context) {
  std::atomic<int64_t> next{0};
  at::parallel_for(0, std::min<int64_t>(count, at::get_num_threads()), 1, [&](int64_t, int64_t) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) task(context, i);
  });
}

void run_here(void *, int64_t count, void (*task)(void *, int64_t), void *context) {
  for (int64_t i = 0; i < count; i++) task(context, i);
}

constexpr norma_threads many = {run_on_torch_threads, nullptr}, one = {run_here, nullptr};

// Below this, waking the threads takes longer than what they save.
constexpr int64_t BYTES_SHARED = 64 * 1024;

const norma_threads *threads_for(const Tensor &x) {
  return x.numel() * x.element_size() < BYTES_SHARED ? &one : &many;
}

// A dense array of the core's parameter type: the tensor's own where it is that, else a copy.
struct Array {
  Tensor held;
  const void *at = nullptr;
  Array(const Tensor &t, at::ScalarType type) {
    if (!t.defined()) return;
    const bool as_it_is = t.scalar_type() == type && t.is_contiguous();
    if (!as_it_is) held = t.to(type).contiguous();
    at = (as_it_is ? t : held).const_data_ptr();
  }
  const void *data() const { return at; }
};

// Memory of the CPU, without a way through the dispatcher.
Tensor new_tensor(at::IntArrayRef shape, at::ScalarType type, at::MemoryFormat format = at::MemoryFormat::Contiguous) {
  return at::detail::empty_cpu(shape, type, false, format);
}

// PyTorch gives an empty tensor for a layer that has none.
void *data_of(const Tensor &t) { return t.defined() ? t.mutable_data_ptr() : nullptr; }

// Sets of moments or sums that x has, times the units of each.
int64_t sets_of(const norma_layer &layer) { return norma_layer_samples(&layer) * norma_layer_units(&layer); }

// Given statistics of instance norm are per channel, and the same for every sample.
const int64_t *given_strides(const Spec &spec) {
  static const int64_t per_channel[NORMA_MAX_DIMS] = {0, 1};
  return spec.kind == INSTANCE ? per_channel : nullptr;
}

unsigned flags_of(const Spec &spec, const Ragged *ragged) {
  return (spec.eps == 0 ? NORMA_EPS_ZERO : 0) | (ragged && ragged->refuse_single ? NORMA_REFUSE_SINGLE : 0);
}

bool accept(norma_status status, const norma_error &error, const Params &params, const Ragged *ragged) {
  if (status == NORMA_OK) return true;
  if (status == NORMA_BAD_ARGUMENT && params.var.defined() && !ragged) return false;
  TORCH_CHECK_VALUE(status != NORMA_NO_MEMORY, "out of memory: ", error.detail);
  TORCH_CHECK_VALUE(false, error.detail);
}

}  // namespace

bool run_forward(const Spec &spec, const Tensor &x_given, const Params &params, const Wanted &wanted, Forward &out,
                 const Ragged *ragged) {
  const at::MemoryFormat format = result_format(spec, x_given);
  const Tensor x = in_format(x_given, format);
  const norma_layer &layer = core_layer(spec, x);
  const int64_t units = norma_layer_units(&layer);
  const at::ScalarType type = param_type(x.scalar_type());
  const Array weight(params.weight, type), bias(params.bias, type), mean(params.mean, type), var(params.var, type);
  if (wanted.y) out.y = new_tensor(x.sizes(), x.scalar_type(), format);
  if (wanted.saved) out.saved = new_tensor({units, 4}, at::kDouble);
  if (wanted.moments) out.moments = new_tensor({units, 5}, at::kDouble);
  if (wanted.mean) out.mean = new_tensor({units}, type);
  if (wanted.var) out.var = new_tensor({units}, type);
  if (wanted.rstd) out.rstd = new_tensor({units}, type);
  if (wanted.sample_moments) out.sample_moments = new_tensor({sets_of(layer), 5}, at::kDouble);

  norma_forward_args args{};
  args.size = sizeof args;
  args.layer = &layer;
  args.type = core_type(x.scalar_type());
  args.x = x.const_data_ptr();
  args.x_strides = x.strides().data();
  if (wanted.y) {
    args.y = out.y.mutable_data_ptr();
    args.y_strides = out.y.strides().data();
  }
  args.weight = weight.data();
  args.bias = bias.data();
  args.eps = spec.eps;
  args.flags = flags_of(spec, ragged);
  args.given_mean = mean.data();
  args.given_var = var.data();
  args.given_strides = given_strides(spec);
  args.mean = data_of(out.mean);
  args.var = data_of(out.var);
  args.rstd = data_of(out.rstd);
  args.saved = static_cast<norma_saved *>(data_of(out.saved));
  args.moments = static_cast<norma_moments *>(data_of(out.moments));
  args.threads = threads_for(x);
  args.activation = static_cast<norma_activation>(spec.activation);
  args.sample_moments = static_cast<norma_moments *>(data_of(out.sample_moments));
  args.given_moments = static_cast<const norma_moments *>(data_of(wanted.given_moments));
  args.given_samples = wanted.given_moments.defined() ? wanted.given_moments.size(0) / units : 0;
  norma_error error{};
  const norma_status status =
      ragged ? norma_ragged_forward(&args, &ragged->valid, &error) : norma_forward(&args, &error);
  if (!accept(status, error, params, ragged)) return false;
  count(spec.kind, FORWARD);
  return true;
}

bool run_backward(const Spec &spec, const Tensor &dy_given, const Tensor &x_given, const Params &params,
                  const Tensor &saved, std::array<bool, 3> mask, at::ScalarType params_as, Gradients &out,
                  const Ragged *ragged, const Shared &shared) {
  const at::MemoryFormat format = result_format(spec, x_given);
  const Tensor x = in_format(x_given, format), dy = in_format(dy_given, format);
  const norma_layer &layer = core_layer(spec, x);
  const at::ScalarType type = param_type(x.scalar_type());
  const Array weight(params.weight, type), bias(params.bias, type), mean(params.mean, type), var(params.var, type);
  auto &[dx, dweight, dbias] = out;
  const auto new_param = [&] {
    const int64_t elements = norma_layer_params(&layer);
    at::IntArrayRef shape = params.weight.defined() ? params.weight.sizes()
                            : params.bias.defined() ? params.bias.sizes()
                                                    : at::IntArrayRef(elements);
    return new_tensor(shape, type);
  };
  if (mask[0]) dx = at::empty_like(x, format);
  if (mask[1]) dweight = new_param();
  if (mask[2]) dbias = new_param();
  if (shared.sample_sums) *shared.sample_sums = new_tensor({sets_of(layer), 6}, at::kDouble);

  norma_backward_args args{};
  args.size = sizeof args;
  args.layer = &layer;
  args.type = core_type(x.scalar_type());
  args.x = x.const_data_ptr();
  args.x_strides = x.strides().data();
  args.dy = dy.const_data_ptr();
  args.dy_strides = dy.strides().data();
  args.dx = data_of(dx);
  if (dx.defined()) args.dx_strides = dx.strides().data();
  args.weight = weight.data();
  args.bias = bias.data();
  args.dweight = data_of(dweight);
  args.dbias = data_of(dbias);
  args.eps = spec.eps;
  args.flags = flags_of(spec, ragged);
  args.given_mean = mean.data();
  args.given_var = var.data();
  args.given_strides = given_strides(spec);
  args.saved = params.var.defined() ? nullptr : static_cast<const norma_saved *>(data_of(saved));
  args.threads = threads_for(x);
  args.activation = static_cast<norma_activation>(spec.activation);
  args.sample_sums = shared.sample_sums ? static_cast<norma_sums *>(data_of(*shared.sample_sums)) : nullptr;
  args.given_sums = static_cast<const norma_sums *>(data_of(shared.given_sums));
  args.given_samples = shared.given_sums.defined() ? shared.given_sums.size(0) / norma_layer_units(&layer) : 0;
  norma_error error{};
  const norma_status status =
      ragged ? norma_ragged_backward(&args, &ragged->valid, &error) : norma_backward(&args, &error);
  if (!accept(status, error, params, ragged)) return false;
  if (dweight.defined()) dweight = dweight.to(params_as);
  if (dbias.defined()) dbias = dbias.to(params_as);
  count(spec.kind, BACKWARD);
  return true;
}

namespace {

// The update as norma.h writes it, without what it refuses. Averages over samples, as instance norm does.
void plain_update(const Tensor &running, const Tensor &moments, double weight_of_new, bool is_var, bool biased) {
  const int64_t channels = running.numel(), samples = moments.size(0) / channels;
  const auto *m = static_cast<const norma_moments *>(moments.const_data_ptr());
  double *value = static_cast<double *>(running.mutable_data_ptr());
  for (int64_t c = 0; c < channels; c++) {
    double sum = 0;
    for (int64_t s = 0; s < samples; s++) {
      const norma_moments &one = m[s * channels + c];
      if (one.count == 0) return;
      sum += is_var ? (one.m2 + one.m2_lo) / static_cast<double>(one.count - (biased ? 0 : 1)) : one.mean;
    }
    value[c] = (1 - weight_of_new) * value[c] + weight_of_new * (sum / static_cast<double>(samples));
  }
}

}  // namespace

void run_update(const Tensor &running_mean, const Tensor &running_var, const Tensor &moments, double weight_of_new,
                bool biased, int64_t not_finite) {
  const Tensor &some = running_mean.defined() ? running_mean : running_var;
  if (!some.defined() || some.numel() == 0 || moments.size(0) == 0 || weight_of_new == 0) return;
  const at::ScalarType type = param_type(some.scalar_type());
  // The tensors themselves where they are dense and of the core's type: they are written.
  const auto dense = [type](const Tensor &t) { return t.defined() ? t.to(type).contiguous() : t; };
  const Tensor mean = dense(running_mean), var = dense(running_var);
  norma_running_args args{};
  args.size = sizeof args;
  args.type = core_type(type);
  args.convention = biased ? NORMA_ONNX : NORMA_PYTORCH;
  args.momentum = biased ? 1 - weight_of_new : weight_of_new;
  args.channels = some.numel();
  args.samples = moments.size(0) / some.numel();
  args.moments = static_cast<const norma_moments *>(moments.const_data_ptr());
  args.running_mean = data_of(mean);
  args.running_var = data_of(var);
  args.not_finite = static_cast<norma_not_finite>(not_finite);
  norma_error error{};
  norma_status status = biased && weight_of_new == 1 ? NORMA_BAD_ARGUMENT : norma_running_update(&args, &error);
  TORCH_CHECK_VALUE(status != NORMA_NOT_FINITE, error.detail);
  for (const auto &[running, held, is_var] : {std::tuple(running_mean, mean, false),
                                              std::tuple(running_var, var, true)}) {
    if (!running.defined()) continue;
    Tensor result = held;
    if (status != NORMA_OK) {
      result = running.to(at::kDouble).contiguous().clone();
      plain_update(result, moments, weight_of_new, is_var, biased);
    }
    if (!result.is_same(running)) running.copy_(result);
  }
}

}  // namespace norma_torch
