/* E1: what survives the layer? Each picture is dimmed or lifted by one of three amounts, and a small net has to say by
 * which. What a layer removes cannot be read after it. */
#include <math.h>
#include <string.h>

#include "classify.h"

enum { LEVELS = 3, BATCH_SIZE = 64, TEST_COUNT = 1280 };

static const char *const tasks[2] = {"accuracy_contrast", "accuracy_brightness"};
static const double contrast[LEVELS] = {0.4, 0.7, 1.0}, brightness[LEVELS] = {-0.3, 0.0, 0.3};

static int list_arms(arm arms[EXPERIMENT_ARMS]) {
  static const char *const names[] = {"bn", "ln", "gn", "in", "none", "pixel_ln"};
  int count = 0;
  for (int i = 0; i < 6; i++) {
    count = arm_add(arms, count, names[i], 0.01, i < 5);
  }
  return count;
}

/* Applies a random level to each picture; the level becomes its label. */
static void apply_levels(pictures *p, int task, rng *r) {
  int64_t size = picture_size(p);
  for (int64_t i = 0; i < p->count; i++) {
    int level = (int)rng_below(r, LEVELS);
    real *at = p->pixels + i * size;
    for (int64_t j = 0; j < size; j++) {
      at[j] = (real)(task == 0 ? (double)at[j] * contrast[level] : (double)at[j] + brightness[level]);
    }
    p->labels[i] = level;
  }
}

/* Two convolutions, each with its norm. The edge is replicated: zeros beyond it would give the brightness away. */
static layer *make_net(rng *r, norm_spec spec) {
  spec.relu = true;
  layer *net = sequence(2, conv(r, 1, 8, 3, 1, PAD_REPLICATE, false), norm(spec, 8));
  net->children[0]->no_dx = true;
  sequence_add(net, conv(r, 8, 16, 3, 2, PAD_REPLICATE, true));
  sequence_add(net, norm(spec, 16));
  sequence_add(net, global_mean());
  sequence_add(net, linear(r, 16, LEVELS, true));
  return net;
}

/* In a tuning run adds half of its error to *validation. */
static void run_task(const run *run, int task, double *validation, result *result) {
  bool quick = run->mode == QUICK, tune = run->mode == TUNE;
  int64_t steps = quick ? 100 : tune ? 150 : 300;
  rng weights = rng_new((uint64_t)run->seed, STREAM_WEIGHTS), levels = rng_new((uint64_t)run->seed, STREAM_NOISE);
  pictures train_set = fashion_load(run->data, TRAINING, steps * BATCH_SIZE, quick ? 14 : 28, true);
  pictures test_set = fashion_load(run->data, tune ? VALIDATION : TEST, TEST_COUNT, quick ? 14 : 28, true);
  apply_levels(&train_set, task, &levels);
  apply_levels(&test_set, task, &levels);
  layer *net = make_net(&weights, norm_named(strcmp(run->arm.name, "gn") == 0 ? "gn4" : run->arm.name));
  training t = {.net = net, .set = &train_set, .steps = steps, .batch = BATCH_SIZE, .rate = run->rate,
                .optimizer = {.kind = ADAM}, .seed = (uint64_t)run->seed};
  if (!train(&t, result)) {
    *validation = NAN;
  } else if (tune) {
    *validation += test_error(net, &test_set, BATCH_SIZE, RUNNING, 0) / 2;
  } else {
    gather_statistics(&t);
    judge(&t, &test_set, tasks[task], "", 0, result);
  }
  layer_free(net);
  pictures_free(&train_set);
  pictures_free(&test_set);
}

static void run_e1(const run *run, result *result) {
  double validation = 0;
  for (int task = 0; task < 2; task++) {
    run_task(run, task, &validation, result);
  }
  if (run->mode == TUNE) {
    result_metric(result, "validation_error", validation);
  }
}

const experiment e1 = {.id = "E1",
                       .title = "what survives the layer: reading contrast and brightness after it",
                       .headline = "accuracy_contrast",
                       .arms = list_arms,
                       .rates = adam_rates,
                       .quick_seeds = 3,
                       .full_seeds = 5,
                       .seconds = {0.5, 4, 2},
                       .missing = fashion_missing,
                       .run = run_e1};
