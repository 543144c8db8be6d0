/* Backward: the sums of what is here go out, those of all ranks come in. */
#include "sync.h"

#include <stdlib.h>
#include <string.h>

/* As in forward: all is checked and nothing computed. */
static norma_status check_alone(const norma_sync_pass *pass, const norma_backward_args *args, norma_error *error) {
  char none;
  norma_backward_args a = *args;
  if (args->sample_sums || args->given_sums || args->given_samples)
    return norma_sync_fail(pass, error, NORMA_BAD_ARGUMENT,
                           "sample_sums, given_sums or given_samples is set: what ranks share takes their place");
  a.flags &= ~(unsigned)NORMA_REFUSE_SINGLE;
  if (a.ddof == 1) a.ddof = 0;
  a.workspace = &none;
  a.workspace_size = 0;
  if (norma_backward(&a, error) != NORMA_NO_MEMORY) return norma_sync_in_layer(pass, error);
  if (!args->saved && norma_layer_units(args->layer) > 0)
    return norma_sync_fail(pass, error, NORMA_BAD_ARGUMENT, "saved is NULL: that of the forward pass is right");
  return NORMA_OK;
}

/* gamma of other ranks' samples is not here. */
static norma_status check_gamma(const norma_sync_pass *pass, const norma_backward_args *args, norma_error *error) {
  bool changes = false;
  for (int a = 0; a < pass->layer->axis_count; a++)
    changes = changes || (pass->layer->axes[a].dim == 0 && pass->layer->axes[a].bits & NORMA_AFFINE);
  if (!changes || !args->weight) return NORMA_OK;
  return norma_sync_fail(pass, error, NORMA_BAD_ARGUMENT,
                         "gamma changes along dimension 0: the gradient of x needs one gamma for all samples");
}

static norma_status prepare(norma_sync_pass *pass, const norma_backward_args *args, norma_error *error) {
  if (!args) return norma_sync_fail(pass, error, NORMA_BAD_ARGUMENT, "backward is NULL");
  if (args->size != sizeof *args) return norma_backward(args, error) ? norma_sync_in_layer(pass, error) : NORMA_OK;
  pass->arrays = args->activation ? 3 : 2;
  norma_status status = check_alone(pass, args, error);
  if (status) norma_sync_expect(pass, args->layer, args->type);
  if (status) return status;
  pass->layer = args->layer;
  pass->type = args->type;
  status = norma_sync_layer(pass, error);
  if (!status) status = check_gamma(pass, args, error);
  if (!status) norma_sync_describe(pass, args->flags, args->eps, args->ddof, args->activation);
  pass->header.has_after = args->activation && args->after;
  return status;
}

/* The sums of samples, one after the other, become those of this rank. */
static void merge_samples(const norma_sync_pass *pass, norma_sums *into, const norma_sums *samples) {
  int64_t count = norma_layer_samples(pass->layer);
  for (int64_t s = 0; s < count; s++)
    for (int64_t u = 0; u < pass->units; u++) norma_sums_merge(&into[u], pass->type, &samples[s * pass->units + u]);
}

/* Into `sums`, [samples][units]; with the gradients of the parameters. */
static norma_status sum_samples(norma_sync_pass *pass, const norma_backward_args *args, norma_sums *sums,
                                norma_error *error) {
  norma_backward_args a = *args;
  a.dx = a.dafter = NULL;
  a.dsum = NULL;
  a.sample_sums = sums;
  norma_status status = norma_sync_workspace(pass, norma_backward_workspace(&a), error);
  if (status) return status;
  a.workspace = pass->sync->work;
  a.workspace_size = pass->sync->work_bytes;
  return norma_backward(&a, error) ? norma_sync_in_layer(pass, error) : NORMA_OK;
}

static norma_status sum_rank(norma_sync_pass *pass, const norma_backward_args *args, norma_sums *into,
                             norma_error *error) {
  size_t count = (size_t)norma_layer_samples(pass->layer) * (size_t)pass->units;
  norma_sums *samples = calloc(count + 1, sizeof *samples);
  if (!samples)
    return norma_sync_fail(pass, error, NORMA_NO_MEMORY, "the sums of %zu units could not be allocated", count);
  norma_status status = sum_samples(pass, args, samples, error);
  if (!status) merge_samples(pass, into, samples);
  free(samples);
  return status;
}

/* The call before the exchange, into this rank's block; `rest` becomes the call after it. */
static norma_status measure(norma_sync_pass *pass, const norma_backward_args *args, norma_backward_args *rest,
                            norma_error *error) {
  char *payload = norma_sync_payload(pass, error);
  if (!payload) return NORMA_NO_MEMORY;
  norma_sums *sums = (norma_sums *)(void *)payload;
  *rest = *args;
  if (norma_sync_sends_rows(pass)) {
    const void *from[3] = {args->x, args->dy, args->activation ? args->after : NULL};
    const int64_t *strides[3] = {args->x_strides, args->dy_strides, args->after_strides};
    norma_sync_pack(payload, pass->layer, norma_type_size(pass->type), pass->arrays, from, strides);
    return NORMA_OK;
  }
  rest->dweight = rest->dbias = NULL; /* are there with the sums */
  return pass->merge == NORMA_SYNC_PER_RANK ? sum_rank(pass, args, sums, error)
                                            : sum_samples(pass, args, sums, error);
}

/* The samples of all ranks are here, as rows: their sums are those of one tensor. */
static norma_status sum_rows(norma_sync_pass *pass, const norma_backward_args *args, norma_sums *sums,
                             norma_error *error) {
  norma_layer pooled = norma_sync_pooled(pass);
  int64_t strides[NORMA_MAX_DIMS];
  norma_sync_row_strides(&pooled, pass->arrays, strides);
  size_t row = (size_t)pass->units * norma_type_size(pass->type);
  norma_backward_args a = *args;
  a.layer = &pooled;
  a.x = pass->sync->all;
  a.dy = pass->sync->all + row;
  a.after = pass->header.has_after ? pass->sync->all + 2 * row : NULL;
  a.x_strides = a.dy_strides = a.after_strides = strides;
  a.dx = a.dafter = a.dweight = a.dbias = NULL;
  a.dsum = NULL;
  a.sample_sums = sums;
  norma_status status = norma_sync_workspace(pass, norma_backward_workspace(&a), error);
  a.workspace = pass->sync->work;
  a.workspace_size = pass->sync->work_bytes;
  if (!status && norma_backward(&a, error)) status = norma_sync_in_layer(pass, error);
  return status;
}

static norma_status finish(norma_sync_pass *pass, const norma_backward_args *args, norma_backward_args *rest,
                           norma_error *error) {
  norma_sync *s = pass->sync;
  norma_status status = NORMA_OK;
  rest->given_sums = (const norma_sums *)(const void *)s->all;
  rest->given_samples = pass->merge == NORMA_SYNC_PER_RANK ? s->exchange.ranks : pass->total;
  if (norma_sync_sends_rows(pass)) {
    size_t bytes = (size_t)pass->units * pass->record;
    if (!norma_sync_room(&s->mine, &s->mine_bytes, bytes)) /* what was sent is not needed again */
      return norma_sync_fail(pass, error, NORMA_NO_MEMORY, "%zu bytes of sums could not be allocated", bytes);
    norma_sums *sums = (norma_sums *)(void *)s->mine;
    memset(sums, 0, bytes);
    if (pass->total > 0) status = sum_rows(pass, args, sums, error);
    rest->given_sums = sums;
    rest->given_samples = 1;
  }
  if (!status) status = norma_sync_workspace(pass, norma_backward_workspace(rest), error);
  if (status) return status;
  rest->workspace = s->work;
  rest->workspace_size = s->work_bytes;
  return norma_backward(rest, error) ? norma_sync_in_layer(pass, error) : NORMA_OK;
}

static norma_status backward(const norma_sync_backward_args *args, norma_error *error) {
  norma_sync_pass pass;
  norma_backward_args rest;
  norma_status status = norma_sync_begin(&pass, args->sync, args->name, true, error);
  if (status) return status;
  pass.merge = args->merge;
  pass.shards = args->shards;
  pass.record = sizeof(norma_sums);
  const norma_backward_args *own = args->backward;
  if (own && own->size == sizeof *own && own->given_var)
    return norma_backward(own, error) ? norma_sync_in_layer(&pass, error) : NORMA_OK;
  status = prepare(&pass, own, error);
  if (args->sync->exchange.ranks == 1) {
    if (!status && norma_backward(own, error)) status = norma_sync_in_layer(&pass, error);
    return status;
  }
  if (!status) status = measure(&pass, own, &rest, error);
  status = norma_sync_meet(&pass, status, error);
  return status ? status : finish(&pass, own, &rest, error);
}

norma_status norma_sync_backward(const norma_sync_backward_args *args, norma_error *error) {
  norma_error unwanted, *text = error ? error : &unwanted;
  norma_sync_pass nameless = {.name = "unnamed", .backward = true};
  if (!args) return norma_sync_fail(&nameless, text, NORMA_BAD_ARGUMENT, "args is NULL");
  if (args->size != sizeof *args)
    return norma_sync_fail(&nameless, text, NORMA_BAD_ARGUMENT,
                           "args->size is %zu, must be sizeof(norma_sync_backward_args), %zu", args->size,
                           sizeof *args);
  return backward(args, text);
}
