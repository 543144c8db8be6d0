"""Moments in files: nothing is lost, they merge over machines, and a wrong file says what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import norma
import numpy as np
import pytest
from norma import Moments, load_moments, merge_moments, save_moments
from oracle import TYPES, data

X = data((7, 3, 4, 5), TYPES[0], 1, 1000)


def state(moments: Moments) -> Any:
    reduced: Any = moments.__reduce__()
    return reduced[1:]


def some() -> dict[str, Moments]:
    """Of all kinds: one per channel, split axes, RMS, a scalar, data that is not finite, and nothing added."""
    bad = X.copy()
    bad[0, 1, 0, 0], bad[0, 2, 0, 0] = np.nan, np.inf
    made = {
        "": Moments("[n] c [...]"),
        "layer1.0.bn1": Moments("[n] c (g [k]) [w]", g=2),
        "file": Moments("n [c] h w", rms=True),
        "a/count": Moments(),
        "bad": Moments("[n] c [h w]"),
    }
    for name, moments in made.items():
        moments.add(bad if name == "bad" else X)
    return {**made, "empty": Moments("n c (g [k]) [w]", g=2, rms=True)}


def test_nothing_is_lost(tmp_path: Path) -> None:
    before = some()
    save_moments(tmp_path / "some.npz", before)
    after = load_moments(str(tmp_path / "some.npz"))
    assert list(after) == list(before)
    assert [state(m) for m in after.values()] == [state(m) for m in before.values()]
    assert after["empty"].shape is None
    after["empty"].add(X)
    assert after["empty"].shape == (7, 3, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["some.npz"]


def test_numpy_reads_the_file(tmp_path: Path) -> None:
    """As the docstring says, without norma and without pickles, whatever the name of the file ends with."""
    path = tmp_path / "some.moments"
    save_moments(path, some())
    with np.load(path, allow_pickle=False) as file:
        assert file["norma_moments"] == 1 and file["names"].tolist() == list(some())
        mean = file["/mean"] + file["/mean_lo"]
        var = (file["/m2"] + file["/m2_lo"]) / file["/count"]
    wide = X.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean((0, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(var, wide.var((0, 2, 3)), rtol=1e-10)


def test_machines_merge(tmp_path: Path) -> None:
    """Three machines with uneven shares have the moments of all the data, and what was merged is left alone."""
    whole = Moments("[n] c [h w]")
    whole.add(X)
    sources: list[Any] = []
    for number, share in enumerate((X[:1], X[1:6], X[6:])):
        moments = Moments("[n] c [h w]")
        moments.add(share)
        sources.append({"bn": moments, "other": Moments()})
        if number:
            save_moments(tmp_path / f"{number}.npz", sources[-1])
            sources[-1] = tmp_path / f"{number}.npz"
    before = state(sources[0]["bn"])
    merged = merge_moments(*sources)
    assert state(sources[0]["bn"]) == before and merged["other"].shape is None
    assert (merged["bn"].count == whole.count).all()
    for one, other in zip(merged["bn"].finish(unbiased=True), whole.finish(unbiased=True), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)
    # The variance within the shares, which an average of their variances would give, is another number.
    within = np.mean([share.var((0, 2, 3)) for share in (X[:1], X[1:6], X[6:])], 0)
    assert (abs(within / whole.finish()[1] - 1) > 1e-4).all()


def test_a_failed_save_keeps_the_file(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    save_moments(path, some())
    before = path.read_bytes()
    wrong: Any = {"bn": np.zeros(3)}
    with pytest.raises(TypeError, match="^save_moments: moments must be a dict from names to Moments, not 'bn': array"):
        save_moments(path, wrong)
    with pytest.raises(TypeError, match="not 3: Moments"):
        save_moments(path, {3: Moments()})  # type: ignore[dict-item]
    assert path.read_bytes() == before
    with pytest.raises(FileNotFoundError):
        save_moments(tmp_path / "nowhere" / "some.npz", some())
    with pytest.raises(FileNotFoundError):
        load_moments(tmp_path / "nowhere.npz")


def rewritten(path: Path, **changes: Any) -> None:
    with np.load(path) as file:
        arrays = {**file, **changes}
    np.savez(path, allow_pickle=True, **{key: value for key, value in arrays.items() if value is not None})


COUNT = "layer1.0.bn1/count"
DAMAGE: list[tuple[dict[str, Any], str]] = [
    ({"norma_moments": np.int64(2)}, "is not a file of moments: its format is 2, this version of norma reads 1"),
    ({"norma_moments": None}, "is not a file of moments: it has no entry norma_moments"),
    ({"rms": None}, ": the entry 'rms' is missing"),
    ({"layer1.0.bn1/m2": None}, ": the entry 'layer1.0.bn1/m2' is missing"),
    ({"layer1.0.bn1/m2": np.zeros(2)}, r"layer1.0.bn1/m2 is float64 \(2,\), must be float64 \(3, 2\)"),
    ({COUNT: np.zeros((3, 2))}, r"layer1.0.bn1/count is float64 \(3, 2\), must be int64 \(3, 2\)"),
    ({COUNT: np.full((3, 2), -1)}, "layer1.0.bn1 has a negative count or m2"),
    ({"bad/m2": np.full(3, -1.0)}, "bad has a negative count or m2"),
    ({"names": np.array(["x"])}, "is not a file of moments: zip"),
    ({"norma_moments": np.array({"a": 1})}, "is not a file of moments: Object arrays cannot be loaded"),
    ({"bad/m2": np.array([print] * 3)}, "is not a file of moments: Object arrays cannot be loaded"),
]


@pytest.mark.parametrize(("changes", "text"), DAMAGE, ids=[text[-40:] for _, text in DAMAGE])
def test_wrong_contents(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    path = tmp_path / "some.npz"
    save_moments(path, some())
    rewritten(path, **changes)
    with pytest.raises(ValueError, match="^load_moments: .*some.npz.*" + text):
        load_moments(path)


def test_wrong_files(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    save_moments(path, some())
    whole = path.read_bytes()
    np.save(tmp_path / "array.npy", X)
    array = (tmp_path / "array.npy").read_bytes()
    for content in (b"", b"PK", b"PK\3\4", whole[: len(whole) // 2], array, b"\x80\4K."):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="^load_moments: .*some.npz is not a file of moments: it is no .npz file"):
            load_moments(path)
    path.write_bytes(whole[:300] + bytes(50) + whole[350:])
    with pytest.raises(ValueError, match="^load_moments: .*some.npz is not a file of moments: "):
        load_moments(path)


def test_sources_that_do_not_fit() -> None:
    full = Moments("[n] c [h w]")
    full.add(X)
    fewer = Moments("[n] c [h w]")
    fewer.add(X[:, :2])
    cases: list[tuple[tuple[Any, ...], str]] = [
        ((), "there are no sources"),
        (({"a": full}, {}), "'a' is not in source 2; all sources must have the same names"),
        (({}, {"a": full}), "'a' is only in source 2; all"),
        (({"a": full}, {"a": fewer}), "'a' of source 2: Moments.merge: other has other units"),
        (({"a": full}, {"a": Moments("[n c] h w")}), r"'a' of source 2 is Moments\('\[n c\] h w'\)"),
        (({"a": full}, {"a": Moments("[n] c [h w]", rms=True)}), "'a' of source 2 is Moments"),
    ]
    for sources, text in cases:
        with pytest.raises(ValueError, match=f"^merge_moments: {text}"):
            norma.merge_moments(*sources)
