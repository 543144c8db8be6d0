/* The page: title and question, one column per layer (name, block, facts), and the key below. */
#include "picture.h"

#include <stdio.h>
#include <string.h>

static const double MARGIN = 72, LABELS = 150, COLUMN = 338;
static const double BLOCK_INSET = 36;            /* room for the letters H,W left of a block */
static const double NAME_Y = 222, BLOCK_Y = 244; /* baseline of the names, top of the blocks */
static const double FACTS_GAP = 38, ROW = 37, LINE = 25;
static const double KEY_GAP = 58, FOOT = 52;

enum { ROWS = 6 };

typedef struct style {
  bool mono, bold;
  double size;
  picture_colour colour;
} style;

#define INK \
  { 0.09, 0.12, 0.16 }
#define QUIET \
  { 0.38, 0.42, 0.46 }
#define ACCENT \
  { 0.000, 0.353, 0.565 }
static const style TITLE = {false, true, 42, INK}, QUESTION = {false, false, 27, QUIET};
static const style NAME = {false, true, 23, INK}, LABEL = {false, false, 16.5, QUIET};
static const style VALUE = {false, false, 18.5, INK}, STRONG = {false, true, 18.5, INK};
static const style PATTERN = {true, false, 19, INK}, SHARING = {true, true, 19, ACCENT};
static const style NOTE = {false, false, 15.5, QUIET}, AXES = {false, false, 16.5, QUIET};

static void use(cairo_t *cr, const picture *p, style s) {
  cairo_select_font_face(cr, s.mono ? p->mono : p->sans, CAIRO_FONT_SLANT_NORMAL,
                         s.bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
  cairo_set_font_size(cr, s.size);
  cairo_set_source_rgb(cr, s.colour.r, s.colour.g, s.colour.b);
}

/* Writes from x on and returns where the text ends. */
static double write(cairo_t *cr, const picture *p, style s, double x, double y, const char *text) {
  cairo_text_extents_t box;
  use(cr, p, s);
  cairo_text_extents(cr, text, &box);
  cairo_move_to(cr, x, y);
  cairo_show_text(cr, text);
  return x + box.x_advance;
}

static void write_lines(cairo_t *cr, const picture *p, style s, double x, double y, const char *text) {
  for (const char *line = text; *line; y += LINE) {
    char piece[PICTURE_TEXT];
    size_t length = strcspn(line, "\n");
    snprintf(piece, sizeof piece, "%.*s", (int)length, line);
    write(cr, p, s, x, y, piece);
    line += length + (line[length] == '\n');
  }
}

/* The pattern, with what stands in brackets set apart: those axes share. */
static void write_pattern(cairo_t *cr, const picture *p, double x, double y, const char *pattern) {
  for (const char *at = pattern; *at;) {
    bool sharing = *at == '[';
    size_t length = sharing ? strcspn(at, "]") + 1 : strcspn(at, "[");
    char piece[PICTURE_TEXT];
    snprintf(piece, sizeof piece, "%.*s", (int)length, at);
    x = write(cr, p, sharing ? SHARING : PATTERN, x, y, piece);
    at += strlen(piece);
  }
}

static void write_count(cairo_t *cr, const picture *p, double x, double y, int64_t count, const char *product) {
  char text[PICTURE_TEXT];
  snprintf(text, sizeof text, "%lld", (long long)count);
  x = write(cr, p, STRONG, x, y, text);
  snprintf(text, sizeof text, "  =  %s", product);
  write(cr, p, LABEL, x, y, text);
}

static double facts_y(void) { return BLOCK_Y + picture_block_size().height + FACTS_GAP; }
static double key_y(void) { return facts_y() + (ROWS - 1) * ROW + 2 * LINE + KEY_GAP; }

static void column(cairo_t *cr, const picture *p, const picture_panel *panel, double x) {
  const norma_layer *layer = &panel->layer;
  char text[PICTURE_TEXT] = "";
  write(cr, p, NAME, x, NAME_Y, picture_name(panel->which, p->language));
  use(cr, p, AXES);
  picture_block(cr, panel, x + BLOCK_INSET, BLOCK_Y);
  double y = facts_y();
  norma_layer_format(layer, text, sizeof text, NULL, 0, NULL);
  write_pattern(cr, p, x, y, text);
  picture_product(layer, NORMA_SHARE, false, text);
  write_count(cr, p, x, y += ROW, norma_layer_units(layer), text);
  picture_one_mean_per(layer, p->language, text);
  write(cr, p, VALUE, x, y += ROW, text);
  picture_product(layer, NORMA_SHARE, true, text);
  write_count(cr, p, x, y += ROW, norma_layer_unit_elements(layer), text);
  picture_product(layer, NORMA_AFFINE, true, text);
  write_count(cr, p, x, y += ROW, norma_layer_params(layer), text);
  write_lines(cr, p, VALUE, x, y += ROW, picture_used_in(panel->which, p->language));
}

static void header(cairo_t *cr, const picture *p) {
  const picture_words *words = picture_words_in(p->language);
  write(cr, p, TITLE, MARGIN, 92, words->title[p->count > 4]);
  write(cr, p, QUESTION, MARGIN, 138, words->question);
  char lines[4][PICTURE_TEXT];
  snprintf(lines[0], sizeof lines[0], "N = %d", PICTURE_N);
  snprintf(lines[1], sizeof lines[1], "C = %d", PICTURE_C);
  snprintf(lines[2], sizeof lines[2], "H,W = %d × %d", PICTURE_H, PICTURE_W);
  snprintf(lines[3], sizeof lines[3], "G,K = %d × %d", PICTURE_GROUPS, PICTURE_C / PICTURE_GROUPS);
  double x = picture_page_size(p).width - MARGIN - 300;
  for (int i = 0; i < 4; i++) {
    write(cr, p, STRONG, x, 76 + i * 27, lines[i]);
    write(cr, p, LABEL, x + 142, 76 + i * 27, words->axis_names[i]);
  }
}

static void row_labels(cairo_t *cr, const picture *p, double right) {
  const picture_words *words = picture_words_in(p->language);
  for (int i = 0; i < ROWS; i++) {
    double y = facts_y() + i * ROW;
    write(cr, p, LABEL, MARGIN, y, words->rows[i]);
    if (i == 0) continue;
    cairo_move_to(cr, MARGIN, y - ROW + 11.5);
    cairo_line_to(cr, right, y - ROW + 11.5);
    cairo_set_source_rgb(cr, 0.88, 0.89, 0.91);
    cairo_set_line_width(cr, 1);
    cairo_stroke(cr);
  }
}

void picture_page(cairo_t *cr, const picture *p) {
  cairo_font_options_t *options = cairo_font_options_create();
  cairo_font_options_set_hint_style(options, CAIRO_HINT_STYLE_NONE);
  cairo_font_options_set_hint_metrics(options, CAIRO_HINT_METRICS_OFF);
  cairo_font_options_set_antialias(options, CAIRO_ANTIALIAS_GRAY);
  cairo_set_font_options(cr, options);
  cairo_font_options_destroy(options);
  cairo_set_source_rgb(cr, 1, 1, 1);
  cairo_paint(cr);
  header(cr, p);
  row_labels(cr, p, picture_page_size(p).width - MARGIN);
  for (int i = 0; i < p->count; i++) column(cr, p, &p->panels[i], MARGIN + LABELS + i * COLUMN);
  double x = MARGIN, y = key_y();
  const picture_words *words = picture_words_in(p->language);
  x = picture_key(cr, PICTURE_KEY_MARKED, x, y);
  x = write(cr, p, NOTE, x, y, words->marked) + 36;
  x = picture_key(cr, PICTURE_KEY_SHARED, x, y);
  x = write(cr, p, NOTE, x, y, words->shared) + 36;
  x = picture_key(cr, PICTURE_KEY_OTHERS, x, y);
  write(cr, p, NOTE, x, y, words->others);
  write(cr, p, NOTE, MARGIN, y + LINE + 3, words->method);
}

picture_size picture_page_size(const picture *p) {
  return (picture_size){2 * MARGIN + LABELS + p->count * COLUMN - 40, key_y() + LINE + FOOT};
}
