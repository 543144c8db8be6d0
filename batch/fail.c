/* How a call is refused. */
#include "batch.h"

#include <stdarg.h>
#include <stdio.h>

norma_status norma_batch_fail(norma_error *error, norma_status status, const char *format, ...) {
  if (error) {
    va_list arguments;
    va_start(arguments, format);
    error->status = status;
    vsnprintf(error->detail, sizeof error->detail, format, arguments);
    va_end(arguments);
  }
  return status;
}
