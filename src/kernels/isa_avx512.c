/* 512-bit vectors, with 32 registers. */
#if defined(__x86_64__)
#define NORMA_ISA_AVX512
#define NORMA_TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,f16c,fma")))
#include "template.h"

NORMA_KERNELS(norma_kernels_avx512, "avx512")
#else
#include "internal.h"

typedef int norma_isa_avx512_is_elsewhere;
#endif
