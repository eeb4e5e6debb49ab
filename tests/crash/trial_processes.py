"""Trials: forks in the middle of calls, no descriptors left, and any text as a name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from random import Random

from lab import Case, Control, Setup, Trial
from ledger import LOST, NAME, OTHER, Findings, Ledger, look

from convmem import Archive, InvalidContinuationId, Observer, ids

_WORKER = os.path.join(os.path.dirname(__file__), "processes_worker.py")
_NAMES_IN_A_CASE = 200
_PARTS = (
    *("a", "A", "é", "e\u0301", "ß", "ẞ", "ſ", "İ", "ı", "K", "K", "漢", "😀", "\u2028", "\ufeff"),
    *(".", "..", "/", "\\", "-", "_", "=", "%", "%41", "%2e", " ", "\n", "\x7f", "~", "*", ":"),
    *(
        "con",
        "CON",
        "nul",
        "com1",
        "lpt9",
        "aux.txt",
        ".jsonl",
        ".trash",
        ".lock",
        ".zst",
        "x" * 90,
    ),
)


def _forks(mutant: str = "") -> Callable[[Setup], Iterator[Case]]:
    def cases(setup: Setup) -> Iterator[Case]:
        for number in range(setup.cases or 1):
            if setup.wants(f"fork {number}"):
                with tempfile.TemporaryDirectory(dir=setup.folder) as place:
                    root = os.path.join(place, "archive")
                    yield _forked(root, f"{setup.seed} {number}", f"fork {number}", mutant)

    return cases


def _forked(root: str, seed: str, label: str, mutant: str) -> Case:
    findings = Findings()
    ledger = Ledger()
    for turn_id, seq, content in _run("fork", root, seed, mutant, findings):
        if turn_id == "wrong":
            findings.add(OTHER, content)
        else:
            ledger.answer(turn_id, seq, content)
    findings.extend(look(root, ledger))
    findings.extend(ledger.findings)
    return Case(label, len(ledger.answers), findings)


def descriptors(setup: Setup) -> Iterator[Case]:
    """Yield a case for each process that had to do without descriptors."""
    for number in range(setup.cases or 1):
        label = f"descriptors {number}"
        if not setup.wants(label):
            continue
        findings = Findings()
        with tempfile.TemporaryDirectory(dir=setup.folder) as place:
            root = os.path.join(place, "archive")
            answers = list(_run("descriptors", root, f"{setup.seed} {number}", "", findings))
            if not answers or answers.pop()[0] != "refused":
                findings.add(OTHER, "it did not come to its end")
            with Archive.open(root, observer=Observer()) as archive:
                for turn_id, seq, content in answers:
                    chat = archive.conversation(f"c{turn_id.partition('.')[0]}")
                    there = [
                        (turn.seq, turn.content) for turn in chat.turns() if turn.id == turn_id
                    ]
                    if there != [(seq, content)]:
                        findings.add(LOST, f"{turn_id}, answered as {seq}, is there as {there}")
            yield Case(label, len(answers), findings)


def _run(
    role: str, root: str, seed: str, mutant: str, findings: Findings
) -> Iterator[tuple[str, int, str]]:
    try:
        done = subprocess.run(
            [sys.executable, _WORKER, role, root, seed, mutant],
            capture_output=True,
            timeout=180,
        )
    except subprocess.TimeoutExpired:
        findings.add(OTHER, "it hung")
        return
    if done.returncode:
        findings.add(OTHER, f"it ended with {done.returncode}: {done.stderr[-300:]!r}")
    for line in done.stdout.splitlines():
        yield tuple(json.loads(line))


def _names(encode: Callable[[str], str]) -> Callable[[Setup], Iterator[Case]]:
    def cases(setup: Setup) -> Iterator[Case]:
        for number in range(setup.cases or 1):
            if setup.wants(f"names {number}"):
                findings = Findings()
                chance = Random(f"{setup.seed} {number}")
                _check_names(chance, encode, findings)
                if number % 20 == 0 and encode is ids.encode_name:
                    _use_names(chance, setup.folder, findings)
                yield Case(f"names {number}", 0, findings)

    return cases


def _text(chance: Random) -> str:
    parts = [chance.choice(_PARTS) for _ in range(1 + int(chance.random() ** 2 * 5))]
    if chance.random() < 0.3:
        parts.append(
            chr(chance.choice((chance.randrange(1, 0xD800), chance.randrange(0xE000, 0x110000))))
        )
    text = "".join(parts)
    way = chance.randrange(6)
    if way == 0:
        return unicodedata.normalize("NFC", text)
    if way == 1:
        return unicodedata.normalize("NFD", text)
    return (str.upper, str.lower, str.swapcase, str)[way - 2](text)


def _check_names(chance: Random, encode: Callable[[str], str], findings: Findings) -> None:
    """Different ids have different names, also where case or Unicode forms are one to the disk."""
    owners: dict[str, str] = {}
    for _ in range(_NAMES_IN_A_CASE):
        text = _text(chance)
        try:
            name = encode(text)
        except InvalidContinuationId:
            continue
        folded = unicodedata.normalize("NFKD", name.casefold())
        if owners.setdefault(folded, text) != text:
            findings.add(LOST, f"{text!r} and {owners[folded]!r} are both {name!r}")
        is_inside = os.path.basename(name) == name and name[:1] not in ("", ".", "-")
        if not is_inside or len(name) > ids.MAX_NAME_BYTES or not name.isascii():
            findings.add(OTHER, f"{text!r} is {name!r}")
        if not ids.is_hashed(name) and ids.decode_name(name) != text:
            findings.add(OTHER, f"{name!r} is {ids.decode_name(name)!r} and not {text!r}")


def _use_names(chance: Random, folder: str, findings: Findings) -> None:
    """Record under some, and find each again, and nothing outside."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        root = os.path.join(place, "archive")
        texts = {_text(chance) for _ in range(30)}
        with Archive.open(root, durability="none", observer=Observer()) as archive:
            for text in texts:
                archive.conversation(text).record("user", text)
            listed = {chat.continuation_id for chat in archive.conversations()}
            if listed != texts:
                findings.add(
                    OTHER, f"not listed as they were given: {sorted(listed ^ texts)[:3]!r}"
                )
            for text in texts:
                if [turn.content for turn in archive.conversation(text).turns()] != [text]:
                    findings.add(LOST, f"{text!r} does not have its turn")
        if os.listdir(place) != ["archive"]:
            findings.add(OTHER, f"outside of the archive: {os.listdir(place)}")


def _careless(text: str) -> str:
    """Name files after ids as many programs do."""
    return ids.encode_name(unicodedata.normalize("NFC", text).lower())


TRIALS = (
    Trial(
        "forks in calls",
        f"parent, threads and children of a fork at any call of theirs lose nothing of {NAME!r}",
        "processes",
        _forks(),
        goal=100,
        short=1,
        controls=(
            Control(
                "a child goes on with its parent's locks", _forks("without_noticing_the_fork"), 20
            ),
        ),
    ),
    Trial(
        "no descriptors",
        "1,500 conversations with 64 descriptors, or none: an error, and nothing is lost",
        "processes",
        descriptors,
        goal=20,
        short=1,
    ),
    Trial(
        "names",
        "any text is a name of its own, inside the archive, on any file system",
        "hundreds of ids",
        _names(ids.encode_name),
        goal=2000,
        short=20,
        controls=(Control("case and Unicode forms are one", _names(_careless), 50),),
    ),
)
