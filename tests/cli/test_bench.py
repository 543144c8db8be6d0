"""norma bench: rows, JSON and errors; bench/compare; the rows of bench/workloads.txt. How long things take is never a
condition here."""

import json
import subprocess
import sys

import pytest

from oracle import NORMA, ROOT

sys.path.insert(0, str(ROOT / "bench"))
import bounds  # noqa: E402  (bench is no package)
import report  # noqa: E402
import workloads  # noqa: E402

QUICK = ["--repeats", "3"]


def bench(*arguments, **options):
    words = [NORMA, "bench", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, **options)


def rows_of(tmp_path, *arguments):
    path = tmp_path / "rows.json"
    done = bench("--json", path, *QUICK, *arguments)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return json.loads(path.read_text())["rows"]


def test_the_table_has_a_line_for_each_row():
    done = bench(*QUICK, "layer:n64,d100,dir=both", "batch:n3,c6,h5,w7,layout=nhwc,stats=given,dir=bwd")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[1].split()[:2] == ["problem", "threads"]
    problems = ["layer:n64,d100", "layer:n64,d100,dir=bwd,stats=saved",
                "batch:n3,c6,h5,w7,layout=channels_last,dir=bwd,stats=given"]
    assert [line.split()[0] for line in lines[2:5]] == problems
    assert len({len(line) for line in lines[2:5]}) == 1  # aligned
    for line in lines[2:5]:
        numbers = [float(word) for word in line.split()[1:]]
        assert len(numbers) == 12 and numbers[0] == 1 and all(number >= 0 for number in numbers)
    assert "stats=saved" in done.stdout.split("\n\n")[1]


def test_the_json_has_every_field(tmp_path):
    forward, backward = rows_of(tmp_path, "group:n2,c64,h8,w9,g=32,dir=both,type=bf16")
    assert (forward["direction"], backward["direction"]) == ("fwd", "bwd")
    for row, streams in ((forward, 2), (backward, 3)):
        assert (row["type"], row["threads"], row["repeats"], row["calls_per_repeat"]) == ("bf16", 1, 3, 1)
        assert row["bytes"] == streams * 2 * 64 * 8 * 9 * 2
        assert row["floor"]
        for what in ("norma", "floor", "memcpy"):
            assert 0 < row["seconds"][what]["min"] <= row["seconds"][what]["median"]
        seconds, ratio = row["seconds"], row["ratio"]
        assert ratio["paired"] > 0
        for key in ("min", "median"):
            assert ratio[key] == pytest.approx(seconds["norma"][key] / seconds["floor"][key])
        for what in ("norma", "floor"):
            assert row["gb_per_s"][what] == pytest.approx(row["bytes"] * 1e-9 / seconds[what]["median"])


def test_threads_come_from_the_string_or_the_option(tmp_path):
    problem = "layer:n300,d400,dir=both"
    assert [row["threads"] for row in rows_of(tmp_path, f"{problem},threads=3")] == [3, 3]
    rows = rows_of(tmp_path, "--threads", "1,2,4", f"{problem},threads=3")
    assert [row["threads"] for row in rows] == [1, 1, 2, 2, 4, 4]


@pytest.mark.parametrize("problem", [
    "layer:n3,d5", "batch:n4,c3,h5,inplace=1", "instance:n2,c3,h5,w4,layout=reverse,align=3,type=f16",
    "rms:n3,d7,type=f64,stats=given", "group:n2,c6,h5,g=2,layout=slice,out=nchw", "layer:n2,d9,affine=no",
    "norm:n4,c6,h5,pattern=[n] (g [k]) h,g=2,layout=transpose", "layer:n100,d400,inplace=1,align=1,workspace=1"])
def test_every_manner_runs(tmp_path, problem):
    assert len(rows_of(tmp_path, "--threads", "1,2", f"{problem},dir=both")) == 4


def test_short_calls_are_repeated(tmp_path):
    row, = rows_of(tmp_path, "--small", "layer:n1,d8")
    assert row["calls_per_repeat"] > 1
    row, = rows_of(tmp_path, "--small", "layer:n1,d8,inplace=1")
    assert row["calls_per_repeat"] == 1


def test_serve_answers_each_line():
    done = bench("--serve", "--threads", "2", "layer:n50,d400,dir=bwd", input="0.01\n0.02\n")
    assert (done.returncode, done.stderr) == (0, "")
    ready, *answers = done.stdout.splitlines()
    assert ready == "ready" and len(answers) == 2
    for answer in map(json.loads, answers):
        assert (answer["problem"], answer["threads"]) == ("layer:n50,d400,dir=bwd,stats=saved", 2)
        assert answer["repeats"] >= 3


@pytest.mark.parametrize("arguments, words", [
    ([], "a problem string is missing"),
    (["bach:n2,c3"], "'bach': no such layer"),
    (["layer:n2,d3", "layer:n2,d3,colour=red"], "colour=red: no such key"),
    (["group:n2,c6,w5,g=4"], "group:n2,c6,w5,g=4: groups is 4, which does not divide the 6 channels"),
    (["adain:n2,c3,h4"], "adain works on two tensors"),
    (["layer:n0,d5"], "no elements to stream"),
    (["layer:n3,d5,layout=broadcast"], "no elements to stream"),
    (["layer:n3,d5,layout=slice,inplace=1"], "bench needs a dense layout"),
    (["--threads", "0", "layer:n2,d3"], "--threads '0'"),
    (["--threads", "1,", "layer:n2,d3"], "--threads '1,'"),
    (["--threads", "65", "layer:n2,d3"], "--threads '65'"),
    (["--seconds", "-1", "layer:n2,d3"], "--seconds '-1'"),
    (["--seconds", "nan", "layer:n2,d3"], "--seconds 'nan'"),
    (["--repeats", "0", "layer:n2,d3"], "--repeats '0'"),
    (["--repeats"], "--repeats ''"),
    (["--json", "", "layer:n2,d3"], "--json"),
    (["--frob", "layer:n2,d3"], "--frob: no such option"),
    (["--serve", "layer:n2,d3,dir=both"], "--serve takes one problem"),
    (["--serve", "--json", "x", "layer:n2,d3"], "--serve prints JSON"),
])
def test_wrong_arguments_are_one_line_and_exit_2(arguments, words):
    done = bench(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("norma bench: ") and words in done.stderr
    assert done.stdout == "" or "g=4" in words  # the layer itself is made when its turn comes


def test_a_file_that_cannot_be_written_is_an_error(tmp_path):
    done = bench("--repeats", "1", "--json", tmp_path / "none" / "rows.json", "layer:n2,d3")
    assert done.returncode == 2 and "cannot be written: No such file" in done.stderr


def test_serve_refuses_what_is_no_number():
    done = bench("--serve", "layer:n2,d3", input="soon\n")
    assert done.returncode == 2 and "'soon': a number of seconds" in done.stderr


# ---------------------------------------------------------------------------------------------------- bench/compare ---

def compare(tmp_path, old, new, *options):
    """Runs bench/compare on files made of {problem: ratio}."""
    paths = []
    for name, ratios in (("old", old), ("new", new)):
        paths.append(tmp_path / f"{name}.json")
        rows = [{"problem": problem, "threads": 1, "ratio": {"median": ratio}} for problem, ratio in ratios.items()]
        paths[-1].write_text(json.dumps({"rows": rows}))
    return subprocess.run([sys.executable, ROOT / "bench/compare", *paths, *options], capture_output=True, text=True,
                          timeout=60)


def test_compare_flags_the_row_that_became_slower(tmp_path):
    old = {"layer:n2,d3": 1.2, "rms:n2,d3": 1.0, "batch:n2,c3": 2.0, "layer:n9,d9": 1.0}
    done = compare(tmp_path, old, {"layer:n2,d3": 1.5, "rms:n2,d3": 1.09, "batch:n2,c3": 1.0, "layer:n8,d8": 1.0})
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines() if line.endswith("SLOWER")] == ["layer:n2,d3"]
    assert sum("only in" in line for line in done.stdout.splitlines()) == 2
    assert "1 of 3 rows slower by more than 10 %" in done.stdout


def test_compare_has_a_threshold(tmp_path):
    old, new = {"layer:n2,d3": 1.0}, {"layer:n2,d3": 1.2}
    assert compare(tmp_path, old, new, "--threshold", "25").returncode == 0
    assert compare(tmp_path, old, new, "--threshold", "15").returncode == 1


def test_compare_takes_what_bench_writes_and_refuses_the_rest(tmp_path):
    rows_of(tmp_path, "layer:n2,d3")
    path = tmp_path / "rows.json"
    command = [sys.executable, ROOT / "bench/compare"]
    assert subprocess.run([*command, path, path], capture_output=True, timeout=60).returncode == 0
    path.write_text("{}")
    done = subprocess.run([*command, path, path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1


# -------------------------------------------------------------------------------------------------- workloads.txt ---

def test_the_summary_is_of_rows_that_both_have():
    def row(direction, norma, **peers):
        return {"direction": direction, "threads": 2, "seconds": {"norma": {"median": norma}},
                "peers": {name: {"median": seconds} for name, seconds in peers.items()}}
    rows = [row("fwd", 1, torch=2), row("fwd", 1, torch=8), row("fwd", 4, torch=2, onednn=4), row("bwd", 1, onednn=3)]
    text = report.summary({"machine": {"peers": {"torch": "", "onednn": ""}}, "rows": rows})
    assert text == ["norma beside PyTorch, threads 2: 2.00 times as fast fwd, slower on 1 of 3 rows",
                    "norma beside oneDNN, threads 2: 1.00 times as fast fwd, slower on 0 of 1 rows; "
                    "3.00 times as fast bwd, slower on 0 of 1 rows"]


def test_the_rows_can_be_read():
    rows = workloads.read()
    assert len(rows) > 100 and len({row.name for row in rows}) == len(rows)
    assert len({row.problem for row in rows}) == len(rows)
    assert 10 <= sum(row.quick for row in rows) <= 30
    for row in rows:
        problem = workloads.take_apart(row.problem)
        assert problem.layout and ("bwd" in row.name) == problem.backward
        if row.target.endswith("xf32"):
            assert workloads.float32_twin(row.problem) in {other.problem for other in rows}


def test_the_command_knows_the_strings():
    """One element of each dimension is enough to see that kind, keys and names are right."""
    for row in workloads.read():
        p = workloads.take_apart(row.problem)
        keys = {**p.keys, **({"g": 1} if "g" in p.keys else {})}
        small = f"{p.kind}:" + ",".join([f"{name}1" for name in p.names] + [f"{k}={v}" for k, v in keys.items()])
        done = bench("--repeats", "1", small)
        assert (done.returncode, done.stderr) == (0, ""), small


def test_the_work_of_a_row_is_the_same_layer_with_fewer_units():
    for row in workloads.read():
        p, small = workloads.take_apart(row.problem), workloads.take_apart(bounds.in_cache(row.problem, 2**20))
        assert (small.kind, small.names, small.keys) == (p.kind, p.names, p.keys)
        assert bounds.tensor_bytes(small, small.shape) <= 2**20
        assert all(1 <= less <= length for less, length in zip(small.shape, p.shape))
    assert bounds.in_cache("layer:n4096,d768,dir=bwd", 2**20) == "layer:n64,d768,dir=bwd"
    assert bounds.in_cache("layer:n4,d768", 2**20) == "layer:n4,d768"


def test_what_bounds_a_row_is_printed_and_written(tmp_path):
    command = [sys.executable, ROOT / "bench/bounds.py", "--rounds", "1", "--seconds", "0.01", "--rows"]
    done = subprocess.run([*command, r"\(4096,768\) fwd", "-o", tmp_path / "bounds.md"], capture_output=True, text=True,
                          timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    name, *numbers = done.stdout.splitlines()[-3].rsplit(maxsplit=5)
    floor, work, time, of_longer, of_both = map(float, numbers)
    assert name == "layer (4096,768) fwd" and min(floor, work, time) > 0
    assert abs(of_longer - time / max(floor, work)) < 0.05 and abs(of_both - time / (floor + work)) < 0.05
    assert "| layer (4096,768) fwd |" in (tmp_path / "bounds.md").read_text()
    done = subprocess.run([*command, "no such row"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "no row matches 'no such row'" in done.stderr


@pytest.mark.parametrize("arguments", [["--rows", r"layer \(1,768\)", "--peers", "", "--rounds", "2"]])
def test_the_driver_writes_its_files(tmp_path, arguments):
    done = subprocess.run([sys.executable, ROOT / "bench/run.py", "--seconds", "0.01", "-o", tmp_path, *arguments],
                          capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    results = json.loads((tmp_path / "bench.json").read_text())
    assert {"cpu", "caches", "cores", "memory", "kernel", "norma", "date"} <= set(results["machine"])
    assert {"compiler", "instruction_set", "version"} <= set(results["machine"]["norma"])
    assert [(row["name"], row["threads"]) for row in results["rows"]] == [
        ("layer (1,768) fwd", 1), ("layer (1,768) bwd", 1), ("layer (1,768) fwd", 2), ("layer (1,768) bwd", 2)]
    assert "| layer (1,768) fwd | 2 |" in (tmp_path / "bench.md").read_text()
