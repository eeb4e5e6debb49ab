"""A LangGraph agent whose threads are conversations: it goes on after a restart, and can be read.

    python3 examples/langgraph_agent.py [ARCHIVE]

Asks an agent with a tool, stops where a person has to agree, and goes on in what could be another
process. Without ARCHIVE it works in a temporary folder. The model is a fake: put your own into
``model``. Needs ``pip install 'convmem[langgraph]'``.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

from langchain_core.messages import AIMessage, ToolMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from convmem import Archive
from convmem.adapters.langgraph import ConvmemSaver

TRIP: Any = {"configurable": {"thread_id": "oslo-trip"}}


def model(state: MessagesState) -> dict[str, Any]:
    """Call the tool when there is a wish, and tell what it gave."""
    last = state["messages"][-1]
    if last.type == "human":
        call = {
            "name": "book",
            "args": {"what": last.content},
            "id": f"call-{len(state['messages'])}",
        }
        return {"messages": [AIMessage("", tool_calls=[call])]}
    return {"messages": [AIMessage(f"It is done: {last.text}.")]}


def book(state: MessagesState) -> dict[str, Any]:
    """Book, once a person agrees. Until then the thread waits, over any number of restarts."""
    (call,) = state["messages"][-1].tool_calls  # type: ignore[union-attr]  # it is the model's
    what = call["args"]["what"]
    said = f"{what} booked" if interrupt(f"Book {what}?") == "yes" else f"no {what}"
    return {"messages": [ToolMessage(said, tool_call_id=call["id"])]}


def agent(archive: Archive) -> Any:
    """Return the graph, which keeps its checkpoints in the archive."""
    builder = StateGraph(MessagesState)
    builder.add_node("model", model)
    builder.add_node("book", book)
    builder.add_edge(START, "model")
    builder.add_conditional_edges(
        "model", lambda state: "book" if state["messages"][-1].tool_calls else END
    )
    builder.add_edge("book", "model")
    return builder.compile(checkpointer=ConvmemSaver(archive))


def main(root: str) -> None:
    """Ask, restart, answer; then read the thread as the conversation that it is."""
    with Archive.open(root) as archive:
        found = agent(archive).invoke({"messages": [("user", "a night train")]}, TRIP)
        print("it asks:", found["__interrupt__"][0].value)
    with Archive.open(root) as archive:  # another day, another process
        found = agent(archive).invoke(Command(resume="yes"), TRIP)
        print("it says:", found["messages"][-1].text)
        chat = archive.conversation("oslo-trip")
        for turn in chat.turns(roles=["user", "assistant", "tool"]):
            print(f"{turn.seq:3} {turn.role:9} {turn.content}")
        print("search:", [hit.snippet.text for hit in archive.search("booked", roles=["tool"])])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(folder)
