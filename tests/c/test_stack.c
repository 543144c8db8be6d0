/* How much stack a call needs, of a thread that may have little: that of another language's runtime, or of a C library
 * whose threads have 128 KiB. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#endif
#include "problem.h"
#include "support.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { PROMISED = 256 * 1024, STACK = 1024 * 1024, PAINT = 0x5a };

/* Of every way through the library those with the largest tiles. */
static const char *const forms[] = {
    "batch:n2,c1500,h12,w12,layout=nhwc,dir=both,add=both,act=silu",
    "batch:n2,c1500,h12,w12,layout=nhwc,dir=both,stats=given",
    "batch:n2,c40,h30,w30,layout=nhwc,dir=both",
    "group:n2,c1200,h8,w8,g=24,layout=nhwc,dir=both,act=gelu,type=bf16",
    "instance:n3,c1200,h7,w7,layout=nhwc,dir=both",
    "layer:n3,c96,h33,w33,axes=c,dir=both,act=relu,add=both",
    "layer:n2,c600,h17,w17,axes=c,layout=nhwc,dir=both",
    "layer:n40,d4100,dir=both,act=silu,add=both",
    "layer:n40,d4100,type=f16,dir=both",
    "batch:n33,c70,h7,w7,dir=both,type=bf16",
    "batch:n33,c70,h7,w7,dir=both,add=both,act=gelu_tanh",
    "instance:n2,c3,h90,w90,dir=both,type=f64,act=silu,layout=reverse",
    "rms:n300,d65,dir=both,add=before",
    "adain:n2,c30,h41,w40,style=24x25,layout=nhwc,dir=both",
};

static void *run(void *context) {
  norma_error error;
  return problem_run(context, &error) ? context : NULL;
}

/* Bytes of the stack of a thread that runs the problem. */
static size_t stack_of(problem_case *c) {
  unsigned char *stack =
      mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  pthread_attr_t attr;
  pthread_t thread;
  void *done = NULL;
  size_t untouched = 0;
  assert_true(stack != MAP_FAILED);
  memset(stack, PAINT, STACK);
  assert_int_equal(pthread_attr_init(&attr), 0);
  assert_int_equal(pthread_attr_setstack(&attr, stack, STACK), 0);
  assert_int_equal(pthread_create(&thread, &attr, run, c), 0);
  assert_int_equal(pthread_join(thread, &done), 0);
  pthread_attr_destroy(&attr);
  assert_ptr_equal(done, c);
  while (untouched < STACK && stack[untouched] == PAINT) untouched++; /* a stack grows downwards */
  munmap(stack, STACK);
  return STACK - untouched;
}

static void a_call_needs_no_more_stack_than_it_says(void **state) {
  (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
  skip(); /* frames are larger then */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  skip();
#endif
#endif
  norma_error error;
  for (size_t k = 0; k < COUNT(forms); k++) {
    char text[PROBLEM_TEXT_SIZE];
    problem p;
    problem_case c;
    snprintf(text, sizeof text, "%s,threads=1", forms[k]);
    problem_is("%s", text);
    if (!problem_parse(text, &p, &error) || !problem_build(&c, &p, &error)) fail_problem("%s", error.detail);
    size_t bytes = stack_of(&c);
    if (bytes > PROMISED) fail_problem("%zu bytes of stack, %d are promised", bytes, PROMISED);
    problem_free(&c);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_call_needs_no_more_stack_than_it_says)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
