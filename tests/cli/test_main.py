"""The command `norma` itself: help, version, unknown commands, exit codes."""

import json
import re
import subprocess

import pytest

from oracle import NORMA, ROOT

COMMANDS = ["apply", "check", "explain", "picture", "version"]


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
