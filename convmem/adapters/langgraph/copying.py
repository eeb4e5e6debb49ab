"""Copying a thread: the turns of its savers once more, which refer to each other by distance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convmem.adapters.langgraph.log import kind_of, turns_of_savers
from convmem.adapters.langgraph.references import remapped

if TYPE_CHECKING:
    from convmem import Conversation, Turn


def copies_of(chat: Conversation) -> list[dict[str, Any]]:
    """Return all turns of a thread that a saver recorded, referring to each other by distance."""
    kept: list[tuple[int, Turn, dict[str, Any] | None]] = []
    for turn in turns_of_savers(chat):
        seq, kind = turn.seq or 0, kind_of(turn)
        body = turn.extra.get(str(kind))
        kept.append((seq if body is None else body.get("place", seq), turn, body))
    kept.sort(key=lambda each: each[0])
    place_of = {turn.seq: place for place, (_, turn, _) in enumerate(kept)}
    first_write: dict[tuple[str, str], int] = {}
    copies: list[dict[str, Any]] = []
    for place, (_, turn, body) in enumerate(kept):
        copy: dict[str, Any] = {"role": turn.role, "content": turn.content, "meta": turn.meta}
        copies.append({**copy, **turn.extra, "ts": turn.ts})
        if body is None:
            continue

        def by_distance(seq: int, place: int = place) -> list[int]:
            # What is gone is told as the event itself, which is no message.
            return [place - place_of.get(seq, place)]

        own = turn.seq or 0
        if "id" not in body:
            first_write.setdefault((body["ns"], body["checkpoint"]), place)
            values = [[*each[:2], remapped(each[2], own, by_distance)] for each in body["values"]]
            copies[-1]["writes"] = {**body, "values": values}
            continue
        told = {key: item for key, item in body.items() if key not in ("place", "since")}
        told["values"] = {
            channel: remapped(packed, own, by_distance)
            for channel, packed in body["values"].items()
        }
        early = first_write.get((body["ns"], body["id"]))
        if early is not None:
            told["since"] = [place - early]
        copies[-1]["checkpoint"] = told
    return copies
