"""norma explain: what it reads, the facts it prints, the code of other libraries, the traps and the errors."""

import ast
import json
import subprocess

import numpy as np
import pytest

from oracle import NORMA


def explain(*words):
    return subprocess.run([NORMA, "explain", *words], capture_output=True, text=True, timeout=60)


def facts(*words):
    done = explain("--json", *words)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return json.loads(done.stdout)


def words_of(line):
    """Words as a shell would give them; patterns and lists stand in quotes."""
    parts, quoted = [], False
    for piece in line.split("'"):
        parts += [piece] if quoted else piece.split()
        quoted = not quoted
    return parts


# ------------------------------------------------------------------------------------------------------- facts ---

FACTS = [
    # what is typed, pattern, affine list, means, elements of each, shape of mean, parameters
    ("BatchNorm2d 32 64 56 56",                           "[n] c [h w]",      "c",     64,    100352, [64],      128),
    ("BatchNorm1d 8 16",                                  "[n] c",            "c",     16,    8,    [16],        32),
    ("BatchNorm3d 2 4 3 5 6",                             "[n] c [d h w]",    "c",     4,     180,  [4],         8),
    ("nn.BatchNorm2d(64,affine=False) 2 64 4 4",          "[n] c [h w]",      "",      64,    32,   [64],        0),
    ("torch.nn.functional.batch_norm 3 4 5",              "[n] c [l]",        "c",     4,     15,   [4],         8),
    ("InstanceNorm2d 2 3 4 5",                            "n c [h w]",        "",      6,     20,   [2, 3],      0),
    ("InstanceNorm2d 2 3 4 5 affine=True",                "n c [h w]",        "c",     6,     20,   [2, 3],      6),
    ("InstanceNormalization 2 3 4 5",                     "n c [h w]",        "c",     6,     20,   [2, 3],      6),
    ("GroupNorm 32 64 56 56 g=32",                        "n (g [k]) [h w]",  "(g k)", 1024,  6272, [32, 32],    128),
    ("'nn.GroupNorm(32, 64)' 2 64 4 4",                   "n (g [k]) [h w]",  "(g k)", 64,    32,   [2, 32],     128),
    ("GroupNormalization 2 64 4 4 num_groups=2",          "n (g [k]) [h w]",  "(g k)", 4,     512,  [2, 2],      128),
    ("LayerNorm 8 128 768",                               "n t [d]",          "d",     1024,  768,  [8, 128],    1536),
    ("LayerNorm 2 3 4 5 normalized_shape=3,4,5",          "n [c h w]",        "c h w", 2,     60,   [2],         120),
    ("'nn.LayerNorm([4, 5], eps=1e-6)' 2 3 4 5",          "n c [h w]",        "h w",   6,     20,   [2, 3],      40),
    ("LayerNormalization 2 3 4 5 axis=1",                 "n [c h w]",        "c h w", 2,     60,   [2],         120),
    ("LayerNorm2d 2 3 4 5",                               "n [c] h w",        "c",     40,    3,    [2, 4, 5],   6),
    ("RMSNorm 8 128 768",                                 "n t [d]",          "d",     1024,  768,  [8, 128],    768),
    ("keras.layers.BatchNormalization 2 4 5 3",           "[n h w] c",        "c",     3,     40,   [3],         6),
    ("keras.layers.BatchNormalization 2 3 4 5 axis=1",    "[n] c [h w]",      "c",     3,     40,   [3],         6),
    ("tf.keras.layers.GroupNormalization 2 4 5 6 groups=3", "n [h w] (g [k])", "(g k)", 6,    40,   [2, 3],      12),
    ("keras.layers.LayerNormalization 2 4 5 6 axis=[1,3]", "n [h] w [c]",     "h c",   10,    24,   [2, 5],      48),
    ("AdaIN 2 3 4 5",                                     "n c [h w]",        "",      6,     20,   [2, 3],      0),
    ("'n (g [k]) [h w]' 32 64 56 56 g=32",                "n (g [k]) [h w]",  "",      1024,  6272, [32, 32],    0),
    ("'n (g [k]) [h w]' 2 64 4 4 g=32 'affine=(g k)'",    "n (g [k]) [h w]",  "(g k)", 64,    32,   [2, 32],     128),
    ("'([a] b [c]) d' 24 5 a=2 b=3",                      "([a] b [c]) d",    "",      15,    8,    [3, 5],      0),
    ("'n c' 3 4",                                         "n c",              "",      12,    1,    [3, 4],      0),
    ("'[n c]' 3 4",                                       "[n c]",            "",      1,     12,   [],          0),
    ("group:n8,c64,h14,w14,g=32",                         "n (g [k]) [h w]",  "(g k)", 256,   392,  [8, 32],     128),
    ("'instance:n2,c3,h4,w5,affine=n c'",                 "n c [h w]",        "n c",   6,     20,   [2, 3],      12),
    ("batch:n0,c3,h4,w5",                                 "[n] c [h w]",      "c",     3,     0,    [3],         6),
]  # fmt: skip


@pytest.mark.parametrize("typed, pattern, affine, means, each, mean_shape, parameters", FACTS,
                         ids=[f[0] for f in FACTS])
def test_facts(typed, pattern, affine, means, each, mean_shape, parameters):
    f = facts(*words_of(typed))
    got = [f[key] for key in ("pattern", "affine", "means", "elements_per_mean", "mean_shape", "parameters")]
    assert got == [pattern, affine, means, each, mean_shape, parameters]
    numbers = explain(*words_of(typed)).stdout.replace("mean squares", "means").splitlines()[2:8]
    assert any(line.split()[:2] == ["means", f"{means:,}"] for line in numbers)
    assert any(line.split()[:4] == ["elements", "of", "each", f"{each:,}"] for line in numbers)


@pytest.mark.parametrize("typed, shape", [
    ("BatchNorm2d 4 6 3 5", (4, 6, 3, 5)), ("LayerNorm2d 4 6 3 5", (4, 6, 3, 5)),
    ("GroupNorm 4 6 3 5 g=3", (4, 6, 3, 5)),
    ("'n ([g] k) [h w]' 4 6 3 5 g=3", (4, 6, 3, 5)), ("'(a [b] c) d' 24 5 a=2 b=3", (24, 5)),
])  # fmt: skip
def test_the_example_is_one_set_of_indices(typed, shape):
    f = facts(*words_of(typed))
    chosen = eval(f["example"], {"x": np.arange(np.prod(shape)).reshape(shape)})
    assert chosen.size == f["elements_per_mean"] and 0 in chosen


def test_the_example_of_a_set_without_a_step_lists_it():
    assert facts("([a] b [c]) d", "24", "5", "a=2", "b=3")["example"] == "x[[0, 1, 2, 3, 12, 13, ...], 0]"


def test_one_layer_in_three_ways_has_the_same_facts():
    ways = [facts("GroupNorm", "8", "64", "14", "14", "g=32"), facts("group:n8,c64,h14,w14,g=32"),
            facts("n (g [k]) [h w]", "8", "64", "14", "14", "g=32", "affine=(g k)")]  # fmt: skip
    for way in ways:
        del way["problem"]
    assert ways[0] == ways[1] == ways[2]


@pytest.mark.parametrize("kind, size", [("float32", 4), ("float64", 8), ("float16", 2), ("bfloat16", 2)])
def test_bytes(kind, size):
    f = facts("LayerNorm", "8", "128", "768", f"dtype={kind}")
    assert (f["forward_bytes"], f["backward_bytes"]) == (2 * 8 * 128 * 768 * size, 3 * 8 * 128 * 768 * size)


@pytest.mark.parametrize("typed, problem", [
    ("'n (g [k]) [h w]' 32 64 56 56 g=32", "norm:n32,gk64,h56,w56,pattern=n (g [k]) [h w],g=32"),
    ("'n ... [c]' 2 3 4", "norm:n2,l3,c4,pattern=n ... [c]"),
    ("'(a b) [ab]' 6 4 a=2", "norm:a6,b4,pattern=(a b) [ab],a=2"),
])  # fmt: skip
def test_the_problem_of_a_pattern_has_its_names(typed, problem):
    assert facts(*words_of(typed))["problem"] == problem
    assert facts(problem)["pattern"] == facts(*words_of(typed))["pattern"]


def test_the_problem_it_names_is_the_same_layer():
    f = facts("keras.layers.GroupNormalization", "2", "4", "5", "6", "groups=3", "epsilon=0.5")
    again = facts(f["problem"])
    assert (again["pattern"], again["affine"], again["eps"]) == (f["pattern"], f["affine"], 0.5)


# ------------------------------------------------------------------------------------------ the same elsewhere ---

SAME = [
    ("BatchNorm2d 4 6 3 5 momentum=0.3 eps=1e-4",
     "torch.nn.BatchNorm2d(6, eps=0.0001, momentum=0.3)",
     "BatchNormalization(epsilon=0.0001, momentum=0.7, training_mode=1)",
     "keras.layers.BatchNormalization(axis=1, momentum=0.7, epsilon=0.0001)"),
    ("BatchNormalization 4 6 3 5 momentum=0.75",
     "torch.nn.BatchNorm2d(6, eps=1e-05, momentum=0.25)",
     "BatchNormalization(epsilon=1e-05, momentum=0.75, training_mode=1)",
     "keras.layers.BatchNormalization(axis=1, momentum=0.75, epsilon=1e-05)"),
    ("keras.layers.BatchNormalization 4 3 5 6",
     "torch.nn.BatchNorm2d(6, eps=0.001, momentum=0.01)(x.movedim(3, 1)).movedim(1, 3)",
     "Transpose(perm=[0, 3, 1, 2]), BatchNormalization(epsilon=0.001, momentum=0.99, training_mode=1), "
     "Transpose(perm=[0, 2, 3, 1])",
     "keras.layers.BatchNormalization(axis=-1, momentum=0.99, epsilon=0.001)"),
    ("InstanceNorm2d 4 6 3 5",
     "torch.nn.InstanceNorm2d(6, eps=1e-05, affine=False)",
     "InstanceNormalization(epsilon=1e-05)",
     "keras.layers.GroupNormalization(groups=6, axis=1, epsilon=1e-05, center=False, scale=False)"),
    ("GroupNorm 4 6 3 5 g=3",
     "torch.nn.GroupNorm(3, 6, eps=1e-05)",
     "GroupNormalization(num_groups=3, epsilon=1e-05)",
     "keras.layers.GroupNormalization(groups=3, axis=1, epsilon=1e-05)"),
    ("LayerNorm 3 4 5 6 normalized_shape=5,6",
     "torch.nn.LayerNorm([5, 6], eps=1e-05)",
     "LayerNormalization(axis=-2, epsilon=1e-05)",
     "keras.layers.LayerNormalization(axis=[2, 3], epsilon=1e-05)"),
    ("layer:n3,t4,d8,affine=weight",
     "torch.nn.LayerNorm([8], eps=1e-05, bias=False)",
     "LayerNormalization(axis=-1, epsilon=1e-05)",
     "keras.layers.LayerNormalization(axis=-1, epsilon=1e-05, center=False)"),
    ("LayerNorm2d 3 4 5 6",
     "torch.nn.LayerNorm([4], eps=1e-05)(x.movedim(1, -1)).movedim(-1, 1)",
     "Transpose(perm=[0, 2, 3, 1]), LayerNormalization(axis=-1, epsilon=1e-05), Transpose(perm=[0, 3, 1, 2])",
     "keras.layers.LayerNormalization(axis=1, epsilon=1e-05)"),
    ("RMSNorm 3 4 8",
     "torch.nn.RMSNorm([8], eps=None)",
     "RMSNormalization(axis=-1, epsilon=1.1920929e-07)",
     "keras.layers.RMSNormalization(axis=-1, epsilon=1.1920929e-07)"),
    ("RMSNormalization 3 4 8",
     "torch.nn.RMSNorm([8], eps=1e-05)",
     "RMSNormalization(axis=-1, epsilon=1e-05)",
     "keras.layers.RMSNormalization(axis=-1, epsilon=1e-05)"),
]  # fmt: skip


@pytest.mark.parametrize("typed, pytorch, onnx, keras", SAME, ids=[s[0] for s in SAME])
def test_the_same_layer_elsewhere(typed, pytorch, onnx, keras):
    same = facts(*words_of(typed))["same"]
    assert [same[f]["code"] for f in ("PyTorch", "ONNX", "Keras")] == [pytorch, onnx, keras]
    assert all(same[f]["equivalent"] for f in same)
    ast.parse(pytorch), ast.parse(keras)


@pytest.mark.parametrize("typed, gamma", [
    ("'instance:n2,c4,h8,w8,affine=n c'", "the result by gamma and add beta, both of shape (2, 4, 1, 1)"),
    ("'n [c] h w' 2 4 8 8 'affine=n c'", "the result by gamma and add beta, both of shape (2, 4, 1, 1)"),
    ("'[n] (g [k]) h w' 2 8 4 4 g=2 affine=g",
     "before the last reshape by gamma and add beta, both of shape (1, 2, 1, 1, 1)"),
    ("'n (g [k]) [h w]' 2 8 4 4 g=2 affine=g",
     "before the last reshape by gamma and add beta, both of shape (1, 2, 1, 1, 1)"),
    ("'n (a b) [h w]' 2 8 4 4 a=2 'affine=n (a b)'", "the result by gamma and add beta, both of shape (2, 8, 1, 1)"),
])  # fmt: skip
def test_a_gamma_that_no_module_has_is_a_multiplication(typed, gamma):
    assert facts(*words_of(typed))["same"]["PyTorch"]["remarks"] == [f"multiply {gamma}"]


class Torch:
    """The two functions that the code by hand uses, on NumPy arrays."""

    @staticmethod
    def var_mean(x, dim, correction, keepdim):
        return x.var(axis=tuple(dim), ddof=correction, keepdims=keepdim), x.mean(axis=tuple(dim), keepdims=keepdim)

    @staticmethod
    def rsqrt(x):
        return 1 / np.sqrt(x)


@pytest.mark.parametrize("typed, split, axes, ddof", [
    ("'[n] (g [k]) h w' 2 8 3 5 g=2", (2, 2, 4, 3, 5), (0, 2), 0),
    ("'([a] b [c]) d' 24 5 a=2 b=3", (2, 3, 4, 5), (0, 2), 0),
    ("layer:n3,c4,h5,w6,axes=c.w", (3, 4, 5, 6), (1, 3), 0),
    ("batch:n3,c4,h5,w6,ddof=1,eps=0.5", (3, 4, 5, 6), (0, 2, 3), 1),
])  # fmt: skip
def test_the_code_by_hand_computes_the_layer(typed, split, axes, ddof):
    f = facts(*words_of(typed))
    same = f["same"]["PyTorch"]
    assert not same["equivalent"]
    shape = (24, 5) if "24" in typed else (2, 8, 3, 5) if "(g" in typed else split
    x = np.random.default_rng(1).normal(3, 2, shape)
    scope = {"torch": Torch, "x": x}
    exec(same["code"], scope)
    z = x.reshape(split)
    y = (z - z.mean(axis=axes, keepdims=True)) / np.sqrt(z.var(axis=axes, ddof=ddof, keepdims=True) + f["eps"])
    assert scope["y"].shape == x.shape and np.allclose(scope["y"], y.reshape(shape), rtol=0, atol=1e-13)


# ------------------------------------------------------------------------------------------------------- traps ---

TRAPS = [
    # a part of the text                         where it must be                   where it must not be
    ("A batch of 1: in training",                 "BatchNorm2d 1 64 56 56",          "BatchNorm2d 32 64 56 56"),
    ("A batch of 4:",                             "BatchNorm2d 4 64 56 56",          "GroupNorm 4 64 56 56 g=32"),
    ("before it enters the running variance",     "BatchNorm2d 4 64 56 56",          "LayerNorm 8 128 768"),
    ("m / (m - 1) = 1.142857",                    "BatchNorm1d 8 16",                "BatchNorm1d 9 16"),
    ("(0.1 here)",                                "BatchNorm1d 8 16",                "BatchNorm1d 8 16 momentum=0.2"),
    ("Keep the running statistics in float32",    "BatchNorm1d 8 16 dtype=bfloat16", "BatchNorm1d 8 16"),
    ("One element per mean: x - mean is 0",       "BatchNorm1d 1 16",                "BatchNorm1d 2 16"),
    ("every output is 0 and dx is 0.",            "InstanceNorm2d 1 64 1 1",         "BatchNorm1d 1 16"),
    ("every output is beta and dx is 0; gamma",   "BatchNorm1d 1 16",                "InstanceNorm2d 1 64 1 1"),
    ("more than 1 spatial element",               "InstanceNorm2d 1 64 1 1",         "GroupNorm 1 64 1 1 g=64"),
    ("PyTorch refuses",                           "GroupNorm 1 64 1 1 g=64",         "GroupNorm 2 64 1 1 g=64"),
    ("PyTorch refuses",                           "InstanceNorm1d 4 8 1",            "LayerNorm 4 1"),
    ("Two elements per mean",                     "LayerNorm 4 2",                   "RMSNorm 4 2"),
    ("sqrt(2) = 1.41",                            "LayerNorm 4 3",                   "LayerNorm 4 17"),
    ("sqrt(3) = 1.73",                            "RMSNorm 4 3",                     "LayerNorm 4 3"),
    ("the sign of x is left",                     "RMSNorm 4 1",                     "RMSNorm 4 2"),
    ("One group: the statistics",                 "GroupNorm 2 64 8 8 g=1",          "GroupNorm 2 64 8 8 g=2"),
    ("this is instance norm",                     "GroupNorm 2 64 8 8 g=64",         "GroupNorm 2 64 8 8 g=32"),
    ("normalizes along w alone",                  "LayerNorm 32 64 56 56",           "LayerNorm 32 64 56"),
    ("normalizes along w alone", "LayerNormalization 32 64 56 56",
     "keras.LayerNormalization 32 56 56 64"),
    ("fits only inputs of this size",             "LayerNorm 2 3 4 5 normalized_shape=3,4,5", "LayerNorm 2 3 4 5"),
    ("Dimension 0 shares too",                    "'[n c] h w' 4 5 6 7",             "'n [c] h w' 4 5 6 7"),
    ("no gamma and beta unless affine=True",      "InstanceNorm2d 2 3 4 5",          "GroupNorm 2 3 4 5 g=3"),
    ("Keras's 1e-06",                             "RMSNorm 8 128 768",               "LayerNorm 8 128 768"),
    ("Keras's 0.001",                             "LayerNorm 8 128 768",             "RMSNorm 8 128 768"),
    ("eps is 0",                                  "LayerNorm 8 768 eps=0",           "LayerNorm 8 768 eps=1e-30"),
    ("are 64 apart in bf16", "LayerNorm 8 768 type=bf16 data=offset:1e4",
     "LayerNorm 8 768 data=offset:1e4"),
    ("x^2 near 1e+08 is rounded by up to 4",      "LayerNorm 8 768 data=offset:1e4", "LayerNorm 8 768 data=offset:1"),
    ("The input is constant",                     "LayerNorm 8 768 data=constant:3", "RMSNorm 8 768 data=constant:3"),
    ("nearer to x / sqrt(eps)",                   "LayerNorm 8 768 data=scale:1e-4", "LayerNorm 8 768 data=scale:1"),
    ("One NaN or Inf makes all 768 outputs",      "LayerNorm 8 768 data=nan",        "LayerNorm 8 768"),
    ("The tensor is empty",                       "BatchNorm2d 0 64 56 56",          "BatchNorm2d 1 64 56 56"),
    ("only the style is left",                    "AdaIN 2 3 1 1",                   "AdaIN 2 3 4 4"),
]  # fmt: skip


@pytest.mark.parametrize("text, where, where_not", TRAPS, ids=[f"{t[0]} {t[1]}" for t in TRAPS])
def test_a_trap_has_its_condition(text, where, where_not):
    assert any(text in trap for trap in facts(*words_of(where))["traps"])
    assert not any(text in trap for trap in facts(*words_of(where_not))["traps"])


def test_the_text_shows_every_trap():
    words = words_of("BatchNorm1d 8 16 dtype=bfloat16")
    text = " ".join(explain(*words).stdout.split())
    traps = facts(*words)["traps"]
    assert len(traps) >= 5 and all(f"- {trap}" in text for trap in traps)


# ------------------------------------------------------------------------------------------------------ errors ---

ERRORS = [
    ("", "what should be explained? For example: norma explain BatchNorm2d 32 64 56 56"),
    ("BachNorm2d 32 64 56 56", 'no layer is called "BachNorm2d"; did you mean BatchNorm2d?'),
    ("batch 32 64 56 56", 'no layer is called "batch"; did you mean BatchNorm?'),
    ("LayerNorm", "LayerNorm: the shape of its input is missing; norma explain LayerNorm 8 128 768 would be right"),
    ("GroupNorm",
     "GroupNorm: the shape of its input is missing; norma explain GroupNorm 32 64 56 56 g=32 would be right"),
    ("LayerNorm 8 -1", '"-1" is neither a length nor key=value; a length is a whole number such as 64'),
    ("LayerNorm 8 0x10", '"0x10" is neither a length nor key=value; a length is a whole number such as 64'),
    ("LayerNorm 8 9223372036854775808", '"9223372036854775808" is too large; a length is less than 2^63 - 1'),
    ("layer:n2,d4,ddof=4", "ddof is 4, must be 0 (divide by m) or 1 (by m - 1)"),
    ("adain:n2,c3,h4,alpha=nan", "alpha is nan, must be a finite number"),
    ("foo 3 4", '"foo" is no layer, pattern or problem string; try BatchNorm2d 32 64 56 56, '
                "'n c [h w]' 32 64 56 56 or group:n8,c64,h14,w14,g=32"),
    ("BatchNorm2d",
     "BatchNorm2d: the shape of its input is missing; norma explain BatchNorm2d 32 64 56 56 would be right"),
    ("BatchNorm2d 32 64 56", "BatchNorm2d takes an input of 4 dimensions, but 3 were given; BatchNorm1d takes 3"),
    ("BatchNorm1d 32", "BatchNorm1d takes an input of 2 or 3 dimensions, but 1 was given"),
    ("BatchNorm2d 32 64 abc 56", '"abc" is neither a length nor key=value; a length is a whole number such as 64'),
    ("BatchNorm2d 1 2 3 4 5 6 7 8 9", "more than 8 lengths; a tensor has at most 8"),
    ("BatchNorm2d 32 64 56 56 num_features=32", "32 channels were named, but dimension 1 of the shape is 64"),
    ("BatchNorm2d 32 64 56 56 eps=-1", "eps is -1, must be 0 or a positive number"),
    ("BatchNorm2d 32 64 56 56 eps=nan", "eps is nan, must be 0 or a positive number"),
    ("BatchNorm2d 32 64 56 56 eps=x", "eps=x: a number such as 1e-5 would be right"),
    ("BatchNorm2d 32 64 56 56 momentum=2", "momentum=2: a number from 0 to 1 would be right"),
    ("LayerNorm 8 768 momentum=0.1",
     "momentum=0.1: this layer has no running statistics, only batch and instance norm do"),
    ("GroupNorm 32 64 56 56",
     "GroupNorm: the number of groups is missing, as in g=32; the groups can be 1, 2, 4, 8, 16, 32, 64"),
    ("GroupNorm 32 48 56 56 g=32",
     "48 channels cannot be split into 32 equal groups; the number of groups can be 1, 2, 3, 4, 6, 8, 12, 16, 24, 48"),
    ("group:n8,c6,h14,w14,g=4",
     "6 channels cannot be split into 4 equal groups; the number of groups can be 1, 2, 3, 6"),
    ("LayerNorm 8 128 768 normalized_shape=128",
     "normalized_shape=128 does not end the input's shape: 768 was expected, not 128"),
    ("LayerNormalization 8 128 768 axis=5", "axis=5: numbers from -3 to 2 would be right"),
    ("keras.BatchNormalization 8 128 768 axis=3", "axis=3: one number from -3 to 2 would be right"),
    ("'nn.LayerNorm([4,4],1e-6,3)' 2 64 4 4",
     'the arguments in "nn.LayerNorm([4,4],1e-6,3)" cannot be read; settings can also follow the shape, '
     "as in eps=1e-5"),
    ("'[n] c'", "'[n] c': the shape is missing; norma explain '[n] c' 32 64 56 56 gives four lengths"),
    ("'[n], c' 3 4", "'[n], c': axes are separated by spaces, not commas"),
    ("group:n8,c64,g=4 x", '"x": a problem string is one word; put quotes around it'),
    ("--jason BatchNorm2d 1 2 3 4", '"--jason" is not an option of this command; see norma explain --help'),
]  # fmt: skip


@pytest.mark.parametrize("typed, message", ERRORS, ids=[e[0] for e in ERRORS])
def test_an_error_is_one_line_that_says_what_would_be_right(typed, message):
    done = explain(*words_of(typed))
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"norma explain: {message}\n")


def test_every_example_of_the_help_works():
    text = explain("--help").stdout
    examples = [line.strip() for line in text.splitlines() if line.startswith("  norma explain ")]
    assert len(examples) >= 8
    for example in examples:
        done = subprocess.run(["sh", "-c", example.replace("norma", f"'{NORMA}'", 1)], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), example


def test_what_a_newcomer_reads():
    text = explain("GroupNorm", "32", "64", "56", "56", "g=32").stdout
    sentence, _ = text.split("\n\n", 1)
    assert " ".join(sentence.split()) == ("Group norm: one mean and variance per sample n and group g, 1,024 in "
                                          "all, each over 6,272 elements (k 2, h 56 and w 56).")
    assert max(len(line) for line in text.splitlines()) <= 112
    for line in ["  pattern                 n (g [k]) [h w]", "  the first mean is over  x[0, 0:2, :, :]",
                 "                          (axes in brackets share a mean)",
                 "  gamma changes along     (g k)",
                 "  shape of mean           (32, 32)", "  shape of gamma, beta    (64,)",
                 "  parameters              128",
                 "  forward moves           49.0 MiB at least: read x, write y",
                 "Check the library on it: norma check 'group:n32,c64,h56,w56,g=32'"]:  # fmt: skip
        assert line in text.splitlines()
