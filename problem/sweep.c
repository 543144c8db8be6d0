/*
 * The random sweep: problem `index` of sweep `seed`. It covers every kind, rank, type, layout, direction and kind of
 * data; most tensors stay below 20,000 elements, about one in 300 has units of 1e5 to 1e6.
 */
#include "internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Draws one number after another. */
typedef struct dice {
  uint64_t seed, stream, drawn;
} dice;

enum { SWEEP_STREAM = 1 << 20 }; /* apart from the streams of the data */

static int64_t roll(dice *d, int64_t sides) {
  return (int64_t)(problem_bits(d->seed, d->stream, d->drawn++) % (uint64_t)sides);
}

static bool chance(dice *d, int percent) { return roll(d, 100) < percent; }

static double between(dice *d, double low, double high) {
  return low + (high - low) * problem_uniform(d->seed, d->stream, d->drawn++);
}

/* 1 to most, every order of magnitude as likely as the next. */
static int64_t length(dice *d, int64_t most) {
  return most < 2 ? 1 : (int64_t)exp(between(d, 0, log((double)most + 1)));
}

static int64_t divisor(dice *d, int64_t of) {
  int64_t at = 1 + roll(d, of);
  while (of % at) {
    at--;
  }
  return at;
}

/* Two digits times a power of ten, so that the string stays short. */
static double decimal(dice *d, double low_exponent, double high_exponent) {
  char text[32];
  snprintf(text, sizeof text, "%.1e", pow(10, between(d, low_exponent, high_exponent)));
  return strtod(text, NULL);
}

/* --------------------------------------------------------------------------------------------------- the layer --- */

static void draw_shape(dice *d, problem *p) {
  static const char *const names[NORMA_MAX_DIMS] = {"n", "c", "s", "t", "u", "d", "h", "w"};
  bool needs_channels = p->kind != PROBLEM_LAYER && p->kind != PROBLEM_RMS && p->kind != PROBLEM_NORM;
  int least = needs_channels ? 2 : 1, most = chance(d, 85) ? 5 : NORMA_MAX_DIMS;
  p->ndim = least + (int)roll(d, most - least + 1);
  for (int i = 0; i < p->ndim; i++) {
    snprintf(p->names[i], sizeof p->names[i], "%s", names[i < 2 ? i : NORMA_MAX_DIMS - p->ndim + i]);
  }
  bool large = roll(d, 300) == 0;
  int64_t left = large ? 100000 + length(d, 900000) : chance(d, 30) ? 1 + roll(d, 20000) : length(d, 20000);
  int first = (int)roll(d, p->ndim); /* the dimension that may take most of it */
  for (int i = 0; i < p->ndim; i++) {
    int at = (first + i) % p->ndim;
    p->shape[at] = large && i == 0 ? left / length(d, 4) : length(d, left);
    left /= p->shape[at];
  }
  int empty = (int)roll(d, 150);
  if (empty < p->ndim && !(p->kind == PROBLEM_GROUP && empty == 1)) {
    p->shape[empty] = 0;
  }
}

/* A pattern of its own for each problem: dimensions whole or split, axes shared or not, gamma along any of them. */
static void draw_pattern(dice *d, problem *p) {
  char name = 'a', affine[PROBLEM_PATTERN_SIZE] = "";
  for (int i = 0; i < p->ndim; i++) {
    int64_t rest = p->shape[i];
    int pieces = rest > 1 && chance(d, 30) ? 2 : 1;
    char *pattern = p->pattern;
    size_t size = sizeof p->pattern;
    snprintf(pattern + strlen(pattern), size - strlen(pattern), "%s%s", i ? " " : "", pieces > 1 ? "(" : "");
    for (int piece = 0; piece < pieces; piece++, name++) {
      snprintf(pattern + strlen(pattern), size - strlen(pattern), chance(d, 50) ? "%s[%c]" : "%s%c", piece ? " " : "",
               name);
      if (chance(d, 40)) {
        snprintf(affine + strlen(affine), sizeof affine - strlen(affine), "%s%c", affine[0] ? " " : "", name);
      }
      if (piece > 0) {
        snprintf(p->sizes + strlen(p->sizes), sizeof p->sizes - strlen(p->sizes), "%s%c=%lld", p->sizes[0] ? " " : "",
                 name, (long long)divisor(d, rest));
      }
    }
    snprintf(pattern + strlen(pattern), size - strlen(pattern), "%s", pieces > 1 ? ")" : "");
  }
  p->rms = chance(d, 20);
  if (affine[0]) {
    p->affine = PROBLEM_AFFINE_LIST;
    memcpy(p->affine_list, affine, sizeof affine);
  }
}

static void draw_affine(dice *d, problem *p) {
  p->affine = problem_default_affine(p->kind);
  if (p->kind == PROBLEM_ADAIN || p->kind == PROBLEM_NORM || chance(d, 50)) {
    return;
  }
  if (chance(d, 60)) {
    const problem_affine plain[3] = {PROBLEM_AFFINE_NONE, PROBLEM_AFFINE_WEIGHT, PROBLEM_AFFINE_BOTH};
    p->affine = plain[roll(d, 3)];
    return;
  }
  for (int i = 0; i < p->ndim; i++) { /* conditional: along any dimensions */
    if (chance(d, 50)) {
      const char *name = p->kind == PROBLEM_GROUP && i == 1 ? (chance(d, 50) ? "g k" : "k") : p->names[i];
      size_t used = strlen(p->affine_list);
      snprintf(p->affine_list + used, sizeof p->affine_list - used, "%s%s", used ? " " : "", name);
      p->affine = PROBLEM_AFFINE_LIST;
    }
  }
}

static void draw_layer(dice *d, problem *p) {
  p->kind = (problem_kind)roll(d, PROBLEM_KINDS);
  draw_shape(d, p);
  if (p->kind == PROBLEM_GROUP) {
    p->groups = divisor(d, p->shape[1]);
  }
  if (problem_has_axes(p->kind)) {
    unsigned all = (1u << p->ndim) - 1;
    p->axes = chance(d, 50) ? all & ~((1u << roll(d, p->ndim)) - 1) : 1 + (unsigned)roll(d, all);
  }
  if (p->kind == PROBLEM_NORM) {
    draw_pattern(d, p);
  }
  draw_affine(d, p);
  if (p->kind == PROBLEM_ADAIN && chance(d, 70)) {
    int64_t units = p->shape[0] * p->shape[1], left = length(d, 20000 / (units > 0 ? units : 1));
    p->style_ndim = 1 + (int)roll(d, 3);
    for (int i = 0; i < p->style_ndim; i++) {
      p->style_shape[i] = length(d, left);
      left /= p->style_shape[i];
    }
  }
}

/* ---------------------------------------------------------------------------------------------------- the data --- */

/* Exponents of ten that the type holds with some room for N(0, 1). */
static double top_exponent(norma_type type) { return type == NORMA_F64 ? 307 : type == NORMA_F16 ? 4 : 37.6; }

static double bottom_exponent(norma_type type) { return type == NORMA_F64 ? -300 : type == NORMA_F16 ? -5 : -36; }

static problem_fill draw_data(dice *d, norma_type type) {
  static const int percent[PROBLEM_DATAS] = {25, 22, 18, 6, 7, 6, 6, 7, 3};
  int64_t at = roll(d, 100);
  problem_fill fill = {PROBLEM_NORMAL, 0};
  while (at >= percent[fill.data]) {
    at -= percent[fill.data];
    fill.data++;
  }
  double sign = chance(d, 50) ? 1 : -1, top = top_exponent(type), bottom = bottom_exponent(type);
  if (fill.data == PROBLEM_OFFSET) {
    fill.value = sign * decimal(d, 0, type == NORMA_F16 ? 4 : 7);
  } else if (fill.data == PROBLEM_SCALE) {
    fill.value = decimal(d, bottom, top);
  } else if (fill.data == PROBLEM_CONSTANT) {
    fill.value = chance(d, 20) ? 0 : sign * decimal(d, bottom / 3, top);
  } else if (fill.data == PROBLEM_OUTLIER && chance(d, 50)) {
    fill.value = sign * decimal(d, 2, top);
  }
  return fill;
}

static problem_fill draw_dy(dice *d, norma_type type) {
  problem_fill fill = {PROBLEM_NORMAL, 0};
  int64_t at = roll(d, 10);
  if (at == 0) {
    fill = (problem_fill){PROBLEM_CONSTANT, decimal(d, -2, 2)};
  } else if (at == 1) {
    fill = (problem_fill){PROBLEM_SCALE, decimal(d, type == NORMA_F16 ? -3 : -10, type == NORMA_F16 ? 3 : 10)};
  } else if (at == 2) {
    fill = (problem_fill){PROBLEM_OFFSET, decimal(d, 0, 3)};
  } else if (at == 3) {
    fill.data = PROBLEM_EXACT;
  }
  return fill;
}

static double draw_eps(dice *d, bool *given) {
  *given = chance(d, 40);
  return *given && chance(d, 65) ? decimal(d, -12, 2) : 0;
}

/* Unbiased statistics where every unit has two elements or more. */
static int draw_ddof(dice *d, const problem *p, bool style) {
  norma_layer layer;
  norma_status status = style ? problem_style_layer(p, &layer, NULL) : problem_layer(p, &layer, NULL);
  return chance(d, 20) && status == NORMA_OK && norma_layer_unit_elements(&layer) > 1;
}

/* ---------------------------------------------------------------------------------------------------- the call --- */

static void draw_memory(dice *d, problem *p) {
  p->layout = chance(d, 35) ? PROBLEM_CONTIGUOUS : (problem_layout)roll(d, PROBLEM_LAYOUTS);
  p->out = p->layout == PROBLEM_BROADCAST ? PROBLEM_CONTIGUOUS : p->layout;
  if (chance(d, 15)) {
    p->out = (problem_layout)roll(d, PROBLEM_BROADCAST);
  }
  p->inplace = p->out == p->layout && chance(d, 20);
  p->threads = chance(d, 15) ? 1 + (int)roll(d, 4) : 0;
  p->workspace = chance(d, 30);
  p->align = chance(d, 30) ? 1 + (int)roll(d, 15) : 0;
}

void problem_random(uint64_t seed, uint64_t index, problem *out) {
  static const norma_type types[8] = {NORMA_F32, NORMA_F32, NORMA_F32, NORMA_F32,
                                      NORMA_F64, NORMA_F64, NORMA_F16, NORMA_BF16};
  dice d = {seed, SWEEP_STREAM + index, 0};
  memset(out, 0, sizeof *out);
  draw_layer(&d, out);
  out->type = types[roll(&d, 8)];
  out->direction = (problem_direction)roll(&d, PROBLEM_DIRECTIONS);
  bool adain = out->kind == PROBLEM_ADAIN, backward = out->direction != PROBLEM_FORWARD;
  if (!adain && chance(&d, 30)) {
    out->stats = backward && chance(&d, 50) ? PROBLEM_STATS_SAVED : PROBLEM_STATS_GIVEN;
  }
  out->x = draw_data(&d, out->type);
  if (backward) {
    out->dy = draw_dy(&d, out->type);
  }
  out->eps = draw_eps(&d, &out->has_eps);
  out->ddof = draw_ddof(&d, out, false);
  if (adain) {
    out->eps2 = draw_eps(&d, &out->has_eps2);
    out->ddof2 = draw_ddof(&d, out, true);
    out->has_alpha = chance(&d, 60);
    out->alpha = !out->has_alpha || chance(&d, 20) ? 0 : (double)roll(&d, 13) / 8;
  }
  out->plus_one = !adain && chance(&d, 12);
  if (!adain && chance(&d, 30)) {
    out->activation = (norma_activation)(chance(&d, 20) ? NORMA_ACT_NONE : 1 + roll(&d, NORMA_GELU_TANH));
    out->add = (problem_add)(chance(&d, 40) ? PROBLEM_ADD_NONE : 1 + roll(&d, PROBLEM_ADD_BOTH));
  }
  draw_memory(&d, out);
  out->seed = (uint64_t)roll(&d, 100000);
}
