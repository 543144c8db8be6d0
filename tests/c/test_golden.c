/* The library against PyTorch 2.13.0: the values in tests/golden/golden.h, made by tests/golden/make_golden.py.
 * PyTorch's own float32 results carry errors of a few units in the last place, so float32 is compared to 2e-6. */
#include "../golden/golden.h"
#include "support.h"

#include <math.h>
#include <stdlib.h>

static norma_error error;

static norma_layer layer_of(const struct golden_case *g) {
  norma_layer layer;
  norma_status status = NORMA_BAD_ARGUMENT;
  switch (g->kind) {
    case GOLDEN_BATCH: status = norma_layer_batch(&layer, g->ndim, g->shape, &error); break;
    case GOLDEN_INSTANCE: status = norma_layer_instance(&layer, g->ndim, g->shape, &error); break;
    case GOLDEN_GROUP: status = norma_layer_group(&layer, g->number, g->ndim, g->shape, &error); break;
    case GOLDEN_LAYER: status = norma_layer_norm(&layer, (int)g->number, g->ndim, g->shape, &error); break;
    case GOLDEN_CHANNELS_FIRST: status = norma_layer_norm_dims(&layer, 1u << 1, g->ndim, g->shape, &error); break;
    case GOLDEN_RMS: status = norma_layer_rms(&layer, (int)g->number, g->ndim, g->shape, &error); break;
  }
  assert_ok(status, &error);
  if (g->affine) {
    assert_ok(norma_layer_affine(&layer, g->affine, &error), &error);
  }
  return layer;
}

static norma_type type_of(const struct golden_case *g) { return g->float32 ? NORMA_F32 : NORMA_F64; }

/* NULL stays NULL. */
static void *narrowed(const struct golden_case *g, const double *values, int64_t n) {
  return values ? from_doubles(type_of(g), values, n) : NULL;
}

/* Equal to within the tolerance times the largest number of the array. */
static void assert_near(const char *name, norma_type type, const void *got, const double *golden, int64_t n) {
  double *values = to_doubles(type, got, n), largest = 1;
  for (int64_t i = 0; i < n; i++) {
    largest = fmax(largest, fabs(golden[i]));
  }
  for (int64_t i = 0; i < n; i++) {
    if (!(fabs(values[i] - golden[i]) <= (type == NORMA_F32 ? 2e-6 : 1e-13) * largest)) {
      fail_problem("%s[%lld] is %.17g, PyTorch has %.17g", name, (long long)i, values[i], golden[i]);
    }
  }
  free(values);
}

/* Statistics per channel given to a layer that may have one unit per sample and channel. */
static const int64_t per_channel[NORMA_MAX_DIMS] = {0, 1};

static void forward_gives_the_golden_y(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(golden_cases); i++) {
    const struct golden_case *g = &golden_cases[i];
    problem_is("%s", g->name);
    norma_layer layer = layer_of(g);
    int64_t n = norma_layer_elements(&layer), params = norma_layer_params(&layer);
    void *x = narrowed(g, g->x, n), *y = narrowed(g, g->x, n), *weight = narrowed(g, g->weight, params);
    void *bias = narrowed(g, g->bias, params), *mean = narrowed(g, g->given_mean, g->shape[1]);
    void *var = narrowed(g, g->given_var, g->shape[1]);
    norma_forward_args args = {.size = sizeof args, .layer = &layer, .type = type_of(g), .x = x, .y = y,
                               .weight = weight, .bias = bias, .eps = g->eps, .given_mean = mean, .given_var = var,
                               .given_strides = per_channel};
    args.flags = g->weight_plus_one ? NORMA_WEIGHT_PLUS_ONE : 0;
    assert_ok(norma_forward(&args, &error), &error);
    assert_near("y", args.type, y, g->y, n);
    free(var);
    free(mean);
    free(bias);
    free(weight);
    free(y);
    free(x);
  }
}

static void backward_gives_the_golden_gradients(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(golden_cases); i++) {
    const struct golden_case *g = &golden_cases[i];
    problem_is("%s", g->name);
    norma_layer layer = layer_of(g);
    int64_t n = norma_layer_elements(&layer), params = norma_layer_params(&layer);
    void *x = narrowed(g, g->x, n), *dy = narrowed(g, g->dy, n), *dx = narrowed(g, g->x, n);
    void *weight = narrowed(g, g->weight, params), *mean = narrowed(g, g->given_mean, g->shape[1]);
    void *dweight = narrowed(g, g->dweight, params), *dbias = narrowed(g, g->dbias, params);
    void *var = narrowed(g, g->given_var, g->shape[1]);
    if (dweight) {
      norma_from_double(type_of(g), (double[]){NAN}, dweight, 1, 1);
    }
    norma_backward_args args = {.size = sizeof args, .layer = &layer, .type = type_of(g), .x = x, .dy = dy, .dx = dx,
                                .weight = weight, .dweight = dweight, .dbias = dbias, .eps = g->eps,
                                .given_mean = mean, .given_var = var, .given_strides = per_channel};
    args.flags = g->weight_plus_one ? NORMA_WEIGHT_PLUS_ONE : 0;
    assert_ok(norma_backward(&args, &error), &error);
    assert_near("dx", args.type, dx, g->dx, n);
    if (dweight) {
      assert_near("dweight", args.type, dweight, g->dweight, params);
    }
    if (dbias) {
      assert_near("dbias", args.type, dbias, g->dbias, params);
    }
    free(var);
    free(dbias);
    free(dweight);
    free(mean);
    free(weight);
    free(dx);
    free(dy);
    free(x);
  }
}

static void running_statistics_move_as_in_pytorch(void **state) {
  (void)state;
  int tested = 0;
  for (size_t i = 0; i < COUNT(golden_cases); i++) {
    const struct golden_case *g = &golden_cases[i];
    if (!g->old_mean) {
      continue;
    }
    problem_is("%s", g->name);
    norma_layer layer = layer_of(g);
    int64_t channels = g->shape[1];
    norma_moments *moments = calloc((size_t)norma_layer_units(&layer), sizeof *moments);
    void *x = narrowed(g, g->x, norma_layer_elements(&layer));
    void *mean = narrowed(g, g->old_mean, channels), *var = narrowed(g, g->old_var, channels);
    norma_forward_args args = {.size = sizeof args, .layer = &layer, .type = type_of(g), .x = x, .moments = moments};
    assert_ok(norma_forward(&args, &error), &error);
    norma_running_args update = {.size = sizeof update, .type = type_of(g), .channels = channels, .moments = moments,
                                 .samples = g->kind == GOLDEN_INSTANCE ? g->shape[0] : 1, .running_mean = mean,
                                 .running_var = var};
    assert_ok(norma_running_update(&update, &error), &error);
    assert_near("running_mean", args.type, mean, g->running_mean, channels);
    assert_near("running_var", args.type, var, g->running_var, channels);
    free(var);
    free(mean);
    free(x);
    free(moments);
    tested++;
  }
  assert_true(tested >= 5);
}

static norma_adain_args adain_of(const struct golden_adain *g, norma_layer *content, norma_layer *style) {
  int64_t content_shape[] = {g->n, g->c, g->content_size}, style_shape[] = {g->n, g->c, g->style_size};
  assert_ok(norma_layer_instance(content, 3, content_shape, &error), &error);
  assert_ok(norma_layer_instance(style, 3, style_shape, &error), &error);
  norma_adain_args args = {.size = sizeof args, .content_layer = content, .style_layer = style, .type = NORMA_F64,
                           .content = g->content, .style = g->style, .alpha = g->alpha,
                           .content_eps = g->content_eps, .style_eps = g->style_eps,
                           .content_ddof = g->content_ddof, .style_ddof = g->style_ddof};
  args.flags = g->style_eps == 0 ? NORMA_STYLE_EPS_ZERO : 0;
  return args;
}

static void adain_gives_the_golden_y_and_gradients(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(golden_adains); i++) {
    const struct golden_adain *g = &golden_adains[i];
    problem_is("%s", g->name);
    norma_layer content, style;
    norma_adain_args args = adain_of(g, &content, &style);
    int64_t n = norma_layer_elements(&content), m = norma_layer_elements(&style);
    double *y = calloc((size_t)n, sizeof *y), *dcontent = calloc((size_t)n, sizeof *y);
    double *dstyle = calloc((size_t)m, sizeof *y);
    args.y = y;
    assert_ok(norma_adain(&args, &error), &error);
    assert_near("y", NORMA_F64, y, g->y, n);
    args.y = NULL;
    args.dy = g->dy;
    args.dcontent = dcontent;
    args.dstyle = dstyle;
    assert_ok(norma_adain_backward(&args, &error), &error);
    assert_near("dcontent", NORMA_F64, dcontent, g->dcontent, n);
    assert_near("dstyle", NORMA_F64, dstyle, g->dstyle, m);
    free(dstyle);
    free(dcontent);
    free(y);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(forward_gives_the_golden_y),
      cmocka_unit_test(backward_gives_the_golden_gradients),
      cmocka_unit_test(running_statistics_move_as_in_pytorch),
      cmocka_unit_test(adain_gives_the_golden_y_and_gradients),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
