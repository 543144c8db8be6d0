/* Fonts by name. Cairo answers with some other font when a family is not installed, so what counts is whether the font
 * that came has a glyph for each character of the text. */
#include "picture.h"

#include <string.h>

static bool has_all(const char *family, const char *text) {
  cairo_font_face_t *face = cairo_toy_font_face_create(family, CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
  cairo_font_options_t *options = cairo_font_options_create();
  cairo_matrix_t scale, identity;
  cairo_matrix_init_scale(&scale, 16, 16);
  cairo_matrix_init_identity(&identity);
  cairo_scaled_font_t *font = cairo_scaled_font_create(face, &scale, &identity, options);
  cairo_glyph_t *glyphs = NULL;
  int count = 0;
  bool all = cairo_scaled_font_text_to_glyphs(font, 0, 0, text, (int)strlen(text), &glyphs, &count, NULL, NULL, NULL) ==
                 CAIRO_STATUS_SUCCESS &&
             count > 0;
  for (int i = 0; i < count; i++) all &= glyphs[i].index != 0;
  cairo_glyph_free(glyphs);
  cairo_scaled_font_destroy(font);
  cairo_font_options_destroy(options);
  cairo_font_face_destroy(face);
  return all;
}

static const char *first_with(const char *const families[], int count, const char *text) {
  for (int i = 0; i < count; i++) {
    if (has_all(families[i], text)) return families[i];
  }
  return NULL;
}

bool picture_fonts(picture *p, const char **package) {
  static const char *const latin[] = {"DejaVu Sans", "Liberation Sans", "sans"};
  static const char *const chinese[] = {"WenQuanYi Micro Hei", "Noto Sans CJK SC", "sans"};
  static const char *const mono[] = {"DejaVu Sans Mono", "Liberation Mono", "monospace"};
  p->mono = first_with(mono, 3, "n (g [k]) [h w]");
  if (p->language == PICTURE_ZH) {
    p->sans = first_with(chinese, 3, "哪些元素共用均值和方差批归一化词元γ×BN");
  } else {
    p->sans = first_with(latin, 3, "Which elements share a mean? γ×");
  }
  *package = p->language == PICTURE_ZH && !p->sans ? "fonts-wqy-microhei" : "fonts-dejavu-core";
  return p->sans && p->mono;
}
