/* The backward pass over samples cut to their lengths: first what is summed over all of them, then dx. */
#include "ragged.h"

#include <stdlib.h>

typedef struct piece {
  norma_layer layer;
  norma_backward_args args;
  norma_slots slots; /* where the strides are that args points to */
} piece;

static void make_piece(piece *p, const norma_cut *cut, const norma_backward_args *args, int64_t first, int64_t count,
                       int64_t length) {
  p->args = *args;
  p->args.layer = &cut->layer;
  norma_backward_slots(&p->slots, &p->args);
  norma_slots_advance(&p->slots, 0, first);
  p->layer = norma_cut_layer(cut, count, length);
  p->args.layer = &p->layer;
  p->args.workspace = NULL;
  if (length == 0) p->args.ddof = 0, p->args.flags &= ~(unsigned)NORMA_REFUSE_SINGLE;
}

/* -------------------------------------------------------------------------------------------- dweight and dbias --- */

/* The sums over all samples at once, on copies with zeros for the padding: an addend of 0 changes no sum. */
static norma_status sum_params(const norma_cut *cut, const norma_backward_args *args, norma_error *error) {
  norma_valid valid = norma_cut_valid(cut);
  norma_layer compact = norma_compact_layer(&valid, cut->gamma ? cut->layer.shape[cut->dim] : cut->longest);
  norma_backward_args only = *args;
  only.layer = &cut->layer;
  only.dx = only.dafter = NULL, only.dsum = NULL, only.workspace = NULL;
  if (!cut->within) only.saved = NULL; /* units of zeros have their own */
  if (!args->activation) only.after = NULL;
  only.flags &= ~(unsigned)NORMA_REFUSE_SINGLE;
  if (cut->within || cut->total == 0) only.ddof = 0;
  norma_slots slots;
  norma_backward_slots(&slots, &only);
  norma_status status = norma_compact(&valid, &compact, &slots, error);
  only.layer = &compact;
  if (!status) status = norma_backward(&only, error);
  norma_release(&slots);
  return status;
}

/* ----------------------------------------------------------------------------------------------------------- dx --- */

static norma_status each_sample(const norma_cut *cut, const norma_backward_args *args, norma_error *error) {
  norma_status status = NORMA_OK;
  piece p;
  for (int64_t first = 0, count; first < cut->samples && !status; first += count) {
    count = norma_cut_run(cut, first);
    make_piece(&p, cut, args, first, count, cut->lengths[first]);
    status = norma_backward(&p.args, error);
  }
  return status;
}

/* How many samples from `first` on a call can sum one by one. */
static int64_t apart(const norma_cut *cut, int64_t first) {
  int64_t count = norma_cut_run(cut, first);
  norma_layer layer = norma_cut_layer(cut, count, cut->lengths[first]);
  return norma_layer_samples(&layer) == count ? count : 1;
}

static norma_status across_samples(const norma_cut *cut, const norma_backward_args *args, norma_error *error) {
  int64_t units = norma_layer_units(&cut->layer);
  norma_sums *table = calloc((size_t)cut->samples * (size_t)units + 1, sizeof *table);
  if (!table)
    return norma_batch_fail(error, NORMA_NO_MEMORY, "sums of %lld samples could not be allocated",
                            (long long)cut->samples);
  norma_backward_args sums = *args, all = *args;
  norma_status status = NORMA_OK;
  piece p;
  sums.dx = sums.dafter = NULL, sums.dsum = NULL;
  for (int64_t first = 0, count; first < cut->samples && !status; first += count) {
    count = apart(cut, first);
    if (cut->lengths[first] == 0) continue;
    make_piece(&p, cut, &sums, first, count, cut->lengths[first]);
    p.args.sample_sums = table + first * units;
    status = norma_backward(&p.args, error);
  }
  all.given_sums = table, all.given_samples = cut->samples;
  if (!status) status = each_sample(cut, &all, error);
  free(table);
  return status;
}

/* dx and dafter; the gradients of the parameters are there. */
static norma_status write_gradients(const norma_cut *cut, const norma_backward_args *args, norma_error *error) {
  norma_status status = NORMA_OK;
  norma_backward_args only = *args;
  only.dweight = only.dbias = NULL;
  piece p;
  if (!only.dx && !only.dafter) return NORMA_OK;
  if (!cut->within || args->given_var) {
    make_piece(&p, cut, &only, 0, cut->samples, cut->layer.shape[cut->dim]);
    if (cut->total == 0) p.args.ddof = 0, p.args.flags &= ~(unsigned)NORMA_REFUSE_SINGLE;
    status = norma_backward(&p.args, error);
  } else if (cut->across) {
    status = across_samples(cut, &only, error);
  } else {
    status = each_sample(cut, &only, error);
  }
  return status;
}

static void clear_padding(const norma_cut *cut, const norma_backward_args *args) {
  norma_backward_args full = *args;
  norma_slots slots;
  norma_valid valid = norma_cut_valid(cut);
  full.layer = &cut->layer;
  norma_backward_slots(&slots, &full);
  for (int i = 0; i < slots.count; i++)
    if (slots.slot[i].output && slots.slot[i].extent == NORMA_OF_ELEMENTS) norma_clear_padding(&valid, &slots.slot[i]);
}

/* The statistics of forward, where the caller has not kept them. */
static norma_status measure(const norma_cut *cut, const norma_backward_args *args, norma_saved *saved,
                            norma_error *error) {
  norma_forward_args f = {.size = sizeof f, .layer = &cut->layer, .type = args->type, .eps = args->eps};
  f.x = args->x, f.x_strides = args->x_strides;
  f.ddof = args->ddof, f.flags = args->flags, f.threads = args->threads;
  f.saved = saved;
  return norma_cut_forward(cut, &f, error);
}

static norma_status by_samples(const norma_cut *cut, const norma_backward_args *args, norma_error *error) {
  norma_backward_args a = *args;
  norma_saved *own = NULL;
  norma_status status = NORMA_OK;
  if (cut->within && !a.given_var && !a.saved) {
    a.saved = own = calloc((size_t)norma_layer_units(&cut->layer) + 1, sizeof *own);
    if (!own)
      return norma_batch_fail(error, NORMA_NO_MEMORY, "statistics of %lld units could not be allocated",
                              (long long)norma_layer_units(&cut->layer));
    status = measure(cut, &a, own, error);
  }
  if (!status && (a.dweight || a.dbias)) status = sum_params(cut, &a, error);
  if (!status) status = write_gradients(cut, &a, error);
  free(own);
  return status;
}

norma_status norma_cut_backward(const norma_cut *cut, const norma_backward_args *args, norma_error *error) {
  norma_status status;
  piece p;
  if (cut->equal && cut->within && !cut->gamma) {
    make_piece(&p, cut, args, 0, cut->samples, cut->longest);
    status = norma_backward(&p.args, error);
  } else {
    status = by_samples(cut, args, error);
  }
  if (!status) clear_padding(cut, args);
  return status;
}
