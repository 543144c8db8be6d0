/* A run's pictures, for the report: DIR/pictures/NAME.png, written under a temporary name and renamed. */
#include <errno.h>
#include <png.h>
#include <string.h>
#include <unistd.h>

#include "../engine/engine.h"
#include "runner.h"

void run_picture(const run *run, const char *name, const unsigned char *rgb, int width, int height) {
  char path[PATH_SIZE], temporary[PATH_SIZE + 16];
  png_image png = {.version = PNG_IMAGE_VERSION, .format = PNG_FORMAT_RGB, .width = (png_uint_32)width,
                   .height = (png_uint_32)height};
  snprintf(path, sizeof path, "%s/pictures/%s.png", run->out, name);
  snprintf(temporary, sizeof temporary, "%s.%ld.tmp", path, (long)getpid());
  if (!make_folders(path)) {
    engine_die("cannot write %s", path);
  }
  if (!png_image_write_to_file(&png, temporary, 0, rgb, 0, NULL)) {
    remove(temporary);
    engine_die("cannot write %s: %s", path, png.message);
  }
  if (rename(temporary, path) != 0) {
    int reason = errno;
    remove(temporary);
    engine_die("cannot write %s: %s", path, strerror(reason));
  }
}
