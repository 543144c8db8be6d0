/*
 * The parts of `norma explain`: reading what was typed (explain_input.c, explain_names.c, explain_call.c), what kind of
 * layer it is (explain_family.c), the same layer elsewhere (explain_same.c), what goes wrong with this shape
 * (explain_traps.c), the facts as lines (explain_facts.c), and the command (explain.c).
 */
#ifndef NORMA_EXPLAIN_H
#define NORMA_EXPLAIN_H

#include "problem/problem.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

enum { EXPLAIN_LINE = 512, EXPLAIN_LINES = 24 };

/* Lines of text, in the order in which they are shown. */
typedef struct explain_lines {
  int count;
  char text[EXPLAIN_LINES][EXPLAIN_LINE];
} explain_lines;

/* Whose conventions the words follow: the meaning of momentum, the defaults of eps, where the channels are. */
typedef enum explain_origin { FROM_NORMA, FROM_PYTORCH, FROM_ONNX, FROM_KERAS } explain_origin;

/* A layer as the field's modules divide them, whatever pattern or name it was typed as. */
typedef enum explain_family {
  FAMILY_BATCH,    /* all dimensions but the channels share */
  FAMILY_INSTANCE, /* all but the batch and the channels */
  FAMILY_GROUP,    /* all but the batch, and a part of the channels */
  FAMILY_LAYER,    /* whole dimensions share, none of the above */
  FAMILY_OTHER     /* dimensions that are split in another way */
} explain_family;

typedef enum explain_affine {
  AFFINE_NONE,
  AFFINE_OWN,  /* the parameters that the family's modules have */
  AFFINE_OTHER /* something that a module does not have: one gamma per sample, for example */
} explain_affine;

typedef struct explain_case {
  explain_origin origin;
  problem p;
  norma_layer layer; /* adain: of the content */
  double eps;
  double momentum; /* as PyTorch has it: the weight of the new value */
  explain_family family;
  explain_affine affine;
  bool bias;       /* gamma comes with a beta */
  bool partial;    /* gamma changes along a part of a dimension */
  int channels;    /* the dimension of the channels; -1 if there is none */
  int64_t groups;  /* FAMILY_GROUP */
  unsigned shared; /* bit d: dimension d shares as a whole */
} explain_case;

/* One known name of a layer. */
typedef struct explain_name {
  const char *name;
  explain_origin origin;
  problem_kind kind;
  int min_dims, max_dims;
  bool over_channels; /* layer norm of dimension 1 */
} explain_name;

/* NULL if no layer is called that; any prefix such as torch.nn. or keras.layers. is allowed, and letter case and _ do
 * not matter. suggestion is then the nearest name. */
const explain_name *explain_find_name(const char *text, const char **suggestion);
/* The same layer under the name that takes an input of ndim dimensions; NULL if there is none. */
const explain_name *explain_other_rank(const explain_name *name, int ndim);

/* "nn.GroupNorm(32, 64)": the name, and the arguments as settings. NULL if the text is not such a call. */
const explain_name *explain_read_call(const char *text, explain_lines *settings);

/* Reads the words of the command line. On failure detail has one line. */
bool explain_read(int count, char **words, explain_case *out, norma_error *error);
/* The numbers that divide n, as "1, 2, 4, 8". */
void explain_divisors(int64_t n, char *text, size_t size);
/* Fills family, affine, bias, channels, groups and shared from the layer. */
void explain_classify(explain_case *c);

void explain_add(explain_lines *lines, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Appends to a text of EXPLAIN_LINE characters. */
void explain_append(char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* 6422528 as "6,422,528". */
void explain_number(char *text, int64_t n);

/* The layer in one sentence, an example set, and the shapes; all are EXPLAIN_LINE characters. */
void explain_sentence(const explain_case *c, char *text);
void explain_example(const explain_case *c, char *text);
void explain_product(const norma_layer *layer, unsigned bit, bool has, char *text);
void explain_mean_shape(const explain_case *c, char *text);
void explain_gamma_shape(const explain_case *c, char *text);
int64_t explain_parameters(const explain_case *c);

typedef enum explain_framework { IN_PYTORCH, IN_ONNX, IN_KERAS, EXPLAIN_FRAMEWORKS } explain_framework;
const char *explain_framework_name(explain_framework framework);
/* One line of code, and remarks. exact is false if it is only the closest thing. */
void explain_same(const explain_case *c, explain_framework framework, char *code, explain_lines *remarks, bool *exact);

void explain_traps(const explain_case *c, explain_lines *traps);

#endif
