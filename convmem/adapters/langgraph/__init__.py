"""LangGraph: ``ConvmemSaver``, a checkpointer whose threads are conversations.

All of a thread is in the conversation of its id. A message that some value holds for the first
time becomes an ordinary turn; a checkpoint, or a task's writes, is an event behind the messages
that are new in it, in one atomic batch. Events refer to messages, and a list of messages is told
as what an earlier checkpoint's list was, plus what came: a step costs what the step adds.
"""

from __future__ import annotations

try:
    import langgraph.checkpoint.base  # noqa: F401 - looked for here, used by what is below
except ImportError as error:
    raise ImportError(
        "convmem.adapters.langgraph needs langgraph: pip install 'convmem[langgraph]'"
    ) from error

from convmem.adapters.langgraph.data_types import DataSerializer
from convmem.adapters.langgraph.loaded import MISSING
from convmem.adapters.langgraph.saver import ConvmemSaver

__all__ = ["MISSING", "ConvmemSaver", "DataSerializer"]
