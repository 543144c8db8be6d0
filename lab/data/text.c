/* Reads text, plain or gzip. */
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

const char *const text_standard_path = "/usr/share/doc/jargon-text/jargon.txt.gz";

enum { CODES = 0x110000 };

const char *text_find(const char *folder, char path[4096]) {
  if (folder != NULL && snprintf(path, 4096, "%s/text.txt", folder) < 4096 && access(path, R_OK) == 0) {
    return path;
  }
  return access(text_standard_path, R_OK) == 0 ? text_standard_path : NULL;
}

/* The next character's code; a byte that is no UTF-8 stands for itself. */
static uint32_t next_code(const unsigned char *bytes, int64_t count, int64_t *at) {
  uint32_t first = bytes[(*at)++];
  int more = first >= 0xf0 && first < 0xf5 ? 3 : first >= 0xe0 ? 2 : 1;
  if (first < 0xc2 || first >= 0xf5 || *at + more > count) {
    return first;
  }
  uint32_t code = first & (0x3fu >> more);
  for (int i = 0; i < more; i++) {
    if ((bytes[*at + i] & 0xc0) != 0x80) {
      return first;
    }
    code = code << 6 | (bytes[*at + i] & 0x3f);
  }
  *at += more;
  return code < CODES ? code : first;
}

typedef struct kind {
  int64_t count;
  uint32_t code;
} kind;

/* The most frequent first; equals in the order of their codes, so that the numbers depend on the text alone. */
static int by_frequency(const void *a, const void *b) {
  const kind *x = a, *y = b;
  if (x->count != y->count) {
    return x->count < y->count ? 1 : -1;
  }
  return x->code < y->code ? -1 : 1;
}

/* In place: a character is never shorter than its number. */
static bool number_characters(text_file *text, int64_t bytes) {
  kind *kinds = calloc(CODES, sizeof *kinds);
  uint8_t *number = malloc(CODES);
  bool good = kinds != NULL && number != NULL;
  if (good) {
    for (uint32_t code = 0; code < CODES; code++) {
      kinds[code].code = code;
    }
    for (int64_t at = 0; at < bytes;) {
      kinds[next_code(text->at, bytes, &at)].count++;
    }
    qsort(kinds, CODES, sizeof *kinds, by_frequency);
    for (text->kinds = 0; text->kinds < TEXT_KINDS && kinds[text->kinds].count > 0; text->kinds++) {
    }
    memset(number, text->kinds - 1, CODES);
    for (int i = 0; i < text->kinds; i++) {
      number[kinds[i].code] = (uint8_t)i;
    }
    text->count = 0;
    for (int64_t at = 0; at < bytes;) {
      uint32_t code = next_code(text->at, bytes, &at);
      text->at[text->count++] = number[code];
    }
  }
  free(kinds);
  free(number);
  return good;
}

bool text_read(const char *path, int64_t most, text_file *text, char error[TEXT_ERROR]) {
  *text = (text_file){.at = malloc((size_t)most)};
  gzFile stream = gzopen(path, "rb");
  if (stream == NULL || text->at == NULL) {
    snprintf(error, TEXT_ERROR, "%s: cannot be read", path);
  } else {
    int code = Z_OK, got = gzread(stream, text->at, (unsigned)most);
    const char *reason = gzerror(stream, &code);
    if (got < 0 || code != Z_OK) {
      snprintf(error, TEXT_ERROR, "%s: damaged (%s); get it anew", path, *reason != '\0' ? reason : "truncated");
    } else if (got == 0) {
      snprintf(error, TEXT_ERROR, "%s: empty", path);
    } else if (!number_characters(text, got)) {
      snprintf(error, TEXT_ERROR, "%s: no memory", path);
    }
  }
  if (stream != NULL) {
    gzclose(stream);
  }
  if (text->count == 0) {
    free(text->at);
    text->at = NULL;
  }
  return text->count > 0;
}
