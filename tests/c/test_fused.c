/* Residuals and activations in a call: the same bits as the calls one after the other, in every type, layout and manner
 * of calling; gradients against difference quotients; what is refused. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

static norma_error error;

enum { N = 2, C = 6, L = 70, ELEMENTS = N * C * L };

static const norma_activation activations[] = {NORMA_ACT_NONE, NORMA_RELU, NORMA_SILU, NORMA_GELU, NORMA_GELU_TANH};

/* One layer with all its numbers, dense and in the type of the data. */
typedef struct numbers {
  norma_layer layer;
  norma_type type;
  void *x, *residual, *after, *dy, *dsum, *weight, *bias;
} numbers;

static void *random_of(norma_type type, uint64_t *seed, int64_t n, double mean) {
  double *values = random_array(seed, type, n, mean, 1);
  void *made = from_doubles(type, values, n);
  free(values);
  return made;
}

static numbers numbers_new(int kind, norma_type type, uint64_t seed) {
  const int64_t shape[] = {N, C, L};
  numbers m = {.type = type};
  norma_status (*const named[])(norma_layer *, int, const int64_t *, norma_error *) = {norma_layer_batch,
                                                                                      norma_layer_instance};
  assert_ok(kind < 2    ? named[kind](&m.layer, 3, shape, &error)
            : kind == 2 ? norma_layer_group(&m.layer, 3, 3, shape, &error)
            : kind == 3 ? norma_layer_norm(&m.layer, 1, 3, shape, &error)
                        : norma_layer_rms(&m.layer, 1, 3, shape, &error),
            &error);
  int64_t params = norma_layer_params(&m.layer);
  m.x = random_of(type, &seed, ELEMENTS, 0.5);
  m.residual = random_of(type, &seed, ELEMENTS, 0);
  m.after = random_of(type, &seed, ELEMENTS, 0);
  m.dy = random_of(type, &seed, ELEMENTS, 0.25);
  m.dsum = random_of(type, &seed, ELEMENTS, 0);
  m.weight = random_of(norma_param_type(type), &seed, params, 1);
  m.bias = random_of(norma_param_type(type), &seed, params, 0);
  return m;
}

static void numbers_free(numbers *m) {
  void *const all[] = {m->x, m->residual, m->after, m->dy, m->dsum, m->weight, m->bias};
  for (size_t i = 0; i < COUNT(all); i++) {
    free(all[i]);
  }
}

static norma_forward_args forward_of(const numbers *m, const void *x, void *y) {
  return (norma_forward_args){.size = sizeof(norma_forward_args), .layer = &m->layer, .type = m->type, .x = x, .y = y,
                              .weight = m->weight, .bias = m->bias};
}

static norma_backward_args backward_of(const numbers *m, const void *x, const void *dy, void *dx) {
  return (norma_backward_args){.size = sizeof(norma_backward_args), .layer = &m->layer, .type = m->type, .x = x,
                               .dy = dy, .dx = dx, .weight = m->weight};
}

static void forward(const norma_forward_args *args) { assert_ok(norma_forward(args, &error), &error); }
static void backward(const norma_backward_args *args) { assert_ok(norma_backward(args, &error), &error); }

/* Calls `check` for every layer and type. */
static void each(void (*check)(const numbers *m)) {
  for (int kind = 0; kind < 5; kind++) {
    for (int t = 0; t < 4; t++) {
      problem_is("layer %d, %s", kind, norma_type_name(all_types[t]));
      numbers m = numbers_new(kind, all_types[t], (uint64_t)(10 * kind + t));
      check(&m);
      numbers_free(&m);
    }
  }
}

/* --------------------------------------------------------------------------------------- the same in two calls --- */

static void check_before(const numbers *m) {
  double sum[ELEMENTS], added[ELEMENTS], y[ELEMENTS], expected[ELEMENTS];
  double *x = to_doubles(m->type, m->x, ELEMENTS), *residual = to_doubles(m->type, m->residual, ELEMENTS);
  for (int i = 0; i < ELEMENTS; i++) {
    x[i] = m->type == NORMA_F64 ? x[i] + residual[i] : (double)((float)x[i] + (float)residual[i]);
  }
  norma_from_double(m->type, x, added, 1, ELEMENTS);
  norma_forward_args args = forward_of(m, m->x, y);
  args.residual = m->residual;
  args.sum = sum;
  forward(&args);
  assert_same_bits("sum", m->type, sum, added, ELEMENTS);
  norma_forward_args plain = forward_of(m, added, expected);
  forward(&plain);
  assert_same_bits("y", m->type, y, expected, ELEMENTS);
  args.y = memcpy(y, m->x, norma_type_size(m->type) * ELEMENTS); /* y is x, sum is the residual */
  args.x = y;
  args.residual = memcpy(sum, m->residual, norma_type_size(m->type) * ELEMENTS);
  forward(&args);
  assert_same_bits("sum in place", m->type, sum, added, ELEMENTS);
  assert_same_bits("y in place", m->type, y, expected, ELEMENTS);
  args = forward_of(m, memcpy(sum, m->x, norma_type_size(m->type) * ELEMENTS), NULL);
  args.residual = m->residual;
  args.sum = sum; /* is x; and only the statistics are asked for */
  forward(&args);
  assert_same_bits("sum in x", m->type, sum, added, ELEMENTS);
  free(x);
  free(residual);
}

static void add_then_norm(void **state) {
  (void)state;
  each(check_before);
}

static void check_relu(const numbers *m) {
  double y[ELEMENTS], plain[ELEMENTS];
  norma_forward_args args = forward_of(m, m->x, y);
  args.activation = NORMA_RELU;
  forward(&args);
  args.activation = NORMA_ACT_NONE;
  args.y = plain;
  forward(&args);
  double *values = to_doubles(m->type, plain, ELEMENTS);
  for (int i = 0; i < ELEMENTS; i++) {
    values[i] = values[i] > 0 ? values[i] : 0;
  }
  norma_from_double(m->type, values, plain, 1, ELEMENTS);
  assert_same_bits("y", m->type, y, plain, ELEMENTS);
  free(values);
}

static void norm_then_relu(void **state) {
  (void)state;
  each(check_relu);
}

/* dx + dsum, rounded once, where dx alone is exact; and dafter is dz, here dy. */
static void check_gradients(const numbers *m) {
  double dx[ELEMENTS], with[ELEMENTS], dafter[ELEMENTS], zero[ELEMENTS] = {0};
  norma_backward_args args = backward_of(m, m->x, m->dy, dx);
  args.dafter = dafter;
  backward(&args);
  assert_same_bits("dafter", m->type, dafter, m->dy, ELEMENTS);
  args = backward_of(m, m->x, m->dy, with);
  args.dsum = zero;
  backward(&args);
  assert_same_bits("dx with a dsum of 0", m->type, with, dx, ELEMENTS);
  args.dy = zero;
  args.dsum = m->dsum;
  backward(&args);
  assert_same_bits("dx with a dy of 0", m->type, with, m->dsum, ELEMENTS);
  args.dy = m->dy;
  backward(&args);
  args.dx = memcpy(dx, m->dsum, norma_type_size(m->type) * ELEMENTS);
  args.dsum = dx;
  backward(&args);
  assert_same_bits("dx in dsum", m->type, dx, with, ELEMENTS);
}

static void gradients_of_residuals(void **state) {
  (void)state;
  each(check_gradients);
}

/* y and dafter where dy was or `after` was, and dafter without dx. */
static void check_in_place(const numbers *m) {
  size_t bytes = norma_type_size(m->type) * ELEMENTS;
  for (size_t k = 0; k < COUNT(activations); k++) {
    double y[ELEMENTS], place[ELEMENTS], dx[ELEMENTS], dafter[ELEMENTS];
    norma_forward_args args = forward_of(m, m->x, y);
    args.activation = activations[k];
    args.after = m->after;
    forward(&args);
    args.after = args.y = memcpy(place, m->after, bytes);
    forward(&args);
    assert_same_bits("y in after", m->type, place, y, ELEMENTS);
    norma_backward_args back = backward_of(m, m->x, m->dy, dx);
    back.activation = activations[k];
    back.bias = m->bias;
    back.after = m->after;
    back.dafter = dafter;
    backward(&back);
    back.dy = back.dafter = memcpy(place, m->dy, bytes);
    back.dx = y;
    backward(&back);
    assert_same_bits("dafter in dy", m->type, place, dafter, ELEMENTS);
    assert_same_bits("dx", m->type, y, dx, ELEMENTS);
    back.dx = NULL;
    back.dy = memcpy(place, m->dy, bytes);
    backward(&back);
    assert_same_bits("dafter alone", m->type, place, dafter, ELEMENTS);
    back = backward_of(m, m->x, memcpy(place, m->dy, bytes), place);
    back.activation = activations[k];
    back.bias = m->bias;
    back.after = m->after;
    backward(&back);
    assert_same_bits("dx in dy", m->type, place, dx, ELEMENTS);
  }
}

static void in_place(void **state) {
  (void)state;
  each(check_in_place);
}

/* ------------------------------------------------------------------------------------------------- exact cases --- */

/* A constant unit: z is beta exactly, and a constant dy gives dx = 0 exactly, whatever the activation. */
static void constants_stay_exact(void **state) {
  (void)state;
  for (size_t k = 0; k < COUNT(activations); k++) {
    numbers m = numbers_new((int)(k % 2), NORMA_F32, k);
    float *x = m.x, *dy = m.dy, y[ELEMENTS], dx[ELEMENTS];
    problem_is("activation %d", (int)activations[k]);
    for (int i = 0; i < ELEMENTS; i++) {
      x[i] = 0.1F;
      dy[i] = 0.3F;
    }
    norma_forward_args args = forward_of(&m, x, y);
    norma_backward_args back = backward_of(&m, x, dy, dx);
    args.activation = back.activation = activations[k];
    back.bias = m.bias;
    forward(&args);
    backward(&back);
    for (int i = 0; i < ELEMENTS; i++) {
      assert_true(y[i] == y[i / L * L] && dx[i] == 0);
    }
    numbers_free(&m);
  }
}

/* NaN reaches y of its unit and all its gradients, also through ReLU, whose slope elsewhere is 0. */
static void nan_passes(void **state) {
  (void)state;
  for (size_t k = 0; k < COUNT(activations); k++) {
    numbers m = numbers_new(1, NORMA_F32, k);
    float *x = m.x, y[ELEMENTS], dx[ELEMENTS], dafter[ELEMENTS];
    problem_is("activation %d", (int)activations[k]);
    x[3] = NAN;
    norma_forward_args args = forward_of(&m, x, y);
    norma_backward_args back = backward_of(&m, x, m.dy, dx);
    args.activation = back.activation = activations[k];
    args.after = back.after = m.after;
    back.bias = m.bias;
    back.dafter = dafter;
    forward(&args);
    backward(&back);
    for (int i = 0; i < ELEMENTS; i++) {
      uint32_t bits;
      memcpy(&bits, &y[i], sizeof bits);
      assert_true(isnan(y[i]) == (i < L) && isnan(dx[i]) == (i < L) && (i >= L || bits == 0x7fc00000));
      assert_true(isnan(dafter[i]) == (i < L && activations[k] != NORMA_ACT_NONE));
    }
    numbers_free(&m);
  }
}

/* ----------------------------------------------------------------------------------------------------- refused --- */

static void refused(norma_status got, const char *text) {
  if (got != NORMA_BAD_ARGUMENT && got != NORMA_OVERLAP) {
    fail_problem("%s", norma_status_text(got));
  }
  if (strncmp(error.detail, text, strlen(text)) != 0) {
    fail_problem("'%s' does not begin with '%s'", error.detail, text);
  }
}

static void what_is_refused(void **state) {
  (void)state;
  numbers m = numbers_new(0, NORMA_F32, 1);
  float y[ELEMENTS], sum[ELEMENTS], dx[ELEMENTS];
  const norma_forward_args good = forward_of(&m, m.x, y);
  const norma_backward_args good_back = backward_of(&m, m.x, m.dy, dx);
  norma_forward_args args = good;
  args.activation = (norma_activation)5;
  refused(norma_forward(&args, &error), "activation is 5");
  assert_int_equal(norma_forward_workspace(&args), 0);
  args = good;
  args.residual = m.residual;
  refused(norma_forward(&args, &error), "sum is NULL, but residual is set");
  args.sum = y;
  refused(norma_forward(&args, &error), "y overlaps sum");
  args.sum = (float *)m.x + 1;
  refused(norma_forward(&args, &error), "sum overlaps x");
  args.sum = sum;
  args.y = m.residual;
  refused(norma_forward(&args, &error), "y overlaps residual");
  args = good;
  args.sum = sum;
  refused(norma_forward(&args, &error), "sum is set, but residual is NULL");
  args = good;
  args.after = y + 1;
  refused(norma_forward(&args, &error), "y overlaps after");
  norma_backward_args back = good_back;
  back.activation = (norma_activation)-1;
  refused(norma_backward(&back, &error), "activation is -1");
  assert_int_equal(norma_backward_workspace(&back), 0);
  back = good_back;
  back.dafter = dx;
  refused(norma_backward(&back, &error), "dx overlaps dafter");
  back.dafter = m.x;
  refused(norma_backward(&back, &error), "dafter overlaps x");
  back.dafter = sum;
  back.activation = NORMA_RELU;
  refused(norma_backward(&back, &error), "after is NULL, but dafter is set");
  numbers_free(&m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(add_then_norm),          cmocka_unit_test(norm_then_relu),
      cmocka_unit_test(gradients_of_residuals), cmocka_unit_test(in_place),
      cmocka_unit_test(constants_stay_exact),   cmocka_unit_test(nan_passes),
      cmocka_unit_test(what_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
