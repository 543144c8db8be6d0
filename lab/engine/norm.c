/* Normalization layers: each pass is a call of norma.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "maths.h"

/* What backward needs of one forward pass. */
typedef struct slot {
  tensor x;
  norma_saved *saved;
  int64_t saved_count;
  int given;             /* 1 + the set of statistics that were given; 0: those of the batch */
} slot;

/* Statistics over many batches, of one time step (or of all). */
typedef struct statistics {
  float *mean, *var;        /* running, then precise: [2][channels] */
  norma_moments *gathered;  /* by COLLECT */
  bool finished;            /* `gathered` is in mean and var */
} statistics;

typedef struct norm_layer {
  layer base;
  norm_spec spec;
  int channels, slot_count, set_count;
  slot *slots;
  statistics *sets;
  tensor parsed;                     /* the shape of the two layers below */
  norma_layer batch, given;          /* the layer of training; plain batch norm, for given statistics */
} norm_layer;

enum { NORM_Y, NORM_DX, NORM_WORK, NORM_MOMENTS, NORM_DGAMMA, NORM_DBETA, NORM_GIVEN };

bool norm_parse(const char *text, norm_spec *spec) {
  static const struct {
    const char *name;
    norm_spec spec;
  } names[] = {{"none", {.kind = NORM_NONE}},        {"bn", {.kind = NORM_BATCH}},
               {"ln", {.kind = NORM_LAYER}},         {"pixel_ln", {.kind = NORM_PIXEL}},
               {"in", {.kind = NORM_INSTANCE}},      {"rms", {.kind = NORM_RMS}},
               {"bn_frozen", {.kind = NORM_BATCH, .frozen = true}}};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (strcmp(text, names[i].name) == 0) {
      *spec = names[i].spec;
      return true;
    }
  }
  int number = 0, end = 0;
  *spec = (norm_spec){.kind = NORM_GROUP};
  if (sscanf(text, "bn_b%d%n", &number, &end) == 1) {
    *spec = (norm_spec){.kind = NORM_BATCH, .ghost = number};
  } else if (sscanf(text, "gn_c%d%n", &number, &end) == 1) {
    spec->group_size = number;
  } else if (sscanf(text, "gn%d%n", &number, &end) == 1) {
    spec->groups = number;
  }
  return number > 0 && text[end] == '\0';
}

static void check(const norm_layer *n, norma_status status, const norma_error *error) {
  if (status != NORMA_OK) {
    engine_die("norm of %d channels: %s: %s", n->channels, norma_status_text(status), error->detail);
  }
}

/* --------------------------------------------------------------------------------------------- which elements --- */

/* The patterns for images (n, c, h, w) and for features (n, d) or (n, t, d). */
static void make_layers(norm_layer *n, tensor x) {
  if (tensor_same_shape(n->parsed, x)) {
    return;
  }
  bool image = x.ndim == 4;
  if (x.dim[image ? 1 : x.ndim - 1] != n->channels) {
    engine_die("norm: got %lld channels, expected %d", (long long)x.dim[image ? 1 : x.ndim - 1], n->channels);
  }
  const char *plain = image ? "[n] c [h w]" : x.ndim == 3 ? "[n t] c" : "[n] c", *pattern = plain, *affine = "c";
  char sizes[32] = "";
  norma_error error;
  switch (n->spec.kind) {
    case NORM_BATCH:
      if (n->spec.ghost > 0 && x.dim[0] > n->spec.ghost) {
        pattern = image ? "(b [n]) c [h w]" : x.ndim == 3 ? "(b [n]) [t] c" : "(b [n]) c";
        snprintf(sizes, sizeof sizes, "n=%d", n->spec.ghost);
      }
      break;
    case NORM_LAYER: case NORM_RMS: pattern = image ? "n [c h w]" : x.ndim == 3 ? "n t [c]" : "n [c]"; break;
    case NORM_PIXEL: pattern = image ? "n [c] h w" : x.ndim == 3 ? "n t [c]" : "n [c]"; break;
    case NORM_INSTANCE: pattern = image ? "n c [h w]" : "n [t] c"; break;
    case NORM_GROUP:
      pattern = image ? "n (g [k]) [h w]" : x.ndim == 3 ? "n t (g [k])" : "n (g [k])";
      affine = "(g k)";
      if (n->spec.interleaved && image) {
        pattern = "n ([k] g) [h w]";
        affine = "(k g)";
      }
      snprintf(sizes, sizeof sizes, n->spec.groups > 0 ? "g=%d" : "k=%d",
               n->spec.groups > 0 ? n->spec.groups : n->spec.group_size);
      break;
    case NORM_NONE: break;
  }
  check(n, norma_layer_parse(&n->batch, pattern, affine, *sizes ? sizes : NULL, x.ndim, x.dim, &error), &error);
  check(n, norma_layer_parse(&n->given, plain, "c", NULL, x.ndim, x.dim, &error), &error);
  n->batch.rms = n->spec.kind == NORM_RMS;
  n->parsed = x;
}

/* ------------------------------------------------------------------------------------------------- statistics --- */

void norm_slots(layer *l, int slots, int sets) {
  norm_layer *n = (norm_layer *)l;
  if (slots > n->slot_count) {
    slot *grown = realloc(n->slots, (size_t)slots * sizeof *grown);
    if (grown == NULL) {
      engine_die("no memory");
    }
    memset(grown + n->slot_count, 0, (size_t)(slots - n->slot_count) * sizeof *grown);
    n->slots = grown;
    n->slot_count = slots;
  }
  if (sets > n->set_count && n->spec.kind == NORM_BATCH) {
    statistics *grown = realloc(n->sets, (size_t)sets * sizeof *grown);
    if (grown == NULL) {
      engine_die("no memory");
    }
    for (int i = n->set_count; i < sets; i++) {
      size_t c = (size_t)n->channels;
      grown[i] = (statistics){engine_alloc(2 * c * sizeof(float)), engine_alloc(2 * c * sizeof(float)),
                              engine_alloc(c * sizeof(norma_moments)), false};
      for (size_t j = 0; j < 2 * c; j++) {
        grown[i].var[j] = 1;
      }
    }
    n->sets = grown;
    n->set_count = sets;
  }
}

static void free_norm(layer *l) {
  norm_layer *n = (norm_layer *)l;
  for (int i = 0; i < n->slot_count; i++) {
    free(n->slots[i].saved);
  }
  for (int i = 0; i < n->set_count; i++) {
    free(n->sets[i].mean);
    free(n->sets[i].var);
    free(n->sets[i].gathered);
  }
  free(n->slots);
  free(n->sets);
}

/* The statistics of the last batch move the running ones, or join those gathered. */
static void update(norm_layer *n, statistics *set, const norma_moments *moments, phase phase) {
  int64_t samples = norma_layer_units(&n->batch) / n->channels;
  norma_error error;
  if (phase == TRAIN) {
    norma_running_args args = {.size = sizeof args, .momentum = n->spec.momentum, .channels = n->channels,
                               .samples = samples, .moments = moments, .running_mean = set->mean,
                               .running_var = set->var};
    if (moments[0].count > 1) { /* the variance of one element says nothing */
      check(n, norma_running_update(&args, &error), &error);
    }
  } else if (phase == COLLECT) {
    set->finished = false;
    for (int64_t i = 0; i < samples * n->channels; i++) {
      norma_moments_merge(&set->gathered[i % n->channels], &moments[i]);
    }
  }
}

/* The population's mean and biased variance (Wu and Johnson 2021), behind the running ones. */
static void finish(norm_layer *n, statistics *set) {
  if (set->finished) {
    return;
  }
  for (int c = 0; c < n->channels; c++) {
    double mean, var;
    norma_error error;
    check(n, norma_moments_finish(&set->gathered[c], 0, &mean, &var, &error), &error);
    set->mean[n->channels + c] = (float)mean;
    set->var[n->channels + c] = (float)var;
  }
  set->finished = true;
}

/* Given statistics in the type of the data; float64 data has float64 statistics. */
static const void *given_array(norm_layer *n, const float *from, int which) {
  if (REAL_TYPE == NORMA_F32) {
    return from;
  }
  double *to = layer_buffer(&n->base, NORM_GIVEN + which, (size_t)n->channels * sizeof *to);
  for (int c = 0; c < n->channels; c++) {
    to[c] = (double)from[c];
  }
  return to;
}

/* --------------------------------------------------------------------------------------------------- the calls --- */

static void prepare_slot(norm_layer *n, slot *s, tensor x) {
  int64_t units = norma_layer_units(&n->batch);
  if (s->saved_count < units) {
    free(s->saved);
    s->saved = engine_alloc((size_t)units * sizeof *s->saved);
    s->saved_count = units;
  }
  s->x = x;
}

void norm_run(layer *l, tensor x, real *y, phase phase, int slot_index, int set_index) {
  norm_layer *n = (norm_layer *)l;
  make_layers(n, x);
  slot *s = &n->slots[slot_index];
  prepare_slot(n, s, x);
  bool is_batch = n->spec.kind == NORM_BATCH;
  statistics *set = is_batch ? &n->sets[set_index] : NULL;
  bool given = is_batch && (phase == RUNNING || phase == PRECISE || (phase == TRAIN && n->spec.frozen));
  norma_forward_args args = {.size = sizeof args, .layer = given ? &n->given : &n->batch, .type = REAL_TYPE,
                             .x = x.at, .y = y, .weight = l->params[0].value, .bias = l->params[1].value,
                             .eps = 1e-5, .activation = n->spec.relu ? NORMA_RELU : NORMA_ACT_NONE};
  norma_moments *moments = NULL;
  s->given = given ? 1 + set_index : 0;
  if (given) {
    if (phase == PRECISE) {
      finish(n, set);
    }
    int offset = phase == PRECISE ? n->channels : 0;
    args.given_mean = given_array(n, set->mean + offset, 0);
    args.given_var = given_array(n, set->var + offset, 1);
  } else {
    args.saved = s->saved;
    if (is_batch && phase != BATCH) {
      moments = layer_buffer(l, NORM_MOMENTS, (size_t)norma_layer_units(&n->batch) * sizeof *moments);
      args.moments = moments;
    }
  }
  args.workspace_size = norma_forward_workspace(&args);
  args.workspace = layer_buffer(l, NORM_WORK, args.workspace_size);
  norma_error error;
  check(n, norma_forward(&args, &error), &error);
  if (moments != NULL) {
    update(n, set, moments, phase);
  }
}

void norm_back(layer *l, tensor dy, real *dx, int slot_index) {
  norm_layer *n = (norm_layer *)l;
  slot *s = &n->slots[slot_index];
  make_layers(n, s->x);
  real *dgamma = layer_reals(l, NORM_DGAMMA, n->channels), *dbeta = layer_reals(l, NORM_DBETA, n->channels);
  norma_backward_args args = {.size = sizeof args, .layer = s->given ? &n->given : &n->batch, .type = REAL_TYPE,
                              .x = s->x.at, .dy = dy.at, .dx = dx, .weight = l->params[0].value,
                              .dweight = dgamma, .dbias = dbeta, .eps = 1e-5};
  if (s->given) {
    args.given_mean = given_array(n, n->sets[s->given - 1].mean, 0);
    args.given_var = given_array(n, n->sets[s->given - 1].var, 1);
  } else {
    args.saved = s->saved;
  }
  args.workspace_size = norma_backward_workspace(&args);
  args.workspace = layer_buffer(l, NORM_WORK, args.workspace_size);
  norma_error error;
  check(n, norma_backward(&args, &error), &error);
  for (int c = 0; c < n->channels; c++) {
    l->params[0].grad[c] += dgamma[c];
    l->params[1].grad[c] += dbeta[c];
  }
}

static tensor norm_forward(layer *l, tensor x, phase phase) {
  real *y = layer_reals(l, NORM_Y, tensor_count(x));
  norm_run(l, x, y, phase, 0, 0);
  return tensor_like(x, y);
}

static tensor norm_backward(layer *l, tensor dy) {
  int64_t count = tensor_count(dy);
  real *dx = layer_reals(l, NORM_DX, count);
  if (((norm_layer *)l)->spec.relu) {
    const real *y = l->buffers[NORM_Y];
    for (int64_t i = 0; i < count; i++) {
      dx[i] = y[i] > 0 ? dy.at[i] : 0;
    }
    dy.at = dx;
  }
  norm_back(l, dy, dx, 0);
  return tensor_like(dy, dx);
}

static const layer_kind norm_layer_kind = {"norm", sizeof(norm_layer), norm_forward, norm_backward, free_norm};

bool layer_is_norm(const layer *l) { return l->kind == &norm_layer_kind; }

layer *norm(norm_spec spec, int channels) {
  if (spec.kind == NORM_NONE) {
    return spec.relu ? relu() : sequence(0);
  }
  layer *l = layer_new(&norm_layer_kind);
  norm_layer *n = (norm_layer *)l;
  n->spec = spec;
  n->channels = channels;
  param *gamma = layer_param(l, "gamma", channels);
  layer_param(l, "beta", channels);
  for (int c = 0; c < channels; c++) {
    gamma->value[c] = (real)(spec.gamma > 0 ? spec.gamma : 1);
  }
  norm_slots(l, 1, 1);
  return l;
}

/* ------------------------------------------------------------------------------------------------- whole nets --- */

static bool is_batch_norm(const layer *l) {
  return layer_is_norm(l) && ((const norm_layer *)l)->spec.kind == NORM_BATCH;
}

static void forget_visit(layer *l, void *context) {
  (void)context;
  if (is_batch_norm(l)) {
    norm_layer *n = (norm_layer *)l;
    for (int i = 0; i < n->set_count; i++) {
      memset(n->sets[i].gathered, 0, (size_t)n->channels * sizeof(norma_moments));
      n->sets[i].finished = false;
    }
  }
}

void norms_forget(layer *net) { layer_visit(net, forget_visit, NULL); }

static void freeze_visit(layer *l, void *context) {
  if (is_batch_norm(l)) {
    ((norm_layer *)l)->spec.frozen = *(bool *)context;
  }
}

void norms_freeze(layer *net, bool frozen) { layer_visit(net, freeze_visit, &frozen); }

static void find_visit(layer *l, void *context) { *(bool *)context |= is_batch_norm(l); }

bool net_has_batch_norm(layer *net) {
  bool found = false;
  layer_visit(net, find_visit, &found);
  return found;
}

float *norm_running_mean(layer *l) { return is_batch_norm(l) ? ((norm_layer *)l)->sets[0].mean : NULL; }

float *norm_running_var(layer *l) { return is_batch_norm(l) ? ((norm_layer *)l)->sets[0].var : NULL; }
