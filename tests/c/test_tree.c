/* The summation trees are the documented ones, so that another implementation, or a faster kernel, can give the
 * same bits. Of a unit: position i of a run is in group i / 64 and there in lane i mod 8; each lane of a group is
 * added to its accumulator; a stretch of 4096 positions is ((A0 + A4) + (A1 + A5)) + ((A2 + A6) + (A3 + A7)). Of a
 * parameter that is summed across units: position i is in quarter i / 16 and there in lane i mod 4; a quarter is
 * (l0 + l1) + (l2 + l3); quarter k is added to accumulator k mod 4; a stretch of 256 positions is (A0 + A1) + (A2
 * + A3). Stretches and runs are then added in order with their rounding errors kept. Seen in plain sums: the
 * squares of an RMS unit, and dbias. */
#include <stdlib.h>

#include "support.h"
#include "trial.h"

enum { STRETCH = 4096, ACROSS = 256 };

/* Every so many values from the first on, below the last. */
static double sum_of(const double *v, int64_t first, int64_t last, int64_t apart) {
  double sum = 0;
  for (int64_t i = first; i < last; i += apart) {
    sum += v[i];
  }
  return sum;
}

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/* Up to 4096 values. */
static double unit_sum(const double *v, int64_t n) {
  double a[8] = {0};
  for (int64_t group = 0; group < n; group += 64) {
    for (int64_t l = 0; l < 8; l++) {
      a[l] += sum_of(v, group + l, least(group + 64, n), 8);
    }
  }
  return ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7]));
}

/* Up to 256 values. */
static double across_sum(const double *v, int64_t n) {
  double a[4] = {0};
  for (int64_t k = 0; k * 16 < n; k++) {
    double lane[4];
    for (int64_t l = 0; l < 4; l++) {
      lane[l] = sum_of(v, 16 * k + l, least(16 * k + 16, n), 4);
    }
    a[k % 4] += (lane[0] + lane[1]) + (lane[2] + lane[3]);
  }
  return (a[0] + a[1]) + (a[2] + a[3]);
}

static double stretch_sum(const double *v, int64_t n, int64_t stretch) {
  return stretch == ACROSS ? across_sum(v, n) : unit_sum(v, n);
}

/* A sum and its rounding errors (Knuth 1969). */
typedef struct exact_sum {
  double sum, errors;
} exact_sum;

static void add_run(exact_sum *to, const double *v, int64_t n, int64_t stretch) {
  for (int64_t first = 0; first < n; first += stretch) {
    double piece = stretch_sum(v + first, least(n - first, stretch), stretch), sum = to->sum + piece;
    double part = sum - to->sum;
    to->errors += (to->sum - (sum - part)) + (piece - part);
    to->sum = sum;
  }
}

static const int64_t sizes[] = {1,  2,  3,  4,  5,   15,  16,   17,   31,   33,   47,   63,   64,   65,
                                79, 81, 96, 97, 255, 257, 1000, 4080, 4095, 4096, 4097, 5000, 8192, 12289};

static void squares_of_an_rms_unit_are_summed_by_the_tree(void **state) {
  (void)state;
  uint64_t seed = 81;
  for (size_t i = 0; i < COUNT(sizes); i++) {
    norma_layer layer = parse_layer("[d]", "d", NULL, 1, &sizes[i]);
    layer.rms = 1;
    trial t = trial_new(&layer, NORMA_F64, &seed, 0, 1);
    problem_is("rms of %lld float64 values", (long long)sizes[i]);
    outcome o = trial_run(&t, &(manner){.x = LAYOUT_SLICED});
    for (int64_t k = 0; k < sizes[i]; k++) {
      t.x[k] *= t.x[k];
    }
    exact_sum squares = {0, 0};
    add_run(&squares, t.x, sizes[i], STRETCH);
    double m2 = o.moments->m2 + o.moments->m2_lo, expected = squares.sum + squares.errors;
    assert_same_bits("m2", NORMA_F64, &m2, &expected, 1);
    outcome_free(&o);
    trial_free(&t);
  }
}

/* dbias of batch norm: the run of each sample, samples in order; also where the run lies along the batch (2-D). */
static void dbias_is_summed_by_the_tree(void **state) {
  (void)state;
  uint64_t seed = 82;
  for (size_t i = 0; i < COUNT(sizes) * 2; i++) {
    int64_t n = sizes[i / 2], samples = i % 2 ? 3 : 1;
    norma_layer layer = parse_layer("[n] c [l]", "c", NULL, 3, (int64_t[]){samples, 1, n});
    if (i % 2 == 0) {
      layer = parse_layer("[n] c", "c", NULL, 2, (int64_t[]){n, 1});
    }
    trial t = trial_new(&layer, NORMA_F64, &seed, 0, 1);
    problem_is("batch norm of %lld samples with %lld float64 values", (long long)samples, (long long)n);
    outcome o = trial_run(&t, &(manner){.dy = LAYOUT_REVERSED});
    exact_sum sum = {0, 0};
    for (int64_t s = 0; s < samples; s++) {
      add_run(&sum, t.dy + s * n, n, STRETCH);
    }
    assert_same_bits("dbias", NORMA_F64, o.dbias, &(double){sum.sum + sum.errors}, 1);
    outcome_free(&o);
    trial_free(&t);
  }
}

/* dbias of layer norm: the rows of a sample are a run of each parameter, whether or not a row is in vectors. */
static void dbias_across_units_is_summed_by_the_tree(void **state) {
  (void)state;
  uint64_t seed = 84;
  enum { SAMPLES = 3, WIDTH = 21 };
  static const norma_type types[] = {NORMA_F64, NORMA_F32};
  for (size_t i = 0; i < COUNT(sizes) * COUNT(types); i++) {
    int64_t n = sizes[i / COUNT(types)], samples = n > 1 ? SAMPLES : 1;
    int64_t rows = SAMPLES * n / samples; /* of one row each, samples are the run */
    norma_type type = types[i % COUNT(types)];
    norma_layer layer = parse_layer("n t [d]", "d", NULL, 3, (int64_t[]){SAMPLES, n, WIDTH});
    trial t = trial_new(&layer, type, &seed, 0, 1);
    problem_is("layer norm of %d samples with %lld rows, %s", SAMPLES, (long long)n, norma_type_name(type));
    outcome o = trial_run(&t, &(manner){0});
    double *column = malloc(sizeof *column * (size_t)rows);
    for (int64_t d = 0; d < WIDTH; d++) {
      exact_sum total = {0, 0};
      for (int64_t s = 0; s < samples; s++) {
        exact_sum run = {0, 0};
        for (int64_t r = 0; r < rows; r++) column[r] = t.dy[(s * rows + r) * WIDTH + d];
        add_run(&run, column, rows, ACROSS);
        double sum = total.sum + run.sum, part = sum - total.sum;
        total.errors += (total.sum - (sum - part)) + (run.sum - part) + run.errors;
        total.sum = sum;
      }
      double expected = total.sum + total.errors;
      float narrow = (float)expected;
      if (type == NORMA_F64) assert_same_bits("dbias", NORMA_F64, (const double *)o.dbias + d, &expected, 1);
      else assert_same_bits("dbias", NORMA_F32, (const float *)o.dbias + d, &narrow, 1);
    }
    free(column);
    outcome_free(&o);
    trial_free(&t);
  }
}

/* Moments of every unit of a layer without gamma; the caller frees them. */
static norma_moments *moments_of(const norma_layer *layer, norma_type type, const void *x) {
  norma_moments *moments = malloc(sizeof *moments * (size_t)norma_layer_units(layer));
  norma_error error;
  assert_ok(norma_forward(
                &(norma_forward_args){
                    .size = sizeof(norma_forward_args), .layer = layer, .type = type, .x = x, .moments = moments},
                &error),
            &error);
  return moments;
}

/* The moments of runs merge over dimension 1 into those of a sample, and samples merge in order: so a batch can be
 * split over machines by sample, with the bits of the whole. */
static void a_unit_is_its_runs_merged_in_order(void **state) {
  (void)state;
  uint64_t seed = 83;
  enum { SAMPLES = 5, CHANNELS = 7 };
  for (size_t k = 0; k < COUNT(all_types); k++) {
    for (int64_t n = 1; n <= 40; n += 13) {
      const int64_t shape[4] = {SAMPLES, CHANNELS, n, 3};
      norma_layer runs = parse_layer("n c [h w]", "", NULL, 4, shape);
      norma_layer samples = parse_layer("n [c h w]", "", NULL, 4, shape);
      norma_layer batch = parse_layer("[n c h w]", "", NULL, 4, shape);
      trial t = trial_new(&batch, all_types[k], &seed, 5, 1);
      void *x = from_doubles(t.type, t.x, norma_layer_elements(&batch));
      norma_moments *of_runs = moments_of(&runs, t.type, x), *of_samples = moments_of(&samples, t.type, x);
      norma_moments *whole = moments_of(&batch, t.type, x), all = {0};
      problem_is("'[n c h w]' %s, %d x %d runs of %lld", norma_type_name(t.type), SAMPLES, CHANNELS, (long long)n * 3);
      for (int sample = 0; sample < SAMPLES; sample++) {
        norma_moments one = {0};
        for (int channel = 0; channel < CHANNELS; channel++) {
          norma_moments_merge(&one, &of_runs[sample * CHANNELS + channel]);
        }
        assert_same_bits("moments of a sample", NORMA_F64, &of_samples[sample].mean, &one.mean, 4);
        norma_moments_merge(&all, &one);
      }
      assert_same_bits("moments of the batch", NORMA_F64, &whole->mean, &all.mean, 4);
      free(of_runs);
      free(of_samples);
      free(whole);
      free(x);
      trial_free(&t);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(squares_of_an_rms_unit_are_summed_by_the_tree),
      cmocka_unit_test(dbias_is_summed_by_the_tree),
      cmocka_unit_test(dbias_across_units_is_summed_by_the_tree),
      cmocka_unit_test(a_unit_is_its_runs_merged_in_order),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
