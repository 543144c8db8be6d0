/* Losses and what is measured beside them. */
#include "maths.h"

/* Logits as (outer, classes, inner): inner is the number of pixels of an image, else 1. */
typedef struct logits {
  int64_t outer, classes, inner;
} logits;

static logits logits_of(tensor y) {
  logits s;
  s.classes = y.ndim == 4 ? y.dim[1] : y.dim[y.ndim - 1];
  s.inner = y.ndim == 4 ? y.dim[2] * y.dim[3] : 1;
  s.outer = tensor_count(y) / (s.classes * s.inner);
  return s;
}

static int64_t largest(const real *at, int64_t classes, int64_t next) {
  int64_t best = 0;
  for (int64_t c = 1; c < classes; c++) {
    best = at[c * next] > at[best * next] ? c : best;
  }
  return best;
}

double cross_entropy(tensor y, const int32_t *labels, real *dy, int64_t *hits) {
  logits s = logits_of(y);
  int64_t valid = 0, right = 0;
  double total = 0;
  for (int64_t i = 0; i < s.outer * s.inner; i++) {
    valid += labels[i] >= 0;
  }
  for (int64_t i = 0; i < s.outer * s.inner; i++) {
    int64_t at = i / s.inner * s.classes * s.inner + i % s.inner, best = largest(y.at + at, s.classes, s.inner);
    double sum = 0, top = (double)y.at[at + best * s.inner];
    if (labels[i] >= s.classes) {
      engine_die("cross_entropy: label %d of %lld classes", labels[i], (long long)s.classes);
    }
    for (int64_t c = 0; c < s.classes; c++) {
      sum += exp((double)y.at[at + c * s.inner] - top);
    }
    if (labels[i] >= 0) {
      total += log(sum) + top - (double)y.at[at + labels[i] * s.inner];
      right += best == labels[i];
    }
    for (int64_t c = 0; c < s.classes && dy != NULL; c++) {
      double p = exp((double)y.at[at + c * s.inner] - top) / sum;
      dy[at + c * s.inner] = labels[i] < 0 ? 0 : (real)((p - (c == labels[i])) / (double)valid);
    }
  }
  if (hits != NULL) {
    *hits = right;
  }
  return valid > 0 ? total / (double)valid : 0;
}

void predict(tensor y, int32_t *classes) {
  logits s = logits_of(y);
  for (int64_t i = 0; i < s.outer * s.inner; i++) {
    int64_t at = i / s.inner * s.classes * s.inner + i % s.inner;
    classes[i] = (int32_t)largest(y.at + at, s.classes, s.inner);
  }
}

double squared_error(tensor y, const real *target, real *dy) {
  int64_t count = tensor_count(y);
  double total = 0;
  for (int64_t i = 0; i < count; i++) {
    double difference = (double)y.at[i] - (double)target[i];
    total += difference * difference;
    if (dy != NULL) {
      dy[i] = (real)(2 * difference / (double)count);
    }
  }
  return total / (double)count;
}
