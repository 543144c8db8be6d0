/* Text that grows. Without memory the program ends: what it would write cannot be whole. */
#ifndef NORMA_LAB_TEXT_H
#define NORMA_LAB_TEXT_H

#include <stddef.h>

typedef struct text {
  char *at; /* NUL-terminated; NULL while empty */
  size_t size, room;
} text;

void text_add(text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_put(text *t, const char *words);
/* The same with the characters that HTML and XML reserve replaced. */
void text_escape(text *t, const char *words);
/* The file as base64; nothing is added and -1 returned if it cannot be read. */
int text_base64(text *t, const char *path);
void text_free(text *t);

#endif
