"""A Strands agent whose session outlives its process, with a fake model: runs offline.

    python3 examples/strands_agent.py [ARCHIVE]

The first archive is closed as a server that ends would close it; the agent of the second one knows
what was said. Without ARCHIVE it works in a temporary folder. Put your own model into ``agent_in``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator
from typing import Any

from strands import Agent
from strands.models import Model
from strands.session import RepositorySessionManager

from convmem import Archive
from convmem.adapters.strands import ConvmemSessionRepository

SESSION = "oslo-trip"


class Parrot(Model):
    """Says how much it was sent."""

    def update_config(self, **config: Any) -> None:
        """Nothing can be set."""

    def get_config(self) -> dict[str, Any]:
        """Nothing is."""
        return {}

    def structured_output(self, *given: Any, **more: Any) -> Any:
        """Not for a parrot."""
        raise NotImplementedError

    async def stream(self, messages: Any, *given: Any, **more: Any) -> AsyncIterator[Any]:
        """Answer with what the last message says, and the number of them."""
        said = messages[-1]["content"][0]["text"]
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": {}}}
        answer = f"{said} I was sent {len(messages)} messages."
        yield {"contentBlockDelta": {"delta": {"text": answer}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}


def agent_in(archive: Archive) -> Agent:
    """Return an agent that goes on with the session, or begins it."""
    manager = RepositorySessionManager(SESSION, ConvmemSessionRepository(archive))
    return Agent(model=Parrot(), session_manager=manager, callback_handler=None)


def main(root: str) -> None:
    """Talk, end, and go on."""
    with Archive.open(root) as archive:
        agent_in(archive)("How do I get to Oslo?")
    with Archive.open(root) as archive:  # as after a restart
        agent_in(archive)("And by train?")
        # What Strands recorded are turns like any others.
        for turn in archive.conversation(SESSION).tail(4):
            print(f"{turn.seq:3} {turn.role:9} {turn.text}")
        print(f"{len(archive.search('train').hits)} found by a search for train")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(folder)
