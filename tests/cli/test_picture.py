"""norma picture: the sets it found, that the drawing follows them, the committed figures, formats, fonts and errors."""

import collections
import json
import os
import pathlib
import re
import subprocess
import xml.etree.ElementTree

import numpy as np
import pytest

from oracle import NORMA, ROOT

FIGURES = {"en": ROOT / "docs" / "figures" / "layers.svg", "zh": ROOT / "docs" / "figures" / "layers.zh.svg"}
SVG = "{http://www.w3.org/2000/svg}"
N, C, H, W, GROUPS = 4, 6, 2, 2, 2
S = H * W

# Two elements share a mean if these parts of their indices (n, c, h, w) are equal: the definitions of the papers.
KEYS = {
    "Batch norm": lambda n, c, h, w: c,
    "Layer norm": lambda n, c, h, w: n,
    "Instance norm": lambda n, c, h, w: (n, c),
    "Group norm": lambda n, c, h, w: (n, c // (C // GROUPS)),
    "Layer norm, channels": lambda n, c, h, w: (n, h, w),
    "RMS norm": lambda n, c, h, w: (n, h, w),
}
GAMMAS = {"Layer norm": C * H * W}


def picture(*arguments, **options):
    command = [NORMA, "picture", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


@pytest.fixture(scope="module")
def found():
    done = picture("--json", "--all")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def elements():
    return list(np.ndindex(N, C, H, W))


@pytest.mark.parametrize("name", KEYS)
def test_the_sets_are_those_of_the_definition(found, name):
    layer = next(layer for layer in found["layers"] if layer["name"] == name)
    assert found["shape"] == [N, C, H, W]
    keys = [KEYS[name](*index) for index in elements()]
    same_unit = np.equal.outer(layer["unit_of_element"], layer["unit_of_element"])
    same_key = np.array([[a == b for a in keys] for b in keys])
    assert (same_unit == same_key).all()
    assert layer["means"] == len(set(keys))
    assert layer["elements_per_mean"] * layer["means"] == N * C * H * W
    assert layer["gammas"] == GAMMAS.get(name, C)
    assert layer["rms"] == (name == "RMS norm")


def test_without_all_there_are_the_four_of_the_article():
    layers = json.loads(picture("--json").stdout)["layers"]
    assert [layer["name"] for layer in layers] == ["Batch norm", "Layer norm", "Instance norm", "Group norm"]


class Drawing:
    """What an SVG shows besides letters, in a form that does not depend on cairo's version."""

    def __init__(self, path):
        root = xml.etree.ElementTree.parse(path).getroot()
        self.title, self.description = root.find(SVG + "title").text, root.find(SVG + "desc").text
        self.size = [round(float(number)) for number in root.get("viewBox").split()]
        self.faces, self.lines = [], collections.Counter()
        letters = {glyph for symbol in root.iter(SVG + "defs") for glyph in symbol.iter(SVG + "path")}
        for shape in root.iter(SVG + "path"):
            if shape in letters:
                continue
            style = dict(part.strip().split(":", 1) for part in shape.get("style", "").split(";") if ":" in part)
            numbers = [float(number) for number in re.findall(r"-?[\d.]+", shape.get("d"))]
            fill = style.get("fill", shape.get("fill", "none"))
            stroke = style.get("stroke", shape.get("stroke", "none"))
            if fill != "none" and len(re.findall("[LM]", shape.get("d"))) in (4, 5) and "C" not in shape.get("d"):
                self.faces.append((self.colour(fill), [round(number, 1) for number in numbers[:8]]))
            if stroke != "none" and fill == "none":
                self.lines[self.colour(stroke)] += shape.get("d").count("L")

    @staticmethod
    def colour(text):
        return tuple(round(float(number)) for number in re.findall(r"[\d.]+", text))


def lightness(colour):
    return float(np.dot(colour, [0.2126, 0.7152, 0.0722]) / 100)


@pytest.fixture(scope="module", params=["en", "zh"])
def drawn(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "layers.svg"
    done = picture("--lang", request.param, "-o", path)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"{path}\n")
    return request.param, path


def test_the_committed_figure_is_what_the_command_draws(drawn):
    language, path = drawn
    new, committed = Drawing(path), Drawing(FIGURES[language])
    how = f"make it again: norma picture --lang {language} -o {FIGURES[language].relative_to(ROOT)}"
    assert (new.title, new.description, new.size) == (committed.title, committed.description, committed.size), how
    count = 4 * (N * C + C * S + N * S)  # the blocks; the key comes after, its place depends on the width of words
    new_blocks, committed_blocks = new.faces[:count], committed.faces[:count]
    assert [colour for colour, _ in new_blocks] == [colour for colour, _ in committed_blocks], how
    places, committed_places = (np.array([corners for _, corners in b]) for b in (new_blocks, committed_blocks))
    assert places.shape == (count, 8) and np.abs(places - committed_places).max() <= 0.11, how
    assert new.lines == committed.lines, how


def visible(element):
    """How many faces of the element's cube can be seen: on top, on the side of C, on the side of N."""
    n, c, h, w = element
    return (h == 0 and w == 0) + (n == 0) + (c == C - 1)


def test_the_dark_faces_are_the_set_of_the_marked_element(found, drawn):
    faces = Drawing(drawn[1]).faces
    per_block = N * C + C * S + N * S
    for i, layer in enumerate(found["layers"][:4]):
        units = layer["unit_of_element"]
        shared = [e for e, unit in zip(elements(), units) if unit == units[found["marked_element"]]]
        block = [colour for colour, _ in faces[i * per_block : (i + 1) * per_block]]
        dark = [colour for colour in block if lightness(colour) < 0.6]
        assert len(dark) == sum(visible(e) for e in shared), layer["name"]


def test_the_sets_can_be_told_apart_in_grey(drawn):
    values = [lightness(colour) for colour, _ in Drawing(drawn[1]).faces]
    dark, light = [v for v in values if v < 0.6], [v for v in values if v >= 0.6]
    assert dark and light and min(light) - max(dark) > 0.3


def test_the_description_says_what_is_drawn(found):
    text = Drawing(FIGURES["en"]).description
    for layer in found["layers"][:4]:
        assert f"{layer['name']}\n  pattern: {layer['pattern']}\n  statistics: {layer['means']}," in text


@pytest.mark.parametrize("ending, start", [("svg", b"<?xml"), ("png", b"\x89PNG\r\n\x1a\n"), ("pdf", b"%PDF-")])
@pytest.mark.parametrize("options", [(), ("--all", "--lang", "zh")])
def test_each_format_is_the_same_file_every_time(tmp_path, ending, start, options):
    paths = [tmp_path / f"{name}.{ending}" for name in "ab"]
    for path in paths:
        assert picture(*options, "-o", path).returncode == 0
    first, second = (path.read_bytes() for path in paths)
    assert first == second and first.startswith(start)
    assert b"CreationDate" not in first
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{ending}", f"b.{ending}"]


def test_the_default_name(tmp_path):
    assert picture(cwd=tmp_path).stdout == "norma-layers.svg\n"
    assert (tmp_path / "norma-layers.svg").exists()


ERRORS = [
    (["-o", "x.gif"], "the ending of 'x.gif' says no format; use .svg, .png or .pdf"),
    (["-o", "svg"], "the ending of 'svg' says no format; use .svg, .png or .pdf"),
    (["-o", ""], "the ending of '' says no format; use .svg, .png or .pdf"),
    (["-o", "no/such/x.svg"], "no/such/x.svg: cannot be written: No such file or directory"),
    (["-o"], "-o needs a value; see norma picture --help"),
    (["--lang", "fr"], 'the language "fr" is not known, use --lang en or --lang zh'),
    (["layers.svg"], '"layers.svg" is not an option of this command; see norma picture --help'),
]


@pytest.mark.parametrize("arguments, message", ERRORS)
def test_an_error_is_one_line_and_leaves_nothing(tmp_path, arguments, message):
    done = picture(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"norma picture: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_name_and_a_full_disk_leave_nothing(tmp_path):
    (tmp_path / "x.svg").mkdir()
    done = picture("-o", "x.svg", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "norma picture: x.svg: exists and is not a regular file\n")
    command = f"ulimit -f 1; exec {NORMA} picture -o y.svg"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "norma picture: y.svg: cannot be written: File too large; nothing was changed\n"
    assert [path.name for path in tmp_path.iterdir()] == ["x.svg"]


@pytest.mark.parametrize("language, package", [("en", "fonts-dejavu-core"), ("zh", "fonts-wqy-microhei")])
def test_a_missing_font_is_named_by_its_package(tmp_path, language, package):
    config = tmp_path / "fonts.conf"
    config.write_text(f"<?xml version='1.0'?><fontconfig><cachedir>{tmp_path}/cache</cachedir></fontconfig>")
    done = picture("--lang", language, "-o", tmp_path / "x.svg", env={**os.environ, "FONTCONFIG_FILE": str(config)})
    assert done.returncode == 2
    assert done.stderr == ("norma picture: no installed font has the characters of the text; "
                           f"install the package {package}\n")
    assert not pathlib.Path(tmp_path / "x.svg").exists()


def test_help():
    assert picture("--help").stdout.startswith("usage: norma picture [-o FILE.svg|.png|.pdf] [--lang en|zh] [--all]\n")
