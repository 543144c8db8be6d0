/* Fuzz target: the .npy reader takes any bytes, and what it takes it writes and reads again unchanged. */
#include "npy.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition) {
  if (!condition) abort();
}

static int read_bytes(const void *bytes, size_t size, npy_array *array) {
  npy_error error = {""};
  FILE *stream = fmemopen((void *)(uintptr_t)bytes, size, "rb");
  expect(stream != NULL);
  int good = npy_read_stream(stream, "input", NULL, array, &error);
  fclose(stream);
  /* A failure is one line that names the file, and leaves nothing to free. */
  expect(good || (array->data == NULL && strncmp(error.text, "input: ", 7) == 0 && strchr(error.text, '\n') == NULL));
  return good;
}

static void check_array(const npy_array *array, size_t size) {
  int64_t strides[NORMA_MAX_DIMS], last = 0, count = npy_count(array);
  expect(array->bytes < size && array->bytes == (size_t)count * norma_type_size(array->type));
  npy_strides(array, strides);
  for (int i = 0; i < array->ndim && count > 0; i++) last += (array->shape[i] - 1) * strides[i];
  expect(count == 0 || last == count - 1);
}

static void check_round_trip(const npy_array *array) {
  char *bytes = NULL;
  size_t size = 0;
  FILE *stream = open_memstream(&bytes, &size);
  expect(stream != NULL && npy_write_stream(stream, "output", NULL, array));
  expect(fclose(stream) == 0);
  npy_array again;
  expect(read_bytes(bytes, size, &again));
  expect(again.type == array->type && again.ndim == array->ndim && again.fortran == array->fortran);
  expect(memcmp(again.shape, array->shape, (size_t)array->ndim * sizeof *array->shape) == 0);
  expect(again.bytes == array->bytes && memcmp(again.data, array->data, array->bytes) == 0);
  npy_free(&again);
  free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  npy_array array;
  if (size == 0 || !read_bytes(data, size, &array)) return 0; /* fmemopen takes no empty buffer */
  check_array(&array, size);
  check_round_trip(&array);
  npy_free(&array);
  return 0;
}
