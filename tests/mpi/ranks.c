/*
 * Ranks against one process. Every rank knows the whole batch, normalizes it alone, then its own samples together with
 * the other ranks, and compares bit for bit.
 *
 *     mpirun -n 3 mpi_ranks split 5,0,1            prints the number of cases that agree
 *     mpirun -n 3 mpi_ranks fault KIND SECONDS DIR     see faults.c
 */
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ranks.h"

enum { MOST_RANKS = 64 };

void die(const char *format, ...) {
  va_list list;
  va_start(list, format);
  vfprintf(stderr, format, list);
  va_end(list);
  fputc('\n', stderr);
  MPI_Abort(MPI_COMM_WORLD, 1);
  exit(1);
}

void *room(size_t bytes) {
  void *made = calloc(1, bytes + 64);
  if (!made) die("no memory");
  return made;
}

static const struct {
  const char *pattern;
  int ndim;
  int64_t shape[4]; /* behind dimension 0 */
  int rms;
} layers[] = {{"[n] c [h w]", 4, {0, 5, 7, 3}, 0},
              {"[n] c [h w]", 4, {0, 300, 2, 2}, 0},
              {"[n] c [l]", 3, {0, 3, 5000}, 0},
              {"[n t] d", 3, {0, 6, 20}, 0},
              {"[n] c", 2, {0, 70}, 0},
              {"[n] c", 2, {0, 9}, 1},
              {"[n] c [h w]", 4, {0, 40, 1, 1}, 0},
              {"[n] c [h w]", 4, {0, 16, 5, 5}, 1}};

/* One layer, type and way of exchange. */
typedef struct trial {
  norma_layer whole, part;
  norma_type type;
  norma_activation activation;
  norma_sync_merge merge;
  bool promised;
  int rank, ranks;
  int64_t shards[MOST_RANKS], first;
  norma_sync *sync;
} trial;

typedef struct outputs {
  char *y, *dx;
  double *mean, *var, *dweight, *dbias;
  norma_saved *saved;
  norma_moments *moments;
} outputs;

static outputs make_outputs(const trial *t) {
  size_t units = (size_t)norma_layer_units(&t->whole), bytes = (size_t)norma_layer_elements(&t->whole) * 8;
  outputs o = {.y = room(bytes), .dx = room(bytes), .mean = room(units * 8), .var = room(units * 8)};
  o.dweight = room(units * 8), o.dbias = room(units * 8);
  o.saved = room(units * sizeof *o.saved), o.moments = room(units * sizeof *o.moments);
  return o;
}

static void free_outputs(outputs *o) {
  void *all[8] = {o->y, o->dx, o->mean, o->var, o->dweight, o->dbias, o->saved, o->moments};
  for (int i = 0; i < 8; i++) free(all[i]);
}

static void fill(norma_type type, void *to, int64_t n, unsigned seed, double mean) {
  for (int64_t i = 0; i < n; i++) {
    seed = seed * 1664525u + 1013904223u;
    double value = mean + (double)(seed >> 8) / 4194304.0 - 2;
    norma_from_double(type, &value, (char *)to + (size_t)i * norma_type_size(type), 1, 1);
  }
}

static void check(norma_status status, const norma_error *error) {
  if (status) die("%s: %s", norma_status_text(status), error->detail);
}

/* Tensors of the whole, and where this rank's samples begin in them. */
typedef struct data {
  char *x, *dy, *weight, *bias;
} data;

static norma_forward_args forward_of(const trial *t, const norma_layer *layer, const data *d, size_t skip,
                                     const outputs *o) {
  return (norma_forward_args){.size = sizeof(norma_forward_args), .layer = layer, .type = t->type, .x = d->x + skip,
                              .y = o->y + skip, .weight = d->weight, .bias = d->bias, .activation = t->activation,
                              .mean = o->mean, .var = o->var, .saved = o->saved, .moments = o->moments};
}

static norma_backward_args backward_of(const trial *t, const norma_layer *layer, const data *d, size_t skip,
                                       const outputs *o) {
  return (norma_backward_args){.size = sizeof(norma_backward_args), .layer = layer, .type = t->type, .x = d->x + skip,
                               .dy = d->dy + skip, .dx = o->dx + skip, .weight = d->weight, .bias = d->bias,
                               .activation = t->activation, .saved = o->saved, .dweight = o->dweight,
                               .dbias = o->dbias};
}

static void run_alone(const trial *t, const data *d, const outputs *o) {
  norma_error error;
  norma_forward_args f = forward_of(t, &t->whole, d, 0, o);
  check(norma_forward(&f, &error), &error);
  norma_backward_args b = backward_of(t, &t->whole, d, 0, o);
  check(norma_backward(&b, &error), &error);
}

static void run_together(const trial *t, const data *d, size_t skip, const outputs *o) {
  norma_error error;
  norma_forward_args f = forward_of(t, &t->part, d, skip, o);
  check(norma_sync_forward(&(norma_sync_forward_args){.size = sizeof(norma_sync_forward_args), .sync = t->sync,
                                                      .name = "norm", .forward = &f, .merge = t->merge,
                                                      .shards = t->promised ? t->shards : NULL},
                           &error),
        &error);
  norma_backward_args b = backward_of(t, &t->part, d, skip, o);
  check(norma_sync_backward(&(norma_sync_backward_args){.size = sizeof(norma_sync_backward_args), .sync = t->sync,
                                                        .name = "norm", .backward = &b, .merge = t->merge,
                                                        .shards = t->promised ? t->shards : NULL},
                            &error),
        &error);
}

static void same(const char *what, const void *got, const void *expected, size_t bytes) {
  if (memcmp(got, expected, bytes) != 0) die("%s differs from one process", what);
}

static void near(norma_type type, const char *what, const char *got, const char *expected, int64_t n) {
  static const double bounds[] = {[NORMA_F32] = 1e-5, [NORMA_F64] = 1e-11, [NORMA_F16] = 1e-2, [NORMA_BF16] = 1e-1};
  for (int64_t i = 0; i < n; i++) {
    double a, b;
    norma_to_double(type, got + (size_t)i * norma_type_size(type), 1, &a, 1);
    norma_to_double(type, expected + (size_t)i * norma_type_size(type), 1, &b, 1);
    if (!(fabs(a - b) <= bounds[type] * (1 + fabs(b)))) die("%s is %g, in one process %g", what, a, b);
  }
}

/* Added over the ranks, to 1e-6 of the largest addend. */
static void sums_agree(const trial *t, const char *what, const double *got, const double *expected) {
  norma_type type = norma_param_type(t->type);
  int64_t n = norma_layer_params(&t->whole);
  double *mine = room((size_t)n * 8), *all = room((size_t)n * 8), *alone = room((size_t)n * 8), scale = 0, most;
  norma_to_double(type, got, 1, mine, n);
  norma_to_double(type, expected, 1, alone, n);
  for (int64_t i = 0; i < n; i++) scale = fmax(scale, fabs(mine[i]));
  MPI_Allreduce(mine, all, (int)n, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  MPI_Allreduce(&scale, &most, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  for (int64_t i = 0; i < n; i++)
    if (!(fabs(all[i] - alone[i]) <= 1e-6 * most)) die("%s is %g, in one process %g", what, all[i], alone[i]);
  free(mine), free(all), free(alone);
}

static void compare(const trial *t, size_t skip, const outputs *got, const outputs *alone) {
  size_t units = (size_t)norma_layer_units(&t->whole), param = norma_type_size(norma_param_type(t->type));
  int64_t n = norma_layer_elements(&t->part);
  size_t bytes = (size_t)n * norma_type_size(t->type);
  if (t->merge == NORMA_SYNC_PER_SAMPLE) {
    same("y", got->y + skip, alone->y + skip, bytes);
    same("dx", got->dx + skip, alone->dx + skip, bytes);
    same("mean", got->mean, alone->mean, units * param);
    same("var", got->var, alone->var, units * param);
    same("moments", got->moments, alone->moments, units * sizeof *got->moments);
  } else {
    near(t->type, "y", got->y + skip, alone->y + skip, n);
    near(t->type, "dx", got->dx + skip, alone->dx + skip, n);
  }
  sums_agree(t, "dweight", got->dweight, alone->dweight);
  sums_agree(t, "dbias", got->dbias, alone->dbias);
}

static void run_trial(trial *t, size_t which) {
  int64_t shape[4], total = 0;
  norma_error error;
  t->first = 0;
  for (int r = 0; r < t->ranks; r++) {
    if (r < t->rank) t->first += t->shards[r];
    total += t->shards[r];
  }
  memcpy(shape, layers[which].shape, sizeof shape);
  const char *affine = layers[which].pattern[2] == ' ' ? "d" : "c"; /* "[n t] d" */
  shape[0] = total;
  check(norma_layer_parse(&t->whole, layers[which].pattern, affine, NULL, layers[which].ndim, shape, &error), &error);
  shape[0] = t->shards[t->rank];
  check(norma_layer_parse(&t->part, layers[which].pattern, affine, NULL, layers[which].ndim, shape, &error), &error);
  t->whole.rms = t->part.rms = layers[which].rms;
  int64_t n = norma_layer_elements(&t->whole), params = norma_layer_params(&t->whole);
  data d = {.x = room((size_t)n * 8), .dy = room((size_t)n * 8), .weight = room((size_t)params * 8)};
  d.bias = room((size_t)params * 8);
  fill(t->type, d.x, n, 1, 3), fill(t->type, d.dy, n, 2, 0);
  fill(norma_param_type(t->type), d.weight, params, 3, 1), fill(norma_param_type(t->type), d.bias, params, 4, 0);
  outputs alone = make_outputs(t), together = make_outputs(t);
  size_t skip = total > 0 ? (size_t)(n / total * t->first) * norma_type_size(t->type) : 0;
  run_alone(t, &d, &alone);
  run_together(t, &d, skip, &together);
  compare(t, skip, &together, &alone);
  free_outputs(&alone), free_outputs(&together);
  free(d.x), free(d.dy), free(d.weight), free(d.bias);
}

static int run_split(trial *t) {
  static const norma_type types[] = {NORMA_F32, NORMA_F64, NORMA_F16, NORMA_BF16};
  int cases = 0;
  for (size_t which = 0; which < sizeof layers / sizeof *layers; which++)
    for (int k = 0; k < 4; k++)
      for (int way = 0; way < 8; way++, cases++) {
        t->type = types[k];
        t->activation = way & 1 ? NORMA_SILU : NORMA_ACT_NONE;
        t->promised = way & 2;
        t->merge = way & 4 ? NORMA_SYNC_PER_RANK : NORMA_SYNC_PER_SAMPLE;
        run_trial(t, which);
      }
  return cases;
}

int main(int argc, char **argv) {
  trial t = {.rank = 0};
  norma_exchange exchange;
  norma_error error;
  MPI_Init(&argc, &argv);
  norma_set_num_threads(1);
  if (argc == 5 && strcmp(argv[1], "fault") == 0) run_fault(argv[2], atof(argv[3]), argv[4]);
  if (argc != 3 || strcmp(argv[1], "split") != 0) die("usage: mpi_ranks split N,N,... or fault KIND SECONDS DIR");
  check(norma_mpi_open(&exchange, MPI_COMM_WORLD, 120, &error), &error);
  check(norma_sync_new(&t.sync, &exchange, &error), &error);
  t.rank = exchange.rank, t.ranks = exchange.ranks;
  char *at = argv[2];
  for (int r = 0; r < t.ranks && r < MOST_RANKS; r++, at += *at == ',') t.shards[r] = strtol(at, &at, 10);
  if (*at) die("%s are not %d shards", argv[2], t.ranks);
  int cases = run_split(&t);
  norma_sync_free(t.sync);
  norma_mpi_close(&exchange);
  if (t.rank == 0) printf("%d cases agree\n", cases);
  MPI_Finalize();
  return 0;
}
