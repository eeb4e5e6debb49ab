"""``convmem compress``: let conversations that nobody uses lie compressed, and take that back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from shlex import quote

from convmem.archive import Archive
from convmem.cli import values
from convmem.cli.boundary import one_line, status_of
from convmem.cli.output.bar import Bar
from convmem.cli.output.messages import Messages, stdout_is_terminal
from convmem.cli.places import namespace_of, open_archive, require_archive
from convmem.cli.several import chosen
from convmem.cli.spec import Context
from convmem.errors import ConversationNotFound, ConvmemError, UsageError
from convmem.log.compressed import cold_report
from convmem.log.compressed.cold_report import CompressionReport
from convmem.progress import Observer
from convmem.quantities import format_size

_REASONS = {
    cold_report.ALREADY: "is compressed already",
    cold_report.NOT_COMPRESSED: "is not compressed",
    cold_report.RECENT: "was used too lately",
    cold_report.SMALL: "is too small to gain by it",
    cold_report.CHANGED: "was written to meanwhile, and stays as it is",
}


def run(
    context: Context,
    *,
    continuation_ids: list[str],
    all_conversations: bool,
    idle: str | None,
    undo: bool,
    damaged: bool,
    dry_run: bool,
    quiet: bool,
    json: bool,
) -> int:
    """Compress or uncompress, and return the exit status."""
    idle_seconds = values.duration("--idle", idle)
    _check(continuation_ids, all_conversations, idle, undo)
    if damaged and not undo:
        raise UsageError("--damaged goes with --undo", hint="say --undo --damaged")
    now = datetime.now(UTC)

    def work(archive: Archive, name: str) -> CompressionReport:
        chat = archive.conversation(name)
        if undo:
            return chat.uncompress(even_damaged=damaged, dry_run=dry_run)
        return chat.compress(idle=idle_seconds, dry_run=dry_run, now=now)

    if all_conversations:
        require_archive(context)
    talk = _Talk(
        Messages(as_json=json, quiet=quiet),
        namespace=namespace_of(context),
        as_json=json,
        quiet=quiet,
        # From cron one line for all is enough; who names conversations wants to hear of each.
        tells_each=dry_run or not all_conversations or stdout_is_terminal(),
        tells_why_not=not all_conversations,
    )
    title = "uncompressing" if undo else "compressing"
    with (
        Bar(title, None, quiet=quiet) as bar,
        open_archive(context, observer=_Advancing(bar.advance)) as archive,
    ):
        names = chosen(archive, continuation_ids, all_conversations, "compress")
        if len(names) > 1:
            archive.expect_many_compactions()
        for name in names:
            try:
                talk.tell(name, work(archive, name))
            except ConvmemError as error:
                if all_conversations and isinstance(error, ConversationNotFound):
                    continue  # deleted since: nobody asked for it by name
                talk.failed(name, error)
    talk.sum_up(undo=undo, dry_run=dry_run)
    return status_of(talk.failures, only_one=len(names) == 1 and not all_conversations)


def _check(ids: Sequence[str], all_conversations: bool, idle: str | None, undo: bool) -> None:
    if not ids and not all_conversations:
        raise UsageError(
            "name the conversations to compress, or say --all", hint="nothing is done by default"
        )
    if ids and all_conversations:
        raise UsageError("--all and ids do not go together", hint="choose one of them")
    if undo and idle is not None:
        raise UsageError("--undo and --idle do not go together", hint="leave out --idle")
    if all_conversations and idle is None and not undo:
        raise UsageError(
            "--all needs --idle, or conversations in use would be compressed too",
            hint="say after how long nobody uses one any more, such as: --idle 90d",
        )


class _Talk:
    """Says what became of each conversation, and of all."""

    def __init__(
        self,
        messages: Messages,
        *,
        namespace: str,
        as_json: bool,
        quiet: bool,
        tells_each: bool,
        tells_why_not: bool,
    ) -> None:
        self.failures: list[ConvmemError] = []
        self._messages = messages
        self._namespace = namespace
        self._as_json = as_json
        self._quiet = quiet
        self._tells_each = tells_each
        self._tells_why_not = tells_why_not
        self._done = 0
        self._left = 0
        self._before = 0
        self._after = 0

    def tell(self, name: str, report: CompressionReport) -> None:
        """Say what became of one conversation."""
        if report.is_done:
            self._done += 1
            self._before += report.bytes_before
            self._after += report.bytes_after
        else:
            self._left += 1
        if report.quarantine is not None:
            self._messages.warn(
                "damaged",
                f"{name}: what does not unpack is missing from it; the compressed file is in"
                f" .quarantine/{report.quarantine}",
                f"see what is missing with: convmem verify {quote(name)}",
                continuation_id=name,
                quarantine=report.quarantine,
            )
        if self._as_json:
            from convmem.cli.output.machine import write_object

            write_object(
                {
                    "continuation_id": name,
                    "namespace": self._namespace,
                    "dry_run": report.dry_run,
                    "outcome": report.outcome,
                    "bytes_before": report.bytes_before,
                    "bytes_after": report.bytes_after,
                    "quarantine": report.quarantine,
                }
            )
        elif self._quiet or not self._tells_each:
            return
        elif report.is_done:
            print(
                f"{one_line(name)}: {'would be ' if report.dry_run else ''}{report.outcome},"
                f" {format_size(report.bytes_before)} to {format_size(report.bytes_after)}"
            )
        elif self._tells_why_not:
            print(f"{one_line(name)} {_REASONS[report.outcome]}")

    def failed(self, name: str, error: ConvmemError) -> None:
        """Say that one conversation could not be done, while the others go on."""
        self.failures.append(error)
        self._messages.error(error, where=f"{name}: ", continuation_id=name)

    def sum_up(self, *, undo: bool, dry_run: bool) -> None:
        """Say what became of all, if they were several."""
        if self._as_json or self._quiet or self._done + self._left + len(self.failures) < 2:
            return
        if not self._done:
            if self._tells_each:
                print("nothing to uncompress" if undo else "nothing to compress")
            return
        verb = "uncompress" if undo else "compress"
        said = f"would {verb}" if dry_run else f"{verb}ed"
        print(
            f"{said} {self._done:,} of {self._done + self._left + len(self.failures):,}"
            f" conversations, {format_size(self._before)} to {format_size(self._after)}"
        )


class _Advancing(Observer):
    """Passes progress on to the bar."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance

    def advanced(self, task: str, amount: int) -> None:
        self._advance(amount)
