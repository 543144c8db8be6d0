/* FreeType gives out the font's bitmaps, which have one size; they are made smaller here. */
#include "emoji.h"

#include <ft2build.h>
#include FT_FREETYPE_H
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BY = 4, FONT_WIDTH = BY * EMOJI_WIDTH, FONT_HEIGHT = BY * EMOJI_HEIGHT, ROOM = 2048, LEAST = 400 };

static const char *const places[] = {
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    "/usr/local/share/fonts/truetype/noto/NotoColorEmoji.ttf",
};

static const char *find(void) {
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    if (access(places[i], R_OK) == 0) {
      return places[i];
    }
  }
  return NULL;
}

const char *emoji_missing(void) {
  static char text[256];
  if (find() != NULL) {
    return NULL;
  }
  snprintf(text, sizeof text, "the font Noto Color Emoji is not at %s: apt-get install %s", places[0], EMOJI_PACKAGE);
  return text;
}

/* A pixel of the result is the mean of 4 x 4 in the font, which has blue first. False: the symbol is nearly empty. */
static bool shrink(const FT_Bitmap *from, real *to) {
  enum { SIZE = EMOJI_WIDTH * EMOJI_HEIGHT };
  static const int plane_of[EMOJI_PLANES] = {2, 1, 0, 3};
  int covered = 0;
  for (int i = 0; i < SIZE; i++) {
    int sums[EMOJI_PLANES] = {0};
    for (int j = 0; j < BY * BY; j++) {
      int y = i / EMOJI_WIDTH * BY + j / BY, x = i % EMOJI_WIDTH * BY + j % BY;
      const unsigned char *pixel = from->buffer + y * from->pitch + x * EMOJI_PLANES;
      for (int c = 0; c < EMOJI_PLANES; c++) {
        sums[c] += pixel[c];
      }
    }
    for (int c = 0; c < EMOJI_PLANES; c++) {
      to[plane_of[c] * SIZE + i] = (real)sums[c] / (255 * BY * BY);
    }
    covered += to[3 * SIZE + i] > (real)0.5;
  }
  return covered >= SIZE / 10;
}

static void read_symbols(FT_Face face, emoji *e) {
  FT_UInt glyph;
  FT_ULong code = FT_Get_First_Char(face, &glyph);
  for (; glyph != 0 && e->count < ROOM; code = FT_Get_Next_Char(face, code, &glyph)) {
    const FT_Bitmap *bitmap = &face->glyph->bitmap;
    bool good = FT_Load_Glyph(face, glyph, FT_LOAD_COLOR) == 0 && bitmap->pixel_mode == FT_PIXEL_MODE_BGRA &&
                bitmap->width == FONT_WIDTH && bitmap->rows == FONT_HEIGHT;
    if (good && shrink(bitmap, e->planes + (int64_t)e->count * EMOJI_PLANES * EMOJI_WIDTH * EMOJI_HEIGHT)) {
      e->code[e->count++] = (uint32_t)code;
    }
  }
}

bool emoji_read(emoji *e, char error[EMOJI_ERROR]) {
  const char *path = find();
  FT_Library library;
  FT_Face face;
  *e = (emoji){0};
  if (path == NULL) {
    snprintf(error, EMOJI_ERROR, "%s", emoji_missing());
    return false;
  }
  if (FT_Init_FreeType(&library) != 0) {
    engine_die("no memory for FreeType");
  }
  e->code = engine_alloc(ROOM * sizeof *e->code);
  e->planes = engine_alloc((size_t)ROOM * EMOJI_PLANES * EMOJI_WIDTH * EMOJI_HEIGHT * sizeof *e->planes);
  if (FT_New_Face(library, path, 0, &face) == 0) {
    if (FT_HAS_FIXED_SIZES(face) && FT_Select_Size(face, 0) == 0) {
      read_symbols(face, e);
    }
    FT_Done_Face(face);
  }
  FT_Done_FreeType(library);
  if (e->count < LEAST) {
    snprintf(error, EMOJI_ERROR, "%s: has %d symbols of %d x %d pixels, expected %d or more; reinstall Debian's %s",
             path, e->count, FONT_WIDTH, FONT_HEIGHT, LEAST, EMOJI_PACKAGE);
    emoji_free(e);
    return false;
  }
  return true;
}

void emoji_free(emoji *e) {
  free(e->code);
  free(e->planes);
  *e = (emoji){0};
}
