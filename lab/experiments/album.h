/* The photographs of style transfer: which of them are for training, and which are never seen there. */
#ifndef LAB_ALBUM_H
#define LAB_ALBUM_H

#include "../data/photo.h"
#include "experiment.h"

typedef enum album_role {
  ALBUM_TRAINING,       /* content in training; for AdaIN style in training too */
  ALBUM_CONTENT,        /* never seen in training, shown in the pictures */
  ALBUM_STYLE,          /* never seen in training; the first is what a generator of one style learns */
  ALBUM_ROLES
} album_role;

enum { ALBUM_MOST = 16 };

typedef struct album {
  int count;
  photo photos[ALBUM_MOST];
} album;

/* For experiment.missing: NULL if all of them are there. */
const char *album_missing(const char *data);
/* Photographs with a shorter side of `shorter` pixels. Ends the process if one cannot be read. */
album album_load(const char *data, album_role role, int shorter);
/* Takes the last `count` photographs out of the album. */
album album_take_last(album *s, int count);
void album_free(album *s);

/* What is done to a square before it is an input. */
typedef enum exposure {
  AS_TAKEN,
  VARIED,       /* contrast times a random number from 0.2 to 1, about mid-grey */
  NORMALIZED    /* mean 0 and deviation 1/2 over all its pixels and colours */
} exposure;

/* n random squares, each of a random photograph, as (n, 3, side, side) in -1..1 (NORMALIZED: about that). */
tensor album_random(const album *s, int n, int side, exposure exposure, rng *r, real *to);
/* The corners of each photograph, as (4 count, 3, side, side). free() its numbers. */
tensor album_corners(const album *s, int side, exposure exposure, rng *r);
/* The whole photograph, as (1, 3, height, width). free() its numbers. */
tensor album_whole(const photo *p);
/* The middle of a photograph. */
void album_middle(const photo *p, int side, real *to);

/* Fixed filters, the same in every run, calibrated on squares of the training photographs. */
filter_net album_filters(const album *training, int side);

/* `columns` squares (3, side, side) side by side and one row below the other: DIR/pictures/NAME.png. */
void album_picture(const run *run, const char *name, const real *squares, int rows, int columns, int side);

#endif
