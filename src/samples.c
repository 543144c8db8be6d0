/* Statistics that are shared with other tensors: a layer taken apart into its samples, and the checks of what is
 * given. */
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

int64_t norma_layer_samples(const norma_layer *layer) {
  norma_reduction r = norma_reduction_make(layer, NORMA_UNITS);
  return norma_axes_length(layer, &r.outer);
}

norma_layer norma_split_layer(const norma_layer *layer) {
  norma_layer split = *layer;
  norma_reduction r = norma_reduction_make(layer, NORMA_UNITS);
  for (int i = 0; i < r.outer.count; i++) split.axes[r.outer.index[i]].bits &= ~(unsigned)NORMA_SHARE;
  return split;
}

norma_layer norma_table(int64_t samples, const norma_layer *layer) {
  norma_layer table = {.size = sizeof table, .ndim = 2, .axis_count = 2};
  table.shape[0] = table.axes[0].length = samples;
  table.shape[1] = table.axes[1].length = norma_layer_units(layer);
  table.axes[1].dim = 1;
  return table;
}

norma_status norma_check_splits(const norma_layer *layer, const char *name, norma_error *error) {
  norma_reduction r = norma_reduction_make(layer, NORMA_UNITS);
  bool kept = false;
  for (int i = 0; i < r.kept.count; i++)
    kept = kept || (layer->axes[r.kept.index[i]].dim == 0 && layer->axes[r.kept.index[i]].length != 1);
  if (norma_axes_length(layer, &r.middle) != 1)
    return norma_fail(error, NORMA_BAD_ARGUMENT,
                      "%s is set, but the layer sums over dimension 1: only layers that do not, as batch norm, come "
                      "apart into samples",
                      name);
  if (kept && norma_axes_length(layer, &r.outer) != 1)
    return norma_fail(error, NORMA_BAD_ARGUMENT,
                      "%s is set, but the layer sums over a part of dimension 0 only: it must be all of it, or none",
                      name);
  return NORMA_OK;
}

/* Elements that a unit has, according to what is given; each part must be sound. -1 after an error. */
static int64_t count_given_moments(const norma_call *call, int64_t unit, norma_error *error) {
  int64_t units = norma_layer_units(call->layer), count = 0;
  for (int64_t s = 0; s < call->given_samples; s++) {
    const norma_moments *m = &call->given_moments[s * units + unit];
    if (m->count < 0 || (m->m2 < 0 && isfinite(m->m2))) {
      norma_fail(error, NORMA_BAD_ARGUMENT, "given_moments[%lld] has count %lld and m2 %g, must not be negative",
                 (long long)(s * units + unit), (long long)m->count, m->m2);
      return -1;
    }
    if (call->layer->rms && m->mean != 0 && isfinite(m->mean)) {
      norma_fail(error, NORMA_BAD_ARGUMENT, "given_moments[%lld] has mean %g, but the mean of an RMS layer is 0",
                 (long long)(s * units + unit), m->mean);
      return -1;
    }
    count += m->count;
  }
  return count;
}

static int64_t count_given_sums(const norma_call *call, const norma_sums *sums, int64_t samples, int64_t unit,
                                norma_error *error) {
  int64_t units = norma_layer_units(call->layer), count = 0;
  for (int64_t s = 0; s < samples; s++) {
    if (sums[s * units + unit].count < 0) {
      norma_fail(error, NORMA_BAD_ARGUMENT, "given_sums[%lld] has count %lld, must not be negative",
                 (long long)(s * units + unit), (long long)sums[s * units + unit].count);
      return -1;
    }
    count += sums[s * units + unit].count;
  }
  return count;
}

/* Whether what is given of a unit is enough for the elements that x has of it. */
static norma_status check_count(const norma_call *call, const char *name, int64_t unit, int64_t count,
                                bool refuse_single, norma_error *error) {
  int64_t elements = norma_layer_unit_elements(call->layer);
  if (elements == 0) return NORMA_OK;
  if (count < elements)
    return norma_fail(error, NORMA_BAD_ARGUMENT,
                      "%s of unit %lld are of %lld elements, but x alone has %lld: those of x belong to them", name,
                      (long long)unit, (long long)count, (long long)elements);
  if (count > 1 || (!refuse_single && call->ddof == 0)) return NORMA_OK;
  return norma_fail(error, NORMA_SINGLE_VALUE,
                    refuse_single ? "%s of unit %lld are of 1 value, more than 1 is expected"
                                  : "%s of unit %lld are of 1 value, a variance with ddof 1 needs at least 2",
                    name, (long long)unit);
}

norma_status norma_check_given_moments(const norma_call *call, bool refuse_single, norma_error *error) {
  int64_t units = norma_layer_units(call->layer);
  for (int64_t u = 0; call->given_moments && u < units; u++) {
    int64_t count = count_given_moments(call, u, error);
    if (count < 0) return NORMA_BAD_ARGUMENT;
    norma_status status = check_count(call, "given_moments", u, count, refuse_single, error);
    if (status) return status;
  }
  return NORMA_OK;
}

norma_status norma_check_given_sums(const norma_call *call, const norma_sums *sums, int64_t samples,
                                    norma_error *error) {
  int64_t units = norma_layer_units(call->layer);
  for (int64_t u = 0; sums && u < units; u++) {
    int64_t count = count_given_sums(call, sums, samples, u, error);
    if (count < 0) return NORMA_BAD_ARGUMENT;
    norma_status status = check_count(call, "given_sums", u, count, false, error);
    if (status) return status;
  }
  return NORMA_OK;
}

void norma_sample_moments(norma_call *call, norma_saved *scratch, norma_moments *moments, void *workspace) {
  norma_layer split = norma_split_layer(call->layer);
  norma_call part = *call;
  part.layer = &split;
  part.y.data = part.mean.data = part.var.data = part.rstd.data = NULL;
  norma_forward_pass(&part, scratch, moments, workspace);
  call->given_moments = moments;
  call->given_samples = norma_layer_samples(call->layer);
}

void norma_sample_sums(norma_call *call, const norma_saved *saved, norma_saved *of_samples, norma_pair *means,
                       norma_sums *sums, void *workspace) {
  norma_layer split = norma_split_layer(call->layer);
  norma_call part = *call;
  int64_t units = norma_layer_units(call->layer), total = norma_layer_units(&split);
  for (int64_t u = 0; u < total; u++) of_samples[u] = saved[u % units];
  part.layer = &split;
  part.dx.data = part.dafter.data = part.dsum.data = NULL;
  part.sums = sums;
  memset(sums, 0, (size_t)total * sizeof *sums); /* which the pass leaves alone where samples have no elements */
  norma_backward_pass(&part, of_samples, means, workspace);
  call->dweight.data = call->dbias.data = NULL; /* are there now: no sum crosses a sample before it ends */
}
