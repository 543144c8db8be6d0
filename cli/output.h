/*
 * All output files of a command, or none: each is written to a temporary file in the folder of its target, and when all
 * are complete they are renamed. Functions that return int return EXIT_GOOD, or print what is wrong by cli_fail and
 * return its exit code.
 */
#ifndef NORMA_OUTPUT_H
#define NORMA_OUTPUT_H

#include <stdio.h>

typedef struct output_file {
  char *path;   /* as the user gave it */
  char *target; /* the file that is replaced, without symbolic links */
  char *temp;   /* in the same folder; NULL: not made */
  FILE *stream; /* NULL but between output_start and output_finish: there may be more files than can be open */
} output_file;

typedef struct output_set {
  output_file *files;
  int count;
} output_set;

/* Takes one more path; refuses a folder, a device, and a file that is already in the set. */
int outputs_add(output_set *set, const char *path);
/* Makes all temporary files; until the set is closed, signals that end the program remove them first. */
int outputs_open(output_set *set);
int output_start(output_file *file);
/* Completes a file that has been written (flush, close). `reason`: why writing failed, NULL if it did not. */
int output_finish(output_file *file, const char *reason);
/* Renames all files to their targets. All must be finished. */
int outputs_commit(output_set *set);
/* All of the above for one file and its content. */
int output_save(const char *path, const void *content, size_t size);
/* Removes what was not committed and frees everything. */
void outputs_close(output_set *set);

#endif
