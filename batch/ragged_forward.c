/* The forward pass over samples cut to their lengths. */
#include "ragged.h"

#include <stdlib.h>

/* The call on `count` samples from `first` on, all of one length; `args` is full, and stays as it is. */
typedef struct piece {
  norma_layer layer;
  norma_forward_args args;
  norma_slots slots; /* where the strides are that args points to */
} piece;

static void make_piece(piece *p, const norma_cut *cut, const norma_forward_args *args, int64_t first, int64_t count,
                       int64_t length) {
  p->args = *args;
  p->args.layer = &cut->layer;
  norma_forward_slots(&p->slots, &p->args);
  norma_slots_advance(&p->slots, 0, first);
  p->layer = norma_cut_layer(cut, count, length);
  p->args.layer = &p->layer;
  p->args.workspace = NULL;
}

/* Units within samples: one call for all neighbours of one length. */
static norma_status each_sample(const norma_cut *cut, const norma_forward_args *args, norma_error *error) {
  norma_status status = NORMA_OK;
  piece p;
  for (int64_t first = 0, count; first < cut->samples && !status; first += count) {
    count = norma_cut_run(cut, first);
    make_piece(&p, cut, args, first, count, cut->lengths[first]);
    if (cut->lengths[first] == 0) p.args.ddof = 0, p.args.flags &= ~(unsigned)NORMA_REFUSE_SINGLE;
    status = norma_forward(&p.args, error);
  }
  return status;
}

/* ----------------------------------------------------------------------------------------- units across samples --- */

/* How many samples from `first` on a call can measure one by one. */
static int64_t apart(const norma_cut *cut, int64_t first) {
  int64_t count = norma_cut_run(cut, first);
  norma_layer layer = norma_cut_layer(cut, count, cut->lengths[first]);
  return norma_layer_samples(&layer) == count ? count : 1;
}

/* The moments of each sample, and the sum with the residual. */
static norma_status measure(const norma_cut *cut, const norma_forward_args *args, norma_moments *table,
                            norma_error *error) {
  norma_forward_args only = {.size = sizeof only, .type = args->type, .threads = args->threads};
  only.x = args->x, only.x_strides = args->x_strides;
  only.residual = args->residual, only.residual_strides = args->residual_strides;
  only.sum = args->sum, only.sum_strides = args->sum_strides;
  norma_status status = NORMA_OK;
  int64_t units = norma_layer_units(&cut->layer);
  only.layer = &cut->layer;
  piece p;
  for (int64_t first = 0, count; first < cut->samples && !status; first += count) {
    count = apart(cut, first);
    if (cut->lengths[first] == 0) continue;
    make_piece(&p, cut, &only, first, count, cut->lengths[first]);
    p.args.sample_moments = table + first * units;
    status = norma_forward(&p.args, error);
  }
  return status;
}

/* Statistics and y by the moments of all samples. From the second call on, by their total: it has the same bits. */
static norma_status apply(const norma_cut *cut, const norma_forward_args *args, const norma_moments *table,
                          norma_moments *total, norma_error *error) {
  norma_forward_args all = *args;
  norma_status status = NORMA_OK;
  piece p;
  if (args->residual) all.x = args->sum, all.x_strides = args->sum_strides;
  all.residual = NULL, all.sum = NULL;
  if (!all.moments) all.moments = total;
  all.given_moments = table, all.given_samples = cut->samples;
  for (int64_t first = 0, count; first < cut->samples && !status; first += count) {
    count = norma_cut_run(cut, first);
    if (cut->lengths[first] == 0) continue;
    make_piece(&p, cut, &all, first, count, cut->lengths[first]);
    status = norma_forward(&p.args, error);
    if (!args->y) break;
    if (all.moments) total = all.moments;
    all.given_moments = total, all.given_samples = 1;
    all.mean = all.var = all.rstd = NULL, all.saved = NULL, all.moments = NULL;
  }
  return status;
}

static norma_status across_samples(const norma_cut *cut, const norma_forward_args *args, norma_error *error) {
  int64_t units = norma_layer_units(&cut->layer);
  norma_moments *table = calloc((size_t)(cut->samples + 1) * (size_t)units + 1, sizeof *table);
  if (!table)
    return norma_batch_fail(error, NORMA_NO_MEMORY, "moments of %lld samples could not be allocated",
                            (long long)cut->samples);
  norma_status status = measure(cut, args, table, error);
  if (!status) status = apply(cut, args, table, table + cut->samples * units, error);
  free(table);
  return status;
}

/* ------------------------------------------------------------------------------------------------------ padding --- */

/* y = act(beta): a layer of zeros in the room of the padding. */
static norma_status write_beta(const norma_cut *cut, const norma_forward_args *args, norma_error *error) {
  static const double zero;
  static const int64_t still[NORMA_MAX_DIMS];
  norma_forward_args only = {.size = sizeof only, .layer = &cut->layer, .type = args->type, .x = &zero};
  only.y = args->y, only.y_strides = args->y_strides;
  only.bias = args->bias, only.bias_strides = args->bias_strides;
  only.activation = args->activation, only.threads = args->threads;
  norma_status status = NORMA_OK;
  int64_t size = cut->layer.shape[cut->dim];
  piece p;
  for (int64_t first = 0, count; first < cut->samples && !status; first += count) {
    int64_t length = cut->lengths[first];
    count = norma_cut_run(cut, first);
    if (length == size) continue;
    make_piece(&p, cut, &only, first, count, size - length);
    norma_slots_advance(&p.slots, cut->dim, length);
    p.args.x = &zero, p.args.x_strides = still;
    status = norma_forward(&p.args, error);
  }
  return status;
}

static norma_status write_padding(const norma_cut *cut, const norma_forward_args *args, norma_error *error) {
  norma_forward_args full = *args;
  norma_slots slots;
  norma_valid valid = norma_cut_valid(cut);
  bool beta = cut->padding == NORMA_PAD_BETA && args->bias && args->y;
  full.layer = &cut->layer;
  norma_forward_slots(&slots, &full);
  for (int i = 0; i < slots.count; i++) {
    const norma_slot *slot = &slots.slot[i];
    if (!slot->output || (beta && slot->field == (void *)&full.y)) continue;
    if (slot->extent == NORMA_OF_ELEMENTS || !cut->within) norma_clear_padding(&valid, slot);
  }
  return beta ? write_beta(cut, args, error) : NORMA_OK;
}

norma_status norma_cut_forward(const norma_cut *cut, const norma_forward_args *args, norma_error *error) {
  norma_status status;
  piece p;
  if (!cut->within || args->given_var) {
    make_piece(&p, cut, args, 0, cut->samples, cut->layer.shape[cut->dim]);
    if (cut->total == 0) p.args.ddof = 0, p.args.flags &= ~(unsigned)NORMA_REFUSE_SINGLE;
    status = norma_forward(&p.args, error);
  } else if (cut->equal) {
    make_piece(&p, cut, args, 0, cut->samples, cut->longest);
    status = norma_forward(&p.args, error);
  } else if (cut->across) {
    status = across_samples(cut, args, error);
  } else {
    status = each_sample(cut, args, error);
  }
  return status ? status : write_padding(cut, args, error);
}
