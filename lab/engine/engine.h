/*
 * engine.h: a small training engine. Tensors, layers with an explicit forward and backward pass each, losses,
 * optimizers. Matrix products are CBLAS calls (OpenBLAS, one thread), every normalization is a call of norma.h.
 *
 * There is no graph and no automatic differentiation. A network is a layer that has layers in it:
 *
 *     layer *body = sequence(3, conv(&rng, 16, 16, 3, 1, PAD_ZERO, false), norm(spec, 16), relu());
 *     layer *net  = sequence(3, residual(body, NULL, true), global_mean(), linear(&rng, 16, 10, true));
 *     for (...) {
 *       tensor y = forward(net, x, TRAIN);
 *       double loss = cross_entropy(y, labels, dy);
 *       backward(net, dy);                           gradients are added to those in the parameters
 *       optimizer_step(&optimizer, net, rate);       uses and clears them
 *     }
 *     layer_free(net);
 *
 * Images are (n, channels, height, width), sequences (n, time, features), vectors (n, features); all dense, row-major.
 * A layer's result stays valid until its next forward (or backward) call. backward needs what forward saw: the tensors
 * given to forward must be unchanged until then. No result depends on anything but the values and the seed: the same
 * processor and the same OpenBLAS give the same bits.
 *
 * A lack of memory or a shape that does not fit ends the process with one line: a run is a process of its own.
 */
#ifndef LAB_ENGINE_H
#define LAB_ENGINE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "norma.h"

/* The type of all numbers. The gradient tests compile the same files with LAB_DOUBLE. */
#ifdef LAB_DOUBLE
typedef double real;
#else
typedef float real;
#endif

/* Sets OpenBLAS and Norma to one thread. Call it first. */
void engine_start(void);
/* Prints one line on stderr, with one write: runs beside this one print there, too. */
void engine_complain(const char *format, va_list arguments) __attribute__((format(printf, 1, 0)));
/* The same, and ends the process with exit status 1. */
_Noreturn void engine_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Memory aligned to 64 bytes, or the end of the process; zeroed. free() takes it back. */
void *engine_alloc(size_t bytes);

/* ---------------------------------------------------------------------------------------------------- random --- */

/* xoshiro256**: every stream of a run (weights, order of the data, noise) has its own. */
typedef struct rng {
  uint64_t state[4];
} rng;

rng rng_new(uint64_t seed, uint64_t stream);
uint64_t rng_next(rng *r);
double rng_uniform(rng *r);                  /* 0 <= u < 1 */
double rng_normal(rng *r);
int64_t rng_below(rng *r, int64_t n);        /* 0 <= i < n */
void rng_shuffle(rng *r, int32_t *items, int64_t n);

/* --------------------------------------------------------------------------------------------------- tensors --- */

/* A view; it owns nothing. */
typedef struct tensor {
  int ndim;
  int64_t dim[4];
  real *at;
} tensor;

tensor tensor2(real *at, int64_t a, int64_t b);
tensor tensor3(real *at, int64_t a, int64_t b, int64_t c);
tensor tensor4(real *at, int64_t a, int64_t b, int64_t c, int64_t d);
tensor tensor_like(tensor shape, real *at);
int64_t tensor_count(tensor t);
/* Elements per index of the first dimension. */
int64_t tensor_item(tensor t);
bool tensor_same_shape(tensor a, tensor b);

/* ---------------------------------------------------------------------------------------------------- layers --- */

/* What batch norm does. Other layers do the same in all phases. */
typedef enum phase {
  TRAIN,      /* statistics of the batch; running statistics move */
  RUNNING,    /* running statistics */
  PRECISE,    /* population statistics gathered by COLLECT (PreciseBN) */
  BATCH,      /* statistics of the batch, nothing moves */
  COLLECT     /* as BATCH, and the statistics are merged into the population's */
} phase;

typedef struct param {
  const char *name;
  int64_t count;
  real *value, *grad;
  real *first, *second;  /* the optimizer's moments */
} param;

typedef struct layer layer;

typedef struct layer_kind {
  const char *name;
  size_t size;  /* of the struct that begins with a layer */
  tensor (*forward)(layer *self, tensor x, phase phase);
  tensor (*backward)(layer *self, tensor dy);  /* adds to the parameters' gradients, returns that of x */
  void (*free)(layer *self);                   /* what the fields below do not own; may be NULL */
} layer_kind;

enum { LAYER_PARAMS = 4, LAYER_BUFFERS = 12 };

/* Concrete layers are structs that begin with one of these. Your own: see relu in activations.c. */
struct layer {
  const layer_kind *kind;
  param params[LAYER_PARAMS];
  int param_count;
  layer **children;
  int child_count;
  void *buffers[LAYER_BUFFERS];
  size_t buffer_bytes[LAYER_BUFFERS];
  tensor x, y;    /* what the last forward saw and returned */
  bool no_dx;     /* the input needs no gradient: backward may return anything (set it on a net's first layer) */
  bool fixed;     /* a conv's parameters need no gradient: backward leaves theirs alone */
};

tensor forward(layer *l, tensor x, phase phase);
tensor backward(layer *l, tensor dy);
void layer_free(layer *l);

/* For writers of layers. A buffer grows as needed; its contents do not survive that. */
layer *layer_new(const layer_kind *kind);
param *layer_param(layer *l, const char *name, int64_t count);
void layer_child(layer *l, layer *child);
void *layer_buffer(layer *l, int slot, size_t bytes);
real *layer_reals(layer *l, int slot, int64_t count);

/* Calls visit for every layer, outermost first, children in order; the same order for every call. */
void layer_visit(layer *l, void (*visit)(layer *l, void *context), void *context);
/* All parameters, in that order: how many numbers they are, clearing gradients, the length of the whole gradient. */
int64_t param_total(layer *l);
void gradient_clear(layer *l);
double gradient_norm(layer *l);
/* Copies all parameters, or all gradients, to or from one array of param_total numbers. */
void params_read(layer *l, real *out);
void params_write(layer *l, const real *in);
void gradients_read(layer *l, real *out);
void gradients_write(layer *l, const real *in);

/* Structure. They take the children into their possession. */
layer *sequence(int count, ...);                               /* of layer * */
void sequence_add(layer *sequence, layer *l);
layer *residual(layer *body, layer *shortcut, bool relu);      /* body(x) + shortcut(x), NULL: x; then max(0, .) */
layer *skip_connection(layer *body);                         /* x and body(x) as one tensor of all their channels */

typedef enum padding { PAD_ZERO, PAD_REPLICATE, PAD_REFLECT } padding;

/* Kernels are odd, and padded by half of them. The weights are He's: normal, variance 2 / (in * kernel^2). */
layer *conv(rng *r, int in, int out, int kernel, int stride, padding padding, bool bias);
/* On the last dimension. Normal weights of variance 1 / in. */
layer *linear(rng *r, int in, int out, bool bias);
layer *max_pool(void);      /* 2 x 2, stride 2 */
layer *average_pool(void);  /* 2 x 2, stride 2 */
layer *upsample(void);      /* to twice the size, nearest */
layer *global_mean(void);   /* (n, c, h, w) to (n, c); (n, t, d) to (n, d) */
layer *last_step(void);     /* (n, t, d) to (n, d) */
layer *relu(void);
layer *gelu(void);          /* the tanh form */
layer *tanh_layer(void);
/* Tokens, held as numbers in (n, t), to (n, t, features); adds a learned vector per position if positions > 0. */
layer *embedding(rng *r, int tokens, int features, int positions);
/* A learned vector per position, added to (n, t, features). */
layer *position(rng *r, int positions, int features);
/* (n, t, 3 features), queries, keys and values, to (n, t, features). */
layer *attention(int heads, bool causal);
/* The probabilities of the last forward pass, (n * heads, t, t). */
tensor attention_probabilities(layer *attention);

/* ------------------------------------------------------------------------------------------------- norm layers --- */

typedef enum norm_kind { NORM_NONE, NORM_BATCH, NORM_LAYER, NORM_PIXEL, NORM_INSTANCE, NORM_GROUP, NORM_RMS } norm_kind;

/* The channels are dimension 1 of images and the last one of sequences and vectors. gamma and beta are per channel. */
typedef struct norm_spec {
  norm_kind kind;
  int groups;       /* of NORM_GROUP; if that is 0: */
  int group_size;   /* channels per group */
  bool interleaved; /* of NORM_GROUP: channel c is in group c mod groups, instead of groups of neighbours */
  int ghost;        /* of NORM_BATCH: samples that share statistics, while the batch may be larger; 0: all */
  bool frozen;      /* of NORM_BATCH: TRAIN too uses the running statistics and leaves them */
  bool relu;        /* max(0, .) after it */
  double gamma;     /* the first value of gamma; 0: 1 */
  double momentum;  /* weight of the new value in the running statistics; 0: 0.1 */
} norm_spec;

/* "none", "bn", "bn_b8" (8 samples share statistics), "bn_frozen", "ln" (all of a sample; sequences: a token),
 * "pixel_ln" (the channels of one pixel), "in", "gn4" (4 groups), "gn_c4" (4 channels per group), "rms".
 * False if it is none of these. */
bool norm_parse(const char *text, norm_spec *spec);
layer *norm(norm_spec spec, int channels);
/* Of a NORM_BATCH layer, else NULL: its running statistics [channels]. */
float *norm_running_mean(layer *l);
float *norm_running_var(layer *l);
bool layer_is_norm(const layer *l);
/* Of a whole net: forget what COLLECT gathered; freeze or unfreeze every batch norm. */
void norms_forget(layer *net);
void norms_freeze(layer *net, bool frozen);
/* Does the net have a batch norm, so that the phases differ? */
bool net_has_batch_norm(layer *net);

/* The calls of which the layer is made, for layers that normalize many times within one pass (lstm.c). `slot` holds
 * what backward needs; `set` is the set of running statistics. In and out may be the same array. */
void norm_slots(layer *l, int slots, int sets);
void norm_run(layer *l, tensor x, real *y, phase phase, int slot, int set);
void norm_back(layer *l, tensor dy, real *dx, int slot);

typedef struct lstm_options {
  norm_spec norm;       /* of what comes from the input, from the state, and of the cell; NORM_NONE: a plain LSTM */
  int steps;            /* batch norm: a set of statistics for each of the first `steps` steps, the last for those
                           after; 0: one set for all steps */
} lstm_options;

/* (n, t, in) to (n, t, hidden). gates = norm(W x) + norm(U h) + b, h = o * tanh(norm(c)). */
layer *lstm(rng *r, int in, int hidden, lstm_options options);

/* ------------------------------------------------------------------------------------------------- ready nets --- */

/* Stem, three residual blocks of 2 convolutions with width, 2 width and 4 width channels (stride 1, 2, 2), mean,
 * linear. */
layer *resnet(rng *r, int channels, int width, int classes, norm_spec norm);
/* 3 levels of 2 convolutions, max pool down, nearest up, skips; out: classes per pixel. */
layer *unet(rng *r, int channels, int width, int levels, int classes, norm_spec norm);
/* One block of a transformer: attention and a 2-layer perceptron of 4 times the features, norm before or after. */
layer *transformer_block(rng *r, int features, int heads, bool causal, bool norm_first, norm_spec norm);

/* ------------------------------------------------------------------------------------------- style transfer --- */

/* The mean and the standard deviation of each channel of x become those of another tensor (norma_adain). That one is
 * set before each forward; x gets a gradient, it does not. */
layer *adain(void);
void adain_style(layer *adain, tensor style);

/* 3 x height x width pictures in -1..1 to features at three scales: 32 filters of 5 x 5, 48 and 64 of 3 x 3, random and
 * fixed, each followed by ReLU, average pooling between them. The filters sum to zero and so ignore brightness; six of
 * the first do not: the positive and the negative part of the three colours. */
enum { FILTER_SCALES = 3 };

typedef struct filter_net {
  layer *filters[FILTER_SCALES];  /* convolution and ReLU */
  layer *pools[FILTER_SCALES];    /* before the filters, NULL before the first */
} filter_net;

filter_net filter_net_new(rng *r);
void filter_net_free(filter_net *f);
/* Scales each filter so that its feature has mean square 1 on these pictures: all count alike then. */
void filter_net_calibrate(filter_net *f, tensor pictures);
/* The features stay valid until the next call. */
void filter_net_forward(filter_net *f, tensor x, tensor features[FILTER_SCALES]);
/* From the gradients of all features (which it changes) to that of x. */
tensor filter_net_backward(filter_net *f, tensor dfeatures[FILTER_SCALES]);

/* gram[a][b] = mean over all pixels and samples of feature a times feature b. */
void gram_matrix(tensor features, double *gram);
/* Mean over the samples of |gram(sample) - target|^2 / |target|^2; dy as in squared_error. */
double gram_loss(tensor features, const double *target, real *dy);

/* The mean and the standard deviation of each channel, [n][c] each. */
void channel_moments(tensor features, double *mean, double *deviation);
/* Mean over samples and channels of the squared differences to these means and deviations ([n][c] each), both added;
 * dy as above. */
double moment_loss(tensor features, const double *mean, const double *deviation, real *dy);

/* ---------------------------------------------------------------------------------------- losses, optimizers --- */

/* Mean over all labels >= 0 of -log softmax(y)[label]. y: (n, classes), (n, t, classes), or per pixel
 * (n, classes, h, w). `dy` receives the gradient (NULL: none wanted). `hits`, if given: how many are the largest. */
double cross_entropy(tensor y, const int32_t *labels, real *dy, int64_t *hits);
/* The class with the largest value, one per label of cross_entropy. */
void predict(tensor y, int32_t *classes);
/* Mean of (y - target)^2; dy as above. */
double squared_error(tensor y, const real *target, real *dy);

typedef struct optimizer {
  enum { SGD, ADAM } kind;
  double momentum;      /* SGD: v = momentum v + g, w -= rate v (PyTorch's) */
  double decay;         /* added to the gradient: decay * w */
  double beta1, beta2;  /* Adam; 0: 0.9, 0.999 */
  int64_t steps;
} optimizer;

void optimizer_step(optimizer *o, layer *net, double rate);
/* One cycle (Smith): cosine from peak / 25 up to peak within 30 % of the steps, and down to peak / 250,000. */
double one_cycle(int64_t step, int64_t steps, double peak);

#endif
