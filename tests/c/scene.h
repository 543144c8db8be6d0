/* Three ranks that make one call of norma_sync.h each, which a test changes before they do. */
#ifndef NORMA_TESTS_SCENE_H
#define NORMA_TESTS_SCENE_H

#include <stdbool.h>

#include "support.h"
#include "team.h"

enum { RANKS = 3, SAMPLES = 2, CHANNELS = 4, LENGTH = 5, ELEMENTS = SAMPLES * CHANNELS * LENGTH };

/* What one rank does; all begin as the same call, on random numbers. */
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

/* All of them. */
typedef struct scene {
  team *team;
  norma_sync *sync[RANKS];
  member of[RANKS];
  int64_t shards[RANKS];
} scene;

extern const int64_t scene_shape[3];

void scene_begin(scene *s, double timeout);
void scene_end(scene *s);
/* The first state of one rank, of all. */
void member_set(member *m, norma_sync *sync, int rank);
void scene_reset(scene *s);
void member_shape(member *m, const char *pattern, const char *affine, const char *sizes, int ndim,
                  const int64_t *dims);
/* All ranks at once; the second fails the test where a rank does. */
void scene_run(scene *s);
void scene_succeeds(scene *s);
void assert_says(const member *m, norma_status status, const char *part);
void assert_nothing_written(const member *m);

#endif
