"""The OpenAI Agents SDK: ``ConvmemSession``, its ``Session`` over a conversation's turns.

What users are told of it: each item is one turn, and comes back as the very item it was. A message
is what its role says (``developer`` is ``system``), its parts text, image or document blocks;
reasoning is a thinking block; a call, of whatever kind, is a ``tool_use`` block of the assistant,
and an output a ``tool_result`` block of ``tool``. What nobody said (encrypted items, compactions,
references) is an event that keeps the item. Turns of others become items: several where a turn
says several things, such as two calls; events of theirs and what was scrubbed become none.
"""

from __future__ import annotations

try:
    import agents.memory  # noqa: F401 - looked for here, used by what is below
except ImportError as error:
    raise ImportError(
        "convmem.adapters.openai_agents needs openai-agents: pip install 'convmem[openai-agents]'"
    ) from error

from convmem.adapters.openai_agents.items import SOURCE, items_of, turn_of
from convmem.adapters.openai_agents.session import ConvmemSession

__all__ = ["SOURCE", "ConvmemSession", "items_of", "turn_of"]
