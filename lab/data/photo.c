/* Which photographs there are, and what is done with their pixels. photo_files.c decodes them. */
#include "photo.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const folders[] = {"/usr/share/palapeli/collection", "/usr/share/backgrounds/mate/nature"};

/* ------------------------------------------------------------------------------------------------------- list --- */

static bool is_photo(const char *name) {
  const char *dot = strrchr(name, '.');
  return dot != NULL && dot != name &&
         (strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0 || strcasecmp(dot, ".png") == 0);
}

static int by_bytes(const void *a, const void *b) { return strcmp(a, b); }

/* False if there is no such folder. Sorted by bytes: the order does not depend on the language of the user. */
static bool add_folder(const char *folder, photo_list *list) {
  DIR *directory = opendir(folder);
  int first = list->count;
  if (directory == NULL) {
    return false;
  }
  for (struct dirent *entry; (entry = readdir(directory)) != NULL && list->count < PHOTOS_MOST;) {
    char *path = list->path[list->count];
    if (is_photo(entry->d_name) && snprintf(path, PHOTO_PATH, "%s/%s", folder, entry->d_name) < PHOTO_PATH) {
      list->count++;
    }
  }
  closedir(directory);
  qsort(list->path + first, (size_t)(list->count - first), PHOTO_PATH, by_bytes);
  return true;
}

void photo_find(const char *data, photo_list *list) {
  char own[PHOTO_PATH];
  list->count = 0;
  if (data != NULL && snprintf(own, sizeof own, "%s/photos", data) < PHOTO_PATH && add_folder(own, list)) {
    return;
  }
  for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
    add_folder(folders[i], list);
  }
}

const char *photo_missing(const char *data, int least) {
  static char text[256];
  static photo_list list;
  photo_find(data, &list);
  if (list.count >= least) {
    return NULL;
  }
  snprintf(text, sizeof text,
           "there are %d photographs and it takes %d: apt-get install %s, or put JPEG or PNG files in DIR/photos and "
           "name DIR with --data", list.count, least, PHOTO_PACKAGES);
  return text;
}

/* ----------------------------------------------------------------------------------------------------- pixels --- */

void photo_crop(const photo *p, int left, int top, int side, real *to) {
  for (int row = 0; row < PHOTO_CHANNELS * side; row++) {
    int64_t line = (int64_t)(row / side) * p->height + top + row % side;
    memcpy(to + (int64_t)row * side, p->pixels + line * p->width + left, (size_t)side * sizeof *to);
  }
}

void photo_random_crop(const photo *p, int side, rng *r, real *to) {
  if (side > p->width || side > p->height) {
    engine_die("a square of %d pixels from a photo of %d x %d", side, p->width, p->height);
  }
  int left = (int)rng_below(r, p->width - side + 1), top = (int)rng_below(r, p->height - side + 1);
  photo_crop(p, left, top, side, to);
}

/* `lines` lines of `count` pixels that are `next` apart. */
typedef struct lines {
  int64_t lines, next_line, count, next;
} lines;

/* Along one dimension. New pixel i covers the old from i * ratio to (i + 1) * ratio, the first and last in part. */
static void resize_lines(const real *from, lines a, real *to, lines b) {
  double ratio = (double)a.count / (double)b.count;
  for (int64_t line = 0; line < a.lines; line++) {
    for (int64_t i = 0; i < b.count; i++) {
      double start = (double)i * ratio, end = fmin(start + ratio, (double)a.count), sum = 0;
      for (int64_t j = (int64_t)start; j < a.count && (double)j < end; j++) {
        double share = fmin(end, (double)(j + 1)) - fmax(start, (double)j);
        sum += share * (double)from[line * a.next_line + j * a.next];
      }
      to[line * b.next_line + i * b.next] = (real)(sum / (end - start));
    }
  }
}

void planes_resize(const real *from, int planes, int height, int width, real *to, int new_height, int new_width) {
  real *narrow = engine_alloc((size_t)height * (size_t)new_width * sizeof *narrow);
  for (int64_t i = 0; i < planes; i++) {
    const real *plane = from + i * height * width;
    real *out = to + i * new_height * new_width;
    resize_lines(plane, (lines){height, width, width, 1}, narrow, (lines){height, new_width, new_width, 1});
    resize_lines(narrow, (lines){new_width, 1, height, new_width}, out, (lines){new_width, 1, new_height, new_width});
  }
  free(narrow);
}
