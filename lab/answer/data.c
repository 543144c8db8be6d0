/* The data files that are part of the program: CMakeLists.txt makes arrays of them (cmake/embed.cmake). */
#include "answer.h"

#include <stdio.h>
#include <stdlib.h>

extern const unsigned char norma_claims_json[], norma_rules_json[], norma_verdicts_json[];

static const cJSON *parse(const unsigned char *bytes, const char *name) {
  const cJSON *json = cJSON_Parse((const char *)bytes);
  if (json == NULL) {
    answer_fail("%s, which is part of the program, is not JSON", name);
    exit(ANSWER_USAGE);
  }
  return json;
}

const cJSON *answer_claims_data(void) {
  static const cJSON *json;
  return json != NULL ? json : (json = parse(norma_claims_json, "lab/claims.json"));
}

const cJSON *answer_rules_data(void) {
  static const cJSON *json;
  return json != NULL ? json : (json = parse(norma_rules_json, "guide/rules.json"));
}

const cJSON *answer_shipped_data(void) {
  static const cJSON *json;
  return json != NULL ? json : (json = parse(norma_verdicts_json, "lab/verdicts.json"));
}
