/* Reads the run files of an output folder, and JSON in general. */
#include "answer.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int answer_fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("norma-report: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  return ANSWER_USAGE;
}

int answer_save(const char *folder, const char *name, const char *text, size_t size) {
  char path[ANSWER_PATH], temporary[ANSWER_PATH];
  int length = snprintf(path, sizeof path, "%s/%s", folder, name);
  int longer = snprintf(temporary, sizeof temporary, "%s/%s.part", folder, name);
  if (length < 0 || longer < 0 || longer >= (int)sizeof temporary)
    return answer_fail("%s: the name is too long", folder);
  FILE *file = fopen(temporary, "wb");
  if (file == NULL) return answer_fail("cannot write %s: %s", temporary, strerror(errno));
  bool good = fwrite(text, 1, size, file) == size;
  good = fclose(file) == 0 && good;
  if (!good || rename(temporary, path) != 0) {
    int failed = answer_fail("cannot write %s: %s", path, strerror(errno));
    remove(temporary);
    return failed;
  }
  return ANSWER_GOOD;
}

/* ------------------------------------------------------------------------------------------------------ JSON --- */

static char *read_file(const char *path) {
  FILE *file = fopen(path, "rb");
  char *content = NULL;
  if (file != NULL && fseek(file, 0, SEEK_END) == 0) {
    long size = ftell(file);
    rewind(file);
    content = size >= 0 ? malloc((size_t)size + 1) : NULL;
    if (content != NULL) content[fread(content, 1, (size_t)size, file)] = '\0';
  }
  if (file != NULL) fclose(file);
  return content;
}

cJSON *answer_read_json(const char *path) {
  char *content = read_file(path);
  if (content == NULL) {
    answer_fail("%s: cannot be read: %s", path, strerror(errno));
    return NULL;
  }
  const char *end = NULL;
  cJSON *json = cJSON_ParseWithOpts(content, &end, true);
  if (json == NULL) answer_fail("%s: is not JSON, from byte %ld on", path, end != NULL ? (long)(end - content) : 0L);
  free(content);
  return json;
}

const char *answer_string(const cJSON *object, const char *key) {
  const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
  return value != NULL ? value : "";
}

const char *answer_in(const cJSON *object, answer_language language) {
  return answer_string(object, language == ANSWER_ZH ? "zh" : "en");
}

const char *answer_keyed(const cJSON *object, const char *stem, answer_language language) {
  char key[64];
  snprintf(key, sizeof key, "%s_%s", stem, language == ANSWER_ZH ? "zh" : "en");
  return answer_string(object, key);
}

double answer_number(const cJSON *object, const char *key, double otherwise) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
  return cJSON_IsNumber(item) ? item->valuedouble : otherwise;
}

/* ------------------------------------------------------------------------------------------------------ runs --- */

static int add_run(answer_runs *runs, const char *path) {
  cJSON *json = answer_read_json(path);
  if (json == NULL) return ANSWER_USAGE;
  if (strcmp(answer_string(json, "mode"), "tune") == 0) return cJSON_Delete(json), ANSWER_GOOD;
  answer_run run = {.experiment = answer_string(json, "experiment"),
                    .arm = answer_string(json, "arm"),
                    .mode = answer_string(json, "mode"),
                    .seed = (int)answer_number(json, "seed", -1),
                    .json = json};
  const char *missing = *run.experiment == '\0'                                              ? "experiment"
                        : *run.arm == '\0'                                                   ? "arm"
                        : run.seed < 0                                                       ? "seed"
                        : !cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(json, "metrics")) ? "metrics"
                        : strcmp(run.mode, "quick") != 0 && strcmp(run.mode, "full") != 0    ? "mode (quick or full)"
                                                                                             : NULL;
  answer_run *grown = missing == NULL ? realloc(runs->at, (size_t)(runs->count + 1) * sizeof *grown) : NULL;
  if (grown == NULL) {
    cJSON_Delete(json);
    return answer_fail("%s: %s%s", path, missing != NULL ? "has no field " : "no memory",
                       missing != NULL ? missing : "");
  }
  runs->at = grown;
  runs->at[runs->count++] = run;
  return ANSWER_GOOD;
}

static bool is_json(const char *name) {
  size_t length = strlen(name);
  return name[0] != '.' && length > 5 && strcmp(name + length - 5, ".json") == 0;
}

/* Adds the run files of a folder, and of the folders in it. */
static int add_folder(answer_runs *runs, const char *folder, int depth) {
  struct dirent **entries;
  int count = scandir(folder, &entries, NULL, alphasort), failed = ANSWER_GOOD;
  if (count < 0) return errno == ENOENT ? ANSWER_GOOD : answer_fail("%s: %s", folder, strerror(errno));
  for (int i = 0; i < count; i++) {
    char path[ANSWER_PATH];
    struct stat status;
    int length = snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
    bool usable = !failed && entries[i]->d_name[0] != '.' && length < (int)sizeof path && stat(path, &status) == 0;
    if (usable && S_ISDIR(status.st_mode) && depth > 0) {
      failed = add_folder(runs, path, depth - 1);
    } else if (usable && S_ISREG(status.st_mode) && is_json(entries[i]->d_name)) {
      failed = add_run(runs, path);
    }
    free(entries[i]);
  }
  free(entries);
  return failed;
}

static bool has_full_run(const answer_runs *runs, const char *experiment) {
  for (int i = 0; i < runs->count; i++) {
    if (strcmp(runs->at[i].experiment, experiment) == 0 && strcmp(runs->at[i].mode, "full") == 0) return true;
  }
  return false;
}

int answer_read_runs(const char *folder, answer_runs *runs) {
  char path[ANSWER_PATH];
  *runs = (answer_runs){0};
  if (snprintf(path, sizeof path, "%s/runs", folder) >= (int)sizeof path) {
    return answer_fail("%s: the name is too long", folder);
  }
  int failed = add_folder(runs, path, 1);
  if (failed) answer_free_runs(runs);
  bool *drop = runs->count > 0 ? calloc((size_t)runs->count, sizeof *drop) : NULL;
  for (int i = 0; drop != NULL && i < runs->count; i++) {
    drop[i] = strcmp(runs->at[i].mode, "full") != 0 && has_full_run(runs, runs->at[i].experiment);
  }
  int kept = 0, count = runs->count;
  for (int i = 0; drop != NULL && i < count; i++) {
    if (drop[i]) cJSON_Delete(runs->at[i].json);
    else runs->at[kept++] = runs->at[i];
  }
  runs->count = kept;
  free(drop);
  return failed;
}

void answer_free_runs(answer_runs *runs) {
  for (int i = 0; i < runs->count; i++) cJSON_Delete(runs->at[i].json);
  free(runs->at);
  *runs = (answer_runs){0};
}

const answer_run *answer_find_run(const answer_runs *runs, const char *experiment, const char *arm, int seed) {
  for (int i = 0; i < runs->count; i++) {
    const answer_run *run = &runs->at[i];
    if (run->seed == seed && strcmp(run->experiment, experiment) == 0 && strcmp(run->arm, arm) == 0) return run;
  }
  return NULL;
}

const char *answer_mode(const answer_runs *runs, const char *experiment) {
  for (int i = 0; i < runs->count; i++) {
    if (strcmp(runs->at[i].experiment, experiment) == 0) return runs->at[i].mode;
  }
  return NULL;
}

int answer_seeds(const answer_runs *runs, const char *experiment, int seeds[ANSWER_SEEDS]) {
  int count = 0;
  for (int i = 0; i < runs->count; i++) {
    int at = 0, seed = runs->at[i].seed;
    if (strcmp(runs->at[i].experiment, experiment) != 0) continue;
    while (at < count && seeds[at] < seed) at++;
    if ((at < count && seeds[at] == seed) || count == ANSWER_SEEDS) continue;
    memmove(seeds + at + 1, seeds + at, (size_t)(count - at) * sizeof *seeds);
    seeds[at] = seed;
    count++;
  }
  return count;
}

bool answer_metric(const answer_run *run, const char *metric, double *value) {
  const cJSON *metrics = cJSON_GetObjectItemCaseSensitive(run->json, "metrics");
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(metrics, metric);
  if (item == NULL || !(cJSON_IsNumber(item) || cJSON_IsNull(item))) return false;
  *value = cJSON_IsNull(item) ? INFINITY : item->valuedouble;
  return true;
}
