/* The functions of libm and CBLAS for the engine's type. */
#ifndef LAB_MATHS_H
#define LAB_MATHS_H

#include <cblas.h>
#include <math.h>

#include "engine.h"

#ifdef LAB_DOUBLE
#define real_exp exp
#define real_tanh tanh
#define REAL_TYPE NORMA_F64
#define REAL_GEMM cblas_dgemm
#else
#define real_exp expf
#define real_tanh tanhf
#define REAL_TYPE NORMA_F32
#define REAL_GEMM cblas_sgemm
#endif

/* c (m x n) = alpha * op(a) (m x k) * op(b) (k x n) + beta * c; rows are `ld` apart. */
static inline void gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, real alpha, const real *a,
                        int64_t lda, const real *b, int64_t ldb, real beta, real *c, int64_t ldc) {
  REAL_GEMM(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, (int)m,
            (int)n, (int)k, alpha, a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

#endif
