"""The second half of a large log, surveyed by a process of its own.

It says what it found only if all of its half is good, block by block. Else nothing is said, and
who asked goes on by himself.
"""

from __future__ import annotations

import marshal
import sys
from array import array

from convmem.log import apart, blocks, lines
from convmem.retention import Facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from subprocess import Popen

    from convmem.log.survey import Survey


class SecondHalf:
    """A survey of ``[start, end)`` that goes on in another process. Use as a context manager."""

    def __init__(self, fd: int, end: int, cutoff: str) -> None:
        self.start = end
        self._process: Popen[bytes] | None = None
        if end >= apart.WORTH_BYTES:
            middle = lines.line_start_after(fd, end // 2, end)
            self._process = apart.started(__name__, fd, str(middle), str(end), cutoff)
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
        if self._process.returncode != 0 or not said:
            return False
        offsets, sizes, old, batches, summaries, tools = marshal.loads(said)
        base, facts = len(survey.offsets), survey.facts
        survey.offsets.frombytes(offsets)
        facts.sizes.frombytes(sizes)
        facts.old += old
        facts.summaries += [base + at for at in summaries]
        survey.batches.extend([base + at for at in array("Q", batches)])
        for at, calls, results in tools:
            facts.add_tools(base + at, calls, results)
        return True


class _Apart(Facts):
    """Facts of turns whose exchanges may have begun before them: they are put together later."""

    def __init__(self) -> None:
        super().__init__()
        self.tools: list[tuple[int, tuple[str, ...], tuple[str, ...]]] = []

    def add_tools(self, at: int, calls: tuple[str, ...], results: tuple[str, ...]) -> None:
        if calls or results:
            self.tools.append((at, calls, results))


def answer(fd: int, start: int, end: int, cutoff_text: str) -> bytes:
    """Return what ``SecondHalf.add_to`` takes; nothing unless all of ``[start, end)`` is good."""
    from convmem.log.survey import Survey
    from convmem.quantities import parse_stored_time

    survey = Survey()
    survey.facts = facts = _Apart()
    cutoff = parse_stored_time(cutoff_text) if cutoff_text else None
    done = start
    for block in blocks.good_blocks(fd, end, start=start):
        survey.add_block(block, cutoff, cutoff_text)
        done = block.end
    if done < end or survey.damage or survey.is_in_batch:
        return b""
    return marshal.dumps(
        (
            survey.offsets.tobytes(),
            facts.sizes.tobytes(),
            bytes(facts.old),
            survey.batches.tobytes(),
            facts.summaries,
            facts.tools,
        )
    )


if __name__ == "__main__":
    fd, start, end = map(int, sys.argv[1:4])
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(answer(fd, start, end, sys.argv[4]))
