#include "format.h"

#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace norma_torch {

namespace {

// A tensor as matrices: `count` of them, dense, of so many rows and columns; none where the columns are 0.
struct Matrices {
  int64_t count = 0, rows = 0, columns = 0;
};

// 16 bytes of a row.
template <typename T>
using Piece [[gnu::vector_size(16)]] = T;

inline void interleave(Piece<uint32_t> a, Piece<uint32_t> b, Piece<uint32_t> to[2]) {
  to[0] = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  to[1] = __builtin_shufflevector(a, b, 2, 6, 3, 7);
}

inline void interleave(Piece<uint16_t> a, Piece<uint16_t> b, Piece<uint16_t> to[2]) {
  to[0] = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  to[1] = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}

// Elements of a piece, and of a cache line.
template <typename T>
constexpr int64_t SIDE = 16 / sizeof(T);
template <typename T>
constexpr int64_t LINE = 4 * SIDE<T>;

// A square of one piece by as many rows: the halves of the rows are interleaved until every piece is a column.
template <typename T>
inline void transpose_square(const T *from, int64_t from_step, T *to, int64_t to_step) {
  Piece<T> row[SIDE<T>], mixed[SIDE<T>];
  for (int i = 0; i < SIDE<T>; i++) std::memcpy(&row[i], from + i * from_step, sizeof row[i]);
  for (int mixes = 1; mixes < SIDE<T>; mixes *= 2) {
    for (int i = 0; i < SIDE<T> / 2; i++) interleave(row[i], row[i + SIDE<T> / 2], &mixed[2 * i]);
    std::copy(mixed, mixed + SIDE<T>, row);
  }
  for (int i = 0; i < SIDE<T>; i++) std::memcpy(to + i * to_step, &row[i], sizeof row[i]);
}

// Fetches a line that is read, or written, soon; it may be past the end.
template <bool write, typename T>
inline void prefetch(const T *array, int64_t at) {
  __builtin_prefetch(reinterpret_cast<const void *>(reinterpret_cast<uintptr_t>(array) + at * sizeof(T)), write);
}

// Some rows and columns of a dense matrix become columns and rows.
template <typename T>
void transpose_plain(const T *from, T *to, const Matrices &m, int64_t row, int64_t row_end, int64_t column,
                     int64_t column_end) {
  for (int64_t c = column; c < column_end; c++)
    for (int64_t r = row; r < row_end; r++) to[c * m.rows + r] = from[r * m.columns + c];
}

// A strip of the matrix that is a line wide, from `first` on: rows, which are a line of the result, or columns, which
// are one of the matrix. Across it lines lie so far apart that no processor fetches them unasked. Those along the strip
// serve four squares: a quarter of them is fetched with each.
template <bool by_rows, typename T>
void transpose_strip(const T *from, T *to, const Matrices &m, int64_t first) {
  const int64_t width = by_rows ? m.rows : m.columns, length = by_rows ? m.columns : m.rows;
  const int64_t end = std::min(first + LINE<T>, width);
  const T *along = by_rows ? from : to, *across = by_rows ? to : from;
  int64_t at = 0;
  for (; end - first == LINE<T> && at + SIDE<T> <= length; at += SIDE<T>) {
    for (int64_t part = 0; part < 4; part++) {
      const int64_t in = first + part * SIDE<T>, r = by_rows ? in : at, c = by_rows ? at : in;
      for (int64_t i = 0; i < SIDE<T> / 4; i++) {
        prefetch<!by_rows>(along, (in + at / SIDE<T> % 4 * (SIDE<T> / 4) + i) * length + at + 4 * LINE<T>);
        prefetch<by_rows>(across, (at + part * (SIDE<T> / 4) + i) * width + first + LINE<T> * (by_rows ? 1 : width));
      }
      transpose_square(from + r * m.columns + c, m.columns, to + c * m.rows + r, m.rows);
    }
  }
  if (by_rows) transpose_plain(from, to, m, first, end, at, length);
  else transpose_plain(from, to, m, at, length, first, end);
}

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

// Strips that are a line wide go along the longer side.
template <typename T>
void transpose_all(const at::Tensor &t, const at::Tensor &result, const Matrices &m) {
  const T *from = static_cast<const T *>(t.const_data_ptr());
  T *to = static_cast<T *>(result.mutable_data_ptr());
  const bool by_rows = m.rows < m.columns;
  const int64_t strips = (std::min(m.rows, m.columns) + LINE<T> - 1) / LINE<T>;
  const int64_t size = m.rows * m.columns;
  at::parallel_for(0, m.count * strips, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t sample = i / strips * size, first = i % strips * LINE<T>;
      if (by_rows) transpose_strip<true>(from + sample, to + sample, m, first);
      else transpose_strip<false>(from + sample, to + sample, m, first);
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
