/* Draws charts; see chart.h. */
#include "chart.h"

#include <math.h>
#include <stdio.h>

enum { WIDTH = 460, HEIGHT = 300, LEFT = 58, RIGHT = 12, TOP = 12, BOTTOM = 48, ROW = 34, ROW_LEFT = 132 };

/* ------------------------------------------------------------------------------------------------------ axes --- */

chart_axis chart_axis_over(double low, double high) {
  double span = high > low ? high - low : fabs(high) > 0 ? fabs(high) : 1;
  double raw = span / 5, power = pow(10, floor(log10(raw))), step = raw / power;
  step = power * (step <= 1.2 ? 1 : step <= 2.4 ? 2 : step <= 6 ? 5 : 10);
  double middle = (low + high) / 2;
  if (high <= low) low = middle - span / 2, high = middle + span / 2;
  return (chart_axis){floor(low / step) * step, ceil(high / step) * step, step, false};
}

double chart_place(const chart_axis *axis, double value) {
  if (axis->logarithmic) return (log(value) - log(axis->low)) / (log(axis->high) - log(axis->low));
  return (value - axis->low) / (axis->high - axis->low);
}

void chart_number(char out[32], double value, double step) {
  int digits = step < 1 ? (int)ceil(-log10(step) - 1e-9) : 0;
  if (fabs(value) < step / 1e6) value = 0;
  snprintf(out, 32, "%.*f", digits > 6 ? 6 : digits, value);
}

/* -------------------------------------------------------------------------------------------------- the frame --- */

void chart_marker(text *out, int series, double x, double y) {
  const char *format[CHART_SERIES] = {"<circle class=\"f s%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\"/>",
                                      "<path class=\"f s%d\" d=\"M%.1f %.1fm-4.5 -4.5h9v9h-9z\"/>",
                                      "<path class=\"f s%d\" d=\"M%.1f %.1fm0 -6l5.5 9.5h-11z\"/>",
                                      "<path class=\"f s%d\" d=\"M%.1f %.1fm0 -6l5.5 6l-5.5 6l-5.5 -6z\"/>",
                                      "<path class=\"f s%d\" d=\"M%.1f %.1fm0 6l5.5 -9.5h-11z\"/>",
                                      "<path class=\"l s%d\" d=\"M%.1f %.1fm-4.5 -4.5l9 9m0 -9l-9 9\"/>"};
  text_add(out, format[series % CHART_SERIES], series % CHART_SERIES, x, y);
}

void chart_open(text *out, const chart *c, int height) {
  text_put(out, "<figure class=\"plot\"><figcaption>");
  text_escape(out, c->title);
  text_add(out, "</figcaption><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, height);
  text_escape(out, c->title);
  text_put(out, "\">");
}

void chart_close(text *out, const chart *c) {
  text_put(out, "</svg>");
  if (c->count > 1 || c->rows == 0) {
    text_put(out, "<ul class=\"legend\">");
    for (int i = 0; i < c->count; i++) {
      if (c->series[i].count == 0) continue;
      text_add(out, "<li><svg viewBox=\"0 0 26 14\" width=\"26\" height=\"14\"><path class=\"l%s s%d\" d=\"M0 7h26\"/>",
               c->series[i].level ? " level" : "", i);
      if (!c->series[i].level) chart_marker(out, i, 13, 7);
      text_put(out, "</svg>");
      text_escape(out, c->series[i].name);
      text_put(out, "</li>");
    }
    text_put(out, "</ul>");
  }
  text_put(out, "</figure>");
}

static void label(text *out, double x, double y, const char *anchor, const char *words) {
  text_add(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
  text_escape(out, words);
  text_put(out, "</text>");
}

static double at_x(const chart_axis *axis, double value) {
  return LEFT + chart_place(axis, value) * (WIDTH - LEFT - RIGHT);
}

static double at_y(const chart_axis *axis, double value) {
  return HEIGHT - BOTTOM - chart_place(axis, value) * (HEIGHT - TOP - BOTTOM);
}

static void draw_frame(text *out, const chart *c, const chart_axis *x, const chart_axis *y) {
  char number[32];
  for (double v = y->low; v <= y->high + y->step / 2; v += y->step) {
    chart_number(number, v, y->step);
    text_add(out, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>", LEFT, at_y(y, v), WIDTH - RIGHT);
    label(out, LEFT - 6, at_y(y, v) + 4, "end", number);
  }
  if (x->logarithmic) {
    for (double v = x->low; v <= x->high * 1.01; v *= 2) {
      chart_number(number, v, 1);
      label(out, at_x(x, v), HEIGHT - BOTTOM + 17, "middle", number);
    }
  } else {
    for (double v = x->low; v <= x->high + x->step / 2; v += x->step) {
      chart_number(number, v, x->step);
      label(out, at_x(x, v), HEIGHT - BOTTOM + 17, "middle", number);
    }
  }
  text_add(out, "<path class=\"axis\" d=\"M%d %dV%dH%d\"/>", LEFT, TOP, HEIGHT - BOTTOM, WIDTH - RIGHT);
  label(out, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 10, "middle", c->x_label);
  text_add(out, "<text transform=\"translate(14 %.1f)rotate(-90)\" text-anchor=\"middle\">",
           (TOP + HEIGHT - BOTTOM) / 2.0);
  text_escape(out, c->y_label);
  text_put(out, "</text>");
}

/* ----------------------------------------------------------------------------------------- sweep and curves --- */

static void range_of(const chart *c, double *x_low, double *x_high, double *y_low, double *y_high) {
  *x_low = *y_low = INFINITY;
  *x_high = *y_high = -INFINITY;
  for (int i = 0; i < c->count; i++) {
    for (int k = 0; k < c->series[i].count; k++) {
      const chart_point *p = &c->series[i].point[k];
      *y_low = fmin(*y_low, p->mean - p->deviation);
      *y_high = fmax(*y_high, p->mean + p->deviation);
      if (c->series[i].level) continue;
      *x_low = fmin(*x_low, p->x);
      *x_high = fmax(*x_high, p->x);
    }
  }
  if (!(*x_low <= *x_high)) *x_low = 1, *x_high = 2; /* levels only */
}

static void draw_level(text *out, const chart_series *s, int i, const chart_axis *y) {
  const chart_point *p = &s->point[0];
  text_add(out, "<path class=\"band s%d\" d=\"M%d %.1fH%dV%.1fH%dz\"/>", i, LEFT, at_y(y, p->mean - p->deviation),
           WIDTH - RIGHT, at_y(y, p->mean + p->deviation), LEFT);
  text_add(out, "<path class=\"l level s%d\" d=\"M%d %.1fH%d\"/>", i, LEFT, at_y(y, p->mean), WIDTH - RIGHT);
}

static void draw_line(text *out, const chart_series *s, int i, const chart_axis *x, const chart_axis *y, bool markers) {
  text_add(out, "<path class=\"l s%d\" d=\"", i);
  for (int k = 0; k < s->count; k++) {
    text_add(out, "%s%.1f %.1f", k == 0 ? "M" : "L", at_x(x, s->point[k].x), at_y(y, s->point[k].mean));
  }
  text_put(out, "\"/>");
  for (int k = 0; markers && k < s->count; k++) {
    const chart_point *p = &s->point[k];
    text_add(out, "<path class=\"l bar s%d\" d=\"M%.1f %.1fV%.1f\"/>", i, at_x(x, p->x),
             at_y(y, p->mean - p->deviation), at_y(y, p->mean + p->deviation));
    chart_marker(out, i, at_x(x, p->x), at_y(y, p->mean));
  }
  if (!markers && s->count > 0) { /* a curve is known by its marker at the end */
    const chart_point *p = &s->point[s->count - 1];
    chart_marker(out, i, at_x(x, p->x), at_y(y, p->mean));
  }
}

void chart_draw(text *out, const chart *c) {
  double x_low, x_high, y_low, y_high;
  range_of(c, &x_low, &x_high, &y_low, &y_high);
  chart_axis y = chart_axis_over(y_low, y_high), x = chart_axis_over(x_low, x_high);
  if (c->logarithmic) x = (chart_axis){x_low, x_high > x_low ? x_high : 2 * x_low, 1, true};
  chart_open(out, c, HEIGHT);
  draw_frame(out, c, &x, &y);
  for (int i = 0; i < c->count; i++) {
    if (c->series[i].count == 0) continue;
    if (c->series[i].level) draw_level(out, &c->series[i], i, &y);
    else draw_line(out, &c->series[i], i, &x, &y, c->logarithmic);
  }
  chart_close(out, c);
}

/* ------------------------------------------------------------------------------------------------------ rows --- */

static double row_x(const chart_axis *axis, double value) {
  return ROW_LEFT + chart_place(axis, value) * (WIDTH - ROW_LEFT - RIGHT - 8);
}

static void draw_row_frame(text *out, const chart *c, const chart_axis *x) {
  char number[32];
  int bottom = TOP + c->rows * ROW;
  for (double v = x->low; v <= x->high + x->step / 2; v += x->step) {
    chart_number(number, v, x->step);
    text_add(out, "<path class=\"grid\" d=\"M%.1f %dV%d\"/>", row_x(x, v), TOP, bottom);
    label(out, row_x(x, v), bottom + 17, "middle", number);
  }
  if (!isnan(c->mark)) text_add(out, "<path class=\"mark\" d=\"M%.1f %dV%d\"/>", row_x(x, c->mark), TOP, bottom);
  for (int r = 0; r < c->rows; r++) label(out, ROW_LEFT - 10, TOP + ROW * (r + 0.5) + 4, "end", c->row[r]);
  label(out, (ROW_LEFT + WIDTH - RIGHT) / 2.0, bottom + 38, "middle", c->x_label);
}

void chart_draw_rows(text *out, const chart *c) {
  double low = 0, high = -INFINITY;
  for (int i = 0; i < c->count; i++) {
    for (int k = 0; k < c->series[i].count; k++) {
      const chart_point *p = &c->series[i].point[k];
      low = fmin(low, p->mean - p->deviation);
      high = fmax(high, p->mean + p->deviation);
    }
  }
  chart_axis x = chart_axis_over(low, high);
  chart_open(out, c, TOP + c->rows * ROW + BOTTOM);
  draw_row_frame(out, c, &x);
  for (int i = 0; i < c->count; i++) {
    double offset = (i - (c->count - 1) / 2.0) * 11;
    for (int k = 0; k < c->series[i].count; k++) {
      const chart_point *p = &c->series[i].point[k];
      double y = TOP + ROW * (p->x + 0.5) + offset;
      text_add(out, "<path class=\"l bar s%d\" d=\"M%.1f %.1fH%.1f\"/>", i, row_x(&x, p->mean - p->deviation), y,
               row_x(&x, p->mean + p->deviation));
      chart_marker(out, i, row_x(&x, p->mean), y);
    }
  }
  chart_close(out, c);
}
