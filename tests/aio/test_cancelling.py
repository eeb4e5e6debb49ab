"""A call that is cancelled is never left in doubt: it was carried out, or it was not."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections import Counter

import pytest
from slow_disk import PATIENCE_SECONDS, SlowDisk, rounds, until

from convmem import Archive, StorageError, TurnConflict, aio


def run(main, root, **options):
    """Run *main* with an archive; nothing may be told to the loop's handler of lost errors."""
    told = []

    async def watched():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        async with aio.Archive.open(root, durability="none", **options) as archive:
            await main(archive)
        gc.collect()
        await rounds()

    asyncio.run(watched())
    gc.collect()
    assert told == []


def stored(root, name="trip"):
    """Return the ids of the turns that are there."""
    with Archive.open(root) as archive:
        chat = archive.conversation(name)
        return [turn.id for turn in chat.turns()] if chat.exists() else []


def test_what_only_waits_goes_at_once_and_nothing_is_stored(root):
    """A request that gave up must not be answered later behind its back."""

    async def main(archive):
        disk, chat = SlowDisk(archive), archive.conversation("trip")
        with disk.held():
            first = asyncio.create_task(chat.record("user", "1", id="first"))
            await disk.has_arrived(1)
            second = asyncio.create_task(chat.record("user", "2", id="second"))
            await rounds()
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            assert not first.done()
        assert (await first).seq == 1

    run(main, root)
    assert stored(root) == ["first"]


@pytest.mark.parametrize("times", [1, 2, 5])
def test_what_has_begun_settles_first_however_often_it_is_cancelled(root, times):
    """After a cancellation the turn is there, or will never be; a retry may rely on it."""

    async def main(archive):
        disk, chat = SlowDisk(archive), archive.conversation("trip")
        with disk.held():
            task = asyncio.create_task(chat.record("user", "1", id="first"))
            await disk.has_arrived(1)
            for _ in range(times):
                task.cancel()
                await rounds()
                assert not task.done(), "the turn is still in doubt"
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [turn.id for turn in await chat.tail()] == ["first"]

    run(main, root)


def test_a_time_limit_ends_as_one(root):
    """asyncio.timeout must be told from a cancellation that came from outside."""

    async def main(archive):
        disk, chat = SlowDisk(archive), archive.conversation("trip")
        with disk.held():
            asyncio.get_running_loop().call_later(0.05, disk._open.set)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await chat.record("user", "1", id="first")
        await chat.record("user", "1", id="first")
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0

    run(main, root)
    assert stored(root) == ["first"]


def test_a_group_of_tasks_that_fails_leaves_none_in_doubt(root):
    """The siblings are cancelled; what had begun is there when the group ends."""

    async def main(archive):
        disk, chat = SlowDisk(archive), archive.conversation("trip")

        async def fail():
            await disk.has_arrived(1)
            asyncio.get_running_loop().call_later(0.02, disk._open.set)
            raise LookupError("one of them")

        with disk.held(), pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(chat.record("user", "1", id="first"))
                group.create_task(fail())
        assert [turn.id for turn in await chat.tail()] == ["first"]

    run(main, root)


def test_an_error_that_nobody_waits_for_any_more_makes_no_noise(root):
    """The task was cancelled: that is what it ends with."""

    async def main(archive):
        disk, chat = SlowDisk(archive), archive.conversation("trip")
        disk.error = StorageError("broken")
        with disk.held():
            task = asyncio.create_task(chat.record("user", "1"))
            await disk.has_arrived(1)
            task.cancel()
            await rounds()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(StorageError, match="broken"):
            await chat.record("user", "2")

    run(main, root)
    assert stored(root) == []


@pytest.mark.parametrize("is_batch", [False, True])
def test_wherever_it_is_cancelled_a_retry_stores_once(root, is_batch):
    """Every point at which a task can be cancelled, one after the other."""

    async def main(archive):
        chat = archive.conversation("trip")
        await chat.record("user", "to begin with", id="begin")

        def call(name):
            turns = [{"role": "user", "content": name, "id": f"{name}-{at}"} for at in range(2)]
            if is_batch:
                return chat.record_many(turns)
            return chat.record("user", name, id=f"{name}-0")

        async def after(name, count):
            task = asyncio.create_task(call(name))
            await rounds(count)
            task.cancel()
            await asyncio.wait((task,))
            there = [turn.id for turn in await chat.tail(2) if turn.id.startswith(f"{name}-")]
            assert len(there) in (0, 1 + is_batch)
            assert there or task.cancelled(), "answered, and not there"
            await call(name)

        for at in range(60):
            await after(f"t{at}", at % 20)

    run(main, root)
    ids = Counter(stored(root))
    assert set(ids.values()) == {1}
    assert len(ids) == 1 + 60 * (1 + is_batch)


@pytest.mark.parametrize("seed", range(4))
def test_in_a_storm_of_cancellations_each_task_knows_where_it_stands(root, seed):
    """Answered: it is there, once. Cancelled: once or not at all, and a retry makes it once."""
    chance = random.Random(seed)
    answered, unsure, refused = set(), set(), set()

    async def main(archive):
        async def one(number):
            name, turn_id = f"c{number % 7}", f"id-{number}"
            chat = archive.conversation(name)
            kind = number % 5
            try:
                if kind == 4:
                    await chat.record("user", "another", id=f"taken-{name}")
                elif kind == 3:
                    await chat.record_many(
                        [("user", "x"), {"role": "a", "content": 1, "id": turn_id}]
                    )
                else:
                    await chat.record("user", f"text {number}", id=turn_id)
                answered.add((name, turn_id))
            except TurnConflict:
                refused.add((name, turn_id))
            except asyncio.CancelledError:
                unsure.add((name, turn_id))
                raise

        for number in range(7):
            await archive.conversation(f"c{number}").record("user", "x", id=f"taken-c{number}")
        tasks = [asyncio.create_task(one(number)) for number in range(400)]
        for task in chance.sample(tasks, 250):
            if chance.random() < 0.3:
                await asyncio.sleep(0 if chance.random() < 0.7 else 0.0005)
            task.cancel()
            if chance.random() < 0.2:
                task.cancel()
        await asyncio.wait(tasks)
        for name, turn_id in unsure:
            number = int(turn_id.removeprefix("id-"))
            if number % 5 < 3:
                await archive.conversation(name).record("user", f"text {number}", id=turn_id)

    run(main, root, threads=3)
    found = {name: Counter(stored(root, name)) for name in (f"c{at}" for at in range(7))}
    assert all(count == 1 for ids in found.values() for count in ids.values())
    for name, turn_id in answered:
        assert found[name][turn_id] == 1
    for name, turn_id in refused:
        assert found[name][turn_id] == 0
    for name, turn_id in unsure:
        if int(turn_id.removeprefix("id-")) % 5 < 3:
            assert found[name][turn_id] == 1
    assert unsure and answered and refused


def test_a_function_that_only_waits_is_never_called(root):
    """`run` is for steps that write: one that nobody wants any more must not happen."""
    called = []

    async def main(archive):
        gate = threading.Event()
        first = asyncio.create_task(archive.run(gate.wait, PATIENCE_SECONDS))
        await until(lambda: archive._threads._calls.at_work)
        second = asyncio.create_task(archive.run(called.append, "second"))
        await rounds()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        gate.set()
        assert await first is True

    run(main, root, threads=1)
    assert called == []


def test_a_function_that_has_begun_is_waited_for(root):
    """So that whoever cancels knows that it is over."""
    ended = []

    async def main(archive):
        begun, gate = threading.Event(), threading.Event()

        def step():
            begun.set()
            gate.wait(PATIENCE_SECONDS)
            ended.append(True)

        task = asyncio.create_task(archive.run(step))
        await until(begun.is_set)
        task.cancel()
        await rounds()
        assert not task.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [True]

    run(main, root)


def test_a_reader_that_is_cancelled_goes_at_once(root):
    """Nothing of a reading is in doubt: why wait for a long search?"""

    async def main(archive):
        begun, gate = threading.Event(), threading.Event()

        def search():
            begun.set()
            return gate.wait(PATIENCE_SECONDS)

        task = asyncio.create_task(archive.look(search))
        await until(begun.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not gate.is_set()
        gate.set()

    run(main, root)


def test_a_reader_of_turns_that_is_cancelled_loses_none(root):
    """`wait_for(anext(turns))` is how people wait for a while."""

    async def main(archive):
        chat = archive.conversation("trip")
        await chat.record_many([("user", str(at)) for at in range(2000)])
        turns, seen = chat.turns(), []
        while True:
            task = asyncio.create_task(_next(turns))
            await rounds(len(seen) % 3)
            if len(seen) % 250 == 0:
                task.cancel()
            try:
                seen.append(await task)
            except asyncio.CancelledError:
                seen.append(await anext(turns))
            except StopAsyncIteration:
                break
            if len(seen) == 2000:
                break
        assert [turn.seq for turn in seen] == list(range(1, 2001))

    async def _next(turns):
        return await anext(turns)

    run(main, root)


def test_a_reader_that_was_cancelled_in_the_line_can_ask_again(root):
    """Its place in the line is gone; the turns are not."""

    async def main(archive):
        chat = archive.conversation("trip")
        await chat.record("user", "a")
        gate = threading.Event()
        busy = asyncio.create_task(archive.run(gate.wait, PATIENCE_SECONDS))
        await until(lambda: archive._threads._calls.at_work)
        turns = chat.turns()
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await anext(turns)
        assert not archive._threads._calls.waiting
        gate.set()
        await busy
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert [turn.content async for turn in turns] == ["a"]

    run(main, root, threads=1)


def test_an_interrupt_in_a_function_is_not_swallowed(root):
    """Ctrl-C, or sys.exit, in a step of the program's own ends the program."""

    async def main(archive):
        def stop():
            raise KeyboardInterrupt

        await archive.run(stop)

    async def program():
        async with aio.Archive.open(root) as archive:
            await main(archive)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(program())


def test_a_task_that_is_thrown_away_stores_nothing_later(root):
    """A loop that was closed over waiting tasks takes their turns with it."""

    async def main(archive):
        disk, chat = SlowDisk(archive), archive.conversation("trip")
        with disk.held():
            first = asyncio.create_task(chat.record("user", "1", id="first"))
            await disk.has_arrived(1)
            waiting = chat.record("user", "2", id="second")
            waiting.send(None)
            waiting.close()
        await first

    run(main, root)
    assert stored(root) == ["first"]
