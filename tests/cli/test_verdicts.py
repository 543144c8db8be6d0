"""The statements of the lab, and norma-report's verdicts on handmade runs."""
from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

import lab_runs
from lab_runs import CLAIMS, REPORT, ROOT, report, write_run


# --------------------------------------------------------------------------------------------- the data itself ---

def test_the_statements_are_complete() -> None:
    assert [claim["id"] for claim in CLAIMS["claims"]] == list(range(1, 48))
    for claim in CLAIMS["claims"]:
        where = f"claim {claim['id']}"
        assert claim["en"] and claim["zh"] and claim["paper"], where
        assert claim["judgement"] in CLAIMS["judgements"], where
        assert claim["kind"] in {"exact", "training", "literature"}, where
        assert (claim["judgement"] == "accurate") == (claim["note_en"] == "") or claim["note_en"], where
        assert bool(claim["note_en"]) == bool(claim["note_zh"]), where
        judges = claim["tests"] + claim.get("against", [])
        assert bool(judges) == (claim["kind"] != "literature"), where
        assert set(judges + claim.get("asides", [])) <= set(CLAIMS["tests"]), where
        assert set(claim["plots"]) <= set(CLAIMS["plots"]), where
        assert {CLAIMS["tests"][test]["experiment"] for test in judges} <= set(claim["experiments"]), where
        for paper in claim["paper"]:
            assert paper["en"] and paper["zh"] and paper["cite"] and paper["sure"] in CLAIMS["sure"], where


def test_every_test_is_used_and_can_be_computed() -> None:
    roles = ("tests", "against", "asides")
    used = {test for claim in CLAIMS["claims"] for role in roles for test in claim.get(role, [])}
    assert used == set(CLAIMS["tests"])
    for name, test in CLAIMS["tests"].items():
        assert name.split(".")[0].upper() == test["experiment"], name
        assert ("metric" in test) == (test["experiment"] == "E0"), name
        assert "metric" in test or lab_runs.terms_of(test), name
        assert {"at_least", "at_most", "near"} & set(test), name
        assert test["en"] and test["zh"], name
        assert test.get("requires", name) in CLAIMS["tests"], name


def listed_arms() -> dict[str, set[str]]:
    """What `norma-lab --list` shows: experiment -> arms."""
    printed = subprocess.run([REPORT.parent / "norma-lab", "--list"], capture_output=True, text=True, timeout=60).stdout
    arms: dict[str, set[str]] = {}
    experiment = ""
    for line in printed.splitlines():
        if re.match(r"E\d+ ", line):
            experiment = line.split()[0]
            arms[experiment] = set()
        elif line.startswith("    ") and experiment and "seeds:" not in line:
            arms[experiment] |= {word.rstrip("*") for word in line.split()}
    return arms


def test_named_arms_and_metrics_are_those_of_the_experiments() -> None:
    """Of every experiment that the lab has: arms as norma-lab lists them, metrics as the experiments' README does."""
    arms = listed_arms()
    rows = dict(re.findall(r"^\| (E\d+)[^|]*\|(.*)$", (ROOT / "lab/experiments/README.md").read_text(), re.M))
    assert {"E0", "E1", "E2", "E5"} <= set(arms) and set(arms) <= set(rows)
    for name, item in [*CLAIMS["tests"].items(), *CLAIMS["plots"].items()]:
        experiment = item["experiment"]
        if experiment == "E0" or experiment not in arms:
            continue
        for arm, metric in lab_runs.terms_of(item) + lab_runs.plot_terms(item):
            assert arm in arms[experiment], f"{name}: {arm}"
            stem = re.sub(r"_(running|precise|batch)\b", "", metric)
            stem = re.sub(r"_(running|precise|batch)_long", "_long", stem)
            assert f"`{stem}`" in rows[experiment], f"{name}: {metric}"
        for series in item.get("series", []):
            assert series.get("arm", "none") in arms[experiment] | {"none"}, name


# ------------------------------------------------------------------------------------------------- verdicts ---

def judge(folder: Path, test: dict[str, Any], values: list[float | None], mode: str = "quick") -> dict[str, Any]:
    """Runs one test of our own on one metric of one arm."""
    data = {"tests": {"e2.own": {"experiment": "E2", "en": "x", "zh": "x", "unit": "", **test}}, "plots": {},
            "claims": [{"id": 1, "en": "x", "zh": "x", "tests": ["e2.own"], "plots": [], "experiments": ["E2"],
                        "paper": []}]}
    (folder / "claims.json").write_text(json.dumps(data), encoding="utf-8")
    for seed, value in enumerate(values, 1):
        write_run(folder, "E2", "a", seed, {"m": value}, mode)
        write_run(folder, "E2", "b", seed, {"m": 10.0}, mode)
    done = report(folder, "--claims", str(folder / "claims.json"))
    assert done.returncode in {0, 1}, done.stderr
    results = json.loads((folder / "results.json").read_text())
    assert results["claims"][0]["verdict"] == results["tests"]["e2.own"]["verdict"]
    outcome: dict[str, Any] = results["tests"]["e2.own"]
    return outcome


DIFFERENCE = {"value": [[1, "a", "m"], [-1, "b", "m"]], "at_least": 5}
NEAR = {"value": [[1, "a", "m"], [-1, "b", "m"]], "near": 2}
RATIO = {"value": [[1, "a", "m"]], "over": [[1, "b", "m"]], "every": True, "at_least": 2, "null": 1}

CASES = [
    (DIFFERENCE, [20, 21, 19], "CONFIRMED"),
    (DIFFERENCE, [20, 21], "DIRECTION ONLY"),  # two seeds confirm nothing
    (DIFFERENCE, [12, 13, 12.5], "DIRECTION ONLY"),  # too small an effect
    (DIFFERENCE, [60, 9, 11], "DIRECTION ONLY"),  # too noisy
    (DIFFERENCE, [14, 7, 8], "NOT REPRODUCED"),
    (DIFFERENCE, [10, 10, 10], "NOT REPRODUCED"),
    (DIFFERENCE, [5, 6, 4], "REFUTED"),
    (DIFFERENCE, [], "NOT RUN"),
    ({**DIFFERENCE, "refuted_below": 5}, [12, 12.1, 11.9], "REFUTED"),
    (NEAR, [10.1, 10.2, 9.9], "CONFIRMED"),
    (NEAR, [10.1], "DIRECTION ONLY"),
    (NEAR, [8.5, 11.5, 11], "DIRECTION ONLY"),
    (NEAR, [13, 11, 15], "NOT REPRODUCED"),
    (NEAR, [15, 15.1, 15.2], "REFUTED"),
    (RATIO, [30, None, 40], "CONFIRMED"),  # null is infinite: this arm diverged
    (RATIO, [30, 15, 40], "DIRECTION ONLY"),
    (RATIO, [30, 5, 40], "NOT REPRODUCED"),
    (RATIO, [5, 6, 7], "REFUTED"),
    ({"value": [["max", ["a", "b"], "m"], -10], "at_least": 5}, [20, 21, 19], "CONFIRMED"),
    ({"value": [["min", ["a", "b"], "m"], ["-max", ["b"], "m"]], "near": 1}, [20, 21, 19], "CONFIRMED"),
]


@pytest.mark.parametrize("test, values, verdict", CASES)
def test_verdicts(tmp_path: Path, test: dict[str, Any], values: list[float | None], verdict: str) -> None:
    assert judge(tmp_path, test, values)["verdict"] == verdict


def test_statistics_are_those_of_student(tmp_path: Path) -> None:
    outcome = judge(tmp_path, DIFFERENCE, [20, 22, 18])
    assert outcome["n"] == 3 and outcome["values"] == {"1": 10, "2": 12, "3": 8}
    assert outcome["mean"] == pytest.approx(10) and outcome["deviation"] == pytest.approx(2)
    assert outcome["low"] == pytest.approx(10 - 2.920 * 2 / 3**0.5)
    assert outcome["high"] == pytest.approx(10 + 2.920 * 2 / 3**0.5)


def test_seeds_are_paired(tmp_path: Path) -> None:
    """A seed of one arm only does not count."""
    write_run(tmp_path, "E2", "a", 9, {"m": 1000})
    assert judge(tmp_path, DIFFERENCE, [20, 21, 19])["n"] == 3


def test_full_runs_replace_quick_ones_and_tuning_runs_do_not_count(tmp_path: Path) -> None:
    for seed in (11, 12, 13):
        for arm in "ab":
            write_run(tmp_path, "E2", arm, seed, {"m": 10})
    write_run(tmp_path, "E2", "a", 101, {"validation_error": 3}, mode="tune")
    outcome = judge(tmp_path, DIFFERENCE, [20, 21, 19], mode="full")
    assert (outcome["mode"], outcome["n"], outcome["verdict"]) == ("full", 3, "CONFIRMED")


def claim_verdict(folder: Path, against: list[float], needed: list[float] | None = None) -> str:
    tests = {"e2.a": {"experiment": "E2", "en": "", "zh": "", "unit": "", **DIFFERENCE}}
    if needed is not None:
        tests["e2.a"]["requires"] = "e2.b"
        tests["e2.b"] = {"experiment": "E2", "en": "", "zh": "", "unit": "", "value": [[1, "n", "m"]], "at_least": 1}
        for seed, value in enumerate(needed, 1):
            write_run(folder, "E2", "n", seed, {"m": value})
    data = {"tests": tests, "plots": {}, "claims": [
        {"id": 1, "en": "", "zh": "", "tests": [], "against": ["e2.a"], "plots": [], "experiments": [], "paper": []}]}
    (folder / "claims.json").write_text(json.dumps(data), encoding="utf-8")
    for seed, value in enumerate(against, 1):
        write_run(folder, "E2", "a", seed, {"m": value})
        write_run(folder, "E2", "b", seed, {"m": 10})
    assert report(folder, "--claims", str(folder / "claims.json")).returncode == 0
    return str(json.loads((folder / "results.json").read_text())["claims"][0]["verdict"])


@pytest.mark.parametrize("values, verdict", [([20, 21, 19], "REFUTED"), ([20], "NOT REPRODUCED"),
                                             ([14, 7, 8], "DIRECTION ONLY"), ([5, 6, 4], "CONFIRMED")])
def test_a_test_against_a_claim_is_mirrored(tmp_path: Path, values: list[float], verdict: str) -> None:
    assert claim_verdict(tmp_path, values) == verdict


@pytest.mark.parametrize("needed, verdict", [([5, 6, 5], "REFUTED"), ([0, 6, 1], "NOT REPRODUCED"), ([], "NOT RUN")])
def test_a_conclusion_waits_for_what_it_requires(tmp_path: Path, needed: list[float], verdict: str) -> None:
    assert claim_verdict(tmp_path, [20, 21, 19], needed) == verdict


def test_a_claim_is_as_strong_as_its_weakest_test(tmp_path: Path) -> None:
    """Claim 14 needs E2 and E9: without E9 it is not run, unless E2 refutes it already."""
    for seed in (1, 2, 3):
        write_run(tmp_path, "E2", "gn", seed, {"test_error": 20 + 0.1 * seed})
        write_run(tmp_path, "E2", "bn_b16", seed, {"test_error_running": 15 + 0.1 * seed})
    report(tmp_path)
    verdicts = {c["id"]: c for c in json.loads((tmp_path / "results.json").read_text())["claims"]}
    assert (verdicts[14]["verdict"], verdicts[14]["tests"], verdicts[14]["tests_run"]) == ("NOT RUN", 2, 1)
    for seed in (1, 2, 3):
        write_run(tmp_path, "E2", "bn_b16", seed, {"test_error_running": 25 + 0.1 * seed})
    report(tmp_path)
    verdicts = {c["id"]: c for c in json.loads((tmp_path / "results.json").read_text())["claims"]}
    assert verdicts[14]["verdict"] == "REFUTED"


def test_exact_properties_hold_and_gate(tmp_path: Path) -> None:
    done = report(tmp_path, "--exact")
    assert done.returncode == 0, done.stderr
    tests = json.loads((tmp_path / "results.json").read_text())["tests"]
    exact = {name: test for name, test in tests.items() if name.startswith("e0.")}
    assert len(exact) >= 35 and {test["verdict"] for test in exact.values()} == {"CONFIRMED"}
    assert all(test["n"] == 3 for test in exact.values())
    path = tmp_path / "runs/E0/exact.seed2.json"
    run = json.loads(path.read_text())
    run["metrics"]["bn1_minus_in"] = 1e-3
    path.write_text(json.dumps(run))
    done = report(tmp_path)
    assert done.returncode == 1
    assert "gate e0.bn1_is_in is REFUTED" in done.stderr and done.stderr.count("\n") == 1


def test_a_gate_that_trains_counts_only_when_asked(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write_run(tmp_path, "E3", "gn_b1", seed, {"miou": 50})
        write_run(tmp_path, "E3", "bn_b1", seed, {"miou_running": 60 + seed})
    assert report(tmp_path).returncode == 0
    assert report(tmp_path, "--gate").returncode == 1
