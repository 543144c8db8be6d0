/* The answer for programs. */
#include "choose.h"
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>

static void add_layer(cJSON *json, const char *key, const choose_case *c, const choose_answer *a, const cJSON *layer,
                      const char *why) {
  static const char *const fields[] = {"setting", "cost", "pytorch", "c", "onnx"};
  cJSON *one = cJSON_AddObjectToObject(json, key);
  char problem[96];
  cJSON_AddStringToObject(one, "layer", layer->string);
  cJSON_AddStringToObject(one, "name", choose_string(layer, "en"));
  cJSON_AddStringToObject(one, "why", why);
  for (int i = 0; i < 5; i++) {
    char *filled = choose_fill(c, a, choose_string(layer, fields[i]));
    cJSON_AddStringToObject(one, fields[i], filled != NULL ? filled : "");
    free(filled);
  }
  choose_problem(c, a, layer->string, problem, sizeof problem);
  if (problem[0] != '\0') cJSON_AddStringToObject(one, "problem", problem);
  cJSON_AddItemToObject(one, "traps", cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(layer, "traps"), true));
}

static void add_string(const char *text, void *array) { cJSON_AddItemToArray(array, cJSON_CreateString(text)); }

static void add_evidence(cJSON *json, const choose_answer *a) {
  const cJSON *id;
  cJSON *evidence = cJSON_AddArrayToObject(json, "evidence");
  cJSON_ArrayForEach(id, cJSON_GetObjectItemCaseSensitive(a->rule, "claims")) {
    const cJSON *claim = choose_claim(id->valueint);
    cJSON *one = cJSON_CreateObject();
    cJSON_AddNumberToObject(one, "claim", id->valueint);
    cJSON_AddStringToObject(one, "statement", choose_string(claim, "en"));
    cJSON_AddStringToObject(one, "note", choose_string(claim, "note_en"));
    cJSON_AddStringToObject(one, "verdict", choose_verdict(id->valueint));
    choose_figures(claim, add_string, cJSON_AddArrayToObject(one, "measured"));
    cJSON_AddItemToObject(one, "papers", cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(claim, "paper"), true));
    cJSON_AddItemToArray(evidence, one);
  }
}

int choose_print_json(const choose_case *c, const choose_answer *a) {
  cJSON *json = cJSON_CreateObject();
  const char *from = choose_verdicts_from();
  cJSON_AddStringToObject(json, "task", choose_string(a->task, "id"));
  cJSON_AddStringToObject(json, "model", c->model);
  cJSON_AddNumberToObject(json, "batch", (double)c->batch);
  cJSON_AddNumberToObject(json, "workers", (double)c->workers);
  cJSON_AddBoolToObject(json, "sequence", c->sequence);
  cJSON_AddBoolToObject(json, "pretrained", c->pretrained);
  if (c->channels > 0) cJSON_AddNumberToObject(json, "channels", (double)c->channels);
  if (a->groups > 0) cJSON_AddNumberToObject(json, "groups", (double)a->groups);
  if (c->deploy != NULL) cJSON_AddStringToObject(json, "deploy", c->deploy);
  if (a->article != NULL) cJSON_AddStringToObject(json, "article", a->article->string);
  add_layer(json, "first", c, a, a->first, choose_string(a->rule, "en"));
  add_layer(json, "second", c, a, a->second, choose_string(a->rule, "second_en"));
  choose_notes(c, a, add_string, cJSON_AddArrayToObject(json, "notes"));
  cJSON_AddStringToObject(json, "verdicts", from != NULL ? from : "shipped");
  add_evidence(json, a);
  char *text = cJSON_Print(json);
  cJSON_Delete(json);
  if (text == NULL) return cli_fail("no memory");
  puts(text);
  cJSON_free(text);
  return EXIT_GOOD;
}
