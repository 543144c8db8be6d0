/*
 * norma-lab: plans the runs, starts each as a process of its own, and keeps what is finished.
 * main.c reads the command line, plan.c lists the runs, jobs.c starts and watches them, progress.c prints, child.c is
 * one run, result.c its file.
 */
#ifndef LAB_RUNNER_H
#define LAB_RUNNER_H

#include <stdio.h>

#include "../experiments/experiment.h"

enum { EXIT_GOOD = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_STOPPED = 130 };
enum { PATH_SIZE = 4096, PLAN_RUNS = 4096, TUNING_SEED = 101 };

typedef struct options {
  const char *out, *data, *lang;
  const char *arm;               /* only this one */
  bool full, fresh, list, help, no_report, gate;
  int seeds, jobs;
  char **chosen;                 /* ids of experiments */
  int chosen_count;
  const char *child;             /* internal: run this experiment's arm in this process */
  int seed;
  const char *mode;
  double rate;
} options;

/* Prints "norma-lab: message" as one line on stderr and returns EXIT_USAGE. */
int lab_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

const experiment *find_experiment(const char *id);
/* The arm of that name; false if there is none. */
bool find_arm(const experiment *e, const char *name, arm *found);

/* plan.c */
typedef struct plan {
  run runs[PLAN_RUNS];
  int count, tuning;             /* the first `tuning` runs choose learning rates for the others */
  int kept;                      /* finished by an earlier call */
} plan;

extern const char *const mode_names[3];
int plan_make(const options *o, plan *p);
/* Where the result of a run is kept. */
void run_path(const char *out, const run *r, char path[PATH_SIZE]);
double run_seconds(const run *r);
/* The rate with the smallest validation error among the tuning runs, the arm's own if none succeeded. */
/* Does the run take its learning rate from tuning runs? */
bool run_is_tuned(const run *r);
double tuned_rate(const char *out, const run *r);

/* jobs.c: all runs of the plan; EXIT_GOOD, EXIT_FAILED or EXIT_STOPPED. */
int jobs_run(const options *o, plan *p);

/* progress.c */
typedef struct progress {
  int done, failed, total, jobs;
  double estimated_done, measured_done, estimated_left;
  bool terminal;
} progress;

void progress_finished(progress *p, const options *o, const run *r, double seconds);
void progress_failed(progress *p, const run *r, int status);
/* The line that is overwritten: what runs now, and how long all of it will take. */
void progress_show(const progress *p, const run *const *running, const double *shares, int count);

/* child.c: one run in this process, its file under DIR/runs. */
int child_run(const options *o);

/* result.c */
result *result_new(const run *r);
int result_write(result *r, const char *path, double seconds);
void result_free(result *r);
/* Makes the folders above a file; false after one line on stderr. */
bool make_folders(const char *path);
/* What a result file says: false if there is none or if another program or mode wrote it. */
bool result_is_of(const char *path, const char *mode);
/* The mode of a result file; "" if it cannot be read. */
void result_mode(const char *path, char mode[16]);
/* A metric; NaN if it is not there. */
double result_read(const char *path, const char *metric);

#endif
