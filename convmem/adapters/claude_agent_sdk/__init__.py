"""The Claude Agent SDK: ``ConvmemSessionStore``, its ``SessionStore`` over conversations.

What users are told of it: a transcript is a conversation, an entry of it a turn, the same that
``convmem import`` makes of Claude Code's files, with ``meta.source`` ``claude-code`` and the entry
under ``raw``. The conversation of a session is ``<session>@<project>``, that of its sub-agent
``<session>.agent-<id>@<project>``; of any other subpath ``<session>/<subpath>@<project>``. What of
these names would be mistaken (``%``, ``@``, ``/``, ``.agent-``) is written as ``%xx``. Turns of
others become messages of the session; events of theirs, and what was scrubbed, become none.
"""

from __future__ import annotations

try:
    # Looked for here, used by what is below.
    from claude_agent_sdk import SessionStore as _  # noqa: F401
except ImportError as error:
    raise ImportError(
        "convmem.adapters.claude_agent_sdk needs claude-agent-sdk: "
        "pip install 'convmem[claude-agent-sdk]'"
    ) from error

from convmem.adapters.claude_agent_sdk.entries import SOURCE, entry_of
from convmem.adapters.claude_agent_sdk.recording import turn_of
from convmem.adapters.claude_agent_sdk.store import ConvmemSessionStore
from convmem.adapters.claude_agent_sdk.summaries import SUMMARY

__all__ = ["SOURCE", "SUMMARY", "ConvmemSessionStore", "entry_of", "turn_of"]
