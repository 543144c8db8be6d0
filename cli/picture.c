/* `norma picture`: the four normalization layers in one picture, drawn from what the library does. */
#include "cli.h"
#include "output.h"
#include "picture.h"

#include <cairo-pdf.h>
#include <cairo-svg.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char HELP[] =
    "usage: norma picture [-o FILE.svg|.png|.pdf] [--lang en|zh] [--all]\n"
    "       norma picture --json [--all]\n"
    "\n"
    "Draws batch, layer, instance and group norm side by side: which elements share a mean and a variance?\n"
    "The picture is made from what the library does: one element of a small tensor is changed, and the\n"
    "elements whose output changes with it are coloured.\n"
    "\n"
    "  -o FILE       where to; the ending says the format (default: norma-layers.svg)\n"
    "  --lang en|zh  the language of the text (default: en)\n"
    "  --all         also layer norm over the channels alone, and RMS norm\n"
    "  --json        print what was found, as text for programs, instead of drawing\n";

typedef struct options {
  const char *output;
  picture_language language;
  bool all, json, help;
} options;

/* 0, or the exit code of a usage error. */
static int read_options(int argc, char **argv, options *o) {
  *o = (options){.output = "norma-layers.svg"};
  for (int i = 1; i < argc; i++) {
    const char *word = argv[i];
    bool takes_value = strcmp(word, "-o") == 0 || strcmp(word, "--output") == 0 || strcmp(word, "--lang") == 0;
    if (takes_value && i + 1 == argc) return cli_fail("%s needs a value; see norma picture --help", word);
    if (strcmp(word, "--lang") == 0) {
      const char *value = argv[++i];
      if (strcmp(value, "en") != 0 && strcmp(value, "zh") != 0) {
        return cli_fail("the language \"%s\" is not known, use --lang en or --lang zh", value);
      }
      o->language = strcmp(value, "zh") == 0 ? PICTURE_ZH : PICTURE_EN;
    } else if (takes_value) {
      o->output = argv[++i];
    } else if (strcmp(word, "--all") == 0) {
      o->all = true;
    } else if (strcmp(word, "--json") == 0) {
      o->json = true;
    } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
      o->help = true;
    } else {
      return cli_fail("\"%s\" is not an option of this command; see norma picture --help", word);
    }
  }
  return 0;
}

/* ------------------------------------------------------------------------------------------------- the file --- */

typedef struct bytes {
  unsigned char *data;
  size_t size;
} bytes;

static cairo_status_t append(void *closure, const unsigned char *data, unsigned size) {
  bytes *out = closure;
  unsigned char *grown = realloc(out->data, out->size + size);
  if (!grown) return CAIRO_STATUS_NO_MEMORY;
  memcpy(grown + out->size, data, size);
  out->data = grown;
  out->size += size;
  return CAIRO_STATUS_SUCCESS;
}

typedef enum format { SVG, PNG, PDF, UNKNOWN } format;

static format format_of(const char *path) {
  static const char *const endings[] = {".svg", ".png", ".pdf"};
  size_t length = strlen(path);
  for (int i = SVG; i < UNKNOWN; i++) {
    if (length > 4 && strcmp(path + length - 4, endings[i]) == 0) return (format)i;
  }
  return UNKNOWN;
}

static cairo_surface_t *make_surface(format f, picture_size size, bytes *out) {
  if (f == SVG) {
    cairo_surface_t *surface = cairo_svg_surface_create_for_stream(append, out, size.width, size.height);
    cairo_svg_surface_set_document_unit(surface, CAIRO_SVG_UNIT_PX);
    return surface;
  }
  if (f == PDF) {
    cairo_surface_t *surface = cairo_pdf_surface_create_for_stream(append, out, size.width, size.height);
    /* Cairo would write the time of day, and the same picture should be the same file. */
    cairo_pdf_surface_set_metadata(surface, CAIRO_PDF_METADATA_CREATE_DATE, "");
    return surface;
  }
  const double pixels = 2; /* per unit: sharp on a projector */
  cairo_surface_t *surface =
      cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)(size.width * pixels), (int)(size.height * pixels));
  cairo_surface_set_device_scale(surface, pixels, pixels);
  return surface;
}

/* The page as text inside the SVG (NUL-terminated here, not after): screen readers, searches and tests cannot read
 * outlines of letters. */
static bool add_description(const picture *p, bytes *svg) {
  char *text = picture_describe(p);
  const char *tag = svg->size > 0 ? strstr((const char *)svg->data, "<svg") : NULL;
  const char *end = tag ? strchr(tag, '>') : NULL;
  if (!text || !end) {
    free(text);
    return false;
  }
  bytes whole = {0};
  const char *title = picture_words_in(p->language)->title[p->count > 4];
  size_t head = (size_t)(end + 1 - (const char *)svg->data);
  const char *parts[] = {"\n<title>", title, "</title>\n<desc>", text, "</desc>", end + 1};
  bool good = append(&whole, svg->data, (unsigned)head) == CAIRO_STATUS_SUCCESS;
  for (int i = 0; i < 6; i++) {
    good = good && append(&whole, (const unsigned char *)parts[i], (unsigned)strlen(parts[i])) == CAIRO_STATUS_SUCCESS;
  }
  free(svg->data);
  free(text);
  *svg = whole;
  return good;
}

static bool encode(const picture *p, format f, bytes *out) {
  cairo_surface_t *surface = make_surface(f, picture_page_size(p), out);
  cairo_t *cr = cairo_create(surface);
  picture_page(cr, p);
  bool good = cairo_status(cr) == CAIRO_STATUS_SUCCESS;
  cairo_destroy(cr);
  if (f == PNG) good &= cairo_surface_write_to_png_stream(surface, append, out) == CAIRO_STATUS_SUCCESS;
  cairo_surface_finish(surface);
  good &= cairo_surface_status(surface) == CAIRO_STATUS_SUCCESS;
  cairo_surface_destroy(surface);
  const unsigned char nul = 0;
  return good && (f != SVG || (append(out, &nul, 1) == CAIRO_STATUS_SUCCESS && add_description(p, out)));
}

/* ------------------------------------------------------------------------------------------------- --json ----- */

static cJSON *panel_json(const picture_panel *panel) {
  char pattern[256] = "", affine[256] = "";
  norma_layer_format(&panel->layer, pattern, sizeof pattern, affine, sizeof affine, NULL);
  cJSON *object = cJSON_CreateObject();
  cJSON_AddStringToObject(object, "name", picture_name(panel->which, PICTURE_EN));
  cJSON_AddStringToObject(object, "pattern", pattern);
  cJSON_AddStringToObject(object, "affine", affine);
  cJSON_AddBoolToObject(object, "rms", panel->layer.rms);
  cJSON_AddNumberToObject(object, "means", (double)norma_layer_units(&panel->layer));
  cJSON_AddNumberToObject(object, "elements_per_mean", (double)norma_layer_unit_elements(&panel->layer));
  cJSON_AddNumberToObject(object, "gammas", (double)norma_layer_params(&panel->layer));
  cJSON *units = cJSON_AddArrayToObject(object, "unit_of_element");
  for (int i = 0; i < PICTURE_ELEMENTS; i++) cJSON_AddItemToArray(units, cJSON_CreateNumber(panel->unit[i]));
  return object;
}

static int print_json(const picture *p) {
  const int shape[4] = {PICTURE_N, PICTURE_C, PICTURE_H, PICTURE_W};
  cJSON *root = cJSON_CreateObject();
  cJSON_AddItemToObject(root, "shape", cJSON_CreateIntArray(shape, 4));
  cJSON_AddNumberToObject(root, "marked_element", picture_marked());
  cJSON *layers = cJSON_AddArrayToObject(root, "layers");
  for (int i = 0; i < p->count; i++) cJSON_AddItemToArray(layers, panel_json(&p->panels[i]));
  char *text = cJSON_PrintUnformatted(root);
  cJSON_Delete(root);
  if (!text) return cli_fail("out of memory");
  puts(text);
  free(text);
  return EXIT_GOOD;
}

/* ------------------------------------------------------------------------------------------------- the command --- */

static int draw(picture *p, const char *path) {
  format f = format_of(path);
  if (f == UNKNOWN) return cli_fail("the ending of '%s' says no format; use .svg, .png or .pdf", path);
  const char *package = NULL;
  if (!picture_fonts(p, &package)) {
    return cli_fail("no installed font has the characters of the text; install the package %s", package);
  }
  bytes out = {0};
  int code = encode(p, f, &out) ? output_save(path, out.data, out.size) : cli_fail("cairo could not draw the picture");
  if (code == EXIT_GOOD) printf("%s\n", path);
  free(out.data);
  return code;
}

int command_picture(int argc, char **argv) {
  options o;
  int code = read_options(argc, argv, &o);
  if (code != 0) return code;
  if (o.help) {
    fputs(HELP, stdout);
    return EXIT_GOOD;
  }
  picture p = {.language = o.language, .count = o.all ? PICTURE_MAX_LAYERS : 4};
  for (int i = 0; i < p.count; i++) {
    norma_error error = {0};
    if (!picture_panel_make(&p.panels[i], (picture_layer)i, &error)) {
      fprintf(stderr, "norma picture: %s: %s\n", picture_name((picture_layer)i, PICTURE_EN), error.detail);
      return EXIT_FAILED;
    }
  }
  return o.json ? print_json(&p) : draw(&p, o.output);
}
