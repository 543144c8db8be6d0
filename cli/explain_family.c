/* Which of the field's modules a layer is, found from its axes alone. */
#include "explain.h"

#include <string.h>

/* How a dimension takes part: none, all or some of its axes have the bit. */
typedef enum part { NONE, ALL, SOME } part;

static part part_of(const norma_layer *layer, int dim, unsigned bit) {
  int with = 0, axes = 0;
  for (int a = 0; a < layer->axis_count; a++) {
    if (layer->axes[a].dim != dim) continue;
    axes++;
    with += (layer->axes[a].bits & bit) != 0;
  }
  return with == 0 ? NONE : with == axes ? ALL : SOME;
}

/* The only dimension that is cut into two axes, the outer kept and the inner shared; -1 if it is not like that. */
static int group_dimension(const norma_layer *layer, int64_t *groups) {
  int found = -1;
  for (int d = 0; d < layer->ndim; d++) {
    if (part_of(layer, d, NORMA_SHARE) != SOME) continue;
    if (found >= 0) return -1;
    found = d;
    int a = 0;
    while (layer->axes[a].dim != d) a++;
    bool two = a + 2 == layer->axis_count || layer->axes[a + 2].dim != d;
    if (!two || (layer->axes[a].bits & NORMA_SHARE)) return -1;
    *groups = layer->axes[a].length;
  }
  return found;
}

static bool is_split(const norma_layer *layer) {
  for (int d = 0; d < layer->ndim; d++) {
    if (part_of(layer, d, NORMA_SHARE) == SOME) return true;
  }
  return false;
}

/* The dimensions along which gamma changes; partial is true if it does so along a part of one. */
static unsigned affine_dimensions(const norma_layer *layer, bool *partial) {
  unsigned dims = 0;
  *partial = false;
  for (int d = 0; d < layer->ndim; d++) {
    part p = part_of(layer, d, NORMA_AFFINE);
    if (p != NONE) dims |= 1u << d;
    *partial |= p == SOME;
  }
  return dims;
}

static bool named_c(const norma_layer *layer, int dim) {
  for (int a = 0; a < layer->axis_count; a++) {
    if (layer->axes[a].dim == dim) return strcmp(layer->axes[a].name, "c") == 0;
  }
  return false;
}

/* The same sets can be several modules (n t [d] is layer norm, and instance norm if t is called channels): the name
 * that was typed decides, else what gamma changes along, else how much is shared. */
static explain_family family_of(const explain_case *c, unsigned affine, int *channels) {
  int ndim = c->layer.ndim;
  problem_kind kind = c->p.kind;
  unsigned kept = ((1u << ndim) - 1) & ~c->shared;
  bool by_name = kind != PROBLEM_NORM, layer_like = affine == c->shared;
  const int places[] = {1, ndim - 1};
  for (int i = 0; i < 2 && kind != PROBLEM_LAYER && kind != PROBLEM_RMS; i++) {
    int d = *channels = places[i];
    if (d < 1 || d >= ndim) continue;
    if (kept == 1u << d && (by_name || !layer_like)) return FAMILY_BATCH;
    bool likely = !layer_like && (affine != 0 || named_c(&c->layer, d) || ndim > 3);
    if (kept == (1u | 1u << d) && (by_name || likely)) return FAMILY_INSTANCE;
  }
  *channels = -1;
  return FAMILY_LAYER;
}

void explain_classify(explain_case *c) {
  const norma_layer *layer = &c->layer;
  unsigned affine = affine_dimensions(layer, &c->partial), every = (1u << layer->ndim) - 1;
  c->shared = 0;
  for (int d = 0; d < layer->ndim; d++) {
    if (part_of(layer, d, NORMA_SHARE) == ALL) c->shared |= 1u << d;
  }
  unsigned own = 0;
  if (is_split(layer)) {
    c->channels = group_dimension(layer, &c->groups);
    bool group = c->channels > 0 && (c->channels == 1 || c->channels == layer->ndim - 1) &&
                 c->shared == (every & ~(1u | 1u << c->channels));
    c->family = group ? FAMILY_GROUP : FAMILY_OTHER;
  } else {
    c->family = family_of(c, affine, &c->channels);
  }
  if (c->family == FAMILY_LAYER) own = c->shared;
  else if (c->family != FAMILY_OTHER) own = 1u << c->channels;
  c->affine = affine == 0 ? AFFINE_NONE : affine == own && !c->partial ? AFFINE_OWN : AFFINE_OTHER;
  c->bias = c->affine != AFFINE_NONE && c->p.affine != PROBLEM_AFFINE_WEIGHT;
}
