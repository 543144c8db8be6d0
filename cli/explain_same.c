/*
 * The same layer in PyTorch, ONNX and Keras: the code that has the same sets, parameters, eps and momentum, or the
 * closest thing there is.
 */
#include "explain.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *explain_framework_name(explain_framework framework) {
  static const char *const names[] = {"PyTorch", "ONNX", "Keras"};
  return names[framework];
}

/* A number as Python prints it, without digits that a float does not have. */
static void number(char *text, double value) { explain_append(text, "%.9g", value); }

/* The shared axes of the layer, each split dimension counted as its axes: "2, 3, 4". */
static void reduced_axes(const explain_case *c, char *text) {
  for (int a = 0, first = 1; a < c->layer.axis_count; a++) {
    if (c->layer.axes[a].bits & NORMA_SHARE) explain_append(text, "%s%d", first ? "" : ", ", a), first = 0;
  }
}

static void axis_lengths(const explain_case *c, char *text) {
  for (int a = 0; a < c->layer.axis_count; a++) {
    explain_append(text, "%s%lld", a > 0 ? ", " : "", (long long)c->layer.axes[a].length);
  }
}

static bool split(const explain_case *c) { return c->layer.axis_count != c->layer.ndim; }

/* How many of the last dimensions are exactly the shared ones; 0 if others share too. */
static int trailing(const explain_case *c) {
  for (int count = 1; count <= c->layer.ndim; count++) {
    if (c->shared == ((1u << count) - 1) << (c->layer.ndim - count)) return count;
  }
  return 0;
}

/* The single shared dimension, -1 if there are several. */
static int only_shared(const explain_case *c) {
  for (int d = 0; d < c->layer.ndim; d++) {
    if (c->shared == 1u << d) return d;
  }
  return -1;
}

static void lengths_of_shared(const explain_case *c, char *text) {
  for (int d = 0, first = 1; d < c->layer.ndim; d++) {
    if (!(c->shared >> d & 1)) continue;
    explain_append(text, "%s%lld", first ? "" : ", ", (long long)c->layer.shape[d]);
    first = 0;
  }
}

/* What no module does: gamma as a separate multiplication, its shape such that it broadcasts. */
static void broadcast_remark(const explain_case *c, bool by_hand, explain_lines *remarks) {
  char shape[EXPLAIN_LINE] = "";
  bool axes = split(c) && by_hand;
  int count = axes ? c->layer.axis_count : c->layer.ndim;
  for (int i = 0; i < count; i++) {
    int64_t length = 1;
    for (int a = 0; a < c->layer.axis_count; a++) {
      bool here = axes ? a == i : c->layer.axes[a].dim == i;
      if (here && (c->layer.axes[a].bits & NORMA_AFFINE)) length *= c->layer.axes[a].length;
    }
    explain_append(shape, "%s%lld", i > 0 ? ", " : "", (long long)length);
  }
  explain_add(remarks, "multiply %s by gamma%s of shape (%s)", axes ? "before the last reshape" : "the result",
              c->bias ? " and add beta, both" : "", shape);
}

/* True where the family's modules have the layer's arithmetic: variance divided by m, a mean unless it is RMS norm,
 * gamma along whole dimensions. */
static bool has_module(const explain_case *c) {
  if (c->p.ddof != 0 || c->partial || c->family == FAMILY_OTHER || c->p.kind == PROBLEM_ADAIN) return false;
  return !c->layer.rms || c->family == FAMILY_LAYER;
}

/* ----------------------------------------------------------------------------------------------- PyTorch --- */

static void torch_by_hand(const explain_case *c, char *code) {
  if (split(c)) {
    explain_append(code, "z = x.reshape(");
    axis_lengths(c, code);
    explain_append(code, "); ");
  }
  const char *x = split(c) ? "z" : "x";
  if (c->layer.rms) {
    explain_append(code, "y = (%s * torch.rsqrt(%s.square().mean(dim=[", x, x);
    reduced_axes(c, code);
    explain_append(code, "], keepdim=True) + ");
  } else {
    explain_append(code, "var, mean = torch.var_mean(%s, dim=[", x);
    reduced_axes(c, code);
    explain_append(code, "], correction=%d, keepdim=True); y = ((%s - mean) * torch.rsqrt(var + ", c->p.ddof, x);
  }
  number(code, c->eps);
  explain_append(code, split(c) ? ")).reshape(x.shape)" : "))");
}

static bool torch_batch_or_instance(const explain_case *c, char *code, explain_lines *remarks) {
  int ndim = c->layer.ndim, rank = ndim == 2 ? 1 : ndim - 2;
  bool batch = c->family == FAMILY_BATCH, moved = c->channels != 1;
  const char *name = batch ? "BatchNorm" : "InstanceNorm";
  if (rank > 3 || (!batch && ndim == 2)) return false;
  explain_append(code, "torch.nn.%s%dd(%lld, eps=", name, rank, (long long)c->layer.shape[c->channels]);
  number(code, c->eps);
  if (batch) {
    explain_append(code, ", momentum=");
    number(code, c->momentum);
  }
  if (!batch && c->affine == AFFINE_OWN) explain_append(code, ", affine=True");
  if (c->affine != AFFINE_OWN) explain_append(code, ", affine=False");
  explain_append(code, ")");
  if (moved) {
    explain_append(code, "(x.movedim(%d, 1)).movedim(1, %d)", c->channels, c->channels);
    explain_add(remarks, "PyTorch's channels are dimension 1; movedim changes strides, it copies nothing");
  }
  return true;
}

static bool torch_group(const explain_case *c, char *code) {
  explain_append(code, "torch.nn.GroupNorm(%lld, %lld, eps=", (long long)c->groups,
                 (long long)c->layer.shape[c->channels]);
  number(code, c->eps);
  explain_append(code, c->affine == AFFINE_OWN ? ")" : ", affine=False)");
  if (c->channels != 1) explain_append(code, "(x.movedim(%d, 1)).movedim(1, %d)", c->channels, c->channels);
  return true;
}

static bool torch_layer(const explain_case *c, char *code, explain_lines *remarks) {
  int moved = trailing(c) ? -1 : only_shared(c);
  if (moved < 0 && !trailing(c)) return false;
  explain_append(code, "torch.nn.%s([", c->layer.rms ? "RMSNorm" : "LayerNorm");
  lengths_of_shared(c, code);
  explain_append(code, "], eps=");
  bool torch_default = c->layer.rms && c->eps == ldexp(1, c->p.type == NORMA_F64 ? -52 : -23);
  if (torch_default) explain_append(code, "None");
  else number(code, c->eps);
  if (c->affine != AFFINE_OWN) explain_append(code, ", elementwise_affine=False");
  else if (!c->bias && !c->layer.rms) explain_append(code, ", bias=False");
  explain_append(code, ")");
  if (moved >= 0) explain_append(code, "(x.movedim(%d, -1)).movedim(-1, %d)", moved, moved);
  if (c->layer.rms && c->affine == AFFINE_OWN && c->bias)
    explain_add(remarks, "RMSNorm has no beta: add it to the result");
  return true;
}

static bool in_pytorch(const explain_case *c, char *code, explain_lines *remarks) {
  bool module = has_module(c);
  if (module && c->family == FAMILY_GROUP) module = torch_group(c, code);
  else if (module && c->family == FAMILY_LAYER) module = torch_layer(c, code, remarks);
  else if (module) module = torch_batch_or_instance(c, code, remarks);
  if (!module) {
    torch_by_hand(c, code);
    if (c->affine == AFFINE_OWN) broadcast_remark(c, true, remarks);
  }
  if (c->affine == AFFINE_OTHER) broadcast_remark(c, !module, remarks);
  if (module && c->affine == AFFINE_OWN && !c->bias && c->family != FAMILY_LAYER) {
    explain_add(remarks, "the module has a bias: keep it at 0 with .bias.requires_grad_(False)");
  }
  if (module && c->family == FAMILY_BATCH && c->p.stats == PROBLEM_STATS_GIVEN) explain_add(remarks, "in eval mode");
  return module;
}

/* -------------------------------------------------------------------------------------------------- ONNX --- */

static void onnx_by_hand(const explain_case *c, char *code) {
  if (split(c)) {
    explain_append(code, "Reshape to [");
    axis_lengths(c, code);
    explain_append(code, "], ");
  }
  explain_append(code, c->layer.rms ? "Mul(x, x), ReduceMean(axes=[" : "ReduceMean(axes=[");
  reduced_axes(c, code);
  explain_append(code, c->layer.rms ? "]), Add(" : "]), Sub, Mul, ReduceMean, Add(");
  number(code, c->eps);
  explain_append(code, "), Sqrt, Div%s", split(c) ? ", Reshape back" : "");
}

/* Transpose so that dimension `from` becomes dimension `to`. */
static void transpose(const explain_case *c, int from, int to, char *code) {
  int order[NORMA_MAX_DIMS], count = 0;
  for (int d = 0; d < c->layer.ndim; d++) {
    if (d != from) order[count++] = d;
  }
  memmove(order + to + 1, order + to, (size_t)(count - to) * sizeof *order);
  order[to] = from;
  explain_append(code, "Transpose(perm=[");
  for (int d = 0; d < c->layer.ndim; d++) explain_append(code, "%s%d", d > 0 ? ", " : "", order[d]);
  explain_append(code, "])");
}

static void onnx_operator(const explain_case *c, int count, char *code, explain_lines *remarks) {
  switch (c->family) {
    case FAMILY_BATCH: explain_append(code, "BatchNormalization(epsilon="); break;
    case FAMILY_INSTANCE: explain_append(code, "InstanceNormalization(epsilon="); break;
    case FAMILY_GROUP:
      explain_append(code, "GroupNormalization(num_groups=%lld, epsilon=", (long long)c->groups);
      break;
    default:
      explain_append(code, "%s(axis=-%d, epsilon=", c->layer.rms ? "RMSNormalization" : "LayerNormalization", count);
  }
  number(code, c->eps);
  if (c->family == FAMILY_BATCH && c->p.stats != PROBLEM_STATS_GIVEN) {
    explain_append(code, ", momentum=");
    number(code, 1 - c->momentum);
    explain_append(code, ", training_mode=1");
  }
  explain_append(code, ")");
  if (c->family == FAMILY_GROUP) explain_add(remarks, "since opset 21; before, scale and bias had one value per group");
  if (c->family == FAMILY_LAYER) explain_add(remarks, "since opset %d", c->layer.rms ? 23 : 17);
  if (c->affine != AFFINE_OWN) {
    explain_add(remarks, c->layer.rms || c->family == FAMILY_LAYER ? "scale must be given: ones"
                                                                   : "scale and bias must be given: ones and zeros");
  } else if (!c->bias && c->family != FAMILY_LAYER) {
    explain_add(remarks, "bias must be given: zeros");
  }
  if (c->layer.rms && c->affine == AFFINE_OWN && c->bias) explain_add(remarks, "add beta to the result");
}

static bool in_onnx(const explain_case *c, char *code, explain_lines *remarks) {
  int last = c->layer.ndim - 1, count = trailing(c);
  int from = c->family == FAMILY_LAYER ? only_shared(c) : c->channels, to = c->family == FAMILY_LAYER ? last : 1;
  bool layer = c->family == FAMILY_LAYER, direct = layer ? count > 0 : c->channels == 1;
  bool instance_of_2d = c->family == FAMILY_INSTANCE && c->layer.ndim == 2;
  if (!has_module(c) || (!direct && from < 0) || instance_of_2d) {
    onnx_by_hand(c, code);
    if (c->affine != AFFINE_NONE) broadcast_remark(c, true, remarks);
    return false;
  }
  if (!direct) {
    transpose(c, from, to, code);
    explain_append(code, ", ");
  }
  onnx_operator(c, layer && !direct ? 1 : count, code, remarks);
  if (!direct) {
    explain_append(code, ", ");
    transpose(c, to, from, code);
  }
  if (c->affine == AFFINE_OTHER) broadcast_remark(c, false, remarks);
  return true;
}

/* ------------------------------------------------------------------------------------------------- Keras --- */

static void keras_by_hand(const explain_case *c, char *code) {
  if (split(c)) {
    explain_append(code, "z = keras.ops.reshape(x, (");
    axis_lengths(c, code);
    explain_append(code, ")); ");
  }
  const char *x = split(c) ? "z" : "x";
  if (c->layer.rms) explain_append(code, "s = keras.ops.mean(keras.ops.square(%s), axis=[", x);
  else explain_append(code, "mean, var = keras.ops.moments(%s, axes=[", x);
  reduced_axes(c, code);
  if (c->layer.rms) explain_append(code, "], keepdims=True); y = %s * keras.ops.rsqrt(s + ", x);
  else explain_append(code, "], keepdims=True); y = (%s - mean) * keras.ops.rsqrt(var + ", x);
  number(code, c->eps);
  explain_append(code, split(c) ? "); y = keras.ops.reshape(y, keras.ops.shape(x))" : ")");
}

static void keras_axis(const explain_case *c, char *code) {
  int last = c->layer.ndim - 1, one = c->family == FAMILY_LAYER ? only_shared(c) : c->channels;
  if (one >= 0) {
    explain_append(code, "axis=%d", one == last ? -1 : one);
    return;
  }
  explain_append(code, "axis=[");
  for (int d = 0, first = 1; d <= last; d++) {
    if (c->shared >> d & 1) explain_append(code, "%s%d", first ? "" : ", ", d), first = 0;
  }
  explain_append(code, "]");
}

static bool in_keras(const explain_case *c, char *code, explain_lines *remarks) {
  bool instance = c->family == FAMILY_INSTANCE;
  bool not_last = c->family == FAMILY_LAYER && trailing(c) == 0;
  /* RMSNormalization multiplies by its scale as if the normalized dimensions were the last ones. */
  if (!has_module(c) || (c->family == FAMILY_LAYER && (c->shared & 1)) || (not_last && c->layer.rms)) {
    keras_by_hand(c, code);
    if (c->affine != AFFINE_NONE) broadcast_remark(c, true, remarks);
    if (c->p.ddof != 0) explain_add(remarks, "moments divides by m: multiply var by m / (m - %d)", c->p.ddof);
    return false;
  }
  int64_t groups = instance ? c->layer.shape[c->channels] : c->groups;
  if (c->family == FAMILY_BATCH) explain_append(code, "keras.layers.BatchNormalization(");
  else if (instance || c->family == FAMILY_GROUP) {
    explain_append(code, "keras.layers.GroupNormalization(groups=%lld, ", (long long)groups);
  } else {
    explain_append(code, "keras.layers.%s(", c->layer.rms ? "RMSNormalization" : "LayerNormalization");
  }
  keras_axis(c, code);
  if (c->family == FAMILY_BATCH) {
    explain_append(code, ", momentum=");
    number(code, 1 - c->momentum);
  }
  explain_append(code, ", epsilon=");
  number(code, c->eps);
  if (!c->layer.rms && c->affine != AFFINE_OWN) explain_append(code, ", center=False, scale=False");
  else if (!c->layer.rms && !c->bias) explain_append(code, ", center=False");
  explain_append(code, ")");
  bool neighbours = ((c->shared + (c->shared & -c->shared)) & c->shared) == 0;
  if (not_last && neighbours) {
    explain_add(remarks, "not with the PyTorch backend: Keras 3.15 then normalizes the last dimensions, or fails");
  }
  if (instance) explain_add(remarks, "Keras has no instance norm: group norm with one channel per group is the same");
  if (c->layer.rms && c->affine == AFFINE_OWN && c->bias) explain_add(remarks, "add beta to the result");
  if (c->layer.rms && c->affine != AFFINE_OWN)
    explain_add(remarks, "its scale cannot be switched off: leave it at ones");
  if (c->affine == AFFINE_OTHER) broadcast_remark(c, false, remarks);
  return true;
}

/* ------------------------------------------------------------------------------------------------------------- --- */

static void adain(const explain_case *c, explain_framework framework, char *code, explain_lines *remarks) {
  static const char *const instance[] = {
      "torch.nn.functional.instance_norm(content, eps=", "InstanceNormalization(epsilon=",
      "keras.layers.GroupNormalization(groups=-1, axis=1, center=False, scale=False, epsilon="};
  explain_append(code, framework == IN_PYTORCH ? "y = %s" : "%s", instance[framework]);
  number(code, c->eps);
  explain_append(code, framework == IN_PYTORCH ? ") * style_std + style_mean"
                       : framework == IN_ONNX  ? "), Mul(style_std), Add(style_mean)"
                                               : ")(content) * style_std + style_mean");
  char shape[EXPLAIN_LINE] = "";
  for (int d = 0; d < c->layer.ndim; d++) {
    explain_append(shape, "%s%lld", d > 0 ? ", " : "", d < 2 ? (long long)c->layer.shape[d] : 1LL);
  }
  explain_add(remarks, "style_mean and style_std of shape (%s) are taken over the space of the style tensor", shape);
}

static bool nothing_shared(const explain_case *c) {
  for (int a = 0; a < c->layer.axis_count; a++) {
    if (c->layer.axes[a].bits & NORMA_SHARE) return false;
  }
  return true;
}

/* Every element is a unit of its own: no library has a layer for that, and none is needed. */
static bool element_alone(const explain_case *c, char *code, explain_lines *remarks) {
  if (c->layer.rms) {
    explain_append(code, "y = x / sqrt(x * x + ");
    number(code, c->eps);
    explain_append(code, "), element by element");
  } else {
    explain_append(code, "y = 0 for every x: each element is its own mean");
  }
  if (c->affine != AFFINE_NONE) broadcast_remark(c, c->partial, remarks);
  return true;
}

void explain_same(const explain_case *c, explain_framework framework, char *code, explain_lines *remarks, bool *exact) {
  code[0] = '\0';
  remarks->count = 0;
  *exact = false;
  if (nothing_shared(c)) *exact = element_alone(c, code, remarks);
  else if (c->p.kind == PROBLEM_ADAIN) adain(c, framework, code, remarks);
  else if (framework == IN_PYTORCH) *exact = in_pytorch(c, code, remarks);
  else if (framework == IN_ONNX) *exact = in_onnx(c, code, remarks);
  else *exact = in_keras(c, code, remarks);
  if (c->p.plus_one && c->affine != AFFINE_NONE) explain_add(remarks, "gamma is 1 + weight: store the sum");
  if (c->p.activation || c->p.add) explain_add(remarks, "the residuals and the activation are operations of their own");
}
