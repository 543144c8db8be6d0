/* What the files of norma_sync share: the object, a call on its way, and what ranks tell each other of it. */
#ifndef NORMA_BATCH_SYNC_H
#define NORMA_BATCH_SYNC_H

#include "batch.h"
#include "norma_sync.h"

#include <stdbool.h>

struct norma_sync {
  norma_exchange exchange;
  char *mine, *all, *work;  /* what is sent and received; the workspace of norma's calls */
  size_t mine_bytes, all_bytes, work_bytes;
  size_t *sizes;            /* [ranks], of the exchange that runs */
  int64_t *samples;         /* [ranks], of this call */
  norma_error broken;       /* the exchange that failed; status NORMA_OK: none did */
};

enum { NORMA_SYNC_NAME = 64, NORMA_SYNC_PATTERN = 64, NORMA_SYNC_DETAIL = 120 };

/* What a rank says of its call before its statistics: of one size on every machine of a kind. */
typedef struct norma_sync_header {
  uint32_t magic;
  int32_t status; /* of the rank's own checks; then only name, backward and detail count */
  int32_t backward, merge, promised, type, ddof, activation, rms, has_after, ndim;
  uint32_t flags;
  double eps;
  int64_t samples;
  int64_t shape[NORMA_MAX_DIMS]; /* shape[0] is `samples`, and 0 here */
  uint64_t axes;                 /* a hash of what else the layer is */
  char name[NORMA_SYNC_NAME], pattern[NORMA_SYNC_PATTERN], detail[NORMA_SYNC_DETAIL];
} norma_sync_header;

enum { NORMA_SYNC_HEADER = 384 };
_Static_assert(sizeof(norma_sync_header) == NORMA_SYNC_HEADER, "norma_sync.h tells users this size");

/* One call of this rank. */
typedef struct norma_sync_pass {
  norma_sync *sync;
  const char *name;
  bool backward;
  norma_sync_merge merge;
  const int64_t *shards; /* promised; NULL: asked for */
  const norma_layer *layer;
  norma_type type;
  norma_sync_header header;
  bool rows;              /* the layer is on (n, c) alone: samples themselves are exchanged */
  int64_t samples, units; /* here; units are the same everywhere */
  int64_t inner;          /* elements that a sample adds to a unit */
  int arrays;             /* in a row */
  size_t record;          /* bytes of one unit's statistics */
  size_t item;            /* bytes that are exchanged per sample, or per rank if merged there */
  int64_t total;          /* samples of all ranks, known after norma_sync_meet */
} norma_sync_pass;

/* Whether samples travel, and not their statistics. */
static inline bool norma_sync_sends_rows(const norma_sync_pass *pass) {
  return pass->rows && pass->merge == NORMA_SYNC_PER_SAMPLE;
}

/* sync.c: fills *error with "layer 'name', forward: " and the text; returns status. Within these files error is never
 * NULL. */
norma_status norma_sync_fail(const norma_sync_pass *pass, norma_error *error, norma_status status, const char *format,
                             ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 4, 5)))
#endif
    ;
/* "layer 'name', forward: ", and its length. */
int norma_sync_prefix(const norma_sync_pass *pass, char *to, size_t size);
/* The same for an error that says all but the layer. */
norma_status norma_sync_in_layer(const norma_sync_pass *pass, norma_error *error);
/* Room for `bytes`, kept from call to call; its contents are not. False: no memory, and all is as before. */
bool norma_sync_room(char **buffer, size_t *have, size_t bytes);
/* Checks the object and begins a call. *error is set where this returns another status than NORMA_OK. */
norma_status norma_sync_begin(norma_sync_pass *pass, norma_sync *sync, const char *name, bool backward,
                              norma_error *error);
/* What the layer says of the exchange; it and the type are checked. `merge` and `shards` are checked here. */
norma_status norma_sync_layer(norma_sync_pass *pass, norma_error *error);
/* The same for a call that is refused: how much the others expect, as far as its layer is one. */
void norma_sync_expect(norma_sync_pass *pass, const norma_layer *layer, norma_type type);
/* Where this rank's statistics go, in the block that is sent. NULL: no memory. */
char *norma_sync_payload(norma_sync_pass *pass, norma_error *error);
/* The workspace of a call. */
norma_status norma_sync_workspace(norma_sync_pass *pass, size_t bytes, norma_error *error);
/* The layer on the samples of all ranks, as one axis. */
norma_layer norma_sync_pooled(const norma_sync_pass *pass);

/* header.c */
norma_sync_header norma_sync_header_make(const char *name, bool backward);
void norma_sync_describe(norma_sync_pass *pass, unsigned flags, double eps, int ddof, norma_activation activation);
/* The same verdict on every rank: headers are in sync->all, where sync->sizes says. Fills sync->samples. */
norma_status norma_sync_compare(norma_sync_pass *pass, norma_error *error);

/* meet.c: the exchange. `own` is the status of this rank's checks, and *error their text. Afterwards sync->all holds
 * the statistics of all ranks without gaps, sync->samples their samples. */
norma_status norma_sync_meet(norma_sync_pass *pass, norma_status own, norma_error *error);

/* rows.c: copies samples of up to three arrays side by side: a row of each, then the next sample. NULL: left out. */
void norma_sync_pack(char *to, const norma_layer *layer, size_t size, int arrays, const void *const *from,
                     const int64_t *const *strides);
/* Strides of one of the arrays in such rows. */
void norma_sync_row_strides(const norma_layer *layer, int arrays, int64_t *strides);

#endif
