/* Compares the outputs of a case with the reference. */
#include "internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------ one element --- */

/* The bits that every NaN result must have. */
static bool is_canonical_nan(norma_type type, const unsigned char *bits) {
  const uint64_t f64 = 0x7ff8000000000000u;
  const uint32_t f32 = 0x7fc00000u;
  const uint16_t f16 = 0x7e00u, bf16 = 0x7fc0u;
  switch (type) {
    case NORMA_F64: return memcmp(bits, &f64, sizeof f64) == 0;
    case NORMA_F16: return memcmp(bits, &f16, sizeof f16) == 0;
    case NORMA_BF16: return memcmp(bits, &bf16, sizeof bf16) == 0;
    default: return memcmp(bits, &f32, sizeof f32) == 0;
  }
}

static double round_to(norma_type type, double value) {
  unsigned char bits[8];
  double rounded;
  norma_from_double(type, &value, bits, 1, 1);
  norma_to_double(type, bits, 1, &rounded, 1);
  return rounded;
}

/* The error of one element, 0 where NaN meets NaN and Inf meets what rounds to Inf, Inf where they do not. */
static double element_error(norma_type type, const unsigned char *bits, double got, double expected, double bound) {
  if (isnan(expected)) {
    return is_canonical_nan(type, bits) ? 0 : INFINITY;
  }
  if (isnan(got)) {
    return INFINITY;
  }
  if (isinf(got) && !isinf(expected)) {
    return round_to(type, expected + (got > 0 ? bound : -bound)) == got ? 0 : INFINITY;
  }
  return got == expected ? 0 : fabs(got - expected);
}

/* -------------------------------------------------------------------------------------------------- one tensor --- */

static bool judge_tensor(const problem_tensor *t, const double *expected, const double *bound, problem_result *out,
                         norma_error *error) {
  size_t n = (size_t)t->elements, item = norma_type_size(t->type);
  double *got = malloc((n + 1) * sizeof *got);
  unsigned char *bits = malloc((n + 1) * item);
  bool good = got && bits;
  if (good) {
    problem_to_double(t, got);
    problem_tensor_gather(t, bits);
  } else {
    problem_fail(error, NORMA_NO_MEMORY, "no memory to judge %lld elements", (long long)t->elements);
  }
  out->pass = true;
  out->where = -1;
  for (size_t i = 0; good && i < n; i++) {
    double e = element_error(t->type, bits + i * item, got[i], expected[i], bound[i]);
    double ratio = e == 0 ? 0 : isinf(e) ? INFINITY : e / bound[i];
    out->pass = out->pass && (e == 0 || e <= bound[i]) && !isinf(e);
    out->largest_error = e > out->largest_error ? e : out->largest_error;
    if (out->where < 0 || !(ratio <= out->ratio)) {
      out->ratio = ratio;
      out->where = (int64_t)i;
      out->error = e;
      out->bound = bound[i];
      out->got = got[i];
      out->expected = expected[i];
    }
  }
  free(got);
  free(bits);
  good = good && problem_tensor_stray(t, error, &out->stray);
  out->pass = out->pass && !out->stray;
  return good;
}

/* ---------------------------------------------------------------------------------------------------- one case --- */

/* What the reference writes: an array for each output, and its bounds. */
typedef struct expectation {
  double *value[PROBLEM_ROLES], *bound[PROBLEM_ROLES];
} expectation;

static bool allocate(const problem_case *c, expectation *e, norma_error *error) {
  for (int role = PROBLEM_INPUTS; role < PROBLEM_ROLES; role++) {
    const problem_tensor *t = &c->tensors[role];
    if (t->data) {
      e->value[role] = calloc((size_t)t->elements + 1, sizeof(double));
      e->bound[role] = calloc((size_t)t->elements + 1, sizeof(double));
      if (!e->value[role] || !e->bound[role]) {
        return problem_fail(error, NORMA_NO_MEMORY, "no memory for the reference of %lld elements",
                            (long long)t->elements);
      }
    }
  }
  return true;
}

static bool refer(const problem_case *c, const expectation *e, norma_error *error) {
  const problem *p = &c->spec;
  bool adain = p->kind == PROBLEM_ADAIN;
  norma_reference out = {
      .size = sizeof out,
      .y = e->value[PROBLEM_Y],
      .y_bound = e->bound[PROBLEM_Y],
      .mean = e->value[PROBLEM_MEAN],
      .var = e->value[PROBLEM_VAR],
      .rstd = e->value[PROBLEM_RSTD],
      .dx = e->value[PROBLEM_DX],
      .dx_bound = e->bound[PROBLEM_DX],
      .dweight = e->value[PROBLEM_DWEIGHT],
      .dweight_bound = e->bound[PROBLEM_DWEIGHT],
      .dbias = e->value[PROBLEM_DBIAS],
      .dbias_bound = e->bound[PROBLEM_DBIAS],
      .dstyle = e->value[PROBLEM_DSTYLE],
      .dstyle_bound = e->bound[PROBLEM_DSTYLE],
      .sum = e->value[PROBLEM_SUM],
      .dafter = e->value[PROBLEM_DAFTER],
      .dafter_bound = e->bound[PROBLEM_DAFTER],
  };
  if (p->direction != PROBLEM_BACKWARD || e->value[PROBLEM_SUM]) {
    norma_status status =
        adain ? norma_reference_adain(&c->adain, &out, error) : norma_reference_forward(&c->forward, &out, error);
    if (status != NORMA_OK) {
      return false;
    }
  }
  if (p->direction != PROBLEM_FORWARD) {
    norma_status status = adain ? norma_reference_adain_backward(&c->adain, &out, error)
                                : norma_reference_backward(&c->backward, &out, error);
    return status == NORMA_OK;
  }
  return true;
}

static double largest_finite(const double *x, int64_t n) {
  double largest = 0;
  for (int64_t i = 0; i < n; i++) {
    largest = isfinite(x[i]) && fabs(x[i]) > largest ? fabs(x[i]) : largest;
  }
  return largest;
}

/*
 * mean, var and rstd are exact values (the mean to 1e-14 standard deviations) rounded once: half a unit in the last
 * place plus a little for the float64 result that is rounded. Where the variance leaves the range of float64, the
 * largest element takes the place of the standard deviation.
 */
static bool bound_statistics(const problem_case *c, const expectation *e, norma_error *error) {
  const problem_tensor *x = &c->tensors[PROBLEM_X];
  double *values = malloc(((size_t)x->elements + 1) * sizeof *values);
  if (!values) {
    return problem_fail(error, NORMA_NO_MEMORY, "no memory to judge %lld elements", (long long)x->elements);
  }
  problem_to_double(x, values);
  double largest = largest_finite(values, x->elements);
  free(values);
  bool f64 = c->spec.type == NORMA_F64;
  double relative = f64 ? 0x1p-50 : 0x1.0001p-24, least = f64 ? 0x1p-1074 : 0x1p-150;
  for (int64_t u = 0; u < c->tensors[PROBLEM_MEAN].elements; u++) {
    double var = e->value[PROBLEM_VAR][u], spread = var > 1e-290 && var < 1e300 ? sqrt(var) : largest;
    e->bound[PROBLEM_MEAN][u] = relative * fabs(e->value[PROBLEM_MEAN][u]) + 1e-14 * spread + least;
    e->bound[PROBLEM_VAR][u] = (relative + 1e-14) * var + least;
    e->bound[PROBLEM_RSTD][u] = (relative + 1e-14) * e->value[PROBLEM_RSTD][u] + least;
  }
  return true;
}

bool problem_judge(const problem_case *c, problem_report *report, norma_error *error) {
  expectation e = {{NULL}, {NULL}};
  memset(report, 0, sizeof *report);
  bool good = allocate(c, &e, error) && refer(c, &e, error);
  if (good && c->tensors[PROBLEM_MEAN].data) {
    good = bound_statistics(c, &e, error);
  }
  report->pass = true;
  for (int role = PROBLEM_INPUTS; good && role < PROBLEM_ROLES; role++) {
    if (c->tensors[role].data) {
      problem_result *result = &report->results[report->count++];
      result->role = (problem_role)role;
      good = judge_tensor(&c->tensors[role], e.value[role], e.bound[role], result, error);
      report->pass = report->pass && result->pass;
    }
  }
  report->checksum = problem_checksum(c);
  for (int role = 0; role < PROBLEM_ROLES; role++) {
    free(e.value[role]);
    free(e.bound[role]);
  }
  return good;
}
