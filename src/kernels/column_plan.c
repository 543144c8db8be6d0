/* The axes of a layer as planes, rows and columns. */
#include "column_plan.h"

#include <string.h>

/* Whether an axis is among those of the columns: the next one outwards that has no gap before it. */
static int next_column(const norma_layer *layer, const norma_axes *from, const norma_operand *x,
                       const norma_operand *also, int64_t stride, int below) {
  for (int i = from->count - 1; i >= 0; i--) {
    int a = from->index[i];
    if (layer->axes[a].length > 1 && a < below && x->stride[a] == stride && also->stride[a] == stride) return a;
  }
  return -1;
}

static void append(norma_axes *axes, int axis) { axes->index[axes->count++] = axis; }

/* The columns, outermost first: kept and middle axes with the strides 1, then the product so far, and so on. */
static norma_axes find_columns(const norma_layer *layer, const norma_reduction *r, const norma_operand *x,
                               const norma_operand *also) {
  norma_axes inward = {0}, columns = {0}, from = {0};
  for (int a = 0; a < layer->axis_count; a++)
    if (norma_axes_contain(&r->kept, a) || norma_axes_contain(&r->middle, a)) append(&from, a);
  int64_t stride = 1;
  int below = layer->axis_count;
  for (int a; (a = next_column(layer, &from, x, also, stride, below)) >= 0; below = a) {
    append(&inward, a);
    stride *= layer->axes[a].length;
  }
  for (int i = inward.count - 1; i >= 0; i--) append(&columns, inward.index[i]);
  return columns;
}

bool norma_column_plan_make(norma_column_plan *p, const norma_call *call, const norma_operand *also,
                            norma_extent extent) {
  const norma_layer *layer = call->layer;
  norma_reduction r = norma_reduction_make(layer, extent);
  *p = (norma_column_plan){
      .call = call, .kernels = norma_kernels_best(), .outer = r.outer, .run = r.run, .stretch = r.stretch};
  p->columns = find_columns(layer, &r, &call->x, also);
  for (int i = 0; i < r.kept.count; i++)
    if (!norma_axes_contain(&p->columns, r.kept.index[i])) append(&p->planes, r.kept.index[i]);
  /* The middle level is the innermost columns, or none of them. */
  int inside = 0;
  for (int i = 0; i < p->columns.count; i++) {
    bool is_middle = norma_axes_contain(&r.middle, p->columns.index[i]);
    if (inside > 0 && !is_middle) return false;
    inside += is_middle;
  }
  int lengths = 0;
  for (int i = 0; i < r.middle.count; i++) lengths += layer->axes[r.middle.index[i]].length > 1;
  if (inside > 0 && inside != lengths) return false;
  p->middle = inside > 0 ? norma_axes_length(layer, &r.middle) : 1;
  p->outer_middle = inside > 0 ? 1 : norma_axes_length(layer, &r.middle);
  for (int i = 0; i < r.middle.count && inside == 0; i++) append(&p->outer, r.middle.index[i]);
  p->plane_count = norma_axes_length(layer, &p->planes);
  p->width = norma_axes_length(layer, &p->columns);
  p->outer_count = norma_axes_length(layer, &p->outer);
  p->rows = norma_axes_length(layer, &p->run);
  p->pieces_of_run = (p->rows + p->stretch - 1) / p->stretch;
  static const norma_saved none;
  norma_operand units = norma_bind_doubles(layer, &none.mean, 1);
  p->unit_planes = norma_walk_make(layer, &p->planes, &units);
  p->unit_columns = norma_walk_make(layer, &p->columns, &units);
  return p->width >= 4 && p->rows > 0 && p->outer_count > 0 && p->plane_count > 0;
}

bool norma_column_view_make(const norma_column_plan *p, const norma_operand *operand, norma_column_view *view) {
  const norma_layer *layer = p->call->layer;
  norma_walk rows = norma_walk_make(layer, &p->run, operand), columns = norma_walk_make(layer, &p->columns, operand);
  *view = (norma_column_view){.data = operand->data, .size = (int64_t)norma_type_size(operand->type)};
  view->planes = norma_walk_make(layer, &p->planes, operand);
  view->outer = norma_walk_make(layer, &p->outer, operand);
  if (!operand->data) return true;
  if (rows.count > 1 || columns.count > 1) return false;
  view->row_stride = rows.count ? rows.stride[0] : 0;
  view->column_stride = columns.count ? columns.stride[0] : 0;
  return true;
}

char *norma_column_at(const norma_column_view *v, int64_t plane, int64_t outer, int64_t row, int64_t column) {
  if (!v->data) return NULL;
  int64_t at = norma_walk_offset(&v->planes, plane) + norma_walk_offset(&v->outer, outer) + row * v->row_stride +
               column * v->column_stride;
  return v->data + at * v->size;
}

void norma_column_params_at(norma_coefs *c, const norma_column_view *weight, const norma_column_view *bias,
                            const norma_column_view *after, const norma_column_chunk *k, int64_t column) {
  c->weight = (const float *)norma_column_at(weight, k->plane, k->outer, k->row, column);
  c->bias = (const float *)norma_column_at(bias, k->plane, k->outer, k->row, column);
  c->weight_step = weight->column_stride, c->bias_step = bias->column_stride;
  c->weight_row = weight->row_stride, c->bias_row = bias->row_stride;
  c->after = norma_column_at(after, k->plane, k->outer, k->row, column), c->after_row = after->row_stride;
}

int64_t norma_column_unit(const norma_column_plan *p, int64_t plane, int64_t column) {
  return norma_walk_offset(&p->unit_planes, plane) + norma_walk_offset(&p->unit_columns, column);
}

norma_column_units norma_column_units_of(const norma_column_plan *p, const norma_saved *saved, const norma_pair *means,
                                         int64_t plane, int64_t column, int64_t n, norma_saved *saved_room,
                                         norma_pair *means_room) {
  const norma_walk *w = &p->unit_columns;
  int64_t base = norma_walk_offset(&p->unit_planes, plane);
  int64_t length = w->count ? w->length[w->count - 1] : n, stride = w->count ? w->stride[w->count - 1] : 0;
  if (w->count == 1 && stride == 1)
    return (norma_column_units){saved + base + column, means ? means + base + column : NULL};
  for (int64_t c = 0; c < n;) {
    int64_t unit = base + norma_walk_offset(w, column + c), end = norma_smaller(n, c + length - (column + c) % length);
    for (; c < end; c++, unit += stride) {
      saved_room[c] = saved[unit];
      if (means) means_room[c] = means[unit];
    }
  }
  return (norma_column_units){saved_room, means ? means_room : NULL};
}

int64_t norma_column_piece(const norma_column_plan *p, int64_t others, int64_t wide) {
  int threads = norma_threads_or(p->call->threads, 2); /* few: narrow pieces are read more slowly than whole rows */
  while (wide > 64 && others * ((p->width + wide - 1) / wide) < threads) wide /= 2;
  return wide;
}

/* -------------------------------------------------------------------------------------------------- few columns --- */

/* Columns of rows that are taken as one, at most: their coefficients stay in the first-level cache. And so many rows of
 * a run for each time that the coefficients are repeated, to be worth it. */
enum { FOLDED = 512, ROWS_OF_EACH = 64 };

int64_t norma_column_fold(const norma_column_plan *p, const norma_column_view *const elements[], int count,
                          const norma_column_view *weight, const norma_column_view *bias) {
  int64_t fold = norma_smaller(FOLDED / p->width, p->rows / ROWS_OF_EACH), whole = 64;
  if (fold < 2 || weight->row_stride != 0 || bias->row_stride != 0) return 1;
  for (int i = 0; i < count; i++) {
    const norma_column_view *v = elements[i];
    if (v->data && (v->row_stride != p->width || v->column_stride != 1)) return 1;
  }
  int64_t bytes = p->width * (int64_t)norma_type_size(p->call->type); /* so many rows are whole lines: */
  while (whole > 1 && whole / 2 * bytes % 64 == 0) whole /= 2;
  return fold > whole ? fold - fold % whole : fold;
}

norma_column_chunk norma_column_rest(norma_column_chunk *rows, int64_t fold) {
  norma_column_chunk rest = *rows;
  rest.rows = rows->rows % fold;
  rows->rows -= rest.rows;
  rest.row += rows->rows;
  return rest;
}

void norma_column_repeat(void *of_a_row, size_t bytes, int64_t fold) {
  for (int64_t i = 1; i < fold; i++) memcpy((char *)of_a_row + (size_t)i * bytes, of_a_row, bytes);
}

/* In a room that it may be in. */
static void *repeat_in(void *room, const void *of_a_row, size_t bytes, int64_t fold) {
  if (room != of_a_row) memcpy(room, of_a_row, bytes);
  norma_column_repeat(room, bytes, fold);
  return room;
}

void norma_column_repeat_units(norma_column_units *units, norma_saved *saved_room, norma_pair *means_room, int64_t n,
                               int64_t fold) {
  size_t count = (size_t)n;
  units->saved = repeat_in(saved_room, units->saved, count * sizeof *saved_room, fold);
  if (units->means) units->means = repeat_in(means_room, units->means, count * sizeof *means_room, fold);
}

void norma_column_repeat_params(norma_coefs *c, int64_t n, int64_t fold, norma_column_affine *room) {
  size_t bytes = (size_t)n * sizeof(float);
  if (c->weight && c->weight_step) c->weight = repeat_in(room->weight, c->weight, bytes, fold);
  if (c->bias && c->bias_step) c->bias = repeat_in(room->bias, c->bias, bytes, fold);
}

/* ------------------------------------------------------------------------------------------------ row after row --- */

/* Bytes of a chunk of rows, and chunks of a piece of work: enough to amortize the coefficients that are made for each
 * tile of columns, few enough to balance. */
enum { CHUNK_BYTES = 1 << 19, MOST_CHUNKS = 8 };

typedef struct writing {
  norma_column_chunks chunks;
  norma_column_write *write;
  const void *pass;
  bool stream;
} writing;

norma_column_chunk norma_column_chunk_at(const norma_column_chunks *w, int64_t i) {
  int64_t row = i % w->per_run * w->rows, at = i / w->per_run;
  return (norma_column_chunk){at / w->plan->outer_count, at % w->plan->outer_count, row,
                              norma_smaller(w->plan->rows - row, w->rows)};
}

static void write_chunks(void *context, int64_t begin, int64_t end) {
  const writing *w = context;
  const norma_column_plan *p = w->chunks.plan;
  norma_column_chunks some = w->chunks;
  some.begin = begin, some.end = end;
  for (int64_t c = 0; c < p->width; c += NORMA_WRITTEN)
    w->write(w->pass, &some, c, norma_smaller(p->width - c, NORMA_WRITTEN));
  if (w->stream) p->kernels->fence();
}

static writing writing_make(const norma_column_plan *p, norma_column_write *write, const void *pass) {
  writing w = {.chunks.plan = p, .write = write, .pass = pass};
  w.chunks.rows = CHUNK_BYTES / (p->width * (int64_t)norma_type_size(p->call->type)) + 1;
  if (w.chunks.rows > 4 * 64) w.chunks.rows += -w.chunks.rows & 63; /* whole lines, whatever the width */
  w.chunks.per_run = (p->rows + w.chunks.rows - 1) / w.chunks.rows;
  return w;
}

void norma_column_write_all(const norma_column_plan *p, norma_column_write *write, const void *pass, bool stream,
                            bool whole, int64_t bytes) {
  writing w = writing_make(p, write, pass);
  if (whole) w.chunks.rows = p->rows, w.chunks.per_run = 1;
  int64_t chunks = p->plane_count * p->outer_count * w.chunks.per_run;
  int64_t share = chunks / (4 * (int64_t)norma_threads_or(p->call->threads, 8));
  w.stream = stream;
  norma_parallel(p->call->threads, chunks, norma_smaller(share, MOST_CHUNKS), bytes, write_chunks, &w);
}

void norma_column_write_plane(const norma_column_plan *p, norma_column_write *write, const void *pass, int64_t plane) {
  writing w = writing_make(p, write, pass);
  int64_t chunks = p->outer_count * w.chunks.per_run;
  write_chunks(&w, plane * chunks, (plane + 1) * chunks);
}
