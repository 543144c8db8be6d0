"""The first C example in the README compiles without a warning and runs."""
import re

from conftest import BUILD, ROOT, run


def test_the_example_works(tmp_path):
    example = re.search(r"^```c\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert example, "README.md has no ```c block"
    (tmp_path / "example.c").write_text(example.group(1))
    run("cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-I", ROOT / "include", tmp_path / "example.c",
        BUILD / "libnorma.a", "-lm", "-o", tmp_path / "example")
    run(tmp_path / "example", cwd=tmp_path)
