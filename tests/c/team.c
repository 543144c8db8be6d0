/* See team.h. */
#define _POSIX_C_SOURCE 200809L
#include "team.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct member {
  team *team;
  int rank;
} member;

struct team {
  int ranks, arrived, left, round, exchanges;
  bool dead;
  double timeout;
  pthread_mutex_t lock;
  pthread_cond_t change;
  member members[TEAM_MOST];
  const void *mine[TEAM_MOST];
  size_t size[TEAM_MOST], bytes;
  bool here[TEAM_MOST];
};

/* Buffers of failed exchanges, which stay allocated: reachable, so that a leak checker does not count them as lost. */
static const void *kept[256];
static int kept_count;
static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;

static void keep(const void *buffer) {
  pthread_mutex_lock(&kept_lock);
  if (kept_count < (int)(sizeof kept / sizeof *kept)) kept[kept_count++] = buffer;
  pthread_mutex_unlock(&kept_lock);
}

team *team_new(int ranks, double timeout) {
  team *t = calloc(1, sizeof *t);
  t->ranks = ranks;
  t->timeout = timeout;
  pthread_mutex_init(&t->lock, NULL);
  pthread_cond_init(&t->change, NULL);
  for (int r = 0; r < ranks; r++) t->members[r] = (member){t, r};
  return t;
}

void team_free(team *t) {
  pthread_mutex_destroy(&t->lock);
  pthread_cond_destroy(&t->change);
  free(t);
}

static norma_status lost(team *t, norma_error *error) {
  t->dead = true;
  pthread_cond_broadcast(&t->change);
  snprintf(error->detail, sizeof error->detail, "another rank has given up");
  for (int r = 0; r < t->ranks; r++) {
    if (t->here[r]) continue;
    error->status = NORMA_RANK_LOST;
    snprintf(error->detail, sizeof error->detail, "rank %d did not come within %g s", r, t->timeout);
    break;
  }
  return NORMA_RANK_LOST;
}

/* Waits until *count is `wanted` or the round is over. False: in vain. */
static bool wait_for(team *t, const int *count, int wanted, int round) {
  struct timespec end;
  clock_gettime(CLOCK_REALTIME, &end);
  end.tv_sec += (time_t)t->timeout;
  end.tv_nsec += (long)((t->timeout - (double)(time_t)t->timeout) * 1e9);
  if (end.tv_nsec >= 1000000000) end.tv_sec++, end.tv_nsec -= 1000000000;
  while (!t->dead && t->round == round && *count < wanted)
    if (pthread_cond_timedwait(&t->change, &t->lock, &end) != 0) break;
  return !t->dead && (t->round != round || *count >= wanted);
}

static bool sizes_agree(const team *t, const size_t *sizes) {
  for (int r = 0; r < t->ranks; r++)
    if (t->size[r] != sizes[r]) return false;
  return true;
}

static norma_status meet(team *t, int rank, char *all, const size_t *sizes, norma_error *error) {
  t->here[rank] = true;
  t->arrived++;
  pthread_cond_broadcast(&t->change);
  int round = t->round;
  if (!wait_for(t, &t->arrived, t->ranks, round)) return lost(t, error);
  if (!sizes_agree(t, sizes)) {
    error->status = NORMA_RANKS_DISAGREE;
    snprintf(error->detail, sizeof error->detail, "ranks send other numbers of bytes than were expected");
    t->dead = true;
    pthread_cond_broadcast(&t->change);
    return NORMA_RANKS_DISAGREE;
  }
  size_t bytes = 0;
  for (int r = 0; r < t->ranks; bytes += sizes[r], r++)
    if (sizes[r] > 0) memcpy(all + bytes, t->mine[r], sizes[r]);
  if (rank == 0) t->bytes = bytes;
  if (++t->left == t->ranks) { /* all have copied: what was sent may change again */
    t->arrived = t->left = 0;
    memset(t->here, 0, sizeof t->here);
    t->exchanges++;
    t->round++;
    pthread_cond_broadcast(&t->change);
    return NORMA_OK;
  }
  return wait_for(t, &t->left, t->ranks, round) ? NORMA_OK : lost(t, error);
}

static norma_status gather(void *context, const void *mine, size_t size, void *all, const size_t *sizes,
                           norma_error *error) {
  const member *m = context;
  team *t = m->team;
  pthread_mutex_lock(&t->lock);
  t->mine[m->rank] = mine;
  t->size[m->rank] = size;
  norma_status status = t->dead ? lost(t, error) : meet(t, m->rank, all, sizes, error);
  if (status) keep(mine), keep(all);
  pthread_mutex_unlock(&t->lock);
  return status;
}

norma_exchange team_exchange(team *t, int rank) {
  return (norma_exchange){
      .size = sizeof(norma_exchange), .rank = rank, .ranks = t->ranks, .gather = gather, .context = &t->members[rank]};
}

int team_exchanges(const team *t) { return t->exchanges; }

size_t team_bytes(const team *t) { return t->bytes; }

typedef struct start {
  void (*body)(void *context, int rank);
  void *context;
  int rank;
} start;

static void *begin(void *argument) {
  const start *s = argument;
  s->body(s->context, s->rank);
  return NULL;
}

void team_run(int ranks, void (*body)(void *context, int rank), void *context) {
  pthread_t threads[TEAM_MOST];
  start starts[TEAM_MOST];
  for (int r = 0; r < ranks; r++) {
    starts[r] = (start){body, context, r};
    if (pthread_create(&threads[r], NULL, begin, &starts[r]) != 0) abort();
  }
  for (int r = 0; r < ranks; r++) pthread_join(threads[r], NULL);
}
