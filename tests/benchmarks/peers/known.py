"""Everybody who stands in the table, by name."""

from __future__ import annotations

import enum
from dataclasses import dataclass

POWER_CUT, PROCESS_DEATH, NOTHING = "power cut", "process death", "nothing"


class Kind(enum.StrEnum):
    """What a contestant is to the others."""

    FLOOR = "floor"
    OURS = "convmem"
    PEER = "peer"


@dataclass(frozen=True, slots=True)
class Contestant:
    """One who stands in the table.

    Attributes:
        name: As the table shows it.
        module: The file beside this one that has its ``History``.
        kind: Floor, convmem or peer.
        durable: What an answered turn survives when it is asked to be durable.
        unsynced: The same when it is not asked; ``None`` if it cannot leave syncing out.
        needs: The distributions of ``requirements.txt`` that it comes with.
        longest: How many turns a chat may have before filling or reading it takes minutes.
    """

    name: str
    module: str
    kind: Kind
    durable: str | None
    unsynced: str | None = None
    needs: tuple[str, ...] = ()
    longest: int | None = None


FLOOR = Contestant("bare write", "floor", Kind.FLOOR, POWER_CUT, PROCESS_DEATH)
OURS = Contestant("convmem", "ours", Kind.OURS, POWER_CUT, PROCESS_DEATH)
SQLITE = Contestant("sqlite3 WAL", "sqlite_wal", Kind.PEER, POWER_CUT, PROCESS_DEATH)
OPENAI = Contestant(
    "OpenAI SQLiteSession", "openai_agents", Kind.PEER, POWER_CUT, None, ("openai-agents",)
)
LANGCHAIN_SQL = Contestant(
    "LangChain SQL",
    "langchain_sql",
    Kind.PEER,
    POWER_CUT,
    None,
    ("langchain-community", "greenlet"),
    longest=10_000,
)
# It empties the file, then writes it: a crash between the two takes the whole history.
LANGCHAIN_FILE = Contestant(
    "LangChain file",
    "langchain_file",
    Kind.PEER,
    None,
    NOTHING,
    ("langchain-community",),
    longest=100,
)
AGENT_FRAMEWORK = Contestant(
    "Agent Framework file",
    "agent_framework_file",
    Kind.PEER,
    None,
    PROCESS_DEATH,
    ("agent-framework-core",),
    longest=10_000,
)
STRANDS = Contestant(
    "Strands file",
    "strands_file",
    Kind.PEER,
    None,
    PROCESS_DEATH,
    ("strands-agents",),
    longest=10_000,
)
LLM = "llm"  # no history to call, but a command: ``llm logs``
