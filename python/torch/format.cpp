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

// A tensor as matrices: `count` of them, dense, of so many rows and columns; none where the columns are 0.
struct Matrices {
  int64_t count = 0, rows = 0, columns = 0;
};

// Whether dimensions first .. last - 1 of a tensor lie in their order, the last of them `step` elements apart.
bool in_order(at::IntArrayRef sizes, at::IntArrayRef strides, size_t first, size_t last, int64_t step) {
  for (size_t d = last; d-- > first;) {
    if (sizes[d] != 1 && strides[d] != step) return false;
    step *= sizes[d];
  }
  return true;
}

int64_t elements(at::IntArrayRef sizes, size_t first, size_t last) {
  int64_t product = 1;
  for (size_t d = first; d < last; d++) product *= sizes[d];
  return product;
}

// Matrices that are transposed in every sample when a tensor becomes contiguous: its dimensions after the first are two
// groups, of which the first lies in the columns.
Matrices matrices_of(at::IntArrayRef sizes, at::IntArrayRef strides) {
  const size_t ndim = sizes.size();
  for (size_t split = 2; split < ndim; split++) {
    const int64_t columns = elements(sizes, 1, split), rows = elements(sizes, split, ndim);
    if (in_order(sizes, strides, 1, split, 1) && in_order(sizes, strides, split, ndim, columns) &&
        in_order(sizes, strides, 0, 1, rows * columns))
      return {sizes[0], rows, columns};
  }
  return {};
}

template <typename T>
void transpose_all(const at::Tensor &t, const at::Tensor &result, const Matrices &m) {
  const T *from = static_cast<const T *>(t.const_data_ptr());
  T *to = static_cast<T *>(result.mutable_data_ptr());
  const int64_t blocks = (m.columns + BLOCK - 1) / BLOCK;
  at::parallel_for(0, m.count * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t sample = i / blocks * m.rows * m.columns, first = i % blocks * BLOCK;
      transpose(from + sample, to + sample, m.rows, m.columns, first, std::min(first + BLOCK, m.columns));
    }
  });
}

bool is_channels_last(at::MemoryFormat format) {
  return format == at::MemoryFormat::ChannelsLast || format == at::MemoryFormat::ChannelsLast3d;
}

// The sizes, or strides, with those of the channels at the end.
at::DimVector channels_at_end(at::IntArrayRef of) {
  at::DimVector moved(of.begin(), of.end());
  std::rotate(moved.begin() + 1, moved.begin() + 2, moved.end());
  return moved;
}

}  // namespace

at::Tensor in_format(const at::Tensor &t, at::MemoryFormat format) {
  if (t.is_contiguous(format)) return t;
  const auto size = t.element_size();
  const bool plain = t.is_cpu() && !t.is_conj() && !t.is_neg() && t.numel() > 0;
  if (!plain || (size != 4 && size != 2)) return t.contiguous(format);
  const Matrices m = is_channels_last(format) ? matrices_of(channels_at_end(t.sizes()), channels_at_end(t.strides()))
                                              : matrices_of(t.sizes(), t.strides());
  if (m.columns == 0) return t.contiguous(format);
  const at::Tensor result = at::detail::empty_cpu(t.sizes(), t.scalar_type(), false, format);
  if (size == 4) transpose_all<uint32_t>(t, result, m);
  else transpose_all<uint16_t>(t, result, m);
  return result;
}

}  // namespace norma_torch
