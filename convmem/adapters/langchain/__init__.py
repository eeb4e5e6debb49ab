"""LangChain: ``ConvmemChatMessageHistory``, a chat's message history that is a conversation.

A message becomes a turn with a role and content in the shape of the Messages API. What they do not
say (``id``, ``usage_metadata``, …) is in ``meta.fields``, and ``meta.form`` says how its parts were
spelled; where its content cannot be built back exactly, ``raw`` has the whole message.
"""

from __future__ import annotations

try:
    import langchain_core.messages  # noqa: F401 - looked for here, used by what is below
except ImportError as error:
    raise ImportError(
        "convmem.adapters.langchain needs langchain-core: pip install 'convmem[langchain]'"
    ) from error

from convmem.adapters.langchain.history import ConvmemChatMessageHistory
from convmem.adapters.langchain.messages import SOURCE, messages_of, turn_of

__all__ = ["SOURCE", "ConvmemChatMessageHistory", "messages_of", "turn_of"]
