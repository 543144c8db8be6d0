#include "format.h"

#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>

namespace norma_torch {

namespace {

// A block of so many rows and columns is read and written by whole cache lines.
constexpr int64_t BLOCK = 32;

// Columns first .. last - 1 of a dense matrix become rows.
template <typename T>
void transpose(const T *from, T *to, int64_t rows, int64_t columns, int64_t first, int64_t last) {
  for (int64_t row = 0; row < rows; row += BLOCK) {
    const int64_t end = std::min(row + BLOCK, rows);
    for (int64_t c = first; c < last; c++)
      for (int64_t r = row; r < end; r++) to[c * rows + r] = from[r * columns + c];
  }
}

template <typename T>
void transpose_all(const at::Tensor &t, const at::Tensor &result, int64_t rows, int64_t columns) {
  const T *from = static_cast<const T *>(t.const_data_ptr());
  T *to = static_cast<T *>(result.mutable_data_ptr());
  const int64_t blocks = (columns + BLOCK - 1) / BLOCK;
  at::parallel_for(0, t.size(0) * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t sample = i / blocks * rows * columns, first = i % blocks * BLOCK;
      transpose(from + sample, to + sample, rows, columns, first, std::min(first + BLOCK, columns));
    }
  });
}

bool is_channels_last(at::MemoryFormat format) {
  return format == at::MemoryFormat::ChannelsLast || format == at::MemoryFormat::ChannelsLast3d;
}

}  // namespace

at::Tensor in_format(const at::Tensor &t, at::MemoryFormat format) {
  if (t.is_contiguous(format)) return t;
  const at::MemoryFormat last = t.dim() == 5 ? at::MemoryFormat::ChannelsLast3d : at::MemoryFormat::ChannelsLast;
  const bool to_last = is_channels_last(format);
  const bool transposes = (t.dim() == 4 || t.dim() == 5) && t.numel() > 0 &&
                          t.is_contiguous(to_last ? at::MemoryFormat::Contiguous : last) && t.is_cpu() &&
                          !t.is_conj() && !t.is_neg();
  if (!transposes || t.element_size() > 4 || t.element_size() < 2) return t.contiguous(format);
  const at::Tensor result = at::detail::empty_cpu(t.sizes(), t.scalar_type(), false, format);
  const int64_t channels = t.size(1), space = t.numel() / t.size(0) / channels;
  const int64_t rows = to_last ? channels : space, columns = to_last ? space : channels;
  if (t.element_size() == 4) transpose_all<uint32_t>(t, result, rows, columns);
  else transpose_all<uint16_t>(t, result, rows, columns);
  return result;
}

}  // namespace norma_torch
