"""docs/python-modules.md prints what it shows, and lists every deliberate difference."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from deliberate import DIFFERENCES

PAGE = Path(__file__).resolve().parents[2] / "docs/python-modules.md"


def test_the_examples() -> None:
    blocks = re.findall(r"^```pycon\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    runner, names = doctest.DocTestRunner(verbose=False), {}
    output: list[str] = []
    for block in blocks:
        test = doctest.DocTestParser().get_doctest(block, names, PAGE.name, str(PAGE), 0)
        assert runner.run(test, out=output.append, clear_globs=False).failed == 0, "".join(output)
        names = test.globs


def test_the_differences() -> None:
    rows = re.findall(r"^\| (.*) \| (.*) \|$", PAGE.read_text().split("| difference | reason |")[1], re.MULTILINE)
    assert dict(rows) == DIFFERENCES
