/* What the files of problem/ share and nobody else sees. */
#ifndef NORMA_PROBLEM_INTERNAL_H
#define NORMA_PROBLEM_INTERNAL_H

#include "problem.h"

/* words.c: the words of the grammar. A table ends with a NULL word. */
typedef struct problem_word {
  const char *word;
  int value;
} problem_word;

extern const problem_word problem_kind_words[], problem_layout_words[], problem_type_words[], problem_direction_words[],
    problem_stats_words[], problem_data_words[], problem_affine_words[], problem_activation_words[],
    problem_add_words[];

/* The value of a word, -1 if the table does not have it. */
int problem_find_word(const problem_word *table, const char *word, size_t length);
/* The first word of a value: the canonical one. */
const char *problem_word_of(const problem_word *table, int value);
/* "a, b or c": one word per value. */
void problem_list_words(const problem_word *table, char *out, size_t size);

/* Fills the error and returns false. */
bool problem_fail(norma_error *error, norma_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The default of affine=, and whether layer or rms names its normalized dimensions. */
problem_affine problem_default_affine(problem_kind kind);
bool problem_has_axes(problem_kind kind);

/* random.c: a counter-based generator. The same arguments give the same bits, in any order of calls. */
uint64_t problem_bits(uint64_t seed, uint64_t stream, uint64_t index);
double problem_uniform(uint64_t seed, uint64_t stream, uint64_t index); /* [0, 1) */
double problem_normal_value(uint64_t seed, uint64_t stream, uint64_t index);

/* tensor.c */
bool problem_tensor_make(problem_tensor *t, norma_type type, int ndim, const int64_t *shape, problem_layout layout,
                         int align, norma_error *error);
void problem_tensor_free(problem_tensor *t);
void problem_tensor_poison(problem_tensor *t);
/* Writes elements from logical order, rounding to the tensor's type. */
void problem_tensor_set(problem_tensor *t, const double *from);
/* The bits of the elements in logical order, problem_tensor_set's inverse without a conversion. */
void problem_tensor_gather(const problem_tensor *t, unsigned char *to);
/* Puts bits in logical order back. */
void problem_tensor_scatter(problem_tensor *t, const unsigned char *from);
/* True if a byte that belongs to no element is not poison. */
bool problem_tensor_stray(const problem_tensor *t, norma_error *error, bool *stray);

/* data.c: fills the inputs that the case has. */
bool problem_fill_inputs(problem_case *c, norma_error *error);

/* run.c: calls task for every index on `*(int *)pool` threads, the last index first. */
void problem_run_threads(void *pool, int64_t count, void (*task)(void *context, int64_t index), void *context);

/* run.c: FNV-1a, continued from `hash`. */
uint64_t problem_hash(uint64_t hash, const unsigned char *bytes, size_t size);

#endif
