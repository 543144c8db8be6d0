"""An installed copy can be used: by pkg-config and by find_package, static and shared, from C and from C++, and after
the installed tree was moved."""
import os
import re
import shutil
import subprocess

import pytest

from conftest import BUILD, ROOT, run

PROGRAM = """\
#include <norma.h>
#include <stdio.h>
int main(void) {
  float x[4] = {1, 2, 3, 4}, y[4];
  int64_t shape[2] = {1, 4};
  norma_layer layer;
  if (norma_version() != NORMA_VERSION || norma_layer_norm(&layer, 1, 2, shape, NULL)) return 1;
  norma_forward_args args = {sizeof args, &layer, NORMA_F32, x, NULL, y};
  if (norma_forward(&args, NULL)) return 2;
  return printf("%.4f %.4f %.4f %.4f\\n", y[0], y[1], y[2], y[3]) < 0;
}
"""
EXPECTED = "-1.3416 -0.4472 0.4472 1.3416\n"  # (x - 2.5) / sqrt(1.25 + 1e-5)

CPP_PROGRAM = """\
#include <norma_sync.h>
#include <iostream>
int main() {
  const std::int64_t shape[4] = {2, 6, 5, 5};
  norma_layer layer;
  norma_error error;
  if (norma_layer_group(&layer, 4, 4, shape, &error) != NORMA_BAD_SHAPE) return 1;
  if (error.detail[0] == 0) return 2;
  norma_sync *sync;
  if (norma_sync_new(&sync, nullptr, &error) != NORMA_BAD_ARGUMENT) return 4;
  if (norma_layer_group(&layer, 3, 4, shape, &error) != NORMA_OK) return 3;
  std::cout << norma_layer_units(&layer) << ' ' << norma_layer_unit_elements(&layer) << std::endl;
}
"""

CMAKE_PROJECT = """\
cmake_minimum_required(VERSION 3.22)
project(user LANGUAGES C)
find_package(norma %s REQUIRED)
add_executable(shared program.c)
target_link_libraries(shared norma::norma)
add_executable(static program.c)
target_link_libraries(static norma::norma_static)
"""

STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wno-missing-field-initializers", "-Werror"]


def version():
    header = (ROOT / "include/norma.h").read_text()
    return ".".join(re.search(rf"#define NORMA_VERSION_{part} (\d+)", header).group(1)
                    for part in ("MAJOR", "MINOR", "PATCH"))


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """Installed in one place and moved to another: nothing in it may hold an absolute path."""
    first = tmp_path_factory.mktemp("install") / "first"
    run("cmake", "--install", BUILD, "--prefix", first)
    return shutil.move(first, first.parent / "moved")


@pytest.fixture
def program(tmp_path):
    (tmp_path / "program.c").write_text(PROGRAM)
    return tmp_path / "program.c"


def pkg_config(prefix, *options):
    folder = next(prefix.rglob("norma.pc")).parent
    return run("pkg-config", *options, "norma", env={**os.environ, "PKG_CONFIG_PATH": str(folder)}).split()


def library_path(prefix):
    return {**os.environ, "LD_LIBRARY_PATH": str(next(prefix.rglob("libnorma.so")).parent)}


def test_everything_is_installed(prefix):
    names = {path.name for path in prefix.rglob("*") if not path.is_dir()}
    assert {"norma.h", "norma_ragged.h", "norma_sync.h", "libnorma.a", "libnorma.so", "libnorma.so.0",
            f"libnorma.so.{version()}", "norma.pc", "norma-config.cmake", "norma"} <= names


def test_no_installed_text_holds_the_prefix(prefix):
    for path in prefix.rglob("*"):
        if path.suffix in {".pc", ".cmake", ".h"}:
            text = path.read_text()
            assert str(prefix.parent) not in text and str(ROOT) not in text, path


def test_pkg_config_shared(prefix, program, tmp_path):
    flags = pkg_config(prefix, "--cflags", "--libs")
    run("cc", "-std=c11", *STRICT, program, *flags, "-o", tmp_path / "program")
    assert run(tmp_path / "program", env=library_path(prefix)) == EXPECTED


def test_pkg_config_static(prefix, program, tmp_path):
    flags = pkg_config(prefix, "--cflags", "--libs", "--static")
    run("cc", "-std=c11", "-static", program, *flags, "-o", tmp_path / "program")
    assert run(tmp_path / "program") == EXPECTED


def test_pkg_config_version(prefix):
    assert pkg_config(prefix, "--modversion") == [version()]


def test_find_package(prefix, program, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(CMAKE_PROJECT % "0.1")
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", tmp_path / "build")
    assert run(tmp_path / "build/shared") == EXPECTED
    assert run(tmp_path / "build/static") == EXPECTED
    assert "libnorma.so.0" in run("readelf", "-d", tmp_path / "build/shared")
    assert "libnorma" not in run("readelf", "-d", tmp_path / "build/static").replace(str(prefix), "")


def test_find_package_refuses_another_version(prefix, program, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(CMAKE_PROJECT % "99.0")
    done = subprocess.run(["cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}"],
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode != 0 and "99.0" in done.stdout


def test_as_a_part_of_another_project(tmp_path):
    """add_subdirectory builds the library alone: no tools, no tests, no dependency looked for."""
    (tmp_path / "program.c").write_text(PROGRAM)
    project = CMAKE_PROJECT.replace("find_package(norma %s REQUIRED)", f"add_subdirectory({ROOT} norma)")
    (tmp_path / "CMakeLists.txt").write_text(project)
    configured = run("cmake", "-S", tmp_path, "-B", tmp_path / "build")
    assert "cairo" not in configured and "cmocka" not in configured
    run("cmake", "--build", tmp_path / "build")
    assert run(tmp_path / "build/shared") == EXPECTED
    assert run(tmp_path / "build/static") == EXPECTED


def test_cpp_compiles_the_header_and_links(prefix, tmp_path):
    (tmp_path / "program.cpp").write_text(CPP_PROGRAM)
    flags = pkg_config(prefix, "--cflags", "--libs")
    for standard in ("c++11", "c++17"):
        run("g++", f"-std={standard}", *STRICT, tmp_path / "program.cpp", *flags, "-o", tmp_path / "program")
        assert run(tmp_path / "program", env=library_path(prefix)) == "6 50\n"


def test_the_installed_command_runs_without_help(prefix):
    assert version() in run(prefix / "bin/norma", "version")
