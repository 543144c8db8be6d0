/* Memory of a call: the caller's workspace, or our own. */
#include "internal.h"

#include <stdlib.h>

enum { ALIGNMENT = 64 };

size_t norma_workspace_bytes(int64_t units, int doubles_per_unit) {
  /* More than memory can hold: no workspace is that large, and malloc refuses it. */
  if (units > (PTRDIFF_MAX - ALIGNMENT) / (int64_t)sizeof(double) / doubles_per_unit) return SIZE_MAX;
  return ALIGNMENT + (size_t)units * (size_t)doubles_per_unit * sizeof(double);
}

norma_status norma_workspace_open(norma_workspace *made, void *given, size_t given_size, size_t needed,
                                  norma_error *error) {
  *made = (norma_workspace){0};
  if (given && (given_size < needed || needed == SIZE_MAX))
    return norma_fail(error, NORMA_NO_MEMORY, "workspace_size is %zu, %zu are needed", given_size, needed);
  char *start = given ? given : (made->owned = malloc(needed));
  if (!start) return norma_fail(error, NORMA_NO_MEMORY, "a workspace of %zu bytes could not be allocated", needed);
  made->doubles = (double *)(start + (ALIGNMENT - (uintptr_t)start % ALIGNMENT) % ALIGNMENT);
  return NORMA_OK;
}

void norma_workspace_close(norma_workspace *workspace) { free(workspace->owned); }
