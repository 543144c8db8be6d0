/* The experiments, in the order of their numbers. */
#include <stddef.h>

#include "experiment.h"

extern const experiment e0, e1, e2, e5, e7;

const experiment *const experiments[] = {&e0, &e1, &e2, &e5, &e7, NULL};
