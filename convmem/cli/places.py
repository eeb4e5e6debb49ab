"""Which archive and namespace a command works in: flag, then environment, then default."""

from __future__ import annotations

import os

from convmem.archive import DEFAULT_NAMESPACE, Archive, default_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from convmem.cli.spec import Context
    from convmem.log.durability import Durability
    from convmem.progress import Observer


def open_archive(
    context: Context,
    *,
    durability: Durability | str = "always",
    observer: Observer | None = None,
) -> Archive:
    """Open the archive that *context* names. Touches no disk."""
    return Archive.open(
        root_of(context),
        namespace=namespace_of(context),
        durability=durability,
        observer=observer,
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
