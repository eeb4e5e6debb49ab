"""A pydantic-ai agent whose conversation outlives its process, with a fake model: runs offline.

    python3 examples/pydantic_ai_agent.py [ARCHIVE]

The first archive is closed as a server that ends would close it; with the second one the
conversation goes on, and is forked. Without ARCHIVE it works in a temporary folder. Put your own
model into ``AGENT``.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile

from pydantic_ai import Agent, ModelMessage, ModelResponse, TextPart, UsageLimits
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict
from pydantic_ai.models.function import AgentInfo, FunctionModel

from convmem import aio
from convmem.adapters.pydantic_ai import ConvmemConversationStore

CHAT = "oslo-trip"


def parrot(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Say how much there was to read."""
    return ModelResponse(parts=[TextPart(f"I was sent {len(messages)} messages.")])


AGENT = Agent(FunctionModel(parrot))
# pydantic-ai counts all requests of a conversation, and by default refuses the one after the 50th.
LIMITS = UsageLimits(request_limit=None)


async def ask(store: ConvmemConversationStore, question: str, *, user: str) -> str:
    """Answer one request; *user* sees no conversation of others."""
    while True:
        chat = await store.load(CHAT, limit=20, scope=user) or Conversation(conversation_id=CHAT)
        result = await AGENT.run(question, conversation=chat, usage_limits=LIMITS)
        try:
            await store.save(result, scope=user)
        except ConversationConflict:
            continue  # another request of the same conversation was first: look again
        return result.output


async def main(root: str) -> None:
    """Talk, end, go on, and try another way."""
    async with aio.Archive.open(root) as archive:
        print(await ask(ConvmemConversationStore(archive), "How do I get to Oslo?", user="ada"))
    async with aio.Archive.open(root) as archive:  # as after a restart
        store = ConvmemConversationStore(archive)
        print(await ask(store, "And by train?", user="ada"))
        fork = await store.fork(CHAT, at=2)
        await store.save(await AGENT.run("And by boat?", conversation=fork))
        # What pydantic-ai recorded are turns like any others.
        for turn in await archive.conversation(CHAT).tail(10, roles=["user", "assistant"]):
            print(f"{turn.seq:3} {turn.role:9} {turn.text}")
        print(f"{len(await store.list_conversations(scope='ada'))} conversations of ada")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(main(folder))
