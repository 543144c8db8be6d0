/* Lengths along one dimension: what they must be, and the layers on samples of one length. */
#include "ragged.h"

/* Whether a part of a dimension lies inside units. */
static bool shares(const norma_layer *layer, int dim) {
  for (int a = 0; a < layer->axis_count; a++)
    if (layer->axes[a].dim == dim && layer->axes[a].bits & NORMA_SHARE && layer->axes[a].length != 1) return true;
  return false;
}

static norma_status check_layer(const norma_layer *layer, int dim, norma_error *error) {
  const norma_axis *samples = norma_only_axis(layer, 0), *cut = norma_only_axis(layer, dim);
  if (!samples || !cut)
    return norma_batch_fail(error, NORMA_BAD_PATTERN,
                            "the layer splits dimension %d into several axes: a ragged batch needs one axis there",
                            samples ? dim : 0);
  if (!(samples->bits & NORMA_SHARE)) return NORMA_OK;
  if (!(cut->bits & NORMA_SHARE))
    return norma_batch_fail(error, NORMA_BAD_PATTERN,
                            "the units of the layer span samples, but not the positions of dimension %d, where the "
                            "samples are not equally long: they must span both",
                            dim);
  bool deeper = false;
  for (int d = 2; d < layer->ndim; d++) deeper = deeper || shares(layer, d);
  if (deeper && shares(layer, 1))
    return norma_batch_fail(error, NORMA_BAD_PATTERN,
                            "the units of the layer span samples and dimension 1: only layers that do not sum over "
                            "dimension 1, as batch norm, come apart into samples");
  return NORMA_OK;
}

norma_status norma_cut_make(norma_cut *cut, const norma_layer *layer, int dim, const int64_t *lengths,
                            norma_padding padding, norma_error *error) {
  if (dim < 1 || dim >= layer->ndim)
    return norma_batch_fail(error, NORMA_BAD_ARGUMENT,
                            "dim is %d, must be 1 to %d: lengths cut a dimension other than that of the samples", dim,
                            layer->ndim - 1);
  norma_status status = check_layer(layer, dim, error);
  if (status) return status;
  int64_t samples = layer->shape[0], size = layer->shape[dim];
  *cut = (norma_cut){*layer, dim, lengths, padding, samples, 0, 0, true, false, false, false};
  cut->across = norma_only_axis(layer, 0)->bits & NORMA_SHARE;
  cut->within = norma_only_axis(layer, dim)->bits & NORMA_SHARE;
  cut->gamma = norma_only_axis(layer, dim)->bits & NORMA_AFFINE;
  for (int64_t i = 0; i < samples; i++) {
    if (lengths[i] < 0 || lengths[i] > size)
      return norma_batch_fail(error, NORMA_BAD_ARGUMENT,
                              "lengths[%lld] is %lld, must be 0 to %lld, the size of dimension %d", (long long)i,
                              (long long)lengths[i], (long long)size, dim);
    cut->total += lengths[i];
    if (lengths[i] > cut->longest) cut->longest = lengths[i];
    cut->equal = cut->equal && lengths[i] == lengths[0];
  }
  return NORMA_OK;
}

norma_status norma_cut_check_single(const norma_cut *cut, bool given, unsigned flags, int ddof, norma_error *error) {
  bool refuse = flags & NORMA_REFUSE_SINGLE;
  if (given || (!refuse && ddof == 0)) return NORMA_OK;
  int64_t others = 1; /* elements of a unit for each position of a sample */
  for (int a = 0; a < cut->layer.axis_count; a++) {
    const norma_axis *axis = &cut->layer.axes[a];
    if (axis->bits & NORMA_SHARE && axis->dim != 0 && axis->dim != cut->dim) others *= axis->length;
  }
  static const char *const reasons[] = {"a variance with ddof 1 needs at least 2", "more than 1 is expected"};
  if (cut->across && others * cut->total == 1)
    return norma_batch_fail(error, NORMA_SINGLE_VALUE, "each mean is taken over 1 valid value, %s", reasons[refuse]);
  for (int64_t i = 0; !cut->across && i < cut->samples; i++)
    if (cut->lengths[i] > 0 && others * (cut->within ? cut->lengths[i] : 1) == 1)
      return norma_batch_fail(error, NORMA_SINGLE_VALUE, "each mean of sample %lld is taken over 1 valid value, %s",
                              (long long)i, reasons[refuse]);
  return NORMA_OK;
}

norma_layer norma_cut_layer(const norma_cut *cut, int64_t count, int64_t length) {
  norma_layer layer = cut->layer;
  layer.shape[0] = count;
  layer.shape[cut->dim] = length;
  for (int a = 0; a < layer.axis_count; a++) {
    if (layer.axes[a].dim == 0) layer.axes[a].length = count;
    if (layer.axes[a].dim == cut->dim) layer.axes[a].length = length;
  }
  return layer;
}

int64_t norma_cut_run(const norma_cut *cut, int64_t first) {
  int64_t end = first + 1;
  while (end < cut->samples && cut->lengths[end] == cut->lengths[first]) end++;
  return end - first;
}

norma_valid norma_cut_valid(const norma_cut *cut) {
  return (norma_valid){.layer = &cut->layer, .first = cut->dim, .last = cut->dim, .lengths = cut->lengths};
}
