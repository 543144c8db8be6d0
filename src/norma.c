/* Forward and backward: check everything, then statistics, sums, elements. */
#include "kernels/kernels.h"

/* The fields that both directions have, so that they are checked once. */
typedef struct common {
  const norma_layer *layer;
  norma_type type;
  double eps;
  int ddof;
  unsigned flags;
  const void *x, *weight, *given_mean, *given_var;
  const int64_t *x_strides, *weight_strides, *given_strides;
  const norma_threads *threads;
} common;

static norma_status check_size(const void *args, size_t size, size_t right, const char *type, norma_error *error) {
  if (!args) return norma_fail(error, NORMA_BAD_ARGUMENT, "args is NULL");
  if (size != right)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "args->size is %zu, must be sizeof(%s) = %zu", size, type, right);
  return NORMA_OK;
}

static norma_status check_given(const common *c, norma_error *error) {
  bool rms = c->layer->rms;
  if (rms && c->given_mean)
    return norma_fail(error, NORMA_BAD_ARGUMENT,
                      "given_mean is set, but the mean of an RMS layer is 0: given_var alone is right");
  if (!rms && !c->given_mean != !c->given_var)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "%s is NULL: given_mean and given_var come together",
                      c->given_mean ? "given_var" : "given_mean");
  if (c->given_var) return NORMA_OK;
  int64_t m = norma_layer_unit_elements(c->layer);
  bool refuse = c->flags & NORMA_REFUSE_SINGLE;
  if (m == 1 && (refuse || c->ddof == 1))
    return norma_fail(
        error, NORMA_SINGLE_VALUE,
        refuse ? "each mean is taken over 1 value, more than 1 is expected when statistics come from the input"
               : "each variance is taken over 1 value, ddof 1 needs at least 2");
  return NORMA_OK;
}

static norma_status check_common(const common *c, norma_call *call, norma_error *error) {
  norma_status status = norma_layer_check(c->layer, "layer", error);
  if (status) return status;
  if (norma_type_size(c->type) == 0)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "type is %d, must be one of norma_type", (int)c->type);
  if (c->ddof != 0 && c->ddof != 1)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "ddof is %d, must be 0 (biased) or 1 (unbiased)", c->ddof);
  norma_type param = norma_param_type(c->type);
  *call = (norma_call){.layer = c->layer,
                       .type = c->type,
                       .eps = c->eps,
                       .alpha = 1,
                       .param_scale = 1,
                       .ddof = c->ddof,
                       .threads = c->threads};
  call->weight_offset = c->weight && c->flags & NORMA_WEIGHT_PLUS_ONE ? 1 : 0;
  double standard = !c->layer->rms ? 1e-5 : c->type == NORMA_F64 ? 0x1p-52 : 0x1p-23;
  status = norma_resolve_eps(&call->eps, "eps", c->flags & NORMA_EPS_ZERO, standard, error);
  if (!status) status = check_given(c, error);
  if (status) return status;
  call->x = norma_bind(c->layer, NORMA_ELEMENTS, c->x, c->type, c->x_strides);
  call->weight = norma_bind(c->layer, NORMA_PARAMS, c->weight, param, c->weight_strides);
  call->given_mean = norma_bind(c->layer, NORMA_UNITS, c->given_mean, param, c->given_strides);
  call->given_var = norma_bind(c->layer, NORMA_UNITS, c->given_var, param, c->given_strides);
  return NORMA_OK;
}

static norma_status check_present(const norma_layer *layer, const void *data, const char *name, norma_error *error) {
  if (data || norma_layer_elements(layer) == 0) return NORMA_OK;
  return norma_fail(error, NORMA_BAD_ARGUMENT, "%s is NULL", name);
}

/* Arrays per gamma need gammas. */
static norma_status check_affine(const norma_layer *layer, const void *data, const char *name, norma_error *error) {
  for (int a = 0; a < layer->axis_count; a++)
    if (layer->axes[a].bits & NORMA_AFFINE) return NORMA_OK;
  if (!data) return NORMA_OK;
  return norma_fail(error, NORMA_BAD_ARGUMENT, "%s is given, but the affine list of the layer is empty: NULL is right",
                    name);
}

/* Reads every given variance, once it is known that they can be read. */
static norma_status check_variances(const norma_call *call, norma_error *error) {
  norma_axes units = {0};
  for (int a = 0; a < call->layer->axis_count; a++)
    if (norma_varies(&call->layer->axes[a], NORMA_UNITS)) units.index[units.count++] = a;
  norma_walk walk = norma_walk_make(call->layer, &units, &call->given_var);
  int64_t count = call->given_var.data ? norma_layer_units(call->layer) : 0;
  for (int64_t u = 0; u < count; u++) {
    double var;
    norma_walk_gather(&walk, 0, u, 1, &var);
    if (var < 0)
      return norma_fail(error, NORMA_BAD_ARGUMENT, "given_var[%lld] is %g, a variance must not be negative",
                        (long long)u, var);
  }
  return NORMA_OK;
}

static norma_argument tensor(const char *name, const norma_operand *operand, norma_extent extent, bool output) {
  return (norma_argument){.name = name,
                          .operand = *operand,
                          .extent = extent,
                          .output = output,
                          .item = (int64_t)norma_type_size(operand->type)};
}

/* An array of structs per unit: its operand counts in structs. */
static norma_argument structs(const norma_layer *layer, const char *name, const void *data, size_t item, bool output) {
  norma_operand operand = norma_bind(layer, NORMA_UNITS, data, NORMA_F64, NULL);
  return (norma_argument){
      .name = name, .operand = operand, .extent = NORMA_UNITS, .output = output, .item = (int64_t)item};
}

/* ------------------------------------------------------------------------------------------------------ forward --- */

static norma_status check_forward(const norma_forward_args *a, norma_call *call, norma_error *error) {
  norma_status status = check_size(a, a ? a->size : 0, sizeof *a, "norma_forward_args", error);
  if (status) return status;
  const common c = {a->layer,  a->type,       a->eps,       a->ddof,      a->flags,          a->x,
                    a->weight, a->given_mean, a->given_var, a->x_strides, a->weight_strides, a->given_strides,
                    a->threads};
  status = check_common(&c, call, error);
  if (status) return status;
  norma_type param = norma_param_type(a->type);
  call->y = norma_bind(a->layer, NORMA_ELEMENTS, a->y, a->type, a->y_strides);
  call->bias = norma_bind(a->layer, NORMA_PARAMS, a->bias, param, a->bias_strides);
  call->mean = norma_bind(a->layer, NORMA_UNITS, a->mean, param, NULL);
  call->var = norma_bind(a->layer, NORMA_UNITS, a->var, param, NULL);
  call->rstd = norma_bind(a->layer, NORMA_UNITS, a->rstd, param, NULL);
  return NORMA_OK;
}

static norma_status check_forward_arrays(const norma_forward_args *a, const norma_call *call, norma_error *error) {
  norma_status status = check_present(a->layer, a->x, "x", error);
  if (!status) status = check_affine(a->layer, a->weight, "weight", error);
  if (!status) status = check_affine(a->layer, a->bias, "bias", error);
  if (!status && a->moments && a->given_var)
    status = norma_fail(error, NORMA_BAD_ARGUMENT,
                        "moments is set, but with given statistics none are taken: NULL is right");
  if (status) return status;
  norma_argument list[] = {
      tensor("x", &call->x, NORMA_ELEMENTS, false),
      tensor("y", &call->y, NORMA_ELEMENTS, true),
      tensor("weight", &call->weight, NORMA_PARAMS, false),
      tensor("bias", &call->bias, NORMA_PARAMS, false),
      tensor("given_mean", &call->given_mean, NORMA_UNITS, false),
      tensor("given_var", &call->given_var, NORMA_UNITS, false),
      tensor("mean", &call->mean, NORMA_UNITS, true),
      tensor("var", &call->var, NORMA_UNITS, true),
      tensor("rstd", &call->rstd, NORMA_UNITS, true),
      structs(a->layer, "saved", a->saved, sizeof *a->saved, true),
      structs(a->layer, "moments", a->moments, sizeof *a->moments, true),
  };
  list[1].in_place_of = 1;
  status = norma_check_arguments(a->layer, list, sizeof list / sizeof *list, error);
  return status ? status : check_variances(call, error);
}

norma_status norma_check_forward(const norma_forward_args *args, norma_call *call, norma_error *error) {
  norma_status status = check_forward(args, call, error);
  return status ? status : check_forward_arrays(args, call, error);
}

enum { SAVED_DOUBLES = sizeof(norma_saved) / sizeof(double), PAIR_DOUBLES = sizeof(norma_pair) / sizeof(double) };

size_t norma_forward_workspace(const norma_forward_args *args) {
  norma_call call;
  if (check_forward(args, &call, NULL)) return 0;
  return norma_workspace_bytes(norma_layer_units(args->layer), SAVED_DOUBLES);
}

norma_status norma_forward(const norma_forward_args *args, norma_error *error) {
  norma_call call;
  norma_workspace workspace;
  norma_status status = norma_check_forward(args, &call, error);
  if (status) return status;
  size_t needed = norma_forward_workspace(args);
  status = norma_workspace_open(&workspace, args->workspace, args->workspace_size, needed, error);
  if (status) return status;
  norma_saved *saved = args->saved ? args->saved : (norma_saved *)workspace.doubles;
  norma_statistics(&call, saved, args->moments);
  if (args->y) norma_apply_forward(&call, saved);
  norma_workspace_close(&workspace);
  return NORMA_OK;
}

/* ----------------------------------------------------------------------------------------------------- backward --- */

static norma_status check_backward(const norma_backward_args *a, norma_call *call, norma_error *error) {
  norma_status status = check_size(a, a ? a->size : 0, sizeof *a, "norma_backward_args", error);
  if (status) return status;
  const common c = {a->layer,  a->type,       a->eps,       a->ddof,      a->flags,          a->x,
                    a->weight, a->given_mean, a->given_var, a->x_strides, a->weight_strides, a->given_strides,
                    a->threads};
  status = check_common(&c, call, error);
  if (status) return status;
  call->dy = norma_bind(a->layer, NORMA_ELEMENTS, a->dy, a->type, a->dy_strides);
  call->dx = norma_bind(a->layer, NORMA_ELEMENTS, a->dx, a->type, a->dx_strides);
  norma_type param = norma_param_type(a->type);
  call->dweight = norma_bind(a->layer, NORMA_PARAMS, a->dweight, param, a->dweight_strides);
  call->dbias = norma_bind(a->layer, NORMA_PARAMS, a->dbias, param, a->dbias_strides);
  if (a->saved && a->given_var)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "saved and given_var are both set: saved holds statistics of x");
  return NORMA_OK;
}

static norma_status check_backward_arrays(const norma_backward_args *a, const norma_call *call, norma_error *error) {
  norma_status status = check_present(a->layer, a->x, "x", error);
  if (!status) status = check_present(a->layer, a->dy, "dy", error);
  if (!status) status = check_affine(a->layer, a->weight, "weight", error);
  if (!status) status = check_affine(a->layer, a->dweight, "dweight", error);
  if (!status) status = check_affine(a->layer, a->dbias, "dbias", error);
  if (status) return status;
  norma_argument list[] = {
      tensor("x", &call->x, NORMA_ELEMENTS, false),
      tensor("dy", &call->dy, NORMA_ELEMENTS, false),
      tensor("dx", &call->dx, NORMA_ELEMENTS, true),
      tensor("weight", &call->weight, NORMA_PARAMS, false),
      tensor("given_mean", &call->given_mean, NORMA_UNITS, false),
      tensor("given_var", &call->given_var, NORMA_UNITS, false),
      tensor("dweight", &call->dweight, NORMA_PARAMS, true),
      tensor("dbias", &call->dbias, NORMA_PARAMS, true),
      structs(a->layer, "saved", a->saved, sizeof *a->saved, false),
  };
  list[2].in_place_of = 2;
  status = norma_check_arguments(a->layer, list, sizeof list / sizeof *list, error);
  return status ? status : check_variances(call, error);
}

norma_status norma_check_backward(const norma_backward_args *args, norma_call *call, norma_error *error) {
  norma_status status = check_backward(args, call, error);
  return status ? status : check_backward_arrays(args, call, error);
}

size_t norma_backward_workspace(const norma_backward_args *args) {
  norma_call call;
  if (check_backward(args, &call, NULL)) return 0;
  return norma_workspace_bytes(norma_layer_units(args->layer), SAVED_DOUBLES + PAIR_DOUBLES);
}

norma_status norma_backward(const norma_backward_args *args, norma_error *error) {
  norma_call call;
  norma_workspace workspace;
  norma_status status = norma_check_backward(args, &call, error);
  if (status) return status;
  size_t needed = norma_backward_workspace(args);
  status = norma_workspace_open(&workspace, args->workspace, args->workspace_size, needed, error);
  if (status) return status;
  norma_saved *own = (norma_saved *)workspace.doubles;
  const norma_saved *saved = args->saved ? args->saved : own;
  if (!args->saved) norma_statistics(&call, own, NULL);
  norma_param_gradients(&call, saved);
  if (args->dx) { /* last: dx may be dy */
    norma_pair *means = args->given_var ? NULL : (norma_pair *)(own + norma_layer_units(args->layer));
    if (means) norma_unit_gradients(&call, saved, means);
    norma_apply_backward(&call, saved, means);
  }
  norma_workspace_close(&workspace);
  return NORMA_OK;
}
