/* What `norma apply` reads: tensors from .npy and PNG, and the arrays per gamma, per unit and per channel. */
#include "apply.h"

#include <stdlib.h>
#include <string.h>

static void reading(const char *name, size_t done, size_t total) { show_progress("reading", name, done, total); }

static int read_npy(npy_array *array, const char *path) {
  npy_error error;
  return npy_read(path, reading, array, &error) ? EXIT_GOOD : cli_fail("%s", error.text);
}

/* ---------------------------------------------------------------------------------------------------- tensors --- */

static bool same_image(const image *a, const image *b) {
  return a->width == b->width && a->height == b->height && a->channels == b->channels;
}

/* All images as one float32 tensor (n, c, h, w). *images is malloc'd, with `count` entries. */
static int read_images(char **paths, int count, npy_array *tensor, image **images) {
  npy_error error;
  image *list = calloc((size_t)count, sizeof *list);
  *images = list;
  if (list == NULL) return cli_fail("no memory");
  for (int i = 0; i < count; i++) {
    if (!image_recognize(paths[i])) return cli_fail("%s: not a PNG; several inputs must be PNG images", paths[i]);
    if (!image_measure(paths[i], &list[i], &error)) return cli_fail("%s", error.text);
    if (!same_image(&list[i], &list[0])) {
      return cli_fail("%s: has %lld x %lld pixels in %d colours, %s has %lld x %lld in %d; a batch has one size",
                      paths[i], (long long)list[i].width, (long long)list[i].height, list[i].channels, paths[0],
                      (long long)list[0].width, (long long)list[0].height, list[0].channels);
    }
  }
  const int64_t shape[] = {count, list[0].channels, list[0].height, list[0].width};
  if (!npy_allocate(tensor, NORMA_F32, 4, shape, false)) return cli_fail("%s: no memory for the images", paths[0]);
  for (int i = 0; i < count; i++) {
    float *planes = (float *)tensor->data + i * (npy_count(tensor) / count);
    if (!image_read(paths[i], &list[i], planes, &error)) return cli_fail("%s", error.text);
  }
  return EXIT_GOOD;
}

static void free_images(image *images, int count) {
  for (int i = 0; images != NULL && i < count; i++) free(images[i].alpha);
  free(images);
}

static int read_input(apply_job *job) {
  const apply_options *o = &job->options;
  npy_array *array = &job->arrays[OPT_INPUT];
  if (o->input_count > 1 || image_recognize(o->inputs[0])) {
    if (o->value[OPT_CHANNELS_LAST] != NULL) return cli_fail("--channels-last is for .npy files, not for PNG images");
    return read_images(o->inputs, o->input_count, array, &job->images);
  }
  return read_npy(array, o->inputs[0]);
}

/* A tensor that goes with INPUT; its type must be the same. */
static int check_type(const apply_job *job, apply_option option) {
  norma_type type = job->arrays[option].type, wanted = job->arrays[OPT_INPUT].type;
  if (type == wanted) return EXIT_GOOD;
  return cli_fail("%s: is %s, %s is %s; %s must have the type of INPUT", job->options.value[option],
                  norma_type_name(type), job->options.inputs[0], norma_type_name(wanted), option_name(option));
}

static int read_style(apply_job *job) {
  char *path = (char *)job->options.value[OPT_STYLE];
  npy_array *array = &job->arrays[OPT_STYLE];
  image *images = NULL;
  bool png = image_recognize(path);
  int bad = png ? read_images(&path, 1, array, &images) : read_npy(array, path);
  free_images(images, 1);
  if (bad == EXIT_GOOD) bad = check_type(job, OPT_STYLE);
  if (bad != EXIT_GOOD) return bad;
  if (array->ndim < 2) return cli_fail("%s: has %d dimensions; a style has a batch and channels", path, array->ndim);
  tensor_view *view = &job->style;
  job->style_last = job->options.value[OPT_CHANNELS_LAST] != NULL && !png;
  *view = view_of(array, job->style_last);
  if (view->shape[0] == 1 && job->x.shape[0] > 1 && job->options.value[OPT_DSTYLE] == NULL) {
    view->shape[0] = job->x.shape[0]; /* one style for all */
    view->strides[0] = 0;
  }
  return EXIT_GOOD;
}

static int read_dy(apply_job *job) {
  const char *path = job->options.value[OPT_DY];
  npy_array *array = &job->arrays[OPT_DY];
  const npy_array *input = &job->arrays[OPT_INPUT];
  int bad = read_npy(array, path);
  if (bad == EXIT_GOOD) bad = check_type(job, OPT_DY);
  if (bad != EXIT_GOOD) return bad;
  size_t size = (size_t)input->ndim * sizeof *input->shape;
  if (array->ndim != input->ndim || memcmp(array->shape, input->shape, size) != 0) {
    char ours[NPY_SHAPE_SIZE], wanted[NPY_SHAPE_SIZE];
    return cli_fail("%s: has shape %s, INPUT has %s; --dy must have the shape of INPUT", path,
                    npy_shape_text(array->ndim, array->shape, ours), npy_shape_text(input->ndim, input->shape, wanted));
  }
  job->dy = view_of(array, job->options.value[OPT_CHANNELS_LAST] != NULL);
  return EXIT_GOOD;
}

int read_tensors(apply_job *job) {
  const apply_options *o = &job->options;
  const npy_array *input = &job->arrays[OPT_INPUT];
  bool last = o->value[OPT_CHANNELS_LAST] != NULL;
  int bad = read_input(job);
  if (bad != EXIT_GOOD) return bad;
  if (input->ndim < (last ? 3 : 1)) {
    return cli_fail("%s: has %d dimensions; %s", o->inputs[0], input->ndim,
                    last ? "--channels-last needs a batch, positions and channels" : "a tensor has at least 1");
  }
  job->x = view_of(input, last);
  if (o->value[OPT_STYLE] != NULL) bad = read_style(job);
  if (bad == EXIT_GOOD && o->value[OPT_DY] != NULL) bad = read_dy(job);
  return bad;
}

/* ------------------------------------------------------------------------------------------------- parameters --- */

/* Turns an array of any order and type into a dense one of this type, in C order. */
static int convert(npy_array *array, norma_type type, const char *path) {
  if (array->type == type && (!array->fortran || array->ndim <= 1)) {
    array->fortran = false;
    return EXIT_GOOD;
  }
  npy_array result;
  if (!npy_allocate(&result, type, array->ndim, array->shape, false)) return cli_fail("%s: no memory", path);
  int64_t strides[NORMA_MAX_DIMS], count = npy_count(array);
  npy_strides(array, strides);
  for (int64_t i = 0; i < count; i++) {
    int64_t at = 0, rest = i;
    for (int d = array->ndim - 1; d >= 0; d--) {
      at += rest % array->shape[d] * strides[d];
      rest /= array->shape[d];
    }
    double value;
    norma_to_double(array->type, (const char *)array->data + (size_t)at * norma_type_size(array->type), 1, &value, 1);
    norma_from_double(type, &value, (char *)result.data + (size_t)i * norma_type_size(type), 1, 1);
  }
  npy_free(array);
  *array = result;
  return EXIT_GOOD;
}

static const struct {
  apply_option option;
  array_role role;
  const char *name;
} parameters[] = {
    {OPT_WEIGHT, ROLE_PARAM, "weight"},
    {OPT_BIAS, ROLE_PARAM, "bias"},
    {OPT_MEAN, ROLE_UNIT, "mean"},
    {OPT_VAR, ROLE_UNIT, "var"},
    {OPT_RUNNING_MEAN, ROLE_RUNNING, "running mean"},
    {OPT_RUNNING_VAR, ROLE_RUNNING, "running var"},
};

static int check_shape(const apply_job *job, int p, const char *path, const npy_array *array) {
  if (layer_array_fits(&job->layer, parameters[p].role, array)) return EXIT_GOOD;
  array_shape wanted = layer_array_shape(&job->layer, parameters[p].role);
  if (npy_count(array) != wanted.count) {
    return cli_fail("%s: %s has %lld elements, the layer has %lld (pattern %s)", path, parameters[p].name,
                    (long long)npy_count(array), (long long)wanted.count, wanted.axes);
  }
  char ours[NPY_SHAPE_SIZE], theirs[NPY_SHAPE_SIZE];
  return cli_fail("%s: %s has shape %s, the layer has %s (pattern %s)", path, parameters[p].name,
                  npy_shape_text(array->ndim, array->shape, ours), npy_shape_text(wanted.ndim, wanted.shape, theirs),
                  wanted.axes);
}

/* Evaluation: each unit of a channel is normalized with the running statistics of that channel. */
static int repeat_running(const apply_job *job, const npy_array *running, npy_array *given) {
  array_shape unit = layer_array_shape(&job->layer, ROLE_UNIT);
  if (!npy_allocate(given, running->type, unit.ndim, unit.shape, false)) return cli_fail("no memory");
  for (size_t at = 0; at < given->bytes; at += running->bytes) {
    memcpy((char *)given->data + at, running->data, running->bytes);
  }
  return EXIT_GOOD;
}

int read_parameters(apply_job *job) {
  const apply_options *o = &job->options;
  npy_array *arrays = job->arrays;
  norma_type type = norma_param_type(arrays[OPT_INPUT].type), running_type = type;
  bool update = o->value[OPT_UPDATE] != NULL;
  int bad = EXIT_GOOD, count = (int)(sizeof parameters / sizeof *parameters);
  for (int p = 0; p < count && bad == EXIT_GOOD; p++) {
    const char *path = o->value[parameters[p].option];
    npy_array *array = &arrays[parameters[p].option];
    if (path == NULL) continue;
    bad = read_npy(array, path);
    if (bad == EXIT_GOOD) bad = check_shape(job, p, path, array);
    if (update && parameters[p].role == ROLE_RUNNING && array->type == NORMA_F64) running_type = NORMA_F64;
  }
  for (int p = 0; p < count && bad == EXIT_GOOD; p++) {
    const char *path = o->value[parameters[p].option];
    bool running = parameters[p].role == ROLE_RUNNING;
    if (path != NULL) bad = convert(&arrays[parameters[p].option], running ? running_type : type, path);
  }
  if (bad == EXIT_GOOD && arrays[OPT_RUNNING_VAR].data != NULL && !update) {
    bad = repeat_running(job, &arrays[OPT_RUNNING_MEAN], &arrays[OPT_MEAN]);
    if (bad == EXIT_GOOD) bad = repeat_running(job, &arrays[OPT_RUNNING_VAR], &arrays[OPT_VAR]);
  }
  return bad;
}
