"""Any number of followers share one thread, hold nothing they do not need, and miss nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import threading

import pytest
from slow_disk import rounds, until

from convmem import UsageError, aio


def run(main, root, **options):
    """Run *main* with an archive."""

    async def opened():
        async with aio.Archive.open(root, durability="none", **options) as archive:
            await main(archive)

    asyncio.run(opened())


def open_logs():
    """Return how many descriptors of logs this process has."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}").endswith(".jsonl")
        except FileNotFoundError:
            continue  # the listing's own
    return found


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")


def test_two_hundred_followers_need_one_thread_and_starve_nobody(root):
    """A server follows as many chats as it has clients."""

    async def main(archive):
        chats = [archive.conversation(str(at % 50)) for at in range(200)]
        seen = [[] for _ in chats]

        async def follow(at):
            async for turn in chats[at].follow():
                seen[at].append(turn.content)
                if len(seen[at]) == 10:
                    return

        following = [asyncio.create_task(follow(at)) for at in range(200)]
        await until(lambda: archive._watch._queue)
        for round_ in range(10):
            await asyncio.gather(*(chats[at].record("user", str(round_)) for at in range(50)))
        names = [each.name for each in threading.enumerate()]
        assert names.count("convmem-aio-follow") == 1
        assert names.count("convmem-aio") <= 8
        await asyncio.gather(*following)
        assert seen == [[str(at) for at in range(10)]] * 200

    run(main, root)


@needs_proc
@pytest.mark.parametrize("how", ["break", "aclose", "cancel", "with", "turns", "grep"])
def test_whoever_stops_iterating_gives_back_what_was_open(root, how):
    """A client that hangs up must not cost a descriptor."""

    async def main(archive):
        chat = archive.conversation("trip")
        await chat.record_many([("user", "a")] * 1000)
        kept = []

        async def follow():
            async for _ in chat.follow():
                if how == "break":
                    break
                kept.append(1)

        async def within():
            async with chat.follow() as following:
                await anext(following)

        async def closed():
            following = chat.follow()
            await anext(following)
            await following.aclose()
            await following.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(following)

        async def read(stream):
            async for _ in stream:
                break

        await archive.run(archive.sync._store._places.close)
        before = open_logs()
        for _ in range(20):
            if how == "cancel":
                task = asyncio.create_task(follow())
                count = len(kept)
                await until(lambda count=count: len(kept) > count)
                await rounds()
                task.cancel()
                kept.append(task)  # with its traceback, and all that this knows
                await asyncio.wait((task,))
            elif how in ("turns", "grep"):
                await read(chat.turns() if how == "turns" else archive.grep("a"))
            else:
                await {"break": follow, "with": within, "aclose": closed}[how]()
        await until(lambda: open_logs() <= before)

    run(main, root)
    gc.collect()


def test_a_wait_that_is_cancelled_misses_nothing(root):
    """`wait_for(anext(following), …)` in a loop is how people follow and do other things."""

    async def main(archive):
        chat = archive.conversation("trip")
        following, seen = chat.follow(), []

        async def write():
            for at in range(100):
                await chat.record("user", str(at))
                await asyncio.sleep(0.001)

        writing = asyncio.create_task(write())
        while len(seen) < 100:
            try:
                async with asyncio.timeout(0.002):
                    seen.append(await anext(following))
            except TimeoutError:
                continue
        await writing
        assert [turn.seq for turn in seen] == list(range(1, 101))
        assert following.cursor == await chat.cursor()
        assert (following.missed, following.diverged) == (0, 0)

    run(main, root)


def test_a_slow_follower_has_little_read_ahead(root):
    """Memory follows the reader, not the log."""

    async def main(archive):
        chat = archive.conversation("trip")
        await chat.record_many([("user", "x" * 20_000) for _ in range(1000)])
        following = chat.follow()
        first = await anext(following)
        assert len(following._place.block) < 100
        assert following.cursor.seq == first.seq == 1
        turns = chat.turns()
        await anext(turns)
        assert len(turns._source.block) < 100

    run(main, root)


def test_two_tasks_cannot_share_one_iterator(root):
    """Each would get half of the turns; that is no one's wish."""

    async def main(archive):
        chat = archive.conversation("trip")
        following = chat.follow()
        task = asyncio.create_task(_first(following))
        await rounds()
        with pytest.raises(UsageError, match="another task"):
            await anext(following)
        await chat.record("user", "a")
        assert (await task).content == "a"

    async def _first(following):
        return await anext(following)

    run(main, root)


def test_closing_it_ends_who_waits(root):
    """A server tells its followers to go."""

    async def main(archive):
        following = archive.conversation("trip").follow()
        task = asyncio.create_task(_all(following))
        await rounds()
        await following.aclose()
        assert await task == []

    run(main, root)


def test_closing_the_archive_ends_who_waits(root):
    """Quietly: what was asked for has come to its end."""

    async def program():
        archive = aio.Archive.open(root, durability="none")
        chat = archive.conversation("trip")
        await chat.record("user", "a")
        tasks = [asyncio.create_task(_all(chat.follow())) for _ in range(5)]
        await until(lambda: archive._watch._queue)
        await asyncio.sleep(0.05)
        await archive.close()
        for task in tasks:
            assert [turn.content for turn in await task] == ["a"]

    asyncio.run(program())


def test_who_was_stopped_by_a_close_goes_on_at_the_cursor(root):
    """A close waits for no reader with a long way to go; nothing is lost by that."""

    async def program():
        archive = aio.Archive.open(root, durability="none")
        chat = archive.conversation("trip")
        await chat.record_many([("user", str(at)) for at in range(5000)])
        following = chat.follow(after=0)
        seen = [await anext(following) for _ in range(3)]
        await archive.close()
        seen += await _all(following)
        assert len(seen) < 5000
        async with aio.Archive.open(root) as again:
            rest = again.conversation("trip").follow(after=following.cursor, idle_timeout=0)
            seen += await _all(rest)
        assert [turn.content for turn in seen] == [str(at) for at in range(5000)]

    asyncio.run(program())


async def _all(following):
    return [turn async for turn in following]


def test_a_follower_that_has_a_long_way_to_go_lets_others_pass(root):
    """One that begins with a million turns must not stop the one that waits for the next."""

    async def main(archive):
        long, short = archive.conversation("long"), archive.conversation("short")
        await long.record_many([("user", str(at)) for at in range(5000)])
        behind = asyncio.create_task(_count(long.follow(idle_timeout=0.1)))
        following = short.follow()
        waiting = asyncio.create_task(_first(following))
        await short.record("user", "hello")
        assert (await waiting).content == "hello"
        assert await behind == 5000

    async def _count(following):
        return sum([1 async for _ in following])

    async def _first(following):
        return await anext(following)

    run(main, root)


def test_an_error_on_the_way_is_raised_where_it_is_waited_for(root, monkeypatch):
    """A follower whose log cannot be read says so, and the others go on."""
    from convmem.log.follow import Follower

    look = Follower.look

    def broken(self):
        if self._file.startswith("bad"):
            raise PermissionError("not yours")
        return look(self)

    monkeypatch.setattr(Follower, "look", broken)

    async def main(archive):
        await archive.conversation("good").record("user", "a")
        with pytest.raises(PermissionError, match="not yours"):
            await anext(archive.conversation("bad").follow())
        assert (await anext(archive.conversation("good").follow())).content == "a"

    run(main, root)
