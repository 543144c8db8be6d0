"""norma-report: the files it writes, and the page."""
from __future__ import annotations

import base64
import csv
import html.parser
import json
import re
import subprocess
from pathlib import Path

import pytest

from lab_runs import CLAIMS, REPORT, ROOT, report, write_all, write_run
from oracle import NORMA

VERDICTS = {"CONFIRMED", "DIRECTION ONLY", "NOT REPRODUCED", "REFUTED", "LITERATURE", "NOT RUN"}


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


def test_pictures_stand_under_their_labels(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    files = CLAIMS["plots"]["e10.pictures"]["files"]
    for name in [entry["file"] for entry in files] + ["E10_another.png"]:
        (tmp_path / "pictures" / name).write_bytes(name.encode())
    for language in ("en", "zh"):
        report(tmp_path, "--lang", language)
        text = html.unescape((tmp_path / "index.html").read_text(encoding="utf-8"))
        rows = re.findall(r'<p>([^<]*)</p><img alt="" src="data:image/png;base64,([^"]*)">', text)
        shown = [(label, base64.b64decode(data).decode()) for label, data in rows]
        assert shown == [(entry[language], entry["file"]) for entry in files] + [
            (CLAIMS["plots"]["e10.pictures"][language], "E10_another.png")]


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
    assert "<li>E2: quick mode, seeds 1, parameters 19810, steps 300, learning rate 0.1 to 0.3</li>" in text
    assert "<li>not run: E0, E1, E3, E5," in text


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
