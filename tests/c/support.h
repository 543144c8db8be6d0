/* What the C tests share: random data, tensors in every memory layout, comparison bit for bit, guard pages, the
 * floating-point control register. */
#ifndef NORMA_TESTS_SUPPORT_H
#define NORMA_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "norma.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The case that runs now, printed with every failure. One text per thread. */
void problem_is(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *problem_now(void);
/* Fails the running test with the problem and this message. */
void fail_problem(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Fails unless status is NORMA_OK; prints the detail. */
void assert_ok(norma_status status, const norma_error *error);

/* ---------------------------------------------------------------------------------------------------- random --- */

uint64_t random_bits(uint64_t *state);  /* splitmix64; any seed is good */
double random_uniform(uint64_t *state); /* [0, 1) */
double random_normal(uint64_t *state);
int64_t random_below(uint64_t *state, int64_t n);
/* n new numbers mean + deviation * normal, rounded to the type, so that norma_from_double is exact. free() them. */
double *random_array(uint64_t *state, norma_type type, int64_t n, double mean, double deviation);
/* The same numbers after a trip through the type. */
void round_array(norma_type type, double *values, int64_t n);

/* --------------------------------------------------------------------------------------------------- tensors --- */

typedef enum layout {
  LAYOUT_DENSE,
  LAYOUT_CHANNELS_LAST,
  LAYOUT_BATCH_LAST,
  LAYOUT_REVERSED,   /* the first axis varies fastest */
  LAYOUT_SLICED,     /* every second element of every axis of a larger tensor */
  LAYOUT_NEGATIVE,   /* all strides negative */
  LAYOUT_MIXED,      /* channels last, every third element, some axes backwards, padded rows */
  LAYOUT_MISALIGNED, /* dense, one element after a 64-byte boundary */
  LAYOUT_COUNT,
  LAYOUT_BROADCAST = LAYOUT_COUNT, /* stride 0 in dimension 0: for inputs that do not change along it */
  LAYOUT_NAMES
} layout;

const char *layout_name(layout l);

typedef struct tensor {
  norma_type type;
  int ndim;
  int64_t shape[NORMA_MAX_DIMS], strides[NORMA_MAX_DIMS];
  int64_t elements;
  unsigned char *base; /* the whole allocation; what is no element of the tensor holds a canary */
  size_t bytes;
  void *data; /* element 0, ..., 0 */
} tensor;

tensor tensor_new(norma_type type, int ndim, const int64_t *shape, layout l);
/* A tensor of a layer's shape with these values, or with canaries for NULL. */
tensor tensor_of(norma_type type, const norma_layer *layer, layout l, const double *values);
void tensor_free(tensor *t);
/* Writes a dense row-major array of doubles, rounded to the type. */
void tensor_write(tensor *t, const double *dense);
/* Copies the elements in logical order into a new dense array of the tensor's type; free() it. */
void *tensor_read(const tensor *t);
/* Fails if a byte that belongs to no element was changed. */
void tensor_check_gaps(const tensor *t, const char *name);

/* ------------------------------------------------------------------------------------------------ comparison --- */

/* Fails at the first of n elements whose bits differ, and prints the problem, the name, the index and both values. */
void assert_same_bits(const char *name, norma_type type, const void *got, const void *expected, int64_t n);
/* The relative error of y that norma.h allows; for narrow types with their own rounding. */
double y_error(norma_type type);
double largest(const double *values, int64_t n);
/* New arrays; free() them. */
void *from_doubles(norma_type type, const double *values, int64_t n);
double *to_doubles(norma_type type, const void *values, int64_t n);
/* The bits of an element, and those of the NaN that the library writes. */
uint64_t bits_at(norma_type type, const void *array, int64_t i);
uint64_t canonical_nan(norma_type type);

/* ---------------------------------------------------------------------------------------------- guard pages --- */

/* Memory between two pages that may not be touched. */
typedef struct guarded {
  unsigned char *start;
  size_t bytes;
  void *map;
  size_t map_bytes;
} guarded;

typedef enum guard_side { GUARD_BEFORE, GUARD_AFTER } guard_side;

guarded guarded_new(size_t bytes);
void guarded_free(guarded *g);
/* Fills all of it with canaries and returns `bytes` bytes that begin `offset` bytes after the guard page before them,
 * or end `offset` bytes before the one after them. */
void *guarded_place(guarded *g, guard_side side, size_t offset, size_t bytes);
/* Fails if anything but the `bytes` bytes at data was changed. */
void guarded_check(const guarded *g, const void *data, size_t bytes, const char *name);

/* A workspace of this size, full of NaN, that begins WORKSPACE_PAD bytes after the returned base, between canaries. */
enum { WORKSPACE_PAD = 64 };
unsigned char *workspace_new(size_t bytes);
/* Frees it; fails if a canary was written. base may be NULL. */
void workspace_free(unsigned char *base, size_t bytes);

/* ------------------------------------------------------------------------- the floating-point control register --- */

/* MXCSR on x86, FPCR on aarch64, 0 elsewhere. */
uint64_t control_get(void);
void control_set(uint64_t control);
/* The number of hostile settings (flush-to-zero, denormals-are-zero, three rounding modes, mixtures), the register with
 * setting i, and its name. */
int control_settings(void);
uint64_t control_setting(int i, uint64_t control);
const char *control_setting_name(int i);
/* Without the bits that arithmetic itself sets (the exception flags). */
uint64_t control_modes(uint64_t control);

/* The four data types. */
extern const norma_type all_types[4];

#endif
