/* The experiments, in the order of their numbers. */
#include <stddef.h>

#include "experiment.h"

extern const experiment e0, e1, e2, e3, e5, e6, e7, e8, e9, e10, e11, e12, e14, e16, e17;

const experiment *const experiments[] = {&e0, &e1, &e2, &e3, &e5, &e6, &e7, &e8, &e9, &e10, &e11, &e12,
                                         &e14, &e16, &e17, NULL};
