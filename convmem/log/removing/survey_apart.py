"""The second half of a large log, surveyed by a process of its own.

It says what it found only if all of its half is good, block by block. Else nothing is said, and
who asked goes on by himself.
"""

from __future__ import annotations

from convmem import jsontext
from convmem.log import lines
from convmem.log.removing import apart
from convmem.retention import Facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from subprocess import Popen

    from convmem.log.removing.survey import Survey


class SecondHalf:
    """A survey of ``[start, end)`` that goes on in another process. Use as a context manager."""

    def __init__(self, fd: int, end: int, cutoff: str) -> None:
        self.start = end
        self._process: Popen[bytes] | None = None
        if end >= apart.WORTH_BYTES:
            middle = lines.line_start_after(fd, end // 2, end)
            self._process = apart.started("survey", fd, str(middle), str(end), cutoff)
            if self._process is not None:
                self.start = middle

    def __enter__(self) -> SecondHalf:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            apart.finished(self._process)

    def add_to(self, survey: Survey) -> bool:
        """Add what was found to the survey of all before; say whether there was an answer."""
        process = self._process
        if process is None or process.stdout is None:
            return False
        said, facts, base = process.stdout, survey.facts, len(survey.offsets)
        if said.readline(len(apart.BEGIN)) != apart.BEGIN:
            return False
        head = said.readline()
        if not head.endswith(b"\n"):
            return False
        count, exchanging, summaries, batches = jsontext.loads(head)
        # Read as it comes: all of it at once would take as much memory again as all turns do.
        tools = [said.readline() for _ in range(exchanging)]
        try:
            survey.offsets.fromfile(said, count)
            facts.sizes.fromfile(said, count)
            old = said.read(count)
        except (EOFError, ValueError):  # also in the middle of a number
            old = b""
        if len(old) < count or process.wait() != 0:
            del survey.offsets[base:], facts.sizes[base:]
            return False
        facts.old += old
        facts.summaries += [base + at for at in summaries]
        survey.batches.extend([base + at for at in batches])
        for line in tools:
            at, calls, results = jsontext.loads(line)
            facts.add_tools(base + at, calls, results)
        return True


class Apart(Facts):
    """Facts of turns whose exchanges may have begun before them: they are put together later."""

    def __init__(self) -> None:
        super().__init__()
        self.tools: list[tuple[int, tuple[str, ...], tuple[str, ...]]] = []

    def add_tools(self, at: int, calls: tuple[str, ...], results: tuple[str, ...]) -> None:
        if calls or results:
            self.tools.append((at, calls, results))


def as_bytes(survey: Survey, facts: Apart) -> bytes:
    """Return what ``SecondHalf.add_to`` reads: lines of JSON, and what there is for each turn."""
    rare = [len(survey.offsets), len(facts.tools), facts.summaries, survey.batches.tolist()]
    each = (survey.offsets.tobytes(), facts.sizes.tobytes(), facts.old)
    said = [jsontext.dumps(part) + b"\n" for part in (rare, *facts.tools)]
    return b"".join([*said, *each])
