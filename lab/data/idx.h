/* Fashion-MNIST: gzip files in the IDX format, pictures and labels. */
#ifndef LAB_IDX_H
#define LAB_IDX_H

#include <stdbool.h>
#include <stdint.h>

#define IDX_PACKAGE "dataset-fashion-mnist"

enum { IDX_SIDE = 28, IDX_ERROR = 4600 };

/* Where Debian puts them, NULL if there is no such folder. The first place that is looked at: */
const char *idx_folder(void);
extern const char *const idx_standard_folder;

/* Reads FOLDER/NAME: `count` items of `side` x `side` bytes (labels: side 0). The whole file, so that zlib compares its
 * checksum, or if most > 0 not more than the first `most` items, in less time. free(*items). False: `error` is one line
 * that says what is wrong and what to do. */
bool idx_read(const char *folder, const char *name, int side, uint32_t most, unsigned char **items, uint32_t *count,
              char error[IDX_ERROR]);

#endif
