"""``ConvmemSessionRepository``: sessions, agents and messages, as Strands asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from strands.session.session_repository import SessionRepository
from strands.types.exceptions import SessionException
from strands.types.session import (
    Session,
    SessionAgent,
    SessionType,
    decode_bytes_values,
    encode_bytes_values,
)

from convmem import ConversationNotFound, InvalidTurn, TurnConflict, aio
from convmem.adapters.exact import is_sayable, spelled_in_ascii, unspelled
from convmem.adapters.strands.numbering import Ends, message_turn, numbered_from
from convmem.adapters.strands.places import DEFAULT_AGENT, Places
from convmem.adapters.strands.stored import (
    SOURCE,
    as_stored,
    session_message_of,
    storable_turn,
    turn_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from strands.agent.conversation_manager import ConversationManager
    from strands.multiagent import MultiAgentBase
    from strands.types.session import SessionMessage

    from convmem import Archive, Conversation, Durability

T = TypeVar("T")

_SESSION_KEY = "strands_session"
_AGENT_KEY = "strands_agent"
_MULTI_AGENT_KEY = "strands_multi_agent"


class ConvmemSessionRepository(SessionRepository):
    """A ``SessionRepository`` for ``RepositorySessionManager``. It never closes the archive.

    A message is stored when ``create_message`` returns. A message id is given out once: where
    two processes go on with one session at the same time, one of them gets a ``SessionException``
    instead of the other losing what it said; begin a new manager to go on.

    Messages that others recorded (the shell, an import, another framework) are listed where they
    stand, with the ids that follow; see ``adopt``. Ids with a path separator raise ``ValueError``,
    as with the file system's manager; each other text names a session or an agent of its own.
    A document of an agent takes at most 1 MiB; beyond that ``UsageError`` is raised.

    Args:
        archive: Where; open as long as the repository is used.
        namespace: Whose sessions; the archive's own by default.
        durability: What an answered ``create_message`` promises; as the archive by default. What
            is said of agents is always durable.

    Raises:
        InvalidContinuationId: Nothing can have that namespace.
    """

    def __init__(
        self,
        archive: Archive | aio.Archive,
        *,
        namespace: str | None = None,
        durability: Durability | str | None = None,
    ) -> None:
        self._places = Places(aio.Archive.of(archive).sync, namespace, durability)
        self._ends = Ends()

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        """Create a session.

        Raises:
            SessionException: It is there.
        """
        chat = self._places.session(session.session_id)
        if _SESSION_KEY in chat.state():
            raise SessionException(f"Session {session.session_id} already exists")
        _tell(chat, _SESSION_KEY, session.to_dict())
        return session

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        """Return the session, or ``None``."""
        told = _told(self._places.session(session_id), _SESSION_KEY)
        return None if told is None else _made(Session.from_dict, told)

    def delete_session(self, session_id: str, **kwargs: Any) -> None:
        """Move the session's conversations to the trash, and remove their documents.

        Costs one look at the directory.

        Raises:
            SessionException: There is no such session.
        """
        mine = self._places.session(session_id)
        others = self._places.beside(session_id)
        if not (others or mine.exists() or _SESSION_KEY in mine.state()):
            raise SessionException(f"Session {session_id} does not exist")
        # Its own name last: where this is interrupted, the rest can be found again by it.
        for chat in (*others, mine):
            try:
                chat.delete(reason=SOURCE)
            except ConversationNotFound:
                chat.clear_state()  # of an agent that never spoke there is nothing else

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Store an agent's document, as a new one."""
        chat = self._places.agent(session_id, session_agent.agent_id)
        _tell(chat, _AGENT_KEY, session_agent.to_dict())
        self._places.note(session_id, chat)

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        """Return the agent's document, or ``None``."""
        told = _told(self._places.agent(session_id, agent_id), _AGENT_KEY)
        return None if told is None else _made(SessionAgent.from_dict, told)

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Replace an agent's document.

        Raises:
            SessionException: There is no such agent.
        """
        agent_id = session_agent.agent_id
        previous = self.read_agent(session_id, agent_id)
        if previous is None:
            raise SessionException(f"Agent {agent_id} in session {session_id} does not exist")
        session_agent.created_at = previous.created_at
        chat = self._places.agent(session_id, agent_id)
        _tell(chat, _AGENT_KEY, session_agent.to_dict())

    def create_message(
        self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any
    ) -> None:
        """Append a message. The same again, as a retry sends it, is stored once.

        Raises:
            SessionException: There is another message of this id. Nothing was stored.
            InvalidTurn: It holds what is no JSON.
            LockTimeout, StorageFull, StorageError: Nothing was stored.
            DurabilityUnknown: Try again, with a new archive.
        """
        number = _checked_number(session_message.message_id)
        chat = self._places.agent(session_id, agent_id)
        turn = {"id": f"message:{number}", **turn_of(session_message)}
        behind = self._ends.before(chat, number)
        if behind is None:
            turn["meta"]["moved"] = True
        try:
            try:
                [stored] = chat.record_many([turn])
            except InvalidTurn:
                [stored] = chat.record_many([storable_turn(turn, session_message)])
        except TurnConflict as conflict:
            there = self.read_message(session_id, agent_id, number)
            # As they are written: no NaN is the same as another one.
            if there is not None and repr(there) == repr(as_stored(session_message)):
                return  # others came between the first try and this one
            raise SessionException(
                f"Message {number} of agent {agent_id} in session {session_id} already exists: "
                "somebody else has gone on with the session"
            ) from conflict
        if behind is None or (stored.seq or 0) <= behind:
            # The id of a message that was redacted answers whatever comes, and stores nothing.
            there = self.read_message(session_id, agent_id, number)
            if there is None or repr(there) != repr(as_stored(session_message)):
                raise SessionException(
                    f"Message {number} of agent {agent_id} in session {session_id} was redacted: "
                    "somebody else has gone on with the session"
                )
        if behind is not None and stored.seq == behind + 1:
            self._ends.learn(chat, stored.seq, number)

    def read_message(
        self, session_id: str, agent_id: str, message_id: int, **kwargs: Any
    ) -> SessionMessage | None:
        """Return the message, or ``None``. Reads from the end as far as it takes."""
        found = message_turn(self._places.agent(session_id, agent_id), _checked_number(message_id))
        return None if found is None else session_message_of(message_id, found)

    def update_message(
        self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any
    ) -> None:
        """Put a message in the place of the one that has its id, which is scrubbed.

        That is how Strands redacts: nothing of what was said before stays readable, not in the
        log, the trash, nor the index; a marker without content is in the trash. Where it is
        interrupted, the old message may be whole in the trash: try again. Reads and writes all of
        the conversation.

        Raises:
            SessionException: There is no such message.
        """
        number = _checked_number(session_message.message_id)
        chat = self._places.agent(session_id, agent_id)
        found = message_turn(chat, number)
        if found is None or found.id is None:
            raise SessionException(f"Message {number} does not exist")
        session_message.created_at = session_message_of(number, found).created_at
        turn = turn_of(session_message)
        turn["meta"]["moved"] = True
        try:
            chat.replace([turn], ids=[found.id], reason=SOURCE)
        except InvalidTurn:
            turn = storable_turn(turn, session_message)
            chat.replace([turn], ids=[found.id], reason=SOURCE)
        chat.scrub(found.id)

    def list_messages(
        self,
        session_id: str,
        agent_id: str,
        limit: int | None = None,
        offset: int = 0,
        **kwargs: Any,
    ) -> list[SessionMessage]:
        """Return the messages from id *offset* on, at most *limit*, in the order of their ids.

        Reads backwards from the end, as far as *offset* is: the last messages of a long session
        cost what those of a short one do.

        Raises:
            SessionException: There is no such agent.
        """
        chat = self._places.agent(session_id, agent_id)
        numbered = numbered_from(chat, offset)
        if not numbered and not chat.exists() and _AGENT_KEY not in chat.state():
            raise SessionException(f"There is no agent {agent_id} in session {session_id}")
        if offset < 0:
            numbered = numbered[offset:]
        return [session_message_of(number, turn) for number, turn in numbered[:limit]]

    def create_multi_agent(
        self, session_id: str, multi_agent: MultiAgentBase, **kwargs: Any
    ) -> None:
        """Store what a multi-agent says of itself."""
        chat = self._places.multi_agent(session_id, multi_agent.id)
        _tell(chat, _MULTI_AGENT_KEY, encode_bytes_values(multi_agent.serialize_state()))
        self._places.note(session_id, chat)

    def read_multi_agent(
        self, session_id: str, multi_agent_id: str, **kwargs: Any
    ) -> dict[str, Any] | None:
        """Return it, or ``None``."""
        told = _told(self._places.multi_agent(session_id, multi_agent_id), _MULTI_AGENT_KEY)
        return None if told is None else _made(decode_bytes_values, told)

    def update_multi_agent(
        self, session_id: str, multi_agent: MultiAgentBase, **kwargs: Any
    ) -> None:
        """Replace it.

        Raises:
            SessionException: There is none.
        """
        if self.read_multi_agent(session_id, multi_agent.id) is None:
            raise SessionException(
                f"MultiAgent state {multi_agent.id} in session {session_id} does not exist"
            )
        chat = self._places.multi_agent(session_id, multi_agent.id)
        _tell(chat, _MULTI_AGENT_KEY, encode_bytes_values(multi_agent.serialize_state()))

    def adopt(
        self,
        session_id: str,
        agent_id: str = DEFAULT_AGENT,
        *,
        conversation_manager: ConversationManager | None = None,
    ) -> None:
        """Make a conversation that others recorded a session, so that an agent begins with it.

        A session that Strands began is left as it is.

        Args:
            conversation_manager: Of the kind that the agent will have; by default an agent's own
                default, a sliding window.
        """
        from strands.agent.conversation_manager import SlidingWindowConversationManager

        if self.read_session(session_id) is None:
            self.create_session(Session(session_id=session_id, session_type=SessionType.AGENT))
        if self.read_agent(session_id, agent_id) is None:
            manager = conversation_manager or SlidingWindowConversationManager()
            state = manager.get_state()
            self.create_agent(session_id, SessionAgent(agent_id, {}, state))


def _checked_number(message_id: Any) -> int:
    if not isinstance(message_id, int):
        raise ValueError(f"message_id=<{message_id}> | message id must be an integer")
    return message_id


def _tell(chat: Conversation, key: str, document: dict[str, Any]) -> None:
    """Keep a document in the state: as text where JSON as UTF-8 cannot say it."""
    is_said = is_sayable(document)
    chat.update_state({key: document if is_said else spelled_in_ascii(document)})


def _told(chat: Conversation, key: str) -> Any:
    return unspelled(chat.state().get(key))


def _made(make: Callable[[Any], T], told: Any) -> T:
    """Return what a document makes.

    Raises:
        SessionException: Somebody else has written it, and not in Strands' form.
    """
    try:
        return make(told)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SessionException(f"what the state says is no document of Strands: {error}") from error
