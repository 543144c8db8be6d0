/* Decoding: JPEG by libjpeg-turbo, PNG by libpng. */
#include <errno.h>
#include <png.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>

#include "photo.h"

/* Larger files and pictures are no photographs, and must not make us allocate for them. */
enum { MOST_BYTES = 100 << 20, MOST_SIDE = 20000 };

typedef struct decoded {
  int width, height;
  unsigned char *rgb;  /* [height][width][3] */
} decoded;

static bool fail(char *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool fail(char *error, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(error, PHOTO_ERROR, format, arguments);
  va_end(arguments);
  return false;
}

static unsigned char *read_file(const char *path, size_t *size, char *error) {
  FILE *stream = fopen(path, "rb");
  unsigned char *bytes = NULL;
  *size = 0;
  for (size_t room = 1 << 20, got = 1; stream != NULL && got > 0 && *size < MOST_BYTES; room *= 2) {
    unsigned char *more = realloc(bytes, room);
    if (more == NULL) {
      engine_die("no memory for %zu bytes of %s", room, path);
    }
    bytes = more;
    got = fread(bytes + *size, 1, room - *size, stream);
    *size += got;
  }
  bool good = stream != NULL && !ferror(stream);
  if (!good) {
    fail(error, "%s: cannot be read: %s", path, strerror(errno));
  } else if (*size >= MOST_BYTES) {
    good = fail(error, "%s: has %d MiB or more, more than a photograph has", path, MOST_BYTES >> 20);
  }
  if (stream != NULL) {
    fclose(stream);
  }
  if (!good) {
    free(bytes);
    return NULL;
  }
  return bytes;
}

static bool allocate(decoded *d, const char *path, char *error) {
  if (d->width < 1 || d->height < 1 || d->width > MOST_SIDE || d->height > MOST_SIDE) {
    return fail(error, "%s: is %d x %d pixels, expected sides of 1 to %d", path, d->width, d->height, MOST_SIDE);
  }
  d->rgb = engine_alloc((size_t)d->width * (size_t)d->height * PHOTO_CHANNELS);
  return true;
}

static int shorter_side(int width, int height) { return width < height ? width : height; }

/* The decoder makes a smaller picture in less time, at some fractions: the least that is still large enough. */
static void choose_size(decoded *d, int shorter) {
  int count, width = d->width, height = d->height;
  tjscalingfactor *factors = tjGetScalingFactors(&count);
  for (int i = 0; i < count && shorter > 0; i++) {
    int w = TJSCALED(width, factors[i]), h = TJSCALED(height, factors[i]);
    if (w < d->width && shorter_side(w, h) >= shorter) {
      d->width = w;
      d->height = h;
    }
  }
}

static bool decode_jpeg(const char *path, unsigned char *bytes, size_t size, int shorter, decoded *d, char *error) {
  tjhandle jpeg = tjInitDecompress();
  int sampling, colours;
  bool good = jpeg != NULL &&
              tjDecompressHeader3(jpeg, bytes, size, &d->width, &d->height, &sampling, &colours) == 0;
  if (good) {
    choose_size(d, shorter);
    good = allocate(d, path, error);
    if (!good) {
      tjDestroy(jpeg);
      return false;
    }
    int failed = tjDecompress2(jpeg, bytes, size, d->rgb, d->width, 0, d->height, TJPF_RGB, TJFLAG_ACCURATEDCT);
    good = failed == 0 || tjGetErrorCode(jpeg) == TJERR_WARNING;
  }
  if (!good) {
    fail(error, "%s: not a JPEG that can be read: %s", path, jpeg == NULL ? "no memory" : tjGetErrorStr2(jpeg));
  }
  if (jpeg != NULL) {
    tjDestroy(jpeg);
  }
  return good;
}

static bool decode_png(const char *path, const unsigned char *bytes, size_t size, decoded *d, char *error) {
  png_image png = {.version = PNG_IMAGE_VERSION};
  png_color black = {0, 0, 0};
  if (png_image_begin_read_from_memory(&png, bytes, size)) {
    d->width = png.width > MOST_SIDE ? MOST_SIDE + 1 : (int)png.width;
    d->height = png.height > MOST_SIDE ? MOST_SIDE + 1 : (int)png.height;
    png.format = PNG_FORMAT_RGB;
    if (!allocate(d, path, error)) {
      png_image_free(&png);
      return false;
    }
    if (png_image_finish_read(&png, &black, d->rgb, 0, NULL)) {
      return true;
    }
  }
  return fail(error, "%s: not a PNG that can be read: %s", path, png.message);
}

/* Planes instead of pixels, in the wanted size. */
static void convert(const decoded *d, int shorter, photo *p) {
  int64_t count = (int64_t)d->width * d->height;
  real *planes = engine_alloc((size_t)(PHOTO_CHANNELS * count) * sizeof *planes);
  for (int64_t i = 0; i < PHOTO_CHANNELS * count; i++) {
    planes[i] = (real)d->rgb[i % count * PHOTO_CHANNELS + i / count] / 255;
  }
  int least = shorter_side(d->width, d->height);
  *p = (photo){.width = d->width, .height = d->height, .pixels = planes};
  if (shorter > 0 && least > shorter) {
    p->width = (d->width * shorter + least / 2) / least;
    p->height = (d->height * shorter + least / 2) / least;
    p->pixels = engine_alloc((size_t)(PHOTO_CHANNELS * p->width * p->height) * sizeof *planes);
    planes_resize(planes, PHOTO_CHANNELS, d->height, d->width, p->pixels, p->height, p->width);
    free(planes);
  }
}

bool photo_read(const char *path, int shorter, photo *p, char error[PHOTO_ERROR]) {
  size_t size;
  decoded d = {0};
  unsigned char *bytes = read_file(path, &size, error);
  if (bytes == NULL) {
    return false;
  }
  bool png = size >= 8 && png_sig_cmp(bytes, 0, 8) == 0;
  bool good = png ? decode_png(path, bytes, size, &d, error) : decode_jpeg(path, bytes, size, shorter, &d, error);
  if (good) {
    convert(&d, shorter, p);
  }
  free(d.rgb);
  free(bytes);
  return good;
}
