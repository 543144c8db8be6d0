/* The bits of a result depend on the values, the logical shape and the layer alone: not on memory layout, alignment,
 * position in the batch, order of the tasks, workspace, nor on computing in place. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"
#include "support.h"
#include "trial.h"

static const manner plain = {.in_place = 0};
static const double offset_for_type[] = {[NORMA_F32] = 300, [NORMA_F64] = 1e6, [NORMA_F16] = 3, [NORMA_BF16] = 3};

static layout any_layout(uint64_t *seed) { return (layout)random_below(seed, LAYOUT_COUNT); }

static void compare(const trial *t, const char *name, const outcome *expected, const manner *m) {
  problem_is("%s %s: x %s, y %s, dy %s, dx %s, parameters %s, in place %d, saved %d, own workspace %d, only dx %d",
             name, norma_type_name(t->type), layout_name(m->x), layout_name(m->y), layout_name(m->dy),
             layout_name(m->dx), layout_name(m->params), m->in_place, m->use_saved, m->own_workspace, m->only_dx);
  outcome got = trial_run(t, m);
  assert_same_outcome(t, &got, expected);
  outcome_free(&got);
}

/* One layout for all tensors, then mixtures of layouts with every other manner of calling. */
static void every_manner(const trial *t, const char *name, uint64_t *seed) {
  outcome expected = trial_run(t, &plain);
  for (layout l = LAYOUT_DENSE; l < LAYOUT_COUNT; l++) {
    compare(t, name, &expected, &(manner){.x = l, .y = l, .dy = l, .dx = l});
    compare(t, name, &expected, &(manner){.x = l, .y = l, .dy = l, .dx = l, .only_dx = 1});
  }
  for (int i = 0; i < 8; i++) {
    compare(t, name, &expected,
            &(manner){.x = any_layout(seed),
                      .y = any_layout(seed),
                      .dy = any_layout(seed),
                      .dx = any_layout(seed),
                      .params = any_layout(seed),
                      .in_place = i & 1,
                      .use_saved = i >> 1 & 1,
                      .own_workspace = i >> 2 & 1});
  }
  outcome_free(&expected);
}

static void same_bits_in_every_layout(norma_type type) {
  uint64_t seed = 1;
  const char *name;
  norma_layer layer;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    trial t = trial_new(&layer, type, &seed, offset_for_type[type], 1);
    every_manner(&t, name, &seed);
    trial_free(&t);
  }
}

static void same_bits_in_every_layout_f32(void **state) { (void)state, same_bits_in_every_layout(NORMA_F32); }
static void same_bits_in_every_layout_f64(void **state) { (void)state, same_bits_in_every_layout(NORMA_F64); }
static void same_bits_in_every_layout_f16(void **state) { (void)state, same_bits_in_every_layout(NORMA_F16); }
static void same_bits_in_every_layout_bf16(void **state) { (void)state, same_bits_in_every_layout(NORMA_BF16); }

/* Statistics over more than one stretch of 4096, where the summation tree has all its levels. */
static void same_bits_in_every_layout_of_long_units(void **state) {
  (void)state;
  static const struct {
    const char *name, *pattern, *affine, *sizes;
    int ndim;
    int64_t shape[4];
  } layers[] = {{"batch 3-D", "[n] c [l]", "c", NULL, 3, {2, 2, 4103}},
                {"batch 2-D", "[n] c", "c", NULL, 2, {4200, 2}},
                {"layer 2-D", "n [d]", "d", NULL, 2, {2, 8209}},
                {"channels first", "n [c] h w", "c", NULL, 4, {1, 4113, 1, 2}},
                {"group 4-D", "n (g [k]) [h w]", "(g k)", "g=2", 4, {1, 4, 65, 64}}};
  uint64_t seed = 2;
  for (size_t i = 0; i < COUNT(layers); i++) {
    norma_layer layer;
    norma_error error;
    problem_is("%s", layers[i].name);
    assert_ok(norma_layer_parse(&layer, layers[i].pattern, layers[i].affine, layers[i].sizes, layers[i].ndim,
                                layers[i].shape, &error),
              &error);
    norma_type type = all_types[i % 4];
    trial t = trial_new(&layer, type, &seed, offset_for_type[type], 1);
    every_manner(&t, layers[i].name, &seed);
    trial_free(&t);
  }
}

static void same_bits_in_every_layout_of_random_layers(void **state) {
  (void)state;
  uint64_t seed = 9;
  for (int i = 0; i < 150; i++) {
    norma_type type = all_types[i % 4];
    norma_layer layer = random_layer(&seed);
    char name[512];
    snprintf(name, sizeof name, "%s", problem_now());
    trial t = trial_new(&layer, type, &seed, offset_for_type[type], 1);
    t.ddof = norma_layer_unit_elements(&layer) > 1 && i % 3 == 0;
    every_manner(&t, name, &seed);
    trial_free(&t);
  }
}

/* Given statistics, the unbiased variance, gamma = 1 + weight, eps 0, and NaN and Inf among the data. */
static void same_bits_with_every_option(void **state) {
  (void)state;
  uint64_t seed = 3;
  const char *name;
  norma_layer layer;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    norma_type type = all_types[i % 4];
    int64_t units = norma_layer_units(&layer), elements = norma_layer_elements(&layer);
    trial t = trial_new(&layer, type, &seed, 1, 2);
    t.ddof = 1;
    t.flags = NORMA_EPS_ZERO | NORMA_WEIGHT_PLUS_ONE;
    every_manner(&t, name, &seed);
    t.x[random_below(&seed, elements)] = INFINITY;
    t.x[random_below(&seed, elements)] = NAN;
    t.dy[random_below(&seed, elements)] = -INFINITY;
    every_manner(&t, name, &seed);
    t.given_var = random_array(&seed, norma_param_type(type), units, 4, 0.5);
    t.given_mean = layer.rms ? NULL : random_array(&seed, norma_param_type(type), units, 1, 0.5);
    every_manner(&t, name, &seed);
    trial_free(&t);
  }
}

static void repeat_first(double *values, int64_t n, int64_t times) {
  for (int64_t i = n / times; i < n; i++) {
    values[i] = values[i - n / times];
  }
}

static void a_stride_of_0_has_the_bits_of_copies(void **state) {
  (void)state;
  uint64_t seed = 10;
  const char *name;
  norma_layer layer;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    norma_type type = all_types[i % 4];
    trial t = trial_new(&layer, type, &seed, offset_for_type[type], 1);
    repeat_first(t.x, norma_layer_elements(&layer), layer.shape[0]);
    outcome expected = trial_run(&t, &plain);
    compare(&t, name, &expected, &(manner){.x = LAYOUT_BROADCAST});
    outcome_free(&expected);
    repeat_first(t.dy, norma_layer_elements(&layer), layer.shape[0]);
    expected = trial_run(&t, &plain);
    compare(&t, name, &expected, &(manner){.dy = LAYOUT_BROADCAST, .y = LAYOUT_MIXED, .dx = LAYOUT_REVERSED});
    compare(&t, name, &expected, &(manner){.x = LAYOUT_BROADCAST, .dy = LAYOUT_BROADCAST, .use_saved = 1});
    outcome_free(&expected);
    trial_free(&t);
  }
}

static void compare_adain(const adain_trial *t, const char *name, const adain_outcome *expected, const manner *m) {
  problem_is("%s %s: content %s, style %s, y %s, dy %s, dcontent %s, dstyle %s, in place %d, own workspace %d", name,
             norma_type_name(t->type), layout_name(m->x), layout_name(m->style), layout_name(m->y), layout_name(m->dy),
             layout_name(m->dx), layout_name(m->dstyle), m->in_place, m->own_workspace);
  adain_outcome got = adain_run(t, m);
  assert_same_adain(t, &got, expected);
  adain_outcome_free(&got);
}

static void adain_has_the_same_bits_in_every_layout(void **state) {
  (void)state;
  uint64_t seed = 4;
  const char *name;
  norma_layer content, style;
  for (int i = 0; sample_pair(i, &name, &content, &style); i++) {
    for (size_t k = 0; k < COUNT(all_types); k++) {
      adain_trial t = adain_new(&content, &style, all_types[k], &seed);
      t.alpha = k % 2 ? 0.625 : 0;
      t.content_ddof = (int)k / 2;
      adain_outcome expected = adain_run(&t, &plain);
      for (layout l = LAYOUT_DENSE; l < LAYOUT_COUNT; l++) {
        compare_adain(&t, name, &expected, &(manner){.x = l, .style = l, .y = l, .dy = l, .dx = l, .dstyle = l});
        compare_adain(&t, name, &expected,
                      &(manner){.x = any_layout(&seed),
                                .style = any_layout(&seed),
                                .y = any_layout(&seed),
                                .dy = any_layout(&seed),
                                .dx = any_layout(&seed),
                                .dstyle = any_layout(&seed),
                                .in_place = l & 1,
                                .own_workspace = l >> 1 & 1});
      }
      adain_outcome_free(&expected);
      adain_free(&t);
    }
  }
}

/* The trial that has only these samples of t. Gamma and beta are per sample if they change along the batch. */
static trial some_samples(const trial *t, const int64_t *samples, int64_t count) {
  trial some = *t;
  int64_t n = t->layer.shape[0], each = norma_layer_elements(&t->layer) / n;
  some.layer.shape[0] = some.layer.axes[0].length = count;
  some.x = malloc(sizeof(double) * (size_t)(count * each));
  some.dy = malloc(sizeof(double) * (size_t)(count * each));
  int64_t params = trial_params(t), gammas = t->layer.axes[0].bits & NORMA_AFFINE ? params / n : 0;
  some.weight = params > 0 ? malloc(sizeof(double) * (size_t)params * (size_t)count) : NULL;
  some.bias = params > 0 ? malloc(sizeof(double) * (size_t)params * (size_t)count) : NULL;
  for (int64_t i = 0; i < count; i++) {
    memcpy(some.x + i * each, t->x + samples[i] * each, sizeof(double) * (size_t)each);
    memcpy(some.dy + i * each, t->dy + samples[i] * each, sizeof(double) * (size_t)each);
    if (params > 0) {
      int64_t copied = gammas > 0 ? gammas : params;
      memcpy(some.weight + i * gammas, t->weight + samples[i] * gammas, sizeof(double) * (size_t)copied);
      memcpy(some.bias + i * gammas, t->bias + samples[i] * gammas, sizeof(double) * (size_t)copied);
    }
  }
  return some;
}

/* Sample i of the small batch is samples[i] of the large one. */
static void assert_same_samples(const trial *t, const outcome *all, const int64_t *samples, int64_t count) {
  trial some = some_samples(t, samples, count);
  outcome got = trial_run(&some, &plain);
  norma_type ptype = norma_param_type(t->type);
  size_t size = norma_type_size(t->type), psize = norma_type_size(ptype);
  int64_t n = t->layer.shape[0], each = norma_layer_elements(&t->layer) / n, units = norma_layer_units(&t->layer) / n;
  for (int64_t i = 0; i < count; i++) {
    int64_t here = i * each * (int64_t)size, there = samples[i] * each * (int64_t)size;
    assert_same_bits("y of one sample", t->type, (char *)got.y + here, (char *)all->y + there, each);
    assert_same_bits("dx of one sample", t->type, (char *)got.dx + here, (char *)all->dx + there, each);
    here = i * units * (int64_t)psize, there = samples[i] * units * (int64_t)psize;
    assert_same_bits("mean of one sample", ptype, (char *)got.mean + here, (char *)all->mean + there, units);
    assert_same_bits("rstd of one sample", ptype, (char *)got.rstd + here, (char *)all->rstd + there, units);
    assert_same_bits("saved of one sample", NORMA_F64, got.saved + i * units, all->saved + samples[i] * units,
                     units * 4);
  }
  outcome_free(&got);
  trial_free(&some);
}

static void a_sample_has_the_same_bits_in_every_batch(void **state) {
  (void)state;
  uint64_t seed = 5;
  const char *name;
  norma_layer layer;
  int layers = 0;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    if (layer.ndim < 2 || layer.axes[0].bits & NORMA_SHARE) {
      continue;
    }
    layers++;
    layer.shape[0] = layer.axes[0].length = 8;
    for (size_t k = 0; k < COUNT(all_types); k++) {
      trial t = trial_new(&layer, all_types[k], &seed, offset_for_type[all_types[k]], 1);
      outcome all = trial_run(&t, &plain);
      problem_is("%s %s in batches of 8, 1 and 3", name, norma_type_name(t.type));
      for (int64_t sample = 0; sample < 8; sample++) {
        assert_same_samples(&t, &all, &sample, 1);
      }
      assert_same_samples(&t, &all, (int64_t[]){6, 1, 3}, 3);
      assert_same_samples(&t, &all, (int64_t[]){7, 6, 5, 4, 3, 2, 1, 0}, 8);
      outcome_free(&all);
      trial_free(&t);
    }
  }
  assert_true(layers > 10);
}

static const struct {
  const char *name;
  pool pool;
} pools[] = {{"the calling thread through the callback", {.threads = 0}},
             {"tasks in reverse order", {.order = POOL_REVERSED}},
             {"tasks shuffled", {.order = POOL_SHUFFLED, .seed = 6}},
             {"1 thread", {.threads = 1}},
             {"2 threads", {.threads = 2}},
             {"3 threads", {.threads = 3, .order = POOL_SHUFFLED}},
             {"8 threads", {.threads = 8}}};

static void threads_and_task_order_change_no_bit(void **state) {
  (void)state;
  uint64_t seed = 7;
  const char *name;
  norma_layer layer;
  for (int i = 0; sample_layer(i, &name, &layer); i++) {
    trial t = trial_new(&layer, all_types[i % 4], &seed, 3, 1);
    outcome expected = trial_run(&t, &plain);
    for (size_t k = 0; k < COUNT(pools); k++) {
      pool p = pools[k].pool;
      norma_threads threads = pool_threads(&p);
      problem_is("%s %s, %s", name, norma_type_name(t.type), pools[k].name);
      outcome got = trial_run(&t, &(manner){.x = any_layout(&seed), .threads = &threads, .own_workspace = k & 1});
      assert_same_outcome(&t, &got, &expected);
      outcome_free(&got);
    }
    outcome_free(&expected);
    trial_free(&t);
  }
}

static void adain_has_the_same_bits_on_all_threads(void **state) {
  (void)state;
  uint64_t seed = 8;
  const char *name;
  norma_layer content, style;
  for (int i = 0; sample_pair(i, &name, &content, &style); i++) {
    adain_trial t = adain_new(&content, &style, all_types[i % 4], &seed);
    adain_outcome expected = adain_run(&t, &plain);
    for (size_t k = 0; k < COUNT(pools); k++) {
      pool p = pools[k].pool;
      norma_threads threads = pool_threads(&p);
      problem_is("%s %s, %s", name, norma_type_name(t.type), pools[k].name);
      adain_outcome got = adain_run(&t, &(manner){.threads = &threads});
      assert_same_adain(&t, &got, &expected);
      adain_outcome_free(&got);
    }
    adain_outcome_free(&expected);
    adain_free(&t);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(same_bits_in_every_layout_f32),
      cmocka_unit_test(same_bits_in_every_layout_f64),
      cmocka_unit_test(same_bits_in_every_layout_f16),
      cmocka_unit_test(same_bits_in_every_layout_bf16),
      cmocka_unit_test(same_bits_in_every_layout_of_long_units),
      cmocka_unit_test(same_bits_in_every_layout_of_random_layers),
      cmocka_unit_test(same_bits_with_every_option),
      cmocka_unit_test(a_stride_of_0_has_the_bits_of_copies),
      cmocka_unit_test(adain_has_the_same_bits_in_every_layout),
      cmocka_unit_test(a_sample_has_the_same_bits_in_every_batch),
      cmocka_unit_test(threads_and_task_order_change_no_bit),
      cmocka_unit_test(adain_has_the_same_bits_on_all_threads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
