/* SGD with momentum, Adam, one cycle. */
#include <string.h>

#include "maths.h"

typedef struct step {
  const optimizer *options;
  double rate;
} step;

static void sgd(const step *s, param *p) {
  real rate = (real)s->rate, momentum = (real)s->options->momentum, decay = (real)s->options->decay;
  for (int64_t i = 0; i < p->count; i++) {
    p->first[i] = momentum * p->first[i] + (p->grad[i] + decay * p->value[i]);
    p->value[i] -= rate * p->first[i];
  }
}

static void adam(const step *s, param *p) {
  double b1 = s->options->beta1 > 0 ? s->options->beta1 : 0.9, b2 = s->options->beta2 > 0 ? s->options->beta2 : 0.999;
  double steps = (double)s->options->steps;
  real beta1 = (real)b1, beta2 = (real)b2, decay = (real)s->options->decay, eps = (real)1e-8;
  real rate = (real)(s->rate / (1 - pow(b1, steps))), root = (real)sqrt(1 - pow(b2, steps));
  for (int64_t i = 0; i < p->count; i++) {
    real g = p->grad[i] + decay * p->value[i];
    p->first[i] = beta1 * p->first[i] + (1 - beta1) * g;
    p->second[i] = beta2 * p->second[i] + (1 - beta2) * g * g;
    p->value[i] -= rate * p->first[i] / ((real)sqrt(p->second[i]) / root + eps);
  }
}

static void step_visit(layer *l, void *context) {
  const step *s = context;
  for (int i = 0; i < l->param_count; i++) {
    param *p = &l->params[i];
    size_t bytes = (size_t)p->count * sizeof(real);
    if (p->first == NULL) {
      p->first = engine_alloc(bytes);
      p->second = s->options->kind == ADAM ? engine_alloc(bytes) : NULL;
    }
    (s->options->kind == ADAM ? adam : sgd)(s, p);
    memset(p->grad, 0, bytes);
  }
}

void optimizer_step(optimizer *o, layer *net, double rate) {
  o->steps++;
  layer_visit(net, step_visit, &(step){o, rate});
}

/* Cosine from a at 0 to b at 1. */
static double anneal(double a, double b, double at) { return b + (a - b) / 2 * (1 + cos(3.141592653589793 * at)); }

double one_cycle(int64_t step, int64_t steps, double peak) {
  double rise = 0.3 * (double)steps - 1, last = (double)steps - 1, now = (double)step;
  if (now <= rise) {
    return anneal(peak / 25, peak, now / rise);
  }
  return last > rise ? anneal(peak, peak / 25e4, (now - rise) / (last - rise)) : peak;
}
