/* Plain C: every processor has these. */
#define NORMA_ISA_SCALAR
#define NORMA_TARGET
#include "template.h"

NORMA_KERNELS(norma_kernels_scalar, "scalar")
