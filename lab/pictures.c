/* The demo's pictures: the first of each class in Fashion-MNIST's test set. */
#include <stdlib.h>

#include "data/idx.h"
#include "lab.h"

static const char pictures_name[] = "t10k-images-idx3-ubyte.gz";
static const char labels_name[] = "t10k-labels-idx1-ubyte.gz";

const char *const lab_class_names[SAMPLES] = {"T-shirt", "Trouser", "Pullover", "Dress", "Coat",
                                              "Sandal",  "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};

static int read_idx(const char *folder, const char *name, int side, unsigned char **items, uint32_t *count) {
  char error[IDX_ERROR];
  return idx_read(folder, name, side, 0, items, count, error) ? EXIT_GOOD : lab_fail("%s", error);
}

static int choose(const char *folder, const unsigned char *pixels, uint32_t pictures_count, const unsigned char *labels,
                  uint32_t labels_count, lab_pictures *pictures) {
  if (pictures_count != labels_count) {
    return lab_fail("%s: %u pictures but %u labels", folder, pictures_count, labels_count);
  }
  for (int class = 0; class < SAMPLES; class++) {
    uint32_t i = 0;
    while (i < labels_count && labels[i] != class) {
      i++;
    }
    if (i == labels_count) {
      return lab_fail("%s/%s: no picture has label %d (%s)", folder, labels_name, class, lab_class_names[class]);
    }
    pictures->index[class] = (int)i;
    for (int p = 0; p < PIXELS; p++) {
      pictures->pixel[class][p] = (float)pixels[(size_t)i * PIXELS + (size_t)p] / 255.0f;
    }
  }
  return EXIT_GOOD;
}

int lab_read_pictures(const char *folder, lab_pictures *pictures) {
  unsigned char *pixels = NULL, *labels = NULL;
  uint32_t pictures_count = 0, labels_count = 0;
  if (folder == NULL) {
    folder = idx_folder();
  }
  if (folder == NULL) {
    return lab_fail("Fashion-MNIST is not in %s: apt-get install %s, or name its folder with --data DIR",
                    idx_standard_folder, IDX_PACKAGE);
  }
  int failed = read_idx(folder, pictures_name, SIDE, &pixels, &pictures_count);
  if (!failed) {
    failed = read_idx(folder, labels_name, 0, &labels, &labels_count);
  }
  if (!failed) {
    failed = choose(folder, pixels, pictures_count, labels, labels_count, pictures);
  }
  free(pixels);
  free(labels);
  return failed;
}
