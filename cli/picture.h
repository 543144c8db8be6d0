/*
 * The parts of `norma picture`: what the library does (picture_units.c), what is said about it (picture_words.c), one
 * layer as a block of cubes (picture_block.c), the page around the blocks (picture_page.c, picture_fonts.c), and the
 * command (picture.c).
 */
#ifndef NORMA_PICTURE_H
#define NORMA_PICTURE_H

#include "norma.h"

#include <cairo.h>
#include <stdbool.h>

/* The tensor of the picture: small enough to draw each element, large enough that no two sizes look alike. */
enum {
  PICTURE_N = 4,
  PICTURE_C = 6,
  PICTURE_H = 2,
  PICTURE_W = 2,
  PICTURE_S = PICTURE_H * PICTURE_W, /* H and W as one axis */
  PICTURE_ELEMENTS = PICTURE_N * PICTURE_C * PICTURE_S,
  PICTURE_GROUPS = 2,
  PICTURE_MAX_LAYERS = 6
};

typedef enum picture_layer {
  PICTURE_BATCH,
  PICTURE_LAYER,
  PICTURE_INSTANCE,
  PICTURE_GROUP,
  PICTURE_CHANNELS_FIRST,
  PICTURE_RMS
} picture_layer;

typedef struct picture_panel {
  picture_layer which;
  norma_layer layer;
  int unit[PICTURE_ELEMENTS]; /* two elements have the same number if a change of one changes the output of the other */
} picture_panel;

/* Makes the layer and finds its units by running it. False, with the reason in error, if the library refuses or if what
 * it does is not a partition into norma_layer_units sets. */
bool picture_panel_make(picture_panel *panel, picture_layer which, norma_error *error);

/* The element of the block that is nearest to the viewer, as an index of the tensor: the one that is marked. */
int picture_marked(void);

typedef enum picture_language { PICTURE_EN, PICTURE_ZH } picture_language;

typedef struct picture_words {
  const char *title[2]; /* of the four layers, of all six */
  const char *question;
  const char *axis_names[4]; /* what N, C, H,W and G,K are */
  const char *rows[6];       /* pattern, one mean per, means, elements per mean, gamma, used in */
  const char *marked, *shared, *others;
  const char *method; /* how the picture was made */
} picture_words;

const picture_words *picture_words_in(picture_language language);
const char *picture_name(picture_layer which, picture_language language);
/* Up to three lines, split by '\n'. */
const char *picture_used_in(picture_layer which, picture_language language);

enum { PICTURE_TEXT = 128 };
/* "sample and group", from the axes that do not share. */
void picture_one_mean_per(const norma_layer *layer, picture_language language, char text[PICTURE_TEXT]);
/* "N x G" with a real multiplication sign: the axes of which each has (not) the given bit. */
void picture_product(const norma_layer *layer, unsigned bit, bool has, char text[PICTURE_TEXT]);

typedef struct picture_colour {
  double r, g, b;
} picture_colour;

typedef struct picture_size {
  double width, height;
} picture_size;

/* The block of one layer, its top left corner at (x, y), in the size that picture_block_size says. */
picture_size picture_block_size(void);
void picture_block(cairo_t *cr, const picture_panel *panel, double x, double y);

typedef enum picture_key_sign { PICTURE_KEY_MARKED, PICTURE_KEY_SHARED, PICTURE_KEY_OTHERS } picture_key_sign;
/* A sign of the key, on the baseline y; returns where the text beside it starts. */
double picture_key(cairo_t *cr, picture_key_sign sign, double x, double y);

/* The whole picture. */
typedef struct picture {
  picture_language language;
  int count;
  picture_panel panels[PICTURE_MAX_LAYERS];
  const char *sans, *mono; /* families, chosen by picture_fonts */
} picture;

/* The picture in words, for readers who cannot see it; freed by the caller. NULL if memory runs out. */
char *picture_describe(const picture *p);

/* Chooses installed fonts that have all characters of the language. False if there are none; package is then the name
 * of the Debian package to install. */
bool picture_fonts(picture *p, const char **package);
picture_size picture_page_size(const picture *p);
void picture_page(cairo_t *cr, const picture *p);

#endif
