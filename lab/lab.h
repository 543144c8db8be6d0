/*
 * norma-demo: what does each normalization layer keep of real feature maps, and what does it erase?
 *
 * Ten pictures of Fashion-MNIST, each exposed differently, go through eight fixed filters; the feature maps go through
 * batch, layer, instance and group norm. One file per step: pictures.c reads the pictures, filters.c makes the feature
 * maps, measure.c applies the layers and measures, sheet.c draws, page.c writes the report, output.c puts files in
 * place.
 */
#ifndef NORMA_LAB_H
#define NORMA_LAB_H

#include <stdbool.h>
#include <stdio.h>

#include "norma.h"

enum { EXIT_GOOD = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

enum {
  SAMPLES = 10,  /* one picture of each class */
  CHANNELS = 8,
  GROUPS = 2,    /* of group norm: the four smoothed pictures, the four edge maps */
  SIDE = 28,
  PIXELS = SIDE * SIDE,
  LAYERS = 4,
  VIEWS = LAYERS + 1,  /* the input and what each layer makes of it */
  THREADS = 4          /* of the run that must give the bits of the single-threaded one */
};

enum { PATH_SIZE = 4096 };

typedef float lab_maps[SAMPLES][CHANNELS][PIXELS];

/* The pictures, pictures.c: the first test picture of each class. */
typedef struct lab_pictures {
  float pixel[SAMPLES][PIXELS];  /* 0 (black) to 1 (white) */
  int index[SAMPLES];            /* which picture of the file it is */
} lab_pictures;

extern const char *const lab_class_names[SAMPLES];
/* Reads them from `folder`, or if that is NULL from where Debian puts them. Returns EXIT_GOOD, or EXIT_USAGE after one
 * line on stderr; so do all functions here that return int, unless they say otherwise. */
int lab_read_pictures(const char *folder, lab_pictures *pictures);

/* The feature maps, filters.c. */
typedef struct lab_exposure {
  float gain, veil;  /* the exposed picture is gain * picture + veil */
  const char *text;
} lab_exposure;

typedef struct lab_filter {
  const char *name, *text;
  float kernel[3][3];
  int times;  /* how often the kernel is applied, one after the other */
} lab_filter;

extern const lab_exposure lab_exposures[SAMPLES];
extern const lab_filter lab_filters[CHANNELS];
/* Exposes each picture and filters it. Beyond the border lies the nearest pixel, so a constant veil stays constant. */
void lab_make_maps(const lab_pictures *pictures, lab_maps maps);

/* How far apart pictures (or channels) are, in brightness and in contrast. page.c prints the definitions. */
typedef enum lab_spread {
  PICTURE_BRIGHTNESS, PICTURE_CONTRAST, CHANNEL_BRIGHTNESS, CHANNEL_CONTRAST, SPREADS
} lab_spread;

extern const char *const lab_spread_names[SPREADS];

/* A tensor, what was measured of it, and of a layer's output how right it is. */
typedef struct lab_view {
  const char *name;
  lab_maps maps;
  double mean[SAMPLES][CHANNELS], deviation[SAMPLES][CHANNELS];  /* of each map */
  double total_mean, total_deviation;                            /* of all elements */
  double spread[SPREADS];
  /* Layers only: */
  norma_layer layer;
  char pattern[256];
  double error;         /* largest |y - y*| against the reference */
  double error_share;   /* largest |y - y*| / bound; at most 1 keeps the promise of norma.h */
  bool same_threads, same_layout;  /* the bits of the run with THREADS threads, and of the run in NHWC */
} lab_view;

/* views[0].maps is the input; fills in everything else. */
int lab_measure(lab_view views[VIEWS]);
/* What layer i leaves of a spread, in percent of the input's. Below LAB_ERASED the report says "erased". */
#define LAB_ERASED 2.0
double lab_left(const lab_view views[VIEWS], int i, lab_spread which);
/* Every error within its bound, every run with the same bits. */
bool lab_all_right(const lab_view views[VIEWS]);
/* Standard deviation of the base-2 logarithms of n numbers: their spread in stops. */
double lab_log_deviation(const double *values, int n);
/* Standard deviation of the means of n equally large sets, as a fraction of that of all their elements. */
double lab_mean_deviation(const double *means, const double *deviations, int n);

/* The pictures of the report, sheet.c. */
enum { SHOWN_CHANNEL = 0, SHOWN_SAMPLE = 9 };
int lab_write_picture_sheet(const char *folder, const lab_view views[VIEWS]);
int lab_write_channel_sheet(const char *folder, const lab_view views[VIEWS]);

/* The report, page.c. */
int lab_write_page(const char *folder, const lab_pictures *pictures, const lab_view views[VIEWS]);

/* Files, output.c: each is written under a temporary name and renamed when it is complete. */
typedef struct lab_file {
  char path[PATH_SIZE], temporary[PATH_SIZE];
} lab_file;

int lab_make_folder(const char *folder);
int lab_name_file(lab_file *file, const char *folder, const char *name);
FILE *lab_open(lab_file *file, const char *folder, const char *name);
/* Ends what lab_open began: EXIT_GOOD if everything is on disk under its name. */
int lab_close(lab_file *file, FILE *stream);
int lab_put_in_place(const lab_file *file);
/* input.npy (NumPy's format 1.0), for `norma apply`. */
int lab_write_npy(const char *folder, const char *name, lab_maps maps);

/* Prints "norma-demo: message" as one line on stderr and returns EXIT_USAGE. */
int lab_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
