/* The order in which everything is summed. It is fixed on logical indices, so that no layout, thread or batch mate can
 * change a bit: stretches of a run in order, runs of a sample in order, samples in order (docs/accuracy.md). */
#include "kernels.h"

static void append(norma_axes *axes, int axis) { axes->index[axes->count++] = axis; }

static void find_levels(norma_reduction *r, const norma_layer *layer, norma_extent kept) {
  norma_axes by_level[3]; /* axes of dimension 0, of dimension 1, of the rest */
  for (int i = 0; i < 3; i++) by_level[i].count = 0;
  r->kept.count = r->outer.count = r->middle.count = 0;
  for (int a = 0; a < layer->axis_count; a++) {
    int dim = layer->axes[a].dim;
    if (norma_varies(&layer->axes[a], kept)) append(&r->kept, a);
    else append(&by_level[dim < 2 ? dim : 2], a);
  }
  /* The run is the innermost level that has more than one position: (n, c) without space is summed along n at once. */
  int run = 2;
  while (run > 0 && norma_axes_length(layer, &by_level[run]) == 1) run--;
  r->run = by_level[run];
  if (run > 0) r->outer = by_level[0];
  if (run > 1) r->middle = by_level[1];
}

bool norma_runs_agree(const norma_layer *layer) {
  norma_reduction unit, param;
  find_levels(&unit, layer, NORMA_UNITS);
  find_levels(&param, layer, NORMA_PARAMS);
  for (int a = 0; a < layer->axis_count; a++)
    if (layer->axes[a].length > 1 && norma_axes_contain(&unit.run, a) != norma_axes_contain(&param.run, a))
      return false;
  return true;
}

void norma_reduction_init(norma_reduction *r, const norma_layer *layer, norma_extent kept) {
  r->layer = layer;
  r->views = 0;
  find_levels(r, layer, kept);
  r->columns = norma_axes_length(layer, &r->kept);
  r->stretch = kept == NORMA_PARAMS && !norma_runs_agree(layer) ? NORMA_ACROSS : NORMA_STRETCH;
}

norma_reduction norma_reduction_make(const norma_layer *layer, norma_extent kept) {
  norma_reduction r;
  norma_reduction_init(&r, layer, kept);
  return r;
}

int norma_reduction_view(norma_reduction *r, const norma_operand *operand) {
  int v = r->views++;
  norma_walk_init(&r->view[v].kept, r->layer, &r->kept, operand);
  norma_walk_init(&r->view[v].outer, r->layer, &r->outer, operand);
  norma_walk_init(&r->view[v].middle, r->layer, &r->middle, operand);
  norma_walk_init(&r->view[v].run, r->layer, &r->run, operand);
  return v;
}

static void join(norma_partial *into, const norma_partial *piece) {
  norma_moments_join(&into->moments, &piece->moments);
  norma_partial_sums_join(&into->sums, &piece->sums);
}

static void reduce_run(const norma_reduction *r, const int64_t offset[], norma_stretch *stretch, void *context,
                       norma_partial *run) {
  int64_t length = norma_axes_length(r->layer, &r->run);
  for (int64_t first = 0; first < length; first += r->stretch) {
    norma_partial piece = {0};
    stretch(context, r, offset, first, length - first < r->stretch ? length - first : r->stretch, &piece);
    join(run, &piece);
  }
}

void norma_reduce_runs(const norma_reduction *r, int64_t column, norma_stretch *stretch, norma_run_end *end,
                       void *context, norma_partial *total) {
  int64_t outer = norma_axes_length(r->layer, &r->outer), middle = norma_axes_length(r->layer, &r->middle);
  int64_t start[NORMA_MAX_VIEWS], offset[NORMA_MAX_VIEWS];
  *total = (norma_partial){0};
  for (int v = 0; v < r->views; v++) start[v] = norma_walk_offset(&r->view[v].kept, column);
  for (int64_t o = 0; o < outer; o++) {
    norma_partial sample = {0};
    for (int64_t m = 0; m < middle; m++) {
      norma_partial run = {0};
      for (int v = 0; v < r->views; v++)
        offset[v] = start[v] + norma_walk_offset(&r->view[v].outer, o) + norma_walk_offset(&r->view[v].middle, m);
      reduce_run(r, offset, stretch, context, &run);
      if (end) end(context, r, offset, &run);
      join(&sample, &run);
    }
    join(total, &sample);
  }
}

void norma_reduce(const norma_reduction *r, int64_t column, norma_stretch *stretch, void *context,
                  norma_partial *total) {
  norma_reduce_runs(r, column, stretch, NULL, context, total);
}

double norma_reduction_first(const norma_reduction *r, int v, int64_t column) {
  double value = 0;
  norma_walk_gather(&r->view[v].run, norma_walk_offset(&r->view[v].kept, column), 0, 1, &value);
  return value;
}
