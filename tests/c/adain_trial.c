/* See trial.h. */
#include "trial.h"

#include <stdlib.h>

adain_trial adain_new(const norma_layer *content, const norma_layer *style, norma_type type, uint64_t *seed) {
  adain_trial t = {.content_layer = *content, .style_layer = *style, .type = type};
  t.content = random_array(seed, type, norma_layer_elements(content), 2, 1);
  t.style = random_array(seed, type, norma_layer_elements(style), -1, 3);
  t.dy = random_array(seed, type, norma_layer_elements(content), 0, 1);
  return t;
}

void adain_free(adain_trial *t) {
  free(t->content);
  free(t->style);
  free(t->dy);
}

/* Both directions: forward when there is no dy. */
static void adain_call(norma_adain_args *args, const manner *m) {
  unsigned char *base = NULL;
  if (m->own_workspace) {
    args->workspace_size = norma_adain_workspace(args);
    base = workspace_new(args->workspace_size);
    args->workspace = base + WORKSPACE_PAD;
  }
  norma_error error;
  assert_ok(args->dy == NULL ? norma_adain(args, &error) : norma_adain_backward(args, &error), &error);
  workspace_free(base, args->workspace_size);
}

static norma_adain_args adain_args(const adain_trial *t, const manner *m, const tensor *content, const tensor *style) {
  return (norma_adain_args){.size = sizeof(norma_adain_args),
                            .content_layer = &t->content_layer,
                            .style_layer = &t->style_layer,
                            .type = t->type,
                            .content = content->data,
                            .style = style->data,
                            .content_strides = content->strides,
                            .style_strides = style->strides,
                            .alpha = t->alpha,
                            .content_eps = t->content_eps,
                            .style_eps = t->style_eps,
                            .content_ddof = t->content_ddof,
                            .style_ddof = t->style_ddof,
                            .flags = t->flags,
                            .threads = m->threads};
}

adain_outcome adain_run(const adain_trial *t, const manner *m) {
  adain_outcome o;
  tensor content = tensor_of(t->type, &t->content_layer, m->x, t->content);
  tensor style = tensor_of(t->type, &t->style_layer, m->style, t->style);
  tensor dy = tensor_of(t->type, &t->content_layer, m->dy, t->dy);
  tensor y = tensor_of(t->type, &t->content_layer, m->y, NULL);
  tensor dcontent = tensor_of(t->type, &t->content_layer, m->dx, NULL);
  tensor dstyle = tensor_of(t->type, &t->style_layer, m->dstyle, NULL);

  norma_adain_args args = adain_args(t, m, &content, &style);
  tensor *into = m->in_place ? &dy : &dcontent;
  args.dy = dy.data;
  args.dy_strides = dy.strides;
  args.dcontent = into->data;
  args.dcontent_strides = into->strides;
  args.dstyle = dstyle.data;
  args.dstyle_strides = dstyle.strides;
  adain_call(&args, m);
  o.dcontent = tensor_read(into);
  o.dstyle = tensor_read(&dstyle);

  args = adain_args(t, m, &content, &style);
  into = m->in_place ? &content : &y;
  args.y = into->data;
  args.y_strides = into->strides;
  adain_call(&args, m);
  o.y = tensor_read(into);

  tensor *const all[] = {&content, &style, &dy, &y, &dcontent, &dstyle};
  static const char *const names[] = {"content", "style", "dy", "y", "dcontent", "dstyle"};
  for (size_t i = 0; i < COUNT(all); i++) {
    tensor_check_gaps(all[i], names[i]);
    tensor_free(all[i]);
  }
  return o;
}

void adain_outcome_free(adain_outcome *o) {
  free(o->y);
  free(o->dcontent);
  free(o->dstyle);
}

void assert_same_adain(const adain_trial *t, const adain_outcome *got, const adain_outcome *expected) {
  assert_same_bits("y", t->type, got->y, expected->y, norma_layer_elements(&t->content_layer));
  assert_same_bits("dcontent", t->type, got->dcontent, expected->dcontent, norma_layer_elements(&t->content_layer));
  assert_same_bits("dstyle", t->type, got->dstyle, expected->dstyle, norma_layer_elements(&t->style_layer));
}
