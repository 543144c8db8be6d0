/* E3: segmentation with batches of 16, 2 and 1 pictures. The batch of the optimizer is the batch of the statistics, as
 * in detection and segmentation, where large pictures leave no room for more. */
#include <stdio.h>
#include <string.h>

#include "segment.h"

/* Batch norm costs more: its population statistics take another pass over training pictures. */
static int add(arm *arms, int count, const char *mark, const char *norm, int batch, bool quick) {
  char name[40];
  snprintf(name, sizeof name, "%s%s_b%d", mark, norm, batch);
  count = arm_add(arms, count, name, segment_rate(batch), quick);
  arms[count - 1].cost = strcmp(norm, "bn") == 0 ? 1.5 : 1;
  return count;
}

static int list_arms(arm arms[EXPERIMENT_ARMS]) {
  static const char *const norms[] = {"bn", "gn", "in", "ln", "none"};
  static const int batches[] = {1, 2, 16};
  int count = 0;
  for (int b = 0; b < 3; b++) {
    for (int n = 0; n < 5; n++) {
      count = add(arms, count, "", norms[n], batches[b], b == 0 && n < 2);
      arms[count - 1].seeds = n < 2 ? 0 : 3;
    }
  }
  for (int b = 0; b < 3; b += 2) {
    for (int n = 0; n < 2; n++) {
      count = add(arms, count, "plain_", norms[n], batches[b], false);
      arms[count - 1].seeds = 3;
    }
  }
  return count;
}

static const char *missing(const char *data) { return scenes_own(data) ? NULL : scenes_missing(data); }

static void run_e3(const run *run, result *result) {
  bool quick = run->mode == QUICK, tune = run->mode == TUNE, own = scenes_own(run->data);
  bool plain = strncmp(run->arm.name, "plain_", 6) == 0;
  int width = 8, batch = number_after(run->arm.name, "_b", 1);
  scene_options kind = {.side = quick ? 32 : 48, .jitter = !plain, .seed = (uint64_t)run->seed};
  rng weights = rng_new((uint64_t)run->seed, STREAM_WEIGHTS);
  int64_t samples = quick ? 800 : tune ? 1200 : 2400;
  scenes train_scenes = own ? scenes_read(run->data, false) : scenes_make(run->data, samples, kind);
  pictures train_set = scenes_as_pictures(train_scenes), test_set;
  if (tune) {
    test_set = take_last(&train_set, train_set.count / 4);
  } else {
    kind.held_out = true;
    test_set = scenes_as_pictures(own ? scenes_read(run->data, true) : scenes_make(run->data, 400, kind));
  }
  norm_spec spec = segment_norm(run->arm.name + (plain ? 6 : 0), width / 2);
  layer *net = unet(&weights, train_set.channels, width, 3, train_scenes.classes, spec);
  training t = {.net = net, .set = &train_set, .steps = samples / batch, .batch = batch, .rate = run->rate,
                .optimizer = {.kind = ADAM}, .seed = (uint64_t)run->seed};
  result_config(result, "width", width);
  if (spec.kind == NORM_GROUP) {
    result_config(result, "groups", spec.groups);
  }
  result_config(result, "test_pictures", (double)test_set.count);
  result_config_text(result, "scenes", own ? "own" : plain ? "plain" : "jittered");
  bool finite = train(&t, result);
  if (finite && tune) {
    result_metric(result, "validation_error", 100 - mean_iou(net, &test_set, 32, RUNNING, 0));
  } else if (finite) {
    gather_statistics(&t);
    judge_by(mean_iou, &t, &test_set, "miou", "", 0, result);
  }
  layer_free(net);
  pictures_free(&train_set);
  pictures_free(&test_set);
}

const experiment e3 = {.id = "E3",
                       .title = "segmentation with batches of 16, 2 and 1 pictures",
                       .headline = "miou",
                       .arms = list_arms,
                       .rates = adam_rates,
                       .quick_seeds = 3,
                       .full_seeds = 5,
                       .seconds = {2.2, 10, 5},
                       .missing = missing,
                       .run = run_e3};
