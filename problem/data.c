/*
 * The values of the inputs. Each is a function of the seed, the tensor's role and the logical index alone, so one
 * problem in two layouts holds the same numbers.
 */
#include "internal.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

/* Streams of the generator: one per role, and one per role for what a whole unit has in common. */
enum { UNIT_STREAM = 64 };

/* How one tensor of data is filled. */
typedef struct filler {
  problem_fill fill;
  const norma_layer *layer;
  norma_type type;
  uint64_t seed, stream;
  int64_t elements, unit_elements;
} filler;

static double largest(norma_type type) {
  switch (type) {
    case NORMA_F64: return DBL_MAX;
    case NORMA_F16: return 65504;
    case NORMA_BF16: return 0x1.fep127;
    default: return FLT_MAX;
  }
}

static double smallest_normal(norma_type type) {
  switch (type) {
    case NORMA_F64: return DBL_MIN;
    case NORMA_F16: return 0x1p-14;
    default: return FLT_MIN;
  }
}

/* The unit of a logical index, and the place within it: both count in mixed radix, the last axis fastest. */
static int64_t find_unit(const norma_layer *layer, int64_t index, int64_t *place) {
  int64_t unit = 0, units = 1, places = 1;
  *place = 0;
  for (int a = layer->axis_count - 1; a >= 0; a--) {
    int64_t length = layer->axes[a].length, at = index % length;
    index /= length;
    if (layer->axes[a].bits & NORMA_SHARE) {
      *place += at * places;
      places *= length;
    } else {
      unit += at * units;
      units *= length;
    }
  }
  return unit;
}

/* M D + D or M D - D, in two halves of a unit with opposite signs; M D for the odd one. */
static double exact_value(const filler *f, int64_t index) {
  int64_t place, unit = find_unit(f->layer, index, &place);
  uint64_t common = problem_bits(f->seed, f->stream + UNIT_STREAM, (uint64_t)unit);
  double m = (double)(int)(common % 17) - 8, d = ldexp(1, (int)(common >> 8 & 3) - 2);
  int64_t half = f->unit_elements / 2, partner = place < half ? place : place - half;
  if (place == 2 * half) {
    return m * d;
  }
  bool up = problem_bits(f->seed, f->stream, (uint64_t)(unit * f->unit_elements + partner)) & 1;
  return (up == (place < half) ? m + 1 : m - 1) * d;
}

static double outlier_value(const filler *f, int64_t index) {
  int64_t place, unit = find_unit(f->layer, index, &place);
  uint64_t where = problem_bits(f->seed, f->stream + UNIT_STREAM, (uint64_t)unit) % (uint64_t)f->unit_elements;
  if ((uint64_t)place != where) {
    return problem_normal_value(f->seed, f->stream, (uint64_t)index);
  }
  return f->fill.value != 0 ? f->fill.value : f->type == NORMA_F16 ? 6e4 : 1e8;
}

static double nan_value(const filler *f, int64_t index) {
  const double bad[4] = {NAN, -NAN, INFINITY, -INFINITY};
  uint64_t bits = problem_bits(f->seed, f->stream + UNIT_STREAM, 0);
  return (uint64_t)index == bits % (uint64_t)f->elements ? bad[bits >> 62]
                                                         : problem_normal_value(f->seed, f->stream, (uint64_t)index);
}

static double data_value(const filler *f, int64_t index) {
  uint64_t i = (uint64_t)index;
  switch (f->fill.data) {
    case PROBLEM_OFFSET: return f->fill.value + problem_normal_value(f->seed, f->stream, i);
    case PROBLEM_SCALE: return f->fill.value * problem_normal_value(f->seed, f->stream, i);
    case PROBLEM_CONSTANT: return f->fill.value;
    case PROBLEM_EXACT: return exact_value(f, index);
    case PROBLEM_HUGE: {
      double u = 2 * problem_uniform(f->seed, f->stream, i) - 1;
      return largest(f->type) * (u < 0 ? (u - 1) / 2 : (u + 1) / 2);
    }
    case PROBLEM_TINY: return smallest_normal(f->type) * problem_normal_value(f->seed, f->stream, i);
    case PROBLEM_OUTLIER: return outlier_value(f, index);
    case PROBLEM_NAN: return nan_value(f, index);
    default: return problem_normal_value(f->seed, f->stream, i);
  }
}

/* Weights about 1 (or, if the library adds the 1, about 0), biases and what is added to y about 0; few bits for exact
 * data. */
static double parameter_value(const problem *p, problem_role role, int64_t index) {
  uint64_t bits = problem_bits(p->seed, role, (uint64_t)index);
  if (p->x.data == PROBLEM_EXACT) {
    double power = ldexp(bits & 1 ? 1 : -1, (int)(bits >> 8 & 3) - 1);
    return role != PROBLEM_WEIGHT || p->plus_one ? (double)(int)(bits % 9) - 4 : power;
  }
  double normal = problem_normal_value(p->seed, role, (uint64_t)index) / 2;
  return role == PROBLEM_WEIGHT && !p->plus_one ? 1 + normal : normal;
}

/* Made-up statistics that suit the data, within what the parameters' type holds; for constant data some variances
 * are 0. */
static double given_value(const problem *p, problem_role role, int64_t unit) {
  double u = problem_uniform(p->seed, role, (uint64_t)unit);
  double center = 0, spread = 1;
  switch (p->x.data) {
    case PROBLEM_OFFSET: center = p->x.value; break;
    case PROBLEM_CONSTANT:
      center = p->x.value;
      spread = unit % 2;
      break;
    case PROBLEM_SCALE: spread = fabs(p->x.value); break;
    case PROBLEM_HUGE: spread = largest(p->type); break;
    case PROBLEM_TINY: spread = smallest_normal(p->type); break;
    default: break;
  }
  double value = role == PROBLEM_GIVEN_MEAN ? center + spread * (u - 0.5) : (0.5 + u) * spread * spread;
  double limit = largest(norma_param_type(p->type));
  return value > limit ? limit : value < -limit ? -limit : value;
}

bool problem_fill_inputs(problem_case *c, norma_error *error) {
  const problem *p = &c->spec;
  for (int role = 0; role < PROBLEM_INPUTS; role++) {
    problem_tensor *t = &c->tensors[role];
    if (!t->data || t->elements == 0) {
      continue;
    }
    double *values = malloc((size_t)t->elements * sizeof *values);
    if (!values) {
      return problem_fail(error, NORMA_NO_MEMORY, "no memory for %lld values", (long long)t->elements);
    }
    const norma_layer *layer = role == PROBLEM_STYLE ? &c->style_layer : &c->layer;
    bool gradient = role == PROBLEM_DY || role == PROBLEM_DSUM;
    filler f = {gradient ? p->dy : p->x, layer, p->type, p->seed, (uint64_t)role, t->elements,
                norma_layer_unit_elements(layer)};
    for (int64_t i = 0; i < t->elements; i++) {
      switch (role) {
        case PROBLEM_WEIGHT:
        case PROBLEM_AFTER:
        case PROBLEM_BIAS: values[i] = parameter_value(p, (problem_role)role, i); break;
        case PROBLEM_GIVEN_MEAN:
        case PROBLEM_GIVEN_VAR: values[i] = given_value(p, (problem_role)role, i); break;
        default: values[i] = data_value(&f, i);
      }
    }
    problem_tensor_set(t, values);
    free(values);
  }
  return true;
}
