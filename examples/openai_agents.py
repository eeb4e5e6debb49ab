"""An agent of the OpenAI Agents SDK that remembers over a restart, without the network.

    pip install 'convmem[openai-agents]'
    python3 examples/openai_agents.py [ARCHIVE]

Runs a traveller's two questions, each as a program of its own would: the second opens the archive
anew, and its model is given what the first one said. Then it looks at the session as convmem sees
it. Without ARCHIVE it works in a temporary folder. The model is a fake that says what it was given;
leave ``model=`` out to use OpenAI's.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile

from agents import Agent, Runner, function_tool, set_tracing_disabled
from agents.testing import ModelCall, ModelStep, ScriptedModel, assistant_message, function_call

from convmem import Archive
from convmem.adapters.openai_agents import ConvmemSession

set_tracing_disabled(True)  # it would be sent to OpenAI
SESSION = "oslo-trip"


@function_tool
def trains(to: str) -> str:
    """Say when trains go *to* a place."""
    return f"Two trains a day to {to}: at nine and at three."


def asks_for_trains(call: ModelCall) -> list[object]:
    """Be a model that wants to know more before it answers."""
    return [function_call("trains", {"to": "Oslo"}, call_id=f"call-{len(call.input)}")]


def answers(call: ModelCall) -> list[object]:
    """Be a model that answers, and says how much it was given."""
    asked = [item for item in call.input if item.get("role") == "user"]
    text = f"Nine o'clock. ({len(call.input)} items read, {len(asked)} of them questions.)"
    return [assistant_message(text)]


async def ask(root: str, question: str, *steps: ModelStep) -> None:
    """Do what a program does for one request."""
    with Archive.open(root) as archive:
        agent = Agent(name="traveller", model=ScriptedModel(steps), tools=[trains])
        session = ConvmemSession(SESSION, archive)
        result = await Runner.run(agent, question, session=session)
        print(f"> {question}\n{result.final_output}")


def main(root: str) -> None:
    """Ask, restart, ask again, and look."""
    first = (ModelStep.respond(asks_for_trains), ModelStep.respond(answers))
    asyncio.run(ask(root, "When does a train go to Oslo?", *first))
    asyncio.run(ask(root, "And which is the earlier one?", ModelStep.respond(answers)))
    with Archive.open(root) as archive:
        for turn in archive.conversation(SESSION).tail(6):
            print(f"{turn.seq:3} {turn.role:9} {turn.text or turn.content}")
        hits = archive.search("earlier").hits
        print(f"search finds: {[hit.turn.text for hit in hits]}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(folder)
