/* E10 in two halves. */
#ifndef LAB_E10_H
#define LAB_E10_H

#include "experiment.h"

/* Photographs of the training that tuning runs keep for their judgement. */
enum { E10_VALIDATION = 3 };

/* e10_adain.c: any style, by AdaIN and a trained decoder. */
void run_adain(const run *run, result *result);

#endif
