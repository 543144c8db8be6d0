/* The vectors that every x86-64 processor has. */
#if defined(__x86_64__)
#define NORMA_ISA_SSE2
#define NORMA_TARGET
#include "template.h"

NORMA_KERNELS(norma_kernels_sse2, "sse2")
#else
#include "internal.h"

typedef int norma_isa_sse2_is_elsewhere;
#endif
