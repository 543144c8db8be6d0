/*
 * Trains a small net for 20 steps and writes everything that another program needs to do the same:
 *
 *     train_steps NET DIR     NET: cnn, unet, transformer, lstm, lstm_ln
 *
 * DIR/NET.x.f32 and NET.labels.i32, the data; NET.params.f32, the first parameters in the order of layer_visit;
 * standard output: the loss of each step. tests/lab/compare_torch.py trains the same nets with PyTorch.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

enum { STEPS = 20, SAMPLES = 16 };

typedef struct problem {
  layer *net;
  tensor x;
  int32_t *labels;
  int64_t label_count;
  int classes;
  optimizer optimizer;
  double rate;
} problem;

static norm_spec spec_of(const char *name) {
  norm_spec spec;
  if (!norm_parse(name, &spec)) {
    engine_die("no norm %s", name);
  }
  return spec;
}

static layer *make_transformer(rng *r) {
  layer *net = sequence(1, embedding(r, 17, 16, 12));
  for (int i = 0; i < 2; i++) {
    sequence_add(net, transformer_block(r, 16, 4, true, i == 0, spec_of("ln")));
  }
  sequence_add(net, norm(spec_of("ln"), 16));
  sequence_add(net, linear(r, 16, 17, true));
  return net;
}

static layer *make_lstm(rng *r, const char *norm_name) {
  lstm_options options = {.norm = spec_of(norm_name)};
  return sequence(3, lstm(r, 5, 8, options), last_step(), linear(r, 8, 4, true));
}

static problem make_problem(const char *name, rng *r) {
  problem p = {.optimizer = {.kind = ADAM}, .rate = 3e-3};
  if (strcmp(name, "cnn") == 0) {
    p.net = resnet(r, 1, 8, 10, spec_of("bn"));
    p.x = tensor4(NULL, SAMPLES, 1, 14, 14);
    p.label_count = SAMPLES, p.classes = 10;
    p.optimizer = (optimizer){.kind = SGD, .momentum = 0.9, .decay = 5e-4};
    p.rate = 0.1;
  } else if (strcmp(name, "unet") == 0) {
    p.net = unet(r, 3, 4, 3, 2, spec_of("gn2"));
    p.x = tensor4(NULL, SAMPLES, 3, 16, 16);
    p.label_count = SAMPLES * 256, p.classes = 2;
  } else if (strcmp(name, "transformer") == 0) {
    p.net = make_transformer(r);
    p.x = tensor2(NULL, SAMPLES, 12);
    p.label_count = SAMPLES * 12, p.classes = 17;
  } else if (strcmp(name, "lstm") == 0 || strcmp(name, "lstm_ln") == 0) {
    p.net = make_lstm(r, strcmp(name, "lstm") == 0 ? "none" : "ln");
    p.x = tensor3(NULL, SAMPLES, 9, 5);
    p.label_count = SAMPLES, p.classes = 4;
    p.optimizer = (optimizer){.kind = SGD, .momentum = 0.9};
    p.rate = 0.5;
  } else {
    engine_die("no net %s", name);
  }
  return p;
}

static void make_data(problem *p, bool tokens) {
  rng r = rng_new(5, 5);
  int64_t count = tensor_count(p->x);
  p->x.at = engine_alloc((size_t)count * sizeof(real));
  p->labels = engine_alloc((size_t)p->label_count * sizeof *p->labels);
  for (int64_t i = 0; i < count; i++) {
    p->x.at[i] = tokens ? (real)rng_below(&r, p->classes) : (real)rng_normal(&r);
  }
  for (int64_t i = 0; i < p->label_count; i++) {
    p->labels[i] = (int32_t)rng_below(&r, p->classes);
  }
}

static void save(const char *folder, const char *name, const char *what, const void *from, size_t bytes) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s.%s", folder, name, what);
  FILE *file = fopen(path, "wb");
  if (file == NULL || fwrite(from, 1, bytes, file) != bytes || fclose(file) != 0) {
    engine_die("cannot write %s", path);
  }
}

int main(int argc, char **argv) {
  if (argc != 3) {
    engine_die("usage: train_steps NET DIR");
  }
  engine_start();
  rng r = rng_new(3, 1);
  problem p = make_problem(argv[1], &r);
  make_data(&p, strcmp(argv[1], "transformer") == 0);
  int64_t total = param_total(p.net);
  real *params = engine_alloc((size_t)total * sizeof *params);
  params_read(p.net, params);
  save(argv[2], argv[1], "params.f32", params, (size_t)total * sizeof *params);
  save(argv[2], argv[1], "x.f32", p.x.at, (size_t)tensor_count(p.x) * sizeof(real));
  save(argv[2], argv[1], "labels.i32", p.labels, (size_t)p.label_count * sizeof *p.labels);
  real *dy = engine_alloc((size_t)(p.label_count * p.classes) * sizeof *dy);
  for (int step = 0; step < STEPS; step++) {
    tensor y = forward(p.net, p.x, TRAIN);
    printf("%.9g\n", cross_entropy(y, p.labels, dy, NULL));
    backward(p.net, tensor_like(y, dy));
    optimizer_step(&p.optimizer, p.net, p.optimizer.kind == SGD ? one_cycle(step, STEPS, p.rate) : p.rate);
  }
  layer_free(p.net);
  free(params);
  free(p.x.at);
  free(p.labels);
  free(dy);
  return 0;
}
