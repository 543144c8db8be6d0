/* Template: groups of 64 elements between memory and float32, whatever their type. */
#ifndef NORMA_BLOCKS_H
#define NORMA_BLOCKS_H

#include "simd.h"
#include "vector.h"

#define NORMA_ALIGNED __attribute__((aligned(64)))

/* Numbers of an array are in memory and not in registers: to make them float64 costs one operation from there, and
 * three from half a register. */
#define NORMA_IN_MEMORY(array) __asm__("" : "+m"(array))

/* Of float32 and the types of 16 bits. */
NORMA_INLINE int64_t element_bytes(norma_type type) { return type == NORMA_F32 ? 4 : 2; }
NORMA_INLINE int64_t group_bytes(norma_type type) { return NORMA_GROUP * element_bytes(type); }

/* Whole lines of 64 bytes; past the caches their addresses are multiples of that. */
NORMA_INLINE void copy_lines(void *to, const void *from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) norma_copy_line((char *)to + i, (const char *)from + i);
}
NORMA_INLINE void stream_lines(void *to, const void *from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) norma_stream_line((char *)to + i, (const char *)from + i);
}

/* memcpy of a few bytes. Where a compiler knows that they are few it may copy them with an instruction of its own that
 * takes longer than the call. */
NORMA_INLINE void copy_few(void *to, const void *from, int64_t bytes) {
  __asm__("" : "+r"(bytes));
  memcpy(to, from, (size_t)bytes);
}

NORMA_INLINE void widen_bf16(const uint16_t *from, float *to, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    uint32_t bits = (uint32_t)from[i] << 16;
    memcpy(&to[i], &bits, sizeof bits);
  }
}

/* Of numbers and infinities, as all that narrow; NaN is seen to in store_group. */
NORMA_INLINE void narrow_bf16(const float *from, uint16_t *to, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    uint32_t bits;
    memcpy(&bits, &from[i], sizeof bits);
    to[i] = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
}

#if defined(NORMA_ISA_AVX512)
NORMA_INLINE void widen_f16(const uint16_t *from, float *to) {
  for (int i = 0; i < NORMA_GROUP; i += 16)
    _mm512_storeu_ps(to + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(from + i))));
}
NORMA_INLINE void narrow_f16(const float *from, uint16_t *to) {
  for (int i = 0; i < NORMA_GROUP; i += 16) {
    __m512 v = _mm512_loadu_ps(from + i);
    __m256i h = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_storeu_si256((__m256i *)(to + i), h);
  }
}
/* The places of numbers from `first` on, each twice. */
NORMA_INLINE __m512i twice(int first) {
  const __m512i numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  __m512i number = _mm512_add_epi32(numbers, _mm512_set1_epi32(first));
  return _mm512_or_si512(number, _mm512_slli_epi32(number, 16));
}
NORMA_INLINE void widen_bf16_group(const uint16_t *from, float *to) {
  const __m512i low = twice(0), high = twice(16);
  for (int i = 0; i < NORMA_GROUP; i += 32) { /* a number is the upper half of its float32 */
    __m512i v = _mm512_loadu_si512(from + i);
    _mm512_storeu_si512(to + i, _mm512_maskz_permutexvar_epi16(0xaaaaaaaa, low, v));
    _mm512_storeu_si512(to + i + 16, _mm512_maskz_permutexvar_epi16(0xaaaaaaaa, high, v));
  }
}
/* Sixteen float32 numbers, rounded to bfloat16 in their upper halves. */
NORMA_INLINE __m512i round_bf16(const float *from) {
  __m512i bits = _mm512_loadu_si512(from);
  __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
  bits = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
  return _mm512_mask_add_epi32(bits, odd, bits, _mm512_set1_epi32(1));
}
NORMA_INLINE void narrow_bf16_group(const float *from, uint16_t *to) {
  NORMA_ALIGNED static const uint16_t evens_then_odds[32] = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30,
                                                             1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31};
  const __m512i order = _mm512_load_si512(evens_then_odds);
  for (int i = 0; i < NORMA_GROUP; i += 32) {
    __m512i low = _mm512_srli_epi32(round_bf16(from + i), 16), high = round_bf16(from + i + 16);
    _mm512_storeu_si512(to + i, _mm512_permutexvar_epi16(order, _mm512_mask_blend_epi16(0xaaaaaaaa, low, high)));
  }
}
#elif defined(NORMA_ISA_AVX2)
NORMA_INLINE void widen_f16(const uint16_t *from, float *to) {
  for (int i = 0; i < NORMA_GROUP; i += 8)
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + i))));
}
NORMA_INLINE void narrow_f16(const float *from, uint16_t *to) {
  for (int i = 0; i < NORMA_GROUP; i += 8) {
    __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm_storeu_si128((__m128i *)(to + i), h);
  }
}
NORMA_INLINE void widen_bf16_group(const uint16_t *from, float *to) {
  for (int i = 0; i < NORMA_GROUP; i += 8) {
    __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(from + i)));
    _mm256_storeu_ps(to + i, _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16)));
  }
}
/* Eight float32 numbers as bfloat16, in the low halves. */
NORMA_INLINE __m256i round_bf16(const float *from) {
  __m256i bits = _mm256_loadu_si256((const __m256i *)from);
  __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  return _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
}
NORMA_INLINE void narrow_bf16_group(const float *from, uint16_t *to) {
  for (int i = 0; i < NORMA_GROUP; i += 16) {
    __m256i both = _mm256_packus_epi32(round_bf16(from + i), round_bf16(from + i + 8)); /* by halves: 0 2 1 3 */
    _mm256_storeu_si256((__m256i *)(to + i), _mm256_permute4x64_epi64(both, 0xd8));
  }
}
#else
NORMA_INLINE void widen_f16(const uint16_t *from, float *to) { norma_widen_f16(from, to, NORMA_GROUP); }
NORMA_INLINE void narrow_f16(const float *from, uint16_t *to) { norma_narrow_f16(from, to, NORMA_GROUP); }
NORMA_INLINE void widen_bf16_group(const uint16_t *from, float *to) { widen_bf16(from, to, NORMA_GROUP); }
NORMA_INLINE void narrow_bf16_group(const float *from, uint16_t *to) { narrow_bf16(from, to, NORMA_GROUP); }
#endif

/* 64 elements as float32: in place, or in `room`. */
NORMA_INLINE const float *load_group(norma_type type, const void *from, int64_t first, float *room) {
  if (type == NORMA_F32) return (const float *)from + first;
  if (type == NORMA_BF16) widen_bf16_group((const uint16_t *)from + first, room);
  else widen_f16((const uint16_t *)from + first, room);
  return room;
}

NORMA_INLINE void narrow_group(norma_type type, const float *from, uint16_t *to) {
  if (type == NORMA_BF16) narrow_bf16_group(from, to);
  else narrow_f16(from, to);
}

/* 64 results, in lines past the caches where `stream`. */
NORMA_INLINE void put_group(norma_type type, const float *values, char *to, bool stream) {
  NORMA_ALIGNED uint16_t halves[NORMA_GROUP];
  if (type != NORMA_F32) narrow_group(type, values, stream ? halves : (uint16_t *)to);
  if (stream) stream_lines(to, type == NORMA_F32 ? (const void *)values : halves, group_bytes(type));
  else if (type == NORMA_F32) copy_lines(to, values, group_bytes(type));
}

/* n < 64 elements; what is behind them must not be read. */
NORMA_INLINE const float *load_few(norma_type type, const void *from, int64_t first, int64_t n, float *room) {
  NORMA_ALIGNED uint16_t halves[NORMA_GROUP];
  if (type == NORMA_F32) return (const float *)from + first;
  memset(halves, 0, sizeof halves);
  copy_few(halves, (const uint16_t *)from + first, n * (int64_t)sizeof *halves);
  return load_group(type, halves, 0, room);
}

/* The same, and zeros behind them up to the end of their quarter. */
NORMA_INLINE const float *load_rest(norma_type type, const void *from, int64_t first, int64_t n, float *room) {
  int64_t whole = (n + NORMA_QUARTER - 1) & -(int64_t)NORMA_QUARTER;
  const float *row = load_few(type, from, first, n, room);
  if (type != NORMA_F32 || whole == n) return row;
  for (int i = 0; i < NORMA_QUARTER; i++) room[whole - NORMA_QUARTER + i] = 0;
  copy_few(room, row, n * (int64_t)sizeof *row);
  return room;
}

NORMA_INLINE void prefetch_group(norma_type type, const void *from, int64_t first) {
  uintptr_t at = (uintptr_t)from + (uintptr_t)(first * element_bytes(type)); /* may be past the end */
  for (int64_t i = 0; i < group_bytes(type); i += 64) __builtin_prefetch((const char *)at + i);
}

/* n elements so far ahead of these; nothing where that is 0. */
NORMA_INLINE void prefetch_row(norma_type type, const void *from, int64_t ahead, int64_t n) {
  uintptr_t at = (uintptr_t)from + (uintptr_t)(ahead * element_bytes(type)); /* may be past the end */
  for (int64_t i = 0; i < n * element_bytes(type) && ahead; i += 64) __builtin_prefetch((const char *)at + i);
}

/* Bytes that lie as their goal does, as far as the places in a line go: whole lines past the caches, the ends as usual,
 * since others may share their lines. */
NORMA_INLINE void stream_bytes(char *to, const char *from, int64_t bytes) {
  int64_t head = (int64_t)(-(uintptr_t)to % 64), lines;
  if (head > bytes) head = bytes;
  lines = (bytes - head) & -(int64_t)64;
  if (head > 0) copy_few(to, from, head);
  stream_lines(to + head, from + head, lines);
  head += lines;
  if (head < bytes) copy_few(to + head, from + head, bytes - head);
}

/* Whether rows of n elements, `stride` apart, are whole lines. */
NORMA_INLINE bool are_lines(norma_type type, const void *to, int64_t stride, int64_t rows, int64_t n) {
  int64_t size = element_bytes(type);
  return ((uintptr_t)to | (uintptr_t)(n * size) | (uintptr_t)(rows > 1 ? stride * size : 0)) % 64 == 0;
}

/* Where the results of a row go: `stream`, to whole lines past the caches. */
typedef struct sink {
  char *to;
  bool stream;
  char *end;    /* of the row */
  int64_t jump; /* from there to the next row, in bytes */
} sink;

NORMA_INLINE void sink_put(sink *s, const void *from, int64_t bytes) {
  if (s->stream) stream_lines(s->to, from, bytes);
  else if (bytes % 64 == 0) copy_lines(s->to, from, bytes);
  else copy_few(s->to, from, bytes);
  s->to += bytes;
}

/* Whether n results may be computed where they go: they are whole quarters, some of them twice, and not those of x. */
NORMA_INLINE bool sink_is_direct(norma_type type, const sink *s, const float *x, int64_t n) {
  return type == NORMA_F32 && !s->stream && n >= NORMA_QUARTER && (const char *)x != s->to;
}

/* Lines that a group will be stored to soon, to be owned by then: a store that waits for its line holds up others. */
enum { NORMA_STORE_AHEAD = 1024 };
NORMA_INLINE void sink_ahead(const sink *s, const char *to, int64_t bytes) {
  uintptr_t at = (uintptr_t)to + NORMA_STORE_AHEAD; /* may be past the end */
  if (at >= (uintptr_t)s->end) at += (uintptr_t)s->jump;
  for (int64_t i = 0; i < bytes && !s->stream; i += 64) __builtin_prefetch((const char *)(at + (uintptr_t)i), 1);
}

/* n <= 64 float32 results, rounded to the type. finite: none of them is NaN, which else becomes the canonical one. */
NORMA_INLINE void store_group(norma_type type, sink *s, const float *values, int64_t n, bool finite) {
  NORMA_ALIGNED uint16_t halves[NORMA_GROUP];
  if (type == NORMA_F32) {
    if (n == NORMA_GROUP) sink_put(s, values, sizeof(float[NORMA_GROUP]));
    else sink_put(s, values, n * (int64_t)sizeof *values);
    return;
  }
  narrow_group(type, values, halves);
  for (int i = 0; __builtin_expect(!finite, 0) && i < n; i++)
    if (values[i] != values[i]) halves[i] = type == NORMA_BF16 ? 0x7fc0 : 0x7e00;
  if (n == NORMA_GROUP) sink_put(s, halves, sizeof halves);
  else sink_put(s, halves, n * (int64_t)sizeof *halves);
}

/* Results that are not finite, marked so in `bad`, get the canonical NaN. */
NORMA_INLINE void canonical(wide bad, float *v, int64_t n) {
  const uint32_t quiet = 0x7fc00000;
  if (__builtin_expect(!wide_is_bad(bad), 1)) return;
  for (int64_t i = 0; i < n; i++)
    if (v[i] != v[i]) memcpy(&v[i], &quiet, sizeof quiet);
}

#endif
