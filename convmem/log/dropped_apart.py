"""What is to be remembered of many dropped turns, put together by a process of its own."""

from __future__ import annotations

import sys
from array import array

from convmem.log import apart, dropped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CHUNK = 1 << 20


def remembered(
    fd: int, spans: list[tuple[int, int]], until: float, *, is_discarded: bool
) -> Iterator[bytes]:
    """Yield what ``dropped.remembered`` does; a line may come twice, or not be one."""
    words = (repr(until), str(int(is_discarded)))
    process = apart.started(__name__, fd, *words)
    if process is not None and process.stdin is not None and process.stdout is not None:
        try:
            with process.stdin as given:
                given.write(array("Q", [place for span in spans for place in span]).tobytes())
            while chunk := process.stdout.read(_CHUNK):
                yield chunk
            if process.wait() == 0:
                return
        except BrokenPipeError:
            pass
        finally:
            apart.finished(process)
        yield b"\n"  # it may have died in the middle of a line
    yield from dropped.remembered(fd, spans, until, is_discarded=is_discarded)


def _pairs(places: Iterable[int]) -> Iterator[tuple[int, int]]:
    each = iter(places)
    return zip(each, each, strict=True)


if __name__ == "__main__":
    fd, until, is_discarded = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3] == "1"
    spans = _pairs(array("Q", sys.stdin.buffer.read()))
    for part in dropped.remembered(fd, spans, until, is_discarded=is_discarded):
        sys.stdout.buffer.write(part)
