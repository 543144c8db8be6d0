/* Plots as SVG inside HTML: a sweep over a number, dots in rows, and curves over steps. The colours are CSS variables
 * of the page (--s0 to --s5, safe for colour-blind readers); each series also has a marker of its own. */
#ifndef NORMA_LAB_CHART_H
#define NORMA_LAB_CHART_H

#include "answer.h"
#include "text.h"

enum { CHART_SERIES = 6, CHART_POINTS = 256 };

typedef struct chart_point {
  double x, mean, deviation; /* over seeds */
  int n;
} chart_point;

typedef struct chart_series {
  const char *name;
  bool level; /* one value, drawn across the whole width */
  chart_point point[CHART_POINTS];
  int count;
} chart_series;

typedef struct chart {
  const char *title, *x_label, *y_label;
  const char *row[CHART_POINTS]; /* dots: the labels of the rows, x of a point is its row */
  int rows;
  bool logarithmic; /* the x axis */
  double mark;      /* dots: a dashed line, NaN if none */
  chart_series series[CHART_SERIES];
  int count;
} chart;

/* Reads a plot of claims.json and the runs into a chart; false if nothing of it was run. */
bool chart_collect(chart *c, const cJSON *plot, const answer_runs *runs, answer_language language);
void chart_draw(text *out, const chart *c);
void chart_draw_rows(text *out, const chart *c);

/* ------------------------------------------------------------------------------------------ for both drawings --- */

typedef struct chart_axis {
  double low, high, step;
  bool logarithmic;
} chart_axis;

/* An axis with a round step that covers low to high. */
chart_axis chart_axis_over(double low, double high);
/* Where a value lies on the axis, 0 to 1. */
double chart_place(const chart_axis *axis, double value);
void chart_number(char out[32], double value, double step);
void chart_marker(text *out, int series, double x, double y);
void chart_open(text *out, const chart *c, int height);
void chart_close(text *out, const chart *c);

#endif
