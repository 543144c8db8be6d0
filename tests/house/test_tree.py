"""The shape of the source tree: files short enough to read, nothing unfinished."""
import re

import pytest

from conftest import ROOT

CODE = ["src", "batch", "cli", "problem", "lab", "python", "tests", "fuzz", "bench"]
FOLDERS = ["include", *CODE, "cmake", ".ci"]
SOURCES = {".c", ".h", ".cpp", ".py", ".pyi"}
GENERATED = {"tests/golden/golden.h"}
FILE_LIMIT = 400
CORE_LIMIT = 2500


def files(*folders):
    """Hand-written files below these folders, without what running Python leaves behind."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            name = str(path.relative_to(ROOT))
            if path.is_file() and "__pycache__" not in name and name not in GENERATED:
                yield path


def lines(path):
    return len(path.read_text().splitlines())


def test_the_folders_are_there():
    assert [folder for folder in FOLDERS if not any(files(folder))] == []


@pytest.mark.parametrize("folder", CODE)
def test_no_file_is_too_long(folder):
    long = [f"{path.relative_to(ROOT)}: {lines(path)} lines" for path in files(folder)
            if path.suffix in SOURCES and lines(path) > FILE_LIMIT]
    assert not long, "\n".join(long)


def test_the_core_stays_small():
    total = sum(lines(path) for path in (ROOT / "src").glob("*") if path.is_file())
    assert total < CORE_LIMIT


def test_nothing_is_marked_as_unfinished():
    mark = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
    marked = [f"{path.relative_to(ROOT)}: {found.group()}" for path in files(*FOLDERS, "docs")
              if path.suffix not in {".svg", ".png", ".pdf", ".npy"} and "corpus" not in path.parts
              for found in [mark.search(path.read_text())] if found]
    assert not marked, "\n".join(marked)


def test_lines_fit_and_have_no_stray_blanks():
    bad = []
    for path in files("include", *CODE):
        numbers = [number for number, line in enumerate(path.read_text().splitlines(), 1)
                   if len(line) > 120 or line != line.rstrip() or "\t" in line]
        if numbers and path.suffix in SOURCES:
            bad.append(f"{path.relative_to(ROOT)}: lines {', '.join(map(str, numbers))}")
    assert not bad, "\n".join(bad)
