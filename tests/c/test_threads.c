/* Threads: the library is called from several threads at once on data of their own and on shared inputs, and gives its
 * work to a pool in tasks. Built with -fsanitize=thread, this program also finds every race. */
#include <pthread.h>
#include <stdlib.h>

#include "pool.h"
#include "support.h"
#include "trial.h"

static const manner plain = {.in_place = 0};

/* What one application thread does: the same calls over and over, on tensors of its own, with its own pool. */
typedef struct application {
  const trial *t;
  const adain_trial *pair;
  pool pool;
  norma_threads threads;
  enum { CALLS = 8 } calls;
  outcome got[CALLS];
  adain_outcome styled[CALLS];
} application;

static void *apply_often(void *argument) {
  application *a = argument;
  for (int i = 0; i < CALLS; i++) {
    manner m = {.x = (layout)(i % LAYOUT_COUNT),
                .use_saved = i & 1,
                .own_workspace = i >> 1 & 1,
                .in_place = i >> 2 & 1,
                .threads = a->threads.run != NULL ? &a->threads : NULL};
    a->got[i] = trial_run(a->t, &m);
    a->styled[i] = adain_run(a->pair, &m);
  }
  return NULL;
}

/* Every application thread reads the same trial, so inputs and layers are shared; pools and outputs are its own. */
static void concurrent_calls_give_the_same_bits(int pool_threads_each) {
  uint64_t seed = 71;
  norma_layer layer, content, style;
  norma_error error;
  problem_is("3 application threads with pools of %d", pool_threads_each);
  assert_ok(norma_layer_group(&layer, 4, 4, (int64_t[]){3, 8, 17, 13}, &error), &error);
  assert_ok(norma_layer_instance(&content, 3, (int64_t[]){2, 6, 211}, &error), &error);
  assert_ok(norma_layer_instance(&style, 3, (int64_t[]){2, 6, 150}, &error), &error);
  for (size_t k = 0; k < COUNT(all_types); k++) {
    trial t = trial_new(&layer, all_types[k], &seed, 3, 1);
    adain_trial pair = adain_new(&content, &style, all_types[k], &seed);
    outcome expected = trial_run(&t, &plain);
    adain_outcome styled = adain_run(&pair, &plain);
    application applications[3];
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
      applications[i] = (application){.t = &t, .pair = &pair, .pool = {.threads = pool_threads_each}};
      if (pool_threads_each > 0) {
        applications[i].threads = pool_threads(&applications[i].pool);
      }
      assert_int_equal(pthread_create(&threads[i], NULL, apply_often, &applications[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
      pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < 3 * CALLS; i++) {
      problem_is("%s, call %d of application thread %d, pool of %d", norma_type_name(t.type), i % CALLS, i / CALLS,
                 pool_threads_each);
      assert_same_outcome(&t, &applications[i / CALLS].got[i % CALLS], &expected);
      assert_same_adain(&pair, &applications[i / CALLS].styled[i % CALLS], &styled);
      outcome_free(&applications[i / CALLS].got[i % CALLS]);
      adain_outcome_free(&applications[i / CALLS].styled[i % CALLS]);
    }
    outcome_free(&expected);
    adain_outcome_free(&styled);
    trial_free(&t);
    adain_free(&pair);
  }
}

static void application_threads_do_not_disturb_each_other(void **state) {
  (void)state;
  concurrent_calls_give_the_same_bits(0);
}

static void application_threads_with_pools_do_not_disturb_each_other(void **state) {
  (void)state;
  concurrent_calls_give_the_same_bits(2);
}

/* A large call is split: without that a pool would be of no use. Also when there is one unit, or one gamma. */
static void a_large_call_is_given_to_the_pool_in_several_tasks(void **state) {
  (void)state;
  uint64_t seed = 72;
  static const struct {
    const char *name, *pattern, *affine;
    int64_t shape[3];
  } layers[] = {{"layer", "n t [d]", "d", {16, 32, 256}},
                {"batch", "[n] c [l]", "c", {16, 32, 256}},
                {"instance", "n c [l]", "c", {16, 32, 256}},
                {"channels first", "n [c] l", "c", {16, 32, 256}}};
  for (size_t i = 0; i < COUNT(layers); i++) {
    norma_layer layer;
    norma_error error;
    problem_is("%s of 131072 elements", layers[i].name);
    assert_ok(norma_layer_parse(&layer, layers[i].pattern, layers[i].affine, NULL, 3, layers[i].shape, &error), &error);
    trial t = trial_new(&layer, NORMA_F32, &seed, 3, 1);
    outcome expected = trial_run(&t, &plain);
    pool p = {.threads = 4, .order = POOL_SHUFFLED, .seed = 1};
    norma_threads threads = pool_threads(&p);
    outcome got = trial_run(&t, &(manner){.threads = &threads, .x = LAYOUT_CHANNELS_LAST});
    assert_same_outcome(&t, &got, &expected);
    assert_true(p.largest >= 4);
    outcome_free(&got);
    outcome_free(&expected);
    trial_free(&t);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(application_threads_do_not_disturb_each_other),
      cmocka_unit_test(application_threads_with_pools_do_not_disturb_each_other),
      cmocka_unit_test(a_large_call_is_given_to_the_pool_in_several_tasks),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
