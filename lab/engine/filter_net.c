/* The fixed network that sees texture: random filters at three scales. Random filters do, as Ustyuzhaninov et al.
 * (2016, arXiv 1606.00021) found; nothing is trained, so there are no weights to download. */
#include "maths.h"

static const int widths[FILTER_SCALES] = {32, 48, 64}, kernels[FILTER_SCALES] = {5, 3, 3};

/* Each filter without its mean, of length 1. */
static void centre(param *weight, int64_t filters) {
  int64_t size = weight->count / filters;
  for (int64_t f = 0; f < filters; f++) {
    real *w = weight->value + f * size;
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < size; i++) {
      sum += (double)w[i];
    }
    for (int64_t i = 0; i < size; i++) {
      w[i] -= (real)(sum / (double)size);
      squares += (double)w[i] * (double)w[i];
    }
    for (int64_t i = 0; i < size; i++) {
      w[i] = (real)((double)w[i] / sqrt(squares));
    }
  }
}

/* The first six filters: the pixel itself, one colour and one sign each. */
static void see_colours(param *weight) {
  int size = kernels[0] * kernels[0];
  for (int f = 0; f < 6; f++) {
    for (int i = 0; i < 3 * size; i++) {
      bool here = i == f / 2 * size + size / 2;
      weight->value[f * 3 * size + i] = (real)(here ? f % 2 == 0 ? 1 : -1 : 0);
    }
  }
}

filter_net filter_net_new(rng *r) {
  filter_net f = {0};
  for (int i = 0, in = 3; i < FILTER_SCALES; in = widths[i++]) {
    layer *l = conv(r, in, widths[i], kernels[i], 1, PAD_REFLECT, false);
    l->fixed = true;
    centre(&l->params[0], widths[i]);
    if (i == 0) {
      see_colours(&l->params[0]);
    }
    f.filters[i] = sequence(2, l, relu());
    f.pools[i] = i > 0 ? average_pool() : NULL;
  }
  return f;
}

void filter_net_free(filter_net *f) {
  for (int i = 0; i < FILTER_SCALES; i++) {
    layer_free(f->filters[i]);
    layer_free(f->pools[i]);
  }
}

static tensor forward_scale(filter_net *f, int scale, tensor x) {
  if (f->pools[scale] != NULL) {
    x = forward(f->pools[scale], x, TRAIN);
  }
  return forward(f->filters[scale], x, TRAIN);
}

void filter_net_calibrate(filter_net *f, tensor x) {
  for (int i = 0; i < FILTER_SCALES; i++) {
    tensor y = forward_scale(f, i, x);
    int64_t pixels = y.dim[2] * y.dim[3];
    param *weight = &f->filters[i]->children[0]->params[0];
    for (int64_t c = 0; c < widths[i]; c++) {
      double squares = 0;
      for (int64_t j = 0; j < y.dim[0] * pixels; j++) {
        double value = (double)y.at[(j / pixels * widths[i] + c) * pixels + j % pixels];
        squares += value * value;
      }
      double scale = squares > 0 ? sqrt((double)(y.dim[0] * pixels) / squares) : 1;
      int64_t size = weight->count / widths[i];
      for (int64_t j = c * size; j < (c + 1) * size; j++) {
        weight->value[j] = (real)((double)weight->value[j] * scale);
      }
    }
    x = forward(f->filters[i], f->filters[i]->x, TRAIN);
  }
}

void filter_net_forward(filter_net *f, tensor x, tensor features[FILTER_SCALES]) {
  for (int i = 0; i < FILTER_SCALES; i++) {
    x = features[i] = forward_scale(f, i, x);
  }
}

tensor filter_net_backward(filter_net *f, tensor dfeatures[FILTER_SCALES]) {
  tensor dx = {0};
  for (int i = FILTER_SCALES - 1; i >= 0; i--) {
    int64_t count = tensor_count(dx); /* 0 at the last scale */
    for (int64_t j = 0; j < count; j++) {
      dfeatures[i].at[j] += dx.at[j];
    }
    dx = backward(f->filters[i], dfeatures[i]);
    dx = f->pools[i] != NULL ? backward(f->pools[i], dx) : dx;
  }
  return dx;
}
