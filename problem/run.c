/* Runs a case: the library's calls, in place and with the caller's workspace and threads where the problem says so. */
#include "internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------------------------------------------- threads --- */

typedef struct share {
  int64_t first, step; /* the indices first, first - step, ... down to 0 */
  void (*task)(void *context, int64_t index);
  void *context;
} share;

static void *work(void *argument) {
  const share *s = argument;
  for (int64_t i = s->first; i >= 0; i -= s->step) {
    s->task(s->context, i);
  }
  return NULL;
}

/* Backwards and interleaved: an order that a serial loop would not take. A share whose thread cannot be made is done
 * here. */
void problem_run_threads(void *pool, int64_t count, void (*task)(void *context, int64_t index), void *context) {
  enum { MOST = 64 };
  int threads = *(const int *)pool;
  threads = threads < MOST ? threads : MOST;
  share shares[MOST];
  pthread_t ids[MOST];
  bool started[MOST] = {false};
  for (int t = 0; t < threads; t++) {
    shares[t] = (share){count - 1 - t, threads, task, context};
    started[t] = t > 0 && pthread_create(&ids[t], NULL, work, &shares[t]) == 0;
  }
  for (int t = 0; t < threads; t++) {
    if (!started[t]) {
      work(&shares[t]);
    }
  }
  for (int t = 0; t < threads; t++) {
    if (started[t]) {
      pthread_join(ids[t], NULL);
    }
  }
}

/* ------------------------------------------------------------------------------------------------------- calls --- */

/* Makes `to` hold the same elements as `from`: an output that is about to be computed in place. */
static bool copy_elements(const problem_tensor *from, problem_tensor *to, norma_error *error) {
  unsigned char *bits = malloc((size_t)from->elements * norma_type_size(from->type) + 1);
  if (!bits) {
    return problem_fail(error, NORMA_NO_MEMORY, "no memory for a copy of %lld elements", (long long)from->elements);
  }
  problem_tensor_gather(from, bits);
  problem_tensor_scatter(to, bits);
  free(bits);
  return true;
}

static bool get_workspace(const problem_case *c, size_t size, void **workspace, norma_error *error) {
  *workspace = NULL;
  if (!c->spec.workspace || size == 0) {
    return true;
  }
  *workspace = malloc(size);
  return *workspace || problem_fail(error, NORMA_NO_MEMORY, "no memory for a workspace of %zu bytes", size);
}

static bool run_forward(problem_case *c, norma_error *error) {
  problem_tensor *y = &c->tensors[PROBLEM_Y];
  norma_forward_args args = c->forward;
  if (c->spec.inplace && args.y) {
    if (!copy_elements(&c->tensors[PROBLEM_X], y, error)) {
      return false;
    }
    args.x = args.y;
  }
  if (c->spec.inplace && args.sum) {
    if (!copy_elements(&c->tensors[PROBLEM_RESIDUAL], &c->tensors[PROBLEM_SUM], error)) {
      return false;
    }
    args.residual = args.sum;
  }
  size_t size = norma_forward_workspace(&args);
  if (!get_workspace(c, size, &args.workspace, error)) {
    return false;
  }
  args.workspace_size = args.workspace ? size : 0;
  norma_status status = norma_forward(&args, error);
  free(args.workspace);
  return status == NORMA_OK;
}

static bool run_backward(problem_case *c, norma_error *error) {
  problem_tensor *dx = &c->tensors[PROBLEM_DX];
  norma_backward_args args = c->backward;
  if (c->spec.inplace && args.dx) {
    if (!copy_elements(&c->tensors[PROBLEM_DY], dx, error)) {
      return false;
    }
    args.dy = args.dx;
  }
  size_t size = norma_backward_workspace(&args);
  if (!get_workspace(c, size, &args.workspace, error)) {
    return false;
  }
  args.workspace_size = args.workspace ? size : 0;
  norma_status status = norma_backward(&args, error);
  free(args.workspace);
  return status == NORMA_OK;
}

static bool run_adain(problem_case *c, bool backward, norma_error *error) {
  problem_tensor *t = c->tensors;
  norma_adain_args args = c->adain;
  if (c->spec.inplace) {
    if (!copy_elements(&t[backward ? PROBLEM_DY : PROBLEM_X], &t[backward ? PROBLEM_DX : PROBLEM_Y], error)) {
      return false;
    }
    if (backward) {
      args.dy = args.dcontent;
    } else {
      args.content = args.y;
    }
  }
  size_t size = norma_adain_workspace(&args);
  if (!get_workspace(c, size, &args.workspace, error)) {
    return false;
  }
  args.workspace_size = args.workspace ? size : 0;
  norma_status status = backward ? norma_adain_backward(&args, error) : norma_adain(&args, error);
  free(args.workspace);
  return status == NORMA_OK;
}

bool problem_run(problem_case *c, norma_error *error) {
  const problem *p = &c->spec;
  for (int role = PROBLEM_INPUTS; role < PROBLEM_ROLES; role++) {
    if (c->tensors[role].data) {
      problem_tensor_poison(&c->tensors[role]);
    }
  }
  bool backward = p->direction != PROBLEM_FORWARD;
  bool forward = p->direction != PROBLEM_BACKWARD || p->stats == PROBLEM_STATS_SAVED || c->tensors[PROBLEM_SUM].data;
  if (p->kind == PROBLEM_ADAIN) {
    return (!forward || run_adain(c, false, error)) && (!backward || run_adain(c, true, error));
  }
  return (!forward || run_forward(c, error)) && (!backward || run_backward(c, error));
}

uint64_t problem_hash(uint64_t hash, const unsigned char *bytes, size_t size) {
  for (size_t i = 0; i < size; i++) {
    hash = (hash ^ bytes[i]) * 0x100000001b3u;
  }
  return hash;
}

uint64_t problem_checksum(const problem_case *c) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (int role = PROBLEM_INPUTS; role < PROBLEM_ROLES; role++) {
    const problem_tensor *t = &c->tensors[role];
    size_t size = t->data ? (size_t)t->elements * norma_type_size(t->type) : 0;
    unsigned char *bits = size ? malloc(size) : NULL;
    if (bits) {
      problem_tensor_gather(t, bits);
      hash = problem_hash(hash, bits, size);
    }
    free(bits);
  }
  return hash;
}
