/* Problem strings: reading, writing, what is refused and how, and that the values do not depend on the layout. */
#include "problem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static problem parsed(const char *text) {
  problem p;
  norma_error error;
  if (!problem_parse(text, &p, &error)) {
    fail_msg("%s: %s", text, error.detail);
  }
  return p;
}

static void assert_canonical(const char *text, const char *canonical) {
  problem p = parsed(text);
  char out[PROBLEM_TEXT_SIZE];
  problem_format(&p, out, sizeof out);
  assert_string_equal(out, canonical);
}

static void reads_every_item(void **state) {
  (void)state;
  problem p = parsed("group:n8,c64,h14,w14,g=32,layout=nhwc,type=bf16,dir=bwd,data=offset:1e4,eps=1e-5,seed=7");
  assert_int_equal(p.kind, PROBLEM_GROUP);
  assert_int_equal(p.ndim, 4);
  assert_string_equal(p.names[1], "c");
  assert_int_equal(p.shape[1], 64);
  assert_int_equal(p.groups, 32);
  assert_int_equal(p.layout, PROBLEM_CHANNELS_LAST);
  assert_int_equal(p.out, PROBLEM_CHANNELS_LAST);
  assert_int_equal(p.type, NORMA_BF16);
  assert_int_equal(p.direction, PROBLEM_BACKWARD);
  assert_int_equal(p.affine, PROBLEM_AFFINE_BOTH);
  assert_int_equal(p.x.data, PROBLEM_OFFSET);
  assert_true(p.x.value == 1e4);
  assert_true(p.has_eps && p.eps == 1e-5);
  assert_int_equal(p.seed, 7);

  p = parsed("adain:n2,c3,h4,w5,style=6x7,eps=0,eps2=1e-3,ddof=1,ddof2=1,alpha=0.5,inplace=1,threads=3,align=2");
  assert_int_equal(p.style_ndim, 2);
  assert_int_equal(p.style_shape[1], 7);
  assert_true(p.has_eps && p.eps == 0 && p.has_eps2 && p.eps2 == 1e-3 && p.has_alpha && p.alpha == 0.5);
  assert_true(p.ddof == 1 && p.ddof2 == 1 && p.inplace && p.threads == 3 && p.align == 2);

  p = parsed("norm:n8,c64,h14,pattern=n (g [k]) [h],g=4,k=16,rms=1,affine=g k,plus_one=1,workspace=1,stats=given");
  assert_string_equal(p.pattern, "n (g [k]) [h]");
  assert_string_equal(p.sizes, "g=4 k=16");
  assert_string_equal(p.affine_list, "g k");
  assert_true(p.rms && p.plus_one && p.workspace && p.stats == PROBLEM_STATS_GIVEN);

  assert_int_equal(parsed("layer:n2,t3,d4").axes, 1 << 2);
  assert_int_equal(parsed("layer:n2,c3,h4,w5,axes=c.w").axes, 1 << 1 | 1 << 3);
  assert_int_equal(parsed("rms:d4").affine, PROBLEM_AFFINE_WEIGHT);
}

static void writes_what_is_not_the_default(void **state) {
  (void)state;
  assert_canonical("batch:n2,c3,layout=nchw,type=f32,dir=fwd,stats=input,data=normal,affine=yes,seed=0", "batch:n2,c3");
  assert_canonical("batch:seed=9,eps=1.0e-05,n2,type=f16,c03", "batch:n2,c3,type=f16,eps=1e-05,seed=9");
  assert_canonical("layer:n2,d3,axes=d", "layer:n2,d3");
  assert_canonical("layer:n2,d3,axes=d.n", "layer:n2,d3,axes=n.d");
  assert_canonical("rms:d3,affine=weight", "rms:d3");
  assert_canonical("rms:d3,affine=yes", "rms:d3,affine=yes");
  assert_canonical("batch:n2,c3,layout=broadcast,out=nchw", "batch:n2,c3,layout=broadcast");
  assert_canonical("batch:n2,c3,layout=slice,out=nchw", "batch:n2,c3,layout=slice,out=contiguous");
  assert_canonical("batch:n2,c3,data=outlier", "batch:n2,c3,data=outlier");
  assert_canonical("batch:n2,c3,data=outlier:1e3,dy=constant:0", "batch:n2,c3,data=outlier:1e+03,dy=constant:0");
  assert_canonical("norm:n8,c6,k=2,pattern=[n] (g [k])", "norm:n8,c6,pattern=[n] (g [k]),k=2");
  assert_canonical("batch:n2,c3,eps=0.1,data=offset:0.30000000000000004",
                   "batch:n2,c3,data=offset:0.30000000000000004,eps=0.1");
}

static void refuses_with_the_item(void **state) {
  (void)state;
  static const char *const cases[][2] = {
      {"", "no such layer"},
      {"bach:n2", "'bach'"},
      {"batch", "colon"},
      {"batch:", "empty"},
      {"batch:n2,,c3", "empty"},
      {"batch:eps=1", "no dimensions"},
      {"batch:n2,c", "c: neither a dimension"},
      {"batch:N2", "N2: neither a dimension"},
      {"batch:\n2", "?2: neither a dimension"},
      {"batch:22", "22: neither a dimension"},
      {"batch:n-2", "n-2: neither a dimension"},
      {"batch:n2,n3", "n3: two dimensions"},
      {"batch:n99999999999999999999", "64 bits"},
      {"batch:a1,b1,c1,d1,e1,f1,g1,h1,i1", "at most 8"},
      {"batch:n2,c3,type=f31", "f32, f64, f16 or bf16"},
      {"batch:n2,c3,layout=nhcw", "layout=nhcw: no such layout"},
      {"batch:n2,c3,dir=back", "fwd, bwd or both"},
      {"batch:n2,c3,data=offset", "a value must follow"},
      {"batch:n2,c3,data=normal:3", "have a value"},
      {"batch:n2,c3,data=offset:3x", "a number"},
      {"batch:n2,c3,data=nonsense", "no such kind of data"},
      {"batch:n2,c3,eps=", "a number"},
      {"batch:n2,c3,eps=1,eps=2", "given twice"},
      {"batch:n2,c3,groups=2", "no such key"},
      {"batch:n2,c3,g=2", "batch has no g"},
      {"batch:n2,c3,style=3", "batch has no style"},
      {"batch:n2,c3,threads=65", "from 0 to 64"},
      {"batch:n2,c3,inplace=2", "from 0 to 1"},
      {"batch:n2,c3,seed=-1", "below 2^64"},
      {"batch:n2,c3,inplace=1,out=slice", "one layout"},
      {"batch:n2,c3,out=broadcast", "share memory"},
      {"batch:n2,c3,stats=saved", "dir=bwd"},
      {"group:n2,c4", "number of groups is missing"},
      {"group:n2,k4,g=2", "axes g and k"},
      {"layer:n2,d3,axes=x", "names of dimensions"},
      {"layer:n2,d3,axes=d.", "names of dimensions"},
      {"norm:n2,d3", "pattern is missing"},
      {"norm:n2,d3,pattern=n [d],affine=yes", "list of its own"},
      {"norm:n2,d3,pattern=n [d],r s=2", "neither a key nor the name"},
      {"norm:n2,d3,pattern=n [d],d=x", "a whole number"},
      {"adain:n2,c3,h4,style=4x", "up to 6 lengths"},
      {"adain:n2,c3,h4,affine=yes", "adain has no affine"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    problem p;
    norma_error error = {NORMA_OK, ""};
    if (problem_parse(cases[i][0], &p, &error)) {
      fail_msg("'%s' was accepted", cases[i][0]);
    }
    assert_int_equal(error.status, NORMA_BAD_ARGUMENT);
    if (!strstr(error.detail, cases[i][1]) || strchr(error.detail, '\n')) {
      fail_msg("'%s': the error is '%s', without '%s'", cases[i][0], error.detail, cases[i][1]);
    }
  }
  problem p;
  assert_false(problem_parse("batch:n", &p, NULL));
}

static void random_problems_survive_their_string(void **state) {
  (void)state;
  int kinds[PROBLEM_KINDS] = {0}, datas[PROBLEM_DATAS] = {0}, layouts[PROBLEM_LAYOUTS] = {0};
  for (uint64_t i = 0; i < 20000; i++) {
    problem p, q;
    char text[PROBLEM_TEXT_SIZE], again[PROBLEM_TEXT_SIZE];
    problem_random(3, i, &p);
    problem_format(&p, text, sizeof text);
    assert_true(strlen(text) + 1 < sizeof text);
    q = parsed(text);
    problem_format(&q, again, sizeof again);
    assert_string_equal(text, again);
    assert_int_equal(p.axes, q.axes);
    assert_memory_equal(p.shape, q.shape, sizeof p.shape);
    norma_layer layer;
    norma_error error;
    if (problem_layer(&p, &layer, &error) != NORMA_OK) {
      fail_msg("%s: %s", text, error.detail);
    }
    kinds[p.kind]++;
    datas[p.x.data]++;
    layouts[p.layout]++;
  }
  for (int k = 0; k < PROBLEM_KINDS; k++) {
    assert_true(kinds[k] > 1000);
  }
  for (int d = 0; d < PROBLEM_DATAS; d++) {
    assert_true(datas[d] > 200);
  }
  for (int l = 0; l < PROBLEM_LAYOUTS; l++) {
    assert_true(layouts[l] > 1000);
  }
}

/* ----------------------------------------------------------------------------------------------------- the data --- */

static double *logical_values(const char *text, problem_role role, int64_t *n) {
  problem p = parsed(text);
  problem_case c;
  norma_error error;
  if (!problem_build(&c, &p, &error)) {
    fail_msg("%s: %s", text, error.detail);
  }
  *n = c.tensors[role].elements;
  double *values = malloc((size_t)*n * sizeof *values);
  problem_to_double(&c.tensors[role], values);
  problem_free(&c);
  return values;
}

static void values_do_not_depend_on_the_layout(void **state) {
  (void)state;
  static const char *const layouts[] = {"channels_last", "slice", "reverse", "transpose"};
  static const char *const data[] = {"normal", "exact", "outlier", "huge", "tiny"};
  for (size_t d = 0; d < sizeof data / sizeof data[0]; d++) {
    char text[PROBLEM_TEXT_SIZE];
    snprintf(text, sizeof text, "group:n3,c4,h5,w7,g=2,data=%s,seed=5", data[d]);
    int64_t n, m;
    double *first = logical_values(text, PROBLEM_X, &n);
    for (size_t l = 0; l < sizeof layouts / sizeof layouts[0]; l++) {
      snprintf(text, sizeof text, "group:n3,c4,h5,w7,g=2,data=%s,seed=5,align=3,layout=%s", data[d], layouts[l]);
      double *other = logical_values(text, PROBLEM_X, &m);
      assert_int_equal(n, m);
      assert_memory_equal(first, other, (size_t)n * sizeof *first);
      free(other);
    }
    free(first);
  }
}

static void exact_data_has_exact_moments(void **state) {
  (void)state;
  int64_t n;
  double *x = logical_values("layer:n9,d50,data=exact,type=bf16", PROBLEM_X, &n);
  for (int row = 0; row < 9; row++) {
    double mean = 0, var = 0;
    int exponent;
    for (int i = 0; i < 50; i++) {
      mean += x[row * 50 + i];
    }
    mean /= 50;
    for (int i = 0; i < 50; i++) {
      var += (x[row * 50 + i] - mean) * (x[row * 50 + i] - mean);
    }
    var /= 50;
    assert_true(frexp(sqrt(var), &exponent) == 0.5); /* a power of two */
    assert_true(fmod(mean, sqrt(var)) == 0);
    assert_true(x[row * 50] == mean + sqrt(var) || x[row * 50] == mean - sqrt(var));
  }
  free(x);
}

static void normal_data_has_mean_0_and_variance_1(void **state) {
  (void)state;
  int64_t n;
  double *x = logical_values("layer:n100,d1000,type=f64", PROBLEM_X, &n), sum = 0, squares = 0;
  for (int64_t i = 0; i < n; i++) {
    sum += x[i];
    squares += x[i] * x[i];
  }
  assert_true(fabs(sum / 1e5) < 0.015); /* five standard errors */
  assert_true(fabs(squares / 1e5 - 1) < 0.03);
  free(x);
}

static void data_reaches_the_ends_of_the_type(void **state) {
  (void)state;
  static const struct {
    const char *type;
    double largest, normal;
  } types[] = {{"f32", 0x1.fffffep127, 0x1p-126}, {"f16", 65504, 0x1p-14}, {"bf16", 0x1.fep127, 0x1p-126}};
  for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
    char text[PROBLEM_TEXT_SIZE];
    int64_t n, below = 0;
    snprintf(text, sizeof text, "layer:n10,d100,data=huge,type=%s", types[t].type);
    double *x = logical_values(text, PROBLEM_X, &n);
    for (int64_t i = 0; i < n; i++) {
      assert_true(fabs(x[i]) >= types[t].largest / 2 && fabs(x[i]) <= types[t].largest);
    }
    free(x);
    snprintf(text, sizeof text, "layer:n10,d100,data=tiny,type=%s", types[t].type);
    x = logical_values(text, PROBLEM_X, &n);
    for (int64_t i = 0; i < n; i++) {
      below += x[i] != 0 && fabs(x[i]) < types[t].normal;
    }
    assert_true(below > 100 && below < 900); /* denormals, and normal numbers */
    free(x);
  }
}

static void one_outlier_per_unit_and_one_nan_per_tensor(void **state) {
  (void)state;
  int64_t n;
  double *x = logical_values("instance:n2,c3,h5,w5,data=outlier:1e6", PROBLEM_X, &n);
  for (int unit = 0; unit < 6; unit++) {
    int count = 0;
    for (int i = 0; i < 25; i++) {
      count += x[unit * 25 + i] == 1e6;
    }
    assert_int_equal(count, 1);
  }
  free(x);
  int not_finite = 0;
  x = logical_values("instance:n2,c3,h5,w5,data=nan", PROBLEM_X, &n);
  for (int64_t i = 0; i < n; i++) {
    not_finite += !isfinite(x[i]);
  }
  assert_int_equal(not_finite, 1);
  free(x);
}

/* ---------------------------------------------------------------------------------------------------- the judge --- */

static problem_report judged(problem_case *c) {
  problem_report report;
  norma_error error;
  if (!problem_judge(c, &report, &error)) {
    fail_msg("%s", error.detail);
  }
  return report;
}

static void the_judge_finds_what_is_wrong(void **state) {
  (void)state;
  problem p = parsed("layer:n3,d20,layout=slice,type=f64");
  problem_case c;
  norma_error error;
  assert_true(problem_build(&c, &p, &error) && problem_run(&c, &error));
  assert_true(judged(&c).pass);
  problem_tensor *y = &c.tensors[PROBLEM_Y];
  double *element = (double *)(void *)y->data + 4 * y->strides[1], right = *element;
  uint64_t checksum = problem_checksum(&c);

  *element = right + 1e-9;
  problem_report report = judged(&c);
  assert_true(!report.pass && !report.results[0].pass && report.results[0].where == 4);
  assert_true(report.results[0].ratio > 1 && report.checksum != checksum);
  *element = NAN;
  assert_true(isinf(judged(&c).results[0].ratio));
  *element = INFINITY;
  assert_true(isinf(judged(&c).results[0].ratio));
  *element = right;
  assert_true(judged(&c).pass);

  element[1] = 0; /* between two elements of the slice */
  report = judged(&c);
  assert_true(!report.pass && report.results[0].stray && report.results[0].ratio < 1);
  problem_free(&c);
}

static void only_the_canonical_nan_passes(void **state) {
  (void)state;
  problem p = parsed("layer:n3,d20,data=nan");
  problem_case c;
  norma_error error;
  assert_true(problem_build(&c, &p, &error) && problem_run(&c, &error));
  assert_true(judged(&c).pass);
  float *y = (float *)(void *)c.tensors[PROBLEM_Y].data;
  int at = 0;
  while (!isnan(y[at])) {
    at++;
  }
  const uint32_t others[] = {0xffc00000u, 0x7fc00001u, 0x7fffffffu};
  for (int i = 0; i < 3; i++) {
    memcpy(&y[at], &others[i], sizeof y[at]);
    assert_false(judged(&c).pass);
  }
  y[at] = 0;
  assert_false(judged(&c).pass);
  problem_free(&c);
}

static void layouts_share_a_checksum(void **state) {
  (void)state;
  static const char *const layouts[] = {"channels_last", "slice",          "reverse",
                                        "transpose",     "slice,out=nchw", "nchw,inplace=1,threads=3,align=5"};
  uint64_t first = 0;
  for (size_t l = 0; l <= sizeof layouts / sizeof layouts[0]; l++) {
    char text[PROBLEM_TEXT_SIZE];
    snprintf(text, sizeof text, "batch:n3,c4,h5,w7,dir=both,layout=%s", l ? layouts[l - 1] : "nchw");
    problem p = parsed(text);
    problem_case c;
    norma_error error;
    if (!problem_build(&c, &p, &error) || !problem_run(&c, &error)) {
      fail_msg("%s: %s", text, error.detail);
    }
    first = l ? first : problem_checksum(&c);
    assert_true(problem_checksum(&c) == first);
    problem_free(&c);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reads_every_item),
      cmocka_unit_test(writes_what_is_not_the_default),
      cmocka_unit_test(refuses_with_the_item),
      cmocka_unit_test(random_problems_survive_their_string),
      cmocka_unit_test(values_do_not_depend_on_the_layout),
      cmocka_unit_test(exact_data_has_exact_moments),
      cmocka_unit_test(normal_data_has_mean_0_and_variance_1),
      cmocka_unit_test(data_reaches_the_ends_of_the_type),
      cmocka_unit_test(one_outlier_per_unit_and_one_nan_per_tensor),
      cmocka_unit_test(the_judge_finds_what_is_wrong),
      cmocka_unit_test(only_the_canonical_nan_passes),
      cmocka_unit_test(layouts_share_a_checksum),
  };
  return cmocka_run_group_tests_name("problem", tests, NULL, NULL);
}
