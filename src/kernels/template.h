/* All templates for one instruction set, and its table; see simd.h. */
#include "simd.h" /* first: it sets how the rest is compiled */

#include "across.h"
#include "chains.h"
#include "rows_short.h"
#include "tiles.h"

static NORMA_TARGET void fence(void) { norma_stream_end(); }

#define NORMA_KERNELS(id, label)                                                                              \
  const norma_kernels id = {label,           row_moments,    batch_moments, row_forward,    row_gradients,      \
                            batch_gradients, tile_gradients, row_backward,  column_moments, column_gradients,   \
                            finish_runs,     join_runs,      run_moments,   join_moments,   fence};
