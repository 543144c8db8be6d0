/* What all files of the room share: how a call is refused. */
#ifndef NORMA_BATCH_BATCH_H
#define NORMA_BATCH_BATCH_H

#include "norma.h"

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "norma needs IEEE arithmetic: compile without -ffast-math, -Ofast and -ffinite-math-only"
#endif

/* Fills *error, if there is one, and returns status. */
norma_status norma_batch_fail(norma_error *error, norma_status status, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;

#endif
