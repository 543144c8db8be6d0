"""norma-report: verdicts on handmade runs, the files it writes, and the page."""
from __future__ import annotations

import csv
import html.parser
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

import lab_runs
from lab_runs import CLAIMS, ROOT, write_all, write_run
from oracle import NORMA

REPORT = Path(NORMA).parent / "norma-report"
VERDICTS = {"CONFIRMED", "DIRECTION ONLY", "NOT REPRODUCED", "REFUTED", "LITERATURE", "NOT RUN"}


def report(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([REPORT, "--out", folder, *arguments], capture_output=True, text=True, timeout=60)


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


def test_named_arms_are_those_of_the_experiments() -> None:
    """Every metric of a test stands in the table of lab/experiments/README.md, where its experiment has a row."""
    rows = dict(re.findall(r"^\| (E\d+)[^|]*\|(.*)$", (ROOT / "lab/experiments/README.md").read_text(), re.M))
    assert {"E1", "E2", "E5"} <= set(rows)
    for name, test in CLAIMS["tests"].items():
        row = rows.get(test["experiment"])
        if row is None or test["experiment"] == "E0":
            continue
        for _, metric in lab_runs.terms_of(test):
            stem = re.sub(r"_(running|precise|batch)\b", "", metric)
            assert f"`{stem}`" in row or stem == "train_loss_final", f"{name}: {metric}"


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


# --------------------------------------------------------------------------------------------------- the files ---

class Page(html.parser.HTMLParser):
    """Checks that elements are closed in order; collects links, ids and texts of badges."""

    VOID = {"meta", "img", "br", "path", "circle"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module", params=["en", "zh"])
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("report")
    write_all(folder)
    done = report(folder, "--exact", "--lang", request.param)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return request.param, folder


def test_the_page_is_whole_and_needs_no_network(full: tuple[str, Path]) -> None:
    _, folder = full
    text = (folder / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert [name for name in page.ids if name.startswith("c")] == [f"c{i}" for i in range(1, 48)]
    assert len(set(page.ids)) == len(page.ids)
    for link in page.links:
        assert link.startswith(("#", "data:image/svg+xml;base64,", "data:image/png;base64,")), link[:60]
        assert not link.startswith("#") or link[1:] in page.ids
    assert "://" not in text and "@import" not in text and "<script" not in text and "url(" not in text


def test_the_page_shows_every_statement_verdict_and_plot(full: tuple[str, Path]) -> None:
    language, folder = full
    text = (folder / "index.html").read_text(encoding="utf-8")
    results = json.loads((folder / "results.json").read_text())
    assert f'<html lang="{"zh-CN" if language == "zh" else "en"}">' in text
    numbers = {"CONFIRMED": 0, "DIRECTION ONLY": 1, "NOT REPRODUCED": 2, "REFUTED": 3, "LITERATURE": 4, "NOT RUN": 5}
    articles = re.findall(r'<article class="claim" id="c(\d+)">(.*?)</article>', text, re.S)
    for claim, judged, (number, article) in zip(CLAIMS["claims"], results["claims"], articles, strict=True):
        assert int(number) == claim["id"] == judged["id"]
        assert html.unescape(article).count(claim[language]) == 1
        assert f'badge v{numbers[judged["verdict"]]}"' in article
        for paper in claim["paper"]:
            assert paper["cite"] in html.unescape(article)
        for experiment in claim["experiments"]:
            assert f"<code>norma lab {experiment}</code>" in article
    drawn = text.count('<figure class="plot">')
    assert drawn == sum(plot["kind"] != "pictures" for plot in CLAIMS["plots"].values())
    for plot in CLAIMS["plots"].values():
        if plot["kind"] != "pictures":
            assert html.escape(plot[f"x_{language}"], quote=False) in text
    assert "data:image/svg+xml;base64," in text  # the four layers


def test_pictures_are_part_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/E10_grid.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(5))
    (tmp_path / "pictures/E1_other.png").write_bytes(b"no")
    report(tmp_path)
    assert (tmp_path / "index.html").read_text().count("data:image/png;base64,iVBORw0KGgoAAAAAAA==") == 1


def test_the_table_names_rules_that_the_options_select(full: tuple[str, Path]) -> None:
    language, folder = full
    text = (folder / "index.html").read_text(encoding="utf-8")
    rules = json.loads((ROOT / "guide/rules.json").read_text(encoding="utf-8"))
    tasks = {task["id"]: task for task in rules["tasks"]}
    rows = re.findall(r'<td class="task">(.*?)</td><td class="layer">(.*?)</td>', text)
    assert len(rows) == len(rules["table"]) >= 12
    for row, (task, layer) in zip(rules["table"], rows, strict=True):
        rule = tasks[row["task"]]["rules"][row["rule"]]
        chosen = subprocess.run([NORMA, "choose", *row["options"].split(), "--json"], capture_output=True, text=True,
                                cwd=folder.parent, timeout=60)
        answer = json.loads(chosen.stdout)
        assert (answer["first"]["layer"], answer["first"]["why"]) == (rule["first"], rule["en"]), row
        assert row["article"] == (answer.get("article") == rule["first"]) or row["task"] in {"classification"}, row
        assert html.unescape(task) == row[language]
        assert html.unescape(layer) == rules["layers"][rule["first"]][language]


def test_csv_and_json_agree(full: tuple[str, Path]) -> None:
    _, folder = full
    results = json.loads((folder / "results.json").read_text())
    with open(folder / "results.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["claim"]) for row in rows} == set(range(1, 48))
    for row in rows:
        assert row["claim_verdict"] == results["claims"][int(row["claim"]) - 1]["verdict"]
        assert row["claim_verdict"] in VERDICTS
        if row["test"]:
            test = results["tests"][row["test"]]
            assert row["test_verdict"] == test["verdict"]
            assert float(row["mean"]) == pytest.approx(test["mean"])


def test_the_scale_of_the_runs_and_what_is_missing_are_said(tmp_path: Path) -> None:
    for arm, rate in (("a", 0.1), ("b", 0.3)):
        path = tmp_path / f"runs/E2/{arm}.seed1.json"
        write_run(tmp_path, "E2", arm, 1, {})
        run = json.loads(path.read_text())
        run["config"] = {"parameters": 19810, "steps": 300, "learning_rate": rate, "optimizer": "sgd"}
        path.write_text(json.dumps(run))
    report(tmp_path)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<li>E2: quick mode, 1 seeds, parameters 19810, steps 300, learning rate 0.1 to 0.3</li>" in text
    assert "<li>not run: E0, E1, E3, E4," in text


def test_nothing_run_is_said_plainly(tmp_path: Path) -> None:
    assert report(tmp_path).returncode == 0
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "Nothing was run yet" in text and text.count("<article") == 47
    results = json.loads((tmp_path / "results.json").read_text())
    literature = {claim["id"] for claim in CLAIMS["claims"] if claim["kind"] == "literature"}
    assert {c["id"] for c in results["claims"] if c["verdict"] == "LITERATURE"} == literature
    assert {c["verdict"] for c in results["claims"]} == {"LITERATURE", "NOT RUN"}


def test_two_reports_are_the_same_bytes(full: tuple[str, Path], tmp_path: Path) -> None:
    language, folder = full
    before = {name: (folder / name).read_bytes() for name in ("index.html", "results.json", "results.csv")}
    report(folder, "--lang", language)
    assert before == {name: (folder / name).read_bytes() for name in before}


def test_shipped_verdicts_and_their_page() -> None:
    shipped = json.loads((ROOT / "lab/verdicts.json").read_text())
    assert [c["id"] for c in shipped["claims"]] == list(range(1, 48))
    assert set(shipped["tests"]) <= set(CLAIMS["tests"])
    printed = subprocess.run([REPORT, "--markdown", ROOT / "lab/verdicts.json"], capture_output=True, text=True,
                             timeout=60)
    assert printed.stdout == (ROOT / "docs/results.md").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------------ errors ---

@pytest.mark.parametrize("arguments, message", [
    (["--lang", "fr"], 'the language "fr" is not known'),
    (["--frob"], "unknown option --frob"),
    (["--out"], "--out needs a value"),
    (["--out", ""], "--out needs the name of a folder"),
    (["--out", "/dev/null"], "/dev/null is a file"),
    (["extra"], "unexpected argument extra"),
    (["--claims", "missing.json"], "missing.json: cannot be read"),
    (["--markdown", "missing.json"], "missing.json: cannot be read"),
])
def test_bad_arguments(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = subprocess.run([REPORT, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("content, message", [
    ("{", "is not JSON"),
    ('{"arm": "a", "seed": 1, "mode": "quick", "metrics": {}}', "has no field experiment"),
    ('{"experiment": "E2", "arm": "a", "seed": 1, "mode": "slow", "metrics": {}}', "has no field mode (quick or full)"),
    ('{"experiment": "E2", "arm": "a", "mode": "quick", "metrics": {}}', "has no field seed"),
    ('{"experiment": "E2", "arm": "a", "seed": 1, "mode": "quick"}', "has no field metrics"),
])
def test_a_broken_run_is_named_and_nothing_is_written(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "runs/E2").mkdir(parents=True)
    (tmp_path / "runs/E2/a.seed1.json").write_text(content)
    done = report(tmp_path)
    assert done.returncode == 2
    assert "runs/E2/a.seed1.json" in done.stderr and message in done.stderr and done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_help_names_its_options() -> None:
    done = subprocess.run([REPORT, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    for option in ("--out", "--lang", "--exact", "--gate", "--claims", "--markdown"):
        assert option in done.stdout
