"""Compiler flags that break IEEE arithmetic are refused when the library is compiled."""
import subprocess

import pytest

from conftest import ROOT, library_sources


@pytest.mark.parametrize("flag", ["-ffast-math", "-Ofast", "-ffinite-math-only"])
def test_is_refused(flag):
    options = ["-std=c11", flag, "-fsyntax-only", "-I", ROOT / "include", "-I", ROOT / "src"]
    accepted = []
    for source in library_sources():
        done = subprocess.run(["cc", *options, source], text=True, stderr=subprocess.PIPE)
        if done.returncode == 0 or "#error" not in done.stderr:
            accepted.append(f"{source.name}: {done.stderr}")
    assert not accepted, "\n".join(accepted)
