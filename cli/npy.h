/*
 * .npy files (NumPy's array format 1.0, 2.0 and 3.0) in and out. Data type descriptions: '<f4', '<f8', '<f2', and '<V2'
 * for bfloat16, which is what numpy.save writes for an array of ml_dtypes.bfloat16 and what loads back with
 * .view(ml_dtypes.bfloat16). Fortran order is kept: it is only strides.
 */
#ifndef NORMA_NPY_H
#define NORMA_NPY_H

#include "norma.h"

#include <stdbool.h>
#include <stdio.h>

enum { NPY_ERROR_SIZE = 512, NPY_SHAPE_SIZE = 192 };

typedef struct npy_array {
  norma_type type;
  int ndim;  /* 0 to NORMA_MAX_DIMS; 0 is a single value */
  int64_t shape[NORMA_MAX_DIMS];
  bool fortran;  /* the first dimension varies fastest */
  size_t bytes;
  void *data;  /* malloc'd, never NULL once read or allocated */
} npy_array;

/* What went wrong, one line that names the file. */
typedef struct npy_error {
  char text[NPY_ERROR_SIZE];
} npy_error;

/* Sets the text, control characters as '?', and returns false. */
bool npy_fail(npy_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Called while data moves, with bytes; may be NULL. */
typedef void (*npy_progress)(const char *name, size_t done, size_t total);

/* Reads a whole file. Nothing is allocated before the size of the file agrees with its header; on failure array->data
 * is NULL. npy_read_stream reads from a stream that can seek; `name` is what errors call it. */
bool npy_read(const char *path, npy_progress progress, npy_array *array, npy_error *error);
bool npy_read_stream(FILE *stream, const char *name, npy_progress progress, npy_array *array, npy_error *error);

/* Writes at the stream's position, format 1.0. False with errno set if the stream fails. */
bool npy_write_stream(FILE *stream, const char *name, npy_progress progress, const npy_array *array);

/* Sets type, shape, order and bytes, and allocates data (not cleared). False if the size overflows or memory is out. */
bool npy_allocate(npy_array *array, norma_type type, int ndim, const int64_t *shape, bool fortran);
void npy_free(npy_array *array);

int64_t npy_count(const npy_array *array);
void npy_strides(const npy_array *array, int64_t *strides);

/* "(2, 3)", as Python writes it, into a buffer of NPY_SHAPE_SIZE; returns the buffer. */
char *npy_shape_text(int ndim, const int64_t *shape, char *buffer);

#endif
