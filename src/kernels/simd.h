/*
 * Four float64 lanes, in the vectors of one instruction set. A file isa_*.c defines NORMA_ISA_* and NORMA_TARGET and
 * includes this header and the templates; so each template is compiled once per instruction set, from one source and
 * without compiler flags. Loops over float32 blocks need no wrappers: they have constant lengths and no order of their
 * own, and compilers turn them into the vectors of the target.
 *
 * A quad is four float64, an oct eight of them, in one register where there is one; `wide` is as many float32 as a
 * register has, NORMA_WIDE of them, a divisor of 16.
 *
 *     wide_relu   max(a, 0) of numbers, +0 for -0
 *     wide_bad    collects, in `bad`, whether any of v is NaN or Inf; wide_is_bad tells
 *     quad_sums   {a, b, c, d} -> {sum a, sum b, sum c, sum d}, each as (l0 + l1) + (l2 + l3)
 *     quad_floats converts 4 float32
 *     quad_few    converts the first n of 4 float32 and reads no more; the rest is 0
 *     quad_first  keeps the first n lanes and makes the rest 0
 *     quad_exact_fma  a b + c where a b is exact, as products of float32 numbers are: fused or not, the same bits
 *     norma_stream_line writes 64 bytes past the caches; both ends are multiples of 64; norma_stream_end orders them;
 *     norma_copy_line copies as many, anywhere; wide_stream stores a vector past the caches, to a multiple of its size
 */
#ifndef NORMA_SIMD_H
#define NORMA_SIMD_H

/* GCC turns no comparison into a select while an exception flag or a trap might tell. Calls mask traps and restore the
 * flags (float_env.h), so none can. This changes no result; clang assumes it anyway. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-trapping-math")
#endif

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Before a loop over the vectors of a group. In plain C, where a vector is a number, that would take minutes to
 * compile. */
#define NORMA_PRAGMA(text) _Pragma(#text)
#if defined(NORMA_ISA_AVX2) || defined(NORMA_ISA_AVX512) || defined(NORMA_ISA_SSE2) || defined(NORMA_ISA_NEON)
#define NORMA_UNROLL(n) NORMA_PRAGMA(GCC unroll n)
#else
#define NORMA_UNROLL(n)
#endif

/* A sanitizer, and plain C, make functions so large that inlining all of them takes minutes to compile. */
#if defined(NORMA_SANITIZED) || defined(NORMA_ISA_SCALAR)
#define NORMA_INLINE static inline NORMA_TARGET
#else
#define NORMA_INLINE static inline __attribute__((always_inline)) NORMA_TARGET
#endif

#if defined(NORMA_ISA_AVX2) || defined(NORMA_ISA_AVX512)
#include <immintrin.h>

typedef __m256d quad;
NORMA_INLINE quad quad_set(double v) { return _mm256_set1_pd(v); }
NORMA_INLINE quad quad_load(const double *p) { return _mm256_loadu_pd(p); }
NORMA_INLINE void quad_store(double *p, quad a) { _mm256_storeu_pd(p, a); }
NORMA_INLINE quad quad_floats(const float *p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
NORMA_INLINE quad quad_add(quad a, quad b) { return _mm256_add_pd(a, b); }
NORMA_INLINE quad quad_sub(quad a, quad b) { return _mm256_sub_pd(a, b); }
NORMA_INLINE quad quad_mul(quad a, quad b) { return _mm256_mul_pd(a, b); }
NORMA_INLINE quad quad_exact_fma(quad a, quad b, quad c) { return _mm256_fmadd_pd(a, b, c); }
NORMA_INLINE quad quad_sums(quad a, quad b, quad c, quad d) {
  quad ab = _mm256_hadd_pd(a, b), cd = _mm256_hadd_pd(c, d);
  return _mm256_add_pd(_mm256_permute2f128_pd(ab, cd, 0x20), _mm256_permute2f128_pd(ab, cd, 0x31));
}
NORMA_INLINE void norma_stream_line(void *to, const void *from) {
  _mm256_stream_si256((__m256i *)to, _mm256_loadu_si256((const __m256i *)from));
  _mm256_stream_si256((__m256i *)to + 1, _mm256_loadu_si256((const __m256i *)from + 1));
}
NORMA_INLINE void norma_copy_line(void *to, const void *from) {
  _mm256_storeu_si256((__m256i *)to, _mm256_loadu_si256((const __m256i *)from));
  _mm256_storeu_si256((__m256i *)to + 1, _mm256_loadu_si256((const __m256i *)from + 1));
}
NORMA_INLINE void norma_stream_end(void) { _mm_sfence(); }

static const int32_t first_floats[8] = {-1, -1, -1, -1, 0, 0, 0, 0};
static const int64_t first_doubles[8] = {-1, -1, -1, -1, 0, 0, 0, 0};
NORMA_INLINE quad quad_few(const float *p, int n) {
  __m128i there = _mm_loadu_si128((const __m128i *)(first_floats + 4 - n));
  return _mm256_cvtps_pd(_mm_maskload_ps(p, there));
}
NORMA_INLINE quad quad_first(quad a, int n) {
  return _mm256_and_pd(a, _mm256_loadu_pd((const double *)(const void *)(first_doubles + 4 - n)));
}

#if defined(NORMA_ISA_AVX512)
enum { NORMA_WIDE = 16 };
typedef __m512 wide;
NORMA_INLINE wide wide_set(float v) { return _mm512_set1_ps(v); }
NORMA_INLINE wide wide_load(const float *p) { return _mm512_loadu_ps(p); }
NORMA_INLINE void wide_store(float *p, wide a) { _mm512_storeu_ps(p, a); }
NORMA_INLINE void wide_stream(float *p, wide a) { _mm512_stream_ps(p, a); }
NORMA_INLINE wide wide_add(wide a, wide b) { return _mm512_add_ps(a, b); }
NORMA_INLINE wide wide_sub(wide a, wide b) { return _mm512_sub_ps(a, b); }
NORMA_INLINE wide wide_mul(wide a, wide b) { return _mm512_mul_ps(a, b); }
NORMA_INLINE wide wide_relu(wide a) { return _mm512_max_ps(a, _mm512_setzero_ps()); }
/* v * 0 + bad: no result depends on it, so it may be fused. */
NORMA_INLINE wide wide_bad(wide bad, wide v) { return _mm512_fmadd_ps(v, _mm512_setzero_ps(), bad); }
NORMA_INLINE bool wide_is_bad(wide bad) { return _mm512_cmp_ps_mask(bad, bad, _CMP_UNORD_Q) != 0; }
#else
enum { NORMA_WIDE = 8 };
typedef __m256 wide;
NORMA_INLINE wide wide_set(float v) { return _mm256_set1_ps(v); }
NORMA_INLINE wide wide_load(const float *p) { return _mm256_loadu_ps(p); }
NORMA_INLINE void wide_store(float *p, wide a) { _mm256_storeu_ps(p, a); }
NORMA_INLINE void wide_stream(float *p, wide a) { _mm256_stream_ps(p, a); }
NORMA_INLINE wide wide_add(wide a, wide b) { return _mm256_add_ps(a, b); }
NORMA_INLINE wide wide_sub(wide a, wide b) { return _mm256_sub_ps(a, b); }
NORMA_INLINE wide wide_mul(wide a, wide b) { return _mm256_mul_ps(a, b); }
NORMA_INLINE wide wide_relu(wide a) { return _mm256_max_ps(a, _mm256_setzero_ps()); }
NORMA_INLINE wide wide_bad(wide bad, wide v) { return _mm256_or_ps(bad, _mm256_sub_ps(v, v)); }
NORMA_INLINE bool wide_is_bad(wide bad) { return _mm256_movemask_ps(_mm256_cmp_ps(bad, bad, _CMP_UNORD_Q)) != 0; }
#endif

#elif defined(NORMA_ISA_SSE2)
#include <emmintrin.h>

typedef struct quad {
  __m128d a, b;
} quad;
NORMA_INLINE quad quad_set(double v) { return (quad){_mm_set1_pd(v), _mm_set1_pd(v)}; }
NORMA_INLINE quad quad_load(const double *p) { return (quad){_mm_loadu_pd(p), _mm_loadu_pd(p + 2)}; }
NORMA_INLINE void quad_store(double *p, quad a) {
  _mm_storeu_pd(p, a.a);
  _mm_storeu_pd(p + 2, a.b);
}
NORMA_INLINE quad quad_floats(const float *p) {
  __m128 v = _mm_loadu_ps(p);
  return (quad){_mm_cvtps_pd(v), _mm_cvtps_pd(_mm_movehl_ps(v, v))};
}
NORMA_INLINE quad quad_add(quad a, quad b) { return (quad){_mm_add_pd(a.a, b.a), _mm_add_pd(a.b, b.b)}; }
NORMA_INLINE quad quad_sub(quad a, quad b) { return (quad){_mm_sub_pd(a.a, b.a), _mm_sub_pd(a.b, b.b)}; }
NORMA_INLINE quad quad_mul(quad a, quad b) { return (quad){_mm_mul_pd(a.a, b.a), _mm_mul_pd(a.b, b.b)}; }
NORMA_INLINE __m128d pair_sums(__m128d a, __m128d b) {
  return _mm_add_pd(_mm_unpacklo_pd(a, b), _mm_unpackhi_pd(a, b));
}
NORMA_INLINE quad quad_sums(quad a, quad b, quad c, quad d) {
  return (quad){_mm_add_pd(pair_sums(a.a, b.a), pair_sums(a.b, b.b)),
                _mm_add_pd(pair_sums(c.a, d.a), pair_sums(c.b, d.b))};
}
NORMA_INLINE void norma_stream_line(void *to, const void *from) {
  for (int i = 0; i < 4; i++) _mm_stream_si128((__m128i *)to + i, _mm_loadu_si128((const __m128i *)from + i));
}
NORMA_INLINE void norma_stream_end(void) { _mm_sfence(); }

enum { NORMA_WIDE = 4 };
typedef __m128 wide;
NORMA_INLINE wide wide_set(float v) { return _mm_set1_ps(v); }
NORMA_INLINE wide wide_load(const float *p) { return _mm_loadu_ps(p); }
NORMA_INLINE void wide_store(float *p, wide a) { _mm_storeu_ps(p, a); }
NORMA_INLINE void wide_stream(float *p, wide a) { _mm_stream_ps(p, a); }
NORMA_INLINE wide wide_add(wide a, wide b) { return _mm_add_ps(a, b); }
NORMA_INLINE wide wide_sub(wide a, wide b) { return _mm_sub_ps(a, b); }
NORMA_INLINE wide wide_mul(wide a, wide b) { return _mm_mul_ps(a, b); }
NORMA_INLINE wide wide_relu(wide a) { return _mm_max_ps(a, _mm_setzero_ps()); }
NORMA_INLINE wide wide_bad(wide bad, wide v) { return _mm_or_ps(bad, _mm_sub_ps(v, v)); }
NORMA_INLINE bool wide_is_bad(wide bad) { return _mm_movemask_ps(_mm_cmpunord_ps(bad, bad)) != 0; }

#elif defined(NORMA_ISA_NEON)
#include <arm_neon.h>

typedef struct quad {
  float64x2_t a, b;
} quad;
NORMA_INLINE quad quad_set(double v) { return (quad){vdupq_n_f64(v), vdupq_n_f64(v)}; }
NORMA_INLINE quad quad_load(const double *p) { return (quad){vld1q_f64(p), vld1q_f64(p + 2)}; }
NORMA_INLINE void quad_store(double *p, quad a) {
  vst1q_f64(p, a.a);
  vst1q_f64(p + 2, a.b);
}
NORMA_INLINE quad quad_floats(const float *p) {
  float32x4_t v = vld1q_f32(p);
  return (quad){vcvt_f64_f32(vget_low_f32(v)), vcvt_high_f64_f32(v)};
}
NORMA_INLINE quad quad_add(quad a, quad b) { return (quad){vaddq_f64(a.a, b.a), vaddq_f64(a.b, b.b)}; }
NORMA_INLINE quad quad_sub(quad a, quad b) { return (quad){vsubq_f64(a.a, b.a), vsubq_f64(a.b, b.b)}; }
NORMA_INLINE quad quad_mul(quad a, quad b) { return (quad){vmulq_f64(a.a, b.a), vmulq_f64(a.b, b.b)}; }
NORMA_INLINE quad quad_exact_fma(quad a, quad b, quad c) {
  return (quad){vfmaq_f64(c.a, a.a, b.a), vfmaq_f64(c.b, a.b, b.b)};
}
NORMA_INLINE quad quad_sums(quad a, quad b, quad c, quad d) {
  return (quad){vaddq_f64(vpaddq_f64(a.a, b.a), vpaddq_f64(a.b, b.b)),
                vaddq_f64(vpaddq_f64(c.a, d.a), vpaddq_f64(c.b, d.b))};
}
NORMA_INLINE void norma_stream_line(void *to, const void *from) { memcpy(to, from, 64); }
NORMA_INLINE void norma_stream_end(void) {}

enum { NORMA_WIDE = 4 };
typedef float32x4_t wide;
NORMA_INLINE wide wide_set(float v) { return vdupq_n_f32(v); }
NORMA_INLINE wide wide_load(const float *p) { return vld1q_f32(p); }
NORMA_INLINE void wide_store(float *p, wide a) { vst1q_f32(p, a); }
NORMA_INLINE void wide_stream(float *p, wide a) { wide_store(p, a); }
NORMA_INLINE wide wide_add(wide a, wide b) { return vaddq_f32(a, b); }
NORMA_INLINE wide wide_sub(wide a, wide b) { return vsubq_f32(a, b); }
NORMA_INLINE wide wide_mul(wide a, wide b) { return vmulq_f32(a, b); }
NORMA_INLINE wide wide_relu(wide a) { return vmaxq_f32(a, vdupq_n_f32(0)); }
NORMA_INLINE wide wide_bad(wide bad, wide v) { return vaddq_f32(bad, vsubq_f32(v, v)); }
NORMA_INLINE bool wide_is_bad(wide bad) { return vminvq_u32(vceqq_f32(bad, bad)) == 0; }

#else /* plain C */

typedef struct quad {
  double v[4];
} quad;
NORMA_INLINE quad quad_set(double v) { return (quad){{v, v, v, v}}; }
NORMA_INLINE quad quad_load(const double *p) { return (quad){{p[0], p[1], p[2], p[3]}}; }
NORMA_INLINE void quad_store(double *p, quad a) { memcpy(p, a.v, sizeof a.v); }
NORMA_INLINE quad quad_floats(const float *p) { return (quad){{p[0], p[1], p[2], p[3]}}; }
NORMA_INLINE quad quad_add(quad a, quad b) {
  for (int i = 0; i < 4; i++) a.v[i] += b.v[i];
  return a;
}
NORMA_INLINE quad quad_sub(quad a, quad b) {
  for (int i = 0; i < 4; i++) a.v[i] -= b.v[i];
  return a;
}
NORMA_INLINE quad quad_mul(quad a, quad b) {
  for (int i = 0; i < 4; i++) a.v[i] *= b.v[i];
  return a;
}
NORMA_INLINE double quad_sum(quad a) { return (a.v[0] + a.v[1]) + (a.v[2] + a.v[3]); }
NORMA_INLINE quad quad_sums(quad a, quad b, quad c, quad d) {
  return (quad){{quad_sum(a), quad_sum(b), quad_sum(c), quad_sum(d)}};
}
NORMA_INLINE void norma_stream_line(void *to, const void *from) { memcpy(to, from, 64); }
NORMA_INLINE void norma_stream_end(void) {}

enum { NORMA_WIDE = 1 };
typedef float wide;
NORMA_INLINE wide wide_set(float v) { return v; }
NORMA_INLINE wide wide_load(const float *p) { return *p; }
NORMA_INLINE void wide_store(float *p, wide a) { *p = a; }
NORMA_INLINE void wide_stream(float *p, wide a) { wide_store(p, a); }
NORMA_INLINE wide wide_add(wide a, wide b) { return a + b; }
NORMA_INLINE wide wide_sub(wide a, wide b) { return a - b; }
NORMA_INLINE wide wide_mul(wide a, wide b) { return a * b; }
NORMA_INLINE wide wide_relu(wide a) { return a > 0 ? a : 0; }
NORMA_INLINE wide wide_bad(wide bad, wide v) { return bad + (v - v); }
NORMA_INLINE bool wide_is_bad(wide bad) { return bad != bad; }
#endif

#if !defined(NORMA_ISA_AVX2) && !defined(NORMA_ISA_AVX512)
#if !defined(NORMA_ISA_NEON)
NORMA_INLINE quad quad_exact_fma(quad a, quad b, quad c) { return quad_add(quad_mul(a, b), c); }
#endif
NORMA_INLINE quad quad_few(const float *p, int n) {
  double v[4] = {0};
  for (int i = 0; i < n; i++) v[i] = p[i];
  return quad_load(v);
}
NORMA_INLINE quad quad_first(quad a, int n) {
  double v[4];
  quad_store(v, a);
  for (int i = n; i < 4; i++) v[i] = 0;
  return quad_load(v);
}
NORMA_INLINE void norma_copy_line(void *to, const void *from) { memcpy(to, from, 64); }
#endif

#if defined(NORMA_ISA_AVX512)
typedef __m512d oct;
NORMA_INLINE oct oct_set(double v) { return _mm512_set1_pd(v); }
NORMA_INLINE oct oct_load(const double *p) { return _mm512_loadu_pd(p); }
NORMA_INLINE void oct_store(double *p, oct a) { _mm512_storeu_pd(p, a); }
NORMA_INLINE oct oct_floats(const float *p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
NORMA_INLINE oct oct_add(oct a, oct b) { return _mm512_add_pd(a, b); }
NORMA_INLINE oct oct_sub(oct a, oct b) { return _mm512_sub_pd(a, b); }
NORMA_INLINE oct oct_mul(oct a, oct b) { return _mm512_mul_pd(a, b); }
NORMA_INLINE oct oct_exact_fma(oct a, oct b, oct c) { return _mm512_fmadd_pd(a, b, c); }
NORMA_INLINE oct oct_few(const float *p, int n) {
  return _mm512_cvtps_pd(_mm256_maskz_loadu_ps((__mmask8)((1u << n) - 1), p));
}
NORMA_INLINE oct oct_first(oct a, int n) { return _mm512_maskz_mov_pd((__mmask8)((1u << n) - 1), a); }
NORMA_INLINE quad oct_low(oct a) { return _mm512_castpd512_pd256(a); }
NORMA_INLINE quad oct_high(oct a) { return _mm512_extractf64x4_pd(a, 1); }
#else
typedef struct oct {
  quad low, high;
} oct;
NORMA_INLINE oct oct_set(double v) { return (oct){quad_set(v), quad_set(v)}; }
NORMA_INLINE oct oct_load(const double *p) { return (oct){quad_load(p), quad_load(p + 4)}; }
NORMA_INLINE void oct_store(double *p, oct a) {
  quad_store(p, a.low);
  quad_store(p + 4, a.high);
}
NORMA_INLINE oct oct_floats(const float *p) { return (oct){quad_floats(p), quad_floats(p + 4)}; }
NORMA_INLINE oct oct_add(oct a, oct b) { return (oct){quad_add(a.low, b.low), quad_add(a.high, b.high)}; }
NORMA_INLINE oct oct_sub(oct a, oct b) { return (oct){quad_sub(a.low, b.low), quad_sub(a.high, b.high)}; }
NORMA_INLINE oct oct_mul(oct a, oct b) { return (oct){quad_mul(a.low, b.low), quad_mul(a.high, b.high)}; }
NORMA_INLINE oct oct_exact_fma(oct a, oct b, oct c) {
  return (oct){quad_exact_fma(a.low, b.low, c.low), quad_exact_fma(a.high, b.high, c.high)};
}
NORMA_INLINE oct oct_few(const float *p, int n) {
  return (oct){n < 4 ? quad_few(p, n) : quad_floats(p), n > 4 ? quad_few(p + 4, n - 4) : quad_set(0)};
}
NORMA_INLINE oct oct_first(oct a, int n) {
  return (oct){n < 4 ? quad_first(a.low, n) : a.low, n > 4 ? quad_first(a.high, n - 4) : quad_set(0)};
}
NORMA_INLINE quad oct_low(oct a) { return a.low; }
NORMA_INLINE quad oct_high(oct a) { return a.high; }
#endif

#endif
