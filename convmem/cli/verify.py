"""``convmem verify``: say of each byte of a conversation's file what it is. Reads only."""

from __future__ import annotations

from typing import Any

from convmem.cli.boundary import EXIT_CODES, one_line, status_of
from convmem.cli.output.bar import Bar
from convmem.cli.output.messages import Messages
from convmem.cli.places import namespace_of, open_archive, require_archive
from convmem.cli.several import Watch, chosen, total_bytes
from convmem.cli.spec import Context
from convmem.errors import ConversationNotFound, ConvmemError
from convmem.log.checks.verify_report import BLANK, NOT_UNPACKED, UNSEALED, Finding, VerifyReport
from convmem.quantities import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


_MOST_SHOWN = 5


def run(
    context: Context,
    *,
    continuation_ids: list[str],
    all_conversations: bool,
    quiet: bool,
    json: bool,
) -> int:
    """Check, and return the exit status."""
    if all_conversations:
        require_archive(context)
    messages = Messages(as_json=json, quiet=quiet)
    talk = _Talk(namespace_of(context), as_json=json, quiet=quiet)
    failures: list[ConvmemError] = []
    watch = Watch(messages)
    with open_archive(context, observer=watch, messages=messages) as archive:
        names = chosen(archive, continuation_ids, all_conversations, "check")
        with Bar("verifying", total_bytes(map(archive.conversation, names)), quiet=quiet) as bar:
            watch.bar = bar
            for name in names:
                try:
                    talk.begin(name)
                    talk.end(archive.conversation(name).verify(on_finding=talk.tell))
                except ConvmemError as error:
                    if all_conversations and isinstance(error, ConversationNotFound):
                        continue  # deleted since: nobody asked for it by name
                    failures.append(error)
                    messages.error(error, where=f"{name}: ", continuation_id=name)
    talk.sum_up(len(names) - len(failures))
    if talk.not_unpacked:
        count = len(talk.not_unpacked)
        which = shown(talk.not_unpacked)
        messages.warn(
            "damaged",
            f"{count:,} compressed {'conversation does' if count == 1 else 'conversations do'}"
            " not unpack whole",
            hint="fetch the files from a backup, or save what is left of them with:"
            f" convmem compress --undo --damaged {which}",
        )
    if talk.damaged:
        which = shown(talk.damaged[:1]) if len(talk.damaged) == 1 else "--all"
        messages.warn(
            "damaged",
            f"damage in {len(talk.damaged):,} of {len(names):,} conversations",
            hint=f"see what can be done with: convmem repair {which} --dry-run",
        )
    if talk.damaged or talk.not_unpacked:
        return EXIT_CODES["damaged"]
    return status_of(failures, only_one=len(names) == 1 and not all_conversations)


def shown(names: Sequence[str]) -> str:
    """Return ids for a command line that a hint tells of."""
    from shlex import quote

    ids = [quote(name) for name in names[:_MOST_SHOWN]]
    if len(names) > len(ids):
        ids.append("…")
    return one_line(" ".join(ids))


class _Talk:
    """Says what was found, as it is found, and sums up."""

    def __init__(self, namespace: str, *, as_json: bool, quiet: bool) -> None:
        self.damaged: list[str] = []
        self.not_unpacked: list[str] = []
        self._namespace = namespace
        self._as_json = as_json
        self._quiet = quiet
        self._name = ""
        self._turns = self._bytes = self._by_hand = self._blank = 0
        self._found: dict[str, int] = {}

    def begin(self, name: str) -> None:
        """What follows is of this conversation."""
        self._name = name

    def tell(self, finding: Finding) -> None:
        """Say one finding."""
        if self._as_json:
            self._write(
                "finding",
                line=finding.line,
                offset=finding.offset,
                length=finding.length,
                kind=finding.kind,
                message=finding.words,
                id=finding.id,
                seq=finding.seq,
            )
            return
        which = "" if finding.id is None else f"id {one_line(finding.id[:80])}: "
        print(
            f"{one_line(self._name)}: line {finding.line}, byte {finding.offset}:"
            f" {which}{one_line(finding.words)} ({finding.length} bytes)"
        )

    def end(self, report: VerifyReport) -> None:
        """Take the report on the conversation."""
        if NOT_UNPACKED in report.found:
            self.not_unpacked.append(self._name)
        elif report.is_damaged:
            self.damaged.append(self._name)
        self._turns += report.turns
        self._bytes += report.size
        self._by_hand += report.lines[UNSEALED]
        self._blank += report.lines[BLANK]
        for kind, count in report.found.items():
            self._found[kind] = self._found.get(kind, 0) + count
        if self._as_json:
            self._write(
                "summary",
                damaged=report.is_damaged,
                size=report.size,
                turns=report.turns,
                first_seq=report.first_seq,
                last_seq=report.last_seq,
                found=report.found,
                bytes=report.bytes,
                lines=report.lines,
            )

    def sum_up(self, count: int) -> None:
        """Say what all of it comes to."""
        if self._as_json or self._quiet or not count:
            return
        what = one_line(self._name) if count == 1 else f"{count:,} conversations"
        also = ""
        if self._by_hand:
            also += f", {self._by_hand:,} of them by hand"
        if self._blank:
            also += f", {self._blank:,} empty lines"
        turns = "turn" if self._turns == 1 else "turns"
        faults = ", ".join(f"{kind} {count:,}" for kind, count in self._found.items())
        print(
            f"{what}: {self._turns:,} {turns}{also}, {format_size(self._bytes)}:"
            f" {faults or 'no damage'}"
        )

    def _write(self, of: str, **more: Any) -> None:
        from convmem.cli.output.machine import write_object

        write_object(
            {"type": of, "continuation_id": self._name, "namespace": self._namespace, **more}
        )
