"""The async face belongs to no loop, ends when it is closed, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from slow_disk import PATIENCE_SECONDS, SlowDisk, rounds, until

import convmem
from convmem import Archive, UsageError, aio

HOUSE = Path(convmem.__file__).parents[1]


def ours():
    """Return the threads of async archives."""
    return [each for each in threading.enumerate() if each.name.startswith("convmem-aio")]


def all_end():
    """Wait until no thread is left."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while ours():
        assert time.monotonic() < deadline, ours()
        time.sleep(0.001)


@pytest.mark.parametrize("given", ["chats", None, Path("chats")])
def test_what_is_no_archive_is_told_at_once(given):
    """Who thinks of a store that takes a path is told what this one takes."""
    with pytest.raises(UsageError, match="an archive is needed"):
        aio.Archive.of(given)


def test_several_loops_use_it_one_after_the_other(root):
    """Programs that call asyncio.run for each request keep one archive."""
    archive = aio.Archive.open(root, durability="none")
    chat = archive.conversation("trip")
    for at in range(3):
        asyncio.run(chat.record("user", str(at)))
        assert len(asyncio.run(chat.tail())) == at + 1
    following = chat.follow()
    assert [asyncio.run(_next(following)).seq for _ in range(3)] == [1, 2, 3]
    turns = chat.turns()
    assert [asyncio.run(_next(turns)).seq for _ in range(3)] == [1, 2, 3]
    asyncio.run(archive.close())
    all_end()


async def _next(iterator):
    return await anext(iterator)


def test_several_loops_in_several_threads_use_it_at_once(root):
    """Servers with a loop for each core share what is shared."""
    archive = aio.Archive.open(root, durability="none")
    chat = archive.conversation("trip")
    errors = []

    async def many(number):
        answers = await asyncio.gather(*(chat.record("user", str(at)) for at in range(100)))
        assert [turn.seq for turn in answers] == sorted(turn.seq for turn in answers)
        assert len([turn async for turn in chat.turns()]) >= 100

    def loop(number):
        try:
            asyncio.run(many(number))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert errors == []
    assert [turn.seq for turn in asyncio.run(chat.tail(500))] == list(range(1, 401))
    asyncio.run(archive.close())
    all_end()


def test_a_loop_that_was_dropped_keeps_no_other_from_going_on(root):
    """A framework that throws its loop away must not take a conversation with it."""
    archive = aio.Archive.open(root, durability="none")
    chat = archive.conversation("trip")
    for stop_after in range(1, 6):
        loop = asyncio.new_event_loop()
        task = loop.create_task(chat.record("user", "lost", id=f"lost-{stop_after}"))
        for _ in range(stop_after):
            loop.call_soon(loop.stop)
            loop.run_forever()
        loop.close()
        task._log_destroy_pending = False
        del task
        gc.collect()
        assert asyncio.run(chat.record("user", "kept")).content == "kept"
    asyncio.run(archive.close())
    all_end()


def test_closing_waits_for_what_was_begun_and_the_loop_goes_on(root):
    """What was recorded before the end is answered, and nobody notices a pause."""

    async def program():
        archive = aio.Archive.open(root, durability="none")
        disk, chat = SlowDisk(archive), archive.conversation("trip")
        with disk.held():
            tasks = [asyncio.create_task(chat.record("user", str(at))) for at in range(300)]
            await disk.has_arrived(1)
            closing = [asyncio.create_task(archive.close()) for _ in range(2)]
            await rounds(50)
            assert not any(each.done() for each in closing)
            with pytest.raises(UsageError, match="closed"):
                await chat.record("user", "too late")
        await asyncio.gather(*closing)
        assert all(task.done() for task in tasks)
        assert [turn.seq for turn in await asyncio.gather(*tasks)] == list(range(1, 301))
        await archive.close()

    asyncio.run(program())
    all_end()


def test_what_began_in_the_same_round_as_the_closing_is_stored(root):
    """A call that was made before the closing is before it."""

    async def program():
        archive = aio.Archive.open(root, durability="none")
        chat = archive.conversation("trip")
        answers = await asyncio.gather(chat.record("user", "a"), archive.close())
        assert answers[0].seq == 1

    asyncio.run(program())


def test_a_closing_that_is_cancelled_closes(root):
    """The shutdown of a server has a time limit; the archive is closed all the same."""

    async def program():
        archive = aio.Archive.open(root, durability="none")
        disk, chat = SlowDisk(archive), archive.conversation("trip")
        with disk.held():
            task = asyncio.create_task(chat.record("user", "a"))
            await disk.has_arrived(1)
            closing = asyncio.create_task(archive.close())
            await rounds()
            closing.cancel()
            await rounds()
            assert not closing.done()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert (await task).seq == 1
        with pytest.raises(UsageError, match="closed"):
            archive.conversation("trip").sync.tail()

    asyncio.run(program())
    all_end()


def test_the_face_of_an_archive_is_one(root):
    """Two adapters on one archive gather into the same commits."""
    with Archive.open(root, durability="none") as archive:
        face = aio.Archive.of(archive)
        assert aio.Archive.of(archive) is face
        assert aio.Archive.of(face) is face
        assert face.sync is archive
        with Archive.open(root) as other:
            assert aio.Archive.of(other) is not face
        asyncio.run(face.conversation("trip").record("user", "a"))
        assert archive.conversation("trip").record("user", "b").seq == 2
    with pytest.raises(UsageError, match="closed"):
        asyncio.run(face.conversation("trip").tail())


def test_the_face_goes_with_the_last_who_knows_it(root):
    """A program that opens archives by the thousand does not collect them here."""
    from convmem.aio import archive as room

    before = len(room._all)
    for _ in range(50):
        aio.Archive.of(Archive.open(root))
    gc.collect()
    assert len(room._all) <= before


def test_both_faces_record_side_by_side(root):
    """A thread with the one, tasks with the other."""

    async def program():
        async with aio.Archive.open(root, durability="none") as archive:
            chat = archive.conversation("trip")
            calls = [
                chat.record("user", "x")
                if at % 2
                else asyncio.to_thread(chat.sync.record, "u", "y")
                for at in range(200)
            ]
            answers = await asyncio.gather(*calls)
            assert sorted(turn.seq for turn in answers) == list(range(1, 201))

    asyncio.run(program())


def test_anyio_can_run_it(root):
    """Many servers come with anyio, over asyncio."""
    anyio = pytest.importorskip("anyio")

    async def program():
        async with aio.Archive.open(root, durability="none") as archive:
            chat = archive.conversation("trip")
            with anyio.move_on_after(PATIENCE_SECONDS):
                async with anyio.create_task_group() as group:
                    for at in range(20):
                        group.start_soon(chat.record, "user", str(at))
            with anyio.move_on_after(0.01):
                async for _ in chat.follow():
                    pass
            assert len(await chat.tail(50)) == 20

    anyio.run(program)


# --- processes -----------------------------------------------------------------------------------


def program(source, *words, seconds=60):
    """Run a program to its end and return its output."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", source, *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(HOUSE)},
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.split()


def test_an_archive_that_nobody_closed_keeps_no_process_alive(root):
    """And what was answered is there, also under `interval`."""
    source = """
import asyncio, sys
from convmem import aio
archive = aio.Archive.open(sys.argv[1], durability="interval")
async def main():
    chat = archive.conversation("trip")
    await asyncio.gather(*(chat.record("user", str(at)) for at in range(50)))
    async for turn in chat.follow():
        if turn.seq == 50:
            break
asyncio.run(main())
print("end")
"""
    assert program(source, root) == ["end"]
    with Archive.open(root) as archive:
        assert len(archive.conversation("trip").tail(100)) == 50


def test_a_process_ends_over_work_that_does_not(root):
    """A thread that hangs in somebody's function, and turns that wait behind it."""
    source = """
import asyncio, sys, time
from convmem import aio
archive = aio.Archive.open(sys.argv[1], threads=1)
chat = archive.conversation("trip")
loop = asyncio.new_event_loop()
print(loop.run_until_complete(chat.record("user", "a")).seq)
async def main():
    asyncio.ensure_future(archive.run(time.sleep, 1000))
    asyncio.ensure_future(chat.record("user", "b"))
    await asyncio.sleep(0.05)
loop.run_until_complete(main())
print("end", flush=True)
"""
    assert program(source, root, seconds=30) == ["1", "end"]
    with Archive.open(root) as archive:
        assert archive.conversation("trip").tail(1)[0].seq >= 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_a_working_face(root):
    """Servers open, then fork their workers."""
    source = """
import asyncio, os, sys, threading
from convmem import aio
archive = aio.Archive.open(sys.argv[1], durability="none")
chat = archive.conversation("trip")
async def work(who):
    await asyncio.gather(*(chat.record("user", f"{who} {at}") for at in range(50)))
    async for turn in chat.follow(idle_timeout=0.0):
        pass
asyncio.run(work("before"))
gate = threading.Event()
async def busy():
    # The parent forks while its threads are at work, and turns of the same conversation wait.
    for _ in range(7):
        asyncio.ensure_future(archive.run(gate.wait, 60))
    tasks = [asyncio.ensure_future(chat.record("user", f"parent {at}")) for at in range(50)]
    await asyncio.sleep(0)
    pids = []
    for number in range(3):
        pid = os.fork()
        if pid == 0:
            return number
        pids.append(pid)
    await asyncio.gather(*tasks)
    gate.set()
    return pids
loop = asyncio.new_event_loop()
answer = loop.run_until_complete(busy())
if isinstance(answer, int):
    asyncio.run(work(f"child-{answer}"))
    asyncio.run(archive.close())
    os._exit(0)
for pid in answer:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
loop.run_until_complete(archive.close())
print("end")
"""
    assert program(source, root) == ["end"]
    with Archive.open(root) as archive:
        said = [turn.content for turn in archive.conversation("trip").turns()]
    assert len(said) == len(set(said)) == 250


_WORKER = """
import asyncio, sys
from convmem import aio
async def main(root, who):
    async with aio.Archive.open(root, durability="none") as archive:
        chat = archive.conversation("trip")
        async def one(at):
            turn = await chat.record("user", f"{who}-{at}", id=f"{who}-{at}")
            await chat.record("user", f"{who}-{at}", id=f"{who}-{at}")
            return turn
        answers = await asyncio.gather(*(one(at) for at in range(100)))
        assert [turn.seq for turn in answers] == sorted(turn.seq for turn in answers)
asyncio.run(main(*sys.argv[1:]))
"""


def test_four_processes_of_a_hundred_tasks_lose_and_double_nothing(root):
    """One conversation, written from everywhere."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, root, str(who)],
            env={**os.environ, "PYTHONPATH": str(HOUSE)},
        )
        for who in range(4)
    ]
    try:
        assert [each.wait(120) for each in running] == [0] * 4
    finally:
        for each in running:
            each.kill()
    with Archive.open(root) as archive:
        turns = list(archive.conversation("trip").turns())
    assert [turn.seq for turn in turns] == list(range(1, 401))
    assert {turn.id for turn in turns} == {f"{who}-{at}" for who in range(4) for at in range(100)}


_RECORDING = """
import asyncio, sys
from convmem import aio
root, tells_first = sys.argv[1], sys.argv[2] == "True"
async def one(chat, task):
    for at in range(100000):
        name = f"{task}-{at}"
        if tells_first:
            print(name, flush=True)
            await asyncio.sleep(0.05)
        await chat.record("user", "x" * 500, id=name)
        if not tells_first:
            print(name, flush=True)
async def main():
    archive = aio.Archive.open(root)
    chats = [archive.conversation(str(at)) for at in range(5)]
    await asyncio.gather(*(one(chats[task % 5], task) for task in range(50)))
asyncio.run(main())
"""


@pytest.mark.parametrize("tells_first", [False, True])
def test_what_was_answered_survives_a_kill(root, tells_first):
    """And this test would see it: a program that tells before the answer is caught."""
    with subprocess.Popen(
        [sys.executable, "-c", _RECORDING, root, str(tells_first)],
        env={**os.environ, "PYTHONPATH": str(HOUSE)},
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        told = [running.stdout.readline().strip() for _ in range(300)]
        running.kill()
        told += [line.strip() for line in running.stdout if line.endswith("\n")]
    with Archive.open(root) as archive:
        found = [turn.id for chat in archive.conversations() for turn in chat.turns()]
    assert len(found) == len(set(found))
    missing = set(told) - set(found)
    assert bool(missing) == tells_first
    for chat in (f"{at}" for at in range(5)):
        with Archive.open(root) as archive:
            assert archive.conversation(chat).record("user", "after").seq


def test_threads_do_not_gather_over_many_archives(root, tmp_path):
    """Opened, used and closed a hundred times: as before."""

    async def main():
        for at in range(100):
            async with aio.Archive.open(tmp_path / str(at % 5), durability="none") as archive:
                chat = archive.conversation("trip")
                await asyncio.gather(chat.record("user", "a"), chat.record("user", "b"))
                async for _ in chat.follow(idle_timeout=0.0):
                    pass
        await until(lambda: not ours())

    asyncio.run(main())
