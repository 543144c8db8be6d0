/* Text that grows; see text.h. */
#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void reserve(text *t, size_t more) {
  if (t->size + more + 1 <= t->room) return;
  size_t room = 2 * t->room + more + 1024;
  char *grown = realloc(t->at, room);
  if (grown == NULL) {
    fputs("norma-report: no memory\n", stderr);
    exit(2);
  }
  t->at = grown;
  t->room = room;
}

void text_add(text *t, const char *format, ...) {
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  int length = vsnprintf(NULL, 0, format, arguments);
  va_end(arguments);
  if (length > 0) {
    reserve(t, (size_t)length);
    vsnprintf(t->at + t->size, (size_t)length + 1, format, again);
    t->size += (size_t)length;
  }
  va_end(again);
}

void text_put(text *t, const char *words) {
  size_t length = strlen(words);
  reserve(t, length);
  memcpy(t->at + t->size, words, length + 1);
  t->size += length;
}

void text_escape(text *t, const char *words) {
  for (; *words != '\0'; words++) {
    switch (*words) {
      case '&': text_put(t, "&amp;"); break;
      case '<': text_put(t, "&lt;"); break;
      case '>': text_put(t, "&gt;"); break;
      case '"': text_put(t, "&quot;"); break;
      default: {
        char one[2] = {*words, '\0'};
        text_put(t, one);
      }
    }
  }
}

static void put_three(text *t, const unsigned char *in, size_t n) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  unsigned bits = (unsigned)in[0] << 16 | (n > 1 ? (unsigned)in[1] << 8 : 0) | (n > 2 ? in[2] : 0u);
  char four[5] = {digits[bits >> 18], digits[bits >> 12 & 63], n > 1 ? digits[bits >> 6 & 63] : '=',
                  n > 2 ? digits[bits & 63] : '=', '\0'};
  text_put(t, four);
}

int text_base64(text *t, const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) return -1;
  unsigned char in[3];
  size_t n;
  while ((n = fread(in, 1, 3, file)) > 0) put_three(t, in, n);
  fclose(file);
  return 0;
}

void text_free(text *t) {
  free(t->at);
  *t = (text){0};
}
