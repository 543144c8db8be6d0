"""E3 and E17: what their runs write, the same bits for the same seed, a set of the user's own, what is missing."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
LAB = Path(os.environ.get("NORMA_BUILD", ROOT / "build")) / "norma-lab"
PHASES = {"miou_running", "miou_precise", "miou_batch"}


def lab(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs norma-lab."""
    words = [str(word) for word in (LAB, *arguments)]
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=600)


def run(out: Path, experiment: str, arm: str, *more: object) -> dict[str, Any]:
    """The result of one run in quick mode, seed 1."""
    done = lab("--child", experiment, "--arm", arm, "--seed", 1, "--mode", "quick", "--out", out, *more)
    assert (done.returncode, done.stderr) == (0, "")
    result: dict[str, Any] = json.loads((out / "runs" / experiment / f"{arm}.seed1.json").read_text())
    return result


def own_set(folder: Path, count: int = 12) -> None:
    """Bright squares, brighter squares in them, and masks of three classes."""
    images = np.random.default_rng(1).integers(0, 60, (count, 1, 16, 16), dtype=np.uint8)
    masks = np.zeros((count, 16, 16), np.uint8)
    for i in range(count):
        masks[i, i % 6 : i % 6 + 9, 3:12] = 1
        masks[i, i % 6 + 3 : i % 6 + 6, 6:9] = 2
    images[:, 0] += 90 * masks
    np.save(folder / "segmentation_images.npy", images)
    np.save(folder / "segmentation_masks.npy", masks)


def test_quick_e3_learns_and_keeps_its_bits(tmp_path: Path) -> None:
    first, again = (run(tmp_path / name, "E3", "gn_b1") for name in ("first", "again"))
    assert first["metrics"] == again["metrics"] and first["curves"] == again["curves"]
    # Naming all pixels background: the symbols are a quarter, so half of three quarters.
    assert 45 < first["metrics"]["miou"] < 100 and not PHASES & set(first["metrics"])
    assert first["config"]["batch"] == 1 and first["config"]["scenes"] == "jittered" and first["config"]["groups"] == 4
    losses = [loss for _, loss in first["curves"]["train_loss"]]
    assert losses[-1] < losses[0]


def test_e3_with_batch_norm_has_all_phases(tmp_path: Path) -> None:
    own_set(tmp_path)
    result = run(tmp_path, "E3", "bn_b2", "--data", tmp_path)
    metrics, config = result["metrics"], result["config"]
    assert set(metrics) >= PHASES and metrics["miou"] == metrics["miou_running"]
    assert (config["scenes"], config["training_pictures"], config["test_pictures"], config["side"]) == ("own", 8, 4, 16)
    assert metrics["miou_batch"] > 60  # brightness tells the classes apart


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("images", np.zeros((9, 3, 16, 16), np.float32), "expected a .npy file (format 1.0) of uint8 with 4"),
        ("images", np.zeros((9, 16, 16), np.uint8), "expected a .npy file (format 1.0) of uint8 with 4"),
        ("images", np.zeros((9, 3, 18, 18), np.uint8), "S a multiple of 4"),
        ("images", np.zeros((3, 3, 16, 16), np.uint8), "N at least 6"),
        ("masks", np.zeros((12, 16, 12), np.uint8), "expected the shape (12, 16, 16) of the images"),
        ("masks", np.full((12, 16, 16), 40, np.uint8), "has class 40, classes are 0 to 31"),
    ],
)
def test_a_set_that_does_not_fit_is_refused(name: str, array: Any, message: str, tmp_path: Path) -> None:
    own_set(tmp_path)
    np.save(tmp_path / f"segmentation_{name}.npy", array)
    done = lab("--child", "E3", "--arm", "gn_b1", "--seed", 1, "--mode", "quick", "--data", tmp_path, "--out", tmp_path)
    assert done.returncode != 0 and message in done.stderr and done.stderr.count("\n") == 1
    assert f"segmentation_{name}.npy" in done.stderr


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    own_set(tmp_path)
    path = tmp_path / "segmentation_masks.npy"
    path.write_bytes(path.read_bytes()[:-1])
    done = lab("--child", "E3", "--arm", "gn_b1", "--seed", 1, "--mode", "quick", "--data", tmp_path, "--out", tmp_path)
    assert done.returncode != 0 and "shorter or longer than its shape says" in done.stderr


@pytest.mark.parametrize("experiment", ["E3", "E17"])
def test_without_photographs_it_is_skipped(experiment: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    done = lab(experiment, "--data", tmp_path, "--out", tmp_path / "out", "--no-report")
    assert done.returncode == 0
    assert f"{experiment} SKIPPED: there are 0 photographs and it takes 6: apt-get install" in done.stdout


@pytest.mark.parametrize("arm", ["bn_live", "bn_frozen", "gn", "gn_head"])
def test_e17_runs(arm: str, tmp_path: Path) -> None:
    result = run(tmp_path, "E17", arm)
    metrics = result["metrics"]
    assert {"miou", "miou_home", "miou_before", "train_loss_final"} <= set(metrics) and metrics["diverged"] == 0
    assert (PHASES <= set(metrics)) == (arm != "gn")
    assert set(result["curves"]) == {"home_loss", "train_loss"} and result["config"]["batch"] == 1


def test_e17_arms_start_from_the_same_net(tmp_path: Path) -> None:
    nets = [run(tmp_path, "E17", arm) for arm in ("bn_live", "bn_frozen", "gn_head")]
    before = {(net["metrics"]["miou_home"], net["metrics"]["miou_before"]) for net in nets}
    assert len(before) == 1
    assert len({net["metrics"]["train_loss_final"] for net in nets}) == 3
