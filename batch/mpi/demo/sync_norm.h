/* Batch norm over all ranks, as a layer of the lab's engine; and what its programs share. */
#ifndef NORMA_SYNC_DEMO_H
#define NORMA_SYNC_DEMO_H

#include "lab/engine/engine.h"

#include "norma_mpi.h"

/* With SiLU, which is smooth: no step of a ReLU to the other side of 0 hides how far ranks agree. gamma and beta are
 * its parameters; running statistics move in TRAIN and are used in RUNNING. `sync` stays the caller's; `name` too. */
layer *sync_norm(norma_sync *sync, const char *name, int channels);

/* bench.c: times layers with and without synchronization; rank 0 prints a line for each. Returns an exit status. */
int run_bench(void);

/* Prints one line on stderr and ends all ranks. */
_Noreturn void demo_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
