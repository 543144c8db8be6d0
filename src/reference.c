/* The definition, in plain loops and long double: every formula as norma.h states it, in the order of the elements. */
#include "reference.h"

#include "kernels/float_env.h"
#include "kernels/kernels.h"

#include <fenv.h>
#include <math.h>
#include <stdlib.h>

typedef norma_real real;

/* The mean is first + mean: x - first is small and nearly exact, whatever the offset of the data. */
typedef struct unit {
  real count, first, mean, var, rstd;
  real sum_q, sum_q_xhat;
  real doubt_q, doubt_q_xhat; /* how far off the two may be because dz is */
  real sigma, shift;          /* of the style, in AdaIN: they multiply gamma and add to beta */
} unit;

/* Where item i of those that vary with `extent` lies in an array: its index along each axis times that axis' stride. */
static int64_t place(const norma_layer *layer, norma_extent extent, const int64_t stride[], int64_t i) {
  int64_t offset = 0;
  for (int a = layer->axis_count - 1; a >= 0; a--) {
    if (!norma_varies(&layer->axes[a], extent)) continue;
    offset += i % layer->axes[a].length * stride[a];
    i /= layer->axes[a].length;
  }
  return offset;
}

static real read_along(const norma_layer *layer, norma_extent extent, const norma_operand *from, int64_t i,
                       double absent) {
  return norma_load_one(from->type, from->data, place(layer, extent, from->stride, i), absent);
}

/* What element i of the tensor finds in an array. */
static real read(const norma_layer *layer, const norma_operand *from, int64_t i, double absent) {
  return read_along(layer, NORMA_ELEMENTS, from, i, absent);
}

static int64_t index_of(const norma_layer *layer, norma_extent extent, int64_t i) {
  norma_operand dense = norma_bind(layer, extent, layer, NORMA_F64, NULL); /* for its strides */
  return place(layer, NORMA_ELEMENTS, dense.stride, i);
}

static unit *unit_of(const norma_call *call, unit *units, int64_t i) {
  return &units[index_of(call->layer, NORMA_UNITS, i)];
}

/* The input, or its sum with the residual as the library rounds it. */
static real x_of(const norma_call *call, int64_t i) {
  real x = read(call->layer, &call->x, i, 0);
  if (!call->residual.data) return x;
  return norma_reference_sum(call->type, (double)x, (double)read(call->layer, &call->residual, i, 0));
}

static real xhat_of(const norma_call *call, const unit *u, int64_t i) {
  return ((x_of(call, i) - u->first) - u->mean) * u->rstd;
}

static real gamma_of(const norma_call *call, const unit *u, int64_t i) {
  return (read(call->layer, &call->weight, i, 1) + (real)call->weight_offset) * u->sigma;
}

static void take_given(const norma_call *call, unit *units, int64_t count) {
  for (int64_t k = 0; k < count; k++) {
    units[k].first = read_along(call->layer, NORMA_UNITS, &call->given_mean, k, 0);
    units[k].var = read_along(call->layer, NORMA_UNITS, &call->given_var, k, 0);
  }
}

static void take_from_input(const norma_call *call, unit *units, int64_t elements) {
  bool rms = call->layer->rms;
  for (int64_t i = elements - 1; i >= 0; i--) {
    unit *u = unit_of(call, units, i);
    u->count++;
    u->first = rms ? 0 : x_of(call, i);
  }
  for (int pass = 0; pass < 2 && !rms; pass++) { /* the second pass corrects the rounding of the first */
    for (int64_t i = 0; i < elements; i++) {
      unit *u = unit_of(call, units, i);
      u->sum_q += (x_of(call, i) - u->first) - u->mean;
    }
    for (int64_t k = 0; k < norma_layer_units(call->layer); k++) {
      if (units[k].count > 0) units[k].mean += units[k].sum_q / units[k].count;
      units[k].sum_q = 0;
    }
  }
  for (int64_t i = 0; i < elements; i++) {
    unit *u = unit_of(call, units, i);
    real d = (x_of(call, i) - u->first) - u->mean;
    u->var += d * d / (u->count - call->ddof);
  }
}

/* The statistics of every unit; NULL if there is no memory for them. */
static unit *measure(const norma_call *call) {
  int64_t elements = norma_layer_elements(call->layer), count = norma_layer_units(call->layer);
  unit *units = calloc(count > 0 ? (size_t)count : 1, sizeof *units);
  if (!units) return NULL;
  bool given = call->given_var.data;
  if (given) take_given(call, units, count);
  else take_from_input(call, units, elements);
  for (int64_t k = 0; k < count; k++) {
    real v = units[k].var + (real)call->eps;
    units[k].rstd = v == 0 ? 0 : 1 / sqrtl(v);
    units[k].sigma = 1;
    if (!given && !isfinite(units[k].var)) units[k].mean = units[k].var = units[k].rstd = NAN;
  }
  return units;
}

/* ------------------------------------------------------------------------------------------------- what is allowed */

/* The error of rounding once to the type, beyond float32 and float64, whose bounds include it. */
static real rounding(norma_type type, real value) {
  return type == NORMA_F16 ? 0x1p-11L * value + 0x1p-25L : type == NORMA_BF16 ? 0x1p-8L * value + 0x1p-134L : 0;
}

/* y before the activation: what it is made of, itself, and its error before a rounding to 16 bits. */
typedef struct before {
  real gamma, xhat, beta, other; /* other: the part of x that alpha blends in */
  real z, size, bound;           /* size: the sum of the absolute values of its parts */
} before;

static before before_activation(const norma_call *call, const unit *u, int64_t i) {
  before b = {.gamma = gamma_of(call, u, i), .xhat = xhat_of(call, u, i)};
  real alpha = (real)call->alpha, after = read(call->layer, &call->after, i, 0);
  b.beta = read(call->layer, &call->bias, i, 0) + u->shift;
  b.other = alpha == 1 ? 0 : (1 - alpha) * x_of(call, i);
  b.z = alpha * (b.xhat * b.gamma + b.beta) + b.other + after;
  real mean = (u->first + u->mean) * u->rstd, size = fabsl(b.other) + fabsl(after);
  alpha = fabsl(alpha);
  b.size = alpha * (fabsl(b.gamma * b.xhat) + fabsl(b.beta)) + size;
  b.bound = call->type == NORMA_F64 ? 1e-14L * (b.size + alpha * fabsl(b.gamma)) + 1e-305L
                                    : 5e-7L * b.size + 1e-14L * alpha * fabsl(b.gamma) * (1 + fabsl(mean)) + 1e-37L;
  return b;
}

static real y_bound(const norma_call *call, const before *b) {
  if (!call->activation) return b->bound + rounding(call->type, b->size + b->bound);
  real bound = norma_reference_activation_error(call->activation, call->type, b->z, b->bound);
  return bound + rounding(call->type, fabsl(norma_reference_activation(call->activation, b->z)) + bound);
}

/* dz, the gradient before the activation, and how far off it may be. */
static real dz_of(const norma_call *call, const unit *u, int64_t i, real *doubt) {
  real dy = read(call->layer, &call->dy, i, 0);
  *doubt = 0;
  if (!call->activation) return dy;
  before b = before_activation(call, u, i);
  /* z is 0 without any doubt where nothing was rounded: norma.h promises so for constant units. */
  bool exact = u->var == 0 || call->given_var.data || call->layer->rms || b.gamma == 0;
  if (b.size == 0 && exact) b.bound = 0;
  real error = norma_reference_slope_error(call->activation, call->type, b.z, b.bound);
  *doubt = error == 0 ? 0 : fabsl(dy) * error;
  return dy * norma_reference_slope(call->activation, call->type, b.z);
}

static real larger(real a, real b) { return fabsl(b) > a ? fabsl(b) : a; }

/* Gradients of one tensor share a bound, made of its largest gradient and the largest term that went into it; bound[i]
 * holds what an activation adds to that. dx, which is a difference of float32 terms, may err by more of the latter. */
static void put_gradient_bounds(norma_type type, const double *gradient, double *bound, int64_t n, real largest_term,
                                real of_term) {
  real largest = 0;
  if (!gradient || !bound) return;
  for (int64_t i = 0; i < n; i++) largest = larger(largest, gradient[i]);
  real all = 1e-5L * largest + of_term * largest_term + 1e-37L;
  if (type == NORMA_F64) all = 1e-12L * (largest + largest_term) + 1e-305L;
  for (int64_t i = 0; i < n; i++) {
    real own = all + bound[i];
    bound[i] = (double)(own + rounding(type, fabsl((real)gradient[i]) + own));
  }
}

/* --------------------------------------------------------------------------------------------------------- forward */

static void forward(const norma_call *call, unit *units, const norma_reference *out) {
  for (int64_t i = 0; i < norma_layer_elements(call->layer); i++) {
    before b = before_activation(call, unit_of(call, units, i), i);
    if (out->y) out->y[i] = (double)norma_reference_activation(call->activation, b.z);
    if (out->y_bound) out->y_bound[i] = (double)y_bound(call, &b);
    if (out->sum && call->residual.data) out->sum[i] = (double)x_of(call, i);
  }
  for (int64_t k = 0; k < norma_layer_units(call->layer); k++) {
    if (out->mean) out->mean[k] = (double)(units[k].first + units[k].mean);
    if (out->var) out->var[k] = (double)units[k].var;
    if (out->rstd) out->rstd[k] = (double)units[k].rstd;
  }
}

/* ------------------------------------------------------------------------------------------------------- backward */

/* The sums over each gamma, and their doubts. */
typedef struct param_sums {
  real dweight, dbias, doubt_dweight, doubt_dbias;
} param_sums;

/* The sums over each unit and each gamma. Their addends are the terms that bounds speak of. */
static void sum_gradients(const norma_call *call, unit *units, param_sums *params, real largest[2]) {
  for (int64_t i = 0; i < norma_layer_elements(call->layer); i++) {
    unit *u = unit_of(call, units, i);
    real doubt, dz = dz_of(call, u, i, &doubt), gamma = gamma_of(call, u, i), xhat = xhat_of(call, u, i);
    param_sums *sums = &params[index_of(call->layer, NORMA_PARAMS, i)];
    u->sum_q += dz * gamma;
    u->sum_q_xhat += dz * gamma * xhat;
    u->doubt_q += fabsl(doubt * gamma);
    u->doubt_q_xhat += fabsl(doubt * gamma * xhat);
    sums->dweight += dz * xhat;
    sums->dbias += isnan(u->rstd) ? u->rstd : dz;
    sums->doubt_dweight += fabsl(doubt * xhat);
    sums->doubt_dbias += doubt;
    largest[0] = larger(largest[0], dz * xhat);
    largest[1] = larger(largest[1], dz);
  }
}

/* Inf or NaN in dy, too, makes dx of its unit NaN. */
static void poison(unit *units, int64_t count) {
  for (int64_t k = 0; k < count; k++)
    if (!isfinite(units[k].sum_q_xhat) || !isfinite(units[k].sum_q)) units[k].sum_q = units[k].sum_q_xhat = NAN;
}

/* dx and dafter; writes the doubt of each beside it, where its bound will be. */
static real input_gradients(const norma_call *call, unit *units, const norma_reference *out) {
  real largest = 0, m = (real)norma_layer_unit_elements(call->layer), alpha = (real)call->alpha;
  for (int64_t i = 0; i < norma_layer_elements(call->layer); i++) {
    const unit *u = unit_of(call, units, i);
    real doubt, dy = dz_of(call, u, i, &doubt), gamma = gamma_of(call, u, i), q = dy * gamma;
    real dsum = read(call->layer, &call->dsum, i, 0), xhat = xhat_of(call, u, i), doubt_dx = fabsl(doubt * gamma);
    real mean_q = call->layer->rms || call->given_var.data ? 0 : u->sum_q / m;
    real along = call->given_var.data ? 0 : xhat * u->sum_q_xhat / (m - call->ddof);
    real dx = alpha * (u->rstd * (q - mean_q - along)) + (alpha == 1 ? 0 : (1 - alpha) * dy) + dsum;
    if (!call->given_var.data) doubt_dx += u->doubt_q / m + fabsl(xhat) * u->doubt_q_xhat / (m - call->ddof);
    if (out->dx) out->dx[i] = (double)dx;
    if (out->dx_bound) out->dx_bound[i] = call->activation ? (double)(u->rstd * doubt_dx) : 0;
    if (out->dafter) out->dafter[i] = (double)dy;
    if (out->dafter_bound) out->dafter_bound[i] = (double)doubt;
    largest = larger(larger(largest, dsum), u->rstd * 1e-39L);
    largest = larger(larger(larger(largest, u->rstd * q), u->rstd * mean_q), u->rstd * along);
  }
  return largest;
}

static void backward(const norma_call *call, unit *units, param_sums *sums, const norma_reference *out) {
  int64_t params = norma_layer_params(call->layer), elements = norma_layer_elements(call->layer);
  real largest[2] = {0};
  sum_gradients(call, units, sums, largest);
  for (int64_t p = 0; p < params; p++) {
    if (out->dweight) out->dweight[p] = (double)sums[p].dweight;
    if (out->dbias) out->dbias[p] = (double)sums[p].dbias;
    if (out->dweight_bound) out->dweight_bound[p] = (double)sums[p].doubt_dweight;
    if (out->dbias_bound) out->dbias_bound[p] = (double)sums[p].doubt_dbias;
  }
  norma_type type = norma_param_type(call->type);
  put_gradient_bounds(type, out->dweight, out->dweight_bound, params, largest[0], 1e-7L);
  put_gradient_bounds(type, out->dbias, out->dbias_bound, params, largest[1], 1e-7L);
  poison(units, norma_layer_units(call->layer));
  real largest_dx = input_gradients(call, units, out);
  put_gradient_bounds(call->type, out->dx, out->dx_bound, elements, largest_dx, 2e-6L);
  put_gradient_bounds(call->type, out->dafter, out->dafter_bound, elements, largest[1], 1e-7L);
}

static void style_gradients(const norma_call *style, unit *units, real alpha, const param_sums *content,
                            const norma_reference *out) {
  real largest = 0, m = (real)norma_layer_unit_elements(style->layer);
  for (int64_t j = 0; j < norma_layer_elements(style->layer); j++) {
    const unit *u = unit_of(style, units, j);
    int64_t k = u - units;
    real through_mean = alpha * content[k].dbias / m,
         through_std = alpha * content[k].dweight * xhat_of(style, u, j) / (m - style->ddof);
    if (out->dstyle_bound) out->dstyle_bound[j] = 0;
    if (out->dstyle) out->dstyle[j] = (double)(through_mean + through_std);
    largest = larger(larger(largest, through_mean), through_std);
  }
  put_gradient_bounds(style->type, out->dstyle, out->dstyle_bound, norma_layer_elements(style->layer), largest, 1e-7L);
}

/* ------------------------------------------------------------------------------------------------- the four calls */

/* Runs in the standard mode, of x87 too, which computes long double where there is one. */
typedef struct mode {
  fenv_t all;
  norma_float_env env;
} mode;

static mode enter(void) {
  mode before;
  feholdexcept(&before.all);
  fesetround(FE_TONEAREST);
  before.env = norma_float_enter();
  return before;
}

static void leave(const mode *before) {
  norma_float_leave(before->env);
  fesetenv(&before->all);
}

static param_sums *sums_for(const norma_layer *layer) {
  int64_t params = norma_layer_params(layer);
  return calloc(params > 0 ? (size_t)params : 1, sizeof(param_sums));
}

static norma_status check_out(norma_status status, const norma_reference *out, norma_error *error) {
  if (status) return status;
  if (!out) return norma_fail(error, NORMA_BAD_ARGUMENT, "out is NULL");
  if (out->size == sizeof *out) return NORMA_OK;
  return norma_fail(error, NORMA_BAD_ARGUMENT, "out->size is %zu, must be %zu", out->size, sizeof *out);
}

static norma_status no_memory(norma_error *error) {
  return norma_fail(error, NORMA_NO_MEMORY, "the reference could not allocate its sums");
}

static norma_status run(norma_status status, const norma_call *call, bool is_backward, const norma_reference *out,
                        norma_error *error) {
  status = check_out(status, out, error);
  unit *units = status ? NULL : measure(call);
  param_sums *sums = status ? NULL : sums_for(call->layer);
  if (units && sums) is_backward ? backward(call, units, sums, out) : forward(call, units, out);
  else if (!status) status = no_memory(error);
  free(units);
  free(sums);
  return status;
}

static norma_status measures_x(const char *name, norma_error *error) {
  return norma_fail(error, NORMA_BAD_ARGUMENT, "the reference takes statistics from x: %s must be NULL", name);
}

norma_status norma_reference_forward(const norma_forward_args *args, const norma_reference *out, norma_error *error) {
  norma_call call;
  mode before = enter();
  norma_status status = norma_check_forward(args, &call, error);
  if (!status && args->given_moments) status = measures_x("given_moments", error);
  status = run(status, &call, false, out, error);
  leave(&before);
  return status;
}

norma_status norma_reference_backward(const norma_backward_args *args, const norma_reference *out, norma_error *error) {
  norma_call call;
  mode before = enter();
  norma_status status = norma_check_backward(args, &call, error);
  if (!status && args->given_sums) status = measures_x("given_sums", error);
  status = run(status, &call, true, out, error);
  leave(&before);
  return status;
}

/* AdaIN: the norm of the content with the style's sigma and mean. */
static void adain_units(norma_adain_call *made, unit *content, unit *style, param_sums *sums, bool is_backward,
                        const norma_reference *out) {
  int64_t count = norma_layer_units(&made->content_layer);
  for (int64_t k = 0; k < count; k++) {
    content[k].sigma = style[k].rstd == 0 ? 0 : 1 / style[k].rstd;
    content[k].shift = style[k].first + style[k].mean;
  }
  norma_reference only_dx = {.size = sizeof only_dx, .dx = out->dx, .dx_bound = out->dx_bound};
  if (!is_backward) forward(&made->content, content, out);
  else backward(&made->content, content, sums, &only_dx);
  if (is_backward) style_gradients(&made->style, style, (real)made->content.alpha, sums, out);
}

static norma_status adain(const norma_adain_args *args, bool is_backward, const norma_reference *out,
                          norma_error *error) {
  norma_adain_call made;
  mode before = enter();
  norma_status status = check_out(norma_check_adain(args, is_backward, &made, error), out, error);
  unit *content = status ? NULL : measure(&made.content), *style = status ? NULL : measure(&made.style);
  param_sums *sums = status ? NULL : sums_for(&made.content_layer);
  if (content && style && sums) adain_units(&made, content, style, sums, is_backward, out);
  else if (!status) status = no_memory(error);
  free(content);
  free(style);
  free(sums);
  leave(&before);
  return status;
}

norma_status norma_reference_adain(const norma_adain_args *args, const norma_reference *out, norma_error *error) {
  return adain(args, false, out, error);
}

norma_status norma_reference_adain_backward(const norma_adain_args *args, const norma_reference *out,
                                            norma_error *error) {
  return adain(args, true, out, error);
}
