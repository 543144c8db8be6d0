/* `norma version`: what this binary is. */
#include "cli.h"

#include "norma.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#else
#define COMPILER "unknown"
#endif

static void print_help(void) {
  printf(
      "usage: norma version [--json]\n"
      "\n"
      "Prints the version of the library, the compiler that made this command and the instruction set in use.\n");
}

int command_version(int argc, char **argv) {
  bool json = false;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
      print_help();
      return EXIT_GOOD;
    }
    if (strcmp(argv[i], "--json") != 0) {
      return cli_fail("'%s' is no option of this command; --json is the only one", argv[i]);
    }
    json = true;
  }
  char version[32];
  int number = norma_version();
  snprintf(version, sizeof version, "%d.%d.%d", number / 10000, number / 100 % 100, number % 100);
  if (!json) {
    printf("norma %s\ncompiler: %s\ninstruction set: %s\n", version, COMPILER, norma_isa());
    return EXIT_GOOD;
  }
  cJSON *object = cJSON_CreateObject();
  cJSON_AddStringToObject(object, "version", version);
  cJSON_AddStringToObject(object, "compiler", COMPILER);
  cJSON_AddStringToObject(object, "instruction_set", norma_isa());
  char *text = cJSON_Print(object);
  puts(text ? text : "{}");
  free(text);
  cJSON_Delete(object);
  return EXIT_GOOD;
}
