/*
 * E11: norms in a small Transformer that predicts the next character of a text, at two batch sizes. Beside the loss it
 * measures the drift of batch norm's statistics: how far the mean of a batch is from the running mean, in running
 * standard deviations. Text is said to have more of it than images (Shen et al. 2020, PowerNorm), so the arm bn_cnn
 * measures the same in the network of E2.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "classify.h"
#include "language.h"

enum { FEATURES = 64, HEADS = 4, BLOCKS = 4, LENGTH = 64, STEPS = 1500, DRIFT_EVERY = 10, CURVE_POINTS = 15 };
enum { CURVE_WINDOWS = 256, PRECISE_WINDOWS = 512, JUDGED_WINDOWS = 4096, JUDGED_BATCH = 16 };

static int list_arms(arm arms[EXPERIMENT_ARMS]) {
  static const struct {
    const char *name;
    double rate, cost;
    int seeds;
  } table[] = {{"ln_pre_b16", 0.01, 1, 0},  {"bn_pre_b16", 0.01, 1, 0},    {"bn_cnn", 0.1, 0.3, 0},
               {"rms_pre_b16", 0.01, 1, 3}, {"none_pre_b16", 0.003, 1, 3}, {"ln_pre_b4", 0.003, 0.3, 3},
               {"bn_pre_b4", 0.01, 0.3, 3}, {"ln_post_b16", 0.003, 1, 3},  {"bn_post_b16", 0.003, 1, 3}};
  int count = 0;
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    count = arm_add(arms, count, table[i].name, table[i].rate, false);
    arms[count - 1].cost = table[i].cost;
    arms[count - 1].seeds = table[i].seeds;
    arms[count - 1].fixed_rate = strcmp(table[i].name, "bn_cnn") == 0; /* of another experiment */
  }
  return count;
}

/* ----------------------------------------------------------------------------------------------------- drift --- */

/* Sums over the steps and the batch norms that were looked at. */
typedef struct drift {
  double mean, variance, count;
} drift;

/* Of one channel of a layer's input, of this batch. */
static void column_moments(tensor x, int64_t c, int64_t channels, double *mean, double *var) {
  int64_t inner = x.ndim == 4 ? x.dim[2] * x.dim[3] : 1, outer = tensor_count(x) / channels / inner;
  double sum = 0, squares = 0, n = (double)(outer * inner);
  for (int64_t i = 0; i < outer; i++) {
    for (int64_t j = 0; j < inner; j++) {
      sum += (double)x.at[(i * channels + c) * inner + j];
    }
  }
  *mean = sum / n;
  for (int64_t i = 0; i < outer; i++) {
    for (int64_t j = 0; j < inner; j++) {
      double d = (double)x.at[(i * channels + c) * inner + j] - *mean;
      squares += d * d;
    }
  }
  *var = squares / n;
}

static void drift_visit(layer *l, void *context) {
  drift *d = context;
  const float *running_mean = norm_running_mean(l), *running_var = norm_running_var(l);
  if (running_mean == NULL) {
    return;
  }
  int64_t channels = l->x.dim[l->x.ndim == 4 ? 1 : l->x.ndim - 1];
  double means = 0, variances = 0;
  for (int64_t c = 0; c < channels; c++) {
    double mean, var, running = (double)running_var[c] + 1e-5;
    column_moments(l->x, c, channels, &mean, &var);
    means += (mean - (double)running_mean[c]) * (mean - (double)running_mean[c]) / running;
    variances += fabs(log((var + 1e-5) / running));
  }
  d->mean += sqrt(means / (double)channels);
  d->variance += variances / (double)channels;
  d->count++;
}

/* Not in the first tenth of the steps, when the running statistics have not arrived yet. */
static void drift_watch(drift *d, layer *net, int64_t step, int64_t steps) {
  if (step % DRIFT_EVERY == 0 && step >= steps / 10) {
    layer_visit(net, drift_visit, d);
  }
}

static void drift_report(const drift *d, result *result) {
  if (d->count > 0) {
    result_metric(result, "drift", d->mean / d->count);
    result_metric(result, "drift_variance", d->variance / d->count);
  }
}

/* ----------------------------------------------------------------------------------------------------- model --- */

typedef struct lesson {
  const text_file *text;
  layer *net;
  int64_t steps;
  int batch;
  real *x, *dy;               /* of the larger of the batches of training and judging */
  int32_t *labels;
} lesson;

static layer *make_net(rng *r, int kinds, norm_spec spec, bool first) {
  layer *net = sequence(1, embedding(r, kinds, FEATURES, LENGTH));
  for (int i = 0; i < BLOCKS; i++) {
    sequence_add(net, transformer_block(r, FEATURES, HEADS, true, first, spec));
  }
  sequence_add(net, first ? norm(spec, FEATURES) : sequence(0));
  sequence_add(net, linear(r, FEATURES, kinds, true));
  return net;
}

/* Mean loss per character of as many windows as fill whole batches. */
static double mean_loss(const lesson *s, use use, int most, int batch, phase phase) {
  int64_t *places = engine_alloc((size_t)most * sizeof *places);
  int count = language_windows(s->text, use, LENGTH, most, places) / batch * batch;
  double sum = 0;
  for (int i = 0; i < count; i += batch) {
    tensor x = language_batch(s->text, places + i, batch, LENGTH, s->x, s->labels);
    sum += cross_entropy(forward(s->net, x, phase), s->labels, NULL, NULL) * batch / count;
  }
  free(places);
  return sum;
}

static tensor random_batch(const lesson *s, rng *order) {
  int64_t places[JUDGED_BATCH];
  for (int i = 0; i < s->batch; i++) {
    places[i] = language_random(s->text, FOR_TRAINING, LENGTH, order);
  }
  return language_batch(s->text, places, s->batch, LENGTH, s->x, s->labels);
}

static bool teach(const lesson *s, const run *run, drift *d, result *result) {
  optimizer o = {.kind = ADAM};
  rng order = rng_new((uint64_t)run->seed, STREAM_ORDER);
  int64_t tail = s->steps - s->steps / 10, every = s->steps / CURVE_POINTS;
  double tail_sum = 0, curve_sum = 0;
  bool finite = true;
  gradient_clear(s->net);
  for (int64_t step = 0; step < s->steps && finite; step++) {
    tensor y = forward(s->net, random_batch(s, &order), TRAIN);
    double loss = cross_entropy(y, s->labels, s->dy, NULL);
    finite = isfinite(loss);
    backward(s->net, tensor_like(y, s->dy));
    drift_watch(d, s->net, step, s->steps);
    optimizer_step(&o, s->net, one_cycle(step, s->steps, run->rate));
    tail_sum += step >= tail ? loss : 0;
    curve_sum += loss;
    if ((step + 1) % every == 0) {
      result_point(result, "train_loss", (double)(step + 1), curve_sum / (double)every);
      if (run->mode != TUNE) {
        double now = mean_loss(s, FOR_VALIDATION, CURVE_WINDOWS, JUDGED_BATCH, RUNNING);
        result_point(result, "val_loss", (double)(step + 1), now);
      }
      curve_sum = 0;
    }
    run_progress((double)(step + 1) / (double)s->steps);
  }
  result_metric(result, "train_loss_final", finite ? tail_sum / (double)(s->steps - tail) : NAN);
  result_metric(result, "diverged", finite ? 0 : 1);
  return finite;
}

static void judge_language(const lesson *s, const run *run, result *result) {
  if (run->mode == TUNE) {
    result_metric(result, "validation_error", mean_loss(s, FOR_TRIALS, JUDGED_WINDOWS, JUDGED_BATCH, RUNNING));
    return;
  }
  double running = mean_loss(s, FOR_VALIDATION, JUDGED_WINDOWS, JUDGED_BATCH, RUNNING);
  result_metric(result, "val_loss", running);
  if (!net_has_batch_norm(s->net)) {
    return;
  }
  rng noise = rng_new((uint64_t)run->seed, STREAM_NOISE);
  norms_forget(s->net);
  for (int seen = 0; seen < PRECISE_WINDOWS; seen += s->batch) {
    forward(s->net, random_batch(s, &noise), COLLECT);
  }
  result_metric(result, "val_loss_running", running);
  result_metric(result, "val_loss_precise", mean_loss(s, FOR_VALIDATION, JUDGED_WINDOWS, JUDGED_BATCH, PRECISE));
  result_metric(result, "val_loss_batch", mean_loss(s, FOR_VALIDATION, JUDGED_WINDOWS, s->batch, BATCH));
}

static void run_language(const run *run, result *result) {
  char norm_name[40];
  strcpy(norm_name, run->arm.name);
  norm_name[strcspn(norm_name, "_")] = '\0';
  text_file text = language_load(run->data);
  rng weights = rng_new((uint64_t)run->seed, STREAM_WEIGHTS);
  drift d = {0};
  lesson s = {.text = &text, .steps = run->mode == TUNE ? STEPS / 3 : STEPS,
              .batch = number_after(run->arm.name, "_b", JUDGED_BATCH)};
  s.net = make_net(&weights, text.kinds, norm_named(norm_name), strstr(run->arm.name, "_pre") != NULL);
  s.x = engine_alloc((size_t)JUDGED_BATCH * LENGTH * sizeof *s.x);
  s.dy = engine_alloc((size_t)JUDGED_BATCH * LENGTH * TEXT_KINDS * sizeof *s.dy);
  s.labels = engine_alloc((size_t)JUDGED_BATCH * LENGTH * sizeof *s.labels);
  result_config(result, "steps", (double)s.steps);
  result_config(result, "batch", s.batch);
  result_config(result, "length", LENGTH);
  result_config(result, "features", FEATURES);
  result_config(result, "blocks", BLOCKS);
  result_config(result, "parameters", (double)param_total(s.net));
  result_config(result, "text_characters", (double)text.count);
  result_config(result, "different_characters", text.kinds);
  result_config_text(result, "optimizer", "adam");
  if (teach(&s, run, &d, result)) {
    judge_language(&s, run, result);
    drift_report(&d, result);
  }
  layer_free(s.net);
  free(s.x);
  free(s.dy);
  free(s.labels);
  free(text.at);
}

/* ----------------------------------------------------------------------------------------- beside it, images --- */

static void watch_pictures(void *context, const training *t, int64_t step, tensor x, const int32_t *labels) {
  (void)x;
  (void)labels;
  drift_watch(context, t->net, step, t->steps);
}

/* The arm bn_b32 of E2. */
static void run_pictures(const run *run, result *result) {
  drift d = {0};
  rng weights = rng_new((uint64_t)run->seed, STREAM_WEIGHTS);
  pictures set = fashion_load(run->data, TRAINING, 6000, 28, false);
  layer *net = resnet(&weights, 1, 16, 10, norm_named("bn"));
  training t = {.net = net, .set = &set, .steps = 375, .batch = 32, .rate = run->rate,
                .optimizer = {.kind = SGD, .momentum = 0.9, .decay = 5e-4}, .seed = (uint64_t)run->seed,
                .watch = watch_pictures, .context = &d};
  if (train(&t, result)) {
    drift_report(&d, result);
  }
  layer_free(net);
  pictures_free(&set);
}

static void run_e11(const run *run, result *result) {
  (strcmp(run->arm.name, "bn_cnn") == 0 ? run_pictures : run_language)(run, result);
}

static const char *missing(const char *data) {
  const char *text = language_missing(data);
  return text != NULL ? text : fashion_missing(data);
}

const experiment e11 = {.id = "E11",
                        .title = "norms in a Transformer that predicts text, and the drift of batch norm's statistics",
                        .headline = "val_loss",
                        .arms = list_arms,
                        .rates = adam_rates,
                        .full_seeds = 4,
                        .seconds = {0, 56, 18},
                        .missing = missing,
                        .run = run_e11};
