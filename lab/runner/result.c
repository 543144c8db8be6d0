/* The file of one run: JSON, written under a temporary name and renamed. */
#include <cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../engine/maths.h"
#include "runner.h"

struct result {
  cJSON *json, *config, *metrics, *curves;
};

static cJSON *number(double value) {
  /* Seven digits hold what float32 can; cJSON would print seventeen where a double needs them. */
  char text[40];
  snprintf(text, sizeof text, "%.7g", value);
  return isfinite(value) ? cJSON_CreateRaw(text) : cJSON_CreateNull();
}

static void set(cJSON *object, const char *name, cJSON *value) {
  cJSON_DeleteItemFromObjectCaseSensitive(object, name);
  cJSON_AddItemToObject(object, name, value);
}

void result_metric(result *r, const char *name, double value) { set(r->metrics, name, number(value)); }

void result_config(result *r, const char *name, double value) { set(r->config, name, number(value)); }

void result_config_text(result *r, const char *name, const char *value) {
  set(r->config, name, cJSON_CreateString(value));
}

void result_point(result *r, const char *curve, double x, double y) {
  cJSON *points = cJSON_GetObjectItemCaseSensitive(r->curves, curve);
  if (points == NULL) {
    points = cJSON_AddArrayToObject(r->curves, curve);
  }
  cJSON *point = cJSON_CreateArray();
  cJSON_AddItemToArray(point, number(x));
  cJSON_AddItemToArray(point, number(y));
  cJSON_AddItemToArray(points, point);
}

/* FNV-1a of the program's file: results of another program are not mixed with this one's. */
static const char *program_id(void) {
  static char id[24];
  FILE *file = *id == '\0' ? fopen("/proc/self/exe", "rb") : NULL;
  if (file != NULL) {
    uint64_t hash = 0xcbf29ce484222325u;
    unsigned char block[65536];
    size_t got;
    while ((got = fread(block, 1, sizeof block, file)) > 0) {
      for (size_t i = 0; i < got; i++) {
        hash = (hash ^ block[i]) * 0x100000001b3u;
      }
    }
    fclose(file);
    snprintf(id, sizeof id, "%016llx", (unsigned long long)hash);
  }
  return id;
}

static void processor_name(char *name, size_t size) {
  FILE *file = fopen("/proc/cpuinfo", "r");
  char line[512];
  snprintf(name, size, "unknown");
  while (file != NULL && fgets(line, sizeof line, file) != NULL) {
    char *colon = strchr(line, ':');
    if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
      colon[strcspn(colon, "\n")] = '\0';
      snprintf(name, size, "%s", colon + 2);
      break;
    }
  }
  if (file != NULL) {
    fclose(file);
  }
}

result *result_new(const run *run) {
  result *r = engine_alloc(sizeof *r);
  char processor[256], blas[512];
  r->json = cJSON_CreateObject();
  cJSON_AddStringToObject(r->json, "experiment", run->experiment->id);
  cJSON_AddStringToObject(r->json, "arm", run->arm.name);
  cJSON_AddNumberToObject(r->json, "seed", run->seed);
  cJSON_AddStringToObject(r->json, "mode", mode_names[run->mode]);
  r->config = cJSON_AddObjectToObject(r->json, "config");
  r->metrics = cJSON_AddObjectToObject(r->json, "metrics");
  r->curves = cJSON_AddObjectToObject(r->json, "curves");
  cJSON *machine = cJSON_AddObjectToObject(r->json, "machine");
  processor_name(processor, sizeof processor);
  snprintf(blas, sizeof blas, "%s", openblas_get_config());
  cJSON_AddStringToObject(machine, "processor", processor);
  cJSON_AddStringToObject(machine, "blas", blas);
  cJSON_AddStringToObject(machine, "isa", norma_isa());
  cJSON_AddNumberToObject(machine, "processors", (double)sysconf(_SC_NPROCESSORS_ONLN));
  cJSON_AddStringToObject(r->json, "program", program_id());
  return r;
}

void result_free(result *r) {
  cJSON_Delete(r->json);
  free(r);
}

bool make_folders(const char *path) {
  char folder[PATH_SIZE];
  snprintf(folder, sizeof folder, "%s", path);
  for (char *slash = strchr(folder + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    if (mkdir(folder, 0777) != 0 && errno != EEXIST) {
      lab_fail("--out: cannot make the folder %s: %s", folder, strerror(errno));
      return false;
    }
    *slash = '/';
  }
  return true;
}

int result_write(result *r, const char *path, double seconds) {
  char temporary[PATH_SIZE + 16];
  set(r->json, "seconds", number(seconds));
  char *text = cJSON_PrintUnformatted(r->json);
  snprintf(temporary, sizeof temporary, "%s.%ld.tmp", path, (long)getpid());
  FILE *file = text != NULL && make_folders(path) ? fopen(temporary, "w") : NULL;
  bool good = file != NULL && fputs(text, file) >= 0 && fputc('\n', file) >= 0 && fflush(file) == 0 &&
              fsync(fileno(file)) == 0;
  if (file != NULL) {
    good = fclose(file) == 0 && good;
  }
  good = good && rename(temporary, path) == 0;
  if (!good) {
    lab_fail("cannot write %s: %s", path, strerror(errno));
    remove(temporary);
  }
  free(text);
  return good ? EXIT_GOOD : EXIT_USAGE;
}

/* ---------------------------------------------------------------------------------------------------- reading --- */

static cJSON *read_json(const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    return NULL;
  }
  size_t size = 0, room = 65536;
  char *text = malloc(room + 1);
  while (text != NULL) {
    size += fread(text + size, 1, room - size, file);
    if (size < room) {
      break;
    }
    char *grown = realloc(text, 2 * room + 1);
    if (grown == NULL) {
      break;
    }
    text = grown;
    room *= 2;
  }
  fclose(file);
  cJSON *json = NULL;
  if (text != NULL) {
    text[size] = '\0';
    json = cJSON_Parse(text);
  }
  free(text);
  return json;
}

static const char *text_of(const cJSON *json, const char *name) {
  const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, name));
  return text != NULL ? text : "";
}

bool result_is_of(const char *path, const char *mode) {
  cJSON *json = read_json(path);
  bool same = strcmp(text_of(json, "program"), program_id()) == 0 && strcmp(text_of(json, "mode"), mode) == 0;
  cJSON_Delete(json);
  return same;
}

void result_mode(const char *path, char mode[16]) {
  cJSON *json = read_json(path);
  snprintf(mode, 16, "%s", text_of(json, "mode"));
  cJSON_Delete(json);
}

double result_read(const char *path, const char *metric) {
  cJSON *json = read_json(path);
  const cJSON *value = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(json, "metrics"), metric);
  double number = cJSON_IsNumber(value) ? value->valuedouble : NAN;
  cJSON_Delete(json);
  return number;
}
