/* E0 as an experiment of the runner; see e0.h. */
#include <stddef.h>

#include "e0.h"
#include "experiment.h"

static int arms(arm out[EXPERIMENT_ARMS]) { return arm_add(out, 0, "exact", 0, true); }

static const char *missing(const char *data) {
  (void)data;
  return NULL;
}

static void measure(const run *r, result *out) {
  e0_state measured;
  e0_measure(&measured, r->seed);
  for (int i = 0; i < measured.count; i++) result_metric(out, measured.name[i], measured.value[i]);
}

const experiment e0 = {
    .id = "E0",
    .title = "exact properties of the layers, from their definitions",
    .headline = "invariance_cells_wrong",
    .arms = arms,
    .quick_seeds = 3,
    .full_seeds = 3,
    .seconds = {0.1, 0.1, 0.1},
    .missing = missing,
    .run = measure,
};
