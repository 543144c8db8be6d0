/* Prints one line per layer, type and memory layout: a checksum over the bytes of everything that forward and backward
 * return. test_bare_cc.py compares the lines of two builds of the library, and the lines of the layouts. */
#include <norma.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIMS = 4, ELEMENTS = 4 * 8 * 5 * 7, LAYOUTS = 3 };

static const int64_t shape[DIMS] = {4, 8, 5, 7};
static const char *const layout_names[LAYOUTS] = {"contiguous", "channels_last", "backwards"};

/* A tensor in one of the layouts; data is the logical element 0. */
typedef struct tensor {
  char memory[ELEMENTS * sizeof(double)];
  char *data;
  int64_t strides[DIMS];
} tensor;

typedef struct case_memory {
  tensor x, style, y, dy, dx, dstyle;
  char weight[ELEMENTS * sizeof(double)], bias[ELEMENTS * sizeof(double)];
  char dweight[ELEMENTS * sizeof(double)], dbias[ELEMENTS * sizeof(double)];
  char mean[ELEMENTS * sizeof(double)], var[ELEMENTS * sizeof(double)], rstd[ELEMENTS * sizeof(double)];
} case_memory;

static case_memory m;

static void must(norma_status status, const norma_error *error) {
  if (status != NORMA_OK) {
    fprintf(stderr, "checksum: %s: %s\n", norma_status_text(status), error->detail);
    exit(1);
  }
}

/* Values in [center - 2, center + 2) with 20 random bits. */
static double next_value(uint64_t *state, double center) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return center + (double)(int64_t)(*state >> 44) / 262144 - 2;
}

static char *element(const tensor *t, size_t size, int64_t index) {
  int64_t offset = 0;
  for (int d = DIMS - 1; d >= 0; index /= shape[d--]) offset += index % shape[d] * t->strides[d];
  return t->data + offset * (int64_t)size;
}

static void place(tensor *t, norma_type type, int layout) {
  t->data = t->memory;
  if (layout == 1) {
    norma_strides_channels_last(DIMS, shape, t->strides);
    return;
  }
  norma_strides_contiguous(DIMS, shape, t->strides);
  if (layout == 2) {
    for (int d = 0; d < DIMS; d++) t->strides[d] = -t->strides[d];
    t->data += (ELEMENTS - 1) * norma_type_size(type);
  }
}

static void fill(tensor *t, norma_type type, int layout, uint64_t seed, double center) {
  place(t, type, layout);
  for (int64_t i = 0; i < ELEMENTS; i++) {
    double value = next_value(&seed, center);
    norma_from_double(type, &value, element(t, norma_type_size(type), i), 1, 1);
  }
}

static void fill_params(void *to, norma_type type, uint64_t seed) {
  double values[ELEMENTS];
  for (int64_t i = 0; i < ELEMENTS; i++) values[i] = next_value(&seed, 0.5);
  norma_from_double(norma_param_type(type), values, to, 1, ELEMENTS);
}

/* FNV-1a, 64 bits. */
static void hash(uint64_t *sum, const void *bytes, size_t size) {
  for (size_t i = 0; i < size; i++) *sum = (*sum ^ ((const unsigned char *)bytes)[i]) * 1099511628211u;
}

static void hash_tensor(uint64_t *sum, const tensor *t, norma_type type) {
  size_t size = norma_type_size(type);
  for (int64_t i = 0; i < ELEMENTS; i++) hash(sum, element(t, size, i), size);
}

static void prepare(norma_type type, int layout) {
  fill(&m.x, type, layout, 1, 100);
  fill(&m.style, type, layout, 2, -3);
  fill(&m.dy, type, layout, 3, 0);
  place(&m.y, type, layout);
  place(&m.dx, type, layout);
  place(&m.dstyle, type, layout);
  fill_params(m.weight, type, 4);
  fill_params(m.bias, type, 5);
}

/* With an activation the style is a residual, before and after the norm; dstyle holds the sum, then its gradient. */
static void run_layer(const norma_layer *layer, norma_type type, norma_activation activation, uint64_t *sum) {
  norma_error error;
  norma_forward_args forward = {.size = sizeof forward, .layer = layer, .type = type, .eps = 1e-3};
  forward.x = m.x.data, forward.x_strides = m.x.strides, forward.y = m.y.data, forward.y_strides = m.y.strides;
  forward.weight = m.weight, forward.bias = m.bias;
  forward.mean = m.mean, forward.var = m.var, forward.rstd = m.rstd;
  forward.activation = activation;
  if (activation) {
    forward.residual = forward.after = m.style.data, forward.residual_strides = forward.after_strides = m.style.strides;
    forward.sum = m.dstyle.data, forward.sum_strides = m.dstyle.strides;
  }
  must(norma_forward(&forward, &error), &error);
  if (activation) hash_tensor(sum, &m.dstyle, type);

  norma_backward_args backward = {.size = sizeof backward, .layer = layer, .type = type, .eps = 1e-3};
  backward.x = m.x.data, backward.x_strides = m.x.strides, backward.dy = m.dy.data, backward.dy_strides = m.dy.strides;
  backward.dx = m.dx.data, backward.dx_strides = m.dx.strides;
  backward.weight = m.weight, backward.dweight = m.dweight, backward.dbias = m.dbias;
  backward.activation = activation, backward.bias = m.bias;
  if (activation) {
    backward.after = backward.dsum = m.style.data, backward.after_strides = backward.dsum_strides = m.style.strides;
    backward.dafter = m.dstyle.data, backward.dafter_strides = m.dstyle.strides;
  }
  must(norma_backward(&backward, &error), &error);

  size_t param_size = norma_type_size(norma_param_type(type));
  size_t units = (size_t)norma_layer_units(layer) * param_size, params = (size_t)norma_layer_params(layer) * param_size;
  hash_tensor(sum, &m.y, type);
  hash_tensor(sum, &m.dx, type);
  if (activation) hash_tensor(sum, &m.dstyle, type);
  hash(sum, m.mean, units), hash(sum, m.var, units), hash(sum, m.rstd, units);
  hash(sum, m.dweight, params), hash(sum, m.dbias, params);
}

static uint64_t run_activations(const norma_layer *layer, norma_type type) {
  uint64_t sum = 14695981039346656037u;
  for (int a = NORMA_ACT_NONE; a <= NORMA_GELU_TANH; a++) run_layer(layer, type, (norma_activation)a, &sum);
  return sum;
}

static uint64_t run_adain(const norma_layer *layer, norma_type type) {
  norma_error error;
  norma_adain_args args = {.size = sizeof args, .content_layer = layer, .style_layer = layer, .type = type};
  args.alpha = 0.75;
  args.content = m.x.data, args.content_strides = m.x.strides;
  args.style = m.style.data, args.style_strides = m.style.strides;
  args.y = m.y.data, args.y_strides = m.y.strides;
  args.dy = m.dy.data, args.dy_strides = m.dy.strides;
  args.dcontent = m.dx.data, args.dcontent_strides = m.dx.strides;
  args.dstyle = m.dstyle.data, args.dstyle_strides = m.dstyle.strides;
  must(norma_adain(&args, &error), &error);
  must(norma_adain_backward(&args, &error), &error);

  uint64_t sum = 14695981039346656037u;
  hash_tensor(&sum, &m.y, type);
  hash_tensor(&sum, &m.dx, type);
  hash_tensor(&sum, &m.dstyle, type);
  return sum;
}

int main(void) {
  static const struct {
    const char *name, *pattern, *affine, *sizes;
    int rms, adain;
  } layers[] = {
      {"batch", "[n] c [h w]", "c", NULL, 0, 0},
      {"layer", "n c h [w]", "w", NULL, 0, 0},
      {"layer_sample", "n [c h w]", "c h w", NULL, 0, 0},
      {"layer_channels_first", "n [c] h w", "c", NULL, 0, 0},
      {"instance", "n c [h w]", "c", NULL, 0, 0},
      {"group", "n (g [k]) [h w]", "(g k)", "g=4", 0, 0},
      {"rms", "n c [h w]", "h w", NULL, 1, 0},
      {"film", "n c [h w]", "n c", NULL, 0, 0},
      {"adain", "n c [h w]", NULL, NULL, 0, 1},
  };
  for (size_t l = 0; l < sizeof layers / sizeof layers[0]; l++) {
    norma_error error;
    norma_layer layer;
    must(norma_layer_parse(&layer, layers[l].pattern, layers[l].affine, layers[l].sizes, DIMS, shape, &error), &error);
    layer.rms = layers[l].rms;
    for (int t = NORMA_F32; t <= NORMA_BF16; t++) {
      for (int layout = 0; layout < LAYOUTS; layout++) {
        prepare((norma_type)t, layout);
        uint64_t sum = layers[l].adain ? run_adain(&layer, (norma_type)t) : run_activations(&layer, (norma_type)t);
        printf("%s %s %s %016" PRIx64 "\n", layers[l].name, norma_type_name((norma_type)t), layout_names[layout], sum);
      }
    }
  }
  return 0;
}
