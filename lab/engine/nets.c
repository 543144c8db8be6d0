/* Ready nets. All norms of one net have the same specification. */
#include "maths.h"

static layer *conv_norm(rng *r, int in, int out, int stride, norm_spec spec, bool relu) {
  spec.relu = relu;
  return sequence(2, conv(r, in, out, 3, stride, PAD_ZERO, spec.kind == NORM_NONE), norm(spec, out));
}

static layer *basic_block(rng *r, int in, int out, int stride, norm_spec spec) {
  layer *first = conv_norm(r, in, out, stride, spec, true), *second = conv_norm(r, out, out, 1, spec, false);
  layer *shortcut = NULL;
  if (in != out || stride != 1) {
    shortcut = sequence(2, conv(r, in, out, 1, stride, PAD_ZERO, spec.kind == NORM_NONE), norm(spec, out));
  }
  return residual(sequence(2, first, second), shortcut, true);
}

layer *resnet(rng *r, int channels, int width, int classes, norm_spec spec) {
  layer *net = sequence(1, conv_norm(r, channels, width, 1, spec, true));
  net->children[0]->children[0]->no_dx = true;
  for (int i = 0; i < 3; i++) {
    sequence_add(net, basic_block(r, i == 0 ? width : width << (i - 1), width << i, i == 0 ? 1 : 2, spec));
  }
  sequence_add(net, global_mean());
  sequence_add(net, linear(r, width << 2, classes, true));
  return net;
}

static layer *two_convs(rng *r, int in, int out, norm_spec spec) {
  layer *first = conv_norm(r, in, out, 1, spec, true), *second = conv_norm(r, out, out, 1, spec, true);
  return sequence(2, first, second);
}

/* What lies below a level: half the size, twice the channels, and back to the size of the level. */
static layer *below(rng *r, int width, int levels, norm_spec spec) {
  layer *inner = sequence(2, max_pool(), two_convs(r, width, 2 * width, spec));
  int out = 2 * width;
  if (levels > 2) {
    sequence_add(inner, skip_connection(below(r, 2 * width, levels - 1, spec)));
    out = 2 * width + 4 * width;
    sequence_add(inner, two_convs(r, out, 2 * width, spec));
  }
  sequence_add(inner, upsample());
  return inner;
}

layer *unet(rng *r, int channels, int width, int levels, int classes, norm_spec spec) {
  layer *net = sequence(1, two_convs(r, channels, width, spec));
  net->children[0]->children[0]->children[0]->no_dx = true;
  sequence_add(net, skip_connection(below(r, width, levels, spec)));
  sequence_add(net, two_convs(r, 3 * width, width, spec));
  sequence_add(net, conv(r, width, classes, 1, 1, PAD_ZERO, true));
  return net;
}

/* x + part(norm(x)), or norm(x + part(x)). */
static layer *with_norm(layer *part, int features, bool norm_first, norm_spec spec) {
  if (norm_first) {
    return residual(sequence(2, norm(spec, features), part), NULL, false);
  }
  return sequence(2, residual(part, NULL, false), norm(spec, features));
}

layer *transformer_block(rng *r, int features, int heads, bool causal, bool norm_first, norm_spec spec) {
  layer *in = linear(r, features, 3 * features, true), *out = linear(r, features, features, true);
  layer *wide = linear(r, features, 4 * features, true), *narrow = linear(r, 4 * features, features, true);
  layer *looking = with_norm(sequence(3, in, attention(heads, causal), out), features, norm_first, spec);
  layer *thinking = with_norm(sequence(3, wide, gelu(), narrow), features, norm_first, spec);
  return sequence(2, looking, thinking);
}
