"""Microsoft Agent Framework: ``ConvmemHistoryProvider``, and snapshots of its sessions.

What users are told of it: each message is one turn, and comes back as the very message it was. Text
alone is text; reasoning is a thinking block; a function's call, or that of a hosted tool, is a
``tool_use`` block and its result a ``tool_result`` block; data, addresses and hosted files are
image or document blocks. What the blocks cannot say (ids, authors, usage, annotations, properties)
stands under ``raw``. A message that says nothing is an event. Turns of others become messages.
"""

from __future__ import annotations

try:
    # Looked for here, used by what is below.
    from agent_framework import HistoryProvider as _  # noqa: F401
except ImportError as error:
    raise ImportError(
        "convmem.adapters.agent_framework needs agent-framework-core: "
        "pip install 'convmem[agent-framework]'"
    ) from error

from convmem.adapters.agent_framework.messages import SOURCE, message_of
from convmem.adapters.agent_framework.provider import DEFAULT_SESSION, ConvmemHistoryProvider
from convmem.adapters.agent_framework.recording import turn_of
from convmem.adapters.agent_framework.sessions import SNAPSHOT, ConvmemSessionStore

__all__ = [
    "DEFAULT_SESSION",
    "SNAPSHOT",
    "SOURCE",
    "ConvmemHistoryProvider",
    "ConvmemSessionStore",
    "message_of",
    "turn_of",
]
