"""The async face of convmem: the same archive, awaitable, with a bounded number of threads.

    async with aio.Archive.open("conversations") as archive:
        chat = archive.conversation("oslo-trip")
        await chat.record("user", "How do I get to Oslo?")
        async for turn in chat.follow():
            ...

There is one engine: all is carried out by ``convmem.Archive`` in threads, so both faces promise the
same, raise the same errors, and may be used side by side. What is here only: turns that many tasks
record go into few writes and syncs; a call that is cancelled is never left in doubt.
"""

from __future__ import annotations

from convmem.aio.archive import Archive
from convmem.aio.conversation import Conversation
from convmem.aio.following import Following

__all__ = ["Archive", "Conversation", "Following"]
