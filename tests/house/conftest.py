"""What the tests of the house share: where things are, and how a command is run."""
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("NORMA_BUILD", ROOT / "build"))


def run(*command, **options):
    """Runs a command and returns what it wrote; fails the test with its output if its exit status is not 0."""
    done = subprocess.run([str(word) for word in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          **options)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))}\nexit status {done.returncode}\n{done.stdout}", pytrace=False)
    return done.stdout


def library_sources():
    return [path for folder in ("src", "src/kernels", "batch") for path in sorted((ROOT / folder).glob("*.c"))]
