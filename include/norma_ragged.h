/*
 * norma_ragged.h: norma_forward and norma_backward on batches whose samples are not equally long. Some positions of the
 * tensors are padding: they take no part in any mean, variance or gradient, whatever stands there, NaN and Inf
 * included. Which ones, say lengths along one dimension, or a mask.
 *
 *     int64_t lengths[2] = {7, 4};                                x has shape {2, c, 9}
 *     norma_ragged ragged = {sizeof ragged, 2, lengths};          dimension 2, padded after 7 and after 4 positions
 *     norma_ragged_forward(&args, &ragged, &error);               args as for norma_forward
 *
 * THE RESULT is that of norma.h on the valid positions alone:
 *
 *     units within a sample      (instance, group, layer and RMS norm over positions) y and dx of each sample, and its
 *                                mean, var, rstd, saved and moments, have the bits of a call on that sample, cut
 *     units at one position      (layer norm over the features of a token) those bits, too: of the valid rows
 *     units across samples       (batch norm) the moments of the cut samples, merged in their order (sample_moments and
 *                                given_moments of norma.h); where all lengths are equal, the bits of batch norm on the
 *                                cut tensor
 *     dweight, dbias             the sums over the samples cut to the longest length, in the order of docs/accuracy.md,
 *                                where dy * xhat and dy of padding count as 0; where all lengths are equal, the bits
 *                                of a call on the cut tensor
 *     a sample of length 0       has no unit: its mean, var and rstd are written as those of 0 elements, its moments
 *                                have count 0. If all are empty, nothing is: moments of count 0 update nothing
 *
 * One position per sample is the case where the last two lines of norma.h's order differ: (n, c, 1) with equal lengths
 * is the tensor (n, c), which is summed along n at once; with lengths 0 and 1 samples merge one after the other.
 *
 * PADDING is outside the function: y there is 0, or act(beta) with NORMA_PAD_BETA (`after` is not added); dx and dafter
 * there are 0, dy and dsum there are not read, sum there is 0. So beta's gradient has no part of padding, even where
 * y there is beta. Units that lie in padding have mean, var, rstd, saved and moments of zeros.
 *
 * A MASK is any pattern of valid positions; those of a sample are taken together in the order of the shape, and the
 * result of the lengths that this gives is put back. So a mask of lengths has the bits of lengths, and every mask stays
 * within the bounds of norma.h.
 */
#ifndef NORMA_RAGGED_H
#define NORMA_RAGGED_H

#include <norma.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum norma_padding {
  NORMA_PAD_ZERO = 0, /* y is 0 at padding */
  NORMA_PAD_BETA = 1  /* y is act(beta) there, as that of a constant unit; 0 without a bias */
} norma_padding;

/* What is valid: lengths or a mask, one of them. Neither is changed, nor may it overlap an output. */
typedef struct norma_ragged {
  size_t size;                 /* sizeof(norma_ragged) */
  int dim;                     /* with lengths: the dimension that they cut, 1 or more */
  const int64_t *lengths;      /* [shape[0]], each 0 to shape[dim] */
  const uint8_t *mask;         /* 0: padding, else valid */
  const int64_t *mask_strides; /* in bytes, one per dimension; 0 along dimensions that the mask does not have: a mask
                                  [n][h][w] of {n,c,h,w} has {h * w, 0, w, 1} */
  norma_padding padding;
} norma_ragged;

/*
 * As norma_forward and norma_backward, with the same arguments; sample_moments, given_moments, sample_sums and
 * given_sums must be NULL. Workspaces are allocated; the one in args is not used.
 *
 * Lengths may cut a dimension that is not split into axes; where units span samples they must span that dimension, too.
 * The dimensions of a mask, but for dimension 0, must be neighbours that are not split, all of them inside units or
 * none, and gamma must not change along them (with lengths it may; then a unit with NaN in it makes the gradient of all
 * its gammas NaN). Backward takes `saved` from norma_ragged_forward, or NULL.
 *
 * Errors as norma_forward; nothing is written, but for NORMA_NO_MEMORY. NORMA_REFUSE_SINGLE speaks of valid elements.
 */
NORMA_API norma_status norma_ragged_forward(const norma_forward_args *args, const norma_ragged *ragged,
                                            norma_error *error);
NORMA_API norma_status norma_ragged_backward(const norma_backward_args *args, const norma_ragged *ragged,
                                             norma_error *error);

#ifdef __cplusplus
}
#endif

#endif
