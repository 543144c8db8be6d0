/* The threads of the library: one pool for all calls that bring none of their own. It knows nothing of what it runs. */
#ifndef NORMA_POOL_H
#define NORMA_POOL_H

#include <stdint.h>

typedef void norma_task(void *context, int64_t index);

/* Calls task(context, i) once for every i in 0..count-1, count <= INT32_MAX, and returns when all are done. The calling
 * thread takes part, and does all of it where the pool is in use, has no threads, or `bytes`, the memory that all tasks
 * together read and write, is not worth waking one. Tasks block all signals and are not cancelled. */
void norma_pool_run(int64_t count, int64_t bytes, norma_task *task, void *context);

#endif
