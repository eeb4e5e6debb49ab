"""``convmem import``: bring transcripts of other tools into the archive."""

from __future__ import annotations

from convmem.cli import values
from convmem.cli.boundary import one_line, status_of
from convmem.cli.homes import transcript_places
from convmem.cli.output.bar import Bar
from convmem.cli.output.messages import Messages
from convmem.cli.places import namespace_of, open_archive
from convmem.cli.spec import Context
from convmem.errors import ConvmemError, UsageError, storage_error
from convmem.progress import Observer
from convmem.quantities import format_count
from convmem.transfer.importing import Importer, Unrecognised
from convmem.transfer.summary import ImportSummary

_MOST_NAMED = 5
_TRANSCRIPTS = (".jsonl", ".ndjson", ".jsonl.zst", ".jsonl.gz", "conversations.json", "logs.db")


def run(
    context: Context,
    *,
    paths: list[str],
    format: str | None,
    since: str | None,
    include_agents: bool,
    revive: bool,
    dry_run: bool,
    quiet: bool,
    json: bool,
) -> int:
    """Import, say what was done, and return the exit status."""
    moment = values.moment("--since", since)
    places = _places(paths, context)
    messages = Messages(as_json=json, quiet=quiet)
    with (
        Bar("importing", None, quiet=quiet) as bar,
        open_archive(context, observer=_Advancing(bar)) as archive,
    ):
        importer = Importer(
            archive,
            namespace_of(context),
            forced=format,
            since=moment,
            include_agents=include_agents,
            revive=revive,
            dry_run=dry_run,
        )
        summary = importer.run(places)
    failures = [_as_ours(error) for _, error in summary.failures]
    for (where, _), error in zip(summary.failures, failures, strict=True):
        messages.error(error, where="" if where in str(error) else f"{where}: ", path=where)
    _say_what_was_left_out(messages, importer)
    if json:
        from convmem.cli.output.machine import write_object

        write_object({**summary.as_dict(), "dry_run": dry_run})
    elif not quiet:
        print(one_line(_said(summary, dry_run=dry_run)))
    unknown = len(summary.unrecognised) + summary.passed_over
    if not failures and unknown and not summary.formats and not summary.unchanged:
        messages.error(
            Unrecognised(
                f"none of {format_count(unknown, 'file')} is in a format that convmem knows",
                hint="name the format with --from, or see: convmem import --help",
            )
        )
        return 1
    return status_of(failures, only_one=len(failures) == summary.files)


def _places(paths: list[str], context: Context) -> list[str]:
    if paths.count("-") > 1:
        raise UsageError("standard input can be read once", hint='give "-" once')
    found: list[str] = []
    for path in paths:
        if path != "auto":
            found.append(path)
            continue
        known = transcript_places(context.env)
        if not known:
            raise UsageError(
                "no transcripts lie in the usual places of this home directory",
                hint="name the files or folders to import",
            )
        found += known
    return found


def _as_ours(error: Exception) -> ConvmemError:
    if isinstance(error, ConvmemError):
        return error
    if isinstance(error, OSError):
        return storage_error(error, "cannot be read")
    return ConvmemError(str(error) or type(error).__name__)


def _said(summary: ImportSummary, *, dry_run: bool) -> str:
    done = "would add" if dry_run else "added"
    text = (
        f"{format_count(summary.files, 'file')}, "
        f"{format_count(summary.conversations, 'conversation')}: "
        f"{done} {format_count(summary.added, 'turn')}"
    )
    if summary.skipped:
        text += f", {summary.skipped:,} were there"
    if summary.buried:
        text += f" ({summary.buried:,} deleted before, and not brought back)"
    if summary.unchanged:
        text += f"; {format_count(summary.unchanged, 'file')} unchanged"
    return text


def _say_what_was_left_out(messages: Messages, importer: Importer) -> None:
    summary = importer.summary
    if summary.damaged:
        messages.warn(
            "damaged",
            f"{format_count(summary.damaged, 'record')} of the sources were damaged: split from"
            " each other where that could be, else left out",
            count=summary.damaged,
        )
    if summary.differing:
        messages.warn(
            "differing",
            f"{format_count(summary.differing, 'turn')} said something else than the archive's of"
            " the same id: both were kept, the new ones with ~ in their ids",
            count=summary.differing,
        )
    if summary.unknown:
        messages.warn(
            "unknown",
            f"{format_count(summary.unknown, 'record')} of kinds that convmem does not know were"
            ' kept as they are, as turns of the role "event"',
            count=summary.unknown,
        )
    # What is called as transcripts are; notes and settings beside them are nothing to speak of.
    odd = [name for name in summary.unrecognised if name.endswith(_TRANSCRIPTS)]
    if odd and summary.formats:
        named = ", ".join(odd[:_MOST_NAMED])
        more = len(odd) - _MOST_NAMED
        messages.warn(
            "unrecognised",
            f"{format_count(len(odd), 'file')} held nothing that convmem knows:"
            f" {named}{f' and {more:,} more' if more > 0 else ''}",
            count=len(odd),
        )
    if importer.left_out_agents:
        messages.warn(
            "agents",
            f"{format_count(importer.left_out_agents, 'conversation')} of sub-agents left out",
            "bring them in too with: --include-agents",
            count=importer.left_out_agents,
        )


class _Advancing(Observer):
    """Passes progress on to the bar."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def started(self, task: str, total: int) -> None:
        self._bar.expect(total)

    def advanced(self, task: str, amount: int) -> None:
        self._bar.advance(amount)
