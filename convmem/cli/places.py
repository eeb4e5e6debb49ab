"""Which archive, namespace and settings a command works with: flag, environment, file, default."""

from __future__ import annotations

import math
import os
import sys

from convmem.archive import DEFAULT_NAMESPACE, Archive, default_root
from convmem.errors import StorageError
from convmem.log.durability import Durability
from convmem.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from convmem.cli.output.messages import Messages
    from convmem.cli.spec import Context
    from convmem.progress import Observer
    from convmem.search.semantic.embedder import Watched


def open_archive(
    context: Context,
    *,
    durability: str | None = None,
    observer: Observer | None = None,
    messages: Messages | None = None,
    settings: Settings | None = None,
    embedder: Watched | None = None,
    most_patience_seconds: float = math.inf,
) -> Archive:
    """Open the archive that *context* names, under its settings. Reads ``convmem.toml`` at most.

    Args:
        context: Where, and the environment.
        durability: What a flag said; else the settings say it.
        observer: As ``Archive.open`` has it.
        messages: As ``settings_of`` has it.
        settings: What ``settings_of`` returned, where the verb has asked before.
        embedder: What ``meaning.embedder_of`` returned.
        most_patience_seconds: Wait no longer for a lock, whatever the settings say.
    """
    if settings is None:
        settings = settings_of(context, messages)
    return Archive.open(
        root_of(context),
        namespace=namespace_of(context),
        durability=_durability(durability or settings.word("sync"), settings),
        lock_timeout_seconds=min(settings.seconds("lock_timeout"), most_patience_seconds),
        remember_seconds=settings.seconds("remember"),
        observer=observed(observer, settings.word("output.log")),
        embedder=embedder,
    )


def observed(observer: Observer | None, log: str) -> Observer | None:
    """Return an observer that also writes structured log lines, where the setting *log* says so."""
    if log != "json":
        return observer
    from convmem.event_log import EventLog, Observers

    events = EventLog.to_stream(sys.stderr)
    return events if observer is None else Observers(observer, events)


def require_archive(context: Context) -> None:
    """Raise if there is no archive: work on "all" of one that is not mounted is not done.

    Raises:
        StorageError: There is none.
    """
    root = os.path.expanduser(root_of(context))
    if not os.path.isdir(root):
        raise StorageError(
            f"there is no archive at {root}",
            hint="name it with --archive, mount its disk, or begin it with: convmem record",
        )


def settings_of(context: Context, messages: Messages | None = None) -> Settings:
    """Return the settings of the archive that *context* names.

    With *messages* a setting that is wrong is warned of there and does not count: so that a slip
    of the pen loses no turn and hides none. A verb that removes anything goes without.

    Raises:
        UsageError: Without *messages*: something in the file or the environment is wrong.
        StorageError: Without *messages*: the file cannot be read.
    """
    root = os.path.expanduser(root_of(context))
    if messages is None:
        return Settings.load(root, context.env)
    warn = messages.warn
    return Settings.load(
        root,
        context.env,
        on_problem=lambda error: warn("settings", f"{error}; going on without it", error.hint),
    )


def _durability(name: str, settings: Settings) -> Durability:
    if name != "interval":
        return Durability.of(name)
    return Durability.interval(
        turns=settings.number("interval_turns"), seconds=settings.seconds("interval_time")
    )


def root_of(context: Context) -> str:
    """Return where the archive is."""
    if context.archive:
        # The command line is read as UTF-8 whatever the locale; a path must be its own bytes.
        return os.fsdecode(context.archive.encode("utf-8", "surrogateescape"))
    return context.env.get("CONVMEM_ARCHIVE") or default_root()


def namespace_of(context: Context) -> str:
    """Return the namespace."""
    return context.namespace or namespace_in(context.env)


def namespace_in(env: Mapping[str, str]) -> str:
    """Return the namespace that the environment names."""
    given = env.get("CONVMEM_NAMESPACE") or DEFAULT_NAMESPACE
    return os.fsencode(given).decode("utf-8", "surrogateescape")
