/* `norma lab`: starts norma-lab, a program of its own because it links BLAS, which the command does not need. */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LAB_PATH = 4096 };

/* Beside this program's own file. */
static int find_lab(char path[LAB_PATH]) {
  ssize_t length = readlink("/proc/self/exe", path, LAB_PATH - sizeof "-lab");
  if (length < 0) {
    return cli_fail("cannot find out where this program is: %s", strerror(errno));
  }
  path[length] = '\0';
  char *name = strrchr(path, '/');
  strcpy(name == NULL ? path : name + 1, "norma-lab");
  return EXIT_GOOD;
}

int command_lab(int argc, char **argv) {
  char path[LAB_PATH];
  (void)argc;
  if (find_lab(path) != EXIT_GOOD) {
    return EXIT_USAGE;
  }
  argv[0] = path;
  execv(path, argv);
  return cli_fail("cannot start %s: %s; it is built with OpenBLAS (Debian: libopenblas-dev) by cmake --build", path,
                  strerror(errno));
}
