/* The IDX format. */
#include "idx.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

static const char *const standard_folders[] = {
    "/usr/share/datasets/fashion-mnist",
    "/usr/local/share/datasets/fashion-mnist",
};
const char *const idx_standard_folder = "/usr/share/datasets/fashion-mnist";

/* The largest set has 60,000 pictures; a file that claims many more is not it and must not make us allocate for it. */
enum { MOST_ITEMS = 100000 };

typedef struct idx_file {
  const char *path;
  gzFile stream;
  char *error;
} idx_file;

static bool fail(char *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool fail(char *error, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(error, IDX_ERROR, format, arguments);
  va_end(arguments);
  return false;
}

const char *idx_folder(void) {
  for (size_t i = 0; i < sizeof standard_folders / sizeof *standard_folders; i++) {
    if (access(standard_folders[i], R_OK | X_OK) == 0) {
      return standard_folders[i];
    }
  }
  return NULL;
}

/* Why the file cannot be read to the end. */
static bool bad_read(const idx_file *f, int got) {
  int code = Z_OK;
  const char *text = gzerror(f->stream, &code);
  if (got < 0 && code != Z_BUF_ERROR) {
    return fail(f->error, "%s: damaged (%s); reinstall Debian's package %s", f->path,
                code == Z_ERRNO ? "read error" : text, IDX_PACKAGE);
  }
  return fail(f->error, "%s: truncated; reinstall Debian's package %s", f->path, IDX_PACKAGE);
}

static uint32_t big_endian(const unsigned char *bytes) {
  return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* Checks magic and sizes. */
static bool read_header(const idx_file *f, int side, uint32_t *count) {
  unsigned char header[16];
  int length = side > 0 ? 16 : 8;
  int got = gzread(f->stream, header, (unsigned)length);
  if (got != length) {
    return bad_read(f, got);
  }
  uint32_t magic = side > 0 ? 0x00000803u : 0x00000801u;
  if (big_endian(header) != magic) {
    return fail(f->error, "%s: starts with 0x%08x, an IDX file of %s starts with 0x%08x", f->path, big_endian(header),
                side > 0 ? "pictures" : "labels", magic);
  }
  *count = big_endian(header + 4);
  if (*count == 0 || *count > MOST_ITEMS) {
    return fail(f->error, "%s: says it has %u items, expected 1 to %d", f->path, *count, MOST_ITEMS);
  }
  if (side > 0 && (big_endian(header + 8) != (uint32_t)side || big_endian(header + 12) != (uint32_t)side)) {
    return fail(f->error, "%s: its pictures are %u x %u, Fashion-MNIST's are %d x %d", f->path, big_endian(header + 8),
                big_endian(header + 12), side, side);
  }
  return true;
}

static bool read_items(const idx_file *f, int side, uint32_t most, unsigned char **items, uint32_t *count) {
  if (!read_header(f, side, count)) {
    return false;
  }
  bool part = most > 0 && most < *count;
  *count = part ? most : *count;
  unsigned length = *count * (unsigned)(side > 0 ? side * side : 1);
  unsigned char beyond;
  *items = malloc(length);
  if (*items == NULL) {
    return fail(f->error, "%s: no memory for its %u bytes", f->path, length);
  }
  int got = gzread(f->stream, *items, length);
  if (got != (int)length) {
    return bad_read(f, got);
  }
  got = part ? 0 : gzread(f->stream, &beyond, 1);
  if (got < 0) {
    return bad_read(f, got);
  }
  return got == 0 || fail(f->error, "%s: longer than the %u items it says it has", f->path, *count);
}

bool idx_read(const char *folder, const char *name, int side, uint32_t most, unsigned char **items, uint32_t *count,
              char error[IDX_ERROR]) {
  char path[4096];
  *items = NULL;
  if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path) {
    return fail(error, "--data: the name of the folder is too long");
  }
  idx_file f = {path, gzopen(path, "rb"), error};
  if (f.stream == NULL) {
    return fail(error, "%s: cannot be read; it is in Debian's package %s (apt-get install %s)", path, IDX_PACKAGE,
                IDX_PACKAGE);
  }
  bool good = read_items(&f, side, most, items, count);
  gzclose(f.stream);
  if (!good) {
    free(*items);
    *items = NULL;
  }
  return good;
}
