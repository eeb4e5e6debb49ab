"""A process that works one history: it is told what to do on standard input, a JSON line each.

    python worker.py MODULE

Answers are JSON lines on standard output. Times are taken here, around the bare calls.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

# So that a list of a million calls need not go through the pipe.
_MOST_TOLD = 20_000


class Worker:
    """The histories that are open, by the name that the other side gave them."""

    def __init__(self, module: str) -> None:
        self._module = importlib.import_module(module)
        self._open: dict[str, Any] = {}
        self._loop = asyncio.new_event_loop()

    def open(self, *, name: str, place: str, chats: list[str], durable: bool) -> dict[str, Any]:
        """Open histories in a folder, which is made if it is not there."""
        Path(place).mkdir(mode=0o700, exist_ok=True)
        self._open[name] = self._module.History(Path(place), chats, durable=durable)
        return {}

    def append(
        self, *, name: str, chats: list[int], seconds: float, most: int, at: float = 0.0
    ) -> dict[str, Any]:
        """Append one turn after the other, from the moment *at* on, in a thread for each chat.

        A history whose calls are coroutines gets a task for each instead.
        """
        append = self._open[name].append
        calls: list[float] = []
        refused: list[str] = []
        begin = max(at, time.monotonic())
        cpu = time.process_time()
        if inspect.iscoroutinefunction(append):
            tasks = [_append_async(append, chat, begin, seconds, most) for chat in chats]
            told = self._loop.run_until_complete(_together(tasks))
        elif len(chats) == 1:
            told = [_append(append, chats[0], begin, seconds, most)]
        else:
            told = _in_threads(append, chats, begin, seconds, most)
        for its_calls, its_refused in told:
            calls += its_calls
            refused += its_refused
        return {
            "answered": len(calls),
            "seconds": calls if len(calls) <= _MOST_TOLD else calls[:: len(calls) // _MOST_TOLD],
            "took": time.monotonic() - begin,
            "cpu": time.process_time() - cpu,
            "refused": len(refused),
            "why": refused[0] if refused else "",
        }

    def append_many(self, *, name: str, count: int, times: int) -> dict[str, Any]:
        """Append *count* turns in one call, some times, to the first chat."""
        return self._time(name, "append_many", count, times)

    def last(self, *, name: str, count: int, times: int) -> dict[str, Any]:
        """Read the last *count* turns of the first chat, some times."""
        return self._time(name, "last", count, times)

    def kept(self, *, name: str) -> dict[str, Any]:
        """Count what is there; ``None`` if its own reader cannot."""
        try:
            return {"kept": self._done(self._open[name].kept())}
        except Exception as error:
            return {"kept": None, "why": _short(error)}

    def close(self, *, name: str) -> dict[str, Any]:
        """Close histories."""
        self._open.pop(name).close()
        return {}

    def _time(self, name: str, verb: str, count: int, times: int) -> dict[str, Any]:
        call = getattr(self._open[name], verb)
        calls: list[float] = []
        results: list[Any] = []

        async def each() -> None:
            for _ in range(times):
                began = time.perf_counter()
                results.append(await call(0, count))
                calls.append(time.perf_counter() - began)

        if inspect.iscoroutinefunction(call):
            self._loop.run_until_complete(each())
        else:
            for _ in range(times):
                began = time.perf_counter()
                results.append(call(0, count))
                calls.append(time.perf_counter() - began)
        return {"seconds": calls, "found": results[-1]}

    def _done(self, result: Any) -> Any:
        return self._loop.run_until_complete(result) if inspect.isawaitable(result) else result


def _append(
    append: Any, chat: int, begin: float, seconds: float, most: int
) -> tuple[list[float], list[str]]:
    clock = time.perf_counter
    calls: list[float] = []
    refused: list[str] = []
    time.sleep(max(0.0, begin - time.monotonic()))
    end = clock() + seconds
    before = clock()
    while before < end and len(calls) < most:
        try:
            append(chat)
        except Exception as error:
            refused.append(_short(error))
            before = clock()
            continue
        now = clock()
        calls.append(now - before)
        before = now
    return calls, refused


async def _append_async(
    append: Any, chat: int, begin: float, seconds: float, most: int
) -> tuple[list[float], list[str]]:
    clock = time.perf_counter
    calls: list[float] = []
    refused: list[str] = []
    await asyncio.sleep(max(0.0, begin - time.monotonic()))
    end = clock() + seconds
    before = clock()
    while before < end and len(calls) < most:
        try:
            await append(chat)
        except Exception as error:
            refused.append(_short(error))
            before = clock()
            continue
        now = clock()
        calls.append(now - before)
        before = now
    return calls, refused


async def _together(tasks: list[Any]) -> Any:
    return await asyncio.gather(*tasks)


def _in_threads(
    append: Any, chats: list[int], begin: float, seconds: float, most: int
) -> list[tuple[list[float], list[str]]]:
    told: list[tuple[list[float], list[str]]] = []

    def work(chat: int) -> None:
        told.append(_append(append, chat, begin, seconds, most))

    threads = [threading.Thread(target=work, args=(chat,)) for chat in chats]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def _short(error: BaseException) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:80]}"


def _peak_mb() -> float | None:
    """Return the most memory that this program had; not what the one had that started it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)


def main() -> None:
    """Answer until standard input ends."""
    # Frameworks may print: what they print must not stand among the answers.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(told: dict[str, Any]) -> None:
        out.write(json.dumps(told) + "\n")
        out.flush()

    try:
        worker = Worker(sys.argv[1])
    except Exception as error:
        answer({"error": _short(error)})
        return
    answer({"peak_mb": _peak_mb()})
    for line in sys.stdin:
        asked = json.loads(line)
        verb = asked.pop("do")
        try:
            told = getattr(worker, verb)(**asked)
        except Exception as error:
            told = {"error": _short(error)}
        answer({**told, "peak_mb": _peak_mb()})


if __name__ == "__main__":
    main()
