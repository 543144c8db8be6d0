"""E10, style transfer: what its runs write, the same bits for the same seed, and the pictures."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("NORMA_BUILD", ROOT / "build"))
LAB = BUILD / "norma-lab"
sys.path.insert(0, str(ROOT / "tests" / "cli"))

from png import read_png  # noqa: E402

SIDE, GAP = 64, 4  # of a square of the pictures in quick mode


def lab(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs E10 without the report."""
    words = [str(word) for word in (LAB, "E10", *arguments, "--no-report")]
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=600)


def result(folder: Path, arm: str, seed: int = 1) -> dict[str, Any]:
    return json.loads((folder / "runs" / "E10" / f"{arm}.seed{seed}.json").read_text())


def squares(path: Path) -> np.ndarray:
    """The squares of a picture: (rows, columns, side, side, 3)."""
    samples, bits = read_png(path)
    step = SIDE + GAP
    rows, columns = ((size + GAP) // step for size in samples.shape[:2])
    assert bits == 8 and samples.shape == (rows * step - GAP, columns * step - GAP, 3)
    return np.array([[samples[i * step:i * step + SIDE, j * step:j * step + SIDE] for j in range(columns)]
                     for i in range(rows)])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One seed of the arms in quick mode, and of AdaIN with the same sizes."""
    out = tmp_path_factory.mktemp("style")
    for arguments in ([], ["--arm", "adain"]):
        done = lab(*arguments, "--seeds", 1, "--out", out)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        if "SKIPPED" in done.stdout:
            pytest.skip(done.stdout.splitlines()[0])
    return out


def test_the_runs_write_what_is_claimed(made: Path) -> None:
    claims = json.loads((ROOT / "lab" / "claims.json").read_text(encoding="utf-8"))["tests"]
    terms = [term for test in claims.values() if test["experiment"] == "E10" for term in test["value"] + test["over"]]
    assert len(terms) == 6
    for _, arm, metric in terms:
        assert result(made, arm)["metrics"][metric] > 0
    for arm in ("in", "bn", "adain"):
        one = result(made, arm)
        steps, losses = zip(*one["curves"]["train_loss"], strict=True)
        assert losses[-1] < 0.7 * losses[0] and max(steps) == one["config"]["steps"]
        assert one["metrics"]["diverged"] == 0
        assert one["metrics"]["train_loss_final"] == pytest.approx(np.mean(losses[-5:]), rel=1e-5)
    batch, instance = result(made, "bn")["metrics"], result(made, "in")["metrics"]
    assert batch["style_loss"] == batch["style_loss_running"] != batch["style_loss_batch"]
    assert batch["content_loss"] == batch["content_loss_running"] != batch["content_loss_precise"]
    assert "style_loss_running" not in instance


def test_a_generator_learns_the_style_and_keeps_content(made: Path) -> None:
    """A picture without any style, all features 0, has style loss 1."""
    metrics = result(made, "in")["metrics"]
    assert metrics["style_loss"] < 0.5 and metrics["content_loss"] < 2
    metrics = result(made, "adain")["metrics"]
    assert metrics["moment_distance_unseen"] < metrics["moment_distance_identity"]


def test_the_same_seed_gives_the_same_bits(made: Path, tmp_path: Path) -> None:
    done = lab("--arm", "in", "--seeds", 2, "--out", tmp_path)
    assert done.returncode == 0
    again, before = result(tmp_path, "in"), result(made, "in")
    assert (again["metrics"], again["curves"]) == (before["metrics"], before["curves"])
    for name in ("E10_in.png", "E10_photos.png"):
        assert (tmp_path / "pictures" / name).read_bytes() == (made / "pictures" / name).read_bytes()
    assert result(tmp_path, "in", 2)["metrics"] != again["metrics"]


def test_pictures(made: Path) -> None:
    assert sorted(path.name for path in (made / "pictures").iterdir()) == [
        "E10_adain.png", "E10_bn.png", "E10_in.png", "E10_photos.png"]
    photos = squares(made / "pictures" / "E10_photos.png")[0]
    rows = {arm: squares(made / "pictures" / f"E10_{arm}.png")[0] for arm in ("in", "bn")}
    assert (photos[0] == 255).all() and (rows["in"][0] == rows["bn"][0]).all()
    for photo, dim in zip(photos[1:3], photos[5:7], strict=True):
        assert np.abs(127.5 + 0.3 * (photo - 127.5) - dim).max() <= 1
    for row in rows.values():
        for square, photo in zip(row[1:], photos[1:], strict=True):
            assert square.std() > 10 and np.abs(square - photo).mean() > 10
    # Instance norm takes the contrast away: a dim photograph becomes the same picture. Batch norm does not.
    change = {arm: np.abs(row[1:3] - row[5:7]).mean() for arm, row in rows.items()}
    assert change["in"] < 0.5 * change["bn"]


def test_a_grid_of_photographs_and_styles(made: Path) -> None:
    grid, photos = (squares(made / "pictures" / f"E10_{name}.png") for name in ("adain", "photos"))
    assert grid.shape[:2] == (5, 5) and (grid[0, 0] == 255).all()
    assert (grid[1:, 0] == photos[0, 1:5]).all()
    colours = grid.mean(axis=(2, 3))
    for column in range(1, 5):  # the mean colour comes nearer to the style's
        before = np.linalg.norm(colours[1:, 0] - colours[0, column], axis=1).mean()
        after = np.linalg.norm(colours[1:, column] - colours[0, column], axis=1).mean()
        assert after < before


def test_photographs_that_are_missing_are_named(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "Aqua.jpg").write_bytes(b"")
    done = lab("--seeds", 1, "--data", tmp_path, "--out", tmp_path / "out")
    assert "E10 SKIPPED: the photograph Blinds.jpg is not there: apt-get install " in done.stdout
    assert not list(tmp_path.rglob("*.json"))
