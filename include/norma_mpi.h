/*
 * norma_mpi.h: norma_sync.h over MPI. A library of its own, libnorma-mpi, as it needs one.
 *
 *     MPI_Init(&argc, &argv);
 *     norma_exchange exchange;
 *     norma_sync *sync;
 *     norma_mpi_open(&exchange, MPI_COMM_WORLD, 30, &error);
 *     norma_sync_new(&sync, &exchange, &error);
 *     ...
 *     norma_sync_free(sync);
 *     norma_mpi_close(&exchange);
 *     MPI_Finalize();
 *
 * Each exchange is one MPI_Iallgather or MPI_Iallgatherv, polled until it is complete or `timeout` seconds are over.
 * The rest of the program may use MPI as it likes: the exchange has a communicator of its own. Where several threads
 * call MPI, it has to be initialized with MPI_THREAD_MULTIPLE.
 *
 * After an error (a rank that did not come in time, one that MPI cannot reach, messages of other sizes than promised)
 * that communicator is not used again, and norma_mpi_close leaves it to the end of the process: MPI has no way to call
 * back what was begun. MPI_Finalize may then wait for the lost rank: MPI_Abort is the way out. Where a rank dies, most
 * launchers end all others by themselves, before this timeout.
 */
#ifndef NORMA_MPI_H
#define NORMA_MPI_H

#include <mpi.h>

#include "norma_sync.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Fills `exchange` for the ranks of comm, which all call this; it waits for them without a timeout (MPI_Comm_dup).
 * timeout: seconds, > 0; more than ranks are ever apart, where one of them writes a checkpoint, say. Errors:
 * NORMA_BAD_ARGUMENT, NORMA_NO_MEMORY, NORMA_RANK_LOST with MPI's own text. */
NORMA_API norma_status norma_mpi_open(norma_exchange *exchange, MPI_Comm comm, double timeout, norma_error *error);
/* The ranks of comm all call this too, unless an exchange has failed. exchange may be NULL or zero. */
NORMA_API void norma_mpi_close(norma_exchange *exchange);

#ifdef __cplusplus
}
#endif

#endif
