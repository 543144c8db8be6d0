"""norma apply: the text of every error, and that a failure leaves every file as it was."""

import os
import pty
import resource
import select
import signal
import subprocess

import numpy as np
import pytest

from oracle import NORMA, apply, norma


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    for name, shape in {"x": (2, 8, 4, 4), "dy": (2, 8, 4, 4), "g": (8,), "six": (6,), "nc": (2, 8), "cn": (8, 2),
                        "units": (2, 4), "one": (), "wide": (2, 8, 4, 5), "s6": (2, 6, 4, 4), "line": (8,)}.items():
        np.save(f"{name}.npy", rng.uniform(1, 2, shape).astype(np.float32))
    np.save("x64.npy", np.zeros((2, 8, 4, 4)))
    np.save("negative.npy", np.full(8, -1, np.float32))
    np.save("empty.npy", np.zeros((0, 8, 4, 4), np.float32))
    np.save("single.npy", np.zeros((1, 8), np.float32))
    with open("y.npy", "w") as file:
        file.write("untouched")


def state():
    return {name: open(name, "rb").read() if os.path.isfile(name) else None for name in os.listdir()}


def refused(words, command, **options):
    """The command fails with one line that has these words, and no file is new or different."""
    before = state()
    done = norma(*command, **options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("norma apply: ") and done.stderr.count("\n") == 1
    assert words in done.stderr
    assert state() == before


OUT = ["-o", "y.npy"]
GROUP = ["group", "--groups", "2", "x.npy", *OUT]
BATCH = ["batch", "x.npy", *OUT]
ADAIN = ["adain", "x.npy", *OUT, "--style"]
RUN = ["--running-mean", "g.npy", "--running-var", "g.npy"]
SAVE = ["--save-running-mean", "a.npy", "--save-running-var", "b.npy"]

ARGUMENTS = [
    ("needs LAYER INPUT -o OUTPUT", []),
    ("needs LAYER INPUT -o OUTPUT", ["batch", *OUT]),
    ("unknown layer 'bach': batch, instance, group, layer, rms, adain or a pattern", ["bach", "x.npy", *OUT]),
    ("unknown option --wieght", [*BATCH, "--wieght", "g.npy"]),
    ("--weight needs a value: --weight FILE", [*BATCH, "--weight"]),
    ("--weight has an empty value", [*BATCH, "--weight="]),
    ("--bias needs a value, but the option -o follows", [*BATCH[:-2], "--bias", *OUT]),
    ("'x.npy' stands where the layer should", ["x.npy", "batch", *OUT]),
    ("INPUT is an empty name", ["batch", "", *OUT]),
    ("--json takes no value", [*BATCH, "--json=1"]),
    ("--eps is given twice", [*BATCH, "--eps", "1", "--eps", "1"]),
    ("--groups has no meaning for the layer 'batch'", [*BATCH, "--groups", "2"]),
    ("--axes has no meaning for the layer 'batch'", [*BATCH, "--axes", "1"]),
    ("--sizes has no meaning for the layer 'batch'", [*BATCH, "--sizes", "g=2"]),
    ("--style has no meaning for the layer 'batch'", [*BATCH, "--style", "x.npy"]),
    ("--weight has no meaning for the layer 'adain'", [*ADAIN, "x.npy", "--weight", "g.npy"]),
    ("--mean has no meaning for the layer 'rms'", ["rms", "x.npy", "--mean", "g.npy", "--var", "g.npy", *OUT]),
    ("--update has no meaning for the layer 'group'", [*GROUP, "--update"]),
    ("group norm needs --groups G", ["group", "x.npy", *OUT]),
    ("adain needs --style FILE", ["adain", "x.npy", *OUT]),
    ("--weight needs --affine LIST", ["n c [h w]", "x.npy", "--weight", "g.npy", *OUT]),
    ("--plus-one needs --weight", [*BATCH, "--plus-one"]),
    ("--mean needs --var", [*BATCH, "--mean", "g.npy"]),
    ("--var needs --mean", [*BATCH, "--var", "g.npy"]),
    ("--mean and --running-mean exclude each other", [*BATCH, "--mean", "g.npy", "--var", "g.npy", *RUN]),
    ("--mean and --update exclude each other", [*BATCH, "--mean", "g.npy", "--var", "g.npy", "--update"]),
    ("--running-mean needs --running-var", [*BATCH, "--running-mean", "g.npy"]),
    ("--running-var needs --running-mean", [*BATCH, "--running-var", "g.npy"]),
    ("--save-running-mean needs --update", [*BATCH, *RUN, *SAVE]),
    ("--momentum needs --update", [*BATCH, *RUN, "--momentum", "0.1"]),
    ("--save-running-mean needs --running-mean", [*BATCH, "--update", *SAVE]),
    ("--update needs --running-mean FILE or --running-var FILE", [*BATCH, "--update"]),
    ("--running-mean with --update needs --save-running-mean FILE", [*BATCH, *RUN, "--update"]),
    ("--running-var with --update needs --save-running-var FILE", [*BATCH, *RUN, "--update", *SAVE[:2]]),
    ("--convention is 'keras'; it must be one of pytorch, onnx, cumulative",
     [*BATCH, *RUN, *SAVE, "--update", "--convention", "keras"]),
    ("--not-finite is 'keep'; it must be one of store, refuse, skip",
     [*BATCH, *RUN, *SAVE, "--update", "--not-finite", "keep"]),
    ("--convention cumulative needs --batches B", [*BATCH, *RUN, *SAVE, "--update", "--convention", "cumulative"]),
    ("--convention cumulative has no --momentum",
     [*BATCH, *RUN, *SAVE, "--update", "--convention=cumulative", "--batches=2", "--momentum=0.1"]),
    ("--batches needs --convention cumulative", [*BATCH, *RUN, *SAVE, "--update", "--batches", "2"]),
    ("--batches is '0'; it must be an integer of at least 1",
     [*BATCH, *RUN, *SAVE, "--update", "--convention=cumulative", "--batches=0"]),
    ("--momentum is 0; it must be in (0, 1]", [*BATCH, *RUN, *SAVE, "--update", "--momentum", "0"]),
    ("momentum", [*BATCH, *RUN, *SAVE, "--update", "--momentum", "1.5"]),
    ("--dx needs --dy", [*BATCH, "--dx", "dx.npy"]),
    ("no gradient is asked for: --dx, --dweight or --dbias", [*BATCH, "--dy", "dy.npy"]),
    ("no gradient is asked for: --dx or --dstyle", [*ADAIN, "x.npy", "--dy", "dy.npy"]),
    ("nothing to write", ["batch", "x.npy"]),
    ("-o y.txt: the name must end in .npy or .png", ["batch", "x.npy", "-o", "y.txt"]),
    ("--dx dx.png: the name must end in .npy", [*BATCH, "--dy", "dy.npy", "--dx", "dx.png"]),
    ("--eps is 'small'; it must be a finite number", [*BATCH, "--eps", "small"]),
    ("--eps is 'nan'; it must be a finite number", [*BATCH, "--eps", "nan"]),
    ("eps", [*BATCH, "--eps=-1"]),
    ("--ddof is '2'; it must be one of 0, 1", [*BATCH, "--ddof", "2"]),
    ("--groups is '0'; it must be an integer of at least 1", ["group", "--groups", "0", "x.npy", *OUT]),
    ("--groups is '2.5'", ["group", "--groups", "2.5", "x.npy", *OUT]),
    ("--groups is '99999999999999999999'", ["group", "--groups", "99999999999999999999", "x.npy", *OUT]),
    ("group on x.npy (2, 8, 4, 4): ", ["group", "--groups", "3", "x.npy", *OUT]),
    ("--axes has 4; the input has 4 dimensions: 0 to 3 or -4 to -1", ["layer", "x.npy", "--axes", "4", *OUT]),
    ("--axes '1,-3' names a dimension twice", ["layer", "x.npy", "--axes", "1,-3", *OUT]),
    ("--axes is 'c'; it must be dimensions such as 1,2 or -1", ["layer", "x.npy", "--axes", "c", *OUT]),
    ("--axes is '1,'", ["layer", "x.npy", "--axes", "1,", *OUT]),
    ("n c [h w on x.npy (2, 8, 4, 4): ", ["n c [h w", "x.npy", *OUT]),
    ("n c [h w] on line.npy (8,): ", ["n c [h w]", "line.npy", *OUT]),
    ("instance on x.npy (2, 8, 4, 4): ", ["instance", "x.npy", "--affine", "z", *OUT]),
]


@pytest.mark.parametrize("words, command", ARGUMENTS, ids=[words for words, _ in ARGUMENTS])
def test_wrong_arguments(words, command):
    refused(words, command)


FILES = [
    ("none.npy: cannot be opened: No such file or directory", ["batch", "none.npy", *OUT]),
    ("one.npy: has 0 dimensions; a tensor has at least 1", ["batch", "one.npy", *OUT]),
    ("nc.npy: has 2 dimensions; --channels-last needs a batch, positions and channels",
     ["batch", "nc.npy", "--channels-last", *OUT]),
    ("six.npy: weight has 6 elements, the layer has 8 (pattern axis c)", [*BATCH, "--weight", "six.npy"]),
    ("six.npy: bias has 6 elements, the layer has 8 (pattern axes g k)", [*GROUP, "--bias", "six.npy"]),
    ("cn.npy: weight has shape (8, 2), the layer has (2, 8) (pattern axes n c)",
     ["instance", "x.npy", "--affine", "n c", "--weight", "cn.npy", *OUT]),
    ("g.npy: mean has 8 elements, the layer has 4 (pattern axes n g)", [*GROUP, "--mean", "g.npy", "--var", "g.npy"]),
    ("units.npy: var has shape (2, 4), the layer has (8,) (pattern axis c)",
     [*BATCH, "--mean", "g.npy", "--var", "units.npy"]),
    ("six.npy: running mean has 6 elements, the layer has 8 (pattern axis c)",
     ["instance", "x.npy", *OUT, "--running-mean", "six.npy", "--running-var", "g.npy"]),
    ("x64.npy: is f64, x.npy is f32; --dy must have the type of INPUT", [*BATCH, "--dy", "x64.npy", "--dx", "dx.npy"]),
    ("x64.npy: is f64, x.npy is f32; --style must have the type of INPUT", [*ADAIN, "x64.npy"]),
    ("wide.npy: has shape (2, 8, 4, 5), INPUT has (2, 8, 4, 4); --dy must have the shape of INPUT",
     [*BATCH, "--dy", "wide.npy", "--dx", "dx.npy"]),
    ("line.npy: has 1 dimensions; a style has a batch and channels", [*ADAIN, "line.npy"]),
    ("adain on x.npy (2, 8, 4, 4): ", [*ADAIN, "s6.npy"]),
    ("batch on x.npy (2, 8, 4, 4): ", [*BATCH, "--mean", "g.npy", "--var", "negative.npy"]),
    ("batch on single.npy (1, 8): ", ["batch", "single.npy", "--refuse-single", *OUT]),
    ("missing/y.npy: cannot be written: No such file or directory", ["batch", "x.npy", "-o", "missing/y.npy"]),
    ("x.npy/y.npy: cannot be written: Not a directory", ["batch", "x.npy", "-o", "x.npy/y.npy"]),
    ("./y.npy: two outputs would be written to this file", [*BATCH, "--save-mean", "./y.npy"]),
]


@pytest.mark.parametrize("words, command", FILES, ids=[words for words, _ in FILES])
def test_wrong_files(words, command):
    refused(words, command)


def test_an_empty_batch_is_no_error():
    apply("batch", "empty.npy", "-o", "z.npy", "--dy", "empty.npy", "--dweight", "dg.npy", *RUN, "--update", *SAVE)
    assert np.load("z.npy").shape == (0, 8, 4, 4)
    assert (np.load("dg.npy") == 0).all() and (np.load("a.npy") == np.load("g.npy")).all()


def test_help_names_every_rule():
    text = apply("--help")
    for word in ["LAYER", "--channels-last", "ml_dtypes.bfloat16", "--range LO,HI", "smallest and the largest", "%d",
                 "--convention NAME", "clamped", "Exit code"]:
        assert word in text
    assert max(map(len, text.splitlines())) <= 110


# ------------------------------------------------------------------------------------------------- all files or none


def test_all_outputs_or_none():
    """The second output cannot be made: the first one is not there either."""
    os.mkdir("closed")
    os.mkdir("folder.npy")
    refused("folder.npy: exists and is not a regular file", [*BATCH, "--save-mean", "folder.npy"])
    os.mkfifo("pipe.npy")
    before = sorted(os.listdir())
    assert norma(*BATCH, "--save-mean", "pipe.npy").stderr.endswith("pipe.npy: exists and is not a regular file\n")
    assert sorted(os.listdir()) == before
    os.remove("pipe.npy")
    os.symlink("nowhere", "dangling.npy")
    refused("dangling.npy: cannot be written: No such file", ["batch", "x.npy", "-o", "dangling.npy"])
    if os.geteuid() != 0:  # root may write everywhere
        os.chmod("closed", 0o500)
        refused("closed/m.npy: cannot be written: no new file in its folder: Permission denied",
                [*BATCH, "--save-mean", "closed/m.npy"])


def test_a_full_disk_leaves_the_old_file():
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    refused("y.npy: cannot be written: File too large; nothing was changed",
            [*BATCH, "--save-mean", "m.npy"], preexec_fn=limit)


def test_outputs_are_complete_before_the_first_is_renamed():
    """y is small enough and already written when the gradient of the style is not: y does not appear."""
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    np.save("content.npy", np.ones((1, 1, 4), np.float32))
    np.save("style.npy", np.ones((1, 1, 500), np.float32))
    refused("ds.npy: cannot be written: File too large",
            ["adain", "content.npy", "--style", "style.npy", *OUT, "--dy", "content.npy", "--dstyle", "ds.npy"],
            preexec_fn=limit)


def test_outputs_that_replace_what_was_read():
    words = ["batch", "x.npy", "--weight", "g.npy", "--dy", "dy.npy"]
    apply(*words, "-o", "z.npy", "--dx", "dx.npy", "--dweight", "dg.npy")
    apply(*words, "-o", "x.npy", "--dx", "dy.npy", "--dweight", "g.npy")
    for ours, expected in (("x.npy", "z.npy"), ("dy.npy", "dx.npy"), ("g.npy", "dg.npy")):
        assert (np.load(ours) == np.load(expected)).all()


def test_a_symbolic_link_stays_one():
    os.mkdir("other")
    os.rename("y.npy", "other/real.npy")
    os.symlink("other/real.npy", "y.npy")
    refused("two outputs would be written to this file", [*BATCH, "--save-mean", "other/real.npy"])
    apply(*BATCH)
    assert os.path.islink("y.npy") and np.load("other/real.npy").shape == (2, 8, 4, 4)
    assert os.listdir("other") == ["real.npy"]


def large():
    np.save("large.npy", np.zeros((1, 1, 48 << 20), np.int8).view(np.float32).reshape(1, 1, -1))


def interrupted():
    """Sends SIGINT once a temporary file is there; whether that ended the command."""
    process = subprocess.Popen([NORMA, "apply", "batch", "large.npy", *OUT], stdout=subprocess.DEVNULL)
    while process.poll() is None and not any(name.startswith(".norma-") for name in os.listdir()):
        pass
    process.send_signal(signal.SIGINT)
    return process.wait(30) == -signal.SIGINT


def test_a_signal_removes_the_temporary_files():
    large()
    before = state()
    for _ in range(20):  # on a busy machine the output may be there before the signal is
        ended = interrupted()
        after = state()
        assert set(after) == set(before)
        if ended and after == before:
            return
        assert np.load("y.npy").shape == np.load("large.npy").shape
        with open("y.npy", "w") as file:
            file.write("untouched")
    pytest.fail("the command always ended before the signal")


def test_progress_on_a_terminal_only():
    try:
        ours, theirs = pty.openpty()
    except OSError as error:
        pytest.skip(f"no pseudo-terminal can be opened here: {error}")
    large()
    process = subprocess.Popen([NORMA, "apply", "batch", "large.npy", *OUT], stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    seen = b""
    while process.poll() is None or select.select([ours], [], [], 0)[0]:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                seen += os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
    os.close(ours)
    assert process.wait(30) == 0
    for words in (b"reading large.npy ", b"computing large.npy ", b"writing y.npy ", b" 50 %"):
        assert words in seen
    assert seen.endswith(b"\r\033[K")
    assert apply("batch", "large.npy", *OUT).count("\n") == 2  # and nothing on stderr, which is no terminal here


def test_memory_is_that_of_the_tensors():
    """x and y, then x, y, dy and dx, and little more."""
    large()
    tensor = os.path.getsize("large.npy")
    for words, tensors in ((OUT, 2), ([*OUT, "--dy", "large.npy", "--dx", "dx.npy"], 4)):
        command = ["sh", "-c", 'ulimit -d "$1"; shift; exec "$@"', "sh", str((tensors * tensor + (16 << 20)) // 1024)]
        done = subprocess.run([*command, NORMA, "apply", "batch", "large.npy", *words], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        command[-1] = str((tensors * tensor - (16 << 20)) // 1024)  # so that the limit is one
        done = subprocess.run([*command, NORMA, "apply", "batch", "large.npy", *words], capture_output=True, text=True)
        assert done.returncode == 2 and "no memory" in done.stderr
