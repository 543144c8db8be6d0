/* Fashion-MNIST as sets of pictures. */
#include "fashion.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../data/idx.h"

enum { TRAINING_COUNT = 60000, VALIDATION_COUNT = 2000, TEST_COUNT = 10000, CLASSES = 10 };

/* Of the training set. */
static const double fashion_mean = 0.2860, fashion_deviation = 0.3530;

static const char *find(const char *data, char path[4096]) {
  if (data != NULL) {
    for (int i = 0; i < 2; i++) {
      char file[4200];
      snprintf(path, 4096, i == 0 ? "%s" : "%s/fashion-mnist", data);
      snprintf(file, sizeof file, "%s/train-images-idx3-ubyte.gz", path);
      if (access(file, R_OK) == 0) {
        return path;
      }
    }
  }
  return idx_folder();
}

const char *fashion_missing(const char *data) {
  static char text[256];
  char path[4096];
  if (find(data, path) != NULL) {
    return NULL;
  }
  snprintf(text, sizeof text, "Fashion-MNIST is not in %s: apt-get install %s, or name its folder with --data DIR",
           idx_standard_folder, IDX_PACKAGE);
  return text;
}

int64_t picture_size(const pictures *p) { return (int64_t)p->channels * p->side * p->side; }

int64_t picture_labels(const pictures *p) { return p->pixel_labels ? (int64_t)p->side * p->side : 1; }

/* One picture, each pixel the mean of a square where it becomes smaller. */
static void convert(const unsigned char *from, int side, bool raw, real *to) {
  int by = IDX_SIDE / side;
  for (int i = 0; i < side * side; i++) {
    int sum = 0;
    for (int j = 0; j < by * by; j++) {
      sum += from[(i / side * by + j / by) * IDX_SIDE + i % side * by + j % by];
    }
    double value = sum / (255.0 * by * by);
    to[i] = (real)(raw ? value : (value - fashion_mean) / fashion_deviation);
  }
}

pictures fashion_load(const char *data, part part, int64_t count, int side, bool raw) {
  char path[4096], error[IDX_ERROR];
  const char *folder = find(data, path);
  unsigned char *pixels, *labels;
  uint32_t pixel_count, label_count;
  bool test = part == TEST;
  if (folder == NULL) {
    engine_die("%s", fashion_missing(data));
  }
  int64_t first = part == VALIDATION ? TRAINING_COUNT - VALIDATION_COUNT : 0;
  int64_t room = test ? TEST_COUNT : part == VALIDATION ? VALIDATION_COUNT : TRAINING_COUNT - VALIDATION_COUNT;
  if (count > room) {
    engine_die("%lld pictures wanted, there are %lld", (long long)count, (long long)room);
  }
  if (!idx_read(folder, test ? "t10k-images-idx3-ubyte.gz" : "train-images-idx3-ubyte.gz", IDX_SIDE,
                (uint32_t)(first + count), &pixels, &pixel_count, error) ||
      !idx_read(folder, test ? "t10k-labels-idx1-ubyte.gz" : "train-labels-idx1-ubyte.gz", 0,
                (uint32_t)(first + count), &labels, &label_count, error)) {
    engine_die("%s", error);
  }
  if (pixel_count < first + count || label_count < first + count) {
    engine_die("%s: %u pictures and %u labels, expected %d of each", folder, pixel_count, label_count,
               test ? TEST_COUNT : TRAINING_COUNT);
  }
  pictures p = {.count = count, .channels = 1, .side = side};
  p.pixels = engine_alloc((size_t)(count * side * side) * sizeof(real));
  p.labels = engine_alloc((size_t)count * sizeof *p.labels);
  for (int64_t i = 0; i < count; i++) {
    convert(pixels + (first + i) * IDX_SIDE * IDX_SIDE, side, raw, p.pixels + i * side * side);
    p.labels[i] = labels[first + i];
    if (p.labels[i] >= CLASSES) {
      engine_die("%s: label %d, expected 0 to %d", folder, p.labels[i], CLASSES - 1);
    }
  }
  free(pixels);
  free(labels);
  return p;
}

void pictures_free(pictures *p) {
  free(p->pixels);
  free(p->labels);
}
