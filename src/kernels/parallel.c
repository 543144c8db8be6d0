/* A pass over the elements, cut into pieces that threads may take in any order. */
#include "kernels.h"

#include "../pool.h"
#include "float_env.h"

norma_status norma_run(norma_body *body, const void *args, norma_error *error) {
  norma_float_env env = norma_float_enter();
  norma_status status = body(args, error);
  norma_float_leave(env);
  return status;
}

typedef struct pieces {
  int64_t total, count;
  norma_range *range;
  void *context;
} pieces;

static void run_piece(void *context, int64_t index) {
  const pieces *p = context;
  norma_float_env env = norma_float_enter();
  int64_t quotient = p->total / p->count, rest = p->total % p->count;
  int64_t begin = index * quotient + (index < rest ? index : rest);
  p->range(p->context, begin, begin + quotient + (index < rest));
  norma_float_leave(env);
}

/* Enough pieces for any pool to balance, few enough that a piece is worth a call. */
enum { MOST_PIECES = 256 };

void norma_parallel(const norma_threads *threads, int64_t total, int64_t grain, int64_t bytes, norma_range *range,
                    void *context) {
  if (total <= 0) return;
  int64_t count = total / (grain > 0 ? grain : 1);
  pieces p = {total, count < 1 ? 1 : count > MOST_PIECES ? MOST_PIECES : count, range, context};
  if (p.count == 1) { /* norma_run has set the register of this thread: setting it takes as long as some additions */
    range(context, 0, total);
    return;
  }
  if (threads && threads->run && p.count > 1) {
    threads->run(threads->pool, p.count, run_piece, &p);
  } else {
    norma_pool_run(p.count, bytes, run_piece, &p);
  }
}

int64_t norma_pass_bytes(const norma_call *call, int arrays) {
  int64_t elements = norma_layer_elements(call->layer), each = arrays * (int64_t)norma_type_size(call->type);
  return elements > INT64_MAX / each ? INT64_MAX : elements * each;
}
