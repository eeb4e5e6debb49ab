"""What one append costs: alone, among threads and among processes, synced and not.

All shapes are open at once and take turns in slices of a tenth of a second, and in each slice
round the contestants take turns too, so that whatever else the machine does meets all of them.
Afterwards each history is read by its own reader: what was answered must be there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from figures import Run, Table, at_least, at_most, both, ratio, spread, turned
from peers.known import (
    AGENT_FRAMEWORK,
    FLOOR,
    LANGCHAIN_FILE,
    LANGCHAIN_SQL,
    OPENAI,
    OURS,
    SQLITE,
    STRANDS,
    Contestant,
    Kind,
)
from workers import Refused, Worker, at_once

_DURABLE = (FLOOR, OURS, SQLITE, OPENAI, LANGCHAIN_SQL, LANGCHAIN_FILE, AGENT_FRAMEWORK)
_UNSYNCED = (FLOOR, OURS, SQLITE, STRANDS, AGENT_FRAMEWORK, LANGCHAIN_FILE)
_FLOOR_TIMES = 1.3
_THREADS_TIMES = 4.0
_WORST_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Shape:
    """How many append at once: *chats* for each process, one thread for each entry."""

    name: str
    processes: int
    chats: tuple[tuple[int, ...], ...]

    @property
    def all_chats(self) -> list[str]:
        """Return the names of all chats that are written."""
        return [f"chat-{at}" for at in sorted({chat for its in self.chats for chat in its})]


_ALONE = Shape("1 thread", 1, ((0,),))
_EIGHT = Shape("8 threads, one conversation", 1, ((0,) * 8,))
_FOUR = Shape("4 processes, one conversation", 4, ((0,),) * 4)
_SHAPES = (
    _ALONE,
    _EIGHT,
    Shape("8 threads, eight conversations", 1, (tuple(range(8)),)),
    _FOUR,
    Shape("4 processes, four conversations", 4, ((0,), (1,), (2,), (3,))),
)


@dataclass(slots=True)
class _Result:
    """What one contestant did in one shape; lists have an entry for each slice."""

    calls: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    each: list[float] = field(default_factory=list)  # seconds for a turn, by the clock on the wall
    answered: int = 0
    cpu: float = 0.0
    refused: int = 0
    why: str = ""
    lost: int = 0
    peak_mb: float = 0.0


def measure(run: Run) -> list[Table]:
    """Measure durable appends in all shapes, and unsynced ones of one thread."""
    return [
        *_tables(run, "durable append", _DURABLE, _SHAPES, durable=True),
        *_tables(run, "unsynced append", _UNSYNCED, (_ALONE,), durable=False),
    ]


def _tables(
    run: Run,
    title: str,
    wanted: tuple[Contestant, ...],
    shapes: tuple[Shape, ...],
    *,
    durable: bool,
) -> list[Table]:
    place = run.new_folder(title.replace(" ", "-"))
    before = run.pick(100, 100, 5)  # turns that each chat has when the clock starts
    crews: dict[Contestant, list[Worker]] = {}
    missing: dict[Contestant, str] = {}
    for who in wanted:
        try:
            crew = run.workers.start(who, max(shape.processes for shape in shapes))
            for number, shape in enumerate(shapes):
                folder = place / f"{who.module}-{number}"
                _open(crew, shape, str(folder), before, durable=durable)
            crews[who] = crew
        except Refused as why:
            if who.kind is not Kind.PEER:
                raise
            missing[who] = str(why)
    present = list(crews)
    results = {(who, shape): _Result() for who in present for shape in shapes}
    seconds = run.pick(0.1, 0.1, 0.01) if durable else run.pick(0.05, 0.05, 0.005)
    for number in range(run.pick(24, 8, 1)):
        for shape in shapes:
            for who in (present[at] for at in turned(len(present), number)):
                if who in missing:
                    continue
                try:
                    _slice(results[who, shape], crews[who], shape, seconds)
                except Refused as why:  # its process ended
                    if who.kind is not Kind.PEER:
                        raise
                    missing[who] = str(why)
    for (who, shape), result in results.items():
        if who not in missing:
            _look(result, crews[who], shape, before)
    tables = []
    for shape in shapes:
        table = Table(
            f"{title}, {shape.name}",
            f"Each conversation has {before} turns to begin with. over_floor = time for a turn "
            "over that of a bare write" + (" and fdatasync." if durable else "."),
        )
        for who in wanted:
            if who in missing:
                table.add_missing(who, missing[who])
            else:
                _add(table, who, shape, results, durable=durable)
        refusing = [who for who in present if results[who, shape].refused]
        table.note += "".join(
            f"\n{who.name} refused with {results[who, shape].why}." for who in refusing
        )
        tables.append(table)
    run.workers.close()
    return tables


def _open(crew: list[Worker], shape: Shape, place: str, before: int, *, durable: bool) -> None:
    """Open a history of its own for a shape, with some turns in each chat."""
    chats = shape.all_chats
    for worker in crew[: shape.processes]:
        worker.ask("open", name=shape.name, place=place, chats=chats, durable=durable)
    for chat in range(len(chats)):
        crew[0].ask("append", name=shape.name, chats=[chat], seconds=60.0, most=before)


def _slice(result: _Result, crew: list[Worker], shape: Shape, seconds: float) -> None:
    """Let one contestant append for so long."""
    words = [
        {"name": shape.name, "chats": chats, "seconds": seconds, "most": 10**9}
        for chats in shape.chats
    ]
    told = at_once(crew[: shape.processes], "append", words)
    calls = [call for each in told for call in each["seconds"]]
    answered = sum(each["answered"] for each in told)
    took = max(each["took"] for each in told)
    result.calls += calls
    result.answered += answered
    result.cpu += sum(each["cpu"] for each in told)
    result.refused += sum(each["refused"] for each in told)
    result.why = result.why or next((each["why"] for each in told if each["why"]), "")
    result.medians.append(median(calls) if calls else 0.0)
    result.each.append(took / answered if answered else 0.0)
    result.peak_mb = max(worker.peak_mb for worker in crew)


def _look(result: _Result, crew: list[Worker], shape: Shape, before: int) -> None:
    """Count what is there of what was answered."""
    told = crew[0].ask("kept", name=shape.name)
    if told["kept"] is None:
        result.lost, result.why = result.answered, told["why"]
    else:
        there = before * len(shape.all_chats)
        result.lost = max(0, there + result.answered - sum(told["kept"]))
    for worker in crew[: shape.processes]:
        worker.ask("close", name=shape.name)


def _add(
    table: Table,
    who: Contestant,
    shape: Shape,
    results: dict[tuple[Contestant, Shape], _Result],
    *,
    durable: bool,
) -> None:
    result, floor = results[who, shape], results[FLOOR, shape]
    # Alone, a call is what counts; together, how many of them are done in a while.
    is_alone = shape is _ALONE
    over_floor = (
        ratio(result.medians, floor.medians) if is_alone else ratio(result.each, floor.each)
    )
    over_one = None if is_alone else ratio(results[who, _ALONE].each, result.each)
    goal: tuple[str, bool | None] = ("", None)
    if who is OURS and durable and is_alone:
        others = [
            ratio(result.medians, other.medians)
            for (peer, its_shape), other in results.items()
            if peer.kind is Kind.PEER and its_shape is shape
        ]
        ahead = at_most(max((other or 0.0 for other in others), default=None), 1, " × any peer")
        goal = both(at_most(over_floor, _FLOOR_TIMES, " × floor"), ahead)
    elif who is OURS and not durable:
        sqlite = results.get((SQLITE, shape))
        over = ratio(result.medians, sqlite.medians) if sqlite else None
        goal = at_most(over, 1, f" × {SQLITE.name} NORMAL")
    elif who is OURS and shape is _EIGHT:
        goal = at_least(over_one, _THREADS_TIMES, " × 1 thread")
    elif who is OURS and shape is _FOUR:
        peer = results.get((OPENAI, shape))
        share = max(result.calls) / max(peer.calls) if peer and peer.calls else None
        goal = at_most(share, _WORST_SHARE, f" × worst of {OPENAI.name}")
    table.add(
        who.name,
        who.kind,
        survives=(who.durable if durable else who.unsynced) or who.unsynced or "",
        **spread(result.calls),
        cpu_us=result.cpu / result.answered * 1e6 if result.answered else None,
        per_s=1 / median(result.each) if all(result.each) else None,
        over_floor=over_floor,
        over_one_thread=over_one,
        refused=result.refused,
        lost=result.lost,
        resident_mb=result.peak_mb,
        goal=goal,
    )
