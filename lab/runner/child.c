/* One run, in the process that jobs.c started for it. */
#include <signal.h>
#include <string.h>
#include <time.h>

#include "../engine/engine.h"
#include "runner.h"

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* One line per report, at most a hundred of them. */
void run_progress(double share) {
  static double last = -1;
  if (share >= last + 0.01) {
    last = share;
    printf("%.3f\n", share);
    fflush(stdout);
  }
}

int child_run(const options *o) {
  run r = {.experiment = find_experiment(o->child), .seed = o->seed, .data = o->data, .out = o->out};
  if (r.experiment == NULL || o->arm == NULL || !find_arm(r.experiment, o->arm, &r.arm)) {
    return lab_fail("--child %s: there is no such experiment or arm", o->child);
  }
  for (int m = 0; m < 3; m++) {
    if (o->mode != NULL && strcmp(o->mode, mode_names[m]) == 0) {
      r.mode = (mode)m;
    }
  }
  r.rate = o->rate > 0 ? o->rate : r.arm.rate;
  engine_start();
  double start = now();
  result *result = result_new(&r);
  if (r.rate > 0) {
    result_config(result, "learning_rate", r.rate);
    result_config_text(result, "learning_rate_from", run_is_tuned(&r) || r.mode == TUNE ? "tuned" : "stored");
  }
  r.experiment->run(&r, result);
  char path[PATH_SIZE];
  run_path(o->out, &r, path);
  signal(SIGINT, SIG_IGN); /* the run is finished: keep it */
  int failed = result_write(result, path, now() - start);
  result_free(result);
  return failed;
}
