/* A sample's results are those it has alone, wherever it lies in a batch, for layers whose units do not extend over the
 * batch; and large tensors have the same bits in every layout, at run lengths and channel counts about the kernels'
 * blocks and tiles, with tails, and above the size from which results are written past the caches. */
#include <stdbool.h>

#include "support.h"
#include "trial.h"

static const manner plain = {.in_place = 0};

/* n samples of c x h x w. */
typedef struct sample_shape {
  int64_t n, c, h, w;
} sample_shape;

/* ---------------------------------------------------------------------------------------------- batch position --- */

static const struct {
  const char *name, *pattern, *affine;
  int rms, grouped;
} separate[] = {{"instance", "n c [h w]", "c", 0, 0},
                {"group", "n (g [k]) [h w]", "(g k)", 0, 1},
                {"layer", "n c h [w]", "w", 0, 0},
                {"layer over a sample", "n [c h w]", "c h w", 0, 0},
                {"layer, channels first", "n [c] h w", "c", 0, 0},
                {"rms", "n c h [w]", "w", 1, 0},
                {"rms over a sample", "n [c h w]", "c h w", 1, 0}};

/* The last ones have more than 1 MiB of float32. */
static const sample_shape batches[] = {{5, 4, 3, 7},    {3, 6, 7, 9},     {7, 1, 1, 33},    {4, 96, 7, 7},
                                       {2, 257, 9, 13}, {3, 4, 150, 151}, {2, 600, 15, 16}, {3, 8, 3, 4097}};

static norma_layer separate_layer(size_t which, const sample_shape *s, int64_t n) {
  const char *sizes = !separate[which].grouped ? NULL : s->c % 4 == 0 ? "g=4" : "g=1";
  const int64_t shape[4] = {n, s->c, s->h, s->w};
  norma_layer layer = parse_layer(separate[which].pattern, separate[which].affine, sizes, 4, shape);
  layer.rms = separate[which].rms;
  return layer;
}

/* y and dx of every sample alone, contiguous, against its part of the batch in layout l. */
static void assert_position_is_nothing(size_t which, const sample_shape *s, norma_type type, layout l, uint64_t *seed) {
  norma_layer whole = separate_layer(which, s, s->n), single = separate_layer(which, s, 1);
  trial batch = trial_new(&whole, type, seed, 10, 1), alone = batch;
  int64_t part = s->c * s->h * s->w;
  size_t size = norma_type_size(type);
  outcome together = trial_run(&batch, &(manner){.x = l, .y = l, .dy = l, .dx = l});
  alone.layer = single;
  for (int64_t i = 0; i < s->n; i++) {
    problem_is("%s, sample %d of %d x %d x %d x %d, %s, %s", separate[which].name, (int)i, (int)s->n, (int)s->c,
               (int)s->h, (int)s->w, norma_type_name(type), layout_name(l));
    alone.x = batch.x + i * part;
    alone.dy = batch.dy + i * part;
    outcome apart = trial_run(&alone, &plain);
    assert_same_bits("y", type, (char *)together.y + (size_t)(i * part) * size, apart.y, part);
    assert_same_bits("dx", type, (char *)together.dx + (size_t)(i * part) * size, apart.dx, part);
    outcome_free(&apart);
  }
  outcome_free(&together);
  trial_free(&batch);
}

static void a_sample_in_a_batch_has_the_bits_it_has_alone(void **state) {
  (void)state;
  static const layout layouts[] = {LAYOUT_DENSE, LAYOUT_CHANNELS_LAST, LAYOUT_BATCH_LAST, LAYOUT_SLICED};
  uint64_t seed = 81;
  for (size_t which = 0; which < COUNT(separate); which++) {
    for (size_t b = 0; b < COUNT(batches); b++) {
      bool small = batches[b].n * batches[b].c * batches[b].h * batches[b].w < 10000;
      for (size_t k = 0; k < COUNT(all_types); k++) {
        for (size_t l = 0; l < COUNT(layouts); l++) {
          if (small || (b + which + k + 3 * l) % 11 == 0) { /* of the large ones not all */
            assert_position_is_nothing(which, &batches[b], all_types[k], layouts[l], &seed);
          }
        }
      }
    }
  }
}

/* ----------------------------------------------------------------------------------------------- large tensors --- */

static void assert_same_in_every_layout(const char *name, const norma_layer *layer, norma_type type, uint64_t *seed) {
  static const layout layouts[] = {LAYOUT_CHANNELS_LAST, LAYOUT_SLICED, LAYOUT_MISALIGNED};
  bool large = norma_layer_elements(layer) > 100000, rows = layer->ndim < 3; /* channels last, rows are contiguous */
  trial t = trial_new(layer, type, seed, 100, 1);
  outcome expected = trial_run(&t, &plain);
  for (size_t i = 0; i < COUNT(layouts); i++) {
    layout l = layouts[i];
    if (large && l != (rows ? LAYOUT_SLICED : LAYOUT_CHANNELS_LAST)) { /* it takes long */
      continue;
    }
    problem_is("%s of %lld x %lld x %lld, %s, %s", name, (long long)layer->shape[0], (long long)layer->shape[1],
               (long long)(layer->ndim > 2 ? layer->shape[2] : 1), norma_type_name(type), layout_name(l));
    outcome got = trial_run(&t, &(manner){.x = l, .y = l, .dy = l, .dx = l, .use_saved = (int)i & 1});
    assert_same_outcome(&t, &got, &expected);
    outcome_free(&got);
  }
  outcome_free(&expected);
  trial_free(&t);
}

/* Elements that are more than 1 MiB of a type. */
static int64_t more_than_a_mebibyte(norma_type type) { return (1 << 20) / (int64_t)norma_type_size(type) + 1; }

static const int64_t runs[] = {1, 15, 16, 17, 49, 63, 64, 65, 784, 4095, 4096, 4097, 9000};

/* Rows of every length, above and below the size that is written past the caches. */
static void large_rows_have_the_same_bits_in_every_layout(void **state) {
  (void)state;
  uint64_t seed = 82;
  for (size_t i = 0; i < COUNT(runs); i++) {
    for (size_t k = 0; k < COUNT(all_types); k++) {
      int64_t rows = more_than_a_mebibyte(all_types[k]) / runs[i] + 1;
      if ((k == 0 && i % 2 == 0) || i % 4 == k) {
        norma_layer layer = parse_layer("n [d]", "d", NULL, 2, (int64_t[]){rows, runs[i]});
        assert_same_in_every_layout("layer", &layer, all_types[k], &seed);
      }
      norma_layer short_one = parse_layer("n [d]", "d", NULL, 2, (int64_t[]){7, runs[i]});
      assert_same_in_every_layout("layer", &short_one, all_types[k], &seed);
    }
  }
}

/* Units that are several runs, or all of a channel. */
static void large_planes_have_the_same_bits_in_every_layout(void **state) {
  (void)state;
  uint64_t seed = 83;
  for (size_t i = 0; i < COUNT(runs); i++) {
    int64_t channels = more_than_a_mebibyte(NORMA_F32) / runs[i] / 2 + 1;
    int64_t samples = more_than_a_mebibyte(NORMA_F32) / runs[i] / 3 + 1;
    norma_layer instance = parse_layer("n c [l]", "c", NULL, 3, (int64_t[]){2, channels, runs[i]});
    norma_layer batch = parse_layer("[n] c [l]", "c", NULL, 3, (int64_t[]){samples, 3, runs[i]});
    assert_same_in_every_layout(i & 1 ? "instance" : "batch", i & 1 ? &instance : &batch, NORMA_F32, &seed);
  }
}

static void every_number_of_channels_has_the_same_bits_in_every_layout(void **state) {
  (void)state;
  static const int64_t channels[] = {1, 3, 4, 5, 96, 257, 600};
  static const struct {
    const char *name, *pattern;
  } layers[] = {{"batch", "[n] c [l]"}, {"instance", "n c [l]"}, {"layer, channels first", "n [c] l"}};
  uint64_t seed = 84;
  for (size_t i = 0; i < COUNT(channels); i++) {
    for (size_t j = 0; j < COUNT(layers); j++) {
      for (size_t k = 0; k < COUNT(all_types); k++) {
        int64_t length = more_than_a_mebibyte(all_types[k]) / 2 / channels[i] + 1;
        if (k == 0 || (i + j) % 3 + 1 == k) {
          norma_layer layer = parse_layer(layers[j].pattern, "c", NULL, 3, (int64_t[]){2, channels[i], length});
          assert_same_in_every_layout(layers[j].name, &layer, all_types[k], &seed);
        }
        norma_layer small = parse_layer(layers[j].pattern, "c", NULL, 3, (int64_t[]){3, channels[i], 19});
        assert_same_in_every_layout(layers[j].name, &small, all_types[k], &seed);
      }
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_sample_in_a_batch_has_the_bits_it_has_alone),
      cmocka_unit_test(large_rows_have_the_same_bits_in_every_layout),
      cmocka_unit_test(large_planes_have_the_same_bits_in_every_layout),
      cmocka_unit_test(every_number_of_channels_has_the_same_bits_in_every_layout),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
