"""What a command that met a fault must have done, said and left: its verdict.

A command that fails must leave what was there, and one that says that it is done must have done
it. The next call, without the fault, must end as if nothing had been.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from before_and_after import Archives, Disk
from commands import KILLED, UPKEEP, Command, Ended, exit_codes_of, run
from ledger import DOUBLED, HALF_BATCH, LOST, OTHER, REORDERED, Findings


@dataclass(slots=True)
class Judgement:
    """What came of one faulty run and of the next one without a fault."""

    findings: Findings
    answered: int


def judge(
    command: Command,
    archives: Archives,
    root: str,
    ended: Ended,
    *,
    words: Iterable[str] = (),
    deaf: bool = False,
    statuses: Iterable[int] = (),
    variables: Mapping[str, str] | None = None,
    relieve: Callable[[], None] | None = None,
    mutant: str | None = None,
) -> Judgement:
    """Look at what a faulty run left, call it again without the fault, and look again.

    *words* are those of which the message must hold one: what the system said. *deaf* is a run
    whose messages nobody got. *statuses* are further exit codes that are as they should be.
    *relieve* ends the trouble.
    """
    findings = Findings()
    before, after = archives.before, archives.after(command)
    there = archives.read(root)
    if relieve is not None:
        relieve()
    _check_status(findings, command, ended, statuses)
    if ended.status not in (command.status, KILLED, *statuses) and not deaf:
        if command.verb in ("health", "config"):  # what is wrong is their answer
            ended.err += ended.out.decode(errors="replace")
        _check_message(findings, ended, words)
    answers = _answers(ended.out) if command.verb == "record" else {}
    _check_disk(findings, command, ended, before, after, there, answers)
    if ended.status != command.status or there.leftovers or not there.same_as(after):
        again = run(command, root, variables=variables, mutant=mutant)
        if again.status not in (command.status, *command.again):
            findings.add(OTHER, f"called again, it ends with {again.status}: {again.err}")
        final = archives.read(root)
        if command.verb == "delete":
            final = _as_judged(final, after)
        if not final.same_as(after):
            findings.add(OTHER, f"called again, it leaves something else: {_differ(final, after)}")
        _check_disk(findings, command, again, before, after, final, answers)
        if command.writes and final.leftovers:
            run(UPKEEP, root)  # it is upkeep that sweeps what the dead have left
            if left := archives.read(root).leftovers:
                findings.add(OTHER, f"left behind: {left}")
    return Judgement(findings, len(answers))


def _as_judged(final: Disk, after: Disk) -> Disk:
    """Pass over a state that stayed where it was when its turns had gone: nothing is lost by it."""
    return replace(final, states=after.states, trash=final.trash | after.trash)


def _check_status(
    findings: Findings, command: Command, ended: Ended, statuses: Iterable[int]
) -> None:
    if ended.status in (KILLED, command.status, *statuses):
        return
    if ended.status not in exit_codes_of(command.verb):
        findings.add(OTHER, f"exit code {ended.status} is not documented: {ended.err[-300:]}")
    elif ended.status not in (4, 7):
        findings.add(OTHER, f"exit code {ended.status} is for something else: {ended.err[-300:]}")


def _check_message(findings: Findings, ended: Ended, words: Iterable[str]) -> None:
    told = ended.err
    if "Traceback" in told or "bug in convmem" in told:
        findings.add(OTHER, f"a traceback: {told[-600:]}")
        return
    if not re.search(r"^(convmem: error: |\{.*\"kind\"|unhealthy|degraded)", told, re.MULTILINE):
        findings.add(OTHER, f"exit code {ended.status} and no message: {told!r}")
        return
    wanted = list(words)
    if wanted and not any(word.lower() in told.lower() for word in wanted):
        findings.add(OTHER, f"it does not say what ({wanted}): {told!r}")
    if not re.search(r"/\S|\.jsonl|standard|convmem \w+|\w+: ", _first_error(told)):
        findings.add(OTHER, f"it does not say where: {told!r}")
    is_report = re.match("unhealthy|degraded|\\{.*checks", told)  # its hints stand in a table
    if not is_report and not re.search(r'^convmem: hint: |"hint": ?"', told, re.MULTILINE):
        findings.add(OTHER, f"it does not say what next: {told!r}")


def _first_error(told: str) -> str:
    for line in told.splitlines():
        if line.startswith("convmem: error: "):
            return line.removeprefix("convmem: error: ")
    return told


def _answers(out: bytes) -> dict[tuple[str, str], int]:
    """Return what was acknowledged on standard output: (conversation, id) → seq."""
    answers = {}
    for line in out.split(b"\n")[:-1]:
        told = json.loads(line)
        answers[told["continuation_id"], told["id"]] = told["seq"]
    return answers


def _check_disk(
    findings: Findings,
    command: Command,
    ended: Ended,
    before: Disk,
    after: Disk,
    there: Disk,
    answers: Mapping[tuple[str, str], int],
) -> None:
    for name, turns in there.logs.items():
        ids = [turn_id for turn_id, seq, _ in turns if seq is not None]
        if len(set(ids)) != len(ids):
            findings.add(DOUBLED, f"{name} holds an id twice: {ids}")
        seqs = [seq for _, seq, _ in turns if isinstance(seq, int)]
        if seqs != sorted(set(seqs)):
            findings.add(REORDERED, f"{name}: {seqs}")
    must_be = before.turns() & after.turns()
    if lost := must_be - there.turns():
        findings.add(LOST, f"{len(lost)} turns, such as {min(lost)[:3]}")
    if unknown := there.turns() - before.turns() - after.turns():
        findings.add(OTHER, f"{len(unknown)} turns from nowhere, such as {min(unknown)}")
    for piece in before.pieces - there.pieces:
        findings.add(LOST, f"damaged bytes are in no quarantine: {piece[:40]!r}")
    for name, seq in answers.items():
        log = there.logs.get(_file_name(name[0]), [])
        if not any((turn[0], turn[1]) == (name[1], seq) for turn in log):
            findings.add(LOST, f"{name} was answered as {seq} and is not there")
    for name, state in there.states.items():
        if state not in (before.states.get(name), after.states.get(name)):
            findings.add(HALF_BATCH, f"the state {name} is half done: {state}")
    if ended.status == command.status and not there.same_as(after):
        findings.add(LOST, f"it said that it was done, and is not: {_differ(there, after)}")
    said_so = re.search(
        r"nothing was (changed|recorded|stored|written)|what was stored is as it was", ended.err
    )
    may_go_on = command.verb == "record" or ended.status == 7
    if said_so and not there.same_turns_as(before) and not may_go_on:
        findings.add(OTHER, f"it said that {said_so[0]}: {_differ(there, before)}")


def _file_name(continuation_id: str) -> str:
    return continuation_id.replace("N", "%4e").replace("/", "%2f")


def _differ(one: Disk, other: Disk) -> str:
    told = [
        f"{name}: {_short(one.logs.get(name))}, not {_short(other.logs.get(name))}"
        for name in sorted({*one.logs, *other.logs})
        if one.logs.get(name) != other.logs.get(name)
    ]
    told += [
        f"{'more' if turn in one.trash else 'less'} in the trash: {turn[:3]}"
        for turn in sorted(one.trash ^ other.trash)[:4]
    ]
    for what, mine, theirs in (
        ("state", one.states, other.states),
        ("form", one.forms, other.forms),
    ):
        told += [
            f"{what} of {name}: {mine.get(name)}, not {theirs.get(name)}"
            for name in sorted({*mine, *theirs})
            if mine.get(name) != theirs.get(name)
        ]
    return "; ".join(told)


def _short(turns: list[tuple[str, object, str]] | None) -> str:
    return "none" if turns is None else f"{[turn[0] for turn in turns[:9]]} ({len(turns)})"
