/*
 * norma_sync.h: batch norm over a batch that several processes hold together (data-parallel training).
 *
 * Every rank has its own samples, in rank order one batch. Batch norm needs the statistics of that batch: in forward
 * the ranks exchange moments once, in backward sums once. What carries them is a callback, an all-gather of bytes: over
 * MPI (norma_mpi.h), sockets, threads, or anything that delivers.
 *
 *     norma_sync *sync;
 *     norma_sync_new(&sync, &exchange, &error);
 *     norma_forward_args forward = {.size = sizeof forward, .layer = &layer, .x = x, ...};    of the samples here
 *     norma_sync_forward_args args = {.size = sizeof args, .sync = sync, .name = "stem.norm", .forward = &forward};
 *     norma_sync_forward(&args, &error);
 *
 * What comes out, for any contiguous split of a batch over ranks in their order, empty shards included:
 *
 *     y, dx, mean, var, rstd, saved, moments   bit for bit what one call on the whole batch gives (its part, in y, dx)
 *     dweight, dbias                           of the samples that are here: added over the ranks they are those of the
 *                                              whole, but for rounding
 *     all ranks empty                          y is empty; moments have count 0 and update nothing
 *
 * docs/distributed.md has the messages, their bytes, and how long they take.
 */
#ifndef NORMA_SYNC_H
#define NORMA_SYNC_H

#include "norma.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * How ranks meet. gather sends `size` bytes at `mine` to every rank and receives those of all ranks, this one included,
 * in rank order without gaps in `all`; rank r sends sizes[r] bytes, which may be 0, and sizes[rank] is size. All ranks
 * call it in the same order. It returns NORMA_OK when `all` is complete; else a status, NORMA_RANK_LOST where a rank
 * does not come in time, with a text in `error` (never NULL). It has to come to an end: a timeout is its to keep. After
 * an error it may keep writing to `all` and reading from `mine`; both then stay allocated for good.
 */
typedef struct norma_exchange {
  size_t size;  /* sizeof(norma_exchange) */
  int rank, ranks;
  norma_status (*gather)(void *context, const void *mine, size_t size, void *all, const size_t *sizes,
                         norma_error *error);
  void *context;
} norma_exchange;

/* One rank's end of it: buffers, and whether it still works. One call at a time. Where a gather failed, ranks no longer
 * know of each other what was said: every later call is refused, with what happened; a new exchange and a new object
 * are right. Errors: NORMA_BAD_ARGUMENT, NORMA_NO_MEMORY. */
typedef struct norma_sync norma_sync;
NORMA_API norma_status norma_sync_new(norma_sync **made, const norma_exchange *exchange, norma_error *error);
NORMA_API void norma_sync_free(norma_sync *sync);

/* What is exchanged for one layer with C channels and N samples in all. The choice is the same on all ranks. */
typedef enum norma_sync_merge {
  /* The moments of each sample, 40 bytes x C x N, and in backward the sums, 48 bytes x C x N. Layers on (n, c) alone,
   * whose samples have one element per channel: x itself, and in backward x and dy (with an activation also after). The
   * bits are those of the whole batch. */
  NORMA_SYNC_PER_SAMPLE = 0,
  /* The moments of each rank's shard, 40 (backward 48) bytes x C x ranks. As accurate, but the last bits depend on how
   * the batch is split. */
  NORMA_SYNC_PER_RANK = 1
} norma_sync_merge;

typedef struct norma_sync_forward_args {
  size_t size;       /* sizeof(norma_sync_forward_args) */
  norma_sync *sync;
  const char *name;  /* of the layer, for errors; ranks must agree on its first 63 bytes. NULL: "unnamed" */
  const norma_forward_args *forward;  /* of this rank's samples; workspace, sample_moments, given_moments unset */
  norma_sync_merge merge;
  const int64_t *shards;  /* [ranks]: the samples of each rank, where you know them; NULL: they are asked for, in an */
                          /* exchange of 384 bytes per rank */
  int64_t *shards_out;    /* [ranks] out, for the `shards` of backward; may be NULL */
} norma_sync_forward_args;

/*
 * norma_forward with the statistics of the batch that all ranks hold. The layer sums over dimension 0, all of it, and
 * keeps dimension 1 or has nothing behind it to sum: "[n] c [h w]", "[n t] d", "[n] c"; RMS too. Ranks differ in
 * shape[0] alone. With given_mean and given_var (evaluation) it is norma_forward, and nothing is exchanged; with one
 * rank too.
 *
 * The calls of all ranks are compared: layer, name, type, eps, ddof, flags, activation, merge, direction. Where they
 * differ, every rank returns NORMA_RANKS_DISAGREE with the layer and both values in the text. Where a rank's own
 * arguments are wrong, it returns that error and all others NORMA_RANKS_DISAGREE with its text. The next call may
 * follow. With `shards` this is known only after the one exchange, so ranks must agree in what decides its size: layer,
 * type, merge and shards; where they do not, it is for the exchange to find it out, or to time out. A rank whose args,
 * args->size or sync is wrong cannot tell the others: they wait for it until the exchange gives up.
 *
 * Errors: as norma_forward, NORMA_SINGLE_VALUE where all ranks together have one element per unit;
 * NORMA_RANKS_DISAGREE; NORMA_RANK_LOST and what else the exchange returns. On error y and the statistics are not
 * written; sum may be.
 */
NORMA_API norma_status norma_sync_forward(const norma_sync_forward_args *args, norma_error *error);

typedef struct norma_sync_backward_args {
  size_t size;       /* sizeof(norma_sync_backward_args) */
  norma_sync *sync;
  const char *name;
  const norma_backward_args *backward;  /* with `saved` of the forward pass; workspace, sample_sums, given_sums */
                                        /* unset */
  norma_sync_merge merge;
  const int64_t *shards;
} norma_sync_backward_args;

/* norma_backward through the statistics of all ranks. gamma must not change along dimension 0. Otherwise as above; on
 * error dx and dafter are not written; dweight and dbias may be. */
NORMA_API norma_status norma_sync_backward(const norma_sync_backward_args *args, norma_error *error);

#ifdef __cplusplus
}
#endif

#endif
