"""``convmem index``: bring the index of words in step ahead of any search, or remove it."""

from __future__ import annotations

import time

from convmem.cli.boundary import EXIT_CODES
from convmem.cli.meaning import embedder_of
from convmem.cli.output.indexing import Indexing
from convmem.cli.output.messages import Messages
from convmem.cli.places import namespace_of, open_archive, require_archive, settings_of
from convmem.errors import UsageError
from convmem.quantities import format_count, format_size

_TELLING_BYTES = 1 << 20

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.archive import Archive
    from convmem.cli.spec import Context
    from convmem.errors import ConvmemError
    from convmem.search.upkeep import IndexReport


def run(
    context: Context,
    *,
    all_namespaces: bool,
    rebuild: bool,
    drop: bool,
    semantic: bool,
    quiet: bool,
    json: bool,
) -> int:
    """Do it for one namespace or all, and return the exit status."""
    if rebuild and drop:
        raise UsageError("--rebuild and --drop exclude each other", hint="choose one of them")
    require_archive(context)
    messages = Messages(as_json=json, quiet=quiet)
    watch = Indexing(messages, quiet=quiet)
    talk = _Talk(messages, as_json=json, quiet=quiet)
    settings = settings_of(context)
    # All cores: nobody waits for the next thing meanwhile.
    embedder = (
        embedder_of(context, settings, messages, is_asked=True, threads=0)
        if semantic and not drop
        else None
    )
    with open_archive(context, observer=watch, settings=settings, embedder=embedder) as archive:
        for namespace in archive.namespaces() if all_namespaces else [namespace_of(context)]:
            try:
                if drop:
                    talk.dropped(namespace, archive.drop_index(namespace, semantic=semantic))
                else:
                    _bring_in_step(archive, namespace, talk, rebuild=rebuild, semantic=semantic)
            finally:
                watch.tell()
    return EXIT_CODES["partial"] if talk.has_failed else 0


def _bring_in_step(
    archive: Archive, namespace: str, talk: _Talk, *, rebuild: bool, semantic: bool
) -> None:
    before = time.monotonic()
    report = archive.index(namespace, rebuild=rebuild, semantic=semantic)
    for name, why in report.failed.items():
        talk.failed(name, why)
    talk.indexed(report, time.monotonic() - before)


def _about_vectors(report: IndexReport) -> dict[str, int]:
    if report.missing is None:
        return {}
    return {"vector_bytes": report.vector_bytes, "without_vector": report.missing}


def _vectors(report: IndexReport) -> str:
    if report.missing is None:
        return ""
    still = f" ({format_count(report.missing, 'new turn')} without one)" if report.missing else ""
    return f", {format_size(report.vector_bytes)} of vectors{still}"


class _Talk:
    """Says what became of each namespace's index."""

    def __init__(self, messages: Messages, *, as_json: bool, quiet: bool) -> None:
        self.has_failed = False
        self._messages = messages
        self._as_json = as_json
        self._quiet = quiet

    def indexed(self, report: IndexReport, seconds: float) -> None:
        """Say what there is now, and what it took."""
        share = report.index_bytes / report.log_bytes if report.log_bytes else 0.0
        if self._as_json:
            self._object(
                report.namespace,
                turns=report.turns,
                index_bytes=report.index_bytes,
                log_bytes=report.log_bytes,
                share=round(share, 4),
                seconds=round(seconds, 3),
                failed=sorted(report.failed),
                **_about_vectors(report),
            )
        elif not self._quiet:
            from convmem.cli.boundary import one_line

            of_logs = ""
            if report.log_bytes >= _TELLING_BYTES:  # below, empty pages of the index are most of it
                of_logs = f", {share:.0%} of the logs' {format_size(report.log_bytes)}"
            print(
                f"{one_line(report.namespace)}: {format_count(report.turns, 'turn')},"
                f" {format_size(report.index_bytes)}{of_logs}{_vectors(report)},"
                f" in {seconds:.1f} s"
            )

    def dropped(self, namespace: str, freed: int) -> None:
        """Say how much room an index gave back."""
        if self._as_json:
            self._object(namespace, dropped_bytes=freed)
        elif not self._quiet:
            from convmem.cli.boundary import one_line

            what = f"removed the index, {format_size(freed)}" if freed else "there is no index"
            print(f"{one_line(namespace)}: {what}")

    def failed(self, continuation_id: str, error: ConvmemError) -> None:
        """Say that a conversation could not be read (whole), while the others were."""
        self.has_failed = True
        self._messages.error(error, where=f"{continuation_id}: ", continuation_id=continuation_id)

    def _object(self, namespace: str, **more: object) -> None:
        from convmem.cli.output.machine import write_object

        write_object({"namespace": namespace, **more})
