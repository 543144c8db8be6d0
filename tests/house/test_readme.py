"""The first C example in the README compiles without a warning and runs, with the built library and by the one-line
compiler command that the README gives."""
import re

import pytest

from conftest import BUILD, ROOT, run


@pytest.fixture
def readme():
    return (ROOT / "README.md").read_text()


@pytest.fixture
def example(readme):
    found = re.search(r"^```c\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert found, "README.md has no ```c block"
    return found.group(1)


def test_the_example_works(example, tmp_path):
    (tmp_path / "example.c").write_text(example)
    run("cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-I", ROOT / "include", tmp_path / "example.c",
        BUILD / "libnorma.a", "-lm", "-pthread", "-o", tmp_path / "example")
    run(tmp_path / "example", cwd=tmp_path)


def test_the_compiler_command_works(readme, example, tmp_path):
    """The line `cc ... src/*.c ... -lm`, in a folder with the sources, the example being the one file of its own."""
    commands = re.findall(r"^ *(cc .*src/\*\.c.*)$", readme, re.MULTILINE)
    assert len(commands) == 1, "README.md must have one line: cc ... example.c src/*.c src/kernels/*.c ... -o example"
    own = [word for word in commands[0].split() if re.fullmatch(r"\w+\.c", word)]
    output = re.search(r"-o (\w+)", commands[0])
    assert len(own) == 1 and output, commands[0]
    (tmp_path / own[0]).write_text(example)
    (tmp_path / "src").symlink_to(ROOT / "src")
    (tmp_path / "include").symlink_to(ROOT / "include")
    run("sh", "-c", commands[0], cwd=tmp_path)
    run(tmp_path / output.group(1), cwd=tmp_path)
