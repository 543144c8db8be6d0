/* norma_sync.h: ranks that disagree, that make mistakes, that do not come. */
#include <string.h>

#include "scene.h"

/* All ranks fail with this, and the next call of all succeeds: they are still in step. */
static void all_say(scene *s, norma_status status, const char *const parts[2]) {
  scene_run(s);
  for (int r = 0; r < RANKS; r++) {
    for (int k = 0; k < 2; k++) assert_says(&s->of[r], status, parts[k]);
    assert_says(&s->of[r], status, "stem.norm");
    assert_nothing_written(&s->of[r]);
  }
  scene_reset(s);
  scene_run(s);
  for (int r = 0; r < RANKS; r++) assert_ok(s->of[r].status, &s->of[r].error);
  scene_reset(s);
}

static void every_rank_is_told_how_ranks_differ(void **state) {
  (void)state;
  scene s;
  scene_begin(&s, 600);
#define DIFFER(change, first, second)                                                   \
  do {                                                                                  \
    problem_is("%s", #change);                                                          \
    for (int back = 0; back < 2; back++) {                                              \
      for (int r = 0; r < RANKS; r++) s.of[r].goes_back = back;                         \
      member *m = &s.of[2];                                                             \
      change;                                                                           \
      all_say(&s, NORMA_RANKS_DISAGREE, (const char *const[2]){first, second});         \
    }                                                                                   \
  } while (0)
#define BOTH(field, value) (m->forward.field = m->backward.field = (value))
  DIFFER(member_shape(m, "[n] c [l]", "c", NULL, 3, ((int64_t[]){2, 2, 5})), "rank 0 has 4 channels (dimension 1)",
         "rank 2 has 2: all");
  DIFFER(member_shape(m, "[n] c [l]", "c", NULL, 3, ((int64_t[]){2, 4, 3})), "rank 0 has 5 positions along dimension 2",
         "rank 2 has 3: all");
  DIFFER(member_shape(m, "[n] c [a b]", "c", NULL, 4, ((int64_t[]){2, 4, 5, 1})), "rank 0 has 3 dimensions",
         "rank 2 has 4: all");
  DIFFER(member_shape(m, "[n] c l", "c", NULL, 3, ((int64_t[]){2, 4, 5})), "rank 0 has pattern [n] c [l]",
         "rank 2 has [n] c l: all");
  DIFFER(member_shape(m, "[n] c [l]", "", NULL, 3, ((int64_t[]){2, 4, 5})), "ranks 0 and 2 both have pattern [n] c [l]",
         "affine list");
  DIFFER(m->layer.rms = 1, "rank 0 has rms 0", "rank 2 has 1: all");
  DIFFER(BOTH(type, NORMA_BF16), "rank 0 has type f32", "rank 2 has bf16: all");
  DIFFER(BOTH(ddof, 1), "rank 0 has ddof 0", "rank 2 has 1: all");
  DIFFER(BOTH(eps, 0.125), "rank 0 has eps 0", "rank 2 has 0.125: all");
  DIFFER(BOTH(flags, NORMA_WEIGHT_PLUS_ONE), "rank 0 has flags 0", "rank 2 has 4: all");
  DIFFER(BOTH(activation, NORMA_RELU), "rank 0 has activation 0", "rank 2 has 1: all");
  DIFFER(m->sync_forward.merge = m->sync_backward.merge = NORMA_SYNC_PER_RANK, "rank 0 has merge 0",
         "rank 2 has 1: all");
  DIFFER(m->sync_forward.name = m->sync_backward.name = "head.norm", "rank 0 is in layer 'stem.norm'",
         "rank 2 in layer 'head.norm'");
  DIFFER(m->goes_back = !back, back ? "rank 0 is in layer 'stem.norm', backward" : "'stem.norm', forward, rank 2",
         back ? "rank 2 in layer 'stem.norm', forward" : "rank 2 in layer 'stem.norm', backward");
  problem_is("with and without after");
  for (int r = 0; r < RANKS; r++) {
    s.of[r].goes_back = true;
    s.of[r].backward.activation = NORMA_SILU;
    s.of[r].backward.after = r == 1 ? NULL : s.of[r].y;
  }
  all_say(&s, NORMA_RANKS_DISAGREE, (const char *const[2]){"rank 0 has after given", "rank 1 has NULL: all"});
  scene_end(&s);
}

/* The rank that is wrong says so itself; the others say who it was, and why. */
static void one_tells_all(scene *s, norma_status status, const char *part) {
  scene_run(s);
  assert_says(&s->of[1], status, part);
  for (int r = 0; r < RANKS; r += 2) {
    assert_says(&s->of[r], NORMA_RANKS_DISAGREE, "rank 1 refused its call of 'stem.norm': ");
    if (strstr(strstr(s->of[r].error.detail, "refused"), "layer 'stem")) fail_problem("%s", s->of[r].error.detail);
    assert_says(&s->of[r], NORMA_RANKS_DISAGREE, part);
  }
  for (int r = 0; r < RANKS; r++) assert_nothing_written(&s->of[r]);
  scene_reset(s);
  scene_run(s);
  for (int r = 0; r < RANKS; r++) assert_ok(s->of[r].status, &s->of[r].error);
  scene_reset(s);
}

static void a_mistake_of_one_rank_reaches_all(void **state) {
  (void)state;
  static const int64_t film[3] = {SAMPLES, CHANNELS, LENGTH};
  scene s;
  scene_begin(&s, 600);
#define MISTAKE(back, status, part, change)                     \
  do {                                                          \
    problem_is("%s", #change);                                  \
    for (int r = 0; r < RANKS; r++) s.of[r].goes_back = (back); \
    member *m = &s.of[1];                                       \
    change;                                                     \
    one_tells_all(&s, status, part);                            \
  } while (0)
  for (int promised = 0; promised < 2; promised++) {
#define PROMISE()                                                                                                    \
  for (int r = 0; promised && r < RANKS; r++) s.of[r].sync_forward.shards = s.of[r].sync_backward.shards = s.shards
    MISTAKE(false, NORMA_BAD_ARGUMENT, "x is NULL", m->forward.x = NULL);
    MISTAKE(false, NORMA_BAD_ARGUMENT, "eps is -1", m->forward.eps = -1);
    PROMISE();
    MISTAKE(false, NORMA_OVERLAP, "", m->forward.moments = (norma_moments *)(void *)m->saved;
            m->forward.saved = m->saved);
  }
  MISTAKE(false, NORMA_BAD_ARGUMENT, "forward is NULL", m->sync_forward.forward = NULL);
  MISTAKE(false, NORMA_BAD_ARGUMENT, "norma_forward_args", m->forward.size = 8);
  MISTAKE(true, NORMA_BAD_ARGUMENT, "norma_backward_args", m->backward.size = 8);
  MISTAKE(false, NORMA_BAD_ARGUMENT, "layer is NULL", m->forward.layer = NULL);
  MISTAKE(false, NORMA_BAD_ARGUMENT, "merge is 2", m->sync_forward.merge = (norma_sync_merge)2);
  MISTAKE(false, NORMA_BAD_ARGUMENT, "sample_moments", m->forward.sample_moments = m->moments);
  MISTAKE(false, NORMA_BAD_ARGUMENT, "does not sum over all of dimension 0",
          member_shape(m, "n c [l]", "c", NULL, 3, scene_shape));
  MISTAKE(false, NORMA_BAD_ARGUMENT, "sums over dimension 1", member_shape(m, "[n c l]", "c", NULL, 3, scene_shape));
  MISTAKE(true, NORMA_BAD_ARGUMENT, "backward is NULL", m->sync_backward.backward = NULL);
  MISTAKE(true, NORMA_BAD_ARGUMENT, "saved is NULL", m->backward.saved = NULL);
  MISTAKE(true, NORMA_BAD_ARGUMENT, "dy is NULL", m->backward.dy = NULL);
  MISTAKE(true, NORMA_BAD_ARGUMENT, "sample_sums", m->backward.given_samples = 1);
  MISTAKE(true, NORMA_BAD_ARGUMENT, "gamma changes along dimension 0",
          member_shape(m, "[n] c [l]", "n c", NULL, 3, film);
          m->backward.weight = m->y);
  scene_end(&s);
}

static void promised_shards_are_checked(void **state) {
  (void)state;
  int64_t wrong[RANKS] = {SAMPLES, SAMPLES, SAMPLES + 1};
  scene s;
  scene_begin(&s, 600);
  problem_is("rank 2 is sure of 3 samples and has 2");
  for (int r = 0; r < RANKS; r++) s.of[r].sync_forward.shards = s.shards;
  s.of[2].sync_forward.shards = wrong;
  scene_run(&s);
  assert_says(&s.of[2], NORMA_BAD_ARGUMENT, "shards[2] is 3, but the layer has 2 samples here");
  for (int r = 0; r < 2; r++) assert_true(s.of[r].status != NORMA_OK);
  scene_end(&s);

  scene_begin(&s, 600);
  problem_is("shards are right and something else differs");
  for (int r = 0; r < RANKS; r++) s.of[r].sync_forward.shards = s.shards;
  s.of[2].forward.eps = 0.5;
  scene_run(&s);
  for (int r = 0; r < RANKS; r++) assert_says(&s.of[r], NORMA_RANKS_DISAGREE, "rank 2 has 0.5");
  scene_end(&s);
}

/* ------------------------------------------------------------------------------------------------- lost ranks --- */

static void a_rank_that_does_not_come_is_missed_by_all_others(void **state) {
  (void)state;
  scene s;
  for (int back = 0; back < 2; back++) {
    scene_begin(&s, 0.05);
    problem_is("rank 1 is absent, backward %d", back);
    for (int r = 0; r < RANKS; r++) s.of[r].goes_back = back;
    s.of[1].absent = true;
    scene_run(&s);
    for (int r = 0; r < RANKS; r += 2) {
      assert_says(&s.of[r], NORMA_RANK_LOST, back ? "layer 'stem.norm', backward" : "layer 'stem.norm', forward");
      assert_says(&s.of[r], NORMA_RANK_LOST, "rank 1 did not come");
      assert_nothing_written(&s.of[r]);
    }
    /* It comes when the others have given up; they are asked again, too. */
    scene_reset(&s);
    for (int r = 0; r < RANKS; r++) s.of[r].sync_forward.name = "next.norm";
    scene_run(&s);
    assert_true(s.of[1].status != NORMA_OK);
    for (int r = 0; r < RANKS; r += 2) {
      assert_says(&s.of[r], NORMA_RANK_LOST, "layer 'next.norm', forward: the exchange has failed before");
      assert_says(&s.of[r], NORMA_RANK_LOST, "stem.norm");
    }
    scene_end(&s);
  }
}

/* -------------------------------------------------------------------------------------------------- the object --- */

static norma_status never(void *context, const void *mine, size_t size, void *all, const size_t *sizes,
                          norma_error *error) {
  (void)context, (void)mine, (void)size, (void)all, (void)sizes, (void)error;
  return NORMA_RANK_LOST;
}

static void the_object_checks_its_exchange(void **state) {
  (void)state;
  norma_sync *made = NULL;
  norma_error error;
  norma_exchange right = {.size = sizeof right, .rank = 0, .ranks = 2, .gather = never}, e;
  problem_is("norma_sync_new");
#define REFUSED(change, part)                                                                      \
  do {                                                                                             \
    e = right;                                                                                     \
    change;                                                                                        \
    assert_int_equal(norma_sync_new(&made, &e, &error), NORMA_BAD_ARGUMENT);                       \
    assert_null(made);                                                                             \
    if (!strstr(error.detail, part)) fail_problem("'%s' does not say '%s'", error.detail, part);   \
  } while (0)
  REFUSED(e.size = 1, "exchange->size is 1");
  REFUSED(e.rank = 2, "rank is 2 of 2");
  REFUSED(e.rank = -1, "rank is -1");
  REFUSED(e.ranks = 0, "of 0 ranks");
  REFUSED(e.gather = NULL, "gather is NULL");
  assert_int_equal(norma_sync_new(&made, NULL, NULL), NORMA_BAD_ARGUMENT);
  assert_int_equal(norma_sync_new(NULL, &right, NULL), NORMA_BAD_ARGUMENT);
  assert_ok(norma_sync_new(&made, &right, &error), &error);
  member m;
  member_set(&m, made, 0);
  assert_int_equal(norma_sync_forward(NULL, NULL), NORMA_BAD_ARGUMENT);
  m.sync_forward.size = 8;
  assert_int_equal(norma_sync_forward(&m.sync_forward, &error), NORMA_BAD_ARGUMENT);
  assert_non_null(strstr(error.detail, "args->size is 8"));
  member_set(&m, NULL, 0);
  assert_int_equal(norma_sync_backward(&m.sync_backward, &error), NORMA_BAD_ARGUMENT);
  assert_non_null(strstr(error.detail, "sync is NULL"));
  norma_sync_free(made);
  norma_sync_free(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_rank_is_told_how_ranks_differ),
                                     cmocka_unit_test(a_mistake_of_one_rank_reaches_all),
                                     cmocka_unit_test(promised_shards_are_checked),
                                     cmocka_unit_test(a_rank_that_does_not_come_is_missed_by_all_others),
                                     cmocka_unit_test(the_object_checks_its_exchange)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
