/* Applies the four layers and measures: what is left of the differences, how far y is from the reference, same bits. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "lab.h"

enum { ELEMENTS = SAMPLES * CHANNELS * PIXELS };

static const int64_t shape[4] = {SAMPLES, CHANNELS, SIDE, SIDE};

const char *const lab_spread_names[SPREADS] = {"brightness between pictures", "contrast between pictures",
                                               "brightness between channels", "contrast between channels"};

/* ------------------------------------------------------------------------------------------ mean and deviation --- */

typedef struct sums {
  double mean, deviation;
} sums;

/* Of all maps of sample n and channel c; -1 stands for all. Two passes in float64, independent of the library. */
static sums measure_part(lab_maps maps, int n, int c) {
  int first_n = n < 0 ? 0 : n, last_n = n < 0 ? SAMPLES : n + 1;
  int first_c = c < 0 ? 0 : c, last_c = c < 0 ? CHANNELS : c + 1;
  double count = (double)(last_n - first_n) * (last_c - first_c) * PIXELS;
  sums result = {0, 0};
  for (int pass = 0; pass < 2; pass++) {
    double sum = 0;
    for (int i = first_n; i < last_n; i++) {
      for (int j = first_c; j < last_c; j++) {
        for (int p = 0; p < PIXELS; p++) {
          double d = maps[i][j][p] - result.mean;
          sum += pass == 0 ? d : d * d;
        }
      }
    }
    if (pass == 0) {
      result.mean = sum / count;
    } else {
      result.deviation = sqrt(sum / count);
    }
  }
  return result;
}

static double deviation_of(const double *values, int n) {
  double mean = 0, sum = 0;
  for (int i = 0; i < n; i++) {
    mean += values[i] / n;
  }
  for (int i = 0; i < n; i++) {
    sum += (values[i] - mean) * (values[i] - mean);
  }
  return sqrt(sum / n);
}

double lab_log_deviation(const double *values, int n) {
  double logs[SAMPLES];
  for (int i = 0; i < n; i++) {
    logs[i] = log2(values[i]);
  }
  return deviation_of(logs, n);
}

double lab_mean_deviation(const double *means, const double *deviations, int n) {
  double between = deviation_of(means, n), within = 0;
  for (int i = 0; i < n; i++) {
    within += deviations[i] * deviations[i] / n;
  }
  return between / sqrt(between * between + within);
}

static void measure_view(lab_view *view) {
  double mean[SAMPLES], deviation[SAMPLES];
  sums all = measure_part(view->maps, -1, -1);
  view->total_mean = all.mean;
  view->total_deviation = all.deviation;
  for (int n = 0; n < SAMPLES; n++) {
    for (int c = 0; c < CHANNELS; c++) {
      sums map = measure_part(view->maps, n, c);
      view->mean[n][c] = map.mean;
      view->deviation[n][c] = map.deviation;
    }
    sums picture = measure_part(view->maps, n, -1);
    mean[n] = picture.mean;
    deviation[n] = picture.deviation;
  }
  view->spread[PICTURE_BRIGHTNESS] = lab_mean_deviation(mean, deviation, SAMPLES);
  view->spread[PICTURE_CONTRAST] = lab_log_deviation(deviation, SAMPLES);
  for (int c = 0; c < CHANNELS; c++) {
    sums channel = measure_part(view->maps, -1, c);
    mean[c] = channel.mean;
    deviation[c] = channel.deviation;
  }
  view->spread[CHANNEL_BRIGHTNESS] = lab_mean_deviation(mean, deviation, CHANNELS);
  view->spread[CHANNEL_CONTRAST] = lab_log_deviation(deviation, CHANNELS);
}

/* Logarithms need a contrast, and a map without one would say nothing about a layer. */
static int check_contrast(const lab_view *input) {
  for (int n = 0; n < SAMPLES; n++) {
    for (int c = 0; c < CHANNELS; c++) {
      if (!(input->deviation[n][c] > 0)) {
        return lab_fail("the first picture of class %s is constant in channel '%s': not a picture of Fashion-MNIST",
                        lab_class_names[n], lab_filters[c].name);
      }
    }
  }
  return EXIT_GOOD;
}

/* --------------------------------------------------------------------------------------------------- the layers --- */

typedef struct work {
  void (*task)(void *context, int64_t index);
  void *context;
  int64_t count;
  atomic_int_fast64_t next;
} work;

static void *take_tasks(void *pointer) {
  work *shared = pointer;
  int64_t i;
  while ((i = atomic_fetch_add(&shared->next, 1)) < shared->count) {
    shared->task(shared->context, i);
  }
  return NULL;
}

/* The threads that norma.h lets a caller supply. A thread that cannot be made leaves its tasks to the others. */
static void run_on_threads(void *pool, int64_t count, void (*task)(void *context, int64_t index), void *context) {
  pthread_t threads[THREADS - 1];
  int started = 0;
  work shared = {task, context, count, 0};
  (void)pool;
  while (started < THREADS - 1 && pthread_create(&threads[started], NULL, take_tasks, &shared) == 0) {
    started++;
  }
  take_tasks(&shared);
  for (int i = 0; i < started; i++) {
    pthread_join(threads[i], NULL);
  }
}

static norma_status make_layer(int which, norma_layer *layer, norma_error *error) {
  switch (which) {
    case 0: return norma_layer_batch(layer, 4, shape, error);
    case 1: return norma_layer_norm(layer, 3, 4, shape, error);
    case 2: return norma_layer_instance(layer, 4, shape, error);
    default: return norma_layer_group(layer, GROUPS, 4, shape, error);
  }
}

/* The same tensor in NHWC. */
static void to_channels_last(lab_maps maps, float *out) {
  for (int n = 0; n < SAMPLES; n++) {
    for (int p = 0; p < PIXELS; p++) {
      for (int c = 0; c < CHANNELS; c++) {
        *out++ = maps[n][c][p];
      }
    }
  }
}

/* Runs the layer again on THREADS threads and again in NHWC, and compares bits. `memory`: 3 tensors. */
static norma_status compare_bits(norma_forward_args args, lab_view *input, lab_view *view, float *memory,
                                 norma_error *error) {
  norma_threads threads = {run_on_threads, NULL};
  int64_t strides[4];
  float *x_last = memory, *y_last = memory + ELEMENTS, *expected = memory + 2 * ELEMENTS;
  norma_forward_args last = args;

  args.y = y_last;
  args.threads = &threads;
  norma_status status = norma_forward(&args, error);
  if (status != NORMA_OK) {
    return status;
  }
  view->same_threads = memcmp(y_last, view->maps, sizeof view->maps) == 0;

  norma_strides_channels_last(4, shape, strides);
  to_channels_last(input->maps, x_last);
  to_channels_last(view->maps, expected);
  last.x = x_last;
  last.y = y_last;
  last.x_strides = last.y_strides = strides;
  status = norma_forward(&last, error);
  view->same_layout = memcmp(y_last, expected, sizeof view->maps) == 0;
  return status;
}

/* The largest error of y, absolute and as a share of what norma.h allows. `memory`: 2 tensors of float64. */
static norma_status compare_reference(const norma_forward_args *args, lab_view *view, double *memory,
                                      norma_error *error) {
  norma_reference reference = {.size = sizeof reference, .y = memory, .y_bound = memory + ELEMENTS};
  norma_status status = norma_reference_forward(args, &reference, error);
  const float *y = args->y;
  view->error = view->error_share = 0;
  for (int i = 0; status == NORMA_OK && i < ELEMENTS; i++) {
    double distance = fabs(y[i] - reference.y[i]);
    view->error = fmax(view->error, distance);
    view->error_share = fmax(view->error_share, distance / reference.y_bound[i]);
  }
  return status;
}

static norma_status apply_layer(int which, lab_view *input, lab_view *view, double *memory, norma_error *error) {
  norma_status status = make_layer(which, &view->layer, error);
  norma_forward_args args = {
      .size = sizeof args, .layer = &view->layer, .type = NORMA_F32, .x = input->maps, .y = view->maps};
  if (status == NORMA_OK) {
    status = norma_layer_format(&view->layer, view->pattern, sizeof view->pattern, NULL, 0, error);
  }
  if (status == NORMA_OK) {
    status = norma_forward(&args, error);
  }
  if (status == NORMA_OK) {
    status = compare_reference(&args, view, memory, error);
  }
  if (status == NORMA_OK) {
    status = compare_bits(args, input, view, (float *)memory, error);
  }
  return status;
}

int lab_measure(lab_view views[VIEWS]) {
  static const char *const names[VIEWS] = {"input", "batch", "layer", "instance", "group"};
  views[0].name = names[0];
  measure_view(&views[0]);
  int failed = check_contrast(&views[0]);
  double *memory = failed ? NULL : malloc(2 * ELEMENTS * sizeof *memory);
  if (!failed && memory == NULL) {
    failed = lab_fail("no memory for two tensors of float64");
  }
  for (int i = 1; !failed && i < VIEWS; i++) {
    norma_error error;
    views[i].name = names[i];
    if (apply_layer(i - 1, &views[0], &views[i], memory, &error) != NORMA_OK) {
      failed = lab_fail("%s norm: %s (%s)", names[i], norma_status_text(error.status), error.detail);
    } else {
      measure_view(&views[i]);
    }
  }
  free(memory);
  return failed;
}

double lab_left(const lab_view views[VIEWS], int i, lab_spread which) {
  return 100 * views[i].spread[which] / views[0].spread[which];
}

bool lab_all_right(const lab_view views[VIEWS]) {
  for (int i = 1; i < VIEWS; i++) {
    if (!(views[i].error_share <= 1 && views[i].same_threads && views[i].same_layout)) {
      return false;
    }
  }
  return true;
}
