/*
 * PNG images in and out, as tensors. Grey, RGB, palette and 16-bit images become planes of float32 in 0..1: the sample
 * divided by 255 or 65535, as it is stored (no gamma, no colour profile). An alpha channel is no colour: it is kept
 * beside the planes and written back unchanged.
 */
#ifndef NORMA_IMAGE_H
#define NORMA_IMAGE_H

#include "npy.h"

typedef struct image {
  int64_t width, height;
  int channels;     /* of colour: 1 or 3 */
  int depth;        /* bits per sample in the file that is written: 8 or 16 */
  bool has_alpha;
  uint16_t *alpha;  /* [height][width], 0..65535 or 0..255 by depth; NULL before image_read or without alpha */
} image;

/* Whether the file starts as a PNG does; false too if it cannot be opened. */
bool image_recognize(const char *path);
/* Reads width, height, channels, depth and has_alpha, and refuses a file too small for what its header promises. */
bool image_measure(const char *path, image *picture, npy_error *error);
/* Decodes into planes[channels][height][width] and, if the image has one, picture->alpha (malloc'd). `picture` comes
 * from image_measure; a file that has changed since is refused. */
bool image_read(const char *path, image *picture, float *planes, npy_error *error);

/* One image of a tensor: data of element (c, i, j) is at c * strides[0] + i * strides[1] + j * strides[2]. */
typedef struct image_planes {
  norma_type type;
  const void *data;
  int64_t strides[3];
} image_planes;

/* The smallest and the largest finite value over all planes; 0 and 0 if there is none. False without memory. */
bool image_range(const image *picture, const image_planes *planes, double *low, double *high);
/* Writes low as 0 and high as 255 (65535), values between linearly and rounded to nearest, values outside clamped,
 * NaN as 0; everything as mid grey if low = high. On failure `error` has the reason (without a name). */
bool image_write(FILE *stream, const image *picture, const image_planes *planes, double low, double high,
                 npy_error *error);

#endif
