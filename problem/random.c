/*
 * The generator: counter-based, so that any element's value can be computed without the ones before it and does not
 * depend on the order in which a layout stores them. problem_bits mixes seed, stream and index with the finalizer of
 * splitmix64 (Steele, Lea, Flood 2014), one round after each is added.
 */
#include "internal.h"

static uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

uint64_t problem_bits(uint64_t seed, uint64_t stream, uint64_t index) {
  const uint64_t golden = 0x9e3779b97f4a7c15u;
  uint64_t z = mix(seed + golden);
  z = mix(z + (stream + 1) * golden);
  return mix(z + (index + 1) * golden);
}

double problem_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
  return (double)(problem_bits(seed, stream, index) >> 11) * 0x1p-53;
}

/* The sum of twelve uniform numbers has variance 1 and needs only IEEE additions: the same bits on every machine, which
 * the logarithm and cosine of Box and Muller would not give. Its tails end at 6. */
double problem_normal_value(uint64_t seed, uint64_t stream, uint64_t index) {
  const uint64_t golden = 0x9e3779b97f4a7c15u;
  uint64_t state = problem_bits(seed, stream, index);
  double sum = -6;
  for (int i = 0; i < 12; i++) {
    state += golden;
    sum += (double)(mix(state) >> 11) * 0x1p-53;
  }
  return sum;
}
