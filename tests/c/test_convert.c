/* norma_to_double and norma_from_double. The 16-bit types are reached by way of float32: a number is rounded to float32
 * and that to 16 bits, each time to nearest even, so float32 arithmetic and float64 arithmetic end in the same way. */
#include "support.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct format {
  norma_type type;
  int mantissa_bits, bias;
} format;

static const format formats[] = {{NORMA_F16, 10, 15}, {NORMA_BF16, 7, 127}};

/* The value of a 16-bit pattern by the definition of the format. */
static double decode(const format *f, uint16_t pattern) {
  int top = (1 << (15 - f->mantissa_bits)) - 1;
  int exponent = pattern >> f->mantissa_bits & top;
  int mantissa = pattern & ((1 << f->mantissa_bits) - 1);
  double sign = pattern >> 15 ? -1 : 1;
  if (exponent == top) {
    return mantissa ? NAN : sign * INFINITY;
  }
  int implied = exponent > 0 ? 1 << f->mantissa_bits : 0;
  return sign * ldexp(implied + mantissa, (exponent > 0 ? exponent : 1) - f->bias - f->mantissa_bits);
}

static uint16_t narrow(const format *f, double value) {
  uint16_t pattern = 0xdead;
  norma_from_double(f->type, &value, &pattern, 1, 1);
  return pattern;
}

static uint32_t narrow_f32(double value) {
  uint32_t pattern = 0xdeadbeef;
  norma_from_double(NORMA_F32, &value, &pattern, 1, 1);
  return pattern;
}

static uint64_t narrow_f64(double value) {
  uint64_t pattern = 0;
  norma_from_double(NORMA_F64, &value, &pattern, 1, 1);
  return pattern;
}

static uint32_t bits_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static double from_bits(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static void every_16_bit_pattern_has_the_value_of_its_format(void **state) {
  (void)state;
  for (size_t k = 0; k < COUNT(formats); k++) {
    for (uint32_t i = 0; i <= 0xffff; i++) {
      uint16_t pattern = (uint16_t)i;
      double value, expected = decode(&formats[k], pattern);
      norma_to_double(formats[k].type, &pattern, 1, &value, 1);
      problem_is("%s pattern %04x", norma_type_name(formats[k].type), i);
      if (isnan(expected) ? !isnan(value) : value != expected || signbit(value) != signbit(expected)) {
        fail_problem("is %a, not %a", value, expected);
      }
    }
  }
}

static void every_16_bit_pattern_survives_a_round_trip_and_nan_becomes_canonical(void **state) {
  (void)state;
  for (size_t k = 0; k < COUNT(formats); k++) {
    for (uint32_t i = 0; i <= 0xffff; i++) {
      double value = decode(&formats[k], (uint16_t)i);
      uint16_t expected = isnan(value) ? (uint16_t)canonical_nan(formats[k].type) : (uint16_t)i;
      uint16_t got = narrow(&formats[k], value);
      problem_is("%s pattern %04x", norma_type_name(formats[k].type), i);
      if (got != expected) {
        fail_problem("comes back as %04x", got);
      }
    }
  }
}

/* Denormals included: the halfway point of two neighbours is a float32 number everywhere. */
static void halfway_points_go_to_even_and_their_float32_neighbours_to_the_nearer(void **state) {
  (void)state;
  for (size_t k = 0; k < COUNT(formats); k++) {
    const format *f = &formats[k];
    uint16_t infinity = (uint16_t)(((1 << (15 - f->mantissa_bits)) - 1) << f->mantissa_bits);
    for (uint16_t low = 0; low + 1 < infinity; low++) {
      float half = (float)((decode(f, low) + decode(f, (uint16_t)(low + 1))) / 2);
      uint16_t even = low % 2 ? (uint16_t)(low + 1) : low;
      uint16_t below = narrow(f, nextafterf(half, 0)), above = narrow(f, nextafterf(half, INFINITY));
      problem_is("%s between %04x and the next", norma_type_name(f->type), low);
      if (narrow(f, half) != even || narrow(f, -half) != (even | 0x8000) || below != low || above != low + 1) {
        fail_problem("halfway %04x, negative %04x, just below %04x, just above %04x", narrow(f, half),
                     narrow(f, -half), below, above);
      }
    }
  }
}

static void sixteen_bits_are_reached_by_way_of_float32(void **state) {
  (void)state;
  uint64_t seed = 1;
  for (size_t k = 0; k < COUNT(formats); k++) {
    for (int i = 0; i < 200000; i++) {
      double value = ldexp(random_normal(&seed), (int)random_below(&seed, 60) - 40);
      problem_is("%s of %a", norma_type_name(formats[k].type), value);
      assert_int_equal(narrow(&formats[k], value), narrow(&formats[k], (double)(float)value));
    }
    double half = (decode(&formats[k], 0x3c00) + decode(&formats[k], 0x3c01)) / 2;
    assert_int_equal(narrow(&formats[k], half * (1 + 0x1p-40)), 0x3c00);
  }
}

static void what_is_too_large_becomes_infinity_and_what_is_too_small_zero(void **state) {
  (void)state;
  assert_int_equal(narrow(&formats[0], 65504), 0x7bff);
  assert_int_equal(narrow(&formats[0], 65519), 0x7bff);
  assert_int_equal(narrow(&formats[0], 65520), 0x7c00);
  assert_int_equal(narrow(&formats[0], -65520), 0xfc00);
  assert_int_equal(narrow(&formats[0], 1e300), 0x7c00);
  assert_int_equal(narrow(&formats[0], 0x1p-25), 0x0000);
  assert_int_equal(narrow(&formats[0], -0x1p-25), 0x8000);
  assert_int_equal(narrow(&formats[0], 0x1.002p-25), 0x0001);
  assert_int_equal(narrow(&formats[1], 0x1.fep127), 0x7f7f);
  assert_int_equal(narrow(&formats[1], 0x1.fefffep127), 0x7f7f);
  assert_int_equal(narrow(&formats[1], 0x1.ffp127), 0x7f80);
  assert_int_equal(narrow(&formats[1], -1e39), 0xff80);
  assert_int_equal(narrow(&formats[1], 0x1p-134), 0x0000);
  assert_int_equal(narrow(&formats[1], 0x1.8p-134), 0x0001);
  assert_int_equal(narrow(&formats[1], -1e-300), 0x8000);
  assert_int_equal(narrow_f32(FLT_MAX), 0x7f7fffff);
  assert_int_equal(narrow_f32(0x1.fffffefp127), 0x7f7fffff);
  assert_int_equal(narrow_f32(0x1.ffffffp127), 0x7f800000);
  assert_int_equal(narrow_f32(-1e300), 0xff800000);
  assert_int_equal(narrow_f32(0x1p-150), 0x00000000);
  assert_int_equal(narrow_f32(-0x1.8p-150), 0x80000001);
  assert_int_equal(narrow_f32(1e-320), 0x00000000);
}

static void every_nan_becomes_the_canonical_one(void **state) {
  (void)state;
  static const uint64_t nans[] = {0x7ff8000000000000, 0xfff8000000000000, 0x7ff8000000000001, 0xffffffffffffffff,
                                  0x7ff0000000000001, 0xfff4000000000000};
  for (size_t i = 0; i < COUNT(nans); i++) {
    assert_int_equal(narrow_f32(from_bits(nans[i])), 0x7fc00000);
    assert_true(narrow_f64(from_bits(nans[i])) == 0x7ff8000000000000);
    assert_int_equal(narrow(&formats[0], from_bits(nans[i])), 0x7e00);
    assert_int_equal(narrow(&formats[1], from_bits(nans[i])), 0x7fc0);
  }
}

static void float32_and_float64_convert_as_c_does(void **state) {
  (void)state;
  uint64_t seed = 2;
  for (int i = 0; i < 200000; i++) {
    double value = from_bits(random_bits(&seed)), back;
    float moderate = (float)ldexp(random_normal(&seed), (int)random_below(&seed, 290) - 150);
    if (isnan(value)) {
      continue;
    }
    problem_is("%a", value);
    assert_int_equal(narrow_f32(value), bits_of_float((float)value));
    assert_true(from_bits(narrow_f64(value)) == value);
    norma_to_double(NORMA_F32, &moderate, 1, &back, 1);
    assert_true(back == moderate);
  }
  assert_int_equal(narrow_f32(-0.0), 0x80000000);
  assert_true(narrow_f64(-0.0) == 0x8000000000000000);
}

static void strides_choose_the_elements_and_nothing_between_them_changes(void **state) {
  (void)state;
  enum { N = 5 };
  static const int64_t strides[] = {1, 3, -1, -2};
  double values[N] = {1, -2, 0.5, 4, -0.25};
  for (int t = 0; t < 4; t++) {
    size_t size = norma_type_size(all_types[t]);
    unsigned char *dense = from_doubles(all_types[t], values, N);
    for (size_t k = 0; k < COUNT(strides); k++) {
      int64_t stride = strides[k], span = llabs(stride) * (N - 1) + 1;
      unsigned char *memory = malloc((size_t)span * size), *expected = malloc((size_t)span * size);
      memset(memory, 0x5a, (size_t)span * size);
      memset(expected, 0x5a, (size_t)span * size);
      unsigned char *first = memory + (stride < 0 ? (size_t)(span - 1) * size : 0);
      problem_is("%s with stride %lld", norma_type_name(all_types[t]), (long long)stride);
      norma_from_double(all_types[t], values, first, stride, N);
      for (int64_t i = 0; i < N; i++) {
        int64_t at = (stride < 0 ? span - 1 : 0) + i * stride;
        memcpy(expected + (size_t)at * size, dense + (size_t)i * size, size);
      }
      assert_memory_equal(memory, expected, (size_t)span * size);
      double back[N];
      norma_to_double(all_types[t], first, stride, back, N);
      assert_memory_equal(back, values, sizeof values);
      free(expected);
      free(memory);
    }
    free(dense);
  }
}

static void stride_zero_repeats_one_element(void **state) {
  (void)state;
  float one = 7;
  double many[4] = {0};
  norma_to_double(NORMA_F32, &one, 0, many, 4);
  for (int i = 0; i < 4; i++) {
    assert_true(many[i] == 7);
  }
}

static void no_elements_touch_nothing(void **state) {
  (void)state;
  double wide = 3;
  float single = 4;
  norma_to_double(NORMA_F32, &single, 1, &wide, 0);
  norma_from_double(NORMA_F32, &wide, &single, 1, 0);
  norma_to_double(NORMA_BF16, NULL, 1, NULL, 0);
  norma_from_double(NORMA_F16, NULL, NULL, 1, 0);
  assert_true(wide == 3 && single == 4);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_16_bit_pattern_has_the_value_of_its_format),
      cmocka_unit_test(every_16_bit_pattern_survives_a_round_trip_and_nan_becomes_canonical),
      cmocka_unit_test(halfway_points_go_to_even_and_their_float32_neighbours_to_the_nearer),
      cmocka_unit_test(sixteen_bits_are_reached_by_way_of_float32),
      cmocka_unit_test(what_is_too_large_becomes_infinity_and_what_is_too_small_zero),
      cmocka_unit_test(every_nan_becomes_the_canonical_one),
      cmocka_unit_test(float32_and_float64_convert_as_c_does),
      cmocka_unit_test(strides_choose_the_elements_and_nothing_between_them_changes),
      cmocka_unit_test(stride_zero_repeats_one_element),
      cmocka_unit_test(no_elements_touch_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
