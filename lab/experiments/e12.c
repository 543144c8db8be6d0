/* E12: norms in an LSTM that reads pictures row by row, at two batch sizes, and on sequences twice as long as those it
 * was trained on. */
#include <stdio.h>
#include <string.h>

#include "classify.h"

enum { HIDDEN = 64, SIDE = 28 };

static const char *const norms[] = {"none", "ln", "bn", "bn_gamma1", "bn_shared"};

static int list_arms(arm arms[EXPERIMENT_ARMS]) {
  int count = 0;
  for (int batch = 32; batch >= 4; batch -= 28) {
    for (int n = 0; n < 5; n++) {
      char name[40];
      snprintf(name, sizeof name, "%s_b%d", norms[n], batch);
      count = arm_add(arms, count, name, batch == 32 ? 0.01 : 0.003, false);
      arms[count - 1].cost = batch == 32 ? 1 : 0.5;
    }
  }
  return count;
}

static lstm_options options_of(const char *name) {
  lstm_options o = {.norm = {.kind = NORM_NONE}};
  if (strncmp(name, "ln", 2) == 0) {
    o.norm.kind = NORM_LAYER;
  } else if (strncmp(name, "bn", 2) == 0) {
    o.norm = (norm_spec){.kind = NORM_BATCH, .gamma = strstr(name, "gamma1") != NULL ? 1 : 0.1};
    o.steps = strstr(name, "shared") != NULL ? 0 : SIDE;
  }
  return o;
}

static void run_e12(const run *run, result *result) {
  bool tune = run->mode == TUNE;
  int batch = strcmp(run->arm.name + strlen(run->arm.name) - 4, "_b32") == 0 ? 32 : 4;
  lstm_options options = options_of(run->arm.name);
  rng weights = rng_new((uint64_t)run->seed, STREAM_WEIGHTS);
  pictures train_set = fashion_load(run->data, TRAINING, 16000, SIDE, false);
  pictures test_set = pictures_to_judge(run, 4992, SIDE);
  layer *net = sequence(3, lstm(&weights, SIDE, HIDDEN, options), last_step(), linear(&weights, HIDDEN, 10, true));
  int64_t steps = batch == 32 ? 500 : 1500;
  training t = {.net = net, .set = &train_set, .steps = tune ? steps / 3 : steps, .batch = batch, .rate = run->rate,
                .optimizer = {.kind = ADAM}, .seed = (uint64_t)run->seed, .steps_per_row = 1};
  result_config(result, "hidden", HIDDEN);
  result_config(result, "first_gamma", options.norm.gamma > 0 ? options.norm.gamma : 1);
  bool finite = train(&t, result);
  if (finite && tune) {
    judge_or_validate(&t, run, &test_set, result);
  } else if (finite) {
    gather_statistics(&t);
    judge(&t, &test_set, "test_error", "", 1, result);
    judge(&t, &test_set, "test_error", "_long", 2, result);
  }
  layer_free(net);
  pictures_free(&train_set);
  pictures_free(&test_set);
}

const experiment e12 = {.id = "E12",
                        .title = "norms in an LSTM: small batches, longer sequences",
                        .headline = "test_error",
                        .arms = list_arms,
                        .rates = adam_rates,
                        .full_seeds = 3,
                        .seconds = {0, 12, 4},
                        .missing = fashion_missing,
                        .run = run_e12};
