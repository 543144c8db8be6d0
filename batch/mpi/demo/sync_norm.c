/* Batch norm whose statistics are those of all ranks. */
#include "sync_norm.h"

#include <stdlib.h>

typedef struct sync_layer {
  layer base;
  norma_sync *sync;
  const char *name;
  int channels;
  norma_layer made; /* for this rank's samples */
  float *running_mean, *running_var;
  norma_saved *saved;
  norma_moments *moments;
} sync_layer;

enum { SLOT_Y, SLOT_DX, SLOT_DGAMMA, SLOT_DBETA };

static void check(norma_status status, const norma_error *error) {
  if (status) demo_die("%s: %s", norma_status_text(status), error->detail);
}

static tensor sync_forward(layer *l, tensor x, phase phase) {
  sync_layer *s = (sync_layer *)l;
  norma_error error;
  real *y = layer_reals(l, SLOT_Y, tensor_count(x));
  check(norma_layer_batch(&s->made, x.ndim, x.dim, &error), &error);
  norma_forward_args args = {.size = sizeof args, .layer = &s->made, .x = x.at, .y = y, .weight = l->params[0].value,
                             .bias = l->params[1].value, .activation = NORMA_SILU};
  if (phase == TRAIN) args.saved = s->saved, args.moments = s->moments;
  else args.given_mean = s->running_mean, args.given_var = s->running_var;
  norma_sync_forward_args together = {.size = sizeof together, .sync = s->sync, .name = s->name, .forward = &args};
  check(norma_sync_forward(&together, &error), &error);
  if (phase == TRAIN)
    check(norma_running_update(&(norma_running_args){.size = sizeof(norma_running_args), .channels = s->channels,
                                                     .moments = s->moments, .running_mean = s->running_mean,
                                                     .running_var = s->running_var},
                               &error),
          &error);
  return tensor_like(x, y);
}

static tensor sync_backward(layer *l, tensor dy) {
  sync_layer *s = (sync_layer *)l;
  norma_error error;
  real *dx = layer_reals(l, SLOT_DX, tensor_count(dy));
  real *dgamma = layer_reals(l, SLOT_DGAMMA, s->channels), *dbeta = layer_reals(l, SLOT_DBETA, s->channels);
  norma_backward_args args = {.size = sizeof args, .layer = &s->made, .x = l->x.at, .dy = dy.at, .dx = dx,
                              .weight = l->params[0].value, .bias = l->params[1].value, .dweight = dgamma,
                              .dbias = dbeta, .saved = s->saved, .activation = NORMA_SILU};
  norma_sync_backward_args together = {.size = sizeof together, .sync = s->sync, .name = s->name, .backward = &args};
  check(norma_sync_backward(&together, &error), &error);
  for (int c = 0; c < s->channels; c++) {
    l->params[0].grad[c] += dgamma[c];
    l->params[1].grad[c] += dbeta[c];
  }
  return tensor_like(dy, dx);
}

static void sync_free(layer *l) {
  sync_layer *s = (sync_layer *)l;
  free(s->running_mean);
  free(s->running_var);
  free(s->saved);
  free(s->moments);
}

layer *sync_norm(norma_sync *sync, const char *name, int channels) {
  static const layer_kind kind = {"sync norm", sizeof(sync_layer), sync_forward, sync_backward, sync_free};
  layer *l = layer_new(&kind);
  sync_layer *s = (sync_layer *)l;
  param *gamma = layer_param(l, "gamma", channels);
  layer_param(l, "beta", channels);
  s->sync = sync;
  s->name = name;
  s->channels = channels;
  s->running_mean = engine_alloc((size_t)channels * sizeof *s->running_mean);
  s->running_var = engine_alloc((size_t)channels * sizeof *s->running_var);
  s->saved = engine_alloc((size_t)channels * sizeof *s->saved);
  s->moments = engine_alloc((size_t)channels * sizeof *s->moments);
  for (int c = 0; c < channels; c++) gamma->value[c] = s->running_var[c] = 1;
  return l;
}
