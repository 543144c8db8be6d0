/* The docstrings of norma.Moments. The first lines are signatures, as inspect.signature reads them. */
#ifndef NORMA_PYTHON_MOMENTS_DOCS_H
#define NORMA_PYTHON_MOMENTS_DOCS_H

static const char py_doc_moments[] =
    "Moments(pattern=\"[...]\", *, rms=False, **sizes)\n"
    "--\n"
    "\n"
    "Statistics as a value: how many elements, their mean and squared distances from it, for each unit of a "
    "pattern.\n"
    "\n"
    "pattern: as for norm: \"[n] c [h w]\" has one per channel, \"[...]\" one for all elements.\n"
    "rms: the mean is 0, and the variance the mean square.\n"
    "They merge as sets do, over batches, processes or files, and can be pickled.\n";

static const char py_doc_moments_add[] =
    "add($self, x, /)\n"
    "--\n"
    "\n"
    "Adds the elements of an array: float32, float64, float16 or bfloat16, any strides.\n"
    "\n"
    "ValueError: a shape that does not fit the pattern or has other units than before. TypeError: another type.\n";

static const char py_doc_moments_merge[] =
    "merge($self, other, /)\n"
    "--\n"
    "\n"
    "Adds all that was added to another Moments, which stays as it is. ValueError: other units, or another rms.\n";

static const char py_doc_moments_finish[] =
    "finish($self, unbiased=False)\n"
    "--\n"
    "\n"
    "(mean, var), float64 arrays with an entry per unit. unbiased: var is divided by count - 1.\n"
    "\n"
    "ValueError: nothing was added, or a unit has too few elements for its variance.\n";

static const char py_doc_moments_update[] =
    "update($self, running_mean=None, running_var=None, *, momentum=None, convention=\"pytorch\", batches=0, "
    "not_finite=\"store\")\n"
    "--\n"
    "\n"
    "Moves running statistics, arrays with an entry per channel, once. Units are channels, or samples and "
    "channels, whose\n"
    "updates are averaged.\n"
    "\n"
    "convention: \"pytorch\": momentum is the weight of the new value, default 0.1, the variance unbiased; "
    "\"onnx\": momentum is\n"
    "    the weight of the old value, default 0.9, the variance biased (Keras and Flax too); \"cumulative\": "
    "all batches weigh\n"
    "    the same, `batches` counts them, this one included, the variance unbiased.\n"
    "not_finite: \"store\" statistics that are not finite; \"refuse\" them with a ValueError; \"skip\" such a "
    "channel.\n"
    "\n"
    "ValueError: shapes, momentum or batches out of range, a negative running_var, one element per channel "
    "with an unbiased\n"
    "    variance. On an error nothing is written.\n";

#endif
