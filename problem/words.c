/* The words of the grammar, canonical word first, and the error text that lists them. */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const problem_word problem_kind_words[] = {
    {"batch", PROBLEM_BATCH}, {"layer", PROBLEM_LAYER}, {"instance", PROBLEM_INSTANCE}, {"group", PROBLEM_GROUP},
    {"rms", PROBLEM_RMS},     {"adain", PROBLEM_ADAIN}, {"norm", PROBLEM_NORM},         {NULL, 0}};

const problem_word problem_layout_words[] = {{"contiguous", PROBLEM_CONTIGUOUS},
                                             {"channels_last", PROBLEM_CHANNELS_LAST},
                                             {"slice", PROBLEM_SLICE},
                                             {"reverse", PROBLEM_REVERSE},
                                             {"transpose", PROBLEM_TRANSPOSE},
                                             {"broadcast", PROBLEM_BROADCAST},
                                             {"nchw", PROBLEM_CONTIGUOUS},
                                             {"ncdhw", PROBLEM_CONTIGUOUS},
                                             {"nhwc", PROBLEM_CHANNELS_LAST},
                                             {"ndhwc", PROBLEM_CHANNELS_LAST},
                                             {NULL, 0}};

const problem_word problem_type_words[] = {
    {"f32", NORMA_F32}, {"f64", NORMA_F64}, {"f16", NORMA_F16}, {"bf16", NORMA_BF16}, {NULL, 0}};

const problem_word problem_direction_words[] = {
    {"fwd", PROBLEM_FORWARD}, {"bwd", PROBLEM_BACKWARD}, {"both", PROBLEM_FORWARD_BACKWARD}, {NULL, 0}};

const problem_word problem_stats_words[] = {
    {"input", PROBLEM_STATS_INPUT}, {"given", PROBLEM_STATS_GIVEN}, {"saved", PROBLEM_STATS_SAVED}, {NULL, 0}};

const problem_word problem_data_words[] = {{"normal", PROBLEM_NORMAL}, {"offset", PROBLEM_OFFSET},
                                           {"scale", PROBLEM_SCALE},   {"constant", PROBLEM_CONSTANT},
                                           {"exact", PROBLEM_EXACT},   {"huge", PROBLEM_HUGE},
                                           {"tiny", PROBLEM_TINY},     {"outlier", PROBLEM_OUTLIER},
                                           {"nan", PROBLEM_NAN},       {NULL, 0}};

const problem_word problem_affine_words[] = {
    {"no", PROBLEM_AFFINE_NONE}, {"weight", PROBLEM_AFFINE_WEIGHT}, {"yes", PROBLEM_AFFINE_BOTH}, {NULL, 0}};

const problem_word problem_activation_words[] = {{"none", NORMA_ACT_NONE}, {"relu", NORMA_RELU},
                                                 {"silu", NORMA_SILU},     {"gelu", NORMA_GELU},
                                                 {"gelu_tanh", NORMA_GELU_TANH}, {NULL, 0}};

const problem_word problem_add_words[] = {{"none", PROBLEM_ADD_NONE},
                                          {"before", PROBLEM_ADD_BEFORE},
                                          {"after", PROBLEM_ADD_AFTER},
                                          {"both", PROBLEM_ADD_BOTH},
                                          {NULL, 0}};

int problem_find_word(const problem_word *table, const char *word, size_t length) {
  for (; table->word; table++) {
    if (strlen(table->word) == length && memcmp(table->word, word, length) == 0) {
      return table->value;
    }
  }
  return -1;
}

const char *problem_word_of(const problem_word *table, int value) {
  for (; table->word; table++) {
    if (table->value == value) {
      return table->word;
    }
  }
  return "?";
}

void problem_list_words(const problem_word *table, char *out, size_t size) {
  size_t used = 0;
  out[0] = '\0';
  for (int i = 0; table[i].word && problem_word_of(table, table[i].value) == table[i].word; i++) {
    bool last = !table[i + 1].word || problem_word_of(table, table[i + 1].value) != table[i + 1].word;
    const char *separator = i == 0 ? "" : last ? " or " : ", ";
    used += (size_t)snprintf(out + used, size - used, "%s%s", separator, table[i].word);
    if (used >= size) {
      return;
    }
  }
}

bool problem_fail(norma_error *error, norma_status status, const char *format, ...) {
  if (error) {
    va_list arguments;
    va_start(arguments, format);
    error->status = status;
    vsnprintf(error->detail, sizeof error->detail, format, arguments);
    va_end(arguments);
    for (char *c = error->detail; *c; c++) { /* a quoted item may hold anything, the error stays one line */
      *c = (unsigned char)*c < ' ' || *c == 0x7f ? '?' : *c;
    }
  }
  return false;
}

const char *problem_kind_name(problem_kind kind) { return problem_word_of(problem_kind_words, kind); }

const char *problem_layout_name(problem_layout layout) { return problem_word_of(problem_layout_words, layout); }

const char *problem_data_name(problem_data data) { return problem_word_of(problem_data_words, data); }

const char *problem_role_name(problem_role role) {
  static const char *const names[PROBLEM_ROLES] = {
      "x", "style", "dy", "weight", "bias", "given_mean", "given_var", "residual", "after", "dsum", "y", "mean", "var",
      "rstd", "dx", "dweight", "dbias", "dstyle", "sum", "dafter"};
  return (unsigned)role < PROBLEM_ROLES ? names[role] : "?";
}

problem_affine problem_default_affine(problem_kind kind) {
  switch (kind) {
    case PROBLEM_RMS: return PROBLEM_AFFINE_WEIGHT; /* as every model that uses it */
    case PROBLEM_ADAIN:
    case PROBLEM_NORM: return PROBLEM_AFFINE_NONE;
    default: return PROBLEM_AFFINE_BOTH;
  }
}

bool problem_has_axes(problem_kind kind) { return kind == PROBLEM_LAYER || kind == PROBLEM_RMS; }
