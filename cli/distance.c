/* How far a mistyped word is from a known one (Levenshtein). */
#include "cli.h"

#include <string.h>

int cli_distance(const char *a, const char *b) {
  int row[CLI_WORD]; /* row[j]: from the letters of a so far to the first j of b */
  size_t length = strlen(b);
  if (length >= CLI_WORD || strlen(a) >= CLI_WORD) {
    return CLI_WORD;
  }
  for (size_t j = 0; j <= length; j++) {
    row[j] = (int)j;
  }
  for (; *a; a++) {
    int corner = row[0]++;
    for (size_t j = 1; j <= length; j++) {
      int best = corner + (*a != b[j - 1]);
      corner = row[j];
      best = row[j] + 1 < best ? row[j] + 1 : best;
      row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
    }
  }
  return row[length];
}
