/* What a user does with batches that are seen in parts: ghost batches, gradient accumulation, two processes. The first
 * example's numbers can be followed by hand; the others are compared with one call on the whole. */
#include <math.h>
#include <string.h>

#include "support.h"
#include "team.h"

enum { SAMPLES = 6, CHANNELS = 3, PIXELS = 4, ELEMENTS = SAMPLES * CHANNELS * PIXELS };

static void random_floats(uint64_t seed, float *to, int n) {
  for (int i = 0; i < n; i++) to[i] = (float)(2 + random_normal(&seed));
}

/* Ghost batches (Hoffer et al. 2017): a batch of 4 normalized as 2 batches of 2. Channel 0 holds 1 3 | 10 14 (means 2
 * and 12, deviations 1 and 2, unbiased variances 2 and 8). */
static void ghost_batches_are_a_layer(void **state) {
  (void)state;
  const float x[4] = {1, 3, 10, 14};
  float y[4], running_mean[1] = {0}, running_var[1] = {1};
  norma_moments moments[2];
  norma_layer ghosts;
  norma_error error;
  problem_is("ghost batches of 2");
  assert_ok(norma_layer_parse(&ghosts, "(g [n]) c", "c", "n=2", 2, (int64_t[]){4, 1}, &error), &error);
  assert_int_equal(norma_layer_units(&ghosts), 2);
  norma_forward_args args = {
      .size = sizeof args, .layer = &ghosts, .x = x, .y = y, .flags = NORMA_EPS_ZERO, .moments = moments};
  assert_ok(norma_forward(&args, &error), &error);
  assert_memory_equal(y, ((const float[]){-1, 1, -1, 1}), sizeof y);

  /* One update by the mean of the ghosts: 0.1 * (2 + 12) / 2 and 0.9 + 0.1 * (2 + 8) / 2. */
  norma_running_args update = {.size = sizeof update, .channels = 1, .samples = 2, .moments = moments,
                               .running_mean = running_mean, .running_var = running_var};
  assert_ok(norma_running_update(&update, &error), &error);
  assert_true(fabs(running_mean[0] - 0.7) < 1e-6 && fabs(running_var[0] - 1.4) < 1e-6);
}

/* The same layer on images: each ghost has the bits of a call of its own, forward and backward. */
static void a_ghost_has_the_bits_of_a_call_of_its_own(void **state) {
  (void)state;
  enum { GHOSTS = 3, PART = ELEMENTS / GHOSTS };
  float x[ELEMENTS], dy[ELEMENTS], y[ELEMENTS], dx[ELEMENTS], part[PART], weight[CHANNELS] = {1, 0.5f, -2};
  norma_layer ghosts, batch;
  norma_error error;
  problem_is("3 ghosts of 2 images");
  random_floats(1, x, ELEMENTS);
  random_floats(2, dy, ELEMENTS);
  assert_ok(norma_layer_parse(&ghosts, "(g [n]) c [l]", "c", "g=3", 3, (int64_t[]){SAMPLES, CHANNELS, PIXELS}, &error),
            &error);
  assert_ok(norma_layer_batch(&batch, 3, (int64_t[]){SAMPLES / GHOSTS, CHANNELS, PIXELS}, &error), &error);
  norma_forward_args forward = {.size = sizeof forward, .layer = &ghosts, .x = x, .y = y, .weight = weight};
  norma_backward_args backward = {
      .size = sizeof backward, .layer = &ghosts, .x = x, .dy = dy, .dx = dx, .weight = weight};
  assert_ok(norma_forward(&forward, &error), &error);
  assert_ok(norma_backward(&backward, &error), &error);
  forward.layer = backward.layer = &batch;
  forward.y = backward.dx = part;
  for (int g = 0; g < GHOSTS; g++) {
    forward.x = backward.x = x + g * PART;
    backward.dy = dy + g * PART;
    assert_ok(norma_forward(&forward, &error), &error);
    assert_same_bits("y", NORMA_F32, y + g * PART, part, PART);
    assert_ok(norma_backward(&backward, &error), &error);
    assert_same_bits("dx", NORMA_F32, dx + g * PART, part, PART);
  }
}

/* What one call on all samples gives. */
typedef struct whole {
  float x[ELEMENTS], dy[ELEMENTS], y[ELEMENTS], dx[ELEMENTS], dweight[CHANNELS], dbias[CHANNELS];
  norma_moments moments[CHANNELS];
} whole;

static const float weight[CHANNELS] = {1, 0.5f, -2}, bias[CHANNELS] = {0, 1, 3};

static norma_layer layer_of(int64_t samples) {
  norma_layer layer;
  norma_error error;
  assert_ok(norma_layer_batch(&layer, 3, (int64_t[]){samples, CHANNELS, PIXELS}, &error), &error);
  return layer;
}

static void run_whole(whole *w) {
  norma_layer layer = layer_of(SAMPLES);
  norma_error error;
  random_floats(3, w->x, ELEMENTS);
  random_floats(4, w->dy, ELEMENTS);
  norma_forward_args f = {.size = sizeof f, .layer = &layer, .x = w->x, .y = w->y, .weight = weight, .bias = bias,
                          .moments = w->moments};
  assert_ok(norma_forward(&f, &error), &error);
  norma_backward_args b = {.size = sizeof b, .layer = &layer, .x = w->x, .dy = w->dy, .dx = w->dx, .weight = weight,
                           .dweight = w->dweight, .dbias = w->dbias};
  assert_ok(norma_backward(&b, &error), &error);
}

static void assert_added(const float *sum, const float *expected) {
  for (int c = 0; c < CHANNELS; c++)
    if (!(fabsf(sum[c] - expected[c]) <= 1e-5f)) fail_problem("%g, not %g", (double)sum[c], (double)expected[c]);
}

/* Gradient accumulation: a batch too large for memory is seen in pieces, twice per direction. First all pieces are
 * measured, then each is normalized with the statistics of all. */
static void accumulated_pieces_have_the_bits_of_the_batch(void **state) {
  (void)state;
  enum { PIECES = 3 };
  static const int begins[PIECES + 1] = {0, 1, 4, SAMPLES};
  static whole w;
  static norma_moments samples[SAMPLES * CHANNELS], moments[CHANNELS];
  static norma_sums sums[SAMPLES * CHANNELS];
  norma_saved saved[CHANNELS];
  float y[ELEMENTS], dx[ELEMENTS], dweight[CHANNELS] = {0}, dbias[CHANNELS] = {0};
  norma_error error;
  problem_is("pieces of 1, 3 and 2 samples");
  run_whole(&w);
  for (int pass = 0; pass < 2; pass++)
    for (int p = 0; p < PIECES; p++) {
      int skip = begins[p] * CHANNELS * PIXELS;
      norma_layer layer = layer_of(begins[p + 1] - begins[p]);
      norma_forward_args f = {.size = sizeof f, .layer = &layer, .x = w.x + skip, .weight = weight, .bias = bias};
      if (pass == 0) f.sample_moments = samples + begins[p] * CHANNELS;
      else f.given_moments = samples, f.given_samples = SAMPLES, f.y = y + skip, f.saved = saved, f.moments = moments;
      assert_ok(norma_forward(&f, &error), &error);
    }
  assert_same_bits("y", NORMA_F32, y, w.y, ELEMENTS);
  assert_memory_equal(moments, w.moments, sizeof moments); /* of the batch: running statistics move once */
  for (int pass = 0; pass < 2; pass++)
    for (int p = 0; p < PIECES; p++) {
      int skip = begins[p] * CHANNELS * PIXELS;
      float more_weight[CHANNELS], more_bias[CHANNELS];
      norma_layer layer = layer_of(begins[p + 1] - begins[p]);
      norma_backward_args b = {.size = sizeof b, .layer = &layer, .x = w.x + skip, .dy = w.dy + skip, .weight = weight,
                               .saved = saved};
      if (pass == 0) b.sample_sums = sums + begins[p] * CHANNELS, b.dweight = more_weight, b.dbias = more_bias;
      else b.given_sums = sums, b.given_samples = SAMPLES, b.dx = dx + skip;
      assert_ok(norma_backward(&b, &error), &error);
      for (int c = 0; pass == 0 && c < CHANNELS; c++) dweight[c] += more_weight[c], dbias[c] += more_bias[c];
    }
  assert_same_bits("dx", NORMA_F32, dx, w.dx, ELEMENTS);
  assert_added(dweight, w.dweight);
  assert_added(dbias, w.dbias);
}

/* Two processes, here two threads: 2 samples and 4. */
typedef struct pair {
  const whole *w;
  norma_sync *sync[2];
  float y[ELEMENTS], dx[ELEMENTS], dweight[2][CHANNELS], dbias[2][CHANNELS];
  norma_moments moments[2][CHANNELS];
  norma_layer layer[2];
  norma_status status[2];
  norma_error error[2];
} pair;

static void train_rank(void *context, int rank) {
  pair *p = context;
  int skip = rank * 2 * CHANNELS * PIXELS;
  norma_saved saved[CHANNELS];
  norma_forward_args forward = {.size = sizeof forward, .layer = &p->layer[rank], .x = p->w->x + skip, .y = p->y + skip,
                                .weight = weight, .bias = bias, .saved = saved, .moments = p->moments[rank]};
  norma_sync_forward_args f = {.size = sizeof f, .sync = p->sync[rank], .name = "norm", .forward = &forward};
  p->status[rank] = norma_sync_forward(&f, &p->error[rank]);
  if (p->status[rank]) return;
  norma_backward_args backward = {.size = sizeof backward, .layer = &p->layer[rank], .x = p->w->x + skip,
                                  .dy = p->w->dy + skip, .dx = p->dx + skip, .weight = weight, .saved = saved,
                                  .dweight = p->dweight[rank], .dbias = p->dbias[rank]};
  norma_sync_backward_args b = {.size = sizeof b, .sync = p->sync[rank], .name = "norm", .backward = &backward};
  p->status[rank] = norma_sync_backward(&b, &p->error[rank]);
}

static void two_processes_have_the_bits_of_one(void **state) {
  (void)state;
  static whole w;
  static pair p;
  norma_error error;
  problem_is("2 samples and 4");
  run_whole(&w);
  team *t = team_new(2, 60);
  p.w = &w;
  for (int r = 0; r < 2; r++) {
    norma_exchange exchange = team_exchange(t, r);
    p.layer[r] = layer_of(r == 0 ? 2 : 4);
    assert_ok(norma_sync_new(&p.sync[r], &exchange, &error), &error);
  }
  team_run(2, train_rank, &p);
  for (int r = 0; r < 2; r++) {
    assert_ok(p.status[r], &p.error[r]);
    assert_memory_equal(p.moments[r], w.moments, sizeof w.moments);
    norma_sync_free(p.sync[r]);
  }
  assert_same_bits("y", NORMA_F32, p.y, w.y, ELEMENTS);
  assert_same_bits("dx", NORMA_F32, p.dx, w.dx, ELEMENTS);
  for (int c = 0; c < CHANNELS; c++) p.dweight[0][c] += p.dweight[1][c], p.dbias[0][c] += p.dbias[1][c];
  assert_added(p.dweight[0], w.dweight);
  assert_added(p.dbias[0], w.dbias);
  team_free(t);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(ghost_batches_are_a_layer),
                                     cmocka_unit_test(a_ghost_has_the_bits_of_a_call_of_its_own),
                                     cmocka_unit_test(accumulated_pieces_have_the_bits_of_the_batch),
                                     cmocka_unit_test(two_processes_have_the_bits_of_one)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
