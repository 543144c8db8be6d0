/* See judge.h. */
#include "judge.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

static norma_error error;

double largest_number(norma_type type) {
  return type == NORMA_F64 ? DBL_MAX : type == NORMA_F32 ? (double)FLT_MAX : type == NORMA_F16 ? 65504 : 0x1.fep127;
}

/* Within the bound; infinite only where the exact result may round to infinity, NaN only where it is NaN. */
static void assert_within(const char *name, norma_type type, const void *got, const double *exact, const double *bound,
                          int64_t n) {
  double *values = to_doubles(type, got, n);
  for (int64_t i = 0; i < n; i++) {
    double v = values[i], e = exact[i];
    int overflow = isinf(v) && signbit(v) == signbit(e) && fabs(e) + bound[i] >= largest_number(type);
    if (isnan(e) ? !isnan(v) : !(fabs(v - e) <= bound[i]) && !overflow) {
      fail_problem("%s[%lld] of %lld is %.17g, not %.17g: off by %.3g, allowed %.3g", name, (long long)i, (long long)n,
                   v, e, fabs(v - e), bound[i]);
    }
  }
  free(values);
}

static void *optional(norma_type type, const double *values, int64_t n) {
  return values ? from_doubles(type, values, n) : NULL;
}

static double *doubles(int64_t n) { return calloc((size_t)n + 1, sizeof(double)); }

void judge_forward(const trial *t, const outcome *o) {
  norma_type param = norma_param_type(t->type);
  int64_t n = norma_layer_elements(&t->layer), params = trial_params(t), units = norma_layer_units(&t->layer);
  void *x = from_doubles(t->type, t->x, n), *weight = optional(param, t->weight, params);
  void *bias = optional(param, t->bias, params), *mean = optional(param, t->given_mean, units);
  void *var = optional(param, t->given_var, units);
  norma_forward_args args = {.size = sizeof args, .layer = &t->layer, .type = t->type, .x = x, .weight = weight,
                             .bias = bias, .eps = t->eps, .ddof = t->ddof, .flags = t->flags, .given_mean = mean,
                             .given_var = var};
  norma_reference out = {.size = sizeof out, .y = doubles(n), .y_bound = doubles(n)};
  assert_ok(norma_reference_forward(&args, &out, &error), &error);
  assert_within("y", t->type, o->y, out.y, out.y_bound, n);
  free(out.y);
  free(out.y_bound);
  free(var);
  free(mean);
  free(bias);
  free(weight);
  free(x);
}

void judge_backward(const trial *t, const outcome *o) {
  norma_type param = norma_param_type(t->type);
  int64_t n = norma_layer_elements(&t->layer), params = trial_params(t), units = norma_layer_units(&t->layer);
  void *x = from_doubles(t->type, t->x, n), *dy = from_doubles(t->type, t->dy, n);
  void *weight = optional(param, t->weight, params), *mean = optional(param, t->given_mean, units);
  void *var = optional(param, t->given_var, units);
  norma_backward_args args = {.size = sizeof args, .layer = &t->layer, .type = t->type, .x = x, .dy = dy,
                              .weight = weight, .eps = t->eps, .ddof = t->ddof, .flags = t->flags,
                              .given_mean = mean, .given_var = var};
  norma_reference out = {.size = sizeof out, .dx = doubles(n), .dx_bound = doubles(n), .dweight = doubles(params),
                         .dweight_bound = doubles(params), .dbias = doubles(params), .dbias_bound = doubles(params)};
  assert_ok(norma_reference_backward(&args, &out, &error), &error);
  assert_within("dx", t->type, o->dx, out.dx, out.dx_bound, n);
  if (params > 0) {
    assert_within("dweight", param, o->dweight, out.dweight, out.dweight_bound, params);
    assert_within("dbias", param, o->dbias, out.dbias, out.dbias_bound, params);
  }
  free(out.dx);
  free(out.dx_bound);
  free(out.dweight);
  free(out.dweight_bound);
  free(out.dbias);
  free(out.dbias_bound);
  free(var);
  free(mean);
  free(weight);
  free(dy);
  free(x);
}

static norma_adain_args adain_args(const adain_trial *t, const void *content, const void *style) {
  return (norma_adain_args){.size = sizeof(norma_adain_args), .content_layer = &t->content_layer,
                            .style_layer = &t->style_layer, .type = t->type, .content = content, .style = style,
                            .alpha = t->alpha, .content_eps = t->content_eps, .style_eps = t->style_eps,
                            .content_ddof = t->content_ddof, .style_ddof = t->style_ddof, .flags = t->flags};
}

void judge_adain(const adain_trial *t, const adain_outcome *o) {
  int64_t n = norma_layer_elements(&t->content_layer), m = norma_layer_elements(&t->style_layer);
  void *content = from_doubles(t->type, t->content, n), *style = from_doubles(t->type, t->style, m);
  void *dy = from_doubles(t->type, t->dy, n), *y = from_doubles(t->type, t->dy, n);
  norma_reference out = {.size = sizeof out, .y = doubles(n), .y_bound = doubles(n), .dx = doubles(n),
                         .dx_bound = doubles(n), .dstyle = doubles(m), .dstyle_bound = doubles(m)};
  norma_adain_args args = adain_args(t, content, style);
  args.y = y;
  assert_ok(norma_reference_adain(&args, &out, &error), &error);
  assert_within("y", t->type, o->y, out.y, out.y_bound, n);
  args = adain_args(t, content, style);
  args.dy = dy;
  assert_ok(norma_reference_adain_backward(&args, &out, &error), &error);
  assert_within("dcontent", t->type, o->dcontent, out.dx, out.dx_bound, n);
  assert_within("dstyle", t->type, o->dstyle, out.dstyle, out.dstyle_bound, m);
  double *const arrays[] = {out.y, out.y_bound, out.dx, out.dx_bound, out.dstyle, out.dstyle_bound};
  for (size_t i = 0; i < COUNT(arrays); i++) {
    free(arrays[i]);
  }
  free(y);
  free(dy);
  free(style);
  free(content);
}
