"""Handmade run files for the tests of norma-report: every arm and metric that lab/claims.json names."""
from __future__ import annotations

import json
import math
import random
import subprocess
from pathlib import Path
from typing import Any

from oracle import NORMA

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = json.loads((ROOT / "lab/claims.json").read_text(encoding="utf-8"))

REPORT = Path(NORMA).parent / "norma-report"

Arms = dict[str, dict[str, dict[str, float | None]]]


def report(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([REPORT, "--out", folder, *arguments], capture_output=True, text=True, timeout=60)


def write_run(folder: Path, experiment: str, arm: str, seed: int, metrics: dict[str, Any], mode: str = "quick",
              curves: dict[str, Any] | None = None) -> None:
    path = folder / "runs" / experiment / f"{arm}.seed{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    run = {"experiment": experiment, "arm": arm, "seed": seed, "mode": mode, "config": {}, "metrics": metrics,
           "curves": curves or {}, "seconds": 1.5, "machine": "handmade"}
    path.write_text(json.dumps(run), encoding="utf-8")


def terms_of(test: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for term in [*test.get("value", []), *test.get("over", [])]:
        if isinstance(term, list):
            arms = term[1] if isinstance(term[1], list) else [term[1]]
            found += [(arm, term[2]) for arm in arms]
    return found


def plot_terms(plot: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for series in plot.get("series", []):
        metric = series.get("metric")
        found += [(point[1], metric) for point in series.get("points", [])]
        if "level" in series:
            found.append((series["level"], metric))
        found += [(row["arm"], row.get("metric", metric)) for row in plot.get("rows", [])]
        found += [(row["arm"], metric) for row in plot.get("rows", [])]
    return found


def all_arms() -> Arms:
    """experiment -> arm -> metric -> a plausible value."""
    arms: Arms = {}
    for item in [*CLAIMS["tests"].values(), *CLAIMS["plots"].values()]:
        if item["experiment"] == "E0":
            continue
        for arm, metric in terms_of(item) + plot_terms(item):
            arms.setdefault(item["experiment"], {}).setdefault(arm, {})[metric] = 0.0
        for series in item.get("series", []):
            if "arm" in series:
                arms.setdefault(item["experiment"], {}).setdefault(series["arm"], {})
    generator = random.Random(1)
    for experiment in arms.values():
        for metrics in experiment.values():
            level = generator.uniform(15, 60)
            for metric in metrics:
                metrics[metric] = level + generator.uniform(0, 5)
    return arms


def write_all(folder: Path, seeds: int = 3) -> None:
    generator = random.Random(2)
    for experiment, arms in all_arms().items():
        for number, (arm, metrics) in enumerate(sorted(arms.items())):
            for seed in range(1, seeds + 1):
                noisy = {name: (value or 0) + generator.gauss(0, 1) for name, value in metrics.items()}
                curve = [[step, 0.3 + 0.1 * number + 2 * math.exp(-step / 60) + generator.gauss(0, 0.03)]
                         for step in range(0, 400, 10)]
                names = {plot["curve"] for plot in CLAIMS["plots"].values()
                         if plot["experiment"] == experiment and "curve" in plot}
                write_run(folder, experiment, arm, seed, noisy, curves={name: curve for name in names})
