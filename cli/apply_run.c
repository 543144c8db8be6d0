/* The calls of `norma apply` into the library. */
#include "apply.h"

#include <stdlib.h>
#include <string.h>

/* What forward, backward and AdaIN have in common. */
typedef struct settings {
  double eps, style_eps, alpha;
  int ddof, style_ddof;
  unsigned flags;
} settings;

/* An option for which the library reads 0 as the default, and a flag as 0. */
static int read_number(const apply_options *o, apply_option option, unsigned zero_flag, double *number,
                       unsigned *flags) {
  if (o->value[option] == NULL) return EXIT_GOOD;
  int bad = option_number(o, option, number);
  if (bad == EXIT_GOOD && *number == 0) *flags |= zero_flag;
  return bad;
}

static int read_ddof(const apply_options *o, apply_option option, int *ddof) {
  static const char *const words[] = {"0", "1", NULL};
  return o->value[option] != NULL ? option_word(o, option, words, ddof) : EXIT_GOOD;
}

static int read_settings(const apply_options *o, settings *s) {
  memset(s, 0, sizeof *s);
  int bad = read_number(o, OPT_EPS, NORMA_EPS_ZERO, &s->eps, &s->flags);
  if (bad == EXIT_GOOD) bad = read_number(o, OPT_STYLE_EPS, NORMA_STYLE_EPS_ZERO, &s->style_eps, &s->flags);
  if (bad == EXIT_GOOD) bad = read_number(o, OPT_ALPHA, NORMA_ALPHA_ZERO, &s->alpha, &s->flags);
  if (bad == EXIT_GOOD) bad = read_ddof(o, OPT_DDOF, &s->ddof);
  if (bad == EXIT_GOOD) bad = read_ddof(o, OPT_STYLE_DDOF, &s->style_ddof);
  if (o->value[OPT_REFUSE_SINGLE] != NULL) s->flags |= NORMA_REFUSE_SINGLE;
  if (o->value[OPT_PLUS_ONE] != NULL) s->flags |= NORMA_WEIGHT_PLUS_ONE;
  return bad;
}

static int run_adain(apply_job *job, const settings *s) {
  npy_array *a = job->arrays;
  const tensor_view y = view_of(&a[OPT_OUTPUT], job->options.value[OPT_CHANNELS_LAST] != NULL);
  const tensor_view dx = view_of(&a[OPT_DX], job->options.value[OPT_CHANNELS_LAST] != NULL);
  const tensor_view dstyle = view_of(&a[OPT_DSTYLE], job->style_last);
  norma_adain_args args = {
      .size = sizeof args,
      .content_layer = &job->layer,
      .style_layer = &job->style_layer,
      .type = a[OPT_INPUT].type,
      .content = a[OPT_INPUT].data,
      .content_strides = job->x.strides,
      .style = a[OPT_STYLE].data,
      .style_strides = job->style.strides,
      .y = a[OPT_OUTPUT].data,
      .y_strides = y.strides,
      .dy = a[OPT_DY].data,
      .dy_strides = job->dy.strides,
      .dcontent = a[OPT_DX].data,
      .dcontent_strides = dx.strides,
      .dstyle = a[OPT_DSTYLE].data,
      .dstyle_strides = dstyle.strides,
      .alpha = s->alpha,
      .content_eps = s->eps,
      .style_eps = s->style_eps,
      .content_ddof = s->ddof,
      .style_ddof = s->style_ddof,
      .flags = s->flags,
  };
  norma_error error;
  norma_status status = args.y != NULL ? norma_adain(&args, &error) : NORMA_OK;
  if (status == NORMA_OK && args.dy != NULL) status = norma_adain_backward(&args, &error);
  return status == NORMA_OK ? EXIT_GOOD : layer_refuse(job, &job->x, job->options.inputs[0], &error);
}

static int update_running(apply_job *job, const norma_moments *moments) {
  static const char *const conventions[] = {"pytorch", "onnx", "cumulative", NULL};
  static const char *const policies[] = {"store", "refuse", "skip", NULL};
  const apply_options *o = &job->options;
  npy_array *mean = &job->arrays[OPT_SAVE_RUNNING_MEAN], *var = &job->arrays[OPT_SAVE_RUNNING_VAR];
  array_shape channels = layer_array_shape(&job->layer, ROLE_RUNNING);
  int convention = NORMA_PYTORCH, policy = NORMA_NOT_FINITE_STORE, bad = EXIT_GOOD;
  norma_running_args args = {.size = sizeof args,
                             .type = mean->data != NULL ? mean->type : var->type,
                             .channels = channels.count,
                             .moments = moments,
                             .running_mean = mean->data,
                             .running_var = var->data};
  args.samples = channels.count > 0 ? norma_layer_units(&job->layer) / channels.count : 0;
  if (o->value[OPT_CONVENTION] != NULL) bad = option_word(o, OPT_CONVENTION, conventions, &convention);
  if (bad == EXIT_GOOD && o->value[OPT_NOT_FINITE] != NULL) bad = option_word(o, OPT_NOT_FINITE, policies, &policy);
  if (bad == EXIT_GOOD && o->value[OPT_MOMENTUM] != NULL) {
    bad = option_number(o, OPT_MOMENTUM, &args.momentum);
    if (bad == EXIT_GOOD && args.momentum == 0) bad = cli_fail("--momentum is 0; it must be in (0, 1]");
  }
  if (bad == EXIT_GOOD && o->value[OPT_BATCHES] != NULL) bad = option_integer(o, OPT_BATCHES, 1, &args.batches);
  if (bad != EXIT_GOOD || args.samples == 0) return bad; /* no sample: nothing moves */
  args.convention = (norma_convention)convention;
  args.not_finite = (norma_not_finite)policy;
  norma_error error;
  if (norma_running_update(&args, &error) == NORMA_OK) return EXIT_GOOD;
  return layer_refuse(job, &job->x, job->options.inputs[0], &error);
}

static int run_forward(apply_job *job, const settings *s) {
  npy_array *a = job->arrays;
  const tensor_view y = view_of(&a[OPT_OUTPUT], job->options.value[OPT_CHANNELS_LAST] != NULL);
  norma_forward_args args = {
      .size = sizeof args,
      .layer = &job->layer,
      .type = a[OPT_INPUT].type,
      .x = a[OPT_INPUT].data,
      .x_strides = job->x.strides,
      .y = a[OPT_OUTPUT].data,
      .y_strides = y.strides,
      .weight = a[OPT_WEIGHT].data,
      .bias = a[OPT_BIAS].data,
      .eps = s->eps,
      .ddof = s->ddof,
      .flags = s->flags,
      .given_mean = a[OPT_MEAN].data,
      .given_var = a[OPT_VAR].data,
      .mean = a[OPT_SAVE_MEAN].data,
      .var = a[OPT_SAVE_VAR].data,
      .rstd = a[OPT_SAVE_RSTD].data,
  };
  bool update = job->options.value[OPT_UPDATE] != NULL;
  if (args.y == NULL && args.mean == NULL && args.var == NULL && args.rstd == NULL && !update) return EXIT_GOOD;
  if (update) {
    size_t units = (size_t)norma_layer_units(&job->layer);
    args.moments = calloc(units > 0 ? units : 1, sizeof *args.moments);
    if (args.moments == NULL) return cli_fail("no memory for the statistics of %zu units", units);
  }
  norma_error error;
  int bad = EXIT_GOOD;
  if (norma_forward(&args, &error) != NORMA_OK) bad = layer_refuse(job, &job->x, job->options.inputs[0], &error);
  if (bad == EXIT_GOOD && update) bad = update_running(job, args.moments);
  free(args.moments);
  return bad;
}

static int run_backward(apply_job *job, const settings *s) {
  npy_array *a = job->arrays;
  const tensor_view dx = view_of(&a[OPT_DX], job->options.value[OPT_CHANNELS_LAST] != NULL);
  norma_backward_args args = {
      .size = sizeof args,
      .layer = &job->layer,
      .type = a[OPT_INPUT].type,
      .x = a[OPT_INPUT].data,
      .x_strides = job->x.strides,
      .dy = a[OPT_DY].data,
      .dy_strides = job->dy.strides,
      .dx = a[OPT_DX].data,
      .dx_strides = dx.strides,
      .weight = a[OPT_WEIGHT].data,
      .dweight = a[OPT_DWEIGHT].data,
      .dbias = a[OPT_DBIAS].data,
      .eps = s->eps,
      .ddof = s->ddof,
      .flags = s->flags,
      .given_mean = a[OPT_MEAN].data,
      .given_var = a[OPT_VAR].data,
  };
  norma_error error;
  if (norma_backward(&args, &error) == NORMA_OK) return EXIT_GOOD;
  return layer_refuse(job, &job->x, job->options.inputs[0], &error);
}

int run_layer(apply_job *job) {
  settings s;
  int bad = read_settings(&job->options, &s);
  if (bad != EXIT_GOOD) return bad;
  size_t bytes = job->arrays[OPT_INPUT].bytes;
  show_progress("computing", job->options.inputs[0], 0, bytes);
  if (job->options.kind == KIND_ADAIN) {
    bad = run_adain(job, &s);
  } else {
    bad = run_forward(job, &s);
    if (bad == EXIT_GOOD && job->arrays[OPT_DY].data != NULL) bad = run_backward(job, &s);
  }
  show_progress("computing", job->options.inputs[0], bytes, bytes);
  return bad;
}
