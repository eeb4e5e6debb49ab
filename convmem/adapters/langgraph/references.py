"""References: how an event names the turns and events that its values are told by.

An event's value is ``{"json": …}``, ``{"serde": [type, base64]}``, ``{"message": REF}``,
``{"list": {"refs": [REF, …], "tags": […]}}`` (or with ``base`` and ``take``: the first so many of
the list of that channel in an earlier checkpoint, and then these), ``{"dict": {…}}``, or
``{"at": REF}``: as the checkpoint there tells the same channel. A REF is a ``seq``, or ``[n]``: n
turns before the event itself; in a list a ``seq`` is told as the step from the one before it. Tags
are those of the first and the last turn: where turns were numbered anew, they do not fit.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


def remapped(
    packed: dict[str, Any], own: int, relocate: Callable[[int], int | list[int]]
) -> dict[str, Any]:
    """Return the same value, its references changed."""
    if "dict" in packed:
        told = packed["dict"].items()
        return {"dict": {key: remapped(item, own, relocate) for key, item in told}}
    for kind in ("message", "at"):
        if kind in packed:
            return {**packed, kind: relocate(absolute(packed[kind], own))}
    if "list" not in packed:
        return packed
    spec = dict(packed["list"])
    spec["refs"] = coded([relocate(seq) for seq in decoded(spec["refs"], own)])
    if "base" in spec:
        spec["base"] = relocate(absolute(spec["base"], own))
    return {"list": spec}


def referred(packed: dict[str, Any]) -> set[int]:
    """Return where the messages of a value are that has whole numbers as references."""
    if "dict" in packed:
        return set(chain.from_iterable(map(referred, packed["dict"].values())))
    if "message" in packed:
        return {packed["message"]}
    return set(decoded(packed["list"]["refs"], 0)) if "list" in packed else set()


def as_is(seq: int) -> int:
    """Relocate nothing: every reference becomes a ``seq``."""
    return seq


def absolute(ref: int | list[int], own: int) -> int:
    """Return the ``seq`` that a reference of the event *own* means."""
    return own - ref[0] if isinstance(ref, list) else ref


def coded(refs: Sequence[int | list[int]]) -> list[int | list[int]]:
    """Return references as they are told: a ``seq`` as the step from the one before it."""
    last = 0
    told: list[int | list[int]] = []
    for ref in refs:
        if isinstance(ref, list):
            told.append(ref)
        else:
            told.append(ref - last)
            last = ref
    return told


def decoded(told: Iterable[int | list[int]], own: int) -> list[int]:
    """Return the ``seq`` of each reference of a list that the event *own* tells."""
    last = 0
    seqs = []
    for step in told:
        if isinstance(step, list):
            seqs.append(own - step[0])
        else:
            last += step
            seqs.append(last)
    return seqs


def shared(one: list[int], other: list[int]) -> int:
    """Return how much of their beginnings is the same."""
    if other[: len(one)] == one:
        return len(one)
    pairs = zip(one, other, strict=False)
    return next((at for at, (mine, yours) in enumerate(pairs) if mine != yours), len(other))
