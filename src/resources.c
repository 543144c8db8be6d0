/* Threads and memory of a call: the caller's, or none and our own. */
#include "internal.h"

#include "kernels/float_env.h"

#include <stdlib.h>

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

void norma_parallel(const norma_threads *threads, int64_t total, int64_t grain, norma_range *range, void *context) {
  if (total <= 0) return;
  int64_t count = total / (grain > 0 ? grain : 1);
  pieces p = {total, count < 1 ? 1 : count > MOST_PIECES ? MOST_PIECES : count, range, context};
  if (threads && threads->run && p.count > 1) {
    threads->run(threads->pool, p.count, run_piece, &p);
  } else {
    for (int64_t i = 0; i < p.count; i++) run_piece(&p, i);
  }
}

enum { ALIGNMENT = 64 };

size_t norma_arena_bytes(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

norma_status norma_arena_open(norma_arena *arena, void *workspace, size_t given, size_t needed, norma_error *error) {
  *arena = (norma_arena){0};
  if (workspace && given < needed)
    return norma_fail(error, NORMA_NO_MEMORY, "workspace_size is %zu, %zu are needed", given, needed);
  if (!workspace && needed > 0) {
    workspace = arena->owned = malloc(needed);
    if (!workspace) return norma_fail(error, NORMA_NO_MEMORY, "a workspace of %zu bytes could not be allocated", needed);
  }
  arena->next = workspace;
  return NORMA_OK;
}

void *norma_arena_take(norma_arena *arena, size_t bytes) {
  uintptr_t misaligned = (uintptr_t)arena->next % ALIGNMENT;
  char *taken = arena->next + (misaligned ? ALIGNMENT - misaligned : 0);
  arena->next = taken + norma_arena_bytes(bytes);
  return taken;
}

void norma_arena_close(norma_arena *arena) { free(arena->owned); }
