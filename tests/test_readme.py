"""The README is true: what it shows is run, what it lists is all there is."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from programs import HOUSE, install, needs_jq

import convmem
from convmem.cli.boundary import EXIT_CODES, INTERRUPTED
from convmem.cli.spec import COMMON
from convmem.cli.typed import help_of
from convmem.cli.verbs import TABLE
from convmem.log import codec
from convmem.thresholds import SETTINGS, shown

README = (HOUSE / "README.md").read_text(encoding="utf-8")
CHANGELOG = (HOUSE / "CHANGELOG.md").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Block:
    """A fenced block, the comment before it, and the output that the README shows after it."""

    language: str
    text: str
    mark: str
    output: str | None


def _blocks() -> list[Block]:
    fenced = re.compile(
        r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```\n", re.M | re.S
    )
    found = list(fenced.finditer(README))
    blocks = []
    for at, each in enumerate(found):
        after = found[at + 1] if at + 1 < len(found) else None
        follows = after is not None and after["language"] == "text" and after.start() == each.end()
        blocks.append(
            Block(
                each["language"],
                each["text"],
                each["mark"] or "",
                after["text"] if after is not None and follows else None,
            )
        )
    return blocks


BLOCKS = _blocks()
PYTHON = [block for block in BLOCKS if block.language == "python"]
SHELL = [block for block in BLOCKS if block.language == "sh" and block.mark == "run"]
SET_UP = {
    block.mark.removeprefix("set-up: "): block.text.strip()
    for block in BLOCKS
    if block.mark.startswith("set-up: ")
}


def _section(heading: str) -> str:
    """Return what stands under *heading*."""
    return re.split(r"^#+ ", README.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.M)[0]


def _rows(section: str) -> list[list[str]]:
    """Return the cells of the table in *section*, without its head."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    return rows[2:]


def _python(block: Block, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block.text],
        cwd=folder,
        env={"HOME": str(folder), "PYTHONPATH": str(HOUSE)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _shell(blocks: list[Block], folder: Path) -> None:
    """Run *blocks* as one person would, one after the other, in a clone of the repository."""
    (folder / "examples").symlink_to(HOUSE / "examples")
    path = f"{install(folder / 'bin')}:/usr/bin:/bin"
    for block in blocks:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=folder,
            env={"HOME": str(folder), "PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, ""), block.text
        assert block.output in (None, done.stdout), block.text


@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_a_python_snippet_runs_and_prints_what_the_readme_says(block, tmp_path):
    """People copy it before they read on."""
    assert block.output is not None
    assert _python(block, tmp_path) == block.output


def test_the_shell_snippets_run_one_after_the_other(tmp_path):
    """The tour of two minutes, on a machine without jq."""
    _shell([block for block in SHELL if "jq" not in block.text], tmp_path)
    assert (tmp_path / ".local/share/convmem/default/oslo-trip.jsonl").exists()


@needs_jq
def test_the_shell_snippets_run_with_jq(tmp_path):
    """The same with all its pipes."""
    _shell(SHELL, tmp_path)


def test_the_snippets_are_found():
    """A test that finds nothing to run would pass."""
    assert len(PYTHON) >= 2
    assert len(SHELL) >= 5
    assert set(SET_UP) == {"run", "test"}


def test_each_set_up_command_is_one_line():
    """One command is one command: it can be copied and leaves nothing to decide."""
    for command in SET_UP.values():
        assert "\n" not in command
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_the_test_command_installs_what_the_tests_import():
    """The extra that it names is the one that pyproject.toml has for the tests."""
    extra = re.search(r"-e '\.\[(\w+)\]'", SET_UP["test"])
    assert extra is not None
    assert SET_UP["test"].endswith("-m pytest -q -n auto")
    needs = PYPROJECT["project"]["optional-dependencies"][extra[1]]
    installed = {re.match(r"[\w-]+", need)[0].lower() for need in needs}
    assert _imported_by_tests() <= installed
    assert f"convmem[{extra[1]}]" in PYPROJECT["project"]["optional-dependencies"]["dev"]


def _imported_by_tests() -> set[str]:
    """Return what the tests import beside the standard library, convmem's needs and themselves."""
    tests = HOUSE / "tests"
    own = {path.stem for path in tests.rglob("*.py")} | {"convmem", "conftest", "tests"}
    own |= {path.name for path in tests.iterdir() if path.is_dir()}
    own.add("markdown_it")  # of rich, which convmem needs
    needs = {re.match(r"[\w-]+", need)[0].lower() for need in PYPROJECT["project"]["dependencies"]}
    found = {
        match[1].lower()
        for path in tests.rglob("test_*.py")
        # They need frameworks, and are skipped by name without them; the gate installs those.
        if path.parent.name != "adapters"
        for match in re.finditer(
            r"^(?:from|import) ([A-Za-z_]\w*)", path.read_text(encoding="utf-8"), re.M
        )
    }
    return found - own - needs - {name.lower() for name in sys.stdlib_module_names}


def test_the_gate_runs_the_test_command_of_the_readme():
    """They cannot drift apart: the gate takes the command from here, by its mark."""
    gate = HOUSE / ".ci" / "run"
    assert gate.stat().st_mode & 0o111
    assert "<!-- set-up: test -->" in gate.read_text(encoding="utf-8")


def test_every_framework_is_installed_by_the_gate():
    """Who has only what the second command installs sees these tests skipped, and by name."""
    extras = PYPROJECT["project"]["optional-dependencies"]
    (frameworks,) = (each for each in extras["test-adapters"] if each.startswith("convmem["))
    named = set(re.findall(r"[\w-]+", frameworks.removeprefix("convmem"))) | {"claude-agent-sdk"}
    adapters = {
        path.stem.replace("_", "-")
        for path in (HOUSE / "convmem" / "adapters").iterdir()
        if path.is_dir() and not path.name.startswith("__")
    }
    assert adapters == named == named & set(extras)
    gate = (HOUSE / ".ci" / "run").read_text(encoding="utf-8")
    assert "[test-adapters]" in gate
    assert "--no-binary claude-agent-sdk" in gate
    for path in (HOUSE / "tests" / "adapters").glob("test_*.py"):
        if path.name != "test_adapters_house.py":
            assert "importorskip" in path.read_text(encoding="utf-8"), path


def test_every_verb_is_in_the_table():
    """Who reads the README knows what there is."""
    first_cells = [row[0] for row in _rows(_section("Two minutes"))]
    assert {re.match(r"`(\w+)", cell)[1] for cell in first_cells} == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_every_option_is_in_the_help(name):
    """What the README leaves to --help is there."""
    told = " ".join(help_of(TABLE[name]).split())
    own = [flag for option in TABLE[name].options for flag in option.flags]
    for option in TABLE[name].options:
        assert ", ".join(option.flags) in told, option.name
    for option in COMMON:  # a verb may mean something of its own by one of their letters
        flags = [flag for flag in option.flags if flag not in own]
        assert flags and ", ".join(flags) in told, option.name


def test_the_exit_codes_are_those_that_are_given():
    """Scripts are written from this table."""
    codes = {
        int(row[0]): set(re.findall(r"`(\w+)`", row[1])) for row in _rows(_section("Exit codes"))
    }
    given = {code: {kind for kind, at in EXIT_CODES.items() if at == code} for code in codes}
    assert codes == given
    assert set(EXIT_CODES.values()) | {0, INTERRUPTED} == set(codes)


def test_every_variable_that_is_read_is_listed():
    """An unlisted one is a trap."""
    sources = "".join(path.read_text(encoding="utf-8") for path in HOUSE.glob("convmem/**/*.py"))
    read = set(re.findall(r"\bCONVMEM_[A-Z_]*[A-Z]\b", sources))
    listed = [row[2] for row in _rows(_section("Settings"))]
    listed += [row[0] for row in _rows(_section("Environment"))]
    assert read == set(re.findall(r"`(CONVMEM_[A-Z_]+)`", " ".join(listed)))


def test_every_setting_is_listed_with_its_default():
    """What the table says is what `convmem config` says where nothing is set."""
    told = [[cell.strip("`") for cell in row[:3]] for row in _rows(_section("Settings"))]
    assert told == [
        [name, shown(setting.kind, setting.default), setting.variable]
        for name, setting in SETTINGS.items()
    ]


def test_every_public_name_is_explained():
    """What `import convmem` gives is in the README, and nothing that is not there."""
    library = README.split("\n## The library\n", 1)[1].split("\n## ", 1)[0]
    named = set(re.findall(r"\b[A-Z][A-Za-z]+\b", library))
    assert set(convmem.__all__) - {"__version__"} <= named
    errors = re.findall(
        r"`([A-Z]\w+)`", "".join(row[0] for row in _rows(library.split("kind`", 1)[1]))
    )
    assert set(errors) <= set(convmem.__all__)


def test_the_turn_that_is_shown_is_a_good_one():
    """Who writes a reader in another language tries their checksum on it."""
    line = next(block.text for block in BLOCKS if block.language == "json").encode().rstrip(b"\n")
    assert codec.is_sealed(line)
    assert codec.fault_of(line) is None


# Their files are named without the folder.
_FOLDERS = ("log", "stores", "search", "context", "formats", "transfer", "aio", "adapters")


def test_the_layout_is_the_real_one():
    """A file that is not in the picture is where nobody looks."""
    layout = next(block.text for block in BLOCKS if block.text.startswith("convmem/\n"))
    package = HOUSE / "convmem"
    for path in package.rglob("*.py"):
        inner = path.relative_to(package)
        if inner.name.startswith("__") or inner.parts[0] == "cli":
            continue
        name = inner.stem if inner.parts[0] in _FOLDERS else str(inner)
        assert re.search(rf"\b{re.escape(name)}\b", layout, re.I), f"{inner} is not in the layout"
        assert len(inner.parts) == 1 or f"{inner.parts[0]}/" in layout


def test_every_link_leads_somewhere():
    """Links are relative, so that they hold in any clone."""
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (HOUSE / target).exists(), target


def test_the_changelog_has_this_version():
    """Whoever upgrades looks there first."""
    versions = re.findall(r"^## \[([^\]]+)\](?: - (\d{4}-\d{2}-\d{2}))?$", CHANGELOG, re.M)
    assert versions[0] == ("Unreleased", "")
    assert versions[1][0] == convmem.__version__
    assert all(date for _, date in versions[1:])
