/*
 * norma.h: normalization layers for neural networks. Batch, layer, instance, group and RMS norm, AdaIN, conditional
 * affine and any layer of your own; forward and backward; training and inference; PyTorch's semantics.
 *
 * A normalization layer answers one question: which elements share a mean and a variance? Here the answer is written
 * down as a pattern. Axes are named in the order of the shape, brackets mark those that share, parentheses split one
 * dimension into several axes, and a second list names the axes along which gamma and beta change:
 *
 *     layer                  pattern                      gamma, beta   one mean per
 *     batch                  [n] c [h w]                  c             channel
 *     layer                  n t [d]                      d             token
 *     layer, channels first  n [c] h w                    c             pixel
 *     instance               n c [h w]                    c             sample and channel
 *     group                  n (g [k]) [h w]              (g k)         sample and group
 *
 * A UNIT is a set of elements that share one mean; it has m elements. For each unit
 *
 *     mean = sum(x) / m                      (RMS: mean = 0)
 *     var  = sum((x - mean)^2) / (m - ddof)
 *     rstd = 1 / sqrt(var + eps)             (0 where var + eps = 0)
 *     xhat = (x - mean) * rstd
 *     y    = xhat * gamma + beta
 *
 * A residual before the norm, one after it and an activation may join in, y = act(xhat * gamma + beta + after); per
 * sample scale and shift (FiLM, adaLN) are an affine list. With q = dy * gamma, backward is (docs/derivation.md)
 *
 *     dx     = rstd * (q - sum(q)/m - xhat * sum(q * xhat)/(m - ddof))    (RMS: without sum(q)/m)
 *     dx     = rstd * q                                                   (statistics given)
 *     dgamma = sum(dy * xhat),  dbeta = sum(dy)                           (over all that share the gamma)
 *
 * THE RULES, the same in every layer
 *
 *     a unit of 0 elements          y is empty, parameter gradients are 0, moments have count 0 and update nothing;
 *                                   its mean and var are written as 0
 *     a unit of 1 element           y = beta, dx = 0, dgamma += 0, dbeta += dy (RMS: its formula);
 *                                   with NORMA_REFUSE_SINGLE: NORMA_SINGLE_VALUE, nothing is written
 *     a constant unit               y = beta exactly, dgamma += 0 exactly, dx = rstd * (q - mean(q)), 0 for constant q
 *     variance 0 and eps 0          rstd = 0: y = beta, dx = 0
 *     NaN or Inf in x of a unit     y and dx of that unit are NaN, so are the parameter gradients it contributes to;
 *                                   with given statistics elementwise, as IEEE arithmetic has it
 *     NaN or Inf in dy of a unit    dx of that unit is NaN; its addends of dgamma and dbeta as IEEE arithmetic has it
 *     an activation                 of NaN is NaN, of -Inf 0, of Inf Inf; its slope there is NaN, 0 and 1; the lines
 *                                   above speak of y before it and of dz = dy * slope in place of dy
 *     every NaN result              one canonical quiet NaN (sign 0, only the quiet bit set)
 *     eps negative or NaN, 0 groups, groups that do not divide the channels, a dimension of 0 channels for group norm,
 *     null pointers, sizes that overflow, a negative given variance, overlapping memory: an error that names the
 *     argument; nothing is written
 *
 * PROMISES (docs/accuracy.md derives them; `norma check` measures them)
 *
 *     float32  |y - y*| <= 5e-7 (|gamma xhat| + |beta|) + 1e-14 |gamma| (1 + |mean| rstd) + 1e-37  for any finite input
 *     float64  |y - y*| <= 1e-14 (|gamma xhat| + |beta| + |gamma|) + 1e-305
 *     float16, bfloat16: the float32 result rounded once
 *     activations: 1.13 times the bound of z, and 3 * 2^-24 (|act(z)| + min(|z|, 1)) + 1e-36, float64 with 2^-53
 *     gradients: 1e-5 of the tensor's largest gradient + 1e-7 (dx: 2e-6) of its largest term (float64: 1e-12 of both,
 *     where no product dy * gamma or rstd * q leaves 1e-290 .. 1e290; docs/accuracy.md section 5 has the limits,
 *     section 1 what an activation adds)
 *     The bits of a result depend on the values, the logical shape and the layer alone: not on the number of threads,
 *     the position in the batch, alignment, memory layout or the instruction set that the kernels use.
 *
 * CONVENTIONS
 *
 *     Sizes and strides are int64_t and count elements. `strides` has one entry per dimension of the tensor, in the
 *     order of the shape, and NULL means dense row-major. Any permutation, slice or negative stride is fine: NHWC is
 *     shape {n,c,h,w} with strides {h*w*c, 1, w*c, c}. A pointer addresses the element with all indices 0, also where
 *     strides are negative. Inputs may be broadcast (stride 0) and may overlap each other; the strides of an output are
 *     those of a permutation or slice of a dense tensor, and what lies between its elements is not touched.
 *     float16 and bfloat16 are held as their 16 bits, in a uint16_t.
 *     Parameters and statistics are float32 whatever the type of the data; float64 with float64 data.
 *     In place: y may be x or after, sum may be x or residual, dx may be dy or dsum, dafter may be dy, if pointer and
 *     strides are equal. No other output may share an element with anything. Pointers are aligned to their element.
 *     Structs start with their own size; all other fields may be zero, and zero means the default.
 *     Functions never print or abort. They keep no state but the default thread pool (norma_set_num_threads) and the
 *     choice of an instruction set (norma_isa), and allocate only a workspace that the caller did not give, and that
 *     pool. All of them are thread-safe as long as no two calls write the same memory. The rounding mode, flush-to-zero
 *     and trap settings of the calling thread are ignored and preserved, and no exception flags are left behind.
 *     A workspace may have any alignment and contents; it overlaps nothing else, and one call at a time uses it.
 *     A call needs at most 256 KiB of stack, on its own thread and on those of your pool.
 *     On error a function returns a status other than NORMA_OK, fills `error` (which may be NULL) and writes nothing.
 */
#ifndef NORMA_H
#define NORMA_H

#include <stddef.h>
#include <stdint.h>

#define NORMA_VERSION_MAJOR 0
#define NORMA_VERSION_MINOR 1
#define NORMA_VERSION_PATCH 0
#define NORMA_VERSION (NORMA_VERSION_MAJOR * 10000 + NORMA_VERSION_MINOR * 100 + NORMA_VERSION_PATCH)

#if defined(__GNUC__)
#define NORMA_API __attribute__((visibility("default")))
#else
#define NORMA_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the library that runs, in the form of NORMA_VERSION (0.1.0 is 100). */
NORMA_API int norma_version(void);
/* The instruction set in use: "scalar", "sse2", "avx2", "avx512" or "neon", the best of this processor. The environment
 * variable NORMA_ISA, read at the first call, can name a lower one. All give the same bits. */
NORMA_API const char *norma_isa(void);

/* ---------------------------------------------------------------------------------------------------- errors --- */

typedef enum norma_status {
  NORMA_OK = 0,
  NORMA_BAD_ARGUMENT,   /* a null pointer, an impossible value */
  NORMA_BAD_SHAPE,      /* sizes that do not fit each other, or overflow */
  NORMA_BAD_PATTERN,    /* a pattern or affine list that cannot be read */
  NORMA_OVERLAP,        /* an output shares memory with another tensor or with itself */
  NORMA_SINGLE_VALUE,   /* one value per unit, and the caller refuses that */
  NORMA_NOT_FINITE,     /* NaN or Inf where the caller refuses it */
  NORMA_NOT_FOLDABLE,   /* this layer has no fixed scale and shift per channel */
  NORMA_NO_MEMORY,      /* the workspace is too small or could not be allocated */
  NORMA_RANKS_DISAGREE, /* norma_sync.h: other processes made another call, or a wrong one */
  NORMA_RANK_LOST       /* norma_sync.h: another process did not come in time, or cannot be reached */
} norma_status;

/* What went wrong, in words: the argument, what it was, what would be right. Filled on failure only. */
typedef struct norma_error {
  norma_status status;
  char detail[248];
} norma_error;

/* A short static text for a status, "unknown status" for any other number. */
NORMA_API const char *norma_status_text(norma_status status);

/* ----------------------------------------------------------------------------------------------------- types --- */

typedef enum norma_type { NORMA_F32 = 0, NORMA_F64 = 1, NORMA_F16 = 2, NORMA_BF16 = 3 } norma_type;

/* Bytes per element, 0 for an unknown type. */
NORMA_API size_t norma_type_size(norma_type type);
/* "f32", "f64", "f16", "bf16"; "?" for an unknown type. */
NORMA_API const char *norma_type_name(norma_type type);
/* The type of parameters and statistics that goes with data of this type: f64 for f64, else f32. */
NORMA_API norma_type norma_param_type(norma_type data_type);

enum { NORMA_MAX_DIMS = 8, NORMA_MAX_AXES = 16, NORMA_NAME_SIZE = 16 };

/* Strides of a dense tensor, of a shape that norma_layer_parse accepts: row-major (NCHW for {n,c,h,w}), or channels
 * last (NHWC: dimension 1 varies fastest). */
NORMA_API void norma_strides_contiguous(int ndim, const int64_t *shape, int64_t *strides);
NORMA_API void norma_strides_channels_last(int ndim, const int64_t *shape, int64_t *strides);

/* ---------------------------------------------------------------------------------------------------- layers --- */

enum {
  NORMA_SHARE = 1,  /* the elements along this axis share one mean and variance */
  NORMA_AFFINE = 2  /* gamma and beta change along this axis */
};

typedef struct norma_axis {
  char name[NORMA_NAME_SIZE];
  int64_t length;
  int dim;        /* the dimension of the tensor it belongs to; several axes may split one dimension, outermost first */
  unsigned bits;  /* NORMA_SHARE | NORMA_AFFINE */
} norma_axis;

/* A layer on tensors of one shape. Made by the functions below; plain data, copy it as you like. */
typedef struct norma_layer {
  size_t size;  /* sizeof(norma_layer), set by the functions that make one */
  int ndim;
  int64_t shape[NORMA_MAX_DIMS];
  int axis_count;
  norma_axis axes[NORMA_MAX_AXES];
  int rms;  /* 1: the mean is fixed at 0 */
} norma_layer;

/*
 * The general constructor: a pattern as in the table above. `...` (at most once) stands for all dimensions that the
 * other names leave over, also none; `[...]` shares them. `affine` lists axis names in the order of the pattern
 * ("" or NULL: no gamma and beta); `...` there means the axes it stood for. `sizes` gives lengths that the shape does
 * not determine: "g=32", or NULL; in a split dimension one length may be left out. Example: group norm is
 *
 *     norma_layer_parse(&layer, "n (g [k]) [...]", "(g k)", "g=32", ndim, shape, &error);
 *
 * Axis names start with a letter and have up to 15 letters, digits or underscores.
 */
NORMA_API norma_status norma_layer_parse(norma_layer *layer, const char *pattern, const char *affine, const char *sizes,
                                         int ndim, const int64_t *shape, norma_error *error);

/* The inverse: writes the pattern ("n (g [k]) [h w]") and the affine list ("(g k)"), both NUL-terminated. Either buffer
 * may be NULL. Errors: NORMA_BAD_ARGUMENT if a buffer is too small; 512 bytes are always enough. */
NORMA_API norma_status norma_layer_format(const norma_layer *layer, char *pattern, size_t pattern_size, char *affine,
                                          size_t affine_size, norma_error *error);

/* The named layers. Dimension 0 is the batch and dimension 1 the channels, except in norma_layer_norm. */
NORMA_API norma_status norma_layer_batch(norma_layer *layer, int ndim, const int64_t *shape, norma_error *error);
NORMA_API norma_status norma_layer_instance(norma_layer *layer, int ndim, const int64_t *shape, norma_error *error);
NORMA_API norma_status norma_layer_group(norma_layer *layer, int64_t groups, int ndim, const int64_t *shape,
                                         norma_error *error);
/* Layer norm over the last `count` dimensions, and over any set of dimensions: bit i of `dims` stands for dimension i,
 * so 1u << 1 is the channels-first layer norm of ConvNeXt. gamma and beta have the shape of what is normalized. */
NORMA_API norma_status norma_layer_norm(norma_layer *layer, int count, int ndim, const int64_t *shape,
                                        norma_error *error);
NORMA_API norma_status norma_layer_norm_dims(norma_layer *layer, unsigned dims, int ndim, const int64_t *shape,
                                             norma_error *error);
/* The same two with the mean fixed at 0 (RMS norm). Any layer becomes its RMS form by setting layer.rms = 1. */
NORMA_API norma_status norma_layer_rms(norma_layer *layer, int count, int ndim, const int64_t *shape,
                                       norma_error *error);
NORMA_API norma_status norma_layer_rms_dims(norma_layer *layer, unsigned dims, int ndim, const int64_t *shape,
                                            norma_error *error);
/* Another affine list for a layer that exists: "n c" for FiLM, conditional batch or instance norm, "n d" for adaLN. */
NORMA_API norma_status norma_layer_affine(norma_layer *layer, const char *affine, norma_error *error);

/* The number of units (= means), elements per unit, gammas, and elements of the tensor. */
NORMA_API int64_t norma_layer_units(const norma_layer *layer);
NORMA_API int64_t norma_layer_unit_elements(const norma_layer *layer);
NORMA_API int64_t norma_layer_params(const norma_layer *layer);
NORMA_API int64_t norma_layer_elements(const norma_layer *layer);
/* How many parts the elements of a unit come in that merge one after the other: positions of dimension 0 where that is
 * summed over, as in batch norm (whose parts are its samples), else 1. Also 1 for batch norm on (n, c) alone. */
NORMA_API int64_t norma_layer_samples(const norma_layer *layer);

/* ------------------------------------------------------------------------------------------------ statistics --- */

/*
 * Statistics as a value: the number of elements, their mean (mean + mean_lo, so that it is held beyond float64) and
 * the sum of squared distances from it (m2 + m2_lo). All zero is the empty set. Of an RMS layer mean is 0 and m2 the
 * sum of squares. Moments merge exactly as sets do, up to rounding. float64 data beyond about 1e150 can overflow m2.
 */
typedef struct norma_moments {
  int64_t count;
  double mean, mean_lo;
  double m2, m2_lo;
} norma_moments;

/* Adds n elements, `stride` apart. Equals:  for (i = 0; i < n; i++) add(x[i * stride]);  in the order of
 * docs/accuracy.md. */
NORMA_API norma_status norma_moments_add(norma_moments *moments, norma_type type, const void *x, int64_t n,
                                         int64_t stride, norma_error *error);
/* into = into + other (Chan, Golub, LeVeque 1979). The order of merging changes the last bits. */
NORMA_API void norma_moments_merge(norma_moments *into, const norma_moments *other);
/* var = m2 / (count - ddof): ddof 0 is the biased variance, 1 the unbiased. mean and var may be NULL.
 * Errors: NORMA_SINGLE_VALUE if count <= ddof. */
NORMA_API norma_status norma_moments_finish(const norma_moments *moments, int ddof, double *mean, double *var,
                                            norma_error *error);

typedef enum norma_convention {
  NORMA_PYTORCH = 0,    /* momentum is the weight of the NEW value (default 0.1), variance unbiased */
  NORMA_ONNX = 1,       /* momentum is the weight of the OLD value (default 0.9), variance biased; Keras and Flax too */
  NORMA_CUMULATIVE = 2  /* equal weights over all batches so far, variance unbiased (PyTorch's momentum=None) */
} norma_convention;

typedef enum norma_not_finite {
  NORMA_NOT_FINITE_STORE = 0,   /* store them, as PyTorch does */
  NORMA_NOT_FINITE_REFUSE = 1,  /* NORMA_NOT_FINITE, the detail names the channel, no channel is changed */
  NORMA_NOT_FINITE_SKIP = 2     /* leave such a channel as it was */
} norma_not_finite;

typedef struct norma_running_args {
  size_t size;                   /* sizeof(norma_running_args) */
  norma_type type;               /* of the running arrays: NORMA_F32 or NORMA_F64 */
  norma_convention convention;
  double momentum;               /* in (0, 1]; 0: the convention's default; not used by NORMA_CUMULATIVE */
  int64_t batches;               /* NORMA_CUMULATIVE: batches seen, this one included (>= 1) */
  int64_t channels;
  int64_t samples;               /* 0 or 1: one set of moments; n: instance norm, whose n updates are averaged */
  const norma_moments *moments;  /* [samples][channels], from norma_forward or your own */
  void *running_mean;            /* [channels], updated; may be NULL */
  void *running_var;             /* [channels], updated, never negative; may be NULL */
  norma_not_finite not_finite;
} norma_running_args;

/*
 * Moves the running statistics once. Equals, for each channel c:
 *
 *     running_mean[c] = (1 - f) * running_mean[c] + f * mean;     f: weight of the new value
 *     running_var[c]  = (1 - f) * running_var[c]  + f * var;      var as the convention has it
 *
 * A channel whose moments have count 0 stays as it was. An unbiased variance of 1 element is NORMA_SINGLE_VALUE, a
 * running variance that is negative already NORMA_BAD_ARGUMENT. On error no channel is changed.
 */
NORMA_API norma_status norma_running_update(const norma_running_args *args, norma_error *error);

/* ------------------------------------------------------------------------------------------ forward, backward --- */

/* Your thread pool: calls task(context, i) once for every i in 0..count-1, in any order, on any threads, and returns
 * when all are done. Results do not depend on it. run NULL: the default pool, see below. */
typedef struct norma_threads {
  void (*run)(void *pool, int64_t count, void (*task)(void *context, int64_t index), void *context);
  void *pool;
} norma_threads;

/*
 * The default pool, for calls whose `threads` is NULL: the calling thread and count - 1 threads of the library, which
 * sleep between calls. They start when a call first has 32 KiB of work for them, block all signals, and serve one call
 * at a time: while they do, calls of other threads run on those alone. After fork the child has a pool of its own. A
 * thread that cannot be started is done without.
 *
 * The count is, at most 64: what was set here; else the environment variable NORMA_NUM_THREADS, if it is a positive
 * integer; else the number of CPUs that the calling thread may run on. 1: calls start no threads and use none.
 */
/* Takes effect at the next call. 0: back to the default, which is then determined anew. Any thread may call it. */
NORMA_API void norma_set_num_threads(int count);
/* The count, the calling thread included: at least 1. */
NORMA_API int norma_num_threads(void);

/* Flags. A bit that a function does not know is an error. */
enum {
  NORMA_EPS_ZERO = 1,         /* eps is really 0 (a zero field means the default) */
  NORMA_REFUSE_SINGLE = 2,    /* one element per unit is an error, as in PyTorch's training mode (not where
                                 statistics are given) */
  NORMA_WEIGHT_PLUS_ONE = 4,  /* gamma = 1 + weight, added in float32 or wider (adaLN); dweight is the same; forward,
                                 backward and fold take it; without a weight it does nothing */
  NORMA_ALPHA_ZERO = 8,       /* AdaIN: alpha is really 0 */
  NORMA_STYLE_EPS_ZERO = 16   /* AdaIN: style_eps is really 0 */
};

/* Applied last, to z = xhat * gamma + beta + after. The formulas stand beside norma_forward. */
typedef enum norma_activation {
  NORMA_ACT_NONE = 0,
  NORMA_RELU = 1,
  NORMA_SILU = 2,      /* z / (1 + exp(-z)), also called Swish */
  NORMA_GELU = 3,      /* z / 2 * (1 + erf(z / sqrt(2))) */
  NORMA_GELU_TANH = 4  /* z / 2 * (1 + tanh(sqrt(2 / pi) * (z + 0.044715 z^3))) */
} norma_activation;

/* What backward needs of a unit beyond x, at full precision: (scale * x - mean - mean_lo) * rstd is xhat. It belongs to
 * that x, layer, type, eps and ddof. Backward reads x again, so a forward pass in place has to keep a copy of x. */
typedef struct norma_saved {
  double mean, mean_lo, rstd, scale;
} norma_saved;

/*
 * Arrays per gamma ("param arrays": weight, bias, dweight, dbias) have norma_layer_params elements; arrays per unit
 * ("unit arrays": mean, var, rstd, saved, moments) norma_layer_units; both dense, in the order of the pattern. Where
 * strides can be given there is one entry per DIMENSION of the tensor, and entries of dimensions that the array does
 * not vary along are ignored: a FiLM scale that is the first half of an (n, 2c) tensor has {2 * c, 1, 0, 0}.
 */
typedef struct norma_forward_args {
  size_t size;  /* sizeof(norma_forward_args) */
  const norma_layer *layer;
  norma_type type;           /* of x, y, residual, sum and after */
  const void *x;             /* the layer's shape */
  const int64_t *x_strides;
  void *y;                   /* may be x or after; NULL: only the statistics */
  const int64_t *y_strides;
  const void *weight;        /* gamma, param array; NULL: 1 */
  const void *bias;          /* beta, param array; NULL: 0 */
  const int64_t *weight_strides, *bias_strides;
  double eps;                /* >= 0; 0: the default, 1e-5; RMS 2^-23, with float64 2^-52 */
  int ddof;                  /* 0: biased variance (every common layer); 1: unbiased */
  unsigned flags;
  const void *given_mean;    /* unit arrays: normalize with these (evaluation, frozen); both or none; */
  const void *given_var;     /* RMS: given_var alone, the mean square */
  const int64_t *given_strides;  /* of both */
  void *mean, *rstd, *var;   /* unit arrays out, param type, rounded; each may be NULL. var is m2 / (m - ddof) */
  norma_saved *saved;        /* unit array out for norma_backward; may be NULL */
  norma_moments *moments;    /* unit array out for norma_running_update; not with given statistics; may be NULL */
  const norma_threads *threads;  /* NULL: the default pool */
  void *workspace;               /* NULL: allocated and freed by the call */
  size_t workspace_size;         /* at least norma_forward_workspace() */
  const void *residual;          /* added before the norm, the layer's shape and type; NULL: none */
  const int64_t *residual_strides;
  void *sum;                     /* receives x + residual, which is what is normalized and what backward takes as x; */
  const int64_t *sum_strides;    /* may be x or residual; given if and only if residual is */
  const void *after;             /* added after gamma and beta, before the activation; NULL: none */
  const int64_t *after_strides;
  norma_activation activation;
  norma_moments *sample_moments; /* out, [norma_layer_samples][units]; NULL: not wanted; see below */
  const norma_moments *given_moments;  /* [given_samples][units]: the statistics of more than this x; may be NULL */
  int64_t given_samples;
} norma_forward_args;

/*
 * Normalizes. Equals, with unit(i) and param(i) the unit and the gamma of element i:
 *
 *     for each unit u:     mean[u], var[u] as above, over the elements i with unit(i) == u, or as given
 *     for each element i:  y[i] = (x[i] - mean[unit(i)]) * rstd[unit(i)] * weight[param(i)] + bias[param(i)]
 *
 * With a residual, x above is sum[i] = x[i] + residual[i], added in float32 (float64 for float64 data) and rounded once
 * to the type: y has the bits of a call on the sum. Then y[i] = act(z[i]) with z[i] the y above plus after[i], all in
 * float64 and rounded once to float32; act is a float32 function (float64 data: both float64), made of + - * / and
 * comparisons, so the same on every machine (src/kernels/activation.h), and 16-bit data rounds it once more.
 * NORMA_RELU gives the bits of max(y, 0) for the y of a call without it (+0 for -0).
 *
 * Statistics that are shared with other tensors (a batch in pieces or on several machines, samples of several lengths)
 * go through two calls. sample_moments receives the moments of each sample; of all tensors together, in order, they
 * are the given_moments of the second call, whose mean, var, rstd, moments and y have the bits of one call on the
 * concatenated tensor. (Not of float64 data whose squares overflow.) This x then may be empty. sample_moments needs a
 * layer whose parts are runs, as those of batch and instance norm are: dimension 0 summed over as a whole or not at
 * all, dimension 1 not.
 *
 * Errors: all but NORMA_NOT_FINITE and NORMA_NOT_FOLDABLE.
 */
NORMA_API norma_status norma_forward(const norma_forward_args *args, norma_error *error);

/* Bytes of workspace that a call with these arguments needs, 0 if they are wrong: then the call says why. Fill in the
 * other fields first; tensors are not read, and the size depends on the layer,
 * and on whether sample_moments (backward: sample_sums) are wanted. */
NORMA_API size_t norma_forward_workspace(const norma_forward_args *args);

/* What dx needs of a unit beyond what is saved, for a part of its elements: their number, the first dy of them, and
 * two sums, each as hi + lo. With an activation dy is dz. */
typedef struct norma_sums {
  int64_t count;
  double first;
  double dy, dy_lo;            /* the sum of dy; for float64 data of dy - first */
  double dy_xhat, dy_xhat_lo;  /* the sum of dy * xhat */
} norma_sums;

/* into = into + other, of data of one type. The order of merging changes the last bits. */
NORMA_API void norma_sums_merge(norma_sums *into, norma_type type, const norma_sums *other);

typedef struct norma_backward_args {
  size_t size;  /* sizeof(norma_backward_args) */
  const norma_layer *layer;
  norma_type type;           /* of x, dy, dx, after, dafter and dsum */
  const void *x;             /* the input of the forward pass */
  const int64_t *x_strides;
  const void *dy;            /* the gradient of y */
  const int64_t *dy_strides;
  void *dx;                  /* may be dy or dsum; may be NULL */
  const int64_t *dx_strides;
  const void *weight;        /* as in the forward pass; NULL: 1 */
  const int64_t *weight_strides;
  void *dweight, *dbias;     /* param arrays, written (not added to); each may be NULL */
  const int64_t *dweight_strides, *dbias_strides;
  double eps;                /* eps, ddof and flags as in the forward pass */
  int ddof;
  unsigned flags;
  const void *given_mean, *given_var;  /* as in the forward pass: then dx = rstd * q */
  const int64_t *given_strides;
  const norma_saved *saved;  /* from the forward pass, statistics of x; NULL: recomputed from x (the same bits) */
  const norma_threads *threads;
  void *workspace;
  size_t workspace_size;     /* at least norma_backward_workspace() */
  norma_activation activation;  /* as in the forward pass; with one also its bias and its `after`, from which z is */
  const void *bias;             /* computed again; without one these two are not read */
  const int64_t *bias_strides;
  const void *after;
  const int64_t *after_strides;
  void *dafter;              /* the gradient of `after`; may be dy, if dx is not; may be NULL */
  const int64_t *dafter_strides;
  const void *dsum;          /* what reaches `sum` past the norm, added to dx; may be NULL */
  const int64_t *dsum_strides;
  norma_sums *sample_sums;   /* out, [norma_layer_samples][units]; NULL: not wanted; see below */
  const norma_sums *given_sums;  /* [given_samples][units]: dx through the statistics of more than this x; may be */
  int64_t given_samples;         /* NULL; needs saved */
} norma_backward_args;

/*
 * Gradients; each output is optional. Equals, with mean and rstd as in the forward pass, unit(i) = u and param(i) = p:
 *
 *     for each element i:  xhat[i] = (x[i] - mean[u]) * rstd[u];     q[i] = dy[i] * weight[p]
 *     for each element i:  sum_q[u] += q[i];                         sum_q_xhat[u] += q[i] * xhat[i]
 *                          dbias[p] += dy[i];                        dweight[p] += dy[i] * xhat[i]
 *     for each element i:  dx[i] = rstd[u] * (q[i] - sum_q[u] / m - xhat[i] * sum_q_xhat[u] / (m - ddof))
 *
 * RMS layers leave sum_q out; with given statistics dx[i] = rstd[u] * q[i]. Errors as norma_forward.
 *
 * With an activation dy[i] above is dz[i] = dy[i] * act'(z[i]), z computed again as forward did, act' a float32
 * function and 0 for ReLU at 0, and the product rounded to float32 too (float64 data: both in float64).
 * With or without one dafter[i] = dz[i].
 * With a residual before the norm x is the sum of the forward pass, dx[i] gets + dsum[i], and is the gradient of both x
 * and residual.
 *
 * Statistics that are shared with other tensors: sample_sums receives the sums of each sample (with the `saved` of the
 * shared statistics); of all tensors together, in order, they are the given_sums of a second call, whose dx has the
 * bits of one call on the concatenated tensor, but where a float64 sum overflows. dweight and dbias are those of this x
 * alone. sample_sums needs a layer as sample_moments does, whose gamma does not change within a unit.
 */
NORMA_API norma_status norma_backward(const norma_backward_args *args, norma_error *error);
NORMA_API size_t norma_backward_workspace(const norma_backward_args *args);

/* ----------------------------------------------------------------------------------------------------- AdaIN --- */

/*
 * Adaptive instance norm (Huang and Belongie 2017): the content takes the mean and the standard deviation of the style.
 *
 *     sigma_s = sqrt(var_s + style_eps),   rstd_c = 1 / sqrt(var_c + content_eps)       (variances with their ddof)
 *     y = alpha * ((content - mean_c) * rstd_c * sigma_s + mean_s) + (1 - alpha) * content
 *
 * Both layers have the same units in the same order (instance norm: n and c; other heights and widths are fine); their
 * affine lists are not used. The two published forms are ddof 0 with style_eps 0 (the authors' Lua) and ddof 1 with
 * 1e-5 on both sides (the common PyTorch port).
 */
typedef struct norma_adain_args {
  size_t size;  /* sizeof(norma_adain_args) */
  const norma_layer *content_layer, *style_layer;
  norma_type type;  /* of all tensors */
  const void *content, *style;
  const int64_t *content_strides, *style_strides;
  void *y;          /* forward: the content's shape; may be content */
  const int64_t *y_strides;
  const void *dy;   /* backward: the gradient of y */
  const int64_t *dy_strides;
  void *dcontent;   /* backward: may be dy; may be NULL */
  const int64_t *dcontent_strides;
  void *dstyle;     /* backward: the style's shape; may be NULL */
  const int64_t *dstyle_strides;
  double alpha;     /* 0: the default, 1; for a true 0 set NORMA_ALPHA_ZERO */
  double content_eps, style_eps;  /* 0: the default, 1e-5; NORMA_EPS_ZERO, NORMA_STYLE_EPS_ZERO */
  int content_ddof, style_ddof;
  unsigned flags;
  const norma_threads *threads;
  void *workspace;
  size_t workspace_size;  /* at least norma_adain_workspace(), which serves both directions */
} norma_adain_args;

/* The formula above. Errors as norma_forward; NORMA_SINGLE_VALUE where a ddof leaves nothing to divide by. */
NORMA_API norma_status norma_adain(const norma_adain_args *args, norma_error *error);
/* Gradients of the content and of the style, through the statistics of both; where sigma_s is 0, none through it. */
NORMA_API norma_status norma_adain_backward(const norma_adain_args *args, norma_error *error);
NORMA_API size_t norma_adain_workspace(const norma_adain_args *args);

/* ------------------------------------------------------------------------------------------------------ fold --- */

typedef enum norma_operator {
  NORMA_SCALE_SHIFT = 0,    /* only scale and shift: y = x * scale[c] + shift[c] */
  NORMA_LINEAR = 1,         /* weight [out][in] */
  NORMA_CONV = 2,           /* weight [out][in / groups][kernel] */
  NORMA_CONV_TRANSPOSE = 3  /* weight [in][out / groups][kernel] */
} norma_operator;

/* A norm that follows a linear operator and uses given statistics is part of that operator:
 *
 *     scale[c] = gamma[c] / sqrt(var[c] + eps),   shift[c] = beta[c] - mean[c] * scale[c]
 *     weight of output channel c: times scale[c];   bias'[c] = bias[c] * scale[c] + shift[c]
 *
 * in float64, rounded once. All arrays are dense. */
typedef struct norma_fold_args {
  size_t size;  /* sizeof(norma_fold_args) */
  const norma_layer *layer;      /* one mean and one gamma (or none) per channel, as batch norm has */
  norma_type type;               /* of mean, var, gamma, beta: NORMA_F32 or NORMA_F64 */
  const void *mean, *var;        /* [c] */
  const void *gamma, *beta;      /* [c]; NULL: 1, 0 */
  double eps;                    /* 0: the default, 1e-5 */
  unsigned flags;                /* NORMA_EPS_ZERO, NORMA_WEIGHT_PLUS_ONE */
  double *scale, *shift;         /* [c] out; each may be NULL */
  norma_operator op;
  norma_type op_type;            /* of the operator's weight and bias, any type */
  int64_t out_channels;          /* must be the layer's c */
  int64_t in_channels;
  int64_t groups;                /* 0: 1. Depthwise: groups = in_channels */
  int64_t kernel_elements;       /* 0: 1. A 3x3 kernel has 9 */
  const void *weight, *bias;     /* of the operator; bias NULL: 0 */
  void *folded_weight;           /* may be weight */
  void *folded_bias;             /* may be bias; always written: a folded operator has a bias */
} norma_fold_args;

/* Errors: NORMA_NOT_FOLDABLE names the layer whose statistics come from the input. Nothing is written on error. */
NORMA_API norma_status norma_fold(const norma_fold_args *args, norma_error *error);

/* ------------------------------------------------------------------------------------------------- reference --- */

/*
 * The definition in plain loops and long double, for tests and for doubt. Slow; allocates. Takes the arguments of the
 * call it judges (their outputs, workspace and threads are not touched) and writes dense, row-major float64 arrays:
 * the exact result (correct to float64) and beside it the error that norma.h allows for args->type.
 */
typedef struct norma_reference {
  size_t size;                        /* sizeof(norma_reference); every array below may be NULL */
  double *y, *y_bound;                /* forward; one per element */
  double *mean, *var, *rstd;          /* forward; one per unit */
  double *dx, *dx_bound;              /* backward; one per element (AdaIN: dcontent) */
  double *dweight, *dweight_bound;    /* backward; one per gamma */
  double *dbias, *dbias_bound;
  double *dstyle, *dstyle_bound;      /* AdaIN backward; one per element of style */
  double *sum;                        /* forward with a residual; one per element, the exact bits */
  double *dafter, *dafter_bound;      /* backward; one per element */
} norma_reference;

NORMA_API norma_status norma_reference_forward(const norma_forward_args *args, const norma_reference *out,
                                               norma_error *error);
NORMA_API norma_status norma_reference_backward(const norma_backward_args *args, const norma_reference *out,
                                                norma_error *error);
NORMA_API norma_status norma_reference_adain(const norma_adain_args *args, const norma_reference *out,
                                             norma_error *error);
NORMA_API norma_status norma_reference_adain_backward(const norma_adain_args *args, const norma_reference *out,
                                                      norma_error *error);

/* Conversions, exact upward; downward rounded to nearest even (to the 16-bit types by way of float32), NaN to the
 * canonical one. Elements of the typed array are `stride` apart. */
NORMA_API void norma_to_double(norma_type type, const void *from, int64_t stride, double *to, int64_t n);
NORMA_API void norma_from_double(norma_type type, const double *from, void *to, int64_t stride, int64_t n);

#ifdef __cplusplus
}
#endif

#endif
