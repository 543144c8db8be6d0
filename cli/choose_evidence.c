/* What the lab found on the statements that a rule rests on. */
#include "choose.h"
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const unsigned char norma_claims_json[], norma_verdicts_json[]; /* lab/, by cmake/embed.cmake */

static const char default_path[] = "report/results.json";
static const cJSON *verdicts;
static const char *verdicts_path;

const cJSON *choose_claims(void) {
  static const cJSON *claims;
  if (claims == NULL) claims = cJSON_Parse((const char *)norma_claims_json);
  return claims;
}

static cJSON *read_json(const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) return NULL;
  char *content = NULL;
  size_t size = 0;
  for (size_t got = 1; got > 0; size += got) {
    char *grown = realloc(content, size + 65536 + 1);
    if (grown == NULL) break;
    content = grown;
    got = fread(content + size, 1, 65536, file);
  }
  fclose(file);
  if (content != NULL) content[size] = '\0';
  cJSON *json = content != NULL ? cJSON_Parse(content) : NULL;
  free(content);
  if (json == NULL) errno = 0;
  return json;
}

void choose_load_shipped(void) {
  verdicts = cJSON_Parse((const char *)norma_verdicts_json);
  verdicts_path = NULL;
}

int choose_load_verdicts(const char *path) {
  errno = 0;
  cJSON *json = read_json(path != NULL ? path : default_path);
  bool usable = cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(json, "claims"));
  if (usable) {
    verdicts = json;
    verdicts_path = path != NULL ? path : default_path;
    return EXIT_GOOD;
  }
  bool missing = json == NULL && errno == ENOENT;
  cJSON_Delete(json);
  if (path == NULL && missing) return choose_load_shipped(), EXIT_GOOD;
  if (missing) return cli_fail("--results: %s: no such file", path);
  return cli_fail("%s is no results.json of the lab; --results FILE names another", path != NULL ? path : default_path);
}

const char *choose_verdicts_from(void) { return verdicts_path; }

const cJSON *choose_claim(int id) {
  const cJSON *claim;
  cJSON_ArrayForEach(claim, cJSON_GetObjectItemCaseSensitive(choose_claims(), "claims")) {
    if (cJSON_GetObjectItemCaseSensitive(claim, "id")->valueint == id) return claim;
  }
  return NULL;
}

const char *choose_verdict(int id) {
  const cJSON *one;
  cJSON_ArrayForEach(one, cJSON_GetObjectItemCaseSensitive(verdicts, "claims")) {
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(one, "id");
    if (cJSON_IsNumber(number) && number->valueint == id) return choose_string(one, "verdict");
  }
  return "NOT RUN";
}

/* "28.3 ± 4.1 points, n = 3, quick: what was measured" */
static bool figure_of(const char *name, char *out, size_t size) {
  const cJSON *outcome = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(verdicts, "tests"), name);
  const cJSON *test =
      cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(choose_claims(), "tests"), name);
  const cJSON *mean = cJSON_GetObjectItemCaseSensitive(outcome, "mean");
  const cJSON *deviation = cJSON_GetObjectItemCaseSensitive(outcome, "deviation");
  const cJSON *n = cJSON_GetObjectItemCaseSensitive(outcome, "n");
  if (!cJSON_IsNumber(n)) return false;
  char spread[40] = "";
  bool exact = *choose_string(test, "metric") != '\0';
  if (!exact && cJSON_IsNumber(deviation) && n->valueint > 1) {
    snprintf(spread, sizeof spread, " ± %.2g", deviation->valuedouble);
  }
  snprintf(out, size, "%s: %s: %.3g%s%s%s, n = %d, %s", choose_string(test, "experiment"), choose_string(test, "en"),
           cJSON_IsNumber(mean) ? mean->valuedouble : INFINITY, spread, *choose_string(test, "unit") ? " " : "",
           choose_string(test, "unit"), n->valueint, choose_string(outcome, "verdict"));
  return true;
}

void choose_figures(const cJSON *claim, void (*each)(const char *figure, void *to), void *to) {
  static const char *const roles[] = {"tests", "against"};
  const cJSON *name;
  char figure[600];
  for (int i = 0; i < 2; i++) {
    cJSON_ArrayForEach(name, cJSON_GetObjectItemCaseSensitive(claim, roles[i])) {
      if (figure_of(cJSON_GetStringValue(name), figure, sizeof figure)) each(figure, to);
    }
  }
}
