/*
 * Any bytes as a problem string: if they can be read, the canonical string reads as the same problem, and if the
 * problem is small, the library agrees with its reference. A refusal with an error is fine; a FAIL aborts.
 */
#include "problem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fail(const char *text, const char *what) {
  fprintf(stderr, "%s: %s\n", text, what);
  abort();
}

/* Small enough to be tried a thousand times a second. */
static bool is_small(const problem *p) {
  int64_t cells = 1; /* slices of empty tensors have memory too */
  for (int d = 0; d < p->ndim; d++) {
    if (p->shape[d] > 4096 || (cells *= p->shape[d] + 1) > 1 << 16) {
      return false;
    }
  }
  for (int d = 0; d < p->style_ndim; d++) {
    if (p->style_shape[d] > 4096) {
      return false;
    }
  }
  int64_t elements = problem_elements(p);
  return elements >= 0 && elements <= 4096 && p->style_ndim <= 3;
}

static void judge(const char *text, const problem *p) {
  problem_case c;
  problem_report report;
  norma_error error = {NORMA_OK, ""};
  if (!problem_build(&c, p, &error)) {
    return;
  }
  if (problem_run(&c, &error)) {
    if (!problem_judge(&c, &report, &error)) {
      fail(text, error.detail);
    }
    if (!report.pass) {
      fail(text, "the library differs from the reference");
    }
  } else if (error.detail[0] == '\0') {
    fail(text, "refused without a word");
  }
  problem_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char input[1024], text[PROBLEM_TEXT_SIZE], again[PROBLEM_TEXT_SIZE];
  if (size >= sizeof input) {
    return 0;
  }
  memcpy(input, data, size);
  input[size] = '\0';
  problem p, q;
  norma_error error = {NORMA_OK, ""};
  if (!problem_parse(input, &p, &error)) {
    if (error.detail[0] == '\0' || strchr(error.detail, '\n')) {
      fail(input, "the error is no line");
    }
    return 0;
  }
  problem_format(&p, text, sizeof text);
  if (!problem_parse(text, &q, &error)) {
    fail(text, error.detail);
  }
  problem_format(&q, again, sizeof again);
  if (strcmp(text, again) != 0) {
    fail(text, again);
  }
  if (is_small(&p)) {
    judge(text, &p);
  }
  return 0;
}
