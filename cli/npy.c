/* .npy files; see npy.h. The header is a Python dictionary literal; only the form that NumPy writes is taken. */
#include "npy.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
  MAGIC_SIZE = 6,
  HEADER_LIMIT = 65536,   /* a header of plain arrays has about 118 bytes */
  PIECE = 8 * 1024 * 1024 /* data moves in pieces of this size, for the progress report */
};

static const char magic[] = "\x93NUMPY";

/* The byte order mark of this machine's numbers in a type description. */
static char native_order(void) {
  const uint16_t one = 1;
  return *(const unsigned char *)&one ? '<' : '>';
}

bool npy_fail(npy_error *error, const char *format, ...) {
  va_list list;
  va_start(list, format);
  vsnprintf(error->text, sizeof error->text, format, list);
  va_end(list);
  for (char *c = error->text; *c != '\0'; c++) { /* one line, and nothing that a terminal would obey */
    if ((unsigned char)*c < ' ' || *c == 127) *c = '?';
  }
  return false;
}

/* ------------------------------------------------------------------------------------------------- the array --- */

int64_t npy_count(const npy_array *array) {
  int64_t count = 1;
  for (int i = 0; i < array->ndim; i++) count *= array->shape[i];
  return count;
}

void npy_strides(const npy_array *array, int64_t *strides) {
  int64_t step = 1;
  for (int k = 0; k < array->ndim; k++) {
    int i = array->fortran ? k : array->ndim - 1 - k;
    strides[i] = step;
    if (array->shape[i] > 1) step *= array->shape[i];
  }
}

char *npy_shape_text(int ndim, const int64_t *shape, char *buffer) {
  size_t used = (size_t)snprintf(buffer, NPY_SHAPE_SIZE, "(");
  for (int i = 0; i < ndim; i++) {
    used += (size_t)snprintf(buffer + used, NPY_SHAPE_SIZE - used, i > 0 ? ", %lld" : "%lld", (long long)shape[i]);
  }
  snprintf(buffer + used, NPY_SHAPE_SIZE - used, ndim == 1 ? ",)" : ")");
  return buffer;
}

/* The bytes of an array; false if they overflow. Empty dimensions count as 1: strides must not overflow either. */
static bool measure(norma_type type, int ndim, const int64_t *shape, size_t *bytes) {
  int64_t room = (int64_t)(PTRDIFF_MAX / norma_type_size(type)), all = 1;
  bool empty = false;
  for (int i = 0; i < ndim; i++) {
    if (shape[i] < 0) return false;
    empty = empty || shape[i] == 0;
    if (shape[i] > 1 && all > room / shape[i]) return false;
    if (shape[i] > 1) all *= shape[i];
  }
  *bytes = empty ? 0 : (size_t)all * norma_type_size(type);
  return true;
}

bool npy_allocate(npy_array *array, norma_type type, int ndim, const int64_t *shape, bool fortran) {
  memset(array, 0, sizeof *array);
  if (!measure(type, ndim, shape, &array->bytes)) return false;
  array->type = type;
  array->ndim = ndim;
  memcpy(array->shape, shape, (size_t)ndim * sizeof *shape);
  array->fortran = fortran;
  array->data = malloc(array->bytes > 0 ? array->bytes : 1);
  return array->data != NULL;
}

void npy_free(npy_array *array) {
  free(array->data);
  array->data = NULL;
}

/* ------------------------------------------------------------------------------------------ reading the header --- */

/* The text of a header and where the parser stands. `at` never passes the NUL that ends the text. */
typedef struct parser {
  const char *name, *at;
  npy_error *error;
} parser;

static void skip_space(parser *p) {
  while (*p->at == ' ' || *p->at == '\n' || *p->at == '\t' || *p->at == '\r') p->at++;
}

static bool take(parser *p, char c) {
  skip_space(p);
  if (*p->at != c) return false;
  p->at++;
  return true;
}

/* A quoted string without escapes, into a buffer that holds `size` bytes. */
static bool take_string(parser *p, char *text, size_t size) {
  skip_space(p);
  char quote = *p->at;
  if (quote != '\'' && quote != '"') return false;
  const char *end = strchr(p->at + 1, quote);
  if (end == NULL || (size_t)(end - p->at - 1) >= size) return false;
  size_t length = (size_t)(end - p->at - 1);
  if (memchr(p->at + 1, '\\', length) != NULL) return false;
  memcpy(text, p->at + 1, length);
  text[length] = '\0';
  p->at = end + 1;
  return true;
}

static bool take_word(parser *p, const char *word) {
  skip_space(p);
  if (strncmp(p->at, word, strlen(word)) != 0) return false;
  p->at += strlen(word);
  return true;
}

static const char *meaning(const char *descr) {
  switch (descr[0] != '\0' ? descr[1] : '\0') {
    case 'b': return "booleans";
    case 'i': return "integers";
    case 'u': return "unsigned integers";
    case 'c': return "complex numbers";
    case 'O': return "Python objects";
    case 'S':
    case 'U':
    case 'a': return "strings";
    case 'M':
    case 'm': return "dates or times";
    case 'f': return "floating point numbers of another size";
    default: return "something else";
  }
}

static bool take_descr(parser *p, npy_array *array) {
  static const struct {
    const char *code;
    norma_type type;
  } types[] = {{"f4", NORMA_F32}, {"f8", NORMA_F64}, {"f2", NORMA_F16}, {"V2", NORMA_BF16}};
  char descr[32];
  skip_space(p);
  if (*p->at == '[' || *p->at == '{') {
    return npy_fail(
        p->error, "%s: a structured array; save each field as an array of its own: np.save(path, a['field'])", p->name);
  }
  if (!take_string(p, descr, sizeof descr)) {
    return npy_fail(p->error, "%s: not a plain .npy header: 'descr' must be a string such as '<f4'", p->name);
  }
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    if (descr[0] == '\0' || strcmp(descr + 1, types[i].code) != 0) continue;
    bool no_order = descr[0] == '|' && types[i].type == NORMA_BF16; /* a view of 16-bit numbers as 'V2' */
    if (descr[0] != native_order() && !no_order) {
      return npy_fail(p->error, "%s: byte order of '%s' is not this machine's; save a.astype('%c%s')", p->name, descr,
                      native_order(), types[i].code);
    }
    array->type = types[i].type;
    return true;
  }
  return npy_fail(
      p->error, "%s: holds %s ('%s'); norma reads '<f4', '<f8', '<f2' and bfloat16 as '<V2': save %s", p->name,
      meaning(descr), descr,
      strcmp(descr, "|u1") == 0 ? "a.astype(np.float32) / 255 (or give the PNG itself)" : "a.astype(np.float32)");
}

static bool take_shape(parser *p, npy_array *array) {
  if (!take(p, '(')) return npy_fail(p->error, "%s: 'shape' must be a tuple such as (2, 3)", p->name);
  array->ndim = 0;
  bool comma = true;
  while (!take(p, ')')) {
    skip_space(p);
    if (!comma || *p->at < '0' || *p->at > '9') {
      return npy_fail(p->error, "%s: 'shape' must be a tuple of sizes >= 0 such as (2, 3)", p->name);
    }
    if (array->ndim == NORMA_MAX_DIMS) {
      return npy_fail(p->error, "%s: has more than %d dimensions", p->name, NORMA_MAX_DIMS);
    }
    int64_t size = 0;
    for (; *p->at >= '0' && *p->at <= '9'; p->at++) {
      if (size > (INT64_MAX - 9) / 10) return npy_fail(p->error, "%s: a size in 'shape' is too large", p->name);
      size = size * 10 + (*p->at - '0');
    }
    if (*p->at == 'L') p->at++; /* Python 2 wrote long integers like this */
    array->shape[array->ndim++] = size;
    comma = take(p, ',');
  }
  if (array->ndim == 1 && !comma) return npy_fail(p->error, "%s: 'shape' must be a tuple: (3,) and not (3)", p->name);
  return true;
}

/* { 'descr': ..., 'fortran_order': ..., 'shape': ... } in any order, each key once. */
static bool parse_header(parser *p, npy_array *array) {
  static const char *keys[] = {"descr", "fortran_order", "shape"};
  bool seen[3] = {false, false, false};
  if (!take(p, '{')) return npy_fail(p->error, "%s: the header is not a dictionary, as NumPy writes it", p->name);
  bool comma = true;
  while (!take(p, '}')) {
    char key[32];
    if (!comma || !take_string(p, key, sizeof key) || !take(p, ':')) {
      return npy_fail(
          p->error,
          "%s: the header is damaged; NumPy writes {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
          p->name);
    }
    int k = 0;
    while (k < 3 && strcmp(key, keys[k]) != 0) k++;
    if (k == 3) return npy_fail(p->error, "%s: the header has an unknown key '%s'", p->name, key);
    if (seen[k]) return npy_fail(p->error, "%s: the header has '%s' twice", p->name, key);
    seen[k] = true;
    if (k == 0 && !take_descr(p, array)) return false;
    if (k == 2 && !take_shape(p, array)) return false;
    if (k == 1) {
      array->fortran = take_word(p, "True");
      if (!array->fortran && !take_word(p, "False")) {
        return npy_fail(p->error, "%s: 'fortran_order' must be True or False", p->name);
      }
    }
    comma = take(p, ',');
  }
  skip_space(p);
  if (*p->at != '\0') return npy_fail(p->error, "%s: the header has text after its end", p->name);
  for (int k = 0; k < 3; k++) {
    if (!seen[k]) return npy_fail(p->error, "%s: the header lacks '%s'", p->name, keys[k]);
  }
  return true;
}

/* ------------------------------------------------------------------------------------------------ the streams --- */

static bool read_exactly(FILE *stream, void *to, size_t size, const char *name, npy_error *error) {
  if (fread(to, 1, size, stream) == size) return true;
  if (ferror(stream)) return npy_fail(error, "%s: cannot be read: %s", name, strerror(errno));
  return npy_fail(error, "%s: is cut short: it ends in the .npy header", name);
}

/* Reads magic, version and header. *rest: the bytes of the file that are left, on entry all of it. */
static bool read_header(FILE *stream, const char *name, uint64_t *rest, npy_array *array, npy_error *error) {
  unsigned char start[MAGIC_SIZE + 2], size[4] = {0, 0, 0, 0};
  if (*rest < sizeof start) return npy_fail(error, "%s: not an .npy file (only %d bytes)", name, (int)*rest);
  if (!read_exactly(stream, start, sizeof start, name, error)) return false;
  if (memcmp(start, magic, MAGIC_SIZE) != 0) return npy_fail(error, "%s: not an .npy file (wrong first bytes)", name);
  int major = start[MAGIC_SIZE], minor = start[MAGIC_SIZE + 1];
  if (major < 1 || major > 3 || minor != 0) {
    return npy_fail(error, "%s: .npy version %d.%d; norma reads 1.0, 2.0 and 3.0", name, major, minor);
  }
  if (!read_exactly(stream, size, major == 1 ? 2 : 4, name, error)) return false;
  *rest -= sizeof start + (major == 1 ? 2 : 4);
  size_t length = size[0] | (size_t)size[1] << 8 | (size_t)size[2] << 16 | (size_t)size[3] << 24;
  if (length > HEADER_LIMIT) {
    return npy_fail(error, "%s: an .npy header of %zu bytes; a plain array needs less than %d", name, length,
                    HEADER_LIMIT);
  }
  if (length > *rest) return npy_fail(error, "%s: is cut short: it ends in the .npy header", name);
  *rest -= length;
  char *text = malloc(length + 1);
  if (text == NULL) return npy_fail(error, "%s: no memory for its header", name);
  bool good = read_exactly(stream, text, length, name, error);
  if (good && memchr(text, '\0', length) != NULL) good = npy_fail(error, "%s: the header has a zero byte", name);
  text[length] = '\0';
  parser p = {name, text, error};
  good = good && parse_header(&p, array);
  free(text);
  return good;
}

static bool read_data(FILE *stream, const char *name, npy_progress progress, npy_array *array, npy_error *error) {
  array->data = malloc(array->bytes > 0 ? array->bytes : 1);
  if (array->data == NULL) return npy_fail(error, "%s: no memory for its %zu bytes", name, array->bytes);
  for (size_t done = 0; done < array->bytes;) {
    size_t piece = array->bytes - done < PIECE ? array->bytes - done : PIECE;
    if (fread((char *)array->data + done, 1, piece, stream) != piece) {
      npy_free(array);
      if (ferror(stream)) return npy_fail(error, "%s: cannot be read: %s", name, strerror(errno));
      return npy_fail(error, "%s: became shorter while it was read", name);
    }
    done += piece;
    if (progress != NULL) progress(name, done, array->bytes);
  }
  return true;
}

bool npy_read_stream(FILE *stream, const char *name, npy_progress progress, npy_array *array, npy_error *error) {
  memset(array, 0, sizeof *array);
  if (fseeko(stream, 0, SEEK_END) != 0) return npy_fail(error, "%s: cannot seek in it: %s", name, strerror(errno));
  off_t end = ftello(stream);
  if (end < 0 || fseeko(stream, 0, SEEK_SET) != 0) return npy_fail(error, "%s: cannot seek: %s", name, strerror(errno));
  uint64_t rest = (uint64_t)end;
  if (!read_header(stream, name, &rest, array, error)) return false;
  char shape[NPY_SHAPE_SIZE];
  npy_shape_text(array->ndim, array->shape, shape);
  if (!measure(array->type, array->ndim, array->shape, &array->bytes)) {
    return npy_fail(error, "%s: shape %s is larger than memory can be", name, shape);
  }
  if (rest != array->bytes) {
    return npy_fail(error, "%s: %s: shape %s of %s needs %zu bytes of data, the file has %llu", name,
                    rest < array->bytes ? "is cut short" : "has more data than its header says", shape,
                    norma_type_name(array->type), array->bytes, (unsigned long long)rest);
  }
  return read_data(stream, name, progress, array, error);
}

bool npy_read(const char *path, npy_progress progress, npy_array *array, npy_error *error) {
  memset(array, 0, sizeof *array);
  struct stat info;
  FILE *stream = fopen(path, "rb");
  if (stream == NULL) return npy_fail(error, "%s: cannot be opened: %s", path, strerror(errno));
  bool good = fstat(fileno(stream), &info) == 0 && S_ISREG(info.st_mode);
  if (!good) {
    npy_fail(error, "%s: not a regular file", path);
  } else {
    good = npy_read_stream(stream, path, progress, array, error);
  }
  fclose(stream);
  return good;
}

bool npy_write_stream(FILE *stream, const char *name, npy_progress progress, const npy_array *array) {
  static const char *codes[] = {[NORMA_F32] = "f4", [NORMA_F64] = "f8", [NORMA_F16] = "f2", [NORMA_BF16] = "V2"};
  char shape[NPY_SHAPE_SIZE], header[512];
  npy_shape_text(array->ndim, array->shape, shape);
  int length = snprintf(header, sizeof header, "{'descr': '%c%s', 'fortran_order': %s, 'shape': %s, }", native_order(),
                        codes[array->type], array->fortran ? "True" : "False", shape);
  const int before = MAGIC_SIZE + 4; /* magic, version, length; NumPy lets the data start at a multiple of 64 */
  int padded = (before + length + 1 + 63) / 64 * 64 - before;
  memset(header + length, ' ', (size_t)(padded - length));
  header[padded - 1] = '\n';
  const unsigned char start[4] = {1, 0, (unsigned char)(padded & 255), (unsigned char)(padded >> 8)};
  if (fwrite(magic, 1, MAGIC_SIZE, stream) != MAGIC_SIZE || fwrite(start, 1, 4, stream) != 4) return false;
  if (fwrite(header, 1, (size_t)padded, stream) != (size_t)padded) return false;
  for (size_t done = 0; done < array->bytes;) {
    size_t piece = array->bytes - done < PIECE ? array->bytes - done : PIECE;
    if (fwrite((const char *)array->data + done, 1, piece, stream) != piece) return false;
    done += piece;
    if (progress != NULL) progress(name, done, array->bytes);
  }
  return true;
}
