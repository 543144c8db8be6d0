/* The names under which people know the layers. */
#include "cli.h"
#include "explain.h"

#include <ctype.h>
#include <string.h>

enum { ANY = NORMA_MAX_DIMS };

static const explain_name NAMES[] = {
    {"BatchNorm1d", FROM_PYTORCH, PROBLEM_BATCH, 2, 3, false},
    {"BatchNorm2d", FROM_PYTORCH, PROBLEM_BATCH, 4, 4, false},
    {"BatchNorm3d", FROM_PYTORCH, PROBLEM_BATCH, 5, 5, false},
    {"BatchNorm", FROM_PYTORCH, PROBLEM_BATCH, 2, ANY, false},
    {"InstanceNorm1d", FROM_PYTORCH, PROBLEM_INSTANCE, 3, 3, false},
    {"InstanceNorm2d", FROM_PYTORCH, PROBLEM_INSTANCE, 4, 4, false},
    {"InstanceNorm3d", FROM_PYTORCH, PROBLEM_INSTANCE, 5, 5, false},
    {"InstanceNorm", FROM_PYTORCH, PROBLEM_INSTANCE, 3, ANY, false},
    {"GroupNorm", FROM_PYTORCH, PROBLEM_GROUP, 2, ANY, false},
    {"LayerNorm", FROM_PYTORCH, PROBLEM_LAYER, 1, ANY, false},
    {"LayerNorm2d", FROM_PYTORCH, PROBLEM_LAYER, 4, 4, true},
    {"RMSNorm", FROM_PYTORCH, PROBLEM_RMS, 1, ANY, false},
    {"AdaIN", FROM_NORMA, PROBLEM_ADAIN, 3, ANY, false},
    {"BatchNormalization", FROM_ONNX, PROBLEM_BATCH, 2, ANY, false},
    {"InstanceNormalization", FROM_ONNX, PROBLEM_INSTANCE, 3, ANY, false},
    {"GroupNormalization", FROM_ONNX, PROBLEM_GROUP, 2, ANY, false},
    {"LayerNormalization", FROM_ONNX, PROBLEM_LAYER, 1, ANY, false},
    {"RMSNormalization", FROM_ONNX, PROBLEM_RMS, 1, ANY, false},
    {"keras.BatchNormalization", FROM_KERAS, PROBLEM_BATCH, 2, ANY, false},
    {"keras.GroupNormalization", FROM_KERAS, PROBLEM_GROUP, 2, ANY, false},
    {"keras.LayerNormalization", FROM_KERAS, PROBLEM_LAYER, 1, ANY, false},
    {"keras.RMSNormalization", FROM_KERAS, PROBLEM_RMS, 1, ANY, false},
};
enum { COUNT = sizeof NAMES / sizeof NAMES[0] };

/* Lower case, without _, - and spaces, and of the words before the last dot only keras. */
static void simplify(const char *text, char out[CLI_WORD]) {
  const char *last = strrchr(text, '.');
  int used = 0;
  if (last && strstr(text, "keras.") && strstr(text, "keras.") < last) used = 6;
  memcpy(out, "keras.", 6);
  for (const char *at = last ? last + 1 : text; *at && used < CLI_WORD - 1; at++) {
    if (!strchr("_- ", *at)) out[used++] = (char)tolower((unsigned char)*at);
  }
  out[used] = '\0';
}

const explain_name *explain_find_name(const char *text, const char **suggestion) {
  char wanted[CLI_WORD], known[CLI_WORD];
  int nearest = 0, least = CLI_WORD;
  simplify(text, wanted);
  for (int i = 0; i < COUNT; i++) {
    simplify(NAMES[i].name, known);
    bool begun = wanted[0] != '\0' && strncmp(known, wanted, strlen(wanted)) == 0;
    int d = begun ? strcmp(known, wanted) != 0 : cli_distance(wanted, known);
    if (d == 0) return &NAMES[i];
    bool shorter = begun && d == least && strlen(NAMES[i].name) < strlen(NAMES[nearest].name);
    if (d < least || shorter) nearest = i, least = d;
  }
  *suggestion = least == 1 || least * 2 < (int)strlen(wanted) ? NAMES[nearest].name : NULL;
  return NULL;
}

const explain_name *explain_other_rank(const explain_name *name, int ndim) {
  for (int i = 0; i < COUNT; i++) {
    bool alike = NAMES[i].kind == name->kind && NAMES[i].origin == name->origin && !NAMES[i].over_channels;
    if (alike && NAMES[i].min_dims <= ndim && ndim <= NAMES[i].max_dims) return &NAMES[i];
  }
  return NULL;
}
