/* Statistics as a value: add, merge, finish. */
#include "kernels/float_env.h"
#include "kernels/kernels.h"

#include <math.h>

norma_status norma_moments_add(norma_moments *moments, norma_type type, const void *x, int64_t n, int64_t stride,
                               norma_error *error) {
  norma_layer layer;
  if (!moments) return norma_fail(error, NORMA_BAD_ARGUMENT, "moments is NULL");
  if (norma_type_size(type) == 0)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "type is %d, not a norma_type", (int)type);
  if (n < 0) return norma_fail(error, NORMA_BAD_SHAPE, "n is %lld, must not be negative", (long long)n);
  if (n == 0) return NORMA_OK;
  if (!x) return norma_fail(error, NORMA_BAD_ARGUMENT, "x is NULL");
  norma_status status = norma_check_type(type, "type", error);
  if (!status) status = norma_layer_norm(&layer, 1, 1, &n, error);
  if (status) return status;
  norma_operand data = norma_bind(&layer, NORMA_ELEMENTS, x, type, &stride);
  const norma_argument argument = norma_array("x", &layer, NORMA_ELEMENTS, &data, NORMA_INPUT);
  status = norma_check_arguments(&argument, 1, error);
  if (status) return status;
  norma_reduction reduction = norma_reduction_make(&layer, NORMA_UNITS);
  norma_reduction_view(&reduction, &data);
  norma_float_env env = norma_float_enter();
  norma_moments added = norma_column_moments(&reduction);
  norma_moments_join(moments, &added);
  norma_float_leave(env);
  return NORMA_OK;
}

void norma_moments_merge(norma_moments *into, const norma_moments *other) {
  if (!into || !other) return;
  norma_float_env env = norma_float_enter();
  norma_moments_join(into, other);
  norma_float_leave(env);
}

norma_status norma_moments_finish(const norma_moments *moments, int ddof, double *mean, double *var,
                                  norma_error *error) {
  if (!moments) return norma_fail(error, NORMA_BAD_ARGUMENT, "moments is NULL");
  norma_status status = norma_check_ddof(ddof, "ddof", error);
  if (status) return status;
  if (moments->count <= ddof)
    return norma_fail(error, NORMA_SINGLE_VALUE,
                      "the moments hold %lld values, a variance with ddof %d needs at least %d",
                      (long long)moments->count, ddof, ddof + 1);
  norma_float_env env = norma_float_enter();
  double both[2] = {moments->mean + moments->mean_lo, (moments->m2 + moments->m2_lo) / (double)(moments->count - ddof)};
  if (mean) norma_store(NORMA_F64, &both[0], mean, 1, 1);
  if (var) norma_store(NORMA_F64, &both[1], var, 1, 1);
  norma_float_leave(env);
  return NORMA_OK;
}

void norma_sums_merge(norma_sums *into, norma_type type, const norma_sums *other) {
  if (!into || !other || other->count == 0) return;
  if (into->count == 0) {
    *into = *other;
    return;
  }
  norma_float_env env = norma_float_enter();
  norma_partial_sums sum = {{into->dy, into->dy_lo}, {into->dy_xhat, into->dy_xhat_lo}};
  norma_partial_sums added = {{other->dy, other->dy_lo}, {other->dy_xhat, other->dy_xhat_lo}};
  if (type == NORMA_F64) { /* each has its own first: sum(dy - a) = sum(dy - b) + n * (b - a) */
    double shift = (double)other->count * (other->first - into->first);
    norma_sum_add(&added.first, (norma_sum){shift, 0});
  }
  norma_partial_sums_join(&sum, &added);
  into->count += other->count;
  into->dy = sum.first.hi, into->dy_lo = sum.first.lo;
  into->dy_xhat = sum.second.hi, into->dy_xhat_lo = sum.second.lo;
  norma_float_leave(env);
}
