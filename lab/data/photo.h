/* Photographs: JPEG and PNG files as planes of red, green and blue, 0 (black) to 1, as the file has them (sRGB). */
#ifndef LAB_PHOTO_H
#define LAB_PHOTO_H

#include "../engine/engine.h"

#define PHOTO_PACKAGES "palapeli-data mate-backgrounds"

enum { PHOTO_CHANNELS = 3, PHOTO_ERROR = 4600, PHOTO_PATH = 4096, PHOTOS_MOST = 200 };

typedef struct photo {
  int width, height;
  real *pixels;  /* [3][height][width] */
} photo;

typedef struct photo_list {
  int count;
  char path[PHOTOS_MOST][PHOTO_PATH];
} photo_list;

/* The photographs of Debian's packages, or if there is a folder DATA/photos (`data` may be NULL) the JPEG and PNG files
 * in it; each folder in the order of its names. */
void photo_find(const char *data, photo_list *list);
/* For experiment.missing: NULL if there are `least` photographs. */
const char *photo_missing(const char *data, int least);

/* Reads a file, made smaller so that its shorter side has `shorter` pixels; 0, or a smaller photo: as it is. What is
 * transparent in a PNG is black. free() the pixels. False: `error` is one line that says what is wrong. */
bool photo_read(const char *path, int shorter, photo *p, char error[PHOTO_ERROR]);

/* The square of `side` pixels at (left, top), as [3][side][side]. The photo must be that large. */
void photo_crop(const photo *p, int left, int top, int side, real *to);
/* The same anywhere. */
void photo_random_crop(const photo *p, int side, rng *r, real *to);

/* One plane (or many: `planes` of them) in another size: each pixel is the mean of the area that it covers. */
void planes_resize(const real *from, int planes, int height, int width, real *to, int new_height, int new_width);

#endif
