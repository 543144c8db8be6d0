/* What `norma apply` writes: arrays for the results, and their files. */
#include "apply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const size_t long_work = (size_t)32 << 20; /* bytes; below, there is no progress to show */

void show_progress(const char *what, const char *name, size_t done, size_t total) {
  if (total < long_work || !isatty(STDERR_FILENO)) return;
  if (done < total) {
    fprintf(stderr, "\r%s %s %3d %%", what, name, (int)((double)done / (double)total * 100));
  } else {
    fprintf(stderr, "\r\033[K");
  }
  fflush(stderr);
}

static void writing(const char *name, size_t done, size_t total) { show_progress("writing", name, done, total); }

bool is_png_name(const char *path) {
  size_t length = strlen(path);
  return length >= 4 && strcmp(path + length - 4, ".png") == 0;
}

/* ----------------------------------------------------------------------------------------------------- arrays --- */

static int make(npy_array *array, norma_type type, int ndim, const int64_t *shape, bool fortran) {
  char text[NPY_SHAPE_SIZE];
  if (npy_allocate(array, type, ndim, shape, fortran)) return EXIT_GOOD;
  return cli_fail("no memory for a result of shape %s", npy_shape_text(ndim, shape, text));
}

/* A gradient has the shape of the file it belongs to, else that of the other parameter, else the layer's. */
static int make_gradient(apply_job *job, apply_option option, apply_option first, apply_option second) {
  const npy_array *like = job->arrays[first].data != NULL ? &job->arrays[first] : &job->arrays[second];
  norma_type type = norma_param_type(job->arrays[OPT_INPUT].type);
  if (like->data != NULL) return make(&job->arrays[option], type, like->ndim, like->shape, false);
  array_shape natural = layer_array_shape(&job->layer, ROLE_PARAM);
  return make(&job->arrays[option], type, natural.ndim, natural.shape, false);
}

static int copy_running(apply_job *job, apply_option option, apply_option source) {
  const npy_array *from = &job->arrays[source];
  int bad = make(&job->arrays[option], from->type, from->ndim, from->shape, false);
  if (bad == EXIT_GOOD) memcpy(job->arrays[option].data, from->data, from->bytes);
  return bad;
}

static int make_array(apply_job *job, apply_option option) {
  const npy_array *input = &job->arrays[OPT_INPUT], *style = &job->arrays[OPT_STYLE];
  npy_array *array = &job->arrays[option];
  array_shape unit = layer_array_shape(&job->layer, ROLE_UNIT);
  switch (option) {
    case OPT_OUTPUT:
    case OPT_DX: return make(array, input->type, input->ndim, input->shape, input->fortran);
    case OPT_DSTYLE: return make(array, style->type, style->ndim, style->shape, style->fortran);
    case OPT_DWEIGHT: return make_gradient(job, option, OPT_WEIGHT, OPT_BIAS);
    case OPT_DBIAS: return make_gradient(job, option, OPT_BIAS, OPT_WEIGHT);
    case OPT_SAVE_RUNNING_MEAN: return copy_running(job, option, OPT_RUNNING_MEAN);
    case OPT_SAVE_RUNNING_VAR: return copy_running(job, option, OPT_RUNNING_VAR);
    default: return make(array, norma_param_type(input->type), unit.ndim, unit.shape, false);
  }
}

/* ---------------------------------------------------------------------------------------------------- outputs --- */

/* Adds the files of y as PNG: one per image, with %d in the name as its place. */
static int add_images(apply_job *job, const char *path) {
  const tensor_view *x = &job->x;
  char shape[NPY_SHAPE_SIZE];
  if (x->ndim != 4 || (x->shape[1] != 1 && x->shape[1] != 3) || npy_count(&job->arrays[OPT_INPUT]) == 0) {
    return cli_fail("%s: a tensor of shape %s is no image; a PNG needs n c h w with 1 or 3 channels", path,
                    npy_shape_text(x->ndim, x->shape, shape));
  }
  const char *place = strstr(path, "%d");
  if (place == NULL && x->shape[0] == 1) return outputs_add(&job->outputs, path);
  if (place == NULL || strstr(place + 2, "%d") != NULL) {
    return cli_fail("%s: %lld images need %%d once in the name, such as out%%d.png", path, (long long)x->shape[0]);
  }
  size_t size = strlen(path) + 24;
  char *name = malloc(size);
  int bad = name != NULL ? EXIT_GOOD : cli_fail("no memory");
  for (int64_t i = 0; i < x->shape[0] && bad == EXIT_GOOD; i++) {
    snprintf(name, size, "%.*s%lld%s", (int)(place - path), path, (long long)i, place + 2);
    bad = outputs_add(&job->outputs, name);
  }
  free(name);
  return bad;
}

int make_results(apply_job *job) {
  int bad = EXIT_GOOD;
  for (int i = OPT_OUTPUT; i < ARRAY_COUNT && bad == EXIT_GOOD; i++) {
    const char *path = job->options.value[i];
    if (path == NULL) continue;
    bad = i == OPT_OUTPUT && is_png_name(path) ? add_images(job, path) : outputs_add(&job->outputs, path);
    if (bad == EXIT_GOOD) bad = make_array(job, (apply_option)i);
  }
  return bad == EXIT_GOOD ? outputs_open(&job->outputs) : bad;
}

static int write_npy(output_file *file, const npy_array *array) {
  int bad = output_start(file);
  if (bad != EXIT_GOOD) return bad;
  bool good = npy_write_stream(file->stream, file->path, writing, array);
  return output_finish(file, good ? NULL : strerror(errno));
}

/* Image `place` of y. */
static int write_image(const apply_job *job, output_file *file, int64_t place) {
  const npy_array *y = &job->arrays[OPT_OUTPUT];
  tensor_view view = view_of(y, job->options.value[OPT_CHANNELS_LAST] != NULL);
  image picture = {.width = view.shape[3], .height = view.shape[2], .channels = (int)view.shape[1], .depth = 8};
  if (job->images != NULL) picture = job->images[place];
  const char *data = (const char *)y->data + place * view.strides[0] * (int64_t)norma_type_size(y->type);
  image_planes planes = {y->type, data, {view.strides[1], view.strides[2], view.strides[3]}};
  double low = 0, high = 1;
  if (job->options.value[OPT_RANGE] != NULL) {
    int bad = option_range(&job->options, &low, &high);
    if (bad != EXIT_GOOD) return bad;
  } else if (job->options.kind != KIND_ADAIN && !image_range(&picture, &planes, &low, &high)) {
    return cli_fail("%s: no memory", file->path);
  }
  int bad = output_start(file);
  if (bad != EXIT_GOOD) return bad;
  npy_error error;
  bool good = image_write(file->stream, &picture, &planes, low, high, &error);
  return output_finish(file, good ? NULL : error.text);
}

int write_results(apply_job *job) {
  int bad = EXIT_GOOD, next = 0;
  for (int i = OPT_OUTPUT; i < ARRAY_COUNT && bad == EXIT_GOOD; i++) {
    const char *path = job->options.value[i];
    if (path == NULL) continue;
    if (i != OPT_OUTPUT || !is_png_name(path)) {
      bad = write_npy(&job->outputs.files[next++], &job->arrays[i]);
      continue;
    }
    for (int64_t k = 0; k < job->x.shape[0] && bad == EXIT_GOOD; k++) {
      bad = write_image(job, &job->outputs.files[next++], k);
    }
  }
  return bad == EXIT_GOOD ? outputs_commit(&job->outputs) : bad;
}
