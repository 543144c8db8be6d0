/* lab/data/photo.c: files of all kinds, sizes, crops, and which photographs there are. */
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
#include <turbojpeg.h>

#include "../../lab/data/photo.h"

enum { WIDTH = 40, HEIGHT = 24 };

static char folder[64], error[PHOTO_ERROR];

static int make_folder(void **state) {
  (void)state;
  char photos[80];
  strcpy(folder, "/tmp/norma_photo_XXXXXX");
  if (mkdtemp(folder) == NULL) {
    return -1;
  }
  snprintf(photos, sizeof photos, "%s/photos", folder);
  return mkdir(photos, 0700);
}

static int remove_folder(void **state) {
  static photo_list list;
  char photos[80];
  (void)state;
  photo_find(folder, &list);
  for (int i = 0; i < list.count; i++) {
    unlink(list.path[i]);
  }
  snprintf(photos, sizeof photos, "%s/photos", folder);
  rmdir(photos);
  return rmdir(folder);
}

static const char *file_path(const char *name) {
  static char path[160];
  snprintf(path, sizeof path, "%s/photos/%s", folder, name);
  return path;
}

static void write_bytes(const char *name, const void *bytes, size_t count) {
  FILE *stream = fopen(file_path(name), "wb");
  assert_non_null(stream);
  assert_int_equal(fwrite(bytes, 1, count, stream), count);
  assert_int_equal(fclose(stream), 0);
}

/* Red grows to the right, green downwards, blue is a fifth of white. */
static void paint(unsigned char rgb[HEIGHT * WIDTH * 3]) {
  for (int i = 0; i < HEIGHT * WIDTH; i++) {
    rgb[3 * i] = (unsigned char)(i % WIDTH * 6);
    rgb[3 * i + 1] = (unsigned char)(i / WIDTH * 10);
    rgb[3 * i + 2] = 51;
  }
}

static void write_png(const char *name) {
  unsigned char rgb[HEIGHT * WIDTH * 3];
  png_image png = {.version = PNG_IMAGE_VERSION, .width = WIDTH, .height = HEIGHT, .format = PNG_FORMAT_RGB};
  paint(rgb);
  assert_true(png_image_write_to_file(&png, file_path(name), 0, rgb, 0, NULL));
}

static void write_jpeg(const char *name) {
  unsigned char rgb[HEIGHT * WIDTH * 3], *jpeg = NULL;
  unsigned long size = 0;
  tjhandle compressor = tjInitCompress();
  paint(rgb);
  assert_int_equal(tjCompress2(compressor, rgb, WIDTH, 0, HEIGHT, TJPF_RGB, &jpeg, &size, TJSAMP_444, 100, 0), 0);
  write_bytes(name, jpeg, size);
  tjFree(jpeg);
  tjDestroy(compressor);
}

static real at(const photo *p, int channel, int y, int x) {
  return p->pixels[(channel * p->height + y) * p->width + x];
}

/* ------------------------------------------------------------------------------------------------------ files --- */

static void a_png_is_read_as_planes(void **state) {
  (void)state;
  photo p;
  write_png("a.png");
  assert_true(photo_read(file_path("a.png"), 0, &p, error));
  assert_int_equal(p.width, WIDTH);
  assert_int_equal(p.height, HEIGHT);
  assert_true(at(&p, 0, 5, 7) == (real)42 / 255);
  assert_true(at(&p, 1, 5, 7) == (real)50 / 255);
  assert_true(at(&p, 2, 23, 39) == (real)51 / 255);
  free(p.pixels);
}

static void a_jpeg_is_read_as_planes(void **state) {
  (void)state;
  photo p;
  write_jpeg("b.jpg");
  assert_true(photo_read(file_path("b.jpg"), 0, &p, error));
  assert_int_equal(p.width, WIDTH);
  for (int c = 0; c < 3; c++) {
    int expected[3] = {42, 50, 51};
    assert_true(fabs((double)at(&p, c, 5, 7) * 255 - expected[c]) < 4);
  }
  free(p.pixels);
}

/* The JPEG decoder may scale by itself, the PNG decoder cannot: both give the same picture. */
static void a_photo_is_read_in_a_smaller_size(void **state) {
  (void)state;
  photo p[2];
  write_png("a.png");
  write_jpeg("b.jpg");
  assert_true(photo_read(file_path("a.png"), 6, &p[0], error));
  assert_true(photo_read(file_path("b.jpg"), 6, &p[1], error));
  for (int i = 0; i < 2; i++) {
    assert_int_equal(p[i].width, 10);
    assert_int_equal(p[i].height, 6);
    assert_true(fabs((double)at(&p[i], 0, 2, 3) * 255 - 81) < 6); /* columns 12 to 15 */
    assert_true(fabs((double)at(&p[i], 1, 2, 3) * 255 - 95) < 6); /* rows 8 to 11 */
    free(p[i].pixels);
  }
}

static void a_bad_file_is_named(void **state) {
  (void)state;
  photo p;
  assert_false(photo_read(file_path("none.jpg"), 0, &p, error));
  assert_non_null(strstr(error, "none.jpg: cannot be read: No such file"));
  write_bytes("bad.jpg", "no picture", 10);
  assert_false(photo_read(file_path("bad.jpg"), 0, &p, error));
  assert_non_null(strstr(error, "bad.jpg: not a JPEG that can be read"));
  write_bytes("bad.png", "\x89PNG\r\n\x1a\nnothing", 15);
  assert_false(photo_read(file_path("bad.png"), 0, &p, error));
  assert_non_null(strstr(error, "bad.png: not a PNG that can be read"));
  write_bytes("empty.jpg", "", 0);
  assert_false(photo_read(file_path("empty.jpg"), 0, &p, error));
  assert_null(strchr(error, '\n'));
}

static void the_folder_of_the_user_comes_first_and_in_order(void **state) {
  static photo_list list;
  (void)state;
  write_png("b.png");
  write_png("a.PNG");
  write_png("c.jpeg");
  write_bytes("notes.txt", "", 0);
  photo_find(folder, &list);
  unlink(file_path("notes.txt"));
  assert_true(list.count >= 3);
  for (int i = 0; i < list.count; i++) {
    assert_null(strstr(list.path[i], "notes.txt"));
    assert_memory_equal(list.path[i], folder, strlen(folder));
    assert_true(i == 0 || strcmp(list.path[i - 1], list.path[i]) < 0);
  }
}

static void too_few_photos_are_missing(void **state) {
  (void)state;
  write_png("a.png");
  assert_null(photo_missing(folder, 1));
  const char *text = photo_missing(folder, 1000);
  assert_non_null(strstr(text, "it takes 1000: apt-get install palapeli-data mate-backgrounds"));
}

static void the_packages_have_photographs(void **state) {
  static photo_list list;
  (void)state;
  photo p;
  photo_find(NULL, &list);
  assert_true(list.count >= 12);
  for (int i = 0; i < list.count; i++) {
    assert_true(photo_read(list.path[i], 96, &p, error));
    assert_int_equal(p.width < p.height ? p.width : p.height, 96);
    free(p.pixels);
  }
}

/* ----------------------------------------------------------------------------------------------------- pixels --- */

static void a_pixel_is_the_mean_of_its_area(void **state) {
  (void)state;
  const real from[6] = {1, 2, 3, 4, 5, 6};
  real half[3], third[4], same[6];
  planes_resize(from, 1, 2, 3, half, 1, 3);
  assert_true(half[0] == 2.5F && half[1] == 3.5F && half[2] == 4.5F);
  planes_resize(from, 1, 2, 3, third, 2, 2); /* 1.5 pixels each */
  assert_true(fabs((double)third[0] - 4.0 / 3) < 1e-6 && fabs((double)third[3] - 17.0 / 3) < 1e-6);
  planes_resize(from, 1, 2, 3, same, 2, 3);
  assert_memory_equal(from, same, sizeof from);
}

static void a_crop_is_a_part(void **state) {
  (void)state;
  real pixels[3 * 4 * 5], crop[3 * 2 * 2];
  photo p = {.width = 5, .height = 4, .pixels = pixels};
  for (int i = 0; i < 60; i++) {
    pixels[i] = (real)i;
  }
  photo_crop(&p, 3, 1, 2, crop);
  const real expected[] = {8, 9, 13, 14, 28, 29, 33, 34, 48, 49, 53, 54};
  assert_memory_equal(crop, expected, sizeof expected);
  bool seen[4] = {false}; /* all places of a crop of 4 x 4 are tried, and none beyond */
  rng r = rng_new(1, 1);
  for (int i = 0; i < 50; i++) {
    real square[3 * 4 * 4];
    photo_random_crop(&p, 4, &r, square);
    assert_true(square[0] == 0 || square[0] == 1);
    assert_true(square[47] == square[0] + 58);
    seen[(int)square[0]] = true;
  }
  assert_true(seen[0] && seen[1]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_png_is_read_as_planes),
      cmocka_unit_test(a_jpeg_is_read_as_planes),
      cmocka_unit_test(a_photo_is_read_in_a_smaller_size),
      cmocka_unit_test(a_bad_file_is_named),
      cmocka_unit_test(the_folder_of_the_user_comes_first_and_in_order),
      cmocka_unit_test(too_few_photos_are_missing),
      cmocka_unit_test(the_packages_have_photographs),
      cmocka_unit_test(a_pixel_is_the_mean_of_its_area),
      cmocka_unit_test(a_crop_is_a_part),
  };
  return cmocka_run_group_tests_name("photo", tests, make_folder, remove_folder);
}
