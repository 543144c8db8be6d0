"""norma choose: worked cases, what an answer contains, docs/guide.md, and the errors."""
from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from lab_runs import CLAIMS, ROOT
from oracle import NORMA

RULES = json.loads((ROOT / "guide/rules.json").read_text(encoding="utf-8"))
IDS = {claim["id"] for claim in CLAIMS["claims"]}


def choose(*words: str, cwd: Path | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([NORMA, "choose", *words], capture_output=True, text=True, timeout=60,
                          cwd=cwd or "/", stdin=subprocess.DEVNULL, **options)


def answer(words: str, cwd: Path | None = None) -> dict[str, Any]:
    done = choose(*words.split(), "--json", cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# ----------------------------------------------------------------------------------------------------- the rules ---

def test_the_rules_are_complete() -> None:
    for name, layer in RULES["layers"].items():
        assert all(layer[key] for key in ("en", "zh", "setting", "cost", "traps", "pytorch", "c", "onnx")), name
    for task in RULES["tasks"]:
        where = task["id"]
        assert task["rules"][-1]["when"] == {}, where  # there is always an answer
        assert all(rule["when"] for rule in task["rules"][:-1]), where  # and no rule that hides the next ones
        assert task["model"] in task["models"], where
        assert any(where in source["for"].split() for source in RULES["sources"]), where
        for rule in task["rules"]:
            assert {rule["first"], rule["second"]} <= set(RULES["layers"]) and rule["first"] != rule["second"], where
            assert rule["en"] and rule["zh"] and rule["second_en"] and rule["claims"], where
            assert set(rule["claims"]) <= IDS, where
    assert {source["sure"] for source in RULES["sources"]} <= set(CLAIMS["sure"])
    assert len(RULES["four"]) == 4 and len(RULES["footnotes"]) == 4 and len(RULES["closing"]) == 4


def test_every_rule_can_be_reached() -> None:
    """Some combination of options selects each rule, and so no rule stands behind one that always wins."""
    reached = set()
    for task in RULES["tasks"]:
        for model in task["models"]:
            for batch in (1, 2, 4, 8, 16, 64):
                for extra in ("", "--pretrained", "--workers 16", "--sequence"):
                    found = answer(f"--task {task['id']} --model {model} --batch {batch} {extra}")
                    reached.add((task["id"], found["first"]["why"], found["first"]["layer"]))
    wanted = {(task["id"], rule["en"], rule["first"]) for task in RULES["tasks"] for rule in task["rules"]}
    assert wanted == reached


CASES = [
    # the article's table
    ("--task classification --batch 32", "batch", "group", "batch"),
    ("--task text", "layer", "rms", "layer"),
    ("--task style", "instance", "adain", "instance"),
    ("--task detection --batch 2", "group", "frozen", "group"),
    ("--task segmentation --batch 2 --model cnn --channels 48", "group", "instance", "group"),
    # small batches
    ("--task classification --batch 4", "group", "batch", "batch"),
    ("--task classification --batch 1", "group", "instance", "batch"),
    ("--task segmentation --batch 16", "batch", "group", "group"),
    ("--task video --batch 8", "batch", "group", "group"),
    ("--task video --batch 2", "group", "frozen", "group"),
    # the four footnotes that it lacks
    ("--task classification --model modern-cnn", "layer_channels", "batch", "batch"),
    ("--task gan", "conditional_batch", "none", "instance"),
    ("--task image-translation", "instance", "group", "instance"),
    ("--task detection --pretrained", "frozen", "group", "group"),
    ("--task classification --batch 4 --workers 8", "sync", "group", "batch"),
    ("--task llm", "rms", "layer", "layer"),
    ("--task shallow", "none", "batch", None),
    # others
    ("--task recurrent --batch 4 --sequence", "layer", "none", "layer"),
    ("--task text --model rnn", "layer", "none", "layer"),
    ("--task classification --model transformer --batch 1", "layer", "rms", "batch"),
    ("--task diffusion --channels 320", "group", "layer", None),
    ("--task diffusion --model transformer", "adaln", "rms", None),
    ("--task contrastive --workers 8", "sync", "group", None),
    ("--task tabular --batch 4", "layer", "none", None),
    ("--task speech --sequence", "layer", "rms", None),
    ("--task reinforcement", "layer", "none", None),
]


@pytest.mark.parametrize("words, first, second, article", CASES)
def test_worked_cases(words: str, first: str, second: str, article: str | None) -> None:
    found = answer(words)
    assert (found["first"]["layer"], found["second"]["layer"], found.get("article")) == (first, second, article)
    text = choose(*words.split()).stdout
    assert re.search(rf"^First   {re.escape(RULES['layers'][first]['en'])}: ", text.replace("\n        ", " "), re.M)
    assert ("The article recommends the same." in text) == (article == first)
    assert ("this answer differs" in text.replace("\n        ", " ")) == (article not in (None, first))
    assert [item["claim"] for item in found["evidence"]]
    assert all(item["papers"] and item["verdict"] for item in found["evidence"])
    assert max(len(line) for line in text.splitlines()) <= 100 or "nn." in text or "norma_" in text


# ---------------------------------------------------------------------------------------------------- the answer ---

@pytest.mark.parametrize("channels, groups", [(1, 1), (3, 1), (7, 1), (8, 2), (16, 4), (32, 32), (48, 12), (64, 32),
                                              (96, 32), (100, 25), (320, 32), (1000003, 1)])
def test_groups(channels: int, groups: int) -> None:
    found = answer(f"--task segmentation --channels {channels}")
    assert found["groups"] == groups and channels % groups == 0
    assert f"nn.GroupNorm({groups}, {channels})" == found["first"]["pytorch"]
    assert f"norma_layer_group(&layer, {groups}, 4, shape, &error)" == found["first"]["c"]
    assert f"num_groups={groups}," in found["first"]["onnx"]


@pytest.mark.parametrize("words", ["--task segmentation --channels 48", "--task classification", "--task style",
                                   "--task text --channels 256", "--task llm"])
def test_the_problem_is_one_that_norma_takes(words: str) -> None:
    for place in ("first", "second"):
        problem = answer(words)[place].get("problem")
        if problem is not None:
            done = subprocess.run([NORMA, "explain", problem], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words, note", [
    ("--task classification --deploy int8", "fold the norm into the convolution"),
    ("--task segmentation --deploy int8", "computed at run time"),
    ("--task classification --batch 4", "recompute its statistics before every evaluation"),
    ("--task tabular --sequence", "padding enters the statistics"),
    ("--task classification --batch 8 --pretrained --model transformer", "do not carry over"),
])
def test_notes(words: str, note: str) -> None:
    assert any(note in text for text in answer(words)["notes"])
    assert note.split()[0] in choose(*words.split()).stdout


def test_no_note_where_none_fits() -> None:
    assert answer("--task classification --batch 32")["notes"] == []


def test_assumptions_are_said() -> None:
    assert "cnn (assumed), 2 per worker (assumed)" in choose("--task", "detection").stdout
    assert "assumed" not in choose("--task", "detection", "--batch", "2", "--model", "cnn").stdout


# -------------------------------------------------------------------------------------------------- the verdicts ---

def results_with(verdict: str) -> dict[str, Any]:
    measured = {"verdict": verdict, "mean": 17.25, "deviation": 1.5, "n": 3, "mode": "quick"}
    return {"claims": [{"id": i, "verdict": verdict} for i in range(1, 48)], "tests": {"e3.gn_over_bn_1": measured}}


def test_verdicts_of_this_machine_come_first(tmp_path: Path) -> None:
    shipped = answer("--task segmentation", cwd=tmp_path)
    assert shipped["verdicts"] == "shipped"
    written = {c["id"]: c["verdict"] for c in json.loads((ROOT / "lab/verdicts.json").read_text())["claims"]}
    assert all(item["verdict"] == written[item["claim"]] for item in shipped["evidence"])

    (tmp_path / "report").mkdir()
    (tmp_path / "report/results.json").write_text(json.dumps(results_with("DIRECTION ONLY")))
    own = answer("--task segmentation", cwd=tmp_path)
    assert own["verdicts"] == "report/results.json"
    assert {item["verdict"] for item in own["evidence"]} == {"DIRECTION ONLY"}
    assert any("17.2 ± 1.5 mIoU points, n = 3" in figure for item in own["evidence"] for figure in item["measured"])

    (tmp_path / "other.json").write_text(json.dumps(results_with("REFUTED")))
    done = choose("--task", "segmentation", "--results", "other.json", cwd=tmp_path)
    assert "verdicts of other.json" in done.stdout and "REFUTED" in done.stdout


MARKS = {"CONFIRMED": "✓", "DIRECTION ONLY": "≈", "NOT REPRODUCED": "○", "REFUTED": "✗", "LITERATURE": "§",
         "NOT RUN": "…"}


def columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_table_has_the_verdicts_of_a_run(language: str, tmp_path: Path) -> None:
    verdicts = {claim: list(MARKS)[claim % 6] for claim in IDS}
    run = {"claims": [{"id": claim, "verdict": verdict} for claim, verdict in verdicts.items()], "tests": {}}
    (tmp_path / "run.json").write_text(json.dumps(run))
    done = choose("--table", "--lang", language, "--results", "run.json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    head, *lines = done.stdout.splitlines()
    assert len(lines) == len(RULES["table"]) + 2 and "run.json" in lines[-2]
    assert all(mark in lines[-1] for mark in MARKS.values())
    tasks = {task["id"]: task for task in RULES["tasks"]}
    for line, row in zip(lines, RULES["table"]):
        rule = tasks[row["task"]]["rules"][row["rule"]]
        evidence = " ".join(f"{claim}{MARKS[verdicts[claim]]}" for claim in rule["claims"])
        layer = RULES["layers"][rule["first"]][language] + ("" if row["article"] else " *")
        assert re.split(r" {2,}", line) == [row[language], evidence, layer]
        before = line[:line.index("  " + layer)]
        assert columns(before) == columns(head[:head.index("layer" if language == "en" else "推荐的层")]) - 2


def test_the_table_without_a_run_has_the_shipped_verdicts(tmp_path: Path) -> None:
    assert "verdicts of the lab as shipped:" in choose("--table", cwd=tmp_path).stdout
    done = choose("--table", "--lang", "fr")
    assert (done.returncode, done.stderr) == (2, 'norma choose: --lang is "fr"; en or zh would be right\n')


# ----------------------------------------------------------------------------------------------------- questions ---

def ask(lines: str) -> tuple[int, str]:
    """Runs it on a terminal of its own and types the lines."""
    try:
        master, slave = pty.openpty()
    except OSError as reason:  # as in a bare chroot
        pytest.skip(f"no terminal here: {reason}")
    with subprocess.Popen([NORMA, "choose"], stdin=slave, stdout=slave, stderr=slave, cwd="/") as process:
        os.close(slave)
        os.write(master, lines.encode())
        seen = b""
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:
                break
            if not part:
                break
            seen += part
        code = process.wait(timeout=60)
    os.close(master)
    return code, seen.decode().replace("\r\n", "\n")


def test_questions_on_a_terminal() -> None:
    code, seen = ask("segmentation\ncnn\n2\n1\n48\nno\n")
    assert code == 0
    assert seen.count("?") >= 6 and "nn.GroupNorm(12, 48)" in seen
    code, seen = ask("detection\n\n\n\n\nyes\n")
    assert code == 0 and "First   frozen batch norm" in seen


def test_bad_answers() -> None:
    code, seen = ask("segmentation\ncnn\nmany\n1\n48\nno\n")
    assert code == 2 and '"many" is no whole number' in seen
    code, seen = ask("\n")
    assert code == 2 and "a task is needed" in seen


# -------------------------------------------------------------------------------------------------------- errors ---

@pytest.mark.parametrize("words, message", [
    ("", "--task is missing; norma choose --tasks lists the tasks"),
    ("--task segmentaton", "did you mean segmentation?"),
    ("--task x", '--task is "x"; norma choose --tasks lists the tasks'),
    ("--task cooking-with-gas", "norma choose --tasks lists the tasks"),
    ("--task style --model rnn", "--model rnn does not go with --task style; it can be cnn"),
    ("--task llm --model resnet", '--model is "resnet"; cnn, modern-cnn, transformer, rnn or mlp would be right'),
    ("--task llm --batch 0", '--batch is "0"; a whole number from 1 to 1000000000 would be right'),
    ("--task llm --batch 2.5", '--batch is "2.5"'),
    ("--task llm --batch 99999999999999999999", "--batch is"),
    ("--task llm --channels -3", '--channels is "-3"'),
    ("--task llm --workers x", '--workers is "x"'),
    ("--task llm --deploy int4", '--deploy is "int4"; float or int8 would be right'),
    ("--task", "--task needs a value"),
    ("--frob", '"--frob" is not an option of this command'),
    ("--task llm --results missing.json", "missing.json: no such file"),
])
def test_errors(words: str, message: str) -> None:
    done = choose(*words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr and done.stderr.count("\n") == 1 and done.stderr.startswith("norma choose: ")


@pytest.mark.parametrize("content", ["{", "[]", '{"claims": 3}'])
def test_a_broken_results_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report/results.json").write_text(content)
    done = choose("--task", "llm", cwd=tmp_path)
    assert done.returncode == 2 and "report/results.json is no results.json of the lab" in done.stderr


def test_help_and_tasks() -> None:
    text = choose("--help").stdout
    for option in ("--task", "--batch", "--workers", "--model", "--channels", "--sequence", "--pretrained", "--deploy",
                   "--results", "--json", "--guide", "--tasks"):
        assert option in text
    assert [line.split()[0] for line in choose("--tasks").stdout.splitlines()] == [t["id"] for t in RULES["tasks"]]


# --------------------------------------------------------------------------------------------------------- guide ---

def test_the_guide_is_what_the_command_prints() -> None:
    guide = choose("--guide").stdout
    assert guide == (ROOT / "docs/guide.md").read_text(encoding="utf-8")
    for task in RULES["tasks"]:
        assert guide.count(f"\n| {task['en']} | ") == 1
    for question in RULES["four"]:
        assert f"### {question['q']}" in guide
    assert guide.endswith("".join(f"- {sentence['en']}\n" for sentence in RULES["closing"]))
