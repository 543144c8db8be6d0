/* Text in blocks and windows. */
#include "language.h"

#include <stdio.h>

/* Blocks are spread over the text, so that all three uses have all of its parts. */
enum { BLOCK = 8192, OF_TEN = 10, LEAST = 200000, MOST_BYTES = 16 << 20 };

const char *language_missing(const char *data) {
  static char text[256];
  char path[4096];
  if (text_find(data, path) != NULL) {
    return NULL;
  }
  snprintf(text, sizeof text,
           "there is no %s: apt-get install %s (container images without documentation leave its text out), "
           "or name a folder that has a text.txt with --data DIR", text_standard_path, TEXT_PACKAGE);
  return text;
}

text_file language_load(const char *data) {
  char path[4096], error[TEXT_ERROR];
  const char *found = text_find(data, path);
  text_file text;
  if (found == NULL) {
    engine_die("%s", language_missing(data));
  }
  if (!text_read(found, MOST_BYTES, &text, error)) {
    engine_die("%s", error);
  }
  if (text.count < LEAST) {
    engine_die("%s: %lld characters, expected at least %d", found, (long long)text.count, LEAST);
  }
  return text;
}

static use use_of(int64_t block) {
  return block % OF_TEN == 9 ? FOR_VALIDATION : block % OF_TEN == 4 ? FOR_TRIALS : FOR_TRAINING;
}

int64_t language_random(const text_file *text, use use, int length, rng *r) {
  int64_t block;
  do {
    block = rng_below(r, text->count / BLOCK);
  } while (use_of(block) != use);
  return block * BLOCK + rng_below(r, BLOCK - length);
}

int language_windows(const text_file *text, use use, int length, int most, int64_t *places) {
  rng r = rng_new(1, 1);
  int64_t seen = 0;
  for (int64_t block = 0; block < text->count / BLOCK; block++) {
    for (int64_t at = 0; at + length < BLOCK && use_of(block) == use; at += length) {
      /* Reservoir: each window is kept with the same probability, and the places come out mixed. */
      int64_t to = rng_below(&r, ++seen);
      if (seen <= most) {
        places[seen - 1] = places[to];
      }
      if (to < most) {
        places[to] = block * BLOCK + at;
      }
    }
  }
  return (int)(seen < most ? seen : most);
}

tensor language_batch(const text_file *text, const int64_t *places, int count, int length, real *x, int32_t *labels) {
  for (int64_t i = 0; i < (int64_t)count * length; i++) {
    const uint8_t *at = text->at + places[i / length] + i % length;
    x[i] = (real)at[0];
    labels[i] = at[1];
  }
  return tensor2(x, count, length);
}
