/* `norma check --checksums 1000 --seed 1` without the command and its libraries, so that it builds for other
 * processors: the first line is the instruction set in use, the others are the same everywhere. */
#include "problem.h"

#include <stdlib.h>

int main(void) {
  const problem_manner manner = {PROBLEM_AS_IT_SAYS, PROBLEM_AS_IT_SAYS, PROBLEM_AS_IT_SAYS};
  norma_error error;
  printf("instruction set: %s\n", norma_isa());
  if (!problem_checksums(stdout, 1, 1000, &manner, &error)) {
    fprintf(stderr, "random_checksums: %s\n", error.detail);
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
