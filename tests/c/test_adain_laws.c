/* What AdaIN gives: the style's moments, the content where alpha is 0, instance norm with the style's parameters. */
#include <math.h>
#include <stdlib.h>

#include "support.h"
#include "trial.h"

static const manner plain = {.in_place = 0};

/* With eps 0 on both sides y has the style's mean and variance. Errors of y: y_error * (sigma_s |xhat| + |mean_s|). */
static void adain_gives_the_content_the_moments_of_the_style(void **state) {
  (void)state;
  uint64_t seed = 37;
  const char *name;
  norma_layer content, style;
  for (int i = 0; sample_pair(i, &name, &content, &style); i++) {
    for (size_t k = 0; k < COUNT(all_types); k++) {
      adain_trial t = adain_new(&content, &style, all_types[k], &seed);
      t.flags = NORMA_EPS_ZERO | NORMA_STYLE_EPS_ZERO;
      adain_outcome o = adain_run(&t, &plain);
      double *y = to_doubles(t.type, o.y, norma_layer_elements(&content));
      double *sum = unit_sums(&content, y, NULL), *square = unit_sums(&content, y, y);
      double *style_sum = unit_sums(&style, t.style, NULL), *style_square = unit_sums(&style, t.style, t.style);
      double m = (double)norma_layer_unit_elements(&content), n = (double)norma_layer_unit_elements(&style);
      for (int64_t u = 0; u < norma_layer_units(&content); u++) {
        double mean = style_sum[u] / n, mean_square = style_square[u] / n, error = y_error(t.type);
        if (fabs(sum[u] / m - mean) > error * (sqrt(mean_square) + fabs(mean)) * 1.5) {
          fail_problem("%s: the mean of y is %.17g, of the style %.17g", norma_type_name(t.type), sum[u] / m, mean);
        }
        if (fabs(square[u] / m - mean_square) > error * mean_square * 4) {
          fail_problem("%s: the mean square of y is %.17g, of the style %.17g", norma_type_name(t.type), square[u] / m,
                       mean_square);
        }
      }
      free(y);
      free(sum);
      free(square);
      free(style_sum);
      free(style_square);
      adain_outcome_free(&o);
      adain_free(&t);
    }
  }
}

static void scale_array(double *values, int64_t n, double factor) {
  for (int64_t i = 0; i < n; i++) {
    values[i] *= factor;
  }
}

/* With eps 0 the content's scale is forgotten and the style's is y's: bit for bit with powers of two, even if squares
 * leave the range of float64. */
static void adain_follows_the_scale_of_the_style_alone(void **state) {
  (void)state;
  uint64_t seed = 40;
  static const double factors[][2] = {{0x1p20, 0x1p-10}, {0x1p-500, 0x1p300}, {0x1p600, 0x1p600}, {0x1p600, 0x1p-400}};
  const char *name;
  norma_layer content, style;
  for (int i = 0; sample_pair(i, &name, &content, &style); i++) {
    for (size_t k = 0; k < COUNT(factors); k++) {
      adain_trial t = adain_new(&content, &style, NORMA_F64, &seed);
      int64_t elements = norma_layer_elements(&content), style_elements = norma_layer_elements(&style);
      t.flags = NORMA_EPS_ZERO | NORMA_STYLE_EPS_ZERO;
      adain_outcome before = adain_run(&t, &plain);
      scale_array(t.content, elements, factors[k][0]);
      scale_array(t.style, style_elements, factors[k][1]);
      adain_outcome after = adain_run(&t, &plain);
      scale_array(before.y, elements, factors[k][1]);
      scale_array(before.dcontent, elements, factors[k][1] / factors[k][0]);
      problem_is("%s f64, content times %a, style times %a", name, factors[k][0], factors[k][1]);
      assert_same_adain(&t, &after, &before);
      adain_outcome_free(&before);
      adain_outcome_free(&after);
      adain_free(&t);
    }
  }
}

static void adain_with_alpha_0_gives_the_content_and_its_gradient(void **state) {
  (void)state;
  uint64_t seed = 38;
  const char *name;
  norma_layer content, style;
  for (int i = 0; sample_pair(i, &name, &content, &style); i++) {
    for (size_t k = 0; k < COUNT(all_types); k++) {
      adain_trial t = adain_new(&content, &style, all_types[k], &seed);
      t.flags = NORMA_ALPHA_ZERO;
      int64_t elements = norma_layer_elements(&content), style_elements = norma_layer_elements(&style);
      adain_outcome o = adain_run(&t, &plain);
      void *x = from_doubles(t.type, t.content, elements), *dy = from_doubles(t.type, t.dy, elements);
      problem_is("%s %s alpha 0", name, norma_type_name(t.type));
      assert_same_bits("y", t.type, o.y, x, elements);
      assert_same_bits("dcontent", t.type, o.dcontent, dy, elements);
      double *dstyle = to_doubles(t.type, o.dstyle, style_elements);
      assert_true(largest(dstyle, style_elements) == 0);
      free(dstyle);
      free(x);
      free(dy);
      adain_outcome_free(&o);
      adain_free(&t);
    }
  }
}

/* AdaIN is instance norm with gamma and beta per sample: sigma_s and mean_s. */
static void adain_is_conditional_instance_norm(void **state) {
  (void)state;
  uint64_t seed = 39;
  norma_layer content = parse_layer("n c [h w]", "n c", NULL, 4, (int64_t[]){2, 3, 5, 4});
  norma_layer style = parse_layer("n c [h w]", "", NULL, 4, (int64_t[]){2, 3, 3, 7});
  adain_trial pair = adain_new(&content, &style, NORMA_F64, &seed);
  trial t = {.layer = content, .type = NORMA_F64, .x = pair.content, .dy = pair.dy};
  double *sum = unit_sums(&style, pair.style, NULL), *square = unit_sums(&style, pair.style, pair.style);
  for (int u = 0; u < 6; u++) {
    sum[u] /= 21;
    square[u] = sqrt(square[u] / 21 - sum[u] * sum[u] + 1e-5);
  }
  t.weight = square;
  t.bias = sum;
  adain_outcome got = adain_run(&pair, &plain);
  outcome expected = trial_run(&t, &plain);
  problem_is("AdaIN and instance norm with the style's statistics");
  for (int64_t i = 0; i < norma_layer_elements(&content); i++) {
    assert_true(fabs(((double *)got.y)[i] - ((double *)expected.y)[i]) < 1e-13 * 20);
    assert_true(fabs(((double *)got.dcontent)[i] - ((double *)expected.dx)[i]) < 1e-12 * 20);
  }
  outcome_free(&expected);
  adain_outcome_free(&got);
  adain_free(&pair);
  free(sum);
  free(square);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(adain_gives_the_content_the_moments_of_the_style),
      cmocka_unit_test(adain_follows_the_scale_of_the_style_alone),
      cmocka_unit_test(adain_with_alpha_0_gives_the_content_and_its_gradient),
      cmocka_unit_test(adain_is_conditional_instance_norm),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
