/* The docstrings of norma._norma. The first lines are signatures, as inspect.signature reads them. */
#ifndef NORMA_PYTHON_DOCS_H
#define NORMA_PYTHON_DOCS_H

/* What the functions with padding say of it. */
#define PY_DOC_VALID                                                                                                 \
  "lengths: (n,) integers, how many positions of each sample are valid along dim; the rest is padding, which no\n"  \
  "    statistic and no gradient depends on.\n"                                                                      \
  "mask: bool or uint8, true where valid, of x's shape without the channels (layer and RMS norm: without what is\n"  \
  "    normalized), or with a length or 1 for each dimension of x.\n"                                                \
  "pad: y at padding: \"zero\", or \"beta\", the bias. Gradients there are 0.\n"                                      \
  "dim: the dimension that lengths cut. None: the last; for layer and RMS norm over the last dimensions 1.\n"

static const char py_doc_layer_norm[] =
    "layer_norm(x, normalized_shape=None, weight=None, bias=None, eps=1e-05, *, axes=None, out=None, "
    "return_stats=False, "
    "lengths=None, mask=None, pad=\"zero\", dim=None)\n"
    "--\n"
    "\n"
    "Layer norm: one mean and variance over the last dimensions of x, or over any others.\n"
    "\n"
    "x: array of 1 to 8 dimensions, float32, float64, float16 or bfloat16, any strides.\n"
    "normalized_shape: the lengths of the last dimensions, which are normalized; an int for one.\n"
    "weight, bias: shape normalized_shape. float64 with float64 x; else float32 or 16 bits.\n"
    "axes: the dimensions to normalize, ascending, in place of the last: 1 for the channels of\n"
    "    an (n, c, h, w) array. normalized_shape may then be None.\n"
    PY_DOC_VALID
    "out: array of x's shape and type to write to; may be x.\n"
    "return_stats: return (y, mean, rstd), of x's shape with 1 along what is normalized.\n"
    "\n"
    "Returns y, of x's shape, type and memory order.\n"
    "ValueError: shapes or axes that do not fit x, eps < 0, out that overlaps another array.\n"
    "TypeError: x, weight, bias or out of another type; strides that split an element.\n";

static const char py_doc_rms_norm[] =
    "rms_norm(x, normalized_shape=None, weight=None, eps=None, *, axes=None, out=None, return_stats=False, "
    "lengths=None, mask=None, pad=\"zero\", dim=None)\n"
    "--\n"
    "\n"
    "RMS norm: x / sqrt(mean(x^2) + eps) over the last dimensions of x, or over any others.\n"
    "\n"
    "Arguments as for layer_norm, without a bias. eps None: 2^-23, for float64 2^-52.\n"
    "return_stats: return (y, rstd).\n"
    "\n"
    "Returns y, of x's shape, type and memory order. Errors as layer_norm.\n";

static const char py_doc_group_norm[] =
    "group_norm(x, num_groups, weight=None, bias=None, eps=1e-05, *, out=None, return_stats=False, "
    "lengths=None, mask=None, pad=\"zero\", dim=None)\n"
    "--\n"
    "\n"
    "Group norm: one mean and variance per sample and group of channels.\n"
    "\n"
    "x: array (n, c, ...) of 2 to 8 dimensions, float32, float64, float16 or bfloat16, any strides.\n"
    "num_groups: divides c.\n"
    "weight, bias: shape (c,). float64 with float64 x; else float32 or 16 bits.\n"
    PY_DOC_VALID
    "out: array of x's shape and type to write to; may be x.\n"
    "return_stats: return (y, mean, rstd), mean and rstd of shape (n, num_groups).\n"
    "\n"
    "Returns y, of x's shape, type and memory order. A group of one element gives bias.\n"
    "ValueError: num_groups that does not divide c, shapes, eps < 0, out that overlaps another array.\n"
    "TypeError: x, weight, bias or out of another type; strides that split an element.\n";

static const char py_doc_batch_norm[] =
    "batch_norm(x, running_mean=None, running_var=None, weight=None, bias=None, training=False, momentum=0.1, "
    "eps=1e-05, *, out=None, return_stats=False, "
    "lengths=None, mask=None, pad=\"zero\", dim=None)\n"
    "--\n"
    "\n"
    "Batch norm: one mean and variance per channel.\n"
    "\n"
    "x: array (n, c, ...) of 2 to 8 dimensions, float32, float64, float16 or bfloat16, any strides.\n"
    "running_mean, running_var: shape (c,). training=False: x is normalized with them. training=True: they are\n"
    "    updated in place, running = (1 - momentum) * running + momentum * new, the variance unbiased; may be "
    "None.\n"
    "weight, bias: shape (c,). float64 with float64 x; else float32 or 16 bits.\n"
    "momentum: from 0 to 1.\n"
    PY_DOC_VALID
    "out: array of x's shape and type to write to; may be x.\n"
    "return_stats: return (y, mean, rstd), mean and rstd of shape (c,).\n"
    "\n"
    "Returns y, of x's shape, type and memory order. On an error nothing is written, running statistics neither.\n"
    "ValueError: shapes, training with one value per channel, a negative running_var, momentum or eps out of "
    "range,\n"
    "    a missing running statistic, arrays to write to that overlap others or are read-only.\n"
    "TypeError: arrays of another type; strides that split an element.\n";

static const char py_doc_instance_norm[] =
    "instance_norm(x, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, "
    "momentum=0.1, eps=1e-05, *, out=None, return_stats=False, "
    "lengths=None, mask=None, pad=\"zero\", dim=None)\n"
    "--\n"
    "\n"
    "Instance norm: one mean and variance per sample and channel.\n"
    "\n"
    "Arguments as for batch_norm. use_input_stats=True: statistics of x, and running ones, if given, get the "
    "mean over\n"
    "the samples. use_input_stats=False: x is normalized with running_mean and running_var, of shape (c,).\n"
    "return_stats: return (y, mean, rstd), mean and rstd of shape (n, c).\n"
    "\n"
    "Returns y, of x's shape, type and memory order. Errors as batch_norm.\n";

static const char py_doc_norm[] =
    "norm(x, pattern, *, affine=\"\", weight=None, bias=None, eps=None, rms=False, mean=None, var=None, "
    "activation=\"none\", out=None, return_stats=False, **sizes)\n"
    "--\n"
    "\n"
    "Any normalization layer, by its pattern: norm(x, \"n (g [k]) [h w]\", g=32, affine=\"(g k)\", weight=w, "
    "bias=b).\n"
    "\n"
    "x: array of 1 to 8 dimensions, float32, float64, float16 or bfloat16, any strides.\n"
    "pattern: a name for each dimension. Brackets mark those that share a mean, parentheses split a dimension, "
    "'...' stands\n"
    "    for the dimensions that are left.\n"
    "affine: the axes along which weight and bias change, in the order of the pattern.\n"
    "weight, bias: an entry per axis, (g, k), or per dimension, (g * k,). float64 with float64 x; else float32 "
    "or 16 bits.\n"
    "eps: None: 1e-5; with rms 2^-23, for float64 2^-52.\n"
    "rms: the mean is 0.\n"
    "mean, var: statistics to normalize with in place of x's, an entry per axis that is not shared; both, or "
    "var with rms.\n"
    "activation: \"relu\", \"silu\", \"gelu\" or \"gelu_tanh\", applied last.\n"
    "out: array of x's shape and type to write to; may be x.\n"
    "return_stats: return (y, mean, rstd), or (y, rstd) with rms, an entry per axis that is not shared.\n"
    "sizes: lengths of axes that the shape does not determine.\n"
    "\n"
    "Returns y, of x's shape, type and memory order.\n"
    "ValueError: a pattern or list that cannot be read, shapes, eps < 0, out that overlaps another array.\n"
    "TypeError: arrays of another type; strides that split an element.\n";

static const char py_doc_adain[] =
    "adain(content, style, alpha=1.0, eps=1e-05, unbiased=False, *, out=None)\n"
    "--\n"
    "\n"
    "AdaIN: each channel of the content takes the mean and standard deviation of the style's, mixed with the "
    "content\n"
    "itself by alpha.\n"
    "\n"
    "content: array (n, c, ...) of 2 to 8 dimensions, float32, float64, float16 or bfloat16, any strides.\n"
    "style: array (n, c, ...) of the same type; the other dimensions may differ.\n"
    "eps: added to both variances. unbiased: both are divided by one less than their count.\n"
    "out: array of the content's shape and type to write to; may be content.\n"
    "\n"
    "Returns an array of content's shape, type and memory order.\n"
    "ValueError: n or c that differ, eps < 0, one value per channel with unbiased, out that overlaps another "
    "array.\n"
    "TypeError: arrays of another type; strides that split an element.\n";

static const char py_doc_layer_norm_backward[] =
    "layer_norm_backward(dy, x, normalized_shape=None, weight=None, eps=1e-05, *, axes=None, bias=None, "
    "lengths=None, mask=None, pad=\"zero\", dim=None)\n"
    "--\n"
    "\n"
    "The gradients (dx, dweight, dbias) of layer_norm, given dy, the gradient of its result, and its x.\n"
    "\n"
    "dy: shape and type of x. The others as for layer_norm; bias has no part in it.\n"
    "dx has the shape, type and memory order of x. dweight and dbias have the shape and type of weight; "
    "without one the shape it would have, float32 (float64 with x).\n"
    "Errors as layer_norm.\n";

static const char py_doc_rms_norm_backward[] =
    "rms_norm_backward(dy, x, normalized_shape=None, weight=None, eps=None, *, axes=None, "
    "lengths=None, mask=None, pad=\"zero\", dim=None)\n"
    "--\n"
    "\n"
    "The gradients (dx, dweight) of rms_norm, given dy, the gradient of its result, and its x.\n"
    "\n"
    "dy: shape and type of x. The others as for rms_norm.\n"
    "dx has the shape, type and memory order of x. dweight has the shape and type of weight; without one the "
    "shape it would\n"
    "have, float32 (float64 with x). Errors as rms_norm.\n";

static const char py_doc_group_norm_backward[] =
    "group_norm_backward(dy, x, num_groups, weight=None, eps=1e-05, *, bias=None, "
    "lengths=None, mask=None, pad=\"zero\", dim=None)\n"
    "--\n"
    "\n"
    "The gradients (dx, dweight, dbias) of group_norm, given dy, the gradient of its result, and its x.\n"
    "\n"
    "dy: shape and type of x. The others as for group_norm; bias has no part in it.\n"
    "dx has the shape, type and memory order of x. dweight and dbias have the shape and type of weight; "
    "without one the shape it would have, float32 (float64 with x).\n"
    "Errors as group_norm.\n";

static const char py_doc_batch_norm_backward[] =
    "batch_norm_backward(dy, x, running_mean=None, running_var=None, weight=None, training=False, eps=1e-05, "
    "*, bias=None, momentum=0.1, "
    "lengths=None, mask=None, pad=\"zero\", dim=None)\n"
    "--\n"
    "\n"
    "The gradients (dx, dweight, dbias) of batch_norm, given dy, the gradient of its result, and its x.\n"
    "\n"
    "dy: shape and type of x. With training=False x was normalized with running_mean and running_var, which "
    "must be given;\n"
    "with training=True they are not looked at. bias and momentum have no part in it.\n"
    "dx has the shape, type and memory order of x. dweight and dbias have the shape and type of weight; "
    "without one the shape it would have, float32 (float64 with x).\n"
    "Errors as batch_norm.\n";

static const char py_doc_instance_norm_backward[] =
    "instance_norm_backward(dy, x, running_mean=None, running_var=None, weight=None, use_input_stats=True, "
    "eps=1e-05, *, bias=None, momentum=0.1, "
    "lengths=None, mask=None, pad=\"zero\", dim=None)\n"
    "--\n"
    "\n"
    "The gradients (dx, dweight, dbias) of instance_norm, given dy, the gradient of its result, and its x.\n"
    "\n"
    "dy: shape and type of x. With use_input_stats=False running_mean and running_var must be given; with True "
    "they are not\n"
    "looked at. bias and momentum have no part in it.\n"
    "dx has the shape, type and memory order of x. dweight and dbias have the shape and type of weight; "
    "without one the shape it would have, float32 (float64 with x).\n"
    "Errors as instance_norm.\n";

static const char py_doc_norm_backward[] =
    "norm_backward(dy, x, pattern, *, affine=\"\", weight=None, bias=None, eps=None, rms=False, mean=None, "
    "var=None, activation=\"none\", **sizes)\n"
    "--\n"
    "\n"
    "The gradients of norm: (dx, dweight, dbias), (dx, dweight) with rms, dx alone without affine.\n"
    "\n"
    "dy: shape and type of x. The others as for norm; bias is looked at with an activation only.\n"
    "dx has the shape, type and memory order of x. dweight and dbias have the shape and type of weight; "
    "without one the shape it would have, float32 (float64 with x).\n"
    "Errors as norm.\n";

static const char py_doc_adain_backward[] =
    "adain_backward(dy, content, style, alpha=1.0, eps=1e-05, unbiased=False)\n"
    "--\n"
    "\n"
    "The gradients (dcontent, dstyle) of adain, given dy, the gradient of its result.\n"
    "\n"
    "dy: shape and type of content. The others as for adain. Errors as adain.\n";

static const char py_doc_set_num_threads[] =
    "set_num_threads(count, /)\n"
    "--\n"
    "\n"
    "How many threads calls may use, the calling one included, at most 64. 0: the default, NORMA_NUM_THREADS "
    "or the number\n"
    "of CPUs. Results have the same bits with any count. ValueError: count < 0.\n";

static const char py_doc_get_num_threads[] =
    "get_num_threads()\n"
    "--\n"
    "\n"
    "How many threads calls may use, the calling one included.\n";

static const char py_doc_isa[] =
    "isa()\n"
    "--\n"
    "\n"
    "The instruction set in use: \"scalar\", \"sse2\", \"avx2\", \"avx512\" or \"neon\". All give the same bits.\n";

#endif
