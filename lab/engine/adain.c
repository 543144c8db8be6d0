/* Adaptive instance norm: the content takes the moments of the style. */
#include "maths.h"

typedef struct adain_layer {
  layer base;
  tensor style;
} adain_layer;

enum { ADAIN_Y, ADAIN_DX, ADAIN_WORK };

static void check(norma_status status, const norma_error *error) {
  if (status != NORMA_OK) {
    engine_die("adain: %s: %s", norma_status_text(status), error->detail);
  }
}

/* Reads the shapes; everything but the arrays of one direction. */
static norma_adain_args arguments(layer *l, norma_layer layers[2]) {
  tensor x = l->x, style = ((adain_layer *)l)->style;
  norma_error error;
  check(norma_layer_parse(&layers[0], "n c [h w]", "", NULL, x.ndim, x.dim, &error), &error);
  check(norma_layer_parse(&layers[1], "n c [h w]", "", NULL, style.ndim, style.dim, &error), &error);
  norma_adain_args args = {.size = sizeof args, .content_layer = &layers[0], .style_layer = &layers[1],
                           .type = REAL_TYPE, .content = x.at, .style = style.at};
  args.workspace_size = norma_adain_workspace(&args);
  args.workspace = layer_buffer(l, ADAIN_WORK, args.workspace_size);
  return args;
}

static tensor adain_forward(layer *l, tensor x, phase phase) {
  (void)phase;
  norma_layer layers[2];
  norma_error error;
  norma_adain_args args = arguments(l, layers);
  tensor y = tensor_like(x, layer_reals(l, ADAIN_Y, tensor_count(x)));
  args.y = y.at;
  check(norma_adain(&args, &error), &error);
  return y;
}

static tensor adain_backward(layer *l, tensor dy) {
  norma_layer layers[2];
  norma_error error;
  norma_adain_args args = arguments(l, layers);
  tensor dx = tensor_like(dy, layer_reals(l, ADAIN_DX, tensor_count(dy)));
  args.dy = dy.at;
  args.dcontent = dx.at;
  check(norma_adain_backward(&args, &error), &error);
  return dx;
}

layer *adain(void) {
  static const layer_kind kind = {"adain", sizeof(adain_layer), adain_forward, adain_backward, NULL};
  return layer_new(&kind);
}

void adain_style(layer *l, tensor style) { ((adain_layer *)l)->style = style; }
