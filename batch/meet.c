/* The exchange: headers first, or with the statistics where the sizes are known. */
#include "sync.h"

#include <string.h>

/* A gather that fails leaves the ranks without a common state: this object is done. */
static norma_status gather(norma_sync_pass *pass, const char *mine, norma_error *error) {
  norma_sync *s = pass->sync;
  norma_error own = {.status = NORMA_OK, .detail = "no text was given"};
  norma_status status =
      s->exchange.gather(s->exchange.context, mine, s->sizes[s->exchange.rank], s->all, s->sizes, &own);
  if (!status) return NORMA_OK;
  own.detail[sizeof own.detail - 1] = 0;
  norma_sync_fail(pass, &s->broken, status, "%s", own.detail);
  s->mine = s->all = NULL; /* the exchange may still use them */
  s->mine_bytes = s->all_bytes = 0;
  if (error) *error = s->broken;
  return status;
}

/* No memory for what the others are about to send: they wait in vain, so this is the end as well. */
static norma_status give_up(norma_sync_pass *pass, size_t bytes, norma_error *error) {
  norma_sync *s = pass->sync;
  norma_sync_fail(pass, &s->broken, NORMA_NO_MEMORY, "%zu bytes for what all ranks send could not be allocated", bytes);
  if (error) *error = s->broken;
  return NORMA_NO_MEMORY;
}

/* The bytes that each rank sends after its `lead` bytes of header. False: more than memory can hold. */
static bool count_bytes(norma_sync_pass *pass, const int64_t *samples, size_t lead, size_t *total) {
  norma_sync *s = pass->sync;
  *total = 0;
  for (int r = 0; r < s->exchange.ranks; r++) {
    size_t items = pass->merge == NORMA_SYNC_PER_RANK ? 1 : (size_t)samples[r];
    if (pass->item > 0 && items > (PTRDIFF_MAX / 2 - *total - lead) / pass->item) return false;
    s->sizes[r] = lead + items * pass->item;
    *total += s->sizes[r];
  }
  return true;
}

/* The samples of all ranks; they fit into an int64_t with all their elements. */
static norma_status add_samples(norma_sync_pass *pass, norma_error *error) {
  int64_t elements = 1;
  pass->total = 0;
  for (int d = 1; d < pass->layer->ndim; d++)
    elements *= pass->layer->shape[d] > 0 ? pass->layer->shape[d] : 1;
  for (int r = 0; r < pass->sync->exchange.ranks; r++) {
    if (pass->sync->samples[r] > PTRDIFF_MAX / 8 / elements - pass->total)
      return norma_sync_fail(pass, error, NORMA_BAD_SHAPE, "the samples of all ranks overflow the size of a tensor");
    pass->total += pass->sync->samples[r];
  }
  return NORMA_OK;
}

static norma_status too_large(norma_sync_pass *pass, norma_error *error) {
  return norma_sync_fail(pass, error, NORMA_BAD_SHAPE,
                         "the statistics of all samples overflow memory: NORMA_SYNC_PER_RANK has fewer");
}

/* Headers travel alone; every rank can then say how much it sends. */
static norma_status meet_twice(norma_sync_pass *pass, norma_status own, norma_error *error) {
  norma_sync *s = pass->sync;
  norma_error unused;
  for (int r = 0; r < s->exchange.ranks; r++) s->sizes[r] = NORMA_SYNC_HEADER;
  norma_status status = gather(pass, s->mine, own ? &unused : error);
  if (own) return own;
  if (!status) status = norma_sync_compare(pass, error);
  if (!status) status = add_samples(pass, error);
  size_t total;
  if (!status && !count_bytes(pass, s->samples, 0, &total)) status = too_large(pass, error);
  if (status) return status;
  if (!norma_sync_room(&s->all, &s->all_bytes, total)) return give_up(pass, total, error);
  return gather(pass, s->mine + NORMA_SYNC_HEADER, error);
}

/* One block per rank, header and statistics; then the headers are taken out. */
static norma_status meet_once(norma_sync_pass *pass, norma_status own, norma_error *error) {
  norma_sync *s = pass->sync;
  norma_error unused;
  size_t total;
  if (!count_bytes(pass, pass->shards, NORMA_SYNC_HEADER, &total)) return own ? own : too_large(pass, error);
  if (!norma_sync_room(&s->all, &s->all_bytes, total)) return give_up(pass, total, error);
  if (own) { /* a block of the size that the others expect */
    if (!norma_sync_room(&s->mine, &s->mine_bytes, s->sizes[s->exchange.rank])) return give_up(pass, total, error);
    memset(s->mine, 0, s->sizes[s->exchange.rank]);
    memcpy(s->mine, &pass->header, sizeof pass->header);
  }
  norma_status status = gather(pass, s->mine, own ? &unused : error);
  if (own) return own;
  if (!status) status = norma_sync_compare(pass, error);
  if (!status) status = add_samples(pass, error);
  if (status) return status;
  char *to = s->all;
  const char *from = s->all;
  for (int r = 0; r < s->exchange.ranks; from += s->sizes[r], r++) {
    size_t bytes = s->sizes[r] - NORMA_SYNC_HEADER;
    memmove(to, from + NORMA_SYNC_HEADER, bytes);
    to += bytes;
  }
  return NORMA_OK;
}

/* What is wrong here, for the others; they know the layer. */
static void copy_detail(norma_sync_pass *pass, norma_status own, const norma_error *error) {
  norma_sync_header *h = &pass->header;
  h->status = (int32_t)own;
  if (own == NORMA_OK) return;
  const char *text = error->detail + norma_sync_prefix(pass, NULL, 0);
  size_t length = strlen(text);
  if (length > sizeof h->detail - 1) length = sizeof h->detail - 1;
  memcpy(h->detail, text, length);
}

norma_status norma_sync_meet(norma_sync_pass *pass, norma_status own, norma_error *error) {
  norma_sync *s = pass->sync;
  copy_detail(pass, own, error);
  memcpy(s->mine, &pass->header, sizeof pass->header);
  return pass->shards ? meet_once(pass, own, error) : meet_twice(pass, own, error);
}
