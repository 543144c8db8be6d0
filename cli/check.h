/* What the files of `norma check` share. */
#ifndef NORMA_CLI_CHECK_H
#define NORMA_CLI_CHECK_H

#include "problem.h"

#include <stdbool.h>
#include <stdint.h>

/* Builds, runs and judges one problem. False, with the error, if the library or the reference refuses it. */
bool check_problem(const problem *p, problem_report *report, norma_error *error);
/* The largest error / bound of y and the gradients; mean, var and rstd are rounded once, which always comes near 1. */
double check_worst_ratio(const problem_report *report);

/* The random sweep, and the table of docs/accuracy.md; they return the exit code. */
int check_random(int64_t count, uint64_t seed, bool json);
int check_table(void);

#endif
