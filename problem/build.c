/* From a problem to a case: the layer, the tensors and the arguments of the library's calls. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

/* What an array varies along. */
typedef enum extent { UNITS, PARAMS } extent;

/* The length of an array in each dimension of the tensor: the product of the axes that it varies along. */
static void array_shape(const norma_layer *layer, extent e, int64_t *shape) {
  for (int d = 0; d < layer->ndim; d++) {
    shape[d] = 1;
  }
  for (int a = 0; a < layer->axis_count; a++) {
    const norma_axis *axis = &layer->axes[a];
    bool varies = e == PARAMS ? axis->bits & NORMA_AFFINE : !(axis->bits & NORMA_SHARE);
    shape[axis->dim] *= varies ? axis->length : 1;
  }
}

/* Parameters follow only layouts that mean something for them. */
static problem_layout array_layout(problem_layout layout) {
  bool follows = layout == PROBLEM_SLICE || layout == PROBLEM_REVERSE || layout == PROBLEM_TRANSPOSE;
  return follows ? layout : PROBLEM_CONTIGUOUS;
}

static bool make_data(problem_case *c, problem_role role, norma_error *error) {
  const norma_layer *layer = role == PROBLEM_STYLE || role == PROBLEM_DSTYLE ? &c->style_layer : &c->layer;
  problem_layout layout = role < PROBLEM_INPUTS ? c->spec.layout : c->spec.out;
  return problem_tensor_make(&c->tensors[role], c->spec.type, layer->ndim, layer->shape, layout, c->spec.align, error);
}

static bool make_array(problem_case *c, problem_role role, extent e, problem_layout layout, norma_error *error) {
  int64_t shape[NORMA_MAX_DIMS];
  array_shape(&c->layer, e, shape);
  return problem_tensor_make(&c->tensors[role], norma_param_type(c->spec.type), c->layer.ndim, shape, layout,
                             c->spec.align, error);
}

static bool make_tensors(problem_case *c, norma_error *error) {
  const problem *p = &c->spec;
  bool forward = p->direction != PROBLEM_BACKWARD, backward = p->direction != PROBLEM_FORWARD;
  bool adain = p->kind == PROBLEM_ADAIN, given = p->stats == PROBLEM_STATS_GIVEN;
  bool affine = p->affine != PROBLEM_AFFINE_NONE && norma_layer_params(&c->layer) > 0;
  bool weight = affine, bias = affine && p->affine != PROBLEM_AFFINE_WEIGHT;
  bool before = p->add & PROBLEM_ADD_BEFORE, after = p->add & PROBLEM_ADD_AFTER;
  problem_layout in = array_layout(p->layout), out = array_layout(p->out);
  return make_data(c, PROBLEM_X, error) && (!adain || make_data(c, PROBLEM_STYLE, error)) &&
         (!backward || make_data(c, PROBLEM_DY, error)) &&
         (!weight || make_array(c, PROBLEM_WEIGHT, PARAMS, in, error)) &&
         (!bias || make_array(c, PROBLEM_BIAS, PARAMS, in, error)) &&
         (!given || c->layer.rms || make_array(c, PROBLEM_GIVEN_MEAN, UNITS, in, error)) &&
         (!given || make_array(c, PROBLEM_GIVEN_VAR, UNITS, in, error)) &&
         (!forward || make_data(c, PROBLEM_Y, error)) &&
         (!forward || adain || make_array(c, PROBLEM_MEAN, UNITS, PROBLEM_CONTIGUOUS, error)) &&
         (!forward || adain || make_array(c, PROBLEM_VAR, UNITS, PROBLEM_CONTIGUOUS, error)) &&
         (!forward || adain || make_array(c, PROBLEM_RSTD, UNITS, PROBLEM_CONTIGUOUS, error)) &&
         (!backward || make_data(c, PROBLEM_DX, error)) &&
         (!backward || !weight || make_array(c, PROBLEM_DWEIGHT, PARAMS, out, error)) &&
         (!backward || !bias || make_array(c, PROBLEM_DBIAS, PARAMS, out, error)) &&
         (!backward || !adain || make_data(c, PROBLEM_DSTYLE, error)) &&
         (!before || (make_data(c, PROBLEM_RESIDUAL, error) && make_data(c, PROBLEM_SUM, error))) &&
         (!before || !backward || make_data(c, PROBLEM_DSUM, error)) &&
         (!after || make_data(c, PROBLEM_AFTER, error)) &&
         (!after || !backward || make_data(c, PROBLEM_DAFTER, error));
}

static bool make_statistics(problem_case *c, norma_error *error) {
  const problem *p = &c->spec;
  size_t units = (size_t)norma_layer_units(&c->layer);
  if (p->kind == PROBLEM_ADAIN || units == 0) {
    return true;
  }
  bool saved = p->stats == PROBLEM_STATS_SAVED, moments = p->stats == PROBLEM_STATS_INPUT;
  c->saved = saved ? malloc(units * sizeof *c->saved) : NULL;
  c->moments = moments ? malloc(units * sizeof *c->moments) : NULL;
  if ((saved && !c->saved) || (moments && !c->moments)) {
    return problem_fail(error, NORMA_NO_MEMORY, "no memory for the statistics of %zu units", units);
  }
  return true;
}

/* Parameters, statistics and their gradients: all that has not the shape of the data. */
static bool is_array(problem_role role) {
  bool input = role >= PROBLEM_WEIGHT && role <= PROBLEM_GIVEN_VAR;
  return input || (role >= PROBLEM_MEAN && role <= PROBLEM_RSTD) || role == PROBLEM_DWEIGHT || role == PROBLEM_DBIAS;
}

/* Strides as the library takes them: NULL says dense, which is tried as often as can be. */
static const int64_t *strides(const problem_case *c, problem_role role) {
  const problem_tensor *t = &c->tensors[role];
  problem_layout layout = role < PROBLEM_INPUTS ? c->spec.layout : c->spec.out;
  if (is_array(role)) {
    layout = array_layout(layout);
  }
  return t->data && layout != PROBLEM_CONTIGUOUS ? t->strides : NULL;
}

static unsigned flags(const problem *p) {
  return (p->has_eps && p->eps == 0 ? NORMA_EPS_ZERO : 0u) | (p->plus_one ? NORMA_WEIGHT_PLUS_ONE : 0u) |
         (p->has_alpha && p->alpha == 0 ? NORMA_ALPHA_ZERO : 0u) |
         (p->has_eps2 && p->eps2 == 0 ? NORMA_STYLE_EPS_ZERO : 0u);
}

static void bind_adain(problem_case *c) {
  const problem *p = &c->spec;
  problem_tensor *t = c->tensors;
  c->adain = (norma_adain_args){
      .size = sizeof c->adain,
      .content_layer = &c->layer,
      .style_layer = &c->style_layer,
      .type = p->type,
      .content = t[PROBLEM_X].data,
      .content_strides = strides(c, PROBLEM_X),
      .style = t[PROBLEM_STYLE].data,
      .style_strides = strides(c, PROBLEM_STYLE),
      .y = t[PROBLEM_Y].data,
      .y_strides = strides(c, PROBLEM_Y),
      .dy = t[PROBLEM_DY].data,
      .dy_strides = strides(c, PROBLEM_DY),
      .dcontent = t[PROBLEM_DX].data,
      .dcontent_strides = strides(c, PROBLEM_DX),
      .dstyle = t[PROBLEM_DSTYLE].data,
      .dstyle_strides = strides(c, PROBLEM_DSTYLE),
      .alpha = p->alpha,
      .content_eps = p->eps,
      .style_eps = p->eps2,
      .content_ddof = p->ddof,
      .style_ddof = p->ddof2,
      .flags = flags(p),
      .threads = p->threads ? &c->threads : NULL,
  };
}

static void bind_forward(problem_case *c) {
  const problem *p = &c->spec;
  problem_tensor *t = c->tensors;
  c->forward = (norma_forward_args){
      .size = sizeof c->forward,
      .layer = &c->layer,
      .type = p->type,
      .x = t[PROBLEM_X].data,
      .x_strides = strides(c, PROBLEM_X),
      .y = t[PROBLEM_Y].data,
      .y_strides = strides(c, PROBLEM_Y),
      .weight = t[PROBLEM_WEIGHT].data,
      .bias = t[PROBLEM_BIAS].data,
      .weight_strides = strides(c, PROBLEM_WEIGHT),
      .bias_strides = strides(c, PROBLEM_BIAS),
      .eps = p->eps,
      .ddof = p->ddof,
      .flags = flags(p),
      .given_mean = t[PROBLEM_GIVEN_MEAN].data,
      .given_var = t[PROBLEM_GIVEN_VAR].data,
      .given_strides = strides(c, PROBLEM_GIVEN_VAR),
      .mean = t[PROBLEM_MEAN].data,
      .rstd = t[PROBLEM_RSTD].data,
      .var = t[PROBLEM_VAR].data,
      .saved = c->saved,
      .moments = c->moments,
      .threads = p->threads ? &c->threads : NULL,
      .residual = t[PROBLEM_RESIDUAL].data,
      .residual_strides = strides(c, PROBLEM_RESIDUAL),
      .sum = t[PROBLEM_SUM].data,
      .sum_strides = strides(c, PROBLEM_SUM),
      .after = t[PROBLEM_AFTER].data,
      .after_strides = strides(c, PROBLEM_AFTER),
      .activation = p->activation,
  };
}

static void bind_backward(problem_case *c) {
  const problem *p = &c->spec;
  problem_role x = p->add & PROBLEM_ADD_BEFORE ? PROBLEM_SUM : PROBLEM_X;
  problem_tensor *t = c->tensors;
  c->backward = (norma_backward_args){
      .size = sizeof c->backward,
      .layer = &c->layer,
      .type = p->type,
      .x = t[x].data,
      .x_strides = strides(c, x),
      .dy = t[PROBLEM_DY].data,
      .dy_strides = strides(c, PROBLEM_DY),
      .dx = t[PROBLEM_DX].data,
      .dx_strides = strides(c, PROBLEM_DX),
      .weight = t[PROBLEM_WEIGHT].data,
      .weight_strides = strides(c, PROBLEM_WEIGHT),
      .dweight = t[PROBLEM_DWEIGHT].data,
      .dbias = t[PROBLEM_DBIAS].data,
      .dweight_strides = strides(c, PROBLEM_DWEIGHT),
      .dbias_strides = strides(c, PROBLEM_DBIAS),
      .eps = p->eps,
      .ddof = p->ddof,
      .flags = flags(p),
      .given_mean = t[PROBLEM_GIVEN_MEAN].data,
      .given_var = t[PROBLEM_GIVEN_VAR].data,
      .given_strides = strides(c, PROBLEM_GIVEN_VAR),
      .saved = c->saved,
      .threads = p->threads ? &c->threads : NULL,
      .activation = p->activation,
      .bias = t[PROBLEM_BIAS].data,
      .bias_strides = strides(c, PROBLEM_BIAS),
      .after = t[PROBLEM_AFTER].data,
      .after_strides = strides(c, PROBLEM_AFTER),
      .dafter = t[PROBLEM_DAFTER].data,
      .dafter_strides = strides(c, PROBLEM_DAFTER),
      .dsum = t[PROBLEM_DSUM].data,
      .dsum_strides = strides(c, PROBLEM_DSUM),
  };
}

bool problem_build(problem_case *c, const problem *p, norma_error *error) {
  memset(c, 0, sizeof *c);
  c->spec = *p;
  c->threads = (norma_threads){problem_run_threads, &c->spec.threads};
  bool good = problem_layer(p, &c->layer, error) == NORMA_OK &&
              (p->kind != PROBLEM_ADAIN || problem_style_layer(p, &c->style_layer, error) == NORMA_OK) &&
              make_tensors(c, error) && make_statistics(c, error) && problem_fill_inputs(c, error);
  if (!good) {
    problem_free(c);
    return false;
  }
  if (p->kind == PROBLEM_ADAIN) {
    bind_adain(c);
  } else {
    bind_forward(c);
    bind_backward(c);
  }
  return true;
}

void problem_free(problem_case *c) {
  for (int role = 0; role < PROBLEM_ROLES; role++) {
    problem_tensor_free(&c->tensors[role]);
  }
  free(c->saved);
  free(c->moments);
  memset(c, 0, sizeof *c);
}
