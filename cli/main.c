/* The command `norma`: finds the subcommand. */
#include "cli.h"

#include "norma.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
  const char *name;
  int (*run)(int argc, char **argv);
  const char *summary;
} commands[] = {
    {"apply", command_apply, "normalize a tensor or image file"},
    {"check", command_check, "compare the library with its reference"},
    {"explain", command_explain, "what a layer shares, and its traps"},
    {"picture", command_picture, "draw which elements share a mean"},
    {"version", command_version, "version, compiler and instruction set"},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static const char *running; /* the subcommand, for cli_fail */

int cli_fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, running ? "norma %s: " : "norma: ", running);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  return EXIT_USAGE;
}

static void print_help(void) {
  printf(
      "usage: norma COMMAND [ARGUMENTS]\n"
      "\n"
      "Normalization layers for neural networks: batch, layer, instance, group and RMS norm, AdaIN.\n"
      "\n");
  for (int i = 0; i < COMMANDS; i++) {
    printf("  %-10s %s\n", commands[i].name, commands[i].summary);
  }
  printf(
      "\n"
      "norma COMMAND --help says more about one command.\n"
      "Exit codes: 0 good, 1 a check failed, 2 a wrong argument or file.\n");
}

/* The number of letters to insert, delete or replace. */
static int distance(const char *a, const char *b) {
  enum { MOST = 32 };
  int row[MOST + 1], n = (int)strlen(b);
  if (n > MOST || strlen(a) > MOST) {
    return MOST;
  }
  for (int j = 0; j <= n; j++) {
    row[j] = j;
  }
  for (int i = 1; a[i - 1]; i++) {
    int corner = row[0];
    row[0] = i;
    for (int j = 1; j <= n; j++) {
      int replaced = corner + (a[i - 1] != b[j - 1]), shorter = row[j] + 1, longer = row[j - 1] + 1;
      corner = row[j];
      row[j] = replaced < shorter ? replaced : shorter;
      row[j] = row[j] < longer ? row[j] : longer;
    }
  }
  return row[n];
}

static int unknown_command(const char *name) {
  int nearest = 0;
  for (int i = 1; i < COMMANDS; i++) {
    if (distance(name, commands[i].name) < distance(name, commands[nearest].name)) {
      nearest = i;
    }
  }
  if (distance(name, commands[nearest].name) <= 3) {
    return cli_fail("'%s' is no command; did you mean 'norma %s'?", name, commands[nearest].name);
  }
  return cli_fail("'%s' is no command; norma --help lists them", name);
}

int main(int argc, char **argv) {
  if (argc < 2) {
    return cli_fail("a command is missing; norma --help lists them");
  }
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
    print_help();
    return EXIT_GOOD;
  }
  if (strcmp(argv[1], "--version") == 0) {
    int version = norma_version();
    printf("norma %d.%d.%d\n", version / 10000, version / 100 % 100, version % 100);
    return EXIT_GOOD;
  }
  for (int i = 0; i < COMMANDS; i++) {
    if (strcmp(argv[1], commands[i].name) == 0) {
      running = commands[i].name;
      return commands[i].run(argc - 1, argv + 1);
    }
  }
  return unknown_command(argv[1]);
}
