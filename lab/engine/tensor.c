/* Start, memory, random numbers, shapes. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "maths.h"

void engine_start(void) {
  openblas_set_num_threads(1);
  norma_set_num_threads(1);
}

void engine_complain(const char *format, va_list arguments) {
  char text[8192];
  vsnprintf(text, sizeof text, format, arguments);
  fflush(stdout);
  fprintf(stderr, "norma-lab: %s\n", text); /* stderr has no buffer: a call is a write */
}

void engine_die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  engine_complain(format, arguments);
  va_end(arguments);
  exit(1);
}

void *engine_alloc(size_t bytes) {
  size_t rounded = (bytes + 63) / 64 * 64;
  void *at = rounded >= bytes ? aligned_alloc(64, rounded > 0 ? rounded : 64) : NULL;
  if (at == NULL) {
    engine_die("no memory for %zu bytes", bytes);
  }
  memset(at, 0, bytes);
  return at;
}

/* ---------------------------------------------------------------------------------------------------- random --- */

static uint64_t split_mix(uint64_t *state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

static uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }

rng rng_new(uint64_t seed, uint64_t stream) {
  uint64_t state = seed * 0x2545f4914f6cdd1du + stream;
  rng r;
  for (int i = 0; i < 4; i++) {
    r.state[i] = split_mix(&state);
  }
  return r;
}

uint64_t rng_next(rng *r) {
  uint64_t *s = r->state, result = rotate(s[1] * 5, 7) * 9, shifted = s[1] << 17;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= shifted;
  s[3] = rotate(s[3], 45);
  return result;
}

double rng_uniform(rng *r) { return (double)(rng_next(r) >> 11) * 0x1p-53; }

double rng_normal(rng *r) {
  double u = 1.0 - rng_uniform(r), v = rng_uniform(r);
  return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

int64_t rng_below(rng *r, int64_t n) { return (int64_t)(rng_uniform(r) * (double)n); }

void rng_shuffle(rng *r, int32_t *items, int64_t n) {
  for (int64_t i = n - 1; i > 0; i--) {
    int64_t j = rng_below(r, i + 1);
    int32_t held = items[i];
    items[i] = items[j];
    items[j] = held;
  }
}

/* --------------------------------------------------------------------------------------------------- tensors --- */

tensor tensor2(real *at, int64_t a, int64_t b) { return (tensor){2, {a, b}, at}; }

tensor tensor3(real *at, int64_t a, int64_t b, int64_t c) { return (tensor){3, {a, b, c}, at}; }

tensor tensor4(real *at, int64_t a, int64_t b, int64_t c, int64_t d) { return (tensor){4, {a, b, c, d}, at}; }

tensor tensor_like(tensor shape, real *at) {
  shape.at = at;
  return shape;
}

int64_t tensor_item(tensor t) {
  int64_t count = 1;
  for (int i = 1; i < t.ndim; i++) {
    count *= t.dim[i];
  }
  return count;
}

int64_t tensor_count(tensor t) { return t.ndim == 0 ? 0 : t.dim[0] * tensor_item(t); }

bool tensor_same_shape(tensor a, tensor b) {
  return a.ndim == b.ndim && memcmp(a.dim, b.dim, (size_t)a.ndim * sizeof a.dim[0]) == 0;
}
