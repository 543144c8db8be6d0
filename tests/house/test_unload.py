"""The shared library can be unloaded: its threads end, and nothing in the process still points into it."""
from conftest import BUILD, ROOT, run

PROGRAM = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <norma.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static float x[1 << 20], y[1 << 20]; /* enough that every thread gets a piece */

static int threads(void) {
  int count = 0;
  DIR *tasks = opendir("/proc/self/task");
  for (struct dirent *entry; (entry = readdir(tasks));) count += entry->d_name[0] != '.';
  closedir(tasks);
  return count;
}

static int mapped(void) {
  int found = 0;
  char line[4096];
  FILE *maps = fopen("/proc/self/maps", "r");
  while (fgets(line, sizeof line, maps)) found += strstr(line, "libnorma") != NULL;
  fclose(maps);
  return found;
}

int main(int argc, char **argv) {
  for (int i = 0; argc == 2 && i < 3; i++) {
    void *library = dlopen(argv[1], RTLD_NOW);
    if (!library) return fprintf(stderr, "%s\n", dlerror()), 1;
    norma_status (*make)(norma_layer *, int, int, const int64_t *, norma_error *);
    norma_status (*forward)(const norma_forward_args *, norma_error *);
    void (*set)(int);
    *(void **)&make = dlsym(library, "norma_layer_norm");
    *(void **)&forward = dlsym(library, "norma_forward");
    *(void **)&set = dlsym(library, "norma_set_num_threads");
    norma_layer layer;
    if (make(&layer, 1, 2, (int64_t[]){1024, 1024}, NULL) != NORMA_OK) return 2;
    norma_forward_args args = {.size = sizeof args, .layer = &layer, .x = x, .y = y};
    set(4);
    if (forward(&args, NULL) != NORMA_OK || threads() != 4 || !mapped()) return 3;
    if (i == 2) return 0; /* and an exit while the threads sleep */
    dlclose(library);
    while (threads() != 1) sched_yield(); /* a thread that has ended may be listed a little longer */
    if (mapped()) return 4;
    pid_t child = fork(); /* calls no handler of a library that is gone */
    if (child == 0) _exit(0);
    int status;
    if (waitpid(child, &status, 0) != child || status != 0) return 5;
  }
}
"""


def test_the_threads_end_with_the_library(tmp_path):
    (tmp_path / "program.c").write_text(PROGRAM)
    run("cc", "-std=c11", "-O1", "-I", ROOT / "include", tmp_path / "program.c", "-ldl", "-o", tmp_path / "program")
    run(tmp_path / "program", BUILD / "libnorma.so", timeout=60)
