"""norma apply against the formulas: every layer, type and order, forward and backward, all statistics."""

import json

import numpy as np
import pytest

import oracle
from oracle import TYPES, Result, apply, check_gradient, check_values, norma, numbers, save

N, C, H, W = 3, 8, 4, 5


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Case:
    """A layer as `norma apply` takes it, and as axes of x in shape `split`: those that share a mean, those of gamma."""

    def __init__(self, words, share, affine, split=(N, C, H, W), rms=False, pattern=None):
        self.words, self.share, self.affine, self.split, self.rms = words, share, affine, split, rms
        self.pattern = pattern

    def param_shape(self):
        """Of gamma in memory: one number per dimension of the tensor."""
        full = [size if i in self.affine else 1 for i, size in enumerate(self.split)]
        if len(self.split) == 5:
            full = [full[0], full[1] * full[2], *full[3:]]
        return [size for size in full if size != 1]

    def broadcast(self, param):
        return param.reshape([size if i in self.affine else 1 for i, size in enumerate(self.split)])

    def result(self, x, gamma, beta, dy=None, **options):
        options = {"eps": 2.0**-23 if self.rms and x.dtype != np.float64 else 1e-5, **options}
        dy = None if dy is None else dy.reshape(self.split)
        return Result(x.reshape(self.split), self.share, self.broadcast(gamma), self.broadcast(beta), rms=self.rms,
                      dy=dy, **options)


GROUPS = (N, 2, C // 2, H, W)
CASES = {
    "batch": Case(["batch"], (0, 2, 3), (1,), pattern="[n] c [h w]"),
    "instance": Case(["instance"], (2, 3), (1,), pattern="n c [h w]"),
    "group": Case(["group", "--groups", 2], (2, 3, 4), (1, 2), GROUPS, pattern="n (g [k]) [h w]"),
    "layer": Case(["layer"], (3,), (3,)),
    "layer of three": Case(["layer", "--axes", "1,2,3"], (1, 2, 3), (1, 2, 3)),
    "channels first": Case(["layer", "--axes=1"], (1,), (1,)),
    "rms": Case(["rms"], (3,), (3,), rms=True),
    "rms of two": Case(["rms", "--axes", "-1,-2"], (2, 3), (2, 3), rms=True),
    "film": Case(["instance", "--affine", "n c"], (2, 3), (0, 1)),
    "pattern": Case(["n (g [k]) [h w]", "--sizes", "g=2", "--affine", "(g k)"], (2, 3, 4), (1, 2), GROUPS),
    "own": Case(["[n] c [...] w", "--affine", "c w"], (0, 2), (1, 3)),
    "own rms": Case(["n (g [k]) h w", "--sizes=g=2", "--rms", "--affine=h"], (2,), (3,), GROUPS, rms=True),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def tensors(case, kind, order="C", offset=0.0, seed=1):
    """x, dy, gamma, beta as they are in the files x.npy, dy.npy, g.npy, b.npy."""
    rng = np.random.default_rng(seed)
    x = save("x.npy", rng.normal(offset, 1, (N, C, H, W)), kind, order)
    dy = save("dy.npy", rng.normal(size=(N, C, H, W)), kind, "F" if order == "C" else "C")
    param = "f64" if kind == "f64" else "f32"
    gamma = save("g.npy", rng.normal(1, 0.3, case.param_shape()), param, order)
    beta = save("b.npy", rng.normal(0, 0.3, case.param_shape()), param, order)
    return x, dy, gamma, beta


def default_eps(case, kind):
    return {"eps": 1e-5 if not case.rms else 2.0**-52 if kind == "f64" else 2.0**-23}


@every_case
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", TYPES)
def test_forward_and_backward(case, kind, order):
    x, dy, gamma, beta = tensors(case, kind, order, offset=0 if case.rms else 3)
    apply(*case.words, "x.npy", "--weight", "g.npy", "--bias", "b.npy", "-o", "y.npy", "--dy", "dy.npy", "--dx",
          "dx.npy", "--dweight", "dg.npy", "--dbias", "db.npy")
    right = case.result(x, gamma, beta, dy, **default_eps(case, kind))
    y, dx, dweight, dbias = (np.load(name) for name in ("y.npy", "dx.npy", "dg.npy", "db.npy"))
    assert y.flags.f_contiguous == dx.flags.f_contiguous == (order == "F")
    check_values(y, right.y.reshape(x.shape), right.size.reshape(x.shape), kind)
    check_gradient(dx, right.dx.reshape(x.shape), np.abs(right.rstd * dy.reshape(case.split)).max(), kind)
    dgamma, dbeta = right.gradients(case.affine)
    param = "f64" if kind == "f64" else "f32"
    assert dweight.shape == dbias.shape == tuple(case.param_shape())
    check_gradient(dweight, dgamma.reshape(case.param_shape()), np.abs(right.dgamma_terms).max(), param)
    check_gradient(dbias, dbeta.reshape(case.param_shape()), np.abs(right.dbeta_terms).max(), param)


@every_case
def test_without_parameters(case):
    x, dy, gamma, beta = tensors(case, "f32")
    apply(*case.words, "x.npy", "-o", "y.npy", "--dy", "dy.npy", "--dx", "dx.npy")
    right = case.result(x, np.ones_like(gamma), np.zeros_like(beta), dy, **default_eps(case, "f32"))
    check_values(np.load("y.npy"), right.y.reshape(x.shape), right.size.reshape(x.shape), "f32")
    largest = np.abs(right.rstd * dy.reshape(case.split)).max()
    check_gradient(np.load("dx.npy"), right.dx.reshape(x.shape), largest, "f32")


@every_case
@pytest.mark.parametrize("kind", TYPES)
def test_statistics_out_and_in_again(case, kind):
    """What --save-mean and --save-var write normalizes as the input's own statistics do, forward and backward."""
    x, dy, gamma, _ = tensors(case, kind, offset=2)
    apply(*case.words, "x.npy", "--save-mean", "m.npy", "--save-var", "v.npy", "--save-rstd", "r.npy", "--eps", "1e-3")
    mean, var, rstd = (np.load(name) for name in ("m.npy", "v.npy", "r.npy"))
    right = case.result(x, np.ones_like(gamma), np.zeros_like(gamma), eps=1e-3)
    assert {array.dtype.str for array in (mean, var, rstd)} == {"<f8" if kind == "f64" else "<f4"}
    for ours, exact in zip((mean, var, rstd), (right.mean, right.var, right.rstd)):
        exact = np.broadcast_to(exact, right.rstd.shape).reshape(mean.shape)
        np.testing.assert_allclose(numbers(ours), exact, rtol=1e-6 if kind != "f64" else 1e-13, atol=1e-30)
    given = [numbers(value).reshape(right.rstd.shape) for value in (mean, var)]
    words = ["--var", "v.npy"] if case.rms else ["--mean", "m.npy", "--var", "v.npy"]
    apply(*case.words, "x.npy", "-o", "y.npy", "--eps=1e-3", *words, "--dy", "dy.npy", "--dx", "dx.npy")
    again = case.result(x, np.ones_like(gamma), np.zeros_like(gamma), dy, eps=1e-3, given=given)
    check_values(np.load("y.npy"), again.y.reshape(x.shape), again.size.reshape(x.shape), kind)
    check_gradient(np.load("dx.npy"), again.dx.reshape(x.shape), np.abs(again.dx).max(), kind)


def test_a_mean_that_is_no_float32_number():
    np.save("x.npy", np.array([[16000000, 16000001, 16000002, 16000003]], np.float32))
    apply("layer", "x.npy", "-o", "y.npy")
    np.testing.assert_allclose(np.load("y.npy"), [[-1.3416355, -0.4472118, 0.4472118, 1.3416355]], rtol=5e-7)


def test_parameters_of_other_types_and_shapes():
    case = CASES["batch"]
    x, _, _, _ = tensors(case, "bf16")
    gamma = save("g.npy", np.linspace(0.5, 2, C).reshape(1, C, 1, 1), "f16")
    beta = save("b.npy", np.linspace(-1, 1, C), "bf16")
    np.save("dy.npy", np.load("x.npy"))
    apply("batch", "x.npy", "--weight", "g.npy", "--bias", "b.npy", "-o", "y.npy", "--dy", "dy.npy", "--dweight",
          "dg.npy", "--dbias", "db.npy")
    right = case.result(x, gamma, beta)
    check_values(np.load("y.npy"), right.y, right.size, "bf16")
    assert (np.load("dg.npy").shape, np.load("db.npy").shape) == ((1, C, 1, 1), (C,))
    assert np.load("dg.npy").dtype == np.float32


def test_conditional_parameters_in_fortran_order():
    """gamma and beta per sample, as n c; they are found by their indices and not by their place in memory."""
    case = CASES["film"]
    x, _, _, _ = tensors(case, "f32")
    gamma = save("g.npy", np.random.default_rng(5).normal(size=(N, C)), "f64", "F")
    beta = save("b.npy", np.random.default_rng(6).normal(size=(N, C, 1)), "f32", "F")
    apply("instance", "x.npy", "--affine", "n c", "--weight", "g.npy", "--bias", "b.npy", "-o", "y.npy", "--plus-one")
    right = case.result(x, 1 + gamma.astype(np.float32).astype(np.longdouble), beta)
    check_values(np.load("y.npy"), right.y, right.size, "f32")


@pytest.mark.parametrize("words, options", [
    (["--ddof", "1"], {"ddof": 1}), (["--eps", "0"], {"eps": 0}), (["--eps", "2.5"], {"eps": 2.5}),
])
def test_eps_and_ddof(words, options):
    x, dy, gamma, beta = tensors(CASES["instance"], "f32")
    apply("instance", *words, "x.npy", "-o", "y.npy", "--dy", "dy.npy", "--dx", "dx.npy")
    right = CASES["instance"].result(x, np.ones_like(gamma), np.zeros_like(beta), dy, **options)
    check_values(np.load("y.npy"), right.y, right.size, "f32")
    check_gradient(np.load("dx.npy"), right.dx, np.abs(right.rstd * dy).max(), "f32")


@every_case
def test_channels_last_files_give_the_same_bits(case):
    """The same logical tensor stored as (n, h, w, c): the results come back in that order, bit for bit the same."""
    tensors(case, "f32")
    words = [*case.words, "x.npy", "--weight", "g.npy", "--bias", "b.npy", "-o", "y.npy", "--dy", "dy.npy", "--dx",
             "dx.npy", "--dweight", "dg.npy", "--dbias", "db.npy"]
    apply(*words)
    first = {name: np.load(name) for name in ("y.npy", "dx.npy", "dg.npy", "db.npy")}
    for name in ("x.npy", "dy.npy"):
        np.save(name, np.ascontiguousarray(np.moveaxis(np.load(name), 1, -1)))
    apply(*words, "--channels-last")
    for name in ("y.npy", "dx.npy"):
        assert np.load(name).shape == (N, H, W, C)
        assert (np.moveaxis(np.load(name), -1, 1).view(np.uint32) == first[name].view(np.uint32)).all()
    for name in ("dg.npy", "db.npy"):
        assert (np.load(name).view(np.uint32) == first[name].view(np.uint32)).all()


# ------------------------------------------------------------------------------------------------ running statistics


def running(layer, kind="f32", *words):
    rng = np.random.default_rng(9)
    mean = save("rm.npy", rng.normal(size=C), kind)
    var = save("rv.npy", rng.uniform(0.5, 2, C), kind)
    apply(layer, "x.npy", "--running-mean", "rm.npy", "--running-var", "rv.npy", *words)
    return mean, var


@pytest.mark.parametrize("layer", ["batch", "instance"])
def test_evaluation_with_running_statistics(layer):
    x, dy, gamma, _ = tensors(CASES[layer], "f32")
    mean, var = running(layer, "f32", "-o", "y.npy", "--dy", "dy.npy", "--dx", "dx.npy", "--weight", "g.npy")
    given = [value.reshape(1, C, 1, 1) for value in (mean, var)]
    right = CASES[layer].result(x, gamma, np.zeros_like(gamma), dy, given=given)
    check_values(np.load("y.npy"), right.y, right.size, "f32")
    check_gradient(np.load("dx.npy"), right.dx, np.abs(right.dx).max(), "f32")


@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize("layer", ["batch", "instance"])
@pytest.mark.parametrize("words, old, ddof", [
    ([], 0.9, 1), (["--momentum", "0.25"], 0.75, 1), (["--convention", "onnx"], 0.9, 0),
    (["--convention", "onnx", "--momentum", "0.75"], 0.75, 0), (["--convention=cumulative", "--batches=4"], 0.75, 1),
])
def test_running_statistics_move(layer, kind, words, old, ddof):
    x, _, gamma, _ = tensors(CASES[layer], "f32")
    share = CASES[layer].share
    mean, var = running(layer, kind, "--update", "--save-running-mean", "rm2.npy", "--save-running-var", "rv2.npy",
                        "-o", "y.npy", *words)
    new_mean, new_var = x.mean(axis=share), x.var(axis=share, ddof=ddof)
    if layer == "instance":  # the updates of the samples are averaged
        new_mean, new_var = new_mean.mean(axis=0), new_var.mean(axis=0)
    for name, before, new in (("rm2.npy", mean, new_mean), ("rv2.npy", var, new_var)):
        after = np.load(name)
        assert after.dtype == (np.float64 if kind == "f64" else np.float32)
        expected = old * before + (1 - old) * new
        np.testing.assert_allclose(numbers(after), expected, rtol=1e-6 if kind == "f32" else 1e-13)
    right = CASES[layer].result(x, np.ones_like(gamma), np.zeros_like(gamma))
    check_values(np.load("y.npy"), right.y, right.size, "f32")


def test_running_statistics_in_place_and_one_alone():
    x, _, _, _ = tensors(CASES["batch"], "f32")
    var = save("rv.npy", np.ones(C))
    apply("batch", "x.npy", "--running-var", "rv.npy", "--update", "--save-running-var", "rv.npy")
    expected = 0.9 * var + 0.1 * x.var(axis=(0, 2, 3), ddof=1)
    np.testing.assert_allclose(numbers(np.load("rv.npy")), expected, rtol=1e-6)


def test_running_statistics_and_values_that_are_not_finite():
    x = np.random.default_rng(3).normal(size=(N, C, H, W)).astype(np.float32)
    x[1, 2, 3, 4] = np.nan
    np.save("x.npy", x)
    names = ["--save-running-mean", "rm2.npy", "--save-running-var", "rv2.npy", "--update"]
    running("batch", "f32", *names)
    assert np.isnan(np.load("rm2.npy")).tolist() == [i == 2 for i in range(C)]
    mean, _ = running("batch", "f32", *names, "--not-finite", "skip")
    assert np.load("rm2.npy")[2] == mean[2] and np.isfinite(np.load("rm2.npy")).all()
    done = norma("batch", "x.npy", "--running-mean", "rm.npy", "--running-var", "rv.npy", *names, "--not-finite=refuse")
    assert done.returncode == 2 and "2" in done.stderr and done.stderr.count("\n") == 1


# ------------------------------------------------------------------------------------------------------------- AdaIN


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("words, options", [
    ([], {}), (["--alpha", "0.25"], {"alpha": 0.25}), (["--alpha", "0"], {"alpha": 0}),
    (["--eps=1e-3", "--style-eps=0"], {"eps": 1e-3, "style_eps": 0}),
    (["--ddof", "1", "--style-ddof", "1"], {"ddof": 1, "style_ddof": 1}),
])
def test_adain(kind, words, options):
    rng = np.random.default_rng(4)
    content = save("x.npy", rng.normal(2, 1, (N, C, H, W)), kind)
    style = save("s.npy", rng.normal(-1, 3, (N, C, 7, 2)), kind, "F")
    apply("adain", "x.npy", "--style", "s.npy", "-o", "y.npy", *words)
    exact = oracle.adain(content, style, **options)
    alpha = options.get("alpha", 1)
    mean = style.mean(axis=(2, 3), keepdims=True)
    moved = oracle.adain(content, style, **{**options, "alpha": 1})
    size = alpha * (np.abs(moved - mean) + np.abs(mean)) + (1 - alpha) * np.abs(content)
    check_values(np.load("y.npy"), exact, size, kind)


def test_one_style_serves_a_batch():
    rng = np.random.default_rng(4)
    content = save("x.npy", rng.normal(size=(N, C, H, W)))
    style = save("s.npy", rng.normal(size=(1, C, 6, 6)))
    apply("adain", "x.npy", "--style", "s.npy", "-o", "y.npy")
    check_values(np.load("y.npy"), oracle.adain(content, style), np.abs(content) * 4 + 4, "f32")


def test_adain_gradients_agree_with_differences():
    rng = np.random.default_rng(7)
    content, dy = (save(name, rng.normal(size=(2, 3, 4, 4)), "f64") for name in ("x.npy", "dy.npy"))
    style = save("s.npy", rng.normal(size=(2, 3, 3, 5)), "f64")
    apply("adain", "x.npy", "--style", "s.npy", "--alpha", "0.7", "--dy", "dy.npy", "--dx", "dx.npy", "--dstyle",
          "ds.npy")
    step = 1e-4
    for name, tensor in (("dx.npy", content), ("ds.npy", style)):
        ours = np.load(name)
        assert ours.shape == tensor.shape
        for index in np.ndindex(*tensor.shape):
            values = []
            for sign in (1, -1):
                kept, tensor[index] = tensor[index], tensor[index] + sign * step
                values.append((oracle.adain(content, style, alpha=0.7) * dy).sum())
                tensor[index] = kept
            assert abs(ours[index] - (values[0] - values[1]) / (2 * step)) < 1e-6


# ----------------------------------------------------------------------------------------------------------- summary


@pytest.mark.parametrize("name", ["batch", "instance", "group"])
def test_the_summary(name):
    case = CASES[name]
    tensors(case, "bf16")
    words = [*case.words, "x.npy", "-o", "y.npy", "--dy", "dy.npy", "--dbias", "db.npy"]
    summary = json.loads(apply(*words, "--json"))
    units = {"batch": C, "instance": N * C, "group": N * 2}[name]
    assert summary == {
        "layer": name, "pattern": case.pattern, "affine": "(g k)" if name == "group" else "c", "type": "bf16",
        "shape": [N, C, H, W], "units": units, "unit_elements": N * C * H * W // units, "params": C,
        "outputs": [{"name": "y", "file": "y.npy", "type": "bf16", "shape": [N, C, H, W]},
                    {"name": "dbias", "file": "db.npy", "type": "f32", "shape": [C]}],
    }
    assert apply(*words).splitlines() == [
        f"{name}  {case.pattern}  bf16 (3, 8, 4, 5)  {units} x {N * C * H * W // units} elements per mean",
        "wrote y.npy", "wrote db.npy"]
