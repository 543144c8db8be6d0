/* Headers: what a rank says of its call, and whether all say the same. */
#include "sync.h"

#include <stdio.h>
#include <string.h>

static const uint32_t MAGIC = 0x31594e53; /* "SNY1" in the byte order of this machine */

static uint64_t hash(uint64_t seed, uint64_t value) { return (seed ^ value) * UINT64_C(0x100000001b3) ^ seed >> 29; }

/* Axes but for their names and the number of samples. */
static uint64_t hash_axes(const norma_layer *layer) {
  uint64_t all = UINT64_C(0xcbf29ce484222325);
  for (int a = 0; a < layer->axis_count; a++) {
    const norma_axis *axis = &layer->axes[a];
    if (axis->dim > 0) all = hash(hash(all, (uint64_t)axis->dim), (uint64_t)axis->length);
    all = hash(all, axis->bits);
  }
  return all;
}

static void copy_text(char *to, size_t size, const char *from) {
  size_t length = strlen(from);
  if (length > size - 1) length = size - 1;
  memcpy(to, from, length);
  to[length] = 0;
}

norma_sync_header norma_sync_header_make(const char *name, bool backward) {
  norma_sync_header h = {.magic = MAGIC, .backward = backward};
  copy_text(h.name, sizeof h.name, name);
  return h;
}

void norma_sync_describe(norma_sync_pass *pass, unsigned flags, double eps, int ddof, norma_activation activation) {
  norma_sync_header *h = &pass->header;
  char pattern[512] = "";
  norma_layer_format(pass->layer, pattern, sizeof pattern, NULL, 0, NULL);
  copy_text(h->pattern, sizeof h->pattern, pattern);
  h->merge = (int32_t)pass->merge;
  h->promised = pass->shards != NULL;
  h->type = (int32_t)pass->type;
  h->rms = pass->layer->rms != 0;
  h->ndim = pass->layer->ndim;
  h->axes = hash_axes(pass->layer);
  for (int d = 1; d < h->ndim; d++) h->shape[d] = pass->layer->shape[d];
  h->samples = pass->samples;
  h->flags = flags;
  h->eps = eps;
  h->ddof = ddof;
  h->activation = (int32_t)activation;
}

/* ----------------------------------------------------------------------------------------------------- compare --- */

/* Two headers that differ, and where. */
typedef struct meeting {
  const norma_sync_pass *pass;
  const norma_sync_header *first, *other;
  int first_rank, other_rank;
  norma_error *error;
} meeting;

static const char *direction(const norma_sync_header *h) { return h->backward ? "backward" : "forward"; }

static norma_status differ_in_count(const meeting *m, const char *what, int64_t first, int64_t other) {
  return norma_sync_fail(m->pass, m->error, NORMA_RANKS_DISAGREE,
                         "rank %d has %lld %s, rank %d has %lld: all ranks must have the same", m->first_rank,
                         (long long)first, what, m->other_rank, (long long)other);
}

static norma_status differ_in_value(const meeting *m, const char *what, int64_t first, int64_t other) {
  return norma_sync_fail(m->pass, m->error, NORMA_RANKS_DISAGREE,
                         "rank %d has %s %lld, rank %d has %lld: all ranks must have the same", m->first_rank, what,
                         (long long)first, m->other_rank, (long long)other);
}

static norma_status differ_in_text(const meeting *m, const char *what, const char *first, const char *other) {
  return norma_sync_fail(m->pass, m->error, NORMA_RANKS_DISAGREE,
                         "rank %d has %s %s, rank %d has %s: all ranks must have the same", m->first_rank, what, first,
                         m->other_rank, other);
}

/* The order of calls: the text has no layer in front, as there are two. */
static norma_status differ_in_call(const meeting *m) {
  if (m->error) {
    m->error->status = NORMA_RANKS_DISAGREE;
    snprintf(m->error->detail, sizeof m->error->detail,
             "rank %d is in layer '%.48s', %s, rank %d in layer '%.48s', %s: all ranks must make the same calls in one "
             "order",
             m->first_rank, m->first->name, direction(m->first), m->other_rank, m->other->name, direction(m->other));
  }
  return NORMA_RANKS_DISAGREE;
}

static norma_status compare_layers(const meeting *m) {
  const norma_sync_header *a = m->first, *b = m->other;
  if (a->ndim != b->ndim) return differ_in_count(m, "dimensions", a->ndim, b->ndim);
  for (int d = 1; d < a->ndim; d++) {
    char what[48];
    snprintf(what, sizeof what, d == 1 ? "channels (dimension %d)" : "positions along dimension %d", d);
    if (a->shape[d] != b->shape[d]) return differ_in_count(m, what, a->shape[d], b->shape[d]);
  }
  if (a->rms != b->rms) return differ_in_value(m, "rms", a->rms, b->rms);
  if (strcmp(a->pattern, b->pattern) != 0 && a->axes != b->axes)
    return differ_in_text(m, "pattern", a->pattern, b->pattern);
  if (a->axes != b->axes)
    return norma_sync_fail(m->pass, m->error, NORMA_RANKS_DISAGREE,
                           "ranks %d and %d both have pattern %s, but with other sizes or another affine list: all "
                           "ranks must have the same",
                           m->first_rank, m->other_rank, a->pattern);
  return NORMA_OK;
}

static norma_status compare_two(const meeting *m) {
  const norma_sync_header *a = m->first, *b = m->other;
  if (a->backward != b->backward || strcmp(a->name, b->name) != 0) return differ_in_call(m);
  norma_status status = compare_layers(m);
  if (status) return status;
  if (a->type != b->type)
    return differ_in_text(m, "type", norma_type_name((norma_type)a->type), norma_type_name((norma_type)b->type));
  if (a->merge != b->merge) return differ_in_value(m, "merge", a->merge, b->merge);
  if (a->promised != b->promised)
    return differ_in_text(m, "shards", a->promised ? "given" : "NULL", b->promised ? "given" : "NULL");
  if (a->ddof != b->ddof) return differ_in_value(m, "ddof", a->ddof, b->ddof);
  if (a->flags != b->flags) return differ_in_value(m, "flags", a->flags, b->flags);
  if (a->activation != b->activation) return differ_in_value(m, "activation", a->activation, b->activation);
  char eps[2][32];
  snprintf(eps[0], sizeof eps[0], "%.17g", a->eps);
  snprintf(eps[1], sizeof eps[1], "%.17g", b->eps);
  return strcmp(eps[0], eps[1]) != 0 ? differ_in_text(m, "eps", eps[0], eps[1]) : NORMA_OK;
}

static bool is_sound(const norma_sync_header *h) {
  return h->magic == MAGIC && h->samples >= 0 && h->ndim >= 0 && h->ndim <= NORMA_MAX_DIMS &&
         memchr(h->name, 0, sizeof h->name) && memchr(h->pattern, 0, sizeof h->pattern) &&
         memchr(h->detail, 0, sizeof h->detail);
}

/* Faults that one header shows by itself. */
static norma_status check_alone(const norma_sync_pass *pass, int rank, const norma_sync_header *h,
                                norma_error *error) {
  if (!is_sound(h))
    return norma_sync_fail(pass, error, NORMA_RANKS_DISAGREE,
                           "what rank %d sent is no header of this version: all ranks must run the same library on "
                           "one kind of machine, and call it in one order",
                           rank);
  if (h->status != NORMA_OK)
    return norma_sync_fail(pass, error, NORMA_RANKS_DISAGREE, "rank %d refused its call of '%.48s': %s", rank, h->name,
                           h->detail);
  return NORMA_OK;
}

/* An empty tensor may have no address: only ranks with samples say whether there is an `after`. */
static norma_status compare_after(norma_sync_pass *pass, const norma_sync_header *h, int rank, int *first_rank,
                                  norma_error *error) {
  if (h->samples == 0) return NORMA_OK;
  if (*first_rank < 0) *first_rank = rank, pass->header.has_after = h->has_after;
  if (pass->header.has_after == h->has_after) return NORMA_OK;
  const meeting m = {pass, &pass->header, h, *first_rank, rank, error};
  return differ_in_text(&m, "after", h->has_after ? "NULL" : "given", h->has_after ? "given" : "NULL");
}

static norma_status check_promise(const norma_sync_pass *pass, const norma_sync_header *h, int rank,
                                  norma_error *error) {
  if (!pass->shards || pass->shards[rank] == h->samples) return NORMA_OK;
  return norma_sync_fail(pass, error, NORMA_RANKS_DISAGREE,
                         "rank %d has %lld samples, but shards[%d] is %lld: where they are not known, shards NULL is "
                         "right",
                         rank, (long long)h->samples, rank, (long long)pass->shards[rank]);
}

norma_status norma_sync_compare(norma_sync_pass *pass, norma_error *error) {
  norma_sync *s = pass->sync;
  norma_sync_header first, h;
  norma_status status = NORMA_OK;
  int with_samples = -1;
  const char *at = s->all;
  for (int r = 0; r < s->exchange.ranks && !status; at += s->sizes[r], r++) {
    memcpy(&h, at, sizeof h);
    status = check_alone(pass, r, &h, error);
  }
  at = s->all;
  memcpy(&first, at, sizeof first);
  for (int r = 0; r < s->exchange.ranks && !status; at += s->sizes[r], r++) {
    memcpy(&h, at, sizeof h);
    status = compare_two(&(meeting){pass, &first, &h, 0, r, error});
    if (!status) status = compare_after(pass, &h, r, &with_samples, error);
    if (!status) status = check_promise(pass, &h, r, error);
    s->samples[r] = h.samples;
  }
  return status;
}
