/* Runs as processes side by side, one thread each. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runner.h"

enum { MOST_JOBS = 64 };

typedef struct job {
  run run;
  pid_t process;
  int pipe;       /* the run's standard output: its progress */
  double started, share;
  char line[64];
  size_t length;
} job;

static volatile sig_atomic_t stopped;

static void stop(int signal) {
  (void)signal;
  stopped = 1;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static _Noreturn void become_child(const options *o, const run *r) {
  char seed[16], rate[32];
  snprintf(seed, sizeof seed, "%d", r->seed);
  snprintf(rate, sizeof rate, "%.17g", r->rate);
  char *arguments[20] = {"norma-lab",       "--child", (char *)r->experiment->id, "--arm",       (char *)r->arm.name,
                         "--seed",          seed,      "--mode", (char *)mode_names[r->mode],    "--out",
                         (char *)o->out,    "--rate",  rate,     NULL};
  if (o->data != NULL) {
    arguments[13] = "--data";
    arguments[14] = (char *)o->data;
  }
  setenv("OPENBLAS_NUM_THREADS", "1", 1);
  setenv("OMP_NUM_THREADS", "1", 1);
  setenv("NORMA_NUM_THREADS", "1", 1);
  execv("/proc/self/exe", arguments);
  fprintf(stderr, "norma-lab: cannot start a run: %s\n", strerror(errno));
  _exit(127);
}

static bool job_start(const options *o, job *j, const run *r) {
  int ends[2];
  *j = (job){.run = *r, .started = now()};
  if (run_is_tuned(r)) {
    j->run.rate = tuned_rate(o->out, r);
  }
  if (pipe(ends) != 0) {
    return false;
  }
  fflush(stdout);
  j->process = fork();
  if (j->process == 0) {
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    become_child(o, &j->run);
  }
  close(ends[1]);
  j->pipe = ends[0];
  if (j->process < 0) {
    close(j->pipe);
  }
  return j->process > 0;
}

/* Reads what is there; false at the end. */
static bool job_listen(job *j) {
  char text[256];
  ssize_t got = read(j->pipe, text, sizeof text);
  for (ssize_t i = 0; i < got; i++) {
    if (text[i] == '\n') {
      j->line[j->length] = '\0';
      j->share = strtod(j->line, NULL);
      j->length = 0;
    } else if (j->length + 1 < sizeof j->line) {
      j->line[j->length++] = text[i];
    }
  }
  return got > 0 || (got < 0 && errno == EINTR);
}

static void job_end(const options *o, job *j, progress *p) {
  int status = 0;
  close(j->pipe);
  while (waitpid(j->process, &status, 0) < 0 && errno == EINTR) {
  }
  if (status == 0) {
    progress_finished(p, o, &j->run, now() - j->started);
  } else if (!stopped) {
    progress_failed(p, &j->run, status);
  }
}

/* Waits for news of any job. Ended jobs leave the list. */
static int watch(const options *o, job *jobs, int count, progress *p) {
  struct pollfd files[MOST_JOBS];
  const run *running[MOST_JOBS];
  double shares[MOST_JOBS];
  for (int i = 0; i < count; i++) {
    files[i] = (struct pollfd){.fd = jobs[i].pipe, .events = POLLIN};
    running[i] = &jobs[i].run;
    shares[i] = jobs[i].share;
  }
  progress_show(p, running, shares, count);
  if (poll(files, (nfds_t)count, 1000) <= 0) {
    return count;
  }
  for (int i = count - 1; i >= 0; i--) {
    if (files[i].revents != 0 && !job_listen(&jobs[i])) {
      job_end(o, &jobs[i], p);
      jobs[i] = jobs[--count];
    }
  }
  return count;
}

static void end_all(const options *o, job *jobs, int count, progress *p) {
  for (int i = 0; i < count; i++) {
    kill(jobs[i].process, SIGTERM);
  }
  for (int i = 0; i < count; i++) {
    job_end(o, &jobs[i], p);
  }
}

int jobs_run(const options *o, plan *plan) {
  static job jobs[MOST_JOBS];
  int running = 0, next = 0;
  progress p = {.total = plan->count, .jobs = o->jobs < MOST_JOBS ? o->jobs : MOST_JOBS,
                .terminal = isatty(STDOUT_FILENO)};
  for (int i = 0; i < plan->count; i++) {
    p.estimated_left += run_seconds(&plan->runs[i]);
  }
  struct sigaction action = {.sa_handler = stop}; /* no SA_RESTART: poll returns */
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  while (!stopped && (next < plan->count || running > 0)) {
    bool waits = next == plan->tuning && running > 0 && p.done + p.failed < plan->tuning; /* for the learning rates */
    if (next < plan->count && running < p.jobs && !waits) {
      if (!job_start(o, &jobs[running], &plan->runs[next])) {
        end_all(o, jobs, running, &p);
        return lab_fail("cannot start a process: %s", strerror(errno));
      }
      running++;
      next++;
    } else {
      running = watch(o, jobs, running, &p);
    }
  }
  if (stopped) {
    end_all(o, jobs, running, &p);
    printf("%sstopped: %d of %d runs are finished and kept; the same command goes on from there\n",
           p.terminal ? "\r\033[K" : "", p.done + plan->kept, plan->count + plan->kept);
    return EXIT_STOPPED;
  }
  return p.failed > 0 ? EXIT_FAILED : EXIT_GOOD;
}
