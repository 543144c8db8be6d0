"""The command `norma` itself: help, version, unknown commands, exit codes."""

import json
import re
import subprocess

import pytest

from oracle import NORMA, ROOT

COMMANDS = ["apply", "bench", "check", "choose", "explain", "lab", "picture", "version"]


def run(*arguments):
    return subprocess.run([NORMA, *arguments], capture_output=True, text=True, timeout=60)


def header_version():
    text = (ROOT / "include" / "norma.h").read_text()
    return ".".join(re.search(rf"#define NORMA_VERSION_{part} (\d+)", text)[1] for part in ("MAJOR", "MINOR", "PATCH"))


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_lists_every_command(word):
    done = run(word)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^  (\w+) ", done.stdout, re.MULTILINE) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help(command):
    done = run(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"norma {command} " in done.stdout.splitlines()[0]


def test_version_is_the_headers():
    assert run("--version").stdout == f"norma {header_version()}\n"
    done = run("version")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"norma {header_version()}"
    facts = json.loads(run("version", "--json").stdout)
    assert facts["version"] == header_version()
    assert lines[1:] == [f"compiler: {facts['compiler']}", f"instruction set: {facts['instruction_set']}"]


@pytest.mark.parametrize("typed, meant", [("chek", "check"), ("aply", "apply"), ("explan", "explain"),
                                          ("pictures", "picture"), ("verison", "version")])
def test_a_misspelt_command_is_recognized(typed, meant):
    done = run(typed)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"norma: '{typed}' is no command; did you mean 'norma {meant}'?\n"


@pytest.mark.parametrize("arguments", [[], ["frobnicate-the-tensor"], [""], ["version", "--frob"]])
def test_wrong_arguments_are_one_line_and_exit_2(arguments):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("norma") and done.stderr.count("\n") == 1


PRINTING = [["--help"], ["--version"], ["version", "--json"], ["picture", "--json"], ["apply", "--help"],
            ["explain", "LayerNorm", "8", "8"], ["explain", "--json", "LayerNorm", "8", "8"],
            ["check", "layer:n2,d4"], ["check", "--json", "layer:n2,d4"], ["check", "--random", "3"],
            ["bench", "--repeats", "1", "layer:n2,d4"]]


@pytest.mark.parametrize("arguments", PRINTING)
@pytest.mark.parametrize("where", [">&-", ">/dev/full"])
def test_a_standard_output_that_refuses_is_an_error(arguments, where):
    done = subprocess.run(["sh", "-c", f'"$@" {where}', "sh", NORMA, *arguments], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 2
    assert "cannot write to standard output" in done.stderr and done.stderr.count("\n") == 1


def test_a_closed_standard_output_is_not_taken_for_a_file(tmp_path):
    """The first file that is opened would be number 1, and the summary would go into it."""
    subprocess.run(["sh", "-c", f'"{NORMA}" picture -o a.svg >&-'], cwd=tmp_path, stderr=subprocess.DEVNULL, timeout=60)
    assert run("picture", "-o", tmp_path / "b.svg").returncode == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("arguments", [["a\nb\x1b[31m"], ["check", "layer:n2,\x1b[2J=1"], ["explain", "x\ny"],
                                       ["apply", "n\n[c]", "x"], ["picture", "--lang", "\r"], ["x" * 100000],
                                       ["picture", "-o", "y" * 100000], ["explain", "[" * 100000, "2", "3"]])
def test_what_was_typed_cannot_break_the_line_or_the_terminal(arguments):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and done.stderr[:-1].isprintable() and len(done.stderr) < 1200
