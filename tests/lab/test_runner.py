"""norma-lab: what a run writes, the same bits for the same seed, kept and continued runs, Ctrl-C, refusals."""

import json
import math
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("NORMA_BUILD", ROOT / "build"))
LAB = BUILD / "norma-lab"


def lab(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs norma-lab without the report."""
    words = [str(word) for word in (LAB, *arguments)]
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=600, **options)


def results(folder: Path) -> dict[str, Any]:
    """All result files below a folder, by name."""
    return {path.name: json.loads(path.read_text()) for path in sorted(folder.glob("runs/*/*.json"))}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of one arm."""
    out = tmp_path_factory.mktemp("first")
    done = lab("E1", "--arm", "bn", "--seeds", 2, "--out", out, "--no-report")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return out


def test_a_run_writes_its_result(first: Path) -> None:
    found = results(first)
    assert list(found) == ["bn.seed1.json", "bn.seed2.json"]
    one = found["bn.seed1.json"]
    assert (one["experiment"], one["arm"], one["seed"], one["mode"]) == ("E1", "bn", 1, "quick")
    assert one["metrics"]["diverged"] == 0 and one["seconds"] > 0
    assert one["metrics"]["accuracy_contrast"] == one["metrics"]["accuracy_contrast_running"]
    assert {"accuracy_brightness_precise", "accuracy_brightness_batch"} <= set(one["metrics"])
    assert one["config"]["learning_rate"] == 0.01 and one["config"]["steps"] > 0
    assert set(one["machine"]) == {"processor", "blas", "isa", "processors"}
    steps, losses = zip(*one["curves"]["train_loss"], strict=True)
    assert losses[-1] < losses[0] and max(steps) == one["config"]["steps"]
    assert found["bn.seed1.json"]["metrics"] != found["bn.seed2.json"]["metrics"]


def test_the_same_seed_gives_the_same_bits(first: Path, tmp_path: Path) -> None:
    done = lab("E1", "--arm", "bn", "--seeds", 2, "--out", tmp_path, "--no-report", "--jobs", 1)
    assert done.returncode == 0
    for name, again in results(tmp_path).items():
        before = results(first)[name]
        assert (again["metrics"], again["curves"]) == (before["metrics"], before["curves"])


def test_finished_runs_are_kept_and_missing_ones_made(first: Path) -> None:
    kept = first / "runs" / "E1" / "bn.seed1.json"
    bytes_before, time_before = kept.read_bytes(), kept.stat().st_mtime_ns
    (first / "runs" / "E1" / "bn.seed2.json").unlink()
    done = lab("E1", "--arm", "bn", "--seeds", 2, "--out", first, "--no-report")
    assert done.returncode == 0 and done.stdout.startswith("1 finished runs in")
    assert "bn, seed 2" in done.stdout and "bn, seed 1" not in done.stdout
    assert (kept.read_bytes(), kept.stat().st_mtime_ns) == (bytes_before, time_before)
    assert len(results(first)) == 2


def test_a_result_of_another_program_is_not_kept(first: Path) -> None:
    path = first / "runs" / "E1" / "bn.seed1.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps({**result, "program": "0" * 16}))
    done = lab("E1", "--arm", "bn", "--seeds", 1, "--out", first, "--no-report")
    assert done.returncode == 0
    assert json.loads(path.read_text())["program"] == result["program"]


def test_a_quick_run_does_not_replace_a_full_one(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "E1" / "bn.seed1.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"mode": "full"}))
    done = lab("E1", "--arm", "bn", "--seeds", 1, "--out", tmp_path, "--no-report")
    assert done.returncode == 2 and "--fresh replaces it" in done.stderr
    assert json.loads(path.read_text()) == {"mode": "full"}


def test_a_full_run_serves_as_a_quick_one(first: Path, tmp_path: Path) -> None:
    result = results(first)["bn.seed2.json"] | {"mode": "full", "seed": 1}
    path = tmp_path / "runs" / "E1" / "bn.seed1.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(result))
    done = lab("E1", "--arm", "bn", "--seeds", 1, "--out", tmp_path, "--no-report")
    assert done.returncode == 0 and done.stdout.startswith("1 finished runs in")
    assert json.loads(path.read_text()) == result


def failing_gate(folder: Path) -> Path:
    """Runs that say that batch norm does not read its neighbours."""
    for seed in (1, 2, 3):
        for arm in ("bn_random", "bn_sorted"):
            path = folder / "runs" / "E7" / f"{arm}.seed{seed}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            run = {"experiment": "E7", "arm": arm, "seed": seed, "mode": "quick", "config": {}, "curves": {},
                   "metrics": {"train_loss_final": 1.0 + seed, "test_error_running": 20.0 + seed}}
            path.write_text(json.dumps(run))
    return folder


@pytest.mark.parametrize(("options", "status"), [([], 0), (["--gate"], 1)])
def test_gates_of_training_fail_only_if_asked(options: list[str], status: int, tmp_path: Path) -> None:
    done = lab("E0", *options, "--out", failing_gate(tmp_path))
    assert done.returncode == status
    assert ("gate e7.reads_loss is" in done.stderr) == (status == 1)
    assert "<html" in (tmp_path / "index.html").read_text()


def first_lines(count: int, *arguments: object) -> list[str]:
    """What norma-lab prints before it has finished a run."""
    words = [str(word) for word in (LAB, *arguments)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(count)]
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    return lines


def test_quick_mode_says_what_it_leaves_out(tmp_path: Path) -> None:
    left_out, _ = first_lines(2, "--out", tmp_path, "--no-report")
    listed = lab("--list").stdout
    absent = [one.group(1) for one in re.finditer(r"^(E\d+) (?:.*\n(?!E\d)){1,9}? +seeds: 0 quick", listed, re.M)]
    assert left_out == f"quick mode: some arms only, and without {' '.join(absent)}; norma lab --full has everything\n"
    assert "E11" in absent and "E1" not in absent
    (named,) = first_lines(1, "E7", "--out", tmp_path / "named", "--no-report")
    assert "6 runs" in named


def test_an_arm_may_have_fewer_seeds_and_its_rate_is_tuned(tmp_path: Path) -> None:
    rates = 3
    for arm, runs in (("ln_pre_b16", rates + 4), ("rms_pre_b16", rates + 3), ("bn_cnn", 4)):
        (line,) = first_lines(1, "E11", "--arm", arm, "--out", tmp_path, "--no-report")
        assert line.startswith(f"{runs} runs")
    (line,) = first_lines(1, "E11", "--arm", "rms_pre_b16", "--seeds", 5, "--out", tmp_path, "--no-report")
    assert line.startswith(f"{rates + 5} runs")


@pytest.fixture(scope="module")
def own_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200,000 and some characters of 11 kinds; 'é' is one of them. Which of the words comes next is a coin's throw."""
    folder = tmp_path_factory.mktemp("text")
    words, throws = ("caché ", "thérmos\n"), random.Random(1)
    (folder / "text.txt").write_text("".join(throws.choice(words) for _ in range(30000)), encoding="utf-8")
    return folder


def test_a_text_of_ones_own(own_text: Path, tmp_path: Path) -> None:
    """A trial of a learning rate, the shortest run that E11 has. It learns the words, and cannot know the throws."""
    done = lab("--child", "E11", "--arm", "bn_pre_b4", "--seed", 1, "--mode", "tune", "--rate", 0.01,
               "--data", own_text, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    (result,) = results(tmp_path).values()
    characters = (own_text / "text.txt").read_text(encoding="utf-8")
    assert result["config"]["text_characters"] == len(characters)
    assert result["config"]["different_characters"] == len(set(characters))
    throws = math.log(2) * characters.count("é") / len(characters)
    assert throws < result["metrics"]["validation_error"] < 1.5 * throws
    assert result["metrics"]["drift"] > 0 and result["metrics"]["drift_variance"] > 0


def test_a_short_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("short")
    done = lab("E11", "--arm", "ln_pre_b4", "--seeds", 1, "--data", tmp_path, "--out", tmp_path / "out", "--no-report")
    assert done.returncode == 1 and "FAILED" in done.stdout
    said = f"norma-lab: {tmp_path}/text.txt: 5 characters, expected at least 200000\n"
    assert done.stderr == said * 4  # three trials of a learning rate, and the run


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    words = [str(LAB), "E1", "--seeds", "9", "--out", str(tmp_path), "--no-report", "--jobs", "1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("[ 1/"):
                break
        time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(timeout=20) == 130
    finished = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert 1 <= len(finished) < 45 and all(path.suffix == ".json" for path in finished)
    assert f"stopped: {len(finished)} of 45 runs are finished and kept" in rest
    assert all(result["metrics"]["diverged"] == 0 for result in results(tmp_path).values())


def test_every_arm_is_listed() -> None:
    done = lab("--list")
    assert done.returncode == 0
    for word in ("E1", "E2", "E7", "bn_b1*", "bn_sorted*", "pixel_ln"):
        assert word in done.stdout.split()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["E99"], "there is no experiment E99"),
        (["E1", "--arm", "xn"], "no chosen experiment has an arm xn"),
        (["--seeds", "0"], "--seeds: expected a number from 1 to 100, got '0'"),
        (["--jobs", "two"], "--jobs: expected a number from 1 to 64, got 'two'"),
        (["--data", "/not/there"], "--data: /not/there: No such file or directory"),
        (["--out", ""], "--out needs the name of a folder"),
        (["--lang", "de"], "--lang: expected en or zh, got 'de'"),
        (["--quick"], "unknown option --quick"),
        (["--seeds"], "--seeds needs a value"),
        (["E1", "--out", "/proc/none"], "cannot make the folder"),
    ],
)
def test_refusals(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = lab("--no-report", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert all(line.startswith("norma-lab: ") for line in done.stderr.splitlines())
    assert not list(tmp_path.iterdir())


def test_damaged_data_fails_the_run(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        (data / name).write_bytes(b"\x1f\x8b not gzip")
    done = lab("E1", "--arm", "in", "--seeds", 1, "--data", data, "--out", tmp_path / "out", "--no-report")
    assert done.returncode == 1 and "FAILED" in done.stdout and "reinstall Debian's package" in done.stderr
    assert not (tmp_path / "out").exists() or not results(tmp_path / "out")
