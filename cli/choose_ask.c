/* Questions on a terminal, one line each; an empty line takes what stands in brackets. */
#include "choose.h"
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char answers[8][64]; /* the case points into them */

/* False at the end of the input. */
static bool read_line(char line[64]) {
  if (fgets(line, 64, stdin) == NULL) return false;
  line[strcspn(line, "\n")] = '\0';
  return true;
}

static int take_number(const char *line, int64_t *out) {
  char *end;
  long long value = strtoll(line, &end, 10);
  if (*line == '\0') return EXIT_GOOD;
  if (*end != '\0' || value < 1 || value > 1000000000) {
    return cli_fail("\"%s\" is no whole number from 1 to 1000000000", line);
  }
  *out = value;
  return EXIT_GOOD;
}

static int take(choose_case *c, const char *key, const char *line) {
  if (strcmp(key, "task") == 0 && *line == '\0') return cli_fail("a task is needed; norma choose --tasks lists them");
  if (strcmp(key, "task") == 0) return c->task = line, EXIT_GOOD;
  if (strcmp(key, "model") == 0) return c->model = *line != '\0' ? line : NULL, EXIT_GOOD;
  if (strcmp(key, "batch") == 0) return take_number(line, &c->batch);
  if (strcmp(key, "workers") == 0) return take_number(line, &c->workers);
  if (strcmp(key, "channels") == 0) return take_number(line, &c->channels);
  if (*line != '\0' && *line != 'y' && *line != 'n') return cli_fail("\"%s\": yes or no would be right", line);
  c->pretrained = *line == 'y';
  return EXIT_GOOD;
}

int choose_ask(choose_case *c) {
  const cJSON *question, *task;
  int at = 0;
  printf("An empty line takes the usual value.\n\n");
  cJSON_ArrayForEach(task, cJSON_GetObjectItemCaseSensitive(choose_rules(), "tasks")) {
    printf("  %-18s %s\n", choose_string(task, "id"), choose_string(task, "en"));
  }
  printf("\n");
  cJSON_ArrayForEach(question, cJSON_GetObjectItemCaseSensitive(choose_rules(), "questions")) {
    printf("%s ", choose_string(question, "en"));
    fflush(stdout);
    if (at == 8 || !read_line(answers[at])) return cli_fail("the answers ended; norma choose --help has the options");
    int bad = take(c, choose_string(question, "key"), answers[at++]);
    if (bad) return bad;
  }
  printf("\n");
  return EXIT_GOOD;
}
