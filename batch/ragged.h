/* What the files of ragged batches share. They use norma.h alone, and no floating-point arithmetic of their own: bytes
 * are moved, and calls of the core are put together. */
#ifndef NORMA_BATCH_RAGGED_H
#define NORMA_BATCH_RAGGED_H

#include "batch.h"
#include "norma_ragged.h"

#include <stdbool.h>

/* --------------------------------------------------------------------------------------------------- the arrays --- */

typedef enum norma_ragged_extent { NORMA_OF_ELEMENTS, NORMA_OF_UNITS, NORMA_OF_PARAMS } norma_ragged_extent;

/* One array among the arguments of a call: the field that points to it, and its strides, NULL strides resolved. */
typedef struct norma_slot {
  void *field;             /* the address of the pointer in the struct of arguments */
  const int64_t **strides_field; /* NULL for arrays that have no strides */
  norma_ragged_extent extent;
  size_t item;
  bool output;
  int64_t strides[NORMA_MAX_DIMS]; /* in items; 0 along dimensions that it does not vary along */
  void *original, *owned;          /* while a compact copy stands in for it */
} norma_slot;

enum { NORMA_MAX_SLOTS = 14 };

typedef struct norma_slots {
  int count;
  norma_slot slot[NORMA_MAX_SLOTS];
} norma_slots;

/* The arrays of these arguments, whose stride fields are set to point into `slots`; both must stay where they are. */
void norma_forward_slots(norma_slots *slots, norma_forward_args *args);
void norma_backward_slots(norma_slots *slots, norma_backward_args *args);
void *norma_slot_data(const norma_slot *slot);
/* Moves every array to a position of a dimension, where it varies along that. */
void norma_slots_advance(norma_slots *slots, int dim, int64_t position);

bool norma_axis_varies(const norma_axis *axis, norma_ragged_extent extent);
/* The axis of a dimension, NULL where that is split. */
const norma_axis *norma_only_axis(const norma_layer *layer, int dim);

/* ------------------------------------------------------------------------------------------------ what is valid --- */

/* Runs of valid positions: lengths or a mask over the neighbouring dimensions first..last, which count as one. */
typedef struct norma_valid {
  const norma_layer *layer;
  int first, last;
  const int64_t *lengths;
  const uint8_t *mask;
  const int64_t *mask_strides;
} norma_valid;

typedef enum norma_ragged_copy { NORMA_GATHER, NORMA_SCATTER } norma_ragged_copy;

/* The number of valid positions of a sample. */
int64_t norma_valid_count(const norma_valid *valid, int64_t sample);
/* Writes zeros at all that is not valid, of an array that varies along last, or lies within what does. */
void norma_clear_padding(const norma_valid *valid, const norma_slot *slot);

/* The layer on the tensors whose valid positions are taken together: first..last is one dimension of this length. */
norma_layer norma_compact_layer(const norma_valid *valid, int64_t length);
/* Puts dense copies, with zeros behind the valid positions, in place of all arrays that vary along first..last but for
 * parameters, and new strides for all others. norma_expand puts back what is
 * output, where `full` has it; norma_release frees the copies, also after an error. */
norma_status norma_compact(const norma_valid *valid, const norma_layer *compact, norma_slots *slots,
                           norma_error *error);
void norma_expand(const norma_valid *valid, norma_slots *slots, const norma_slots *full);
void norma_release(norma_slots *slots);

/* ------------------------------------------------------------------------------------------------------ lengths --- */

/* Lengths along one dimension of a layer's tensors, and what follows. */
typedef struct norma_cut {
  norma_layer layer;
  int dim;
  const int64_t *lengths;
  norma_padding padding;
  int64_t samples, longest, total;
  bool equal;  /* all lengths are */
  bool across; /* units span samples */
  bool within; /* units span positions of dim */
  bool gamma;  /* gamma changes along dim */
} norma_cut;

norma_status norma_cut_make(norma_cut *cut, const norma_layer *layer, int dim, const int64_t *lengths,
                            norma_padding padding, norma_error *error);
/* `given`: statistics are, and no number of values is wrong. */
norma_status norma_cut_check_single(const norma_cut *cut, bool given, unsigned flags, int ddof, norma_error *error);
/* The layer on `count` samples of one length. */
norma_layer norma_cut_layer(const norma_cut *cut, int64_t count, int64_t length);
/* How many samples from `first` on have its length. */
int64_t norma_cut_run(const norma_cut *cut, int64_t first);
norma_valid norma_cut_valid(const norma_cut *cut);

/* Arguments are known to be right. */
norma_status norma_cut_forward(const norma_cut *cut, const norma_forward_args *args, norma_error *error);
norma_status norma_cut_backward(const norma_cut *cut, const norma_backward_args *args, norma_error *error);

/* -------------------------------------------------------------------------------------------------------- masks --- */

/* Finds the dimensions first..last of a mask; `first` is 0 where it varies along dimension 0 alone. */
norma_status norma_mask_valid(norma_valid *valid, const norma_layer *layer, const norma_ragged *ragged,
                              norma_error *error);
/* The dimension whose lengths the mask is, which it writes; 0 if it is none. */
int norma_mask_lengths(const norma_valid *valid, int64_t *lengths);
norma_status norma_mask_forward(const norma_valid *valid, const norma_forward_args *args, norma_padding padding,
                                norma_error *error);
norma_status norma_mask_backward(const norma_valid *valid, const norma_backward_args *args, norma_error *error);

#endif
