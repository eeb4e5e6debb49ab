"""Strands: ``ConvmemSessionRepository``, whose sessions are conversations.

The agent ``default`` of a session is the conversation of the session's id; any other agent is
``SESSION/AGENT``. A message is a turn, ``meta.message_id`` its place; it has ``raw`` only where
role and content do not say it exactly. The documents of session and agents are the state beside
the turns, that of a multi-agent the state of ``SESSION/multi_agent/ID``.
"""

from __future__ import annotations

try:
    import strands.session  # noqa: F401 - looked for here, used by what is below
except ImportError as error:
    raise ImportError(
        "convmem.adapters.strands needs strands-agents: pip install 'convmem[strands]'"
    ) from error

from convmem.adapters.strands.repository import ConvmemSessionRepository

__all__ = ["ConvmemSessionRepository"]
