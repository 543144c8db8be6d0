"""norma_sync over MPI: ranks on this machine against one process; what becomes of ranks that are wrong, late or dead.
Run by .ci/run mpi; by hand: python3 -m pytest tests/mpi, after a build where MPI is installed."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("NORMA_BUILD", ROOT / "build"))
RANKS = BUILD / "tests/mpi_ranks"
HANG = 300  # seconds after which a job counts as hanging, whatever its own timeout is


def mpirun(ranks, *command):
    """Exit status and output. Ranks may be more than processors, and the user may be root, as in a container."""
    assert shutil.which("mpirun"), "mpirun is missing: ./setup test libopenmpi-dev openmpi-bin"
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                   "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(["mpirun", "--oversubscribe", "-n", str(ranks), *map(str, command)], env=environment,
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=HANG)
    return done.returncode, done.stdout


@pytest.mark.parametrize("split", ["6", "0", "3,2", "1,0", "7,1", "5,0,1", "0,0,1", "1,1,1,1", "0,4,0,3", "0,0,0,0",
                                   "1,1,1,1,1,1,1,1", "3,0,0,2,1,0,4,0"])
def test_ranks_have_the_bits_of_one_process(split):
    status, output = mpirun(split.count(",") + 1, RANKS, "split", split)
    assert status == 0 and output.endswith("256 cases agree\n"), output


def fault(kind, folder, ranks=3, timeout=1):
    """What each rank was told."""
    status, output = mpirun(ranks, RANKS, "fault", kind, timeout, folder)
    assert status != 0
    told = {int(path.stem): path.read_text() for path in folder.glob("*.txt")}
    return told, output


@pytest.mark.parametrize("kind, texts", [
    ("channels", ["layer 'second', forward: rank 0 has 4 channels (dimension 1), rank 1 has 3"]),
    ("order", ["rank 0 is in layer 'second', forward, rank 1 in layer 'third', forward"]),
    ("refused", ["layer 'second', forward: ", "eps is -1"]),
])
def test_every_rank_is_told(kind, texts, tmp_path):
    told, output = fault(kind, tmp_path)
    assert set(told) == {0, 1, 2}, output
    assert [text for rank in told for text in texts if text not in told[rank]] == []


def test_a_late_rank_is_missed_by_name_of_the_layer(tmp_path):
    """Rank 1 comes only when the others have written what they were told."""
    told, output = fault("late", tmp_path)
    assert set(told) == {0, 1, 2}, output
    for rank in (0, 2):
        first, second = told[rank].splitlines()
        assert first.startswith("a rank is lost: layer 'second', forward: not all of the 3 ranks came within 1 s")
        assert second.startswith("a rank is lost: layer 'after', forward: the exchange has failed before")


def test_a_killed_rank_ends_the_job(tmp_path):
    """By the launcher, or by the timeout of the others."""
    told, output = fault("killed", tmp_path, timeout=30)
    assert 1 not in told
    assert "signal 9" in output or all("layer 'second', forward" in text for text in told.values())


@pytest.mark.parametrize("kind", ["promised", "mixed"])
def test_a_broken_promise_is_no_hang(kind, tmp_path):
    """Messages have other sizes than the receiver expects: MPI may end the job, or ranks are told."""
    told, output = fault(kind, tmp_path)
    # Open MPI's text names the error where it gets through; that of its collectives gives the number, 15.
    ended = "MPI_ERR_TRUNCATE" in output or "MPI Error in NBC subrequest" in output
    assert ended or set(told) == {0, 1, 2}, output
    assert all("layer 'second', forward" in text for text in told.values()), told


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_demo_agrees_with_one_process(ranks):
    status, output = mpirun(ranks, BUILD / "norma-sync-demo")
    digits = re.search(r"the losses of 60 steps agree to (\d+) digits, 4 are promised", output)
    assert status == 0 and digits and int(digits.group(1)) >= 4, output


def test_the_bench_measures_every_layer_and_way():
    status, output = mpirun(2, BUILD / "norma-sync-demo", "--bench")
    rows = [line.split("\t") for line in output.splitlines()]
    assert status == 0 and len(rows) == 4 * 5, output
    assert [row for row in rows if row[0] != "2" or not float(row[3]) > 0] == []


def test_the_projection_is_that_of_the_docs():
    printed = subprocess.run([sys.executable, ROOT / "bench/sync.py", "--project"], text=True, stdout=subprocess.PIPE,
                             check=True).stdout
    page = (ROOT / "docs/distributed.md").read_text()
    assert page.split("<!-- projected -->")[1].split("<!-- end of projected -->")[0].strip() == printed.strip()
    assert page.split("<!-- measured -->")[1].count("\n| 32 x 512 x 7 x 7 | 8 |") == 1


PROGRAM = """\
#include <norma_mpi.h>
#include <stdio.h>
int main(int argc, char **argv) {
  float x[3] = {1, 2, 6}, y[3];
  norma_exchange exchange;
  norma_sync *sync;
  norma_layer layer;
  norma_error error;
  if (norma_mpi_open(&exchange, MPI_COMM_WORLD, 60, &error) == NORMA_OK) return 3;
  MPI_Init(&argc, &argv);
  if (norma_mpi_open(&exchange, MPI_COMM_WORLD, 0, &error) == NORMA_OK) return 4;
  if (norma_mpi_open(&exchange, MPI_COMM_WORLD, 60, &error) || norma_sync_new(&sync, &exchange, &error)) return 5;
  norma_layer_batch(&layer, 2, (int64_t[]){exchange.rank == 0 ? 1 : 2, 1}, &error);
  norma_forward_args forward = {.size = sizeof forward, .layer = &layer, .x = x + exchange.rank, .y = y};
  norma_sync_forward_args args = {.size = sizeof args, .sync = sync, .forward = &forward};
  if (norma_sync_forward(&args, &error)) return 6;
  if (exchange.rank == 1) printf("%.4f %.4f\\n", y[0], y[1]);
  norma_sync_free(sync);
  norma_mpi_close(&exchange);
  MPI_Finalize();
}
"""


def test_an_installed_copy_is_linked_by_pkg_config(tmp_path):
    (tmp_path / "program.c").write_text(PROGRAM)
    prefix = tmp_path / "installed"
    subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix], check=True, stdout=subprocess.DEVNULL)
    folder = next(prefix.rglob("norma-mpi.pc")).parent
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "norma-mpi"], check=True, text=True,
                           stdout=subprocess.PIPE, env={**os.environ, "PKG_CONFIG_PATH": str(folder)}).stdout.split()
    subprocess.run(["mpicc", "-std=c11", "-Wall", "-Wextra", "-Werror", tmp_path / "program.c", *flags,
                    f"-Wl,-rpath,{folder.parent}", "-o", tmp_path / "program"], check=True)
    status, output = mpirun(2, tmp_path / "program")
    assert (status, output) == (0, "-0.4629 1.3887\n")  # (x - 3) / sqrt(14 / 3 + 1e-5)


CMAKE_PROJECT = """\
cmake_minimum_required(VERSION 3.22)
project(user LANGUAGES C)
find_package(norma REQUIRED COMPONENTS mpi)
add_executable(shared program.c)
target_link_libraries(shared norma::norma_mpi)
add_executable(static program.c)
target_link_libraries(static norma::norma_mpi_static)
"""


def test_an_installed_copy_is_found_by_cmake(tmp_path):
    (tmp_path / "program.c").write_text(PROGRAM)
    (tmp_path / "CMakeLists.txt").write_text(CMAKE_PROJECT)
    prefix = tmp_path / "installed"
    for command in (["cmake", "--install", BUILD, "--prefix", prefix],
                    ["cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}"],
                    ["cmake", "--build", tmp_path / "build"]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for name in ("shared", "static"):
        assert mpirun(2, tmp_path / "build" / name) == (0, "-0.4629 1.3887\n")
