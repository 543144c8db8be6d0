"""What README.md and docs/ say is so: paths, functions and options exist, shown commands print what is shown, the
table of errors has Norma's real errors, and every package has its line."""
import re
import sys

import pytest

from conftest import BUILD, ROOT, run

PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "CHANGELOG.md", ROOT / "bench/README.md",
         ROOT / "guide/README.md", ROOT / "lab/README.md", *sorted((ROOT / "docs").glob("*.md"))]
ROOMS = ["include", "src", "batch", "problem", "cli", "lab", "guide", "python", "tests", "fuzz", "bench", "docs",
         "cmake", r"\.ci"]


def page_name(page):
    return str(page.relative_to(ROOT))


def console_blocks(page):
    """Lists of (command, shown lines) of each ```console block: a command follows '$ ', and below it stands what it
    prints; a line '...' stands for any lines."""
    for block in re.findall(r"^```console\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        commands = []
        for line in block.splitlines():
            if line.startswith("$ "):
                commands.append((line[2:], []))
            else:
                commands[-1][1].append(line)
        yield commands


def matches(shown, printed):
    pattern = "".join(r"(?:.*\n)*" if line == "..." else re.escape(line) + "\n" for line in shown)
    return re.fullmatch(pattern, printed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Looks like the root of the repository after ./demo, as far as the commands need it."""
    path = tmp_path_factory.mktemp("docs")
    (path / "build").symlink_to(BUILD)
    (path / "report").mkdir()
    run(BUILD / "norma-demo", "--out", "report/maps", cwd=path)
    return path


@pytest.mark.parametrize("page", [page for page in PAGES if "```console" in page.read_text()], ids=page_name)
def test_the_commands_print_what_is_shown(page, folder):
    for commands in console_blocks(page):
        for command, shown in commands:
            printed = run("sh", "-c", command, cwd=folder)
            assert matches(shown, printed), f"$ {command}\n{printed}"


def test_the_readme_shows_every_subcommand():
    text = "".join(command for commands in console_blocks(ROOT / "README.md") for command, _ in commands)
    subcommands = re.findall(r"^  (\w+)  ", run(BUILD / "norma", "--help"), re.MULTILINE)
    assert {"apply", "bench", "check", "choose", "explain", "lab", "picture", "version"} == set(subcommands)
    assert [name for name in subcommands if name != "version" and f"norma {name} " not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page):
    links = [link for link in re.findall(r"\]\(([^)#]+)", page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_named_paths_exist(page):
    paths = re.findall(rf"(?<![\w/.(])((?:{'|'.join(ROOMS)})/[\w./*-]*[\w*])", page.read_text())
    scripts = re.findall(r"(?<![\w/.])\./(\w+)", page.read_text())
    assert [path for path in [*paths, *scripts] if not any(ROOT.glob(path))] == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_named_code_exists(page):
    """`name` in FILE: the file has the name. norma_...: the library or its header has it."""
    text = page.read_text()
    missing = [f"{name} in {path}" for name, path in re.findall(r"`(\w+)`\s+in\s+\[?((?:src|include)/[\w./]+\w)", text)
               if not re.search(rf"\b{name}\b", (ROOT / path).read_text())]
    places = ("include/*.h", "src/**/*.[ch]", "batch/*.[ch]", "python/*/*.py")
    files = [path for place in places for path in ROOT.glob(place)]
    sources = "".join(path.read_text() for path in files)
    missing += [name for name in re.findall(r"\b(?:norma|NORMA)_[A-Za-z]\w*", text)
                if not re.search(rf"\b{name}", sources) and not name.startswith(("NORMA_BUILD", "NORMA_PYTHON"))]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_named_options_exist(page):
    unknown = []
    subcommands = "apply|bench|check|choose|explain|lab|picture|version"
    for subcommand, rest in re.findall(rf"\bnorma\s({subcommands})\b([^`\n]*)", page.read_text()):
        known = run(BUILD / "norma", subcommand, "--help")
        unknown += [f"{subcommand} {option}" for option in re.findall(r"(?<!\w)--[a-z-]+", rest) if option not in known]
    assert unknown == []


def test_the_readme_has_the_layers_of_the_header():
    header = (ROOT / "include/norma.h").read_text()
    table = header[header.index("pattern                "):header.index("A UNIT")]
    wanted = [re.split(r"\s{2,}", line.strip(" *")) for line in table.splitlines()[1:] if line.strip(" *")]
    readme = (ROOT / "README.md").read_text()
    shown = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in readme.splitlines() if "`" in line]
    assert len(wanted) == 5 and [row for row in wanted if row not in shown] == []


def test_the_errors_of_norma_are_those_of_the_readme():
    sys.path.insert(0, str(ROOT / "tests/golden"))
    import compare_torch
    rows = re.findall(r"^\| ((?:y|dbeta) of .*?) \|.*\| (\S+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert rows == [(case.title, compare_torch.error(case.norma(), case)) for case in compare_torch.cases()]


def test_every_package_has_its_line():
    setup, ci = (ROOT / "setup").read_text(), (ROOT / ".ci/run").read_text()
    packages = set(" ".join(re.findall(r'^(?:demo|test)="(?:\$demo )?([^"$]*)"', setup, re.MULTILINE)).split())
    packages |= set(" ".join(re.findall(r"\./setup test ([a-z0-9 -]+)", ci)).split())
    installed = re.findall(r"pip install -q (?:-c \S+ )?(.*?) \|\|", ci)
    packages |= {word.split("==")[0] for word in " ".join(installed).split()}
    packages |= set(re.findall(r"^([\w-]+)==", (ROOT / "python/constraints.txt").read_text(), re.MULTILINE))
    assert {"gcc", "libcairo2-dev", "python3-numpy", "clang", "torch"} <= packages
    page = (ROOT / "docs/dependencies.md").read_text()
    assert [package for package in sorted(packages) if f"`{package}`" not in page] == []


def test_the_changelog_has_this_version():
    header = (ROOT / "include/norma.h").read_text()
    numbers = [re.search(rf"VERSION_{part} (\d+)", header).group(1) for part in ("MAJOR", "MINOR", "PATCH")]
    assert f"\n## {'.'.join(numbers)}\n" in (ROOT / "CHANGELOG.md").read_text()
