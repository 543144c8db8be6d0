/* What happens to norm(W x) when weights or data are scaled and shifted (table 1 of the layer norm paper), what that
 * means for the gradient, and what renaming the channels of a network does. */
#include "e0.h"

#include <math.h>
#include <string.h>

enum { ROWS = 12, IN = 10, OUT = 16 };

typedef struct problem {
  float w[OUT * IN], x[ROWS * IN];
} problem;

static void product(const problem *p, float *z) {
  for (int i = 0; i < ROWS * OUT; i++) {
    double sum = 0;
    for (int k = 0; k < IN; k++) sum += (double)p->w[i % OUT * IN + k] * (double)p->x[i / OUT * IN + k];
    z[i] = (float)sum;
  }
}

static void normalized(bool batch, const problem *p, float *y) {
  const int64_t rows[] = {ROWS, OUT};
  float z[ROWS * OUT];
  norma_layer layer;
  norma_error error;
  e0_must(batch ? norma_layer_batch(&layer, 2, rows, &error) : norma_layer_norm(&layer, 1, 2, rows, &error), &error);
  product(p, z);
  e0_norm(&layer, z, y, NULL, NULL);
}

/* --------------------------------------------------------------------------------------------- invariances --- */

enum change { WEIGHT_SCALE, WEIGHT_CENTRE, ONE_ROW_SCALE, DATA_SCALE, DATA_CENTRE, ONE_CASE_SCALE, CHANGES };

static problem changed(const problem *p, enum change change, const float *shift) {
  problem q = *p;
  for (int i = 0; i < OUT * IN; i++) {
    if (change == WEIGHT_SCALE || (change == ONE_ROW_SCALE && i < IN)) q.w[i] *= 3;
    if (change == WEIGHT_CENTRE) q.w[i] += shift[i % IN];
  }
  for (int i = 0; i < ROWS * IN; i++) {
    if (change == DATA_SCALE || (change == ONE_CASE_SCALE && i < IN)) q.x[i] *= 3;
    if (change == DATA_CENTRE) q.x[i] += shift[i % IN];
  }
  return q;
}

static void invariances(e0_state *e0, const problem *p) {
  static const bool expected[2][CHANGES] = {{true, true, false, true, false, true}, /* layer norm, batch norm */
                                            {true, false, true, true, true, false}};
  float shift[IN], before[ROWS * OUT], after[ROWS * OUT];
  double wrong = 0;
  e0_fill(e0, shift, IN, 1, 1);
  for (int batch = 0; batch < 2; batch++) {
    for (int change = 0; change < CHANGES; change++) {
      problem q = changed(p, (enum change)change, shift);
      normalized(batch, p, before);
      normalized(batch, &q, after);
      double distance = e0_distance(before, after, ROWS * OUT);
      bool invariant = expected[batch][change];
      wrong += invariant ? distance > 1e-3 : distance < 1e-2;
    }
  }
  e0_set(e0, "invariance_cells_wrong", wrong);
}

/* ----------------------------------------------------------------------------------------------- gradients --- */

/* y = batch norm(W x) and the gradient of sum(weights of loss * y) by W. */
static void gradient(const problem *p, const float *loss, float *y, double *dw) {
  const int64_t rows[] = {ROWS, OUT};
  float z[ROWS * OUT], dz[ROWS * OUT];
  norma_layer layer;
  norma_error error;
  e0_must(norma_layer_batch(&layer, 2, rows, &error), &error);
  product(p, z);
  e0_norm(&layer, z, y, NULL, NULL);
  norma_backward_args args = {.size = sizeof args, .layer = &layer, .x = z, .dy = loss, .dx = dz};
  e0_must(norma_backward(&args, &error), &error);
  for (int i = 0; i < OUT * IN; i++) {
    dw[i] = 0;
    for (int r = 0; r < ROWS; r++) dw[i] += (double)dz[r * OUT + i / IN] * (double)p->x[r * IN + i % IN];
  }
}

static void scaled_weights(e0_state *e0, const problem *p) {
  float loss[ROWS * OUT], y[ROWS * OUT], y5[ROWS * OUT];
  double dw[OUT * IN], dw5[OUT * IN], largest = 0, difference = 0, product_of = 0, w2 = 0, dw2 = 0;
  problem q = *p;
  for (int i = 0; i < OUT * IN; i++) q.w[i] *= 5;
  e0_fill(e0, loss, ROWS * OUT, 0, 1);
  gradient(p, loss, y, dw);
  gradient(&q, loss, y5, dw5);
  for (int i = 0; i < OUT * IN; i++) {
    largest = fmax(largest, fabs(dw[i]));
    difference = fmax(difference, fabs(5 * dw5[i] - dw[i]));
    product_of += (double)p->w[i] * dw[i];
    w2 += (double)p->w[i] * (double)p->w[i];
    dw2 += dw[i] * dw[i];
  }
  double worst = fmax(difference / largest, fabs(product_of) / sqrt(w2 * dw2));
  e0_set(e0, "scale_gradient_error", fmax(worst, e0_distance(y, y5, ROWS * OUT)));
}

/* ------------------------------------------------------------------------------------------ renamed channels --- */

enum { BATCH = 3, CHANNELS = 8, GROUPS = 2, SPACE = 9, MAPS = BATCH * CHANNELS };

/* Group norm whose groups are any sets of channels: group[c] is the group of channel c. */
static void any_groups(const float *x, float *y, const int *group) {
  const int64_t shape[] = {BATCH, CHANNELS, SPACE};
  float mean[MAPS], var[MAPS];
  norma_layer layer;
  norma_error error;
  for (int m = 0; m < MAPS; m++) {
    norma_moments moments = {0};
    double mean_of, var_of;
    for (int c = 0; c < CHANNELS; c++) {
      if (group[c] != group[m % CHANNELS]) continue;
      const float *map = x + (m / CHANNELS * CHANNELS + c) * SPACE;
      e0_must(norma_moments_add(&moments, NORMA_F32, map, SPACE, 1, &error), &error);
    }
    e0_must(norma_moments_finish(&moments, 0, &mean_of, &var_of, &error), &error);
    mean[m] = (float)mean_of;
    var[m] = (float)var_of;
  }
  e0_must(norma_layer_instance(&layer, 3, shape, &error), &error);
  e0_given(&layer, x, y, mean, var);
}

/* linear over channels, group norm, ReLU, linear over channels to one number per position. place[c] is where channel c
 * of the hidden layer stands; its group goes with it, or else groups are neighbours wherever they come from. */
static void network(const float *x, const float *first, const float *last, const int *place, bool with_groups,
                    float *out) {
  float hidden[MAPS * SPACE], y[MAPS * SPACE];
  int group[CHANNELS];
  for (int c = 0; c < CHANNELS; c++) group[place[c]] = (with_groups ? c : place[c]) / (CHANNELS / GROUPS);
  for (int i = 0; i < MAPS * SPACE; i++) {
    int n = i / (CHANNELS * SPACE), c = i / SPACE % CHANNELS, s = i % SPACE;
    double sum = 0;
    for (int k = 0; k < CHANNELS; k++) {
      sum += (double)first[c * CHANNELS + k] * (double)x[(n * CHANNELS + k) * SPACE + s];
    }
    hidden[(n * CHANNELS + place[c]) * SPACE + s] = (float)sum;
  }
  any_groups(hidden, y, group);
  for (int i = 0; i < BATCH * SPACE; i++) {
    double sum = 0;
    for (int c = 0; c < CHANNELS; c++) {
      double value = (double)y[(i / SPACE * CHANNELS + place[c]) * SPACE + i % SPACE];
      sum += (double)last[c] * fmax(value, 0);
    }
    out[i] = (float)sum;
  }
}

static void renamed_channels(e0_state *e0) {
  float x[MAPS * SPACE], first[CHANNELS * CHANNELS], last[CHANNELS];
  float before[BATCH * SPACE], after[BATCH * SPACE], others[BATCH * SPACE];
  int straight[CHANNELS], shuffled[CHANNELS];
  double largest = 0;
  e0_fill(e0, x, MAPS * SPACE, 0, 1);
  e0_fill(e0, first, CHANNELS * CHANNELS, 0, 1);
  e0_fill(e0, last, CHANNELS, 0, 1);
  for (int c = 0; c < CHANNELS; c++) {
    straight[c] = c;
    shuffled[c] = (3 * c + 5) % CHANNELS; /* mixes the groups */
  }
  network(x, first, last, straight, true, before);
  network(x, first, last, shuffled, true, after);
  network(x, first, last, shuffled, false, others);
  for (int i = 0; i < BATCH * SPACE; i++) largest = fmax(largest, fabs((double)before[i]));
  e0_set(e0, "gn_relabel_error", e0_distance(before, after, BATCH * SPACE) / largest);
  e0_set(e0, "gn_other_groups_change", e0_distance(before, others, BATCH * SPACE) / largest);
}

void e0_weights(e0_state *e0) {
  problem p;
  e0_fill(e0, p.w, OUT * IN, 0, 1);
  e0_fill(e0, p.x, ROWS * IN, 0.5, 1);
  invariances(e0, &p);
  scaled_weights(e0, &p);
  renamed_channels(e0);
}
