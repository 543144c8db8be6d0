/* Checksums of many problems in one manner: what two builds, two instruction sets or two memory layouts have to agree
 * on. One line per problem: the checksum, and the string as it was before the manner changed it. */
#include "internal.h"

#include <inttypes.h>

/* Problems that the sweep draws too seldom: tensors above 1 MiB, which are written past the caches, and runs and
 * channel counts about the lengths of the kernels' blocks and tiles. */
static const char *const large_problems[] = {
    "batch:n7,c3,h120,w121,dir=both,data=offset:1e3",
    "batch:n3,c96,h33,w33,layout=nhwc,dir=both,data=normal",
    "batch:n2,c600,h17,w17,layout=nhwc,type=f64,dir=both,data=offset:1e5",
    "batch:n300001,c1,dir=both,data=offset:1e2",
    "batch:n1201,c257,dir=both,data=scale:1e-3,act=relu",
    "batch:n9,c64,h25,w25,layout=nhwc,type=bf16,dir=both,add=both,act=silu",
    "batch:n9,c33,h56,w57,dir=both,add=after,act=relu",
    "batch:n32,c80,h7,w7,dir=both,add=both,act=gelu",
    "batch:n128,c11,h7,w7,dir=both,data=offset:10",
    "batch:n9,c13,h28,w29,dir=both,data=normal",
    "layer:n2048,d768,dir=both,add=before,type=bf16",
    "rms:n300,d4096,dir=both,add=both,act=silu,type=f16",
    "layer:n3,c97,h48,w49,axes=c,dir=both,add=after,act=silu",
    "layer:n4700,d64,dir=both,data=offset:10",
    "layer:n4700,d65,type=f64,dir=both",
    "layer:n81,d4097,dir=both,data=outlier",
    "layer:n36,d9000,type=f16,dir=both,data=offset:1e2",
    "layer:n3,c5,h144,w145,axes=c,dir=both,data=normal",
    "layer:n3,c257,h20,w21,axes=c,type=bf16,dir=both,data=offset:3",
    "layer:n2,c600,h17,w17,axes=c,layout=nhwc,dir=both,data=normal",
    "layer:n3,c4,h160,w161,axes=c.h.w,dir=both,act=gelu",
    "instance:n3,c4,h161,w160,dir=both,data=offset:1e4",
    "instance:n41,c160,h7,w7,dir=both,data=normal",
    "instance:n3,c96,h33,w33,layout=nhwc,type=f64,dir=both",
    "instance:n2,c257,h24,w25,layout=nhwc,type=f16,dir=both,data=normal",
    "group:n5,c64,h31,w31,g=16,dir=both,data=offset:1e2",
    "group:n5,c64,h31,w31,g=16,layout=nhwc,dir=both,data=offset:1e2,act=silu",
    "group:n2,c600,h17,w16,g=3,type=bf16,dir=both,data=normal",
    "rms:n4700,d65,dir=both,data=scale:1e3",
    "rms:n81,d4095,type=bf16,dir=both,plus_one=1",
    "adain:n3,c4,h161,w160,style=33x31,eps2=0,alpha=0.75,dir=both",
    "adain:n2,c96,h41,w40,style=24x25,layout=nhwc,type=f16,dir=both",
    "norm:n61,c8,l641,pattern=[n] (g [k]) l,g=2,affine=g l,dir=both,data=offset:1e2",
    "instance:n3,c4,h161,w160,dir=both,stats=given,affine=n c",
    "batch:n3,c5,h181,w160,dir=both,stats=given,data=offset:10",
    "group:n11,c96,h8,w8,g=12,dir=both,data=offset:1e2",
    "group:n11,c96,h7,w7,g=12,type=bf16,dir=both,data=normal",
    "instance:n12,c20,h13,w15,dir=both,stats=given,affine=n c,data=huge",
    "batch:n21,c70,h7,w7,type=f16,dir=both,data=huge",
    "batch:n5,c24,h57,w56,layout=nhwc,dir=both,add=both,act=silu",
    "batch:n2,c24,h37,w29,layout=nhwc,dir=both,data=huge",
    "batch:n5,c20,h33,w27,layout=nhwc,type=bf16,dir=both,stats=given",
    "instance:n2,c8,h65,w67,layout=nhwc,dir=both,affine=n c,data=offset:1e2",
    "instance:n3,c1030,h9,w9,layout=nhwc,dir=both,data=normal",
    /* The same kinds in float64. */
    "layer:n301,d100,type=f64,dir=both,data=offset:1e2",
    "layer:n31,d4097,type=f64,dir=both,data=offset:1e6",
    "layer:n5,c96,h14,w13,axes=c,type=f64,dir=both",
    "batch:n6,c5,h61,w63,type=f64,dir=both,data=offset:1e2",
    "batch:n601,c65,type=f64,dir=both,data=scale:1e3",
    "instance:n4,c9,h40,w41,type=f64,dir=both,data=offset:1e3",
    "group:n4,c12,h30,w31,g=4,type=f64,dir=both,act=gelu_tanh",
    "group:n4,c12,h30,w31,g=4,layout=nhwc,type=f64,dir=both",
    "rms:n71,d785,type=f64,dir=both",
    "adain:n2,c5,h63,w65,style=33x31,eps2=0,alpha=0.75,type=f64,dir=both",
};
enum { LARGE_PROBLEMS = sizeof large_problems / sizeof large_problems[0] };

static problem in_manner(const problem *p, const problem_manner *manner) {
  problem changed = *p;
  if (manner->layout != PROBLEM_AS_IT_SAYS && p->layout != PROBLEM_BROADCAST) { /* whose values are others */
    changed.layout = changed.out = (problem_layout)manner->layout;
  }
  if (manner->threads != PROBLEM_AS_IT_SAYS) {
    changed.threads = manner->threads;
  }
  if (manner->align != PROBLEM_AS_IT_SAYS) {
    changed.align = manner->align;
  }
  return changed;
}

/* With the moments of the units: float64 even where the results round away what another order of the sums changes. */
static uint64_t all_bits(const problem_case *c) {
  uint64_t hash = problem_checksum(c);
  int64_t units = c->moments && c->tensors[PROBLEM_Y].data ? norma_layer_units(&c->layer) : 0;
  for (int64_t u = 0; u < units; u++) {
    const norma_moments *m = &c->moments[u];
    const double values[] = {m->mean, m->mean_lo, m->m2, m->m2_lo};
    hash = problem_hash(hash, (const unsigned char *)values, sizeof values);
  }
  return hash;
}

static bool print_checksum(FILE *to, const problem *p, const problem_manner *manner, norma_error *error) {
  char text[PROBLEM_TEXT_SIZE];
  problem changed = in_manner(p, manner);
  problem_case c;
  if (!problem_build(&c, &changed, error)) {
    return false;
  }
  bool ran = problem_run(&c, error);
  problem_format(p, text, sizeof text);
  if (ran) {
    fprintf(to, "%016" PRIx64 " %s\n", all_bits(&c), text);
  }
  problem_free(&c);
  return ran;
}

bool problem_checksums(FILE *to, uint64_t seed, int64_t count, const problem_manner *manner, norma_error *error) {
  problem p;
  for (int i = 0; i < LARGE_PROBLEMS; i++) {
    if (!problem_parse(large_problems[i], &p, error) || !print_checksum(to, &p, manner, error)) {
      return false;
    }
  }
  for (int64_t i = 0; i < count; i++) {
    problem_random(seed, (uint64_t)i, &p);
    if (!print_checksum(to, &p, manner, error)) {
      return false;
    }
  }
  return true;
}
