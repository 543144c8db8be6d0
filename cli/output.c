/* All output files or none; see output.h. */
#define _XOPEN_SOURCE 700 /* realpath */
#include "output.h"

#include "cli.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char temp_name[] = ".norma-XXXXXX";

/* The set whose temporary files a signal has to remove. */
static output_set *volatile open_set;

static void on_signal(int number) {
  for (int i = 0; open_set != NULL && i < open_set->count; i++) {
    if (open_set->files[i].temp != NULL) unlink(open_set->files[i].temp);
  }
  signal(number, SIG_DFL);
  raise(number);
}

static const int ending[] = {SIGINT, SIGTERM, SIGHUP}; /* the signals that it handles */
enum { ENDING = sizeof ending / sizeof *ending };

/* mkstemp, with no moment at which the file exists and the handler does not know of it. Takes `temp`, fails with -1. */
static int make_temp(output_file *file, char *temp) {
  sigset_t block, old;
  sigemptyset(&block);
  for (int i = 0; i < ENDING; i++) sigaddset(&block, ending[i]);
  sigprocmask(SIG_BLOCK, &block, &old);
  int fd = mkstemp(temp), reason = errno;
  if (fd >= 0) file->temp = temp;
  sigprocmask(SIG_SETMASK, &old, NULL);
  if (fd < 0) free(temp);
  errno = reason;
  return fd;
}

/* The length of the folder part of a path, with its last slash; 0 if there is none. */
static size_t folder_length(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash != NULL ? (size_t)(slash - path) + 1 : 0;
}

/* "folder" and "name" as one newly allocated path; NULL without memory. */
static char *join(const char *folder, const char *name) {
  size_t length = strlen(folder), size = length + strlen(name) + 2;
  char *path = malloc(size);
  if (path == NULL) return NULL;
  const char *slash = length > 0 && folder[length - 1] != '/' ? "/" : "";
  snprintf(path, size, "%s%s%s", folder, slash, name);
  return path;
}

/* The real path of a file that need not exist, in a folder that must; NULL with errno set if that fails. */
static char *real_target(const char *path) {
  struct stat info;
  if (lstat(path, &info) == 0) return realpath(path, NULL);
  size_t length = folder_length(path);
  char *folder = length > 0 ? strndup(path, length) : strdup(".");
  char *real = folder != NULL ? realpath(folder, NULL) : NULL;
  char *target = real != NULL ? join(real, path + length) : NULL;
  free(folder);
  free(real);
  return target;
}

int outputs_add(output_set *set, const char *path) {
  char *target = real_target(path);
  if (target == NULL) return cli_fail("%s: cannot be written: %s", path, strerror(errno));
  struct stat info;
  if (stat(target, &info) == 0 && !S_ISREG(info.st_mode)) {
    free(target);
    return cli_fail("%s: exists and is not a regular file", path);
  }
  for (int i = 0; i < set->count; i++) {
    if (strcmp(set->files[i].target, target) != 0) continue;
    free(target);
    return cli_fail("%s: two outputs would be written to this file", path);
  }
  output_file *files = realloc(set->files, (size_t)(set->count + 1) * sizeof *files);
  char *copy = strdup(path);
  if (files != NULL) set->files = files;
  if (files == NULL || copy == NULL) {
    free(target);
    free(copy);
    return cli_fail("no memory");
  }
  set->files[set->count++] = (output_file){.path = copy, .target = target};
  return EXIT_GOOD;
}

/* A temporary file with the permissions of the file that it will replace, or of a new file. */
static int open_temp(output_file *file) {
  char *folder = strndup(file->target, folder_length(file->target));
  char *temp = folder != NULL ? join(folder, temp_name) : NULL;
  free(folder);
  if (temp == NULL) return cli_fail("no memory");
  int fd = make_temp(file, temp);
  if (fd < 0) return cli_fail("%s: cannot be written: no new file in its folder: %s", file->path, strerror(errno));
  struct stat info;
  mode_t mask = umask(0);
  umask(mask);
  mode_t mode = stat(file->target, &info) == 0 ? info.st_mode & 0777 : 0666 & ~mask;
  bool good = fchmod(fd, mode) == 0;
  int reason = errno;
  close(fd);
  return good ? EXIT_GOOD : cli_fail("%s: cannot be written: %s", file->path, strerror(reason));
}

int outputs_open(output_set *set) {
  struct sigaction action, old;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  open_set = set;
  for (int i = 0; i < ENDING; i++) {
    /* What the caller ignores (nohup) stays ignored. */
    if (sigaction(ending[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(ending[i], &action, NULL);
  }
  signal(SIGXFSZ, SIG_IGN); /* a file that grows beyond the limit is then an error of the write */
  for (int i = 0; i < set->count; i++) {
    int bad = open_temp(&set->files[i]);
    if (bad != EXIT_GOOD) return bad;
  }
  return EXIT_GOOD;
}

int output_start(output_file *file) {
  file->stream = fopen(file->temp, "r+b");
  return file->stream != NULL ? EXIT_GOOD : cli_fail("%s: cannot be written: %s", file->path, strerror(errno));
}

int output_finish(output_file *file, const char *reason) {
  if (reason == NULL && (fflush(file->stream) != 0 || fsync(fileno(file->stream)) != 0)) reason = strerror(errno);
  if (fclose(file->stream) != 0 && reason == NULL) reason = strerror(errno);
  file->stream = NULL;
  if (reason == NULL) return EXIT_GOOD;
  return cli_fail("%s: cannot be written: %s; nothing was changed", file->path, reason);
}

int outputs_commit(output_set *set) {
  for (int i = 0; i < set->count; i++) {
    output_file *file = &set->files[i];
    if (rename(file->temp, file->target) != 0) {
      return cli_fail("%s: cannot be replaced: %s; %d of %d files were written", file->path, strerror(errno), i,
                      set->count);
    }
    char *temp = file->temp;
    file->temp = NULL;
    free(temp);
  }
  return EXIT_GOOD;
}

void outputs_close(output_set *set) {
  for (int i = 0; i < set->count; i++) {
    if (set->files[i].temp != NULL) unlink(set->files[i].temp);
  }
  open_set = NULL; /* not earlier: until here a signal must find what is left */
  for (int i = 0; i < set->count; i++) {
    output_file *file = &set->files[i];
    if (file->stream != NULL) fclose(file->stream);
    free(file->temp);
    free(file->target);
    free(file->path);
  }
  free(set->files);
  memset(set, 0, sizeof *set);
}

int output_save(const char *path, const void *content, size_t size) {
  output_set set = {0};
  int bad = outputs_add(&set, path);
  if (bad == EXIT_GOOD) bad = outputs_open(&set);
  if (bad == EXIT_GOOD) bad = output_start(&set.files[0]);
  if (bad == EXIT_GOOD) {
    bool good = fwrite(content, 1, size, set.files[0].stream) == size;
    bad = output_finish(&set.files[0], good ? NULL : strerror(errno));
  }
  if (bad == EXIT_GOOD) bad = outputs_commit(&set);
  outputs_close(&set);
  return bad;
}
