/* 128-bit vectors, which every 64-bit ARM processor has. */
#if defined(__aarch64__)
#define NORMA_ISA_NEON
#define NORMA_TARGET
#include "template.h"

NORMA_KERNELS(norma_kernels_neon, "neon")
#else
#include "internal.h"

typedef int norma_isa_neon_is_elsewhere;
#endif
