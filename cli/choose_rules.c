/* The rules: which one fits, and what follows for the number of groups. */
#include "choose.h"
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const unsigned char norma_rules_json[]; /* guide/rules.json, by cmake/embed.cmake */

const cJSON *choose_rules(void) {
  static const cJSON *rules;
  if (rules == NULL) rules = cJSON_Parse((const char *)norma_rules_json);
  return rules;
}

const char *choose_string(const cJSON *object, const char *key) {
  const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
  return value != NULL ? value : "";
}

/* ------------------------------------------------------------------------------------------------ conditions --- */

static bool has_word(const char *words, const char *word) {
  size_t length = strlen(word);
  for (const char *at = words; (at = strstr(at, word)) != NULL; at += length) {
    if ((at == words || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0')) return true;
  }
  return false;
}

/* One condition, such as "batch_max": 15. */
static bool holds(const cJSON *condition, const choose_case *c, const choose_answer *a) {
  const char *key = condition->string;
  int64_t number = cJSON_IsNumber(condition) ? (int64_t)condition->valuedouble : 0;
  if (strcmp(key, "batch_min") == 0) return c->batch >= number;
  if (strcmp(key, "batch_max") == 0) return c->batch <= number;
  if (strcmp(key, "workers_min") == 0) return c->workers >= number;
  if (strcmp(key, "total_min") == 0) return c->batch * c->workers >= number;
  if (strcmp(key, "pretrained") == 0) return c->pretrained == (bool)cJSON_IsTrue(condition);
  if (strcmp(key, "sequence") == 0) return c->sequence == (bool)cJSON_IsTrue(condition);
  const char *words = cJSON_GetStringValue(condition);
  if (words == NULL) return false;
  if (strcmp(key, "model") == 0) return has_word(words, c->model);
  if (strcmp(key, "deploy") == 0) return c->deploy != NULL && has_word(words, c->deploy);
  if (strcmp(key, "first") == 0) return has_word(words, a->first->string);
  return strcmp(key, "second") == 0 && has_word(words, a->second->string);
}

static bool fits(const cJSON *rule, const choose_case *c, const choose_answer *a) {
  const cJSON *condition;
  cJSON_ArrayForEach(condition, cJSON_GetObjectItemCaseSensitive(rule, "when")) {
    if (!holds(condition, c, a)) return false;
  }
  return true;
}

void choose_notes(const choose_case *c, const choose_answer *a, void (*each)(const char *note, void *to), void *to) {
  const cJSON *note;
  cJSON_ArrayForEach(note, cJSON_GetObjectItemCaseSensitive(choose_rules(), "notes")) {
    if (fits(note, c, a)) each(choose_string(note, "en"), to);
  }
}

/* ---------------------------------------------------------------------------------------------------- answer --- */

static int unknown_task(const char *name) {
  const cJSON *task, *nearest = NULL;
  const cJSON *tasks = cJSON_GetObjectItemCaseSensitive(choose_rules(), "tasks");
  cJSON_ArrayForEach(task, tasks) {
    if (nearest == NULL ||
        cli_distance(name, choose_string(task, "id")) < cli_distance(name, choose_string(nearest, "id"))) {
      nearest = task;
    }
  }
  /* At most half the letters differ: "x" is no misspelt "gan". */
  if (2 * cli_distance(name, choose_string(nearest, "id")) <= (int)strlen(choose_string(nearest, "id"))) {
    return cli_fail("--task is \"%s\"; did you mean %s?", name, choose_string(nearest, "id"));
  }
  return cli_fail("--task is \"%s\"; norma choose --tasks lists the tasks", name);
}

/* A model that the task has no rule for is a mistake, not a case for the default. */
static int check_model(const cJSON *task, const char *model) {
  char list[160] = "";
  const cJSON *one;
  cJSON_ArrayForEach(one, cJSON_GetObjectItemCaseSensitive(task, "models")) {
    if (strcmp(one->valuestring, model) == 0) return EXIT_GOOD;
    size_t used = strlen(list);
    snprintf(list + used, sizeof list - used, "%s%s", used > 0 ? ", " : "", one->valuestring);
  }
  return cli_fail("--model %s does not go with --task %s; it can be %s", model, choose_string(task, "id"), list);
}

static const cJSON *layer_named(const char *name) {
  return cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(choose_rules(), "layers"), name);
}

int choose_find(choose_case *c, choose_answer *answer) {
  const cJSON *task, *rule;
  *answer = (choose_answer){0};
  cJSON_ArrayForEach(task, cJSON_GetObjectItemCaseSensitive(choose_rules(), "tasks")) {
    if (strcmp(choose_string(task, "id"), c->task) == 0) answer->task = task;
  }
  if (answer->task == NULL) return unknown_task(c->task);
  c->model_assumed = c->model == NULL;
  c->batch_assumed = c->batch == 0;
  if (c->model_assumed) c->model = choose_string(answer->task, "model");
  if (c->batch_assumed) c->batch = (int64_t)cJSON_GetObjectItemCaseSensitive(answer->task, "batch")->valuedouble;
  if (c->workers == 0) c->workers = 1;
  int bad = check_model(answer->task, c->model);
  if (bad) return bad;
  cJSON_ArrayForEach(rule, cJSON_GetObjectItemCaseSensitive(answer->task, "rules")) {
    if (fits(rule, c, answer)) break;
  }
  answer->rule = rule; /* the last rule of a task has no condition */
  answer->first = layer_named(choose_string(rule, "first"));
  answer->second = layer_named(choose_string(rule, "second"));
  answer->article = layer_named(choose_string(answer->task, "article"));
  answer->groups = c->channels > 0 ? choose_groups(c->channels) : 0;
  return EXIT_GOOD;
}

int64_t choose_groups(int64_t channels) {
  if (channels % 32 == 0) return 32;
  for (int64_t groups = 31; groups > 1; groups--) {
    if (channels % groups == 0 && channels / groups >= 4) return groups;
  }
  return 1;
}

/* ------------------------------------------------------------------------------------------------- templates --- */

char *choose_fill(const choose_case *c, const choose_answer *a, const char *text) {
  char channels[24] = "C", groups[24] = "32";
  if (c->channels > 0) snprintf(channels, sizeof channels, "%lld", (long long)c->channels);
  if (a->groups > 0) snprintf(groups, sizeof groups, "%lld", (long long)a->groups);
  char *out = malloc(strlen(text) * 8 + 1), *to = out;
  if (out == NULL) return NULL;
  while (*text != '\0') {
    const char *put = strncmp(text, "{C}", 3) == 0 ? channels : strncmp(text, "{G}", 3) == 0 ? groups : NULL;
    if (put != NULL) {
      to += sprintf(to, "%s", put);
      text += 3;
    } else {
      *to++ = *text++;
    }
  }
  *to = '\0';
  return out;
}

void choose_problem(const choose_case *c, const choose_answer *a, const char *layer, char *out, int size) {
  static const char *const images[][2] = {{"batch", "batch"}, {"sync", "batch"},        {"conditional_batch", "batch"},
                                          {"group", "group"}, {"instance", "instance"}, {"adain", "adain"}};
  static const char *const rows[][2] = {{"layer", "layer"}, {"adaln", "layer"}, {"rms", "rms"}};
  long long batch = (long long)(c->batch < 32 ? c->batch : 32),
            channels = (long long)(c->channels > 0 ? c->channels : 64);
  out[0] = '\0';
  for (size_t i = 0; i < sizeof images / sizeof images[0]; i++) {
    if (strcmp(layer, images[i][0]) != 0) continue;
    int used = snprintf(out, (size_t)size, "%s:n%lld,c%lld,h56,w56", images[i][1], batch, channels);
    if (strcmp(layer, "group") == 0) {
      snprintf(out + used, (size_t)(size - used), ",g=%lld", (long long)(a->groups > 0 ? a->groups : 32));
    }
  }
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    long long features = c->channels > 0 ? channels : 768;
    if (strcmp(layer, rows[i][0]) == 0) {
      snprintf(out, (size_t)size, "%s:n%lld,t128,d%lld", rows[i][1], batch, features);
    }
  }
}
