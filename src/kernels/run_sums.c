/* The sums of dy and dy xhat over each run, kept until all are there, for the gradients of the parameters; and what the
 * sums of a unit are made of. */
#include "vector.h"

#include <math.h>
#include <string.h>

bool norma_weight_varies(const norma_call *call) {
  norma_axes run = norma_reduction_make(call->layer, NORMA_UNITS).run;
  if (!call->weight.data) return false;
  for (int i = 0; i < run.count; i++) {
    const norma_axis *axis = &call->layer->axes[run.index[i]];
    if (axis->bits & NORMA_AFFINE && axis->length > 1) return true;
  }
  return false;
}

norma_pair norma_means_about(const norma_call *call, double pivot, norma_pair means) {
  means.q += pivot;
  means.first = pivot;
  bool finite = isfinite(means.q) && isfinite(means.q_xhat);
  if (call->layer->rms) means.q = means.first = 0;
  if (!finite) means.q = NAN; /* Inf or NaN in dy makes dx of its unit NaN, as it does in x */
  return means;
}

norma_pair norma_unit_means(const norma_call *call, double m, double pivot, const norma_partial_sums *total) {
  norma_pair means = {.q = (total->first.hi + total->first.lo) / m};
  means.q_xhat = (total->second.hi + total->second.lo) / (m - call->ddof);
  return norma_means_about(call, pivot, means);
}

/* ------------------------------------------------------------------------------------------------- kept per run --- */

enum { DOUBLES = sizeof(norma_partial_sums) / sizeof(double) };

/* Dense over all axes but those of the run. */
static norma_operand bind_runs(const norma_layer *layer, const norma_axes *run, void *data) {
  norma_operand operand = {.data = data, .type = NORMA_F64};
  int64_t stride = DOUBLES;
  for (int a = layer->axis_count - 1; a >= 0; a--) {
    if (norma_axes_contain(run, a) || layer->axes[a].length <= 1) continue;
    operand.stride[a] = stride;
    stride *= layer->axes[a].length;
  }
  return operand;
}

int64_t norma_run_count(const norma_layer *layer) {
  norma_axes run = norma_reduction_make(layer, NORMA_UNITS).run;
  int64_t length = norma_axes_length(layer, &run);
  return length > 0 ? norma_layer_elements(layer) / length : 0;
}

static norma_run_sums walk_runs(const norma_call *call, const norma_reduction *r, const norma_operand *operand) {
  norma_run_sums s = {.at = (norma_partial_sums *)operand->data};
  s.kept = norma_walk_make(call->layer, &r->kept, operand);
  s.outer = norma_walk_make(call->layer, &r->outer, operand);
  s.middle = norma_walk_make(call->layer, &r->middle, operand);
  return s;
}

norma_run_sums norma_run_sums_make(const norma_call *call, const norma_reduction *r, void *workspace) {
  norma_operand operand = bind_runs(call->layer, &r->run, workspace);
  return walk_runs(call, r, &operand);
}

static norma_partial_sums *run_at(const norma_run_sums *s, int64_t kept, int64_t outer, int64_t middle) {
  int64_t at = norma_walk_offset(&s->kept, kept) + norma_walk_offset(&s->outer, outer);
  return s->at + (at + norma_walk_offset(&s->middle, middle)) / DOUBLES;
}

norma_partial_sums *norma_run_sums_row(const norma_run_sums *s, int64_t unit, int64_t outer, int64_t middle) {
  bool dense = s->at && s->kept.count == 1 && s->kept.stride[0] == DOUBLES;
  return dense ? run_at(s, unit, outer, middle) : NULL;
}

void norma_run_sums_put(const norma_run_sums *s, int64_t unit, int64_t outer, int64_t middle,
                        const norma_partial_sums *run) {
  if (s->at) *run_at(s, unit, outer, middle) = *run;
}

typedef struct job {
  norma_run_sums runs;
  int64_t outer, middle;
  norma_walk dweight, dbias;
} job;

static void sum_some(const job *j, int64_t param, int64_t n) {
  const norma_kernels *kernels = norma_kernels_best();
  norma_partial_sums total[NORMA_BLOCK_UNITS], sample[NORMA_BLOCK_UNITS];
  double dweight[NORMA_BLOCK_UNITS], dbias[NORMA_BLOCK_UNITS];
  int64_t step = j->runs.kept.count ? j->runs.kept.stride[j->runs.kept.count - 1] / DOUBLES : 0;
  memset(total, 0, sizeof total);
  norma_partial_sums *into = j->middle == 1 ? total : sample; /* the only run of a sample is the sample */
  for (int64_t o = 0; o < j->outer; o++) {
    memset(sample, 0, sizeof sample);
    for (int64_t m = 0; m < j->middle; m++) kernels->join_runs(into, run_at(&j->runs, param, o, m), step, NULL, n);
    if (j->middle > 1) kernels->join_runs(total, sample, 1, NULL, n);
  }
  for (int64_t i = 0; i < n; i++) {
    dweight[i] = total[i].second.hi + total[i].second.lo;
    dbias[i] = total[i].first.hi + total[i].first.lo;
  }
  if (j->dweight.data) norma_walk_scatter(&j->dweight, 0, param, n, dweight);
  if (j->dbias.data) norma_walk_scatter(&j->dbias, 0, param, n, dbias);
}

/* Blocks of parameters whose sums are evenly spaced. */
static void sum_params(void *context, int64_t begin, int64_t end) {
  const norma_walk *kept = &((const job *)context)->runs.kept;
  int64_t row = kept->count > 1 ? kept->length[kept->count - 1] : end, n;
  for (int64_t param = begin; param < end; param += n) {
    n = end - param < NORMA_BLOCK_UNITS ? end - param : NORMA_BLOCK_UNITS;
    if (row - param % row < n) n = row - param % row;
    sum_some(context, param, n);
  }
}

void norma_params_from_runs(const norma_call *call, const norma_run_sums *runs) {
  norma_axes run = norma_reduction_make(call->layer, NORMA_UNITS).run;
  norma_operand operand = bind_runs(call->layer, &run, runs->at);
  norma_params_from(call, &operand);
}

void norma_params_from(const norma_call *call, const norma_operand *sums) {
  norma_reduction r = norma_reduction_make(call->layer, NORMA_PARAMS);
  job j = {.runs = walk_runs(call, &r, sums)};
  j.outer = norma_axes_length(call->layer, &r.outer);
  j.middle = norma_axes_length(call->layer, &r.middle);
  j.dweight = norma_walk_make(call->layer, &r.kept, &call->dweight);
  j.dbias = norma_walk_make(call->layer, &r.kept, &call->dbias);
  int64_t bytes = norma_run_count(call->layer) * (int64_t)sizeof(norma_partial_sums);
  norma_parallel(call->threads, r.columns, 64, bytes, sum_params, &j);
}
