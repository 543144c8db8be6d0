/* The forward pass where units are neighbouring columns. A tile of columns whose units end in it is measured and
 * written at once; otherwise all is measured, merged and then written row after row. */
#include "column_plan.h"

#include <math.h>
#include <string.h>

typedef struct pass {
  norma_column_plan plan;
  norma_column_view x, y, after, weight, bias;
  norma_unit_outputs outputs;
  norma_saved *saved;
  norma_run_moments *partial; /* [plane][outer][piece of the run][column] */
  int64_t tile;           /* columns */
  int64_t fold;           /* rows of all columns that are written as one */
  bool stream;
  bool by_plane; /* a tile is a plane: while it is written, the next one is fetched */
} pass;

/* ------------------------------------------------------------------------------------------------------ moments --- */

/* Columns whose pivot lies far from their mean, about one in fourteen of random data with a large mean, are summed once
 * more about the mean; eight at a time, as the kernel takes them. */
static void measure_again(const pass *p, const char *x, int64_t n, int64_t columns, const double *pivot,
                          norma_run_moments *m) {
  double mean[8] = {0}, sum[16];
  norma_run_moments again[8];
  bool far[8] = {false}, any = false;
  for (int64_t c = 0; c < columns; c++) {
    norma_moments about = norma_with_count(&m[c], n);
    far[c] = norma_pivot_is_far(&about, pivot[c]);
    any = any || far[c];
    mean[c] = m[c].mean;
  }
  if (!any) return;
  p->plan.kernels->column_moments(p->plan.call->type, x, p->x.row_stride, n, columns, mean, sum);
  p->plan.kernels->run_moments(mean, sum, sum + columns, 1, n, again, columns);
  for (int64_t c = 0; c < columns; c++)
    if (far[c]) m[c] = again[c];
}

/* A stretch of n rows of up to NORMA_COLUMNS columns, starting at x; `into` gets a set for each column. */
static void measure_stretch(const pass *p, const char *x, int64_t n, int64_t columns, norma_run_moments *into) {
  const norma_call *call = p->plan.call;
  double pivot[NORMA_COLUMNS], sum[2 * NORMA_COLUMNS];
  bool rms = call->layer->rms;
  if (rms) memset(pivot, 0, (size_t)columns * sizeof *pivot);
  else p->plan.kernels->column_pivots(call->type, x, p->x.row_stride, n, columns, pivot);
  for (int64_t i = columns; i % 8; i++) pivot[i] = 0;
  p->plan.kernels->column_moments(call->type, x, p->x.row_stride, n, columns, pivot, sum);
  bool far = p->plan.kernels->run_moments(pivot, rms ? NULL : sum, sum + columns, 1, n, into, columns);
  for (int64_t c = 0; c < columns && far; c += 8)
    measure_again(p, x + c * p->x.size, n, norma_smaller(columns - c, 8), pivot + c, into + c);
}

static int64_t rows_of_piece(const pass *p, int64_t piece) {
  return norma_smaller(p->plan.rows - piece * NORMA_STRETCH, NORMA_STRETCH);
}

/* Columns first .. first + n - 1 of one piece of a run. */
static void measure_piece(const pass *p, int64_t plane, int64_t outer, int64_t piece, int64_t first, int64_t n,
                          norma_run_moments *into) {
  int64_t row = piece * NORMA_STRETCH, rows = rows_of_piece(p, piece);
  for (int64_t c = 0; c < n; c += NORMA_COLUMNS)
    measure_stretch(p, norma_column_at(&p->x, plane, outer, row, first + c), rows, norma_smaller(n - c, NORMA_COLUMNS),
                    into + c);
}

/* ------------------------------------------------------------------------------------------------------ writing --- */

/* The coefficients of a tile of columns, as often as rows are written as one. */
typedef struct tile_coefs {
  float hi[NORMA_WRITTEN], lo[NORMA_WRITTEN], rstd[NORMA_WRITTEN];
  norma_column_units units;
  norma_saved room[NORMA_WRITTEN];
  norma_column_affine affine;
  int64_t fold;
} tile_coefs;

static void make_coefs(const pass *p, int64_t plane, int64_t column, int64_t n, tile_coefs *t) {
  size_t floats = (size_t)n * sizeof(float);
  t->units = norma_column_units_of(&p->plan, p->saved, NULL, plane, column, n, t->room, NULL);
  p->plan.kernels->unit_views(t->units.saved, t->hi, t->lo, t->rstd, n);
  t->fold = n == p->plan.width ? p->fold : 1;
  if (t->fold == 1) return;
  norma_column_repeat(t->hi, floats, t->fold);
  norma_column_repeat(t->lo, floats, t->fold);
  norma_column_repeat(t->rstd, floats, t->fold);
  norma_column_repeat_units(&t->units, t->room, NULL, n, t->fold);
}

/* n columns of these rows, of which `fold` are written as one. */
static void write_rows(const pass *p, tile_coefs *t, const norma_column_chunk *k, int64_t column, int64_t n,
                       int64_t fold) {
  const norma_call *call = p->plan.call;
  norma_coefs coefs = norma_coefs_make(call, t->hi, t->lo, t->rstd, t->units.saved);
  coefs.unit_step = 1;
  norma_column_params_at(&coefs, &p->weight, &p->bias, &p->after, k, column);
  if (fold > 1) norma_column_repeat_params(&coefs, n, fold, &t->affine);
  coefs.after_row *= fold;
  norma_rows r = {.rows = k->rows / fold, .n = fold * n};
  r.x_stride = fold * p->x.row_stride, r.y_stride = fold * p->y.row_stride;
  r.x = norma_column_at(&p->x, k->plane, k->outer, k->row, column);
  r.y = norma_column_at(&p->y, k->plane, k->outer, k->row, column);
  r.x_ahead = p->by_plane ? norma_column_ahead(&p->plan, &p->x, k->plane) : norma_column_soon(&p->x, n);
  p->plan.kernels->forward(call->type, &coefs, &r, p->stream, NULL);
}

static void write_chunk(const pass *p, tile_coefs *t, norma_column_chunk k, int64_t column, int64_t n) {
  norma_column_chunk rest = norma_column_rest(&k, t->fold);
  if (k.rows > 0) write_rows(p, t, &k, column, n, t->fold);
  if (rest.rows > 0) write_rows(p, t, &rest, column, n, rest.rows);
}

/* A norma_column_write. */
static void write_chunks(const void *context, const norma_column_chunks *chunks, int64_t column, int64_t n) {
  const pass *p = context;
  tile_coefs coefs;
  int64_t made = -1;
  for (int64_t i = chunks->begin; i < chunks->end; i++) {
    norma_column_chunk chunk = norma_column_chunk_at(chunks, i);
    if (chunk.plane != made) make_coefs(p, chunk.plane, column, n, &coefs);
    made = chunk.plane;
    write_chunk(p, &coefs, chunk, column, n);
  }
}

/* A whole plane of them. */
static void write_tile(const pass *p, int64_t plane, int64_t column, int64_t n) {
  tile_coefs coefs;
  norma_column_chunk all = {plane, 0, 0, p->plan.rows};
  make_coefs(p, plane, column, n, &coefs);
  write_chunk(p, &coefs, all, column, n);
}

/* ---------------------------------------------------------------------------------------------- tile after tile --- */

/* Runs of n columns of a plane, from column `first` on. */
static void measure_tile(const pass *p, int64_t plane, int64_t first, int64_t n, norma_run_moments *run) {
  norma_run_moments piece[NORMA_COLUMNS];
  for (int64_t c = 0; c < n; c += NORMA_COLUMNS) {
    int64_t some = norma_smaller(n - c, NORMA_COLUMNS);
    for (int64_t s = 0; s < p->plan.pieces_of_run; s++) {
      measure_piece(p, plane, 0, s, first + c, some, s ? piece : run + c);
      if (s) p->plan.kernels->join_moments(run + c, s * NORMA_STRETCH, piece, 1, rows_of_piece(p, s), some);
    }
  }
}

/* A tile holds whole units that nothing outside it shares. */
static void pass_tiles(void *context, int64_t begin, int64_t end) {
  const pass *p = context;
  int64_t per_plane = (p->plan.width + p->tile - 1) / p->tile, middle = p->plan.middle;
  for (int64_t t = begin; t < end; t++) {
    int64_t plane = t / per_plane, first = t % per_plane * p->tile, n = norma_smaller(p->plan.width - first, p->tile);
    norma_run_moments run[NORMA_WRITTEN];
    measure_tile(p, plane, first, n, run);
    for (int64_t c = 0; c < n; c += middle) {
      for (int64_t m = 1; m < middle; m++)
        p->plan.kernels->join_moments(&run[c], m * p->plan.rows, &run[c + m], 1, p->plan.rows, 1);
      norma_moments unit = norma_with_count(&run[c], middle * p->plan.rows);
      norma_finish_unit(&p->outputs, norma_column_unit(&p->plan, plane, first + c), &unit);
    }
    if (p->y.data) write_tile(p, plane, first, n);
  }
  if (p->stream) p->plan.kernels->fence();
}

/* -------------------------------------------------------------------------------- measure all, merge, write all --- */

static norma_run_moments *partial_at(const pass *p, int64_t plane, int64_t outer, int64_t piece, int64_t column) {
  int64_t item = (plane * p->plan.outer_count + outer) * p->plan.pieces_of_run + piece;
  return p->partial + item * p->plan.width + column;
}

static void measure_items(void *context, int64_t begin, int64_t end) {
  const pass *p = context;
  for (int64_t item = begin; item < end; item++) {
    int64_t piece = item % p->plan.pieces_of_run, at = item / p->plan.pieces_of_run;
    int64_t outer = at % p->plan.outer_count, plane = at / p->plan.outer_count;
    measure_piece(p, plane, outer, piece, 0, p->plan.width, partial_at(p, plane, outer, piece, 0));
  }
}

/* The runs of n columns, `middle` apart: their pieces, joined where there are several. */
static const norma_run_moments *join_pieces(const pass *p, const norma_run_moments *pieces, norma_run_moments *room,
                                            int64_t n, int64_t *step) {
  const norma_column_plan *plan = &p->plan;
  *step = plan->middle;
  if (plan->pieces_of_run == 1) return pieces;
  for (int64_t s = 0; s < plan->pieces_of_run; s++)
    plan->kernels->join_moments(room, s * NORMA_STRETCH, pieces + s * plan->width, plan->middle, rows_of_piece(p, s),
                                n);
  *step = 1;
  return room;
}

/* n units of a plane, whose first column is `column`. */
static void merge_some(const pass *p, int64_t plane, int64_t column, int64_t n) {
  const norma_column_plan *plan = &p->plan;
  norma_run_moments total[NORMA_BLOCK_UNITS], sample[NORMA_BLOCK_UNITS], room[NORMA_BLOCK_UNITS];
  int64_t middle = plan->middle, runs = middle * plan->outer_middle, elements = runs * plan->rows, had = 0, step;
  norma_run_moments *into = runs == 1 ? total : sample; /* the only run of a sample is the sample */
  for (int64_t o = 0; o < plan->outer_count; o++) {
    for (int64_t m = 0; m < middle; m++) {
      const norma_run_moments *run = join_pieces(p, partial_at(p, plane, o, 0, column + m), room, n, &step);
      plan->kernels->join_moments(into, had, run, step, plan->rows, n);
      had += plan->rows;
    }
    if (runs == 1 || (o + 1) % plan->outer_middle) continue;
    plan->kernels->join_moments(total, o / plan->outer_middle * elements, sample, 1, elements, n);
    had = 0;
  }
  for (int64_t i = 0; i < n; i++) {
    norma_moments unit = norma_with_count(&total[i], plan->outer_count / plan->outer_middle * elements);
    norma_finish_unit(&p->outputs, norma_column_unit(plan, plane, column + i * middle), &unit);
  }
}

static void merge_units(void *context, int64_t begin, int64_t end) {
  const pass *p = context;
  int64_t per_plane = p->plan.width / p->plan.middle, n;
  for (int64_t u = begin; u < end; u += n) {
    n = norma_smaller(norma_smaller(end - u, NORMA_BLOCK_UNITS), per_plane - u % per_plane);
    merge_some(p, u / per_plane, u % per_plane * p->plan.middle, n);
  }
}

/* --------------------------------------------------------------------------------------------------- the choice --- */

/* Whole rows, even if then no tile is in the second-level cache when it is written: pieces of them are read slowly. */
static void choose_tile(pass *p) {
  int64_t tile = norma_column_piece(&p->plan, p->plan.plane_count, norma_smaller(p->plan.width, NORMA_WRITTEN));
  if (tile > p->plan.middle) tile -= tile % p->plan.middle;
  p->tile = tile;
}

size_t norma_column_workspace(const norma_layer *layer) {
  norma_reduction r = norma_reduction_make(layer, NORMA_UNITS);
  int64_t outer = norma_axes_length(layer, &r.outer), run = norma_axes_length(layer, &r.run);
  int64_t runs = norma_layer_units(layer) * norma_axes_length(layer, &r.middle) * outer;
  int64_t pieces = (run + NORMA_STRETCH - 1) / NORMA_STRETCH;
  if (outer == 1 && (pieces == 1 || runs > 8 * NORMA_WRITTEN)) return 0;
  return (size_t)(runs * pieces) * sizeof(norma_run_moments);
}

bool norma_column_forward(const norma_call *call, norma_saved *saved, norma_moments *moments, void *workspace) {
  pass p;
  p.saved = saved;
  p.partial = workspace;
  if (!norma_column_plan_make(&p.plan, call, call->y.data ? &call->y : &call->x, NORMA_UNITS)) return false;
  norma_column_plan *plan = &p.plan;
  if (!norma_column_view_make(plan, &call->x, &p.x) || !norma_column_view_make(plan, &call->y, &p.y) ||
      !norma_column_view_make(plan, &call->weight, &p.weight) || !norma_column_view_make(plan, &call->bias, &p.bias) ||
      !norma_column_view_make(plan, &call->after, &p.after))
    return false;
  if (call->after.data && p.after.column_stride != 1) return false;
  if (p.weight.column_stride & ~(int64_t)1 || p.bias.column_stride & ~(int64_t)1) return false;
  norma_unit_outputs_init(&p.outputs, call, saved, moments);
  p.stream = call->y.data && norma_streams(call);
  const norma_column_view *const elements[] = {&p.x, &p.y, &p.after};
  p.fold = norma_column_fold(plan, elements, 3, &p.weight, &p.bias);
  choose_tile(&p);
  p.by_plane = p.tile == plan->width && plan->rows * plan->width * p.x.size <= 8 << 20;
  int64_t tiles = plan->plane_count * ((plan->width + p.tile - 1) / p.tile), bytes = norma_pass_bytes(call, 2);
  bool given = norma_is_given(call), whole = plan->outer_count == 1 && p.tile % plan->middle == 0;
  bool room = norma_column_workspace(call->layer) > 0, enough = !room || tiles >= 8;
  if (!given && whole && enough) {
    norma_parallel(call->threads, tiles, 1, bytes, pass_tiles, &p);
    return true;
  }
  if (!given && !room) return false;
  if (given) {
    norma_statistics(call, saved, moments);
  } else {
    int64_t items = plan->plane_count * plan->outer_count * plan->pieces_of_run;
    norma_parallel(call->threads, items, 1, bytes / 2, measure_items, &p);
    norma_parallel(call->threads, norma_layer_units(call->layer), 64,
                   items * plan->width * (int64_t)sizeof(norma_run_moments), merge_units, &p);
  }
  if (call->y.data) norma_column_write_all(plan, write_chunks, &p, p.stream, false, bytes);
  return true;
}
