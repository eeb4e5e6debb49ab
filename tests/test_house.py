"""The house: who may import whom, what an import costs, and what is promised of every part."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import platformdirs
import pytest

import convmem
from convmem import archive
from convmem.cli.boundary import EXIT_CODES, INTERRUPTED
from convmem.cli.spec import Verb
from convmem.cli.verbs import TABLE

PACKAGE = Path(convmem.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}

# Floor by floor from the ground. A file imports from its own folder, and from floors below. Two
# files on one floor that share no folder are neighbours, and may import each other downwards only
# in the order that stands here.
FLOORS = {
    "errors": 1,
    "progress": 1,
    "metrics": 1,
    "event_log": 1,
    "jsontext": 1,
    "tomltext": 1,
    "ids": 2,
    "quantities": 2,
    "turns": 2,
    "thresholds": 2,
    "settings": 2,
    "table_reader": 2,
    "copied": 2,
    "context": 3,
    "rules": 3,
    "archive_plan": 3,
    "retention": 3,
    "formats": 3,
    "tools": 3,
    "secrets": 3,
    "log": 3,
    "stores": 4,
    "search": 5,
    "following": 6,
    "upkeep": 6,
    "conversation": 6,
    "maintenance": 6,
    "archive": 6,
    "transfer": 7,
    "aio": 7,
    "adapters": 8,
    "cli": 8,
}
# The front door shows what is inside, and the back door leads to the command line.
DOORS = {"__init__", "__main__"}


def _name(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def _room(name):
    return name.partition(".")[0]


every_source = pytest.mark.parametrize("path", SOURCES, ids=_name)


def _imports(tree):
    """Yield the module of every import, in functions too, but not those for type checkers only."""
    hidden = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            hidden.update(id(inner) for part in node.body for inner in ast.walk(part))
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports say the whole name"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _ours(tree):
    """Yield the rooms of ours that are imported, without the package's own name."""
    known = {_name(path).removesuffix(".__init__") for path in SOURCES}
    for module in _imports(tree):
        if module.startswith("convmem."):
            name = module.removeprefix("convmem.")
            if name in known:
                yield name


def test_every_room_of_the_house_has_its_floor():
    """A file that stands nowhere in the picture is one that nobody thought about."""
    assert {_room(_name(path)) for path in SOURCES} - DOORS == set(FLOORS)


@every_source
def test_imports_flow_downwards(path):
    """A cycle, or an engine that knows its command line, is how small programs become large."""
    mine = _room(_name(path))
    if mine in DOORS:
        return
    rooms = {_room(name) for name in _ours(TREES[path])}
    wrong = {room for room in rooms if room != mine and FLOORS[room] > FLOORS[mine]}
    assert not wrong, f"{_name(path)} imports from above: {wrong}"


def test_no_file_imports_itself_by_a_detour():
    """Files of one floor may use each other; what none may do is wait for itself."""
    edges = {
        _name(path).removesuffix(".__init__"): set(_ours(TREES[path]))
        for path in SOURCES
        if _room(_name(path)) not in DOORS
    }
    done = set()

    def visit(name, way):
        assert name not in way, f"a circle: {' > '.join([*way, name])}"
        if name not in done:
            for other in sorted(edges.get(name, ())):
                visit(other, [*way, name])
            done.add(name)

    # A folder's own description, such as ``cli``, is no file that its files wait for.
    for name in list(edges):
        edges[name].discard(name.rpartition(".")[0])
    for name in edges:
        visit(name, [])


FORBIDDEN = {
    *("os.environ", "os.environb", "os.getenv", "os.getenvb"),
    *("sys.stdin", "sys.stdout", "sys.stderr", "sys.argv", "sys.exit"),
}


@every_source
def test_only_the_command_line_prints_reads_the_environment_or_asks(path):
    """A library that prints into its user's output, or obeys a stray variable, is no library."""
    name = _name(path)
    if _room(name) == "cli" or name == "__main__":
        return
    found = []
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found += {node.func.id} & {"print", "input", "breakpoint"}
        elif isinstance(node, ast.Attribute):
            found += {ast.unparse(node)} & FORBIDDEN
    allowed = ["os.environ"] if name == "archive" else []  # default_root reads XDG_DATA_HOME
    assert found == allowed


@every_source
def test_every_file_says_its_one_idea_in_its_first_line(path):
    """Whoever looks for something reads first lines."""
    told = ast.get_docstring(TREES[path])
    assert told, "no docstring"
    first = told.splitlines()[0]
    assert 20 <= len(first) <= 100 and first[-1] in ".:!?`", first


@every_source
def test_nothing_that_is_read_from_a_file_can_run(path):
    """O20: whoever can write to the archive must not gain the powers of who reads it."""
    found = set(_imports(TREES[path])) & {"pickle", "marshal", "shelve", "dbm", "dill", "yaml"}
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found |= {node.func.id} & {"eval", "exec", "compile"}
    assert not found


@pytest.mark.parametrize("line", ["import convmem", "from convmem import Archive"])
def test_importing_the_library_loads_no_command_line_and_no_database(line):
    """A server that keeps conversations has no use for a parser of words or a painter of tables."""
    look = f"import json, sys\n{line}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", look],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"typer", "click", "rich", "sqlite3", "filelock", "asyncio", "convmem.cli"}
    if line == "import convmem":
        assert {name for name in loaded if name.startswith("convmem")} == {"convmem"}


@pytest.mark.parametrize("verb", TABLE.values(), ids=TABLE.keys())
def test_every_verb_leads_to_a_function_that_takes_what_the_table_gives(verb: Verb):
    """A verb that only fails when it is used would be found by whoever uses it."""
    module, _, name = verb.target.partition(":")
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    assert next(iter(parameters)) == "context"
    given = {each.name for each in (*verb.arguments, *verb.options)}
    assert set(list(parameters)[1:]) == given
    for each in (*verb.arguments, *verb.options):
        if each.complete is not None:
            module, _, name = each.complete.partition(":")
            assert callable(getattr(importlib.import_module(module), name))


# What each verb ends with beside 130, as the tests of the command line see it.
ENDS = {
    "record": {0, 1, 2, 4, 6, 7},
    "tail": {0, 2, 3, 4},
    "show": {0, 2, 3, 4},
    "compact": {0, 1, 2, 3, 4, 6, 7},
    "delete": {0, 1, 2, 3, 4, 6, 7},
    "trash": {0, 1, 2, 3, 4, 6, 7},
    "list": {0, 2, 4, 7},
    "verify": {0, 2, 3, 4, 5, 7},
    "repair": {0, 2, 3, 4, 6, 7},
    "stats": {0, 2, 3, 4, 7},
    "health": {0, 1, 2, 4},
    "secrets": {0, 2, 3, 4, 7},
    "grep": {0, 1, 2, 3, 4},
    "path": {0, 2, 3, 4},
    "context": {0, 2, 3, 4, 6},
    "state": {0, 1, 2, 3, 4, 5, 6},
    "config": {0, 2, 4},
    "mcp": {0, 2, 4},
}
MEANINGS = {
    0: "done|recorded|healthy",
    2: "wrong usage",
    3: "there is no such conversation",
    4: "input/output or permission",
    5: "damaged",
    6: "busy",
    7: "part|some",
    INTERRUPTED: "interrupted",
}


@pytest.mark.parametrize("name", ENDS)
def test_the_exit_codes_in_the_help_are_those_that_are_given(name):
    """The help is where the authors of scripts read them."""
    told = re.findall(
        r"^  (\d+)  (.+)$", TABLE[name].description.partition("EXIT STATUS:")[2], re.M
    )
    codes = [int(code) for code, _ in told]
    assert codes == sorted(set(codes))
    assert set(codes) <= {0, 1, INTERRUPTED, *EXIT_CODES.values()}
    assert set(codes) - {INTERRUPTED} == ENDS[name]
    for code, meaning in told:
        assert re.search(MEANINGS.get(int(code), ""), meaning), (code, meaning)


@pytest.mark.skipif(sys.platform == "win32", reason="XDG_DATA_HOME means nothing there")
@pytest.mark.parametrize("home", [None, "/somewhere", "/some where/é", "", "  "])
def test_the_default_archive_is_where_platformdirs_says(monkeypatch, home):
    """People look for their files where every other program keeps its own."""
    if home is None:
        monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_DATA_HOME", home)
    assert archive.default_root() == platformdirs.user_data_dir("convmem", appauthor=False)


def test_the_default_archive_never_depends_on_the_working_directory(monkeypatch):
    """A21: the specification of XDG_DATA_HOME says that a relative path there counts as none."""
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    without = archive.default_root()
    assert os.path.isabs(without)
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert archive.default_root() == without


def test_the_default_archive_elsewhere_is_platformdirs_own_answer(monkeypatch):
    """Only on Linux is the answer written out, to save an import."""
    monkeypatch.setattr(archive, "_PLATFORM", "darwin")
    monkeypatch.setattr(platformdirs, "user_data_dir", lambda name, **_: f"/theirs/{name}")
    assert archive.default_root() == "/theirs/convmem"


@pytest.mark.parametrize("name", [name for name in convmem.__all__ if name != "__version__"])
def test_every_public_name_is_there_and_says_what_it_is(name):
    """`help(convmem.Archive)` is the first documentation that people meet."""
    value = getattr(convmem, name)
    assert value.__name__ == name
    own = value.__dict__.get("__doc__")
    assert own and not own.startswith(f"{name}("), "no docstring of its own"
    for inner, member in vars(value).items():
        is_method = inspect.isfunction(member) or isinstance(member, property | classmethod)
        if is_method and not inner.startswith("_"):
            assert inspect.getdoc(member), f"{name}.{inner} has no docstring"


def test_the_names_that_were_promised_are_public():
    """Programs are written against these; they stay."""
    promised = """
        Archive Conversation Turn Durability RetentionPolicy Store ConvmemError InvalidTurn
        InvalidContinuationId ConversationNotFound TurnConflict CorruptLog LockTimeout StorageFull
        DurabilityUnknown __version__
    """
    assert set(promised.split()) <= set(convmem.__all__)
    assert set(convmem.__all__) <= set(dir(convmem))
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = convmem.Nonsense
    errors = [name for name in promised.split() if name in vars(convmem.errors)]
    assert all(issubclass(getattr(convmem, name), convmem.ConvmemError) for name in errors)


def test_type_checkers_are_shown_the_same_names():
    """The names that load late are spelled out once more for mypy and editors."""
    (guarded,) = [
        node
        for node in TREES[PACKAGE / "__init__.py"].body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    shown = {
        alias.asname: node.module
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert shown == convmem._PLACES
    assert (PACKAGE / "py.typed").exists()


def test_the_version_is_the_same_wherever_it_stands():
    """A bug report names one version."""
    project = PACKAGE.parent / "pyproject.toml"
    if not project.exists():
        pytest.skip("the package is tested away from its source")
    assert tomllib.loads(project.read_text())["project"]["version"] == convmem.__version__
