"""``convmem mcp`` beside the public reference memory server, both over a real MCP client by stdio.

    python tests/benchmarks/mcp_servers.py [--things 1000] [--rounds 3] [--no-peer] [--tiny]

A thing is a turn to convmem, an entity with one observation to the other. Each round starts new
servers on new files, in turns: how many of 50 parallel writes are kept, by one server and by two on
one file; what still answers with one bad line in the file; the median of calls one after the other;
how large the answer is to "what do you remember?". convmem syncs each write; the other does not.

The other is the npm package named below, installed once into the cache folder; where npm or node
is not to be had, that is said and it is left out. Needs ``pip install 'convmem[mcp]'``.

The exit status is 1 if convmem lost a write, or did not answer where it should.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from mcp import Client, MCPError, StdioServerParameters, stdio_client
from place import machine, machine_line, workspace

import convmem
from convmem import Archive

PACKAGE = "@modelcontextprotocol/server-memory"
VERSION = "2026.8.31"
HOUSE = Path(convmem.__file__).parents[1]
AT_ONCE = 50
TEXT = "We booked the night train to Oslo, two beds, and paid by card. "


class Contestant(Protocol):
    """One server, and how things are written to it and read from it."""

    name: str

    def server(self, folder: Path) -> StdioServerParameters:
        """Return how it is started on its files in *folder*."""

    async def write(self, client: Client, thing: str) -> bool:
        """Write one thing; say whether it was answered well."""

    async def find(self, client: Client, thing: str) -> bool:
        """Look for one thing; say whether the answer has it."""

    async def recall(self, client: Client) -> int:
        """Ask what there is; return the bytes of the answer."""

    async def kept(self, client: Client, folder: Path) -> int:
        """Return how many things there are."""

    def damage(self, folder: Path) -> None:
        """Put one bad line into the midst of the file."""


class Convmem:
    """Ours."""

    name = "convmem mcp"

    def server(self, folder: Path) -> StdioServerParameters:
        """As a client's settings would start it."""
        words = ["-m", "convmem", "mcp", "-A", str(folder)]
        environment = {"PYTHONPATH": str(HOUSE)}
        return StdioServerParameters(command=sys.executable, args=words, env=environment)

    async def write(self, client: Client, thing: str) -> bool:
        """One turn."""
        turn = {"role": "user", "content": f"{TEXT}{thing}"}
        return await _went_well(client, "record", conversation="talk", turns=[turn])

    async def find(self, client: Client, thing: str) -> bool:
        """By the index of words."""
        return await _went_well(client, "search", query=thing, limit=5)

    async def recall(self, client: Client) -> int:
        """The last turns."""
        return await _size(client, "tail", conversation="talk")

    async def kept(self, client: Client, folder: Path) -> int:
        """From the file: the server gives no more than a page."""
        with Archive.open(folder) as archive:
            return len({turn.text for turn in archive.conversation("talk").turns()})

    def damage(self, folder: Path) -> None:
        """In the log of the conversation."""
        _spoil(folder / "default" / "talk.jsonl")


class Reference:
    """The public reference memory server."""

    name = f"server-memory {VERSION}"

    def __init__(self, program: Path) -> None:
        self._program = program

    def server(self, folder: Path) -> StdioServerParameters:
        """As its README has it."""
        folder.mkdir(parents=True, exist_ok=True)
        environment = {"MEMORY_FILE_PATH": str(folder / "memory.jsonl")}
        words = [str(self._program)]
        return StdioServerParameters(command="node", args=words, env=environment)

    async def write(self, client: Client, thing: str) -> bool:
        """One entity."""
        entity = {"name": thing, "entityType": "turn", "observations": [f"{TEXT}{thing}"]}
        return await _went_well(client, "create_entities", entities=[entity])

    async def find(self, client: Client, thing: str) -> bool:
        """By a look at all."""
        return await _went_well(client, "search_nodes", query=thing)

    async def recall(self, client: Client) -> int:
        """The whole graph: there is no less."""
        return await _size(client, "read_graph")

    async def kept(self, client: Client, folder: Path) -> int:
        """As it answers."""
        result = await client.call_tool("read_graph", {})
        return 0 if result.is_error else len(result.structured_content["entities"])

    def damage(self, folder: Path) -> None:
        """In its one file."""
        _spoil(folder / "memory.jsonl")


@dataclass(frozen=True, slots=True)
class Found:
    """What one round showed of one server."""

    start_ms: float
    kept_by_one: int
    kept_by_two: int
    reads_with_bad_line: bool
    writes_with_bad_line: bool
    write_ms: float
    find_ms: float
    recall_bytes: int


async def measure(who: Contestant, folder: Path, things: int) -> Found:
    """Run one round."""
    began = time.perf_counter()
    async with _client(who, folder / "one") as client:
        await client.list_tools()
        start = time.perf_counter() - began
        writes = (who.write(client, f"thing{n}") for n in range(AT_ONCE))
        await asyncio.gather(*writes)
    async with _client(who, folder / "one") as client:
        kept_by_one = await who.kept(client, folder / "one")
    async with _client(who, folder / "two") as one, _client(who, folder / "two") as other:
        pairs = [(one, other)[n % 2] for n in range(AT_ONCE)]
        await asyncio.gather(*(who.write(each, f"thing{n}") for n, each in enumerate(pairs)))
    async with _client(who, folder / "two") as client:
        kept_by_two = await who.kept(client, folder / "two")
    async with _client(who, folder / "many") as client:
        write = await _median_ms(lambda n: who.write(client, f"thing{n}"), things)
        await who.find(client, "thing0")  # an index is made by the first
        find = await _median_ms(lambda n: who.find(client, f"thing{n}"), min(things, 50))
        recalled = await who.recall(client)
    who.damage(folder / "many")
    async with _client(who, folder / "many") as client:
        reads = await who.find(client, "thing1")
        writes_on = await who.write(client, "later")
    return Found(start * 1000, kept_by_one, kept_by_two, reads, writes_on, write, find, recalled)


def main() -> int:
    """Run what was asked for; return the exit status."""
    options = _options()
    contestants: list[Contestant] = [Convmem()]
    if not options.no_peer:
        try:
            contestants.append(Reference(_installed()))
        except (OSError, subprocess.SubprocessError) as error:
            print(f"{PACKAGE} {VERSION} is left out: {_reason(error)}")
    found: dict[str, list[Found]] = {who.name: [] for who in contestants}
    with workspace(options.dir, may_be_in_memory=options.tiny) as folder:
        print(machine_line(machine(folder)))
        for number in range(options.rounds):
            for who in contestants:
                place = folder / str(number) / who.name.replace(" ", "-")
                found[who.name].append(asyncio.run(measure(who, place, options.things)))
    _show(found, options.things)
    lost = [
        each
        for each in found[Convmem.name]
        if min(each.kept_by_one, each.kept_by_two) < AT_ONCE
        or not (each.reads_with_bad_line and each.writes_with_bad_line)
    ]
    if lost:
        print(f"promises broken: {lost}", file=sys.stderr)
    return 1 if lost else 0


def _show(found: dict[str, list[Found]], things: int) -> None:
    rows: list[tuple[str, Callable[[list[Found]], str]]] = [
        (f"kept of {AT_ONCE} parallel writes", lambda all: _range(e.kept_by_one for e in all)),
        ("… by two servers on one file", lambda all: _range(e.kept_by_two for e in all)),
        ("one bad line: finds", lambda all: _yes(e.reads_with_bad_line for e in all)),
        ("one bad line: writes", lambda all: _yes(e.writes_with_bad_line for e in all)),
        ("start until tools are listed, ms", lambda all: _middle(e.start_ms for e in all)),
        (f"a write, of {things:,}, ms", lambda all: _middle(e.write_ms for e in all)),
        (f"a search in {things:,}, ms", lambda all: _middle(e.find_ms for e in all)),
        ("“what is there?”, bytes", lambda all: _range(e.recall_bytes for e in all)),
    ]
    print(f"{'':36}", *(f"{name:>26}" for name in found))
    for label, tell in rows:
        print(f"{label:36}", *(f"{tell(each):>26}" for each in found.values()))


def _range(values: Any) -> str:
    every = sorted(values)
    return f"{every[0]:,}" if every[0] == every[-1] else f"{every[0]:,} to {every[-1]:,}"


def _yes(values: Any) -> str:
    return "yes" if all(values) else "no"


def _middle(values: Any) -> str:
    return f"{median(values):,.1f}"


def _client(who: Contestant, folder: Path) -> AbstractAsyncContextManager[Client]:
    # What a server says on standard error is no part of this.
    silent = tempfile.TemporaryFile("w")  # noqa: SIM115 - closed when it is collected
    # The handshake, which both speak: a client that tries the newest protocol first asks twice.
    return Client(stdio_client(who.server(folder), errlog=silent), mode="legacy")


async def _went_well(client: Client, tool: str, /, **given: Any) -> bool:
    try:
        return not (await client.call_tool(tool, given)).is_error
    except (MCPError, RuntimeError):
        return False


async def _size(client: Client, tool: str, /, **given: Any) -> int:
    result = await client.call_tool(tool, given)
    return len(result.content[0].text.encode())


async def _median_ms(call: Callable[[int], Awaitable[bool]], count: int) -> float:
    took = []
    for n in range(count):
        began = time.perf_counter()
        await call(n)
        took.append(time.perf_counter() - began)
    return median(took) * 1000


def _spoil(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    middle = len(lines) // 2
    lines.insert(middle, b'{"type":"entity","name":"to\n')
    path.write_bytes(b"".join(lines))


def _installed() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "convmem-benchmarks" / f"mcp-server-memory-{VERSION}"
    program = home / "node_modules" / PACKAGE / "dist" / "index.js"
    if shutil.which("node") is None:
        raise FileNotFoundError("node is not installed")
    if not program.exists():
        print(f"installing {PACKAGE} {VERSION} into {home}")
        home.mkdir(parents=True, exist_ok=True)
        words = ["npm", "install", "--no-fund", "--no-audit", "--prefix", str(home)]
        subprocess.run(
            [*words, f"{PACKAGE}@{VERSION}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
    return program


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line for line in error.stderr.splitlines() if "error" in line.lower()]
        return (lines or [str(error)])[0][:200]
    return str(error)[:200]


def _options() -> argparse.Namespace:
    told = (__doc__ or "").split("\n\n")
    reader = argparse.ArgumentParser(description=told[0])
    reader.add_argument("--things", type=int, default=1000, help="how many are written in turn")
    reader.add_argument("--rounds", type=int, default=3)
    reader.add_argument("--no-peer", action="store_true", help="install and run nothing else")
    reader.add_argument("--tiny", action="store_true", help="only to see that it runs")
    reader.add_argument("--dir", help="where to work; on a disk")
    options = reader.parse_args()
    if options.tiny:
        options.things, options.rounds = 20, 1
    return options


if __name__ == "__main__":
    sys.exit(main())
