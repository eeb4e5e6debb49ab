"""One conversation of llm's database, of either generation or both, as records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convmem import jsontext
from convmem.formats.llm.llm_blocks import (
    attached,
    blocks_of_part,
    call_of,
    content_of,
    fragments_of,
    result_of,
    text_block,
)
from convmem.formats.llm.llm_tables import as_key
from convmem.formats.openai.openai_parts import text_in
from convmem.formats.protocol import EVENT, Begin, Record
from convmem.quantities import parse_stored_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem.formats.llm.llm_tables import Row, Rows, Tables

_ROLES = frozenset(("system", "user", "assistant", "tool"))
_RESPONSE_LINKS = (
    "prompt_attachments prompt_fragments system_fragments tool_responses tool_calls tool_results"
).split()
_TURN_LINKS = ("turn_tools", "turn_fragments", "tool_instantiations")
_PART_LINKS = ("part_attachments", "part_fragments")


class Conversation:
    """One conversation on its way out of the database."""

    def __init__(self, tables: Tables, id: str) -> None:
        self._tables = tables
        self._id = id
        self._last_system = ""
        self._last_hash: str | None = None
        self._family = id

    def records(self) -> Iterator[Begin | Record]:
        """Yield its beginning and its records."""
        tables = self._tables
        named = tables.rows("conversations", "id", self._id)
        threads = tables.rows("threads", "id", self._id)
        turns = tables.owned("turns", "thread_id", self._id)
        responses = tables.owned("responses", "conversation_id", self._id)
        times = [_time(row) for row in (*threads, *turns, *responses)]
        yield Begin(self._id, last_ts=max((time for time in times if time), default=None))
        yield self._head(named, threads, turns, times)
        # While llm wrote both generations, the turn is the one that says more.
        twice = {as_key(turn.get("id")) for turn in turns}
        legacy = [row for row in responses if as_key(row.get("id")) not in twice]
        for row in legacy:
            yield from self._response(row)
        doubles = {id: row for row in responses if (id := as_key(row.get("id"))) in twice}
        if turns or threads:
            yield from self._thread(threads, turns, doubles, repeats=bool(legacy))

    def _head(
        self, named: list[Row], threads: list[Row], turns: list[Row], times: list[str | None]
    ) -> Record:
        rows: Rows = {}
        if named:
            rows["conversations"] = named
        if threads:
            thread = dict(threads[0])
            tip = thread.pop("tip_message_hash", None)
            if tip != (turns[-1].get("tip_message_hash") if turns else None):
                thread["tip_message_hash"] = tip
            rows["threads"] = [thread]
        name = next((row["name"] for row in (*named, *threads) if row.get("name")), "")
        title = " ".join(text_in(name).split())
        meta: dict[str, Any] = {"kind": "conversation"}
        if title:
            meta["title"] = title
        first = next((time for time in times if time), None)
        return Record(EVENT, title, jsontext.dumps(rows), "head", first, meta)

    def _response(self, row: Row) -> Iterator[Record]:
        id = text_in(row.get("id"))
        rows = self._tables.with_linked({"responses": [row]}, "response_id", _RESPONSE_LINKS, id)
        for result in rows.get("tool_results", ()):
            self._tables.with_linked(
                rows, "tool_result_id", ["tool_results_attachments"], result.get("id")
            )
        ts = _time(row)
        pieces = [*fragments_of(rows, "system_fragments"), text_in(row.get("system"))]
        system = "\n\n".join(piece for piece in pieces if piece)
        if system and system != self._last_system:
            yield Record("system", system, None, f"{id}.system", ts, {})
        self._last_system = system or self._last_system
        results = [result_of(rows, result) for result in rows.get("tool_results", ())]
        if results:
            yield Record("tool", results, None, f"{id}.tools", ts, {})
        # Put together as llm does it for the model.
        pieces = [*fragments_of(rows, "prompt_fragments"), text_in(row.get("prompt"))]
        text = "\n".join(piece for piece in pieces if piece)
        asked = [text_block(text)] if text else []
        asked += attached(rows, "prompt_attachments", "response_id", id)
        if asked:
            yield Record("user", content_of(asked), None, f"{id}.prompt", ts, {})
        said: list[dict[str, Any]] = []
        if row.get("reasoning"):
            said.append({"type": "thinking", "thinking": text_in(row["reasoning"])})
        if row.get("response"):
            said.append(text_block(text_in(row["response"])))
        said += [
            call_of(call.get("tool_call_id"), call.get("name"), call.get("arguments"))
            for call in rows.get("tool_calls", ())
        ]
        yield Record("assistant", content_of(said), jsontext.dumps(rows), id, ts, _model(row))

    def _thread(
        self, threads: list[Row], turns: list[Row], doubles: dict[Any, Row], *, repeats: bool
    ) -> Iterator[Record]:
        self._family = self._first_of_family(threads)
        begun = _time(threads[0]) if threads else None
        tip = threads[0].get("tip_message_hash") if threads else None
        seen: dict[str, Row] = {}
        made: list[tuple[str, Record]] = []
        for turn in turns:
            asked = self._chain(turn.get("parent_message_hash"), seen)
            ts = _time(turn)
            new = len(asked)
            while new and asked[new - 1].get("role") in ("user", "tool"):
                new -= 1
            for at, row in enumerate(asked):
                is_old = repeats and at < new
                made.append((row["hash"], self._message(row, ts, {}, is_copy=is_old)))
            repeats = False
            said = self._chain(turn.get("tip_message_hash"), seen)
            made += [(row["hash"], self._message(row, ts, _model(turn))) for row in said]
            made.append(("", self._turn(turn, doubles.get(as_key(turn.get("id"))), ts)))
        rest = self._chain(tip, seen)
        made += [(row["hash"], self._message(row, begun, {})) for row in rest]
        active = self._line_of(tip, seen)
        for hash, record in made:
            if hash and len(active) < len(seen):
                record.meta["active"] = hash in active
            yield record

    def _first_of_family(self, threads: list[Row]) -> str:
        first = self._id
        known = {first}
        while threads:
            origin = threads[0].get("forked_from")
            if not isinstance(origin, str) or origin in known:
                break
            known.add(origin)
            first = origin
            threads = self._tables.rows("threads", "id", origin)
        return first

    def _chain(self, tip: Any, seen: dict[str, Row]) -> list[Row]:
        """Return the messages that lead to *tip* and were not seen yet, oldest first."""
        found: list[Row] = []
        while isinstance(tip, str) and tip not in seen:
            rows = self._tables.rows("messages", "hash", tip)
            if not rows:
                break
            seen[tip] = rows[0]
            found.append(rows[0])
            tip = rows[0].get("parent_hash")
        return found[::-1]

    def _line_of(self, tip: Any, seen: dict[str, Row]) -> set[str]:
        line: set[str] = set()
        while isinstance(tip, str) and tip in seen and tip not in line:
            line.add(tip)
            tip = seen[tip].get("parent_hash")
        return line

    def _message(
        self, row: Row, ts: str | None, meta: dict[str, Any], *, is_copy: bool = False
    ) -> Record:
        hash = row["hash"]
        rows: Rows = {"messages": [row]}
        parts = sorted(
            self._tables.rows("parts", "message_hash", hash),
            key=lambda part: part["position"] if isinstance(part.get("position"), int) else 0,
        )
        if parts:
            rows["parts"] = parts
        for part in parts:
            self._tables.with_linked(rows, "part_id", _PART_LINKS, part.get("id"))
        role = row.get("role")
        is_known = isinstance(role, str) and role in _ROLES
        content: Any = content_of([block for part in parts for block in blocks_of_part(rows, part)])
        if is_copy or not is_known:
            role, content, meta = EVENT, "", {"kind": "message"}
        parent = row.get("parent_hash")
        made: dict[str, Any] = {}
        if isinstance(parent, str) and parent != self._last_hash:
            made["parent"] = self._message_id(parent)
        self._last_hash = hash
        if role == "assistant":
            made.update(meta)
        elif role == EVENT:
            made["kind"] = "message"
        id = self._message_id(hash)
        return Record(str(role), content, jsontext.dumps(rows), id, ts, made, is_known)

    def _message_id(self, hash: str) -> str:
        return f"{self._family}.{hash.rpartition(':')[2]}"

    def _turn(self, turn: Row, double: Row | None, ts: str | None) -> Record:
        id = text_in(turn.get("id"))
        rows = self._tables.with_linked({"turns": [turn]}, "turn_id", _TURN_LINKS, id)
        if double is not None:
            rows["responses"] = [double]
            self._tables.with_linked(rows, "response_id", _RESPONSE_LINKS, id)
        meta = {"kind": "turn", **_model(turn)}
        return Record(EVENT, "", jsontext.dumps(rows), id or None, ts, meta)


def _model(row: Row) -> dict[str, Any]:
    model = row.get("resolved_model") or row.get("model")
    return {"model": model} if isinstance(model, str) else {}


def _time(row: Row) -> str | None:
    text = row.get("datetime_utc")
    return text if isinstance(text, str) and parse_stored_time(text) is not None else None
