/* Makes a batch of feature maps from pictures: an exposure per picture, then eight fixed filters. */
#include <string.h>

#include "lab.h"

/*
 * What a camera does to a scene: the gain scales its contrast, the veil is stray light added everywhere. Together they
 * are at most 1: no pixel is clipped.
 */
const lab_exposure lab_exposures[SAMPLES] = {
    {1.0f, 0.0f, "gain 1"},
    {0.25f, 0.125f, "gain 1/4, veil 1/8"},
    {0.5f, 0.25f, "gain 1/2, veil 1/4"},
    {0.5f, 0.0f, "gain 1/2"},
    {0.25f, 0.25f, "gain 1/4, veil 1/4"},
    {1.0f, 0.0f, "gain 1"},
    {0.25f, 0.0f, "gain 1/4"},
    {0.5f, 0.125f, "gain 1/2, veil 1/8"},
    {0.25f, 0.125f, "gain 1/4, veil 1/8"},
    {0.5f, 0.0f, "gain 1/2"},
};

/* The binomial blur of 3 x 3; applied twice it is that of 5 x 5, four times that of 9 x 9. */
#define BLUR {{0.0625f, 0.125f, 0.0625f}, {0.125f, 0.25f, 0.125f}, {0.0625f, 0.125f, 0.0625f}}

/* Two families of four, and so the two groups of group norm. The blurs sum to 1, the edge filters to 0. */
const lab_filter lab_filters[CHANNELS] = {
    {"picture", "the exposed picture itself", BLUR, 0},
    {"blur 3", "binomial blur, 3 x 3", BLUR, 1},
    {"blur 5", "binomial blur, 5 x 5", BLUR, 2},
    {"blur 9", "binomial blur, 9 x 9", BLUR, 4},
    {"edge x", "Sobel, brighter to the right", {{-0.25f, 0, 0.25f}, {-0.5f, 0, 0.5f}, {-0.25f, 0, 0.25f}}, 1},
    {"edge y", "Sobel, brighter downwards", {{-0.25f, -0.5f, -0.25f}, {0, 0, 0}, {0.25f, 0.5f, 0.25f}}, 1},
    {"diagonal", "Sobel, brighter to the upper right", {{0, 0.25f, 0.5f}, {-0.25f, 0, 0.25f}, {-0.5f, -0.25f, 0}}, 1},
    {"Laplacian", "the four neighbours' mean less the pixel", {{0, 0.25f, 0}, {0.25f, -1, 0.25f}, {0, 0.25f, 0}}, 1},
};

static int clamp(int i) {
  return i < 0 ? 0 : i >= SIDE ? SIDE - 1 : i;
}

static void convolve(const float kernel[3][3], const float *in, float *out) {
  for (int y = 0; y < SIDE; y++) {
    for (int x = 0; x < SIDE; x++) {
      float sum = 0;
      for (int dy = -1; dy <= 1; dy++) {
        for (int dx = -1; dx <= 1; dx++) {
          sum += kernel[dy + 1][dx + 1] * in[clamp(y + dy) * SIDE + clamp(x + dx)];
        }
      }
      out[y * SIDE + x] = sum;
    }
  }
}

void lab_make_maps(const lab_pictures *pictures, lab_maps maps) {
  float exposed[PIXELS], filtered[PIXELS];
  for (int n = 0; n < SAMPLES; n++) {
    for (int p = 0; p < PIXELS; p++) {
      exposed[p] = lab_exposures[n].gain * pictures->pixel[n][p] + lab_exposures[n].veil;
    }
    for (int c = 0; c < CHANNELS; c++) {
      memcpy(maps[n][c], exposed, sizeof exposed);
      for (int i = 0; i < lab_filters[c].times; i++) {
        convolve(lab_filters[c].kernel, maps[n][c], filtered);
        memcpy(maps[n][c], filtered, sizeof filtered);
      }
    }
  }
}
