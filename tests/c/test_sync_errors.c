/* norma_sync.h: ranks that disagree, that make mistakes, that do not come; what is exchanged, and what is not. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"
#include "team.h"
#include "trial.h"

enum { RANKS = 3, SAMPLES = 2, CHANNELS = 4, LENGTH = 5, ELEMENTS = SAMPLES * CHANNELS * LENGTH };

/* What one rank does; all begin as the same call. */
typedef struct member {
  norma_layer layer;
  norma_forward_args forward;
  norma_backward_args backward;
  norma_sync_forward_args sync_forward;
  norma_sync_backward_args sync_backward;
  bool goes_back; /* backward instead of forward */
  bool absent;
  float x[ELEMENTS], y[ELEMENTS], dy[ELEMENTS], dx[ELEMENTS];
  norma_saved saved[CHANNELS];
  norma_moments moments[CHANNELS];
  norma_status status;
  norma_error error;
} member;

typedef struct scene {
  team *team;
  norma_sync *sync[RANKS];
  member of[RANKS];
  int64_t shards[RANKS];
} scene;

static const int64_t shape[3] = {SAMPLES, CHANNELS, LENGTH};

static void set(member *m, norma_sync *sync, int rank) {
  uint64_t seed = (uint64_t)rank + 1;
  *m = (member){.layer = parse_layer("[n] c [l]", "c", NULL, 3, shape)};
  for (int i = 0; i < ELEMENTS; i++) {
    m->x[i] = (float)random_normal(&seed);
    m->dy[i] = (float)random_normal(&seed);
    m->y[i] = m->dx[i] = 77;
  }
  for (int c = 0; c < CHANNELS; c++) m->saved[c] = (norma_saved){0, 0, 1, 1};
  m->forward = (norma_forward_args){.size = sizeof m->forward, .layer = &m->layer, .x = m->x, .y = m->y};
  m->backward = (norma_backward_args){
      .size = sizeof m->backward, .layer = &m->layer, .x = m->x, .dy = m->dy, .dx = m->dx, .saved = m->saved};
  m->sync_forward = (norma_sync_forward_args){
      .size = sizeof m->sync_forward, .sync = sync, .name = "stem.norm", .forward = &m->forward};
  m->sync_backward = (norma_sync_backward_args){
      .size = sizeof m->sync_backward, .sync = sync, .name = "stem.norm", .backward = &m->backward};
}

static void reset(scene *s) {
  for (int r = 0; r < RANKS; r++) {
    set(&s->of[r], s->sync[r], r);
    s->shards[r] = SAMPLES;
  }
}

static void begin(scene *s, double timeout) {
  norma_error error;
  s->team = team_new(RANKS, timeout);
  for (int r = 0; r < RANKS; r++) {
    norma_exchange exchange = team_exchange(s->team, r);
    assert_ok(norma_sync_new(&s->sync[r], &exchange, &error), &error);
  }
  reset(s);
}

static void end(scene *s) {
  for (int r = 0; r < RANKS; r++) norma_sync_free(s->sync[r]);
  team_free(s->team);
}

static void run_member(void *context, int rank) {
  member *m = &((scene *)context)->of[rank];
  if (m->absent) return;
  m->status = m->goes_back ? norma_sync_backward(&m->sync_backward, &m->error)
                           : norma_sync_forward(&m->sync_forward, &m->error);
}

static void run(scene *s) { team_run(RANKS, run_member, s); }

static void assert_says(const member *m, norma_status status, const char *part) {
  if (m->status != status)
    fail_problem("status %s (%s), not %s", norma_status_text(m->status), m->status ? m->error.detail : "",
                 norma_status_text(status));
  if (!strstr(m->error.detail, part)) fail_problem("'%s' does not say '%s'", m->error.detail, part);
}

static void assert_nothing_written(const member *m) {
  for (int i = 0; i < ELEMENTS; i++) assert_true(m->y[i] == 77 && m->dx[i] == 77);
}

/* All ranks fail with this, and the next call of all succeeds: they are still in step. */
static void all_say(scene *s, norma_status status, const char *const parts[2]) {
  run(s);
  for (int r = 0; r < RANKS; r++) {
    for (int k = 0; k < 2; k++) assert_says(&s->of[r], status, parts[k]);
    assert_says(&s->of[r], status, "stem.norm");
    assert_nothing_written(&s->of[r]);
  }
  reset(s);
  run(s);
  for (int r = 0; r < RANKS; r++) assert_ok(s->of[r].status, &s->of[r].error);
  reset(s);
}

static void shape_is(member *m, const char *pattern, const char *affine, const char *sizes, int ndim,
                     const int64_t *dims) {
  m->layer = parse_layer(pattern, affine, sizes, ndim, dims);
}

static void every_rank_is_told_how_ranks_differ(void **state) {
  (void)state;
  scene s;
  begin(&s, 600);
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
  DIFFER(shape_is(m, "[n] c [l]", "c", NULL, 3, ((int64_t[]){2, 2, 5})), "rank 0 has 4 channels (dimension 1)",
         "rank 2 has 2: all");
  DIFFER(shape_is(m, "[n] c [l]", "c", NULL, 3, ((int64_t[]){2, 4, 3})), "rank 0 has 5 positions along dimension 2",
         "rank 2 has 3: all");
  DIFFER(shape_is(m, "[n] c [a b]", "c", NULL, 4, ((int64_t[]){2, 4, 5, 1})), "rank 0 has 3 dimensions",
         "rank 2 has 4: all");
  DIFFER(shape_is(m, "[n] c l", "c", NULL, 3, ((int64_t[]){2, 4, 5})), "rank 0 has pattern [n] c [l]",
         "rank 2 has [n] c l: all");
  DIFFER(shape_is(m, "[n] c [l]", "", NULL, 3, ((int64_t[]){2, 4, 5})), "ranks 0 and 2 both have pattern [n] c [l]",
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
  end(&s);
}

/* The rank that is wrong says so itself; the others say who it was, and why. */
static void one_tells_all(scene *s, norma_status status, const char *part) {
  run(s);
  assert_says(&s->of[1], status, part);
  for (int r = 0; r < RANKS; r += 2) {
    assert_says(&s->of[r], NORMA_RANKS_DISAGREE, "rank 1 refused its call of 'stem.norm': ");
    if (strstr(strstr(s->of[r].error.detail, "refused"), "layer 'stem")) fail_problem("%s", s->of[r].error.detail);
    assert_says(&s->of[r], NORMA_RANKS_DISAGREE, part);
  }
  for (int r = 0; r < RANKS; r++) assert_nothing_written(&s->of[r]);
  reset(s);
  run(s);
  for (int r = 0; r < RANKS; r++) assert_ok(s->of[r].status, &s->of[r].error);
  reset(s);
}

static void a_mistake_of_one_rank_reaches_all(void **state) {
  (void)state;
  static const int64_t film[3] = {SAMPLES, CHANNELS, LENGTH};
  scene s;
  begin(&s, 600);
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
          shape_is(m, "n c [l]", "c", NULL, 3, shape));
  MISTAKE(false, NORMA_BAD_ARGUMENT, "sums over dimension 1", shape_is(m, "[n c l]", "c", NULL, 3, shape));
  MISTAKE(true, NORMA_BAD_ARGUMENT, "backward is NULL", m->sync_backward.backward = NULL);
  MISTAKE(true, NORMA_BAD_ARGUMENT, "saved is NULL", m->backward.saved = NULL);
  MISTAKE(true, NORMA_BAD_ARGUMENT, "dy is NULL", m->backward.dy = NULL);
  MISTAKE(true, NORMA_BAD_ARGUMENT, "sample_sums", m->backward.given_samples = 1);
  MISTAKE(true, NORMA_BAD_ARGUMENT, "gamma changes along dimension 0",
          shape_is(m, "[n] c [l]", "n c", NULL, 3, film);
          m->backward.weight = m->y);
  end(&s);
}

static void promised_shards_are_checked(void **state) {
  (void)state;
  int64_t wrong[RANKS] = {SAMPLES, SAMPLES, SAMPLES + 1};
  scene s;
  begin(&s, 600);
  problem_is("rank 2 is sure of 3 samples and has 2");
  for (int r = 0; r < RANKS; r++) s.of[r].sync_forward.shards = s.shards;
  s.of[2].sync_forward.shards = wrong;
  run(&s);
  assert_says(&s.of[2], NORMA_BAD_ARGUMENT, "shards[2] is 3, but the layer has 2 samples here");
  for (int r = 0; r < 2; r++) assert_true(s.of[r].status != NORMA_OK);
  end(&s);

  begin(&s, 600);
  problem_is("shards are right and something else differs");
  for (int r = 0; r < RANKS; r++) s.of[r].sync_forward.shards = s.shards;
  s.of[2].forward.eps = 0.5;
  run(&s);
  for (int r = 0; r < RANKS; r++) assert_says(&s.of[r], NORMA_RANKS_DISAGREE, "rank 2 has 0.5");
  end(&s);
}

/* ------------------------------------------------------------------------------------------------- lost ranks --- */

static void a_rank_that_does_not_come_is_missed_by_all_others(void **state) {
  (void)state;
  scene s;
  for (int back = 0; back < 2; back++) {
    begin(&s, 0.05);
    problem_is("rank 1 is absent, backward %d", back);
    for (int r = 0; r < RANKS; r++) s.of[r].goes_back = back;
    s.of[1].absent = true;
    run(&s);
    for (int r = 0; r < RANKS; r += 2) {
      assert_says(&s.of[r], NORMA_RANK_LOST, back ? "layer 'stem.norm', backward" : "layer 'stem.norm', forward");
      assert_says(&s.of[r], NORMA_RANK_LOST, "rank 1 did not come");
      assert_nothing_written(&s.of[r]);
    }
    /* It comes when the others have given up; they are asked again, too. */
    reset(&s);
    for (int r = 0; r < RANKS; r++) s.of[r].sync_forward.name = "next.norm";
    run(&s);
    assert_true(s.of[1].status != NORMA_OK);
    for (int r = 0; r < RANKS; r += 2) {
      assert_says(&s.of[r], NORMA_RANK_LOST, "layer 'next.norm', forward: the exchange has failed before");
      assert_says(&s.of[r], NORMA_RANK_LOST, "stem.norm");
    }
    end(&s);
  }
}

/* ------------------------------------------------------------------------------------------ what is exchanged --- */

static void run_all(scene *s) {
  run(s);
  for (int r = 0; r < RANKS; r++) assert_ok(s->of[r].status, &s->of[r].error);
}

static void the_messages_have_the_documented_sizes(void **state) {
  (void)state;
  scene s;
  begin(&s, 600);
  for (int merge = 0; merge < 2; merge++)
    for (int promised = 0; promised < 2; promised++)
      for (int back = 0; back < 2; back++) {
        problem_is("merge %d, promised %d, backward %d", merge, promised, back);
        reset(&s);
        for (int r = 0; r < RANKS; r++) {
          s.of[r].goes_back = back;
          s.of[r].sync_forward.merge = s.of[r].sync_backward.merge = (norma_sync_merge)merge;
          s.of[r].sync_forward.shards = s.of[r].sync_backward.shards = promised ? s.shards : NULL;
        }
        int before = team_exchanges(s.team);
        run_all(&s);
        assert_int_equal(team_exchanges(s.team) - before, promised ? 1 : 2);
        size_t sets = (size_t)(merge ? RANKS : RANKS * SAMPLES);
        assert_int_equal(team_bytes(s.team), sets * CHANNELS * (back ? 48 : 40) + (promised ? RANKS * 384 : 0));
      }
  reset(&s);
  for (int back = 0; back < 2; back++) {
    problem_is("rows, backward %d", back);
    for (int r = 0; r < RANKS; r++) {
      shape_is(&s.of[r], "[n] c", "c", NULL, 2, (const int64_t[]){SAMPLES, CHANNELS});
      s.of[r].goes_back = back;
    }
    run_all(&s);
    assert_int_equal(team_bytes(s.team), RANKS * SAMPLES * CHANNELS * sizeof(float) * (back ? 2 : 1));
  }
  end(&s);
}

static void evaluation_exchanges_nothing(void **state) {
  (void)state;
  static const float mean[CHANNELS] = {1, 2, 3, 4}, var[CHANNELS] = {4, 3, 2, 1};
  scene s;
  begin(&s, 600);
  problem_is("evaluation");
  for (int r = 0; r < RANKS; r++) {
    s.of[r].forward.given_mean = s.of[r].backward.given_mean = mean;
    s.of[r].forward.given_var = s.of[r].backward.given_var = var;
    s.of[r].backward.saved = NULL;
    s.of[r].absent = r == 1; /* nobody waits for it */
  }
  for (int back = 0; back < 2; back++) {
    for (int r = 0; r < RANKS; r++) s.of[r].goes_back = back;
    run_all(&s);
  }
  assert_int_equal(team_exchanges(s.team), 0);
  float y[ELEMENTS];
  s.of[0].forward.y = y;
  norma_error error;
  assert_ok(norma_forward(&s.of[0].forward, &error), &error);
  assert_memory_equal(y, s.of[0].y, sizeof y);
  assert_true(s.of[0].dx[0] != 77);
  end(&s);
}

/* ------------------------------------------------------------------------------------------ few and no samples --- */

static void empty_ranks(scene *s, const char *pattern, int ndim, const int64_t *dims) {
  for (int r = 0; r < RANKS; r++) {
    member *m = &s->of[r];
    shape_is(m, pattern, "c", NULL, ndim, dims);
    m->forward.x = m->forward.y = NULL;
    m->backward.x = m->backward.dy = m->backward.dx = NULL;
    m->forward.saved = m->saved;
    m->forward.moments = m->moments;
    m->moments[0].count = 5;
    m->backward.dweight = m->y;
    m->backward.dbias = m->dy;
  }
}

static void all_ranks_may_be_empty(void **state) {
  (void)state;
  scene s;
  begin(&s, 600);
  for (int rows = 0; rows < 2; rows++)
    for (int merge = 0; merge < 2; merge++) {
      problem_is("all empty, rows %d, merge %d", rows, merge);
      reset(&s);
      if (rows) empty_ranks(&s, "[n] c", 2, (const int64_t[]){0, CHANNELS});
      else empty_ranks(&s, "[n] c [l]", 3, (const int64_t[]){0, CHANNELS, LENGTH});
      for (int r = 0; r < RANKS; r++)
        s.of[r].sync_forward.merge = s.of[r].sync_backward.merge = (norma_sync_merge)merge;
      run_all(&s);
      for (int r = 0; r < RANKS; r++) {
        for (int c = 0; c < CHANNELS; c++) assert_int_equal(s.of[r].moments[c].count, 0);
        s.of[r].goes_back = true;
      }
      run_all(&s);
      for (int r = 0; r < RANKS; r++)
        for (int c = 0; c < CHANNELS; c++) assert_true(s.of[r].y[c] == 0 && s.of[r].dy[c] == 0);
    }
  end(&s);
}

/* One element per channel on each rank is enough; one in all ranks together is refused on all of them. */
static void one_value_is_counted_over_all_ranks(void **state) {
  (void)state;
  scene s;
  begin(&s, 600);
  for (int together = 0; together < 2; together++)
    for (int way = 0; way < 2; way++) {
      problem_is("one value, together %d, ddof %d", together, way);
      reset(&s);
      for (int r = 0; r < RANKS; r++) {
        shape_is(&s.of[r], "[n] c", "c", NULL, 2, (const int64_t[]){together && r != 1 ? 0 : 1, CHANNELS});
        s.of[r].forward.ddof = way;
        s.of[r].forward.flags = way ? 0 : NORMA_REFUSE_SINGLE;
      }
      run(&s);
      for (int r = 0; r < RANKS; r++) {
        if (together) assert_says(&s.of[r], NORMA_SINGLE_VALUE, "1 value in all ranks together");
        else assert_ok(s.of[r].status, &s.of[r].error);
      }
    }
  end(&s);
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
  set(&m, made, 0);
  assert_int_equal(norma_sync_forward(NULL, NULL), NORMA_BAD_ARGUMENT);
  m.sync_forward.size = 8;
  assert_int_equal(norma_sync_forward(&m.sync_forward, &error), NORMA_BAD_ARGUMENT);
  assert_non_null(strstr(error.detail, "args->size is 8"));
  set(&m, NULL, 0);
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
                                     cmocka_unit_test(the_messages_have_the_documented_sizes),
                                     cmocka_unit_test(evaluation_exchanges_nothing),
                                     cmocka_unit_test(all_ranks_may_be_empty),
                                     cmocka_unit_test(one_value_is_counted_over_all_ranks),
                                     cmocka_unit_test(the_object_checks_its_exchange)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
