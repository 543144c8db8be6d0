/* `norma check`: the library against its reference, on problem strings. */
#include "check.h"

#include "cli.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char HELP[] =
    "usage: norma check [--json] PROBLEM...\n"
    "       norma check [--json] --random N [--seed S]\n"
    "       norma check --checksums N [--seed S] [--layout L] [--threads T] [--align A]\n"
    "       norma check --table\n"
    "\n"
    "Runs the library on made-up data and compares every output with the reference (norma_reference_*).\n"
    "For each tensor it prints the element that comes closest to its bound: the error, the bound that\n"
    "norma.h promises there, and their ratio. Exit code 1: something failed.\n"
    "\n"
    "  --random N  tries N problems of all kinds, also that layout, threads and the like do not change\n"
    "              the bits, and prints the string of each failure\n"
    "  --checksums N  prints the instruction set in use and, of some thirty large problems and of N of\n"
    "              --random, the checksum and the string. Every machine, every NORMA_ISA and these options,\n"
    "              which run all problems in one manner, give the same lines: --layout of inputs and outputs,\n"
    "              --threads (0: the default pool), --align\n"
    "  --seed S    other problems (default 1)\n"
    "  --table     prints the table of docs/accuracy.md\n"
    "  --json      the results for programs\n"
    "\n"
    "A problem is KIND:ITEM,ITEM,... for example\n"
    "\n"
    "  group:n8,c64,h14,w14,g=32,layout=nhwc,type=bf16,dir=bwd,data=offset:1e4,eps=1e-5,seed=7\n"
    "\n"
    "KIND is batch, layer, instance, group, rms, adain or norm. Items are dimensions, in logical order, as\n"
    "a name and a length (n8,c64), and keys (the first value is the default):\n"
    "\n"
    "  g=N            group: the number of groups\n"
    "  axes=A.B       layer, rms: the normalized dimensions; the last one\n"
    "  pattern=TEXT   norm: which axes share, e.g. 'pattern=n (g [k]) [h w]'; lengths are items: g=32\n"
    "  rms=0|1        norm: the mean is 0\n"
    "  affine=yes|no|weight|NAMES   gamma and beta along the layer's own axes, none, no beta, or along\n"
    "                 NAMES ('n c'); rms: weight, norm: no\n"
    "  style=5x7      adain: the style's dimensions after n and c; as the content\n"
    "  layout=contiguous|channels_last|slice|reverse|transpose|broadcast\n"
    "                 nchw and nhwc are the first two\n"
    "  out=LAYOUT     of the outputs; as the inputs\n"
    "  type=f32|f64|f16|bf16\n"
    "  dir=fwd|bwd|both\n"
    "  stats=input|given|saved      given: evaluation mode; saved: backward from norma_saved\n"
    "  data=normal|offset:V|scale:V|constant:V|exact|huge|tiny|outlier[:V]|nan\n"
    "  dy=...         the same words\n"
    "  eps=, ddof=    as the library has them; eps2=, ddof2= of the style; alpha= of adain\n"
    "  plus_one=1     gamma is 1 + weight\n"
    "  act=none|relu|silu|gelu|gelu_tanh\n"
    "  add=none|before|after|both   a residual before the norm, after it (and before the activation)\n"
    "  inplace=1, threads=N, workspace=1, align=N, seed=N\n"
    "\n"
    "docs/problem.md says it in full.\n";

/* ----------------------------------------------------------------------------------------------- one problem --- */

bool check_problem(const problem *p, problem_report *report, norma_error *error) {
  problem_case c;
  if (!problem_build(&c, p, error)) {
    return false;
  }
  bool good = problem_run(&c, error) && problem_judge(&c, report, error);
  problem_free(&c);
  return good;
}

double check_worst_ratio(const problem_report *report) {
  double worst = 0;
  for (int i = 0; i < report->count; i++) {
    const problem_result *r = &report->results[i];
    bool rounded = r->role == PROBLEM_MEAN || r->role == PROBLEM_VAR || r->role == PROBLEM_RSTD;
    worst = !rounded && r->ratio > worst ? r->ratio : worst;
  }
  return worst;
}

static void print_report(const char *text, const problem_report *report) {
  printf("%s\n", text);
  for (int i = 0; i < report->count; i++) {
    const problem_result *r = &report->results[i];
    printf("  %-8s error %-10.3g bound %-10.3g ratio %-8.2g %s\n", problem_role_name(r->role), r->error, r->bound,
           r->ratio, r->pass ? "PASS" : "FAIL");
    if (!r->pass && r->where >= 0) {
      printf("           element %" PRId64 ": got %.17g, the reference has %.17g\n", r->where, r->got, r->expected);
    }
    if (r->stray) {
      printf("           memory that belongs to no element was written\n");
    }
  }
  printf("  checksum %016" PRIx64 " %s\n", report->checksum, report->pass ? "PASS" : "FAIL");
}

/* Numbers that JSON cannot hold (NaN, Inf) become null. */
static cJSON *report_to_json(const char *text, const problem_report *report) {
  cJSON *object = cJSON_CreateObject();
  cJSON_AddStringToObject(object, "problem", text);
  cJSON_AddBoolToObject(object, "pass", report->pass);
  char checksum[20];
  snprintf(checksum, sizeof checksum, "%016" PRIx64, report->checksum);
  cJSON_AddStringToObject(object, "checksum", checksum);
  cJSON *tensors = cJSON_AddArrayToObject(object, "tensors");
  for (int i = 0; i < report->count; i++) {
    const problem_result *r = &report->results[i];
    cJSON *tensor = cJSON_CreateObject();
    cJSON_AddStringToObject(tensor, "name", problem_role_name(r->role));
    cJSON_AddBoolToObject(tensor, "pass", r->pass);
    cJSON_AddNumberToObject(tensor, "error", r->error);
    cJSON_AddNumberToObject(tensor, "bound", r->bound);
    cJSON_AddNumberToObject(tensor, "ratio", r->ratio);
    cJSON_AddNumberToObject(tensor, "element", (double)r->where);
    cJSON_AddNumberToObject(tensor, "got", r->got);
    cJSON_AddNumberToObject(tensor, "expected", r->expected);
    cJSON_AddNumberToObject(tensor, "largest_error", r->largest_error);
    cJSON_AddBoolToObject(tensor, "stray_write", r->stray);
    cJSON_AddItemToArray(tensors, tensor);
  }
  return object;
}

/* ------------------------------------------------------------------------------------------------------ strings --- */

static int check_strings(int count, char **texts, bool json) {
  problem p;
  norma_error error;
  for (int i = 0; i < count; i++) { /* all of them can be read, or none is run */
    if (!problem_parse(texts[i], &p, &error)) {
      return cli_fail("%s", error.detail);
    }
  }
  bool pass = true;
  cJSON *all = json ? cJSON_CreateArray() : NULL;
  for (int i = 0; i < count; i++) {
    problem_report report;
    char text[PROBLEM_TEXT_SIZE];
    problem_parse(texts[i], &p, &error);
    problem_format(&p, text, sizeof text);
    if (!check_problem(&p, &report, &error)) {
      cJSON_Delete(all);
      return cli_fail("%s: %s", text, error.detail);
    }
    pass = pass && report.pass;
    if (json) {
      cJSON_AddItemToArray(all, report_to_json(text, &report));
    } else {
      print_report(text, &report);
    }
  }
  if (json) {
    char *text = cJSON_Print(all);
    puts(text ? text : "[]");
    free(text);
    cJSON_Delete(all);
  }
  return pass ? EXIT_GOOD : EXIT_FAILED;
}

/* ---------------------------------------------------------------------------------------------------- checksums --- */

static int check_checksums(int64_t count, uint64_t seed, const problem_manner *manner) {
  norma_error error;
  printf("instruction set: %s\n", norma_isa());
  return problem_checksums(stdout, seed, count, manner, &error) ? EXIT_GOOD : cli_fail("%s", error.detail);
}

/* -------------------------------------------------------------------------------------------------- the command --- */

/* The number behind an option, at argv[*i + 1]. */
static bool read_option(int argc, char **argv, int *i, uint64_t least, uint64_t most, uint64_t *out) {
  const char *text = *i + 1 < argc ? argv[*i + 1] : "";
  char *end;
  errno = 0;
  unsigned long long value = strtoull(text, &end, 10);
  if (*text < '0' || *text > '9' || *end || errno || value < least || value > most) {
    cli_fail("%s '%s': a whole number from %" PRIu64 " to %" PRIu64 " would be right", argv[*i], text, least, most);
    return false;
  }
  *out = value;
  ++*i;
  return true;
}

/* The layout behind --layout, at argv[*i + 1]: any that leaves the values alone. */
static bool read_layout(int argc, char **argv, int *i, int *out) {
  const char *text = *i + 1 < argc ? argv[++*i] : "";
  for (*out = 0; *out < PROBLEM_BROADCAST; ++*out) {
    if (strcmp(text, problem_layout_name((problem_layout)*out)) == 0) {
      return true;
    }
  }
  cli_fail("--layout '%s': contiguous, channels_last, slice, reverse or transpose would be right", text);
  return false;
}

static bool read_small(int argc, char **argv, int *i, int *out) {
  uint64_t value = 0;
  bool good = read_option(argc, argv, i, 0, 64, &value);
  *out = (int)value;
  return good;
}

int command_check(int argc, char **argv) {
  bool json = false, table = false, seeded = false;
  uint64_t random = 0, checksums = 0, seed = 1;
  problem_manner manner = {PROBLEM_AS_IT_SAYS, PROBLEM_AS_IT_SAYS, PROBLEM_AS_IT_SAYS};
  int strings = 0;
  for (int i = 1; i < argc; i++) {
    const char *option = argv[i];
    bool good = true;
    if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0) {
      fputs(HELP, stdout);
      return EXIT_GOOD;
    } else if (strcmp(option, "--json") == 0) {
      json = true;
    } else if (strcmp(option, "--table") == 0) {
      table = true;
    } else if (strcmp(option, "--random") == 0) {
      good = read_option(argc, argv, &i, 1, INT64_MAX, &random);
    } else if (strcmp(option, "--checksums") == 0) {
      good = read_option(argc, argv, &i, 1, INT64_MAX, &checksums);
    } else if (strcmp(option, "--seed") == 0) {
      seeded = true;
      good = read_option(argc, argv, &i, 0, UINT64_MAX, &seed);
    } else if (strcmp(option, "--layout") == 0) {
      good = read_layout(argc, argv, &i, &manner.layout);
    } else if (strcmp(option, "--threads") == 0) {
      good = read_small(argc, argv, &i, &manner.threads);
    } else if (strcmp(option, "--align") == 0) {
      good = read_small(argc, argv, &i, &manner.align);
    } else if (option[0] == '-') {
      return cli_fail("%s: no such option; norma check --help lists them", option);
    } else {
      argv[1 + strings++] = argv[i];
    }
    if (!good) {
      return EXIT_USAGE;
    }
  }
  if ((strings > 0) + (random > 0) + (checksums > 0) + table != 1) {
    return cli_fail("one of four would be right: problem strings, --random N, --checksums N or --table; see --help");
  }
  if (seeded && random == 0 && checksums == 0) {
    return cli_fail("--seed belongs to --random and --checksums; a problem string has seed=%" PRIu64, seed);
  }
  bool changed = manner.layout != PROBLEM_AS_IT_SAYS || manner.threads != PROBLEM_AS_IT_SAYS ||
                 manner.align != PROBLEM_AS_IT_SAYS;
  if (changed && checksums == 0) {
    return cli_fail("--layout, --threads and --align belong to --checksums; a problem string has layout= and the like");
  }
  if (json && (table || checksums > 0)) {
    return cli_fail("--table prints Markdown and --checksums lines; they have no JSON form");
  }
  if (table) {
    return check_table();
  }
  if (checksums > 0) {
    return check_checksums((int64_t)checksums, seed, &manner);
  }
  return random > 0 ? check_random((int64_t)random, seed, json) : check_strings(strings, argv + 1, json);
}
