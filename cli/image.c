/* PNG through libpng; see image.h. libpng reports an error by a jump back to setjmp, so whatever must be freed lives in
 * a struct of the caller's frame, never in a local variable of the function that is jumped into. */
#include "image.h"

#include <errno.h>
#include <math.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
  DEFLATE_MOST = 1032, /* zlib packs at most this many bytes into one */
  MESSAGE_SIZE = 128
};

static void on_error(png_structp png, png_const_charp text) {
  snprintf(png_get_error_ptr(png), MESSAGE_SIZE, "%s", text);
  png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text) {
  (void)png;
  (void)text;
}

/* ---------------------------------------------------------------------------------------------------- reading --- */

typedef struct reader {
  FILE *stream;
  png_structp png;
  png_infop info;
  png_bytep samples, *rows;
  image header;
  size_t raw_bytes;  /* of all samples, as they are stored */
  size_t row_bytes;  /* of a row after the transformations */
  int pixel_samples; /* colours and alpha, after the transformations */
  char message[MESSAGE_SIZE];
} reader;

static void close_reader(reader *r) {
  free(r->samples);
  free(r->rows);
  if (r->png != NULL) png_destroy_read_struct(&r->png, &r->info, NULL);
  if (r->stream != NULL) fclose(r->stream);
}

/* Reads the header and asks for grey or RGB of 8 or 16 bits, with alpha where anything is transparent. */
static bool read_header(reader *r) {
  if (setjmp(png_jmpbuf(r->png)) != 0) return false;
  png_init_io(r->png, r->stream);
  png_read_info(r->png, r->info);
  image *h = &r->header;
  h->width = png_get_image_width(r->png, r->info);
  h->height = png_get_image_height(r->png, r->info);
  r->raw_bytes = png_get_rowbytes(r->png, r->info) * (size_t)h->height;
  png_set_expand(r->png);
  png_set_interlace_handling(r->png);
  png_read_update_info(r->png, r->info);
  r->pixel_samples = png_get_channels(r->png, r->info);
  r->row_bytes = png_get_rowbytes(r->png, r->info);
  h->depth = png_get_bit_depth(r->png, r->info);
  h->channels = r->pixel_samples >= 3 ? 3 : 1;
  h->has_alpha = r->pixel_samples > h->channels;
  return true;
}

static bool open_reader(reader *r, const char *path, npy_error *error) {
  memset(r, 0, sizeof *r);
  struct stat info;
  r->stream = fopen(path, "rb");
  if (r->stream == NULL) return npy_fail(error, "%s: cannot be opened: %s", path, strerror(errno));
  bool regular = fstat(fileno(r->stream), &info) == 0 && S_ISREG(info.st_mode);
  if (!regular) return npy_fail(error, "%s: not a regular file", path);
  r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r->message, on_error, on_warning);
  if (r->png != NULL) r->info = png_create_info_struct(r->png);
  if (r->info == NULL) return npy_fail(error, "%s: no memory to read a PNG", path);
  if (!read_header(r)) return npy_fail(error, "%s: not a PNG that can be read: %s", path, r->message);
  if (r->raw_bytes / DEFLATE_MOST > (size_t)info.st_size) {
    return npy_fail(error, "%s: is cut short or damaged: %lld x %lld pixels cannot come from %lld bytes", path,
                    (long long)r->header.width, (long long)r->header.height, (long long)info.st_size);
  }
  return true;
}

bool image_recognize(const char *path) {
  unsigned char start[8];
  FILE *stream = fopen(path, "rb");
  if (stream == NULL) return false;
  bool png = fread(start, 1, sizeof start, stream) == sizeof start && png_sig_cmp(start, 0, sizeof start) == 0;
  fclose(stream);
  return png;
}

bool image_measure(const char *path, image *picture, npy_error *error) {
  reader r;
  bool good = open_reader(&r, path, error);
  if (good) *picture = r.header;
  close_reader(&r);
  return good;
}

static bool read_samples(reader *r) {
  if (setjmp(png_jmpbuf(r->png)) != 0) return false;
  png_read_image(r->png, r->rows);
  png_read_end(r->png, NULL);
  return true;
}

/* Sample k of a row. PNG stores 16 bits with the high byte first. */
static unsigned sample(const reader *r, png_const_bytep row, int64_t k) {
  return r->header.depth == 16 ? (unsigned)row[2 * k] << 8 | row[2 * k + 1] : row[k];
}

static void spread(const reader *r, float *planes, uint16_t *alpha) {
  const image *h = &r->header;
  const float most = h->depth == 16 ? 65535.0f : 255.0f;
  for (int64_t i = 0; i < h->height; i++) {
    for (int64_t j = 0; j < h->width; j++) {
      int64_t first = j * r->pixel_samples, at = i * h->width + j;
      for (int c = 0; c < h->channels; c++) {
        planes[c * h->height * h->width + at] = (float)sample(r, r->rows[i], first + c) / most;
      }
      if (h->has_alpha) alpha[at] = (uint16_t)sample(r, r->rows[i], first + h->channels);
    }
  }
}

static bool decode(reader *r, const char *path, image *picture, float *planes, npy_error *error) {
  const image *h = &r->header;
  if (h->width != picture->width || h->height != picture->height || h->channels != picture->channels ||
      h->depth != picture->depth || h->has_alpha != picture->has_alpha) {
    return npy_fail(error, "%s: changed while it was read", path);
  }
  size_t height = (size_t)h->height;
  r->samples = malloc(r->row_bytes * height);
  r->rows = malloc(height * sizeof *r->rows);
  if (h->has_alpha) picture->alpha = malloc(height * (size_t)h->width * sizeof *picture->alpha);
  if (r->samples == NULL || r->rows == NULL || (h->has_alpha && picture->alpha == NULL)) {
    return npy_fail(error, "%s: no memory for %lld x %lld pixels", path, (long long)h->width, (long long)h->height);
  }
  for (size_t i = 0; i < height; i++) r->rows[i] = r->samples + i * r->row_bytes;
  if (!read_samples(r)) return npy_fail(error, "%s: is cut short or damaged: %s", path, r->message);
  spread(r, planes, picture->alpha);
  return true;
}

bool image_read(const char *path, image *picture, float *planes, npy_error *error) {
  reader r;
  bool good = open_reader(&r, path, error) && decode(&r, path, picture, planes, error);
  close_reader(&r);
  return good;
}

/* ---------------------------------------------------------------------------------------------------- writing --- */

static void read_row(const image *picture, const image_planes *planes, int c, int64_t i, double *row) {
  int64_t offset = c * planes->strides[0] + i * planes->strides[1];
  const char *from = (const char *)planes->data + offset * (int64_t)norma_type_size(planes->type);
  norma_to_double(planes->type, from, planes->strides[2], row, picture->width);
}

bool image_range(const image *picture, const image_planes *planes, double *low, double *high) {
  double *row = malloc((size_t)picture->width * sizeof *row);
  if (row == NULL) return false;
  *low = HUGE_VAL;
  *high = -HUGE_VAL;
  for (int64_t k = 0; k < picture->channels * picture->height; k++) {
    read_row(picture, planes, (int)(k / picture->height), k % picture->height, row);
    for (int64_t j = 0; j < picture->width; j++) {
      if (!isfinite(row[j])) continue;
      if (row[j] < *low) *low = row[j];
      if (row[j] > *high) *high = row[j];
    }
  }
  if (*low > *high) *low = *high = 0;
  free(row);
  return true;
}

typedef struct writer {
  png_structp png;
  png_infop info;
  const image *picture;
  const image_planes *planes;
  double low, high;
  double *row;
  png_bytep bytes;
  char message[MESSAGE_SIZE];
} writer;

static unsigned level(const writer *w, double value) {
  const double most = w->picture->depth == 16 ? 65535 : 255;
  if (isnan(value) || value < w->low) return 0;
  if (value > w->high) return (unsigned)most;
  if (w->low == w->high) return (unsigned)(most + 1) / 2;
  double span = w->high - w->low, part = (value - w->low) / span;
  if (!isfinite(span)) part = (value / 2 - w->low / 2) / (w->high / 2 - w->low / 2);
  return (unsigned)floor(part * most + 0.5);
}

static void put(const writer *w, int64_t k, unsigned value) {
  if (w->picture->depth == 16) {
    w->bytes[2 * k] = (png_byte)(value >> 8);
    w->bytes[2 * k + 1] = (png_byte)(value & 255);
  } else {
    w->bytes[k] = (png_byte)value;
  }
}

static void fill_row(const writer *w, int64_t i) {
  const image *p = w->picture;
  int pixel = p->channels + (p->has_alpha ? 1 : 0);
  for (int c = 0; c < p->channels; c++) {
    read_row(p, w->planes, c, i, w->row);
    for (int64_t j = 0; j < p->width; j++) put(w, j * pixel + c, level(w, w->row[j]));
  }
  for (int64_t j = 0; p->has_alpha && j < p->width; j++) put(w, j * pixel + p->channels, p->alpha[i * p->width + j]);
}

static bool write_png(writer *w, FILE *stream) {
  const image *p = w->picture;
  if (setjmp(png_jmpbuf(w->png)) != 0) return false;
  int colour = (p->channels == 3 ? PNG_COLOR_MASK_COLOR : 0) | (p->has_alpha ? PNG_COLOR_MASK_ALPHA : 0);
  png_init_io(w->png, stream);
  png_set_IHDR(w->png, w->info, (png_uint_32)p->width, (png_uint_32)p->height, p->depth, colour, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(w->png, w->info);
  for (int64_t i = 0; i < p->height; i++) {
    fill_row(w, i);
    png_write_row(w->png, w->bytes);
  }
  png_write_end(w->png, NULL);
  return true;
}

bool image_write(FILE *stream, const image *picture, const image_planes *planes, double low, double high,
                 npy_error *error) {
  writer w = {.picture = picture, .planes = planes, .low = low, .high = high};
  errno = 0;
  w.row = malloc((size_t)picture->width * sizeof *w.row);
  w.bytes = malloc((size_t)picture->width * 8);
  w.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, w.message, on_error, on_warning);
  if (w.png != NULL) w.info = png_create_info_struct(w.png);
  bool good = w.row != NULL && w.bytes != NULL && w.info != NULL;
  if (!good) {
    npy_fail(error, "no memory to write a PNG");
  } else if (!write_png(&w, stream)) {
    good = npy_fail(error, "%s%s%s", w.message, errno != 0 ? ": " : "", errno != 0 ? strerror(errno) : "");
  }
  free(w.row);
  free(w.bytes);
  if (w.png != NULL) png_destroy_write_struct(&w.png, &w.info);
  return good;
}
