/* Forward: the moments of what is here go out, those of all ranks come in. */
#include "sync.h"

#include <string.h>

/* The caller's call, as far as it can be judged alone. A workspace of no size stops it when all else was right. */
static norma_status check_alone(const norma_sync_pass *pass, const norma_forward_args *args, norma_error *error) {
  char none;
  norma_forward_args a = *args;
  if (args->sample_moments || args->given_moments || args->given_samples)
    return norma_sync_fail(pass, error, NORMA_BAD_ARGUMENT,
                           "sample_moments, given_moments or given_samples is set: what ranks share takes their place");
  a.flags &= ~(unsigned)NORMA_REFUSE_SINGLE; /* one element here may be one of many */
  if (a.ddof == 1) a.ddof = 0;
  a.workspace = &none;
  a.workspace_size = 0;
  return norma_forward(&a, error) == NORMA_NO_MEMORY ? NORMA_OK : norma_sync_in_layer(pass, error);
}

/* What can be refused before anything is computed. */
static norma_status prepare(norma_sync_pass *pass, const norma_forward_args *args, norma_error *error) {
  if (!args) return norma_sync_fail(pass, error, NORMA_BAD_ARGUMENT, "forward is NULL");
  if (args->size != sizeof *args) return norma_forward(args, error) ? norma_sync_in_layer(pass, error) : NORMA_OK;
  norma_status status = check_alone(pass, args, error);
  if (status) norma_sync_expect(pass, args->layer, args->type);
  if (status) return status;
  pass->layer = args->layer;
  pass->type = args->type;
  status = norma_sync_layer(pass, error);
  if (!status) norma_sync_describe(pass, args->flags, args->eps, args->ddof, args->activation);
  return status;
}

/* The call before the exchange, into this rank's block; `rest` becomes the call after it. */
static norma_status measure(norma_sync_pass *pass, const norma_forward_args *args, norma_forward_args *rest,
                            norma_error *error) {
  char *payload = norma_sync_payload(pass, error);
  if (!payload) return NORMA_NO_MEMORY;
  norma_moments *moments = (norma_moments *)(void *)payload;
  norma_forward_args a = *args;
  a.y = a.mean = a.rstd = a.var = NULL;
  a.saved = NULL;
  a.moments = pass->merge == NORMA_SYNC_PER_RANK ? moments : NULL;
  a.sample_moments = pass->merge == NORMA_SYNC_PER_SAMPLE && !pass->rows ? moments : NULL;
  a.flags &= ~(unsigned)NORMA_REFUSE_SINGLE;
  a.ddof = 0;
  *rest = *args;
  if (args->residual) rest->x = args->sum, rest->x_strides = args->sum_strides;
  rest->residual = NULL;
  rest->sum = NULL;
  rest->given_moments = moments; /* for the size of the workspace; others take their place */
  size_t bytes = norma_forward_workspace(&a), more = norma_forward_workspace(rest);
  norma_status status = norma_sync_workspace(pass, bytes > more ? bytes : more, error);
  if (status) return status;
  a.workspace = pass->sync->work;
  a.workspace_size = pass->sync->work_bytes;
  if ((args->residual || !norma_sync_sends_rows(pass)) && norma_forward(&a, error))
    return norma_sync_in_layer(pass, error);
  if (norma_sync_sends_rows(pass))
    norma_sync_pack(payload, pass->layer, norma_type_size(pass->type), 1, &(const void *){rest->x},
                    &(const int64_t *){rest->x_strides});
  return NORMA_OK;
}

/* The samples of all ranks are here, as rows: their moments are those of one tensor. */
static norma_status measure_rows(norma_sync_pass *pass, norma_moments *moments, norma_error *error) {
  norma_layer pooled = norma_sync_pooled(pass);
  norma_forward_args a = {.size = sizeof a, .layer = &pooled, .type = pass->type, .x = pass->sync->all};
  a.sample_moments = moments;
  norma_status status = norma_sync_workspace(pass, norma_forward_workspace(&a), error);
  a.workspace = pass->sync->work;
  a.workspace_size = pass->sync->work_bytes;
  if (!status && norma_forward(&a, error)) status = norma_sync_in_layer(pass, error);
  return status;
}

static norma_status check_single(const norma_sync_pass *pass, const norma_forward_args *args, norma_error *error) {
  bool refused = args->flags & NORMA_REFUSE_SINGLE || args->ddof == 1;
  if (pass->total != 1 || pass->inner != 1 || !refused) return NORMA_OK;
  return norma_sync_fail(pass, error, NORMA_SINGLE_VALUE,
                         "each mean is taken over 1 value in all ranks together, at least 2 are needed");
}

static norma_status finish(norma_sync_pass *pass, norma_forward_args *rest, norma_error *error) {
  norma_sync *s = pass->sync;
  rest->given_moments = (const norma_moments *)(const void *)s->all;
  rest->given_samples = pass->merge == NORMA_SYNC_PER_RANK ? s->exchange.ranks : pass->total;
  if (norma_sync_sends_rows(pass)) {
    size_t bytes = (size_t)pass->units * pass->record;
    if (!norma_sync_room(&s->mine, &s->mine_bytes, bytes)) /* what was sent is not needed again */
      return norma_sync_fail(pass, error, NORMA_NO_MEMORY, "%zu bytes of moments could not be allocated", bytes);
    norma_moments *moments = (norma_moments *)(void *)s->mine;
    norma_status status = measure_rows(pass, moments, error);
    if (status) return status;
    rest->given_moments = moments;
    rest->given_samples = 1;
  }
  rest->workspace = s->work;
  rest->workspace_size = s->work_bytes;
  return norma_forward(rest, error) ? norma_sync_in_layer(pass, error) : NORMA_OK;
}

static norma_status forward(const norma_sync_forward_args *args, norma_error *error) {
  norma_sync_pass pass;
  norma_forward_args rest;
  norma_status status = norma_sync_begin(&pass, args->sync, args->name, false, error);
  if (status) return status;
  pass.merge = args->merge;
  pass.shards = args->shards;
  pass.record = sizeof(norma_moments);
  const norma_forward_args *own = args->forward;
  if (own && own->size == sizeof *own && own->given_var)
    return norma_forward(own, error) ? norma_sync_in_layer(&pass, error) : NORMA_OK;
  status = prepare(&pass, own, error);
  if (args->sync->exchange.ranks == 1) {
    if (!status && norma_forward(own, error)) status = norma_sync_in_layer(&pass, error);
    if (!status && args->shards_out) args->shards_out[0] = pass.samples;
    return status;
  }
  if (!status) status = measure(&pass, own, &rest, error);
  status = norma_sync_meet(&pass, status, error);
  if (!status) status = check_single(&pass, own, error);
  if (!status) status = finish(&pass, &rest, error);
  if (!status && args->shards_out)
    memcpy(args->shards_out, args->sync->samples, (size_t)args->sync->exchange.ranks * sizeof *args->shards_out);
  return status;
}

norma_status norma_sync_forward(const norma_sync_forward_args *args, norma_error *error) {
  norma_error unwanted, *text = error ? error : &unwanted;
  norma_sync_pass nameless = {.name = "unnamed"};
  if (!args) return norma_sync_fail(&nameless, text, NORMA_BAD_ARGUMENT, "args is NULL");
  if (args->size != sizeof *args)
    return norma_sync_fail(&nameless, text, NORMA_BAD_ARGUMENT,
                           "args->size is %zu, must be sizeof(norma_sync_forward_args), %zu", args->size, sizeof *args);
  return forward(args, text);
}
