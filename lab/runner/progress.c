/* What the user sees while runs are running. */
#include <math.h>
#include <string.h>

#include "runner.h"

static void time_text(double seconds, char *text, size_t size) {
  if (seconds < 100) {
    snprintf(text, size, "%.0f s", seconds);
  } else if (seconds < 5400) {
    snprintf(text, size, "%.0f min", seconds / 60);
  } else {
    snprintf(text, size, "%.1f h", seconds / 3600);
  }
}

/* Estimates are for one machine; what has finished says how this one differs. */
static double seconds_left(const progress *p, double estimated) {
  double scale = p->estimated_done > 0 ? p->measured_done / p->estimated_done : 1;
  return estimated > 0 ? estimated * scale / p->jobs : 0;
}

static void clear_line(const progress *p) {
  if (p->terminal) {
    printf("\r\033[K");
  }
}

static void run_text(const run *r, char *text, size_t size) {
  if (r->mode == TUNE) {
    snprintf(text, size, "%s %s, rate %g", r->experiment->id, r->arm.name, r->rate);
  } else {
    snprintf(text, size, "%s %s, seed %d", r->experiment->id, r->arm.name, r->seed);
  }
}

void progress_finished(progress *p, const options *o, const run *r, double seconds) {
  char path[PATH_SIZE], text[128], left[32];
  const char *metric = r->mode == TUNE ? "validation_error" : r->experiment->headline;
  run_path(o->out, r, path);
  double value = result_read(path, metric);
  p->done++;
  p->estimated_done += run_seconds(r);
  p->measured_done += seconds;
  p->estimated_left -= run_seconds(r);
  run_text(r, text, sizeof text);
  time_text(seconds_left(p, p->estimated_left), left, sizeof left);
  clear_line(p);
  printf("[%*d/%d] %-30s ", p->total > 99 ? 3 : 2, p->done + p->failed, p->total, text);
  if (isfinite(value)) {
    printf("%s %.4g", metric, value);
  } else if (result_read(path, "diverged") == 0) {
    printf("trained"); /* an arm that has no such metric */
  } else {
    printf("%s not finite (diverged)", metric);
  }
  printf(", %.1f s; about %s left\n", seconds, left);
  fflush(stdout);
}

void progress_failed(progress *p, const run *r, int status) {
  char text[128];
  p->failed++;
  p->estimated_left -= run_seconds(r);
  run_text(r, text, sizeof text);
  clear_line(p);
  printf("[%*d/%d] %-30s FAILED (%s %d)\n", p->total > 99 ? 3 : 2, p->done + p->failed, p->total, text,
         status > 255 ? "exit status" : "signal", status > 255 ? status >> 8 : status & 127);
  fflush(stdout);
}

void progress_show(const progress *p, const run *const *running, const double *shares, int count) {
  if (!p->terminal) {
    return;
  }
  double estimated = p->estimated_left;
  char text[128], left[32];
  clear_line(p);
  for (int i = 0; i < count; i++) {
    run_text(running[i], text, sizeof text);
    printf("%s%s %.0f %%", i > 0 ? " | " : "", text, 100 * shares[i]);
    estimated -= run_seconds(running[i]) * shares[i];
  }
  time_text(seconds_left(p, estimated), left, sizeof left);
  printf(" | about %s left", left);
  fflush(stdout);
}
