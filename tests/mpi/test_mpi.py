"""norma_sync over MPI: ranks on this machine against one process; what becomes of ranks that are wrong, late or dead.
Run by .ci/run mpi; by hand: python3 -m pytest tests/mpi, after a build where MPI is installed."""
import os
import shutil
import subprocess
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
        assert told[rank].startswith("a rank is lost: layer 'second', forward: not all of the 3 ranks came within 1 s")


def test_a_killed_rank_ends_the_job(tmp_path):
    """By the launcher, or by the timeout of the others."""
    told, output = fault("killed", tmp_path, timeout=30)
    assert 1 not in told
    assert "signal 9" in output or all("layer 'second', forward" in text for text in told.values())


@pytest.mark.parametrize("kind", ["promised", "mixed"])
def test_a_broken_promise_is_no_hang(kind, tmp_path):
    """Messages have other sizes than the receiver expects: MPI may end the job, or ranks are told."""
    told, output = fault(kind, tmp_path)
    assert "MPI_ERR_TRUNCATE" in output or set(told) == {0, 1, 2}, output
    assert all("layer 'second', forward" in text for text in told.values()), told
