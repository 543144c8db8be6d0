/* One layer as a block of N x C x (H,W) cubes, seen from a corner. C runs along the left face, N along the right one,
 * H,W downward. Lines separate the units; the unit of the marked element is coloured and outlined. */
#include "picture.h"

#include <math.h>

static const double CUBE = 29; /* edge of a cube */
static const double COS30 = 0.8660254037844386;
static const double ARROW_GAP = 13; /* between block and axis arrow */

typedef struct point {
  double x, y;
} point;

/* A corner of the grid: 0..C, 0..N, 0..S. */
typedef struct corner {
  int c, n, s;
} corner;

/* One side of a visible face: drawn once, with what lies on both sides of it. */
typedef struct edge {
  corner from, to;
  int unit, other; /* the units of the faces on both sides; -1: nothing, the edge is part of the silhouette */
} edge;

enum { FACES = PICTURE_C * PICTURE_N + PICTURE_C * PICTURE_S + PICTURE_N * PICTURE_S, MAX_EDGES = 4 * FACES };

typedef enum side { TOP, LEFT, RIGHT } side;

static const picture_colour PALE[3] = {{0.957, 0.965, 0.973}, {0.910, 0.922, 0.933}, {0.863, 0.878, 0.894}};
static const picture_colour SHARED[3] = {{0.278, 0.600, 0.816}, {0.000, 0.447, 0.698}, {0.000, 0.353, 0.565}};
static const picture_colour GRID = {1, 1, 1}, SHARED_GRID = {0.56, 0.76, 0.89}, UNIT_LINE = {0.58, 0.61, 0.65};
static const picture_colour OUTLINE = {0.03, 0.16, 0.27}, AXIS = {0.38, 0.42, 0.46};

static point project(double c, double n, double s) {
  return (point){(c + n) * COS30 * CUBE, (c - n + PICTURE_N) * 0.5 * CUBE + s * CUBE};
}

picture_size picture_block_size(void) {
  return (picture_size){(PICTURE_C + PICTURE_N) * COS30 * CUBE,
                        ((PICTURE_C + PICTURE_N) * 0.5 + PICTURE_S) * CUBE + 2 * ARROW_GAP + 22};
}

static void set_colour(cairo_t *cr, picture_colour colour) { cairo_set_source_rgb(cr, colour.r, colour.g, colour.b); }

static void move_to(cairo_t *cr, corner at) {
  point p = project(at.c, at.n, at.s);
  cairo_move_to(cr, p.x, p.y);
}

static void line_to(cairo_t *cr, corner at) {
  point p = project(at.c, at.n, at.s);
  cairo_line_to(cr, p.x, p.y);
}

static int element_at(int c, int n, int s) { return (n * PICTURE_C + c) * PICTURE_S + s; }

/* Face number `index` of those that can be seen: its four corners, its side, and the element behind it. */
static side face(int index, corner at[4], int *element) {
  if (index < PICTURE_C * PICTURE_N) {
    int c = index % PICTURE_C, n = index / PICTURE_C;
    *element = element_at(c, n, 0);
    at[0] = (corner){c, n, 0}, at[1] = (corner){c + 1, n, 0}, at[2] = (corner){c + 1, n + 1, 0};
    at[3] = (corner){c, n + 1, 0};
    return TOP;
  }
  index -= PICTURE_C * PICTURE_N;
  if (index < PICTURE_C * PICTURE_S) {
    int c = index % PICTURE_C, s = index / PICTURE_C;
    *element = element_at(c, 0, s);
    at[0] = (corner){c, 0, s}, at[1] = (corner){c + 1, 0, s}, at[2] = (corner){c + 1, 0, s + 1};
    at[3] = (corner){c, 0, s + 1};
    return LEFT;
  }
  index -= PICTURE_C * PICTURE_S;
  int n = index % PICTURE_N, s = index / PICTURE_N;
  *element = element_at(PICTURE_C - 1, n, s);
  at[0] = (corner){PICTURE_C, n, s}, at[1] = (corner){PICTURE_C, n + 1, s}, at[2] = (corner){PICTURE_C, n + 1, s + 1};
  at[3] = (corner){PICTURE_C, n, s + 1};
  return RIGHT;
}

static bool same(corner a, corner b) { return a.c == b.c && a.n == b.n && a.s == b.s; }

static int add_edge(edge *edges, int count, corner from, corner to, int unit) {
  for (int i = 0; i < count; i++) {
    edge *e = &edges[i];
    if ((same(e->from, from) && same(e->to, to)) || (same(e->from, to) && same(e->to, from))) {
      e->other = unit;
      return count;
    }
  }
  edges[count] = (edge){from, to, unit, -1};
  return count + 1;
}

static int fill_faces(cairo_t *cr, const picture_panel *panel, int shared, edge edges[MAX_EDGES]) {
  int count = 0;
  for (int i = 0; i < FACES; i++) {
    corner at[4];
    int element;
    side where = face(i, at, &element);
    move_to(cr, at[0]);
    for (int k = 1; k < 4; k++) line_to(cr, at[k]);
    cairo_close_path(cr);
    set_colour(cr, panel->unit[element] == shared ? SHARED[where] : PALE[where]);
    cairo_fill(cr);
    for (int k = 0; k < 4; k++) count = add_edge(edges, count, at[k], at[(k + 1) % 4], panel->unit[element]);
  }
  return count;
}

typedef enum edge_kind { INSIDE_PALE, INSIDE_SHARED, BETWEEN_UNITS, AROUND_SHARED } edge_kind;

static edge_kind kind_of(const edge *e, int shared) {
  if (e->unit == e->other) return e->unit == shared ? INSIDE_SHARED : INSIDE_PALE;
  return e->unit == shared || e->other == shared ? AROUND_SHARED : BETWEEN_UNITS;
}

static void stroke_edges(cairo_t *cr, const edge *edges, int count, int shared) {
  static const picture_colour *const colours[] = {&GRID, &SHARED_GRID, &UNIT_LINE, &OUTLINE};
  static const double widths[] = {1, 1, 1.2, 3};
  cairo_set_line_cap(cr, CAIRO_LINE_CAP_ROUND);
  for (int kind = INSIDE_PALE; kind <= AROUND_SHARED; kind++) {
    bool any = false;
    for (int i = 0; i < count; i++) {
      if ((int)kind_of(&edges[i], shared) != kind) continue;
      move_to(cr, edges[i].from);
      line_to(cr, edges[i].to);
      any = true;
    }
    if (!any) continue;
    set_colour(cr, *colours[kind]);
    cairo_set_line_width(cr, widths[kind]);
    cairo_stroke(cr);
  }
}

/* The dot on the marked cube. */
static void dot(cairo_t *cr, point p) {
  cairo_new_sub_path(cr);
  cairo_arc(cr, p.x, p.y, 5, 0, 2 * acos(-1.0));
  cairo_set_source_rgb(cr, 1, 1, 1);
  cairo_fill_preserve(cr);
  set_colour(cr, OUTLINE);
  cairo_set_line_width(cr, 1.6);
  cairo_stroke(cr);
}

/* An arrow along an edge of the block, moved outward, with the axis' letter beside its middle. */
static void axis(cairo_t *cr, point from, point to, point outward, const char *label) {
  double length = hypot(to.x - from.x, to.y - from.y);
  point along = {(to.x - from.x) / length, (to.y - from.y) / length};
  double inset = 6, head = 7;
  point a = {from.x + outward.x * ARROW_GAP + along.x * inset, from.y + outward.y * ARROW_GAP + along.y * inset};
  point b = {to.x + outward.x * ARROW_GAP - along.x * inset, to.y + outward.y * ARROW_GAP - along.y * inset};
  set_colour(cr, AXIS);
  cairo_set_line_width(cr, 1.3);
  cairo_move_to(cr, a.x, a.y);
  cairo_line_to(cr, b.x, b.y);
  for (int turn = -1; turn <= 1; turn += 2) {
    cairo_move_to(cr, b.x - head * (along.x * 0.9 + turn * along.y * 0.45),
                  b.y - head * (along.y * 0.9 - turn * along.x * 0.45));
    cairo_line_to(cr, b.x, b.y);
  }
  cairo_stroke(cr);
  cairo_text_extents_t box;
  cairo_text_extents(cr, label, &box);
  double distance = ARROW_GAP + 9 + fabs(outward.x) * box.width / 2 + fabs(outward.y) * box.height / 2;
  point middle = {(from.x + to.x) / 2 + outward.x * distance, (from.y + to.y) / 2 + outward.y * distance};
  cairo_move_to(cr, middle.x - box.x_bearing - box.width / 2, middle.y - box.y_bearing - box.height / 2);
  cairo_show_text(cr, label);
}

void picture_block(cairo_t *cr, const picture_panel *panel, double x, double y) {
  edge edges[MAX_EDGES];
  int shared = panel->unit[picture_marked()];
  cairo_save(cr);
  cairo_translate(cr, x, y);
  cairo_set_antialias(cr, CAIRO_ANTIALIAS_BEST);
  int count = fill_faces(cr, panel, shared, edges);
  stroke_edges(cr, edges, count, shared);
  dot(cr, project(PICTURE_C - 0.5, 0.5, 0));
  axis(cr, project(0, 0, PICTURE_S), project(PICTURE_C, 0, PICTURE_S), (point){-0.5, COS30}, "C");
  axis(cr, project(PICTURE_C, 0, PICTURE_S), project(PICTURE_C, PICTURE_N, PICTURE_S), (point){0.5, COS30}, "N");
  axis(cr, project(0, 0, 0), project(0, 0, PICTURE_S), (point){-1, 0}, "H,W");
  cairo_restore(cr);
}

double picture_key(cairo_t *cr, picture_key_sign sign, double x, double y) {
  const double size = 15;
  if (sign == PICTURE_KEY_MARKED) {
    dot(cr, (point){x + 6, y - 5.5});
    return x + 20;
  }
  bool shared = sign == PICTURE_KEY_SHARED;
  cairo_rectangle(cr, x + 1, y - size + 2, size, size);
  set_colour(cr, shared ? SHARED[LEFT] : PALE[LEFT]);
  cairo_fill_preserve(cr);
  set_colour(cr, shared ? OUTLINE : UNIT_LINE);
  cairo_set_line_width(cr, shared ? 2.2 : 1.2);
  cairo_stroke(cr);
  return x + size + 11;
}
