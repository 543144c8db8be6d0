"""The library compiles with one cc command and no build system, and gives the same bits as the CMake build."""
import os

import pytest

from conftest import BUILD, ROOT, library_sources, run

CC = os.environ.get("CC", "cc")
FLAGS = ["-std=c11", "-O2", "-ffp-contract=off", "-I", ROOT / "include", "-I", ROOT / "src"]
DRIVER = ROOT / "tests/house/checksum.c"


@pytest.fixture(scope="module")
def bare_lines(tmp_path_factory):
    program = tmp_path_factory.mktemp("bare") / "checksum"
    warnings = run(CC, *FLAGS, DRIVER, *library_sources(), "-lm", "-pthread", "-o", program)
    assert warnings == ""
    return run(program).splitlines()


def test_the_bits_are_those_of_the_cmake_build(bare_lines, tmp_path):
    run(CC, *FLAGS, DRIVER, BUILD / "libnorma.a", "-lm", "-pthread", "-o", tmp_path / "checksum")
    assert bare_lines == run(tmp_path / "checksum").splitlines()


def test_every_layer_type_and_layout_is_there(bare_lines):
    assert len(bare_lines) == 9 * 4 * 3
    assert len({line.split()[3] for line in bare_lines}) == 9 * 4  # another layer or type: another result


def test_the_layouts_have_the_same_bits(bare_lines):
    sums = {}
    for line in bare_lines:
        layer, type_name, layout, checksum = line.split()
        sums.setdefault((layer, type_name), {})[layout] = checksum
    differing = {case: layouts for case, layouts in sums.items() if len(set(layouts.values())) != 1}
    assert not differing


def test_optimization_does_not_change_the_bits(bare_lines, tmp_path):
    flags = ["-O0" if flag == "-O2" else flag for flag in FLAGS]
    run(CC, *flags, DRIVER, *library_sources(), "-lm", "-pthread", "-o", tmp_path / "checksum")
    assert bare_lines == run(tmp_path / "checksum").splitlines()
