/*
 * Trouble between ranks. Each rank writes what it was told into DIR/RANK.txt; rank 1 is the one that
 *
 *     channels   has another number of channels          promised   the same, where shards were promised
 *     late       comes when all others have given up     killed     dies of SIGKILL
 *     refused    gives a wrong argument                  order      skips a layer
 *     mixed      promises shards where the others do not
 */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ranks.h"

enum { WRONG = 1, SAMPLES = 2, LENGTH = 5, MOST_CHANNELS = 4 };

static bool is_written(const char *folder, int rank) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%d.txt", folder, rank);
  return access(path, F_OK) == 0;
}

/* Complete when it is there. */
static void write_text(const char *folder, int rank, const char *text) {
  char path[4096], draft[4096];
  snprintf(path, sizeof path, "%s/%d.txt", folder, rank);
  snprintf(draft, sizeof draft, "%s/%d.draft", folder, rank);
  FILE *file = fopen(draft, "w");
  if (!file || fprintf(file, "%s\n", text) < 0 || fclose(file) != 0 || rename(draft, path) != 0)
    die("cannot write %s", path);
}

/* Until all ranks but `without` have written. */
static void wait_for_others(const char *folder, int ranks, int without) {
  for (int r = 0; r < ranks; r++)
    while (r != without && !is_written(folder, r)) nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

static norma_status call(norma_sync *sync, const char *name, int channels, const int64_t *shards, bool wrong,
                         norma_error *error) {
  static float x[SAMPLES * MOST_CHANNELS * LENGTH], y[SAMPLES * MOST_CHANNELS * LENGTH];
  norma_layer layer;
  norma_status status = norma_layer_batch(&layer, 3, (int64_t[]){SAMPLES, channels, LENGTH}, error);
  if (status) return status;
  norma_forward_args f = {.size = sizeof f, .layer = &layer, .x = x, .y = y, .eps = wrong ? -1 : 0};
  return norma_sync_forward(&(norma_sync_forward_args){.size = sizeof(norma_sync_forward_args), .sync = sync,
                                                       .name = name, .forward = &f, .shards = shards},
                            error);
}

void run_fault(const char *kind, double timeout, const char *folder) {
  norma_exchange exchange;
  norma_sync *sync;
  norma_error error = {.detail = "no error"};
  if (norma_mpi_open(&exchange, MPI_COMM_WORLD, timeout, &error) || norma_sync_new(&sync, &exchange, &error))
    die("%s", error.detail);
  bool is_wrong = exchange.rank == WRONG, promises = strcmp(kind, "promised") == 0;
  int64_t shards[64];
  for (int r = 0; r < exchange.ranks && r < 64; r++) shards[r] = SAMPLES;
  if (call(sync, "first", MOST_CHANNELS, NULL, false, &error)) die("%s", error.detail); /* connections are up */
  int channels = is_wrong && (promises || strcmp(kind, "channels") == 0) ? 3 : MOST_CHANNELS;
  if (is_wrong && strcmp(kind, "killed") == 0) raise(SIGKILL);
  if (is_wrong && strcmp(kind, "late") == 0) wait_for_others(folder, exchange.ranks, WRONG);
  if (is_wrong && strcmp(kind, "mixed") == 0) promises = true;
  norma_status status =
      call(sync, is_wrong && strcmp(kind, "order") == 0 ? "third" : "second", channels, promises ? shards : NULL,
           is_wrong && strcmp(kind, "refused") == 0, &error);
  char text[1024];
  int used = snprintf(text, sizeof text, "%s: %s", norma_status_text(status), status ? error.detail : "");
  if (status == NORMA_RANK_LOST) { /* what is broken stays so, and says so at once */
    status = call(sync, "after", MOST_CHANNELS, NULL, false, &error);
    snprintf(text + used, sizeof text - (size_t)used, "\n%s: %s", norma_status_text(status),
             status ? error.detail : "");
  }
  write_text(folder, exchange.rank, text);
  wait_for_others(folder, exchange.ranks, -1);
  norma_sync_free(sync);
  norma_mpi_close(&exchange);
  fflush(NULL);
  if (exchange.rank == 0) MPI_Abort(MPI_COMM_WORLD, 3);
  for (;;) pause(); /* the launcher ends this */
}
