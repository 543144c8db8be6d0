"""norma apply on PNG images: what becomes the tensor, what becomes the picture, what is kept."""

import os
import zlib

import numpy as np
import pytest

import oracle
from oracle import Result, apply, check_values, norma
from png import read_png, write_png

# y is x with these, so that y.npy is the tensor that was read; for 1 and for 3 channels.
IDENTITY = ["[...]", "--eps", "0", "--mean", "zero.npy", "--var", "one.npy"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("zero.npy", np.zeros(1, np.float32))
    np.save("one.npy", np.ones(1, np.float32))


def samples(*shape, bits=8, seed=1):
    return np.random.default_rng(seed).integers(0, 2**bits, shape)


def tensor(name="a.png"):
    apply(*IDENTITY, name, "-o", "y.npy")
    return np.load("y.npy")


def planes(colours, most):
    return (colours.astype(np.float32) / np.float32(most)).transpose(2, 0, 1)[None]


def as_levels(y, low, high, most=255):
    """The rule of --help, for one image of planes (c, h, w), in float64 as in cli/image.c: NumPy would round the
    difference of two float32 numbers to float32, which moves a pixel now and then."""
    low, high = float(low), float(high)
    part = (np.clip(y.astype(np.float64), low, high) - low) / (high - low)
    return np.floor(part * most + 0.5).transpose(1, 2, 0)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pixels_become_a_tensor(channels, bits, interlaced):
    pixels = samples(7, 9, channels, bits=bits)
    write_png("a.png", pixels, bits, interlaced=interlaced)
    colours = pixels[:, :, :3 if channels > 2 else 1]
    assert (tensor() == planes(colours, 2**bits - 1)).all()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_of_grey(bits):
    pixels = samples(5, 11, 1, bits=bits)
    write_png("a.png", pixels, bits)
    assert (tensor() == planes(pixels, 2**bits - 1)).all()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette(bits):
    palette = samples(2**bits, 3)
    pixels = samples(6, 5, bits=bits)
    write_png("a.png", pixels, bits, palette=palette)
    assert (tensor() == planes(palette[pixels], 255)).all()


def test_transparency_of_a_palette_is_kept():
    palette, pixels = samples(4, 3), samples(6, 5, bits=2)
    write_png("a.png", pixels, 2, palette=palette, transparent=[0, 90, 255])
    apply("instance", "a.png", "-o", "b.png")
    assert (read_png("b.png")[0][:, :, 3] == np.array([0, 90, 255, 255])[pixels]).all()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_default_range_is_that_of_the_image(channels, bits):
    pixels = samples(7, 9, channels, bits=bits)
    write_png("a.png", pixels, bits)
    apply("instance", "a.png", "-o", "b.png")
    apply("instance", "a.png", "-o", "y.npy")
    y, (after, after_bits) = np.load("y.npy"), read_png("b.png")
    colours = 3 if channels > 2 else 1
    check = Result(planes(pixels[:, :, :colours], 2**bits - 1).astype(np.longdouble), (2, 3))
    check_values(y, check.y, check.size, "f32")
    assert after.shape == pixels.shape and after_bits == bits
    assert (after[:, :, :colours] == as_levels(y[0], y.min(), y.max(), 2**bits - 1)).all()
    assert (after[:, :, colours:] == pixels[:, :, colours:]).all()


def test_a_fixed_range():
    write_png("a.png", samples(7, 9, 3))
    apply("layer", "a.png", "-o", "y.npy", "--axes", "1")
    apply("layer", "a.png", "-o", "b.png", "--axes", "1", "--range", "-0.5,1")
    expected = as_levels(np.load("y.npy")[0], -0.5, 1)
    assert (read_png("b.png")[0] == expected).all() and {0, 255} <= set(expected.flat)


def test_values_that_are_not_finite_and_constants():
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(1, 1, 3, 4)
    x[0, 0, 0] = [np.nan, np.inf, -np.inf, -1]
    np.save("x.npy", x)
    apply(*IDENTITY, "x.npy", "-o", "b.png")
    picture = read_png("b.png")[0][:, :, 0]
    assert picture[0].tolist() == [0, 255, 0, 0] and picture[2, 3] == 255
    np.save("x.npy", np.full((1, 3, 2, 2), 7, np.float16))
    apply("instance", "x.npy", "-o", "b.png")
    assert (read_png("b.png")[0] == 128).all()


@pytest.mark.parametrize("kind", oracle.TYPES)
def test_a_tensor_becomes_pictures(kind):
    oracle.save("x.npy", np.random.default_rng(2).normal(size=(2, 5, 4, 3)), kind)
    apply("batch", "x.npy", "-o", "y.npy", "--channels-last")
    apply("batch", "x.npy", "-o", "b%d.png", "--channels-last")
    for i, y in enumerate(oracle.numbers(np.load("y.npy"))):
        assert (read_png(f"b{i}.png")[0] == as_levels(y.transpose(2, 0, 1), y.min(), y.max())).all()


def test_several_images_are_a_batch():
    """They share statistics; each keeps its own number of bits, its transparency and its range."""
    first, second = samples(5, 6, 3), samples(5, 6, 4, bits=16, seed=2)
    write_png("a.png", first)
    write_png("b.png", second, 16)
    apply("batch", "a.png", "b.png", "-o", "out%d.png")
    apply("batch", "a.png", "b.png", "-o", "y.npy")
    x = np.concatenate([planes(first, 255), planes(second[:, :, :3], 65535)]).astype(np.longdouble)
    y = np.load("y.npy")
    check = Result(x, (0, 2, 3))
    check_values(y, check.y, check.size, "f32")
    (one, bits), (two, more) = read_png("out0.png"), read_png("out1.png")
    assert (bits, more) == (8, 16) and sorted(os.listdir()) == ["a.png", "b.png", "one.npy", "out0.png", "out1.png",
                                                                "y.npy", "zero.npy"]
    assert (one == as_levels(y[0], y[0].min(), y[0].max())).all()
    assert (two[:, :, :3] == as_levels(y[1], y[1].min(), y[1].max(), 65535)).all()
    assert (two[:, :, 3] == second[:, :, 3]).all()


def test_the_style_of_a_painting():
    content, style = samples(8, 9, 4), samples(5, 4, 3, bits=1, seed=8) * 255
    write_png("a.png", content)
    write_png("s.png", style)
    apply("adain", "a.png", "--style", "s.png", "-o", "b.png", "--alpha", "0.75")
    x, s = (planes(p[:, :, :3], 255).astype(np.longdouble) for p in (content, style))
    exact = oracle.adain(x, s, alpha=0.75)[0]
    expected = as_levels(exact.astype(np.float64), 0, 1)
    after = read_png("b.png")[0]
    assert np.abs(after[:, :, :3] - expected).max() <= 1 and (after[:, :, :3] == expected).mean() > 0.99
    assert (after[:, :, 3] == content[:, :, 3]).all()
    assert exact.max() > 1 and exact.min() < 0  # so that something was clamped


def test_the_output_may_be_the_input():
    write_png("a.png", samples(5, 6, 3))
    apply("instance", "a.png", "-o", "b.png")
    apply("instance", "a.png", "-o", "a.png")
    assert open("a.png", "rb").read() == open("b.png", "rb").read()


# ------------------------------------------------------------------------------------------------------------ errors


def refused(words, *arguments):
    before = {name: open(name, "rb").read() for name in os.listdir()}
    done = norma(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("norma apply: ") and done.stderr.count("\n") == 1
    assert words in done.stderr
    assert {name: open(name, "rb").read() for name in os.listdir()} == before


def test_wrong_images_are_refused():
    write_png("a.png", samples(5, 6, 3))
    write_png("b.png", samples(5, 7, 3))
    write_png("grey.png", samples(5, 6, 1))
    np.save("x.npy", np.zeros((1, 2, 5, 6), np.float32))
    refused("b.png: has 7 x 5 pixels in 3 colours, a.png has 6 x 5 in 3; a batch has one size", "batch", "a.png",
            "b.png", "-o", "y.npy")
    refused("grey.png: has 6 x 5 pixels in 1 colours", "batch", "a.png", "grey.png", "-o", "y.npy")
    refused("x.npy: not a PNG; several inputs must be PNG images", "batch", "a.png", "x.npy", "-o", "y.npy")
    refused("b.png: a tensor of shape (1, 2, 5, 6) is no image", "batch", "x.npy", "-o", "b.png")
    refused("b.png: 2 images need %d once in the name, such as out%d.png", "batch", "a.png", "a.png", "-o", "b.png")
    refused("b%d%d.png: 2 images need %d once", "batch", "a.png", "a.png", "-o", "b%d%d.png")
    refused("--channels-last is for .npy files", "batch", "a.png", "-o", "y.npy", "--channels-last")
    refused("--range is '1,0'; it must be LO,HI with LO < HI", "batch", "a.png", "-o", "y.png", "--range", "1,0")
    refused("--range is '1'", "batch", "a.png", "-o", "y.png", "--range", "1")
    refused("--range is '0,nan'", "batch", "a.png", "-o", "y.png", "--range", "0,nan")
    refused("--range needs a PNG output", "batch", "a.png", "-o", "y.npy", "--range", "0,1")
    refused("style has 1 along 'c', the content has 3", "adain", "a.png", "--style", "grey.png", "-o", "y.npy")


@pytest.mark.parametrize("keep", [8, 20, 33, 50, -30, -12, -5])
def test_truncated_images_are_refused(keep):
    write_png("a.png", samples(20, 30, 3))
    size = os.path.getsize("a.png")
    os.truncate("a.png", keep if keep > 0 else size + keep)
    refused("a.png: ", "batch", "a.png", "-o", "y.npy")


def test_damaged_images_are_refused():
    write_png("a.png", samples(20, 30, 3))
    data = bytearray(open("a.png", "rb").read())
    data[100] ^= 1
    open("a.png", "wb").write(data)
    refused("a.png: is cut short or damaged: ", "batch", "a.png", "-o", "y.npy")


def test_a_claim_of_many_pixels_costs_no_memory():
    write_png("a.png", samples(1, 1, 3))
    data = bytearray(open("a.png", "rb").read())
    header = b"IHDR" + (900000).to_bytes(4, "big") * 2 + data[24:29]
    open("a.png", "wb").write(data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:])
    refused("a.png: is cut short or damaged: 900000 x 900000 pixels cannot come from", "batch", "a.png", "-o", "y.npy")
