"""Rows, tables and goals: what every benchmark answers, and the few sums that all of them need."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from peers.known import Contestant, Kind
from workers import Workers


@dataclass(frozen=True, slots=True)
class Run:
    """What a benchmark is given.

    Attributes:
        scale: How much work it does: ``full``, ``quick`` (a look), ``tiny`` (does it run at all).
        folder: A folder of its own, on a real disk.
        workers: Starts contestants in processes of their own, and knows who is not there.
        options: Of the command line.
    """

    scale: str
    folder: Path
    workers: Workers
    options: argparse.Namespace

    def pick(self, full: Any, quick: Any, tiny: Any) -> Any:
        """Return the one of the three that belongs to the scale."""
        return {"full": full, "quick": quick, "tiny": tiny}[self.scale]

    def new_folder(self, name: str) -> Path:
        """Make a folder, to which nothing else writes."""
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        return folder


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table.

    Attributes:
        what: Who, or what was done.
        kind: Whether it is the floor, convmem, or a peer.
        survives: What an answered turn survives; empty where nothing is stored.
        figures: By name; the names end in their unit.
        goal: What the figures should be; empty if there is no goal.
        is_met: Whether they are; ``None`` if that could not be told.
        missing: Why there are no figures.
    """

    what: str
    kind: Kind
    survives: str = ""
    figures: dict[str, float | int | str | None] = field(default_factory=dict)
    goal: str = ""
    is_met: bool | None = None
    missing: str = ""

    @property
    def is_broken(self) -> bool:
        """Tell whether this is convmem and it broke a promise: that is no matter of speed."""
        return self.kind is Kind.OURS and any(self.figures.get(name) for name in ("lost", "broken"))


@dataclass(slots=True)
class Table:
    """Rows that belong together.

    Attributes:
        title: What all of them do.
        note: What has to be known to read them.
        rows: In the order in which they are shown.
        bars: The figure that is drawn: how many times the floor, so less is better.
        in_picture: Whether it is one of those that a reader should see first.
    """

    title: str
    note: str = ""
    rows: list[Row] = field(default_factory=list)
    bars: str = "over_floor"
    in_picture: bool = True

    def add(
        self,
        what: str,
        kind: Kind,
        *,
        survives: str = "",
        goal: tuple[str, bool | None] = ("", None),
        **figures: Any,
    ) -> None:
        """Add a row."""
        self.rows.append(Row(what, kind, survives, figures, *goal))

    def add_missing(self, who: Contestant | str, why: str) -> None:
        """Add a row for somebody who is not there."""
        name = who if isinstance(who, str) else who.name
        self.rows.append(Row(name, Kind.PEER, missing=why))


def at_most(figure: float | None, goal: float, what: str = "") -> tuple[str, bool | None]:
    """Return the goal of a row whose *figure* should not exceed *goal*."""
    return f"≤ {goal:g}{what}", None if figure is None else figure <= goal


def at_least(figure: float | None, goal: float, what: str = "") -> tuple[str, bool | None]:
    """Return the goal of a row whose *figure* should reach *goal*."""
    return f"≥ {goal:g}{what}", None if figure is None else figure >= goal


def both(*goals: tuple[str, bool | None]) -> tuple[str, bool | None]:
    """Return the goal that all of the goals are met."""
    met = [is_met for _, is_met in goals]
    known = None if None in met else all(met)
    return ", ".join(text for text, _ in goals), False if False in met else known


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that *share* of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(seconds: Sequence[float]) -> dict[str, Any]:
    """Return median, 99th percentile and worst of single calls; ``None`` if there are none."""
    if not seconds:
        return {"p50_us": None, "p99_us": None, "worst_ms": None}
    return {
        "p50_us": median(seconds) * 1e6,
        "p99_us": percentile(seconds, 0.99) * 1e6,
        "worst_ms": max(seconds) * 1e3,
    }


def ratio(values: Sequence[float], beside: Sequence[float]) -> float | None:
    """Return how many times something the values are: the median of the rounds' own ratios.

    A round in which nothing was done, and so is 0, does not count.
    """
    pairs = zip(values, beside, strict=True)
    ratios = [value / other for value, other in pairs if value and other]
    return median(ratios) if ratios else None


def turned(count: int, by: int) -> list[int]:
    """Return 0 … count-1, each time beginning with another: nobody always follows the same."""
    return [(at + by) % count for at in range(count)]
