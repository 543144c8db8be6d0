/* The update of running statistics: conventions, and what happens to values that are not finite. */
#include "kernels/kernels.h"

#include <math.h>

static int64_t sample_count(const norma_running_args *args) { return args->samples > 1 ? args->samples : 1; }

static norma_status check_running(const norma_running_args *args, double *weight_of_new, int *ddof,
                                  norma_error *error) {
  norma_status status = norma_check_args(args, args ? args->size : 0, sizeof *args, "norma_running_args", error);
  if (status) return status;
  if (args->type != NORMA_F32 && args->type != NORMA_F64)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "type is %d (%s), running statistics are f32 or f64", (int)args->type,
                      norma_type_name(args->type));
  if (args->channels < 0 || args->samples < 0)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "%s is %lld, must not be negative",
                      args->channels < 0 ? "channels" : "samples",
                      (long long)(args->channels < 0 ? args->channels : args->samples));
  if (!args->moments && args->channels > 0) return norma_fail(error, NORMA_BAD_ARGUMENT, "moments is NULL");
  if ((unsigned)args->not_finite > NORMA_NOT_FINITE_SKIP)
    return norma_fail(error, NORMA_BAD_ARGUMENT, "not_finite is %d, must be one of norma_not_finite",
                      (int)args->not_finite);
  double momentum = args->momentum;
  if (!(momentum >= 0 && momentum <= 1))
    return norma_fail(error, NORMA_BAD_ARGUMENT, "momentum is %g, must be in (0, 1], or 0 for the default", momentum);
  *ddof = args->convention == NORMA_ONNX ? 0 : 1;
  switch (args->convention) {
    case NORMA_PYTORCH: *weight_of_new = momentum == 0 ? 0.1 : momentum; return NORMA_OK;
    case NORMA_ONNX: *weight_of_new = 1 - (momentum == 0 ? 0.9 : momentum); return NORMA_OK;
    case NORMA_CUMULATIVE:
      if (args->batches < 1)
        return norma_fail(error, NORMA_BAD_ARGUMENT, "batches is %lld, must count this batch too, so be at least 1",
                          (long long)args->batches);
      *weight_of_new = 1 / (double)args->batches;
      return NORMA_OK;
  }
  return norma_fail(error, NORMA_BAD_ARGUMENT, "convention is %d, must be one of norma_convention",
                    (int)args->convention);
}

/* The new statistics of a channel, averaged over the samples that have any; false if none has. */
static bool channel_statistics(const norma_running_args *args, int64_t channel, int ddof, double *mean, double *var) {
  int64_t samples = sample_count(args), used = 0;
  *mean = *var = 0;
  for (int64_t s = 0; s < samples; s++) {
    const norma_moments *m = &args->moments[s * args->channels + channel];
    double one_mean, one_var = 0;
    if (m->count == 0) continue;
    norma_moments_finish(m, args->running_var ? ddof : 0, &one_mean, &one_var, NULL);
    used++;
    *mean += (one_mean - *mean) / (double)used;
    *var += (one_var - *var) / (double)used;
  }
  return used > 0;
}

static void move(norma_type type, void *running, int64_t channel, double weight_of_new, double value) {
  double old = norma_load_one(type, running, channel, 0);
  /* With weight 1 the old value is gone, also if it was not finite. */
  double moved = weight_of_new == 1 ? value : (1 - weight_of_new) * old + weight_of_new * value;
  norma_store_one(type, running, channel, moved);
}

/* Judged in the type that would hold it: a variance of 1e40 is finite, but not as float32. */
static bool fits(norma_type type, double value) { return isfinite(type == NORMA_F32 ? (float)value : value); }

/* The three arrays of a call, as a layer on (samples, channels) sees them. */
static norma_status check_running_arrays(const norma_running_args *args, norma_error *error) {
  norma_layer layer;
  const int64_t shape[2] = {sample_count(args), args->channels};
  norma_status status = norma_layer_parse(&layer, "n c", "c", NULL, 2, shape, error);
  if (status) return status;
  const norma_operand moments = norma_bind(&layer, NORMA_ELEMENTS, args->moments, NORMA_F64, NULL);
  const norma_operand mean = norma_bind(&layer, NORMA_PARAMS, args->running_mean, args->type, NULL);
  const norma_operand var = norma_bind(&layer, NORMA_PARAMS, args->running_var, args->type, NULL);
  norma_argument list[] = {
      norma_array("moments", &layer, NORMA_ELEMENTS, &moments, NORMA_INPUT),
      norma_array("running_mean", &layer, NORMA_PARAMS, &mean, NORMA_OUTPUT),
      norma_array("running_var", &layer, NORMA_PARAMS, &var, NORMA_OUTPUT),
  };
  list[0].item = sizeof *args->moments;
  return norma_check_arguments(list, 3, error);
}

static norma_status check_values(const norma_running_args *args, norma_error *error) {
  int64_t samples = sample_count(args);
  for (int64_t i = 0; i < samples * args->channels; i++)
    if (args->moments[i].count < 0 || (args->moments[i].m2 < 0 && isfinite(args->moments[i].m2)))
      return norma_fail(error, NORMA_BAD_ARGUMENT, "moments[%lld] has count %lld and m2 %g, must not be negative",
                        (long long)i, (long long)args->moments[i].count, args->moments[i].m2);
  for (int64_t c = 0; args->running_var && c < args->channels; c++) {
    double old = norma_load_one(args->type, args->running_var, c, 0);
    if (old < 0)
      return norma_fail(error, NORMA_BAD_ARGUMENT, "running_var[%lld] is %g, a variance must not be negative",
                        (long long)c, old);
  }
  return NORMA_OK;
}

static norma_status check_channels(const norma_running_args *args, int ddof, norma_error *error) {
  int64_t samples = sample_count(args);
  for (int64_t i = 0; i < samples * args->channels; i++)
    if (args->running_var && args->moments[i].count > 0 && args->moments[i].count <= ddof)
      return norma_fail(error, NORMA_SINGLE_VALUE, "channel %lld has 1 value, its unbiased variance needs at least 2",
                        (long long)(i % args->channels));
  for (int64_t c = 0; args->not_finite == NORMA_NOT_FINITE_REFUSE && c < args->channels; c++) {
    double mean, var;
    if (channel_statistics(args, c, ddof, &mean, &var) && !(fits(args->type, mean) && fits(args->type, var)))
      return norma_fail(error, NORMA_NOT_FINITE, "channel %lld has mean %g and variance %g; no channel was updated",
                        (long long)c, mean, var);
  }
  return NORMA_OK;
}

static norma_status update(const void *arguments, norma_error *error) {
  const norma_running_args *args = arguments;
  double weight_of_new = 0, mean, var;
  int ddof = 0;
  norma_status status = check_running(args, &weight_of_new, &ddof, error);
  if (!status) status = check_running_arrays(args, error);
  if (!status) status = check_values(args, error);
  if (!status) status = check_channels(args, ddof, error);
  for (int64_t c = 0; !status && c < args->channels; c++) {
    if (!channel_statistics(args, c, ddof, &mean, &var)) continue;
    if (args->not_finite == NORMA_NOT_FINITE_SKIP && !(fits(args->type, mean) && fits(args->type, var))) continue;
    if (args->running_mean) move(args->type, args->running_mean, c, weight_of_new, mean);
    if (args->running_var) move(args->type, args->running_var, c, weight_of_new, var);
  }
  return status;
}

norma_status norma_running_update(const norma_running_args *args, norma_error *error) {
  return norma_run(update, args, error);
}
