/* A trial's results against norma_reference_*: fails where one is beyond the bound that the reference states for it. */
#ifndef NORMA_TESTS_JUDGE_H
#define NORMA_TESTS_JUDGE_H

#include "trial.h"

/* The largest finite number of a type. */
double largest_number(norma_type type);

/* y. */
void judge_forward(const trial *t, const outcome *o);
/* dx, dweight and dbias. */
void judge_backward(const trial *t, const outcome *o);
/* y, dcontent and dstyle. */
void judge_adain(const adain_trial *t, const adain_outcome *o);

#endif
