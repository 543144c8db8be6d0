/* `norma explain`: what a layer does to a shape, in words, in numbers and in the code of other libraries. */
#include "cli.h"
#include "explain.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char HELP[] =
    "usage: norma explain NAME LENGTH... [KEY=VALUE...]\n"
    "       norma explain PATTERN LENGTH... [KEY=VALUE...]\n"
    "       norma explain PROBLEM\n"
    "\n"
    "Says which elements share a mean, how many means there are, the shapes of mean and gamma, the same layer in\n"
    "PyTorch, ONNX and Keras, the bytes it moves, and the traps of this shape.\n"
    "\n"
    "  norma explain BatchNorm2d 32 64 56 56\n"
    "  norma explain GroupNorm 32 64 56 56 g=32 eps=1e-6\n"
    "  norma explain LayerNorm 8 128 768\n"
    "  norma explain LayerNorm 32 64 56 56 normalized_shape=64,56,56\n"
    "  norma explain LayerNormalization 8 128 768 axis=-1\n"
    "  norma explain keras.layers.BatchNormalization 32 56 56 64 momentum=0.99\n"
    "  norma explain 'n (g [k]) [h w]' 32 64 56 56 g=32 affine='(g k)'\n"
    "  norma explain group:n8,c64,h14,w14,g=32,type=bf16,data=offset:1e4\n"
    "\n"
    "NAME is a PyTorch module, an ONNX operator or, with keras. before it, a Keras layer; eps, momentum, axis,\n"
    "normalized_shape, groups, affine and dtype mean what they mean there. PATTERN names the axes in the order of the\n"
    "shape, and brackets mark those that share a mean. PROBLEM is a problem string (docs/problem.md).\n"
    "\n"
    "  --json  the same facts for programs\n";

static void size_text(double bytes, char *text) {
  static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  for (; bytes >= 1024 && unit < 4; unit++) bytes /= 1024;
  snprintf(text, EXPLAIN_LINE, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

static const char *type_words(norma_type type) {
  static const char *const words[] = {"float32", "float64", "float16", "bfloat16"};
  return words[type];
}

/* Breaks at spaces; lines after the first are indented. */
static void print_wrapped(int indent, const char *text) {
  const int width = 112;
  int column = indent;
  while (*text) {
    int word = (int)strcspn(text, " ");
    if (column > indent && column + 1 + word > width) {
      printf("\n%*s", indent, "");
      column = indent;
    } else if (column > indent) {
      putchar(' ');
      column++;
    }
    printf("%.*s", word, text);
    column += word;
    text += word;
    while (*text == ' ') text++;
  }
  putchar('\n');
}

static void row(const char *label, const char *text) { printf("  %-24s%s\n", label, text); }

static void print_counts(const explain_case *c) {
  char text[EXPLAIN_LINE], number[32], product[EXPLAIN_LINE];
  const norma_layer *layer = &c->layer;
  explain_number(text, norma_layer_units(layer));
  explain_product(layer, NORMA_SHARE, false, product);
  if (product[0]) explain_append(text, "  =  %s", product);
  row(layer->rms ? "mean squares" : "means", text);
  explain_number(text, norma_layer_unit_elements(layer));
  explain_product(layer, NORMA_SHARE, true, product);
  if (product[0]) explain_append(text, "  =  %s", product);
  row("elements of each", text);
  explain_example(c, text);
  row(layer->rms ? "the first is over" : "the first mean is over", text);
  explain_mean_shape(c, text);
  row(layer->rms ? "shape of mean square" : "shape of mean", text);
  if (c->affine == AFFINE_NONE) {
    row("gamma and beta", "none");
    return;
  }
  explain_gamma_shape(c, text);
  row(c->bias ? "shape of gamma, beta" : "shape of gamma", text);
  explain_number(number, explain_parameters(c));
  row("parameters", number);
}

static void print_same(const explain_case *c) {
  char code[EXPLAIN_LINE];
  explain_lines remarks;
  bool exact;
  printf("\nThe same layer elsewhere\n");
  for (int f = 0; f < EXPLAIN_FRAMEWORKS; f++) {
    explain_same(c, (explain_framework)f, code, &remarks, &exact);
    printf("  %-24s", explain_framework_name((explain_framework)f));
    if (!exact) print_wrapped(26, "no single layer; written out it is");
    if (!exact) printf("%26s", "");
    print_wrapped(26, code);
    for (int i = 0; i < remarks.count; i++) {
      printf("%26s", "");
      print_wrapped(26, remarks.text[i]);
    }
  }
}

static void print_text(const explain_case *c) {
  char text[EXPLAIN_LINE], pattern[256] = "", affine[256] = "", problem_text[PROBLEM_TEXT_SIZE];
  const norma_layer *layer = &c->layer;
  double bytes = (double)norma_layer_elements(layer) * (double)norma_type_size(c->p.type);
  explain_sentence(c, text);
  print_wrapped(0, text);
  putchar('\n');
  norma_layer_format(layer, pattern, sizeof pattern, affine, sizeof affine, NULL);
  row("pattern", pattern);
  row("", layer->rms ? "(axes in brackets share a mean square)" : "(axes in brackets share a mean)");
  if (affine[0]) row("gamma changes along", affine);
  print_counts(c);
  snprintf(text, sizeof text, "%.9g", c->eps);
  row("eps", text);
  row("type", type_words(c->p.type));
  size_text(2 * bytes, text);
  explain_append(text, " at least: read x, write y");
  row("forward moves", text);
  size_text(3 * bytes, text);
  explain_append(text, " at least: read x and dy, write dx");
  row("backward moves", text);
  print_same(c);
  explain_lines traps;
  explain_traps(c, &traps);
  if (traps.count > 0) printf("\nTraps\n");
  for (int i = 0; i < traps.count; i++) {
    printf("  - ");
    print_wrapped(4, traps.text[i]);
  }
  problem_format(&c->p, problem_text, sizeof problem_text);
  printf("\nCheck the library on it: norma check '%s'\n", problem_text);
}

/* ------------------------------------------------------------------------------------------------- --json --- */

static void add_same(const explain_case *c, cJSON *root) {
  char code[EXPLAIN_LINE];
  explain_lines remarks;
  bool exact;
  cJSON *same = cJSON_AddObjectToObject(root, "same");
  for (int f = 0; f < EXPLAIN_FRAMEWORKS; f++) {
    explain_same(c, (explain_framework)f, code, &remarks, &exact);
    cJSON *object = cJSON_AddObjectToObject(same, explain_framework_name((explain_framework)f));
    cJSON_AddBoolToObject(object, "equivalent", exact);
    cJSON_AddStringToObject(object, "code", code);
    cJSON *list = cJSON_AddArrayToObject(object, "remarks");
    for (int i = 0; i < remarks.count; i++) cJSON_AddItemToArray(list, cJSON_CreateString(remarks.text[i]));
  }
}

static void add_lengths(cJSON *root, const char *name, const explain_case *c, unsigned bit, bool has) {
  cJSON *list = cJSON_AddArrayToObject(root, name);
  for (int a = 0; a < c->layer.axis_count; a++) {
    const norma_axis *axis = &c->layer.axes[a];
    if (((axis->bits & bit) != 0) == has) cJSON_AddItemToArray(list, cJSON_CreateNumber((double)axis->length));
  }
}

static int print_json(const explain_case *c) {
  char text[EXPLAIN_LINE], pattern[256] = "", affine[256] = "", problem_text[PROBLEM_TEXT_SIZE];
  double bytes = (double)norma_layer_elements(&c->layer) * (double)norma_type_size(c->p.type);
  cJSON *root = cJSON_CreateObject();
  explain_sentence(c, text);
  cJSON_AddStringToObject(root, "sentence", text);
  norma_layer_format(&c->layer, pattern, sizeof pattern, affine, sizeof affine, NULL);
  cJSON_AddStringToObject(root, "pattern", pattern);
  cJSON_AddStringToObject(root, "affine", affine);
  cJSON_AddBoolToObject(root, "rms", c->layer.rms);
  cJSON_AddNumberToObject(root, "means", (double)norma_layer_units(&c->layer));
  cJSON_AddNumberToObject(root, "elements_per_mean", (double)norma_layer_unit_elements(&c->layer));
  explain_example(c, text);
  cJSON_AddStringToObject(root, "example", text);
  add_lengths(root, "mean_shape", c, NORMA_SHARE, false);
  add_lengths(root, "gamma_axes", c, NORMA_AFFINE, true);
  cJSON_AddNumberToObject(root, "parameters", (double)explain_parameters(c));
  cJSON_AddStringToObject(root, "type", norma_type_name(c->p.type));
  cJSON_AddNumberToObject(root, "eps", c->eps);
  if (c->family == FAMILY_BATCH) cJSON_AddNumberToObject(root, "momentum_of_new_value", c->momentum);
  cJSON_AddNumberToObject(root, "forward_bytes", 2 * bytes);
  cJSON_AddNumberToObject(root, "backward_bytes", 3 * bytes);
  add_same(c, root);
  explain_lines traps;
  explain_traps(c, &traps);
  cJSON *list = cJSON_AddArrayToObject(root, "traps");
  for (int i = 0; i < traps.count; i++) cJSON_AddItemToArray(list, cJSON_CreateString(traps.text[i]));
  problem_format(&c->p, problem_text, sizeof problem_text);
  cJSON_AddStringToObject(root, "problem", problem_text);
  char *out = cJSON_Print(root);
  cJSON_Delete(root);
  if (!out) return cli_fail("out of memory");
  puts(out);
  free(out);
  return EXIT_GOOD;
}

int command_explain(int argc, char **argv) {
  bool json = false;
  int count = 0;
  char *words[64];
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
      fputs(HELP, stdout);
      return EXIT_GOOD;
    }
    if (strcmp(argv[i], "--json") == 0) {
      json = true;
    } else if (argv[i][0] == '-' && !isdigit((unsigned char)argv[i][1])) {
      return cli_fail("\"%s\" is not an option of this command; see norma explain --help", argv[i]);
    } else if (count == 64) {
      return cli_fail("too many words; see norma explain --help");
    } else {
      words[count++] = argv[i];
    }
  }
  if (count == 0) return cli_fail("what should be explained? For example: norma explain BatchNorm2d 32 64 56 56");
  explain_case c;
  norma_error error = {0};
  if (!explain_read(count, words, &c, &error)) return cli_fail("%s", error.detail);
  if (json) return print_json(&c);
  print_text(&c);
  return EXIT_GOOD;
}
