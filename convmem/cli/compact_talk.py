"""What ``compact`` says of its work: conversation by conversation, and in all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convmem.cli.boundary import one_line
from convmem.cli.output.messages import Messages, stdout_is_terminal
from convmem.errors import ConversationNotFound
from convmem.log.removing.survey import CompactionReport
from convmem.log.removing.trash import TrashFile
from convmem.maintenance import Done
from convmem.quantities import format_count, format_size

if TYPE_CHECKING:
    from convmem.errors import ConvmemError


class Talk:
    """Says what happened to each conversation, and to all."""

    def __init__(
        self,
        messages: Messages,
        *,
        as_json: bool,
        quiet: bool,
        dry_run: bool,
        discard: bool,
        are_named: bool,
    ) -> None:
        self.failures: list[ConvmemError] = []
        self._messages = messages
        self._as_json = as_json
        self._quiet = quiet
        self._dry_run = dry_run
        self._discard = discard
        self._are_named = are_named
        # From cron one line for all is enough; who tries it dry wants to see each.
        self._tells_each = dry_run or stdout_is_terminal()
        self._changed: set[tuple[str, str]] = set()
        self._turns = self._bytes = 0
        self._deleted = self._deleted_bytes = 0
        self._compressed = self._saved_bytes = 0
        self._purged = self._purged_bytes = 0

    def tell(self, done: Done) -> None:
        """Say what happened to one conversation."""
        if isinstance(done.error, ConversationNotFound) and not self._are_named:
            return  # deleted since: nobody asked for it by name
        if done.error is not None:
            self.fail(done.error, done.continuation_id)
            return
        report = done.report
        self._add(done)
        if self._as_json:
            self._write(_as_dict(done, self._dry_run))
        elif self._tells_each and not self._quiet and (report is None or report.dropped):
            print(_sentence(done, self._dry_run))

    def fail(self, error: ConvmemError, continuation_id: str) -> None:
        """Say that one conversation could not be worked on."""
        self.failures.append(error)
        self._messages.error(error, where=f"{continuation_id}: ", continuation_id=continuation_id)

    def warn(self, kind: str, message: str, hint: str) -> None:
        """Say what people may want to know beside what happened."""
        self._messages.warn(kind, message, hint)

    def tell_purged(self, namespace: str, files: list[TrashFile]) -> None:
        """Say what left the trash for good."""
        self._purged += len(files)
        self._purged_bytes += sum(each.bytes for each in files)
        for each in files:
            name = each.continuation_id or each.name
            if self._as_json:
                self._write(
                    {
                        "continuation_id": name,
                        "namespace": namespace,
                        "action": "purge",
                        "dry_run": self._dry_run,
                        "bytes": each.bytes,
                        "trash": each.file_name,
                    }
                )
            elif self._tells_each and not self._quiet:
                verb = "would leave" if self._dry_run else "left"
                print(
                    f"{one_line(name)}: {format_size(each.bytes)}, removed"
                    f" {each.removed:%Y-%m-%d}, {verb} the trash for good"
                )

    def sum_up(self, count: int) -> None:
        """Say what happened in all, if anything did."""
        if self._as_json or self._quiet:
            return
        would = "would have " if self._dry_run else ""
        lines = []
        if self._turns:
            to = "for good" if self._discard else "to the trash"
            verb = "would drop" if self._dry_run else "dropped"
            lines.append(
                f"{verb} {format_count(self._turns, 'turn')} ({format_size(self._bytes)}) {to},"
                f" from {len(self._changed):,} of {count:,} conversations"
            )
        if self._deleted:
            lines.append(
                f"{would}deleted {format_count(self._deleted, 'conversation')}"
                f" ({format_size(self._deleted_bytes)}), to the trash"
            )
        if self._compressed:
            lines.append(
                f"{would}compressed {format_count(self._compressed, 'conversation')}"
                + ("" if self._dry_run else f" ({format_size(self._saved_bytes)} saved)")
            )
        if self._purged:
            lines.append(
                f"{would}purged {format_count(self._purged, 'file')} of the trash"
                f" ({format_size(self._purged_bytes)})"
            )
        for line in lines:
            print(line)
        if not lines and self._tells_each:
            print("nothing to drop")

    def _add(self, done: Done) -> None:
        report = done.report
        if done.action == "delete":
            self._deleted += 1
            self._deleted_bytes += done.bytes_before
        elif done.action == "compress":
            self._compressed += 1
            self._saved_bytes += done.bytes_before - done.bytes_after
        elif report is not None and report.dropped:
            self._changed.add((done.namespace, done.continuation_id))
            self._turns += report.dropped
            self._bytes += report.dropped_bytes

    def _write(self, value: dict[str, Any]) -> None:
        from convmem.cli.output.machine import write_object

        write_object(value)


def _sentence(done: Done, dry_run: bool) -> str:
    name = one_line(done.continuation_id)
    because = f" [{done.because}]" if done.because else ""
    if done.action == "delete":
        verb = "would be deleted" if dry_run else "deleted"
        return f"{name}: {verb}, {format_size(done.bytes_before)} to the trash{because}"
    if done.action == "compress":
        if dry_run:
            return f"{name}: {format_size(done.bytes_before)} would be compressed{because}"
        return (
            f"{name}: compressed, {format_size(done.bytes_before)} to"
            f" {format_size(done.bytes_after)}{because}"
        )
    assert done.report is not None
    return _compaction(name, done.report, because)


def _compaction(name: str, report: CompactionReport, because: str) -> str:
    verb = "would go" if report.dry_run else "dropped"
    why = ", ".join(f"{count:,} by {reason}" for reason, count in report.reasons.items())
    runs = ", ".join(
        f"{first}" if first == last else f"{first}-{last}" for first, last in report.ranges[:5]
    )
    more = ", …" if len(report.ranges) > 5 else ""
    summed = "" if report.summary is None else "; a summary stands for them"
    return (
        f"{name}: {format_count(report.dropped, 'turn')}"
        f" ({format_size(report.dropped_bytes)}) {verb}"
        f" [{why}; seq {runs}{more}]; {report.kept:,} kept,"
        f" {format_size(report.bytes_before)} to {format_size(report.bytes_after)}{summed}{because}"
    )


def _as_dict(done: Done, dry_run: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "continuation_id": done.continuation_id,
        "namespace": done.namespace,
        "action": done.action,
        "dry_run": dry_run,
        "because": done.because or None,
        "bytes_before": done.bytes_before,
        "bytes_after": done.bytes_after,
        "trash": done.trash,
    }
    report = done.report
    if report is not None:
        shown |= {
            "kept": report.kept,
            "dropped": report.dropped,
            "reasons": report.reasons,
            "ranges": report.ranges,
            "dropped_bytes": report.dropped_bytes,
            "damaged": report.damaged,
            "trash": report.trash,
            "quarantine": report.quarantine,
            "summary": report.summary,
        }
    return shown
