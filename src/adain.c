/* AdaIN: the statistics of a style tensor become gamma and beta, per unit, of the norm of the content. */
#include "kernels/kernels.h"

#include <float.h>
#include <math.h>

static norma_layer affine_per_unit(const norma_layer *layer) {
  norma_layer copy = *layer;
  for (int a = 0; a < copy.axis_count; a++)
    copy.axes[a].bits = copy.axes[a].bits & NORMA_SHARE ? NORMA_SHARE : NORMA_AFFINE;
  return copy;
}

/* The kept axes of both layers must agree one by one. */
static norma_status check_units(const norma_layer *content, const norma_layer *style, norma_error *error) {
  int c = 0, s = 0;
  for (;; c++, s++) {
    while (c < content->axis_count && content->axes[c].bits & NORMA_SHARE) c++;
    while (s < style->axis_count && style->axes[s].bits & NORMA_SHARE) s++;
    if (c == content->axis_count || s == style->axis_count) break;
    if (content->axes[c].length != style->axes[s].length)
      return norma_fail(error, NORMA_BAD_SHAPE,
                        "style has %lld along '%.15s', the content has %lld: they must have the same units",
                        (long long)style->axes[s].length, style->axes[s].name, (long long)content->axes[c].length);
  }
  if (c == content->axis_count && s == style->axis_count) return NORMA_OK;
  return norma_fail(error, NORMA_BAD_SHAPE, "style has %lld units, the content has %lld",
                    (long long)norma_layer_units(style), (long long)norma_layer_units(content));
}

static norma_status check_side(const norma_layer *layer, const char *name, int ddof, bool refuse_single,
                               norma_error *error) {
  if (layer->rms)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "%s_layer is an RMS layer: AdaIN exchanges means too", name);
  if (norma_layer_unit_elements(layer) == 1 && (ddof == 1 || refuse_single))
    return norma_fail(error, NORMA_SINGLE_VALUE,
                      ddof == 1 ? "each variance of the %s is taken over 1 value, ddof 1 needs at least 2"
                                : "each mean of the %s is taken over 1 value, more than 1 is expected",
                      name);
  return NORMA_OK;
}

static norma_call side(const norma_adain_args *a, const norma_layer *layer, double eps, int ddof) {
  norma_call call = {.layer = layer, .type = a->type, .eps = eps, .ddof = ddof, .alpha = 1, .param_scale = 1};
  call.threads = a->threads;
  return call;
}

/* With ddof 1 sigma_s can be up to sqrt(2) times the largest float64, so it is kept four times smaller. */
enum { STYLE_SCALE = 4 };

enum { FLAGS = NORMA_EPS_ZERO | NORMA_STYLE_EPS_ZERO | NORMA_ALPHA_ZERO | NORMA_REFUSE_SINGLE };

/* Everything but the arrays. */
static norma_status check(const norma_adain_args *a, norma_adain_call *made, norma_error *error) {
  norma_status status = norma_check_args(a, a ? a->size : 0, sizeof *a, "norma_adain_args", error);
  if (!status) status = norma_check_type(a->type, "type", error);
  if (status) return status;
  double alpha = a->flags & NORMA_ALPHA_ZERO ? 0 : a->alpha == 0 ? 1 : a->alpha;
  if (!isfinite(alpha)) return norma_fail(error, NORMA_BAD_ARGUMENT, "alpha is %g, must be finite", alpha);
  bool refuse_single = a->flags & NORMA_REFUSE_SINGLE;
  double content_eps = a->content_eps, style_eps = a->style_eps;
  status = norma_layer_check(a->content_layer, "content_layer", error);
  if (!status) status = norma_layer_check(a->style_layer, "style_layer", error);
  if (!status) status = check_units(a->content_layer, a->style_layer, error);
  if (!status) status = norma_check_flags(a->flags, FLAGS, error);
  if (!status) status = norma_check_ddof(a->content_ddof, "content_ddof", error);
  if (!status) status = norma_check_ddof(a->style_ddof, "style_ddof", error);
  if (!status) status = check_side(a->content_layer, "content", a->content_ddof, refuse_single, error);
  if (!status) status = check_side(a->style_layer, "style", a->style_ddof, refuse_single, error);
  if (!status) status = norma_resolve_eps(&content_eps, "content_eps", a->flags & NORMA_EPS_ZERO, 1e-5, error);
  if (!status) status = norma_resolve_eps(&style_eps, "style_eps", a->flags & NORMA_STYLE_EPS_ZERO, 1e-5, error);
  if (status) return status;
  made->content_layer = affine_per_unit(a->content_layer);
  made->style_layer = affine_per_unit(a->style_layer);
  const norma_layer *cl = &made->content_layer, *sl = &made->style_layer;
  made->content = side(a, cl, content_eps, a->content_ddof);
  made->style = side(a, sl, style_eps, a->style_ddof);
  made->content.alpha = alpha;
  made->content.param_scale = STYLE_SCALE;
  made->content.x = norma_bind(cl, NORMA_ELEMENTS, a->content, a->type, a->content_strides);
  made->style.x = norma_bind(sl, NORMA_ELEMENTS, a->style, a->type, a->style_strides);
  return NORMA_OK;
}

static norma_status check_arrays(const norma_adain_args *a, norma_adain_call *made, bool backward, norma_error *error) {
  norma_call *c = &made->content, *s = &made->style;
  bool empty = norma_layer_elements(c->layer) == 0;
  c->y = norma_bind(c->layer, NORMA_ELEMENTS, backward ? NULL : a->y, a->type, a->y_strides);
  c->dy = norma_bind(c->layer, NORMA_ELEMENTS, backward ? a->dy : NULL, a->type, a->dy_strides);
  c->dx = norma_bind(c->layer, NORMA_ELEMENTS, backward ? a->dcontent : NULL, a->type, a->dcontent_strides);
  s->y = norma_bind(s->layer, NORMA_ELEMENTS, backward ? a->dstyle : NULL, a->type, a->dstyle_strides);
  if (!a->content && !empty) return norma_fail(error, NORMA_BAD_ARGUMENT, "content is NULL");
  if (!a->style && norma_layer_elements(s->layer) > 0) return norma_fail(error, NORMA_BAD_ARGUMENT, "style is NULL");
  if (!backward && !a->y && !empty) return norma_fail(error, NORMA_BAD_ARGUMENT, "y is NULL");
  if (backward && !a->dy && !empty) return norma_fail(error, NORMA_BAD_ARGUMENT, "dy is NULL");
  if (norma_layer_elements(s->layer) == 0 && !empty)
    return norma_fail(error, NORMA_BAD_SHAPE, "style has no elements, and so no statistics for the content");
  const norma_argument list[] = {
      norma_array("content", c->layer, NORMA_ELEMENTS, &c->x, NORMA_INPUT),
      norma_array("y", c->layer, NORMA_ELEMENTS, &c->y, NORMA_IN_PLACE),
      norma_array("dy", c->layer, NORMA_ELEMENTS, &c->dy, NORMA_INPUT),
      norma_array("dcontent", c->layer, NORMA_ELEMENTS, &c->dx, NORMA_IN_PLACE),
      norma_array("style", s->layer, NORMA_ELEMENTS, &s->x, NORMA_INPUT),
      norma_array("dstyle", s->layer, NORMA_ELEMENTS, &s->y, NORMA_OUTPUT),
  };
  return norma_check_arguments(list, sizeof list / sizeof *list, error);
}

norma_status norma_check_adain(const norma_adain_args *args, bool backward, norma_adain_call *made,
                               norma_error *error) {
  norma_status status = check(args, made, error);
  return status ? status : check_arrays(args, made, backward, error);
}

/* What a call keeps per unit. gamma is sigma_s, beta is mean_s. */
typedef struct scratch {
  norma_saved *content, *style;
  norma_pair *means;
  double *gamma, *beta, *dgamma, *dbeta;
} scratch;

enum { SCRATCH_DOUBLES = 2 * sizeof(norma_saved) / sizeof(double) + sizeof(norma_pair) / sizeof(double) + 4 };

static scratch lay_out(double *doubles, int64_t units) {
  scratch s = {.content = (norma_saved *)doubles};
  s.style = s.content + units;
  s.means = (norma_pair *)(s.style + units);
  s.gamma = (double *)(s.means + units);
  s.beta = s.gamma + units;
  s.dgamma = s.beta + units;
  s.dbeta = s.dgamma + units;
  return s;
}

static norma_status check_fields(const void *args, norma_error *error) {
  norma_adain_call made;
  return check(args, &made, error);
}

size_t norma_adain_workspace(const norma_adain_args *args) {
  if (norma_run(check_fields, args, NULL)) return 0;
  return norma_workspace_bytes(norma_layer_units(args->content_layer), SCRATCH_DOUBLES);
}

static norma_operand per_unit(const norma_layer *layer, const double *values) {
  return norma_bind(layer, NORMA_UNITS, values, NORMA_F64, NULL);
}

/* gamma = sigma_s and beta = mean_s, over STYLE_SCALE. */
static void take_style(const scratch *s, int64_t units) {
  for (int64_t u = 0; u < units; u++) {
    const norma_saved *style = &s->style[u];
    s->gamma[u] = style->rstd == 0 ? 0 : 1 / style->rstd / (style->scale * STYLE_SCALE);
    s->beta[u] = (style->mean + style->mean_lo) / (style->scale * STYLE_SCALE);
  }
}

static norma_status open_call(const norma_adain_args *args, norma_adain_call *made, bool backward,
                              norma_workspace *workspace, scratch *s, norma_error *error) {
  norma_status status = norma_check_adain(args, backward, made, error);
  if (status) return status;
  int64_t units = norma_layer_units(&made->content_layer);
  size_t needed = norma_workspace_bytes(units, SCRATCH_DOUBLES);
  status = norma_workspace_open(workspace, args->workspace, args->workspace_size, needed, error);
  if (status) return status;
  *s = lay_out(workspace->doubles, units);
  norma_statistics(&made->content, s->content, NULL);
  norma_statistics(&made->style, s->style, NULL);
  return NORMA_OK;
}

static norma_status forward(const void *arguments, norma_error *error) {
  const norma_adain_args *args = arguments;
  norma_adain_call made;
  norma_workspace workspace;
  scratch s;
  norma_status status = open_call(args, &made, false, &workspace, &s, error);
  if (status) return status;
  int64_t units = norma_layer_units(&made.content_layer);
  take_style(&s, units);
  made.content.weight = per_unit(&made.content_layer, s.gamma);
  made.content.bias = per_unit(&made.content_layer, s.beta);
  norma_apply_forward(&made.content, s.content);
  norma_workspace_close(&workspace);
  return NORMA_OK;
}

/* What dcontent needs of the style: sigma_s in the content's scale. */
static void take_gain(const scratch *s, int64_t units) {
  for (int64_t u = 0; u < units; u++) {
    double ratio = s->content[u].scale / s->style[u].scale;
    double gain = s->style[u].rstd == 0 ? 0 : 1 / s->style[u].rstd * ratio;
    s->gamma[u] = gain > DBL_MAX ? DBL_MAX : gain; /* times 0 it must stay 0 */
  }
}

/* d(mean_s) = 1 / m and d(sigma_s) = xhat_s / (m - ddof): dstyle has the form of a forward pass. */
static void style_gradients(const scratch *s, int64_t units, double alpha, double m, int ddof) {
  for (int64_t u = 0; u < units; u++) {
    s->dgamma[u] = alpha * s->dgamma[u] / (m - ddof);
    s->dbeta[u] = alpha * s->dbeta[u] / m;
  }
}

static void backward_style(const norma_adain_args *args, norma_adain_call *made, scratch *s) {
  int64_t units = norma_layer_units(&made->style_layer);
  double m = (double)norma_layer_unit_elements(&made->style_layer);
  made->content.dweight = per_unit(&made->content_layer, s->dgamma);
  made->content.dbias = per_unit(&made->content_layer, s->dbeta);
  norma_param_gradients(&made->content, s->content);
  style_gradients(s, units, made->content.alpha, m, args->style_ddof);
  made->style.weight = per_unit(&made->style_layer, s->dgamma);
  made->style.bias = per_unit(&made->style_layer, s->dbeta);
  norma_apply_forward(&made->style, s->style);
}

static norma_status backward(const void *arguments, norma_error *error) {
  const norma_adain_args *args = arguments;
  norma_adain_call made;
  norma_workspace workspace;
  scratch s;
  norma_status status = open_call(args, &made, true, &workspace, &s, error);
  if (status) return status;
  if (args->dstyle) backward_style(args, &made, &s);
  if (args->dcontent) { /* last: dcontent may be dy */
    /* gamma is one number per unit, so it multiplies at the end, where it cannot overflow on the way. */
    int64_t units = norma_layer_units(&made.content_layer);
    take_gain(&s, units);
    made.content.gain = per_unit(&made.content_layer, s.gamma);
    norma_unit_gradients(&made.content, s.content, s.means);
    norma_apply_backward(&made.content, s.content, s.means);
  }
  norma_workspace_close(&workspace);
  return NORMA_OK;
}

norma_status norma_adain(const norma_adain_args *args, norma_error *error) { return norma_run(forward, args, error); }

norma_status norma_adain_backward(const norma_adain_args *args, norma_error *error) {
  return norma_run(backward, args, error);
}
