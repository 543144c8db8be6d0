/* Scenes: a random part of a photograph, one to three symbols on it, and another light. */
#include "scenes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  LEAST_PHOTOS = 6,
  PHOTO_SCALE = 4,    /* the shorter side of a photograph, in sides of a scene */
  SYMBOL_SIZE = EMOJI_PLANES * EMOJI_HEIGHT * EMOJI_WIDTH,
  PEOPLE = 0x1f440,   /* symbols from here on are bodies, people, things, faces, vehicles; before: nature, food, play */
  STREAM_SCENES = 11
};

bool scene_symbol_held_out(uint32_t code) { return code / 16 % 4 == 3; }

bool scene_photo_held_out(int index) { return index % 3 == 2; }

scene_world scene_symbol_world(uint32_t code) { return code < PEOPLE ? WORLD_HOME : WORLD_AWAY; }

/* Training photographs are in turn of one world and of the other; those held out are in both. */
static scene_world photo_world(int index) { return index / 3 % 2 == 0 ? WORLD_HOME : WORLD_AWAY; }

const char *scenes_missing(const char *data) {
  const char *missing = emoji_missing();
  return missing != NULL ? missing : photo_missing(data, LEAST_PHOTOS);
}

/* What scenes of one kind are made of. */
typedef struct stock {
  emoji symbols;
  int32_t *symbol;     /* those of this part and world, as indices of `symbols` */
  photo *photos;
  int *photo;          /* their numbers in the list */
  int symbol_count, photo_count;
} stock;

static stock stock_open(const char *data, const scene_options *o) {
  static photo_list list;
  char error[PHOTO_ERROR];
  stock s = {0};
  if (scenes_missing(data) != NULL) {
    engine_die("%s", scenes_missing(data));
  }
  photo_find(data, &list);
  s.photos = engine_alloc((size_t)list.count * sizeof *s.photos);
  s.photo = engine_alloc((size_t)list.count * sizeof *s.photo);
  for (int i = 0; i < list.count; i++) {
    bool wanted = o->world == WORLD_ALL || o->held_out || photo_world(i) == o->world;
    if (scene_photo_held_out(i) == o->held_out && wanted) {
      s.photo[s.photo_count] = i;
      if (!photo_read(list.path[i], PHOTO_SCALE * o->side, &s.photos[s.photo_count++], error)) {
        engine_die("%s", error);
      }
    }
  }
  if (!emoji_read(&s.symbols, error)) {
    engine_die("%s", error);
  }
  s.symbol = engine_alloc((size_t)s.symbols.count * sizeof *s.symbol);
  for (int32_t i = 0; i < s.symbols.count; i++) {
    uint32_t code = s.symbols.code[i];
    if (scene_symbol_held_out(code) == o->held_out && (o->world == WORLD_ALL || scene_symbol_world(code) == o->world)) {
      s.symbol[s.symbol_count++] = i;
    }
  }
  return s;
}

static void stock_close(stock *s) {
  for (int i = 0; i < s->photo_count; i++) {
    free(s->photos[i].pixels);
  }
  free(s->photos);
  free(s->photo);
  free(s->symbol);
  emoji_free(&s->symbols);
}

void scene_paste(const real *symbol, int size, bool flip, int left, int top, int side, real *pixels, int32_t *labels) {
  int64_t area = (int64_t)size * size, plane = (int64_t)side * side;
  real *resized = engine_alloc((size_t)(EMOJI_PLANES * area) * sizeof *resized);
  planes_resize(symbol, EMOJI_PLANES, EMOJI_HEIGHT, EMOJI_WIDTH, resized, size, size);
  for (int64_t i = 0; i < area; i++) {
    int64_t y = top + i / size, x = left + i % size;
    const real *from = resized + (flip ? i / size * size + size - 1 - i % size : i);
    if (y < 0 || y >= side || x < 0 || x >= side) {
      continue;
    }
    real alpha = from[3 * area];
    for (int c = 0; c < PHOTO_CHANNELS; c++) {
      real *to = pixels + c * plane + y * side + x;
      *to = from[c * area] + (1 - alpha) * *to;
    }
    if (alpha > (real)0.5) {
      labels[y * side + x] = 1;
    }
  }
  free(resized);
}

/* The centre of a symbol is within the scene, so at least a quarter of its frame is. */
static void paste_some(const stock *s, int side, rng *r, scene_origin *origin, real *pixels, int32_t *labels) {
  origin->symbols = 1 + (int)rng_below(r, SCENE_SYMBOLS);
  for (int i = 0; i < origin->symbols; i++) {
    int32_t chosen = s->symbol[rng_below(r, s->symbol_count)];
    const real *symbol = s->symbols.planes + chosen * (int64_t)SYMBOL_SIZE;
    origin->code[i] = s->symbols.code[chosen];
    int size = side * 3 / 8 + (int)rng_below(r, side / 4 + 1);
    int left = (int)rng_below(r, side) - size / 2, top = (int)rng_below(r, side) - size / 2;
    scene_paste(symbol, size, rng_below(r, 2) == 1, left, top, side, pixels, labels);
  }
}

/* Another light, other colours in the other world, and numbers around 0. */
static void finish(const scene_options *o, rng *r, real *pixels) {
  int64_t plane = (int64_t)o->side * o->side;
  double factor = 0.4 + 0.6 * rng_uniform(r), shift = rng_below(r, 2) == 1 ? 0.4 * rng_uniform(r) : 0;
  if (o->world == WORLD_AWAY) {
    real *red = engine_alloc((size_t)plane * sizeof *red);
    memcpy(red, pixels, (size_t)plane * sizeof *red);
    memmove(pixels, pixels + plane, (size_t)(2 * plane) * sizeof *red);
    memcpy(pixels + 2 * plane, red, (size_t)plane * sizeof *red);
    free(red);
  }
  for (int64_t i = 0; i < PHOTO_CHANNELS * plane; i++) {
    double value = o->jitter ? (double)pixels[i] * factor + shift : (double)pixels[i];
    pixels[i] = (real)((value > 1 ? 1 : value) * 4 - 2);
  }
}

scenes scenes_make(const char *data, int64_t count, scene_options o) {
  scenes made = {.count = count, .channels = PHOTO_CHANNELS, .side = o.side, .classes = 2};
  int64_t plane = (int64_t)o.side * o.side;
  stock s = stock_open(data, &o);
  rng r = rng_new(o.seed, STREAM_SCENES + (o.held_out ? 1 : 0) + 2 * (uint64_t)o.world);
  made.pixels = engine_alloc((size_t)(count * PHOTO_CHANNELS * plane) * sizeof *made.pixels);
  made.labels = engine_alloc((size_t)(count * plane) * sizeof *made.labels);
  made.origins = engine_alloc((size_t)count * sizeof *made.origins);
  for (int64_t i = 0; i < count; i++) {
    real *pixels = made.pixels + i * PHOTO_CHANNELS * plane;
    int64_t chosen = rng_below(&r, s.photo_count);
    made.origins[i].photo = s.photo[chosen];
    photo_random_crop(&s.photos[chosen], o.side, &r, pixels);
    paste_some(&s, o.side, &r, &made.origins[i], pixels, made.labels + i * plane);
    finish(&o, &r, pixels);
  }
  stock_close(&s);
  return made;
}

void scenes_free(scenes *s) {
  free(s->pixels);
  free(s->labels);
  free(s->origins);
  *s = (scenes){0};
}
