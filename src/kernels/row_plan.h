/* Layers whose runs are consecutive in memory (rows): what the forward and the backward pass over them share. */
#ifndef NORMA_ROW_PLAN_H
#define NORMA_ROW_PLAN_H

#include "vector.h"

typedef struct norma_row_plan {
  const norma_call *call;
  const norma_kernels *kernels;
  norma_reduction r; /* its views are the arrays that were given */
  int64_t outer, middle, run;
  int64_t step[NORMA_MAX_VIEWS]; /* of the parameters along a run: 0 or 1 */
  int64_t size;                  /* bytes per element */
  int64_t unit_bytes, grain;     /* units of a piece for threads, at least */
  int block;                     /* units that are measured while the block before them is written */
  int64_t ahead;                 /* elements before which what is written is fetched from afar; 0: it is near */
  int batch;                     /* short runs: units that are taken together, their runs in one loop; else 0 */
  int64_t span;                  /* no batch goes beyond a multiple of it */
  bool stream, given;
} norma_row_plan;

/* The first `rows` arrays are rows of elements, `params` more follow. False where a stride does not allow it. */
bool norma_row_plan_make(norma_row_plan *p, const norma_call *call, const norma_operand *const arrays[], int rows,
                         int params);
/* The same run of the next unit, in elements; within a span. */
static inline int64_t norma_row_step(const norma_row_plan *p, int v) {
  const norma_walk *kept = &p->r.view[v].kept;
  return kept->data && kept->count ? kept->stride[kept->count - 1] : 0;
}
/* Units of the batch that begins with the given one, of those before `end`. */
int norma_row_batch(const norma_row_plan *p, int64_t unit, int64_t end);

static inline int64_t norma_row_offset(const norma_walk *w, int64_t position) {
  if (w->count == 0) return 0;
  return w->count == 1 ? position * w->stride[0] : norma_walk_offset(w, position);
}

/* Where a run of view v starts; NULL where there is no such array. */
static inline const char *norma_row_start(const norma_row_plan *p, int v, int64_t unit, int64_t outer, int64_t middle) {
  const norma_walk *run = &p->r.view[v].run;
  if (!run->data) return NULL;
  int64_t at = norma_row_offset(&p->r.view[v].kept, unit) + norma_row_offset(&p->r.view[v].outer, outer) +
               norma_row_offset(&p->r.view[v].middle, middle);
  return run->data + at * (run->type == NORMA_F64 ? 8 : run->type == NORMA_F32 ? 4 : 2);
}

/* Elements of view v from a run of the `count` units from the given one on, which are taken together, to the run that
 * is read after it; 0 at the end. */
int64_t norma_row_next(const norma_row_plan *p, int v, int64_t unit, int64_t count, int64_t outer, int64_t middle);

#endif
