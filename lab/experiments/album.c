/* The photographs of style transfer. They are those of Debian's packages, by name: the split is part of the method. */
#include "album.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[ALBUM_ROLES][ALBUM_MOST] = {
    {"Aqua", "Blinds", "Garden", "GreenMeadow", "RainDrops", "TwoWings", "Wood", "cincinnati-bridge",
     "panther-chameleon-female"},
    {"castle-maintenon", "european-honey-bee", "LadyBird", "YellowFlower"},
    {"citrus-fruits", "Dune", "FreshFlower", "Storm"}};

/* The photograph FOLDER/NAME.jpg of the list, NULL if it is not there. */
static const char *find(const photo_list *list, const char *name) {
  size_t length = strlen(name);
  for (int i = 0; i < list->count; i++) {
    const char *slash = strrchr(list->path[i], '/'), *file = slash != NULL ? slash + 1 : list->path[i];
    if (strncmp(file, name, length) == 0 && file[length] == '.') {
      return list->path[i];
    }
  }
  return NULL;
}

const char *album_missing(const char *data) {
  static char text[256];
  static photo_list list;
  photo_find(data, &list);
  for (int role = 0; role < ALBUM_ROLES; role++) {
    for (int i = 0; i < ALBUM_MOST && names[role][i] != NULL; i++) {
      if (find(&list, names[role][i]) == NULL) {
        snprintf(text, sizeof text, "the photograph %s.jpg is not there: apt-get install %s", names[role][i],
                 PHOTO_PACKAGES);
        return text;
      }
    }
  }
  return NULL;
}

album album_load(const char *data, album_role role, int shorter) {
  static photo_list list;
  char error[PHOTO_ERROR];
  album s = {0};
  photo_find(data, &list);
  while (s.count < ALBUM_MOST && names[role][s.count] != NULL) {
    const char *path = find(&list, names[role][s.count]);
    if (path == NULL) {
      engine_die("%s", album_missing(data));
    }
    if (!photo_read(path, shorter, &s.photos[s.count], error)) {
      engine_die("%s", error);
    }
    s.count++;
  }
  return s;
}

album album_take_last(album *s, int count) {
  album last = {.count = count};
  s->count -= count;
  memcpy(last.photos, s->photos + s->count, (size_t)count * sizeof *last.photos);
  return last;
}

void album_free(album *s) {
  for (int i = 0; i < s->count; i++) {
    free(s->photos[i].pixels);
  }
}

/* From 0..1 to -1..1. */
static void expose(real *at, int64_t count, exposure exposure, rng *r) {
  double mean = 0.5, gain = 2, squares = 0;
  if (exposure == VARIED) {
    gain *= 0.2 + 0.8 * rng_uniform(r);
  } else if (exposure == NORMALIZED) {
    mean = 0;
    for (int64_t i = 0; i < count; i++) {
      mean += (double)at[i] / (double)count;
    }
    for (int64_t i = 0; i < count; i++) {
      squares += ((double)at[i] - mean) * ((double)at[i] - mean);
    }
    gain = 0.5 / sqrt(squares / (double)count + 1e-5);
  }
  for (int64_t i = 0; i < count; i++) {
    at[i] = (real)(gain * ((double)at[i] - mean));
  }
}

tensor album_random(const album *s, int n, int side, exposure exposure, rng *r, real *to) {
  int64_t size = (int64_t)PHOTO_CHANNELS * side * side;
  for (int i = 0; i < n; i++) {
    photo_random_crop(&s->photos[rng_below(r, s->count)], side, r, to + i * size);
    expose(to + i * size, size, exposure, r);
  }
  return tensor4(to, n, PHOTO_CHANNELS, side, side);
}

tensor album_corners(const album *s, int side, exposure exposure, rng *r) {
  int64_t size = (int64_t)PHOTO_CHANNELS * side * side;
  tensor x = tensor4(engine_alloc((size_t)(4 * s->count * size) * sizeof(real)), 4 * s->count, PHOTO_CHANNELS, side,
                     side);
  for (int i = 0; i < 4 * s->count; i++) {
    const photo *p = &s->photos[i / 4];
    photo_crop(p, i % 2 * (p->width - side), i / 2 % 2 * (p->height - side), side, x.at + i * size);
    expose(x.at + i * size, size, exposure, r);
  }
  return x;
}

tensor album_whole(const photo *p) {
  int64_t count = (int64_t)PHOTO_CHANNELS * p->height * p->width;
  real *at = engine_alloc((size_t)count * sizeof *at);
  memcpy(at, p->pixels, (size_t)count * sizeof *at);
  expose(at, count, AS_TAKEN, NULL);
  return tensor4(at, 1, PHOTO_CHANNELS, p->height, p->width);
}

void album_middle(const photo *p, int side, real *to) {
  photo_crop(p, (p->width - side) / 2, (p->height - side) / 2, side, to);
  expose(to, (int64_t)PHOTO_CHANNELS * side * side, AS_TAKEN, NULL);
}

filter_net album_filters(const album *training, int side) {
  enum { SQUARES = 32, SEED = 10 };
  rng r = rng_new(SEED, 0);
  filter_net f = filter_net_new(&r);
  real *squares = engine_alloc((size_t)(SQUARES * PHOTO_CHANNELS * side * side) * sizeof *squares);
  filter_net_calibrate(&f, album_random(training, SQUARES, side, AS_TAKEN, &r, squares));
  free(squares);
  return f;
}

/* ---------------------------------------------------------------------------------------------------- pictures --- */

enum { GAP = 4 };

void album_picture(const run *run, const char *name, const real *squares, int rows, int columns, int side) {
  int step = side + GAP, width = columns * step - GAP, height = rows * step - GAP;
  unsigned char *rgb = engine_alloc((size_t)(3 * width * height));
  memset(rgb, 255, (size_t)(3 * width * height));
  for (int i = 0; i < rows * columns * 3 * side * side; i++) {
    int x = i % side, y = i / side % side, colour = i / (side * side) % 3, square = i / (3 * side * side);
    double value = fmin(fmax(127.5 * (1 + (double)squares[i]), 0), 255);
    rgb[3 * ((square / columns * step + y) * width + square % columns * step + x) + colour] =
        (unsigned char)lrint(value);
  }
  run_picture(run, name, rgb, width, height);
  free(rgb);
}
