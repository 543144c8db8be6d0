/* 256-bit vectors; F16C for the conversions of float16; FMA only where a product is exact, because a fused operation
 * rounds once less. */
#if defined(__x86_64__)
#define NORMA_ISA_AVX2
#define NORMA_TARGET __attribute__((target("avx2,f16c,fma")))
#include "template.h"

NORMA_KERNELS(norma_kernels_avx2, "avx2")
#else
#include "internal.h"

typedef int norma_isa_avx2_is_elsewhere;
#endif
