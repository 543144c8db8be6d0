/* What the reference says of a residual and an activation (reference_fused.c). */
#ifndef NORMA_REFERENCE_H
#define NORMA_REFERENCE_H

#include "internal.h"

typedef long double norma_real;

/* x + residual, rounded to the type as norma.h says. */
double norma_reference_sum(norma_type type, double x, double residual);
/* The activation and its derivative, exact to long double; the derivative ends in zeros where the library's does. */
norma_real norma_reference_activation(norma_activation activation, norma_real z);
norma_real norma_reference_slope(norma_activation activation, norma_type type, norma_real z);
/* How far off each may be where z is known to `bound` only, before a rounding to 16 bits. */
norma_real norma_reference_activation_error(norma_activation activation, norma_type type, norma_real z,
                                            norma_real bound);
norma_real norma_reference_slope_error(norma_activation activation, norma_type type, norma_real z, norma_real bound);

#endif
