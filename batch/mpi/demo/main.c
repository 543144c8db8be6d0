/*
 * norma-sync-demo: a small net on Fashion-MNIST, trained by one process, then by all ranks together. Each rank has its
 * own part of every batch, of different sizes; batch norm takes the statistics of all; gradients are added up.
 *
 *     mpirun -n 4 norma-sync-demo            losses side by side, and how far they agree
 *     mpirun -n 4 norma-sync-demo --bench    what synchronization costs on this machine
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab/data/idx.h"
#include "sync_norm.h"

enum { SAMPLES = 192, STEPS = 60, SIDE = 14, PIXELS = SIDE * SIDE, CLASSES = 10, TESTED = 1000, PROMISED_DIGITS = 4 };

void demo_die(const char *format, ...) {
  va_list list;
  va_start(list, format);
  fputs("norma-sync-demo: ", stderr);
  vfprintf(stderr, format, list);
  va_end(list);
  fputc('\n', stderr);
  MPI_Abort(MPI_COMM_WORLD, 1);
  exit(1);
}

/* -------------------------------------------------------------------------------------------------------- data --- */

typedef struct pictures {
  float *pixels;
  int32_t *labels;
} pictures;

/* The first `count`, each pixel the mean of four, about -1 to 1. */
static pictures load(const char *images_name, const char *labels_name, int count) {
  char error[IDX_ERROR];
  unsigned char *pixels, *labels;
  uint32_t pixel_count, label_count;
  const char *folder = idx_folder();
  if (!folder) demo_die("%s is not there: install the package %s", idx_standard_folder, IDX_PACKAGE);
  if (!idx_read(folder, images_name, IDX_SIDE, (uint32_t)count, &pixels, &pixel_count, error) ||
      !idx_read(folder, labels_name, 0, (uint32_t)count, &labels, &label_count, error))
    demo_die("%s", error);
  if (pixel_count < (uint32_t)count || label_count < (uint32_t)count) demo_die("%s has too few pictures", folder);
  pictures p = {engine_alloc((size_t)count * PIXELS * sizeof(float)), engine_alloc((size_t)count * sizeof(int32_t))};
  for (int i = 0; i < count; i++) {
    p.labels[i] = labels[i];
    for (int k = 0; k < PIXELS; k++) {
      const unsigned char *at = pixels + (size_t)i * IDX_SIDE * IDX_SIDE + k / SIDE * 2 * IDX_SIDE + k % SIDE * 2;
      p.pixels[(size_t)i * PIXELS + (size_t)k] = (float)(at[0] + at[1] + at[IDX_SIDE] + at[IDX_SIDE + 1]) / 510 - 1;
    }
  }
  free(pixels);
  free(labels);
  return p;
}

/* -------------------------------------------------------------------------------------------------------- train --- */

/* Three convolutions, each with batch norm; one more on the features of a picture, (n, c) alone. */
static layer *make_net(norma_sync *sync) {
  rng r = rng_new(7, 1);
  layer *first = conv(&r, 1, 8, 3, 1, PAD_ZERO, false);
  first->no_dx = true;
  layer *net = sequence(2, first, sync_norm(sync, "conv1.norm", 8));
  sequence_add(net, conv(&r, 8, 16, 3, 2, PAD_ZERO, false));
  sequence_add(net, sync_norm(sync, "conv2.norm", 16));
  sequence_add(net, conv(&r, 16, 32, 3, 2, PAD_ZERO, false));
  sequence_add(net, sync_norm(sync, "conv3.norm", 32));
  sequence_add(net, global_mean());
  sequence_add(net, linear(&r, 32, 32, false));
  sequence_add(net, sync_norm(sync, "head.norm", 32));
  sequence_add(net, linear(&r, 32, CLASSES, true));
  return net;
}

/* Ranks and the samples of a batch that are this one's. */
typedef struct share {
  MPI_Comm comm;
  norma_sync *sync;
  int first, count;
} share;

/* All alike but that the first gives half of its samples to the last. */
static void divide(share *s, int rank, int ranks) {
  int given = ranks > 1 ? SAMPLES / ranks / 2 : 0;
  s->first = SAMPLES * rank / ranks - (rank > 0 ? given : 0);
  int end = SAMPLES * (rank + 1) / ranks - (rank + 1 < ranks ? given : 0);
  s->count = end - s->first;
}

/* The gradients of the whole batch: each rank has the part that its samples add. */
static void add_gradients(layer *net, MPI_Comm comm) {
  int count = (int)param_total(net);
  float *grad = engine_alloc((size_t)count * sizeof *grad);
  gradients_read(net, grad);
  MPI_Allreduce(MPI_IN_PLACE, grad, count, MPI_FLOAT, MPI_SUM, comm);
  gradients_write(net, grad);
  free(grad);
}

static double train(const share *s, const pictures *data, const pictures *test, double *losses) {
  layer *net = make_net(s->sync);
  optimizer sgd = {.kind = SGD, .momentum = 0.9, .decay = 5e-4};
  real *dy = engine_alloc((size_t)(s->count + 1) * CLASSES * sizeof *dy);
  for (int step = 0; step < STEPS; step++) {
    size_t from = (size_t)(step * SAMPLES + s->first);
    tensor y = forward(net, tensor4(data->pixels + from * PIXELS, s->count, 1, SIDE, SIDE), TRAIN);
    double loss = s->count > 0 ? s->count * cross_entropy(y, data->labels + from, dy, NULL) : 0;
    for (int i = 0; i < s->count * CLASSES; i++) dy[i] *= (real)s->count / SAMPLES; /* the mean is over the batch */
    backward(net, tensor_like(y, dy));
    add_gradients(net, s->comm);
    optimizer_step(&sgd, net, one_cycle(step, STEPS, 0.1));
    MPI_Allreduce(MPI_IN_PLACE, &loss, 1, MPI_DOUBLE, MPI_SUM, s->comm);
    losses[step] = loss / SAMPLES;
  }
  int64_t hits;
  tensor y = forward(net, tensor4(test->pixels, TESTED, 1, SIDE, SIDE), RUNNING);
  cross_entropy(y, test->labels, NULL, &hits);
  layer_free(net);
  free(dy);
  return (double)hits / TESTED;
}

/* A share with its exchange, used and given back. */
static double train_on(MPI_Comm comm, const pictures *data, const pictures *test, double *losses) {
  norma_exchange exchange;
  norma_error error;
  share s = {.comm = comm};
  if (norma_mpi_open(&exchange, comm, 60, &error) || norma_sync_new(&s.sync, &exchange, &error))
    demo_die("%s", error.detail);
  divide(&s, exchange.rank, exchange.ranks);
  double hits = train(&s, data, test, losses);
  norma_sync_free(s.sync);
  norma_mpi_close(&exchange);
  return hits;
}

/* ------------------------------------------------------------------------------------------------------ compare --- */

/* Prints the losses; the number of digits to which all agree. */
static int compare(int ranks, const double *alone, const double *together) {
  double worst = 0;
  printf("step   one process   %d %s   difference\n", ranks, ranks == 1 ? "rank   " : "ranks  ");
  for (int step = 0; step < STEPS; step++) {
    double difference = fabs(together[step] - alone[step]);
    worst = fmax(worst, difference / alone[step]);
    if (step % 10 == 0 || step == STEPS - 1)
      printf("%4d   %11.8f   %9.8f   %.1e\n", step, alone[step], together[step], difference);
  }
  return worst > 0 ? (int)floor(-log10(2 * worst)) : 15;
}

static int run_demo(int rank, int ranks) {
  double alone[STEPS], together[STEPS], hits[2] = {0};
  pictures data = load("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", SAMPLES * STEPS);
  pictures test = load("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", TESTED);
  if (rank == 0) hits[0] = train_on(MPI_COMM_SELF, &data, &test, alone);
  hits[1] = train_on(MPI_COMM_WORLD, &data, &test, together);
  int digits = rank == 0 ? compare(ranks, alone, together) : 0;
  if (rank == 0) {
    printf("the losses of %d steps agree to %d digits, %d are promised\n", STEPS, digits, PROMISED_DIGITS);
    printf("accuracy on %d test pictures: one process %.3f, %d ranks %.3f\n", TESTED, hits[0], ranks, hits[1]);
  }
  MPI_Bcast(&digits, 1, MPI_INT, 0, MPI_COMM_WORLD);
  free(data.pixels), free(data.labels), free(test.pixels), free(test.labels);
  return digits >= PROMISED_DIGITS ? 0 : 1;
}

int main(int argc, char **argv) {
  int rank, ranks;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  engine_start();
  if (ranks > SAMPLES) demo_die("%d ranks for a batch of %d: at most as many as samples are right", ranks, SAMPLES);
  if (argc > 2 || (argc == 2 && strcmp(argv[1], "--bench") != 0)) demo_die("usage: norma-sync-demo [--bench]");
  int status = argc == 2 ? run_bench() : run_demo(rank, ranks);
  MPI_Finalize();
  return status;
}
