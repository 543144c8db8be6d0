/* `norma choose`: which normalization layer for this task, with the evidence. */
#include "choose.h"
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "usage: norma choose --task TASK [OPTIONS]\n"
    "       norma choose                       asks, on a terminal\n"
    "       norma choose --table [OPTIONS]     which layer for which task, with verdicts, in one table\n"
    "       norma choose --guide               prints docs/guide.md\n"
    "\n"
    "Recommends a first and a second normalization layer: the reason, the evidence with its verdicts, the cost,\n"
    "the setting, the traps, and how to write it in PyTorch, C and ONNX.\n"
    "\n"
    "  --task TASK      what the network is for; norma choose --tasks lists the tasks\n"
    "  --batch N        samples per step of one worker\n"
    "  --workers N      workers that train together (default: 1)\n"
    "  --model KIND     cnn, modern-cnn (like ConvNeXt), transformer, rnn or mlp\n"
    "  --channels C     channels, or features, of the layer: gives the number of groups\n"
    "  --sequence       inputs of varying length, padded or streaming\n"
    "  --pretrained     starts from weights that were trained with batch norm\n"
    "  --deploy HOW     float or int8\n"
    "  --results FILE   verdicts of a run of the lab (default: report/results.json if it is there, else shipped ones)\n"
    "  --lang LANG      language of --table: en or zh\n"
    "  --json           for programs\n";

typedef struct options {
  choose_case the_case;
  const char *results;
  bool json, guide, tasks, table, zh, help;
} options;

static int read_count(const char *option, const char *word, int64_t *out) {
  char *end;
  errno = 0;
  long long value = strtoll(word, &end, 10);
  if (errno != 0 || end == word || *end != '\0' || value < 1 || value > 1000000000) {
    return cli_fail("%s is \"%s\"; a whole number from 1 to 1000000000 would be right", option, word);
  }
  *out = value;
  return EXIT_GOOD;
}

static int read_word(const char *option, const char *word, const char *const *known, const char *list,
                     const char **out) {
  for (int i = 0; known[i] != NULL; i++) {
    if (strcmp(known[i], word) != 0) continue;
    *out = word;
    return EXIT_GOOD;
  }
  return cli_fail("%s is \"%s\"; %s would be right", option, word, list);
}

/* An option with a value. */
static int read_value(options *o, const char *option, const char *word) {
  static const char *const models[] = {"cnn", "modern-cnn", "transformer", "rnn", "mlp", NULL};
  static const char *const deploys[] = {"float", "int8", NULL}, *const languages[] = {"en", "zh", NULL};
  choose_case *c = &o->the_case;
  if (strcmp(option, "--task") == 0) return c->task = word, EXIT_GOOD;
  if (strcmp(option, "--results") == 0) return o->results = word, EXIT_GOOD;
  if (strcmp(option, "--batch") == 0) return read_count(option, word, &c->batch);
  if (strcmp(option, "--workers") == 0) return read_count(option, word, &c->workers);
  if (strcmp(option, "--channels") == 0) return read_count(option, word, &c->channels);
  if (strcmp(option, "--lang") == 0) {
    const char *language = NULL;
    int bad = read_word(option, word, languages, "en or zh", &language);
    o->zh = !bad && strcmp(language, "zh") == 0;
    return bad;
  }
  if (strcmp(option, "--model") == 0) {
    return read_word(option, word, models, "cnn, modern-cnn, transformer, rnn or mlp", &c->model);
  }
  return read_word(option, word, deploys, "float or int8", &c->deploy);
}

static bool read_flag(options *o, const char *option) {
  if (strcmp(option, "--sequence") == 0) return o->the_case.sequence = true;
  if (strcmp(option, "--pretrained") == 0) return o->the_case.pretrained = true;
  if (strcmp(option, "--json") == 0) return o->json = true;
  if (strcmp(option, "--guide") == 0) return o->guide = true;
  if (strcmp(option, "--tasks") == 0) return o->tasks = true;
  if (strcmp(option, "--table") == 0) return o->table = true;
  if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0) return o->help = true;
  return false;
}

static int read_options(int argc, char **argv, options *o) {
  static const char *const valued[] = {"--task",     "--results", "--batch", "--workers",
                                       "--channels", "--model",   "--deploy", "--lang"};
  *o = (options){0};
  for (int i = 1; i < argc; i++) {
    bool takes_value = false;
    for (size_t k = 0; k < sizeof valued / sizeof valued[0]; k++) takes_value |= strcmp(argv[i], valued[k]) == 0;
    if (takes_value && i + 1 == argc) return cli_fail("%s needs a value; see norma choose --help", argv[i]);
    if (takes_value) {
      int bad = read_value(o, argv[i], argv[i + 1]);
      if (bad) return bad;
      i++;
    } else if (!read_flag(o, argv[i])) {
      return cli_fail("\"%s\" is not an option of this command; see norma choose --help", argv[i]);
    }
  }
  return EXIT_GOOD;
}

static void print_tasks(void) {
  const cJSON *task, *model;
  cJSON_ArrayForEach(task, cJSON_GetObjectItemCaseSensitive(choose_rules(), "tasks")) {
    printf("%-18s %s (", choose_string(task, "id"), choose_string(task, "en"));
    const char *before = "";
    cJSON_ArrayForEach(model, cJSON_GetObjectItemCaseSensitive(task, "models")) {
      printf("%s%s", before, cJSON_GetStringValue(model));
      before = ", ";
    }
    printf(")\n");
  }
}

int command_choose(int argc, char **argv) {
  options o;
  choose_answer answer;
  int bad = read_options(argc, argv, &o);
  if (bad) return bad;
  if (o.help) return fputs(help, stdout), EXIT_GOOD;
  if (o.tasks) return print_tasks(), EXIT_GOOD;
  if (o.guide) return choose_print_guide();
  if (o.table) return (bad = choose_load_verdicts(o.results)) ? bad : (choose_print_table(o.zh), EXIT_GOOD);
  if (o.the_case.task == NULL) {
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || o.json) {
      return cli_fail("--task is missing; norma choose --tasks lists the tasks");
    }
    if ((bad = choose_ask(&o.the_case))) return bad;
  }
  if ((bad = choose_find(&o.the_case, &answer)) || (bad = choose_load_verdicts(o.results))) return bad;
  if (o.json) return choose_print_json(&o.the_case, &answer);
  choose_print(&o.the_case, &answer);
  return EXIT_GOOD;
}
