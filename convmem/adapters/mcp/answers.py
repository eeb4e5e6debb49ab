"""What each tool answers: lines for a reader, and the same as a JSON object. Without the SDK."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeAlias

from convmem import Conversation, Hit, Turn, UsageError, aio
from convmem.adapters.mcp.limits import Limits
from convmem.adapters.mcp.pages import page_of_rows, row_shown
from convmem.adapters.mcp.reading import turns_asked_for
from convmem.adapters.mcp.shown import (
    fitting,
    how_many_fit,
    light,
    line_of,
    piece_of,
    plain,
    size,
)

Answer: TypeAlias = tuple[list[str], dict[str, Any]]
Redact: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]


class Answers:
    """The tools of one namespace, as functions of the arguments that their schemas name.

    Attributes:
        readers: Those that change nothing, by name. They block, and belong into a thread.
        writers: Those that do, by name; to be awaited.
    """

    def __init__(
        self, archive: aio.Archive, namespace: str, limits: Limits, redact: Redact | None
    ) -> None:
        self._archive = archive
        self._namespace = namespace
        self._limits = limits
        self._redact = redact
        self.readers: dict[str, Callable[..., Answer]] = {
            "tail": self._tail,
            "search": self._search,
            "context": self._context,
            "list": self._list,
            "state": self._state,
        }
        self.writers: dict[str, Callable[..., Awaitable[Answer]]] = {
            "record": self._record,
            "update_state": self._update_state,
        }

    def rows(self, *, limit: int, **wanted: Any) -> tuple[list[Any], str | None]:
        """Return a page of the list, unshown; see ``page_of_rows``. Blocks."""
        return page_of_rows(
            self._archive.sync, self._namespace, self._limits, limit=limit, **wanted
        )

    async def _record(self, *, conversation: str, turns: list[dict[str, Any]]) -> Answer:
        for at, each in enumerate(turns):
            bytes = size(each)
            if bytes > self._limits.turn_bytes:
                raise UsageError(
                    f"turns[{at}] is too long: {bytes:,} bytes of JSON",
                    hint=f"at most {self._limits.turn_bytes:,}; nothing was recorded",
                )
        if self._redact is not None:
            turns = await self._archive.run(self._redacted, turns)
        chat = self._archive.conversation(conversation, namespace=self._namespace)
        stored = await chat.record_many(turns)
        recorded = [{"id": turn.id, "seq": turn.seq} for turn in stored]
        told = f"Recorded in conversation {line_of(conversation)}:"
        answer = {"conversation": conversation, "recorded": recorded}
        return [told, *map(line_of, recorded)], answer

    async def _update_state(
        self, *, conversation: str, changes: dict[str, Any], ttl_seconds: float | None = None
    ) -> Answer:
        chat = self._archive.conversation(conversation, namespace=self._namespace)
        ttl = None if ttl_seconds is None else timedelta(seconds=ttl_seconds)
        keys = sorted(await chat.update_state(changes, ttl=ttl))
        told = f"The state of conversation {line_of(conversation)} has these keys now:"
        return [told, line_of(keys)], {"conversation": conversation, "keys": keys}

    def _tail(self, *, conversation: str, **wanted: Any) -> Answer:
        answer = turns_asked_for(self._chat(conversation), self._limits, **wanted)
        turns = answer["turns"]
        lines = [
            f"{_counted(turns, 'turn')} of conversation {line_of(conversation)}, oldest first:"
        ]
        lines += map(line_of, turns)
        for name in ("older", "newer"):
            if name in answer:
                lines.append(f"There are {name} turns: {line_of(answer[name])}")
        if "damaged" in answer:
            lines.append(f"Damaged lines of the log passed over: {answer['damaged']}")
        return lines, answer

    def _search(
        self,
        *,
        query: str,
        limit: int,
        conversation: str | None = None,
        cursor: str | None = None,
    ) -> Answer:
        while True:
            page = self._archive.sync.search(
                query,
                limit=limit,
                continuation_ids=None if conversation is None else [conversation],
                namespace=self._namespace,
                cursor=cursor,
            )
            hits = [_hit(each) for each in page.hits]
            fit = how_many_fit(hits, self._limits.answer_bytes)
            if fit >= len(hits):
                break
            limit = fit  # again, so that the page's cursor leads to what was left out
        answer: dict[str, Any] = {"hits": hits, "matched": page.matched}
        lines = [f"{_counted(hits, 'hit')}, best first:", *map(line_of, hits)]
        if page.matched == "some" and hits:
            lines.append("Too few turns hold all of the query: these hold some of it.")
        if page.cursor is not None:
            answer["cursor"] = page.cursor
            lines.append(f"There are more: {line_of({'cursor': page.cursor})}")
        if page.notes:
            answer["notes"] = page.notes
            lines += [f"Note: {line_of(note)}" for note in page.notes]
        return lines, answer

    def _context(self, *, conversation: str, max_tokens: int, query: str | None = None) -> Answer:
        window = self._chat(conversation).context(max_tokens=max_tokens, query=query, form="text")
        most = self._limits.answer_bytes
        newest_first = fitting(reversed(window.turns), 2 * most, most)
        answer: dict[str, Any] = {
            "conversation": conversation,
            "tokens": window.tokens,
            "left_out": window.left_out + len(window.turns) - len(newest_first),
            "turns": newest_first[::-1],
        }
        if query is not None:
            answer["recalled"] = [
                {"excerpt": each.excerpt, **_cited(each.turn)}
                if each.excerpt is not None
                else fitting([each.turn], most, most)[0]
                for each in window.recalled
            ]
        if window.notes:
            answer["notes"] = window.notes
        return [plain(window.as_text().rstrip("\n"))], answer

    def _list(
        self, *, limit: int, contains: str | None = None, cursor: str | None = None
    ) -> Answer:
        failed: list[str] = []
        rows, more = self.rows(limit=limit, contains=contains, cursor=cursor, failed=failed)
        lines = [f"{_counted(rows, 'conversation')}, the latest first:"]
        shown = [row_shown(each) for each in rows]
        answer: dict[str, Any] = {"conversations": shown}
        lines += map(line_of, shown)
        if more is not None:
            answer["cursor"] = more
            lines.append(f"There are more: {line_of({'cursor': more})}")
        if failed:
            answer["failed"] = failed
            lines.append(f"Not to be read: {line_of(failed)}")
        return lines, answer

    def _state(
        self, *, conversation: str, keys: list[str] | None = None, offset: int | None = None
    ) -> Answer:
        if offset is not None and (keys is None or len(keys) != 1):
            raise UsageError("offset goes with one key")
        chat = self._chat(conversation)
        state = chat.state()
        if not state:
            chat.describe()  # raises where there is no such conversation
        wanted = state if keys is None else {key: state[key] for key in keys if key in state}
        room = self._limits.answer_bytes
        if keys is not None and len(wanted) == len(keys) == 1 and (offset or size(wanted) > room):
            return _piece_of_state(conversation, wanted, offset or 0, room)
        kept: dict[str, Any] = {}
        left_out: dict[str, int] = {}
        for key, value in wanted.items():
            bytes = size({key: value})
            if bytes <= room:
                kept[key] = light(value, names_pictures=False)
                room -= bytes
            else:
                left_out[key] = bytes
        answer: dict[str, Any] = {"conversation": conversation, "state": kept}
        lines = [f"The state of conversation {line_of(conversation)}:", line_of(kept)]
        if left_out:
            answer["left_out"] = dict(list(left_out.items())[: self._limits.turns])
            told = line_of(answer["left_out"])
            lines.append(f"Left out, with their bytes; ask for one key each: {told}")
        return lines, answer

    def _redacted(self, turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
        assert self._redact is not None
        found = []
        for turn in turns:
            said: dict[str, Any] = {
                name: turn[name] for name in ("content", "meta") if name in turn
            }
            found.append({**turn, **self._redact(said)})
        return found

    def _chat(self, conversation: str) -> Conversation:
        return self._archive.sync.conversation(conversation, namespace=self._namespace)


def _piece_of_state(conversation: str, wanted: dict[str, Any], offset: int, room: int) -> Answer:
    ((key, value),) = wanted.items()
    piece, cut = piece_of(value, offset, room - size({key: ""}))
    if "next_offset" in cut:
        cut["more"] = {"keys": [key], "offset": cut.pop("next_offset")}
    answer = {"conversation": conversation, "state": {key: piece}, "cut": cut}
    told = f"A piece of the state of conversation {line_of(conversation)}:"
    return [told, line_of(answer["state"]), f"Cut: {line_of(cut)}"], answer


def _counted(things: list[Any], name: str) -> str:
    return f"{len(things):,} {name}{'' if len(things) == 1 else 's'}"


def _hit(hit: Hit) -> dict[str, Any]:
    snippet = hit.snippet.text
    return {"conversation": hit.continuation_id, **_cited(hit.turn), "snippet": snippet}


def _cited(turn: Turn) -> dict[str, Any]:
    every = turn.as_dict()
    return {name: every[name] for name in ("seq", "ts", "role") if every[name] is not None}
