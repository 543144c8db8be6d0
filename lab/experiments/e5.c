/* E5: which learning rates does a net survive? */
#include <stdio.h>
#include <string.h>

#include "classify.h"

static const struct {
  const char *name;
  double rate;
} rates[] = {{"low", 0.03}, {"high", 1.0}, {"lr0.1", 0.1}, {"lr0.3", 0.3}, {"lr3", 3.0}};
static const char *const norms[] = {"none", "bn", "gn", "in", "ln"};
enum { RATES = 5, NORMS = 5, WIDTH = 8, SIDE = 14 };

static int list_arms(arm arms[EXPERIMENT_ARMS]) {
  int count = 0;
  for (int r = 0; r < RATES; r++) {
    for (int n = 0; n < NORMS; n++) {
      char name[40];
      snprintf(name, sizeof name, "%s_%s", norms[n], rates[r].name);
      count = arm_add(arms, count, name, rates[r].rate, false);
    }
  }
  return count;
}

static void run_e5(const run *run, result *result) {
  char norm_name[40];
  snprintf(norm_name, sizeof norm_name, "%.*s", (int)strcspn(run->arm.name, "_"), run->arm.name);
  norm_spec spec = norm_named(strcmp(norm_name, "gn") == 0 ? "gn4" : norm_name);
  rng weights = rng_new((uint64_t)run->seed, STREAM_WEIGHTS);
  pictures train_set = fashion_load(run->data, TRAINING, 8000, SIDE, false);
  pictures test_set = fashion_load(run->data, TEST, 9984, SIDE, false);
  layer *net = resnet(&weights, 1, WIDTH, 10, spec);
  training t = {.net = net, .set = &train_set, .steps = 500, .batch = 32, .rate = run->rate,
                .optimizer = {.kind = SGD, .momentum = 0.9, .decay = 5e-4}, .seed = (uint64_t)run->seed};
  result_config(result, "width", WIDTH);
  if (train(&t, result)) {
    judge_or_validate(&t, run, &test_set, result);
  }
  layer_free(net);
  pictures_free(&train_set);
  pictures_free(&test_set);
}

const experiment e5 = {.id = "E5",
                       .title = "which learning rates a net survives",
                       .headline = "train_loss_final",
                       .arms = list_arms,
                       .full_seeds = 3,
                       .seconds = {0, 7, 0},
                       .missing = fashion_missing,
                       .run = run_e5};
