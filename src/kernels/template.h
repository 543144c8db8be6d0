/* All templates for one instruction set, and its table; see simd.h. */
#include "simd.h" /* first: it sets how the rest is compiled */

#include "across.h"
#include "chains.h"
#include "residual.h"
#include "rows_out.h"
#include "tiles.h"

static NORMA_TARGET void fence(void) { norma_stream_end(); }

#define NORMA_KERNELS(id, label)             \
  const norma_kernels id = {                 \
      .name = label,                         \
      .moments = row_moments,                \
      .batch_moments = batch_moments,        \
      .forward = row_forward,                \
      .gradients = row_gradients,            \
      .batch_gradients = batch_gradients,    \
      .tile_gradients = tile_gradients,      \
      .backward = row_backward,              \
      .column_pivots = column_pivots,        \
      .column_moments = column_moments,      \
      .column_gradients = column_gradients,  \
      .finish_runs = finish_runs,            \
      .join_runs = join_runs,                \
      .run_moments = run_moments,            \
      .join_moments = join_moments,          \
      .unit_views = unit_views,              \
      .means_views = means_views,            \
      .narrow = narrow,                      \
      .add = add_rows,                       \
      .fence = fence,                        \
  };
