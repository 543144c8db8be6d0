/* The symbols of the font Noto Color Emoji: small pictures with transparency. */
#ifndef LAB_EMOJI_H
#define LAB_EMOJI_H

#include "../engine/engine.h"

#define EMOJI_PACKAGE "fonts-noto-color-emoji"

enum { EMOJI_WIDTH = 34, EMOJI_HEIGHT = 32, EMOJI_PLANES = 4, EMOJI_ERROR = 4600 };

typedef struct emoji {
  int count;
  uint32_t *code;  /* the code point, ascending */
  real *planes;    /* [count][4][32][34]: red, green, blue, all times alpha, then alpha; 0 to 1 */
} emoji;

/* For experiment.missing: NULL if the font is there. */
const char *emoji_missing(void);
/* All symbols that have a code point of their own and cover at least a tenth of their frame. False: `error` is one line
 * that says what is wrong. */
bool emoji_read(emoji *e, char error[EMOJI_ERROR]);
void emoji_free(emoji *e);

#endif
