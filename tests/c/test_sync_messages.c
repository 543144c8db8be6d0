/* norma_sync.h: what is exchanged, what is not, and few or no samples. */
#include <string.h>

#include "scene.h"

static void the_messages_have_the_documented_sizes(void **state) {
  (void)state;
  scene s;
  scene_begin(&s, 600);
  for (int merge = 0; merge < 2; merge++)
    for (int promised = 0; promised < 2; promised++)
      for (int back = 0; back < 2; back++) {
        problem_is("merge %d, promised %d, backward %d", merge, promised, back);
        scene_reset(&s);
        for (int r = 0; r < RANKS; r++) {
          s.of[r].goes_back = back;
          s.of[r].sync_forward.merge = s.of[r].sync_backward.merge = (norma_sync_merge)merge;
          s.of[r].sync_forward.shards = s.of[r].sync_backward.shards = promised ? s.shards : NULL;
        }
        int before = team_exchanges(s.team);
        scene_succeeds(&s);
        assert_int_equal(team_exchanges(s.team) - before, promised ? 1 : 2);
        size_t sets = (size_t)(merge ? RANKS : RANKS * SAMPLES);
        assert_int_equal(team_bytes(s.team), sets * CHANNELS * (back ? 48 : 40) + (promised ? RANKS * 384 : 0));
      }
  scene_reset(&s);
  for (int back = 0; back < 2; back++) {
    problem_is("rows, backward %d", back);
    for (int r = 0; r < RANKS; r++) {
      member_shape(&s.of[r], "[n] c", "c", NULL, 2, (const int64_t[]){SAMPLES, CHANNELS});
      s.of[r].goes_back = back;
    }
    scene_succeeds(&s);
    assert_int_equal(team_bytes(s.team), RANKS * SAMPLES * CHANNELS * sizeof(float) * (back ? 2 : 1));
  }
  scene_end(&s);
}

static void evaluation_exchanges_nothing(void **state) {
  (void)state;
  static const float mean[CHANNELS] = {1, 2, 3, 4}, var[CHANNELS] = {4, 3, 2, 1};
  scene s;
  scene_begin(&s, 600);
  problem_is("evaluation");
  for (int r = 0; r < RANKS; r++) {
    s.of[r].forward.given_mean = s.of[r].backward.given_mean = mean;
    s.of[r].forward.given_var = s.of[r].backward.given_var = var;
    s.of[r].backward.saved = NULL;
    s.of[r].absent = r == 1; /* nobody waits for it */
  }
  for (int back = 0; back < 2; back++) {
    for (int r = 0; r < RANKS; r++) s.of[r].goes_back = back;
    scene_succeeds(&s);
  }
  assert_int_equal(team_exchanges(s.team), 0);
  float y[ELEMENTS];
  s.of[0].forward.y = y;
  norma_error error;
  assert_ok(norma_forward(&s.of[0].forward, &error), &error);
  assert_memory_equal(y, s.of[0].y, sizeof y);
  assert_true(s.of[0].dx[0] != 77);
  scene_end(&s);
}

/* ------------------------------------------------------------------------------------------ few and no samples --- */

static void empty_ranks(scene *s, const char *pattern, int ndim, const int64_t *dims) {
  for (int r = 0; r < RANKS; r++) {
    member *m = &s->of[r];
    member_shape(m, pattern, "c", NULL, ndim, dims);
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
  scene_begin(&s, 600);
  for (int rows = 0; rows < 2; rows++)
    for (int merge = 0; merge < 2; merge++) {
      problem_is("all empty, rows %d, merge %d", rows, merge);
      scene_reset(&s);
      if (rows) empty_ranks(&s, "[n] c", 2, (const int64_t[]){0, CHANNELS});
      else empty_ranks(&s, "[n] c [l]", 3, (const int64_t[]){0, CHANNELS, LENGTH});
      for (int r = 0; r < RANKS; r++)
        s.of[r].sync_forward.merge = s.of[r].sync_backward.merge = (norma_sync_merge)merge;
      scene_succeeds(&s);
      for (int r = 0; r < RANKS; r++) {
        for (int c = 0; c < CHANNELS; c++) assert_int_equal(s.of[r].moments[c].count, 0);
        s.of[r].goes_back = true;
      }
      scene_succeeds(&s);
      for (int r = 0; r < RANKS; r++)
        for (int c = 0; c < CHANNELS; c++) assert_true(s.of[r].y[c] == 0 && s.of[r].dy[c] == 0);
    }
  scene_end(&s);
}

/* One element per channel on each rank is enough; one in all ranks together is refused on all of them. */
static void one_value_is_counted_over_all_ranks(void **state) {
  (void)state;
  scene s;
  scene_begin(&s, 600);
  for (int together = 0; together < 2; together++)
    for (int way = 0; way < 2; way++) {
      problem_is("one value, together %d, ddof %d", together, way);
      scene_reset(&s);
      for (int r = 0; r < RANKS; r++) {
        member_shape(&s.of[r], "[n] c", "c", NULL, 2, (const int64_t[]){together && r != 1 ? 0 : 1, CHANNELS});
        s.of[r].forward.ddof = way;
        s.of[r].forward.flags = way ? 0 : NORMA_REFUSE_SINGLE;
      }
      scene_run(&s);
      for (int r = 0; r < RANKS; r++) {
        if (together) assert_says(&s.of[r], NORMA_SINGLE_VALUE, "1 value in all ranks together");
        else assert_ok(s.of[r].status, &s.of[r].error);
      }
    }
  scene_end(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_messages_have_the_documented_sizes),
                                     cmocka_unit_test(evaluation_exchanges_nothing),
                                     cmocka_unit_test(all_ranks_may_be_empty),
                                     cmocka_unit_test(one_value_is_counted_over_all_ranks)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
