"""A LangChain chain that remembers: its message history is a conversation.

    python3 examples/langchain_history.py [ARCHIVE]

Asks twice, with a restart between, and shows that what the shell or another framework recorded is
part of the history. Without ARCHIVE it works in a temporary folder. The model is a fake. Needs
``pip install 'convmem[langchain]'``.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from typing import Any

from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

from convmem import Archive
from convmem.adapters.langchain import ConvmemChatMessageHistory

# LangChain would rather have you use LangGraph: see langgraph_agent.py.
warnings.filterwarnings("ignore", category=DeprecationWarning)


def model(prompt: Any) -> str:
    """Answer, and tell how much was read."""
    messages = prompt.to_messages()
    return f"{messages[-1].text}? I say yes ({len(messages)} messages read)."


def ask(archive: Archive, question: str) -> str:
    """Ask in the session; only its newest 20 messages are read, however long it is."""
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Be brief."), MessagesPlaceholder("history"), ("human", "{question}")]
    )
    chain = RunnableWithMessageHistory(
        prompt | RunnableLambda(model),
        lambda session_id: ConvmemChatMessageHistory(session_id, archive, limit=20),
        input_messages_key="question",
        history_messages_key="history",
    )
    config: Any = {"configurable": {"session_id": "oslo-trip"}}
    return str(chain.invoke({"question": question}, config))


def main(root: str) -> None:
    """Ask, restart, ask again."""
    with Archive.open(root) as archive:
        print(ask(archive, "By train"))
        archive.conversation("oslo-trip").record("user", "Somebody adds this by hand.")
    with Archive.open(root) as archive:
        print(ask(archive, "By bus"))
        for message in ConvmemChatMessageHistory("oslo-trip", archive).messages:
            print(f"{message.type:6} {message.text}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(folder)
