/*
 * The parts of `norma apply`:
 *
 *     apply.c          the order of the work, the summary
 *     apply_options.c  the table of options: parsing and --help
 *     apply_rules.c    which options go together
 *     apply_layer.c    the layer, and the shapes of the arrays that go with it
 *     apply_read.c     tensors and parameters from files
 *     apply_write.c    arrays for the results, and their files
 *     apply_run.c      the calls into the library
 *     npy.c, image.c   the two file formats
 *     output.c         all output files or none
 *
 * Functions that return int return EXIT_GOOD, or print what is wrong by cli_fail and return its exit code.
 */
#ifndef NORMA_APPLY_H
#define NORMA_APPLY_H

#include "cli.h"
#include "image.h"
#include "npy.h"
#include "output.h"

/* ---------------------------------------------------------------------------------------------------- options --- */

/* Options with an array are first: arrays[] of a job is indexed by them. OPT_INPUT is the positional argument. */
typedef enum apply_option {
  OPT_INPUT, OPT_STYLE, OPT_DY, OPT_WEIGHT, OPT_BIAS, OPT_MEAN, OPT_VAR, OPT_RUNNING_MEAN, OPT_RUNNING_VAR,
  OPT_OUTPUT, OPT_DX, OPT_DSTYLE, OPT_DWEIGHT, OPT_DBIAS, OPT_SAVE_MEAN, OPT_SAVE_VAR, OPT_SAVE_RSTD,
  OPT_SAVE_RUNNING_MEAN, OPT_SAVE_RUNNING_VAR, ARRAY_COUNT,
  OPT_GROUPS = ARRAY_COUNT, OPT_AXES, OPT_AFFINE, OPT_SIZES, OPT_RMS, OPT_EPS, OPT_DDOF, OPT_PLUS_ONE,
  OPT_REFUSE_SINGLE, OPT_STYLE_EPS, OPT_STYLE_DDOF, OPT_ALPHA, OPT_UPDATE, OPT_MOMENTUM, OPT_CONVENTION, OPT_BATCHES,
  OPT_NOT_FINITE, OPT_CHANNELS_LAST, OPT_RANGE, OPT_JSON, OPT_HELP, OPTION_COUNT
} apply_option;

typedef enum apply_kind {
  KIND_BATCH, KIND_INSTANCE, KIND_GROUP, KIND_LAYER, KIND_RMS, KIND_ADAIN, KIND_PATTERN
} apply_kind;

typedef struct apply_options {
  apply_kind kind;
  const char *layer;                /* LAYER, as typed */
  const char *value[OPTION_COUNT];  /* the argument; "" for a flag that is set; NULL: not given */
  char **inputs;                    /* INPUT...; points into argv */
  int input_count;
} apply_options;

/* Fills `options`, or prints the help (then value[OPT_HELP] is set). Positional arguments move to the front of argv. */
int options_parse(apply_options *options, int argc, char **argv);
/* Whether the options go with the layer and with each other. */
int options_check(const apply_options *options);
const char *option_name(apply_option option);              /* "--weight" */
bool option_fits(apply_option option, apply_kind kind);    /* whether the layer takes the option */
const char *kind_name(apply_kind kind);

/* The value of an option that is given. */
int option_number(const apply_options *options, apply_option option, double *number);
int option_integer(const apply_options *options, apply_option option, int64_t least, int64_t *number);
/* Place of the value among `words`, which end with NULL. */
int option_word(const apply_options *options, apply_option option, const char *const *words, int *place);
int option_range(const apply_options *options, double *low, double *high);

/* -------------------------------------------------------------------------------------------------------- job --- */

/* A tensor as the layer sees it: the dimensions of a file, or with --channels-last those with the last one moved to
 * place 1. */
typedef struct tensor_view {
  int ndim;
  int64_t shape[NORMA_MAX_DIMS], strides[NORMA_MAX_DIMS];
} tensor_view;

typedef struct apply_job {
  apply_options options;
  npy_array arrays[ARRAY_COUNT];
  image *images;     /* of INPUT if that is PNG, one per path; else NULL */
  norma_layer layer, style_layer;
  tensor_view x, style, dy;
  bool style_last;   /* the style is stored channels last */
  output_set outputs;
} apply_job;

tensor_view view_of(const npy_array *array, bool channels_last);

/* Shapes of the arrays that go with a layer, dimension by dimension of the tensor. */
typedef enum array_role { ROLE_PARAM, ROLE_UNIT, ROLE_RUNNING } array_role;

typedef struct array_shape {
  int ndim;
  int64_t shape[NORMA_MAX_DIMS];
  int64_t count;
  char axes[128];  /* "axis c", "axes n g", for messages */
} array_shape;

int layer_make(apply_job *job);
/* Reports an error of the library about a tensor. */
int layer_refuse(const apply_job *job, const tensor_view *view, const char *path, const norma_error *error);
array_shape layer_array_shape(const norma_layer *layer, array_role role);
/* Whether an array of this shape can be read as one of the role: the same sizes apart from 1s, or all in one row. */
bool layer_array_fits(const norma_layer *layer, array_role role, const npy_array *array);

int read_tensors(apply_job *job);     /* INPUT, --style, --dy */
int read_parameters(apply_job *job);  /* the arrays per gamma, per unit and per channel */
int make_results(apply_job *job);     /* arrays and temporary files for what the options ask */
int write_results(apply_job *job);
bool is_png_name(const char *path);        /* by its name */
/* On a terminal: what goes on with much data. */
void show_progress(const char *what, const char *name, size_t done, size_t total);

int run_layer(apply_job *job);

#endif
