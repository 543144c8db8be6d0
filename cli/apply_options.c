/* The options of `norma apply`: one table for parsing and for --help. */
#include "apply.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  BATCH = 1 << KIND_BATCH,
  INSTANCE = 1 << KIND_INSTANCE,
  GROUP = 1 << KIND_GROUP,
  LAYER = 1 << KIND_LAYER,
  RMS = 1 << KIND_RMS,
  ADAIN = 1 << KIND_ADAIN,
  PATTERN = 1 << KIND_PATTERN,
  NORM = BATCH | INSTANCE | GROUP | LAYER | RMS | PATTERN,
  ALL = NORM | ADAIN,
  RUNNING = BATCH | INSTANCE | PATTERN
};

static const char *const kinds[] = {"batch", "instance", "group", "layer", "rms", "adain", "pattern"};

typedef struct option_entry {
  apply_option option;
  const char *heading; /* printed above this option in the help */
  const char *name;
  const char *argument; /* NULL: a flag */
  unsigned layers;      /* that take this option */
  const char *help;
} option_entry;

/* In the order of the help. */
static const option_entry table[] = {
    {OPT_OUTPUT, "Output", "-o", "FILE", ALL, "y: .npy in the type and order of INPUT, or .png; out%d.png for a batch"},
    {OPT_RANGE, NULL, "--range", "LO,HI", ALL, "PNG: the values that become black and white (see below)"},
    {OPT_CHANNELS_LAST, NULL, "--channels-last", NULL, ALL, "tensors are stored (n, h, w, c); the layer sees n c h w"},
    {OPT_JSON, NULL, "--json", NULL, ALL, "print the summary as JSON"},
    {OPT_HELP, NULL, "--help", NULL, ALL, "this text"},
    {OPT_GROUPS, "Layer", "--groups", "G", GROUP, "groups of group norm"},
    {OPT_AXES, NULL, "--axes", "LIST", LAYER | RMS, "dimensions that share a mean: 1,2 or -1 (default: the last)"},
    {OPT_AFFINE, NULL, "--affine", "LIST", NORM, "axes of gamma and beta: c, '(g k)', 'n c' (a pattern: none)"},
    {OPT_SIZES, NULL, "--sizes", "LIST", PATTERN, "lengths that the shape leaves open: g=32"},
    {OPT_RMS, NULL, "--rms", NULL, PATTERN, "the mean is fixed at 0"},
    {OPT_EPS, NULL, "--eps", "X", ALL, "added to the variance (default 1e-5; RMS 2^-23, for f64 2^-52)"},
    {OPT_DDOF, NULL, "--ddof", "D", ALL, "variance is a sum over m - D elements, 0 or 1 (default 0)"},
    {OPT_REFUSE_SINGLE, NULL, "--refuse-single", NULL, NORM,
     "one element per mean is an error, as when PyTorch trains"},
    {OPT_WEIGHT, NULL, "--weight", "FILE", NORM, "gamma (default 1)"},
    {OPT_BIAS, NULL, "--bias", "FILE", NORM, "beta (default 0)"},
    {OPT_PLUS_ONE, NULL, "--plus-one", NULL, NORM, "gamma is 1 + weight (adaLN)"},
    {OPT_MEAN, "Statistics", "--mean", "FILE", NORM & ~RMS, "normalize with this mean, not with that of INPUT,"},
    {OPT_VAR, NULL, "--var", "FILE", NORM, "and with this variance (RMS: mean square, alone)"},
    {OPT_SAVE_MEAN, NULL, "--save-mean", "FILE", NORM, "write the mean of each set that shares one"},
    {OPT_SAVE_VAR, NULL, "--save-var", "FILE", NORM, "write the variance (RMS: the mean square)"},
    {OPT_SAVE_RSTD, NULL, "--save-rstd", "FILE", NORM, "write 1 / sqrt(variance + eps)"},
    {OPT_RUNNING_MEAN, "Running statistics", "--running-mean", "FILE", RUNNING,
     "one per channel; without --update it normalizes (evaluation)"},
    {OPT_RUNNING_VAR, NULL, "--running-var", "FILE", RUNNING, "as --running-mean, for the variance"},
    {OPT_UPDATE, NULL, "--update", NULL, RUNNING, "training: INPUT normalizes, and moves the running statistics"},
    {OPT_SAVE_RUNNING_MEAN, NULL, "--save-running-mean", "FILE", RUNNING, "where --update writes the moved mean"},
    {OPT_SAVE_RUNNING_VAR, NULL, "--save-running-var", "FILE", RUNNING, "where --update writes the moved variance"},
    {OPT_CONVENTION, NULL, "--convention", "NAME", RUNNING, "pytorch (default), onnx (Keras, Flax) or cumulative"},
    {OPT_MOMENTUM, NULL, "--momentum", "M", RUNNING, "pytorch: weight of the new value (0.1); onnx: of the old (0.9)"},
    {OPT_BATCHES, NULL, "--batches", "B", RUNNING, "cumulative: batches so far, this one included"},
    {OPT_NOT_FINITE, NULL, "--not-finite", "NAME", RUNNING, "NaN or Inf in a channel: store (default), refuse or skip"},
    {OPT_STYLE, "AdaIN", "--style", "FILE", ADAIN, "the style: .npy or PNG; a batch of 1 serves all of INPUT"},
    {OPT_ALPHA, NULL, "--alpha", "A", ADAIN, "y = A * result + (1 - A) * INPUT (default 1)"},
    {OPT_STYLE_EPS, NULL, "--style-eps", "X", ADAIN, "added to the variance of the style (default 1e-5)"},
    {OPT_STYLE_DDOF, NULL, "--style-ddof", "D", ADAIN, "as --ddof, for the style (default 0)"},
    {OPT_DY, "Gradients", "--dy", "FILE", ALL, "the gradient of y; writes the gradients that are asked for:"},
    {OPT_DX, NULL, "--dx", "FILE", ALL, "of INPUT"},
    {OPT_DWEIGHT, NULL, "--dweight", "FILE", NORM, "of gamma"},
    {OPT_DBIAS, NULL, "--dbias", "FILE", NORM, "of beta"},
    {OPT_DSTYLE, NULL, "--dstyle", "FILE", ADAIN, "of the style"},
};

static const char help_start[] =
    "norma apply LAYER INPUT... -o OUTPUT [OPTION...]\n"
    "Normalizes a tensor from a file and writes the result; with --dy also the gradients.\n"
    "\n"
    "LAYER   batch, instance, group, layer, rms, adain, or a pattern: 'n (g [k]) [h w]' (axes in\n"
    "        brackets share a mean; the README explains it). Dimension 0 is the batch, 1 the channels.\n"
    "INPUT   an .npy file of float32, float64, float16 or bfloat16 ('<V2', as ml_dtypes saves it), in C or\n"
    "        Fortran order; or PNG images of one size, which make a float32 tensor n c h w of values 0..1.\n"
    "Other files are .npy. Parameters and statistics may have any of the four types; they are computed with and\n"
    "written as float32 (float64 if INPUT is float64). Read the bfloat16 files that Norma writes with\n"
    "np.load(path).view(ml_dtypes.bfloat16).\n";

static const char help_end[] =
    "\n"
    "PNG output: y must be n c h w with 1 or 3 channels; %d in the name is the place in the batch, from 0.\n"
    "The smallest and the largest value of each image, over its channels, become black and white; --range LO,HI\n"
    "fixes them for all (values outside are clamped); for adain the range is 0,1. A constant image is mid grey.\n"
    "8 bits per sample, 16 if INPUT was a PNG of 16. Transparency is copied from INPUT, not normalized.\n"
    "\n"
    "Nothing is written unless everything is: the files appear, by renaming, when all of them are complete.\n"
    "OUTPUT may be INPUT itself. Exit code 0: written; 2: an argument or file is wrong.\n"
    "\n"
    "  norma apply group x.npy --groups 32 --weight gamma.npy --bias beta.npy -o y.npy\n"
    "  norma apply 'n (g [k]) [h w]' x.npy --sizes g=32 --affine '(g k)' --dy dy.npy --dx dx.npy\n"
    "  norma apply adain photo.png --style painting.png --alpha 0.8 -o out.png\n";

const char *kind_name(apply_kind kind) { return kinds[kind]; }

static const option_entry *entry_of(apply_option option) {
  const option_entry *e = table;
  while (e->option != option) e++;
  return e;
}

const char *option_name(apply_option option) { return option == OPT_INPUT ? "INPUT" : entry_of(option)->name; }

bool option_fits(apply_option option, apply_kind kind) {
  return option == OPT_INPUT || (entry_of(option)->layers >> kind & 1u) != 0;
}

static void print_help(void) {
  fputs(help_start, stdout);
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    const option_entry *e = &table[i];
    char left[40];
    snprintf(left, sizeof left, "%s %s", e->name, e->argument != NULL ? e->argument : "");
    if (e->heading != NULL) printf("\n%s\n", e->heading);
    printf("  %-24s %s\n", left, e->help);
  }
  fputs(help_end, stdout);
}

/* ---------------------------------------------------------------------------------------------------- parsing --- */

static bool is_option(const char *text) {
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    if (strcmp(text, table[i].name) == 0) return true;
  }
  return false;
}

/* Takes the option at argv[*at] and its argument. */
static int parse_option(apply_options *o, int argc, char **argv, int *at) {
  const char *text = argv[*at], *equals = strncmp(text, "--", 2) == 0 ? strchr(text, '=') : NULL;
  size_t length = equals != NULL ? (size_t)(equals - text) : strlen(text);
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    const option_entry *e = &table[i];
    if (strlen(e->name) != length || strncmp(e->name, text, length) != 0) continue;
    if (o->value[e->option] != NULL) return cli_fail("%s is given twice", e->name);
    if (e->argument == NULL) {
      if (equals != NULL) return cli_fail("%s takes no value", e->name);
      o->value[e->option] = "";
    } else {
      if (equals == NULL && *at + 1 >= argc) return cli_fail("%s needs a value: %s %s", e->name, e->name, e->argument);
      if (equals == NULL && is_option(argv[*at + 1])) {
        return cli_fail("%s needs a value, but the option %s follows: %s %s", e->name, argv[*at + 1], e->name,
                        e->argument);
      }
      o->value[e->option] = equals != NULL ? equals + 1 : argv[++*at];
      if (o->value[e->option][0] == '\0') return cli_fail("%s has an empty value; it needs %s", e->name, e->argument);
    }
    return EXIT_GOOD;
  }
  return cli_fail("unknown option %s; 'norma apply --help' lists them", text);
}

static int parse_kind(apply_options *o) {
  for (int k = 0; k < KIND_PATTERN; k++) {
    if (strcmp(o->layer, kinds[k]) == 0) {
      o->kind = (apply_kind)k;
      return EXIT_GOOD;
    }
  }
  o->kind = KIND_PATTERN;
  if (strpbrk(o->layer, "[ ") != NULL || strcmp(o->layer, "...") == 0) return EXIT_GOOD;
  if (strchr(o->layer, '.') != NULL) {
    return cli_fail("'%s' stands where the layer should; the order is LAYER INPUT -o OUTPUT", o->layer);
  }
  return cli_fail("unknown layer '%s': batch, instance, group, layer, rms, adain or a pattern such as 'n c [h w]'",
                  o->layer);
}

int options_parse(apply_options *options, int argc, char **argv) {
  apply_options *o = options;
  memset(o, 0, sizeof *o);
  int plain = 0;
  bool only_plain = false;
  for (int i = 1; i < argc; i++) {
    if (!only_plain && strcmp(argv[i], "--") == 0) {
      only_plain = true;
    } else if (!only_plain && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
      o->value[OPT_HELP] = "";
      print_help();
      return EXIT_GOOD;
    } else if (!only_plain && argv[i][0] == '-' && argv[i][1] != '\0') {
      int result = parse_option(o, argc, argv, &i);
      if (result != EXIT_GOOD) return result;
    } else {
      argv[plain++] = argv[i];
    }
  }
  if (plain < 2) return cli_fail("needs LAYER INPUT -o OUTPUT; 'norma apply --help' tells more");
  for (int i = 1; i < plain; i++) {
    if (argv[i][0] == '\0') return cli_fail("INPUT is an empty name; it must be an .npy or PNG file");
  }
  o->layer = argv[0];
  o->inputs = argv + 1;
  o->input_count = plain - 1;
  return parse_kind(o);
}

/* ----------------------------------------------------------------------------------------------------- values --- */

int option_number(const apply_options *options, apply_option option, double *number) {
  const char *text = options->value[option];
  char *end;
  *number = strtod(text, &end);
  if (end == text || *end != '\0' || !isfinite(*number)) {
    return cli_fail("%s is '%s'; it must be a finite number, such as 1e-5", option_name(option), text);
  }
  return EXIT_GOOD;
}

int option_integer(const apply_options *options, apply_option option, int64_t least, int64_t *number) {
  const char *text = options->value[option];
  char *end;
  errno = 0;
  *number = strtoll(text, &end, 10);
  if (end == text || *end != '\0' || errno != 0 || *number < least) {
    return cli_fail("%s is '%s'; it must be an integer of at least %lld", option_name(option), text, (long long)least);
  }
  return EXIT_GOOD;
}

int option_word(const apply_options *options, apply_option option, const char *const *words, int *place) {
  char list[80] = "";
  for (int i = 0; words[i] != NULL; i++) {
    *place = i;
    if (strcmp(options->value[option], words[i]) == 0) return EXIT_GOOD;
    snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i > 0 ? ", " : "", words[i]);
  }
  return cli_fail("%s is '%s'; it must be one of %s", option_name(option), options->value[option], list);
}

int option_range(const apply_options *options, double *low, double *high) {
  const char *text = options->value[OPT_RANGE];
  char *end, *last;
  *low = strtod(text, &end);
  *high = *end == ',' ? strtod(end + 1, &last) : 0;
  bool good = end != text && *end == ',' && last != end + 1 && *last == '\0';
  if (!good || !isfinite(*low) || !isfinite(*high) || *low >= *high) {
    return cli_fail("--range is '%s'; it must be LO,HI with LO < HI, such as -2,2", text);
  }
  return EXIT_GOOD;
}
