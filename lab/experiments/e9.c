/* E9: the four layers in a classifier, each with the learning rate that suits it. */
#include <string.h>

#include "classify.h"

enum { WIDTH = 16, SIDE = 28 };

static int list_arms(arm arms[EXPERIMENT_ARMS]) {
  static const struct {
    const char *name;
    double rate;
  } table[] = {{"bn", 0.1}, {"in", 0.1}, {"gn", 0.3}, {"ln", 0.1}, {"pixel_ln", 0.1}, {"none", 0.03}};
  int count = 0;
  for (int i = 0; i < 6; i++) {
    count = arm_add(arms, count, table[i].name, table[i].rate, false);
  }
  return count;
}

static void run_e9(const run *run, result *result) {
  bool tune = run->mode == TUNE;
  norm_spec spec = norm_named(strcmp(run->arm.name, "gn") == 0 ? "gn8" : run->arm.name);
  rng weights = rng_new((uint64_t)run->seed, STREAM_WEIGHTS);
  pictures train_set = fashion_load(run->data, TRAINING, 10000, SIDE, false);
  pictures test_set = pictures_to_judge(run, 9984, SIDE);
  layer *net = resnet(&weights, 1, WIDTH, 10, spec);
  training t = {.net = net, .set = &train_set, .steps = tune ? 156 : 624, .batch = 32, .rate = run->rate,
                .optimizer = {.kind = SGD, .momentum = 0.9, .decay = 5e-4}, .flip = true,
                .seed = (uint64_t)run->seed};
  result_config(result, "width", WIDTH);
  if (spec.kind == NORM_GROUP) {
    result_config(result, "groups", spec.groups);
  }
  if (train(&t, result)) {
    judge_or_validate(&t, run, &test_set, result);
  }
  layer_free(net);
  pictures_free(&train_set);
  pictures_free(&test_set);
}

const experiment e9 = {.id = "E9",
                       .title = "the four layers in a classifier, learning rates tuned",
                       .headline = "test_error",
                       .arms = list_arms,
                       .rates = sgd_rates,
                       .full_seeds = 3,
                       .seconds = {0, 45, 12},
                       .missing = fashion_missing,
                       .run = run_e9};
