/* Segmentation: what E3 and E17 share. */
#include "segment.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_CLASSES = 32 };

pictures scenes_as_pictures(scenes s) {
  free(s.origins);
  return (pictures){.count = s.count, .channels = s.channels, .side = s.side, .pixels = s.pixels,
                    .labels = s.labels, .pixel_labels = true};
}

pictures take_last(pictures *set, int64_t count) {
  pictures last = *set;
  int64_t size = picture_size(set), each = picture_labels(set);
  set->count -= count;
  last.count = count;
  last.pixels = engine_alloc((size_t)(count * size) * sizeof *last.pixels);
  last.labels = engine_alloc((size_t)(count * each) * sizeof *last.labels);
  memcpy(last.pixels, set->pixels + set->count * size, (size_t)(count * size) * sizeof *last.pixels);
  memcpy(last.labels, set->labels + set->count * each, (size_t)(count * each) * sizeof *last.labels);
  return last;
}

typedef struct tally {
  int64_t both[MOST_CLASSES], either[MOST_CLASSES];
} tally;

static void count_pixels(tally *t, const int32_t *truth, const int32_t *found, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    if (truth[i] == found[i]) {
      t->both[truth[i]]++;
      t->either[truth[i]]++;
    } else {
      t->either[truth[i]]++;
      t->either[found[i]]++;
    }
  }
}

double mean_iou(layer *net, const pictures *set, int batch, phase phase, int rows) {
  tally t = {0};
  int64_t each = picture_labels(set);
  real *pixels = engine_alloc((size_t)(batch * picture_size(set)) * sizeof *pixels);
  int32_t *truth = engine_alloc((size_t)(batch * each) * sizeof *truth);
  int32_t *found = engine_alloc((size_t)(batch * each) * sizeof *found);
  int32_t *indices = engine_alloc((size_t)batch * sizeof *indices);
  for (int64_t i = 0; i < set->count; i += batch) {
    int count = i + batch <= set->count ? batch : (int)(set->count - i);
    for (int j = 0; j < count; j++) {
      indices[j] = (int32_t)(i + j);
    }
    predict(forward(net, picture_batch(set, indices, count, rows, pixels, truth), phase), found);
    count_pixels(&t, truth, found, count * each);
  }
  free(pixels);
  free(truth);
  free(found);
  free(indices);
  double sum = 0, classes = 0;
  for (int c = 0; c < MOST_CLASSES; c++) {
    if (t.either[c] > 0) {
      sum += (double)t.both[c] / (double)t.either[c];
      classes++;
    }
  }
  return 100 * sum / classes;
}

norm_spec segment_norm(const char *arm, int groups) {
  char name[16] = "";
  memcpy(name, arm, strcspn(arm, "_") < sizeof name ? strcspn(arm, "_") : 0);
  return strcmp(name, "gn") == 0 ? (norm_spec){.kind = NORM_GROUP, .groups = groups} : norm_named(name);
}

double segment_rate(int batch) { return batch == 1 ? 1e-3 : batch == 2 ? 2e-3 : 3e-3; }
