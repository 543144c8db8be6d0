/* Which runs there are, which of them are finished, and the learning rates that the tuning runs found. */
#include <math.h>
#include <string.h>

#include "runner.h"

const char *const mode_names[3] = {"quick", "full", "tune"};

const double sgd_rates[] = {0.03, 0.1, 0.3, 0}, adam_rates[] = {0.001, 0.003, 0.01, 0};

const experiment *find_experiment(const char *id) {
  for (int i = 0; experiments[i] != NULL; i++) {
    if (strcmp(experiments[i]->id, id) == 0) {
      return experiments[i];
    }
  }
  return NULL;
}

bool find_arm(const experiment *e, const char *name, arm *found) {
  arm arms[EXPERIMENT_ARMS];
  int count = e->arms(arms);
  for (int i = 0; i < count; i++) {
    if (strcmp(arms[i].name, name) == 0) {
      *found = arms[i];
      return true;
    }
  }
  return false;
}

void run_path(const char *out, const run *r, char path[PATH_SIZE]) {
  if (r->mode == TUNE) {
    snprintf(path, PATH_SIZE, "%s/runs/%s/%s.lr%g.tune.json", out, r->experiment->id, r->arm.name, r->rate);
  } else {
    snprintf(path, PATH_SIZE, "%s/runs/%s/%s.seed%d.json", out, r->experiment->id, r->arm.name, r->seed);
  }
}

double run_seconds(const run *r) {
  return r->experiment->seconds[r->mode] * (r->arm.cost > 0 ? r->arm.cost : 1);
}

bool run_is_tuned(const run *r) {
  return r->mode == FULL && r->experiment->rates != NULL && !r->arm.fixed_rate;
}

double tuned_rate(const char *out, const run *r) {
  const double *rates = r->experiment->rates;
  double best_error = INFINITY, best = r->arm.rate;
  for (int i = 0; rates[i] > 0; i++) {
    run tuning = *r;
    char path[PATH_SIZE];
    tuning.mode = TUNE;
    tuning.rate = rates[i];
    run_path(out, &tuning, path);
    double error = result_read(path, "validation_error");
    if (error < best_error) {
      best_error = error;
      best = rates[i];
    }
  }
  return best;
}

/* Puts a run into the plan unless its result is there. A full result serves as a quick one, and is not lost to it. */
static int plan_add(const options *o, plan *p, run r) {
  char path[PATH_SIZE], mode[16];
  run_path(o->out, &r, path);
  if (!o->fresh) {
    result_mode(path, mode);
    if (result_is_of(path, mode_names[r.mode]) || (r.mode == QUICK && result_is_of(path, mode_names[FULL]))) {
      p->kept++;
      return EXIT_GOOD;
    }
    if (r.mode == QUICK && strcmp(mode, "full") == 0) {
      return lab_fail("%s is from a full run: --out OTHER_FOLDER keeps it, --fresh replaces it", path);
    }
  }
  if (p->count == PLAN_RUNS) {
    return lab_fail("more than %d runs", PLAN_RUNS);
  }
  p->runs[p->count++] = r;
  return EXIT_GOOD;
}

static bool wanted(const options *o, const experiment *e, const arm *a) {
  bool named = o->arm != NULL ? strcmp(o->arm, a->name) == 0 : o->full || a->quick || e->quick_seeds == 0;
  return named;
}

/* A chosen experiment that quick mode leaves out runs in full settings. */
static mode mode_of(const options *o, const experiment *e) { return o->full || e->quick_seeds == 0 ? FULL : QUICK; }

static int plan_experiment(const options *o, plan *p, const experiment *e, bool tuning) {
  arm arms[EXPERIMENT_ARMS];
  int count = e->arms(arms), failed = EXIT_GOOD;
  mode mode = mode_of(o, e);
  int seeds = o->seeds > 0 ? o->seeds : mode == FULL ? e->full_seeds : e->quick_seeds;
  bool own = o->seeds == 0 && mode == FULL && !tuning; /* arms may have fewer seeds */
  const double *rates = e->rates;
  if (tuning && (rates == NULL || mode == QUICK)) {
    return EXIT_GOOD;
  }
  /* Seeds outermost: what is stopped early has all arms of the first seeds. */
  for (int i = 0; tuning ? rates[i] > 0 : i < seeds; i++) {
    for (int a = 0; a < count && !failed; a++) {
      bool enough = own && arms[a].seeds > 0 && i >= arms[a].seeds;
      if (wanted(o, e, &arms[a]) && !enough && !(tuning && arms[a].fixed_rate)) {
        run r = {e, arms[a], tuning ? TUNING_SEED : i + 1, tuning ? TUNE : mode, tuning ? rates[i] : 0, o->data,
                 o->out};
        failed = plan_add(o, p, r);
      }
    }
  }
  return failed;
}

static int find_chosen(const options *o, const experiment *chosen[]) {
  int count = 0;
  for (int i = 0; i < o->chosen_count; i++) {
    const experiment *e = find_experiment(o->chosen[i]);
    if (e == NULL) {
      lab_fail("there is no experiment %s; norma lab --list lists them", o->chosen[i]);
      return -1;
    }
    chosen[count++] = e;
  }
  for (int i = 0; experiments[i] != NULL && o->chosen_count == 0; i++) {
    if (o->full ? experiments[i]->full_seeds > 0 : experiments[i]->quick_seeds > 0) {
      chosen[count++] = experiments[i];
    }
  }
  return count;
}

/* Quick mode without names is not the whole lab. */
static void print_left_out(const options *o) {
  if (o->full || o->chosen_count > 0) {
    return;
  }
  printf("quick mode: some arms only, and without");
  for (int i = 0; experiments[i] != NULL; i++) {
    if (experiments[i]->quick_seeds == 0) {
      printf(" %s", experiments[i]->id);
    }
  }
  printf("; norma lab --full has everything\n");
}

int plan_make(const options *o, plan *p) {
  const experiment *chosen[PLAN_RUNS];
  int count = find_chosen(o, chosen), failed = EXIT_GOOD, with_arm = 0;
  if (count < 0) {
    return EXIT_USAGE;
  }
  print_left_out(o);
  for (int i = 0; i < count; i++) {
    arm found;
    with_arm += o->arm != NULL && find_arm(chosen[i], o->arm, &found);
    const char *missing = chosen[i]->missing(o->data);
    if (missing != NULL) {
      printf("%s SKIPPED: %s\n", chosen[i]->id, missing);
      chosen[i--] = chosen[--count];
    }
  }
  if (o->arm != NULL && with_arm == 0) {
    return lab_fail("--arm: no chosen experiment has an arm %s; norma lab --list lists them", o->arm);
  }
  for (int tuning = 1; tuning >= 0; tuning--) {
    for (int i = 0; i < count && !failed; i++) {
      failed = plan_experiment(o, p, chosen[i], tuning);
    }
    p->tuning = tuning ? p->count : p->tuning;
  }
  return failed;
}
