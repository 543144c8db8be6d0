"""The ```pycon blocks of the documents print what they show."""

from __future__ import annotations

import doctest
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs/python.md", ROOT / "docs/statistics.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples(page: Path) -> None:
    """Each page is one session. Blocks that import torch are left out where there is none."""
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```pycon\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    if importlib.util.find_spec("torch") is None:
        blocks = [block for block in blocks if "torch" not in block]
    assert blocks
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    for block in blocks:
        test = doctest.DocTestParser().get_doctest(block, names, page.name, str(page), 0)
        output: list[str] = []
        result = runner.run(test, out=output.append, clear_globs=False)
        names = test.globs
        assert result.failed == 0, "".join(output)
