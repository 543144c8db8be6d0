"""The pages on PyTorch print what they show, and docs/python-modules.md lists every deliberate difference."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
from deliberate import DIFFERENCES

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/python-modules.md"
# With the number of their blocks.
PAGES = {PAGE: 5, ROOT / "docs/statistics.md": 6, ROOT / "README.md": 3}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples(page: Path) -> None:
    blocks = re.findall(r"^```pycon\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == PAGES[page]
    runner, names = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS), {}
    output: list[str] = []
    for block in blocks:
        test = doctest.DocTestParser().get_doctest(block, names, page.name, str(page), 0)
        assert runner.run(test, out=output.append, clear_globs=False).failed == 0, "".join(output)
        names = test.globs


def test_the_differences() -> None:
    rows = re.findall(r"^\| (.*) \| (.*) \|$", PAGE.read_text().split("| difference | reason |")[1], re.MULTILINE)
    assert dict(rows) == DIFFERENCES
