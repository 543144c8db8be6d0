/* Pictures with labels: Fashion-MNIST as training, validation and test sets. */
#ifndef LAB_FASHION_H
#define LAB_FASHION_H

#include "../engine/engine.h"

typedef struct pictures {
  int64_t count;
  int channels, side;
  real *pixels;      /* [count][channels][side][side] */
  int32_t *labels;   /* [count], or [count][side][side] if: */
  bool pixel_labels; /* every pixel has its own */
} pictures;

typedef enum part { TRAINING, VALIDATION, TEST } part; /* validation: the last 2,000 training pictures */

/* For experiment.missing: NULL if Fashion-MNIST is there. */
const char *fashion_missing(const char *data);
/* The first `count` pictures of a part, at 28 x 28 or 14 x 14 pixels, 0 (black) to 1 (white) if `raw`, else of mean 0
 * and deviation 1. Ends the process if that is impossible. */
pictures fashion_load(const char *data, part part, int64_t count, int side, bool raw);
void pictures_free(pictures *p);
int64_t picture_size(const pictures *p);
/* Labels of one picture. */
int64_t picture_labels(const pictures *p);

#endif
