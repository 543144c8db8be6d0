/* The floating-point control register of this thread: round to nearest, no flush-to-zero, while a call computes. */
#ifndef NORMA_FLOAT_ENV_H
#define NORMA_FLOAT_ENV_H

#if defined(__x86_64__) || defined(__SSE2__)
#include <xmmintrin.h>

typedef unsigned norma_float_env;

/* 0x1f80: all exceptions masked, round to nearest, flush-to-zero and denormals-are-zero off. */
static inline norma_float_env norma_float_enter(void) {
  norma_float_env before = _mm_getcsr();
  _mm_setcsr(0x1f80);
  return before;
}

/* The caller's register comes back bit for bit: our exceptions leave no flags in it. */
static inline void norma_float_leave(norma_float_env before) { _mm_setcsr(before); }

#elif defined(__aarch64__)
#include <stdint.h>

typedef struct norma_float_env {
  uint64_t control, status;
} norma_float_env;

/* FPCR 0: round to nearest, no flush-to-zero, NaNs propagate, no traps. */
static inline norma_float_env norma_float_enter(void) {
  norma_float_env before;
  __asm__ volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(before.control), "=r"(before.status));
  __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0) : "memory");
  return before;
}

static inline void norma_float_leave(norma_float_env before) {
  __asm__ volatile("msr fpcr, %0\n\tmsr fpsr, %1" : : "r"(before.control), "r"(before.status) : "memory");
}

#else
#include <fenv.h>

/* Elsewhere the standard reaches the rounding mode, traps and flags, but no flush-to-zero bit. */
typedef fenv_t norma_float_env;

static inline norma_float_env norma_float_enter(void) {
  norma_float_env before;
  feholdexcept(&before);
  fesetround(FE_TONEAREST);
  return before;
}

static inline void norma_float_leave(norma_float_env before) { fesetenv(&before); }

#endif
#endif
