/* From the description of a plot and the runs to numbers. */
#include "chart.h"

#include <math.h>
#include <string.h>

static void add_point(chart_series *s, double x, const double *values, int n) {
  double sum = 0, squares = 0;
  if (n == 0 || s->count == CHART_POINTS) return;
  for (int i = 0; i < n; i++) sum += values[i];
  for (int i = 0; i < n; i++) squares += (values[i] - sum / n) * (values[i] - sum / n);
  s->point[s->count++] = (chart_point){x, sum / n, n > 1 ? sqrt(squares / (n - 1)) : 0, n};
}

/* One point: a metric of an arm over all seeds. Arms without running statistics have the plain metric, those with them
 * metric_running. */
static void add_metric(chart_series *s, const answer_runs *runs, const char *experiment, double x, const char *arm,
                       const char *metric) {
  int seeds[ANSWER_SEEDS], count = answer_seeds(runs, experiment, seeds), n = 0;
  double values[ANSWER_SEEDS];
  for (int i = 0; i < count; i++) {
    const answer_run *run = arm != NULL ? answer_find_run(runs, experiment, arm, seeds[i]) : NULL;
    if (run != NULL && answer_metric(run, metric, &values[n]) && isfinite(values[n])) n++;
  }
  add_point(s, x, values, n);
}

static void collect_sweep(chart_series *s, const cJSON *series, const answer_runs *runs, const char *experiment) {
  const char *metric = answer_string(series, "metric"), *level = answer_string(series, "level");
  const cJSON *point;
  s->level = *level != '\0';
  if (s->level) add_metric(s, runs, experiment, 1, level, metric);
  cJSON_ArrayForEach(point, cJSON_GetObjectItemCaseSensitive(series, "points")) {
    const cJSON *x = cJSON_GetArrayItem(point, 0);
    if (!cJSON_IsNumber(x)) continue;
    add_metric(s, runs, experiment, x->valuedouble, cJSON_GetStringValue(cJSON_GetArrayItem(point, 1)), metric);
  }
}

static void collect_rows(chart_series *s, const cJSON *series, const cJSON *rows, const answer_runs *runs,
                         const char *experiment, bool first) {
  const cJSON *row;
  int at = 0;
  cJSON_ArrayForEach(row, rows) {
    const char *own = answer_string(row, "metric");
    const char *metric = first && *own != '\0' ? own : answer_string(series, "metric");
    add_metric(s, runs, experiment, at++, answer_string(row, "arm"), metric);
  }
}

/* The mean curve of an arm: seeds have the same steps. At most CHART_POINTS of them are kept, evenly. */
static void collect_curve(chart_series *s, const cJSON *series, const char *curve, const answer_runs *runs,
                          const char *experiment) {
  int seeds[ANSWER_SEEDS], count = answer_seeds(runs, experiment, seeds), used = 0;
  const cJSON *points[ANSWER_SEEDS];
  for (int i = 0; i < count; i++) {
    const answer_run *run = answer_find_run(runs, experiment, answer_string(series, "arm"), seeds[i]);
    const cJSON *curves = run != NULL ? cJSON_GetObjectItemCaseSensitive(run->json, "curves") : NULL;
    const cJSON *one = cJSON_GetObjectItemCaseSensitive(curves, curve);
    if (cJSON_GetArraySize(one) > 0) points[used++] = one;
  }
  int length = used > 0 ? cJSON_GetArraySize(points[0]) : 0, stride = 1 + (length - 1) / CHART_POINTS;
  for (int i = 0; i < length; i += stride) {
    double values[ANSWER_SEEDS], x = 0;
    int n = 0;
    for (int k = 0; k < used; k++) {
      const cJSON *pair = cJSON_GetArrayItem(points[k], i);
      const cJSON *step = cJSON_GetArrayItem(pair, 0), *value = cJSON_GetArrayItem(pair, 1);
      if (!cJSON_IsNumber(step) || !cJSON_IsNumber(value)) continue;
      x = step->valuedouble;
      values[n++] = value->valuedouble;
    }
    add_point(s, x, values, n);
  }
}

bool chart_collect(chart *c, const cJSON *plot, const answer_runs *runs, answer_language language) {
  const char *kind = answer_string(plot, "kind"), *experiment = answer_string(plot, "experiment");
  const cJSON *series, *row, *rows = cJSON_GetObjectItemCaseSensitive(plot, "rows");
  bool any = false;
  memset(c, 0, sizeof *c);
  c->title = answer_in(plot, language);
  c->x_label = answer_keyed(plot, "x", language);
  c->y_label = answer_keyed(plot, "y", language);
  c->logarithmic = strcmp(kind, "sweep") == 0;
  c->mark = answer_number(plot, "mark", NAN);
  cJSON_ArrayForEach(row, rows) {
    if (c->rows < CHART_POINTS) c->row[c->rows++] = answer_in(row, language);
  }
  cJSON_ArrayForEach(series, cJSON_GetObjectItemCaseSensitive(plot, "series")) {
    if (c->count == CHART_SERIES) break;
    chart_series *s = &c->series[c->count++];
    s->name = answer_in(series, language);
    if (strcmp(kind, "sweep") == 0) collect_sweep(s, series, runs, experiment);
    else if (strcmp(kind, "dots") == 0) collect_rows(s, series, rows, runs, experiment, c->count == 1);
    else if (strcmp(kind, "curves") == 0) collect_curve(s, series, answer_string(plot, "curve"), runs, experiment);
    any = any || s->count > 0;
  }
  return any;
}
