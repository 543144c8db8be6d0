/* No byte outside the arrays is read or written: each array lies between two pages that may not be touched, flush
 * against either of them, at every alignment, for all sizes around the lane count and around a stretch of 4096. What
 * lies beside a written array holds canaries. The results do not depend on where the arrays lie. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"
#include "trial.h"

enum { X, Y, DY, DX, WEIGHT, BIAS, DWEIGHT, DBIAS, MEAN, VAR, RSTD, SAVED, MOMENTS, FORWARD, BACKWARD, ARRAYS };
static const char *const names[ARRAYS] = {"x",
                                          "y",
                                          "dy",
                                          "dx",
                                          "weight",
                                          "bias",
                                          "dweight",
                                          "dbias",
                                          "mean",
                                          "var",
                                          "rstd",
                                          "saved",
                                          "moments",
                                          "forward workspace",
                                          "backward workspace"};

/* Memory for each array, mapped once; what is placed in it now. */
typedef struct memory {
  guarded pages[ARRAYS];
  void *data[ARRAYS];
  size_t bytes[ARRAYS];
} memory;

static void memory_open(memory *m, size_t bytes) {
  for (int i = 0; i < ARRAYS; i++) {
    m->pages[i] = guarded_new(i == FORWARD || i == BACKWARD ? 16 * bytes
                              : i == SAVED || i == MOMENTS  ? 5 * bytes
                                                            : bytes);
  }
}

static void memory_close(memory *m) {
  for (int i = 0; i < ARRAYS; i++) {
    guarded_free(&m->pages[i]);
  }
}

/* `offset` counts elements of the array. */
static void place(memory *m, int array, guard_side side, size_t offset, size_t count, size_t size, const void *values) {
  m->bytes[array] = count * size;
  m->data[array] = guarded_place(&m->pages[array], side, offset * size, count * size);
  if (values != NULL) {
    memcpy(m->data[array], values, count * size);
  }
}

/* A workspace has the alignment of malloc. */
static void place_workspace(memory *m, int array, guard_side side, size_t bytes) {
  place(m, array, side, 0, (bytes + 15) / 16, 16, NULL);
}

/* The numbers of a trial in the types of the library, and the results that a plain call gives. */
typedef struct narrow_trial {
  void *x, *dy, *weight, *bias;
  outcome expected;
} narrow_trial;

static void place_all(memory *m, const trial *t, const narrow_trial *n, guard_side side, size_t offset) {
  size_t size = norma_type_size(t->type), psize = norma_type_size(norma_param_type(t->type));
  size_t elements = (size_t)norma_layer_elements(&t->layer), params = (size_t)norma_layer_params(&t->layer);
  size_t units = (size_t)norma_layer_units(&t->layer), poffset = offset % (64 / psize);
  place(m, X, side, offset, elements, size, n->x);
  place(m, DY, side, offset, elements, size, n->dy);
  place(m, Y, side, offset, elements, size, NULL);
  place(m, DX, side, offset, elements, size, NULL);
  place(m, WEIGHT, side, poffset, params, psize, n->weight);
  place(m, BIAS, side, poffset, params, psize, n->bias);
  place(m, DWEIGHT, side, poffset, params, psize, NULL);
  place(m, DBIAS, side, poffset, params, psize, NULL);
  place(m, MEAN, side, poffset, units, psize, NULL);
  place(m, VAR, side, poffset, units, psize, NULL);
  place(m, RSTD, side, poffset, units, psize, NULL);
  place(m, SAVED, side, offset % 2, units, sizeof(norma_saved), NULL);
  place(m, MOMENTS, side, offset % 2, units, sizeof(norma_moments), NULL);
}

static void check_all(const memory *m, const trial *t, const narrow_trial *n) {
  norma_type ptype = norma_param_type(t->type);
  int64_t elements = norma_layer_elements(&t->layer), params = norma_layer_params(&t->layer);
  int64_t units = norma_layer_units(&t->layer);
  for (int i = 0; i < ARRAYS; i++) {
    guarded_check(&m->pages[i], m->data[i], m->bytes[i], names[i]);
  }
  assert_memory_equal(m->data[X], n->x, m->bytes[X]);
  assert_memory_equal(m->data[DY], n->dy, m->bytes[DY]);
  assert_memory_equal(m->data[WEIGHT], n->weight, m->bytes[WEIGHT]);
  assert_memory_equal(m->data[BIAS], n->bias, m->bytes[BIAS]);
  assert_same_bits("y", t->type, m->data[Y], n->expected.y, elements);
  assert_same_bits("dx", t->type, m->data[DX], n->expected.dx, elements);
  assert_same_bits("dweight", ptype, m->data[DWEIGHT], n->expected.dweight, params);
  assert_same_bits("dbias", ptype, m->data[DBIAS], n->expected.dbias, params);
  assert_same_bits("mean", ptype, m->data[MEAN], n->expected.mean, units);
  assert_same_bits("var", ptype, m->data[VAR], n->expected.var, units);
  assert_same_bits("rstd", ptype, m->data[RSTD], n->expected.rstd, units);
  assert_memory_equal(m->data[SAVED], n->expected.saved, m->bytes[SAVED]);
  assert_memory_equal(m->data[MOMENTS], n->expected.moments, m->bytes[MOMENTS]);
}

static void run_between_guards(memory *m, const trial *t, const narrow_trial *n, guard_side side, size_t offset) {
  norma_error error;
  place_all(m, t, n, side, offset);
  norma_forward_args forward = {.size = sizeof forward,
                                .layer = &t->layer,
                                .type = t->type,
                                .x = m->data[X],
                                .y = m->data[Y],
                                .weight = m->data[WEIGHT],
                                .bias = m->data[BIAS],
                                .mean = m->data[MEAN],
                                .var = m->data[VAR],
                                .rstd = m->data[RSTD],
                                .saved = m->data[SAVED],
                                .moments = m->data[MOMENTS]};
  forward.workspace_size = norma_forward_workspace(&forward);
  place_workspace(m, FORWARD, side, forward.workspace_size);
  forward.workspace = m->data[FORWARD];
  norma_backward_args backward = {.size = sizeof backward,
                                  .layer = &t->layer,
                                  .type = t->type,
                                  .x = m->data[X],
                                  .dy = m->data[DY],
                                  .dx = m->data[DX],
                                  .weight = m->data[WEIGHT],
                                  .dweight = m->data[DWEIGHT],
                                  .dbias = m->data[DBIAS],
                                  .saved = offset % 2 ? m->data[SAVED] : NULL};
  backward.workspace_size = norma_backward_workspace(&backward);
  place_workspace(m, BACKWARD, side, backward.workspace_size);
  backward.workspace = m->data[BACKWARD];
  assert_ok(norma_forward(&forward, &error), &error);
  assert_ok(norma_backward(&backward, &error), &error);
  check_all(m, t, n);
}

/* One layer of this size in one type, flush against either page and at every alignment within `alignment` bytes. */
static void check_size(memory *m, const char *name, const norma_layer *layer, norma_type type, size_t alignment,
                       uint64_t *seed) {
  trial t = trial_new(layer, type, seed, 2, 1);
  norma_type ptype = norma_param_type(type);
  narrow_trial n = {from_doubles(type, t.x, norma_layer_elements(layer)),
                    from_doubles(type, t.dy, norma_layer_elements(layer)),
                    from_doubles(ptype, t.weight, norma_layer_params(layer)),
                    from_doubles(ptype, t.bias, norma_layer_params(layer)), trial_run(&t, &(manner){.in_place = 0})};
  problem_is("%s %s of %lld elements, ending at a guard page", name, norma_type_name(type),
             (long long)norma_layer_elements(layer));
  run_between_guards(m, &t, &n, GUARD_AFTER, 0);
  for (size_t offset = 0; offset < alignment / norma_type_size(type); offset++) {
    problem_is("%s %s of %lld elements, %zu elements after a guard page", name, norma_type_name(type),
               (long long)norma_layer_elements(layer), offset);
    run_between_guards(m, &t, &n, GUARD_BEFORE, offset);
  }
  free(n.x);
  free(n.dy);
  free(n.weight);
  free(n.bias);
  outcome_free(&n.expected);
  trial_free(&t);
}

static const struct {
  const char *name, *pattern, *affine, *sizes;
  int rms, ndim, varied; /* the dimension that takes all sizes */
  int64_t shape[4];
} layers[] = {{"layer", "n [d]", "d", NULL, 0, 2, 1, {2, 0}},
              {"rms", "n [d]", "d", NULL, 1, 2, 1, {2, 0}},
              {"batch 2-D, of many channels", "[n] c", "c", NULL, 0, 2, 1, {3, 0}},
              {"batch 2-D, of many samples", "[n] c", "c", NULL, 0, 2, 0, {0, 3}},
              {"batch 3-D", "[n] c [l]", "c", NULL, 0, 3, 2, {2, 2, 0}},
              {"instance", "n c [l]", "c", NULL, 0, 3, 2, {1, 2, 0}},
              {"group", "n (g [k]) [l]", "(g k)", "g=2", 0, 3, 2, {1, 4, 0}},
              {"layer channels first", "n [c] l", "c", NULL, 0, 3, 1, {1, 0, 3}},
              {"layer channels first, of many pixels", "n [c] l", "c", NULL, 0, 3, 2, {1, 3, 0}}};

static void sizes_between_guards(int64_t from, int64_t to, size_t alignment) {
  uint64_t seed = 51;
  memory m;
  memory_open(&m, (size_t)to * 4 * sizeof(double) + 64);
  for (size_t i = 0; i < COUNT(layers); i++) {
    for (int64_t size = from; size <= to; size++) {
      norma_layer layer;
      norma_error error;
      int64_t shape[4];
      memcpy(shape, layers[i].shape, sizeof shape);
      shape[layers[i].varied] = size;
      problem_is("%s", layers[i].name);
      assert_ok(norma_layer_parse(&layer, layers[i].pattern, layers[i].affine, layers[i].sizes, layers[i].ndim, shape,
                                  &error),
                &error);
      layer.rms = layers[i].rms;
      for (size_t k = 0; k < COUNT(all_types); k++) {
        check_size(&m, layers[i].name, &layer, all_types[k], alignment, &seed);
      }
    }
  }
  memory_close(&m);
}

static void sizes_1_to_40_at_every_alignment_within_64_bytes(void **state) {
  (void)state;
  sizes_between_guards(1, 40, 64);
}

static void sizes_around_a_stretch_of_4096(void **state) {
  (void)state;
  sizes_between_guards(4093, 4098, 16);
}

/* AdaIN: content, style, y or their gradients, the workspace. */
static void adain_between_guards(void **state) {
  (void)state;
  enum { CONTENT, STYLE, OUT, DCONTENT, DSTYLE, GRADIENT, SPACE, TENSORS };
  uint64_t seed = 52;
  guarded pages[TENSORS];
  for (int i = 0; i < TENSORS; i++) {
    pages[i] = guarded_new(i == SPACE ? 65536 : 4096);
  }
  for (int64_t size = 2; size <= 40; size++) {
    for (size_t k = 0; k < COUNT(all_types) * 2; k++) {
      norma_type type = all_types[k / 2];
      norma_layer content, style;
      norma_error error;
      assert_ok(norma_layer_instance(&content, 3, (int64_t[]){1, 2, size}, &error), &error);
      assert_ok(norma_layer_instance(&style, 3, (int64_t[]){1, 2, 42 - size}, &error), &error);
      adain_trial t = adain_new(&content, &style, type, &seed);
      adain_outcome expected = adain_run(&t, &(manner){.in_place = 0});
      problem_is("AdaIN %s, content of %lld, style of %lld, guard page %s", norma_type_name(type), (long long)size,
                 (long long)(42 - size), k % 2 ? "after" : "before");
      guard_side side = k % 2 ? GUARD_AFTER : GUARD_BEFORE;
      size_t bytes[TENSORS], bytes_each = norma_type_size(type) * 2;
      void *data[TENSORS];
      for (int i = 0; i < SPACE; i++) {
        bytes[i] = bytes_each * (size_t)(i == STYLE || i == DSTYLE ? 42 - size : size);
        data[i] = guarded_place(&pages[i], side, 0, bytes[i]);
      }
      norma_from_double(type, t.content, data[CONTENT], 1, 2 * size);
      norma_from_double(type, t.dy, data[GRADIENT], 1, 2 * size);
      norma_from_double(type, t.style, data[STYLE], 1, 2 * (42 - size));
      norma_adain_args args = {.size = sizeof args,
                               .content_layer = &content,
                               .style_layer = &style,
                               .type = type,
                               .content = data[CONTENT],
                               .style = data[STYLE],
                               .y = data[OUT],
                               .dy = data[GRADIENT],
                               .dcontent = data[DCONTENT],
                               .dstyle = data[DSTYLE]};
      args.workspace_size = norma_adain_workspace(&args);
      bytes[SPACE] = (args.workspace_size + 15) / 16 * 16;
      data[SPACE] = args.workspace = guarded_place(&pages[SPACE], side, 0, bytes[SPACE]);
      assert_ok(norma_adain(&args, &error), &error);
      assert_ok(norma_adain_backward(&args, &error), &error);
      for (int i = 0; i < TENSORS; i++) {
        guarded_check(&pages[i], data[i], bytes[i], "an array of AdaIN");
      }
      assert_same_adain(&t, &(adain_outcome){data[OUT], data[DCONTENT], data[DSTYLE]}, &expected);
      adain_outcome_free(&expected);
      adain_free(&t);
    }
  }
  for (int i = 0; i < TENSORS; i++) {
    guarded_free(&pages[i]);
  }
}

/* What lies between the elements of a slice stays as it was, forward and backward (trial_run looks). */
static void the_gaps_of_a_slice_stay_unchanged(void **state) {
  (void)state;
  uint64_t seed = 53;
  for (size_t i = 0; i < COUNT(layers); i++) {
    for (int64_t size = 1; size <= 40; size++) {
      norma_layer layer;
      norma_error error;
      int64_t shape[4];
      memcpy(shape, layers[i].shape, sizeof shape);
      shape[layers[i].varied] = size;
      assert_ok(norma_layer_parse(&layer, layers[i].pattern, layers[i].affine, layers[i].sizes, layers[i].ndim, shape,
                                  &error),
                &error);
      for (size_t k = 0; k < COUNT(all_types); k++) {
        trial t = trial_new(&layer, all_types[k], &seed, 2, 1);
        for (int l = 0; l < 2; l++) {
          layout gaps = l ? LAYOUT_MIXED : LAYOUT_SLICED;
          problem_is("%s %s of %lld, %s", layers[i].name, norma_type_name(t.type), (long long)size, layout_name(gaps));
          outcome o = trial_run(
              &t,
              &(manner){.x = gaps, .y = gaps, .dy = gaps, .dx = gaps, .own_workspace = 1, .in_place = (int)size % 2});
          outcome_free(&o);
        }
        trial_free(&t);
      }
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sizes_1_to_40_at_every_alignment_within_64_bytes),
      cmocka_unit_test(sizes_around_a_stretch_of_4096),
      cmocka_unit_test(adain_between_guards),
      cmocka_unit_test(the_gaps_of_a_slice_stay_unchanged),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
