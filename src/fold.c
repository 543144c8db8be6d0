/* A norm with given statistics folded into the linear operator before it. */
#include "kernels/kernels.h"

/* Foldable means: one mean and at most one gamma per channel, dimension 1, whatever the sample and the position. */
static norma_status check_layer(const norma_layer *layer, int64_t *channels, norma_error *error) {
  norma_status status = norma_layer_check(layer, "layer", error);
  if (status) return status;
  char pattern[512] = "";
  bool given = !layer->rms, plain = true;
  *channels = 1;
  for (int a = 0; a < layer->axis_count; a++) {
    const norma_axis *axis = &layer->axes[a];
    bool channel = axis->dim == 1;
    given = given && norma_varies(axis, NORMA_UNITS) == channel;
    plain = plain && (channel || !(axis->bits & NORMA_AFFINE));
    if (channel) *channels *= axis->length;
  }
  if (given && plain) return NORMA_OK;
  norma_layer_format(layer, pattern, sizeof pattern, NULL, 0, NULL);
  return norma_fail(error, NORMA_NOT_FOLDABLE, "%s '%.120s' %s: batch norm with given statistics folds",
                    layer->rms ? "RMS norm" : "layer", pattern,
                    given ? "has another gamma along other axes than the channels"
                          : "takes statistics from each input, or not one per channel");
}

static norma_status check_operator(const norma_fold_args *a, int64_t channels, norma_error *error) {
  int64_t groups = a->groups ? a->groups : 1;
  if (a->op == NORMA_SCALE_SHIFT) return NORMA_OK;
  if ((unsigned)a->op > NORMA_CONV_TRANSPOSE)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "op is %d, must be one of norma_operator", (int)a->op);
  norma_status status = norma_check_type(a->op_type, "op_type", error);
  if (status) return status;
  if (a->out_channels != channels)
    return norma_fail(error, NORMA_BAD_SHAPE, "out_channels is %lld, the layer has %lld channels",
                      (long long)a->out_channels, (long long)channels);
  if (groups < 1 || a->in_channels < 0 || a->kernel_elements < 0)
    return norma_fail(error, NORMA_BAD_SHAPE,
                      "groups is %lld, in_channels %lld, kernel_elements %lld: none may be negative", (long long)groups,
                      (long long)a->in_channels, (long long)a->kernel_elements);
  if (a->op == NORMA_LINEAR && (groups > 1 || a->kernel_elements > 1))
    return norma_fail(error, NORMA_BAD_SHAPE,
                      "a linear operator has no groups and no kernel, groups is %lld, kernel_elements %lld",
                      (long long)groups, (long long)a->kernel_elements);
  if (a->in_channels % groups != 0 || channels % groups != 0)
    return norma_fail(error, NORMA_BAD_SHAPE,
                      "groups is %lld, which does not divide %lld input and %lld output channels", (long long)groups,
                      (long long)a->in_channels, (long long)channels);
  int64_t kernel = a->kernel_elements ? a->kernel_elements : 1;
  if (channels > 0 && a->in_channels > PTRDIFF_MAX / 8 / channels / kernel)
    return norma_fail(error, NORMA_BAD_SHAPE, "%lld x %lld channels with %lld kernel elements overflow",
                      (long long)a->in_channels, (long long)channels, (long long)kernel);
  if (!a->weight || !a->folded_weight || !a->folded_bias)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "%s is NULL",
                      !a->weight          ? "weight"
                      : !a->folded_weight ? "folded_weight"
                                          : "folded_bias");
  return NORMA_OK;
}

/* One dense array of n elements, as a layer of one axis and an argument on it. */
static norma_argument dense(norma_layer *layer, norma_operand *operand, const char *name, const void *data,
                            norma_type type, int64_t n, norma_role role) {
  norma_layer_norm(layer, 1, 1, &n, NULL);
  *operand = norma_bind(layer, NORMA_ELEMENTS, data, type, NULL);
  return norma_array(name, layer, NORMA_ELEMENTS, operand, role);
}

static norma_status check_arrays(const norma_fold_args *a, int64_t channels, norma_error *error) {
  norma_layer c, w;
  norma_operand o[10];
  bool op = a->op != NORMA_SCALE_SHIFT;
  int64_t weights = op ? norma_fold_weight_count(a) : 0;
  const norma_argument list[] = {
      dense(&c, &o[0], "mean", a->mean, a->type, channels, NORMA_INPUT),
      dense(&c, &o[1], "var", a->var, a->type, channels, NORMA_INPUT),
      dense(&c, &o[2], "gamma", a->gamma, a->type, channels, NORMA_INPUT),
      dense(&c, &o[3], "beta", a->beta, a->type, channels, NORMA_INPUT),
      dense(&c, &o[4], "scale", a->scale, NORMA_F64, channels, NORMA_OUTPUT),
      dense(&c, &o[5], "shift", a->shift, NORMA_F64, channels, NORMA_OUTPUT),
      dense(&c, &o[6], "bias", a->bias, a->op_type, channels, NORMA_INPUT),
      dense(&c, &o[7], "folded_bias", a->folded_bias, a->op_type, channels, NORMA_IN_PLACE),
      dense(&w, &o[8], "weight", a->weight, a->op_type, weights, NORMA_INPUT),
      dense(&w, &o[9], "folded_weight", a->folded_weight, a->op_type, weights, NORMA_IN_PLACE),
  };
  return norma_check_arguments(list, op ? 10 : 6, error);
}

static norma_status fold(const void *arguments, norma_error *error) {
  const norma_fold_args *a = arguments;
  int64_t channels = 0;
  norma_status status = norma_check_args(a, a ? a->size : 0, sizeof *a, "norma_fold_args", error);
  if (status) return status;
  double eps = a->eps;
  status = norma_check_flags(a->flags, NORMA_EPS_ZERO | NORMA_WEIGHT_PLUS_ONE, error);
  if (!status) status = norma_resolve_eps(&eps, "eps", a->flags & NORMA_EPS_ZERO, 1e-5, error);
  if (!status) status = check_layer(a->layer, &channels, error);
  if (!status) status = check_operator(a, channels, error);
  if (status) return status;
  if (a->type != NORMA_F32 && a->type != NORMA_F64)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "type is %d (%s), statistics and parameters are f32 or f64",
                      (int)a->type, norma_type_name(a->type));
  if (channels > 0 && (!a->mean || !a->var))
    return norma_fail(error, NORMA_NOT_FOLDABLE, "%s is NULL: without given statistics the layer depends on each input",
                      a->mean ? "var" : "mean");
  status = check_arrays(a, channels, error);
  for (int64_t c = 0; !status && c < channels; c++)
    if (norma_load_one(a->type, a->var, c, 0) < 0)
      status = norma_fail(error, NORMA_BAD_ARGUMENT, "var[%lld] is %g, a variance must not be negative", (long long)c,
                          norma_load_one(a->type, a->var, c, 0));
  if (!status) norma_fold_channels(a, eps, channels);
  return status;
}

norma_status norma_fold(const norma_fold_args *args, norma_error *error) { return norma_run(fold, args, error); }
