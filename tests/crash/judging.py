"""What must be true of an archive whatever struck those who used it: now, and once all retry."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator

from chance import same_chance
from clients import open_archive, state_of
from faults import without_syncs
from ledger import (
    DOUBLED,
    HALF_BATCH,
    LOST,
    NAME,
    NAMESPACE,
    OTHER,
    Files,
    Findings,
    Ledger,
    leftovers,
    look,
    read_files,
)
from scenario import PACKED, STATE, Scenario
from steps import (
    IMPORTED,
    OTHER_KEY,
    Clear,
    Compact,
    Delete,
    Record,
    Remove,
    Replace,
    Scrub,
    Step,
    Unbury,
)
from told import Document, Told, one_of

from convmem import Archive, RetentionPolicy
from convmem.errors import ConversationNotFound, ConvmemError
from convmem.log import codec

_LIFE = 9  # see chance
_MARK = re.compile(rb',"_b":\["[0-9a-f]{8}",\d+,\d+\],"_c":"[0-9a-f]{8}"\}$')


def judge(root: str, scenario: Scenario, told: Told, damaged: bytes) -> Findings:
    """Judge what a run left behind: as it is, and after every client has retried.

    *damaged* is what the file was that the scenario damaged. Changes the archive and *told*.
    """
    with same_chance(_LIFE), without_syncs():
        return _judge(root, scenario, told, damaged)


def seen(root: str, scenario: Scenario, told: Told) -> Findings:
    """Look as a reader does, who may come at any moment; change nothing."""
    findings = Findings()
    if not (scenario.is_rotten and os.path.exists(os.path.join(root, NAMESPACE, PACKED))):
        ledger = told.ledger.copy()
        for turn_id in scenario.hidden:
            ledger.answers.pop(turn_id, None)
        findings.extend(look(root, ledger, keeps=scenario.keeps))
    with open_archive(root) as archive:
        findings.extend(_elsewhere(archive, told))
        found = _without_others(state_of(archive))
    # While it is in the trash there is none.
    allowed = one_of(told.states, [{}] if scenario.restores else [])
    if found not in [_without_others(state) for state in allowed]:
        findings.add(OTHER, f"the state is {found!r:.60}")
    return findings


def _judge(root: str, scenario: Scenario, told: Told, damaged: bytes) -> Findings:
    findings = Findings()
    findings.extend(seen(root, scenario, told), "left behind: ")
    left = read_files(root)
    findings.extend(_half_compaction(scenario, told.ledger, left.raw))
    if "compact" not in _events(root):  # by somebody else, who may take part of both
        findings.extend(_half_replacement(scenario, told.ledger, left.raw))
    findings.extend(_unnoted(root, scenario, left.raw))
    findings.extend(_not_scrubbed(root, told.ledger), "left behind: ")
    findings.extend(_unburied(root, scenario, told.ledger, left.raw))
    is_changed = bool(_scrubs(scenario))  # also where it was set aside
    if (
        damaged
        and scenario.file in (STATE, PACKED)
        and not is_changed
        and not _is_kept(root, scenario, damaged)
    ):
        findings.add(LOST, f"the damaged {scenario.file} is nowhere")
    if scenario.restores:
        findings.extend(_restored(root, told))
    with open_archive(root) as archive:
        try:
            last_seq = _retry(archive, scenario, told)
        except (ConvmemError, OSError) as error:
            findings.add(OTHER, f"cannot be used afterwards: {error!r}")
            return findings
        highest = told.ledger.highest_seq
        if last_seq <= highest:
            findings.add(DOUBLED, f"seq {last_seq} was given out before, up to {highest}")
        told.ledger.answer("last", last_seq, "afterwards")
        findings.extend(_states(archive, scenario, told))
        findings.extend(_elsewhere(archive, told))
    findings.extend(told.ledger.findings)
    findings.extend(look(root, told.ledger, keeps=scenario.keeps), "after all retried: ")
    findings.extend(_bytes(scenario, left, read_files(root), damaged))
    findings.extend(_not_scrubbed(root, told.ledger))
    findings.extend(_tidied(root, scenario, told))
    return findings


def _retry(archive: Archive, scenario: Scenario, told: Told) -> int:
    """Do again what got no answer, and all that did; return the ``seq`` of one more turn."""
    again: list[Step] = [step for step in scenario.steps if step.is_retried]
    in_batches = {turn_id for batch in told.ledger.batches for turn_id in batch}
    again += [
        Record(str(content), turn_id)
        for turn_id, (_, content) in list(told.ledger.answers.items())
        if turn_id not in in_batches
    ]
    for step in again:
        step.do(archive, told)
    return archive.conversation(NAME).record("user", "afterwards", id="last").seq or 0


def _restored(root: str, told: Told) -> Findings:
    """Restore, and say what is then not in the log."""
    findings = Findings()
    with open_archive(root) as archive:
        chat = archive.conversation(NAME)
        try:
            done = chat.restore()
            if done.conflicts:
                findings.add(DOUBLED, f"{done.conflicts} turns do not come back")
        except ConversationNotFound:
            pass  # nothing is in the trash
        except (ConvmemError, OSError) as error:
            findings.add(OTHER, f"cannot be restored: {error!r}")
        there = {turn.id for turn in chat.turns()} if chat.exists() else set()
    lost = [turn_id for turn_id in told.ledger.answers if turn_id not in there]
    if lost:
        findings.add(LOST, f"{lost} did not come back")
    return findings


def _half_compaction(scenario: Scenario, ledger: Ledger, raw: bytes) -> Findings:
    """The name leads to the old log or to the new one: what went, went together."""
    findings = Findings()
    for step in () if scenario.before else scenario.steps:
        if isinstance(step, Compact):
            turns = [turn_id for turn_id in ledger.answers if turn_id[0] == "t"]
            goes = turns[: max(0, len(turns) - step.keep_last)]
            there = [turn_id for turn_id in goes if b'{"id":"%b"' % turn_id.encode() in raw]
            if there and len(there) != len(goes):
                findings.add(LOST, f"of {goes} only {there} are left in the log")
    return findings


def _half_replacement(scenario: Scenario, ledger: Ledger, raw: bytes) -> Findings:
    """What was named went together, and what came in its place came in that very moment."""
    findings = Findings()
    for step in scenario.steps:
        if not isinstance(step, Remove | Replace):
            continue
        named = ledger.answers if step.ids is None else step.ids
        goes = [turn_id for turn_id in named if turn_id[0] in "ti" and turn_id in ledger.answers]
        there = [turn_id for turn_id in goes if b'{"id":"%b"' % turn_id.encode() in raw]
        if there and len(there) != len(goes):
            findings.add(LOST, f"of {goes} only {there} are left in the log")
        if isinstance(step, Remove) or not step.contents or not goes:
            continue  # where nothing was to go, it is a batch like others
        # Twice where somebody could not know that it was done, and did it again.
        came = {raw.count(b'"content":"%b"' % each.encode()) for each in step.contents}
        if len(came) > 1:
            findings.add(HALF_BATCH, f"of what came, one is there more often than another: {came}")
        if raw and (came != {0}) == bool(there):
            findings.add(OTHER, f"{there} and {came} are there: neither the old nor the new")
    return findings


def _unnoted(root: str, scenario: Scenario, raw: bytes) -> Findings:
    """Nothing goes before the audit log says so."""
    findings = Findings()
    if scenario.before or not scenario.turns:
        return findings
    noted = set(_events(root))
    trash = os.path.join(root, NAMESPACE, ".trash")
    in_trash = os.listdir(trash) if os.path.isdir(trash) else []
    for step in scenario.steps:
        if isinstance(step, Compact) and raw and b'{"id":"t0"' not in raw:
            missing = "compact"
        elif isinstance(step, Remove | Replace) and raw and in_trash and not _is_there(step, raw):
            missing = type(step).__name__.lower() if "compact" not in noted else "compact"
        elif isinstance(step, Delete) and any(name.endswith(".log") for name in in_trash):
            missing = "delete"
        elif isinstance(step, Scrub) and b'"meta":{"scrubbed":' in raw:
            missing = "scrub"
        else:
            continue
        if missing not in noted:
            findings.add(OTHER, f"the audit log knows of no {missing}")
    return findings


def _is_there(step: Remove | Replace, raw: bytes) -> bool:
    first = "t0" if step.ids is None else step.ids[0]
    return b'{"id":"%b"' % first.encode() in raw


def _unburied(root: str, scenario: Scenario, ledger: Ledger, raw: bytes) -> Findings:
    """An imported turn that is not in the log has a tombstone, so that it does not come back."""
    findings = Findings()
    if any(isinstance(step, Unbury) for step in scenario.steps):
        return findings
    path = os.path.join(root, NAMESPACE, ".tombstones", NAME)
    hashes = b""
    if os.path.exists(path):
        with open(path, "rb") as file:
            hashes = file.read()
    known = {hashes[at : at + 16] for at in range(0, len(hashes), 16)}
    for turn_id in ledger.answers:
        is_there = b'{"id":"%b"' % turn_id.encode() in raw
        is_buried = hashlib.blake2b(turn_id.encode(), digest_size=16).digest() in known
        if turn_id.startswith(IMPORTED) and not is_there and not is_buried:
            findings.add(OTHER, f"{turn_id} is gone, and would be imported again")
    return findings


def _events(root: str) -> Iterator[str]:
    folder = os.path.join(root, NAMESPACE, ".audit")
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        with open(os.path.join(folder, name), "rb") as file:
            for line in file.read().split(b"\n"):
                try:
                    yield json.loads(line)["event"]
                except ValueError:
                    continue  # torn by the fault


def _is_kept(root: str, scenario: Scenario, data: bytes) -> bool:
    """Whether the bytes of a damaged file are in their place, or set aside."""
    folder = os.path.join(root, NAMESPACE)
    quarantine = os.path.join(folder, ".quarantine")
    names = [scenario.file]
    if os.path.isdir(quarantine):
        names += [f".quarantine/{name}" for name in os.listdir(quarantine) if name[0] != "."]
    for name in names:
        try:
            with open(os.path.join(folder, name), "rb") as file:
                if file.read() == data:
                    return True
        except FileNotFoundError:
            continue
    return False


def _states(archive: Archive, scenario: Scenario, told: Told) -> Findings:
    """The state is what its last answer said, and somebody else's key is in it."""
    findings = Findings()
    found = state_of(archive)
    if _without_others(found) not in [_without_others(state) for state in told.states]:
        findings.add(OTHER, f"after a retry the state is {found!r:.60}")
    is_cleared = any(isinstance(step, Clear) for step in scenario.steps)
    if told.has_other_key and not is_cleared and OTHER_KEY not in found:
        findings.add(LOST, "somebody else's key of the state")
    return findings


def _without_others(state: Document) -> Document:
    if isinstance(state, str):
        return state
    return {key: value for key, value in state.items() if key != OTHER_KEY}


def _elsewhere(archive: Archive, told: Told) -> Findings:
    """Every other conversation is listed, and has its turns once."""
    findings = Findings()
    if not told.elsewhere:
        return findings
    listed = {chat.continuation_id for chat in archive.conversations()}
    for (name, turn_id), answer in told.elsewhere.items():
        if name not in listed:
            findings.add(LOST, "the other conversation is not listed")
        turns = archive.conversation(name).turns()
        found = [(turn.seq, turn.content) for turn in turns if turn.id == turn_id]
        if found != [answer]:
            findings.add(LOST if not found else DOUBLED, f"{turn_id} elsewhere: {found}")
    return findings


def _bytes(scenario: Scenario, left: Files, healed: Files, damaged: bytes) -> Findings:
    """Every byte is in the log, in the trash or in the quarantine; all lines are lines."""
    findings = Findings()
    by_hand = {
        line.data for line in healed.log if not line.is_good and line.data[:8] == b'{"role":'
    }
    known_bad = {line.data for line in left.log if not line.is_good}
    if scenario.is_rotten:
        known_bad.add(codec.HOLE)  # stands for what could not be saved
    for line in healed.log:
        if not line.is_good and line.data not in by_hand | known_bad:
            findings.add(OTHER, f"a line that is none: {line.data[:60]!r}")
    if healed.tail:
        findings.add(OTHER, f"the log does not end with a line: {healed.tail[:60]!r}")
    pieces = [] if scenario.repairs else [*(line.data for line in left.log), left.tail]
    if scenario.keeps_all:
        # What shared a line may have been split: the turns of it are whole.
        pieces += [line for line in scenario.lines if line in damaged]
        pieces += [line for line in damaged.split(b"\n") if line.count(b'{"id":') <= 1]
    gone = tuple(b'{"id":"%b"' % step.turn_id.encode() for step in _scrubs(scenario))
    removes = any(isinstance(step, Remove) for step in scenario.steps)
    for piece in pieces:
        # What is left of a batch whose last turn was removed stands alone.
        is_kept = healed.holds(piece) or (removes and healed.holds(_MARK.sub(b"", piece)))
        if piece and not is_kept and not piece.startswith(gone):
            findings.add(LOST, f"bytes that are nowhere: {piece[:60]!r}")
    return findings


def _not_scrubbed(root: str, ledger: Ledger) -> Findings:
    """What a scrubbed turn said is in no file, whatever was in the making when somebody died."""
    findings = Findings()
    said = {str(ledger.answers[turn_id][1]).encode() for turn_id in ledger.gone}
    others = {
        str(content).encode()
        for turn_id, (_, content) in ledger.answers.items()
        if turn_id not in ledger.scrubbed
    }
    for folder, _, names in os.walk(root):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                data = file.read()
            if any(text in data for text in said - others):
                findings.add(OTHER, f"what was scrubbed stands in {name}")
    return findings


def _scrubs(scenario: Scenario) -> list[Scrub]:
    return [step for step in scenario.steps if isinstance(step, Scrub)]


def _tidied(root: str, scenario: Scenario, told: Told) -> Findings:
    """Once somebody tidies up, nothing is left of what was in the making."""
    findings = Findings()
    with open_archive(root) as archive:
        chat = archive.conversation(NAME)
        chat.compact(RetentionPolicy(keep_last=1_000_000))
        if scenario.is_packed:
            chat.compress()
            chat.uncompress()
    if scenario.is_packed:
        findings.extend(look(root, told.ledger, keeps=scenario.keeps), "packed and unpacked: ")
        if os.path.exists(os.path.join(root, NAMESPACE, PACKED)):
            findings.add(OTHER, "a compressed log beside the plain one")
    for path in leftovers(root):
        if os.path.basename(path).startswith(f".{NAME}."):  # others' go when those are compacted
            findings.add(OTHER, f"never cleared away: {os.path.basename(path)}")
    return findings
