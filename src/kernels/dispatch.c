/* Which kernels to use: the best that the processor and the operating system have. NORMA_ISA can only lower it, so that
 * every set can be tested on one machine. All give the same bits. */
#include "vector.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
/* __builtin_cpu_supports asks CPUID, and XGETBV whether the system saves the registers. */
static bool has_avx2(void) {
  unsigned a, b, c = 0, d;
  bool has_f16c = __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C; /* clang 14 lacks "f16c" */
  return has_f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void) {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
#endif

/* What there is, from the plainest to the best. */
static int list_kernels(const norma_kernels *list[4]) {
  int count = 0;
  list[count++] = &norma_kernels_scalar;
#if defined(__x86_64__)
  __builtin_cpu_init();
  list[count++] = &norma_kernels_sse2;
  if (has_avx2()) list[count++] = &norma_kernels_avx2;
  if (has_avx512()) list[count++] = &norma_kernels_avx512;
#elif defined(__aarch64__)
  list[count++] = &norma_kernels_neon;
#endif
  return count;
}

static const norma_kernels *choose(void) {
  const norma_kernels *list[4];
  int count = list_kernels(list);
  const char *most = getenv("NORMA_ISA");
  for (int i = 0; most && i < count; i++)
    if (strcmp(most, list[i]->name) == 0) return list[i];
  return list[count - 1]; /* what is not here, and any other word, changes nothing */
}

/* Chosen at the first call; every thread would choose the same. */
static _Atomic(const norma_kernels *) norma_chosen_kernels;

const norma_kernels *norma_kernels_best(void) {
  const norma_kernels *chosen = atomic_load_explicit(&norma_chosen_kernels, memory_order_relaxed);
  if (!chosen) {
    chosen = choose();
    atomic_store_explicit(&norma_chosen_kernels, chosen, memory_order_relaxed);
  }
  return chosen;
}

const char *norma_isa(void) { return norma_kernels_best()->name; }
