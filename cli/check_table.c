/*
 * `norma check --table`: the table of docs/accuracy.md. For each layer and type the largest error / bound over a fixed
 * set of data: small and large offsets, the ends of the type's range, an outlier, and a million elements per
 * statistic. Ratios are rounded up to one digit, so that the page stays the same where only a libm differs.
 */
#include "check.h"

#include "cli.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Each layer once with units of some hundred to thousand elements, once with a million. */
static const struct {
  const char *name, *usual, *million;
} layers[] = {
    {"batch", "batch:n6,c5,h14,w13", "batch:n4,c1,h500,w500"},
    {"layer", "layer:n3,t7,d771", "layer:n1,d1000000"},
    {"layer, channels first", "layer:n3,c96,h5,w5,axes=c", "layer:n1,c1000000,h1,w1,axes=c"},
    {"instance", "instance:n3,c5,h31,w33", "instance:n1,c1,h1000,w1000"},
    {"group", "group:n3,c12,h15,w17,g=3", "group:n1,c4,h500,w500,g=1"},
    {"RMS", "rms:n3,t7,d771", "rms:n1,d1000000"},
    {"AdaIN", "adain:n2,c3,h31,w33,style=24x25,eps2=0", "adain:n1,c1,h1000,w1000,style=24x25"},
    {"conditional affine", "instance:n3,c5,h31,w33,affine=n c,plus_one=1", "layer:n1,t1,d1000000,affine=n d"},
};

static const char *const data[] = {"normal", "offset:1e2", "offset:1e4", "offset:1e7",
                                   "huge",   "tiny",       "outlier",    "scale:1e-30"};

/* What the columns of the table show: the content's gradient stands under dx, the style's has a column of its own. */
static const struct {
  const char *name;
  problem_role role;
} columns[] = {{"y", PROBLEM_Y},
               {"dx", PROBLEM_DX},
               {"dgamma", PROBLEM_DWEIGHT},
               {"dbeta", PROBLEM_DBIAS},
               {"dstyle", PROBLEM_DSTYLE}};

enum {
  LAYERS = sizeof layers / sizeof layers[0],
  DATAS = sizeof data / sizeof data[0],
  COLUMNS = sizeof columns / sizeof columns[0],
  TYPES = 4
};

typedef struct row {
  double ratio[COLUMNS];
  bool has[COLUMNS];
} row;

/* Some data has no values in float16: its largest number is 65504. */
static bool fits(const char *kind_of_data, norma_type type) {
  return type != NORMA_F16 || (strcmp(kind_of_data, "offset:1e7") != 0 && strcmp(kind_of_data, "scale:1e-30") != 0);
}

static bool add_problem(row *r, const char *layer, norma_type type, const char *kind_of_data, bool eps_zero,
                        norma_error *error) {
  char text[PROBLEM_TEXT_SIZE];
  problem p;
  problem_report report;
  snprintf(text, sizeof text, "%s,type=%s,dir=both,data=%s%s,seed=1", layer, norma_type_name(type), kind_of_data,
           eps_zero ? ",eps=0" : "");
  if (!problem_parse(text, &p, error) || !check_problem(&p, &report, error)) {
    return false;
  }
  for (int i = 0; i < report.count; i++) {
    for (int c = 0; c < COLUMNS; c++) {
      if (report.results[i].role == columns[c].role) {
        r->has[c] = true;
        r->ratio[c] = report.results[i].ratio > r->ratio[c] ? report.results[i].ratio : r->ratio[c];
      }
    }
  }
  return true;
}

static bool measure(row *r, int layer, norma_type type, norma_error *error) {
  for (int d = 0; d < DATAS; d++) {
    if (fits(data[d], type) && (!add_problem(r, layers[layer].usual, type, data[d], false, error) ||
                                !add_problem(r, layers[layer].usual, type, data[d], true, error))) {
      return false;
    }
  }
  return add_problem(r, layers[layer].million, type, "outlier", false, error);
}

/* Up to the next number with one digit: 0.31 becomes 0.4. */
static double round_up(double ratio) {
  if (ratio <= 0 || isinf(ratio)) {
    return ratio;
  }
  double digit = pow(10, floor(log10(ratio)));
  return ceil(ratio / digit) * digit;
}

static void print_row(const char *layer, norma_type type, const row *r) {
  printf("| %s | %s |", layer, norma_type_name(type));
  for (int c = 0; c < COLUMNS; c++) {
    if (r->has[c]) {
      printf(" %.1g |", round_up(r->ratio[c]));
    } else {
      printf("  |");
    }
  }
  printf("\n");
}

int check_table(void) {
  printf("| layer | type |");
  for (int c = 0; c < COLUMNS; c++) {
    printf(" %s |", columns[c].name);
  }
  printf("\n|---|---|---|---|---|---|---|\n");
  bool pass = true;
  for (int layer = 0; layer < LAYERS; layer++) {
    for (int type = 0; type < TYPES; type++) {
      row r = {{0}, {false}};
      norma_error error;
      if (isatty(STDERR_FILENO)) {
        fprintf(stderr, "\r%d of %d\033[K\r", layer * TYPES + type, LAYERS * TYPES);
      }
      if (!measure(&r, layer, (norma_type)type, &error)) {
        return cli_fail("%s: %s", layers[layer].name, error.detail);
      }
      for (int c = 0; c < COLUMNS; c++) {
        pass = pass && r.ratio[c] <= 1;
      }
      print_row(layers[layer].name, (norma_type)type, &r);
    }
  }
  return pass ? EXIT_GOOD : EXIT_FAILED;
}
