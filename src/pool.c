/* The default pool: threads that sleep until a call has pieces to give away. Its speed is a matter of luck on a busy
 * machine, so nobody ever waits for a thread to wake up: pieces belong to whoever claims them first, the caller claims
 * like everyone else, and what it waits for in the end is pieces that are being computed. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getaffinity */
#endif
#include "pool.h"

#include "internal.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { MOST_THREADS = 64 };

/* A thread that is awake takes its first piece after 0.2 us, so it may help with anything from BYTES_SHARED on. To wake
 * one costs the caller about 4 us and pays after 20, so one is woken for each BYTES_PER_WAKE. */
enum { BYTES_SHARED = 32 * 1024, BYTES_PER_WAKE = 128 * 1024 };

/* How long a thread looks for news before it sleeps: about 6 us, enough for the next pass of the same call. */
enum { SPINS = 200, YIELDS = 2 };

/* All state of the library. Each group of variables has its own cache line. */
static struct {
  _Alignas(64) atomic_int requested; /* by norma_set_num_threads; 0: the default */
  atomic_int standard;               /* the default, 0 until somebody asked */
  atomic_int busy;                   /* 1: a caller uses the pool; what has no other owner is theirs */
  int workers, wanted;               /* threads that run, and how many should; they differ if starting failed */
  bool prepared;                     /* the fork handler is there */
  pid_t owner;                       /* the process whose threads they are */
  pthread_t thread[MOST_THREADS - 1];

  /* The job. In the ticket are a count of jobs, in the upper half, and the pieces that nobody has claimed. So a claim
   * by a thread that overslept its job fails, and a claim that succeeds holds the job open until the piece is done. */
  norma_task *task;
  void *context;
  int32_t count;
  _Alignas(64) _Atomic uint64_t ticket;
  _Alignas(64) _Atomic int32_t done;

  _Alignas(64) pthread_mutex_t lock; /* of what follows */
  pthread_cond_t wake, finished;
  int sleepers;       /* workers that wait for `wake` */
  bool caller_sleeps; /* waits for `finished` */
  int limit;          /* workers from this number on end */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .finished = PTHREAD_COND_INITIALIZER};

/* --------------------------------------------------------------------------------------------------- how many --- */

static int clamped(long count) { return count > MOST_THREADS ? MOST_THREADS : (int)count; }

/* NORMA_NUM_THREADS if that is a positive integer, 0 otherwise. */
static int environment_count(void) {
  const char *text = getenv("NORMA_NUM_THREADS");
  int count = 0;
  for (const char *c = text; c && *c; c++) {
    if (*c < '0' || *c > '9') return 0;
    count = clamped(10L * count + (*c - '0'));
  }
  return count;
}

/* The CPUs that this thread may run on: threads that it starts may run on the same. */
static int cpu_count(void) {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return clamped(CPU_COUNT(&set));
#endif
  long count = sysconf(_SC_NPROCESSORS_ONLN);
  return count < 1 ? 1 : clamped(count);
}

int norma_num_threads(void) {
  int count = atomic_load_explicit(&pool.requested, memory_order_relaxed);
  if (count == 0) count = atomic_load_explicit(&pool.standard, memory_order_relaxed);
  if (count == 0) {
    count = environment_count();
    if (count == 0) count = cpu_count();
    atomic_store_explicit(&pool.standard, count, memory_order_relaxed);
  }
  return count;
}

void norma_set_num_threads(int count) {
  if (count <= 0) atomic_store_explicit(&pool.standard, 0, memory_order_relaxed);
  atomic_store_explicit(&pool.requested, count < 0 ? 0 : clamped(count), memory_order_relaxed);
}

/* ----------------------------------------------------------------------------------------------------- the job --- */

static bool pieces_left(void) { return (uint32_t)atomic_load_explicit(&pool.ticket, memory_order_relaxed) != 0; }
static bool all_done(void) { return atomic_load_explicit(&pool.done, memory_order_acquire) == pool.count; }

/* Looks for a few microseconds; on a machine with nothing to spare others get their turn. */
static bool spin(bool (*news)(void)) {
  for (int i = 0; i < SPINS + YIELDS; i++) {
    if (news()) return true;
    if (i >= SPINS) {
      sched_yield();
    } else {
#if defined(__x86_64__) || defined(__i386__)
      __builtin_ia32_pause();
#elif defined(__aarch64__)
      __asm__ volatile("isb");
#endif
    }
  }
  return news();
}

/* Claims pieces and computes them until none is left. Whoever finishes the last one wakes the caller. */
static void work(void) {
  uint64_t ticket = atomic_load_explicit(&pool.ticket, memory_order_relaxed);
  while ((uint32_t)ticket != 0) {
    if (!atomic_compare_exchange_weak_explicit(&pool.ticket, &ticket, ticket - 1, memory_order_acquire,
                                               memory_order_relaxed))
      continue;
    int32_t count = pool.count;
    pool.task(pool.context, count - (int64_t)(uint32_t)ticket);
    if (atomic_fetch_add_explicit(&pool.done, 1, memory_order_acq_rel) + 1 == count) {
      pthread_mutex_lock(&pool.lock);
      bool sleeps = pool.caller_sleeps;
      pthread_mutex_unlock(&pool.lock);
      if (sleeps) pthread_cond_signal(&pool.finished);
    }
    ticket = atomic_load_explicit(&pool.ticket, memory_order_relaxed);
  }
}

static void share(int64_t count, int64_t helpers, norma_task *task, void *context) {
  pool.task = task;
  pool.context = context;
  pool.count = (int32_t)count;
  atomic_store_explicit(&pool.done, 0, memory_order_relaxed);
  uint64_t job = (atomic_load_explicit(&pool.ticket, memory_order_relaxed) >> 32) + 1;
  atomic_store_explicit(&pool.ticket, job << 32 | (uint64_t)count, memory_order_release);
  pthread_mutex_lock(&pool.lock); /* a worker between its last look and its sleep holds this */
  int64_t signals = helpers < pool.sleepers ? helpers : pool.sleepers;
  pthread_mutex_unlock(&pool.lock);
  for (int64_t i = 0; i < signals && pieces_left(); i++) pthread_cond_signal(&pool.wake);
  work();
  if (spin(all_done)) return;
  pthread_mutex_lock(&pool.lock);
  pool.caller_sleeps = true;
  while (!all_done()) pthread_cond_wait(&pool.finished, &pool.lock);
  pool.caller_sleeps = false;
  pthread_mutex_unlock(&pool.lock);
}

/* ------------------------------------------------------------------------------------------------- the threads --- */

static void *worker(void *number) {
  for (bool stays = true; stays;) {
    work();
    if (spin(pieces_left)) continue;
    pthread_mutex_lock(&pool.lock);
    pool.sleepers++;
    while (!pieces_left() && (intptr_t)number < pool.limit) pthread_cond_wait(&pool.wake, &pool.lock);
    pool.sleepers--;
    stays = (intptr_t)number < pool.limit;
    pthread_mutex_unlock(&pool.lock);
  }
  return NULL;
}

/* A child has none of its parent's threads, and what they and other callers held is as it was when they vanished. */
static void start_afresh(void) {
  static const pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static const pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
  pool.lock = lock;
  pool.wake = pool.finished = cond;
  pool.workers = pool.wanted = pool.sleepers = 0;
  pool.caller_sleeps = false;
  atomic_store_explicit(&pool.ticket, 0, memory_order_relaxed);
  atomic_store_explicit(&pool.standard, 0, memory_order_relaxed);
  atomic_store_explicit(&pool.busy, 0, memory_order_relaxed);
}

/* With twice the stack that norma.h promises to be enough, where the C library's threads have less. */
static bool start_worker(int number) {
  enum { STACK = 512 * 1024 };
  pthread_attr_t attr;
  size_t stack;
  if (pthread_attr_init(&attr) != 0) return false;
  if (pthread_attr_getstacksize(&attr, &stack) == 0 && stack < STACK) pthread_attr_setstacksize(&attr, STACK);
  bool started = pthread_create(&pool.thread[number], &attr, worker, (void *)(intptr_t)number) == 0;
  pthread_attr_destroy(&attr);
  return started;
}

/* Ends or starts workers until there are `wanted`, or as many as the system allows. No job is open. */
static void resize(int wanted) {
  if (wanted == pool.wanted) return;
  if (!pool.prepared) pool.prepared = pthread_atfork(NULL, NULL, start_afresh) == 0;
  if (!pool.prepared) return;
  pool.wanted = wanted;
  pool.owner = getpid();
  pthread_mutex_lock(&pool.lock);
  pool.limit = wanted;
  pthread_mutex_unlock(&pool.lock);
  pthread_cond_broadcast(&pool.wake);
  while (pool.workers > wanted) pthread_join(pool.thread[--pool.workers], NULL);
  sigset_t all, before; /* a signal is for the program's own threads */
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (pool.workers < wanted && start_worker(pool.workers)) pool.workers++;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void norma_pool_run(int64_t count, int64_t bytes, norma_task *task, void *context) {
  if (count > 1 && bytes >= BYTES_SHARED && !atomic_exchange_explicit(&pool.busy, 1, memory_order_acquire)) {
    int before;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before); /* a caller that vanished would leave the job open */
    resize(norma_num_threads() - 1);
    bool shared = pool.workers > 0;
    if (shared) share(count, bytes / BYTES_PER_WAKE, task, context);
    atomic_store_explicit(&pool.busy, 0, memory_order_release);
    pthread_setcancelstate(before, &before);
    if (shared) return;
  }
  for (int64_t i = 0; i < count; i++) task(context, i);
}

/* At exit, and before the code of the workers is unloaded. The pool stays busy, so later calls do without it. If it is
 * busy now the process ends under another thread's call, and takes the workers with it. */
#if defined(__GNUC__)
__attribute__((destructor))
#endif
static void end_workers(void) {
  if (!atomic_exchange_explicit(&pool.busy, 1, memory_order_acquire) && pool.owner == getpid()) resize(0);
}
