/* See trial.h. */
#include "trial.h"

#include <stdlib.h>
#include <string.h>

enum { CANARY = 0xA5, PAD = 64 };

static int has_affine(const norma_layer *layer) {
  unsigned bits = 0;
  for (int i = 0; i < layer->axis_count; i++) {
    bits |= layer->axes[i].bits;
  }
  return (bits & NORMA_AFFINE) != 0;
}

int64_t trial_params(const trial *t) { return has_affine(&t->layer) ? norma_layer_params(&t->layer) : 0; }

trial trial_new(const norma_layer *layer, norma_type type, uint64_t *seed, double mean, double deviation) {
  int64_t n = norma_layer_elements(layer);
  trial t = {.layer = *layer, .type = type};
  t.x = random_array(seed, type, n, mean, deviation);
  t.dy = random_array(seed, type, n, 0, 1);
  if (has_affine(layer)) {
    t.weight = random_array(seed, norma_param_type(type), norma_layer_params(layer), 1, 0.5);
    t.bias = random_array(seed, norma_param_type(type), norma_layer_params(layer), 0, 1);
  }
  return t;
}

void trial_free(trial *t) {
  free(t->x);
  free(t->dy);
  free(t->weight);
  free(t->bias);
  free(t->given_mean);
  free(t->given_var);
}

/* A workspace of exactly this size, full of NaN, between canaries. */
static unsigned char *workspace_new(size_t bytes) {
  unsigned char *base = aligned_alloc(64, (bytes + 2 * PAD + 63) / 64 * 64);
  memset(base, CANARY, PAD);
  memset(base + PAD, 0xFF, bytes);
  memset(base + PAD + bytes, CANARY, PAD);
  return base;
}

static void workspace_free(unsigned char *base, size_t bytes) {
  for (size_t i = 0; base != NULL && i < PAD; i++) {
    if (base[i] != CANARY || base[PAD + bytes + i] != CANARY) {
      fail_problem("written beside the workspace of %zu bytes", bytes);
    }
  }
  free(base);
}

static tensor tensor_of(norma_type type, const norma_layer *layer, layout l, const double *values) {
  tensor made = tensor_new(type, layer->ndim, layer->shape, l);
  if (values != NULL) {
    tensor_write(&made, values);
  }
  return made;
}

/* Arrays per gamma (bit NORMA_AFFINE set) or per unit (bit NORMA_SHARE clear), with strides per dimension. */
typedef struct small_arrays {
  tensor weight, bias, dweight, dbias, mean, var;
} small_arrays;

/* An array without values to hold is one for a gradient. absent: no array. */
static tensor small_array(const trial *t, unsigned bit, layout l, const double *values, int absent) {
  if (absent) {
    return (tensor){.data = NULL};
  }
  int64_t shape[NORMA_MAX_DIMS] = {1, 1, 1, 1, 1, 1, 1, 1};
  int varies[NORMA_MAX_DIMS] = {0};
  for (int k = 0; k < t->layer.axis_count; k++) {
    const norma_axis *axis = &t->layer.axes[k];
    if ((bit == NORMA_AFFINE) == ((axis->bits & bit) != 0)) {
      shape[axis->dim] *= axis->length;
      varies[axis->dim] = 1;
    }
  }
  tensor array = tensor_new(norma_param_type(t->type), t->layer.ndim, shape, l);
  if (values != NULL) {
    tensor_write(&array, values);
  }
  for (int d = 0; d < t->layer.ndim; d++) {
    array.strides[d] = varies[d] ? array.strides[d] : INT64_MAX;  /* must be ignored */
  }
  return array;
}

static void run_forward(const trial *t, const manner *m, const small_arrays *p, outcome *o) {
  tensor x = tensor_of(t->type, &t->layer, m->x, t->x), other = tensor_of(t->type, &t->layer, m->y, NULL);
  tensor *y = m->in_place ? &x : &other;
  norma_forward_args args = {.size = sizeof args, .layer = &t->layer, .type = t->type, .x = x.data,
                             .x_strides = x.strides, .y = y->data, .y_strides = y->strides,
                             .weight = p->weight.data, .weight_strides = p->weight.strides, .bias = p->bias.data,
                             .bias_strides = p->bias.strides, .eps = t->eps, .ddof = t->ddof, .flags = t->flags,
                             .given_mean = p->mean.data, .given_var = p->var.data, .given_strides = p->var.strides,
                             .mean = o->mean, .rstd = o->rstd, .var = o->var, .saved = o->saved,
                             .moments = o->moments, .threads = m->threads};
  unsigned char *base = NULL;
  if (m->own_workspace) {
    args.workspace_size = norma_forward_workspace(&args);
    base = workspace_new(args.workspace_size);
    args.workspace = base + PAD;
  }
  norma_error error;
  assert_ok(norma_forward(&args, &error), &error);
  workspace_free(base, args.workspace_size);
  tensor_check_gaps(&x, "x");
  tensor_check_gaps(&other, "y");
  o->y = tensor_read(y);
  tensor_free(&x);
  tensor_free(&other);
}

static void run_backward(const trial *t, const manner *m, const small_arrays *p, outcome *o) {
  tensor x = tensor_of(t->type, &t->layer, m->x, t->x), dy = tensor_of(t->type, &t->layer, m->dy, t->dy);
  tensor other = tensor_of(t->type, &t->layer, m->dx, NULL);
  tensor *dx = m->in_place ? &dy : &other;
  norma_backward_args args = {.size = sizeof args, .layer = &t->layer, .type = t->type, .x = x.data,
                              .x_strides = x.strides, .dy = dy.data, .dy_strides = dy.strides, .dx = dx->data,
                              .dx_strides = dx->strides, .weight = p->weight.data,
                              .weight_strides = p->weight.strides, .dweight = p->dweight.data,
                              .dweight_strides = p->dweight.strides, .dbias = p->dbias.data,
                              .dbias_strides = p->dbias.strides, .eps = t->eps, .ddof = t->ddof, .flags = t->flags,
                              .given_mean = p->mean.data, .given_var = p->var.data, .given_strides = p->var.strides,
                              .saved = m->use_saved ? o->saved : NULL, .threads = m->threads};
  unsigned char *base = NULL;
  if (m->own_workspace) {
    args.workspace_size = norma_backward_workspace(&args);
    base = workspace_new(args.workspace_size);
    args.workspace = base + PAD;
  }
  norma_error error;
  assert_ok(norma_backward(&args, &error), &error);
  workspace_free(base, args.workspace_size);
  tensor_check_gaps(&x, "x");
  tensor_check_gaps(&dy, "dy");
  tensor_check_gaps(&other, "dx");
  o->dx = tensor_read(dx);
  tensor_free(&x);
  tensor_free(&dy);
  tensor_free(&other);
}

static void *read_small(tensor *array, const char *name) {
  if (array->data == NULL) {
    return NULL;
  }
  for (int d = 0; d < array->ndim; d++) {
    array->strides[d] = array->strides[d] == INT64_MAX ? 0 : array->strides[d];
  }
  tensor_check_gaps(array, name);
  return tensor_read(array);
}

outcome trial_run(const trial *t, const manner *m) {
  int64_t units = norma_layer_units(&t->layer);
  small_arrays p = {small_array(t, NORMA_AFFINE, m->params, t->weight, t->weight == NULL),
                    small_array(t, NORMA_AFFINE, m->params, t->bias, t->bias == NULL),
                    small_array(t, NORMA_AFFINE, m->params, NULL, !has_affine(&t->layer)),
                    small_array(t, NORMA_AFFINE, m->params, NULL, !has_affine(&t->layer)),
                    small_array(t, NORMA_SHARE, m->params, t->given_mean, t->given_mean == NULL),
                    small_array(t, NORMA_SHARE, m->params, t->given_var, t->given_var == NULL)};
  outcome o = {.y = NULL};
  if (t->given_var == NULL) {
    o.mean = calloc((size_t)units + 1, sizeof(double));
    o.rstd = calloc((size_t)units + 1, sizeof(double));
    o.var = calloc((size_t)units + 1, sizeof(double));
    o.saved = calloc((size_t)units + 1, sizeof *o.saved);
    o.moments = calloc((size_t)units + 1, sizeof *o.moments);
  }
  run_forward(t, m, &p, &o);
  run_backward(t, m, &p, &o);
  o.dweight = read_small(&p.dweight, "dweight");
  o.dbias = read_small(&p.dbias, "dbias");
  tensor *const all[] = {&p.weight, &p.bias, &p.dweight, &p.dbias, &p.mean, &p.var};
  for (size_t i = 0; i < COUNT(all); i++) {
    tensor_free(all[i]);
  }
  return o;
}

void outcome_free(outcome *o) {
  void *const arrays[] = {o->y, o->dx, o->dweight, o->dbias, o->mean, o->rstd, o->var, o->saved, o->moments};
  for (size_t i = 0; i < COUNT(arrays); i++) {
    free(arrays[i]);
  }
}

void assert_same_outcome(const trial *t, const outcome *got, const outcome *expected) {
  norma_type ptype = norma_param_type(t->type);
  int64_t elements = norma_layer_elements(&t->layer), units = norma_layer_units(&t->layer);
  int64_t params = norma_layer_params(&t->layer);
  assert_same_bits("y", t->type, got->y, expected->y, elements);
  assert_same_bits("dx", t->type, got->dx, expected->dx, elements);
  if (got->dweight != NULL) {
    assert_same_bits("dweight", ptype, got->dweight, expected->dweight, params);
    assert_same_bits("dbias", ptype, got->dbias, expected->dbias, params);
  }
  if (got->mean != NULL) {
    assert_same_bits("mean", ptype, got->mean, expected->mean, units);
    assert_same_bits("rstd", ptype, got->rstd, expected->rstd, units);
    assert_same_bits("var", ptype, got->var, expected->var, units);
    assert_same_bits("saved", NORMA_F64, got->saved, expected->saved, units * 4);
    for (int64_t u = 0; u < units; u++) {
      assert_int_equal(got->moments[u].count, expected->moments[u].count);
      assert_same_bits("moments", NORMA_F64, &got->moments[u].mean, &expected->moments[u].mean, 4);
    }
  }
}

void element_maps(const norma_layer *layer, int64_t *unit, int64_t *param) {
  int64_t elements = norma_layer_elements(layer);
  for (int64_t i = 0; i < elements; i++) {
    int64_t rest = i, units = 1, params = 1;
    unit[i] = param[i] = 0;
    for (int k = layer->axis_count - 1; k >= 0; k--) {
      int64_t length = layer->axes[k].length, at = rest % length;
      rest /= length;
      if (!(layer->axes[k].bits & NORMA_SHARE)) {
        unit[i] += at * units;
        units *= length;
      }
      if (layer->axes[k].bits & NORMA_AFFINE) {
        param[i] += at * params;
        params *= length;
      }
    }
  }
}

/* ----------------------------------------------------------------------------------------------------- AdaIN --- */

adain_trial adain_new(const norma_layer *content, const norma_layer *style, norma_type type, uint64_t *seed) {
  adain_trial t = {.content_layer = *content, .style_layer = *style, .type = type};
  t.content = random_array(seed, type, norma_layer_elements(content), 2, 1);
  t.style = random_array(seed, type, norma_layer_elements(style), -1, 3);
  t.dy = random_array(seed, type, norma_layer_elements(content), 0, 1);
  return t;
}

void adain_free(adain_trial *t) {
  free(t->content);
  free(t->style);
  free(t->dy);
}

/* Both directions: forward when there is no dy. */
static void adain_call(norma_adain_args *args, const manner *m) {
  unsigned char *base = NULL;
  if (m->own_workspace) {
    args->workspace_size = norma_adain_workspace(args);
    base = workspace_new(args->workspace_size);
    args->workspace = base + PAD;
  }
  norma_error error;
  assert_ok(args->dy == NULL ? norma_adain(args, &error) : norma_adain_backward(args, &error), &error);
  workspace_free(base, args->workspace_size);
}

static norma_adain_args adain_args(const adain_trial *t, const manner *m, const tensor *content, const tensor *style) {
  return (norma_adain_args){.size = sizeof(norma_adain_args), .content_layer = &t->content_layer,
                            .style_layer = &t->style_layer, .type = t->type, .content = content->data,
                            .style = style->data, .content_strides = content->strides,
                            .style_strides = style->strides, .alpha = t->alpha, .content_eps = t->content_eps,
                            .style_eps = t->style_eps, .content_ddof = t->content_ddof,
                            .style_ddof = t->style_ddof, .flags = t->flags, .threads = m->threads};
}

adain_outcome adain_run(const adain_trial *t, const manner *m) {
  adain_outcome o;
  tensor content = tensor_of(t->type, &t->content_layer, m->x, t->content);
  tensor style = tensor_of(t->type, &t->style_layer, m->style, t->style);
  tensor dy = tensor_of(t->type, &t->content_layer, m->dy, t->dy);
  tensor y = tensor_of(t->type, &t->content_layer, m->y, NULL);
  tensor dcontent = tensor_of(t->type, &t->content_layer, m->dx, NULL);
  tensor dstyle = tensor_of(t->type, &t->style_layer, m->dstyle, NULL);

  norma_adain_args args = adain_args(t, m, &content, &style);
  tensor *into = m->in_place ? &dy : &dcontent;
  args.dy = dy.data;
  args.dy_strides = dy.strides;
  args.dcontent = into->data;
  args.dcontent_strides = into->strides;
  args.dstyle = dstyle.data;
  args.dstyle_strides = dstyle.strides;
  adain_call(&args, m);
  o.dcontent = tensor_read(into);
  o.dstyle = tensor_read(&dstyle);

  args = adain_args(t, m, &content, &style);
  into = m->in_place ? &content : &y;
  args.y = into->data;
  args.y_strides = into->strides;
  adain_call(&args, m);
  o.y = tensor_read(into);

  tensor *const all[] = {&content, &style, &dy, &y, &dcontent, &dstyle};
  static const char *const names[] = {"content", "style", "dy", "y", "dcontent", "dstyle"};
  for (size_t i = 0; i < COUNT(all); i++) {
    tensor_check_gaps(all[i], names[i]);
    tensor_free(all[i]);
  }
  return o;
}

void adain_outcome_free(adain_outcome *o) {
  free(o->y);
  free(o->dcontent);
  free(o->dstyle);
}

void assert_same_adain(const adain_trial *t, const adain_outcome *got, const adain_outcome *expected) {
  assert_same_bits("y", t->type, got->y, expected->y, norma_layer_elements(&t->content_layer));
  assert_same_bits("dcontent", t->type, got->dcontent, expected->dcontent, norma_layer_elements(&t->content_layer));
  assert_same_bits("dstyle", t->type, got->dstyle, expected->dstyle, norma_layer_elements(&t->style_layer));
}

/* --------------------------------------------------------------------------------------------------- samples --- */

int sample_pair(int index, const char **name, norma_layer *content, norma_layer *style) {
  static const struct {
    const char *name, *pattern, *sizes;
    int ndim;
    int64_t content[5], style[5];
  } pairs[] = {
      {"AdaIN 3-D", "n c [l]", NULL, 3, {2, 3, 19}, {2, 3, 35}},
      {"AdaIN 4-D", "n c [h w]", NULL, 4, {3, 5, 9, 8}, {3, 5, 4, 6}},
      {"AdaIN 5-D", "n c [d h w]", NULL, 5, {2, 3, 2, 3, 4}, {2, 3, 3, 2, 5}},
      {"AdaIN of groups", "n (g [k]) [h w]", "g=2", 4, {2, 6, 4, 3}, {2, 8, 3, 5}},
      {"AdaIN of tokens", "n t [d]", NULL, 3, {2, 3, 20}, {2, 3, 18}},
      {"AdaIN of the batch", "[n] c [h w]", NULL, 4, {3, 4, 3, 5}, {2, 4, 4, 3}},
  };
  if (index >= (int)COUNT(pairs)) {
    return 0;
  }
  norma_error error;
  *name = pairs[index].name;
  problem_is("%s: '%s'", pairs[index].name, pairs[index].pattern);
  assert_ok(norma_layer_parse(content, pairs[index].pattern, "", pairs[index].sizes, pairs[index].ndim,
                              pairs[index].content, &error),
            &error);
  assert_ok(norma_layer_parse(style, pairs[index].pattern, "", pairs[index].sizes, pairs[index].ndim,
                              pairs[index].style, &error),
            &error);
  return 1;
}

int sample_layer(int index, const char **name, norma_layer *layer) {
  static const struct {
    const char *name, *pattern, *affine, *sizes;
    int rms, ndim;
    int64_t shape[5];
  } samples[] = {
      {"batch 2-D", "[n] c", "c", NULL, 0, 2, {37, 5}},
      {"batch 3-D", "[n] c [l]", "c", NULL, 0, 3, {5, 3, 19}},
      {"batch 4-D", "[n] c [h w]", "c", NULL, 0, 4, {3, 5, 4, 7}},
      {"batch 5-D", "[n] c [d h w]", "c", NULL, 0, 5, {2, 3, 2, 3, 5}},
      {"layer 1-D", "[d]", "d", NULL, 0, 1, {71}},
      {"layer 2-D", "n [d]", "d", NULL, 0, 2, {5, 67}},
      {"layer 3-D", "n t [d]", "d", NULL, 0, 3, {2, 3, 33}},
      {"layer over two", "n [t d]", "t d", NULL, 0, 3, {3, 5, 18}},
      {"layer 4-D", "n [c h w]", "c h w", NULL, 0, 4, {3, 4, 5, 6}},
      {"layer channels first", "n [c] h w", "c", NULL, 0, 4, {2, 21, 3, 4}},
      {"instance 3-D", "n c [l]", "c", NULL, 0, 3, {3, 4, 35}},
      {"instance 4-D", "n c [h w]", "c", NULL, 0, 4, {3, 5, 9, 8}},
      {"instance 5-D", "n c [d h w]", "c", NULL, 0, 5, {2, 3, 3, 4, 5}},
      {"group 2-D", "n (g [k])", "(g k)", "g=3", 0, 2, {4, 21}},
      {"group 3-D", "n (g [k]) [l]", "(g k)", "g=2", 0, 3, {3, 6, 17}},
      {"group 4-D", "n (g [k]) [h w]", "(g k)", "g=4", 0, 4, {3, 12, 5, 4}},
      {"group 5-D", "n (g [k]) [d h w]", "(g k)", "g=2", 0, 5, {2, 6, 2, 3, 4}},
      {"rms 2-D", "n [d]", "d", NULL, 1, 2, {4, 69}},
      {"rms 3-D", "n t [d]", "d", NULL, 1, 3, {2, 3, 35}},
      {"rms channels first", "n [c] h w", "c", NULL, 1, 4, {2, 20, 3, 4}},
      {"rms batch", "[n] c [h w]", "c", NULL, 1, 4, {3, 4, 3, 6}},
      {"FiLM instance", "n c [h w]", "n c", NULL, 0, 4, {3, 4, 5, 7}},
      {"conditional batch", "[n] c [h w]", "n c", NULL, 0, 4, {3, 4, 5, 3}},
      {"adaLN", "n t [d]", "n d", NULL, 0, 3, {3, 4, 18}},
      {"no affine", "n c [h w]", "", NULL, 0, 4, {2, 3, 5, 7}},
      {"custom split", "[n] (g [k]) h [w]", "g h", "g=3", 0, 4, {3, 6, 4, 5}},
      {"custom inner split", "n ([a] b [c]) w", "b w", "a=2 b=3", 0, 3, {3, 30, 4}},
      {"custom kept inside", "n [c] h [w]", "h", NULL, 0, 4, {2, 7, 3, 6}},
  };
  if (index >= (int)COUNT(samples)) {
    return 0;
  }
  norma_error error;
  *name = samples[index].name;
  problem_is("%s: '%s' affine '%s'", samples[index].name, samples[index].pattern, samples[index].affine);
  assert_ok(norma_layer_parse(layer, samples[index].pattern, samples[index].affine, samples[index].sizes,
                              samples[index].ndim, samples[index].shape, &error),
            &error);
  layer->rms = samples[index].rms;
  return 1;
}
