"""norma check: problem strings, the random sweep, the table of docs/accuracy.md."""

import json
import re
import subprocess

import pytest

from oracle import NORMA, ROOT

TYPES = ["f32", "f64", "f16", "bf16"]
LAYERS = ["batch:n3,c6,h5,w7", "layer:n3,t5,d67", "layer:n3,c6,h5,w7,axes=c", "instance:n3,c6,h5,w7",
          "group:n3,c6,h5,w7,g=3", "rms:n3,t5,d67", "adain:n3,c6,h5,w7,style=4x9,eps2=0,alpha=0.75",
          "norm:n3,c6,h5,w7,pattern=[n] (g [k]) [h] w,g=2,affine=g w", "group:n3,c6,h5,w7,g=2,affine=n g k,plus_one=1",
          "batch:n3,c6,h5,w7,act=relu", "layer:n3,t5,d67,act=gelu"]
OUTPUTS = {"fwd": ["y", "mean", "var", "rstd"], "bwd": ["dx", "dweight", "dbias"]}


def check(*arguments):
    return subprocess.run([NORMA, "check", *arguments], capture_output=True, text=True, timeout=300)


def passes(*problems):
    """The parsed JSON of problems that must pass."""
    done = check("--json", *problems)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_passes(layer, kind):
    report = passes(f"{layer},type={kind},dir=both,data=offset:1e2,seed=3")[0]
    names = [tensor["name"] for tensor in report["tensors"]]
    if layer.startswith("adain"):
        assert names == ["y", "dx", "dstyle"]
    elif layer.startswith("rms"):
        assert names == ["y", "mean", "var", "rstd", "dx", "dweight"]
    else:
        assert names == OUTPUTS["fwd"] + OUTPUTS["bwd"]
    for tensor in report["tensors"]:
        assert tensor["pass"] and tensor["ratio"] <= 1 and tensor["error"] <= tensor["bound"]


@pytest.mark.parametrize("layer", LAYERS)
def test_layout_alignment_and_threads_do_not_change_the_checksum(layer):
    manners = ["", "layout=nhwc", "layout=slice", "layout=reverse", "layout=transpose", "layout=slice,out=nhwc",
               "inplace=1", "layout=nhwc,inplace=1,align=7", "threads=3", "align=1", "workspace=1"]
    problems = [f"{layer},dir=both,data=scale:1e3{',' if manner else ''}{manner}" for manner in manners]
    assert len({report["checksum"] for report in passes(*problems)}) == 1


@pytest.mark.parametrize("data", ["normal", "offset:1e7", "scale:1e-30", "constant:-3.3e9", "exact", "huge", "tiny",
                                  "outlier", "nan"])
def test_every_kind_of_data_passes(data):
    passes(*[f"{layer},dir=both,data={data}" for layer in LAYERS])


def test_text_and_json_say_the_same():
    problems = ["layer:n3,d20", "rms:n3,d20,type=f64,dir=bwd"]
    done = check(*problems)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    for report in passes(*problems):
        assert lines.pop(0) == report["problem"]
        for tensor in report["tensors"]:
            words = lines.pop(0).split()
            assert [words[i] for i in (0, 1, 3, 5, 7)] == [tensor["name"], "error", "bound", "ratio", "PASS"]
            for word, key in ((2, "error"), (4, "bound"), (6, "ratio")):
                assert float(words[word]) == pytest.approx(tensor[key], rel=0.05)
        assert lines.pop(0).split() == ["checksum", report["checksum"], "PASS"]
    assert lines == []


def test_the_canonical_string_gives_the_same_result():
    long, short = "group:g=2,n2,seed=4,c4,layout=nchw,w5,type=f16,dir=fwd", "group:n2,c4,w5,g=2,type=f16,seed=4"
    first, second = passes(long, short)
    assert first == second and first["problem"] == short


@pytest.mark.parametrize("arguments, words", [
    (["bach:n2,c3"], "'bach': no such layer; batch, layer, instance, group, rms, adain or norm"),
    (["batch:n2,c3,type=f31"], "type=f31: no such type; f32, f64, f16 or bf16"),
    (["layer:n3,d20", "batch:n2,c3,colour=red"], "colour=red: no such key"),
    (["group:n2,c6,w5,g=4"], "group:n2,c6,w5,g=4: groups is 4, which does not divide the 6 channels"),
    (["layer:n3,d20,eps=-1"], "layer:n3,d20,eps=-1: eps"),
    (["norm:n3,d20,pattern=n [d"], "does not close"),
    (["layer:n1000000,d1000000,t1000000"], "too many to allocate"),
    ([], "problem strings, --random N, --checksums N or --table"),
    (["--random"], "--random ''"),
    (["--random", "0"], "--random '0'"),
    (["--random", "5x"], "--random '5x'"),
    (["--random", "5", "layer:n3,d20"], "problem strings, --random N, --checksums N or --table"),
    (["--random", "5", "--checksums", "5"], "problem strings, --random N, --checksums N or --table"),
    (["--checksums"], "--checksums ''"),
    (["--checksums", "5", "--layout", "broadcast"], "--layout 'broadcast'"),
    (["--checksums", "5", "--layout"], "--layout ''"),
    (["--checksums", "5", "--threads", "65"], "--threads '65'"),
    (["--random", "5", "--layout", "slice"], "--layout, --threads and --align belong to --checksums"),
    (["--checksums", "5", "--json"], "no JSON form"),
    (["--seed", "3", "layer:n3,d20"], "--seed belongs to --random"),
    (["--table", "--json"], "no JSON form"),
    (["--frob"], "--frob: no such option"),
])
def test_wrong_arguments_are_one_line_and_exit_2(arguments, words):
    done = check(*arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stdout
    assert done.stderr.startswith("norma check: ") and done.stderr.count("\n") == 1
    assert words in done.stderr


def test_the_random_sweep_passes_and_can_be_repeated():
    done = check("--random", "2000", "--seed", "5")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "2000 problems of seed 5, 0 failed" in done.stdout
    report = json.loads(check("--random", "2000", "--seed", "5", "--json").stdout)
    assert (report["problems"], report["failures"]) == (2000, [])
    assert sum(entry["problems"] for entry in report["worst"]) == 2000
    assert {(entry["kind"], entry["type"]) for entry in report["worst"]} == {
        (kind, type_) for kind in ["batch", "layer", "instance", "group", "rms", "adain", "norm"] for type_ in TYPES}
    for entry in report["worst"]:  # each string alone reaches the ratio that the sweep reports
        again = passes(entry["problem"])[0]
        assert again["problem"] == entry["problem"]
        rounded = ("mean", "var", "rstd")
        assert max(t["ratio"] for t in again["tensors"] if t["name"] not in rounded) == entry["ratio"]


def test_the_help_knows_every_key_of_the_page():
    page = (ROOT / "docs" / "problem.md").read_text()
    help_text = check("--help").stdout
    cells = re.findall(r"^\|([^|]*)\| (?:all|group|layer|norm|adain)", page, re.MULTILINE)
    keys = re.findall(r"`(\w+)`", "".join(cells))
    assert len(keys) > 20
    for key in keys:
        assert f"{key}=" in help_text, key


def test_the_page_shows_the_table():
    done = check("--table")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    rows = done.stdout.splitlines()
    assert len(rows) == 2 + 8 * len(TYPES)
    assert done.stdout in (ROOT / "docs" / "accuracy.md").read_text()
