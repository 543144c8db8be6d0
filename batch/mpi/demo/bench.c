/* What synchronization costs: forward and backward of batch norm, alone and with the ways to exchange. */
#include <stdio.h>
#include <stdlib.h>

#include "sync_norm.h"

enum { MOST_RANKS = 1024, WAYS = 5, ROUNDS = 5 };

static const struct {
  const char *name;
  int ndim;
  int64_t shape[4]; /* of one rank */
} rows[] = {{"8 x 64 x 28 x 28", 4, {8, 64, 28, 28}},
            {"32 x 256 x 14 x 14", 4, {32, 256, 14, 14}},
            {"32 x 512 x 7 x 7", 4, {32, 512, 7, 7}},
            {"64 x 1024", 2, {64, 1024}}};

/* Exchanged per sample or per rank, with the header or with shards known. */
static const struct {
  const char *name;
  bool together, promised;
  norma_sync_merge merge;
} ways[WAYS] = {{"plain", false, false, NORMA_SYNC_PER_SAMPLE},
                {"sample", true, false, NORMA_SYNC_PER_SAMPLE},
                {"sample, shards", true, true, NORMA_SYNC_PER_SAMPLE},
                {"rank", true, false, NORMA_SYNC_PER_RANK},
                {"rank, shards", true, true, NORMA_SYNC_PER_RANK}};

typedef struct work {
  norma_layer layer;
  float *x, *y, *dy, *dx, *weight, *dweight, *dbias;
  norma_saved *saved;
  norma_sync *sync;
  int64_t shards[MOST_RANKS];
} work;

static void check(norma_status status, const norma_error *error) {
  if (status) demo_die("%s", error->detail);
}

static void once(const work *w, int way) {
  norma_error error;
  norma_forward_args f = {.size = sizeof f, .layer = &w->layer, .x = w->x, .y = w->y, .weight = w->weight,
                          .saved = w->saved};
  norma_backward_args b = {.size = sizeof b, .layer = &w->layer, .x = w->x, .dy = w->dy, .dx = w->dx,
                           .weight = w->weight, .dweight = w->dweight, .dbias = w->dbias, .saved = w->saved};
  if (!ways[way].together) {
    check(norma_forward(&f, &error), &error);
    check(norma_backward(&b, &error), &error);
    return;
  }
  const int64_t *shards = ways[way].promised ? w->shards : NULL;
  norma_sync_forward_args sf = {.size = sizeof sf, .sync = w->sync, .name = "bench", .forward = &f,
                                .merge = ways[way].merge, .shards = shards};
  norma_sync_backward_args sb = {.size = sizeof sb, .sync = w->sync, .name = "bench", .backward = &b,
                                 .merge = ways[way].merge, .shards = shards};
  check(norma_sync_forward(&sf, &error), &error);
  check(norma_sync_backward(&sb, &error), &error);
}

/* Microseconds of one forward and backward, on the slowest rank; about `seconds` of calls. */
static double measure(const work *w, int way, double seconds) {
  double start = MPI_Wtime(), spent, slowest;
  int calls = 3;
  for (int i = 0; i < calls; i++) once(w, way);
  spent = (MPI_Wtime() - start) / calls;
  MPI_Allreduce(&spent, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  calls = (int)(seconds / slowest) + 1; /* the same on all ranks */
  MPI_Barrier(MPI_COMM_WORLD);
  start = MPI_Wtime();
  for (int i = 0; i < calls; i++) once(w, way);
  spent = (MPI_Wtime() - start) / calls;
  MPI_Allreduce(&spent, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  return slowest * 1e6;
}

static void fill(rng *r, float *to, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = (float)rng_normal(r);
}

static void bench_row(work *w, size_t row, int rank, int ranks) {
  norma_error error;
  rng r = rng_new(3, (uint64_t)rank);
  check(norma_layer_batch(&w->layer, rows[row].ndim, rows[row].shape, &error), &error);
  int64_t n = norma_layer_elements(&w->layer), units = norma_layer_units(&w->layer);
  float **arrays[7] = {&w->x, &w->dy, &w->weight, &w->y, &w->dx, &w->dweight, &w->dbias};
  for (int i = 0; i < 7; i++) *arrays[i] = engine_alloc((size_t)n * sizeof(float));
  for (int i = 0; i < 3; i++) fill(&r, *arrays[i], i < 2 ? n : units);
  w->saved = engine_alloc((size_t)units * sizeof *w->saved);
  for (int k = 0; k < ranks; k++) w->shards[k] = rows[row].shape[0];
  double best[WAYS] = {0};
  for (int round = 0; round < ROUNDS; round++) /* in turns, so that all see the same machine */
    for (int way = 0; way < WAYS; way++) {
      double time = measure(w, way, 0.1);
      if (round == 0 || time < best[way]) best[way] = time;
    }
  for (int way = 0; rank == 0 && way < WAYS; way++)
    printf("%d\t%s\t%s\t%.1f\n", ranks, rows[row].name, ways[way].name, best[way]);
  for (int i = 0; i < 7; i++) free(*arrays[i]);
  free(w->saved);
}

int run_bench(void) {
  static work w;
  norma_exchange exchange;
  norma_error error;
  check(norma_mpi_open(&exchange, MPI_COMM_WORLD, 60, &error), &error);
  if (exchange.ranks > MOST_RANKS) demo_die("%d ranks, at most %d are measured", exchange.ranks, MOST_RANKS);
  check(norma_sync_new(&w.sync, &exchange, &error), &error);
  for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) bench_row(&w, row, exchange.rank, exchange.ranks);
  norma_sync_free(w.sync);
  norma_mpi_close(&exchange);
  return 0;
}
