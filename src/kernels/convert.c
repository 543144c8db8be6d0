/* Rows of float32, float64, float16 and bfloat16 to and from float64. The 16-bit types are handled as bits, so that the
 * result is the same with every compiler and instruction set. */
#include "vector.h"

#include "float_env.h"

#include <string.h>

static uint32_t float_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static float bits_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static float bf16_to_float(uint16_t h) { return bits_float((uint32_t)h << 16); }

static uint16_t float_to_bf16(float value) {
  uint32_t bits = float_bits(value);
  return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16); /* nearest even; overflow carries into Inf */
}

static float f16_to_float(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16;
  uint32_t magnitude = h & 0x7fff;
  if (magnitude >= 0x7c00) return bits_float(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  if (magnitude >= 0x0400) return bits_float(sign | ((magnitude << 13) + ((127 - 15) << 23)));
  float value = (float)magnitude * 0x1p-24f; /* denormal, exact */
  return sign ? -value : value;
}

static uint16_t float_to_f16(float value) {
  uint32_t bits = float_bits(value);
  uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
  uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x47800000) return (uint16_t)(sign | 0x7c00); /* 65536 and above */
  if (magnitude < 0x38800000) { /* below 2^-14: adding 0.5 rounds to the spacing of the denormals, 2^-24 */
    float rounded = bits_float(magnitude) + 0.5f;
    return (uint16_t)(sign | (float_bits(rounded) - float_bits(0.5f)));
  }
  uint32_t rebased = magnitude - ((127 - 15) << 23);
  return (uint16_t)(sign | ((rebased + 0xfff + (rebased >> 13 & 1)) >> 13));
}

void norma_load(norma_type type, const void *from, int64_t stride, double *to, int64_t n) {
  if (stride == 0 && n > 1) {
    norma_load(type, from, 0, to, 1);
    for (int64_t i = 1; i < n; i++) to[i] = to[0];
    return;
  }
  switch (type) {
    case NORMA_F32: {
      const float *row = from;
      for (int64_t i = 0; stride == 1 && i < n; i++) to[i] = row[i];
      for (int64_t i = 0; stride != 1 && i < n; i++) to[i] = row[i * stride];
      break;
    }
    case NORMA_F64: {
      const double *row = from;
      for (int64_t i = 0; i < n; i++) to[i] = row[i * stride];
      break;
    }
    case NORMA_F16: {
      const uint16_t *row = from;
      for (int64_t i = 0; i < n; i++) to[i] = f16_to_float(row[i * stride]);
      break;
    }
    case NORMA_BF16: {
      const uint16_t *row = from;
      for (int64_t i = 0; i < n; i++) to[i] = bf16_to_float(row[i * stride]);
      break;
    }
  }
}

void norma_widen_f16(const uint16_t *from, float *to, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = f16_to_float(from[i]);
}

void norma_narrow_f16(const float *from, uint16_t *to, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = from[i] == from[i] ? float_to_f16(from[i]) : 0x7e00;
}

void norma_store(norma_type type, const double *from, void *to, int64_t stride, int64_t n) {
  switch (type) {
    case NORMA_F32: {
      float *row = to;
      if (stride == 1) {
        norma_kernels_best()->narrow(from, row, n);
        break;
      }
      for (int64_t i = 0; i < n; i++) row[i * stride] = from[i] == from[i] ? (float)from[i] : bits_float(0x7fc00000);
      break;
    }
    case NORMA_F64: {
      double *row = to;
      const uint64_t bits = 0x7ff8000000000000;
      double quiet;
      memcpy(&quiet, &bits, sizeof quiet);
      for (int64_t i = 0; i < n; i++) row[i * stride] = from[i] == from[i] ? from[i] : quiet;
      break;
    }
    case NORMA_F16: {
      uint16_t *row = to;
      for (int64_t i = 0; i < n; i++) row[i * stride] = from[i] == from[i] ? float_to_f16((float)from[i]) : 0x7e00;
      break;
    }
    case NORMA_BF16: {
      uint16_t *row = to;
      for (int64_t i = 0; i < n; i++) row[i * stride] = from[i] == from[i] ? float_to_bf16((float)from[i]) : 0x7fc0;
      break;
    }
  }
}

void norma_store_one(norma_type type, void *array, int64_t i, double value) {
  if (array) norma_store(type, &value, (char *)array + i * (int64_t)norma_type_size(type), 0, 1);
}

void norma_to_double(norma_type type, const void *from, int64_t stride, double *to, int64_t n) {
  norma_float_env env = norma_float_enter();
  if (n > 0) norma_load(type, from, stride, to, n);
  norma_float_leave(env);
}

void norma_from_double(norma_type type, const double *from, void *to, int64_t stride, int64_t n) {
  norma_float_env env = norma_float_enter();
  if (n > 0) norma_store(type, from, to, stride, n);
  norma_float_leave(env);
}
