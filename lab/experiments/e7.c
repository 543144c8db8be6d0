/* E7: batch norm reads its neighbours. The batch of SGD is random as always; within it the groups that share statistics
 * are either random, or pictures of one class as far as that goes. Only training can use what a group betrays. */
#include <stdlib.h>
#include <string.h>

#include "classify.h"

static int list_arms(arm arms[EXPERIMENT_ARMS]) {
  static const char *const names[] = {"bn_random", "bn_sorted", "bn_random_b16", "bn_sorted_b16"};
  int count = 0;
  for (int i = 0; i < 4; i++) {
    count = arm_add(arms, count, names[i], 0.1, i < 2);
  }
  return count;
}

/* Groups are neighbours in the batch: sorting by class makes them alike. Stable, so that nothing else changes. */
static void sort_by_class(const pictures *set, int32_t *indices, int count) {
  for (int i = 1; i < count; i++) {
    int32_t held = indices[i];
    int j = i;
    for (; j > 0 && set->labels[indices[j - 1]] > set->labels[held]; j--) {
      indices[j] = indices[j - 1];
    }
    indices[j] = held;
  }
}

/* The test set in batches of one class, as far as each class has pictures for whole batches. */
static double one_class_error(const training *t, const pictures *test) {
  pictures sorted = *test;
  int64_t size = picture_size(test), count = 0;
  sorted.pixels = engine_alloc((size_t)(test->count * size) * sizeof(real));
  sorted.labels = engine_alloc((size_t)test->count * sizeof *sorted.labels);
  for (int class = 0; class < 10; class++) {
    int64_t first = count;
    for (int64_t i = 0; i < test->count; i++) {
      if (test->labels[i] == class) {
        memcpy(sorted.pixels + count * size, test->pixels + i * size, (size_t)size * sizeof(real));
        sorted.labels[count++] = class;
      }
    }
    count = first + (count - first) / t->batch * t->batch;
  }
  sorted.count = count;
  double error = test_error(t->net, &sorted, t->batch, BATCH, 0);
  pictures_free(&sorted);
  return error;
}

static void run_e7(const run *run, result *result) {
  bool quick = run->mode == QUICK, sorted = strstr(run->arm.name, "sorted") != NULL;
  int width = quick ? 8 : 16, side = quick ? 14 : 28, batch = 64;
  int group = number_after(run->arm.name, "_b", 8);
  rng weights = rng_new((uint64_t)run->seed, STREAM_WEIGHTS);
  pictures train_set = fashion_load(run->data, TRAINING, 16000, side, false);
  pictures test_set = fashion_load(run->data, TEST, quick ? 1280 : 9984, side, false);
  layer *net = resnet(&weights, 1, width, 10, (norm_spec){.kind = NORM_BATCH, .ghost = group});
  training t = {.net = net, .set = &train_set, .steps = quick ? 250 : 400, .batch = batch, .rate = run->rate,
                .optimizer = {.kind = SGD, .momentum = 0.9, .decay = 5e-4}, .seed = (uint64_t)run->seed,
                .arrange = sorted ? sort_by_class : NULL};
  result_config(result, "width", width);
  result_config(result, "group", group);
  if (train(&t, result)) {
    judge_or_validate(&t, run, &test_set, result);
    result_metric(result, "test_error_one_class", one_class_error(&t, &test_set));
  }
  layer_free(net);
  pictures_free(&train_set);
  pictures_free(&test_set);
}

const experiment e7 = {.id = "E7",
                       .title = "batch norm reads its neighbours: groups of one class in training",
                       .headline = "test_error",
                       .arms = list_arms,
                       .quick_seeds = 3,
                       .full_seeds = 3,
                       .seconds = {3.5, 60, 0},
                       .missing = fashion_missing,
                       .run = run_e7};
