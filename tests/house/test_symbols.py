"""What the libraries export, what they need, and that they keep no state but the pool and the kernels chosen."""
import re

from conftest import BUILD, ROOT, run

SHARED = BUILD / "libnorma.so"
STATIC = BUILD / "libnorma.a"
# Global variables that may change: the state of the default pool (src/pool.c), the kernels (src/kernels/dispatch.c).
MUTABLE_ALLOWED = {"pool", "norma_chosen_kernels", "norma_stream_bytes"}


def symbols(*options):
    """(kind, name) of each line of nm that has both."""
    lines = [line.split() for line in run("nm", *options).splitlines()]
    return [(words[-2], words[-1]) for words in lines if len(words) >= 2 and len(words[-2]) == 1]


def declared():
    """The functions that the headers of libnorma declare; norma_mpi.h is that of another library."""
    headers = [path.read_text() for path in (ROOT / "include").glob("*.h") if path.name != "norma_mpi.h"]
    return set(re.findall(r"NORMA_API[^;(]*?(norma_\w+)\(", "".join(headers)))


def test_the_shared_library_exports_what_the_header_declares():
    exported = {name for _, name in symbols("-D", "--defined-only", SHARED)}
    some = {"norma_version", "norma_forward", "norma_sync_forward", "norma_reference_adain", "norma_from_double"}
    assert some <= declared()
    assert exported == declared()


def test_every_global_name_of_the_archive_is_ours():
    names = {name for _, name in symbols("-g", "--defined-only", STATIC)}
    assert declared() <= names
    assert {name for name in names if not name.startswith("norma_")} == set()


def test_it_needs_only_libc_and_libm():
    """libpthread is a part of libc since glibc 2.34, a library of its own before."""
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", SHARED)))
    assert needed <= {"libc.so.6", "libm.so.6", "libpthread.so.0"}


def test_the_soname_has_the_version():
    dynamic = run("readelf", "-d", SHARED)
    major = re.search(r"#define NORMA_VERSION_MAJOR (\d+)", (ROOT / "include/norma.h").read_text()).group(1)
    assert re.search(r"\(SONAME\).*\[(.*)\]", dynamic).group(1) == f"libnorma.so.{major}"


def test_its_mutable_global_data_is_the_pool_and_the_choice():
    """Variables live in .data, .bss (.tdata, .tbss for threads) or a common block; .data.rel.ro holds constants with
    addresses in them, which are read-only once loaded."""
    table = run("objdump", "-t", STATIC)
    assert ".rodata" in table
    variables = re.findall(r"^[0-9a-f]+ .{7} (\.t?data\S*|\.t?bss\S*|\*COM\*)\t[0-9a-f]+ +(?:\.hidden )?(\S+)$", table,
                           re.MULTILINE)
    mutable = {name for section, name in variables if not section.startswith(".data.rel.ro") and name != section}
    assert mutable == MUTABLE_ALLOWED


def test_it_cannot_print_or_abort():
    """The objects refer to no function that writes to a stream or ends the process."""
    forbidden = {"abort", "exit", "_exit", "__assert_fail", "printf", "fprintf", "puts", "putchar", "perror", "fwrite",
                 "write", "stdout", "stderr", "setlocale", "rand"}
    undefined = {name for kind, name in symbols("-u", STATIC) if kind == "U"}
    assert "sqrt" in undefined or "memcpy" in undefined  # nm did list them
    assert undefined & forbidden == set()
