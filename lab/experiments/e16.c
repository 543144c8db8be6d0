/* E16: lengths and gradients in a transformer with layer norm first, last or nowhere. It reads pictures as 28 tokens,
 * one per row. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "classify.h"

enum { FEATURES = 64, HEADS = 4, BLOCKS = 6, SIDE = 28, PROBES = 64 };

static int list_arms(arm arms[EXPERIMENT_ARMS]) {
  int count = arm_add(arms, 0, "ln_pre", 0.003, false);
  count = arm_add(arms, count, "ln_post", 0.003, false);
  return arm_add(arms, count, "none_pre", 0.003, false);
}

/* children: linear, position, BLOCKS blocks, then the head. */
static layer *make_net(rng *r, const char *arm_name) {
  norm_spec spec = {.kind = strncmp(arm_name, "ln", 2) == 0 ? NORM_LAYER : NORM_NONE};
  bool first = strstr(arm_name, "_pre") != NULL;
  layer *net = sequence(2, linear(r, SIDE, FEATURES, true), position(r, SIDE, FEATURES));
  net->children[0]->no_dx = true;
  for (int i = 0; i < BLOCKS; i++) {
    sequence_add(net, transformer_block(r, FEATURES, HEADS, false, first, spec));
  }
  sequence_add(net, first ? norm(spec, FEATURES) : sequence(0));
  sequence_add(net, global_mean());
  sequence_add(net, linear(r, FEATURES, 10, true));
  return net;
}

static double length_of(const real *at, int64_t d) {
  double sum = 0;
  for (int64_t i = 0; i < d; i++) {
    sum += (double)at[i] * (double)at[i];
  }
  return sqrt(sum);
}

/* Over all tokens after all norms: the moments of their lengths, and how far the law is off. */
typedef struct lengths {
  double count, sum, squares, law_error;
} lengths;

static void lengths_visit(layer *l, void *context) {
  lengths *all = context;
  if (!layer_is_norm(l)) {
    return;
  }
  int64_t d = l->x.dim[2];
  for (int64_t i = 0; i < l->x.dim[0] * l->x.dim[1]; i++) {
    const real *x = l->x.at + i * d;
    double length = length_of(l->y.at + i * d, d), mean = 0, var = 0;
    for (int64_t j = 0; j < d; j++) {
      mean += (double)x[j] / (double)d;
    }
    for (int64_t j = 0; j < d; j++) {
      var += ((double)x[j] - mean) * ((double)x[j] - mean) / (double)d;
    }
    all->count++;
    all->sum += length;
    all->squares += length * length;
    all->law_error = fmax(all->law_error, fabs(length / sqrt((double)d * var / (var + 1e-5)) - 1));
  }
}

typedef struct entropy {
  double sum, rows;
} entropy;

/* As a share of log t, the entropy of looking everywhere alike. */
static void entropy_visit(layer *l, void *context) {
  entropy *e = context;
  if (strcmp(l->kind->name, "attention") != 0) {
    return;
  }
  tensor p = attention_probabilities(l);
  for (int64_t i = 0; i < tensor_count(p); i++) {
    double q = (double)p.at[i];
    e->sum -= q > 0 ? q * log(q) / log((double)p.dim[2]) : 0;
  }
  e->rows += (double)(p.dim[0] * p.dim[1]);
}

/* Mean length of a token in the stream after block i. */
static double stream_length(layer *net, int block) {
  tensor y = net->children[2 + block]->y;
  double sum = 0;
  int64_t tokens = y.dim[0] * y.dim[1];
  for (int64_t i = 0; i < tokens; i++) {
    sum += length_of(y.at + i * y.dim[2], y.dim[2]);
  }
  return sum / (double)tokens;
}

/* After a forward pass. `init` says before training, when the law of lengths holds (gamma 1, beta 0). */
static void measure(layer *net, bool init, result *result) {
  lengths l = {0};
  entropy e = {0};
  layer_visit(net, lengths_visit, &l);
  layer_visit(net, entropy_visit, &e);
  if (l.count > 0) {
    double mean = l.sum / l.count, deviation = sqrt(fmax(0, l.squares / l.count - mean * mean));
    result_metric(result, init ? "init_length_variation" : "length_variation", deviation / mean);
    if (init) {
      result_metric(result, "length_law_error", l.law_error);
    }
  }
  result_metric(result, init ? "init_attention_entropy" : "attention_entropy", e.sum / e.rows);
  for (int i = 0; i < BLOCKS; i++) {
    result_point(result, init ? "init_stream_norm" : "stream_norm", i + 1, stream_length(net, i));
  }
  result_metric(result, init ? "init_stream_growth" : "stream_growth",
                stream_length(net, BLOCKS - 1) / stream_length(net, 0));
}

static void measure_gradients(layer *net, tensor y, const int32_t *labels, result *result) {
  real dy[PROBES * 10];
  double smallest = INFINITY, largest = 0;
  gradient_clear(net);
  cross_entropy(y, labels, dy, NULL);
  backward(net, tensor_like(y, dy));
  for (int i = 0; i < BLOCKS; i++) {
    double length = gradient_norm(net->children[2 + i]);
    smallest = fmin(smallest, length);
    largest = fmax(largest, length);
    result_point(result, "gradient_norm", i + 1, length);
  }
  result_metric(result, "gradient_ratio", largest / smallest);
}

static void run_e16(const run *run, result *result) {
  int32_t indices[PROBES], labels[PROBES];
  rng weights = rng_new((uint64_t)run->seed, STREAM_WEIGHTS);
  pictures train_set = fashion_load(run->data, TRAINING, 6400, SIDE, false);
  pictures test_set = fashion_load(run->data, TEST, 1984, SIDE, false);
  layer *net = make_net(&weights, run->arm.name);
  training t = {.net = net, .set = &train_set, .steps = 200, .batch = 32, .rate = run->rate,
                .optimizer = {.kind = ADAM}, .seed = (uint64_t)run->seed, .steps_per_row = 1};
  for (int i = 0; i < PROBES; i++) {
    indices[i] = i;
  }
  real *pixels = engine_alloc((size_t)(PROBES * picture_size(&test_set)) * sizeof(real));
  tensor x = picture_batch(&test_set, indices, PROBES, 1, pixels, labels), y = forward(net, x, RUNNING);
  result_config(result, "features", FEATURES);
  result_config(result, "blocks", BLOCKS);
  measure(net, true, result);
  measure_gradients(net, y, labels, result);
  if (train(&t, result)) {
    forward(net, x, RUNNING);
    measure(net, false, result);
    judge_or_validate(&t, run, &test_set, result);
  }
  free(pixels);
  layer_free(net);
  pictures_free(&train_set);
  pictures_free(&test_set);
}

const experiment e16 = {.id = "E16",
                        .title = "lengths and gradients in a transformer, layer norm first or last",
                        .headline = "gradient_ratio",
                        .arms = list_arms,
                        .full_seeds = 3,
                        .seconds = {0, 12, 0},
                        .missing = fashion_missing,
                        .run = run_e16};
