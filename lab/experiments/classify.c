/* Training and judging a classifier. */
#include "classify.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_CLASSES = 32, PRECISE_PICTURES = 2048, CURVE_POINTS = 50 };

norm_spec norm_named(const char *name) {
  norm_spec spec;
  if (!norm_parse(name, &spec)) {
    engine_die("there is no norm '%s'", name);
  }
  return spec;
}

int number_after(const char *name, const char *mark, int otherwise) {
  int number;
  const char *at = strstr(name, mark);
  return at != NULL && sscanf(at + strlen(mark), "%d", &number) == 1 ? number : otherwise;
}

int arm_add(arm *arms, int count, const char *name, double rate, bool quick) {
  arm a = {.rate = rate, .quick = quick};
  if (count == EXPERIMENT_ARMS || strlen(name) >= sizeof a.name) {
    engine_die("arm %s: too many arms, or its name is too long", name);
  }
  strcpy(a.name, name);
  arms[count] = a;
  return count + 1;
}

tensor picture_batch(const pictures *set, const int32_t *indices, int count, int rows, real *pixels, int32_t *labels) {
  int64_t size = picture_size(set), side = set->side, each = picture_labels(set);
  int repeat = rows > 0 ? rows : 1;
  for (int i = 0; i < count; i++) {
    const real *from = set->pixels + indices[i] * size;
    for (int64_t j = 0; j < size * repeat; j += side) {
      memcpy(pixels + i * size * repeat + j, from + j / side / repeat * side, (size_t)side * sizeof *pixels);
    }
    memcpy(labels + i * each, set->labels + indices[i] * each, (size_t)each * sizeof *labels);
  }
  return rows > 0 ? tensor3(pixels, count, side * repeat, side)
                  : tensor4(pixels, count, set->channels, side, side);
}

/* ------------------------------------------------------------------------------------------------------ train --- */

typedef struct work {
  real *pixels, *dy;
  int32_t *labels, *order;
  rng order_stream, flip_stream;
  int64_t next;             /* in `order` */
} work;

static void flip_some(tensor x, rng *r) {
  int64_t side = x.dim[x.ndim - 1], lines = tensor_item(x) / side;
  for (int64_t i = 0; i < x.dim[0]; i++) {
    if (rng_uniform(r) < 0.5) {
      continue;
    }
    for (int64_t line = 0; line < lines; line++) {
      real *at = x.at + (i * lines + line) * side;
      for (int64_t j = 0; j < side / 2; j++) {
        real held = at[j];
        at[j] = at[side - 1 - j];
        at[side - 1 - j] = held;
      }
    }
  }
}

/* The next pictures; a new order when too few are left for a batch. */
static tensor next_batch(const training *t, work *w) {
  if (w->next + t->batch > t->set->count) {
    rng_shuffle(&w->order_stream, w->order, t->set->count);
    w->next = 0;
  }
  int32_t *indices = w->order + w->next;
  w->next += t->batch;
  if (t->arrange != NULL) {
    t->arrange(t->set, indices, t->batch);
  }
  tensor x = picture_batch(t->set, indices, t->batch, t->steps_per_row, w->pixels, w->labels);
  if (t->flip) {
    flip_some(x, &w->flip_stream);
  }
  return x;
}

static work work_new(const training *t) {
  int repeat = t->steps_per_row > 0 ? t->steps_per_row : 1;
  work w = {.order_stream = rng_new(t->seed, STREAM_ORDER), .flip_stream = rng_new(t->seed, STREAM_FLIP)};
  w.pixels = engine_alloc((size_t)(t->batch * picture_size(t->set) * repeat) * sizeof(real));
  w.labels = engine_alloc((size_t)(t->batch * picture_labels(t->set)) * sizeof *w.labels);
  w.dy = engine_alloc((size_t)(t->batch * picture_labels(t->set) * MOST_CLASSES) * sizeof(real));
  w.order = engine_alloc((size_t)t->set->count * sizeof *w.order);
  for (int64_t i = 0; i < t->set->count; i++) {
    w.order[i] = (int32_t)i;
  }
  w.next = t->set->count;
  return w;
}

static void work_free(work *w) {
  free(w->pixels);
  free(w->dy);
  free(w->labels);
  free(w->order);
}

static void describe(const training *t, result *result) {
  result_config(result, "steps", (double)t->steps);
  result_config(result, "batch", t->batch);
  result_config(result, "training_pictures", (double)t->set->count);
  result_config(result, "side", t->set->side);
  result_config(result, "parameters", (double)param_total(t->net));
  result_config_text(result, "optimizer", t->optimizer.kind == ADAM ? "adam" : "sgd");
  if (t->optimizer.kind == SGD) {
    result_config(result, "momentum", t->optimizer.momentum);
  }
  result_config(result, "weight_decay", t->optimizer.decay);
}

bool train(const training *t, result *result) {
  optimizer o = t->optimizer;
  work w = work_new(t);
  int64_t tail = t->steps - (t->steps + 9) / 10, every = (t->steps + CURVE_POINTS - 1) / CURVE_POINTS;
  double tail_sum = 0, curve_sum = 0;
  bool finite = true;
  describe(t, result);
  gradient_clear(t->net);
  for (int64_t step = 0; step < t->steps && finite; step++) {
    tensor x = next_batch(t, &w);
    tensor y = forward(t->net, x, TRAIN);
    double loss = cross_entropy(y, w.labels, w.dy, NULL);
    finite = isfinite(loss);
    backward(t->net, tensor_like(y, w.dy));
    if (t->watch != NULL && finite) {
      t->watch(t->context, t, step, x, w.labels);
    }
    optimizer_step(&o, t->net, one_cycle(step, t->steps, t->rate));
    tail_sum += step >= tail ? loss : 0;
    curve_sum += loss;
    if ((step + 1) % every == 0) {
      result_point(result, t->curve != NULL ? t->curve : "train_loss", (double)(step + 1), curve_sum / (double)every);
      curve_sum = 0;
    }
    run_progress((double)(step + 1) / (double)t->steps);
  }
  result_metric(result, "train_loss_final", finite ? tail_sum / (double)(t->steps - tail) : NAN);
  result_metric(result, "diverged", finite ? 0 : 1);
  work_free(&w);
  return finite;
}

/* ------------------------------------------------------------------------------------------------------ judge --- */

double test_error(layer *net, const pictures *set, int batch, phase phase, int rows) {
  int64_t hits = 0, seen = set->count / batch * batch;
  int repeat = rows > 0 ? rows : 1;
  real *pixels = engine_alloc((size_t)(batch * picture_size(set) * repeat) * sizeof(real));
  int32_t *labels = engine_alloc((size_t)batch * sizeof *labels), *indices = engine_alloc((size_t)batch * 4);
  for (int64_t i = 0; i < seen; i += batch) {
    int64_t right;
    for (int j = 0; j < batch; j++) {
      indices[j] = (int32_t)(i + j);
    }
    tensor y = forward(net, picture_batch(set, indices, batch, rows, pixels, labels), phase);
    cross_entropy(y, labels, NULL, &right);
    hits += right;
  }
  free(pixels);
  free(labels);
  free(indices);
  return 100 * (1 - (double)hits / (double)seen);
}

void gather_statistics(const training *t) {
  if (!net_has_batch_norm(t->net)) {
    return;
  }
  training again = *t;
  again.flip = false;
  work w = work_new(&again);
  w.order_stream = rng_new(t->seed, STREAM_NOISE); /* another order than that of the first epoch */
  norms_forget(t->net);
  for (int seen = 0; seen < PRECISE_PICTURES; seen += t->batch) {
    forward(t->net, next_batch(&again, &w), COLLECT);
  }
  work_free(&w);
}

void judge_by(test_measure measure, const training *t, const pictures *test, const char *name, const char *suffix,
              int rows, result *result) {
  static const struct {
    const char *name;
    phase phase;
  } phases[] = {{"_running", RUNNING}, {"_precise", PRECISE}, {"_batch", BATCH}};
  char full[80];
  snprintf(full, sizeof full, "%s%s", name, suffix);
  result_metric(result, full, measure(t->net, test, 32, RUNNING, rows));
  for (int i = 0; i < 3 && net_has_batch_norm(t->net); i++) {
    int batch = phases[i].phase == BATCH ? t->batch : 32;
    snprintf(full, sizeof full, "%s%s%s", name, phases[i].name, suffix);
    result_metric(result, full, measure(t->net, test, batch, phases[i].phase, rows));
  }
}

static double test_accuracy(layer *net, const pictures *set, int batch, phase phase, int rows) {
  return 100 - test_error(net, set, batch, phase, rows);
}

void judge(const training *t, const pictures *test, const char *name, const char *suffix, int rows, result *result) {
  bool accuracy = strncmp(name, "accuracy", strlen("accuracy")) == 0;
  judge_by(accuracy ? test_accuracy : test_error, t, test, name, suffix, rows, result);
}

pictures pictures_to_judge(const run *run, int64_t count, int side) {
  bool tune = run->mode == TUNE;
  return fashion_load(run->data, tune ? VALIDATION : TEST, tune ? 1984 : count, side, false);
}

void judge_or_validate(const training *t, const run *run, const pictures *test, result *result) {
  if (run->mode == TUNE) {
    result_metric(result, "validation_error", test_error(t->net, test, 32, RUNNING, t->steps_per_row));
    return;
  }
  gather_statistics(t);
  judge(t, test, "test_error", "", t->steps_per_row, result);
  result_config(result, "test_pictures", (double)(test->count / t->batch * t->batch));
}
