/* E17: fine-tuning with one picture at a time. A net is trained at home with batches of 16, then goes on with a few
 * scenes of another world (other symbols, other photographs, other colours) at batch 1: with batch norm that goes on
 * gathering statistics (live), with the statistics of home (frozen), with group norm, with group norm in the head. */
#include <string.h>

#include "segment.h"

enum { WIDTH = 8, LEVELS = 3 };

/* Quick mode leaves E17 out; the small size is for the tests. */
typedef struct size {
  int side;
  int64_t home_scenes, away_scenes, away_steps, test_scenes;
} size;

static const size sizes[] = {[QUICK] = {16, 64, 20, 40, 40}, [FULL] = {48, 2400, 200, 800, 400}};

static int list_arms(arm arms[EXPERIMENT_ARMS]) {
  static const char *const names[] = {"bn_live", "bn_frozen", "gn", "gn_head"};
  int count = 0;
  for (int i = 0; i < 4; i++) {
    count = arm_add(arms, count, names[i], segment_rate(1), false);
  }
  return count;
}

static pictures make(const run *run, int64_t count, scene_world world, bool held_out) {
  scene_options o = {.side = sizes[run->mode].side, .jitter = true, .world = world, .held_out = held_out,
                     .seed = (uint64_t)run->seed};
  return scenes_as_pictures(scenes_make(run->data, count, o));
}

/* A new optimizer knows nothing of the steps before it. */
static void forget_moments(layer *l, void *context) {
  (void)context;
  for (int i = 0; i < l->param_count; i++) {
    size_t bytes = (size_t)l->params[i].count * sizeof(real);
    if (l->params[i].first != NULL) {
      memset(l->params[i].first, 0, bytes);
      memset(l->params[i].second, 0, bytes);
    }
  }
}

/* Puts group norm in the place of each norm of the last level, before the last convolution. */
static void replace_head(layer *net) {
  layer *head = net->children[net->child_count - 2];
  for (int i = 0; i < head->child_count; i++) {
    layer **place = &head->children[i]->children[1];
    int channels = (int)(*place)->params[0].count;
    layer_free(*place);
    *place = norm((norm_spec){.kind = NORM_GROUP, .groups = WIDTH / 2, .relu = true}, channels);
  }
}

static bool train_home(const run *run, layer *net, result *result) {
  const size *s = &sizes[run->mode];
  pictures train_set = make(run, s->home_scenes, WORLD_HOME, false);
  pictures test_set = make(run, s->test_scenes, WORLD_HOME, true);
  training t = {.net = net, .set = &train_set, .steps = s->home_scenes / 16, .batch = 16, .rate = segment_rate(16),
                .optimizer = {.kind = ADAM}, .seed = (uint64_t)run->seed, .curve = "home_loss"};
  bool finite = train(&t, result);
  if (finite) {
    result_metric(result, "miou_home", mean_iou(net, &test_set, 32, RUNNING, 0));
  }
  pictures_free(&train_set);
  pictures_free(&test_set);
  return finite;
}

static void tune_away(const run *run, layer *net, result *result) {
  const size *s = &sizes[run->mode];
  pictures train_set = make(run, s->away_scenes, WORLD_AWAY, false);
  pictures test_set = make(run, s->test_scenes, WORLD_AWAY, true);
  training t = {.net = net, .set = &train_set, .steps = s->away_steps, .batch = 1, .rate = run->rate,
                .optimizer = {.kind = ADAM}, .seed = (uint64_t)run->seed};
  bool head = strcmp(run->arm.name, "gn_head") == 0;
  result_metric(result, "miou_before", mean_iou(net, &test_set, 32, RUNNING, 0));
  layer_visit(net, forget_moments, NULL);
  norms_freeze(net, head || strcmp(run->arm.name, "bn_frozen") == 0);
  if (head) {
    replace_head(net);
  }
  if (train(&t, result)) {
    gather_statistics(&t);
    judge_by(mean_iou, &t, &test_set, "miou", "", 0, result);
    result_config(result, "test_pictures", (double)test_set.count);
  }
  pictures_free(&train_set);
  pictures_free(&test_set);
}

static void run_e17(const run *run, result *result) {
  rng weights = rng_new((uint64_t)run->seed, STREAM_WEIGHTS);
  norm_spec spec = segment_norm(strcmp(run->arm.name, "gn") == 0 ? "gn" : "bn", WIDTH / 2);
  layer *net = unet(&weights, PHOTO_CHANNELS, WIDTH, LEVELS, 2, spec);
  result_config(result, "width", WIDTH);
  if (train_home(run, net, result)) {
    tune_away(run, net, result);
  }
  layer_free(net);
}

const experiment e17 = {.id = "E17",
                        .title = "fine-tuning with one picture at a time: batch norm live and frozen, group norm",
                        .headline = "miou",
                        .arms = list_arms,
                        .full_seeds = 3,
                        .seconds = {0, 20, 0},
                        .missing = scenes_missing,
                        .run = run_e17};
