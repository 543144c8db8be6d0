/* A layer whose runs are consecutive in memory: how its units are taken, block by block. */
#include "row_plan.h"

/* Bytes of a unit's block: enough to amortize what is done once per block, little enough to stay in the second-level
 * cache until it is written. */
enum { BLOCK_LEAST = 16384, BLOCK_MOST = 196608, SLAB_LEAST = 4096, PIECE_BYTES = 1 << 16 };
/* A call for each run costs about as much as SHORT_RUN elements, and twice that where the runs of a unit lie apart, for
 * then the pipeline fetches nothing from one to the next; fewer units in a batch would not be worth it. Calls for runs
 * of half as many cost more than to read BATCH_SPILLED units a second time from beyond the second-level cache. */
enum { SHORT_RUN = 512, BATCH_LEAST = 4, BATCH_SPILLED = 8 };
/* A processor's own prefetching is late where there is much to compute. */
enum { FETCHED_BEFORE = 512 };

static bool is_row(const norma_walk *run) { return run->count == 0 || (run->count == 1 && run->stride[0] == 1); }

/* The step of a parameter along a run; -1: neither 0 nor 1. An absent one has none. */
static int64_t step_of(const norma_walk *run) {
  if (!run->data || run->count == 0) return 0;
  return run->count == 1 && (run->stride[0] == 0 || run->stride[0] == 1) ? run->stride[0] : -1;
}

/* Whether nothing is read a second time. */
static bool reads_once(const norma_row_plan *p) { return p->given && !p->call->dy.data; }

/* Units within which every array goes in equal steps: all of them, or those of the inner axis where some array (a gamma
 * for each group, a gap between samples) has another step from there to the next. 0: there are no such. */
static int64_t equal_steps(const norma_row_plan *p) {
  int64_t span = p->r.columns;
  for (int v = 0; v < p->r.views; v++) {
    const norma_walk *kept = &p->r.view[v].kept;
    if (!kept->data || kept->count <= 1) continue;
    if (kept->count > 2 || (span != p->r.columns && span != kept->length[1])) return 0;
    span = kept->length[1];
  }
  return span;
}

static int choose_batch(const norma_row_plan *p) {
  bool once = reads_once(p);
  int64_t fit = once ? NORMA_GIVEN_UNITS : BLOCK_MOST / p->unit_bytes, most = once ? fit : NORMA_BLOCK_UNITS;
  if (p->run <= SHORT_RUN / 2 && fit < BATCH_SPILLED) fit = BATCH_SPILLED;
  if (p->run > (p->outer > 1 ? 2 : 1) * SHORT_RUN || fit < BATCH_LEAST || p->span < BATCH_LEAST) return 0;
  if (fit > most) fit = most;
  int64_t batches = (p->span + fit - 1) / fit;
  return (int)((p->span + batches - 1) / batches); /* equal ones: a batch of one unit has no loop of its own */
}

bool norma_row_plan_make(norma_row_plan *p, const norma_call *call, const norma_operand *const arrays[], int rows,
                         int params) {
  p->call = call;
  p->kernels = norma_kernels_best();
  p->given = norma_is_given(call);
  p->stream = false;
  p->size = (int64_t)norma_type_size(call->type);
  norma_reduction_init(&p->r, call->layer, NORMA_UNITS);
  for (int v = 0; v < rows + params; v++) norma_reduction_view(&p->r, arrays[v]);
  p->outer = norma_axes_length(call->layer, &p->r.outer);
  p->middle = norma_axes_length(call->layer, &p->r.middle);
  p->run = norma_axes_length(call->layer, &p->r.run);
  p->unit_bytes = p->outer * p->middle * p->run * p->size;
  if (p->run < 2 || p->unit_bytes == 0 || p->r.columns == 0) return false;
  for (int v = 0; v < rows; v++)
    if (p->r.view[v].run.data && !is_row(&p->r.view[v].run)) return false;
  for (int v = rows; v < rows + params; v++)
    if ((p->step[v] = step_of(&p->r.view[v].run)) < 0) return false;
  int64_t slab = p->unit_bytes / p->outer, most = BLOCK_MOST / p->unit_bytes;
  int64_t wanted = p->outer > 1 ? SLAB_LEAST / slab : BLOCK_LEAST / p->unit_bytes;
  p->block = (int)(wanted < most ? wanted : most);
  if (p->block < 1) p->block = 1;
  if (p->block > NORMA_BLOCK_UNITS) p->block = NORMA_BLOCK_UNITS;
  p->span = equal_steps(p);
  p->batch = choose_batch(p);
  p->ahead = reads_once(p) || p->unit_bytes > BLOCK_MOST ? FETCHED_BEFORE : 0;
  /* Pieces long enough that the first block of each, which hides nothing, is little, and enough for every thread. */
  int64_t threads = (int64_t)norma_threads_or(call->threads, 8);
  int64_t grain = PIECE_BYTES / p->unit_bytes, share = p->r.columns / (4 * threads);
  int64_t batch = p->batch < NORMA_BLOCK_UNITS ? p->batch : NORMA_BLOCK_UNITS;
  if (batch > p->r.columns / threads) batch = p->r.columns / threads;
  if (grain < p->block) grain = p->block;
  if (grain < batch) grain = batch;
  p->grain = grain > share ? grain : share;
  return true;
}

int64_t norma_row_next(const norma_row_plan *p, int v, int64_t unit, int64_t count, int64_t outer, int64_t middle) {
  const char *here = norma_row_start(p, v, unit, outer, middle), *next;
  if (middle + 1 < p->middle) next = norma_row_start(p, v, unit, outer, middle + 1);
  else if (outer + 1 < p->outer) next = norma_row_start(p, v, unit, outer + 1, 0);
  else if (unit + count < p->r.columns) next = norma_row_start(p, v, unit + count, 0, 0);
  else return 0;
  return (next - here) / p->size;
}

int norma_row_batch(const norma_row_plan *p, int64_t unit, int64_t end) {
  int64_t count = p->span - unit % p->span;
  if (count > end - unit) count = end - unit;
  return count < p->batch ? (int)count : p->batch;
}
