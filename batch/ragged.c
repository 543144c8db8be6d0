/* The calls of norma_ragged.h: check everything, then lengths, or a mask. */
#include "ragged.h"

#include <stdlib.h>

static norma_status check_ragged(const norma_ragged *r, norma_error *error) {
  if (!r) return norma_batch_fail(error, NORMA_BAD_ARGUMENT, "ragged is NULL");
  if (r->size != sizeof *r)
    return norma_batch_fail(error, NORMA_BAD_ARGUMENT, "ragged->size is %zu, must be sizeof(norma_ragged) = %zu",
                            r->size, sizeof *r);
  if (!r->lengths == !r->mask)
    return norma_batch_fail(error, NORMA_BAD_ARGUMENT, "lengths and mask are both %s: one of them is right",
                            r->mask ? "set" : "NULL");
  if ((unsigned)r->padding > NORMA_PAD_BETA)
    return norma_batch_fail(error, NORMA_BAD_ARGUMENT, "padding is %d, must be one of norma_padding",
                            (int)r->padding);
  return NORMA_OK;
}

/* The core checks all else before it looks at its workspace; an empty one ends the call there. */
static norma_status check_forward(const norma_forward_args *args, norma_error *error) {
  char none;
  if (!args) return norma_batch_fail(error, NORMA_BAD_ARGUMENT, "args is NULL");
  if (args->size != sizeof *args) return norma_forward(args, error);
  if (args->sample_moments || args->given_moments)
    return norma_batch_fail(error, NORMA_BAD_ARGUMENT, "%s is set, which ragged batches do not have: NULL is right",
                            args->sample_moments ? "sample_moments" : "given_moments");
  norma_forward_args checked = *args;
  checked.workspace = &none, checked.workspace_size = 0;
  checked.flags &= ~(unsigned)NORMA_REFUSE_SINGLE;
  if (checked.ddof == 1) checked.ddof = 0; /* how many values are valid is seen later */
  norma_status status = norma_forward(&checked, error);
  return status == NORMA_NO_MEMORY ? NORMA_OK : status;
}

static norma_status check_backward(const norma_backward_args *args, norma_error *error) {
  char none;
  if (!args) return norma_batch_fail(error, NORMA_BAD_ARGUMENT, "args is NULL");
  if (args->size != sizeof *args) return norma_backward(args, error);
  if (args->sample_sums || args->given_sums)
    return norma_batch_fail(error, NORMA_BAD_ARGUMENT, "%s is set, which ragged batches do not have: NULL is right",
                            args->sample_sums ? "sample_sums" : "given_sums");
  norma_backward_args checked = *args;
  checked.workspace = &none, checked.workspace_size = 0;
  checked.flags &= ~(unsigned)NORMA_REFUSE_SINGLE;
  if (checked.ddof == 1) checked.ddof = 0;
  norma_status status = norma_backward(&checked, error);
  return status == NORMA_NO_MEMORY ? NORMA_OK : status;
}

/* Sums of samples are weighed sample by sample. */
static norma_status check_gamma(const norma_layer *layer, const void *weight, norma_error *error) {
  if (!weight || !(norma_only_axis(layer, 0)->bits & NORMA_SHARE)) return NORMA_OK;
  for (int a = 0; a < layer->axis_count; a++)
    if ((layer->axes[a].bits & NORMA_SHARE) && (layer->axes[a].bits & NORMA_AFFINE) && layer->axes[a].length > 1)
      return norma_batch_fail(error, NORMA_BAD_PATTERN,
                              "gamma changes along dimension %d, within units that span samples: it must be one "
                              "number in each unit, as in batch norm",
                              layer->axes[a].dim);
  return NORMA_OK;
}

/* What is valid, as lengths where it can be said so. */
typedef struct reading {
  norma_valid valid; /* a mask that is not lengths, if `masked` */
  norma_cut cut;     /* else */
  bool masked;
  int64_t *lengths; /* of a mask; owned */
  norma_layer layer;
} reading;

/* A dimension of 1 position after the others, which belongs to units where samples do: a mask of whole samples cuts it
 * to 1 or 0. No array has a stride there, and 0 stands in all of ours. */
static norma_status add_dimension(norma_layer *layer, norma_error *error) {
  if (layer->ndim == NORMA_MAX_DIMS || layer->axis_count == NORMA_MAX_AXES)
    return norma_batch_fail(error, NORMA_BAD_SHAPE,
                            "the mask changes along dimension 0 alone, for which x can have up to %d dimensions",
                            NORMA_MAX_DIMS - 1);
  layer->axes[layer->axis_count++] = (norma_axis){"valid", 1, layer->ndim, NORMA_SHARE};
  layer->shape[layer->ndim++] = 1;
  return NORMA_OK;
}

static norma_status read_mask(reading *r, const norma_ragged *ragged, norma_error *error) {
  norma_status status = norma_mask_valid(&r->valid, &r->layer, ragged, error);
  if (status) return status;
  r->lengths = malloc(((size_t)r->layer.shape[0] + 1) * sizeof *r->lengths);
  if (!r->lengths)
    return norma_batch_fail(error, NORMA_NO_MEMORY, "lengths of %lld samples could not be allocated",
                            (long long)r->layer.shape[0]);
  int dim = r->valid.first ? norma_mask_lengths(&r->valid, r->lengths) : r->layer.ndim;
  if (!r->valid.first) {
    for (int64_t s = 0; s < r->layer.shape[0]; s++)
      r->lengths[s] = ragged->mask[s * ragged->mask_strides[0]] != 0;
    status = add_dimension(&r->layer, error);
  }
  r->masked = dim == 0;
  if (r->masked || status) return status;
  return norma_cut_make(&r->cut, &r->layer, dim, r->lengths, ragged->padding, error);
}

static norma_status read_ragged(reading *r, const norma_layer *layer, const norma_ragged *ragged, norma_error *error) {
  r->layer = *layer;
  r->lengths = NULL;
  r->masked = false;
  if (ragged->mask) return read_mask(r, ragged, error);
  return norma_cut_make(&r->cut, &r->layer, ragged->dim, ragged->lengths, ragged->padding, error);
}

norma_status norma_ragged_forward(const norma_forward_args *args, const norma_ragged *ragged, norma_error *error) {
  reading r = {.lengths = NULL};
  norma_status status = check_ragged(ragged, error);
  if (!status) status = check_forward(args, error);
  if (status) return status;
  norma_forward_args resolved = *args; /* strides have an entry more than x has dimensions, for add_dimension */
  norma_slots slots;
  norma_forward_slots(&slots, &resolved);
  status = read_ragged(&r, args->layer, ragged, error);
  if (!status && r.masked) status = norma_mask_forward(&r.valid, &resolved, ragged->padding, error);
  else if (!status) status = norma_cut_check_single(&r.cut, args->given_var, args->flags, args->ddof, error);
  if (!status && !r.masked) status = norma_cut_forward(&r.cut, &resolved, error);
  free(r.lengths);
  return status;
}

norma_status norma_ragged_backward(const norma_backward_args *args, const norma_ragged *ragged, norma_error *error) {
  reading r = {.lengths = NULL};
  norma_status status = check_ragged(ragged, error);
  if (!status) status = check_backward(args, error);
  if (status) return status;
  norma_backward_args resolved = *args;
  norma_slots slots;
  norma_backward_slots(&slots, &resolved);
  status = read_ragged(&r, args->layer, ragged, error);
  if (!status) status = check_gamma(&r.layer, args->weight, error);
  if (!status && r.masked) status = norma_mask_backward(&r.valid, &resolved, error);
  else if (!status) status = norma_cut_check_single(&r.cut, args->given_var, args->flags, args->ddof, error);
  if (!status && !r.masked) status = norma_cut_backward(&r.cut, &resolved, error);
  free(r.lengths);
  return status;
}
