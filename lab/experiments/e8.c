/* E8: how many groups, how many channels in a group? At three widths, so that the best number can be held against the
 * number of channels. */
#include <stdio.h>
#include <string.h>

#include "classify.h"

enum { SIDE = 14 };

static int list_arms(arm arms[EXPERIMENT_ARMS]) {
  static const int widths[] = {16, 32, 8};
  int count = 0;
  char name[40];
  for (int w = 0; w < 3; w++) {
    for (int groups = 1; groups <= widths[w]; groups *= 2) {
      snprintf(name, sizeof name, "w%d_g%d", widths[w], groups);
      count = arm_add(arms, count, name, 0.1, false);
      arms[count - 1].cost = widths[w] == 32 ? 3.2 : widths[w] == 16 ? 1 : 0.4;
    }
  }
  for (int size = 1; size <= 16; size *= 2) {
    snprintf(name, sizeof name, "w16_c%d", size);
    count = arm_add(arms, count, name, 0.1, false);
  }
  return count;
}

static void run_e8(const run *run, result *result) {
  bool tune = run->mode == TUNE;
  int width = number_after(run->arm.name, "w", 16);
  norm_spec spec = {.kind = NORM_GROUP, .groups = number_after(run->arm.name, "_g", 0),
                    .group_size = number_after(run->arm.name, "_c", 0)};
  rng weights = rng_new((uint64_t)run->seed, STREAM_WEIGHTS);
  pictures train_set = fashion_load(run->data, TRAINING, 6000, SIDE, false);
  pictures test_set = pictures_to_judge(run, 9984, SIDE);
  layer *net = resnet(&weights, 1, width, 10, spec);
  training t = {.net = net, .set = &train_set, .steps = tune ? 187 : 560, .batch = 32, .rate = run->rate,
                .optimizer = {.kind = SGD, .momentum = 0.9, .decay = 5e-4}, .seed = (uint64_t)run->seed};
  result_config(result, "width", width);
  if (train(&t, result)) {
    judge_or_validate(&t, run, &test_set, result);
  }
  layer_free(net);
  pictures_free(&train_set);
  pictures_free(&test_set);
}

const experiment e8 = {.id = "E8",
                       .title = "the number of groups and of channels per group, at three widths",
                       .headline = "test_error",
                       .arms = list_arms,
                       .rates = sgd_rates,
                       .full_seeds = 3,
                       .seconds = {0, 12, 4},
                       .missing = fashion_missing,
                       .run = run_e8};
