/* The backward pass where units are neighbouring columns: the sums (column_sums.c), then dx row after row. */
#include "column_sums.h"

typedef norma_column_pass pass;

/* ----------------------------------------------------------------------------------------------------------- dx --- */

/* What dx of a tile of columns is made of, as often as rows are written as one. */
typedef struct tile_slopes {
  float q_hi[NORMA_WRITTEN], q_lo[NORMA_WRITTEN], q_xhat[NORMA_WRITTEN];
  float hi[NORMA_WRITTEN], lo[NORMA_WRITTEN], rstd[NORMA_WRITTEN];
  norma_column_units units;
  norma_saved saved_room[NORMA_WRITTEN];
  norma_pair means_room[NORMA_WRITTEN];
  norma_column_affine affine;
  int64_t fold;
} tile_slopes;

static void make_slopes(const pass *p, int64_t plane, int64_t column, int64_t n, tile_slopes *t) {
  const norma_kernels *k = p->plan.kernels;
  t->units = norma_column_units_of(&p->plan, p->saved, p->means, plane, column, n, t->saved_room, t->means_room);
  k->unit_views(t->units.saved, t->hi, t->lo, t->rstd, n);
  k->means_views(t->units.saved, t->rstd, t->units.means, t->q_hi, t->q_lo, t->q_xhat, n);
  t->fold = n == p->plan.width ? p->fold : 1;
  if (t->fold == 1) return;
  float *const views[] = {t->hi, t->lo, t->rstd, t->q_hi, t->q_lo, t->q_xhat};
  for (int i = 0; i < 6; i++) norma_column_repeat(views[i], (size_t)n * sizeof(float), t->fold);
  norma_column_repeat_units(&t->units, t->saved_room, t->means_room, n, t->fold);
}

/* n columns of these rows, of which `fold` are written as one. */
static void write_rows(const pass *p, tile_slopes *t, const norma_column_chunk *k, int64_t column, int64_t n,
                       int64_t fold) {
  int64_t plane = k->plane, outer = k->outer, first = k->row;
  norma_slopes s = {.unit_step = 1};
  norma_coefs z = norma_coefs_make(p->plan.call, t->hi, t->lo, t->rstd, t->units.saved);
  z.unit_step = 1;
  norma_column_params_at(&z, &p->weight, &p->bias, &p->after, k, column);
  if (fold > 1) norma_column_repeat_params(&z, n, fold, &t->affine);
  z.after_row *= fold;
  s.dx = (norma_dx){t->hi, t->lo, t->rstd, t->q_hi, t->q_lo, t->q_xhat, t->units.saved, t->units.means};
  s.weight = z.weight, s.weight_step = z.weight_step, s.weight_row = z.weight_row;
  if (z.activation && !p->keeps) s.z = &z;
  s.dsum = norma_column_at(&p->dsum, plane, outer, first, column), s.dsum_row = fold * p->dsum.row_stride;
  s.dafter = norma_column_at(&p->dafter, plane, outer, first, column), s.dafter_row = fold * p->dafter.row_stride;
  norma_rows r = {.rows = k->rows / fold, .n = fold * n, .x_stride = fold * p->x.row_stride};
  r.dy_stride = fold * p->dy.row_stride, r.y_stride = fold * p->dx.row_stride;
  r.x = norma_column_at(&p->x, plane, outer, first, column);
  r.dy = norma_column_at(&p->dy, plane, outer, first, column);
  r.y = norma_column_at(&p->dx, plane, outer, first, column);
  if (p->keeps) r.dy = r.y, r.dy_stride = r.y_stride;
  r.x_ahead = p->by_plane ? norma_column_ahead(&p->plan, &p->x, plane) : norma_column_soon(&p->x, n);
  if (p->by_plane && !p->keeps) r.dy_ahead = norma_column_ahead(&p->plan, &p->dy, plane);
  if (!p->by_plane) r.dy_ahead = norma_column_soon(p->keeps ? &p->dx : &p->dy, n);
  p->plan.kernels->backward(p->plan.call->type, &s, &r, p->stream, NULL);
}

static void write_chunk(const pass *p, tile_slopes *t, norma_column_chunk k, int64_t column, int64_t n) {
  norma_column_chunk rest = norma_column_rest(&k, t->fold);
  if (k.rows > 0) write_rows(p, t, &k, column, n, t->fold);
  if (rest.rows > 0) write_rows(p, t, &rest, column, n, rest.rows);
}

/* A norma_column_write. */
static void write_chunks(const void *context, const norma_column_chunks *chunks, int64_t column, int64_t n) {
  const pass *p = context;
  tile_slopes slopes;
  int64_t made = -1;
  for (int64_t i = chunks->begin; i < chunks->end; i++) {
    norma_column_chunk chunk = norma_column_chunk_at(chunks, i);
    if (chunk.plane != made) make_slopes(p, chunk.plane, column, n, &slopes);
    made = chunk.plane;
    for (int64_t c = 0; c < n && p->sums_with_dx; c += NORMA_COLUMNS)
      norma_column_sum_piece(p, chunk.plane, chunk.outer, 0, column + c, norma_smaller(n - c, NORMA_COLUMNS));
    write_chunk(p, &slopes, chunk, column, n);
  }
}

/* ----------------------------------------------------------------------------------------------- the whole pass --- */

/* Planes that share no unit: each is summed and written before the next. */
static void backward_planes(void *context, int64_t begin, int64_t end) {
  pass *p = context;
  const norma_column_plan *plan = &p->plan;
  int64_t units = plan->width / plan->middle;
  for (int64_t plane = begin; plane < end; plane++) {
    norma_column_sum_plane(p, plane);
    norma_column_unit_means(context, plane * units, (plane + 1) * units);
    norma_column_write_plane(plan, write_chunks, p, plane);
  }
  if (p->stream) plan->kernels->fence();
}

/* Whether there are planes enough for all threads, and each stays in a cache that they share. */
static bool are_planes_apart(const norma_column_plan *p) {
  int64_t bytes = 2 * p->rows * p->width * (int64_t)norma_type_size(p->call->type);
  int threads = norma_threads_or(p->call->threads, 4);
  return p->outer_count == 1 && p->plane_count >= threads && bytes <= 8 << 20;
}

/* Whether dy of a tile that is written stays in the second-level cache between its sums and dx. */
static bool stays_cached(const norma_column_plan *p) {
  int64_t bytes = p->rows * norma_smaller(p->width, NORMA_WRITTEN) * (int64_t)norma_type_size(p->call->type);
  return p->pieces_of_run == 1 && bytes <= 1 << 20;
}

bool norma_column_backward(const norma_call *call, const norma_saved *saved, norma_pair *means, void *workspace) {
  bool given = call->given_var.data, params = call->dweight.data || call->dbias.data;
  bool together = params && norma_runs_agree(call->layer);
  pass p = {.saved = saved, .means = given ? NULL : means, .pieces = workspace, .varies = norma_weight_varies(call)};
  if (!norma_column_plan_make(&p.plan, call, &call->dy, NORMA_UNITS)) return false;
  if (!norma_column_view_make(&p.plan, &call->x, &p.x) || !norma_column_view_make(&p.plan, &call->dy, &p.dy) ||
      !norma_column_view_make(&p.plan, &call->dx, &p.dx) ||
      !norma_column_view_make(&p.plan, &call->after, &p.after) ||
      !norma_column_view_make(&p.plan, &call->dsum, &p.dsum) ||
      !norma_column_view_make(&p.plan, &call->dafter, &p.dafter) ||
      !norma_column_view_make(&p.plan, &call->weight, &p.weight) ||
      !norma_column_view_make(&p.plan, &call->bias, &p.bias))
    return false;
  if ((p.weight.column_stride | p.bias.column_stride) & ~(int64_t)1) return false;
  const norma_column_view *const elements[] = {&p.dx, &p.after, &p.dsum, &p.dafter};
  for (int i = 0; i < 4; i++)
    if (!norma_column_is_dense(elements[i])) return false;
  if (p.varies && p.weight.column_stride != 0) return false;
  const norma_column_view *const all[] = {&p.x, &p.dy, &p.dx, &p.after, &p.dsum, &p.dafter};
  p.fold = norma_column_fold(&p.plan, all, 6, &p.weight, &p.bias);
  p.keeps = norma_keeps_dz(call);
  p.stream = call->dx.data && norma_streams(call) && !p.keeps;
  if (params && !together) norma_param_pass(call, saved, workspace);
  bool through = call->dx.data && !given && !call->means_known;
  if (through && are_planes_apart(&p.plan)) {
    p.by_plane = true;
    p.wide = NORMA_WIDE;
    norma_parallel(call->threads, p.plan.plane_count, 1, norma_pass_bytes(call, 3), backward_planes, &p);
    if (together) norma_column_params_from_units(&p);
    return true;
  }
  bool summed = together || call->sums;
  p.sums_with_dx = together && !call->sums && call->dx.data && !through && stays_cached(&p.plan);
  if (p.sums_with_dx)
    norma_column_write_all(&p.plan, write_chunks, &p, p.stream, true, norma_pass_bytes(call, 3));
  else if (through || summed)
    norma_column_sum_all(&p);
  if (together) norma_column_params_from_units(&p);
  if (call->sums) norma_parallel(call->threads, norma_layer_units(call->layer), 64, 0, norma_column_put_sums, &p);
  if (!call->dx.data || p.sums_with_dx) return true;
  if (through)
    norma_parallel(call->threads, norma_layer_units(call->layer), 64,
                   norma_run_count(call->layer) * (int64_t)sizeof(norma_partial_sums), norma_column_unit_means,
                   &p);
  norma_column_write_all(&p.plan, write_chunks, &p, p.stream, false, norma_pass_bytes(call, 3));
  return true;
}
