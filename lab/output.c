/* Files of the report: written under a temporary name, renamed when complete, so that none is ever half a file. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "lab.h"

int lab_fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("norma-demo: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  return EXIT_USAGE;
}

int lab_make_folder(const char *folder) {
  struct stat status;
  if (mkdir(folder, 0777) == 0) {
    return EXIT_GOOD;
  }
  if (errno != EEXIST) {
    return lab_fail("--out: cannot make the folder %s: %s", folder, strerror(errno));
  }
  if (stat(folder, &status) != 0 || !S_ISDIR(status.st_mode)) {
    return lab_fail("--out: %s is a file, expected a folder or a new name", folder);
  }
  return EXIT_GOOD;
}

int lab_name_file(lab_file *file, const char *folder, const char *name) {
  size_t length = (size_t)snprintf(file->path, sizeof file->path, "%s/%s", folder, name);
  if (length + strlen(".part") >= sizeof file->temporary) {
    return lab_fail("--out: the name of the folder is too long");
  }
  memcpy(file->temporary, file->path, length);
  memcpy(file->temporary + length, ".part", sizeof ".part");
  return EXIT_GOOD;
}

int lab_put_in_place(const lab_file *file) {
  if (rename(file->temporary, file->path) != 0) {
    int failed = lab_fail("cannot write %s: %s", file->path, strerror(errno));
    remove(file->temporary);
    return failed;
  }
  return EXIT_GOOD;
}

FILE *lab_open(lab_file *file, const char *folder, const char *name) {
  if (lab_name_file(file, folder, name)) {
    return NULL;
  }
  FILE *stream = fopen(file->temporary, "wb");
  if (stream == NULL) {
    lab_fail("cannot write %s: %s", file->temporary, strerror(errno));
  }
  return stream;
}

int lab_close(lab_file *file, FILE *stream) {
  int broken = ferror(stream);
  if (fclose(stream) != 0 || broken) {
    int failed = lab_fail("cannot write %s: %s", file->temporary, strerror(errno));
    remove(file->temporary);
    return failed;
  }
  return lab_put_in_place(file);
}

int lab_write_npy(const char *folder, const char *name, lab_maps maps) {
  const uint16_t probe = 1;
  char header[128];
  lab_file file;
  FILE *stream = lab_open(&file, folder, name);
  if (stream == NULL) {
    return EXIT_USAGE;
  }
  /* Magic, version 1.0, length of the rest; the rest is padded so that the data start at a multiple of 64. */
  memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10);
  int length = snprintf(header + 10, sizeof header - 10,
                        "{'descr': '%cf4', 'fortran_order': False, 'shape': (%d, %d, %d, %d), }",
                        *(const unsigned char *)&probe ? '<' : '>', SAMPLES, CHANNELS, SIDE, SIDE);
  memset(header + 10 + length, ' ', sizeof header - 10 - (size_t)length);
  header[sizeof header - 1] = '\n';
  fwrite(header, 1, sizeof header, stream);
  fwrite(maps, 1, sizeof(lab_maps), stream);
  return lab_close(&file, stream);
}
