"""``convmem scrub``: remove what one turn said, everywhere and for good."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from shlex import quote
from typing import Any

from convmem import copied, jsontext
from convmem.archive import Archive
from convmem.cli import values
from convmem.cli.boundary import EXIT_CODES, one_line
from convmem.cli.output.asking import confirm
from convmem.cli.output.bar import Bar
from convmem.cli.output.messages import Messages
from convmem.cli.places import namespace_of, open_archive
from convmem.cli.several import Watch, total_bytes
from convmem.cli.spec import Context
from convmem.conversation import Conversation
from convmem.log.removing import scrub_files
from convmem.log.removing.scrub_plan import Place, Scrubbed

_WORDS = {
    scrub_files.LOG: "the log",
    scrub_files.TRASH: "the trash",
    scrub_files.QUARANTINE: "the quarantine",
    scrub_files.AUDIT: "the audit log",
    scrub_files.TEMPORARY: "left-over temporary files",
}


def run(
    context: Context,
    *,
    continuation_id: str,
    turn: str,
    dry_run: bool,
    yes: bool,
    quiet: bool,
    json: bool,
) -> int:
    """Scrub, and return the exit status."""
    messages = Messages(as_json=json, quiet=quiet)
    now = values.now(context)
    watch = Watch(messages)
    with open_archive(context, observer=watch) as archive:
        chat = archive.conversation(continuation_id)
        question = (
            f"Remove what turn {one_line(turn)} of {one_line(continuation_id)} said, for good?"
        )
        if not dry_run and not yes and not confirm(question):
            messages.warn("cancelled", "nothing was scrubbed")
            return 1
        with Bar("scrubbing", total_bytes([chat]), quiet=quiet) as bar:
            watch.bar = bar
            done = chat.scrub(turn, dry_run=dry_run, now=now)
        elsewhere = [] if done.turn_id is None else list(_copies(archive, chat, done.turn_id))
    if json:
        from convmem.cli.output.machine import write_object

        write_object(_as_dict(continuation_id, namespace_of(context), done))
    elif not quiet:
        print(_sentence(continuation_id, done))
    _tell_of_relatives(messages, continuation_id, done)
    for name, turn_id in elsewhere:
        messages.warn(
            "copied",
            f"{name}: turn {turn_id} is, or holds, a copy of it, and was not touched",
            hint=f"scrub it too: convmem scrub {quote(name)} {quote(turn_id)}",
            continuation_id=name,
            turn_id=turn_id,
        )
    return EXIT_CODES["partial"] if done.left else 0


def _copies(archive: Archive, chat: Conversation, turn_id: str) -> Iterator[tuple[str, str]]:
    """Yield conversation and id of the turns that are, or hold, copies of a turn: reads them all.

    A fork, or a session that was resumed, has them.
    """
    spelled = jsontext.dumps(turn_id)
    for other in archive.conversations():
        for stored in other.stored_turns(damaged=lambda _: None):
            if spelled not in stored.line:
                continue
            turn = stored.turn
            is_it = turn.id == turn_id and other.continuation_id != chat.continuation_id
            # Of an import: other people's ids may be alike, those of sources are not.
            is_it = is_it and "source" in (turn.meta or {})
            if turn.id is not None and (is_it or turn_id in copied.ids_in(turn)):
                yield other.continuation_id, turn.id


def _sentence(continuation_id: str, done: Scrubbed) -> str:
    which = one_line(f"{continuation_id}: turn {_name_of(done)}")
    if not done.is_changed:
        return f"{which}: nothing is left to scrub"
    verb = "would be scrubbed" if done.dry_run else "scrubbed"
    files = Counter(place.kind for place in done.places)
    parts = [_part(kind, files[kind]) for kind in _WORDS if files[kind]]
    return f"{which}: {verb} from {', '.join(parts)}"


def _part(kind: str, files: int) -> str:
    if kind == scrub_files.LOG:
        return _WORDS[kind]
    return f"{_WORDS[kind]} ({files:,} {'file' if files == 1 else 'files'})"


def _name_of(done: Scrubbed) -> str:
    if done.turn_id is None or done.seq is None:
        return str(done.seq if done.turn_id is None else done.turn_id)
    return f"{done.seq} ({done.turn_id})"


def _tell_of_relatives(messages: Messages, continuation_id: str, done: Scrubbed) -> None:
    for kind, ids, what in (
        ("replaced_by", done.replaced_by, "is a later version of it, and was not touched"),
        ("summarized", done.summaries, "sums it up with others, and was not touched"),
    ):
        for turn_id in ids:
            messages.warn(
                kind,
                f"{continuation_id}: turn {turn_id} {what}",
                hint="look at it, and scrub it too if need be",
                continuation_id=continuation_id,
                turn_id=turn_id,
            )
    for file in done.left:
        messages.warn(
            "left",
            f"{continuation_id}: .quarantine/{file} has parts that cannot be read, and may hold it",
            hint="if nothing else in it is of worth, remove the file",
            continuation_id=continuation_id,
            quarantine=file,
        )


def _as_dict(continuation_id: str, namespace: str, done: Scrubbed) -> dict[str, Any]:
    return {
        "continuation_id": continuation_id,
        "namespace": namespace,
        "turn_id": done.turn_id,
        "seq": done.seq,
        "dry_run": done.dry_run,
        "changed": done.is_changed and not done.dry_run,
        "scrubbed": done.scrubbed,
        "places": [_of_place(place) for place in done.places],
        "replaced_by": done.replaced_by,
        "summaries": done.summaries,
        "left": done.left,
    }


def _of_place(place: Place) -> dict[str, Any]:
    return {
        "kind": place.kind,
        "file": place.file,
        "turns": place.turns,
        "pieces": place.pieces,
    }
