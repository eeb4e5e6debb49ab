"""Metrics: an observer that counts what a process does with its archives, and how long it takes.

It sees conversations' ids and sizes, never content, and keeps nothing for each of them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from threading import Lock

from convmem.progress import Observer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from convmem.errors import ConvmemError
    from convmem.log.records import Damage
    from convmem.log.removing.survey import CompactionReport

# From a write that nobody syncs to a disk that is in trouble; in seconds.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0)


class Metrics(Observer):
    """Counts what one process does with its archives, and how long it takes.

    Safe for any number of threads; give one to as many archives as you like. Its size does not
    depend on how many conversations there are: nothing is kept for each of them.
    """

    def __init__(self) -> None:
        self._guard = Lock()
        self._counts = dict.fromkeys(_COUNTERS, 0)
        self._failures: dict[tuple[str, str], int] = {}
        self._times = {name: _Histogram() for name in _HISTOGRAMS}

    def recorded(
        self, continuation_id: str, turns: int, bytes: int, seconds: float, waited_seconds: float
    ) -> None:
        """Count it."""
        with self._guard:
            self._counts["recorded_turns"] += turns
            self._counts["recorded_bytes"] += bytes
            self._times["record_seconds"].add(seconds)
            if waited_seconds:
                self._times["lock_wait_seconds"].add(waited_seconds)

    def read(self, continuation_id: str, turns: int, seconds: float) -> None:
        """Count it."""
        with self._guard:
            self._counts["read_turns"] += turns
            self._times["read_seconds"].add(seconds)

    def compacted(self, continuation_id: str, report: CompactionReport, seconds: float) -> None:
        """Count it."""
        with self._guard:
            self._counts["dropped_turns"] += report.dropped
            self._counts["dropped_bytes"] += report.dropped_bytes
            self._times["compact_seconds"].add(seconds)

    def failed(self, continuation_id: str, doing: str, error: ConvmemError) -> None:
        """Count it under what was asked for and the error's kind."""
        with self._guard:
            key = (doing, error.kind)
            self._failures[key] = self._failures.get(key, 0) + 1

    def damaged(self, continuation_id: str, damage: Damage) -> None:
        """Count it; damage that is met twice counts twice."""
        self._count("damaged_lines")

    def healed(self, continuation_id: str, quarantined: str) -> None:
        """Count it."""
        self._count("healed_logs")

    def set_aside(self, continuation_id: str, quarantined: str) -> None:
        """Count it."""
        self._count("states_set_aside")

    def snapshot(self) -> dict[str, Any]:
        """Return all figures as one JSON object, of one moment. It is yours to keep.

        Counters by name; ``failures`` by ``"record:busy"`` and the like; and for each timing
        ``count``, ``sum`` and ``max`` in seconds and ``buckets``: how many took up to so long.
        """
        with self._guard:
            figures: dict[str, Any] = dict(self._counts)
            figures["failures"] = {
                f"{doing}:{kind}": count for (doing, kind), count in self._failures.items()
            }
            for name, histogram in self._times.items():
                figures[name] = histogram.as_dict()
        return figures

    def prometheus(self) -> str:
        """Return all figures in Prometheus' text format, for a ``/metrics`` page."""
        figures = self.snapshot()
        with self._guard:
            failures = sorted(self._failures.items())
        lines = []
        for name, meaning in _COUNTERS.items():
            full = f"convmem_{name}_total"
            lines += _head(full, "counter", meaning)
            lines.append(f"{full} {figures[name]}")
        lines += _head("convmem_failures_total", "counter", "What was asked for and refused.")
        lines += [
            f'convmem_failures_total{{doing="{doing}",kind="{kind}"}} {count}'
            for (doing, kind), count in failures
        ]
        for name, meaning in _HISTOGRAMS.items():
            full, histogram = f"convmem_{name}", figures[name]
            lines += _head(full, "histogram", meaning)
            lines += [
                f'{full}_bucket{{le="{edge}"}} {count}'
                for edge, count in histogram["buckets"].items()
            ]
            lines.append(f"{full}_sum {histogram['sum']}")
            lines.append(f"{full}_count {histogram['count']}")
        return "\n".join(lines) + "\n"

    def _count(self, name: str) -> None:
        with self._guard:
            self._counts[name] += 1


_COUNTERS = {
    "recorded_turns": "Turns that were stored and acknowledged; a retry is none.",
    "recorded_bytes": "Bytes of their lines.",
    "read_turns": "Turns that were read from the end of conversations.",
    "dropped_turns": "Turns that compaction let go.",
    "dropped_bytes": "Bytes of their lines.",
    "damaged_lines": "Damaged lines that readers passed over.",
    "healed_logs": "Tails that a crash had torn and an append set aside.",
    "states_set_aside": "Damaged states that were cleared.",
}
_HISTOGRAMS = {
    "record_seconds": "From the call to the acknowledgement, syncs included.",
    "lock_wait_seconds": "How much of it others held the lock, where they did.",
    "read_seconds": "Reading the last turns of a conversation.",
    "compact_seconds": "Compacting one conversation.",
}


class _Histogram:
    """How many durations there were, how long in all, and how many up to each edge."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0.0
        self.max = 0.0
        self._in_bucket = [0] * (len(BUCKETS) + 1)

    def add(self, seconds: float) -> None:
        self.count += 1
        self.sum += seconds
        self.max = max(self.max, seconds)
        self._in_bucket[bisect_left(BUCKETS, seconds)] += 1

    def as_dict(self) -> dict[str, Any]:
        below = 0
        buckets = {}
        for edge, count in zip((*BUCKETS, math.inf), self._in_bucket, strict=True):
            below += count
            buckets["+Inf" if edge == math.inf else f"{edge:g}"] = below
        return {"count": self.count, "sum": self.sum, "max": self.max, "buckets": buckets}


def _head(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
