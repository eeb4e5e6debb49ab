"""Lines, forwards and backwards, against three lines of Python that read the whole file at once."""

from __future__ import annotations

import contextlib
import os
import tempfile
from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st

from convmem.log import lines

few = settings(max_examples=2 * int(os.environ.get("CONVMEM_EXAMPLES", "100")), deadline=None)

# Few letters and many newlines: what matters is where blocks and lines begin.
BYTES = st.lists(
    st.sampled_from(
        [b"\n", b"\n\n", b"a", b"bc", b"\r", b"\0", b"\xe2\x80\xa8", b"d" * 9, b"e" * 40]
    )
    | st.binary(max_size=12),
    max_size=20,
).map(b"".join)


@contextlib.contextmanager
def file_of(data):
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file.fileno()


@contextlib.contextmanager
def sizes(*, longest=1 << 30, first=4096, last=1 << 20):
    """Lower the limits, so that small files meet them."""
    with (
        mock.patch.object(lines, "MAX_LINE_BYTES", longest),
        mock.patch.object(lines, "FIRST_BACKWARD_BLOCK", first),
        mock.patch.object(lines, "LAST_BACKWARD_BLOCK", last),
    ):
        yield


def naive(data, start, end, longest=1 << 30):
    """Return the finished lines of ``data[start:end]``."""
    found = []
    for line in data[start:end].split(b"\n")[:-1]:
        found.append((start, start + len(line), line if len(line) <= longest else None))
        start += len(line) + 1
    return found


def boundaries(data):
    """Return where a line begins or the file ends after a newline."""
    return [0] + [at + 1 for at, byte in enumerate(data) if byte == 0x0A]


@few
@given(BYTES, st.integers(1, 50), st.data())
@example(b"", 1, None)
@example(b"\n", 1, None)
@example(b"no newline", 3, None)
def test_forward_yields_every_finished_line_whatever_the_block(data, block, draw):
    """Split on one byte and nothing else: U+2028 and lone CRs are content (A7)."""
    start = draw.draw(st.sampled_from(boundaries(data))) if draw else 0
    end = draw.draw(st.integers(start, len(data))) if draw else len(data)
    with file_of(data) as fd:
        assert list(lines.forward(fd, start, end, block=block)) == naive(data, start, end)


@few
@given(BYTES, st.integers(1, 20), st.integers(1, 50), st.data())
@example(b"\n", 1, 1, None)
@example(b"\n\n\n", 1, 2, None)
@example(b"a" * 50 + b"\n", 1, 4, None)
def test_backward_is_forward_reversed(data, first, last, draw):
    """`tail` and `turns` must never disagree on where a line begins."""
    places = boundaries(data)
    end = draw.draw(st.sampled_from(places)) if draw else len(data)
    start = draw.draw(st.sampled_from([at for at in places if at <= end])) if draw else 0
    with file_of(data) as fd, sizes(first=first, last=max(first, last)):
        assert list(lines.backward(fd, end, start=start)) == naive(data, start, end)[::-1]


@few
@given(BYTES, st.integers(1, 30), st.data())
def test_a_line_too_long_to_be_a_turn_costs_no_memory_and_no_neighbour(data, longest, draw):
    """Rule 5: a gigabyte without a newline is passed over, not read in."""
    block = draw.draw(st.integers(1, longest))
    first = draw.draw(st.integers(1, longest))
    end = boundaries(data)[-1]
    expected = naive(data, 0, end, longest)
    with file_of(data) as fd, sizes(longest=longest, first=first, last=longest):
        assert list(lines.forward(fd, 0, end, block=block)) == expected
        assert list(lines.backward(fd, end)) == expected[::-1]


@few
@given(BYTES, st.integers(0, 2000), st.data())
def test_the_end_of_the_last_finished_line_is_found(data, padding, draw):
    """Where this points is where the next turn goes: one byte off glues or cuts a turn."""
    start = draw.draw(st.sampled_from(boundaries(data)))
    data += b"x" * padding
    size = draw.draw(st.integers(start, len(data)))
    with file_of(data) as fd:
        found = data.rfind(b"\n", start, size)
        assert lines.finished_end(fd, size, start=start) == (start if found < 0 else found + 1)


@few
@given(BYTES, st.data())
def test_the_first_line_behind_an_offset_is_found(data, draw):
    """Bisection lands in the middle of lines and must go on at the next one."""
    offset = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(offset, len(data)))
    with file_of(data) as fd:
        found = data.find(b"\n", offset, end)
        assert lines.line_start_after(fd, offset, end) == (end if found < 0 else found + 1)


def test_reading_stops_where_a_file_was_cut_short_meanwhile():
    """A file may shrink between the look at its size and the read."""
    with file_of(b"one\ntwo\n") as fd:
        assert [line for *_, line in lines.forward(fd, 0, 10_000)] == [b"one", b"two"]
        assert list(lines.backward(fd, 10_000)) == []
        assert lines.line_start_after(fd, 8, 10_000) == 10_000


def test_reading_the_last_lines_of_a_large_file_reads_little(tmp_path):
    """A17: the last line of a gigabyte costs a block, not a gigabyte."""
    read = []

    def counted(fd, count, offset):
        read.append(count)
        return os.pread(fd, count, offset)

    path = tmp_path / "large"
    path.write_bytes(b"%s\n" % (b"x" * 99) * 100_000)
    with path.open("rb") as file, mock.patch.object(lines, "read_exactly", counted):
        size = path.stat().st_size
        last = lines.backward(file.fileno(), lines.finished_end(file.fileno(), size))
        assert [len(line) for _, (*_, line) in zip(range(20), last, strict=False)] == [99] * 20
    assert sum(read) <= 256 + 4096
