"""The adapters' house: which of them may import what, and that nobody pays for one he has not."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import convmem

PACKAGE = Path(convmem.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
# Of each adapter: the extra that brings its framework, and what of that it may import.
ADAPTERS = {
    "agent_framework": ("agent-framework", {"agent_framework"}),
    "claude_agent_sdk": ("claude-agent-sdk", {"claude_agent_sdk"}),
    "langchain": ("langchain", {"langchain_core"}),
    "langgraph": ("langgraph", {"langgraph", "langchain_core"}),
    "mcp": ("mcp", {"mcp"}),
    "openai_agents": ("openai-agents", {"agents"}),
    # Its messages are models of pydantic, which comes with it.
    "pydantic_ai": ("pydantic-ai", {"pydantic_ai", "pydantic"}),
    "strands": ("strands", {"strands"}),
}
FRAMEWORKS = {name for _, names in ADAPTERS.values() for name in names}
# LangGraph's messages are LangChain's.
NEIGHBOURS = {"langgraph": {"langchain"}}
# What a record says is the same whether it is imported or mirrored while it is written.
MAPPINGS = {
    ("convmem.formats.claude_code", "said_by"),
    ("convmem.formats.openai.response_items", "said_by"),
}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def _adapter(path: Path) -> str | None:
    """Return the adapter that a file is of; ``None`` of a room that they share."""
    room = path.relative_to(PACKAGE / "adapters").with_suffix("").parts[0]
    return room if room in ADAPTERS else None


def _imports(path: Path) -> Iterator[tuple[str, str | None]]:
    """Yield each import's module and what is taken of it, those for type checkers, too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports say the whole name"
            yield from ((node.module or "", alias.name) for alias in node.names)


IN_ADAPTERS = [path for path in SOURCES if path.is_relative_to(PACKAGE / "adapters")]
ELSEWHERE = [path for path in SOURCES if path not in IN_ADAPTERS]


def test_every_adapter_is_in_the_table():
    """An adapter that stands nowhere here is held to nothing; one that is gone hides nothing."""
    folders = {path.parent.name for path in IN_ADAPTERS} - {"adapters"}
    files = {path.stem for path in IN_ADAPTERS if path.parent.name == "adapters"}
    assert folders <= set(ADAPTERS) <= folders | files


@pytest.mark.parametrize("path", IN_ADAPTERS, ids=_name)
def test_an_adapter_stands_on_what_is_public_and_on_its_own_framework(path):
    """Adapters show what the public API can do; and who has one framework has no other."""
    mine = _adapter(path)
    its_own = ADAPTERS[mine][1] if mine else set()
    may_enter = {mine, *NEIGHBOURS.get(mine or "", ())}
    wrong = []
    for module, taken in _imports(path):
        root, _, rest = module.partition(".")
        room = rest.removeprefix("adapters.").partition(".")[0]
        if root != "convmem":
            is_right = root in sys.stdlib_module_names or root in its_own
        elif rest.startswith("adapters."):
            is_right = room not in ADAPTERS or room in may_enter
        elif not rest:
            is_right = taken in {None, "aio", *convmem.__all__}
        else:
            is_right = rest == "aio" or (module, taken) in MAPPINGS
        if not is_right:
            wrong.append(f"{module}: {taken}")
    assert not wrong


@pytest.mark.parametrize("path", ELSEWHERE, ids=_name)
def test_nothing_else_imports_a_framework(path):
    """convmem is there for those who have none."""
    assert not {module.partition(".")[0] for module, _ in _imports(path)} & FRAMEWORKS


def _told(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("line", ["import convmem", "import convmem.aio", "import convmem.cli"])
def test_neither_the_library_nor_the_command_line_loads_a_framework(line):
    """A framework takes a second to import; ``convmem record`` takes a few hundredths."""
    loaded = json.loads(_told(f"import json, sys\n{line}\nprint(json.dumps(list(sys.modules)))"))
    assert "convmem" in loaded
    assert not {name.partition(".")[0] for name in loaded} & FRAMEWORKS
    assert not [name for name in loaded if name.startswith("convmem.adapters.")]


WITHOUT = """
import importlib, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2:]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
try:
    importlib.import_module(f"convmem.adapters.{sys.argv[1]}")
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ADAPTERS)
def test_who_lacks_a_framework_is_told_its_extra(name):
    """``No module named 'agents'`` tells nobody what to install."""
    extra = ADAPTERS[name][0]
    told = _told(WITHOUT, name, *FRAMEWORKS)
    assert told.startswith(f"convmem.adapters.{name} needs ")
    assert told.rstrip().endswith(f"pip install 'convmem[{extra}]'")


def test_every_extra_that_is_named_is_there():
    """pip only warns of an extra that it does not know, and installs nothing."""
    project = PACKAGE.parent / "pyproject.toml"
    if not project.exists():
        pytest.skip("the package is tested away from its source")
    extras = tomllib.loads(project.read_text())["project"]["optional-dependencies"]
    assert {extra for extra, _ in ADAPTERS.values()} <= set(extras)
