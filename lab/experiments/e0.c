/* Runs the exact properties and writes them as run files; see e0.h. */
#include "e0.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>

/* -------------------------------------------------------------------------------------------------- helpers --- */

void e0_set(e0_state *e0, const char *name, double value) {
  if (e0->count == E0_METRICS) abort();
  e0->name[e0->count] = name;
  e0->value[e0->count++] = value;
}

/* xorshift64*, then the top 53 bits. */
static double uniform(e0_state *e0) {
  e0->random ^= e0->random >> 12;
  e0->random ^= e0->random << 25;
  e0->random ^= e0->random >> 27;
  return ((double)(e0->random * 2685821657736338717u >> 11) + 0.5) / 9007199254740992.0;
}

double e0_normal(e0_state *e0) {
  double radius = sqrt(-2 * log(uniform(e0)));
  return radius * cos(2 * 3.14159265358979323846 * uniform(e0));
}

void e0_fill(e0_state *e0, float *x, int n, double mean, double deviation) {
  for (int i = 0; i < n; i++) x[i] = (float)(mean + deviation * e0_normal(e0));
}

void e0_must(norma_status status, const norma_error *error) {
  if (status == NORMA_OK) return;
  fprintf(stderr, "E0: a call that must work failed: %s\n", error->detail);
  exit(2);
}

void e0_norm(const norma_layer *layer, const float *x, float *y, const float *gamma, const float *beta) {
  norma_error error;
  norma_forward_args args = {.size = sizeof args, .layer = layer, .x = x, .y = y, .weight = gamma, .bias = beta};
  e0_must(norma_forward(&args, &error), &error);
}

void e0_given(const norma_layer *layer, const float *x, float *y, const float *mean, const float *var) {
  norma_error error;
  norma_forward_args args = {.size = sizeof args, .layer = layer, .x = x, .y = y, .given_mean = mean, .given_var = var};
  e0_must(norma_forward(&args, &error), &error);
}

double e0_distance(const float *a, const float *b, int n) {
  double most = 0;
  for (int i = 0; i < n; i++) most = fmax(most, fabs((double)a[i] - (double)b[i]));
  return most;
}

/* ------------------------------------------------------------------------------------------------ run files --- */

static void add_machine(cJSON *json) {
  char model[96] = "";
  struct utsname system = {0};
  FILE *info = fopen("/proc/cpuinfo", "r");
  for (char line[256]; info != NULL && model[0] == '\0' && fgets(line, sizeof line, info) != NULL;) {
    sscanf(line, "model name : %95[^\n]", model);
  }
  if (info != NULL) fclose(info);
  uname(&system);
  cJSON *machine = cJSON_AddObjectToObject(json, "machine");
  cJSON_AddStringToObject(machine, "processor", model[0] != '\0' ? model : system.machine);
  cJSON_AddStringToObject(machine, "isa", norma_isa());
}

static int make_folder(char *path, size_t size, const char *folder) {
  const char *const parts[] = {"", "/runs", "/E0"};
  int length = snprintf(path, size, "%s", folder);
  for (int i = 0; i < 3; i++) {
    if (length < 0 || (size_t)length >= size - 64) return fprintf(stderr, "E0: %s: the name is too long\n", folder), 2;
    length += snprintf(path + length, size - (size_t)length, "%s", parts[i]);
    if (mkdir(path, 0777) != 0 && errno != EEXIST) {
      return fprintf(stderr, "E0: cannot make the folder %s: %s\n", path, strerror(errno)), 2;
    }
  }
  return 0;
}

static int save(const char *folder, int seed, const char *content) {
  char path[4200], temporary[4210];
  snprintf(path, sizeof path, "%s/exact.seed%d.json", folder, seed);
  snprintf(temporary, sizeof temporary, "%s.part", path);
  FILE *file = fopen(temporary, "wb");
  bool good = file != NULL && fputs(content, file) >= 0;
  if (file != NULL && fclose(file) != 0) good = false;
  if (good && rename(temporary, path) == 0) return 0;
  return fprintf(stderr, "E0: cannot write %s: %s\n", path, strerror(errno)), 2;
}

/* The properties are the same in both modes; a file of a full run that is written again stays one. */
static const char *mode_of(const char *folder, int seed) {
  char path[4200], content[16384];
  snprintf(path, sizeof path, "%s/exact.seed%d.json", folder, seed);
  FILE *file = fopen(path, "rb");
  if (file == NULL) return "quick";
  content[fread(content, 1, sizeof content - 1, file)] = '\0';
  fclose(file);
  cJSON *json = cJSON_Parse(content);
  const char *mode = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "mode"));
  bool full = mode != NULL && strcmp(mode, "full") == 0;
  cJSON_Delete(json);
  return full ? "full" : "quick";
}

static char *to_json(const e0_state *e0, const char *mode, int seed, double seconds) {
  cJSON *json = cJSON_CreateObject(), *metrics;
  cJSON_AddStringToObject(json, "experiment", "E0");
  cJSON_AddStringToObject(json, "arm", "exact");
  cJSON_AddNumberToObject(json, "seed", seed);
  cJSON_AddStringToObject(json, "mode", mode);
  cJSON_AddObjectToObject(json, "config");
  metrics = cJSON_AddObjectToObject(json, "metrics");
  for (int i = 0; i < e0->count; i++) cJSON_AddNumberToObject(metrics, e0->name[i], e0->value[i]);
  cJSON_AddObjectToObject(json, "curves");
  cJSON_AddNumberToObject(json, "seconds", seconds);
  add_machine(json);
  char *text = cJSON_Print(json);
  cJSON_Delete(json);
  return text;
}

void e0_measure(e0_state *e0, int seed) {
  *e0 = (e0_state){.random = 0x9e3779b97f4a7c15u * (uint64_t)seed};
  e0_units(e0);
  e0_batch(e0);
  e0_layer(e0);
  e0_spatial(e0);
  e0_weights(e0);
}

int e0_run(const char *folder, int seeds) {
  char path[4096];
  int failed = make_folder(path, sizeof path, folder);
  for (int seed = 1; !failed && seed <= seeds; seed++) {
    clock_t start = clock();
    e0_state e0;
    e0_measure(&e0, seed);
    char *text = to_json(&e0, mode_of(path, seed), seed, (double)(clock() - start) / CLOCKS_PER_SEC);
    failed = text != NULL ? save(path, seed, text) : 2;
    cJSON_free(text);
  }
  return failed;
}
