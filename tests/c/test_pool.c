/* The default pool: every piece runs once, on any number of threads, from several callers, from within a piece, after
 * fork and where threads cannot be had; results have the same bits; threads are started only where that was said. */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/pool.h"
#include "support.h"
#include "trial.h"

enum { LARGE = 1 << 30, SMALL = 32 * 1024 - 1 }; /* bytes of work: for all threads, for none */

/* The thread sanitizer's: a child of a program with threads may start some, too. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0"; }

/* ------------------------------------------------------------------------------------------- counting the runs --- */

enum { MOST = 1000 };
typedef struct tally {
  atomic_int runs[MOST];
} tally;

static void count_run(void *context, int64_t index) { ((tally *)context)->runs[index]++; }

static int each_once(const tally *t, int64_t count) {
  for (int64_t i = 0; i < MOST; i++) {
    if (t->runs[i] != (i < count)) return 0;
  }
  return 1;
}

static void every_index_runs_once(void **state) {
  (void)state;
  const int threads[] = {1, 2, 3, 8, 64, 2, 1, 5};
  const int64_t counts[] = {0, 1, 2, 3, 7, 64, 255, MOST};
  const int64_t bytes[] = {0, SMALL, SMALL + 1, 1 << 18, LARGE};
  for (size_t i = 0; i < COUNT(threads); i++) {
    norma_set_num_threads(threads[i]);
    for (size_t k = 0; k < COUNT(counts) * COUNT(bytes) * 20; k++) {
      tally t = {{0}};
      int64_t count = counts[k % COUNT(counts)];
      problem_is("%d threads, %d pieces", threads[i], (int)count);
      norma_pool_run(count, bytes[k / COUNT(counts) % COUNT(bytes)], count_run, &t);
      assert_true(each_once(&t, count));
    }
  }
}

/* Pieces that wait for each other: each needs a thread of its own, which must come, however long it had slept. */
typedef struct meeting {
  atomic_int there, blocked;
  int expected;
  pthread_t caller;
} meeting;

static void meet(void *context, int64_t index) {
  meeting *m = context;
  (void)index;
  sigset_t mask;
  if (!pthread_equal(pthread_self(), m->caller) && pthread_sigmask(SIG_BLOCK, NULL, &mask) == 0) {
    m->blocked += sigismember(&mask, SIGTERM) && sigismember(&mask, SIGPROF) && sigismember(&mask, SIGINT);
  }
  m->there++;
  while (m->there < m->expected) {
    sched_yield();
  }
}

static void all_threads_come_and_block_signals(void **state) {
  (void)state;
  for (int threads = 2; threads <= 4; threads++) {
    norma_set_num_threads(threads);
    for (int i = 0; i < 300; i++) {
      meeting m = {.expected = threads, .caller = pthread_self()};
      norma_pool_run(threads, LARGE, meet, &m);
      assert_int_equal(m.blocked, threads - 1);
    }
  }
}

static void run_inside(void *context, int64_t index) {
  tally t = {{0}};
  norma_pool_run(40, LARGE, count_run, &t);
  if (each_once(&t, 40)) count_run(context, index);
}

static void a_piece_may_call_the_library(void **state) {
  (void)state;
  for (int threads = 1; threads <= 3; threads++) {
    norma_set_num_threads(threads);
    tally t = {{0}};
    norma_pool_run(60, LARGE, run_inside, &t);
    assert_true(each_once(&t, 60));
  }
}

/* ------------------------------------------------------------------------------------------------------ results --- */

static void the_number_of_threads_changes_no_bit(void **state) {
  (void)state;
  uint64_t seed = 81;
  const int64_t shape[] = {16, 48, 129};
  const char *patterns[][2] = {{"n t [d]", "d"}, {"[n] c [l]", "c"}, {"n c [l]", "c"}, {"n (g [k]) [l]", "(g k)"}};
  for (size_t i = 0; i < 4 * COUNT(patterns); i++) {
    const char **pattern = patterns[i / 4];
    norma_layer layer = parse_layer(pattern[0], pattern[1], i / 4 == 3 ? "g=6" : NULL, 3, shape);
    trial t = trial_new(&layer, all_types[i % 4], &seed, 3, 1);
    norma_set_num_threads(1);
    outcome expected = trial_run(&t, &(manner){.in_place = 0});
    const int threads[] = {2, 3, 8};
    for (size_t k = 0; k < COUNT(threads); k++) {
      norma_set_num_threads(threads[k]);
      problem_is("%s %s, %d threads", pattern[0], norma_type_name(t.type), threads[k]);
      outcome got = trial_run(&t, &(manner){.x = k == 1 ? LAYOUT_CHANNELS_LAST : 0, .use_saved = k == 2});
      assert_same_outcome(&t, &got, &expected);
      outcome_free(&got);
    }
    outcome_free(&expected);
    trial_free(&t);
  }
}

/* One call that is worth all threads, and its result on one; children and application threads repeat it. */
enum { ROWS = 128, LENGTH = 1031, ELEMENTS = ROWS * LENGTH };
static float input[ELEMENTS], expected_y[ELEMENTS];

static int call_is_right(float *y) {
  norma_layer layer;
  if (norma_layer_norm(&layer, 1, 2, (int64_t[]){ROWS, LENGTH}, NULL) != NORMA_OK) return 0;
  norma_forward_args args = {.size = sizeof args, .layer = &layer, .type = NORMA_F32, .x = input, .y = y};
  memset(y, 0, sizeof input);
  return norma_forward(&args, NULL) == NORMA_OK && (y == expected_y || memcmp(y, expected_y, sizeof input) == 0);
}

static int setup(void **state) {
  (void)state;
  uint64_t seed = 82;
  for (int i = 0; i < ELEMENTS; i++) {
    input[i] = (float)random_normal(&seed);
  }
  norma_set_num_threads(1);
  return !call_is_right(expected_y);
}

/* ----------------------------------------------------------------------------------- several callers, and fork --- */

typedef struct application {
  pthread_t thread;
  atomic_int calls, wrong, stop;
} application;

static void *call_until_stopped(void *argument) {
  application *a = argument;
  float *y = malloc(sizeof input);
  while (!a->stop) {
    tally t = {{0}};
    norma_pool_run(100, LARGE, count_run, &t);
    a->wrong += !each_once(&t, 100) || !call_is_right(y);
    a->calls++;
  }
  free(y);
  return NULL;
}

static void start(application *a) { assert_int_equal(pthread_create(&a->thread, NULL, call_until_stopped, a), 0); }

static void stop(application *a) {
  a->stop = 1;
  pthread_join(a->thread, NULL);
  assert_int_equal(a->wrong, 0);
}

static void several_threads_call_at_once(void **state) {
  (void)state;
  application applications[3] = {{.calls = 0}};
  norma_set_num_threads(3);
  for (int i = 0; i < 3; i++) {
    start(&applications[i]);
  }
  for (int i = 0; i < 3; i++) {
    while (applications[i].calls < 50) {
      norma_set_num_threads(2 + applications[i].calls % 3);
      sched_yield();
    }
  }
  for (int i = 0; i < 3; i++) {
    stop(&applications[i]);
  }
}

/* In a child, where a failure must not go on with the tests of the parent: body returns whether all was right. */
static void in_child(int (*body)(void)) {
  fflush(NULL);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) _exit(body() ? 0 : 1);
  int status = -1;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
}

static int child_calls(void) {
  static float y[ELEMENTS];
  meeting m = {.expected = 3, .caller = pthread_self()};
  norma_set_num_threads(3);
  norma_pool_run(3, LARGE, meet, &m); /* comes back only if the child has threads of its own */
  return call_is_right(y) && m.blocked == 2;
}

static int child_forks_again(void) {
  in_child(child_calls);
  return child_calls();
}

static void a_child_of_an_idle_parent_has_its_own_threads(void **state) {
  (void)state;
  static float y[ELEMENTS];
  norma_set_num_threads(3);
  for (int i = 0; i < 5; i++) {
    assert_true(call_is_right(y));
    in_child(i == 2 ? child_forks_again : child_calls);
    assert_true(call_is_right(y));
  }
}

static void fork_while_another_thread_calls(void **state) {
  (void)state;
  application a = {.calls = 0};
  norma_set_num_threads(3);
  start(&a);
  for (int i = 0; i < 20; i++) {
    int before = a.calls;
    in_child(child_calls);
    while (a.calls < before + 2) { /* the parent's pool goes on */
      sched_yield();
    }
  }
  stop(&a);
}

/* -------------------------------------------------------------------------------------------------- how many --- */

/* The threads of this process. */
static int task_count(void) {
  DIR *tasks = opendir("/proc/self/task");
  int count = 0;
  for (struct dirent *entry; tasks && (entry = readdir(tasks));) {
    count += entry->d_name[0] != '.';
  }
  if (tasks) closedir(tasks);
  return count;
}

/* Before a fork, for the thread sanitizer: a child that goes on to join and start threads confuses it if the parent had
 * some. */
static void end_workers(void) {
  tally t = {{0}};
  norma_set_num_threads(1);
  norma_pool_run(10, LARGE, count_run, &t);
}

static int threads_are_started_when_there_is_work(void) {
  static float y[ELEMENTS];
  tally t = {{0}};
  int alone = task_count();
  norma_set_num_threads(4);
  norma_pool_run(10, SMALL, count_run, &t);
  float x[2000] = {1}, small_y[2000];
  norma_layer layer;
  norma_layer_norm(&layer, 1, 2, (int64_t[]){2, 1000}, NULL);
  norma_forward_args small = {.size = sizeof small, .layer = &layer, .type = NORMA_F32, .x = x, .y = small_y};
  if (norma_forward(&small, NULL) != NORMA_OK || task_count() != alone) return 0;
  norma_set_num_threads(1);
  if (!call_is_right(y) || task_count() != alone) return 0;
  norma_set_num_threads(4);
  if (task_count() != alone || !call_is_right(y) || task_count() != alone + 3) return 0;
  norma_set_num_threads(2);
  if (!call_is_right(y)) return 0;
  while (task_count() != alone + 1) { /* a thread that has ended may be listed a little longer */
    sched_yield();
  }
  norma_set_num_threads(1);
  if (!call_is_right(y)) return 0;
  while (task_count() != alone) {
    sched_yield();
  }
  return 1;
}

static void small_work_and_one_thread_start_none(void **state) {
  (void)state;
  end_workers();
  in_child(threads_are_started_when_there_is_work);
}

static int threads_cannot_be_started(void) {
  static float y[ELEMENTS];
  pthread_attr_t attributes;
  int alone = task_count();
  if (pthread_attr_init(&attributes) != 0 || pthread_attr_setstacksize(&attributes, (size_t)1 << 50) != 0) return 0;
  if (pthread_setattr_default_np(&attributes) != 0) return 0;
  norma_set_num_threads(4);
  return call_is_right(y) && call_is_right(y) && task_count() == alone;
}

static void a_thread_that_cannot_be_started_is_done_without(void **state) {
  (void)state;
  end_workers();
  in_child(threads_cannot_be_started);
}

static int count_with(const char *variable) {
  setenv("NORMA_NUM_THREADS", variable, 1);
  norma_set_num_threads(0);
  return norma_num_threads();
}

static int counts_are_as_documented(void) {
  unsetenv("NORMA_NUM_THREADS");
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
  int cpus = CPU_COUNT(&set) < 64 ? CPU_COUNT(&set) : 64;
  if (norma_num_threads() != cpus) return 0; /* a child asks anew, whatever its parent had */
  const char *ignored[] = {"", "0", "-2", "2 ", " 2", "+2", "2.0", "two", "2x", "0x2"};
  for (size_t i = 0; i < COUNT(ignored); i++) {
    if (count_with(ignored[i]) != cpus) return 0;
  }
  if (count_with("3") != 3 || count_with("064") != 64 || count_with("65") != 64) return 0;
  if (count_with("99999999999999999999999") != 64 || count_with("5") != 5) return 0;
  norma_set_num_threads(7);
  if (norma_num_threads() != 7) return 0;
  norma_set_num_threads(1000);
  if (norma_num_threads() != 64) return 0;
  norma_set_num_threads(-1);
  if (norma_num_threads() != 5) return 0;
  for (int cpu = 0, left = 1; cpu < CPU_SETSIZE; cpu++) {
    if (CPU_ISSET(cpu, &set) && left-- <= 0) CPU_CLR(cpu, &set);
  }
  return sched_setaffinity(0, sizeof set, &set) == 0 && count_with("none") == 1;
}

static void the_count_comes_from_the_call_the_environment_or_the_affinity(void **state) {
  (void)state;
  norma_set_num_threads(0);
  in_child(counts_are_as_documented);
}

static int environment_before_first_use(void) {
  setenv("NORMA_NUM_THREADS", "6", 1);
  return norma_num_threads() == 6;
}

/* The first of all tests, so that nobody has asked for the default yet. */
static void the_environment_is_read_at_first_use(void **state) {
  (void)state;
  norma_set_num_threads(0);
  in_child(environment_before_first_use);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_environment_is_read_at_first_use),
      cmocka_unit_test(every_index_runs_once),
      cmocka_unit_test(all_threads_come_and_block_signals),
      cmocka_unit_test(a_piece_may_call_the_library),
      cmocka_unit_test(the_number_of_threads_changes_no_bit),
      cmocka_unit_test(several_threads_call_at_once),
      cmocka_unit_test(a_child_of_an_idle_parent_has_its_own_threads),
      cmocka_unit_test(fork_while_another_thread_calls),
      cmocka_unit_test(small_work_and_one_thread_start_none),
      cmocka_unit_test(a_thread_that_cannot_be_started_is_done_without),
      cmocka_unit_test(the_count_comes_from_the_call_the_environment_or_the_affinity),
  };
  return cmocka_run_group_tests(tests, setup, NULL);
}
