/* The sums of every run of columns, then those of units and parameters. Also the gradients of parameters that are
 * columns while units are rows, as in layer norm. */
#include "column_sums.h"

#include <math.h>
#include <string.h>

typedef norma_column_pass pass;

static norma_partial_sums *piece_at(const pass *p, int64_t plane, int64_t outer, int64_t piece, int64_t column) {
  int64_t item = (piece * p->plan.plane_count + plane) * p->plan.outer_count + outer;
  return p->pieces + item * p->plan.width + column;
}

static double weight_at(const pass *p, int64_t plane, int64_t outer, int64_t row, int64_t column) {
  const char *at = norma_column_at(&p->weight, plane, outer, row, column);
  return at ? *(const float *)at : 1;
}

/* The first dz of a unit: of its first run's first row. */
static double first_of(const pass *p, int64_t plane, int64_t column) {
  const norma_call *call = p->plan.call;
  double x = norma_load_one(call->type, norma_column_at(&p->x, plane, 0, 0, column), 0, 0);
  double dy = norma_load_one(call->type, norma_column_at(&p->dy, plane, 0, 0, column), 0, 0);
  double weight = norma_load_one(NORMA_F32, norma_column_at(&p->weight, plane, 0, 0, column), 0, 1);
  double bias = norma_load_one(NORMA_F32, norma_column_at(&p->bias, plane, 0, 0, column), 0, -0.0);
  const norma_saved *unit = &p->saved[norma_column_unit(&p->plan, plane, column)];
  double after = norma_load_one(call->type, norma_column_at(&p->after, plane, 0, 0, column), 0, -0.0);
  return norma_single_dz(call, unit, x, dy, weight, bias, after);
}

static double pivot_of(const pass *p, int64_t plane, int64_t column) {
  return weight_at(p, plane, 0, 0, column) * first_of(p, plane, column);
}

/* z of these rows from some column on, where there is an activation (else NULL); its units are set. */
static const norma_coefs *column_z(const pass *p, const norma_column_chunk *rows, int64_t column, norma_coefs *z) {
  if (!p->plan.call->activation) return NULL;
  norma_column_params_at(z, &p->weight, &p->bias, &p->after, rows, column);
  return z;
}

/* --------------------------------------------------------------------------------------------------------- sums --- */

void norma_column_sum_piece(const pass *p, int64_t plane, int64_t outer, int64_t piece, int64_t first, int64_t n) {
  double mean[NORMA_COLUMNS], mean_lo[NORMA_COLUMNS], rstd[NORMA_COLUMNS], pivot[NORMA_COLUMNS] = {0};
  double sum[2 * NORMA_COLUMNS];
  int64_t row = piece * p->plan.stretch, rows = norma_smaller(p->plan.rows - row, p->plan.stretch);
  norma_slopes s = {.mean = mean, .mean_lo = mean_lo, .rstd = rstd, .weight_row = p->weight.row_stride};
  norma_saved room[NORMA_COLUMNS];
  const norma_saved *unit = room;
  float hi[NORMA_COLUMNS], lo[NORMA_COLUMNS], z_rstd[NORMA_COLUMNS];
  if (p->by_row) {
    int64_t at = norma_walk_offset(&p->row_planes, plane) + norma_walk_offset(&p->row_outer, outer);
    const double *first_unit = &p->saved->mean + at + row * p->row_doubles;
    s.mean = first_unit, s.mean_lo = first_unit + 1, s.rstd = first_unit + 2;
    s.unit_step = p->row_doubles;
    for (int64_t r = 0; r < rows && p->plan.call->activation; r++)
      memcpy(&room[r], first_unit + r * p->row_doubles, sizeof room[r]);
  } else {
    unit = norma_column_units_of(&p->plan, p->saved, NULL, plane, first, n, room, NULL).saved;
  }
  for (int64_t c = 0; c < n && !p->by_row; c++) {
    mean[c] = unit[c].mean, mean_lo[c] = unit[c].mean_lo, rstd[c] = unit[c].rstd;
    if (p->varies) pivot[c] = pivot_of(p, plane, (first + c) / p->plan.middle * p->plan.middle);
  }
  for (int64_t c = n; c % 8 && !p->by_row; c++) mean[c] = mean_lo[c] = rstd[c] = 0;
  if (p->varies) s.weight = (const float *)norma_column_at(&p->weight, plane, outer, row, first);
  if (p->plan.call->activation) p->plan.kernels->unit_views(unit, hi, lo, z_rstd, p->by_row ? rows : n);
  norma_coefs z = norma_coefs_make(p->plan.call, hi, lo, z_rstd, unit);
  if (p->by_row) z.unit_row = 1;
  else z.unit_step = 1;
  s.z = column_z(p, &(norma_column_chunk){plane, outer, row, rows}, first, &z);
  if (p->keeps) s.dz = (float *)norma_column_at(&p->dx, plane, outer, row, first), s.dz_row = p->dx.row_stride;
  p->plan.kernels->column_gradients(p->plan.call->type, &s, p->by_row, norma_column_at(&p->x, plane, outer, row, first),
                                    p->x.row_stride, norma_column_at(&p->dy, plane, outer, row, first),
                                    p->dy.row_stride, rows, n, pivot, sum);
  bool finish = !p->by_row && !p->varies && p->plan.pieces_of_run == 1;
  bool bad_row = false; /* a row that has a NaN poisons every column */
  for (int64_t r = 0; r < rows && p->by_row; r++) bad_row = bad_row || isnan(s.rstd[r * s.unit_step]);
  for (int64_t c = 0; c < 2 * n && bad_row; c++) sum[c] = NAN;
  p->plan.kernels->finish_runs(sum, sum + n, 1, finish ? mean_lo : NULL, p->by_row ? NULL : rstd,
                               piece_at(p, plane, outer, piece, first), n);
}

static void sum_items(void *context, int64_t begin, int64_t end) {
  const pass *p = context;
  int64_t blocks = (p->plan.width + p->wide - 1) / p->wide;
  for (int64_t item = begin; item < end; item++) {
    int64_t first = item % blocks * p->wide, at = item / blocks, piece = at % p->plan.pieces_of_run;
    int64_t last = norma_smaller(first + p->wide, p->plan.width);
    at /= p->plan.pieces_of_run;
    for (int64_t c = first; c < last; c += NORMA_COLUMNS)
      norma_column_sum_piece(p, at / p->plan.outer_count, at % p->plan.outer_count, piece, c,
                norma_smaller(last - c, NORMA_COLUMNS));
  }
}

/* The pieces of a run become the first of them. */
static void join_pieces(void *context, int64_t begin, int64_t end) {
  const pass *p = context;
  int64_t runs = p->plan.plane_count * p->plan.outer_count * p->plan.width;
  for (int64_t r = begin; r < end && p->plan.pieces_of_run > 1; r++) {
    norma_partial_sums *run = &p->pieces[r];
    for (int64_t s = 1; s < p->plan.pieces_of_run; s++) norma_partial_sums_join(run, &run[s * runs]);
    if (p->by_row || p->varies) continue;
    int64_t plane = r / p->plan.width / p->plan.outer_count, column = r % p->plan.width;
    const norma_saved *unit = &p->saved[norma_column_unit(&p->plan, plane, column)];
    norma_finish_run(&run->second, run->first.hi, unit->mean_lo, unit->rstd);
  }
}

void norma_column_sum_plane(pass *p, int64_t plane) {
  int64_t blocks = (p->plan.width + p->wide - 1) / p->wide, items = p->plan.pieces_of_run * blocks;
  sum_items(p, plane * items, (plane + 1) * items);
  join_pieces(p, plane * p->plan.width, (plane + 1) * p->plan.width);
}

void norma_column_sum_all(pass *p) {
  const norma_column_plan *plan = &p->plan;
  int64_t runs = plan->plane_count * plan->outer_count;
  p->wide = norma_column_piece(plan, runs * plan->pieces_of_run, NORMA_WIDE);
  int64_t blocks = (plan->width + p->wide - 1) / p->wide;
  norma_parallel(plan->call->threads, runs * plan->pieces_of_run * blocks, 1, norma_pass_bytes(plan->call, 2),
                 sum_items, p);
  if (plan->pieces_of_run > 1)
    norma_parallel(plan->call->threads, runs * plan->width, 64, runs * plan->width * 64, join_pieces, p);
}

/* Sums over the runs of n columns (or over the middle ones of n units) from `column` on, n <= NORMA_BLOCK_UNITS; where
 * they are a unit's, `pivot` is not NULL and the weight comes in here. */
static void sum_runs(const pass *p, int64_t plane, int64_t column, int64_t n, const double *pivot,
                     norma_partial_sums *total) {
  norma_partial_sums sample[NORMA_BLOCK_UNITS];
  double weight[NORMA_BLOCK_UNITS];
  norma_weighing weighing = {weight, pivot, (double)p->plan.rows};
  int64_t middle = p->plan.middle;
  bool changes = middle > 1 || norma_walk_moves(&p->weight.outer), single = middle * p->plan.outer_middle == 1;
  norma_partial_sums *into = single ? total : sample; /* the only run of a sample is the sample */
  memset(sample, 0, sizeof sample);
  memset(total, 0, (size_t)n * sizeof *total);
  for (int64_t o = 0; o < p->plan.outer_count; o++) {
    for (int64_t m = 0; m < middle; m++) {
      for (int64_t i = 0; i < n && pivot && (o == 0 || changes); i++)
        weight[i] = weight_at(p, plane, o, 0, column + m + i * middle);
      p->plan.kernels->join_runs(into, piece_at(p, plane, o, 0, column + m), middle, pivot ? &weighing : NULL, n);
    }
    if (single || (o + 1) % p->plan.outer_middle) continue;
    p->plan.kernels->join_runs(total, sample, 1, NULL, n);
    memset(sample, 0, sizeof sample);
  }
}

void norma_column_unit_means(void *context, int64_t begin, int64_t end) {
  const pass *p = context;
  int64_t per_plane = p->plan.width / p->plan.middle, n;
  double elements = (double)norma_layer_unit_elements(p->plan.call->layer);
  for (int64_t u = begin; u < end; u += n) {
    int64_t plane = u / per_plane, first = u % per_plane * p->plan.middle;
    double pivot[NORMA_BLOCK_UNITS];
    norma_partial_sums total[NORMA_BLOCK_UNITS];
    n = norma_smaller(norma_smaller(end - u, NORMA_BLOCK_UNITS), per_plane - u % per_plane);
    for (int64_t i = 0; i < n; i++) pivot[i] = pivot_of(p, plane, first + i * p->plan.middle);
    sum_runs(p, plane, first, n, p->varies ? NULL : pivot, total);
    for (int64_t i = 0; i < n; i++) {
      int64_t unit = norma_column_unit(&p->plan, plane, first + i * p->plan.middle);
      p->means[unit] = norma_unit_means(p->plan.call, elements, pivot[i], &total[i]);
    }
  }
}

size_t norma_column_sums_bytes(const norma_layer *layer) {
  static const norma_extent of[2] = {NORMA_UNITS, NORMA_PARAMS};
  int64_t most = 0;
  for (int i = 0; i < 2; i++) {
    norma_reduction r;
    norma_reduction_init(&r, layer, of[i]);
    int64_t run = norma_axes_length(layer, &r.run);
    if (run == 0) continue;
    int64_t pieces = (run + r.stretch - 1) / r.stretch, count = norma_layer_elements(layer) / run;
    if (count * pieces > most) most = count * pieces;
  }
  return (size_t)most * sizeof(norma_partial_sums);
}

/* Blocks of columns of a plane. */
static void params_from_columns(void *context, int64_t begin, int64_t end) {
  const pass *p = context;
  const norma_call *call = p->plan.call;
  int64_t blocks = (p->plan.width + NORMA_COLUMNS - 1) / NORMA_COLUMNS;
  for (int64_t i = begin; i < end; i++) {
    double dweight[NORMA_COLUMNS], dbias[NORMA_COLUMNS];
    int64_t plane = i / blocks, first = i % blocks * NORMA_COLUMNS;
    int64_t n = norma_smaller(p->plan.width - first, NORMA_COLUMNS);
    norma_partial_sums total[NORMA_BLOCK_UNITS];
    for (int64_t c = 0; c < n; c++) {
      int64_t at = c % NORMA_BLOCK_UNITS;
      const norma_partial_sums *sums = &total[at];
      if (at == 0) sum_runs(p, plane, first + c, norma_smaller(n - c, NORMA_BLOCK_UNITS), NULL, total);
      dweight[c] = sums->second.hi + sums->second.lo;
      dbias[c] = sums->first.hi + sums->first.lo;
    }
    if (call->dweight.data)
      norma_walk_scatter(&p->dweight_columns, norma_walk_offset(&p->dweight_planes, plane), first, n, dweight);
    if (call->dbias.data)
      norma_walk_scatter(&p->dbias_columns, norma_walk_offset(&p->dbias_planes, plane), first, n, dbias);
  }
}

/* Parameters that are columns, units that are rows. */
bool norma_column_params(const norma_call *call, const norma_saved *saved, void *workspace) {
  pass p = {.saved = saved, .pieces = workspace, .by_row = true};
  if (!norma_column_plan_make(&p.plan, call, &call->dy, NORMA_PARAMS) || p.plan.middle > 1) return false;
  if (!norma_column_view_make(&p.plan, &call->x, &p.x) || !norma_column_view_make(&p.plan, &call->dy, &p.dy))
    return false;
  if (!norma_column_view_make(&p.plan, &call->weight, &p.weight) ||
      !norma_column_view_make(&p.plan, &call->bias, &p.bias))
    return false;
  if (call->activation && ((p.weight.column_stride | p.bias.column_stride) & ~(int64_t)1)) return false;
  if (!norma_column_view_make(&p.plan, &call->after, &p.after) || !norma_column_is_dense(&p.after)) return false;
  norma_operand units = norma_bind_doubles(call->layer, &saved->mean, sizeof *saved / sizeof(double));
  norma_walk rows = norma_walk_make(call->layer, &p.plan.run, &units);
  norma_walk columns = norma_walk_make(call->layer, &p.plan.columns, &units);
  if (rows.count > 1 || columns.count > 1 || (columns.count == 1 && columns.stride[0] != 0)) return false;
  p.row_doubles = rows.count ? rows.stride[0] : 0;
  p.row_planes = norma_walk_make(call->layer, &p.plan.planes, &units);
  p.row_outer = norma_walk_make(call->layer, &p.plan.outer, &units);
  p.dweight_planes = norma_walk_make(call->layer, &p.plan.planes, &call->dweight);
  p.dweight_columns = norma_walk_make(call->layer, &p.plan.columns, &call->dweight);
  p.dbias_planes = norma_walk_make(call->layer, &p.plan.planes, &call->dbias);
  p.dbias_columns = norma_walk_make(call->layer, &p.plan.columns, &call->dbias);
  norma_column_sum_all(&p);
  int64_t params = p.plan.plane_count * p.plan.width, blocks = (p.plan.width + NORMA_COLUMNS - 1) / NORMA_COLUMNS;
  norma_parallel(call->threads, p.plan.plane_count * blocks, 1,
                 params * p.plan.outer_count * (int64_t)sizeof(norma_partial_sums), params_from_columns, &p);
  return true;
}

/* Parameters whose runs are the units' runs: from the pieces, in the parameters' own order. */
void norma_column_params_from_units(const pass *p) {
  const norma_call *call = p->plan.call;
  norma_operand operand = {.data = (char *)p->pieces, .type = NORMA_F64};
  int64_t stride = sizeof(norma_partial_sums) / sizeof(double);
  const norma_axes *order[3] = {&p->plan.columns, &p->plan.outer, &p->plan.planes};
  for (int k = 0; k < 3; k++)
    for (int i = order[k]->count - 1; i >= 0; i--) {
      int a = order[k]->index[i];
      operand.stride[a] = stride;
      stride *= call->layer->axes[a].length;
    }
  norma_params_from(call, &operand);
}

void norma_column_put_sums(void *context, int64_t begin, int64_t end) {
  const pass *p = context;
  for (int64_t u = begin; u < end; u++) {
    int64_t plane = u / p->plan.width, column = u % p->plan.width;
    const norma_partial_sums *at = piece_at(p, plane, 0, 0, column);
    p->plan.call->sums[norma_column_unit(&p->plan, plane, column)] =
        norma_sums_of(p->plan.rows, first_of(p, plane, column), at);
  }
}
