/* Forward and backward: check everything, then statistics, sums, elements. */
#include "kernels/kernels.h"

#include <string.h>

static norma_status check_statistics(const norma_forward_args *a, norma_error *error) {
  if (a->layer->rms && a->given_mean)
    return norma_fail(error, NORMA_BAD_ARGUMENT,
                      "given_mean is set, but the mean of an RMS layer is 0: given_var alone is right");
  if (!a->layer->rms && !a->given_mean != !a->given_var)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "%s is NULL: given_mean and given_var come together",
                      a->given_mean ? "given_var" : "given_mean");
  if (a->given_var && (a->moments || a->sample_moments))
    return norma_fail(error, NORMA_BAD_ARGUMENT, "%s is set, but with given statistics none are taken: NULL is right",
                      a->moments ? "moments" : "sample_moments");
  if (a->given_moments && (a->given_var || a->sample_moments))
    return norma_fail(error, NORMA_BAD_ARGUMENT, "given_moments and %s are both set: one of them is right",
                      a->given_var ? "given_var" : "sample_moments");
  if (!a->given_moments && a->given_samples != 0)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "given_samples is %lld, but given_moments is NULL",
                      (long long)a->given_samples);
  if (a->given_samples < 0)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "given_samples is %lld, must not be negative",
                      (long long)a->given_samples);
  if (a->sample_moments) return norma_check_splits(a->layer, "sample_moments", error);
  return NORMA_OK;
}

/* Statistics of one element, where they are those of x alone. */
static norma_status check_single(const norma_forward_args *a, norma_error *error) {
  bool part = a->given_moments || (a->sample_moments && !a->y);
  if (part || a->given_var || norma_layer_unit_elements(a->layer) != 1) return NORMA_OK;
  if (a->flags & NORMA_REFUSE_SINGLE)
    return norma_fail(error, NORMA_SINGLE_VALUE,
                      "each mean is taken over 1 value, more than 1 is expected when statistics come from the input");
  if (a->ddof == 1)
    return norma_fail(error, NORMA_SINGLE_VALUE, "each variance is taken over 1 value, ddof 1 needs at least 2");
  return NORMA_OK;
}

static norma_status check_fused(const norma_forward_args *a, norma_error *error) {
  bool empty = norma_layer_elements(a->layer) == 0;
  if ((unsigned)a->activation > NORMA_GELU_TANH)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "activation is %d, must be one of norma_activation",
                      (int)a->activation);
  if (a->residual && !a->sum && !empty)
    return norma_fail(error, NORMA_BAD_ARGUMENT,
                      "sum is NULL, but residual is set: their sum is what backward needs as x");
  if (a->sum && !a->residual && !empty)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "sum is set, but residual is NULL: they come together");
  return NORMA_OK;
}

enum { FLAGS = NORMA_EPS_ZERO | NORMA_REFUSE_SINGLE | NORMA_WEIGHT_PLUS_ONE };

/* What the fields say without looking at the arrays. Backward comes here too, as the forward call that it follows. */
static norma_status make_call(const norma_forward_args *a, norma_call *call, norma_error *error) {
  norma_status status = norma_layer_check(a->layer, "layer", error);
  if (!status) status = norma_check_type(a->type, "type", error);
  if (!status) status = norma_check_ddof(a->ddof, "ddof", error);
  if (!status) status = norma_check_flags(a->flags, FLAGS, error);
  if (status) return status;
  const norma_layer *l = a->layer;
  norma_type param = norma_param_type(a->type);
  memset(call, 0, sizeof *call); /* in place: it is large */
  call->layer = l;
  call->type = a->type;
  call->eps = a->eps;
  call->alpha = call->param_scale = 1;
  call->ddof = a->ddof;
  call->threads = a->threads;
  call->activation = a->activation;
  call->given_moments = a->given_moments;
  call->given_samples = a->given_samples;
  call->weight_offset = a->weight && a->flags & NORMA_WEIGHT_PLUS_ONE ? 1 : 0;
  double standard = !l->rms ? 1e-5 : a->type == NORMA_F64 ? 0x1p-52 : 0x1p-23;
  status = norma_resolve_eps(&call->eps, "eps", a->flags & NORMA_EPS_ZERO, standard, error);
  if (!status) status = check_statistics(a, error);
  if (!status) status = check_fused(a, error);
  norma_bind_to(&call->x, l, NORMA_ELEMENTS, a->x, a->type, a->x_strides);
  norma_bind_to(&call->y, l, NORMA_ELEMENTS, a->y, a->type, a->y_strides);
  norma_bind_to(&call->residual, l, NORMA_ELEMENTS, a->residual, a->type, a->residual_strides);
  norma_bind_to(&call->sum, l, NORMA_ELEMENTS, a->sum, a->type, a->sum_strides);
  norma_bind_to(&call->after, l, NORMA_ELEMENTS, a->after, a->type, a->after_strides);
  norma_bind_to(&call->weight, l, NORMA_PARAMS, a->weight, param, a->weight_strides);
  norma_bind_to(&call->bias, l, NORMA_PARAMS, a->bias, param, a->bias_strides);
  norma_bind_to(&call->given_mean, l, NORMA_UNITS, a->given_mean, param, a->given_strides);
  norma_bind_to(&call->given_var, l, NORMA_UNITS, a->given_var, param, a->given_strides);
  norma_bind_to(&call->mean, l, NORMA_UNITS, a->mean, param, NULL);
  norma_bind_to(&call->var, l, NORMA_UNITS, a->var, param, NULL);
  norma_bind_to(&call->rstd, l, NORMA_UNITS, a->rstd, param, NULL);
  return status;
}

/* ------------------------------------------------------------------------------------------------------- arrays --- */

/* Reads every given variance, once it is known that they can be read. */
static norma_status check_variances(const norma_call *call, norma_error *error) {
  if (!call->given_var.data) return NORMA_OK;
  norma_axes units = norma_reduction_make(call->layer, NORMA_UNITS).kept;
  norma_walk walk = norma_walk_make(call->layer, &units, &call->given_var);
  int64_t count = norma_layer_units(call->layer), n;
  for (int64_t first = 0; first < count; first += n) {
    double var[NORMA_BLOCK];
    n = count - first < NORMA_BLOCK ? count - first : NORMA_BLOCK;
    norma_walk_gather(&walk, 0, first, n, var);
    for (int64_t i = 0; i < n; i++)
      if (var[i] < 0)
        return norma_fail(error, NORMA_BAD_ARGUMENT, "given_var[%lld] is %g, a variance must not be negative",
                          (long long)(first + i), var[i]);
  }
  return NORMA_OK;
}

/* An array of structs per unit: its operand counts in structs. */
static norma_argument structs(const char *name, const norma_layer *layer, const void *data, size_t item,
                              norma_role role, norma_operand *operand) {
  operand->data = NULL;
  if (data) norma_bind_to(operand, layer, NORMA_UNITS, data, NORMA_F64, NULL);
  operand->type = NORMA_F64;
  norma_argument argument = norma_array(name, layer, NORMA_UNITS, operand, role);
  argument.item = (int64_t)item;
  return argument;
}

/* The structs of a call, per unit or in tables [samples][units]; NULL where there are none. */
typedef struct records {
  const norma_saved *saved, *saved_in; /* out of forward, into backward */
  const norma_moments *moments, *sample_moments;
  const norma_sums *sample_sums, *given_sums;
  int64_t given_samples;
} records;

/* The arrays of both directions; those that a call does not have are NULL. */
static norma_status check_arrays(const norma_call *call, const records *r, norma_error *error) {
  const norma_layer *l = call->layer;
  norma_operand kept[7];
  norma_layer samples, given; /* large, so filled in only where they are used */
  if (r->sample_moments || r->sample_sums) samples = norma_table(norma_layer_samples(l), l);
  if (call->given_moments || r->given_sums) given = norma_table(r->given_samples, l);
  const norma_argument list[] = {
      norma_array("residual", l, NORMA_ELEMENTS, &call->residual, NORMA_INPUT),
      norma_array("sum", l, NORMA_ELEMENTS, &call->sum, NORMA_IN_PLACE_BOTH),
      norma_array("x", l, NORMA_ELEMENTS, &call->x, NORMA_INPUT),
      norma_array("y", l, NORMA_ELEMENTS, &call->y, NORMA_IN_PLACE_BOTH),
      norma_array("after", l, NORMA_ELEMENTS, &call->after, NORMA_INPUT),
      norma_array("dafter", l, NORMA_ELEMENTS, &call->dafter, NORMA_IN_PLACE_NEXT),
      norma_array("dy", l, NORMA_ELEMENTS, &call->dy, NORMA_INPUT),
      norma_array("dx", l, NORMA_ELEMENTS, &call->dx, NORMA_IN_PLACE_BOTH),
      norma_array("dsum", l, NORMA_ELEMENTS, &call->dsum, NORMA_INPUT),
      norma_array("weight", l, NORMA_PARAMS, &call->weight, NORMA_INPUT),
      norma_array("bias", l, NORMA_PARAMS, &call->bias, NORMA_INPUT),
      norma_array("dweight", l, NORMA_PARAMS, &call->dweight, NORMA_OUTPUT),
      norma_array("dbias", l, NORMA_PARAMS, &call->dbias, NORMA_OUTPUT),
      norma_array("given_mean", l, NORMA_UNITS, &call->given_mean, NORMA_INPUT),
      norma_array("given_var", l, NORMA_UNITS, &call->given_var, NORMA_INPUT),
      norma_array("mean", l, NORMA_UNITS, &call->mean, NORMA_OUTPUT),
      norma_array("var", l, NORMA_UNITS, &call->var, NORMA_OUTPUT),
      norma_array("rstd", l, NORMA_UNITS, &call->rstd, NORMA_OUTPUT),
      structs("saved", l, r->saved, sizeof *r->saved, NORMA_OUTPUT, &kept[0]),
      structs("moments", l, r->moments, sizeof *r->moments, NORMA_OUTPUT, &kept[1]),
      structs("saved", l, r->saved_in, sizeof *r->saved_in, NORMA_INPUT, &kept[2]),
      structs("sample_moments", &samples, r->sample_moments, sizeof *r->sample_moments, NORMA_OUTPUT, &kept[3]),
      structs("given_moments", &given, call->given_moments, sizeof *call->given_moments, NORMA_INPUT, &kept[4]),
      structs("sample_sums", &samples, r->sample_sums, sizeof *r->sample_sums, NORMA_OUTPUT, &kept[5]),
      structs("given_sums", &given, r->given_sums, sizeof *r->given_sums, NORMA_INPUT, &kept[6]),
  };
  const int count = (int)(sizeof list / sizeof *list);
  _Static_assert(sizeof list <= NORMA_MAX_ARGUMENTS * sizeof *list, "norma_check_arguments has room for fewer");
  for (int i = 0; i < count; i++)
    if (list[i].extent == NORMA_PARAMS && list[i].operand->data && !norma_layer_has_affine(l))
      return norma_fail(error, NORMA_BAD_ARGUMENT,
                        "%s is given, but the affine list of the layer is empty: NULL is right", list[i].name);
  norma_status status = norma_check_arguments(list, count, error);
  return status ? status : check_variances(call, error);
}

static norma_status check_present(const norma_operand *tensor, const norma_layer *layer, const char *name,
                                  norma_error *error) {
  if (tensor->data || norma_layer_elements(layer) == 0) return NORMA_OK;
  return norma_fail(error, NORMA_BAD_ARGUMENT, "%s is NULL", name);
}

/* ------------------------------------------------------------------------------------------------------ forward --- */

static norma_status make_forward(const norma_forward_args *args, norma_call *call, norma_error *error) {
  norma_status status = norma_check_args(args, args ? args->size : 0, sizeof *args, "norma_forward_args", error);
  if (!status) status = make_call(args, call, error);
  return status ? status : check_single(args, error);
}

norma_status norma_check_forward(const norma_forward_args *args, norma_call *call, norma_error *error) {
  norma_status status = make_forward(args, call, error);
  if (!status) status = check_present(&call->x, call->layer, "x", error);
  if (status) return status; /* args may be NULL */
  const records r = {.saved = args->saved, .moments = args->moments, .sample_moments = args->sample_moments,
                     .given_samples = args->given_samples};
  status = check_arrays(call, &r, error);
  return status ? status : norma_check_given_moments(call, args->flags & NORMA_REFUSE_SINGLE, error);
}

enum { SAVED_DOUBLES = sizeof(norma_saved) / sizeof(double), PAIR_DOUBLES = sizeof(norma_pair) / sizeof(double) };

static norma_status check_forward_fields(const void *args, norma_error *error) {
  norma_call call;
  return make_forward(args, &call, error);
}

static size_t pass_bytes(const norma_layer *layer) {
  return norma_add_bytes(norma_workspace_bytes(norma_layer_units(layer), SAVED_DOUBLES), norma_column_workspace(layer));
}

static size_t forward_bytes(const norma_forward_args *args) {
  size_t whole = pass_bytes(args->layer), gamma = norma_gamma_bytes(args->layer, args->weight, args->flags);
  if (!args->sample_moments) return norma_add_bytes(whole, gamma);
  norma_layer split = norma_split_layer(args->layer);
  size_t samples = pass_bytes(&split); /* taken before the whole, so that it can have the same memory */
  return norma_add_bytes(samples > whole ? samples : whole, gamma);
}

size_t norma_forward_workspace(const norma_forward_args *args) {
  return norma_run(check_forward_fields, args, NULL) ? 0 : forward_bytes(args);
}

static norma_status forward(const void *arguments, norma_error *error) {
  const norma_forward_args *args = arguments;
  norma_call call;
  norma_workspace workspace;
  norma_status status = norma_check_forward(args, &call, error);
  if (status) return status;
  status = norma_workspace_open(&workspace, args->workspace, args->workspace_size, forward_bytes(args), error);
  if (status) return status;
  if (args->residual && args->sample_moments) norma_add_residual(&call); /* else forward adds */
  norma_saved *own = (norma_saved *)norma_gamma_make(&call, workspace.doubles);
  norma_saved *saved = args->saved ? args->saved : own;
  int64_t units = norma_layer_units(call.layer);
  if (args->sample_moments)
    norma_sample_moments(&call, own, args->sample_moments, own + norma_layer_samples(call.layer) * units);
  bool whole = call.y.data || call.mean.data || call.var.data || call.rstd.data || args->saved || args->moments;
  if (whole || !args->sample_moments) norma_forward_pass(&call, saved, args->moments, own + units);
  norma_workspace_close(&workspace);
  return NORMA_OK;
}

norma_status norma_forward(const norma_forward_args *args, norma_error *error) {
  return norma_run(forward, args, error);
}

/* ----------------------------------------------------------------------------------------------------- backward --- */

/* dx through statistics that are shared with other tensors. */
static norma_status check_shared(const norma_backward_args *a, norma_error *error) {
  const char *name = a->given_sums ? "given_sums" : "sample_sums";
  if (!a->given_sums && a->given_samples != 0)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "given_samples is %lld, but given_sums is NULL",
                      (long long)a->given_samples);
  if (a->given_samples < 0)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "given_samples is %lld, must not be negative",
                      (long long)a->given_samples);
  if (!a->given_sums && !a->sample_sums) return NORMA_OK;
  if (a->given_sums && a->sample_sums)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "given_sums and sample_sums are both set: one of them is right");
  if (a->given_var)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "%s is set, but with given statistics dx needs no sums: NULL is right",
                      name);
  if (!a->saved && a->layer && norma_layer_units(a->layer) > 0)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "%s is set, but saved, of the shared statistics, is NULL", name);
  return NORMA_OK;
}

/* Sums of all parts, those of other tensors too, are weighed by one gamma. */
static bool gamma_changes(const norma_call *call) {
  bool changes = false;
  for (int i = 0; i < call->layer->axis_count; i++) {
    const norma_axis *axis = &call->layer->axes[i];
    bool summed = axis->bits & NORMA_SHARE && axis->bits & NORMA_AFFINE;
    changes = changes || (summed && (axis->dim == 0 || axis->length > 1));
  }
  return changes && call->weight.data;
}

static norma_status check_parts(const norma_call *call, const char *name, norma_error *error) {
  norma_status status = norma_check_splits(call->layer, name, error);
  if (status || !gamma_changes(call)) return status;
  return norma_fail(error, NORMA_BAD_ARGUMENT,
                    "%s is set, but gamma changes within a unit: it must be one number there, as in batch norm", name);
}

static norma_status make_backward(const norma_backward_args *a, norma_call *call, norma_error *error) {
  norma_status status = norma_check_args(a, a ? a->size : 0, sizeof *a, "norma_backward_args", error);
  if (status) return status;
  norma_forward_args forward = {.layer = a->layer, .type = a->type, .x = a->x, .x_strides = a->x_strides};
  forward.weight = a->weight;
  forward.weight_strides = a->weight_strides;
  forward.activation = a->activation;
  if (a->activation) { /* for z; nothing else of backward reads them */
    forward.bias = a->bias;
    forward.bias_strides = a->bias_strides;
    forward.after = a->after;
    forward.after_strides = a->after_strides;
  }
  forward.eps = a->eps;
  forward.ddof = a->ddof;
  forward.flags = a->flags;
  forward.given_mean = a->given_mean;
  forward.given_var = a->given_var;
  forward.given_strides = a->given_strides;
  forward.threads = a->threads;
  bool shared = a->sample_sums || a->given_sums;
  status = check_shared(a, error);
  if (!status) status = make_call(&forward, call, error);
  if (!status && !shared) status = check_single(&forward, error);
  if (!status && shared) status = check_parts(call, a->sample_sums ? "sample_sums" : "given_sums", error);
  if (status) return status;
  norma_type param = norma_param_type(a->type);
  norma_bind_to(&call->dy, a->layer, NORMA_ELEMENTS, a->dy, a->type, a->dy_strides);
  norma_bind_to(&call->dx, a->layer, NORMA_ELEMENTS, a->dx, a->type, a->dx_strides);
  norma_bind_to(&call->dafter, a->layer, NORMA_ELEMENTS, a->dafter, a->type, a->dafter_strides);
  norma_bind_to(&call->dsum, a->layer, NORMA_ELEMENTS, a->dsum, a->type, a->dsum_strides);
  norma_bind_to(&call->dweight, a->layer, NORMA_PARAMS, a->dweight, param, a->dweight_strides);
  norma_bind_to(&call->dbias, a->layer, NORMA_PARAMS, a->dbias, param, a->dbias_strides);
  if (a->saved && a->given_var)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "saved and given_var are both set: saved holds statistics of x");
  if (a->dafter && a->activation && !a->after && norma_layer_elements(a->layer) > 0)
    return norma_fail(error, NORMA_BAD_ARGUMENT,
                      "after is NULL, but dafter is set: through an activation its gradient depends on it");
  return NORMA_OK;
}

norma_status norma_check_backward(const norma_backward_args *args, norma_call *call, norma_error *error) {
  norma_status status = make_backward(args, call, error);
  if (!status) status = check_present(&call->x, call->layer, "x", error);
  if (!status) status = check_present(&call->dy, call->layer, "dy", error);
  if (status) return status; /* args may be NULL */
  const records r = {.saved_in = args->saved, .sample_sums = args->sample_sums, .given_sums = args->given_sums,
                     .given_samples = args->given_samples};
  status = check_arrays(call, &r, error);
  return status ? status : norma_check_given_sums(call, args->given_sums, args->given_samples, error);
}

static norma_status check_backward_fields(const void *args, norma_error *error) {
  norma_call call;
  return make_backward(args, &call, error);
}

static size_t backward_bytes(const norma_backward_args *args) {
  enum { PER_UNIT = SAVED_DOUBLES + PAIR_DOUBLES };
  size_t whole = norma_workspace_bytes(norma_layer_units(args->layer), PER_UNIT);
  size_t scratch = norma_backward_scratch(args->layer);
  whole = norma_add_bytes(whole, norma_gamma_bytes(args->layer, args->weight, args->flags));
  if (!args->sample_sums) return norma_add_bytes(whole, scratch);
  norma_layer split = norma_split_layer(args->layer);
  size_t of_samples = norma_backward_scratch(&split);
  whole = norma_add_bytes(whole, norma_workspace_bytes(norma_layer_units(&split), PER_UNIT));
  return norma_add_bytes(whole, of_samples > scratch ? of_samples : scratch);
}

size_t norma_backward_workspace(const norma_backward_args *args) {
  return norma_run(check_backward_fields, args, NULL) ? 0 : backward_bytes(args);
}

/* The sums of samples out, or in: then dx needs no other. */
static void backward_shared(norma_call *call, const norma_backward_args *args, norma_pair *means, void *scratch) {
  const norma_sums *given = args->given_sums;
  int64_t samples = args->given_samples;
  if (args->sample_sums) {
    samples = norma_layer_samples(call->layer);
    int64_t parts = samples * norma_layer_units(call->layer);
    norma_saved *of_samples = scratch;
    norma_pair *their_means = (norma_pair *)(of_samples + parts);
    norma_sample_sums(call, args->saved, of_samples, their_means, args->sample_sums, their_means + parts);
    given = args->sample_sums;
  }
  norma_means_from_sums(call, given, samples, means);
  call->means_known = true;
  if (call->dx.data || call->dafter.data || call->dweight.data || call->dbias.data)
    norma_backward_pass(call, args->saved, means, scratch);
}

static norma_status backward(const void *arguments, norma_error *error) {
  const norma_backward_args *args = arguments;
  norma_call call;
  norma_workspace workspace;
  norma_status status = norma_check_backward(args, &call, error);
  if (status) return status;
  status = norma_workspace_open(&workspace, args->workspace, args->workspace_size, backward_bytes(args), error);
  if (status) return status;
  int64_t units = norma_layer_units(call.layer);
  norma_saved *own = (norma_saved *)norma_gamma_make(&call, workspace.doubles);
  norma_pair *means = (norma_pair *)(own + units);
  if (!args->saved) norma_forward_pass(&call, own, NULL, means + units); /* there is no y: only the statistics */
  if (args->sample_sums || args->given_sums) backward_shared(&call, args, means, means + units);
  else norma_backward_pass(&call, args->saved ? args->saved : own, means, means + units);
  norma_workspace_close(&workspace);
  return NORMA_OK;
}

norma_status norma_backward(const norma_backward_args *args, norma_error *error) {
  return norma_run(backward, args, error);
}
