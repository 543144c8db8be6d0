#include "layer.h"

#include <c10/util/Exception.h>

#include <cmath>

namespace norma_torch {

int64_t trailing_dims(int64_t ndim, int64_t count) {
  return ((int64_t(1) << count) - 1) << (ndim - count);
}

namespace {

bool is_trailing(int64_t dims, int64_t ndim) {
  int64_t lowest = dims & -dims;
  return dims + lowest == int64_t(1) << ndim;
}

bool known_type(at::ScalarType t) {
  return t == at::kFloat || t == at::kDouble || t == at::kHalf || t == at::kBFloat16;
}

bool plain(const Tensor &t) { return t.device().is_cpu() && t.layout() == at::kStrided; }

// The type that all of weight, bias and statistics have: that of the data, or float32 beside 16 bits.
bool params_have_one_type(const Tensor &x, const Params &p) {
  std::optional<at::ScalarType> type;
  for (const Tensor *t : {&p.weight, &p.bias, &p.mean, &p.var}) {
    if (!t->defined()) continue;
    if (!plain(*t) || (type && *type != t->scalar_type())) return false;
    type = t->scalar_type();
  }
  return !type || *type == x.scalar_type() || *type == param_type(x.scalar_type());
}

// Vectors of one element per channel.
bool channel_params(const Tensor &x, const Params &p) {
  for (const Tensor *t : {&p.weight, &p.bias, &p.mean, &p.var})
    if (t->defined() && (t->dim() != 1 || t->sym_size(0) != x.sym_size(1))) return false;
  return x.sym_size(1) != 0;
}

// One element for each position of the dimensions that are normalized.
bool position_params(const Spec &spec, const Tensor &x, const Params &p) {
  if (spec.number <= 0 || spec.number >> x.dim() != 0) return false;
  for (const Tensor *t : {&p.weight, &p.bias}) {
    if (!t->defined()) continue;
    int64_t at = 0;
    for (int64_t d = 0; d < x.dim(); d++) {
      if (!(spec.number >> d & 1)) continue;
      if (at >= t->dim() || t->sym_size(at++) != x.sym_size(d)) return false;
    }
    if (at != t->dim()) return false;
  }
  return !p.mean.defined() && !p.var.defined();
}

bool space_is_empty(const Tensor &x) {
  for (int64_t d = 2; d < x.dim(); d++)
    if (x.sym_size(d) == 0) return true;
  return false;
}

bool shapes_fit(const Spec &spec, const Tensor &x, const Params &p, bool training) {
  const bool given = p.mean.defined() && p.var.defined();
  switch (spec.kind) {
    case BATCH:
      return x.dim() >= 2 && channel_params(x, p) && (training || given);
    case INSTANCE:
      return x.dim() >= 3 && channel_params(x, p) && !space_is_empty(x) && (training || given);
    case GROUP:
      return x.dim() >= 2 && spec.number > 0 && channel_params(x, p) && x.sym_size(1) % spec.number == 0 &&
             !space_is_empty(x);
    default:
      return x.dim() >= 1 && position_params(spec, x, p) && !(spec.kind == RMS && p.bias.defined());
  }
}

}  // namespace

at::MemoryFormat result_format(const Spec &spec, const Tensor &x) {
  if ((spec.kind == INSTANCE && spec.number == 0) || (spec.kind == LAYER && is_trailing(spec.number, x.dim())))
    return at::MemoryFormat::Contiguous;
  return x.suggest_memory_format();
}

bool core_takes(const Spec &spec, const Tensor &x, const Params &params, bool training) {
  return plain(x) && x.dim() <= NORMA_MAX_DIMS && known_type(x.scalar_type()) && spec.eps >= 0 &&
         std::isfinite(spec.eps) && params_have_one_type(x, params) && shapes_fit(spec, x, params, training);
}

norma_type core_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat: return NORMA_F32;
    case at::kDouble: return NORMA_F64;
    case at::kHalf: return NORMA_F16;
    case at::kBFloat16: return NORMA_BF16;
    default: break;
  }
  TORCH_CHECK_TYPE(false, "x is ", type, ", must be float32, float64, float16 or bfloat16");
}

at::ScalarType param_type(at::ScalarType data_type) { return data_type == at::kDouble ? at::kDouble : at::kFloat; }

const norma_layer &core_layer(const Spec &spec, const Tensor &x) {
  static thread_local norma_layer kept[KINDS];
  static thread_local int64_t kept_number[KINDS];
  TORCH_CHECK_VALUE(spec.kind >= 0 && spec.kind < KINDS, "kind is ", spec.kind, ", must be 0 to ", KINDS - 1);
  TORCH_CHECK_VALUE(x.dim() >= 1 && x.dim() <= NORMA_MAX_DIMS, "x has ", x.dim(), " dimensions, must have 1 to ",
                    int(NORMA_MAX_DIMS));
  norma_layer &layer = kept[spec.kind];
  const at::IntArrayRef shape = x.sizes();
  if (layer.size && kept_number[spec.kind] == spec.number && shape == at::IntArrayRef(layer.shape, layer.ndim))
    return layer;
  norma_error error{};
  norma_status status = NORMA_OK;
  const int ndim = static_cast<int>(x.dim());
  layer.size = 0;
  switch (spec.kind) {
    case BATCH: status = norma_layer_batch(&layer, ndim, shape.data(), &error); break;
    case INSTANCE: status = norma_layer_instance(&layer, ndim, shape.data(), &error); break;
    case GROUP: status = norma_layer_group(&layer, spec.number, ndim, shape.data(), &error); break;
    case LAYER: status = norma_layer_norm_dims(&layer, unsigned(spec.number), ndim, shape.data(), &error); break;
    default: status = norma_layer_rms_dims(&layer, unsigned(spec.number), ndim, shape.data(), &error); break;
  }
  if (status != NORMA_OK) layer.size = 0;
  TORCH_CHECK_VALUE(status == NORMA_OK, error.detail);
  kept_number[spec.kind] = spec.number;
  return layer;
}

}  // namespace norma_torch
