/* The command `norma`: finds the subcommand. */
#include "cli.h"

#include "norma.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
  const char *name;
  int (*run)(int argc, char **argv);
  const char *summary;
} commands[] = {
    {"apply", command_apply, "normalize a tensor or image file"},
    {"bench", command_bench, "time the library beside a bare pass over memory"},
    {"check", command_check, "compare the library with its reference"},
    {"choose", command_choose, "which layer for which task, with the evidence"},
    {"explain", command_explain, "what a layer shares, and its traps"},
    {"lab", command_lab, "train small networks and test what is said of the layers"},
    {"picture", command_picture, "draw which elements share a mean"},
    {"version", command_version, "version, compiler and instruction set"},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static const char *running; /* the subcommand, for cli_fail */

/* What was typed or read may be in the message: it stays one line of bounded length, and no terminal obeys it. */
int cli_fail(const char *format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  for (char *c = text; *c; c++) {
    if ((unsigned char)*c < ' ' || *c == 127) {
      *c = '?';
    }
  }
  fprintf(stderr, running ? "norma %s: " : "norma: ", running);
  fprintf(stderr, "%s%s\n", text, length >= (int)sizeof text ? "..." : "");
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

static int unknown_command(const char *name) {
  int nearest = 0;
  for (int i = 1; i < COMMANDS; i++) {
    if (cli_distance(name, commands[i].name) < cli_distance(name, commands[nearest].name)) {
      nearest = i;
    }
  }
  if (cli_distance(name, commands[nearest].name) <= 3) {
    return cli_fail("'%s' is no command; did you mean 'norma %s'?", name, commands[nearest].name);
  }
  return cli_fail("'%s' is no command; norma --help lists them", name);
}

/* A file that is opened later must not become the standard output: a closed stream is one that refuses to write. */
static void open_missing_streams(void) {
  int fd;
  do {
    fd = open("/dev/null", O_RDONLY);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) {
    close(fd);
  }
}

static int run(int argc, char **argv) {
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

int main(int argc, char **argv) {
  open_missing_streams();
  int code = run(argc, argv);
  errno = 0;
  if ((fflush(stdout) != 0 || ferror(stdout)) && code != EXIT_USAGE) {
    return cli_fail("cannot write to standard output%s%s", errno ? ": " : "", errno ? strerror(errno) : "");
  }
  return code;
}
