/* The object, and what a call says of itself before anything is exchanged. */
#include "sync.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------------ errors --- */

int norma_sync_prefix(const norma_sync_pass *pass, char *to, size_t size) {
  return snprintf(to, size, "layer '%.63s', %s: ", pass->name, pass->backward ? "backward" : "forward");
}

norma_status norma_sync_fail(const norma_sync_pass *pass, norma_error *error, norma_status status, const char *format,
                             ...) {
  va_list arguments;
  va_start(arguments, format);
  error->status = status;
  int used = norma_sync_prefix(pass, error->detail, sizeof error->detail);
  vsnprintf(error->detail + used, sizeof error->detail - (size_t)used, format, arguments);
  va_end(arguments);
  return status;
}

norma_status norma_sync_in_layer(const norma_sync_pass *pass, norma_error *error) {
  norma_error plain = *error;
  return norma_sync_fail(pass, error, plain.status, "%s", plain.detail);
}

/* ------------------------------------------------------------------------------------------------------ object --- */

bool norma_sync_room(char **buffer, size_t *have, size_t bytes) {
  if (*buffer && bytes <= *have) return true;
  size_t wanted = bytes > *have + *have / 2 ? bytes : *have + *have / 2;
  char *larger = malloc(wanted > 0 ? wanted : 1);
  if (!larger) return false;
  free(*buffer);
  *buffer = larger;
  *have = wanted;
  return true;
}

static norma_status check_exchange(const norma_exchange *e, norma_error *error) {
  if (!e) return norma_batch_fail(error, NORMA_BAD_ARGUMENT, "exchange is NULL");
  if (e->size != sizeof *e)
    return norma_batch_fail(error, NORMA_BAD_ARGUMENT, "exchange->size is %zu, must be sizeof(norma_exchange), %zu",
                            e->size, sizeof *e);
  if (e->ranks < 1 || e->rank < 0 || e->rank >= e->ranks)
    return norma_batch_fail(error, NORMA_BAD_ARGUMENT, "exchange->rank is %d of %d ranks, must be from 0 to ranks - 1",
                            e->rank, e->ranks);
  if (!e->gather) return norma_batch_fail(error, NORMA_BAD_ARGUMENT, "exchange->gather is NULL");
  return NORMA_OK;
}

norma_status norma_sync_new(norma_sync **made, const norma_exchange *exchange, norma_error *error) {
  if (!made) return norma_batch_fail(error, NORMA_BAD_ARGUMENT, "made is NULL");
  *made = NULL;
  norma_status status = check_exchange(exchange, error);
  if (status) return status;
  norma_sync *s = calloc(1, sizeof *s);
  if (s) {
    size_t ranks = (size_t)exchange->ranks;
    s->exchange = *exchange;
    s->sizes = calloc(ranks, sizeof *s->sizes);
    s->samples = calloc(ranks, sizeof *s->samples);
    if (s->sizes && s->samples && norma_sync_room(&s->mine, &s->mine_bytes, NORMA_SYNC_HEADER) &&
        norma_sync_room(&s->all, &s->all_bytes, ranks * NORMA_SYNC_HEADER)) {
      *made = s;
      return NORMA_OK;
    }
  }
  norma_sync_free(s);
  return norma_batch_fail(error, NORMA_NO_MEMORY, "no memory for a norma_sync of %d ranks", exchange->ranks);
}

void norma_sync_free(norma_sync *sync) {
  if (!sync) return;
  free(sync->sizes);
  free(sync->samples);
  free(sync->mine);
  free(sync->all);
  free(sync->work);
  free(sync);
}

/* -------------------------------------------------------------------------------------------------------- call --- */

norma_status norma_sync_begin(norma_sync_pass *pass, norma_sync *sync, const char *name, bool backward,
                              norma_error *error) {
  *pass = (norma_sync_pass){.sync = sync, .name = name ? name : "unnamed", .backward = backward, .arrays = 1};
  pass->header = norma_sync_header_make(pass->name, backward);
  if (!sync) return norma_sync_fail(pass, error, NORMA_BAD_ARGUMENT, "sync is NULL");
  if (sync->broken.status)
    return norma_sync_fail(pass, error, sync->broken.status,
                           "the exchange has failed before, a new one is needed; what happened: %s",
                           sync->broken.detail);
  return NORMA_OK;
}

static norma_status check_choices(const norma_sync_pass *pass, norma_error *error) {
  int rank = pass->sync->exchange.rank;
  if ((unsigned)pass->merge > NORMA_SYNC_PER_RANK)
    return norma_sync_fail(pass, error, NORMA_BAD_ARGUMENT, "merge is %d, must be one of norma_sync_merge",
                           (int)pass->merge);
  if (pass->shards && pass->shards[rank] != pass->samples)
    return norma_sync_fail(pass, error, NORMA_BAD_ARGUMENT, "shards[%d] is %lld, but the layer has %lld samples here",
                           rank, (long long)pass->shards[rank], (long long)pass->samples);
  return NORMA_OK;
}

norma_status norma_sync_layer(norma_sync_pass *pass, norma_error *error) {
  const norma_layer *l = pass->layer;
  int64_t middle = 1; /* shared positions of dimension 1 */
  bool whole = true;
  pass->inner = 1;
  for (int a = 0; a < l->axis_count; a++) {
    bool shared = l->axes[a].bits & NORMA_SHARE;
    if (l->axes[a].dim == 0) whole = whole && shared;
    if (l->axes[a].dim > 0 && shared) pass->inner *= l->axes[a].length;
    if (l->axes[a].dim == 1 && shared) middle *= l->axes[a].length;
  }
  pass->samples = l->shape[0];
  pass->units = norma_layer_units(l);
  pass->rows = pass->inner == 1;
  if (norma_sync_sends_rows(pass))
    pass->item = (size_t)(pass->arrays * pass->units) * norma_type_size(pass->type);
  else pass->item = (size_t)pass->units * pass->record;
  norma_status status = check_choices(pass, error);
  if (status) return status;
  if (!whole)
    return norma_sync_fail(pass, error, NORMA_BAD_ARGUMENT,
                           "the layer does not sum over all of dimension 0, so ranks share no statistics: a layer as "
                           "batch norm, or a call without ranks is right");
  if (middle != 1 && pass->inner != middle)
    return norma_sync_fail(pass, error, NORMA_BAD_ARGUMENT,
                           "the layer sums over dimension 1 and beyond: only layers that keep dimension 1, as batch "
                           "norm, come apart into samples");
  return NORMA_OK;
}

void norma_sync_expect(norma_sync_pass *pass, const norma_layer *layer, norma_type type) {
  norma_error unused;
  if (!layer || norma_type_size(type) == 0 || norma_layer_format(layer, NULL, 0, NULL, 0, NULL)) return;
  pass->layer = layer;
  pass->type = type;
  norma_sync_layer(pass, &unused);
}

char *norma_sync_payload(norma_sync_pass *pass, norma_error *error) {
  norma_sync *s = pass->sync;
  size_t items = pass->merge == NORMA_SYNC_PER_RANK ? 1 : (size_t)pass->samples;
  bool fits = pass->item == 0 || items <= (PTRDIFF_MAX / 2 - NORMA_SYNC_HEADER) / pass->item;
  if (fits && norma_sync_room(&s->mine, &s->mine_bytes, NORMA_SYNC_HEADER + items * pass->item)) {
    memset(s->mine, 0, NORMA_SYNC_HEADER + items * pass->item);
    return s->mine + NORMA_SYNC_HEADER;
  }
  norma_sync_fail(pass, error, NORMA_NO_MEMORY, "%zu statistics of %zu bytes could not be allocated", items,
                  pass->item);
  return NULL;
}

norma_status norma_sync_workspace(norma_sync_pass *pass, size_t bytes, norma_error *error) {
  if (norma_sync_room(&pass->sync->work, &pass->sync->work_bytes, bytes)) return NORMA_OK;
  return norma_sync_fail(pass, error, NORMA_NO_MEMORY, "a workspace of %zu bytes could not be allocated", bytes);
}

norma_layer norma_sync_pooled(const norma_sync_pass *pass) {
  norma_layer pooled = *pass->layer;
  int first = 0; /* the last axis of dimension 0 */
  while (first + 1 < pooled.axis_count && pooled.axes[first + 1].dim == 0) first++;
  pooled.axis_count -= first;
  memmove(pooled.axes, pooled.axes + first, (size_t)pooled.axis_count * sizeof *pooled.axes);
  pooled.shape[0] = pooled.axes[0].length = pass->total;
  return pooled;
}
