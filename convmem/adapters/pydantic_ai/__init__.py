"""pydantic-ai: ``ConvmemConversationStore``, whose conversations are an archive's.

A conversation of pydantic-ai is the conversation of that id. A message is a turn with its entry's
id; ``raw`` is the message and ``meta.parent`` the entry before it. Each save is one batch, which
ends with an event (``meta.kind`` is ``conversation``) whose ``raw`` is the record. A fork begins
with an event that holds the history which it shares, packed as convmem packs what an import found
copied: so each conversation stands for itself, and what was said is found once.
"""

from __future__ import annotations

try:
    import pydantic_ai.conversation_store  # noqa: F401 - looked for here, used by what is below
except ImportError as error:
    raise ImportError(
        "convmem.adapters.pydantic_ai needs pydantic-ai: pip install 'convmem[pydantic-ai]'"
    ) from error

from convmem.adapters.pydantic_ai.store import ConvmemConversationStore

__all__ = ["ConvmemConversationStore"]
