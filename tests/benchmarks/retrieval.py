"""How much of the evidence for a question each way of searching finds: turn recall, and sessions.

    python tests/benchmarks/retrieval.py [FILE.json] [--only scan,fts,semantic,hybrid]

FILE is a question set in LoCoMo's format (``locomo.py`` reads it); without it, our own sets, on
which ranking was tuned. Each sample becomes a conversation of one fresh archive, each speaker a
role. Each question is asked as it stands, in its own conversation, through the public API.

Recall@k is the share of a question's evidence turns among the first k hits, the mean over all
questions that have evidence. A session is hit where any of its turns is; sessions stand in the
order of their best turn. MRR is of the first evidence turn.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import fmean
from typing import TypeAlias

from locomo import CATEGORIES, Question, Sample, read

from convmem import Archive, ConvmemError
from convmem.search.language.first_person import said
from convmem.search.language.query import parse
from convmem.search.language.words import index_terms, stem

DATA = Path(__file__).parent / "data" / "made.json"
DEPTHS = (5, 10, 25, 50)
MOST = max(DEPTHS)
FIGURES = (*(f"R@{depth}" for depth in DEPTHS), "S@1", "S@5", "MRR")
WAYS = ("scan", "fts", "semantic", "hybrid")
# A sample and a question lead to the ``dia_id`` of the turns found, best first.
Way: TypeAlias = Callable[[Sample, str], list[str]]


class Skipped(Exception):
    """A way of searching is not to be had here; the message says why."""


def main() -> int:
    """Measure and print."""
    options = _options()
    samples = read(options.file)
    asked = [question for sample in samples for question in sample.questions if question.evidence]
    print(
        f"{options.file.name}: {len(samples)} conversations, "
        f"{sum(len(sample.turns) for sample in samples):,} turns, {len(asked)} questions"
    )
    print(f"{'':9} {'questions':24} {'n':>5}  " + " ".join(f"{name:>5}" for name in FIGURES))
    with tempfile.TemporaryDirectory() as root, Archive.open(root, durability="none") as archive:
        for sample in samples:
            archive.conversation(sample.name).record_many(
                turn.as_object() for turn in sample.turns if turn.text
            )
        for name in options.only:
            try:
                began = time.perf_counter()
                way = MAKERS[name](archive, samples)
                made = time.perf_counter() - began
                _report(name, way, samples, made, _index_bytes(root))
            except Skipped as why:
                print(f"{name:9} skipped: {why}")
    return 0


# --- the ways ----------------------------------------------------------------------------------


def by_scan(archive: Archive, samples: list[Sample]) -> Way:
    """Every turn is read; those with more words of the question come first, then the newest."""

    def found(sample: Sample, question: str) -> list[str]:
        words = set(map(stem, parse(question).words))
        held = []
        for at, turn in enumerate(archive.conversation(sample.name).turns()):
            count = len(words & index_terms(turn.text))
            if count:
                held.append((count, at, str((turn.meta or {})["dia_id"])))
        return [dia_id for *_, dia_id in sorted(held, reverse=True)[:MOST]]

    return found


def by_words(archive: Archive, samples: list[Sample]) -> Way:
    """``archive.search`` as it is. The index is made here."""
    archive.search("index")

    def found(sample: Sample, question: str) -> list[str]:
        return _dia_ids(archive.search(question, continuation_ids=[sample.name], limit=MOST))

    return found


def by_meaning(archive: Archive, samples: list[Sample]) -> Way:
    """The order of the vectors alone, each turn's and the question's, by the default embedder."""
    try:
        from convmem.search.semantic.minilm import MiniLM

        embedder = MiniLM(threads=os.cpu_count() or 1)
    except (ImportError, ConvmemError) as error:
        raise Skipped(str(error)) from error
    vectors = {
        sample.name: embedder.embed([turn.text for turn in sample.turns]) for sample in samples
    }

    def found(sample: Sample, question: str) -> list[str]:
        asked = said(question, {turn.speaker for turn in sample.turns})
        likeness = vectors[sample.name] @ embedder.embed([asked])[0]
        return [sample.turns[at].dia_id for at in (-likeness).argsort(kind="stable")[:MOST]]

    return found


def by_both(archive: Archive, samples: list[Sample]) -> Way:
    """``archive.search(…, semantic=True)``. The vectors are made here."""
    if "semantic" not in inspect.signature(archive.search).parameters:
        raise Skipped("archive.search does not search by meaning")
    try:
        archive.index(semantic=True)  # type: ignore[call-arg]
    except (ImportError, ConvmemError) as error:
        raise Skipped(str(error)) from error

    def found(sample: Sample, question: str) -> list[str]:
        return _dia_ids(
            archive.search(
                question,
                continuation_ids=[sample.name],
                limit=MOST,
                semantic=True,  # type: ignore[call-arg]
            )
        )

    return found


MAKERS: dict[str, Callable[[Archive, list[Sample]], Way]] = {
    "scan": by_scan,
    "fts": by_words,
    "semantic": by_meaning,
    "hybrid": by_both,
}


def _dia_ids(page: Iterable[object]) -> list[str]:
    return [hit.turn.meta["dia_id"] for hit in page]  # type: ignore[attr-defined]


# --- the figures -------------------------------------------------------------------------------


def measured(found: list[str], evidence: list[str]) -> tuple[float, ...]:
    """Return ``FIGURES`` of one question.

    >>> measured(["D2:1", "D1:1"], ["D1:1", "D9:9"])
    (0.5, 0.5, 0.5, 0.5, 0.0, 1.0, 0.5)
    """
    recalls = [len(set(found[:depth]).intersection(evidence)) / len(evidence) for depth in DEPTHS]
    sessions = list(dict.fromkeys(dia_id.split(":")[0] for dia_id in found))
    wanted = {dia_id.split(":")[0] for dia_id in evidence}
    ranks = [at for at, dia_id in enumerate(found, 1) if dia_id in evidence]
    return (
        *recalls,
        float(not wanted.isdisjoint(sessions[:1])),
        float(not wanted.isdisjoint(sessions[:5])),
        1 / ranks[0] if ranks else 0.0,
    )


def _report(name: str, way: Way, samples: list[Sample], made: float, index_bytes: int) -> None:
    rows: list[tuple[Question, tuple[float, ...]]] = []
    seconds = 0.0
    for sample in samples:
        for question in sample.questions:
            if question.evidence:
                began = time.perf_counter()
                found = way(sample, question.text)
                seconds += time.perf_counter() - began
                rows.append((question, measured(found, question.evidence)))
    for title, group in _groups(rows):
        means = [fmean(column) for column in zip(*group, strict=True)]
        shown = " ".join(f"{100 * mean:5.1f}" for mean in means)
        print(f"{name:9} {title:24} {len(group):5}  {shown}")
    print(
        f"{name:9} {1000 * seconds / max(1, len(rows)):.1f} ms a question; "
        f"made ready in {made:.2f} s; derived files {index_bytes:,} bytes",
        flush=True,
    )


def _groups(
    rows: list[tuple[Question, tuple[float, ...]]],
) -> Iterator[tuple[str, list[tuple[float, ...]]]]:
    wordings = sorted({question.wording for question, _ in rows if question.wording})
    yield "all", [figures for _, figures in rows]
    yield "categories 1-4", [figures for question, figures in rows if 1 <= question.category <= 4]
    for number, title in CATEGORIES.items():
        its = [figures for question, figures in rows if question.category == number]
        if its:
            yield f"  {number} {title}", its
    for wording in wordings:
        its = [figures for question, figures in rows if question.wording == wording]
        yield f"  wording: {wording}", its


def _index_bytes(root: str) -> int:
    """Return the size of what is derived: all below folders named ``.index``."""
    return sum(
        path.stat().st_size
        for path in Path(root).rglob("*")
        if path.is_file() and ".index" in path.relative_to(root).parts
    )


def _ways(text: str) -> list[str]:
    ways = [way for way in text.split(",") if way]
    unknown = [way for way in ways if way not in WAYS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(WAYS)}")
    return ways


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="how much of the evidence each search finds")
    parser.add_argument("file", nargs="?", type=Path, default=DATA, help="in LoCoMo's format")
    parser.add_argument(
        "--only", type=_ways, default=list(WAYS), metavar="WAYS", help=",".join(WAYS)
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
