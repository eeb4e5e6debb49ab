"""Turns of many tasks go together: few writes, in order, bounded, and nobody starves."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest
from slow_disk import PATIENCE_SECONDS, SlowDisk, rounds, until

from convmem import Archive, Durability, Observer, TurnConflict, UsageError, aio, turns
from convmem.log import durability
from convmem.stores.values import Group


def run(main, root, **options):
    """Run *main* with an archive."""

    async def opened():
        options.setdefault("durability", "none")
        async with aio.Archive.open(root, **options) as archive:
            await main(archive)

    asyncio.run(opened())


def test_what_comes_while_one_is_written_goes_with_the_next(root, monkeypatch):
    """A hundred tasks that record at once pay for two syncs, not for a hundred."""
    synced = []
    monkeypatch.setattr(durability, "sync_data", synced.append)

    async def main(archive):
        disk, chat = SlowDisk(archive), archive.conversation("trip")
        with disk.held():
            first = asyncio.create_task(chat.record("user", "first"))
            await disk.has_arrived(1)
            others = [asyncio.create_task(chat.record("user", str(at))) for at in range(100)]
            await rounds()
        await asyncio.gather(first, *others)
        assert disk.sizes == [("trip", 1), ("trip", 100)]
        assert len(synced) == 2

    run(main, root, durability="always")


def test_turns_go_together_only_where_they_promise_the_same(root, monkeypatch):
    """A critical turn is synced, and its neighbours are not told of a sync they did not ask for."""
    synced = []
    monkeypatch.setattr(durability, "sync_data", synced.append)

    async def main(archive):
        disk, chat = SlowDisk(archive), archive.conversation("trip")
        with disk.held():
            tasks = [asyncio.create_task(chat.record("user", "first"))]
            await disk.has_arrived(1)
            tasks += [
                asyncio.create_task(chat.record("user", "x", critical=critical))
                for critical in (False, False, True, False, False)
            ]
            await rounds()
        assert [turn.seq for turn in await asyncio.gather(*tasks)] == [1, 2, 3, 4, 5, 6]
        assert [turns for _, turns in disk.sizes] == [1, 2, 1, 2]
        assert len(synced) == 1

    run(main, root)


def test_one_write_takes_only_so_much(root):
    """The last of ten thousand that wait must not make the first wait for all of them."""

    async def main(archive):
        disk, chat = SlowDisk(archive), archive.conversation("trip")
        await asyncio.gather(*(chat.record("user", "x") for _ in range(1000)))
        assert max(turns for _, turns in disk.sizes) <= 256
        disk.sizes.clear()
        await asyncio.gather(*(chat.record("user", "x" * 1_000_000) for _ in range(20)))
        assert max(turns for _, turns in disk.sizes) <= 5

    run(main, root)


def test_what_waits_is_not_encoded_yet(root, monkeypatch):
    """Behind a slow disk, memory holds what the tasks hold, and no copies of it."""
    made = []
    draft = turns.draft

    def counted(*given, **named):
        made.append(threading.get_ident())
        return draft(*given, **named)

    monkeypatch.setattr(turns, "draft", counted)

    async def main(archive):
        disk = SlowDisk(archive)
        chats = [archive.conversation(str(at)) for at in range(50)]
        with disk.held():
            tasks = [asyncio.create_task(chats[at % 50].record("user", "x")) for at in range(5000)]
            await disk.has_arrived(7)  # and an eighth thread is there for all else
            await rounds()
            assert len(made) <= 256 * 7
            assert len(archive._threads._running) <= 8
        await asyncio.gather(*tasks)
        assert len(made) == 5000

    run(main, root)
    assert threading.get_ident() not in made, "encoded in the loop"


def test_lines_are_served_in_turn(root):
    """A chatty conversation must not keep a quiet one waiting."""

    async def main(archive):
        disk = SlowDisk(archive)
        chatty, quiet = archive.conversation("chatty"), archive.conversation("quiet")
        with disk.held():
            tasks = [asyncio.create_task(chatty.record("user", "x")) for _ in range(2000)]
            await disk.has_arrived(1)
            tasks.append(asyncio.create_task(quiet.record("user", "x")))
            await rounds()
        await asyncio.gather(*tasks)
        assert [name for name, _ in disk.sizes].index("quiet") <= 2

    run(main, root, threads=1)


def test_long_work_never_keeps_turns_waiting(root):
    """A thread is kept for them, however many searches there are."""

    async def main(archive):
        gate = threading.Event()
        long = [asyncio.create_task(archive.run(gate.wait, PATIENCE_SECONDS)) for _ in range(20)]
        await until(lambda: len(archive._threads._calls.at_work) == 2)
        async with asyncio.timeout(PATIENCE_SECONDS / 2):
            assert (await archive.conversation("trip").record("user", "x")).seq == 1
        gate.set()
        assert all(await asyncio.gather(*long))

    run(main, root, threads=3)


def test_a_conversation_that_somebody_holds_does_not_hold_up_the_others(root):
    """A stopped process may keep a lock for long; that is the matter of one conversation."""

    async def main(archive):
        stuck = archive.conversation("stuck")
        await stuck.record("user", "before")
        with Archive.open(root) as other:
            log = other._store._places.log("default", "stuck")
            log._acquire(1)
            try:
                waiting = [asyncio.create_task(stuck.record("user", "x")) for _ in range(3)]
                await until(lambda: archive._threads._unsynced.at_work)
                for at in range(5):
                    await archive.conversation(f"fine-{at}").record("user", "y")
                assert not any(task.done() for task in waiting)
            finally:
                log.unlock()
        assert [turn.seq for turn in await asyncio.gather(*waiting)] == [2, 3, 4]

    run(main, root, lock_timeout_seconds=PATIENCE_SECONDS)


def test_calls_are_taken_in_the_order_they_came(root):
    """Nobody who waits for a thread is overtaken."""
    order = []

    async def main(archive):
        await asyncio.gather(*(archive.run(order.append, at) for at in range(200)))

    run(main, root, threads=1)
    assert order == list(range(200))


def test_there_are_never_more_threads_than_were_asked_for(root):
    """A server sets its bounds, and they hold."""

    async def main(archive):
        chats = [archive.conversation(str(at)) for at in range(30)]
        most = 0

        async def one(at):
            nonlocal most
            await chats[at % 30].record("user", "x")
            await chats[at % 30].tail(1)
            running = sum(each.name.startswith("convmem-aio") for each in threading.enumerate())
            most = max(most, running)

        await asyncio.gather(*(one(at) for at in range(600)))
        assert 1 <= most <= 4

    run(main, root, threads=4)


def test_where_no_thread_can_be_started_nobody_waits_for_ever(root, monkeypatch):
    """The system's limit is told as an error, and with room it goes on."""

    async def main(archive):
        chat = archive.conversation("trip")

        def refuse(thread):
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            async with asyncio.timeout(PATIENCE_SECONDS):
                for call in (chat.record("user", "a"), chat.exists(), anext(chat.follow())):
                    with pytest.raises(RuntimeError, match="can't start"):
                        await call
        assert (await chat.record("user", "b")).seq == 1

    run(main, root)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "8", None, True])
def test_a_number_of_threads_that_cannot_be_is_refused(root, threads):
    """Before anything hangs."""
    with pytest.raises(UsageError, match="threads"):
        aio.Archive.open(root, threads=threads)


def test_one_thread_is_enough(root):
    """Slow, but nothing hangs."""

    async def main(archive):
        chat = archive.conversation("trip")
        await asyncio.gather(*(chat.record("user", str(at)) for at in range(50)))
        assert len([turn async for turn in chat.turns()]) == 50
        async for turn in chat.follow(idle_timeout=0.0):
            await chat.tail(1)
            await chat.record("event", "seen") if turn.seq == 50 else None

    run(main, root, threads=1)


def test_idle_threads_go(root, monkeypatch):
    """A server that rests keeps nothing that it does not need."""
    monkeypatch.setattr("convmem.aio.threads._IDLE_SECONDS", 0.05)

    async def main(archive):
        chat = archive.conversation("trip")
        for _ in range(3):
            await asyncio.gather(*(chat.tail(0) for _ in range(20)), return_exceptions=True)
            assert archive._threads._running
            await until(lambda: not archive._threads._running)
            await chat.record("user", "and again")

    run(main, root)


def test_the_tasks_context_goes_along(root):
    """Request ids and traces reach what is called in threads."""
    request = contextvars.ContextVar("request", default="none")
    seen = []

    class Watching(Observer):
        def recorded(self, *told):
            seen.append(request.get())

    async def main(archive):
        request.set("r1")
        assert await archive.run(request.get) == "r1"
        chat = archive.conversation("trip")
        await chat.record("user", "x")
        assert seen == ["r1"]

        def lines():
            yield ("user", request.get())

        (turn,) = await chat.record_many(lines())
        assert turn.content == "r1"
        await archive.run(request.set, "changed there")
        assert request.get() == "r1"

    run(main, root, observer=Watching())


def test_observers_are_called_in_threads(root):
    """An observer that is slow must not stop the loop."""
    seen = []

    class Watching(Observer):
        def recorded(self, *told):
            seen.append(threading.get_ident())

        def read(self, *told):
            seen.append(threading.get_ident())

    async def main(archive):
        chat = archive.conversation("trip")
        await chat.record("user", "x")
        await chat.tail()

    run(main, root, observer=Watching())
    assert len(seen) == 2
    assert threading.get_ident() not in seen


def test_batches_among_groups_are_whole_and_in_order(root):
    """What an archive of another kind must do, too: several groups of one conversation."""
    with Archive.open(root, durability="none") as archive:

        def group(*contents, **how):
            drafts = [turns.draft("user", each, id=each) for each in contents]
            return Group("default", "trip", drafts, **how)

        store = archive._open_store()
        groups = [
            group("a", "b"),
            group("c", "d", is_batch=True),
            group("e", "c-other", is_batch=True),
        ]
        groups[2].drafts[1].id = "c"
        answers = store.append_to_many(groups, durability=Durability.NONE)
        assert [turn.seq for turn in (*answers[0], *answers[1])] == [1, 2, 3, 4]
        assert isinstance(answers[2], TurnConflict)
        assert [turn.content for turn in archive.conversation("trip").turns()] == list("abcd")


def test_large_content_is_not_encoded_in_the_loop(root):
    """Twenty megabytes of JSON for one client, while the others wait for nothing."""
    places = []

    class Told(dict):
        def __iter__(self):
            places.append(threading.get_ident())
            return super().__iter__()

    async def main(archive):
        chat = archive.conversation("trip")
        content = Told(rows=[{"n": at, "text": "x" * 80} for at in range(20_000)])
        turn = await chat.record("tool", content)
        assert turn.content == content

    run(main, root)
    assert places and threading.get_ident() not in places


def test_a_function_gets_its_arguments_and_its_errors_keep_their_type(root):
    """`run` is a call, only elsewhere."""

    async def main(archive):
        assert await archive.run(sorted, [3, 1, 2], reverse=True) == [3, 2, 1]
        with pytest.raises(ZeroDivisionError):
            await archive.run(lambda: 1 / 0)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await archive.run(next, iter(()))

    run(main, root)
