"""Each adapter beside its framework's own stores: python tests/benchmarks/sessions.py

Appends one turn, a question and an answer of some 260 bytes each, and reads the last 20 messages,
where 100, 1,000 and 10,000 are there already. All stores of a framework are open at once, in this
process and one event loop, and take turns in an order that is drawn anew for each round, since a
sync also pays for what others left unsynced. Figures are medians of single calls, and ratios
medians of the rounds' own. After each read it is looked at what came back.

Frameworks that are not installed are named and left out. The exit status is 1 if a store of
convmem lost something, or raised; a goal that is missed is only shown.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import shutil
import sqlite3
import sys
import time
import warnings
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Protocol
from uuid import uuid4

from figures import Table, ratio
from peers.known import NOTHING, POWER_CUT, PROCESS_DEATH, Kind
from place import machine, machine_line, workspace
from showing import console, show

from convmem import Archive

_COUNT = 20
_FLAT = 1.5  # the longest conversation, over the shortest
_CHAT = "chat"
_AT_ONCE = 200  # messages that a conversation is filled with; even
_SCALES = {"full": ((100, 1_000, 10_000), 60), "quick": ((100, 1_000), 20), "tiny": ((100,), 2)}
# A store that takes so long is given no more rounds once it had some.
_ENOUGH_SECONDS, _ENOUGH_ROUNDS = 1.0, 5


class Driver(Protocol):
    """How a store is used, in the way its framework uses it."""

    async def fill(self, texts: list[str]) -> None:
        """Store some more messages, questions and answers in turn, as fast as can be."""

    async def append(self, question: str, answer: str) -> None:
        """Store one turn."""

    async def last(self) -> list[str]:
        """Return the texts of the last messages, in order."""


@dataclass(frozen=True, slots=True)
class Store:
    """One who stands in the table.

    Attributes:
        framework: Whose protocol it speaks.
        name: As the table shows it.
        survives: What an answered turn survives.
        make: Opens it in a folder of its own, and says how it is closed.
        reads_all: Whether the framework's protocol knows only how to read a whole conversation.
    """

    framework: str
    name: str
    survives: str
    make: Callable[[Path, ExitStack], Driver]
    kind: Kind = Kind.PEER
    reads_all: bool = False


# --- OpenAI Agents SDK ----------------------------------------------------------------------------


class OpenAI:
    """Over any ``Session``."""

    def __init__(self, session: Any) -> None:
        self._session = session

    async def fill(self, texts: list[str]) -> None:
        await self._session.add_items([_openai_item(at, text) for at, text in enumerate(texts)])

    async def append(self, question: str, answer: str) -> None:
        await self._session.add_items([_openai_item(0, question), _openai_item(1, answer)])

    async def last(self) -> list[str]:
        return [item["content"] for item in await self._session.get_items(_COUNT)]


def _openai_item(at: int, text: str) -> dict[str, str]:
    return {"content": text, "role": _role(at)}


def openai_ours(archive: Archive) -> Driver:
    from convmem.adapters.openai_agents import ConvmemSession

    return OpenAI(ConvmemSession(_CHAT, archive))


def openai_sqlite(folder: Path, closing: ExitStack) -> Driver:
    from agents import SQLiteSession

    session = SQLiteSession(_CHAT, folder / "sessions.db")
    closing.callback(session.close)
    return OpenAI(session)


def openai_async_sqlite(folder: Path, closing: ExitStack) -> Driver:
    from agents.extensions.memory import AsyncSQLiteSession

    session = AsyncSQLiteSession(_CHAT, folder / "sessions.db")
    # It belongs to the loop, which is still there.
    closing.callback(lambda: _LATER.append(session.close))
    return OpenAI(session)


def openai_advanced_sqlite(folder: Path, closing: ExitStack) -> Driver:
    from agents.extensions.memory import AdvancedSQLiteSession

    database = folder / "sessions.db"
    session = AdvancedSQLiteSession(session_id=_CHAT, db_path=database, create_tables=True)
    closing.callback(session.close)
    return OpenAI(session)


# --- Claude Agent SDK -----------------------------------------------------------------------------


class Claude:
    """Over any ``SessionStore``, which can only be asked for all of a session."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._key = {"project_key": "project", "session_id": str(uuid4())}

    async def fill(self, texts: list[str]) -> None:
        await self._store.append(
            self._key, [_claude_entry(at, text) for at, text in enumerate(texts)]
        )

    async def append(self, question: str, answer: str) -> None:
        await self._store.append(self._key, [_claude_entry(0, question), _claude_entry(1, answer)])

    async def last(self) -> list[str]:
        found = await self._store.load(self._key)
        return [entry["message"]["content"] for entry in found[-_COUNT:]]


def _claude_entry(at: int, text: str) -> dict[str, Any]:
    role = _role(at)
    message = {"role": role, "content": text}
    return {"type": role, "uuid": str(uuid4()), "timestamp": _NOW, "message": message}


def claude_ours(archive: Archive) -> Driver:
    from convmem.adapters.claude_agent_sdk import ConvmemSessionStore

    return Claude(ConvmemSessionStore(archive))


def claude_memory(folder: Path, closing: ExitStack) -> Driver:
    from claude_agent_sdk import InMemorySessionStore

    return Claude(InMemorySessionStore())


# --- Microsoft Agent Framework --------------------------------------------------------------------


class AgentFramework:
    """Over any ``HistoryProvider``, which can only be asked for all of a session."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider

    async def fill(self, texts: list[str]) -> None:
        messages = [_framework_message(at, text) for at, text in enumerate(texts)]
        await self._provider.save_messages(_CHAT, messages)

    async def append(self, question: str, answer: str) -> None:
        turn = [_framework_message(0, question), _framework_message(1, answer)]
        await self._provider.save_messages(_CHAT, turn)

    async def last(self) -> list[str]:
        return [each.text for each in (await self._provider.get_messages(_CHAT))[-_COUNT:]]


def _framework_message(at: int, text: str) -> Any:
    from agent_framework import Message

    # Without an id of its own it may pass for a replay.
    return Message(_role(at), [text], message_id=str(uuid4()))


def agent_framework_ours(archive: Archive) -> Driver:
    from convmem.adapters.agent_framework import ConvmemHistoryProvider

    return AgentFramework(ConvmemHistoryProvider(archive, max_messages=_COUNT))


def agent_framework_file(folder: Path, closing: ExitStack) -> Driver:
    from agent_framework import FileHistoryProvider

    return AgentFramework(FileHistoryProvider(folder))


# --- pydantic-ai ----------------------------------------------------------------------------------


class PydanticAI:
    """Over any ``ConversationStore``, by the calls that its ``save`` and ``load`` make."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._head: str | None = None
        self._revision: str | None = None

    async def fill(self, texts: list[str]) -> None:
        await self._write(texts)

    async def append(self, question: str, answer: str) -> None:
        await self._write([question, answer])

    async def last(self) -> list[str]:
        record = await self._store.read_record(_CHAT)
        entries = await self._store.read_history(record.head_id, limit=_COUNT)
        return [entry.message.parts[0].content for entry in entries]

    async def _write(self, texts: list[str]) -> None:
        from pydantic_ai.conversation_store import ConversationEntry, ConversationRecord
        from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart

        entries = []
        for at, text in enumerate(texts):
            message = (
                ModelResponse(parts=[TextPart(text)])
                if at % 2
                else ModelRequest(parts=[UserPromptPart(text)])
            )
            entries.append(ConversationEntry(parent_id=self._head, message=message))
            self._head = entries[-1].id
        record = ConversationRecord(conversation_id=_CHAT, head_id=self._head)
        await self._store.write_record(
            record, new_entries=entries, expected_revision=self._revision
        )
        self._revision = record.revision


def pydantic_ai_ours(archive: Archive) -> Driver:
    from convmem.adapters.pydantic_ai import ConvmemConversationStore

    return PydanticAI(ConvmemConversationStore(archive))


def pydantic_ai_memory(folder: Path, closing: ExitStack) -> Driver:
    from pydantic_ai.conversation_store import InMemoryConversationStore

    return PydanticAI(InMemoryConversationStore())


# --- LangGraph ------------------------------------------------------------------------------------


class LangGraph:
    """Over any checkpointer: a turn is a checkpoint with two more messages in a channel."""

    def __init__(self, saver: Any) -> None:
        self._saver = saver
        self._config: Any = {"configurable": {"thread_id": _CHAT, "checkpoint_ns": ""}}
        self._messages: list[Any] = []
        self._version = 0

    async def fill(self, texts: list[str]) -> None:
        self._put(texts)

    async def append(self, question: str, answer: str) -> None:
        self._put([question, answer])

    async def last(self) -> list[str]:
        thread = {"configurable": {"thread_id": _CHAT, "checkpoint_ns": ""}}
        found = self._saver.get_tuple(thread)
        return [each.content for each in found.checkpoint["channel_values"]["messages"][-_COUNT:]]

    def _put(self, texts: list[str]) -> None:
        from langgraph.checkpoint.base import empty_checkpoint

        self._messages = self._messages + _chain_messages(texts)
        self._version += 1
        versions = {"messages": self._version}
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"messages": self._messages}
        checkpoint["channel_versions"] = dict(versions)
        metadata = {"source": "loop", "step": self._version, "parents": {}}
        self._config = self._saver.put(self._config, checkpoint, metadata, versions)


def langgraph_ours(archive: Archive) -> Driver:
    from convmem.adapters.langgraph import ConvmemSaver

    return LangGraph(ConvmemSaver(archive))


def langgraph_sqlite(folder: Path, closing: ExitStack) -> Driver:
    from langgraph.checkpoint.sqlite import SqliteSaver

    connection = sqlite3.connect(folder / "checkpoints.db", check_same_thread=False)
    closing.callback(connection.close)
    saver = SqliteSaver(connection)
    saver.setup()
    return LangGraph(saver)


def langgraph_memory(folder: Path, closing: ExitStack) -> Driver:
    from langgraph.checkpoint.memory import InMemorySaver

    return LangGraph(InMemorySaver())


# --- LangChain ------------------------------------------------------------------------------------


class LangChain:
    """Over any ``BaseChatMessageHistory``, which can only be asked for all messages."""

    def __init__(self, history: Any) -> None:
        self._history = history
        self._filled: list[Any] = []

    async def fill(self, texts: list[str]) -> None:
        # That of files writes all anew for every message.
        in_one = getattr(self._history, "file_path", None)
        if in_one is None:
            self._history.add_messages(_chain_messages(texts))
        else:
            from langchain_core.messages import messages_to_dict

            self._filled += messages_to_dict(_chain_messages(texts))
            in_one.write_text(json.dumps(self._filled))

    async def append(self, question: str, answer: str) -> None:
        self._history.add_messages(_chain_messages([question, answer]))

    async def last(self) -> list[str]:
        return [message.content for message in self._history.messages[-_COUNT:]]


def _chain_messages(texts: list[str]) -> list[Any]:
    from langchain_core.messages import AIMessage, HumanMessage

    return [(AIMessage if at % 2 else HumanMessage)(text) for at, text in enumerate(texts)]


def langchain_ours(archive: Archive) -> Driver:
    from convmem.adapters.langchain import ConvmemChatMessageHistory

    return LangChain(ConvmemChatMessageHistory(_CHAT, archive, limit=_COUNT))


def langchain_file(folder: Path, closing: ExitStack) -> Driver:
    from langchain_community.chat_message_histories import FileChatMessageHistory

    return LangChain(FileChatMessageHistory(str(folder / "history.json")))


def langchain_sql(folder: Path, closing: ExitStack) -> Driver:
    from langchain_community.chat_message_histories import SQLChatMessageHistory

    history = SQLChatMessageHistory(_CHAT, connection=f"sqlite:///{folder / 'history.db'}")
    closing.callback(history.engine.dispose)
    return LangChain(history)


# --- Strands --------------------------------------------------------------------------------------


class Strands:
    """Over any ``SessionRepository``, which takes messages one by one, with their numbers."""

    def __init__(self, repository: Any) -> None:
        from strands.types.session import Session, SessionAgent, SessionType

        self._repository = repository
        if repository.read_session(_CHAT) is None:
            repository.create_session(Session(session_id=_CHAT, session_type=SessionType.AGENT))
        agent = SessionAgent(agent_id="agent", state={}, conversation_manager_state={})
        repository.create_agent(_CHAT, agent)
        self._next = 0

    async def fill(self, texts: list[str]) -> None:
        self._create(texts)

    async def append(self, question: str, answer: str) -> None:
        self._create([question, answer])

    async def last(self) -> list[str]:
        found = self._repository.list_messages(_CHAT, "agent", _COUNT, max(0, self._next - _COUNT))
        return [each.message["content"][0]["text"] for each in found]

    def _create(self, texts: list[str]) -> None:
        from strands.types.session import SessionMessage

        for at, text in enumerate(texts):
            message: Any = {"role": _role(at), "content": [{"text": text}]}
            made = SessionMessage.from_message(message, self._next)
            self._repository.create_message(_CHAT, "agent", made)
            self._next += 1


def strands_ours(archive: Archive) -> Driver:
    from convmem.adapters.strands import ConvmemSessionRepository

    return Strands(ConvmemSessionRepository(archive))


def strands_file(folder: Path, closing: ExitStack) -> Driver:
    from strands.session.file_session_manager import FileSessionManager

    return Strands(FileSessionManager(_CHAT, storage_dir=str(folder)))


# --- all of them ----------------------------------------------------------------------------------


def _ours(
    framework: str, name: str, make: Callable[[Archive], Driver], *, reads_all: bool = False
) -> list[Store]:
    """Return a framework's adapter as two stores: synced, as by default, and not."""

    def opened(durability: str) -> Callable[[Path, ExitStack], Driver]:
        def make_in(folder: Path, closing: ExitStack) -> Driver:
            return make(closing.enter_context(Archive.open(folder, durability=durability)))

        return make_in

    return [
        Store(framework, name, POWER_CUT, opened("always"), Kind.OURS, reads_all),
        Store(framework, f"{name}, unsynced", PROCESS_DEATH, opened("none"), Kind.OURS, reads_all),
    ]


STORES = [
    *_ours("OpenAI Agents", "ConvmemSession", openai_ours),
    Store("OpenAI Agents", "SQLiteSession", POWER_CUT, openai_sqlite),
    Store("OpenAI Agents", "AsyncSQLiteSession", POWER_CUT, openai_async_sqlite),
    Store("OpenAI Agents", "AdvancedSQLiteSession", POWER_CUT, openai_advanced_sqlite),
    *_ours("Claude Agent SDK", "ConvmemSessionStore", claude_ours, reads_all=True),
    Store("Claude Agent SDK", "InMemorySessionStore", NOTHING, claude_memory, reads_all=True),
    *_ours("Agent Framework", "ConvmemHistoryProvider", agent_framework_ours),
    Store(
        "Agent Framework",
        "FileHistoryProvider",
        PROCESS_DEATH,
        agent_framework_file,
        reads_all=True,
    ),
    *_ours("pydantic-ai", "ConvmemConversationStore", pydantic_ai_ours),
    Store("pydantic-ai", "InMemoryConversationStore", NOTHING, pydantic_ai_memory),
    *_ours("LangGraph", "ConvmemSaver", langgraph_ours, reads_all=True),
    Store("LangGraph", "SqliteSaver", POWER_CUT, langgraph_sqlite, reads_all=True),
    Store("LangGraph", "InMemorySaver", NOTHING, langgraph_memory, reads_all=True),
    *_ours("LangChain", "ConvmemChatMessageHistory", langchain_ours),
    Store("LangChain", "SQLChatMessageHistory", POWER_CUT, langchain_sql, reads_all=True),
    # It empties the file, then writes it: a crash between the two takes the whole history.
    Store("LangChain", "FileChatMessageHistory", NOTHING, langchain_file, reads_all=True),
    *_ours("Strands", "ConvmemSessionRepository", strands_ours),
    Store("Strands", "FileSessionManager", PROCESS_DEATH, strands_file),
]

_NOW = "2026-01-01T00:00:00.000Z"
_TEXT = "And by train? " + "The night train leaves at nine and takes seven hours. " * 4
_LATER: list[Callable[[], Awaitable[None]]] = []


def _role(at: int) -> str:
    return "assistant" if at % 2 else "user"


@dataclass(slots=True)
class Told:
    """What one store told at one length: seconds of each round, by what was done."""

    append: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)  # the last texts that it was given
    wrong: str = ""


async def _append(driver: Driver, told: Told, mark: str) -> None:
    question, answer = f"question {mark} {_TEXT}", f"answer {mark} {_TEXT}"
    began = time.perf_counter()
    await driver.append(question, answer)
    told.append.append(time.perf_counter() - began)
    told.stored = [*told.stored, question, answer][-_COUNT:]


async def _last(driver: Driver, told: Told, mark: str) -> None:
    began = time.perf_counter()
    found = await driver.last()
    told.last.append(time.perf_counter() - began)
    if found != told.stored:
        told.wrong = f"the last {len(found)} are not what was stored"


async def _at_length(
    stores: Sequence[Store], length: int, rounds: int, folder: Path, missing: dict[str, str]
) -> dict[str, Told]:
    """Measure all stores, in turns, with *length* messages in each."""
    with ExitStack() as closing:
        drivers: list[tuple[Store, Driver]] = []
        told: dict[str, Told] = {}
        for nth, store in enumerate(stores):
            place = folder / str(nth)
            place.mkdir(mode=0o700)
            try:
                drivers.append((store, store.make(place, closing)))
                told[store.name] = Told()
            except ImportError as error:
                missing[store.name] = f"{type(error).__name__}: {error}"
            except Exception as error:  # a store that cannot is named, and the others go on
                told[store.name] = Told(wrong=f"{type(error).__name__}: {error}")
        texts = [f"{at} {_TEXT}" for at in range(length - _COUNT)]
        for store, driver in drivers:
            its = told[store.name]
            try:
                for at in range(0, len(texts), _AT_ONCE):
                    await driver.fill(texts[at : at + _AT_ONCE])
                # What is read was appended turn by turn, as in life.
                for nth in range(_COUNT // 2):
                    await _append(driver, its, f"warm {nth}")
                await _last(driver, its, "warm")
            except Exception as error:
                its.wrong = f"{type(error).__name__}: {error}"
            its.append.clear()
            its.last.clear()
        chance = Random(length)
        # All appends before all reads: reading ten thousand messages leaves the caches cold.
        for do, seconds in ((_append, "append"), (_last, "last")):
            gc.collect()
            for nth in range(rounds):
                for store, driver in chance.sample(drivers, len(drivers)):
                    its = told[store.name]
                    spent = getattr(its, seconds)
                    if its.wrong or (sum(spent) > _ENOUGH_SECONDS and nth >= _ENOUGH_ROUNDS):
                        continue
                    await do(driver, its, str(nth))
    while _LATER:
        await _LATER.pop()()
    return told


def _table(
    framework: str,
    stores: Sequence[Store],
    told: dict[int, dict[str, Told]],
    missing: dict[str, str],
) -> Table:
    note = "Milliseconds, by how many messages are there; the worst ratio of the lengths counts."
    if any(store.reads_all for store in stores):
        note += " Who can only read all does that, and the last 20 are taken of it."
    table = Table(framework, note, bars="")
    for store in stores:
        if store.name in missing:
            table.add_missing(store.name, missing[store.name])
            continue
        wrong = next((its[store.name].wrong for its in told.values() if its[store.name].wrong), "")
        if wrong:
            broken = {"broken": 1} if store.kind is Kind.OURS else {}
            table.add(store.name, store.kind, survives=store.survives, why=wrong[:60], **broken)
            continue
        figures: dict[str, Any] = {}
        missed: dict[str, bool] = {}  # each goal, and whether it was
        for what in ("append", "last"):
            by_length = {
                length: median(getattr(its[store.name], what)) for length, its in told.items()
            }
            for length, seconds in by_length.items():
                figures[f"{what}_{length:,}"] = seconds * 1e3
            if store.kind is Kind.OURS:
                over = figures[f"{what}_over_best"] = _over_peers(store, what, stores, told)
                if over is not None:
                    missed[f"{what} ahead"] = over > 1
                if len(told) > 1 and (what == "append" or not store.reads_all):
                    missed[f"{what} flat"] = by_length[max(told)] > _FLAT * by_length[min(told)]
        behind = [goal for goal, is_missed in missed.items() if is_missed]
        goal = (", ".join(behind or missed), not behind if missed else None)
        table.add(store.name, store.kind, survives=store.survives, goal=goal, **figures)
    return table


def _over_peers(
    store: Store, what: str, stores: Sequence[Store], told: dict[int, dict[str, Told]]
) -> float | None:
    """Return how many times the best peer that promises no less, at the length where it is most."""
    worst: float | None = None
    for its in told.values():
        for other in stores:
            is_beside = (
                other.kind is Kind.PEER
                and other.framework == store.framework
                and other.survives in _PROMISES[: _PROMISES.index(store.survives) + 1]
                and other.name in its
                and not its[other.name].wrong
            )
            if is_beside:
                mine, theirs = getattr(its[store.name], what), getattr(its[other.name], what)
                many = min(len(mine), len(theirs))
                times = ratio(mine[:many], theirs[:many])
                if times is not None and (worst is None or times > worst):
                    worst = times
    return worst


_PROMISES = (POWER_CUT, PROCESS_DEATH, NOTHING)


def main() -> int:
    """Run what was asked for; return the exit status."""
    parser = argparse.ArgumentParser(description="adapters beside their frameworks' own stores")
    parser.set_defaults(scale="full")
    for scale in ("quick", "tiny"):
        parser.add_argument(f"--{scale}", dest="scale", action="store_const", const=scale)
    frameworks = list(dict.fromkeys(store.framework for store in STORES))
    parser.add_argument("--only", nargs="+", choices=frameworks, metavar="FRAMEWORK")
    parser.add_argument("--json", metavar="FILE", help="also write the tables to FILE as JSON")
    parser.add_argument("--dir", metavar="DIR", help="work below DIR, on a real disk")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the frameworks' own, of what they deprecate
    lengths, rounds = _SCALES[options.scale]
    missing: dict[str, str] = {}
    tables = []
    out = console()
    with workspace(options.dir, may_be_in_memory=options.scale == "tiny") as folder:
        about = machine(folder)
        out.print(machine_line(about))
        for framework in options.only or frameworks:
            its = [store for store in STORES if store.framework == framework]
            told: dict[int, dict[str, Told]] = {}
            for length in lengths:
                place = folder / f"{len(tables)}-{length}"
                place.mkdir(mode=0o700)
                told[length] = asyncio.run(_at_length(its, length, rounds, place, missing))
                shutil.rmtree(place)
            tables.append(_table(framework, its, told, missing))
            show(tables[-1], out)
    if options.json:
        report = {"machine": about, "tables": [asdict(table) for table in tables]}
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    broken = [row.what for table in tables for row in table.rows if row.is_broken]
    if broken:
        print(f"promises broken: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
