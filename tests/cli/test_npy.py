"""The .npy reader and writer: every type, order and version that is taken, and the text for what is not."""

import os
import stat

import numpy as np
import pytest

from oracle import TYPES, apply, norma, numbers, save

# With these statistics a layer changes nothing: y is x, so the file that comes out shows what was read.
IDENTITY = ["batch", "--eps", "0", "--mean", "zeros.npy", "--var", "ones.npy", "-o", "y.npy"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("zeros.npy", np.zeros(3, np.float32))
    np.save("ones.npy", np.ones(3, np.float32))


def raw(header, data=b"", version=(1, 0), magic=b"\x93NUMPY", length=None):
    """A file with this header text and nothing corrected."""
    header = header.encode() if isinstance(header, str) else header
    size = 2 if version[0] == 1 else 4
    length = (len(header) if length is None else length).to_bytes(size, "little")
    with open("x.npy", "wb") as file:
        file.write(magic + bytes(version) + length + header + data)


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n"
DATA = np.arange(6, dtype="<f4").tobytes()


def refused(*words):
    """x.npy is refused in one line that has these words, and nothing is written."""
    before = sorted(os.listdir())
    done = norma(*IDENTITY, "x.npy")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("norma apply: x.npy: ") and done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", TYPES)
def test_every_type_and_order_comes_back(kind, order):
    x = save("x.npy", np.random.default_rng(1).normal(size=(4, 3, 5)), kind, order)
    np.save("zeros.npy", np.zeros(3))
    apply(*IDENTITY, "x.npy")
    y = np.load("y.npy")
    assert (numbers(y) == x).all()
    with open("x.npy", "rb") as before, open("y.npy", "rb") as after:
        assert before.read(10) == after.read(10)
        header = eval(before.read(118).replace(b"|V2", b"<V2"))  # NumPy alone knows no bfloat16 and no order of bytes
        assert eval(after.read(118)) == header


def test_bfloat16_is_written_as_ml_dtypes_writes_it():
    save("x.npy", np.ones((2, 3)), "bf16")
    apply(*IDENTITY, "x.npy")
    with open("y.npy", "rb") as file:
        assert file.read().startswith(b"\x93NUMPY\x01\0v\0{'descr': '<V2', 'fortran_order': False, 'shape': (2, 3), }")


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_versions(version):
    raw(HEADER, DATA, version)
    apply(*IDENTITY, "x.npy")
    assert (np.load("y.npy") == np.arange(6).reshape(2, 3)).all()


@pytest.mark.parametrize("header", [
    "{'shape': (2, 3), 'fortran_order': False, 'descr': '<f4'}",
    '{"descr": "<f4", "fortran_order": False, "shape": (2,3)}',
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }   \n",
    "{ 'descr' : '<f4' ,\n'fortran_order' : False , 'shape' : ( 2 , 3 , ) }",
])
def test_the_same_header_in_other_words(header):
    raw(header, DATA)
    apply(*IDENTITY, "x.npy")
    assert (np.load("y.npy") == np.arange(6).reshape(2, 3)).all()


def test_empty_and_large_shapes():
    np.save("x.npy", np.zeros((0, 3, 4), np.float32))
    apply(*IDENTITY, "x.npy")
    assert np.load("y.npy").shape == (0, 3, 4)
    np.save("x.npy", np.random.default_rng(0).normal(size=(1, 3, 1, 1, 2, 1, 1, 1)))
    apply(*IDENTITY, "x.npy")
    assert (np.load("y.npy") == np.load("x.npy")).all()


def test_numpy_reads_what_is_written_for_every_length_of_shape():
    for ndim in range(2, 9):
        np.save("x.npy", np.arange(3 * 2.0 ** (ndim - 2), dtype="f4").reshape(1, 3, *[2] * (ndim - 2)))
        apply(*IDENTITY, "x.npy")
        assert os.path.getsize("y.npy") % 64 == os.path.getsize("x.npy") % 64
        assert (np.load("y.npy") == np.load("x.npy")).all()


@pytest.mark.parametrize("array, words", [
    (np.zeros((2, 3), np.int32), ["integers ('<i4')", "a.astype(np.float32)"]),
    (np.zeros((2, 3), np.uint8), ["unsigned integers ('|u1')", "a.astype(np.float32) / 255"]),
    (np.zeros((2, 3), bool), ["booleans ('|b1')"]),
    (np.zeros((2, 3), complex), ["complex numbers ('<c16')"]),
    (np.zeros((2, 3), "S4"), ["strings ('|S4')"]),
    (np.zeros((2, 3), "U4"), ["strings ('<U4')"]),
    (np.zeros((2, 3), "M8[s]"), ["dates or times ('<M8[s]')"]),
    (np.zeros((2, 3), object), ["Python objects ('|O')"]),
    (np.zeros((2, 3), "V1"), ["something else ('|V1')"]),
    (np.zeros((2, 3), ">f4"), ["byte order of '>f4'", "a.astype('<f4')"]),
    (np.zeros((2, 3), ">f8"), ["byte order of '>f8'", "a.astype('<f8')"]),
    (np.zeros((2, 3), [("a", "f4"), ("b", "f4")]), ["structured array", "np.save(path, a['field'])"]),
])
def test_other_types_are_refused(array, words):
    np.save("x.npy", array, allow_pickle=True)
    refused(*words)


@pytest.mark.parametrize("header, words", [
    ("", "not a dictionary"),
    ("(2, 3)", "not a dictionary"),
    ("{}", "lacks 'descr'"),
    ("{'descr': '<f4', 'shape': (2, 3)}", "lacks 'fortran_order'"),
    ("{'descr': '<f4', 'fortran_order': False}", "lacks 'shape'"),
    (HEADER.replace("}", "'extra': 1}"), "unknown key 'extra'"),
    (HEADER.replace("}", "'shape': (2, 3)}"), "has 'shape' twice"),
    (HEADER.replace("False", "0"), "must be True or False"),
    (HEADER.replace("(2, 3)", "[2, 3]"), "must be a tuple"),
    (HEADER.replace("(2, 3)", "(6)"), "(3,) and not (3)"),
    (HEADER.replace("(2, 3)", "(-2, 3)"), "sizes >= 0"),
    (HEADER.replace("(2, 3)", "(2 3)"), "sizes >= 0"),
    (HEADER.replace("(2, 3)", "(2.0, 3)"), "sizes >= 0"),
    (HEADER.replace("(2, 3)", "(2, 3"), "sizes >= 0"),
    (HEADER.replace("(2, 3)", "(1,1,1,1,1,1,1,2,3)"), "more than 8 dimensions"),
    (HEADER.replace("(2, 3)", "(99999999999999999999, 3)"), "too large"),
    (HEADER.replace("(2, 3)", "(4611686018427387904, 4, 0)"), "larger than memory"),
    (HEADER.replace("(2, 3)", "(3037000500, 3037000500)"), "larger than memory"),
    (HEADER.replace("(2, 3)", "(2305843009213693951,)"), "cut short"),
    (HEADER.replace("'<f4'", "'f4'"), "something else ('f4')"),
    (HEADER.replace("'<f4'", "'<f3'"), "floating point numbers of another size ('<f3')"),
    (HEADER.replace("'<f4'", "''"), "something else ('')"),
    (HEADER.replace("'<f4'", "4"), "'descr' must be a string"),
    (HEADER.replace("'<f4'", "'" + "f" * 500 + "'"), "'descr' must be a string"),
    (HEADER.replace("'<f4'", "'<f4"), "floating point numbers of another size ('<f4, ')"),
    (HEADER.replace("descr", "de\\x73cr"), "damaged"),
    (HEADER.replace("}", ""), "damaged"),
    (HEADER.replace(": '<f4'", " '<f4'"), "damaged"),
    (HEADER.replace("}", "} + x"), "text after its end"),
    (HEADER.replace("<f4", "\x1b[2J\n"), "something else ('?[2J?')"),
    (HEADER.encode().replace(b"(2, 3)", b"(2,\0 3)"), "zero byte"),
])
def test_damaged_headers_are_refused(header, words):
    raw(header, DATA)
    refused(words)


@pytest.mark.parametrize("keep, words", [
    (0, "only 0 bytes"), (5, "only 5 bytes"), (7, "only 7 bytes"), (8, "ends in the .npy header"),
    (9, "ends in the .npy header"), (10, "ends in the .npy header"), (60, "ends in the .npy header"),
    (128, "shape (2, 3) of f32 needs 24 bytes of data, the file has 0"),
    (151, "shape (2, 3) of f32 needs 24 bytes of data, the file has 23"),
])
def test_truncated_files_are_refused(keep, words):
    np.save("x.npy", np.zeros((2, 3), np.float32))
    os.truncate("x.npy", keep)
    refused(words)


def test_more_data_than_the_shape_says_is_refused():
    raw(HEADER, DATA + b"\0")
    refused("has more data than its header says: shape (2, 3) of f32 needs 24 bytes of data, the file has 25")


def test_other_files_are_refused():
    raw(HEADER, DATA, magic=b"\x93NUMPZ")
    refused("not an .npy file (wrong first bytes)")
    raw(HEADER, DATA, version=(4, 0))
    refused(".npy version 4.0; norma reads 1.0, 2.0 and 3.0")
    raw(HEADER, DATA, version=(2, 0), length=2**32 - 1)
    refused("header of 4294967295 bytes")
    os.remove("x.npy")
    refused("cannot be opened: No such file or directory")
    os.mkdir("x.npy")
    refused("not a regular file")


def test_a_claim_of_much_data_costs_no_memory():
    raw(HEADER.replace("(2, 3)", f"({2**40}, 3)"), DATA)
    refused(f"shape ({2**40}, 3) of f32 needs {2**40 * 12} bytes of data, the file has 24")


def test_permissions_of_the_file_are_kept():
    np.save("x.npy", np.zeros((2, 3), np.float32))
    os.umask(0o022)
    apply(*IDENTITY, "x.npy")
    assert stat.S_IMODE(os.stat("y.npy").st_mode) == 0o644
    os.chmod("y.npy", 0o640)
    apply(*IDENTITY, "x.npy")
    assert stat.S_IMODE(os.stat("y.npy").st_mode) == 0o640
