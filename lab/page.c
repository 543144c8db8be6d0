/* The report, index.html: one file of HTML with inline style, beside the pictures it shows. */
#include <ctype.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "lab.h"

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<title>What a normalization layer keeps and erases</title>\n<style>\n"
    ":root { color-scheme: light dark; --ink: #1c1e21; --soft: #585e66; --paper: #fbfbfa; --line: #d9dbdd;\n"
    "  --card: #fff; --light: #0b6fb8; --edge: #b4540a; --erased: #e6e8ea; --kept: #d3e9d6; }\n"
    "@media (prefers-color-scheme: dark) { :root { --ink: #e6e7e8; --soft: #a3a9b0; --paper: #141517;\n"
    "  --line: #383b40; --card: #1d1f21; --light: #63b3ef; --edge: #f0a35c; --erased: #34373b; --kept: #1f4a2b; } }\n"
    "* { box-sizing: border-box; }\n"
    "body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 66rem; background: var(--paper); color: var(--ink);\n"
    "  font: 16px/1.55 system-ui, \"DejaVu Sans\", sans-serif; }\n"
    "h1 { font-size: 1.75rem; line-height: 1.2; margin: .5rem 0 1rem; }\n"
    "h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; }\n"
    "p, ul { max-width: 48rem; } ul { padding-left: 1.2rem; } li { margin: .3rem 0; } a { color: inherit; }\n"
    "figure { margin: 0; } img { display: block; width: 100%; height: auto; }\n"
    "figcaption, .soft { color: var(--soft); font-size: .88rem; } figcaption { margin-top: .5rem; }\n"
    ".sheets { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 29rem), 1fr)); gap: 1.5rem;\n"
    "  align-items: start; } .sheets img { border-radius: 6px; }\n"
    ".white { display: block; background: #fff; border: 1px solid var(--line); border-radius: 6px; padding: .5rem;\n"
    "  overflow-x: auto; } .white img { min-width: 44rem; }\n"
    ".scroll { overflow-x: auto; }\n"
    "table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; width: 100%; }\n"
    "th, td { padding: .4rem .5rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }\n"
    "th:first-child { text-align: left; font-weight: 600; min-width: 8rem; } thead th { border-bottom-width: 2px; }\n"
    "td { white-space: nowrap; } td small { display: block; width: fit-content; margin: .1rem -.3rem 0 auto;\n"
    "  border-radius: 3px; padding: 0 .3rem; }\n"
    ".erased { background: var(--erased); } .kept { background: var(--kept); }\n"
    "@media (max-width: 34rem) { table { font-size: .78rem; } th, td { padding: .35rem .2rem; }\n"
    "  th:first-child { min-width: 0; } td small { margin-right: 0; padding: 0 .15rem; } }\n"
    ".plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .75rem; }\n"
    ".plots figcaption { margin: 0 0 .25rem; color: var(--ink); font-weight: 600; }\n"
    "svg { display: block; width: 100%; height: auto; background: var(--card); border: 1px solid var(--line); }\n"
    "circle { fill: var(--light); fill-opacity: .65; } .edge { fill: var(--edge); fill-opacity: .65; }\n"
    "pre { overflow-x: auto; background: var(--card); border: 1px solid var(--line); padding: .75rem 1rem;\n"
    "  font: .85rem/1.6 ui-monospace, \"DejaVu Sans Mono\", monospace; }\n"
    "</style>\n</head>\n<body>\n";

static void escaped(FILE *out, const char *string) {
  for (; *string; string++) {
    switch (*string) {
      case '<': fputs("&lt;", out); break;
      case '>': fputs("&gt;", out); break;
      case '&': fputs("&amp;", out); break;
      default: fputc(*string, out);
    }
  }
}

/* "12 % left" or "erased". */
static void left(FILE *out, double percent) {
  if (percent < LAB_ERASED) {
    fputs("erased", out);
  } else {
    fprintf(out, "%.0f&nbsp;%% left", percent);
  }
}

/* What a layer does to the differences between pictures, or between channels: one clause made from the numbers. */
static void finding(FILE *out, const char *between, double brightness, double contrast) {
  fprintf(out, " Differences between %s: ", between);
  if (brightness < LAB_ERASED && contrast < LAB_ERASED) {
    fputs("erased.", out);
    return;
  }
  fputs("brightness ", out);
  left(out, brightness);
  fputs(", contrast ", out);
  left(out, contrast);
  fputs(".", out);
}

static void question(FILE *out, const lab_view views[VIEWS]) {
  fputs("<h1>What does a normalization layer keep, and what does it erase?</h1>\n"
        "<p>A normalization layer takes sets of elements and gives each set mean 0 and variance 1. The layers differ\n"
        "in one thing: which elements form a set. Differences between sets are lost, differences within a set keep\n"
        "their proportions. Here that is measured on feature maps of real pictures.</p>\n<ul>\n",
        out);
  for (int i = 1; i < VIEWS; i++) {
    fprintf(out, "<li><b>%c%s norm</b> <code>%s</code>, %lld means.", toupper((unsigned char)views[i].name[0]),
            views[i].name + 1, views[i].pattern, (long long)norma_layer_units(&views[i].layer));
    finding(out, "pictures", lab_left(views, i, PICTURE_BRIGHTNESS), lab_left(views, i, PICTURE_CONTRAST));
    finding(out, "channels", lab_left(views, i, CHANNEL_BRIGHTNESS), lab_left(views, i, CHANNEL_CONTRAST));
    fputs("</li>\n", out);
  }
  fputs("</ul>\n", out);
}

/* The drawing is another program's; without it the report is complete too. */
static void layers(FILE *out, const char *folder) {
  char path[PATH_SIZE + 16];
  snprintf(path, sizeof path, "%s/layers.svg", folder);
  if (access(path, R_OK) == 0) {
    fputs("<figure><a class=\"white\" href=\"layers.svg\"><img src=\"layers.svg\" alt=\"The sets of each layer\"></a>\n"
          "<figcaption>In each block the elements that share one mean and variance are coloured. Drawn by\n"
          "<code>norma picture</code>.</figcaption></figure>\n",
          out);
  }
}

static void input(FILE *out, const lab_pictures *pictures) {
  fprintf(out,
          "<h2>The input</h2>\n<p>The first picture of each class of Fashion-MNIST's test set, each exposed\n"
          "differently: <i>gain</i> &times; picture + <i>veil</i>, as a darker lens and stray light would. Eight\n"
          "fixed filters make a batch of %d pictures &times; %d channels &times; %d &times; %d of them. Channels 1 to\n"
          "4 are the picture, more and more blurred; 5 to 8 are edges, which the veil does not reach.</p>\n"
          "<details class=\"soft\"><summary>The pictures and the filters</summary>\n<p>",
          SAMPLES, CHANNELS, SIDE, SIDE);
  for (int n = 0; n < SAMPLES; n++) {
    fprintf(out, "%s: test picture %d, %s%s", lab_class_names[n], pictures->index[n], lab_exposures[n].text,
            n + 1 < SAMPLES ? "; " : ".</p>\n<p>");
  }
  for (int c = 0; c < CHANNELS; c++) {
    fprintf(out, "%d, %s: %s%s", c + 1, lab_filters[c].name, lab_filters[c].text,
            c + 1 < CHANNELS ? "; " : ". Beyond the border the nearest pixel counts.</p>\n</details>\n");
  }
}

static void sheets(FILE *out) {
  fprintf(out,
          "<h2>Look</h2>\n<div class=\"sheets\">\n"
          "<figure><a href=\"pictures.png\"><img src=\"pictures.png\" alt=\"One channel of ten pictures\"></a>\n"
          "<figcaption><b>Ten pictures, one channel</b> (%s). Down a column: what a layer leaves of the differences\n"
          "between pictures.</figcaption></figure>\n"
          "<figure><a href=\"channels.png\"><img src=\"channels.png\" alt=\"Eight channels of one picture\"></a>\n"
          "<figcaption><b>One picture, eight channels</b> (%s). Down a column: what a layer leaves of the\n"
          "differences between channels.</figcaption></figure>\n</div>\n"
          "<p class=\"soft\">The tiles of a column have one grey scale: 0 is mid-grey, the number at the top is how\n"
          "far black and white are from it (99&nbsp;%% of the column's pixels lie within). The two lines at the\n"
          "bottom measure the tiles above them: the standard deviation of their means, as a fraction of that of all\n"
          "their pixels, and the spread of their contrasts in stops (1 stop is a factor of 2). Layer norm and group\n"
          "norm normalize several maps of a picture together, so a single one of them may still differ from picture\n"
          "to picture.</p>\n",
          lab_filters[SHOWN_CHANNEL].name, lab_class_names[SHOWN_SAMPLE]);
}

static void spread_row(FILE *out, const lab_view views[VIEWS], lab_spread which) {
  fprintf(out, "<tr><th scope=\"row\">%s</th><td>%.3f</td>", lab_spread_names[which], views[0].spread[which]);
  for (int i = 1; i < VIEWS; i++) {
    double percent = lab_left(views, i, which);
    fprintf(out, "<td>%.3f<small class=\"%s\">", views[i].spread[which], percent < LAB_ERASED ? "erased" : "kept");
    if (percent < LAB_ERASED) {
      fputs("erased</small></td>", out);
    } else {
      fprintf(out, "%.0f&nbsp;%%</small></td>", percent);
    }
  }
  fputs("</tr>\n", out);
}

static void column_heads(FILE *out, const lab_view views[VIEWS], int first) {
  fputs("<div class=\"scroll\"><table>\n<thead><tr><th></th>", out);
  for (int i = first; i < VIEWS; i++) {
    fprintf(out, "<th scope=\"col\">%s</th>", views[i].name);
  }
  fputs("</tr></thead>\n<tbody>\n", out);
}

static void measurements(FILE *out, const lab_view views[VIEWS]) {
  fputs("<h2>Measured</h2>\n", out);
  column_heads(out, views, 0);
  fputs("<tr><th scope=\"row\">number of means</th><td></td>", out);
  for (int i = 1; i < VIEWS; i++) {
    fprintf(out, "<td>%lld</td>", (long long)norma_layer_units(&views[i].layer));
  }
  fputs("</tr>\n", out);
  for (int which = 0; which < SPREADS; which++) {
    spread_row(out, views, (lab_spread)which);
  }
  fprintf(out,
          "</tbody></table></div>\n<p class=\"soft\"><b>Brightness</b> of a picture is the mean of its eight maps, of\n"
          "a channel the mean of its ten maps; its spread is the standard deviation of these means divided by that of\n"
          "all elements. <b>Contrast</b> of a picture or channel is the standard deviation of its elements; its\n"
          "spread is the standard deviation of the base-2 logarithms, in stops. The <b>percentage</b> is what is\n"
          "left: the spread after the layer divided by that of the input; under %g&nbsp;%% it counts as erased. A\n"
          "layer that scales channels or pictures differently changes their weight in the mix, so it need not be\n"
          "100.</p>\n",
          LAB_ERASED);
}

/* ---------------------------------------------------------------------------------------------------- the dots --- */

typedef struct range {
  double low, high;
} range;

/* A map as a dot: its mean and the logarithm of its standard deviation, in units of the whole tensor's. */
static double dot_x(const lab_view *view, int n, int c) {
  return (view->mean[n][c] - view->total_mean) / view->total_deviation;
}

static double dot_y(const lab_view *view, int n, int c) {
  return log2(view->deviation[n][c] / view->total_deviation);
}

static void find_ranges(const lab_view views[VIEWS], range *x, range *y) {
  *x = (range){0, 0};
  *y = (range){0, 0};
  for (int i = 0; i < VIEWS; i++) {
    for (int n = 0; n < SAMPLES; n++) {
      for (int c = 0; c < CHANNELS; c++) {
        x->low = fmin(x->low, dot_x(&views[i], n, c));
        x->high = fmax(x->high, dot_x(&views[i], n, c));
        y->low = fmin(y->low, dot_y(&views[i], n, c));
        y->high = fmax(y->high, dot_y(&views[i], n, c));
      }
    }
  }
}

enum { PLOT = 200, EDGE = 14 };

static double place(double value, range range) {
  return EDGE + (PLOT - 2 * EDGE) * (value - range.low) / (range.high - range.low);
}

static void plot(FILE *out, const lab_view *view, range x, range y) {
  fprintf(out,
          "<figure><figcaption>%s</figcaption><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"the maps, %s\">\n"
          "<path d=\"M%.1f 0V%dM0 %.1fH%d\" stroke=\"var(--line)\"/>\n",
          view->name, PLOT, PLOT, view->name, place(0, x), PLOT, PLOT - place(0, y), PLOT);
  for (int c = 0; c < CHANNELS; c++) {
    for (int n = 0; n < SAMPLES; n++) {
      double dx = place(dot_x(view, n, c), x), dy = PLOT - place(dot_y(view, n, c), y);
      if (c < CHANNELS / GROUPS) {
        fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.4\"/>", dx, dy);
      } else {
        fprintf(out, "<path class=\"edge\" d=\"M%.1f %.1fl3.6 6.4h-7.2z\"/>", dx, dy - 4);
      }
    }
    fputc('\n', out);
  }
  fputs("</svg></figure>\n", out);
}

static void plots(FILE *out, const lab_view views[VIEWS]) {
  range x, y;
  find_ranges(views, &x, &y);
  fputs("<h2>Each map a dot</h2>\n<div class=\"plots\">\n", out);
  for (int i = 0; i < VIEWS; i++) {
    plot(out, &views[i], x, y);
  }
  fprintf(out,
          "</div>\n<p class=\"soft\">Each of the %d maps by its mean (to the right: brighter) and its standard\n"
          "deviation (upwards: more contrast; logarithmic, from %.2f to %.2f), both in units of the whole tensor's\n"
          "standard deviation, with its mean as 0. The lines mark mean 0 and standard deviation 1. Circles: channels\n"
          "1 to 4; triangles: channels 5 to 8.</p>\n",
          SAMPLES * CHANNELS, exp2(y.low), exp2(y.high));
}

/* ---------------------------------------------------------------------------------------------- how right, more --- */

static void correctness(FILE *out, const lab_view views[VIEWS]) {
  fputs("<h2>How right is it?</h2>\n", out);
  column_heads(out, views, 1);
  fputs("<tr><th scope=\"row\">largest |y &minus; y*|</th>", out);
  for (int i = 1; i < VIEWS; i++) {
    fprintf(out, "<td>%.1e</td>", views[i].error);
  }
  fputs("</tr>\n<tr><th scope=\"row\">largest error / allowed error</th>", out);
  for (int i = 1; i < VIEWS; i++) {
    fprintf(out, "<td>%.2f</td>", views[i].error_share);
  }
  fprintf(out, "</tr>\n<tr><th scope=\"row\">same bits on 1 and %d threads</th>", THREADS);
  for (int i = 1; i < VIEWS; i++) {
    fprintf(out, "<td>%s</td>", views[i].same_threads ? "yes" : "no");
  }
  fputs("</tr>\n<tr><th scope=\"row\">same bits in NCHW and NHWC</th>", out);
  for (int i = 1; i < VIEWS; i++) {
    fprintf(out, "<td>%s</td>", views[i].same_layout ? "yes" : "no");
  }
  fprintf(out,
          "</tr>\n</tbody></table></div>\n<p class=\"soft\">Measured in this run. y* is the definition in plain loops\n"
          "and long double (<code>norma_reference_forward</code>), the allowed error is what <code>norma.h</code>\n"
          "promises for float32. %s</p>\n",
          lab_all_right(views) ? "All four layers keep the promises." : "<b>Not all layers keep the promises.</b>");
}

/* A path as one word of a shell, quoted if it needs that. */
static void shell_word(FILE *out, const char *folder, const char *name) {
  static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-";
  bool quoted = folder[strspn(folder, plain)] != '\0';
  if (quoted) {
    fputc('\'', out);
  }
  for (const char *c = folder; *c; c++) {
    escaped(out, *c == '\'' ? "'\\''" : (const char[2]){*c, '\0'});
  }
  fprintf(out, "/%s%s", name, quoted ? "'" : "");
}

static void more(FILE *out, const char *folder) {
  fprintf(out,
          "<h2>Go on</h2>\n<p>This batch is in <code>input.npy</code>. From the folder where Norma was built:</p>\n"
          "<pre>"
          "build/norma explain group:n%d,c%d,h%d,w%d,g=%d\n"
          "build/norma check group:n%d,c%d,h%d,w%d,g=%d,layout=nhwc,dir=both,data=offset:1e4\n"
          "build/norma apply group --groups 4 ",
          SAMPLES, CHANNELS, SIDE, SIDE, GROUPS, SAMPLES, CHANNELS, SIDE, SIDE, GROUPS);
  shell_word(out, folder, "input.npy");
  fputs(" -o ", out);
  shell_word(out, folder, "groups4.npy");
  fputs("\n</pre>\n", out);
}

int lab_write_page(const char *folder, const lab_pictures *pictures, const lab_view views[VIEWS]) {
  lab_file file;
  FILE *out = lab_open(&file, folder, "index.html");
  if (out == NULL) {
    return EXIT_USAGE;
  }
  fputs(head, out);
  question(out, views);
  layers(out, folder);
  input(out, pictures);
  sheets(out);
  measurements(out, views);
  plots(out, views);
  correctness(out, views);
  more(out, folder);
  fputs("</body>\n</html>\n", out);
  return lab_close(&file, out);
}
