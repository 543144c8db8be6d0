/* Training and judging a classifier: what most experiments do. */
#ifndef LAB_CLASSIFY_H
#define LAB_CLASSIFY_H

#include "experiment.h"
#include "fashion.h"

/* The streams of random numbers of a run. */
enum { STREAM_WEIGHTS = 1, STREAM_ORDER, STREAM_NOISE, STREAM_FLIP };

typedef struct training {
  layer *net;
  const pictures *set;
  int64_t steps;
  int batch;
  double rate;                /* the peak of one cycle */
  optimizer optimizer;
  bool flip;                  /* left and right, half of the pictures */
  uint64_t seed;
  /* Puts the pictures of one batch into another order, or fills in other labels. May be NULL. */
  void (*arrange)(const pictures *set, int32_t *indices, int count);
  /* Called after backward, before the step. May be NULL. */
  void (*watch)(void *context, const struct training *t, int64_t step, tensor x, const int32_t *labels);
  void *context;
  const char *curve;          /* name of the curve of the loss; NULL: train_loss */
  int steps_per_row;          /* > 0: pictures are sequences, each row given that many times */
} training;

/* Trains; adds the curve and metrics train_loss_final and diverged, and the settings to config. False if the
 * loss is not finite any more: then there is nothing to judge. */
bool train(const training *t, result *result);

/* The batch of a picture set with these indices, in `pixels`; rows > 0: as a sequence (n, side * rows, side). */
tensor picture_batch(const pictures *set, const int32_t *indices, int count, int rows, real *pixels, int32_t *labels);

/* Error in percent on as many pictures as fill whole batches. */
double test_error(layer *net, const pictures *set, int batch, phase phase, int rows);
/* Lets PreciseBN see 2,048 training pictures. */
void gather_statistics(const training *t);
/* What is measured on a test set: test_error, or another that takes the same. */
typedef double (*test_measure)(layer *net, const pictures *set, int batch, phase phase, int rows);
/* The measure as metric NAME, and for a net with batch norm as NAME_running, NAME_precise and NAME_batch (batches of
 * t->batch). After gather_statistics. `suffix` ("" or "_long") ends each. */
void judge_by(test_measure measure, const training *t, const pictures *test, const char *name, const char *suffix,
              int rows, result *result);
/* The same for errors, or accuracies if the name begins with that word. */
void judge(const training *t, const pictures *test, const char *name, const char *suffix, int rows, result *result);

/* What a run is judged on: `count` test pictures, or in a tuning run the validation set as far as it fills batches. */
pictures pictures_to_judge(const run *run, int64_t count, int side);
/* In mode TUNE the metric validation_error, with running statistics; else judge for "test_error". */
void judge_or_validate(const training *t, const run *run, const pictures *test, result *result);
/* The norm of that name, or the end of the process. */
norm_spec norm_named(const char *name);
/* The number behind `mark` in an arm's name ("_b" in gn_real_b8: 8), or `otherwise`. */
int number_after(const char *name, const char *mark, int otherwise);

#endif
