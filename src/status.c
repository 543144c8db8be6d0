/* Version, status texts, the names of types, and how an error is reported. */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>

int norma_version(void) { return NORMA_VERSION; }

const char *norma_status_text(norma_status status) {
  static const char *const text[] = {
      [NORMA_OK] = "no error",
      [NORMA_BAD_ARGUMENT] = "bad argument",
      [NORMA_BAD_SHAPE] = "bad shape",
      [NORMA_BAD_PATTERN] = "bad pattern",
      [NORMA_OVERLAP] = "overlapping memory",
      [NORMA_SINGLE_VALUE] = "too few values per unit",
      [NORMA_NOT_FINITE] = "statistics are not finite",
      [NORMA_NOT_FOLDABLE] = "layer cannot be folded",
      [NORMA_NO_MEMORY] = "not enough memory",
      [NORMA_RANKS_DISAGREE] = "ranks do not agree",
      [NORMA_RANK_LOST] = "a rank is lost",
  };
  int code = (int)status;
  return code >= 0 && code < (int)(sizeof text / sizeof *text) ? text[code] : "unknown status";
}

norma_status norma_fail(norma_error *error, norma_status status, const char *format, ...) {
  if (error) {
    va_list arguments;
    va_start(arguments, format);
    error->status = status;
    vsnprintf(error->detail, sizeof error->detail, format, arguments);
    va_end(arguments);
  }
  return status;
}

static const struct {
  size_t size;
  const char *name;
} types[] = {[NORMA_F32] = {4, "f32"}, [NORMA_F64] = {8, "f64"}, [NORMA_F16] = {2, "f16"}, [NORMA_BF16] = {2, "bf16"}};

static bool known(norma_type type) { return (int)type >= 0 && (int)type < (int)(sizeof types / sizeof *types); }

size_t norma_type_size(norma_type type) { return known(type) ? types[type].size : 0; }

const char *norma_type_name(norma_type type) { return known(type) ? types[type].name : "?"; }

norma_type norma_param_type(norma_type data_type) { return data_type == NORMA_F64 ? NORMA_F64 : NORMA_F32; }
