/* The contact sheets: the same maps as input and after each layer, one column each, drawn by cairo. */
#include <cairo.h>
#include <math.h>
#include <stdlib.h>

#include "lab.h"

/* In points of the page; the file has SCALE pixels per point. */
enum { SCALE = 2, TILE = 84, GAP = 8, LABEL = 132, HEAD = 56, FOOT = 54, MARGIN = 16 };
enum { MOST_ROWS = SAMPLES };

/* What a sheet shows: maps[row][column], rows of one length, a label per row. */
typedef struct sheet {
  int rows;
  const float *map[MOST_ROWS][VIEWS];
  double mean[MOST_ROWS][VIEWS], deviation[MOST_ROWS][VIEWS];
  const char *label[MOST_ROWS], *note[MOST_ROWS];
  const char *column[VIEWS];
} sheet;

static int ascending(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

/* The grey scale of a column: 0 is mid-grey, white is the absolute value that 99 % of its pixels stay under. */
static double grey_limit(const sheet *sheet, int column) {
  float values[MOST_ROWS * PIXELS];
  int count = sheet->rows * PIXELS;
  for (int i = 0; i < count; i++) {
    values[i] = fabsf(sheet->map[i / PIXELS][column][i % PIXELS]);
  }
  qsort(values, (size_t)count, sizeof *values, ascending);
  return values[count * 99 / 100];
}

static void text(cairo_t *cr, double x, double y, double size, double grey, const char *string) {
  cairo_set_font_size(cr, size);
  cairo_set_source_rgb(cr, grey, grey, grey);
  cairo_move_to(cr, x, y);
  cairo_show_text(cr, string);
}

static void centred(cairo_t *cr, double x, double y, double size, double grey, const char *string) {
  cairo_text_extents_t extents;
  cairo_set_font_size(cr, size);
  cairo_text_extents(cr, string, &extents);
  text(cr, x - extents.x_advance / 2, y, size, grey, string);
}

static void draw_map(cairo_t *cr, double x, double y, const float *map, double limit) {
  cairo_surface_t *image = cairo_image_surface_create(CAIRO_FORMAT_RGB24, SIDE, SIDE);
  if (cairo_surface_status(image) == CAIRO_STATUS_SUCCESS) {
    unsigned char *data = cairo_image_surface_get_data(image);
    int stride = cairo_image_surface_get_stride(image);
    for (int p = 0; p < PIXELS; p++) {
      double level = 127.5 * (1 + map[p] / limit);
      uint32_t grey = level < 0 ? 0 : level > 255 ? 255 : (uint32_t)lround(level);
      ((uint32_t *)(void *)(data + stride * (p / SIDE)))[p % SIDE] = grey << 16 | grey << 8 | grey;
    }
    cairo_surface_mark_dirty(image);
  }
  cairo_save(cr);
  cairo_translate(cr, x, y);
  cairo_scale(cr, (double)TILE / SIDE, (double)TILE / SIDE);
  cairo_set_source_surface(cr, image, 0, 0);
  cairo_pattern_set_filter(cairo_get_source(cr), CAIRO_FILTER_NEAREST);
  cairo_paint(cr);
  cairo_restore(cr);
  cairo_surface_destroy(image);
}

static void draw_column(cairo_t *cr, const sheet *sheet, int column) {
  char line[64];
  double left = MARGIN + LABEL + column * (TILE + GAP), middle = left + TILE / 2.0;
  double bottom = MARGIN + HEAD + sheet->rows * (TILE + GAP);
  double limit = grey_limit(sheet, column);
  double mean[MOST_ROWS], deviation[MOST_ROWS];
  cairo_select_font_face(cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_BOLD);
  centred(cr, middle, MARGIN + 18, 15, 1, sheet->column[column]);
  cairo_select_font_face(cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
  snprintf(line, sizeof line, "\xC2\xB1%.*f", limit < 1 ? 2 : 1, limit);
  centred(cr, middle, MARGIN + 38, 12, 0.66, line);
  for (int row = 0; row < sheet->rows; row++) {
    draw_map(cr, left, MARGIN + HEAD + row * (TILE + GAP), sheet->map[row][column], limit);
    mean[row] = sheet->mean[row][column];
    deviation[row] = sheet->deviation[row][column];
  }
  snprintf(line, sizeof line, "%.2f", lab_mean_deviation(mean, deviation, sheet->rows));
  centred(cr, middle, bottom + 18, 13, 1, line);
  snprintf(line, sizeof line, "%.2f", lab_log_deviation(deviation, sheet->rows));
  centred(cr, middle, bottom + 40, 13, 1, line);
}

static void draw(cairo_t *cr, const sheet *sheet) {
  double bottom = MARGIN + HEAD + sheet->rows * (TILE + GAP);
  cairo_scale(cr, SCALE, SCALE);
  cairo_set_source_rgb(cr, 0.09, 0.095, 0.105);
  cairo_paint(cr);
  cairo_select_font_face(cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
  text(cr, MARGIN, MARGIN + 38, 12, 0.66, "black to white");
  for (int row = 0; row < sheet->rows; row++) {
    double middle = MARGIN + HEAD + row * (TILE + GAP) + TILE / 2.0;
    text(cr, MARGIN, middle - 1, 14, 1, sheet->label[row]);
    text(cr, MARGIN, middle + 16, 11, 0.66, sheet->note[row]);
  }
  text(cr, MARGIN, bottom + 18, 12, 0.66, "spread of means");
  text(cr, MARGIN, bottom + 40, 12, 0.66, "contrasts, in stops");
  for (int column = 0; column < VIEWS; column++) {
    draw_column(cr, sheet, column);
  }
}

static int write_sheet(const char *folder, const char *name, const sheet *sheet) {
  lab_file file;
  if (lab_name_file(&file, folder, name)) {
    return EXIT_USAGE;
  }
  int width = 2 * MARGIN + LABEL + VIEWS * (TILE + GAP) - GAP;
  int height = MARGIN + HEAD + sheet->rows * (TILE + GAP) + FOOT;
  cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, SCALE * width, SCALE * height);
  cairo_t *cr = cairo_create(surface);
  draw(cr, sheet);
  cairo_status_t status = cairo_status(cr);
  if (status == CAIRO_STATUS_SUCCESS) {
    status = cairo_surface_write_to_png(surface, file.temporary);
  }
  cairo_destroy(cr);
  cairo_surface_destroy(surface);
  if (status != CAIRO_STATUS_SUCCESS) {
    remove(file.temporary);
    return lab_fail("cannot write %s: %s", file.path, cairo_status_to_string(status));
  }
  return lab_put_in_place(&file);
}

static void fill_cell(sheet *sheet, int row, int column, const lab_view *view, int n, int c) {
  sheet->map[row][column] = view->maps[n][c];
  sheet->mean[row][column] = view->mean[n][c];
  sheet->deviation[row][column] = view->deviation[n][c];
  sheet->column[column] = view->name;
}

int lab_write_picture_sheet(const char *folder, const lab_view views[VIEWS]) {
  sheet sheet = {.rows = SAMPLES};
  for (int n = 0; n < SAMPLES; n++) {
    sheet.label[n] = lab_class_names[n];
    sheet.note[n] = lab_exposures[n].text;
    for (int column = 0; column < VIEWS; column++) {
      fill_cell(&sheet, n, column, &views[column], n, SHOWN_CHANNEL);
    }
  }
  return write_sheet(folder, "pictures.png", &sheet);
}

int lab_write_channel_sheet(const char *folder, const lab_view views[VIEWS]) {
  sheet sheet = {.rows = CHANNELS};
  for (int c = 0; c < CHANNELS; c++) {
    sheet.label[c] = lab_filters[c].name;
    sheet.note[c] = c < CHANNELS / GROUPS ? "group 1" : "group 2";
    for (int column = 0; column < VIEWS; column++) {
      fill_cell(&sheet, c, column, &views[column], SHOWN_SAMPLE, c);
    }
  }
  return write_sheet(folder, "channels.png", &sheet);
}
