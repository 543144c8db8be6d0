/* The backward pass where units are rows: while the dx of one block of units is written, the sums of the next are
 * taken. A run whose weight is one number gives its sums of dy and dy xhat to the unit, times the weight, and to the
 * parameter as they are, so that one reading serves both. */
#include "row_plan.h"

#include <math.h>
#include <string.h>

enum { X, DY, DX, AFTER, DSUM, DAFTER, WEIGHT, BIAS };

typedef struct pass {
  norma_row_plan plan;
  const norma_saved *saved;
  norma_pair *means;
  bool varies; /* the weight changes along a run */
  bool keeps;  /* dz, in dx */
  bool sums_with_dx; /* dx does not wait for the sums of its unit, and is written while they are taken */
  bool summed; /* somebody asks for the sums of the runs */
  norma_run_sums runs;
  double elements; /* of a unit */
} pass;

/* What is known of a unit while its sums are taken. */
typedef struct summer {
  double first, pivot; /* its first dz and q */
  norma_partial_sums total;
} summer;

static double weight_at(const float *weight) { return weight ? *weight : 1; }

static norma_slopes slopes_of(const pass *b, int64_t unit, const char *weight) {
  const norma_saved *s = &b->saved[unit];
  norma_slopes slopes = {.mean = &s->mean, .mean_lo = &s->mean_lo, .rstd = &s->rstd};
  slopes.weight = (const float *)weight;
  slopes.weight_step = b->varies ? 1 : 0;
  return slopes;
}

/* z of a unit's run, where there is an activation. */
typedef struct run_z {
  float hi, lo, rstd;
  norma_coefs coefs;
} run_z;

static const norma_coefs *set_z(const pass *b, int64_t unit, int64_t o, int64_t m, run_z *z) {
  const norma_row_plan *p = &b->plan;
  if (!p->call->activation) return NULL;
  norma_coefs_set(&b->saved[unit], &z->hi, &z->lo, &z->rstd);
  z->coefs = norma_coefs_make(p->call, &z->hi, &z->lo, &z->rstd, &b->saved[unit]);
  z->coefs.weight = (const float *)norma_row_start(p, WEIGHT, unit, o, m);
  z->coefs.bias = (const float *)norma_row_start(p, BIAS, unit, o, m);
  z->coefs.weight_step = p->step[WEIGHT], z->coefs.bias_step = p->step[BIAS];
  z->coefs.after = norma_row_start(p, AFTER, unit, o, m);
  return &z->coefs;
}

static void advance_z(run_z *z, int64_t n, int64_t size) {
  if (z->coefs.weight) z->coefs.weight += n * z->coefs.weight_step;
  if (z->coefs.bias) z->coefs.bias += n * z->coefs.bias_step;
  if (z->coefs.after) z->coefs.after = (const char *)z->coefs.after + n * size;
}

/* The two sums of a run, for the parameters as they are and for the unit. */
static void add_run(const pass *b, int64_t unit, int64_t o, int64_t m, const norma_sum sums[2], const char *weight,
                    const summer *s, norma_partial_sums *into) {
  norma_partial_sums run = {sums[0], sums[1]};
  const norma_saved *saved = &b->saved[unit];
  if (!b->varies) norma_finish_run(&run.second, run.first.hi, saved->mean_lo, saved->rstd);
  if (isnan(saved->rstd)) run.first.hi = run.second.hi = NAN;
  norma_run_sums_put(&b->runs, unit, o, m, &run);
  if (b->plan.call->sums) b->plan.call->sums[unit] = norma_sums_of(b->plan.run, s->first, &run);
  if (!b->varies) norma_weigh_run(&run, weight_at((const float *)weight), (double)b->plan.run, 0, s->pivot);
  norma_partial_sums_join(into, &run);
}

/* dx of one run of unit `written` (or none, -1); the sums of the same run of unit `measured` (or none) are added. */
static void backward_run(const pass *b, int64_t written, int64_t measured, const summer *s, int64_t o, int64_t m,
                         norma_partial_sums *into) {
  const norma_row_plan *p = &b->plan;
  norma_sum run[2] = {{0, 0}, {0, 0}};
  norma_rows row = {.rows = 1};
  if (written != measured) row.x_ahead = row.dy_ahead = p->ahead; /* else the sums fetch */
  norma_slopes slopes = {0};
  norma_ahead ahead = {0};
  norma_dx_block dx;
  run_z z, next_z;
  const char *next_weight = NULL;
  if (written >= 0) {
    row.x = norma_row_start(p, X, written, o, m), row.dy = norma_row_start(p, DY, written, o, m);
    row.y = (char *)norma_row_start(p, DX, written, o, m);
    slopes = slopes_of(b, written, norma_row_start(p, WEIGHT, written, o, m));
    slopes.dx = norma_dx_make(b->plan.kernels, &b->saved[written], p->given ? NULL : &b->means[written], 1, &dx);
    slopes.dsum = norma_row_start(p, DSUM, written, o, m);
    slopes.dafter = (char *)norma_row_start(p, DAFTER, written, o, m);
    if (b->keeps) row.dy = row.y;
    else slopes.z = set_z(b, written, o, m, &z);
  }
  if (measured >= 0) {
    next_weight = norma_row_start(p, WEIGHT, measured, o, m);
    ahead.x = norma_row_start(p, X, measured, o, m), ahead.dy = norma_row_start(p, DY, measured, o, m);
    ahead.slopes = slopes_of(b, measured, b->varies ? next_weight : NULL);
    ahead.slopes.z = set_z(b, measured, o, m, &next_z);
    if (b->keeps) ahead.slopes.dz = (float *)norma_row_start(p, DX, measured, o, m);
    ahead.pivot = s->pivot;
  }
  for (int64_t i = 0; i < p->run; i += NORMA_STRETCH) {
    row.n = p->run - i < NORMA_STRETCH ? p->run - i : NORMA_STRETCH;
    if (row.x) p->kernels->backward(p->call->type, &slopes, &row, p->stream, ahead.x ? &ahead : NULL);
    else p->kernels->gradients(p->call->type, &ahead.slopes, ahead.x, ahead.dy, row.n, ahead.pivot, ahead.sum);
    if (row.x) {
      row.x = (const char *)row.x + row.n * p->size, row.dy = (const char *)row.dy + row.n * p->size;
      row.y = (char *)row.y + row.n * p->size;
      if (slopes.weight) slopes.weight += row.n * slopes.weight_step;
      if (slopes.dsum) slopes.dsum = (const char *)slopes.dsum + row.n * p->size;
      if (slopes.dafter) slopes.dafter = (char *)slopes.dafter + row.n * p->size;
      if (slopes.z) advance_z(&z, row.n, p->size);
    }
    if (!ahead.x) continue;
    norma_sum_add(&run[0], (norma_sum){ahead.sum[0], 0});
    norma_sum_add(&run[1], (norma_sum){ahead.sum[1], 0});
    ahead.x = (const char *)ahead.x + row.n * p->size, ahead.dy = (const char *)ahead.dy + row.n * p->size;
    if (ahead.slopes.weight) ahead.slopes.weight += row.n * ahead.slopes.weight_step;
    if (ahead.slopes.z) advance_z(&next_z, row.n, p->size);
    if (ahead.slopes.dz) ahead.slopes.dz += row.n;
  }
  if (measured >= 0) add_run(b, measured, o, m, run, next_weight, s, into);
}

static void start_unit(const pass *b, int64_t unit, summer *s) {
  const norma_row_plan *p = &b->plan;
  s->total = (norma_partial_sums){0};
  norma_type type = p->call->type;
  const char *weight = norma_row_start(p, WEIGHT, unit, 0, 0), *bias = norma_row_start(p, BIAS, unit, 0, 0);
  double after = norma_load_one(type, norma_row_start(p, AFTER, unit, 0, 0), 0, -0.0);
  double x = norma_load_one(type, norma_row_start(p, X, unit, 0, 0), 0, 0);
  double dy = norma_load_one(type, norma_row_start(p, DY, unit, 0, 0), 0, 0);
  s->first = norma_single_dz(p->call, &b->saved[unit], x, dy, norma_load_one(NORMA_F32, weight, 0, 1),
                             norma_load_one(NORMA_F32, bias, 0, -0.0), after);
  s->pivot = weight_at((const float *)weight) * s->first;
}

/* dx of `write` units, and the sums of `measure` units from the `measured`-th on. */
static void backward_block(const pass *b, int64_t first, int write, int64_t measured, int measure) {
  const norma_row_plan *p = &b->plan;
  summer units[NORMA_BLOCK_UNITS];
  int most = write > measure ? write : measure;
  for (int i = 0; i < measure; i++) start_unit(b, measured + i, &units[i]);
  for (int64_t o = 0; o < p->outer; o++) {
    for (int i = 0; i < most; i++) {
      norma_partial_sums sample = {0};
      for (int64_t m = 0; m < p->middle; m++)
        backward_run(b, i < write ? first + i : -1, i < measure ? measured + i : -1, &units[i], o, m, &sample);
      if (i < measure) norma_partial_sums_join(&units[i].total, &sample);
    }
  }
  for (int i = 0; i < measure && !p->given; i++)
    b->means[measured + i] = norma_unit_means(p->call, b->elements, units[i].pivot, &units[i].total);
}

/* --------------------------------------------------------------------------------------------------- short runs --- */

/* What is known of the units of a batch. */
typedef struct batch {
  int64_t unit; /* the first of them */
  int count;
  double mean[NORMA_BLOCK_UNITS], mean_lo[NORMA_BLOCK_UNITS], rstd[NORMA_BLOCK_UNITS], pivot[NORMA_BLOCK_UNITS];
  float hi[NORMA_BLOCK_UNITS], lo[NORMA_BLOCK_UNITS], z_rstd[NORMA_BLOCK_UNITS];
  double first[NORMA_BLOCK_UNITS]; /* dz, of which pivot is the q */
  norma_coefs z;
  norma_partial_sums total[NORMA_BLOCK_UNITS];
} batch;

static void batch_start(const pass *b, int64_t first, int count, batch *t) {
  t->unit = first;
  t->count = count;
  if (b->plan.call->activation) b->plan.kernels->unit_views(&b->saved[first], t->hi, t->lo, t->z_rstd, count);
  for (int i = 0; i < count; i++) {
    const norma_saved *s = &b->saved[first + i];
    t->mean[i] = s->mean, t->mean_lo[i] = s->mean_lo, t->rstd[i] = s->rstd;
    summer unit;
    start_unit(b, first + i, &unit);
    t->first[i] = unit.first, t->pivot[i] = unit.pivot, t->total[i] = unit.total;
  }
}

static norma_rows batch_rows(const norma_row_plan *p, const batch *t, int64_t o, int64_t m) {
  norma_rows rows = {.x = norma_row_start(p, X, t->unit, o, m), .dy = norma_row_start(p, DY, t->unit, o, m)};
  rows.y = (char *)norma_row_start(p, DX, t->unit, o, m);
  rows.rows = t->count;
  rows.n = p->run;
  rows.x_stride = norma_row_step(p, X), rows.dy_stride = norma_row_step(p, DY), rows.y_stride = norma_row_step(p, DX);
  return rows;
}

static void batch_slopes_init(const pass *b, batch *t, norma_slopes *s) {
  const norma_row_plan *p = &b->plan;
  *s = (norma_slopes){.mean = t->mean, .mean_lo = t->mean_lo, .rstd = t->rstd, .unit_row = 1};
  s->weight_step = b->varies ? 1 : 0;
  s->weight_row = norma_row_step(p, WEIGHT);
  s->dsum_row = norma_row_step(p, DSUM), s->dafter_row = norma_row_step(p, DAFTER);
  if (!p->call->activation) return;
  t->z = norma_coefs_make(p->call, t->hi, t->lo, t->z_rstd, b->saved + t->unit);
  t->z.unit_row = 1;
  t->z.weight_step = p->step[WEIGHT], t->z.bias_step = p->step[BIAS];
  t->z.weight_row = s->weight_row, t->z.bias_row = norma_row_step(p, BIAS);
  t->z.after_row = norma_row_step(p, AFTER);
  s->z = &t->z;
}

/* Of one run of each unit. */
static void batch_slopes_move(const norma_row_plan *p, batch *t, norma_slopes *s, int64_t o, int64_t m) {
  s->weight = (const float *)norma_row_start(p, WEIGHT, t->unit, o, m);
  s->dsum = norma_row_start(p, DSUM, t->unit, o, m);
  s->dafter = (char *)norma_row_start(p, DAFTER, t->unit, o, m);
  if (!p->call->activation) return;
  t->z.weight = s->weight, t->z.bias = (const float *)norma_row_start(p, BIAS, t->unit, o, m);
  t->z.after = norma_row_start(p, AFTER, t->unit, o, m);
}

/* What is summed of a batch, run by run. */
typedef struct batch_sums {
  norma_slopes slopes;
  norma_weighing weighing;
  double weight[NORMA_BLOCK_UNITS];
  const float *weighed; /* the weights that `weight` has */
  norma_partial_sums sample[NORMA_BLOCK_UNITS];
} batch_sums;

static void sums_init(const pass *b, batch *t, batch_sums *s) {
  batch_slopes_init(b, t, &s->slopes);
  s->weighing = (norma_weighing){s->weight, t->pivot, (double)b->plan.run};
  s->weighed = NULL;
}

/* The same run of all units in one loop; it is at most a stretch. */
static void sum_run(const pass *b, batch *t, batch_sums *s, int64_t o, int64_t m, norma_partial_sums *into) {
  const norma_row_plan *p = &b->plan;
  double sum[2 * NORMA_BLOCK_UNITS];
  norma_partial_sums room[NORMA_BLOCK_UNITS];
  norma_rows rows = batch_rows(p, t, o, m);
  rows.x_ahead = norma_row_next(p, X, t->unit, t->count, o, m);
  rows.dy_ahead = norma_row_next(p, DY, t->unit, t->count, o, m);
  norma_partial_sums *kept = norma_run_sums_row(&b->runs, t->unit, o, m), *run = kept ? kept : room;
  norma_slopes *slopes = &s->slopes;
  batch_slopes_move(p, t, slopes, o, m);
  for (int i = 0; i < t->count && !b->varies && (slopes->weight != s->weighed || o + m == 0); i++)
    s->weight[i] = weight_at(slopes->weight ? slopes->weight + i * slopes->weight_row : NULL);
  s->weighed = slopes->weight;
  if (!b->varies) slopes->weight = NULL;
  if (b->keeps) slopes->dz = rows.y, slopes->dz_row = rows.y_stride;
  p->kernels->batch_gradients(p->call->type, slopes, &rows, t->pivot, sum);
  p->kernels->finish_runs(sum, sum + 1, 2, b->varies ? NULL : t->mean_lo, t->rstd, run, t->count);
  for (int i = 0; i < t->count && b->runs.at && !kept; i++) norma_run_sums_put(&b->runs, t->unit + i, o, m, &run[i]);
  for (int i = 0; i < t->count && p->call->sums; i++)
    p->call->sums[t->unit + i] = norma_sums_of(p->run, t->first[i], &run[i]);
  p->kernels->join_runs(into, run, 1, b->varies ? NULL : &s->weighing, t->count);
}

/* fetch: nothing else has read x and dy. */
static void write_run(const pass *b, batch *t, norma_slopes *slopes, int64_t o, int64_t m, bool fetch) {
  const norma_row_plan *p = &b->plan;
  norma_rows rows = batch_rows(p, t, o, m);
  batch_slopes_move(p, t, slopes, o, m);
  if (b->keeps) rows.dy = rows.y, rows.dy_stride = rows.y_stride;
  if (fetch) rows.x_ahead = norma_row_next(p, X, t->unit, t->count, o, m);
  if (fetch) rows.dy_ahead = norma_row_next(p, DY, t->unit, t->count, o, m);
  p->kernels->backward(p->call->type, slopes, &rows, p->stream, NULL);
}

/* The sums of every run, or its dx, or both while it is in the cache; what is not wanted is NULL. fetch: for dx. */
static void each_run(const pass *b, batch *t, batch_sums *sums, norma_slopes *dx, bool fetch) {
  const norma_row_plan *p = &b->plan;
  norma_partial_sums *into = p->middle == 1 ? t->total : sums ? sums->sample : NULL; /* the only one is the sample */
  for (int64_t o = 0; o < p->outer; o++) {
    if (sums && p->middle > 1) memset(into, 0, sizeof sums->sample);
    for (int64_t m = 0; m < p->middle; m++) {
      if (sums) sum_run(b, t, sums, o, m, into);
      if (dx) write_run(b, t, dx, o, m, fetch);
    }
    if (sums && p->middle > 1) p->kernels->join_runs(t->total, into, 1, NULL, t->count);
  }
}

static void backward_batches(const pass *b, int64_t begin, int64_t end) {
  const norma_row_plan *p = &b->plan;
  batch t; /* only `count` entries are used */
  for (int64_t unit = begin; unit < end; unit += t.count) {
    batch_sums sums;
    norma_dx_block block;
    norma_slopes slopes;
    batch_start(b, unit, norma_row_batch(p, unit, end), &t);
    bool known = p->given || p->call->means_known; /* dx does not wait for the sums */
    if (b->summed) sums_init(b, &t, &sums);
    if (!known) each_run(b, &t, &sums, NULL, false);
    for (int i = 0; i < t.count && !known; i++)
      b->means[unit + i] = norma_unit_means(p->call, b->elements, t.pivot[i], &t.total[i]);
    batch_slopes_init(b, &t, &slopes);
    slopes.dx = norma_dx_make(b->plan.kernels, &b->saved[unit], p->given ? NULL : &b->means[unit], t.count, &block);
    if (b->keeps) slopes.z = NULL;
    each_run(b, &t, known && b->summed ? &sums : NULL, p->call->dx.data ? &slopes : NULL, !b->summed);
  }
}

/* ----------------------------------------------------------------------------------------------- the whole pass --- */

static void backward_blocks(const pass *b, int64_t begin, int64_t end) {
  const norma_row_plan *p = &b->plan;
  int written = 0, measured;
  for (int64_t unit = begin; unit < end || written; unit += measured) {
    measured = end - unit < p->block ? (int)(end - unit) : p->block;
    if (!b->summed || b->sums_with_dx) {
      backward_block(b, unit, measured, unit, b->summed ? measured : 0);
      continue;
    }
    backward_block(b, unit - written, written, unit, measured);
    written = p->call->dx.data ? measured : 0;
  }
}

static void backward_units(void *context, int64_t begin, int64_t end) {
  const pass *b = context;
  if (b->plan.batch) backward_batches(b, begin, end);
  else backward_blocks(b, begin, end);
  if (b->plan.stream) b->plan.kernels->fence();
}

bool norma_row_backward(const norma_call *call, const norma_saved *saved, norma_pair *means, void *workspace) {
  pass b;
  b.saved = saved;
  b.means = means;
  b.varies = norma_weight_varies(call);
  b.runs.at = NULL;
  b.elements = (double)norma_layer_unit_elements(call->layer);
  b.keeps = norma_keeps_dz(call);
  const norma_operand *const arrays[] = {&call->x,    &call->dy,     &call->dx,     &call->after,
                                         &call->dsum, &call->dafter, &call->weight, &call->bias};
  if (!norma_row_plan_make(&b.plan, call, arrays, 6, 2)) return false;
  if (call->weight.data && b.plan.step[WEIGHT] != (b.varies ? 1 : 0)) return false;
  b.plan.stream = call->dx.data && norma_streams(call) && !b.keeps;
  /* Sums that are not finite are taken a second time, and dy must still be there. */
  bool dy_stays = call->dx.data != call->dy.data && call->dafter.data != call->dy.data;
  b.sums_with_dx = b.plan.given && call->dx.data && dy_stays;
  bool params = call->dweight.data || call->dbias.data, together = norma_runs_agree(call->layer) && !call->means_known;
  if (params && together) b.runs = norma_run_sums_make(call, &b.plan.r, workspace);
  b.summed = b.runs.at || !(b.plan.given || call->means_known);
  if (params && !together) norma_param_pass(call, saved, workspace);
  if (call->dx.data || b.runs.at || call->sums) {
    norma_parallel(call->threads, b.plan.r.columns, b.plan.grain, norma_pass_bytes(call, 3), backward_units, &b);
    if (b.runs.at) norma_params_from_runs(call, &b.runs);
  }
  return true;
}
