/* The backward pass where units are rows and parameters are the columns across them, as in layer and RMS norm: one
 * reading of x and dy gives the sums of both, tile by tile, and while a tile is in the cache its dx is written. */
#include "vector.h"

#include <math.h>
#include <string.h>

/*
 * The rows of the tensor are runs of parameters: samples of `run` rows each. Threads take whole stretches of a run, an
 * item each; so an item's accumulators have one owner, and its sums wait in `pieces` for the others.
 */
typedef struct shape {
  int64_t samples, middle, run; /* rows, by the levels of the parameters */
  int64_t width, stretch, items, slots;
} shape;

/* An array: from one row to the next, and from one run of a parameter to the next. */
typedef struct rows_view {
  norma_walk outer, middle;
  char *data;
  int64_t stride, size;
} rows_view;

typedef struct pass {
  const norma_call *call;
  const norma_kernels *kernels;
  const norma_saved *saved;
  shape shape;
  rows_view x, dy, dx, after, dsum, dafter;
  const float *weight, *bias;
  double *pieces;       /* [item][dy or dy xhat][column] */
  double *accumulators; /* [slot][accumulator][dy or dy xhat][column] */
  norma_walk dweight, dbias;
  bool stream, keeps; /* dz, in dx */
} pass;

/* Rows wider than this leave the second-level cache before their dx is written. */
enum { WIDEST = 16384, MOST_SLOTS = 64 };

static bool is_prefix(const norma_layer *layer, const norma_axes *all, const norma_axes *const parts[3]) {
  int at = 0;
  for (int k = 0; k < 3; k++)
    for (int i = 0; i < parts[k]->count; i++) {
      int axis = parts[k]->index[i];
      if (layer->axes[axis].length <= 1) continue;
      while (at < all->count && layer->axes[all->index[at]].length <= 1) at++;
      if (at == all->count || all->index[at++] != axis) return false;
    }
  while (at < all->count && layer->axes[all->index[at]].length <= 1) at++;
  return at == all->count;
}

/* Whether each unit is one run, and units in their order are the rows that parameters are summed over. */
static bool find_shape(const norma_layer *layer, shape *s) {
  norma_reduction unit, param;
  norma_reduction_init(&unit, layer, NORMA_UNITS);
  norma_reduction_init(&param, layer, NORMA_PARAMS);
  const norma_axes *const rows[3] = {&param.outer, &param.middle, &param.run};
  const norma_axes *const columns[3] = {&unit.outer, &unit.middle, &unit.run};
  s->samples = norma_axes_length(layer, &param.outer);
  s->middle = norma_axes_length(layer, &param.middle);
  s->run = norma_axes_length(layer, &param.run);
  s->width = norma_axes_length(layer, &unit.run);
  if (norma_axes_length(layer, &unit.outer) != 1 || norma_axes_length(layer, &unit.middle) != 1) return false;
  if (!is_prefix(layer, &unit.kept, rows) || !is_prefix(layer, &param.kept, columns)) return false;
  if (s->width < 2 || s->width > WIDEST || norma_layer_elements(layer) == 0) return false;
  s->stretch = param.stretch;
  s->items = s->samples * s->middle * ((s->run + s->stretch - 1) / s->stretch);
  s->slots = s->items < MOST_SLOTS ? s->items : MOST_SLOTS;
  return true;
}

size_t norma_layer_backward_bytes(const norma_layer *layer) {
  shape s;
  if (!find_shape(layer, &s)) return 0;
  return (size_t)((2 * s.items + 8 * s.slots) * s.width) * sizeof(double);
}

static bool view_make(const pass *p, const norma_reduction *param, const norma_operand *operand, rows_view *v) {
  const norma_layer *layer = p->call->layer;
  norma_walk run, row;
  v->data = operand->data;
  v->stride = 0;
  if (!operand->data) return true;
  norma_walk_init(&run, layer, &param->run, operand);
  norma_walk_init(&row, layer, &param->kept, operand);
  norma_walk_init(&v->outer, layer, &param->outer, operand);
  norma_walk_init(&v->middle, layer, &param->middle, operand);
  v->size = (int64_t)norma_type_size(operand->type);
  v->stride = run.count ? run.stride[0] : 0;
  return run.count <= 1 && (row.count == 0 || (row.count == 1 && row.stride[0] == 1));
}

/* NULL where there is no such array. */
static char *row_at(const pass *p, const rows_view *v, int64_t run, int64_t row) {
  if (!v->data) return NULL;
  int64_t at = norma_walk_offset(&v->outer, run / p->shape.middle) +
               norma_walk_offset(&v->middle, run % p->shape.middle) + row * v->stride;
  return v->data + at * v->size;
}

/* ------------------------------------------------------------------------------------------------------- a tile --- */

/* What is known of a tile's rows beside the sums. */
typedef struct tile {
  norma_tile in;
  norma_pair means[NORMA_QUARTER];
  float hi[NORMA_QUARTER], lo[NORMA_QUARTER], rstd[NORMA_QUARTER];
  norma_coefs z; /* where there is an activation */
  int rows;
} tile;

static void set_z(const pass *p, const norma_saved *saved, const char *after, tile *t) {
  p->kernels->unit_views(saved, t->hi, t->lo, t->rstd, t->rows);
  t->z = norma_coefs_make(p->call, t->hi, t->lo, t->rstd, saved);
  t->z.unit_row = 1;
  t->z.weight = p->weight, t->z.bias = p->bias;
  t->z.weight_step = t->z.bias_step = 1;
  t->z.after = after, t->z.after_row = p->after.stride;
  t->in.z = &t->z;
}

static void fill_tile(const pass *p, int64_t run, int64_t row, tile *t) {
  const norma_saved *saved = p->saved + run * p->shape.run + row;
  const char *x = row_at(p, &p->x, run, row), *dy = row_at(p, &p->dy, run, row);
  double weight = p->weight ? p->weight[0] : 1;
  double bias = p->bias ? p->bias[0] : -0.0;
  t->in.z = NULL;
  t->in.keeps = p->keeps;
  t->in.rms = p->call->layer->rms && !p->dbias.data;
  const char *after = row_at(p, &p->after, run, row);
  if (p->call->activation) set_z(p, saved, after, t);
  t->in.weight = p->weight;
  bool more = row + NORMA_QUARTER < p->shape.run;
  t->in.width = p->shape.width;
  t->in.x_next = more ? NORMA_QUARTER * p->x.stride : 0, t->in.dy_next = more ? NORMA_QUARTER * p->dy.stride : 0;
  for (int r = 0; r < t->rows; r++) {
    t->in.x[r] = x + r * p->x.stride * p->x.size, t->in.dy[r] = dy + r * p->dy.stride * p->dy.size;
    if (p->keeps) t->in.dz[r] = (float *)row_at(p, &p->dx, run, row + r);
    t->in.mean[r] = saved[r].mean, t->in.mean_lo[r] = saved[r].mean_lo, t->in.rstd[r] = saved[r].rstd;
    double dz = norma_load_one(p->call->type, t->in.dy[r], 0, 0);
    if (p->call->activation) {
      double x_first = norma_load_one(p->call->type, t->in.x[r], 0, 0);
      double after_first =
          norma_load_one(p->call->type, after ? after + r * p->after.stride * p->after.size : NULL, 0, -0.0);
      dz = norma_single_dz(p->call, &saved[r], x_first, dz, weight, bias, after_first);
    }
    t->in.pivot[r] = dz * weight;
  }
}

/* The sums of the tile: of its rows, and of this quarter of the columns. */
static void sum_tile(const pass *p, tile *t, double *first, double *second) {
  norma_sum total[2 * NORMA_QUARTER];
  for (int64_t from = 0; from < p->shape.width; from += NORMA_STRETCH) {
    double sum[2 * NORMA_QUARTER];
    int64_t n = p->shape.width - from < NORMA_STRETCH ? p->shape.width - from : NORMA_STRETCH;
    p->kernels->tile_gradients(p->call->type, &t->in, t->rows, from, n, sum, first + from, second + from);
    for (int i = 0; i < 2 * t->rows; i++) {
      if (from == 0) total[i] = (norma_sum){sum[i], 0};
      else norma_sum_add(&total[i], (norma_sum){sum[i], 0});
    }
  }
  for (int r = 0; r < t->rows; r++) {
    norma_partial_sums of_row = {total[2 * r], total[2 * r + 1]};
    if (isnan(t->in.rstd[r])) of_row.first.hi = of_row.second.hi = NAN;
    t->means[r] = norma_unit_means(p->call, (double)p->shape.width, t->in.pivot[r], &of_row);
  }
}

static void write_tile(const pass *p, const tile *t, int64_t run, int64_t row) {
  norma_dx_block dx;
  norma_slopes s = {.unit_row = 1};
  s.dx = norma_dx_make(p->kernels, p->saved + run * p->shape.run + row, t->means, t->rows, &dx);
  s.weight = p->weight;
  s.weight_step = 1;
  s.dsum = row_at(p, &p->dsum, run, row), s.dsum_row = p->dsum.stride;
  s.dafter = row_at(p, &p->dafter, run, row), s.dafter_row = p->dafter.stride;
  norma_rows rows = {.x = t->in.x[0], .dy = t->in.dy[0], .y = row_at(p, &p->dx, run, row), .rows = t->rows};
  rows.n = p->shape.width;
  rows.x_stride = p->x.stride, rows.dy_stride = p->dy.stride, rows.y_stride = p->dx.stride;
  if (p->keeps) rows.dy = rows.y, rows.dy_stride = rows.y_stride;
  else s.z = t->in.z;
  p->kernels->backward(p->call->type, &s, &rows, p->stream, NULL);
}

/* ----------------------------------------------------------------------------------------------------- the pass --- */

/* One stretch of the rows of a run. */
static void backward_item(const pass *p, int64_t item, double *accumulators) {
  int64_t width = p->shape.width, stretches = p->shape.items / (p->shape.samples * p->shape.middle);
  int64_t run = item / stretches, begin = item % stretches * p->shape.stretch, end = begin + p->shape.stretch;
  double *piece = p->pieces + item * 2 * width;
  bool bad = false; /* a row that has a NaN poisons every column */
  if (end > p->shape.run) end = p->shape.run;
  bool one_tile = end - begin <= NORMA_QUARTER; /* then the others would be 0 */
  if (one_tile) accumulators = piece;
  memset(accumulators, 0, (size_t)((one_tile ? 2 : 8) * width) * sizeof *accumulators);
  for (int64_t row = begin; row < end; row += NORMA_QUARTER) {
    double *sums = accumulators + (row - begin) / NORMA_QUARTER % 4 * 2 * width;
    tile t; /* only `rows` entries are used */
    t.rows = (int)(end - row < NORMA_QUARTER ? end - row : NORMA_QUARTER);
    fill_tile(p, run, row, &t);
    sum_tile(p, &t, sums, sums + width);
    write_tile(p, &t, run, row);
    for (int r = 0; r < t.rows; r++) bad = bad || isnan(t.in.rstd[r]);
  }
  const double *a = accumulators;
  for (int64_t c = 0; c < 2 * width && !one_tile; c++)
    piece[c] = (a[c] + a[2 * width + c]) + (a[4 * width + c] + a[6 * width + c]);
  for (int64_t c = 0; c < 2 * width && bad; c++) piece[c] = NAN;
}

static void backward_slots(void *context, int64_t begin, int64_t end) {
  const pass *p = context;
  for (int64_t slot = begin; slot < end; slot++) {
    int64_t first = p->shape.items * slot / p->shape.slots, last = p->shape.items * (slot + 1) / p->shape.slots;
    for (int64_t item = first; item < last; item++) backward_item(p, item, p->accumulators + slot * 8 * p->shape.width);
  }
  if (p->stream) p->kernels->fence();
}

/* Sums of columns with their rounding errors; hi and lo of each. */
enum { BLOCK = 64 };
typedef struct sums {
  double hi[BLOCK], lo[BLOCK];
} sums;

static void add_sums(sums *into, const double *hi, const double *lo, int64_t n) {
  for (int64_t c = 0; c < n; c++) {
    norma_sum sum = {into->hi[c], into->lo[c]};
    norma_sum_add(&sum, (norma_sum){hi[c], lo ? lo[c] : 0});
    into->hi[c] = sum.hi, into->lo[c] = sum.lo;
  }
}

/* The sums of dy (which 0) or of dy xhat (1): stretches into runs, runs into samples, samples. Where a level has one
 * member, which would be added to 0, it is left out. */
static void put_columns(const pass *p, int64_t first, int64_t n, int which, const norma_walk *to) {
  int64_t stretches = p->shape.items / (p->shape.samples * p->shape.middle), item = 0;
  sums total = {{0}, {0}}, sample, run;
  if (!to->data) return;
  sums *of_run = p->shape.middle > 1 ? &sample : &total, *of_stretch = stretches > 1 ? &run : of_run;
  for (int64_t o = 0; o < p->shape.samples; o++) {
    if (of_run == &sample) sample = (sums){{0}, {0}};
    for (int64_t m = 0; m < p->shape.middle; m++) {
      if (of_stretch == &run) run = (sums){{0}, {0}};
      for (int64_t s = 0; s < stretches; s++, item++)
        add_sums(of_stretch, p->pieces + (2 * item + which) * p->shape.width + first, NULL, n);
      if (of_stretch == &run) add_sums(of_run, run.hi, run.lo, n);
    }
    if (of_run == &sample) add_sums(&total, sample.hi, sample.lo, n);
  }
  for (int64_t c = 0; c < n; c++) total.hi[c] += total.lo[c];
  norma_walk_scatter(to, 0, first, n, total.hi);
}

static void put_blocks(void *context, int64_t begin, int64_t end) {
  const pass *p = context;
  for (int64_t block = begin; block < end; block++) {
    int64_t first = block * BLOCK, n = p->shape.width - first < BLOCK ? p->shape.width - first : BLOCK;
    put_columns(p, first, n, 0, &p->dbias);
    put_columns(p, first, n, 1, &p->dweight);
  }
}

bool norma_layer_backward(const norma_call *call, const norma_saved *saved, void *workspace) {
  pass p = {.call = call, .kernels = norma_kernels_best(), .saved = saved, .pieces = workspace};
  norma_reduction param;
  if (!call->dx.data || call->given_var.data || call->means_known) return false;
  if (!norma_weight_varies(call)) return false; /* without dweight and dbias it is still the fastest */
  if (!find_shape(call->layer, &p.shape)) return false;
  norma_reduction_init(&param, call->layer, NORMA_PARAMS);
  if (!view_make(&p, &param, &call->x, &p.x) || !view_make(&p, &param, &call->dy, &p.dy) ||
      !view_make(&p, &param, &call->dx, &p.dx) || !view_make(&p, &param, &call->after, &p.after) ||
      !view_make(&p, &param, &call->dsum, &p.dsum) || !view_make(&p, &param, &call->dafter, &p.dafter))
    return false;
  norma_walk weight = norma_walk_make(call->layer, &param.kept, &call->weight);
  norma_walk bias = norma_walk_make(call->layer, &param.kept, &call->bias);
  if (weight.data && (weight.count != 1 || weight.stride[0] != 1)) return false;
  if (bias.data && (bias.count != 1 || bias.stride[0] != 1)) return false;
  /* A few long rows would leave threads without work here; two readings then are better than one. */
  int threads = norma_threads_or(call->threads, 8);
  int64_t bytes = norma_pass_bytes(call, 3);
  if (2 * p.shape.slots < threads && bytes > 1 << 20) return false;
  p.weight = (const float *)weight.data, p.bias = (const float *)bias.data;
  p.accumulators = p.pieces + 2 * p.shape.items * p.shape.width;
  p.dweight = norma_walk_make(call->layer, &param.kept, &call->dweight);
  p.dbias = norma_walk_make(call->layer, &param.kept, &call->dbias);
  p.keeps = norma_keeps_dz(call);
  p.stream = norma_streams(call) && !p.keeps;
  norma_parallel(call->threads, p.shape.slots, 1, bytes, backward_slots, &p);
  if (!p.dweight.data && !p.dbias.data) return true;
  if (p.shape.items == 1) { /* nothing to add: the sums are those of the only stretch, which are never -0 */
    if (p.dbias.data) norma_walk_scatter(&p.dbias, 0, 0, p.shape.width, p.pieces);
    if (p.dweight.data) norma_walk_scatter(&p.dweight, 0, 0, p.shape.width, p.pieces + p.shape.width);
    return true;
  }
  int64_t sum_bytes = 2 * p.shape.items * p.shape.width * (int64_t)sizeof(double);
  norma_parallel(call->threads, (p.shape.width + BLOCK - 1) / BLOCK, 1, sum_bytes, put_blocks, &p);
  return true;
}
