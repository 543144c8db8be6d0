/* The activations as functions of one number: the bounds of docs/accuracy.md for y and slope against long double, the
 * special values, and that ReLU is max(z, 0) to the bit. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "src/kernels/activation.h"
#include "support.h"

typedef long double real;

static const norma_activation smooth[] = {NORMA_SILU, NORMA_GELU, NORMA_GELU_TANH};

static real sigmoid(real w) { return 1 / (1 + expl(-w)); }

static real exact(norma_activation a, real z) {
  const real root = 1.59576912160573071175978423973752747L; /* sqrt(8 / pi) */
  if (a == NORMA_SILU) return z * sigmoid(z);
  if (a == NORMA_GELU) return z * erfcl(-z / sqrtl(2)) / 2;
  return z * sigmoid(root * (z + 0.044715L * z * z * z));
}

/* By its definition, not by the formula that the library has: five points, an error below 1e-14. */
static real quotient(norma_activation a, real z) {
  const real h = 1e-3L;
  return (exact(a, z - 2 * h) - 8 * exact(a, z - h) + 8 * exact(a, z + h) - exact(a, z + 2 * h)) / (12 * h);
}

static void check(norma_activation a, real z, real y, real slope, real unit, real least) {
  real expected = exact(a, z), allowed = 3 * unit * (fabsl(expected) + fminl(fabsl(z), 1)) + least;
  if (!(fabsl(y - expected) <= allowed)) {
    fail_problem("y is %.10Lg, the exact value %.10Lg, %.3Lg units apart", y, expected,
                 fabsl(y - expected) / allowed * 3);
  }
  if (fabsl(z) < 1000 && !(fabsl(slope - quotient(a, z)) <= 5 * unit + 1e-11L)) {
    fail_problem("the slope is %.10Lg, the difference quotient %.10Lg", slope, quotient(a, z));
  }
}

static void check_f32(norma_activation a, float z) {
  problem_is("activation %d at %a", (int)a, z);
  check(a, z, norma_activate_f32(a, z), norma_slope_f32(a, z), 0x1p-24L, 1e-36L);
}

static void check_f64(norma_activation a, double z) {
  problem_is("activation %d at %a, float64", (int)a, z);
  check(a, z, norma_activate_f64(a, z), norma_slope_f64(a, z), 0x1p-53L, 1e-300L);
}

/* Every 20011th pattern of bits, and steps of 1/4096 where the functions bend. */
static void float32_keeps_its_bound(void **state) {
  (void)state;
  for (size_t k = 0; k < COUNT(smooth); k++) {
    for (uint64_t i = 0; i < (uint64_t)1 << 32; i += 20011) {
      uint32_t bits = (uint32_t)i;
      float z;
      memcpy(&z, &bits, sizeof z);
      if (isfinite(z)) {
        check_f32(smooth[k], z);
      }
    }
    for (int i = -100 * 4096; i <= 100 * 4096; i += 3) {
      check_f32(smooth[k], (float)i / 4096);
    }
  }
}

static void float64_keeps_its_bound(void **state) {
  (void)state;
  uint64_t seed = 1;
  for (size_t k = 0; k < COUNT(smooth); k++) {
    for (int i = 0; i < 100000; i++) {
      check_f64(smooth[k], 16 * random_uniform(&seed) - 8);
      check_f64(smooth[k], ldexp(random_normal(&seed), (int)random_below(&seed, 400) - 380));
    }
  }
}

static uint32_t bits_of(float z) {
  uint32_t bits;
  memcpy(&bits, &z, sizeof bits);
  return bits;
}

static void special_values(void **state) {
  (void)state;
  const norma_activation all[] = {NORMA_RELU, NORMA_SILU, NORMA_GELU, NORMA_GELU_TANH};
  for (size_t k = 0; k < COUNT(all); k++) {
    norma_activation a = all[k];
    problem_is("activation %d", (int)a);
    assert_true(norma_activate_f32(a, INFINITY) == INFINITY && norma_activate_f32(a, -INFINITY) == 0);
    assert_true(norma_activate_f64(a, INFINITY) == INFINITY && norma_activate_f64(a, -INFINITY) == 0);
    assert_true(norma_activate_f32(a, FLT_MAX) == FLT_MAX && norma_activate_f32(a, -FLT_MAX) == 0);
    assert_true(norma_activate_f64(a, DBL_MAX) == DBL_MAX && norma_activate_f64(a, -DBL_MAX) == 0);
    assert_true(norma_activate_f32(a, 0) == 0 && norma_activate_f64(a, 0) == 0);
    assert_true(isnan(norma_activate_f32(a, NAN)) && isnan(norma_activate_f64(a, (double)NAN)));
    assert_true(norma_slope_f32(a, INFINITY) == 1 && norma_slope_f32(a, -INFINITY) == 0);
    assert_true(norma_slope_f64(a, INFINITY) == 1 && norma_slope_f64(a, -INFINITY) == 0);
    assert_true(norma_slope_f32(a, FLT_MAX) == 1 && norma_slope_f32(a, -FLT_MAX) == 0);
    assert_true(norma_slope_f64(a, DBL_MAX) == 1 && norma_slope_f64(a, -DBL_MAX) == 0);
    assert_true(isnan(norma_slope_f32(a, NAN)) && isnan(norma_slope_f64(a, (double)NAN)));
    assert_true(norma_slope_f32(a, 0) == (a == NORMA_RELU ? 0 : 0.5F) || a == NORMA_GELU);
  }
}

static void relu_is_the_maximum(void **state) {
  (void)state;
  assert_int_equal(bits_of(norma_relu_f32(-0.0F)), 0);
  assert_true(norma_relu_grad_f32(0) == 0 && norma_relu_grad_f32(-0.0F) == 0);
  for (uint64_t i = 0; i < (uint64_t)1 << 32; i += 65521) {
    uint32_t bits = (uint32_t)i;
    float z;
    memcpy(&z, &bits, sizeof z);
    uint32_t expected = z > 0 || isnan(z) ? bits : 0;
    assert_int_equal(bits_of(norma_relu_f32(z)), expected);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(float32_keeps_its_bound),
      cmocka_unit_test(float64_keeps_its_bound),
      cmocka_unit_test(special_values),
      cmocka_unit_test(relu_is_the_maximum),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
