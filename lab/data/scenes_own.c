/* The user's own segmentation set: two .npy files of bytes, as NumPy writes them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scenes.h"

enum { MAGIC = 10, MOST_HEADER = 4096, MOST_BYTES = 1 << 30, MOST_CLASSES = 32, LEAST_COUNT = 6 };

static const char images_name[] = "segmentation_images.npy", masks_name[] = "segmentation_masks.npy";

typedef struct bytes {
  int64_t shape[4];
  unsigned char *at;
} bytes;

bool scenes_own(const char *data) {
  char path[PHOTO_PATH];
  return data != NULL && snprintf(path, sizeof path, "%s/%s", data, images_name) < PHOTO_PATH &&
         access(path, F_OK) == 0;
}

/* The header is a dictionary of Python's: bytes in C order, and as many dimensions as wanted. */
static bool read_shape(const char *header, int dimensions, int64_t shape[4]) {
  const char *at = strstr(header, "'shape':");
  if (strstr(header, "'descr': '|u1'") == NULL || strstr(header, "'fortran_order': False") == NULL || at == NULL) {
    return false;
  }
  at = strchr(at, '(');
  for (int i = 0; i < dimensions; i++) {
    char *end = NULL;
    shape[i] = at != NULL ? strtoll(at + 1, &end, 10) : 0;
    if (end == NULL || end == at + 1 || shape[i] < 1 || shape[i] > MOST_BYTES || (*end != ',' && *end != ')')) {
      return false;
    }
    at = end;
  }
  return *at == ')';
}

static bytes read_bytes(const char *path, int dimensions) {
  unsigned char magic[MAGIC] = {0};
  char header[MOST_HEADER + 1] = "";
  bytes b = {.shape = {1, 1, 1, 1}};
  FILE *stream = fopen(path, "rb");
  if (stream == NULL) {
    engine_die("%s: cannot be read", path);
  }
  size_t length = 0;
  if (fread(magic, 1, MAGIC, stream) == MAGIC && memcmp(magic, "\x93NUMPY\x01", 7) == 0) {
    length = (size_t)magic[8] | (size_t)magic[9] << 8;
  }
  bool good = length > 0 && length <= MOST_HEADER && fread(header, 1, length, stream) == length;
  if (!good || !read_shape(header, dimensions, b.shape)) {
    engine_die("%s: expected a .npy file (format 1.0) of uint8 with %d dimensions in C order", path, dimensions);
  }
  double size = 1;
  for (int i = 0; i < dimensions; i++) {
    size *= (double)b.shape[i];
  }
  if (size > MOST_BYTES) {
    engine_die("%s: has %.0f bytes, at most %d are read", path, size, MOST_BYTES);
  }
  b.at = engine_alloc((size_t)size);
  if (fread(b.at, 1, (size_t)size, stream) != (size_t)size || fgetc(stream) != EOF) {
    engine_die("%s: is shorter or longer than its shape says", path);
  }
  fclose(stream);
  return b;
}

static void check(const char *data, const bytes *images, const bytes *masks) {
  const int64_t *i = images->shape, *m = masks->shape;
  if (i[0] < LEAST_COUNT || (i[1] != 1 && i[1] != 3) || i[2] != i[3] || i[2] % 4 != 0) {
    engine_die("%s/%s: expected the shape (N, 1 or 3, S, S) with N at least %d and S a multiple of 4", data,
               images_name, LEAST_COUNT);
  }
  if (m[0] != i[0] || m[1] != i[2] || m[2] != i[2]) {
    engine_die("%s/%s: expected the shape (%lld, %lld, %lld) of the images", data, masks_name, (long long)i[0],
               (long long)i[2], (long long)i[2]);
  }
}

scenes scenes_read(const char *data, bool held_out) {
  char path[PHOTO_PATH];
  snprintf(path, sizeof path, "%s/%s", data, images_name);
  bytes images = read_bytes(path, 4);
  snprintf(path, sizeof path, "%s/%s", data, masks_name);
  bytes masks = read_bytes(path, 3);
  check(data, &images, &masks);
  int64_t all = images.shape[0], split = all - all / 3, plane = images.shape[2] * images.shape[3];
  int64_t first = held_out ? split : 0, count = held_out ? all - split : split, size = images.shape[1] * plane;
  scenes s = {.count = count, .channels = (int)images.shape[1], .side = (int)images.shape[2], .classes = 2};
  s.pixels = engine_alloc((size_t)(count * size) * sizeof *s.pixels);
  s.labels = engine_alloc((size_t)(count * plane) * sizeof *s.labels);
  for (int64_t i = 0; i < count * size; i++) {
    s.pixels[i] = (real)images.at[first * size + i] / 255 * 4 - 2;
  }
  for (int64_t i = 0; i < all * plane; i++) {
    s.classes = masks.at[i] >= s.classes ? masks.at[i] + 1 : s.classes;
  }
  if (s.classes > MOST_CLASSES) {
    engine_die("%s: has class %d, classes are 0 to %d", path, s.classes - 1, MOST_CLASSES - 1);
  }
  for (int64_t i = 0; i < count * plane; i++) {
    s.labels[i] = masks.at[first * plane + i];
  }
  free(images.at);
  free(masks.at);
  return s;
}
