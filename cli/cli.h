/* What the subcommands of `norma` share. Each subcommand is one function in a file of its own; main.c lists them. */
#ifndef NORMA_CLI_H
#define NORMA_CLI_H

#include <stdbool.h>

enum {
  EXIT_GOOD = 0,    /* it worked, and what was checked passed */
  EXIT_FAILED = 1,  /* it ran, and what was checked failed */
  EXIT_USAGE = 2    /* a wrong argument or file; nothing was written */
};

/* argv[0] is the name of the subcommand. The return value is the exit code. */
int command_apply(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_check(int argc, char **argv);
int command_choose(int argc, char **argv);
int command_explain(int argc, char **argv);
int command_lab(int argc, char **argv);
int command_picture(int argc, char **argv);
int command_version(int argc, char **argv);

/* Prints "norma NAME: message" as one line on stderr and returns EXIT_USAGE. NAME is the running subcommand; control
 * characters become '?', and after 1023 bytes the message ends in "...". */
int cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

enum { CLI_WORD = 48 };
/* The number of letters to insert, delete or replace that makes one word the other; CLI_WORD if one is that long. */
int cli_distance(const char *a, const char *b);

#endif
