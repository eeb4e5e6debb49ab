"""Microsoft's Agent Framework with its history in an archive: an agent that remembers.

    python3 examples/agent_framework_history.py [ARCHIVE]

Asks, ends, and asks again in the same session, which a new agent then knows. Without ARCHIVE it
works in a temporary folder. The model is a fake: put your own chat client into ``agent``. (The file
is not called ``agent_framework.py``, since Python would take it for the framework.)
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from agent_framework import (
    Agent,
    AgentSession,
    BaseChatClient,
    ChatResponse,
    FunctionInvocationLayer,
    Message,
)

from convmem import Archive
from convmem.adapters.agent_framework import ConvmemHistoryProvider


class Fake(FunctionInvocationLayer, BaseChatClient):
    """A model that says how much it was given."""

    async def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Any, **kwargs: Any
    ) -> ChatResponse:
        heard = [message.text for message in messages if message.role == "user"]
        return ChatResponse(messages=[Message("assistant", ["You said: " + "; ".join(heard)])])


def agent(archive: Archive) -> Agent:
    """Return an agent that loads the newest 20 messages of its session, and records what is new."""
    history = ConvmemHistoryProvider(archive, max_messages=20)
    return Agent(client=Fake(), name="guide", context_providers=[history])


async def ask(archive: Archive, session_id: str, text: str) -> None:
    """Ask once, as a server would for each request, and print the answer."""
    answer = await agent(archive).run(text, session=AgentSession(session_id=session_id))
    print(f"user: {text}\nassistant: {answer.text}")


def main(root: str) -> None:
    """Run the program, as it were, twice; then look at what there is."""
    with Archive.open(root) as archive:
        asyncio.run(ask(archive, "trip-of-ada", "How do I get to Oslo?"))
    with Archive.open(root) as archive:
        asyncio.run(ask(archive, "trip-of-ada", "And by train?"))
        for turn in archive.conversation("trip-of-ada").tail(4):
            print(turn.seq, turn.role, turn.text)
        print(
            "search finds turn", [hit.turn.seq for hit in archive.search("train", roles=["user"])]
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(folder)
