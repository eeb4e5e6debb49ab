"""Which embedder a command means, by environment or file; opened when it is used."""

from __future__ import annotations

from convmem.errors import ConvmemError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.cli.output.messages import Messages
    from convmem.cli.spec import Context
    from convmem.search.semantic.embedder import Watched
    from convmem.settings import Settings

KEY = "CONVMEM_EMBEDDER_KEY"
"""The variable with the key for an endpoint. No flag or setting: those are for all to see."""


def embedder_of(
    context: Context,
    settings: Settings,
    messages: Messages,
    *,
    is_asked: bool,
    threads: int = 1,
) -> Watched | None:
    """Return what makes vectors; ``None`` where meaning is not to be searched.

    Args:
        context: With the environment.
        settings: What they say counts where no flag does.
        messages: Takes the warning where an embedder is set and not to be had.
        is_asked: Whether the flag is there.
        threads: How many cores it uses; 0 for all.

    Raises:
        UsageError: The flag is there, and the embedder, or what it needs, is not.
        EmbedderError: The flag is there, and the embedder cannot be loaded.
    """
    if not is_asked and not settings.switch("search.semantic"):
        return None
    from convmem.search.semantic.embedder import open_embedder

    try:
        return open_embedder(
            settings.word("search.embedder"), key=context.env.get(KEY) or None, threads=threads
        )
    except ConvmemError as error:
        if is_asked:
            raise
        messages.warn("semantic", f"{error}; going on by words", error.hint)
        return None
