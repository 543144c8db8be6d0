/* See support.h. */
#define _DEFAULT_SOURCE
#include "support.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CANARY = 0xA5, PAD = 64 };

const norma_type all_types[4] = {NORMA_F32, NORMA_F64, NORMA_F16, NORMA_BF16};

static _Thread_local char problem[512] = "(no problem set)";

void problem_is(const char *format, ...) {
  va_list list;
  va_start(list, format);
  vsnprintf(problem, sizeof problem, format, list);
  va_end(list);
}

const char *problem_now(void) { return problem; }

void fail_problem(const char *format, ...) {
  char message[512];
  va_list list;
  va_start(list, format);
  vsnprintf(message, sizeof message, format, list);
  va_end(list);
  fail_msg("%s: %s", problem, message);
}

void assert_ok(norma_status status, const norma_error *error) {
  if (status != NORMA_OK) {
    fail_problem("%s: %s", norma_status_text(status), error->detail);
  }
}

/* ---------------------------------------------------------------------------------------------------- random --- */

uint64_t random_bits(uint64_t *state) {
  uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
  z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
  return z ^ z >> 31;
}

double random_uniform(uint64_t *state) { return (double)(random_bits(state) >> 11) * 0x1p-53; }

double random_normal(uint64_t *state) {
  double radius = sqrt(-2 * log(1 - random_uniform(state)));
  return radius * cos(6.283185307179586 * random_uniform(state));
}

int64_t random_below(uint64_t *state, int64_t n) { return (int64_t)(random_uniform(state) * (double)n); }

double *random_array(uint64_t *state, norma_type type, int64_t n, double mean, double deviation) {
  double *values = malloc(sizeof(double) * (size_t)(n + 1));
  for (int64_t i = 0; i < n; i++) {
    values[i] = mean + deviation * random_normal(state);
  }
  round_array(type, values, n);
  return values;
}

void round_array(norma_type type, double *values, int64_t n) {
  void *narrow = from_doubles(type, values, n);
  norma_to_double(type, narrow, 1, values, n);
  free(narrow);
}

/* --------------------------------------------------------------------------------------------------- tensors --- */

const char *layout_name(layout l) {
  static const char *const names[LAYOUT_NAMES] = {"dense",    "channels-last", "batch-last", "reversed", "sliced",
                                                  "negative", "mixed",         "misaligned", "broadcast"};
  return names[l];
}

/* The axes from the slowest to the fastest. */
static void layout_order(layout l, int ndim, int *order) {
  for (int k = 0; k < ndim; k++) {
    order[k] = l == LAYOUT_REVERSED ? ndim - 1 - k : l == LAYOUT_BATCH_LAST ? (k + 1) % ndim : k;
  }
  if ((l == LAYOUT_CHANNELS_LAST || l == LAYOUT_MIXED) && ndim > 1) {
    for (int k = 1; k < ndim; k++) {
      order[k] = k + 1 < ndim ? k + 1 : 1;
    }
  }
}

tensor tensor_new(norma_type type, int ndim, const int64_t *shape, layout l) {
  tensor t = {.type = type, .ndim = ndim, .elements = 1};
  int order[NORMA_MAX_DIMS] = {0};
  layout_order(l, ndim, order);
  int64_t pitch = 1, first = PAD + (l == LAYOUT_MISALIGNED);
  for (int k = ndim - 1; k >= 0; k--) {
    int d = order[k];
    int64_t step = l == LAYOUT_SLICED ? 2 : l == LAYOUT_MIXED && k == ndim - 1 ? 3 : 1;
    int backwards = l == LAYOUT_NEGATIVE || (l == LAYOUT_MIXED && d % 2 == 1);
    int64_t last = shape[d] > 0 ? (shape[d] - 1) * step : 0;
    t.shape[d] = shape[d];
    t.strides[d] = (backwards ? -step : step) * pitch;
    first += backwards ? last * pitch : 0;
    pitch *= last + 1 + (step > 1);
    t.elements *= shape[d];
  }
  t.strides[0] = l == LAYOUT_BROADCAST ? 0 : t.strides[0];
  size_t size = norma_type_size(type);
  t.bytes = ((size_t)(pitch + 2 * PAD + 1) * size + 63) / 64 * 64;
  t.base = aligned_alloc(64, t.bytes);
  memset(t.base, CANARY, t.bytes);
  t.data = t.base + (size_t)first * size;
  return t;
}

tensor tensor_of(norma_type type, const norma_layer *layer, layout l, const double *values) {
  tensor made = tensor_new(type, layer->ndim, layer->shape, l);
  if (values != NULL) {
    tensor_write(&made, values);
  }
  return made;
}

void tensor_free(tensor *t) { free(t->base); }

/* Where element i of the logical order lies. */
static unsigned char *tensor_at(const tensor *t, int64_t i) {
  int64_t offset = 0;
  for (int d = t->ndim - 1; d >= 0; d--) {
    offset += i % t->shape[d] * t->strides[d];
    i /= t->shape[d];
  }
  return (unsigned char *)t->data + offset * (int64_t)norma_type_size(t->type);
}

void tensor_write(tensor *t, const double *dense) {
  size_t size = norma_type_size(t->type);
  unsigned char *narrow = from_doubles(t->type, dense, t->elements);
  for (int64_t i = 0; i < t->elements; i++) {
    memcpy(tensor_at(t, i), narrow + (size_t)i * size, size);
  }
  free(narrow);
}

void *tensor_read(const tensor *t) {
  size_t size = norma_type_size(t->type);
  unsigned char *dense = malloc(size * (size_t)(t->elements + 1));
  for (int64_t i = 0; i < t->elements; i++) {
    memcpy(dense + (size_t)i * size, tensor_at(t, i), size);
  }
  return dense;
}

void tensor_check_gaps(const tensor *t, const char *name) {
  size_t size = norma_type_size(t->type);
  unsigned char *used = calloc(1, t->bytes);
  for (int64_t i = 0; i < t->elements; i++) {
    memset(used + (tensor_at(t, i) - t->base), 1, size);
  }
  for (size_t i = 0; i < t->bytes; i++) {
    if (!used[i] && t->base[i] != CANARY) {
      free(used);
      fail_problem("%s: byte %td from the first element is not the tensor's and was written", name,
                   t->base + i - (unsigned char *)t->data);
    }
  }
  free(used);
}

/* ------------------------------------------------------------------------------------------------ comparison --- */

void assert_same_bits(const char *name, norma_type type, const void *got, const void *expected, int64_t n) {
  size_t size = norma_type_size(type);
  const unsigned char *a = got, *b = expected;
  for (int64_t i = 0; i < n; i++, a += size, b += size) {
    if (memcmp(a, b, size) != 0) {
      double values[2];
      norma_to_double(type, a, 1, &values[0], 1);
      norma_to_double(type, b, 1, &values[1], 1);
      fail_problem("%s[%lld] of %lld is %.17g (%a), not %.17g (%a)", name, (long long)i, (long long)n, values[0],
                   values[0], values[1], values[1]);
    }
  }
}

uint64_t canonical_nan(norma_type type) {
  return type == NORMA_F64 ? 0x7ff8000000000000 : type == NORMA_F32 ? 0x7fc00000 : type == NORMA_F16 ? 0x7e00 : 0x7fc0;
}

uint64_t bits_at(norma_type type, const void *array, int64_t i) {
  uint64_t bits = 0;  /* the first bytes are the low ones on every machine that the tests know */
  memcpy(&bits, (const char *)array + (size_t)i * norma_type_size(type), norma_type_size(type));
  return bits;
}

void *from_doubles(norma_type type, const double *values, int64_t n) {
  void *narrow = malloc(norma_type_size(type) * (size_t)(n + 1));
  norma_from_double(type, values, narrow, 1, n);
  return narrow;
}

double *to_doubles(norma_type type, const void *values, int64_t n) {
  double *wide = malloc(sizeof(double) * (size_t)(n + 1));
  norma_to_double(type, values, 1, wide, n);
  return wide;
}

double y_error(norma_type type) {
  static const double errors[] = {
      [NORMA_F32] = 5e-7, [NORMA_F64] = 2e-14, [NORMA_F16] = 0x1.01p-11, [NORMA_BF16] = 0x1.01p-8};
  return errors[type];
}

double largest(const double *values, int64_t n) {
  double most = 0;
  for (int64_t i = 0; i < n; i++) {
    most = fmax(most, fabs(values[i]));
  }
  return most;
}

/* ---------------------------------------------------------------------------------------------- guard pages --- */

guarded guarded_new(size_t bytes) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  guarded g = {.bytes = (bytes + page - 1) / page * page};
  g.map_bytes = g.bytes + 2 * page;
  g.map = mmap(NULL, g.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true(g.map != MAP_FAILED);
  g.start = (unsigned char *)g.map + page;
  assert_int_equal(mprotect(g.start, g.bytes, PROT_READ | PROT_WRITE), 0);
  return g;
}

void guarded_free(guarded *g) { munmap(g->map, g->map_bytes); }

void *guarded_place(guarded *g, guard_side side, size_t offset, size_t bytes) {
  assert_true(offset + bytes <= g->bytes);
  memset(g->start, CANARY, g->bytes);
  return side == GUARD_BEFORE ? g->start + offset : g->start + g->bytes - offset - bytes;
}

void guarded_check(const guarded *g, const void *data, size_t bytes, const char *name) {
  const unsigned char *first = data, *parts[2][2] = {{g->start, first}, {first + bytes, g->start + g->bytes}};
  for (int i = 0; i < 2; i++) {
    const unsigned char *from = parts[i][0], *to = parts[i][1];
    /* Equal to itself one byte on: all bytes are the first. */
    if (from < to && (*from != CANARY || memcmp(from, from + 1, (size_t)(to - from - 1)) != 0)) {
      fail_problem("%s: written %s its %zu bytes", name, i == 0 ? "before" : "behind", bytes);
    }
  }
}

unsigned char *workspace_new(size_t bytes) {
  unsigned char *base = aligned_alloc(64, (bytes + 2 * WORKSPACE_PAD + 63) / 64 * 64);
  memset(base, CANARY, WORKSPACE_PAD);
  memset(base + WORKSPACE_PAD, 0xFF, bytes);
  memset(base + WORKSPACE_PAD + bytes, CANARY, WORKSPACE_PAD);
  return base;
}

void workspace_free(unsigned char *base, size_t bytes) {
  for (size_t i = 0; base != NULL && i < WORKSPACE_PAD; i++) {
    if (base[i] != CANARY || base[WORKSPACE_PAD + bytes + i] != CANARY) {
      fail_problem("written beside the workspace of %zu bytes", bytes);
    }
  }
  free(base);
}

/* ------------------------------------------------------------------------- the floating-point control register --- */

#if defined(__x86_64__) || defined(__i386__)
enum { FLUSH = 0x8000, DENORMALS_ARE_ZERO = 0x0040, DOWN = 0x2000, UP = 0x4000, TOWARD_ZERO = 0x6000, FLAGS = 0x3F };
#define CONTROL 1
#elif defined(__aarch64__)
enum { FLUSH = 1 << 24, DENORMALS_ARE_ZERO = 1 << 24, UP = 1 << 22, DOWN = 2 << 22, TOWARD_ZERO = 3 << 22, FLAGS = 0 };
#define CONTROL 1
#else
enum { FLUSH, DENORMALS_ARE_ZERO = 0, DOWN = 0, UP = 0, TOWARD_ZERO = 0, FLAGS = 0 };
#define CONTROL 0
#endif

static const struct {
  const char *name;
  unsigned bits;
} settings[] = {{"flush-to-zero", FLUSH},
                {"denormals-are-zero", DENORMALS_ARE_ZERO},
                {"flush-to-zero and denormals-are-zero", FLUSH | DENORMALS_ARE_ZERO},
                {"round down", DOWN},
                {"round up", UP},
                {"round toward zero", TOWARD_ZERO},
                {"round down, flush-to-zero and denormals-are-zero", DOWN | FLUSH | DENORMALS_ARE_ZERO}};

uint64_t control_get(void) {
#if defined(__x86_64__) || defined(__i386__)
  return __builtin_ia32_stmxcsr();
#elif defined(__aarch64__)
  uint64_t control;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  return control;
#else
  return 0;
#endif
}

void control_set(uint64_t control) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_ldmxcsr((unsigned)control);
#elif defined(__aarch64__)
  __asm__ volatile("msr fpcr, %0" : : "r"(control));
#else
  (void)control;
#endif
}

int control_settings(void) { return CONTROL ? (int)COUNT(settings) : 0; }

uint64_t control_setting(int i, uint64_t control) { return control | settings[i].bits; }

const char *control_setting_name(int i) { return settings[i].name; }

uint64_t control_modes(uint64_t control) { return control & ~(uint64_t)FLAGS; }
