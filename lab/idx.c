/* Reads Fashion-MNIST: two gzip files in the IDX format, pictures and labels. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "lab.h"

static const char package[] = "dataset-fashion-mnist";
static const char pictures_name[] = "t10k-images-idx3-ubyte.gz";
static const char labels_name[] = "t10k-labels-idx1-ubyte.gz";
static const char *const standard_folders[] = {
    "/usr/share/datasets/fashion-mnist",
    "/usr/local/share/datasets/fashion-mnist",
};

/* The test set has 10,000 pictures; a file that claims many more is not it and must not make us allocate for it. */
enum { MOST_PICTURES = 100000 };

const char *const lab_class_names[SAMPLES] = {"T-shirt", "Trouser", "Pullover", "Dress", "Coat",
                                              "Sandal",  "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};

static const char *find_folder(void) {
  for (size_t i = 0; i < sizeof standard_folders / sizeof *standard_folders; i++) {
    if (access(standard_folders[i], R_OK | X_OK) == 0) {
      return standard_folders[i];
    }
  }
  return NULL;
}

/* One line that says why the file cannot be read to the end, or that it is longer than it says. */
static int bad_read(const char *path, gzFile file, int got) {
  int code = Z_OK;
  const char *text = gzerror(file, &code);
  if (got < 0 && code != Z_BUF_ERROR) {
    return lab_fail("%s: damaged (%s); reinstall Debian's package %s", path, code == Z_ERRNO ? "read error" : text,
                    package);
  }
  return lab_fail("%s: truncated; reinstall Debian's package %s", path, package);
}

static uint32_t big_endian(const unsigned char *bytes) {
  return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* Checks magic and sizes: `count` items of `side` x `side` bytes (labels: side 0). */
static int read_header(const char *path, gzFile file, int side, uint32_t *count) {
  unsigned char header[16];
  int length = side > 0 ? 16 : 8;
  int got = gzread(file, header, (unsigned)length);
  if (got != length) {
    return bad_read(path, file, got);
  }
  uint32_t magic = side > 0 ? 0x00000803u : 0x00000801u;
  if (big_endian(header) != magic) {
    return lab_fail("%s: starts with 0x%08x, an IDX file of %s starts with 0x%08x", path, big_endian(header),
                    side > 0 ? "pictures" : "labels", magic);
  }
  *count = big_endian(header + 4);
  if (*count == 0 || *count > MOST_PICTURES) {
    return lab_fail("%s: says it has %u items, expected 1 to %d", path, *count, MOST_PICTURES);
  }
  if (side > 0 && (big_endian(header + 8) != (uint32_t)side || big_endian(header + 12) != (uint32_t)side)) {
    return lab_fail("%s: its pictures are %u x %u, Fashion-MNIST's are %d x %d", path, big_endian(header + 8),
                    big_endian(header + 12), side, side);
  }
  return EXIT_GOOD;
}

/* The whole file, so that zlib compares its checksum. */
static int read_items(const char *path, gzFile file, int side, unsigned char **items, uint32_t *count) {
  int failed = read_header(path, file, side, count);
  if (failed) {
    return failed;
  }
  unsigned length = *count * (unsigned)(side > 0 ? side * side : 1);
  unsigned char beyond;
  *items = malloc(length);
  if (*items == NULL) {
    return lab_fail("%s: no memory for its %u bytes", path, length);
  }
  int got = gzread(file, *items, length);
  if (got != (int)length) {
    return bad_read(path, file, got);
  }
  got = gzread(file, &beyond, 1);
  if (got < 0) {
    return bad_read(path, file, got);
  }
  if (got > 0) {
    return lab_fail("%s: longer than the %u items it says it has", path, *count);
  }
  return EXIT_GOOD;
}

static int read_idx(const char *folder, const char *name, int side, unsigned char **items, uint32_t *count) {
  char path[PATH_SIZE];
  if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path) {
    return lab_fail("--data: the name of the folder is too long");
  }
  gzFile file = gzopen(path, "rb");
  if (file == NULL) {
    return lab_fail("%s: cannot be read; it is in Debian's package %s (apt-get install %s)", path, package, package);
  }
  int failed = read_items(path, file, side, items, count);
  gzclose(file);
  return failed;
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
    folder = find_folder();
  }
  if (folder == NULL) {
    return lab_fail("Fashion-MNIST is not in %s: apt-get install %s, or name its folder with --data DIR",
                    standard_folders[0], package);
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
