/* E2: batch norm with ever smaller batches. SGD keeps its batch of 32; only the samples that share statistics become
 * fewer (ghost groups), so nothing but the norm changes. In the arms named real the batch of SGD shrinks, too, and the
 * learning rate with it. */
#include <string.h>

#include "classify.h"

static int list_arms(arm arms[EXPERIMENT_ARMS]) {
  static const struct {
    const char *name;
    double rate;
    bool quick;
  } table[] = {{"bn_b32", 0.1, true},      {"bn_b4", 0.1, false},       {"bn_b1", 0.1, true},   {"in", 0.1, true},
               {"gn", 0.3, true},          {"none", 0.03, false},       {"bn_b16", 0.1, false}, {"bn_b8", 0.1, false},
               {"bn_b2", 0.1, false},      {"ln", 0.1, false},         {"pixel_ln", 0.1, false},
               {"bn_real_b8", 0.1, false}, {"bn_real_b2", 0.1, false}, {"gn_real_b8", 0.1, false},
               {"gn_real_b2", 0.1, false}};
  int count = 0;
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    count = arm_add(arms, count, table[i].name, table[i].rate, table[i].quick);
  }
  return count;
}

static norm_spec spec_of(const char *name, int width, result *result) {
  if (strncmp(name, "gn", 2) == 0) {
    result_config(result, "groups", width / 2);
    return (norm_spec){.kind = NORM_GROUP, .groups = width / 2};
  }
  return norm_named(strstr(name, "_real_") != NULL ? "bn" : name);
}

static void run_e2(const run *run, result *result) {
  bool quick = run->mode == QUICK;
  int width = quick ? 8 : 16, side = quick ? 14 : 28;
  bool real_batch = strstr(run->arm.name, "_real_") != NULL;
  int batch = real_batch ? number_after(run->arm.name, "_b", 32) : 32;
  int64_t samples = quick ? 6400 : run->mode == FULL ? 12000 : 3200;
  rng weights = rng_new((uint64_t)run->seed, STREAM_WEIGHTS);
  pictures train_set = fashion_load(run->data, TRAINING, quick ? 6400 : 6000, side, false);
  pictures test_set = pictures_to_judge(run, quick ? 1280 : 9984, side);
  layer *net = resnet(&weights, 1, width, 10, spec_of(run->arm.name, width, result));
  training t = {.net = net, .set = &train_set, .steps = samples / batch, .batch = batch,
                .rate = run->rate * batch / 32, .optimizer = {.kind = SGD, .momentum = 0.9, .decay = 5e-4},
                .seed = (uint64_t)run->seed};
  result_config(result, "width", width);
  if (train(&t, result)) {
    judge_or_validate(&t, run, &test_set, result);
  }
  layer_free(net);
  pictures_free(&train_set);
  pictures_free(&test_set);
}

const experiment e2 = {.id = "E2",
                       .title = "batch norm with ever fewer samples that share statistics",
                       .headline = "test_error",
                       .arms = list_arms,
                       .rates = sgd_rates,
                       .quick_seeds = 3,
                       .full_seeds = 3,
                       .seconds = {1.4, 28, 8},
                       .missing = fashion_missing,
                       .run = run_e2};
