/* Ragged batches: what is refused, in which words, and that nothing is written then. */
#include <string.h>

#include "ragged_cut.h"
#include "trial.h"

enum { SAMPLES = 4, CHANNELS = 6, LENGTH = 5, ELEMENTS = SAMPLES * CHANNELS * LENGTH };

static const int64_t shape[3] = {SAMPLES, CHANNELS, LENGTH};
static int64_t lengths[SAMPLES] = {5, 0, 3, 1};
static uint8_t mask[SAMPLES * LENGTH] = {1, 0, 1, 1, 0, 1, 1};
static const int64_t mask_strides[3] = {LENGTH, 0, 1}, of_all[3] = {CHANNELS * LENGTH, LENGTH, 1};

static float x[ELEMENTS], out[ELEMENTS], untouched[ELEMENTS], weight[ELEMENTS], stat[ELEMENTS];

static void expect(norma_status status, norma_status expected, const norma_error *error, const char *part) {
  if (status != expected) fail_problem("status %d, not %d: %s", (int)status, (int)expected, error->detail);
  if (!strstr(error->detail, part)) fail_problem("'%s' does not say '%s'", error->detail, part);
  assert_int_equal(error->status, expected);
  assert_memory_equal(out, untouched, sizeof out);
}

#define RAGGED(...) (norma_ragged){.size = sizeof(norma_ragged), __VA_ARGS__}
#define LENGTHS RAGGED(.dim = 2, .lengths = lengths)
#define MASK RAGGED(.mask = mask, .mask_strides = mask_strides)

static const norma_forward_args none; /* nothing but what all calls have in common */
static const norma_backward_args none_back;

/* Calls with these arguments, and what all have in common. */
static void forward(norma_status expected, const char *part, const norma_layer *layer, const norma_ragged *ragged,
                    norma_forward_args a) {
  norma_error error = {0};
  problem_is("forward, '%s'", part);
  a.size = sizeof a, a.layer = layer, a.y = out;
  if (!a.x) a.x = x;
  expect(norma_ragged_forward(&a, ragged, &error), expected, &error, part);
}

static void backward(norma_status expected, const char *part, const norma_layer *layer, const norma_ragged *ragged,
                     norma_backward_args b) {
  norma_error error = {0};
  problem_is("backward, '%s'", part);
  b.size = sizeof b, b.layer = layer, b.x = x, b.dx = out;
  if (!b.dy) b.dy = x;
  expect(norma_ragged_backward(&b, ragged, &error), expected, &error, part);
}

static void what_is_valid_must_be_said_once(void **state) {
  (void)state;
  norma_layer batch = parse_layer("[n] c [l]", "c", NULL, 3, shape);
  int64_t wrong[SAMPLES] = {5, 2, 6, 1}, negative[SAMPLES] = {5, 2, 3, -1};
  forward(NORMA_BAD_ARGUMENT, "ragged->size is 0", &batch, &(norma_ragged){.dim = 2, .lengths = lengths}, none);
  forward(NORMA_BAD_ARGUMENT, "lengths and mask are both NULL", &batch, &RAGGED(.dim = 2), none);
  forward(NORMA_BAD_ARGUMENT, "both set", &batch, &RAGGED(.dim = 2, .lengths = lengths, .mask = mask,
          .mask_strides = mask_strides), none);
  forward(NORMA_BAD_ARGUMENT, "padding is 2", &batch, &RAGGED(.dim = 2, .lengths = lengths,
          .padding = (norma_padding)2), none);
  forward(NORMA_BAD_ARGUMENT, "dim is 0, must be 1 to 2", &batch, &RAGGED(.lengths = lengths), none);
  forward(NORMA_BAD_ARGUMENT, "dim is 3, must be 1 to 2", &batch, &RAGGED(.dim = 3, .lengths = lengths), none);
  forward(NORMA_BAD_ARGUMENT, "lengths[2] is 6, must be 0 to 5, the size of dimension 2", &batch, &RAGGED(.dim = 2,
          .lengths = wrong), none);
  backward(NORMA_BAD_ARGUMENT, "lengths[3] is -1", &batch, &RAGGED(.dim = 2, .lengths = negative), none_back);
  forward(NORMA_BAD_ARGUMENT, "mask_strides is NULL", &batch, &RAGGED(.mask = mask), none);
  norma_error error;
  norma_forward_args a = {.size = sizeof a, .layer = &batch, .x = x, .y = out};
  expect(norma_ragged_forward(&a, NULL, &error), NORMA_BAD_ARGUMENT, &error, "ragged is NULL");
  assert_int_equal(norma_ragged_forward(NULL, &LENGTHS, NULL), NORMA_BAD_ARGUMENT);
  assert_int_equal(norma_ragged_backward(NULL, &LENGTHS, NULL), NORMA_BAD_ARGUMENT);
}

static void layers_must_come_apart(void **state) {
  (void)state;
  norma_layer batch = parse_layer("[n] c [l]", "c", NULL, 3, shape);
  norma_layer at_positions = parse_layer("[n] c l", "c", NULL, 3, shape), whole = parse_layer("[n c l]", "c", NULL, 3,
      shape);
  norma_layer group = parse_layer("n (g [k]) [l]", "(g k)", "g=2", 3, shape);
  norma_layer per_position = parse_layer("n [c l]", "c l", NULL, 3, shape);
  norma_layer varied = parse_layer("[n] c [l]", "c l", NULL, 3, shape);
  norma_layer instance = parse_layer("n c [l]", "c", NULL, 3, shape);
  static const int64_t apart[4] = {2, 2, 6, 5};
  norma_layer four = parse_layer("n h c w", "", NULL, 4, apart), some = parse_layer("n c h [w]", "c", NULL, 4, apart);
  static const int64_t around[4] = {10, 5, 0, 1}, both[4] = {30, 0, 5, 1};
  forward(NORMA_BAD_PATTERN, "not the positions of dimension 2", &at_positions, &LENGTHS, none);
  forward(NORMA_BAD_PATTERN, "span samples and dimension 1", &whole, &LENGTHS, none);
  forward(NORMA_BAD_PATTERN, "splits dimension 1", &group, &RAGGED(.dim = 1, .lengths = lengths), none);
  forward(NORMA_BAD_PATTERN, "dimension 1, which the layer splits", &group, &RAGGED(.mask = mask,
          .mask_strides = of_all), none);
  forward(NORMA_BAD_PATTERN, "the mask and gamma both change along dimension 2", &per_position, &MASK, none);
  forward(NORMA_BAD_ARGUMENT, "but not along 2 between them", &four, &RAGGED(.mask = mask, .mask_strides = around),
          none);
  forward(NORMA_BAD_PATTERN, "of which units span a part only", &some, &RAGGED(.mask = mask, .mask_strides = both),
          none);
  backward(NORMA_BAD_PATTERN, "gamma changes along dimension 2", &varied, &LENGTHS,
           (norma_backward_args){.weight = weight});
  forward(NORMA_SINGLE_VALUE, "of sample 3 is taken over 1 valid value", &instance, &LENGTHS,
          (norma_forward_args){.flags = NORMA_REFUSE_SINGLE});
  backward(NORMA_SINGLE_VALUE, "ddof 1 needs at least 2", &instance, &LENGTHS, (norma_backward_args){.ddof = 1});
  static const int64_t single[SAMPLES] = {0, 0, 1, 0};
  forward(NORMA_SINGLE_VALUE, "over 1 valid value, more than 1", &batch, &RAGGED(.dim = 2, .lengths = single),
          (norma_forward_args){.flags = NORMA_REFUSE_SINGLE});
  static const uint8_t lonely[SAMPLES * LENGTH] = {0, 0, 0, 1, 0};
  forward(NORMA_SINGLE_VALUE, "over 1 valid value, more than 1", &batch, &RAGGED(.mask = lonely,
          .mask_strides = mask_strides), (norma_forward_args){.flags = NORMA_REFUSE_SINGLE});
}

/* What norma_forward and norma_backward say of their arguments comes first, in their words. */
static void arguments_are_checked_as_ever(void **state) {
  (void)state;
  norma_layer batch = parse_layer("[n] c [l]", "c", NULL, 3, shape);
  norma_moments moments[CHANNELS * SAMPLES] = {{0}};
  norma_sums sums[CHANNELS * SAMPLES] = {{0}};
  forward(NORMA_BAD_ARGUMENT, "eps is -1", &batch, &LENGTHS, (norma_forward_args){.eps = -1});
  forward(NORMA_BAD_ARGUMENT, "ddof is 2", &batch, &LENGTHS, (norma_forward_args){.ddof = 2});
  forward(NORMA_OVERLAP, "y overlaps x", &batch, &LENGTHS, (norma_forward_args){.x = out + 1});
  forward(NORMA_OVERLAP, "overlaps", &batch, &MASK, (norma_forward_args){.mean = stat, .var = stat});
  forward(NORMA_BAD_ARGUMENT, "given_var is NULL", &batch, &MASK, (norma_forward_args){.given_mean = stat});
  forward(NORMA_BAD_ARGUMENT, "sample_moments is set", &batch, &LENGTHS,
          (norma_forward_args){.sample_moments = moments});
  forward(NORMA_BAD_ARGUMENT, "given_moments is set", &batch, &LENGTHS, (norma_forward_args){.given_moments = moments,
          .given_samples = 4});
  backward(NORMA_OVERLAP, "dx overlaps dy", &batch, &MASK, (norma_backward_args){.dy = out + 1});
  backward(NORMA_BAD_ARGUMENT, "sample_sums is set", &batch, &LENGTHS, (norma_backward_args){.sample_sums = sums});
  backward(NORMA_BAD_ARGUMENT, "given_sums is set", &batch, &LENGTHS, (norma_backward_args){.given_sums = sums,
           .given_samples = 4});
}

/* Statistics of nothing: count 0, and the running statistics stay. */
static void an_empty_batch_updates_nothing(void **state) {
  (void)state;
  static const int64_t none[SAMPLES] = {0};
  norma_layer batch = parse_layer("[n] c [l]", "c", NULL, 3, shape);
  float y[ELEMENTS], running[CHANNELS] = {1, 2, 3, 4, 5, 6}, before[CHANNELS] = {1, 2, 3, 4, 5, 6};
  norma_moments moments[CHANNELS];
  norma_error error = {0};
  norma_forward_args a = {.size = sizeof a, .layer = &batch, .x = x, .y = y, .moments = moments, .ddof = 1,
                          .flags = NORMA_REFUSE_SINGLE};
  problem_is("all lengths 0");
  assert_ok(norma_ragged_forward(&a, &RAGGED(.dim = 2, .lengths = none), &error), &error);
  norma_running_args u = {.size = sizeof u, .channels = CHANNELS, .moments = moments};
  u.running_mean = running;
  assert_ok(norma_running_update(&u, &error), &error);
  assert_memory_equal(running, before, sizeof running);
  for (int i = 0; i < CHANNELS; i++) assert_int_equal(moments[i].count, 0);
  for (int i = 0; i < ELEMENTS; i++) assert_true(y[i] == 0);
}

/* Statistics that are given, as in evaluation: the valid elements of the whole call, padding apart. */
static void given_statistics_leave_padding_out(void **state) {
  (void)state;
  norma_layer batch = parse_layer("[n] c [l]", "c", NULL, 3, shape);
  float mean[CHANNELS], var[CHANNELS], whole[ELEMENTS], y[ELEMENTS], dx[ELEMENTS], whole_dx[ELEMENTS], in[ELEMENTS];
  float dweight[CHANNELS], dbias[CHANNELS], expected[2][CHANNELS];
  uint64_t seed = 3;
  for (int i = 0; i < ELEMENTS; i++) in[i] = (float)random_normal(&seed);
  for (int i = 0; i < CHANNELS; i++) mean[i] = (float)i / 8, var[i] = (float)(1 + i), weight[i] = (float)(i - 2);
  problem_is("given statistics");
  norma_error error = {0};
  norma_forward_args a = {.size = sizeof a, .layer = &batch, .x = in, .y = whole, .given_mean = mean, .given_var = var};
  norma_backward_args b = {.size = sizeof b, .layer = &batch, .x = in, .dy = in, .dx = whole_dx};
  b.given_mean = mean, b.given_var = var, a.weight = b.weight = weight;
  assert_ok(norma_forward(&a, &error), &error);
  assert_ok(norma_backward(&b, &error), &error);
  float dy[ELEMENTS]; /* with 0 where padding is: that is what its sums leave out */
  for (int i = 0; i < ELEMENTS; i++) dy[i] = i % LENGTH < lengths[i / (CHANNELS * LENGTH)] ? in[i] : 0;
  b.dy = dy, b.dx = NULL, b.dweight = expected[0], b.dbias = expected[1];
  assert_ok(norma_backward(&b, &error), &error);
  a.y = y, b.dy = in, b.dx = dx, b.dweight = dweight, b.dbias = dbias;
  assert_ok(norma_ragged_forward(&a, &LENGTHS, &error), &error);
  assert_ok(norma_ragged_backward(&b, &LENGTHS, &error), &error);
  assert_same_bits("dweight", NORMA_F32, dweight, expected[0], CHANNELS);
  assert_same_bits("dbias", NORMA_F32, dbias, expected[1], CHANNELS);
  for (int i = 0; i < ELEMENTS; i++) {
    bool valid = i % LENGTH < lengths[i / (CHANNELS * LENGTH)];
    static const float zero;
    assert_same_bits("y", NORMA_F32, &y[i], valid ? &whole[i] : &zero, 1);
    assert_same_bits("dx", NORMA_F32, &dx[i], valid ? &whole_dx[i] : &zero, 1);
  }
}

int main(void) {
  memset(out, 0x5a, sizeof out);
  memcpy(untouched, out, sizeof out);
  const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_valid_must_be_said_once),
                                     cmocka_unit_test(layers_must_come_apart),
                                     cmocka_unit_test(arguments_are_checked_as_ever),
                                     cmocka_unit_test(an_empty_batch_updates_nothing),
                                     cmocka_unit_test(given_statistics_leave_padding_out)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
