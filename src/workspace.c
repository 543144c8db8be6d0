/* Memory of a call: the caller's workspace, or our own. */
#include "internal.h"

#include <stdlib.h>

enum { ALIGNMENT = 64 };

size_t norma_arena_bytes(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

norma_status norma_arena_open(norma_arena *arena, void *workspace, size_t given, size_t needed, norma_error *error) {
  *arena = (norma_arena){0};
  if (workspace && given < needed)
    return norma_fail(error, NORMA_NO_MEMORY, "workspace_size is %zu, %zu are needed", given, needed);
  if (!workspace && needed > 0) {
    workspace = arena->owned = malloc(needed);
    if (!workspace)
      return norma_fail(error, NORMA_NO_MEMORY, "a workspace of %zu bytes could not be allocated", needed);
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
