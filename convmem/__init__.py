"""convmem keeps conversations: durable when acknowledged, plain JSONL, safe among processes.

from convmem import Archive

with Archive.open("~/chats") as archive:
    chat = archive.conversation("trip-to-oslo")
    chat.record("user", "And by train?")
    for turn in chat.tail(2):
        print(turn.role, turn.content)
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.archive import Archive as Archive
    from convmem.context.tokens import TokenCounter as TokenCounter
    from convmem.context.window import ContextWindow as ContextWindow
    from convmem.conversation import Conversation as Conversation
    from convmem.conversation import TurnList as TurnList
    from convmem.errors import ConversationNotFound as ConversationNotFound
    from convmem.errors import ConvmemError as ConvmemError
    from convmem.errors import CorruptLog as CorruptLog
    from convmem.errors import DurabilityUnknown as DurabilityUnknown
    from convmem.errors import InvalidContinuationId as InvalidContinuationId
    from convmem.errors import InvalidTurn as InvalidTurn
    from convmem.errors import LockTimeout as LockTimeout
    from convmem.errors import StorageError as StorageError
    from convmem.errors import StorageFull as StorageFull
    from convmem.errors import TurnConflict as TurnConflict
    from convmem.errors import UsageError as UsageError
    from convmem.event_log import EventLog as EventLog
    from convmem.event_log import JsonFormatter as JsonFormatter
    from convmem.event_log import Observers as Observers
    from convmem.log.durability import Durability as Durability
    from convmem.log.follow import Cursor as Cursor
    from convmem.log.removing.survey import CompactionReport as CompactionReport
    from convmem.metrics import Metrics as Metrics
    from convmem.progress import Observer as Observer
    from convmem.retention import RetentionPolicy as RetentionPolicy
    from convmem.search.hits import Hit as Hit
    from convmem.search.page import SearchPage as SearchPage
    from convmem.stores.protocol import Store as Store
    from convmem.turns import Turn as Turn

# Loaded when first asked for: a shell command that appends one turn needs only some of them.
_PLACES = {
    "Archive": "convmem.archive",
    "CompactionReport": "convmem.log.removing.survey",
    "ContextWindow": "convmem.context.window",
    "Conversation": "convmem.conversation",
    "ConversationNotFound": "convmem.errors",
    "ConvmemError": "convmem.errors",
    "CorruptLog": "convmem.errors",
    "Cursor": "convmem.log.follow",
    "Durability": "convmem.log.durability",
    "DurabilityUnknown": "convmem.errors",
    "EventLog": "convmem.event_log",
    "Hit": "convmem.search.hits",
    "InvalidContinuationId": "convmem.errors",
    "InvalidTurn": "convmem.errors",
    "JsonFormatter": "convmem.event_log",
    "LockTimeout": "convmem.errors",
    "Metrics": "convmem.metrics",
    "Observer": "convmem.progress",
    "Observers": "convmem.event_log",
    "RetentionPolicy": "convmem.retention",
    "SearchPage": "convmem.search.page",
    "StorageError": "convmem.errors",
    "StorageFull": "convmem.errors",
    "Store": "convmem.stores.protocol",
    "TokenCounter": "convmem.context.tokens",
    "Turn": "convmem.turns",
    "TurnConflict": "convmem.errors",
    "TurnList": "convmem.conversation",
    "UsageError": "convmem.errors",
}

__all__ = ["__version__", *_PLACES]


def __getattr__(name: str) -> object:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(place), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
