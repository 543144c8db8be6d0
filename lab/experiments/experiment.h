/*
 * What an experiment is, for the runner and for whoever writes one.
 *
 * An experiment has arms that differ in one thing. A run is one arm with one seed in a process of its own; it trains,
 * and fills in a result. Add an experiment in three steps: a file like e1.c, a line in list.c, a row in README.md.
 */
#ifndef LAB_EXPERIMENT_H
#define LAB_EXPERIMENT_H

#include <stdbool.h>
#include <stdint.h>

typedef enum mode { QUICK, FULL, TUNE } mode; /* TUNE: fills in validation_error for the learning rate of the run */

typedef struct arm {
  char name[40];
  double rate;      /* learning rate of quick mode, and where nothing is tuned */
  bool fixed_rate;  /* not tuned where the other arms are */
  bool quick;       /* part of quick mode */
  double cost;      /* of a run, as a multiple of the experiment's seconds; 0: 1 */
  int seeds;        /* in full mode, if fewer than the experiment's are enough; 0: all of them */
} arm;

typedef struct experiment experiment;

typedef struct run {
  const experiment *experiment;
  arm arm;
  int seed;
  mode mode;
  double rate;
  const char *data;  /* --data, may be NULL */
  const char *out;   /* --out */
} run;

typedef struct result result;

enum { EXPERIMENT_ARMS = 64 };

struct experiment {
  const char *id, *title;
  const char *headline;                 /* the metric that the progress line shows */
  int (*arms)(arm arms[EXPERIMENT_ARMS]);  /* fills them in, returns how many */
  /* Full mode tries these learning rates for each arm, 0 is the end. NULL: the rate is part of the question. */
  const double *rates;
  int quick_seeds, full_seeds;          /* 0: not in this mode */
  double seconds[3];                    /* of a run in each mode, an estimate */
  /* NULL if the data is there, else what is missing and how to get it, in one line. */
  const char *(*missing)(const char *data);
  void (*run)(const run *run, result *result);
};

/* All experiments, in the order of their numbers; ends with NULL. */
extern const experiment *const experiments[];

extern const double sgd_rates[], adam_rates[];

/* Adds an arm to a list under construction, and returns the new count. */
int arm_add(arm *arms, int count, const char *name, double rate, bool quick);

/* The result, lab/runner/result.c. A value that is not finite becomes null. */
void result_metric(result *r, const char *name, double value);
void result_config(result *r, const char *name, double value);
void result_config_text(result *r, const char *name, const char *value);
void result_point(result *r, const char *curve, double x, double y);
/* 8-bit RGB as DIR/pictures/NAME.png, which the report shows where lab/claims.json says so. */
void run_picture(const run *run, const char *name, const unsigned char *rgb, int width, int height);
/* Tells the runner which share of the run is done. Call it as often as you like. */
void run_progress(double share);

#endif
