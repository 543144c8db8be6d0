/* Floating-point exceptions belong to the caller: where the caller has unmasked them no call raises a signal, whatever
 * the numbers, and no call leaves a flag behind. And what a call asks of its arguments (is eps 0? is this variance
 * negative?) has the same answer where the caller's arithmetic takes denormals for 0. */
#define _GNU_SOURCE /* feenableexcept */
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>

#include "pool.h"
#include "support.h"

static norma_error error;

enum { N = 2, D = 4, ELEMENTS = N * D, LARGE = 8 * 16 * 600 };

/* Everything that a call needs is here before an exception is unmasked: the tests' own arithmetic raises none. */
static norma_layer layer, batch, large;
static const float ordinary[ELEMENTS] = {1, 2, 4, 7, 3, 1, 5, 2}, nan_var[D] = {NAN, 1, 1, 1}, zero_var[D] = {0};
static const float infinite[ELEMENTS] = {1, 2, INFINITY, 7, 3, 1, 5, 2}, constant[ELEMENTS] = {3, 3, 3, 3, 3, 3, 3, 3};
static const float huge[ELEMENTS] = {FLT_MAX, -FLT_MAX, FLT_MAX, 1, 1e38f, -1e38f, 1, 2};
static const double huge_f64[ELEMENTS] = {DBL_MAX, -DBL_MAX, DBL_MAX, 1, 1e300, -1e300, 1, 2};
static const double tiny_f64[ELEMENTS] = {1e-300, 2e-300, 1e-310, 0x1p-1074, 3e-308, 1e-309, 0, 2e-310};
static const uint32_t signalling[ELEMENTS] = {0x7f800001, 0x3f800000, 0xffa00000, 0, 1, 0x7f800002, 0x7f7fffff, 0};
static float y[ELEMENTS], other[ELEMENTS], mean[D], var[D], large_x[LARGE], large_y[LARGE];
static double wide[ELEMENTS], more[ELEMENTS], some[D];
static norma_threads threads;
static pool workers;

static norma_forward_args forward_args(norma_type type, const void *x) {
  int narrow = type == NORMA_F32;
  return (norma_forward_args){.size = sizeof(norma_forward_args), .layer = &layer, .type = type, .x = x,
                              .y = narrow ? (void *)y : (void *)wide, .mean = narrow ? (void *)mean : (void *)some};
}

static norma_backward_args backward_args(norma_type type, const void *x, const void *dy) {
  int narrow = type == NORMA_F32;
  return (norma_backward_args){.size = sizeof(norma_backward_args), .layer = &layer, .type = type, .x = x, .dy = dy,
                               .dx = narrow ? (void *)y : (void *)wide,
                               .dweight = narrow ? (void *)var : (void *)some};
}

static norma_status forward(const norma_forward_args *args) {
  norma_reference out = {.size = sizeof out, .y = more, .y_bound = wide};
  norma_status status = norma_forward(args, &error), reference = norma_reference_forward(args, &out, &error);
  norma_forward_workspace(args);
  return status == reference ? status : (norma_status)-1;
}

static norma_status backward(const norma_backward_args *args) {
  norma_reference out = {.size = sizeof out, .dx = more, .dx_bound = wide, .dweight = some};
  norma_status status = norma_backward(args, &error), reference = norma_reference_backward(args, &out, &error);
  norma_backward_workspace(args);
  return status == reference ? status : (norma_status)-1;
}

static norma_status adain(const void *content, const void *style, double alpha, double eps) {
  norma_adain_args args = {.size = sizeof args, .content_layer = &layer, .style_layer = &layer, .content = content,
                           .style = style, .y = y, .dy = style, .dcontent = y, .dstyle = other, .alpha = alpha,
                           .content_eps = eps, .style_eps = eps};
  norma_reference out = {.size = sizeof out, .y = more, .dx = more, .dstyle = wide};
  norma_status status[] = {norma_adain(&args, &error), norma_adain_backward(&args, &error),
                           norma_reference_adain(&args, &out, &error),
                           norma_reference_adain_backward(&args, &out, &error)};
  norma_adain_workspace(&args);
  return status[0] == status[1] && status[1] == status[2] && status[2] == status[3] ? status[0] : (norma_status)-1;
}

static norma_status running(const norma_moments *moments, double momentum, norma_not_finite not_finite) {
  return norma_running_update(&(norma_running_args){.size = sizeof(norma_running_args), .momentum = momentum,
                                                    .channels = 1, .moments = moments, .running_mean = mean,
                                                    .running_var = var, .not_finite = not_finite}, &error);
}

static norma_status fold(const float *mean_of, const float *var_of, double eps, unsigned flags) {
  return norma_fold(&(norma_fold_args){.size = sizeof(norma_fold_args), .layer = &batch, .mean = mean_of, .var = var_of,
                                       .gamma = ordinary, .eps = eps, .flags = flags, .scale = wide, .shift = more},
                    &error);
}

/* ---------------------------------------------------------------------------------------------------- the calls --- */

static norma_status nan_in_given_var(void) {
  norma_forward_args args = forward_args(NORMA_F32, ordinary);
  args.given_mean = ordinary;
  args.given_var = nan_var;
  return forward(&args);
}

static norma_status nan_in_given_var_backward(void) {
  norma_backward_args args = backward_args(NORMA_F32, ordinary, ordinary);
  args.given_mean = ordinary;
  args.given_var = nan_var;
  return backward(&args);
}

static norma_status eps_is_nan(void) {
  norma_forward_args args = forward_args(NORMA_F32, ordinary);
  args.eps = NAN;
  return forward(&args);
}

static norma_status eps_is_nan_backward(void) {
  norma_backward_args args = backward_args(NORMA_F32, ordinary, ordinary);
  args.eps = NAN;
  return backward(&args);
}

static norma_status variance_and_eps_are_0(void) {
  norma_forward_args args = forward_args(NORMA_F32, constant);
  args.flags = NORMA_EPS_ZERO;
  return forward(&args);
}

static norma_status with_threads(void) {
  return norma_forward(&(norma_forward_args){.size = sizeof(norma_forward_args), .layer = &large, .x = large_x,
                                             .y = large_y, .threads = &threads}, &error);
}

static norma_status forward_of(norma_type type, const void *x) {
  norma_forward_args args = forward_args(type, x);
  return forward(&args);
}

static norma_status backward_of(norma_type type, const void *x, const void *dy) {
  norma_backward_args args = backward_args(type, x, dy);
  return backward(&args);
}

static norma_status x_is_infinite(void) { return forward_of(NORMA_F32, infinite); }
static norma_status x_is_signalling(void) { return forward_of(NORMA_F32, signalling); }
static norma_status x_is_huge(void) { return forward_of(NORMA_F32, huge); }
static norma_status x_is_huge_f64(void) { return forward_of(NORMA_F64, huge_f64); }
static norma_status x_is_tiny_f64(void) { return forward_of(NORMA_F64, tiny_f64); }
static norma_status dy_is_infinite(void) { return backward_of(NORMA_F32, ordinary, infinite); }
static norma_status dy_is_huge(void) { return backward_of(NORMA_F32, ordinary, huge); }
static norma_status both_are_infinite(void) { return backward_of(NORMA_F32, infinite, infinite); }
static norma_status dy_is_huge_f64(void) { return backward_of(NORMA_F64, tiny_f64, huge_f64); }
static norma_status alpha_is_infinite(void) { return adain(ordinary, ordinary, INFINITY, 0); }
static norma_status alpha_is_nan(void) { return adain(ordinary, ordinary, NAN, 0); }
static norma_status eps_of_adain_is_nan(void) { return adain(ordinary, ordinary, 1, NAN); }
static norma_status style_is_infinite(void) { return adain(ordinary, infinite, 0.5, 0); }
static norma_status content_is_signalling(void) { return adain(signalling, huge, 2, 0); }
static norma_status fold_of_nan(void) { return fold(infinite, nan_var, 0, 0); }
static norma_status fold_of_zero(void) { return fold(ordinary, zero_var, 0, NORMA_EPS_ZERO); }
static norma_status fold_with_eps_nan(void) { return fold(ordinary, ordinary, NAN, 0); }

static const norma_moments nan_moments = {4, NAN, 0, INFINITY, 0}, huge_moments = {4, 1e300, 0, 1e300, 0};

static norma_status momentum_is_nan(void) { return running(&huge_moments, NAN, NORMA_NOT_FINITE_STORE); }
static norma_status momentum_is_infinite(void) { return running(&huge_moments, INFINITY, NORMA_NOT_FINITE_STORE); }
static norma_status running_nan(void) { return running(&nan_moments, 0, NORMA_NOT_FINITE_STORE); }
static norma_status running_too_large(void) { return running(&huge_moments, 0, NORMA_NOT_FINITE_STORE); }
static norma_status running_refused(void) { return running(&huge_moments, 0, NORMA_NOT_FINITE_REFUSE); }

static norma_status moments_of_infinity(void) {
  norma_moments moments = {0}, negative = {2, -INFINITY, 0, INFINITY, 0};
  norma_status added = norma_moments_add(&moments, NORMA_F32, infinite, ELEMENTS, 1, &error);
  norma_moments_merge(&moments, &negative);
  norma_status finished = norma_moments_finish(&moments, 1, &some[0], &some[1], &error);
  moments = (norma_moments){2, INFINITY, -INFINITY, DBL_MAX, DBL_MAX};
  return added ? added : finished ? finished : norma_moments_finish(&moments, 1, &some[0], &some[1], &error);
}

static norma_status conversions(void) {
  norma_to_double(NORMA_F32, signalling, 1, wide, ELEMENTS);
  norma_from_double(NORMA_F32, huge_f64, y, 1, ELEMENTS);
  norma_from_double(NORMA_F16, tiny_f64, y, 1, ELEMENTS);
  norma_from_double(NORMA_BF16, huge_f64, y, 1, ELEMENTS);
  return NORMA_OK;
}

static const struct {
  const char *name;
  norma_status (*run)(void);
  norma_status expected;
} calls[] = {
    {"NaN in given_var", nan_in_given_var, NORMA_OK},
    {"NaN in given_var, backward", nan_in_given_var_backward, NORMA_OK},
    {"NaN eps", eps_is_nan, NORMA_BAD_ARGUMENT},
    {"NaN eps, backward", eps_is_nan_backward, NORMA_BAD_ARGUMENT},
    {"variance 0, eps 0", variance_and_eps_are_0, NORMA_OK},
    {"Inf in x", x_is_infinite, NORMA_OK},
    {"signalling NaN in x", x_is_signalling, NORMA_OK},
    {"x up to FLT_MAX", x_is_huge, NORMA_OK},
    {"x up to DBL_MAX", x_is_huge_f64, NORMA_OK},
    {"denormal float64 x", x_is_tiny_f64, NORMA_OK},
    {"Inf in dy", dy_is_infinite, NORMA_OK},
    {"dy up to FLT_MAX", dy_is_huge, NORMA_OK},
    {"Inf in x and dy", both_are_infinite, NORMA_OK},
    {"dy up to DBL_MAX, denormal x", dy_is_huge_f64, NORMA_OK},
    {"Inf in x, with threads", with_threads, NORMA_OK},
    {"Inf alpha", alpha_is_infinite, NORMA_BAD_ARGUMENT},
    {"NaN alpha", alpha_is_nan, NORMA_BAD_ARGUMENT},
    {"NaN eps of AdaIN", eps_of_adain_is_nan, NORMA_BAD_ARGUMENT},
    {"Inf in the style", style_is_infinite, NORMA_OK},
    {"signalling NaN in the content", content_is_signalling, NORMA_OK},
    {"fold of NaN and Inf", fold_of_nan, NORMA_OK},
    {"fold of variance 0 and eps 0", fold_of_zero, NORMA_OK},
    {"fold with NaN eps", fold_with_eps_nan, NORMA_BAD_ARGUMENT},
    {"NaN momentum", momentum_is_nan, NORMA_BAD_ARGUMENT},
    {"Inf momentum", momentum_is_infinite, NORMA_BAD_ARGUMENT},
    {"running statistics of NaN", running_nan, NORMA_OK},
    {"running statistics beyond float32", running_too_large, NORMA_OK},
    {"running statistics beyond float32, refused", running_refused, NORMA_NOT_FINITE},
    {"moments of Inf", moments_of_infinity, NORMA_OK},
    {"conversions", conversions, NORMA_OK},
};

static void prepare(void) {
  assert_ok(norma_layer_norm(&layer, 1, 2, (int64_t[]){N, D}, &error), &error);
  assert_ok(norma_layer_batch(&batch, 2, (int64_t[]){N, D}, &error), &error);
  assert_ok(norma_layer_batch(&large, 3, (int64_t[]){8, 16, 600}, &error), &error);
  for (int i = 0; i < LARGE; i++) {
    large_x[i] = infinite[i % 5 == 0 ? i / 5 % ELEMENTS : 0];
  }
  workers = (pool){.threads = 2};
  threads = pool_threads(&workers);
  memset(mean, 0, sizeof mean);
  memset(var, 0, sizeof var);
}

/* ---------------------------------------------------------------------------------------------- traps and flags --- */

#if defined(__GLIBC__) && defined(__x86_64__)
enum { TRAPS = FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW };
static int traps_on(void) { return feclearexcept(FE_ALL_EXCEPT) == 0 && feenableexcept(TRAPS) != -1; }
static int traps_now(void) { return fegetexcept(); }
static void traps_off(void) { fedisableexcept(FE_ALL_EXCEPT); }
#else
enum { TRAPS = 0 };
static int traps_on(void) { return 0; }
static int traps_now(void) { return 0; }
static void traps_off(void) {}
#endif

static sigjmp_buf raised;

static void on_signal(int signal_number) { siglongjmp(raised, signal_number); }

/* The signal that a call raises with traps on, or 0. */
static int signal_of(norma_status (*run)(void), norma_status *status, int *traps_after) {
  struct sigaction before, ours = {.sa_handler = on_signal};
  sigemptyset(&ours.sa_mask);
  sigaction(SIGFPE, &ours, &before);
  int number = sigsetjmp(raised, 1);
  if (number == 0 && traps_on()) {
    *status = run();
    *traps_after = traps_now();
  }
  traps_off();
  sigaction(SIGFPE, &before, NULL);
  return number;
}

static norma_status divide(void) {
  volatile double zero = 0, one = 1;
  some[0] = one / zero;
  return NORMA_OK;
}

static void with_traps_on_no_call_raises_a_signal(void **state) {
  (void)state;
  prepare();
  if (!traps_on()) {
    skip(); /* this machine or C library has no traps */
  }
  workers.control = control_get(); /* the threads of the pool have them on, too */
  traps_off();
  norma_status status = NORMA_OK;
  int traps_after = 0;
  problem_is("a division by 0 of our own must be caught, or the rest proves nothing");
  assert_int_equal(signal_of(divide, &status, &traps_after), SIGFPE);
  for (size_t k = 0; k < COUNT(calls); k++) {
    problem_is("%s, traps on", calls[k].name);
    assert_int_equal(signal_of(calls[k].run, &status, &traps_after), 0);
    assert_int_equal(status, calls[k].expected);
    assert_int_equal(traps_after, TRAPS);
  }
  assert_true(workers.calls > 0 && workers.control_kept);
}

static void no_call_leaves_an_exception_flag_or_clears_one(void **state) {
  (void)state;
  static const int sets[] = {0, FE_INEXACT, FE_INVALID | FE_OVERFLOW, FE_ALL_EXCEPT};
  prepare();
  for (size_t k = 0; k < COUNT(calls) * COUNT(sets); k++) {
    int before = sets[k % COUNT(sets)];
    feclearexcept(FE_ALL_EXCEPT);
    feraiseexcept(before);
    before = fetestexcept(FE_ALL_EXCEPT); /* raising overflow may raise inexact, too */
    norma_status status = calls[k / COUNT(sets)].run();
    int after = fetestexcept(FE_ALL_EXCEPT);
    feclearexcept(FE_ALL_EXCEPT);
    problem_is("%s, flags 0x%x before, 0x%x after", calls[k / COUNT(sets)].name, (unsigned)before, (unsigned)after);
    assert_int_equal(status, calls[k / COUNT(sets)].expected);
    assert_int_equal(after, before);
  }
}

/* --------------------------------------------------------------------------------------------- denormals are not 0 */

static void denormal_arguments_are_not_taken_for_0(void **state) {
  (void)state;
  static const double x[ELEMENTS] = {0, 1e-155, 2e-155, 4e-155, 3e-155, 1e-155, 5e-155, 2e-155}, zero[D] = {0};
  uint64_t control = control_get();
  norma_type f64 = NORMA_F64;
  prepare();
  for (int s = -1; s < control_settings(); s++) {
    double out[3][ELEMENTS], scale[D], rstd[N];
    norma_forward_args args = {.size = sizeof args, .layer = &layer, .type = f64, .x = x, .y = out[0], .rstd = rstd,
                               .eps = 1e-310};
    norma_adain_args mix = {.size = sizeof mix, .content_layer = &layer, .style_layer = &layer, .type = f64,
                            .content = huge_f64 + 4, .style = x, .y = out[2], .alpha = 1e-310, .content_eps = 1e-310};
    norma_fold_args folding = {.size = sizeof folding, .layer = &batch, .type = f64, .mean = zero, .var = zero,
                               .scale = scale, .eps = 1e-310};
    norma_layer half;
    assert_ok(norma_layer_norm(&half, 1, 2, (int64_t[]){1, D}, &error), &error);
    mix.content_layer = mix.style_layer = &half;
    problem_is("%s", s < 0 ? "the usual setting" : control_setting_name(s));
    control_set(s < 0 ? control : control_setting(s, control));
    norma_status status[] = {
        norma_forward(&args, &error),
        norma_reference_forward(&args, &(norma_reference){.size = sizeof(norma_reference), .y = out[1]}, &error),
        norma_adain(&mix, &error), norma_fold(&folding, &error)};
    control_set(control);
    for (size_t k = 0; k < COUNT(status); k++) {
      assert_int_equal(status[k], NORMA_OK);
    }
    for (int i = 0; i < ELEMENTS; i++) { /* the default eps would leave nothing of y */
      assert_true(fabs(out[0][i] - out[1][i]) <= 1e-13);
    }
    assert_true(fabs(out[0][0]) > 0.5 && fabs(out[0][3]) > 0.5 && rstd[0] > 1e154 && rstd[0] < 1e155);
    assert_true(fabs(scale[0] * sqrt(1e-310) - 1) < 1e-12);
    assert_true(memcmp(out[2], huge_f64 + 4, sizeof(double[D])) == 0); /* alpha 1 would make it the style */
  }
}

static void denormal_negative_arguments_are_refused(void **state) {
  (void)state;
  static const double minus = -1e-310, zero = 0;
  static const float minus_f32 = -1e-40f, zero_f32 = 0;
  static const norma_moments one = {4, 1, 0, 4, 0};
  uint64_t control = control_get();
  norma_layer single;
  assert_ok(norma_layer_norm(&single, 1, 2, (int64_t[]){1, D}, &error), &error);
  for (int s = -1; s < control_settings(); s++) {
    for (int narrow = 0; narrow < 2; narrow++) {
      double running_var = 0;
      norma_type type = narrow ? NORMA_F32 : NORMA_F64;
      const void *x = narrow ? (const void *)ordinary : (const void *)tiny_f64;
      const void *zero_of = narrow ? (const void *)&zero_f32 : (const void *)&zero;
      const void *minus_of = narrow ? (const void *)&minus_f32 : (const void *)&minus;
      memcpy(&running_var, minus_of, norma_type_size(type));
      norma_forward_args f = {.size = sizeof f, .layer = &single, .type = type, .x = x, .y = wide,
                              .given_mean = zero_of, .given_var = minus_of};
      norma_backward_args b = {.size = sizeof b, .layer = &single, .type = type, .x = x, .dy = x, .dx = wide,
                               .given_mean = zero_of, .given_var = minus_of};
      norma_forward_args eps = {.size = sizeof eps, .layer = &single, .type = type, .x = x, .y = wide, .eps = minus};
      norma_running_args r = {.size = sizeof r, .type = type, .channels = 1, .moments = &one,
                              .running_var = &running_var};
      norma_running_args m = {.size = sizeof m, .type = type, .channels = 1, .moments = &one, .running_mean = wide,
                              .momentum = minus};
      norma_reference out = {.size = sizeof out, .y = more, .dx = more};
      control_set(s < 0 ? control : control_setting(s, control));
      norma_status status[] = {norma_forward(&f, &error), norma_reference_forward(&f, &out, &error),
                               norma_backward(&b, &error), norma_reference_backward(&b, &out, &error),
                               norma_forward(&eps, &error), norma_running_update(&r, &error),
                               norma_running_update(&m, &error)};
      size_t workspace = norma_forward_workspace(&eps);
      control_set(control);
      for (size_t k = 0; k < COUNT(status); k++) {
        problem_is("%s, %s, call %zu", s < 0 ? "the usual setting" : control_setting_name(s), norma_type_name(type), k);
        assert_int_equal(status[k], NORMA_BAD_ARGUMENT);
      }
      assert_int_equal(workspace, 0);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(with_traps_on_no_call_raises_a_signal),
      cmocka_unit_test(no_call_leaves_an_exception_flag_or_clears_one),
      cmocka_unit_test(denormal_arguments_are_not_taken_for_0),
      cmocka_unit_test(denormal_negative_arguments_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
