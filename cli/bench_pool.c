/* Threads that wait for work. A thread spins for a moment before it sleeps: calls follow each other closely in a
 * benchmark, and waking a sleeper takes longer than many a call. */
#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { SPINS = 4096 };

typedef struct worker {
  bench_pool *pool;
  int id; /* the caller is 0 */
  pthread_t thread;
} worker;

struct bench_pool {
  int threads; /* workers and the caller */
  int64_t count;
  void (*task)(void *context, int64_t index);
  void *context;
  atomic_uint round; /* one more for every piece of work */
  atomic_int busy;   /* workers that have not finished it */
  _Atomic int64_t next;
  bool stop;
  pthread_mutex_t mutex;
  pthread_cond_t wake;
  worker workers[BENCH_MOST_THREADS];
};

static void pause_briefly(void) {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

static void take_indices(bench_pool *pool, int id) {
  for (int64_t i = id; i < pool->count; i = atomic_fetch_add(&pool->next, 1)) {
    pool->task(pool->context, i);
  }
}

static void wait_for_round(bench_pool *pool, unsigned seen) {
  for (int spin = 0; spin < SPINS; spin++) {
    if (atomic_load(&pool->round) != seen) {
      return;
    }
    pause_briefly();
  }
  pthread_mutex_lock(&pool->mutex);
  while (atomic_load(&pool->round) == seen) {
    pthread_cond_wait(&pool->wake, &pool->mutex);
  }
  pthread_mutex_unlock(&pool->mutex);
}

static void *serve(void *argument) {
  worker *self = argument;
  bench_pool *pool = self->pool;
  for (unsigned seen = 0;; seen++) {
    wait_for_round(pool, seen);
    if (pool->stop) {
      return NULL;
    }
    take_indices(pool, self->id);
    atomic_fetch_sub(&pool->busy, 1);
  }
}

/* What was written before is seen by the workers. */
static void begin_round(bench_pool *pool) {
  pthread_mutex_lock(&pool->mutex);
  atomic_fetch_add(&pool->round, 1);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->mutex);
}

void bench_pool_run(void *argument, int64_t count, void (*task)(void *context, int64_t index), void *context) {
  bench_pool *pool = argument;
  if (pool->threads == 1) {
    for (int64_t i = 0; i < count; i++) {
      task(context, i);
    }
    return;
  }
  pool->count = count;
  pool->task = task;
  pool->context = context;
  atomic_store(&pool->next, pool->threads);
  atomic_store(&pool->busy, pool->threads - 1);
  begin_round(pool);
  take_indices(pool, 0);
  for (int spin = 0; atomic_load(&pool->busy) > 0; spin++) {
    if (spin < SPINS) {
      pause_briefly();
    } else {
      sched_yield(); /* a worker has no processor */
    }
  }
}

static void do_nothing(void *context, int64_t index) { (void)context, (void)index; }

void bench_pool_wake(bench_pool *pool) { bench_pool_run(pool, pool->threads, do_nothing, NULL); }

bench_pool *bench_pool_make(int threads) {
  bench_pool *pool = calloc(1, sizeof *pool);
  if (!pool) {
    return NULL;
  }
  pthread_mutex_init(&pool->mutex, NULL);
  pthread_cond_init(&pool->wake, NULL);
  for (pool->threads = 1; pool->threads < threads; pool->threads++) {
    worker *w = &pool->workers[pool->threads];
    *w = (worker){.pool = pool, .id = pool->threads};
    if (pthread_create(&w->thread, NULL, serve, w) != 0) {
      bench_pool_free(pool);
      return NULL;
    }
  }
  return pool;
}

void bench_pool_free(bench_pool *pool) {
  if (!pool) {
    return;
  }
  pool->stop = true;
  begin_round(pool);
  for (int i = 1; i < pool->threads; i++) {
    pthread_join(pool->workers[i].thread, NULL);
  }
  pthread_cond_destroy(&pool->wake);
  pthread_mutex_destroy(&pool->mutex);
  free(pool);
}
