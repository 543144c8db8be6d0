/* Pictures to segment: photographs with emoji pasted on them, or a set of the user's own. */
#ifndef LAB_SCENES_H
#define LAB_SCENES_H

#include "emoji.h"
#include "photo.h"

/* Sixteen neighbours in code points are all in one part: look-alikes are neighbours, and must not be in both. Every
 * fourth sixteen, and every third photograph, is held out for tests. */
bool scene_symbol_held_out(uint32_t code);
bool scene_photo_held_out(int index);

/* Two worlds that share no training photograph and no symbol; in the second red, green and blue change places. */
typedef enum scene_world { WORLD_ALL, WORLD_HOME, WORLD_AWAY } scene_world;
scene_world scene_symbol_world(uint32_t code);

typedef struct scene_options {
  int side;
  bool jitter;        /* of the light: times 0.4 to 1, and for half of the scenes plus 0 to 0.4 */
  scene_world world;
  bool held_out;      /* made of the photographs and symbols that are held out */
  uint64_t seed;      /* the same seed, the same scenes */
} scene_options;

enum { SCENE_SYMBOLS = 3 };

/* What a scene is made of: a photograph, by its number in photo_find's list, and one to three symbols. */
typedef struct scene_origin {
  int photo, symbols;
  uint32_t code[SCENE_SYMBOLS];
} scene_origin;

typedef struct scenes {
  int64_t count;
  int channels, side, classes;
  real *pixels;          /* [count][channels][side][side]; 0 (black) is -2, 1 (white) is 2 */
  int32_t *labels;       /* [count][side][side]: 0 background, 1 symbol */
  scene_origin *origins; /* [count]; NULL for a set of the user's own */
} scenes;

void scenes_free(scenes *s);

/* For experiment.missing: NULL if photographs and symbols are there. */
const char *scenes_missing(const char *data);
/* Ends the process if that is impossible. */
scenes scenes_make(const char *data, int64_t count, scene_options options);
/* Pastes a symbol, resized to `size` pixels square and mirrored if `flip`, with its corner at (left, top), on
 * [3][side][side] pixels from 0 to 1. Where its alpha exceeds 0.5 the label becomes 1. What lies outside is cut off. */
void scene_paste(const real *symbol, int size, bool flip, int left, int top, int side, real *pixels, int32_t *labels);

/* Is there a segmentation set of the user's own, DATA/segmentation_images.npy? */
bool scenes_own(const char *data);
/* It, or the part of it that is held out: the last third. Ends the process if a file is not as README.md says. */
scenes scenes_read(const char *data, bool held_out);

#endif
