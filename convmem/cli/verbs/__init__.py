"""The table of verbs: the one place that says which commands there are and what they take.

Adding a verb is adding its name here, an entry in the file of its group, and the function that
its target names. Help is written as people read it: examples first, then what holds, then the
exit codes.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
    from typing import TypeAlias

    from convmem.cli.spec import Verb

_GROUPS = {
    "record": "turns",
    "tail": "turns",
    "show": "turns",
    "list": "places",
    "path": "places",
    "config": "places",
    "context": "memory",
    "state": "memory",
    "verify": "checks",
    "repair": "checks",
    "stats": "checks",
    "health": "checks",
    "secrets": "checks",
    "search": "finding",
    "grep": "finding",
    "index": "finding",
    "import": "exchange",
    "export": "exchange",
    "compact": "upkeep",
    "delete": "upkeep",
    "trash": "upkeep",
    "scrub": "upkeep",
    "compress": "upkeep",
    "mcp": "servers",
    "run": "servers",
}


class Table:
    """The verbs by name, as a mapping; each group is loaded when one of its verbs is asked for.

    A cold start needs one verb, and building all of them would take longer than recording a turn.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Verb] = {}

    def __getitem__(self, name: str) -> Verb:
        if name not in self._loaded:
            module = f"{__name__}.{_GROUPS[name]}"
            __import__(module)
            for verb in sys.modules[module].VERBS:
                self._loaded.setdefault(verb.name, verb)
        return self._loaded[name]

    def get(self, name: str) -> Verb | None:
        """Return the verb of that name, or ``None``."""
        return self[name] if name in _GROUPS else None

    def __contains__(self, name: object) -> bool:
        return name in _GROUPS

    def __iter__(self) -> Iterator[str]:
        return iter(_GROUPS)

    def __len__(self) -> int:
        return len(_GROUPS)

    def keys(self) -> KeysView[str]:
        """Return the names, in the order of the help."""
        return _GROUPS.keys()

    def values(self) -> ValuesView[Verb]:
        """Return the verbs."""
        return {name: self[name] for name in _GROUPS}.values()

    def items(self) -> ItemsView[str, Verb]:
        """Return names and verbs."""
        return {name: self[name] for name in _GROUPS}.items()


TABLE = Table()

if TYPE_CHECKING:
    Verbs: TypeAlias = Mapping[str, Verb] | Table
