"""The store: sessions of the Claude Agent SDK, listed, loaded and appended to."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from claude_agent_sdk import SessionStore

from convmem import ConversationNotFound, ConvmemError, aio
from convmem.adapters.claude_agent_sdk.entries import entries_in
from convmem.adapters.claude_agent_sdk.keys import Key, escaped, key_in, key_of, name_of
from convmem.adapters.claude_agent_sdk.recording import record
from convmem.adapters.claude_agent_sdk.summaries import Row, data_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_agent_sdk.types import (
        SessionKey,
        SessionListSubkeysKey,
        SessionStoreEntry,
        SessionStoreListEntry,
        SessionSummaryEntry,
    )

    from convmem import Archive, Conversation


class ConvmemSessionStore(SessionStore):
    """Keeps the SDK's sessions in an archive you have opened: ``options.session_store``.

    Any number of tasks, threads and processes may share one store or have their own, also for one
    session. Works in asyncio's loops.
    """

    def __init__(self, archive: Archive | aio.Archive, *, namespace: str | None = None) -> None:
        """Touches no disk.

        Args:
            archive: The program's own, which opens and closes it.
            namespace: Where all projects' sessions are; the archive's own by default. Tenants that
                must not see each other get one each, not only a ``project_key``.

        Raises:
            InvalidContinuationId: No namespace can have that name.
        """
        self._archive = aio.Archive.of(archive)
        self._namespace = namespace
        self._conversation("any")

    def conversation(self, key: SessionKey) -> Conversation:
        """Return the conversation that holds a transcript: for ``search``, ``context``, ``tail`` …

        Raises:
            InvalidContinuationId: The names are too long for an id, 1,024 bytes in all.
            UsageError: The key has an empty ``subpath``.
        """
        return self._conversation(name_of(key_of(key)))

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """Record *entries* as one atomic batch: all or none, also after a crash.

        An entry whose ``uuid`` is there already is stored once; one of the same ``uuid`` that says
        something else is kept, too, behind the first, as in Claude Code's own files. Entries
        without ``uuid`` are always appended. A call that is cancelled is settled first.

        Raises:
            ConvmemError: The archive is closed, busy or full; nothing was stored, so try again.
        """
        chat = self.conversation(key)
        if entries:
            await self._archive.run(record, chat, list(entries))

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """Return all entries in order, or ``None`` if there are none. Damage is passed over."""
        chat, known = self.conversation(key), key_of(key)
        return await self._archive.run(lambda: list(entries_in(chat, known)) or None)

    async def list_sessions(self, project_key: str) -> list[SessionStoreListEntry]:
        """Return the sessions of a project, the latest activity first.

        Costs a look at each file of the namespace; only logs that changed are opened, at their
        ends. ``mtime`` is the time of the last entry. What cannot be read is not listed.
        """

        def listed() -> list[SessionStoreListEntry]:
            rows = self._rows(project_key)
            return [{"session_id": row.key.session, "mtime": row.mtime} for row in rows]

        return await self._archive.run(listed)

    async def list_session_summaries(self, project_key: str) -> list[SessionSummaryEntry]:
        """Return the sessions' summaries, as the SDK folds them, never stale.

        A summary is kept in the state of the session's conversation with how far it was folded,
        and goes on from there: only the newest entries are read, and a state is written (with a
        sync) once they are some dozens. It is begun anew where the log was rewritten, so that it
        tells nothing of what was scrubbed.
        """
        return await self._archive.run(self._summaries, project_key)

    async def delete(self, key: SessionKey) -> None:
        """Move a transcript to the trash; without ``subpath`` those of its sub-agents, too.

        ``convmem trash`` brings them back. A kill in the middle leaves the session itself, so that
        deleting it again takes the rest.

        Raises:
            UsageError: The keep-list of ``convmem.toml`` holds it.
        """
        self.conversation(key)  # which refuses what is no key
        known = key_of(key)

        def deleted() -> None:
            subpaths = [] if known.subpath is not None else self._subpaths(known)
            for each in [*(known._replace(subpath=path) for path in subpaths), known]:
                with suppress(ConversationNotFound):
                    self._conversation(name_of(each)).delete(reason="session deleted")

        await self._archive.run(deleted)

    async def list_subkeys(self, key: SessionListSubkeysKey) -> list[str]:
        """Return the subpaths under a session. Costs one look at the namespace's folder."""
        return await self._archive.run(self._subpaths, key_of(key)._replace(subpath=None))

    def _conversation(self, name: str) -> Conversation:
        return self._archive.sync.conversation(name, namespace=self._namespace)

    def _subpaths(self, session: Key) -> list[str]:
        begins = escaped(session.session)
        found = []
        for each in self._archive.sync.conversations(namespace=self._namespace):
            if not each.continuation_id.startswith(begins):
                continue
            key = key_in(each.continuation_id)
            if key is not None and key.subpath is not None and key[:2] == session[:2]:
                found.append(key.subpath)
        return sorted(found)

    def _summaries(self, project: str) -> list[SessionSummaryEntry]:
        summaries: list[SessionSummaryEntry] = []
        for row in self._rows(project):
            with suppress(ConversationNotFound):  # somebody has just deleted it
                data = data_of(self._conversation(name_of(row.key)), row)
                each = {"session_id": row.key.session, "mtime": row.mtime, "data": data}
                summaries.append(each)
        return summaries

    def _rows(self, project: str) -> Iterator[Row]:
        """Yield what the archive's list says of the sessions of a project that hold anything."""

        def failed(continuation_id: str, error: ConvmemError) -> None:
            """Leave it out: one that cannot be read is no reason to hide the others."""

        ending = "@" + escaped(project)
        for row in self._archive.sync.overview(namespace=self._namespace, failed=failed):
            if row.continuation_id.endswith(ending):
                key, last = key_in(row.continuation_id), row.last_ts
                if key is not None and key.subpath is None and last is not None:
                    yield Row(key, row.last_seq, int(last.timestamp() * 1000))
