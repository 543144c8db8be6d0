/* Writes a problem as its canonical string. */
#include "internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct writer {
  char *out;
  size_t size, used;
} writer;

static void put(writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(writer *w, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int n = vsnprintf(w->out + w->used, w->size - w->used, format, arguments);
  va_end(arguments);
  w->used += n > 0 ? (size_t)n : 0;
  if (w->used >= w->size) {
    w->used = w->size - 1; /* cut, as snprintf does */
  }
}

/* The shortest decimal number that reads as the same double. */
static void put_number(writer *w, const char *before, double value) {
  char text[40];
  for (int digits = 1; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, value);
    if (strtod(text, NULL) == value) {
      break;
    }
  }
  put(w, "%s%s", before, text);
}

static void put_fill(writer *w, const char *key, problem_fill fill) {
  if (fill.data != PROBLEM_NORMAL) {
    put(w, ",%s=%s", key, problem_data_name(fill.data));
  }
  bool always = fill.data == PROBLEM_OFFSET || fill.data == PROBLEM_SCALE || fill.data == PROBLEM_CONSTANT;
  if (always || fill.value != 0) {
    put_number(w, ":", fill.value);
  }
}

static void put_flag(writer *w, const char *key, int value) {
  if (value) {
    put(w, ",%s=%d", key, value);
  }
}

/* What says which elements share a mean, and where gamma changes. */
static void put_layer(writer *w, const problem *p) {
  if (p->kind == PROBLEM_GROUP) {
    put(w, ",g=%" PRId64, p->groups);
  }
  if (problem_has_axes(p->kind) && p->axes != 1u << (p->ndim - 1)) {
    const char *separator = ",axes=";
    for (int d = 0; d < p->ndim; d++) {
      if (p->axes >> d & 1) {
        put(w, "%s%s", separator, p->names[d]);
        separator = ".";
      }
    }
  }
  if (p->kind == PROBLEM_NORM) {
    put(w, ",pattern=%s", p->pattern);
    for (const char *at = p->sizes; *at;) {
      size_t n = strcspn(at, " ");
      put(w, ",%.*s", (int)n, at);
      at += n + (at[n] == ' ');
    }
  }
  put_flag(w, "rms", p->rms);
  if (p->affine == PROBLEM_AFFINE_LIST) {
    put(w, ",affine=%s", p->affine_list);
  } else if (p->affine != problem_default_affine(p->kind)) {
    put(w, ",affine=%s", problem_word_of(problem_affine_words, p->affine));
  }
  for (int d = 0; d < p->style_ndim; d++) {
    put(w, "%s%" PRId64, d ? "x" : ",style=", p->style_shape[d]);
  }
}

void problem_format(const problem *p, char *out, size_t size) {
  writer w = {out, size, 0};
  put(&w, "%s", problem_kind_name(p->kind));
  for (int d = 0; d < p->ndim; d++) {
    put(&w, "%s%s%" PRId64, d ? "," : ":", p->names[d], p->shape[d]);
  }
  put_layer(&w, p);
  if (p->layout != PROBLEM_CONTIGUOUS) {
    put(&w, ",layout=%s", problem_layout_name(p->layout));
  }
  if (p->out != (p->layout == PROBLEM_BROADCAST ? PROBLEM_CONTIGUOUS : p->layout)) {
    put(&w, ",out=%s", problem_layout_name(p->out));
  }
  if (p->type != NORMA_F32) {
    put(&w, ",type=%s", problem_word_of(problem_type_words, (int)p->type));
  }
  if (p->direction != PROBLEM_FORWARD) {
    put(&w, ",dir=%s", problem_word_of(problem_direction_words, p->direction));
  }
  if (p->stats != PROBLEM_STATS_INPUT) {
    put(&w, ",stats=%s", problem_word_of(problem_stats_words, p->stats));
  }
  put_fill(&w, "data", p->x);
  put_fill(&w, "dy", p->dy);
  if (p->has_eps) {
    put_number(&w, ",eps=", p->eps);
  }
  if (p->has_eps2) {
    put_number(&w, ",eps2=", p->eps2);
  }
  put_flag(&w, "ddof", p->ddof);
  put_flag(&w, "ddof2", p->ddof2);
  if (p->has_alpha) {
    put_number(&w, ",alpha=", p->alpha);
  }
  put_flag(&w, "plus_one", p->plus_one);
  if (p->activation) {
    put(&w, ",act=%s", problem_word_of(problem_activation_words, p->activation));
  }
  if (p->add) {
    put(&w, ",add=%s", problem_word_of(problem_add_words, p->add));
  }
  put_flag(&w, "inplace", p->inplace);
  put_flag(&w, "threads", p->threads);
  put_flag(&w, "workspace", p->workspace);
  put_flag(&w, "align", p->align);
  if (p->seed) {
    put(&w, ",seed=%" PRIu64, p->seed);
  }
}
