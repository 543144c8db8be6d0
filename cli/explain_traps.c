/* What goes wrong, or surprises, with this layer on this shape. Each line has its condition. */
#include "explain.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int64_t channel_count(const explain_case *c) { return c->channels >= 0 ? c->layer.shape[c->channels] : 0; }

static void few_elements(const explain_case *c, explain_lines *traps) {
  int64_t m = norma_layer_unit_elements(&c->layer), n = c->layer.shape[0];
  bool rms = c->layer.rms;
  if (norma_layer_elements(&c->layer) == 0) {
    explain_add(traps,
                "The tensor is empty: y is empty, the gradients of gamma and beta are 0, running statistics stay.");
    return;
  }
  if (c->p.stats == PROBLEM_STATS_GIVEN) return;
  if (c->p.kind == PROBLEM_ADAIN) {
    if (m == 1) explain_add(traps, "One element per mean: the normalized content is 0, only the style is left of it.");
  } else if (m == 1 && rms) {
    explain_add(
        traps,
        "One element per mean square: y = gamma * x / sqrt(x^2 + eps). Where |x| is large against sqrt(eps), only "
        "the sign of x is left.");
  } else if (m == 1) {
    explain_add(traps, "One element per mean: x - mean is 0, so every output is %s and dx is 0%s.",
                c->affine == AFFINE_NONE ? "0"
                : c->bias                ? "beta"
                                         : "0",
                c->affine == AFFINE_NONE ? "" : "; gamma does not learn");
    bool refuses = c->family == FAMILY_BATCH || c->family == FAMILY_INSTANCE || (c->family == FAMILY_GROUP && n == 1);
    if (refuses) {
      explain_add(traps, "PyTorch refuses this shape in training: it expects more than 1 %s.",
                  c->family == FAMILY_INSTANCE ? "spatial element" : "value per channel");
    }
  } else if (m == 2 && !rms && c->p.ddof == 0) {
    explain_add(traps,
                "Two elements per mean: where they differ by much more than sqrt(eps), the output is -1 and 1 (times "
                "gamma, plus beta), whatever the input was.");
  } else if (m <= 16) {
    explain_add(
        traps,
        "Only %lld elements per mean: before gamma and beta no output can exceed sqrt(%lld) = %.3g in magnitude.",
        (long long)m, (long long)(rms ? m : m - 1), sqrt((double)(rms ? m : m - 1)));
  }
}

static void batch(const explain_case *c, explain_lines *traps) {
  int64_t n = c->layer.shape[0], m = norma_layer_unit_elements(&c->layer);
  if (c->family != FAMILY_BATCH || c->p.stats == PROBLEM_STATS_GIVEN) return;
  if (n == 1 && m > 1) {
    explain_add(
        traps, "A batch of 1: in training this is instance norm, and the running statistics see one sample at a time.");
  } else if (n > 1 && n < 16) {
    explain_add(traps,
                "A batch of %lld: each mean depends on which %lld samples happen to be together. Group norm does not "
                "use the batch.",
                (long long)n, (long long)n);
  }
  if (m > 1) {
    explain_add(
        traps,
        "Training uses the statistics of the batch, evaluation the running ones, so the two give different outputs.");
    explain_add(traps,
                "PyTorch multiplies the variance of a batch by m / (m - 1) = %.7g, m being the elements of each mean, "
                "before it enters the running variance; ONNX and Keras do not.",
                (double)m / (double)(m - 1));
    explain_add(traps,
                "momentum is the weight of the new value in PyTorch (%.9g here) and of the old value in ONNX and Keras "
                "(%.9g). The defaults are 0.1, 0.9 and 0.99.",
                c->momentum, 1 - c->momentum);
  }
  if (c->p.type == NORMA_BF16) {
    explain_add(traps,
                "Keep the running statistics in float32: bfloat16 has 8 bits of precision, and an update smaller than "
                "half of the last one is lost.");
  }
}

static void groups(const explain_case *c, explain_lines *traps) {
  int64_t channels = channel_count(c);
  if (c->family != FAMILY_GROUP) return;
  if (c->groups == 1) {
    explain_add(traps,
                "One group: the statistics are those of layer norm over all channels and positions of a sample; gamma "
                "stays one per channel.");
  }
  if (c->groups == channels && channels > 1) {
    explain_add(traps, "As many groups as channels: this is instance norm.");
  }
}

static void instance(const explain_case *c, explain_lines *traps) {
  if (c->family != FAMILY_INSTANCE || c->p.kind == PROBLEM_ADAIN) return;
  explain_add(traps, "PyTorch's InstanceNorm has no gamma and beta unless affine=True; ONNX requires both.");
}

/* Is the dimension that is normalized alone called w, the columns of an image? */
static bool only_columns(const explain_case *c) {
  int last = c->layer.ndim - 1;
  if (c->layer.ndim < 4 || c->shared != 1u << last) return false;
  for (int a = 0; a < c->layer.axis_count; a++) {
    if (c->layer.axes[a].dim == last) return strcmp(c->layer.axes[a].name, "w") == 0;
  }
  return false;
}

static void layer(const explain_case *c, explain_lines *traps) {
  if (c->family != FAMILY_LAYER) return;
  if (only_columns(c)) {
    explain_add(traps,
                "This normalizes along w alone: every row of every channel by itself. For images that is seldom meant: "
                "the channels of each pixel are 'n [c] h w', a whole sample is 'n [c h w]'.");
  }
  bool several = (c->shared & (c->shared - 1)) != 0;
  if (several && c->affine == AFFINE_OWN) {
    explain_add(
        traps,
        "gamma%s one value for each of the %lld normalized positions, so the layer fits only inputs of this size.",
        c->bias ? " and beta have" : " has", (long long)norma_layer_params(&c->layer));
  }
  if (c->shared & 1 && c->layer.shape[0] > 1) {
    explain_add(traps, "Dimension 0 shares too: if it is the batch, each output depends on the other samples.");
  }
}

static void eps(const explain_case *c, explain_lines *traps) {
  bool keras_default = c->family != FAMILY_INSTANCE && c->family != FAMILY_OTHER && c->p.kind != PROBLEM_ADAIN;
  if (c->layer.rms && c->family == FAMILY_LAYER) {
    explain_add(
        traps,
        "The default eps differs: PyTorch's is 1.1920929e-07 (2.22e-16 for float64), ONNX's 1e-05, Keras's 1e-06; "
        "write it out.");
  } else if (keras_default && !c->layer.rms) {
    explain_add(traps, "The default eps differs: PyTorch's and ONNX's is 1e-05, Keras's 0.001; write it out.");
  }
  if (c->eps == 0) {
    explain_add(traps, "eps is 0: where %s, Norma's result is %s; a plain 0 / 0 would be NaN.",
                c->layer.rms ? "all elements of a unit are 0" : "the variance is 0", c->layer.rms ? "0" : "beta");
  }
}

/* The distance from a number to the next larger one of the type. */
static double spacing(norma_type type, double value) {
  const int bits = type == NORMA_F64 ? 53 : type == NORMA_F32 ? 24 : type == NORMA_F16 ? 11 : 8;
  int exponent;
  frexp(fabs(value), &exponent);
  return ldexp(1, exponent - bits);
}

static void values(const explain_case *c, explain_lines *traps) {
  const problem_fill *x = &c->p.x;
  if (c->p.stats == PROBLEM_STATS_GIVEN) return;
  double value = fabs(x->value);
  if (x->data == PROBLEM_OFFSET && isfinite(value) && value > 0) {
    double gap = spacing(c->p.type, value), square = spacing(NORMA_F32, value * value) / 2;
    if (gap >= 0.125) {
      explain_add(traps,
                  "Numbers near %g are %g apart in %s: most of what varies by 1 is lost before any layer sees it.",
                  x->value, gap, norma_type_name(c->p.type));
    }
    if (square >= 1e-3 && !c->layer.rms) {
      explain_add(traps,
                  "mean(x^2) - mean(x)^2 fails here: in float32, x^2 near %.3g is rounded by up to %.2g, and the "
                  "variance is 1.",
                  value * value, square);
    }
  }
  if (x->data == PROBLEM_CONSTANT && !c->layer.rms && c->p.kind != PROBLEM_ADAIN) {
    explain_add(traps, "The input is constant: the output is beta, exactly, and gamma learns nothing.");
  }
  if (x->data == PROBLEM_SCALE && value * value <= c->eps) {
    explain_add(traps, "The variance is near %.3g and eps is %.3g: y is nearer to x / sqrt(eps) than to variance 1.",
                value * value, c->eps);
  }
  if (x->data == PROBLEM_NAN) {
    explain_add(
        traps,
        "One NaN or Inf makes all %lld outputs that share its mean NaN, and the gradients of gamma and beta too.",
        (long long)norma_layer_unit_elements(&c->layer));
  }
}

void explain_traps(const explain_case *c, explain_lines *traps) {
  traps->count = 0;
  few_elements(c, traps);
  batch(c, traps);
  groups(c, traps);
  instance(c, traps);
  layer(c, traps);
  eps(c, traps);
  values(c, traps);
}
