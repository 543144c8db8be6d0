/* Segmentation: sets of scenes as sets of pictures, and how well a net segments them. */
#ifndef LAB_SEGMENT_H
#define LAB_SEGMENT_H

#include "../data/scenes.h"
#include "classify.h"

/* Takes the scenes into the possession of the pictures. */
pictures scenes_as_pictures(scenes s);

/* Takes the last `count` pictures out of the set. */
pictures take_last(pictures *set, int64_t count);

/* A measure of judge_by: the mean over the classes of intersection / union, in percent; both are counts of pixels over
 * the whole test set, the last pictures too if they do not fill a batch. A class that is in neither is left out. */
double mean_iou(layer *net, const pictures *set, int batch, phase phase, int rows);

/* "gn" with `groups` groups, else norm_named; what follows a '_' does not count. */
norm_spec segment_norm(const char *arm, int groups);
/* The peak of one cycle with Adam for this batch size, from the trial in README.md. */
double segment_rate(int batch);

#endif
