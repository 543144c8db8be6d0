/* The photographs of style transfer: which of them are for training, and which are never seen there. */
#ifndef LAB_SCENES_H
#define LAB_SCENES_H

#include "../data/photo.h"
#include "experiment.h"

typedef enum scene_role {
  SCENE_TRAINING,       /* content in training; for AdaIN style in training too */
  SCENE_CONTENT,        /* never seen in training, shown in the pictures */
  SCENE_STYLE,          /* never seen in training; the first is what a generator of one style learns */
  SCENE_ROLES
} scene_role;

enum { SCENES_MOST = 16 };

typedef struct scenes {
  int count;
  photo photos[SCENES_MOST];
} scenes;

/* For experiment.missing: NULL if all of them are there. */
const char *scenes_missing(const char *data);
/* Photographs with a shorter side of `shorter` pixels. Ends the process if one cannot be read. */
scenes scenes_load(const char *data, scene_role role, int shorter);
void scenes_free(scenes *s);

/* What is done to a square before it is an input. */
typedef enum exposure {
  AS_TAKEN,
  VARIED,       /* contrast times a random number from 0.2 to 1, about mid-grey */
  NORMALIZED    /* mean 0 and deviation 1/2 over all its pixels and colours */
} exposure;

/* n random squares, each of a random photograph, as (n, 3, side, side) in -1..1 (NORMALIZED: about that). */
tensor scenes_random(const scenes *s, int n, int side, exposure exposure, rng *r, real *to);
/* The corners of each photograph, as (4 count, 3, side, side). free() its numbers. */
tensor scenes_corners(const scenes *s, int side, exposure exposure, rng *r);
/* The whole photograph, as (1, 3, height, width). free() its numbers. */
tensor scene_whole(const photo *p);
/* The middle of a photograph. */
void scene_middle(const photo *p, int side, real *to);

/* Fixed filters, the same in every run, calibrated on squares of the training photographs. */
filter_net scenes_filters(const scenes *training, int side);

/* `columns` squares (3, side, side) side by side and one row below the other: DIR/pictures/NAME.png. */
void scenes_picture(const run *run, const char *name, const real *squares, int rows, int columns, int side);

#endif
