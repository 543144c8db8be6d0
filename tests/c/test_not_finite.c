/* The rule of NaN and Inf: with statistics from the input those in x take their whole unit and the parameter gradients
 * that it contributes to, those in dy take dx of their unit, and nothing else; with given statistics they stay where
 * they are. Every NaN is the canonical one. */
#include "judge.h"
#include "problem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static norma_error error;

/* Element i of `got` is the canonical NaN where bad[i], and else has the bits of `clean`. */
static void assert_nan_where(const char *name, norma_type type, const void *got, const void *clean, const char *bad,
                             int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    uint64_t expected = bad[i] ? canonical_nan(type) : bits_at(type, clean, i);
    if (bits_at(type, got, i) != expected) {
      fail_problem("%s[%lld] has the bits %llx, not %llx%s", name, (long long)i,
                   (unsigned long long)bits_at(type, got, i), (unsigned long long)expected,
                   bad[i] ? " (the canonical NaN)" : " (as without the NaN or Inf)");
    }
  }
}

/* Which elements belong to the unit of element `at`, and which gammas that unit contributes to. */
typedef struct reach {
  char *elements, *params, *units;
} reach;

static reach reach_of(const norma_layer *layer, int64_t at) {
  int64_t n = norma_layer_elements(layer);
  int64_t *unit = malloc(sizeof *unit * (size_t)n), *param = malloc(sizeof *param * (size_t)n);
  reach r = {calloc((size_t)n, 1), calloc((size_t)norma_layer_params(layer) + 1, 1),
             calloc((size_t)norma_layer_units(layer), 1)};
  element_maps(layer, unit, param);
  r.units[unit[at]] = 1;
  for (int64_t i = 0; i < n; i++) {
    if (unit[i] == unit[at]) {
      r.elements[i] = 1;
      r.params[param[i]] = 1;
    }
  }
  free(param);
  free(unit);
  return r;
}

static void reach_free(reach *r) {
  free(r->elements);
  free(r->params);
  free(r->units);
}

static const double bad_numbers[] = {NAN, INFINITY, -INFINITY};

static void nan_or_inf_takes_its_unit_and_its_parameter_gradients_and_nothing_else(void **state) {
  (void)state;
  const char *name;
  norma_layer layer;
  uint64_t seed = 1;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    for (int k = 0; k < 12; k++) {
      trial t = trial_new(&layer, all_types[k / 3], &seed, 2, 1);
      int64_t n = norma_layer_elements(&layer), params = norma_layer_params(&layer);
      int64_t units = norma_layer_units(&layer), at = random_below(&seed, n);
      norma_type param = norma_param_type(t.type);
      manner m = {.x = (layout)(k % LAYOUT_COUNT), .use_saved = k % 2};
      outcome clean = trial_run(&t, &m);
      t.x[at] = bad_numbers[k % 3];
      problem_is("%s, %s, %g at %lld", name, norma_type_name(t.type), t.x[at], (long long)at);
      outcome got = trial_run(&t, &m);
      reach r = reach_of(&layer, at);
      assert_nan_where("y", t.type, got.y, clean.y, r.elements, n);
      assert_nan_where("dx", t.type, got.dx, clean.dx, r.elements, n);
      if (got.dweight) {
        assert_nan_where("dweight", param, got.dweight, clean.dweight, r.params, params);
        assert_nan_where("dbias", param, got.dbias, clean.dbias, r.params, params);
      }
      assert_nan_where("var", param, got.var, clean.var, r.units, units);
      assert_nan_where("rstd", param, got.rstd, clean.rstd, r.units, units);
      reach_free(&r);
      outcome_free(&got);
      outcome_free(&clean);
      trial_free(&t);
    }
  }
}

/* The first, the middle and the last element: no choice of pivot may lose a NaN. */
static void a_nan_is_found_wherever_it_is(void **state) {
  (void)state;
  static const int64_t lengths[] = {1, 2, 3, 5, 16, 17, 255, 256, 257, 4096, 4097, 9001};
  uint64_t seed = 2;
  for (size_t k = 0; k < COUNT(lengths); k++) {
    int64_t n = lengths[k], places[] = {0, n / 2, n - 1, (n - 1) / 2, n / 3};
    for (int what = 0; what < 30; what++) {
      norma_layer layer;
      assert_ok(norma_layer_norm(&layer, 1, 2, (int64_t[]){1, n}, &error), &error);
      layer.rms = what / 15;
      trial t = trial_new(&layer, what % 2 ? NORMA_F32 : NORMA_F64, &seed, 0, 1);
      t.x[places[what % 5]] = bad_numbers[what / 5 % 3];
      problem_is("%s of %lld, %g at %lld", layer.rms ? "RMS" : "layer", (long long)n, bad_numbers[what / 5 % 3],
                 (long long)places[what % 5]);
      outcome o = trial_run(&t, &(manner){.in_place = 1});
      char *all = malloc((size_t)n);
      memset(all, 1, (size_t)n);
      assert_nan_where("y", t.type, o.y, o.y, all, n);
      assert_nan_where("dx", t.type, o.dx, o.dx, all, n);
      free(all);
      outcome_free(&o);
      trial_free(&t);
    }
  }
}

/* Every NaN that may come in, with either sign and any payload. */
static void a_nan_goes_out_canonical_whatever_came_in(void **state) {
  (void)state;
  static const uint64_t in_f32[] = {0x7fc00000, 0xffc00000, 0x7fffffff, 0x7f800001, 0xff8abcde};
  static const uint64_t in_f64[] = {0x7ff8000000000000, 0xfff8000000000000, 0x7ff0000000000001, 0xffffffffffffffff,
                                    0xfff4000000000001};
  static const uint64_t in_f16[] = {0x7e00, 0xfe00, 0x7fff, 0x7c01, 0xfd55};
  static const uint64_t in_bf16[] = {0x7fc0, 0xffc0, 0x7fff, 0x7f81, 0xffab};
  static const uint64_t *const patterns[] = {in_f32, in_f64, in_f16, in_bf16};  /* in the order of all_types */
  norma_layer layer;
  assert_ok(norma_layer_norm(&layer, 1, 2, (int64_t[]){2, 3}, &error), &error);
  double numbers[] = {1, 2, 3, 4, 5, 6}, zero[2] = {0}, one[2] = {0};
  for (int k = 0; k < 4 * 5 * 2; k++) {
    norma_type type = all_types[k / 10];
    int given = k % 2;
    unsigned char *x = from_doubles(type, numbers, 6), *y = from_doubles(type, numbers, 6);
    memcpy(x + norma_type_size(type), &patterns[k / 10][k / 2 % 5], norma_type_size(type));
    norma_from_double(norma_param_type(type), (double[]){1, 1}, one, 1, 2);
    norma_forward_args args = {.size = sizeof args, .layer = &layer, .type = type, .x = x, .y = y,
                               .given_mean = given ? zero : NULL, .given_var = given ? one : NULL};
    problem_is("%s from %llx%s", norma_type_name(type), (unsigned long long)patterns[k / 10][k / 2 % 5],
               given ? ", given statistics" : "");
    assert_ok(norma_forward(&args, &error), &error);
    assert_nan_where("y", type, y, y, given ? (char[]){0, 1, 0, 0, 0, 0} : (char[]){1, 1, 1, 0, 0, 0}, 6);
    free(y);
    free(x);
  }
}

/* y alone is not finite, dx does not depend on x, dbias neither; dgamma of that element is. */
static void with_given_statistics_nan_and_inf_stay_where_they_are(void **state) {
  (void)state;
  const char *name;
  norma_layer layer;
  uint64_t seed = 3;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    for (int k = 0; k < 12; k++) {
      trial t = trial_new(&layer, all_types[k / 3], &seed, 2, 1);
      int64_t n = norma_layer_elements(&layer), params = norma_layer_params(&layer), at = random_below(&seed, n);
      int64_t *unit = malloc(sizeof *unit * (size_t)n), *param = malloc(sizeof *param * (size_t)n);
      char *here = calloc((size_t)n, 1), *nowhere = calloc((size_t)n, 1), *gamma = calloc((size_t)n, 1);
      norma_type ptype = norma_param_type(t.type);
      element_maps(&layer, unit, param);
      t.given_var = random_array(&seed, ptype, norma_layer_units(&layer), 2, 0);
      t.given_mean = layer.rms ? NULL : random_array(&seed, ptype, norma_layer_units(&layer), 2, 0);
      outcome clean = trial_run(&t, &(manner){.in_place = 0});
      t.x[at] = bad_numbers[k % 3];
      problem_is("%s, %s, given statistics, %g at %lld", name, norma_type_name(t.type), t.x[at], (long long)at);
      outcome got = trial_run(&t, &(manner){.in_place = 0});
      double expected = t.x[at] * (t.weight ? t.weight[param[at]] : 1), value;
      norma_to_double(t.type, (char *)got.y + (size_t)at * norma_type_size(t.type), 1, &value, 1);
      here[at] = gamma[param[at]] = 1;
      assert_true(isnan(expected) ? isnan(value) : value == expected);
      norma_from_double(t.type, (double[]){NAN}, (char *)got.y + (size_t)at * norma_type_size(t.type), 1, 1);
      assert_nan_where("y elsewhere", t.type, got.y, clean.y, here, n);
      assert_nan_where("dx", t.type, got.dx, clean.dx, nowhere, n);
      if (got.dweight) {
        norma_to_double(ptype, (char *)got.dweight + (size_t)param[at] * norma_type_size(ptype), 1, &value, 1);
        if (isnan(bad_numbers[k % 3]) ? !isnan(value) : !isinf(value)) {
          fail_problem("dweight[%lld] is %g, the sum has one addend %g", (long long)param[at], value,
                       t.dy[at] * t.x[at]);
        }
        norma_from_double(ptype, (double[]){NAN}, (char *)got.dweight + (size_t)param[at] * norma_type_size(ptype), 1,
                          1);
        assert_nan_where("dweight elsewhere", ptype, got.dweight, clean.dweight, gamma, params);
        assert_nan_where("dbias", ptype, got.dbias, clean.dbias, nowhere, params);
      }
      free(gamma);
      free(nowhere);
      free(here);
      free(param);
      free(unit);
      outcome_free(&got);
      outcome_free(&clean);
      trial_free(&t);
    }
  }
}

/* A NaN in one unit of the content or of the style: y, dcontent and dstyle of that unit, and no other. */
static void in_adain_a_nan_takes_one_unit_of_content_and_style(void **state) {
  (void)state;
  const char *name;
  norma_layer content, style;
  uint64_t seed = 4;
  for (int i = 0; sample_pair(i, &name, &content, &style); i++) {
    for (int k = 0; k < 24; k++) {
      adain_trial t = adain_new(&content, &style, all_types[k / 6], &seed);
      int64_t n = norma_layer_elements(&content), m = norma_layer_elements(&style), in_style = k / 3 % 2;
      int64_t at = random_below(&seed, in_style ? m : n);
      t.alpha = k % 2 ? 0.75 : 0;
      adain_outcome clean = adain_run(&t, &(manner){.in_place = 1});
      (in_style ? t.style : t.content)[at] = bad_numbers[k % 3];
      problem_is("%s, %s, %g in the %s at %lld", name, norma_type_name(t.type), bad_numbers[k % 3],
                 in_style ? "style" : "content", (long long)at);
      adain_outcome got = adain_run(&t, &(manner){.in_place = 1});
      reach hit = reach_of(in_style ? &style : &content, at);
      int64_t *unit = malloc(sizeof *unit * (size_t)(n + m)), *param = malloc(sizeof *param * (size_t)(n + m));
      char *bad_content = calloc((size_t)n, 1), *bad_style = calloc((size_t)m, 1);
      element_maps(&content, unit, param);
      for (int64_t e = 0; e < n; e++) {
        bad_content[e] = hit.units[unit[e]];
      }
      element_maps(&style, unit, param);
      for (int64_t e = 0; e < m; e++) {
        bad_style[e] = hit.units[unit[e]];
      }
      assert_nan_where("y", t.type, got.y, clean.y, bad_content, n);
      assert_nan_where("dcontent", t.type, got.dcontent, clean.dcontent, bad_content, n);
      assert_nan_where("dstyle", t.type, got.dstyle, clean.dstyle, bad_style, m);
      free(bad_style);
      free(bad_content);
      free(param);
      free(unit);
      reach_free(&hit);
      adain_outcome_free(&got);
      adain_outcome_free(&clean);
      adain_free(&t);
    }
  }
}

/* As IEEE arithmetic has it: the other addends and factors are finite. A NaN is the canonical one. */
static void assert_takes(const char *name, norma_type type, const void *array, int64_t at, double bad, double factor) {
  double value, expected = bad * factor;
  norma_to_double(type, (const char *)array + (size_t)at * norma_type_size(type), 1, &value, 1);
  if (isnan(expected) ? bits_at(type, array, at) != canonical_nan(type) : value != expected) {
    fail_problem("%s[%lld] is %g, not %g", name, (long long)at, value, expected);
  }
}

/* What lies elsewhere has the bits of the clean call. */
static void assert_clean_but(const char *name, norma_type type, const void *got, const void *clean, int64_t at,
                             int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    if (i != at && bits_at(type, got, i) != bits_at(type, clean, i)) {
      fail_problem("%s[%lld] has not the bits that it has without the NaN or Inf", name, (long long)i);
    }
  }
}

static void nan_or_inf_in_dy_takes_dx_of_its_unit_and_its_own_addends(void **state) {
  (void)state;
  const char *name;
  norma_layer layer;
  uint64_t seed = 5;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    for (int k = 0; k < 24; k++) {
      trial t = trial_new(&layer, all_types[k / 3 % 4], &seed, 2, 1);
      int64_t n = norma_layer_elements(&layer), params = norma_layer_params(&layer), at = random_below(&seed, n);
      int64_t *unit = malloc(sizeof *unit * (size_t)n), *param = malloc(sizeof *param * (size_t)n);
      norma_type ptype = norma_param_type(t.type);
      int given = k >= 12;
      element_maps(&layer, unit, param);
      if (given) {
        t.given_var = random_array(&seed, ptype, norma_layer_units(&layer), 2, 0);
        t.given_mean = layer.rms ? NULL : random_array(&seed, ptype, norma_layer_units(&layer), 2, 0);
      }
      manner m = {.dy = (layout)(k % LAYOUT_COUNT), .in_place = k % 2, .use_saved = !given && k / 2 % 2};
      outcome clean = trial_run(&t, &m);
      t.dy[at] = bad_numbers[k % 3];
      problem_is("%s, %s, dy[%lld] = %g, %s statistics", name, norma_type_name(t.type), (long long)at, t.dy[at],
                 given ? "given" : "its own");
      outcome got = trial_run(&t, &m);
      reach r = reach_of(&layer, at);
      assert_same_bits("y", t.type, got.y, clean.y, n);
      if (given) {
        assert_takes("dx", t.type, got.dx, at, t.dy[at], t.weight ? t.weight[param[at]] : 1);
        assert_clean_but("dx", t.type, got.dx, clean.dx, at, n);
      } else {
        assert_nan_where("dx", t.type, got.dx, clean.dx, r.elements, n);
      }
      if (got.dweight) {
        const norma_saved *s = got.saved ? &got.saved[unit[at]] : &(norma_saved){layer.rms ? 0 : 2, 0, 1, 1};
        assert_takes("dbias", ptype, got.dbias, param[at], t.dy[at], 1);
        assert_takes("dweight", ptype, got.dweight, param[at], t.dy[at],
                     (s->scale * t.x[at] - s->mean - s->mean_lo) * s->rstd);
        assert_clean_but("dbias", ptype, got.dbias, clean.dbias, param[at], params);
        assert_clean_but("dweight", ptype, got.dweight, clean.dweight, param[at], params);
      }
      judge_backward(&t, &got);
      reach_free(&r);
      free(param);
      free(unit);
      outcome_free(&got);
      outcome_free(&clean);
      trial_free(&t);
    }
  }
}

/* dy=nan puts a NaN or an Inf somewhere, by the seed; problem_judge wants NaN and Inf where the reference has them. */
static void library_and_reference_agree_about_nan_and_inf_in_dy(void **state) {
  (void)state;
  static const char *const forms[] = {
      "layer:n2,d4,dir=bwd,dy=nan",           "batch:n4,c3,h5,dir=bwd,dy=nan,stats=given",
      "group:n2,c8,h3,w3,g=4,dir=bwd,dy=nan", "instance:n3,c2,h7,dir=bwd,dy=nan,stats=saved",
      "rms:n5,d9,dir=bwd,dy=nan,ddof=1",      "adain:n2,c3,h4,w4,dir=bwd,dy=nan",
      "layer:n2,d1,dir=bwd,dy=nan",           "adain:n2,c3,h4,w4,dir=bwd,dy=nan,alpha=0.5",
      /* dx is written while its sums are taken; rows of few columns are written several as one. */
      "batch:n2,c3,h700,dir=bwd,dy=nan,stats=given",
      "batch:n3,c5,h2000,dir=bwd,dy=nan,stats=given,add=before,inplace=1",
      "batch:n2,c8,h13,w17,layout=nhwc,dir=bwd,dy=nan,stats=given",
      "instance:n2,c8,h13,w17,layout=nhwc,dir=bwd,dy=nan",
  };
  for (size_t k = 0; k < COUNT(forms) * COUNT(all_types) * 12; k++) {
    char text[PROBLEM_TEXT_SIZE];
    problem p;
    problem_case c;
    problem_report report = {.pass = false};
    snprintf(text, sizeof text, "%s,type=%s,seed=%zu", forms[k % COUNT(forms)],
             norma_type_name(all_types[k / COUNT(forms) % 4]), k);
    problem_is("%s", text);
    if (!problem_parse(text, &p, &error) || !problem_build(&c, &p, &error)) {
      fail_problem("%s", error.detail);
    }
    if (!problem_run(&c, &error) || !problem_judge(&c, &report, &error) || !report.pass) {
      fail_problem("does not pass: %s", error.detail);
    }
    problem_free(&c);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(nan_or_inf_takes_its_unit_and_its_parameter_gradients_and_nothing_else),
      cmocka_unit_test(a_nan_is_found_wherever_it_is),
      cmocka_unit_test(a_nan_goes_out_canonical_whatever_came_in),
      cmocka_unit_test(with_given_statistics_nan_and_inf_stay_where_they_are),
      cmocka_unit_test(nan_or_inf_in_dy_takes_dx_of_its_unit_and_its_own_addends),
      cmocka_unit_test(library_and_reference_agree_about_nan_and_inf_in_dy),
      cmocka_unit_test(in_adain_a_nan_takes_one_unit_of_content_and_style),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
