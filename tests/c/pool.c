/* See pool.h. */
#include "pool.h"

#include <pthread.h>
#include <stdlib.h>

#include "support.h"

typedef struct work {
  pool *p;
  int64_t *order, count, next;
  void (*task)(void *context, int64_t index);
  void *context;
  pthread_mutex_t lock;
} work;

static int64_t take(work *w) {
  pthread_mutex_lock(&w->lock);
  int64_t i = w->next < w->count ? w->order[w->next++] : -1;
  pthread_mutex_unlock(&w->lock);
  return i;
}

static void *worker(void *argument) {
  work *w = argument;
  uint64_t before = control_get();
  if (w->p->control != 0) {
    control_set(w->p->control);
  }
  uint64_t wanted = control_modes(control_get());
  for (int64_t i = take(w); i >= 0; i = take(w)) {
    w->task(w->context, i);
    if (control_modes(control_get()) != wanted) {
      pthread_mutex_lock(&w->lock);
      w->p->control_kept = 0;
      pthread_mutex_unlock(&w->lock);
    }
  }
  control_set(before);
  return NULL;
}

static void pool_run(void *argument, int64_t count, void (*task)(void *context, int64_t index), void *context) {
  pool *p = argument;
  work w = {.p = p, .count = count, .task = task, .context = context, .lock = PTHREAD_MUTEX_INITIALIZER};
  w.order = malloc(sizeof *w.order * (size_t)(count + 1));
  for (int64_t i = 0; i < count; i++) {
    w.order[i] = p->order == POOL_REVERSED ? count - 1 - i : i;
  }
  for (int64_t i = count - 1; i > 0 && p->order == POOL_SHUFFLED; i--) {
    int64_t k = random_below(&p->seed, i + 1), kept = w.order[i];
    w.order[i] = w.order[k];
    w.order[k] = kept;
  }
  p->calls++;
  p->largest = count > p->largest ? count : p->largest;
  pthread_t threads[16];
  for (int i = 0; i < p->threads; i++) {
    assert_int_equal(pthread_create(&threads[i], NULL, worker, &w), 0);
  }
  if (p->threads == 0) {
    worker(&w);
  }
  for (int i = 0; i < p->threads; i++) {
    pthread_join(threads[i], NULL);
  }
  free(w.order);
}

norma_threads pool_threads(pool *p) {
  p->control_kept = 1;
  return (norma_threads){pool_run, p};
}
