/* Text as numbers: each character of a UTF-8 file is its place in a list of the characters that occur. */
#ifndef LAB_TEXT_H
#define LAB_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#define TEXT_PACKAGE "jargon-text"

enum { TEXT_KINDS = 256, TEXT_ERROR = 4600 };

typedef struct text_file {
  int64_t count;
  uint8_t *at;      /* [count], each below `kinds` */
  int kinds;        /* at most TEXT_KINDS: the most frequent characters have one each, all others share the last */
} text_file;

/* FOLDER/text.txt, or without it the Jargon File of Debian's package, whichever is there; else NULL. */
const char *text_find(const char *folder, char path[4096]);
extern const char *const text_standard_path;

/* Reads the first characters of a file, plain or gzip, up to `most` bytes. free(text->at). False: `error` is one line
 * that says what is wrong and what to do. */
bool text_read(const char *path, int64_t most, text_file *text, char error[TEXT_ERROR]);

#endif
