/* norma apply LAYER INPUT -o OUTPUT: a tensor file in, the normalized tensor and its gradients out. */
#include "apply.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

static const char *result_name(apply_option option) {
  return option == OPT_OUTPUT ? "y" : option_name(option) + strlen("--");
}

static cJSON *shape_json(int ndim, const int64_t *shape) {
  cJSON *list = cJSON_CreateArray();
  for (int i = 0; i < ndim; i++) cJSON_AddItemToArray(list, cJSON_CreateNumber((double)shape[i]));
  return list;
}

static int print_json(const apply_job *job, const char *pattern, const char *affine) {
  const npy_array *input = &job->arrays[OPT_INPUT];
  cJSON *root = cJSON_CreateObject(), *outputs = cJSON_CreateArray();
  cJSON_AddStringToObject(root, "layer", kind_name(job->options.kind));
  cJSON_AddStringToObject(root, "pattern", pattern);
  cJSON_AddStringToObject(root, "affine", affine);
  cJSON_AddStringToObject(root, "type", norma_type_name(input->type));
  cJSON_AddItemToObject(root, "shape", shape_json(job->x.ndim, job->x.shape));
  cJSON_AddNumberToObject(root, "units", (double)norma_layer_units(&job->layer));
  cJSON_AddNumberToObject(root, "unit_elements", (double)norma_layer_unit_elements(&job->layer));
  cJSON_AddNumberToObject(root, "params", (double)norma_layer_params(&job->layer));
  int next = 0;
  for (int i = OPT_OUTPUT; i < ARRAY_COUNT; i++) {
    const npy_array *array = &job->arrays[i];
    if (job->options.value[i] == NULL) continue;
    bool images = i == OPT_OUTPUT && is_png_name(job->options.value[i]);
    for (int64_t k = 0; k < (images ? job->x.shape[0] : 1); k++) {
      cJSON *entry = cJSON_CreateObject();
      cJSON_AddStringToObject(entry, "name", result_name((apply_option)i));
      cJSON_AddStringToObject(entry, "file", job->outputs.files[next++].path);
      cJSON_AddStringToObject(entry, "type", images ? "png" : norma_type_name(array->type));
      cJSON_AddItemToObject(entry, "shape",
                            images ? shape_json(3, job->x.shape + 1) : shape_json(array->ndim, array->shape));
      cJSON_AddItemToArray(outputs, entry);
    }
  }
  cJSON_AddItemToObject(root, "outputs", outputs);
  char *text = cJSON_Print(root);
  cJSON_Delete(root);
  if (text == NULL) return cli_fail("no memory for the summary; the files are written");
  puts(text);
  cJSON_free(text);
  return EXIT_GOOD;
}

static int summarize(const apply_job *job) {
  char pattern[512], affine[512], shape[NPY_SHAPE_SIZE];
  norma_error error;
  if (norma_layer_format(&job->layer, pattern, sizeof pattern, affine, sizeof affine, &error) != NORMA_OK) {
    return cli_fail("%s", error.detail);
  }
  if (job->options.value[OPT_JSON] != NULL) return print_json(job, pattern, affine);
  printf("%s  %s  %s %s  %lld x %lld elements per mean\n", kind_name(job->options.kind), pattern,
         norma_type_name(job->arrays[OPT_INPUT].type), npy_shape_text(job->x.ndim, job->x.shape, shape),
         (long long)norma_layer_units(&job->layer), (long long)norma_layer_unit_elements(&job->layer));
  for (int i = 0; i < job->outputs.count; i++) printf("wrote %s\n", job->outputs.files[i].path);
  return EXIT_GOOD;
}

static void clear(apply_job *job) {
  outputs_close(&job->outputs);
  for (int i = 0; i < ARRAY_COUNT; i++) npy_free(&job->arrays[i]);
  for (int i = 0; job->images != NULL && i < job->options.input_count; i++) free(job->images[i].alpha);
  free(job->images);
}

int command_apply(int argc, char **argv) {
  apply_job job;
  memset(&job, 0, sizeof job);
  int bad = options_parse(&job.options, argc, argv);
  if (bad != EXIT_GOOD || job.options.value[OPT_HELP] != NULL) return bad;
  bad = options_check(&job.options);
  if (bad == EXIT_GOOD) bad = read_tensors(&job);
  if (bad == EXIT_GOOD) bad = layer_make(&job);
  if (bad == EXIT_GOOD) bad = read_parameters(&job);
  if (bad == EXIT_GOOD) bad = make_results(&job);
  if (bad == EXIT_GOOD) bad = run_layer(&job);
  if (bad == EXIT_GOOD) bad = write_results(&job);
  if (bad == EXIT_GOOD) bad = summarize(&job);
  clear(&job);
  return bad;
}
