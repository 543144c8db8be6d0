/* E14: are the channels of a group related? Their number is arbitrary: a net whose channels are numbered differently,
 * with the groups following, is the same function. So a relation within groups can only come from training. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "classify.h"

enum { GROUPS = 4, SIDE = 14, CONVS = 3, PROBES = 256 };

static const int widths[CONVS + 1] = {1, 16, 32, 32};

static int list_arms(arm arms[EXPERIMENT_ARMS]) {
  int count = arm_add(arms, 0, "gn", 0.1, false);
  return arm_add(arms, count, "bn", 0.1, false);
}

static layer *make_net(rng *r, norm_spec spec) {
  layer *net = sequence(0);
  spec.relu = true;
  for (int i = 0; i < CONVS; i++) {
    sequence_add(net, conv(r, widths[i], widths[i + 1], 3, i == 1 ? 2 : 1, PAD_ZERO, false));
    sequence_add(net, norm(spec, widths[i + 1]));
  }
  net->children[0]->no_dx = true;
  sequence_add(net, global_mean());
  sequence_add(net, linear(r, widths[CONVS], 10, true));
  return net;
}

/* Pearson's correlation of two channels over all pictures and pixels. */
static double correlation(tensor x, int64_t a, int64_t b) {
  int64_t pixels = x.dim[2] * x.dim[3], item = tensor_item(x);
  double n = (double)(x.dim[0] * pixels), sa = 0, sb = 0, saa = 0, sbb = 0, sab = 0;
  for (int64_t i = 0; i < x.dim[0] * pixels; i++) {
    const real *at = x.at + i / pixels * item + i % pixels;
    double u = (double)at[a * pixels], v = (double)at[b * pixels];
    sa += u;
    sb += v;
    saa += u * u;
    sbb += v * v;
    sab += u * v;
  }
  double scale = sqrt((saa - sa * sa / n) * (sbb - sb * sb / n));
  return scale > 0 ? (sab - sa * sb / n) / scale : 0;
}

/* Mean absolute correlation of pairs in one group and of pairs in two, in the input of all norms but the first. */
static void measure(layer *net, const pictures *test, const char *within, const char *across, result *result) {
  double sum[2] = {0};
  int64_t pairs[2] = {0};
  int32_t indices[PROBES], labels[PROBES];
  real *pixels = engine_alloc((size_t)(PROBES * picture_size(test)) * sizeof(real));
  for (int i = 0; i < PROBES; i++) {
    indices[i] = i;
  }
  forward(net, picture_batch(test, indices, PROBES, 0, pixels, labels), BATCH);
  for (int layer = 1; layer < CONVS; layer++) {
    tensor x = net->children[2 * layer]->y;
    int64_t size = x.dim[1] / GROUPS;
    for (int64_t a = 0; a < x.dim[1]; a++) {
      for (int64_t b = 0; b < a; b++) {
        int apart = a / size != b / size;
        sum[apart] += fabs(correlation(x, a, b));
        pairs[apart]++;
      }
    }
  }
  result_metric(result, within, sum[0] / (double)pairs[0]);
  result_metric(result, across, sum[1] / (double)pairs[1]);
  free(pixels);
}

/* Where channel c of the trained net goes: its group is c / size there and the new number mod groups here. */
static int64_t renumbered(int64_t c, int64_t channels) {
  int64_t size = channels / GROUPS;
  return c % size * GROUPS + c / size;
}

static void copy_renumbered(const layer *from, layer *to) {
  for (int i = 0; i < CONVS; i++) {
    int64_t in = widths[i], out = widths[i + 1];
    const layer *conv_from = from->children[2 * i], *norm_from = from->children[2 * i + 1];
    for (int64_t o = 0; o < out; o++) {
      int64_t new_o = renumbered(o, out);
      for (int64_t j = 0; j < in; j++) {
        int64_t new_j = i == 0 ? j : renumbered(j, in);
        memcpy(to->children[2 * i]->params[0].value + (new_o * in + new_j) * 9,
               conv_from->params[0].value + (o * in + j) * 9, 9 * sizeof(real));
      }
      for (int p = 0; p < 2; p++) {
        to->children[2 * i + 1]->params[p].value[new_o] = norm_from->params[p].value[o];
      }
    }
  }
  const layer *head = from->children[2 * CONVS + 1];
  int64_t features = widths[CONVS];
  for (int64_t i = 0; i < head->params[0].count; i++) {
    int64_t at = i / features * features + renumbered(i % features, features);
    to->children[2 * CONVS + 1]->params[0].value[at] = head->params[0].value[i];
  }
  memcpy(to->children[2 * CONVS + 1]->params[1].value, head->params[1].value, 10 * sizeof(real));
}

/* The largest change of an output, relative to the largest output. */
static double relabel_difference(layer *net, const pictures *test) {
  rng unused = rng_new(0, 0);
  layer *other = make_net(&unused, (norm_spec){.kind = NORM_GROUP, .groups = GROUPS, .interleaved = true});
  copy_renumbered(net, other);
  tensor x = tensor4(test->pixels, PROBES, 1, SIDE, SIDE);
  tensor a = forward(net, x, BATCH), b = forward(other, x, BATCH);
  double worst = 0, largest = 0;
  for (int64_t i = 0; i < tensor_count(a); i++) {
    worst = fmax(worst, fabs((double)a.at[i] - (double)b.at[i]));
    largest = fmax(largest, fabs((double)a.at[i]));
  }
  layer_free(other);
  return worst / largest;
}

static void run_e14(const run *run, result *result) {
  bool group = strcmp(run->arm.name, "gn") == 0;
  rng weights = rng_new((uint64_t)run->seed, STREAM_WEIGHTS);
  pictures train_set = fashion_load(run->data, TRAINING, 8000, SIDE, false);
  pictures test_set = fashion_load(run->data, TEST, 4992, SIDE, false);
  layer *net = make_net(&weights, (norm_spec){.kind = group ? NORM_GROUP : NORM_BATCH, .groups = GROUPS});
  training t = {.net = net, .set = &train_set, .steps = 500, .batch = 32, .rate = run->rate,
                .optimizer = {.kind = SGD, .momentum = 0.9, .decay = 5e-4}, .seed = (uint64_t)run->seed};
  result_config(result, "groups", GROUPS);
  measure(net, &test_set, "init_within", "init_across", result);
  if (train(&t, result)) {
    measure(net, &test_set, "within", "across", result);
    judge_or_validate(&t, run, &test_set, result);
    if (group) {
      result_metric(result, "relabel_difference", relabel_difference(net, &test_set));
    }
  }
  layer_free(net);
  pictures_free(&train_set);
  pictures_free(&test_set);
}

const experiment e14 = {.id = "E14",
                        .title = "are the channels of a group related, before and after training?",
                        .headline = "within",
                        .arms = list_arms,
                        .full_seeds = 5,
                        .seconds = {0, 5, 0},
                        .missing = fashion_missing,
                        .run = run_e14};
