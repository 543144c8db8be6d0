"""norma-demo: the report agrees with what NumPy computes from the same data; bad data are refused in one line."""

import gzip
import html
import html.parser
import os
import pathlib
import re
import shlex
import struct
import subprocess

import numpy as np
import pytest

from oracle import BUILD, ROOT

DEMO = BUILD / "norma-demo"
DATA = pathlib.Path("/usr/share/datasets/fashion-mnist")
PICTURES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
LAYERS = ["batch", "layer", "instance", "group"]
MADE = ["channels.png", "index.html", "input.npy", "pictures.png"]


def run(*arguments, **options):
    return subprocess.run([DEMO, *map(str, arguments)], capture_output=True, text=True, timeout=60, **options)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "report"
    result = run("--out", folder)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return folder, result.stdout, (folder / "index.html").read_text(encoding="utf-8")


def normalize(x, axes):
    mean = x.mean(axes, keepdims=True)
    return (x - mean) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


def views_of(x):
    groups = x.reshape(10, 2, 4, 28, 28)
    return [x, normalize(x, (0, 2, 3)), normalize(x, (1, 2, 3)), normalize(x, (2, 3)),
            normalize(groups, (2, 3, 4)).reshape(x.shape)]


def spreads(x):
    picture, channel = (1, 2, 3), (0, 2, 3)
    return {
        "brightness between pictures": x.mean(picture).std() / x.std(),
        "contrast between pictures": np.log2(x.std(picture)).std(),
        "brightness between channels": x.mean(channel).std() / x.std(),
        "contrast between channels": np.log2(x.std(channel)).std(),
    }


# ------------------------------------------------------------------------------------------------- the report

def test_folder_has_the_named_files_and_no_other(report):
    folder, printed, _ = report
    assert sorted(os.listdir(folder)) == MADE
    sheets = f"contact sheets: {folder}/pictures.png, {folder}/channels.png\n"
    assert printed.endswith(f"{sheets}open {folder}/index.html\n")


def test_input_is_the_first_picture_of_each_class(report):
    """Channel 0 is gain * picture + veil of the pictures the page names."""
    folder, _, page = report
    x = np.load(folder / "input.npy")
    assert x.shape == (10, 8, 28, 28) and x.dtype == np.float32
    pixels = np.frombuffer(gzip.decompress((DATA / PICTURES).read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(gzip.decompress((DATA / LABELS).read_bytes()), np.uint8, offset=8)
    named = re.findall(r"test picture (\d+), gain ([\d/]+)(?:, veil ([\d/]+))?", page)
    assert len(named) == 10
    for label, (index, gain, veil) in enumerate(named):
        assert int(index) == np.argmax(labels == label)
        gain, veil = (float(a) / float(b or 1) for a, _, b in (v.partition("/") for v in (gain, veil or "0")))
        np.testing.assert_allclose(x[label, 0], gain * (pixels[int(index)] / 255) + veil, atol=1e-7)


def test_filters(report):
    """The 9 x 9 blur from its binomial coefficients, and the edge filters from differences of neighbours."""
    x = np.load(report[0] / "input.npy").astype(float)
    binomial = np.array([1, 8, 28, 56, 70, 56, 28, 8, 1]) / 256
    inner = slice(4, -4)
    along = sum(w * x[:, 0, :, i : 20 + i] for i, w in enumerate(binomial))
    blurred = sum(w * along[:, i : 20 + i] for i, w in enumerate(binomial))
    np.testing.assert_allclose(x[:, 3, inner, inner], blurred, atol=1e-6)
    p = np.pad(x[:, 0], ((0, 0), (1, 1), (1, 1)), mode="edge")
    left, right = (p[:, :-2, s] + 2 * p[:, 1:-1, s] + p[:, 2:, s] for s in (slice(None, -2), slice(2, None)))
    up, down = (p[:, s, :-2] + 2 * p[:, s, 1:-1] + p[:, s, 2:] for s in (slice(None, -2), slice(2, None)))
    np.testing.assert_allclose(x[:, 4], (right - left) / 4, atol=1e-6)
    np.testing.assert_allclose(x[:, 5], (down - up) / 4, atol=1e-6)
    around = p[:, :-2, 1:-1] + p[:, 2:, 1:-1] + p[:, 1:-1, :-2] + p[:, 1:-1, 2:]
    np.testing.assert_allclose(x[:, 7], around / 4 - x[:, 0], atol=1e-6)


def test_measurements_agree_with_numpy(report):
    """Every spread that the terminal and the page show."""
    folder, printed, page = report
    x = np.load(folder / "input.npy").astype(float)
    expected = [spreads(view) for view in views_of(x)]
    for name in expected[0]:
        values = [e[name] for e in expected]
        shown = re.search(rf"^{name} +(.*)$", printed, re.M).group(1).split()
        np.testing.assert_allclose([float(s) for s in shown], values, atol=6e-4)
        row = re.search(rf'<th scope="row">{name}</th>(.*?)</tr>', page).group(1)
        cells = re.findall(r"<td>([\d.]+)(?:<small class=\"(\w+)\">(.*?)</small>)?</td>", row)
        np.testing.assert_allclose([float(c[0]) for c in cells], values, atol=6e-4)
        for value, (_, kind, text) in zip(values[1:], cells[1:]):
            left = 100 * value / values[0]
            assert kind == ("erased" if left < 2 else "kept")
            assert text == "erased" if left < 2 else abs(float(text.split("&")[0]) - left) < 0.6


def test_answer_says_what_the_numbers_say(report):
    """The sentence of each layer claims an erasure exactly where NumPy finds less than 2 % left."""
    folder, _, page = report
    x = np.load(folder / "input.npy").astype(float)
    before, *after = [spreads(view) for view in views_of(x)]
    sentences = re.findall(r"<li><b>(\w+) norm</b>(.*?)</li>", page)
    assert [name.lower() for name, _ in sentences] == LAYERS
    for (_, sentence), view in zip(sentences, after):
        for between in ("pictures", "channels"):
            claim = re.search(rf"Differences between {between}: ([^.]*)\.", sentence).group(1)
            erased = [view[f"{what} between {between}"] < 0.02 * before[f"{what} between {between}"]
                      for what in ("brightness", "contrast")]
            if all(erased):
                assert claim == "erased"
            else:
                for what, gone in zip(("brightness", "contrast"), erased):
                    assert (f"{what} erased" in claim) == gone


def test_numbers_of_means_and_checks(report):
    _, printed, page = report
    means = re.search(r"number of means</th><td></td>(.*?)</tr>", page).group(1)
    assert re.findall(r"\d+", means) == ["8", "10", "80", "20"]
    assert re.search(r"^largest error of y +(.*)$", printed, re.M)
    shares = re.search(r"allowed error</th>(.*?)</tr>", page).group(1)
    assert all(0 < float(s) <= 1 for s in re.findall(r"<td>([\d.]+)</td>", shares))
    for claim in ("same bits on 1 and 4 threads", "same bits in NCHW and NHWC"):
        assert re.search(rf"^{claim} +yes +yes +yes +yes$", printed, re.M)
        assert re.search(rf"{claim}</th>(<td>yes</td>){{4}}</tr>", page)
    assert "All four layers keep the promises." in page


class Page(html.parser.HTMLParser):
    """Collects links and checks that every element is closed in order."""

    VOID = {"meta", "img", "br"}

    def __init__(self, text):
        super().__init__()
        self.open, self.links = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_whole_and_needs_no_network(report):
    folder, _, page = report
    links = Page(page).links
    assert set(links) == {"pictures.png", "channels.png"}
    assert "://" not in page and "@import" not in page and "<script" not in page
    for name in links:
        assert (folder / name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_layers_figure_is_shown_when_it_is_there(tmp_path):
    (tmp_path / "layers.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    assert run("--out", tmp_path).returncode == 0
    assert "layers.svg" in Page((tmp_path / "index.html").read_text()).links


def test_two_runs_write_the_same_bytes(report, tmp_path):
    assert run("--out", tmp_path).returncode == 0
    for name in MADE:
        old, new = (report[0] / name).read_bytes(), (tmp_path / name).read_bytes()
        if name == "index.html":
            old, new = old.replace(bytes(report[0]), b"DIR"), new.replace(bytes(tmp_path), b"DIR")
        assert old == new, name


def commands_of(page):
    return html.unescape(re.search(r"<pre>(.*?)</pre>", page, re.S).group(1)).strip().splitlines()


def test_commands_of_the_page_work(report):
    folder, _, page = report
    commands = commands_of(page)
    assert [c.split()[:2] for c in commands] == [["build/norma", c] for c in ("explain", "check", "apply")]
    for command in commands:
        words = [BUILD / "norma", *shlex.split(command)[1:]]
        result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, command + "\n" + result.stdout + result.stderr
    x = np.load(folder / "input.npy").astype(float)
    expected = normalize(x.reshape(10, 4, 2, 28, 28), (2, 3, 4)).reshape(x.shape)
    np.testing.assert_allclose(np.load(folder / "groups4.npy"), expected, atol=1e-5)
    (folder / "groups4.npy").unlink()


@pytest.mark.parametrize("name", ["two words", "it's", "$HOME & <more>", "plain"])
def test_commands_of_the_page_quote_the_folder(tmp_path, name):
    assert run("--out", tmp_path / name).returncode == 0
    words = shlex.split(commands_of((tmp_path / name / "index.html").read_text())[-1])
    assert words[-3:] == [f"{tmp_path / name}/input.npy", "-o", f"{tmp_path / name}/groups4.npy"]


def test_page_escapes_the_name_of_its_folder(tmp_path):
    assert run("--out", tmp_path / "a&b<c>").returncode == 0
    page = (tmp_path / "a&b<c>" / "index.html").read_text()
    assert "a&amp;b&lt;c&gt;/input.npy" in page
    Page(page)


# ---------------------------------------------------------------------------------------- bad data and arguments

def small_set():
    """Twelve pictures with labels 0..9, 0, 1, as the two uncompressed files."""
    pixels = np.random.default_rng(1).integers(0, 256, (12, 28, 28), np.uint8)
    labels = bytes([*range(10), 0, 1])
    return struct.pack(">4I", 0x803, 12, 28, 28) + pixels.tobytes(), struct.pack(">2I", 0x801, 12) + labels


def write_set(folder, pictures, labels):
    (folder / PICTURES).write_bytes(pictures if pictures[:2] == b"\x1f\x8b" else gzip.compress(pictures))
    (folder / LABELS).write_bytes(gzip.compress(labels))


def test_a_small_good_set_is_accepted(tmp_path):
    write_set(tmp_path, *small_set())
    assert run("--data", tmp_path, "--out", tmp_path / "out").returncode == 0


def header(pictures, count=12, rows=28, columns=28, magic=0x803):
    return struct.pack(">4I", magic, count, rows, columns) + pictures[16:]


def flat(pictures):
    return pictures[:16] + bytes(784) + pictures[16 + 784 :]


BAD_SETS = {
    "truncated gzip": (lambda p, l: (gzip.compress(p)[:-400], l), "truncated"),
    "checksum": (lambda p, l: (gzip.compress(p)[:-8] + b"\0\0\0\0" + gzip.compress(p)[-4:], l), "damaged"),
    "not gzip, not IDX": (lambda p, l: (b"\x89PNG\r\n\x1a\n" + bytes(100), l), "starts with 0x89504e47"),
    "empty": (lambda p, l: (b"", l), "truncated"),
    "header only": (lambda p, l: (p[:16], l), "truncated"),
    "too few pixels": (lambda p, l: (p[:-1], l), "truncated"),
    "too many pixels": (lambda p, l: (p + b"\0", l), "longer than the 12 items"),
    "other size": (lambda p, l: (header(p, rows=14, columns=56), l), "14 x 56"),
    "four billion pictures": (lambda p, l: (header(p, count=0xFFFFFFFF), l), "4294967295 items"),
    "no pictures": (lambda p, l: (header(p, count=0), l), "0 items"),
    "labels as pictures": (lambda p, l: (l, l), "starts with 0x00000801"),
    "one label less": (lambda p, l: (p, struct.pack(">2I", 0x801, 11) + l[8:-1]), "12 pictures but 11 labels"),
    "no ankle boot": (lambda p, l: (p, l.replace(b"\x09", b"\x08")), "no picture has label 9 (Ankle boot)"),
    "a flat picture": (lambda p, l: (flat(p), l), "T-shirt is constant in channel 'picture'"),
}


@pytest.mark.parametrize("case", BAD_SETS)
def test_bad_data_are_refused_in_one_line(tmp_path, case):
    spoil, message = BAD_SETS[case]
    write_set(tmp_path, *spoil(*small_set()))
    result = run("--data", tmp_path, "--out", tmp_path / "out")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("norma-demo: ") and result.stderr.count("\n") == 1
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_missing_data_name_the_package(tmp_path):
    result = run("--data", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert result.returncode == 2
    assert "apt-get install dataset-fashion-mnist" in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments, message", [
    (["--frobnicate"], "unknown option --frobnicate"),
    (["--out"], "--out needs the name of a folder"),
    (["--data", ""], "--data needs the name of a folder, got an empty one"),
    (["extra"], "unexpected argument extra"),
    (["--out", "/dev/null"], "/dev/null is a file"),
    (["--out", "missing/parent"], "cannot make the folder missing/parent"),
])
def test_bad_arguments_are_refused_in_one_line(tmp_path, arguments, message):
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_a_file_that_cannot_be_written_leaves_nothing_half_written(tmp_path):
    (tmp_path / "index.html").mkdir()
    (tmp_path / "index.html" / "kept").write_text("mine")
    result = run("--out", tmp_path)
    assert result.returncode == 2
    assert "index.html" in result.stderr and result.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.part"))
    assert (tmp_path / "index.html" / "kept").read_text() == "mine"


def test_help():
    result = run("--help")
    assert result.returncode == 0
    for word in ("--data", "--out", "dataset-fashion-mnist", "Exit code"):
        assert word in result.stdout


@pytest.mark.parametrize("arguments", [["--data", "x"], [""], ["--lang"], ["--lang", "de"], ["out", "--lang", ""]])
def test_the_script_refuses_what_it_does_not_know(arguments):
    result = subprocess.run([ROOT / "demo", *arguments], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("usage: ./demo [FOLDER]") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_picture_of_norma_is_embedded(tmp_path, language):
    """What ./demo does: a picture of norma's beside the page of norma-demo."""
    drawn = subprocess.run([BUILD / "norma", "picture", "--lang", language, "-o", tmp_path / "layers.svg"], timeout=60)
    assert drawn.returncode == 0
    assert run("--out", tmp_path).returncode == 0
    assert '<img src="layers.svg"' in (tmp_path / "index.html").read_text()
