/* norma_fold against the operator written naively, followed by norma_forward with given statistics. The operator works
 * in float64 on weights that the tested type holds exactly, so the only error of the folded operator is the rounding of
 * its weights: u * (sum |w' x| + |b'|) per output, with u the type's unit roundoff. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static norma_error error;

/* A linear operator on (positions of) a sequence; linear layers have kernel 1 and one position. */
typedef struct problem {
  const char *name;
  norma_operator op;
  int64_t in, out, groups, kernel, length;
  int has_bias;
} problem;

static const problem problems[] = {
    {"linear", NORMA_LINEAR, 5, 4, 1, 1, 1, 1},
    {"linear without bias", NORMA_LINEAR, 3, 6, 1, 1, 1, 0},
    {"convolution", NORMA_CONV, 3, 4, 1, 3, 6, 1},
    {"convolution in groups", NORMA_CONV, 6, 4, 2, 2, 5, 1},
    {"convolution in groups without bias", NORMA_CONV, 4, 6, 2, 3, 4, 0},
    {"depthwise convolution", NORMA_CONV, 5, 5, 5, 3, 4, 1},
    {"depthwise convolution, two outputs per channel", NORMA_CONV, 3, 6, 3, 2, 4, 0},
    {"transposed convolution", NORMA_CONV_TRANSPOSE, 4, 4, 1, 3, 5, 1},
    {"transposed convolution, more outputs", NORMA_CONV_TRANSPOSE, 3, 5, 1, 2, 4, 0},
    {"transposed convolution in groups", NORMA_CONV_TRANSPOSE, 4, 6, 2, 3, 4, 1},
    {"depthwise transposed convolution", NORMA_CONV_TRANSPOSE, 4, 4, 4, 2, 4, 0},
};

static int64_t weight_count(const problem *p) {
  return p->op == NORMA_CONV_TRANSPOSE ? p->in * (p->out / p->groups) * p->kernel
                                       : p->out * (p->in / p->groups) * p->kernel;
}

static int64_t out_length(const problem *p) {
  return p->op == NORMA_CONV_TRANSPOSE ? p->length + p->kernel - 1 : p->length - p->kernel + 1;
}

/* One output of the operator with stride 1 and no padding; `size` sums the absolute terms. */
static double one_output(const problem *p, const double *w, const double *b, const double *x, int64_t o, int64_t at,
                         double *size) {
  int64_t in_group = p->in / p->groups, out_group = p->out / p->groups, group = o / out_group;
  double sum = b ? b[o] : 0;
  *size = fabs(sum);
  for (int64_t i = 0; i < in_group; i++) {
    for (int64_t k = 0; k < p->kernel; k++) {
      int64_t channel = group * in_group + i, from = p->op == NORMA_CONV_TRANSPOSE ? at - k : at + k;
      if (from < 0 || from >= p->length) {
        continue;
      }
      int64_t index = p->op == NORMA_CONV_TRANSPOSE ? (channel * out_group + o % out_group) * p->kernel + k
                                                    : (o * in_group + i) * p->kernel + k;
      double term = w[index] * x[channel * p->length + from];
      sum += term;
      *size += fabs(term);
    }
  }
  return sum;
}

static double roundoff(norma_type type) {
  return type == NORMA_F64 ? 0x1p-52 : type == NORMA_F32 ? 0x1p-24 : type == NORMA_F16 ? 0x1p-11 : 0x1p-8;
}

/* Statistics, gamma and beta, in float64 numbers that float32 holds. */
typedef struct statistics {
  double *mean, *var, *gamma, *beta;
} statistics;

static statistics statistics_new(uint64_t *seed, int64_t c) {
  statistics s = {random_array(seed, NORMA_F32, c, 1, 2), random_array(seed, NORMA_F32, c, 0, 1),
                  random_array(seed, NORMA_F32, c, 1, 0.5), random_array(seed, NORMA_F32, c, 0, 1)};
  for (int64_t i = 0; i < c; i++) {
    s.var[i] = fabs(s.var[i]) + 0.25;
  }
  round_array(NORMA_F32, s.var, c);
  return s;
}

static void statistics_free(statistics *s) {
  free(s->mean);
  free(s->var);
  free(s->gamma);
  free(s->beta);
}

/* y of the operator followed by batch norm with given statistics: [out][length], all float64. */
static double *operator_then_norm(const problem *p, const double *w, const double *b, const double *x,
                                  const statistics *s, double eps, unsigned flags) {
  int64_t length = out_length(p);
  double *z = malloc(sizeof *z * (size_t)(p->out * length)), size;
  for (int64_t i = 0; i < p->out * length; i++) {
    z[i] = one_output(p, w, b, x, i / length, i % length, &size);
  }
  norma_layer layer;
  assert_ok(norma_layer_batch(&layer, 3, (int64_t[]){1, p->out, length}, &error), &error);
  norma_forward_args args = {.size = sizeof args, .layer = &layer, .type = NORMA_F64, .x = z, .y = z,
                             .weight = s->gamma, .bias = s->beta, .eps = eps, .flags = flags, .given_mean = s->mean,
                             .given_var = s->var};
  assert_ok(norma_forward(&args, &error), &error);
  return z;
}

/* Runs one problem in one type and compares every output. */
static void check_problem(const problem *p, norma_type type, norma_type stats_type, int in_place, double eps,
                          unsigned flags, uint64_t *seed) {
  int64_t weights = weight_count(p), length = out_length(p);
  double *w = random_array(seed, type, weights, 0, 1), *b = random_array(seed, type, p->out, 0, 1);
  double *x = random_array(seed, NORMA_F64, p->in * p->length, 0, 1);
  statistics s = statistics_new(seed, p->out);
  void *mean = from_doubles(stats_type, s.mean, p->out), *var = from_doubles(stats_type, s.var, p->out);
  void *gamma = from_doubles(stats_type, s.gamma, p->out), *beta = from_doubles(stats_type, s.beta, p->out);
  void *weight = from_doubles(type, w, weights), *bias = from_doubles(type, b, p->out);
  void *to_weight = malloc(norma_type_size(type) * (size_t)weights);
  void *to_bias = malloc(norma_type_size(type) * (size_t)p->out);
  norma_layer layer;
  assert_ok(norma_layer_batch(&layer, 3, (int64_t[]){2, p->out, 9}, &error), &error);
  norma_fold_args args = {.size = sizeof args, .layer = &layer, .type = stats_type, .mean = mean, .var = var,
                          .gamma = gamma, .beta = beta, .eps = eps, .flags = flags, .op = p->op, .op_type = type,
                          .out_channels = p->out, .in_channels = p->in, .groups = p->groups == 1 ? 0 : p->groups,
                          .kernel_elements = p->kernel == 1 ? 0 : p->kernel, .weight = weight,
                          .bias = p->has_bias ? bias : NULL, .folded_weight = in_place ? weight : to_weight,
                          .folded_bias = in_place ? bias : to_bias};
  assert_ok(norma_fold(&args, &error), &error);
  double *folded_w = to_doubles(type, args.folded_weight, weights);
  double *folded_b = to_doubles(type, args.folded_bias, p->out);
  double *y = operator_then_norm(p, w, p->has_bias ? b : NULL, x, &s, eps, flags);
  for (int64_t i = 0; i < p->out * length; i++) {
    double size, got = one_output(p, folded_w, folded_b, x, i / length, i % length, &size);
    double gamma_and_more = fabs(s.gamma[i / length]) + 1, offset = fabs(s.mean[i / length]) + 1;
    double bound = 1.01 * roundoff(type) * size + 1e-14 * (size + gamma_and_more * offset / sqrt(s.var[i / length]));
    if (!(fabs(got - y[i]) <= bound)) {
      fail_problem("output %lld is %.17g, not %.17g (bound %.3g)", (long long)i, got, y[i], bound);
    }
  }
  free(y);
  free(folded_b);
  free(folded_w);
  free(to_bias);
  free(to_weight);
  free(bias);
  free(weight);
  free(beta);
  free(gamma);
  free(var);
  free(mean);
  statistics_free(&s);
  free(x);
  free(b);
  free(w);
}

static void a_folded_operator_equals_operator_and_norm(void **state) {
  (void)state;
  uint64_t seed = 1;
  for (size_t i = 0; i < COUNT(problems); i++) {
    for (int t = 0; t < 4; t++) {
      for (int in_place = 0; in_place < 2; in_place++) {
        problem_is("%s in %s%s", problems[i].name, norma_type_name(all_types[t]), in_place ? ", in place" : "");
        check_problem(&problems[i], all_types[t], NORMA_F32, in_place, 0, 0, &seed);
        check_problem(&problems[i], all_types[t], NORMA_F64, in_place, 0.5, 0, &seed);
      }
    }
  }
}

static void eps_zero_and_one_plus_weight_are_folded_too(void **state) {
  (void)state;
  uint64_t seed = 2;
  problem_is("eps 0");
  check_problem(&problems[2], NORMA_F64, NORMA_F64, 0, 0, NORMA_EPS_ZERO, &seed);
  problem_is("1 + weight");
  check_problem(&problems[2], NORMA_F64, NORMA_F32, 0, 0, NORMA_WEIGHT_PLUS_ONE, &seed);
}

static void scale_and_shift_are_their_formulas(void **state) {
  (void)state;
  enum { C = 5 };
  uint64_t seed = 3;
  statistics s = statistics_new(&seed, C);
  norma_layer layer;
  assert_ok(norma_layer_batch(&layer, 4, (int64_t[]){2, C, 3, 3}, &error), &error);
  double scale[C], shift[C];
  for (int with_affine = 0; with_affine < 2; with_affine++) {
    norma_fold_args args = {.size = sizeof args, .layer = &layer, .type = NORMA_F64, .mean = s.mean, .var = s.var,
                            .gamma = with_affine ? s.gamma : NULL, .beta = with_affine ? s.beta : NULL, .eps = 1e-3,
                            .scale = scale, .shift = shift, .out_channels = C};
    assert_ok(norma_fold(&args, &error), &error);
    for (int c = 0; c < C; c++) {
      double expected = (with_affine ? s.gamma[c] : 1) / sqrt(s.var[c] + 1e-3);
      double moved = (with_affine ? s.beta[c] : 0) - s.mean[c] * expected;
      problem_is("channel %d", c);
      assert_true(fabs(scale[c] - expected) <= 4e-16 * fabs(expected));
      assert_true(fabs(shift[c] - moved) <= 4e-16 * (fabs(moved) + 2 * fabs(s.mean[c] * expected)));
    }
    args.scale = NULL;
    assert_ok(norma_fold(&args, &error), &error);
    args.shift = NULL;
    args.scale = scale;
    assert_ok(norma_fold(&args, &error), &error);
  }
  statistics_free(&s);
}

static void variance_and_eps_zero_leave_only_beta(void **state) {
  (void)state;
  static const double mean[] = {3, 4}, var[] = {0, 4}, gamma[] = {2, 2}, beta[] = {5, 6};
  norma_layer layer;
  assert_ok(norma_layer_batch(&layer, 2, (int64_t[]){3, 2}, &error), &error);
  double scale[2], shift[2];
  norma_fold_args args = {.size = sizeof args, .layer = &layer, .type = NORMA_F64, .mean = mean, .var = var,
                          .gamma = gamma, .beta = beta, .flags = NORMA_EPS_ZERO, .scale = scale, .shift = shift,
                          .out_channels = 2};
  assert_ok(norma_fold(&args, &error), &error);
  assert_true(scale[0] == 0 && shift[0] == 5 && scale[1] == 1 && shift[1] == 2);
}

/* A good call on 4 channels, for the tests of what is refused; each test spoils one thing. */
enum { C = 4, IN = 6 };

typedef struct good_call {
  norma_layer layer;
  float mean[C], var[C], gamma[C], beta[C], weight[C * IN], bias[C], folded_weight[C * IN], folded_bias[C];
  double scale[C], shift[C];
  norma_fold_args args;
} good_call;

static void good_call_make(good_call *g) {
  memset(g, 0, sizeof *g);
  assert_ok(norma_layer_batch(&g->layer, 4, (int64_t[]){2, C, 3, 3}, &error), &error);
  for (int i = 0; i < C; i++) {
    g->var[i] = 1;
    g->scale[i] = g->shift[i] = g->folded_bias[i] = -77;
  }
  for (int i = 0; i < C * IN; i++) {
    g->folded_weight[i] = -77;
  }
  g->args = (norma_fold_args){.size = sizeof g->args, .layer = &g->layer, .type = NORMA_F32, .mean = g->mean,
                              .var = g->var, .gamma = g->gamma, .beta = g->beta, .scale = g->scale,
                              .shift = g->shift, .op = NORMA_CONV, .op_type = NORMA_F32, .out_channels = C,
                              .in_channels = IN, .weight = g->weight, .bias = g->bias,
                              .folded_weight = g->folded_weight, .folded_bias = g->folded_bias};
}

/* Refused with this status, the detail names both, and no output was written. */
static void assert_refused(good_call *g, norma_status status, const char *name, const char *value) {
  memset(&error, 0, sizeof error);
  norma_status got = norma_fold(&g->args, &error);
  if (got != status || error.status != status || !strstr(error.detail, name) || !strstr(error.detail, value)) {
    fail_problem("%s: %s (expected %s, naming '%s' and '%s')", norma_status_text(got), error.detail,
                 norma_status_text(status), name, value);
  }
  assert_int_equal(norma_fold(&g->args, NULL), status);
  for (int i = 0; i < C; i++) {
    assert_true(g->scale[i] == -77 && g->shift[i] == -77 && g->folded_bias[i] == -77);
  }
  for (int i = 0; i < C * IN; i++) {
    assert_true(g->folded_weight[i] == -77);
  }
}

static void layers_whose_statistics_come_from_the_input_are_refused_by_name(void **state) {
  (void)state;
  static const struct {
    const char *pattern, *affine, *sizes, *why;
    int rms;
  } layers[] = {
      {"n [c h w]", "c h w", NULL, "from each input", 0},
      {"n [c] h w", "c", NULL, "from each input", 0},
      {"n c [h w]", "c", NULL, "from each input", 0},
      {"n (g [k]) [h w]", "(g k)", "g=2", "from each input", 0},
      {"n [c] h w", "c", NULL, "RMS norm", 1},
      {"[n] c [h w]", "c", NULL, "RMS norm", 1},
      {"[n] c [h w]", "n c", NULL, "another gamma", 0},
      {"[n] c [h w]", "c w", NULL, "another gamma", 0},
  };
  for (size_t i = 0; i < COUNT(layers); i++) {
    good_call g;
    good_call_make(&g);
    problem_is("'%s' affine '%s'%s", layers[i].pattern, layers[i].affine, layers[i].rms ? ", RMS" : "");
    assert_ok(norma_layer_parse(&g.layer, layers[i].pattern, layers[i].affine, layers[i].sizes, 4,
                                (int64_t[]){2, C, 3, 3}, &error),
              &error);
    g.layer.rms = layers[i].rms;
    assert_refused(&g, NORMA_NOT_FOLDABLE, layers[i].pattern, layers[i].why);
  }
}

static void sizes_that_do_not_fit_are_refused(void **state) {
  (void)state;
  good_call g;
  good_call_make(&g);
  problem_is("5 output channels");
  g.args.out_channels = 5;
  assert_refused(&g, NORMA_BAD_SHAPE, "out_channels", "5");
  good_call_make(&g);
  problem_is("-1 input channels");
  g.args.in_channels = -1;
  assert_refused(&g, NORMA_BAD_SHAPE, "in_channels", "-1");
  good_call_make(&g);
  problem_is("-2 groups");
  g.args.groups = -2;
  assert_refused(&g, NORMA_BAD_SHAPE, "groups", "-2");
  good_call_make(&g);
  problem_is("4 groups of 6 input channels");
  g.args.groups = 4;
  assert_refused(&g, NORMA_BAD_SHAPE, "groups", "4");
  good_call_make(&g);
  problem_is("3 groups of 4 output channels");
  g.args.groups = 3;
  assert_refused(&g, NORMA_BAD_SHAPE, "groups", "3");
  good_call_make(&g);
  problem_is("a kernel of -9 elements");
  g.args.kernel_elements = -9;
  assert_refused(&g, NORMA_BAD_SHAPE, "kernel_elements", "-9");
  good_call_make(&g);
  problem_is("an overflowing kernel");
  g.args.kernel_elements = INT64_MAX / 2;
  assert_refused(&g, NORMA_BAD_SHAPE, "overflow", "");
}

static void impossible_values_are_refused(void **state) {
  (void)state;
  good_call g;
  good_call_make(&g);
  problem_is("a negative variance");
  g.var[2] = -0.5f;
  assert_refused(&g, NORMA_BAD_ARGUMENT, "var[2]", "-0.5");
  good_call_make(&g);
  problem_is("a negative eps");
  g.args.eps = -1e-5;
  assert_refused(&g, NORMA_BAD_ARGUMENT, "eps", "-1e-05");
  good_call_make(&g);
  problem_is("eps NaN");
  g.args.eps = NAN;
  assert_refused(&g, NORMA_BAD_ARGUMENT, "eps", "nan");
  good_call_make(&g);
  problem_is("statistics in f16");
  g.args.type = NORMA_F16;
  assert_refused(&g, NORMA_BAD_ARGUMENT, "type", "f16");
  good_call_make(&g);
  problem_is("an unknown type");
  g.args.op_type = (norma_type)9;
  assert_refused(&g, NORMA_BAD_ARGUMENT, "op_type", "9");
  good_call_make(&g);
  problem_is("an unknown operator");
  g.args.op = (norma_operator)4;
  assert_refused(&g, NORMA_BAD_ARGUMENT, "op", "4");
  good_call_make(&g);
  problem_is("a wrong size");
  g.args.size = 8;
  assert_refused(&g, NORMA_BAD_ARGUMENT, "size", "8");
  good_call_make(&g);
  problem_is("no layer");
  g.args.layer = NULL;
  assert_refused(&g, NORMA_BAD_ARGUMENT, "layer", "NULL");
  good_call_make(&g);
  problem_is("no mean");
  g.args.mean = NULL;
  assert_refused(&g, NORMA_NOT_FOLDABLE, "mean", "NULL");
  good_call_make(&g);
  problem_is("no variance");
  g.args.var = NULL;
  assert_refused(&g, NORMA_NOT_FOLDABLE, "var", "NULL");
  good_call_make(&g);
  problem_is("no weight");
  g.args.weight = NULL;
  assert_refused(&g, NORMA_BAD_ARGUMENT, "weight", "NULL");
  assert_int_equal(norma_fold(NULL, &error), NORMA_BAD_ARGUMENT);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_folded_operator_equals_operator_and_norm),
      cmocka_unit_test(eps_zero_and_one_plus_weight_are_folded_too),
      cmocka_unit_test(scale_and_shift_are_their_formulas),
      cmocka_unit_test(variance_and_eps_zero_leave_only_beta),
      cmocka_unit_test(layers_whose_statistics_come_from_the_input_are_refused_by_name),
      cmocka_unit_test(sizes_that_do_not_fit_are_refused),
      cmocka_unit_test(impossible_values_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
