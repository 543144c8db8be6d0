/* The table of `norma bench`, and its rows as JSON. */
#include "bench.h"

#include <stdio.h>
#include <string.h>

static double bytes_moved(const bench_row *row) {
  const bench_streams *s = &row->floor.streams;
  return (double)s->bytes * (s->inputs + s->outputs);
}

int bench_print_width(const bench_row *rows, int count) {
  size_t width = strlen("problem");
  for (int i = 0; i < count; i++) {
    width = strlen(rows[i].text) > width ? strlen(rows[i].text) : width;
  }
  return (int)width;
}

void bench_print_head(const bench_row *rows, int count, bool small) {
  const char *unit = small ? "us" : "ms";
  int width = bench_print_width(rows, count);
  printf("%-*s            norma, %s         floor, %s        memcpy, %s", width, "", unit, unit, unit);
  printf("           norma / floor            GB/s\n");
  printf("%-*s threads      min   median      min   median      min   median", width, "problem");
  printf("      min   median   paired  norma  floor\n");
}

/* About four digits that matter, in a column of 9. */
static void print_number(double value) {
  int decimals = value >= 1000 ? 0 : value >= 100 ? 1 : value >= 10 ? 2 : value >= 1 ? 3 : 4;
  printf(" %8.*f", decimals, value);
}

void bench_print_row(const bench_row *row, const bench_result *r, int width) {
  double unit = row->small ? 1e6 : 1e3, bytes = bytes_moved(row) * 1e-9;
  const bench_spread *spreads[] = {&r->norma, &r->floor, &r->copy};
  printf("%-*s %7d", width, row->text, row->threads);
  for (int i = 0; i < 3; i++) {
    print_number(spreads[i]->min * unit);
    print_number(spreads[i]->median * unit);
  }
  printf(" %8.2f %8.2f %8.2f %6.1f %6.1f\n", r->ratio_min, r->ratio_median, r->ratio_paired, bytes / r->norma.median,
         bytes / r->floor.median);
  fflush(stdout);
}

void bench_print_foot(const bench_row *rows, int count) {
  bool saved = false;
  for (int i = 0; i < count; i++) {
    saved = saved || (rows[i].spec.direction == PROBLEM_BACKWARD && rows[i].spec.stats == PROBLEM_STATS_SAVED);
  }
  printf("\nfloor: the fastest pass that only reads the inputs and writes the output, with as many threads\n");
  printf("GB/s: those bytes in the median time; paired: the median of the ratios within each repeat\n");
  if (saved) {
    printf("stats=saved: backward has the statistics of a forward call that is not timed, as autograd has\n");
  }
}

/* -------------------------------------------------------------------------------------------------------- JSON --- */

static void add_spread(cJSON *object, const char *name, const bench_spread *spread) {
  cJSON *entry = cJSON_AddObjectToObject(object, name);
  cJSON_AddNumberToObject(entry, "min", spread->min);
  cJSON_AddNumberToObject(entry, "median", spread->median);
}

cJSON *bench_row_to_json(const bench_row *row, const bench_result *r) {
  double bytes = bytes_moved(row);
  cJSON *object = cJSON_CreateObject();
  cJSON_AddStringToObject(object, "problem", row->text);
  cJSON_AddStringToObject(object, "direction", row->spec.direction == PROBLEM_BACKWARD ? "bwd" : "fwd");
  cJSON_AddStringToObject(object, "type", norma_type_name(row->spec.type));
  cJSON_AddNumberToObject(object, "threads", row->threads);
  cJSON_AddNumberToObject(object, "bytes", bytes);
  cJSON_AddNumberToObject(object, "repeats", (double)r->repeats);
  cJSON_AddNumberToObject(object, "calls_per_repeat", (double)row->calls);
  cJSON_AddStringToObject(object, "floor", bench_floor_name(&row->floor));
  cJSON *seconds = cJSON_AddObjectToObject(object, "seconds");
  add_spread(seconds, "norma", &r->norma);
  add_spread(seconds, "floor", &r->floor);
  add_spread(seconds, "memcpy", &r->copy);
  cJSON *ratio = cJSON_AddObjectToObject(object, "ratio");
  cJSON_AddNumberToObject(ratio, "min", r->ratio_min);
  cJSON_AddNumberToObject(ratio, "median", r->ratio_median);
  cJSON_AddNumberToObject(ratio, "paired", r->ratio_paired);
  cJSON *rate = cJSON_AddObjectToObject(object, "gb_per_s");
  cJSON_AddNumberToObject(rate, "norma", bytes / r->norma.median * 1e-9);
  cJSON_AddNumberToObject(rate, "floor", bytes / r->floor.median * 1e-9);
  return object;
}
