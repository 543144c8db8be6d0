/* The streaming floor: the fastest pass over the tensors that this program can make when nothing is computed. Whatever
 * beats it on some processor belongs into the table of variants below. */
#include "bench.h"

#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { LINE = 64, PAGE = 4096, LEAST_PART = 1 << 15 };

double bench_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --------------------------------------------------------------------------------------------------- passes --- */

/* Bytes begin..end of every stream. `ahead` is how far to prefetch, 0: not at all; `temporal`: ordinary stores. */
typedef void pass(const bench_streams *s, size_t begin, size_t end, size_t ahead, bool temporal);

static void pass_plain(const bench_streams *s, size_t begin, size_t end, size_t ahead, bool temporal) {
  (void)ahead, (void)temporal;
  for (size_t i = begin; i < end; i++) {
    unsigned char value = s->in[0][i];
    for (int k = 1; k < s->inputs; k++) {
      value ^= s->in[k][i];
    }
    s->out[0][i] = value;
    if (s->outputs > 1) {
      s->out[1][i] = value;
    }
  }
}

#if defined(__x86_64__)

/* A pass for each number of streams, so that the loops over them are unrolled. */
#define LINES_OF(isa, temporal)                                                                                       \
  switch (2 * s->inputs + s->outputs) {                                                                               \
    case 3: lines_##isa(s, begin, end, ahead, 1, 1, temporal); break;                                                 \
    case 4: lines_##isa(s, begin, end, ahead, 1, 2, temporal); break;                                                 \
    case 5: lines_##isa(s, begin, end, ahead, 2, 1, temporal); break;                                                 \
    case 6: lines_##isa(s, begin, end, ahead, 2, 2, temporal); break;                                                 \
    case 7: lines_##isa(s, begin, end, ahead, 3, 1, temporal); break;                                                 \
    case 8: lines_##isa(s, begin, end, ahead, 3, 2, temporal); break;                                                 \
    case 9: lines_##isa(s, begin, end, ahead, 4, 1, temporal); break;                                                 \
    default: lines_##isa(s, begin, end, ahead, 4, 2, temporal); break;                                                \
  }

/* One pass from one line of 64 bytes to the next; all that is constant where it is inlined costs nothing. The values
 * are meaningless, they only have to depend on every input. */
#define DEFINE_LINES(isa, vector, load, store, stream, both)                                                          \
  __attribute__((target(#isa), always_inline)) static inline void lines_##isa(                                        \
      const bench_streams *s, size_t begin, size_t end, size_t ahead, int inputs, int outputs, bool temporal) {       \
    unsigned char *y = s->out[0], *z = s->out[1];                                                                     \
    for (size_t i = begin; i < end; i += LINE) {                                                                      \
      for (int in = 0; ahead && in < inputs; in++) {                                                                  \
        _mm_prefetch((const char *)(s->in[in] + i + ahead), _MM_HINT_T0);                                             \
      }                                                                                                               \
      for (size_t k = i; k < i + LINE; k += sizeof(vector)) {                                                         \
        vector v = load((const void *)(s->in[0] + k));                                                                \
        for (int in = 1; in < inputs; in++) v = both(v, load((const void *)(s->in[in] + k)));                         \
        if (temporal) {                                                                                               \
          store((void *)(y + k), v);                                                                                  \
          if (outputs > 1) store((void *)(z + k), v);                                                                 \
        } else {                                                                                                      \
          stream((void *)(y + k), v);                                                                                 \
          if (outputs > 1) stream((void *)(z + k), v);                                                                \
        }                                                                                                             \
      }                                                                                                               \
    }                                                                                                                 \
    if (!temporal) _mm_sfence();                                                                                      \
  }                                                                                                                   \
  __attribute__((target(#isa))) static void pass_##isa(const bench_streams *s, size_t begin, size_t end,              \
                                                       size_t ahead, bool temporal) {                                 \
    if (temporal) {                                                                                                   \
      LINES_OF(isa, true)                                                                                             \
    } else {                                                                                                          \
      LINES_OF(isa, false)                                                                                            \
    }                                                                                                                 \
  }

DEFINE_LINES(sse2, __m128i, _mm_loadu_si128, _mm_storeu_si128, _mm_stream_si128, _mm_xor_si128)
DEFINE_LINES(avx2, __m256i, _mm256_loadu_si256, _mm256_storeu_si256, _mm256_stream_si256, _mm256_xor_si256)
DEFINE_LINES(avx512f, __m512i, _mm512_loadu_si512, _mm512_storeu_si512, _mm512_stream_si512, _mm512_xor_si512)


#endif

/* ------------------------------------------------------------------------------------------------- variants --- */

typedef enum instructions { PLAIN, SSE2, AVX2, AVX512 } instructions;

static const struct {
  const char *name;
  pass *run;
  size_t ahead;
  instructions needs;
  bool temporal;
} variants[] = {
#if defined(__x86_64__)
    {"avx512f, ordinary", pass_avx512f, 0, AVX512, true},
    {"avx512f, non-temporal", pass_avx512f, 0, AVX512, false},
    {"avx512f, non-temporal, prefetch 512", pass_avx512f, 512, AVX512, false},
    {"avx2, ordinary", pass_avx2, 0, AVX2, true},
    {"avx2, ordinary, prefetch 512", pass_avx2, 512, AVX2, true},
    {"avx2, non-temporal", pass_avx2, 0, AVX2, false},
    {"avx2, non-temporal, prefetch 512", pass_avx2, 512, AVX2, false},
    {"avx2, non-temporal, prefetch 4096", pass_avx2, 4096, AVX2, false},
    {"sse2, ordinary", pass_sse2, 0, SSE2, true},
    {"sse2, non-temporal", pass_sse2, 0, SSE2, false},
    {"sse2, non-temporal, prefetch 512", pass_sse2, 512, SSE2, false},
#else
    {"plain loop", pass_plain, 0, PLAIN, true},
#endif
};
enum { VARIANTS = sizeof variants / sizeof variants[0] };

static bool supported(instructions needs) {
#if defined(__x86_64__)
  return needs == SSE2 || (needs == AVX2 && __builtin_cpu_supports("avx2")) ||
         (needs == AVX512 && __builtin_cpu_supports("avx512f"));
#else
  return needs == PLAIN;
#endif
}

static int ordinary_variant(void) {
  int v = 0;
  while (!supported(variants[v].needs) || !variants[v].temporal) {
    v++; /* the last set of instructions is there on every processor */
  }
  return v;
}

/* Non-temporal stores need their address aligned, which one common head achieves only for outputs alike. */
static bool possible(const bench_streams *s, int variant) {
  bool alike = s->outputs < 2 || ((uintptr_t)s->out[0] - (uintptr_t)s->out[1]) % LINE == 0;
  return supported(variants[variant].needs) && (variants[variant].temporal || alike);
}

/* A part that is too small for a thread to be worth its waking makes no floor. */
static int64_t parts(const bench_floor *f) {
  size_t most = f->streams.bytes / LEAST_PART;
  return most < 1 ? 1 : most < (size_t)f->threads ? (int64_t)most : f->threads;
}

/* Each thread has its own contiguous part of whole pages. */
static void part_of(const bench_floor *f, int64_t index, size_t *begin, size_t *end) {
  size_t bytes = f->streams.bytes, pages = (bytes + PAGE - 1) / PAGE, count = (size_t)parts(f), i = (size_t)index;
  *begin = i == 0 ? 0 : pages * i / count * PAGE;
  *end = i + 1 == count ? bytes : pages * (i + 1) / count * PAGE;
}

static void run_part(void *context, int64_t index) {
  const bench_floor *f = context;
  const bench_streams *s = &f->streams;
  size_t begin, end;
  part_of(f, index, &begin, &end);
  size_t head = (LINE - ((uintptr_t)s->out[0] + begin) % LINE) % LINE;
  head = head < end - begin ? head : end - begin;
  size_t whole = (end - begin - head) / LINE * LINE;
  pass_plain(s, begin, begin + head, 0, true);
  variants[f->variant].run(s, begin + head, begin + head + whole, variants[f->variant].ahead,
                           variants[f->variant].temporal);
  pass_plain(s, begin + head + whole, end, 0, true);
}

/* One part needs no hand-over. */
static void run_parts(const bench_floor *f, void (*task)(void *context, int64_t index), void *context) {
  int64_t count = parts(f);
  if (count == 1) {
    task(context, 0);
  } else {
    bench_pool_run(f->pool, count, task, context);
  }
}

void bench_floor_run(const bench_floor *f) {
  bench_floor own = *f;
  run_parts(f, run_part, &own);
}

const char *bench_floor_name(const bench_floor *f) { return variants[f->variant].name; }

/* The caches are as a call leaves them: everything was read and written in the ordinary way just before. */
static double time_variant(bench_floor *f, int variant, int64_t calls) {
  f->variant = ordinary_variant();
  bench_floor_run(f);
  f->variant = variant;
  bench_pool_wake(f->pool);
  double start = bench_now();
  for (int64_t i = 0; i < calls; i++) {
    bench_floor_run(f);
  }
  return bench_now() - start;
}

void bench_floor_choose(bench_floor *f, int64_t calls) {
  enum { LEAST = 3, MOST = 100 };
  const double budget = 0.05;
  double best[VARIANTS], start = bench_now();
  int chosen = ordinary_variant();
  for (int round = 0; round < MOST && (round < LEAST || bench_now() - start < budget); round++) {
    for (int v = 0; v < VARIANTS; v++) { /* in turns: no variant has a quiet moment for itself */
      if (possible(&f->streams, v)) {
        double time = time_variant(f, v, calls);
        best[v] = round == 0 || time < best[v] ? time : best[v];
        chosen = best[v] < best[chosen] ? v : chosen;
      }
    }
  }
  f->variant = chosen;
}

/* --------------------------------------------------------------------------------------------------- memcpy --- */

typedef struct copying {
  const bench_floor *floor;
  const unsigned char *from;
  unsigned char *to;
} copying;

static void copy_part(void *context, int64_t index) {
  const copying *c = context;
  size_t begin, end;
  part_of(c->floor, index, &begin, &end);
  memcpy(c->to + begin, c->from + begin, end - begin);
}

void bench_copy_run(const bench_floor *f, const unsigned char *from, unsigned char *to) {
  copying c = {f, from, to};
  run_parts(f, copy_part, &c);
}
