/* lab/data/scenes.c and emoji.c: what the scenes are made of, their labels, and that a seed says it all. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <png.h>

#include "../../lab/data/scenes.h"

enum { SIDE = 32, COUNT = 300, PLANE = SIDE * SIDE, PHOTOS = 9, SYMBOL = EMOJI_PLANES * EMOJI_HEIGHT * EMOJI_WIDTH };

/* Photograph i of the folder has one colour: red i / 10, green 0.5, blue 1. */
static char folder[64];

static int make_photos(void **state) {
  char path[100];
  (void)state;
  strcpy(folder, "/tmp/norma_scenes_XXXXXX");
  if (mkdtemp(folder) == NULL) {
    return -1;
  }
  snprintf(path, sizeof path, "%s/photos", folder);
  if (mkdir(path, 0700) != 0) {
    return -1;
  }
  for (int i = 0; i < PHOTOS; i++) {
    static unsigned char rgb[PLANE * 3];
    png_image png = {.version = PNG_IMAGE_VERSION, .width = SIDE, .height = SIDE, .format = PNG_FORMAT_RGB};
    for (int j = 0; j < PLANE; j++) {
      memcpy(rgb + 3 * j, (unsigned char[]){(unsigned char)(i * 25), 127, 255}, 3);
    }
    snprintf(path, sizeof path, "%s/photos/%d.png", folder, i);
    if (!png_image_write_to_file(&png, path, 0, rgb, 0, NULL)) {
      return -1;
    }
  }
  return 0;
}

static int remove_photos(void **state) {
  char path[100];
  (void)state;
  for (int i = 0; i < PHOTOS; i++) {
    snprintf(path, sizeof path, "%s/photos/%d.png", folder, i);
    unlink(path);
  }
  snprintf(path, sizeof path, "%s/photos", folder);
  rmdir(path);
  return rmdir(folder);
}

static scenes make(bool jitter, scene_world world, bool held_out, uint64_t seed) {
  scene_options o = {.side = SIDE, .jitter = jitter, .world = world, .held_out = held_out, .seed = seed};
  return scenes_make(folder, COUNT, o);
}

/* The value of a channel of scene i, from 0 to 1. */
static double value(const scenes *s, int64_t i, int channel, int pixel) {
  return ((double)s->pixels[(i * 3 + channel) * PLANE + pixel] + 2) / 4;
}

/* ---------------------------------------------------------------------------------------------------- symbols --- */

static const real *find_symbol(const emoji *e, uint32_t code) {
  for (int i = 0; i < e->count; i++) {
    if (e->code[i] == code) {
      return e->planes + (int64_t)i * SYMBOL;
    }
  }
  fail_msg("no symbol U+%X", code);
  return NULL;
}

static void the_font_has_symbols(void **state) {
  (void)state;
  emoji e;
  char error[EMOJI_ERROR];
  assert_null(emoji_missing());
  assert_true(emoji_read(&e, error));
  assert_true(e.count > 1000);
  for (int i = 0; i < e.count; i++) {
    assert_true(i == 0 || e.code[i - 1] < e.code[i]);
    for (int j = 0; j < SYMBOL; j++) {
      real alpha = e.planes[(int64_t)i * SYMBOL + SYMBOL / 4 * 3 + j % (SYMBOL / 4)];
      assert_true(e.planes[(int64_t)i * SYMBOL + j] >= 0 && e.planes[(int64_t)i * SYMBOL + j] <= alpha + (real)1e-6);
    }
  }
  const int centre = EMOJI_HEIGHT / 2 * EMOJI_WIDTH + EMOJI_WIDTH / 2, plane = SYMBOL / 4;
  const real *red = find_symbol(&e, 0x1f534), *blue = find_symbol(&e, 0x1f535);
  assert_true(red[centre] > (real)0.8 && red[2 * plane + centre] < (real)0.4 && red[3 * plane + centre] == 1);
  assert_true(blue[centre] < (real)0.4 && blue[2 * plane + centre] > (real)0.7 && blue[3 * plane + centre] == 1);
  assert_true(red[3 * plane] == 0); /* a corner */
  emoji_free(&e);
}

/* A symbol whose numbers have no pattern, pasted beyond the edge too. */
static void labels_are_where_alpha_exceeds_a_half(void **state) {
  (void)state;
  enum { SIZE = 14 };
  static real symbol[SYMBOL], resized[4 * SIZE * SIZE], pixels[3 * PLANE];
  static int32_t labels[PLANE];
  static const int corners[][2] = {{5, 9}, {-6, 3}, {25, 27}, {3, -7}};
  rng r = rng_new(3, 1);
  for (int i = 0; i < SYMBOL; i++) {
    symbol[i] = (real)rng_uniform(&r);
  }
  planes_resize(symbol, 4, EMOJI_HEIGHT, EMOJI_WIDTH, resized, SIZE, SIZE);
  for (int k = 0; k < 8; k++) {
    int left = corners[k / 2][0], top = corners[k / 2][1], ones = 0;
    bool flip = k % 2 == 1;
    memset(labels, 0, sizeof labels);
    for (int i = 0; i < 3 * PLANE; i++) {
      pixels[i] = (real)0.25;
    }
    scene_paste(symbol, SIZE, flip, left, top, SIDE, pixels, labels);
    for (int i = 0; i < PLANE; i++) {
      int y = i / SIDE - top, x = i % SIDE - left;
      bool inside = y >= 0 && y < SIZE && x >= 0 && x < SIZE;
      int at = y * SIZE + (flip ? SIZE - 1 - x : x);
      real alpha = inside ? resized[3 * SIZE * SIZE + at] : 0, green = inside ? resized[SIZE * SIZE + at] : 0;
      assert_int_equal(labels[i], alpha > (real)0.5);
      assert_true(fabs((double)(pixels[PLANE + i] - (green + (1 - alpha) * (real)0.25))) < 1e-6);
      ones += labels[i];
    }
    assert_true(ones > 10);
  }
}

/* ----------------------------------------------------------------------------------------------------- scenes --- */

static void training_and_test_share_nothing(void **state) {
  (void)state;
  static const scene_world worlds[] = {WORLD_ALL, WORLD_HOME, WORLD_AWAY};
  for (int w = 0; w < 3; w++) {
    for (int held_out = 0; held_out < 2; held_out++) {
      scenes s = make(false, worlds[w], held_out == 1, 5);
      bool seen[PHOTOS] = {false};
      for (int i = 0; i < COUNT; i++) {
        const scene_origin *o = &s.origins[i];
        seen[o->photo] = true;
        assert_true((o->photo % 3 == 2) == (held_out == 1));
        assert_in_range(o->symbols, 1, 3);
        for (int j = 0; j < o->symbols; j++) {
          assert_true((o->code[j] >> 4 & 3) == 3 ? held_out == 1 : held_out == 0);
          assert_true(w == 0 || (o->code[j] < 0x1f440) == (worlds[w] == WORLD_HOME));
        }
      }
      static const bool expected[2][3][PHOTOS] = {
          {{1, 1, 0, 1, 1, 0, 1, 1, 0}, {1, 1, 0, 0, 0, 0, 1, 1, 0}, {0, 0, 0, 1, 1, 0, 0, 0, 0}},
          {{0, 0, 1, 0, 0, 1, 0, 0, 1}, {0, 0, 1, 0, 0, 1, 0, 0, 1}, {0, 0, 1, 0, 0, 1, 0, 0, 1}}};
      assert_memory_equal(seen, expected[held_out][w], sizeof seen);
      scenes_free(&s);
    }
  }
}

static void a_seed_says_it_all(void **state) {
  (void)state;
  scenes a = make(true, WORLD_ALL, false, 8), b = make(true, WORLD_ALL, false, 8), c = make(true, WORLD_ALL, false, 9);
  assert_memory_equal(a.pixels, b.pixels, COUNT * 3 * PLANE * sizeof(real));
  assert_memory_equal(a.labels, b.labels, COUNT * PLANE * sizeof(int32_t));
  assert_memory_not_equal(a.pixels, c.pixels, COUNT * 3 * PLANE * sizeof(real));
  scenes_free(&a);
  scenes_free(&b);
  scenes_free(&c);
}

/* The jittered scene is the plain one times a factor plus a shift, clipped; both are the same for the whole scene. */
static void another_light_is_a_line(void **state) {
  (void)state;
  scenes plain = make(false, WORLD_ALL, false, 4), lit = make(true, WORLD_ALL, false, 4);
  double least = 1, most = 0;
  int shifted = 0;
  assert_memory_equal(plain.labels, lit.labels, COUNT * PLANE * sizeof(int32_t));
  for (int i = 0; i < COUNT; i++) {
    double x[2] = {2, -1}, y[2] = {0, 0}; /* the darkest value, and the brightest that is not clipped */
    for (int j = 0; j < 3 * PLANE; j++) {
      double a = value(&plain, i, j / PLANE, j % PLANE), b = value(&lit, i, j / PLANE, j % PLANE);
      assert_true(a > -1e-6 && a < 1 + 1e-6 && b > -1e-6 && b < 1 + 1e-6);
      int k = a < x[0] ? 0 : 1;
      if (k == 0 || (a > x[1] && b < 0.9999)) {
        x[k] = a;
        y[k] = b;
      }
    }
    double factor = (y[1] - y[0]) / (x[1] - x[0]), shift = y[0] - factor * x[0];
    assert_true(factor > 0.399 && factor < 1.001 && shift > -1e-3 && shift < 0.401);
    for (int j = 0; j < 3 * PLANE; j++) {
      double line = value(&plain, i, j / PLANE, j % PLANE) * factor + shift;
      assert_true(fabs((line > 1 ? 1 : line) - value(&lit, i, j / PLANE, j % PLANE)) < 2e-3);
    }
    least = fmin(least, factor);
    most = fmax(most, factor);
    shifted += shift > 1e-3;
  }
  assert_true(least < 0.45 && most > 0.95 && shifted > COUNT * 2 / 5 && shifted < COUNT * 3 / 5);
  scenes_free(&plain);
  scenes_free(&lit);
}

/* Where the first pixel is not covered it has the colour of the recorded photograph. In the other world green comes
 * first, blue second, and red last. */
static void the_background_is_the_photograph(void **state) {
  (void)state;
  for (int away = 0; away < 2; away++) {
    scenes s = make(false, away ? WORLD_AWAY : WORLD_ALL, false, 4);
    int checked = 0;
    for (int i = 0; i < COUNT; i++) {
      double red = value(&s, i, away ? 2 : 0, 0), green = value(&s, i, away ? 0 : 1, 0);
      if (fabs(green - 127 / 255.0) < 1e-6 && fabs(value(&s, i, away ? 1 : 2, 0) - 1) < 1e-6) {
        assert_true(fabs(red - s.origins[i].photo * 25 / 255.0) < 1e-6);
        checked++;
      }
    }
    assert_true(checked > COUNT / 3);
    scenes_free(&s);
  }
}

static void a_scene_has_both_classes(void **state) {
  (void)state;
  scenes s = make(false, WORLD_ALL, false, 6);
  int64_t ones = 0, empty = 0;
  for (int i = 0; i < COUNT; i++) {
    int64_t before = ones;
    for (int j = 0; j < PLANE; j++) {
      assert_in_range(s.labels[i * PLANE + j], 0, 1);
      ones += s.labels[i * PLANE + j];
    }
    empty += ones == before;
  }
  assert_in_range(ones, (int64_t)COUNT * PLANE / 10, (int64_t)COUNT * PLANE / 2);
  assert_true(empty < COUNT / 50);
  scenes_free(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_font_has_symbols),
      cmocka_unit_test(labels_are_where_alpha_exceeds_a_half),
      cmocka_unit_test(training_and_test_share_nothing),
      cmocka_unit_test(a_seed_says_it_all),
      cmocka_unit_test(another_light_is_a_line),
      cmocka_unit_test(the_background_is_the_photograph),
      cmocka_unit_test(a_scene_has_both_classes),
  };
  return cmocka_run_group_tests_name("scenes", tests, make_photos, remove_photos);
}
