"""The program of the processes that ``log.apart`` starts; it is nobody's command.

python -m convmem.cli.apart VERSION survey FD START END CUTOFF
python -m convmem.cli.apart VERSION dropped FD UNTIL IS_DISCARDED    (spans on standard input)
"""

from __future__ import annotations

import sys
from array import array

from convmem import __version__
from convmem.log.removing import apart, dropped_lines, survey


def run(work: str, fd: int, words: list[str]) -> None:
    """Do the work on the open file *fd*, and write what it found to standard output."""
    sys.stdout.buffer.write(apart.BEGIN)
    if work == "survey":
        start, end, cutoff = words
        sys.stdout.buffer.write(survey.answer(fd, int(start), int(end), cutoff))
        return
    until, is_discarded = words
    places = array("Q", sys.stdin.buffer.read())
    spans = zip(places[::2], places[1::2], strict=True)
    for part in dropped_lines.remembered(fd, spans, float(until), is_discarded=is_discarded == "1"):
        sys.stdout.buffer.write(part)
    sys.stdout.buffer.write(apart.END)


if __name__ == "__main__":
    # A program that runs on while it is upgraded must not hear what it does not understand.
    if sys.argv[1] != __version__:
        raise SystemExit(1)
    run(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
