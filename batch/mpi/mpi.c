/* An all-gather over MPI that ends: non-blocking collectives, polled. */
#define _POSIX_C_SOURCE 200809L
#include "norma_mpi.h"

#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct channel {
  MPI_Comm comm;
  int rank, ranks;
  double timeout;
  int *counts, *places; /* of MPI_Iallgatherv: they must live as long as it does */
  bool failed;
} channel;

static norma_status fail(norma_error *error, norma_status status, const char *format, ...) {
  if (error) {
    va_list arguments;
    va_start(arguments, format);
    error->status = status;
    vsnprintf(error->detail, sizeof error->detail, format, arguments);
    va_end(arguments);
  }
  return status;
}

static norma_status fail_in_mpi(norma_error *error, const char *function, int code) {
  char text[MPI_MAX_ERROR_STRING] = "unknown";
  int length;
  MPI_Error_string(code, text, &length);
  return fail(error, NORMA_RANK_LOST, "%s: %s", function, text);
}

/* Looks often at first: an exchange takes microseconds. Then the processor is left to others. */
static void pause_after(int looks) {
  if (looks > 20000) nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
  else if (looks > 200) sched_yield();
}

static norma_status wait_for(channel *c, MPI_Request *request, norma_error *error) {
  double end = MPI_Wtime() + c->timeout;
  for (int looks = 0;; looks += looks < INT_MAX) {
    int done = 0;
    int code = MPI_Test(request, &done, MPI_STATUS_IGNORE);
    if (code != MPI_SUCCESS) return fail_in_mpi(error, "MPI_Test", code);
    if (done) return NORMA_OK;
    if (MPI_Wtime() > end)
      return fail(error, NORMA_RANK_LOST,
                  "not all of the %d ranks came within %g s; this is rank %d, and MPI does not say which is missing",
                  c->ranks, c->timeout, c->rank);
    pause_after(looks);
  }
}

/* Where the block of each rank goes. MPI counts in int. False: too much for that. */
static bool place(channel *c, const size_t *sizes, bool *equal) {
  size_t total = 0;
  *equal = true;
  for (int r = 0; r < c->ranks; r++) {
    if (sizes[r] > INT_MAX - total) return false;
    c->counts[r] = (int)sizes[r];
    c->places[r] = (int)total;
    total += sizes[r];
    *equal = *equal && sizes[r] == sizes[0];
  }
  return true;
}

static norma_status gather(void *context, const void *mine, size_t size, void *all, const size_t *sizes,
                           norma_error *error) {
  channel *c = context;
  MPI_Request request;
  bool equal;
  if (!place(c, sizes, &equal))
    return fail(error, NORMA_BAD_SHAPE,
                "the statistics of all ranks are more than MPI counts, 2^31 - 1 bytes: NORMA_SYNC_PER_RANK has fewer");
  int code = equal ? MPI_Iallgather(mine, (int)size, MPI_BYTE, all, (int)size, MPI_BYTE, c->comm, &request)
                   : MPI_Iallgatherv(mine, (int)size, MPI_BYTE, all, c->counts, c->places, MPI_BYTE, c->comm, &request);
  norma_status status =
      code == MPI_SUCCESS ? wait_for(c, &request, error)
                          : fail_in_mpi(error, equal ? "MPI_Iallgather" : "MPI_Iallgatherv", code);
  c->failed = status != NORMA_OK;
  return status;
}

static void free_channel(channel *c) {
  if (!c) return;
  free(c->counts);
  free(c->places);
  free(c);
}

norma_status norma_mpi_open(norma_exchange *exchange, MPI_Comm comm, double timeout, norma_error *error) {
  int ready = 0;
  if (!exchange) return fail(error, NORMA_BAD_ARGUMENT, "exchange is NULL");
  *exchange = (norma_exchange){.size = sizeof *exchange};
  if (!(timeout > 0) || isinf(timeout))
    return fail(error, NORMA_BAD_ARGUMENT, "timeout is %g, must be a number of seconds greater than 0", timeout);
  MPI_Initialized(&ready);
  if (!ready) return fail(error, NORMA_BAD_ARGUMENT, "MPI is not initialized: MPI_Init comes first");
  if (comm == MPI_COMM_NULL) return fail(error, NORMA_BAD_ARGUMENT, "comm is MPI_COMM_NULL");
  channel *c = calloc(1, sizeof *c);
  if (!c) return fail(error, NORMA_NO_MEMORY, "no memory for an exchange");
  int code = MPI_Comm_dup(comm, &c->comm);
  if (code != MPI_SUCCESS) {
    free(c);
    return fail_in_mpi(error, "MPI_Comm_dup", code);
  }
  MPI_Comm_set_errhandler(c->comm, MPI_ERRORS_RETURN);
  MPI_Comm_rank(c->comm, &c->rank);
  MPI_Comm_size(c->comm, &c->ranks);
  c->timeout = timeout;
  c->counts = calloc((size_t)c->ranks, sizeof *c->counts);
  c->places = calloc((size_t)c->ranks, sizeof *c->places);
  if (!c->counts || !c->places) {
    fail(error, NORMA_NO_MEMORY, "no memory for an exchange of %d ranks", c->ranks);
    free_channel(c);
    return NORMA_NO_MEMORY;
  }
  exchange->rank = c->rank;
  exchange->ranks = c->ranks;
  exchange->gather = gather;
  exchange->context = c;
  return NORMA_OK;
}

void norma_mpi_close(norma_exchange *exchange) {
  channel *c = exchange ? exchange->context : NULL;
  if (!c) return;
  exchange->context = NULL;
  exchange->gather = NULL;
  if (c->failed) return; /* what was begun may still use the communicator and the counts */
  MPI_Comm_free(&c->comm);
  free_channel(c);
}
