/* The arithmetic of a fold: scale and shift of every channel, and the weights they go into. */
#include "kernels.h"

#include <math.h>

static void scale_and_shift(const norma_fold_args *a, double eps, int64_t c, double *scale, double *shift) {
  double v = norma_load_one(a->type, a->var, c, 0) + eps;
  double gamma = norma_load_one(a->type, a->gamma, c, 1) + (a->gamma && a->flags & NORMA_WEIGHT_PLUS_ONE ? 1 : 0);
  *scale = v == 0 ? 0 : gamma / sqrt(v);
  *shift = norma_load_one(a->type, a->beta, c, 0) - norma_load_one(a->type, a->mean, c, 0) * *scale;
}

/* weight[i] of a convolution belongs to output channel i / (in/groups * kernel); a transposed one counts its input
 * channels outside and, inside, the output channels of that input's group. */
static int64_t output_channel(const norma_fold_args *a, int64_t groups, int64_t kernel, int64_t i) {
  if (a->op != NORMA_CONV_TRANSPOSE) return i / (a->in_channels / groups * kernel);
  int64_t per_group = a->out_channels / groups, input = i / (per_group * kernel);
  return input / (a->in_channels / groups) * per_group + i / kernel % per_group;
}

int64_t norma_fold_weight_count(const norma_fold_args *a) {
  int64_t groups = a->groups ? a->groups : 1, kernel = a->kernel_elements ? a->kernel_elements : 1;
  return a->op == NORMA_CONV_TRANSPOSE ? a->in_channels * (a->out_channels / groups) * kernel
                                       : a->out_channels * (a->in_channels / groups) * kernel;
}

static void fold_operator(const norma_fold_args *a, double eps, int64_t channels) {
  int64_t groups = a->groups ? a->groups : 1, kernel = a->kernel_elements ? a->kernel_elements : 1;
  int64_t count = norma_fold_weight_count(a);
  double scale = 0, shift;
  for (int64_t i = 0, last = -1; i < count; i++) {
    int64_t c = output_channel(a, groups, kernel, i);
    if (c != last) scale_and_shift(a, eps, c, &scale, &shift);
    last = c;
    norma_store_one(a->op_type, a->folded_weight, i, norma_load_one(a->op_type, a->weight, i, 0) * scale);
  }
  for (int64_t c = 0; c < channels; c++) {
    scale_and_shift(a, eps, c, &scale, &shift);
    norma_store_one(a->op_type, a->folded_bias, c, norma_load_one(a->op_type, a->bias, c, 0) * scale + shift);
  }
}

void norma_fold_channels(const norma_fold_args *a, double eps, int64_t channels) {
  for (int64_t c = 0; c < channels; c++) {
    double scale, shift;
    scale_and_shift(a, eps, c, &scale, &shift);
    norma_store_one(NORMA_F64, a->scale, c, scale);
    norma_store_one(NORMA_F64, a->shift, c, shift);
  }
  if (a->op != NORMA_SCALE_SHIFT) fold_operator(a, eps, channels);
}
