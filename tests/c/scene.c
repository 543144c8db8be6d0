/* See scene.h. */
#include "scene.h"

#include <string.h>

#include "trial.h"

const int64_t scene_shape[3] = {SAMPLES, CHANNELS, LENGTH};

void member_set(member *m, norma_sync *sync, int rank) {
  uint64_t seed = (uint64_t)rank + 1;
  *m = (member){.layer = parse_layer("[n] c [l]", "c", NULL, 3, scene_shape)};
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

void scene_reset(scene *s) {
  for (int r = 0; r < RANKS; r++) {
    member_set(&s->of[r], s->sync[r], r);
    s->shards[r] = SAMPLES;
  }
}

void scene_begin(scene *s, double timeout) {
  norma_error error;
  s->team = team_new(RANKS, timeout);
  for (int r = 0; r < RANKS; r++) {
    norma_exchange exchange = team_exchange(s->team, r);
    assert_ok(norma_sync_new(&s->sync[r], &exchange, &error), &error);
  }
  scene_reset(s);
}

void scene_end(scene *s) {
  for (int r = 0; r < RANKS; r++) norma_sync_free(s->sync[r]);
  team_free(s->team);
}

static void run_member(void *context, int rank) {
  member *m = &((scene *)context)->of[rank];
  if (m->absent) return;
  m->status = m->goes_back ? norma_sync_backward(&m->sync_backward, &m->error)
                           : norma_sync_forward(&m->sync_forward, &m->error);
}

void scene_run(scene *s) { team_run(RANKS, run_member, s); }

void assert_says(const member *m, norma_status status, const char *part) {
  if (m->status != status)
    fail_problem("status %s (%s), not %s", norma_status_text(m->status), m->status ? m->error.detail : "",
                 norma_status_text(status));
  if (!strstr(m->error.detail, part)) fail_problem("'%s' does not say '%s'", m->error.detail, part);
}

void assert_nothing_written(const member *m) {
  for (int i = 0; i < ELEMENTS; i++) assert_true(m->y[i] == 77 && m->dx[i] == 77);
}

void scene_succeeds(scene *s) {
  scene_run(s);
  for (int r = 0; r < RANKS; r++) assert_ok(s->of[r].status, &s->of[r].error);
}

void member_shape(member *m, const char *pattern, const char *affine, const char *sizes, int ndim,
                     const int64_t *dims) {
  m->layer = parse_layer(pattern, affine, sizes, ndim, dims);
}
