"""By what a record is known again: its own id, its place among those with ids, or the talk so far.

The same source gives the same ids whenever it is read, however often and from wherever; so what is
there already is not stored twice, also when an import is killed and begun again.
"""

from __future__ import annotations

from hashlib import blake2b

from convmem import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What fits into a turn id whatever characters it has (see ``log.sheet``).
_MOST_CHARACTERS = 170
# Records without ids are counted from the last one that has one, or that was so many before.
_MOST_SINCE = 256
# Besides one in sixteen, so many of the first records of a source are looked up.
FIRST_SAMPLED = 32


def digest(*parts: bytes) -> str:
    """Return 32 hex digits that stand for these parts in this order."""
    made = blake2b(digest_size=16)
    for part in parts:
        made.update(b"%d:" % len(part))
        made.update(part)
    return made.hexdigest()


class Namer:
    """Gives the records of one source their turn ids, in order.

    ``memory`` is what must be known to go on after the source's end: JSON values only.
    """

    __slots__ = ("_anchor", "_since")

    def __init__(self, memory: dict[str, Any] | None = None) -> None:
        self._anchor: str = (memory or {}).get("anchor", "")
        self._since: dict[str, int] = dict((memory or {}).get("since", {}))

    @property
    def memory(self) -> dict[str, Any]:
        """What ``Namer`` takes to go on from here."""
        return {"anchor": self._anchor, "since": self._since}

    def pass_by(self, given: str) -> None:
        """Go on from a record that has an id of its own: those without are counted from it."""
        self._anchor, self._since = given, {}

    def name(self, raw: bytes) -> str:
        """Return the id of the next record, which has none: made of its place and its bytes."""
        since = self._since
        said = digest(raw)
        nth = since[said] = since.get(said, 0) + 1
        made = f"r-{digest(self._anchor.encode(), said.encode(), b'%d' % nth)}"
        if len(since) >= _MOST_SINCE:
            self._anchor, self._since = made, {}
        return made


def fitting(given: str) -> str:
    """Return a record's own id, or what stands for one that is too long for a turn's."""
    return given if len(given) <= _MOST_CHARACTERS else f"r-{digest(given.encode())}"


def link(before: str, role: str, content: bytes) -> str:
    """Return the id of a turn that is known by what it says, and after what: a link of a chain."""
    return f"c-{digest(before.encode(), role.encode(), content)}"


def grown(link: str, place: str) -> str:
    """Return under what name a link is known that may go on in the source *place*."""
    return f"{link}@{place}"


def place_of(format: str, file: str) -> str:
    """Return what tells a source from others that begin with the same words."""
    return f"{format}:{file}"


def content_bytes(content: Any) -> bytes:
    """Return *content* as JSON; what no JSON can say (half a surrogate pair, NaN) is replaced."""
    try:
        return jsontext.dumps(content)
    except jsontext.NotJson:
        try:
            return jsontext.dumps(_sayable(content))
        except (jsontext.NotJson, RecursionError):
            return b'"(nested too deeply)"'  # the record has it


def version_of(turn_id: str, raw: bytes) -> str:
    """Return the id of a later version of the record *turn_id*, which says *raw* now."""
    return f"{turn_id[: _MOST_CHARACTERS - 9]}~{digest(raw)[:8]}"


def sample_of(turn_id: str) -> int:
    """Return the key under which a record is looked up when another may be a copy of it."""
    name = turn_id.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "big", signed=True)


def _sayable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, float) and value - value != 0.0:
        return str(value)
    if isinstance(value, list):
        return [_sayable(each) for each in value]
    if isinstance(value, dict):
        return {_sayable(key): _sayable(each) for key, each in value.items()}
    return value
