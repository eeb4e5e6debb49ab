"""The second half of a large log, surveyed by a process of its own.

It says what it found only if all of its half is good, block by block. Else nothing is said, and
who asked goes on by himself.
"""

from __future__ import annotations

from convmem import jsontext
from convmem.log import apart, lines
from convmem.retention import Facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from subprocess import Popen

    from convmem.log.survey import Survey


_BYTES_EACH = 8 + 8 + 1


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
        if self._process is None:
            return False
        said, _ = self._process.communicate()
        rest = said.find(b"\n") + 1
        if self._process.returncode != 0 or not rest:
            return False
        count, summaries, batches, tools = jsontext.loads(said[:rest])
        if len(said) != rest + _BYTES_EACH * count:
            return False  # where SIGCHLD is ignored, nobody learns that it was killed
        base, facts = len(survey.offsets), survey.facts
        survey.offsets.frombytes(said[rest : rest + 8 * count])
        facts.sizes.frombytes(said[rest + 8 * count : rest + 16 * count])
        facts.old += said[rest + 16 * count :]
        facts.summaries += [base + at for at in summaries]
        survey.batches.extend([base + at for at in batches])
        for at, calls, results in tools:
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
    """Return what ``SecondHalf.add_to`` reads: a line of JSON, and what there is for each turn."""
    rare = [len(survey.offsets), facts.summaries, survey.batches.tolist(), facts.tools]
    each = (survey.offsets.tobytes(), facts.sizes.tobytes(), facts.old)
    return jsontext.dumps(rare) + b"\n" + b"".join(each)
