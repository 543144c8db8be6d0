/* Thread pools to give to the library: real threads, and orders of the tasks that no real pool would choose. */
#ifndef NORMA_TESTS_POOL_H
#define NORMA_TESTS_POOL_H

#include "norma.h"

typedef enum pool_order { POOL_IN_ORDER, POOL_REVERSED, POOL_SHUFFLED } pool_order;

typedef struct pool {
  int threads; /* 0: the calling thread alone */
  pool_order order;
  uint64_t seed;
  uint64_t control; /* for the threads of the pool: the floating-point control register, unless 0 */
  int control_kept; /* out: 0 once a task has left the register changed */
  int64_t calls;    /* out: how often run was called, and the largest count */
  int64_t largest;
} pool;

/* Used by one call of the library at a time. */
norma_threads pool_threads(pool *p);

#endif
