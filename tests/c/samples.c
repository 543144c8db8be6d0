/* See trial.h. */
#include "trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

norma_layer parse_layer(const char *pattern, const char *affine, const char *sizes, int ndim, const int64_t *shape) {
  norma_layer layer;
  norma_error error;
  problem_is("'%s' affine '%s'", pattern, affine);
  assert_ok(norma_layer_parse(&layer, pattern, affine, sizes, ndim, shape, &error), &error);
  return layer;
}

int sample_pair(int index, const char **name, norma_layer *content, norma_layer *style) {
  static const struct {
    const char *name, *pattern, *sizes;
    int ndim;
    int64_t content[5], style[5];
  } pairs[] = {
      {"AdaIN 3-D", "n c [l]", NULL, 3, {2, 3, 19}, {2, 3, 35}},
      {"AdaIN 4-D", "n c [h w]", NULL, 4, {3, 5, 9, 8}, {3, 5, 4, 6}},
      {"AdaIN 5-D", "n c [d h w]", NULL, 5, {2, 3, 2, 3, 4}, {2, 3, 3, 2, 5}},
      {"AdaIN of groups", "n (g [k]) [h w]", "g=2", 4, {2, 6, 4, 3}, {2, 8, 3, 5}},
      {"AdaIN of tokens", "n t [d]", NULL, 3, {2, 3, 20}, {2, 3, 18}},
      {"AdaIN of the batch", "[n] c [h w]", NULL, 4, {3, 4, 3, 5}, {2, 4, 4, 3}},
  };
  if (index >= (int)COUNT(pairs)) {
    return 0;
  }
  norma_error error;
  *name = pairs[index].name;
  problem_is("%s: '%s'", pairs[index].name, pairs[index].pattern);
  assert_ok(norma_layer_parse(content, pairs[index].pattern, "", pairs[index].sizes, pairs[index].ndim,
                              pairs[index].content, &error),
            &error);
  assert_ok(norma_layer_parse(style, pairs[index].pattern, "", pairs[index].sizes, pairs[index].ndim,
                              pairs[index].style, &error),
            &error);
  return 1;
}

int sample_layer(int index, const char **name, norma_layer *layer) {
  static const struct {
    const char *name, *pattern, *affine, *sizes;
    int rms, ndim;
    int64_t shape[5];
  } samples[] = {
      {"batch 2-D", "[n] c", "c", NULL, 0, 2, {37, 5}},
      {"batch 3-D", "[n] c [l]", "c", NULL, 0, 3, {5, 3, 19}},
      {"batch 4-D", "[n] c [h w]", "c", NULL, 0, 4, {3, 5, 4, 7}},
      {"batch 5-D", "[n] c [d h w]", "c", NULL, 0, 5, {2, 3, 2, 3, 5}},
      {"layer 1-D", "[d]", "d", NULL, 0, 1, {71}},
      {"layer 2-D", "n [d]", "d", NULL, 0, 2, {5, 67}},
      {"layer 3-D", "n t [d]", "d", NULL, 0, 3, {2, 3, 33}},
      {"layer over two", "n [t d]", "t d", NULL, 0, 3, {3, 5, 18}},
      {"layer 4-D", "n [c h w]", "c h w", NULL, 0, 4, {3, 4, 5, 6}},
      {"layer channels first", "n [c] h w", "c", NULL, 0, 4, {2, 21, 3, 4}},
      {"instance 3-D", "n c [l]", "c", NULL, 0, 3, {3, 4, 35}},
      {"instance 4-D", "n c [h w]", "c", NULL, 0, 4, {3, 5, 9, 8}},
      {"instance 5-D", "n c [d h w]", "c", NULL, 0, 5, {2, 3, 3, 4, 5}},
      {"group 2-D", "n (g [k])", "(g k)", "g=3", 0, 2, {4, 21}},
      {"group 3-D", "n (g [k]) [l]", "(g k)", "g=2", 0, 3, {3, 6, 17}},
      {"group 4-D", "n (g [k]) [h w]", "(g k)", "g=4", 0, 4, {3, 12, 5, 4}},
      {"group 5-D", "n (g [k]) [d h w]", "(g k)", "g=2", 0, 5, {2, 6, 2, 3, 4}},
      {"rms 2-D", "n [d]", "d", NULL, 1, 2, {4, 69}},
      {"rms 3-D", "n t [d]", "d", NULL, 1, 3, {2, 3, 35}},
      {"rms channels first", "n [c] h w", "c", NULL, 1, 4, {2, 20, 3, 4}},
      {"rms batch", "[n] c [h w]", "c", NULL, 1, 4, {3, 4, 3, 6}},
      {"FiLM instance", "n c [h w]", "n c", NULL, 0, 4, {3, 4, 5, 7}},
      {"conditional batch", "[n] c [h w]", "n c", NULL, 0, 4, {3, 4, 5, 3}},
      {"adaLN", "n t [d]", "n d", NULL, 0, 3, {3, 4, 18}},
      {"no affine", "n c [h w]", "", NULL, 0, 4, {2, 3, 5, 7}},
      {"custom split", "[n] (g [k]) h [w]", "g h", "g=3", 0, 4, {3, 6, 4, 5}},
      {"custom inner split", "n ([a] b [c]) w", "b w", "a=2 b=3", 0, 3, {3, 30, 4}},
      {"custom kept inside", "n [c] h [w]", "h", NULL, 0, 4, {2, 7, 3, 6}},
  };
  if (index >= (int)COUNT(samples)) {
    return 0;
  }
  norma_error error;
  *name = samples[index].name;
  problem_is("%s: '%s' affine '%s'", samples[index].name, samples[index].pattern, samples[index].affine);
  assert_ok(norma_layer_parse(layer, samples[index].pattern, samples[index].affine, samples[index].sizes,
                              samples[index].ndim, samples[index].shape, &error),
            &error);
  layer->rms = samples[index].rms;
  return 1;
}

norma_layer random_layer(uint64_t *seed) {
  char pattern[256] = "", affine[256] = "", sizes[256] = "", name = 'a';
  int ndim = 1 + (int)random_below(seed, 6);
  int64_t shape[NORMA_MAX_DIMS], elements = 1;
  for (int d = 0; d < ndim; d++) {
    int axes = 1 + (random_below(seed, 4) == 0);
    shape[d] = 1;
    strcat(pattern, axes > 1 ? " (" : " ");
    for (int a = 0; a < axes; a++, name++) {
      int64_t most = 600 / elements, length = 1 + random_below(seed, most < 7 ? most : 7);
      char text[32];
      snprintf(text, sizeof text, random_below(seed, 2) ? " [%c]" : " %c", name);
      strcat(pattern, text);
      snprintf(text, sizeof text, " %c=%lld", name, (long long)length);
      strcat(sizes, text);
      snprintf(text, sizeof text, " %c", name);
      strcat(affine, random_below(seed, 2) ? text : "");
      shape[d] *= length;
      elements *= length;
    }
    strcat(pattern, axes > 1 ? ")" : "");
  }
  norma_layer layer = parse_layer(pattern, affine, sizes, ndim, shape);
  layer.rms = random_below(seed, 4) == 0;
  return layer;
}

void element_maps(const norma_layer *layer, int64_t *unit, int64_t *param) {
  int64_t elements = norma_layer_elements(layer);
  for (int64_t i = 0; i < elements; i++) {
    int64_t rest = i, units = 1, params = 1;
    unit[i] = param[i] = 0;
    for (int k = layer->axis_count - 1; k >= 0; k--) {
      int64_t length = layer->axes[k].length, at = rest % length;
      rest /= length;
      if (!(layer->axes[k].bits & NORMA_SHARE)) {
        unit[i] += at * units;
        units *= length;
      }
      if (layer->axes[k].bits & NORMA_AFFINE) {
        param[i] += at * params;
        params *= length;
      }
    }
  }
}

double *unit_sums(const norma_layer *layer, const double *values, const double *factors) {
  int64_t elements = norma_layer_elements(layer), units = norma_layer_units(layer);
  int64_t *maps = malloc(sizeof(int64_t) * 2 * (size_t)elements);
  long double *sums = calloc((size_t)units, sizeof *sums);
  element_maps(layer, maps, maps + elements);
  for (int64_t i = 0; i < elements; i++) {
    sums[maps[i]] += (long double)values[i] * (factors != NULL ? (long double)factors[i] : 1);
  }
  double *rounded = malloc(sizeof(double) * (size_t)units);
  for (int64_t u = 0; u < units; u++) {
    rounded[u] = (double)sums[u];
  }
  free(maps);
  free(sums);
  return rounded;
}
