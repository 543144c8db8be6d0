/* Text for a language model: windows of characters that training, validation and trials of learning rates each have
 * for themselves. */
#ifndef LAB_LANGUAGE_H
#define LAB_LANGUAGE_H

#include "../data/text.h"
#include "../engine/engine.h"

/* Of each ten blocks of the text eight are for training, one for trials of learning rates, one for validation. */
typedef enum use { FOR_TRAINING, FOR_TRIALS, FOR_VALIDATION } use;

/* For experiment.missing: NULL if there is a text. */
const char *language_missing(const char *data);
/* The text, or the end of the process. */
text_file language_load(const char *data);

/* A place where `length` + 1 characters of that use begin, chosen at random. */
int64_t language_random(const text_file *text, use use, int length, rng *r);
/* The places of windows that follow each other without overlap, in a random order that is the same for all runs; fills
 * in at most `most` and returns how many. */
int language_windows(const text_file *text, use use, int length, int most, int64_t *places);
/* x (count, length) has the characters of each window, labels the ones that follow. */
tensor language_batch(const text_file *text, const int64_t *places, int count, int length, real *x, int32_t *labels);

#endif
