"""Logs that are broken in all the ways that checking and repairing must take."""

from __future__ import annotations

from hypothesis import strategies as st

from convmem.log import codec
from convmem.turns import draft

STAMP = "2026-11-21T09:00:00.123456Z"
BY_HAND = b'{"role": "user", "content": "by hand"}'
SAYINGS = [
    "hello",
    'a brace {"id":"t9","seq":9,"ts":"","role":"user","content":"x","_c":"00000000"}{',
    "as follows:",
    'line\u2028 \\ "quoted" \x01 é',
    {"role": "user", "content": "inner"},
    [{"id": "t1", "seq": 1, "_c": "00000000"}, 2.5, None],
    "x" * 300,
]


def line(seq, content="hello", *, turn_id=None, batch=None):
    """Return a sealed line."""
    return codec.turn_line(draft("user", content, id=turn_id or f"t{seq}"), seq, STAMP, batch)


def batch(first, count, name="9f3a01bc"):
    """Return the lines of a batch."""
    return b"".join(line(first + at, batch=(name, at, count)) for at in range(count))


@st.composite
def good_lines(draw):
    """Return the lines of a sound log."""
    lines = []
    seq = 0
    for nth in range(draw(st.integers(1, 5))):
        seq += draw(st.integers(1, 3))
        kind = draw(st.sampled_from(["turn", "turn", "batch", "by hand", "mark"]))
        if kind == "turn":
            lines.append(line(seq, draw(st.sampled_from(SAYINGS))))
        elif kind == "batch":
            count = draw(st.integers(2, 3))
            lines += batch(seq, count, f"{nth:08x}").splitlines(keepends=True)
            seq += count - 1
        elif kind == "by hand":
            lines.append(b'{"role":"user","content":"by hand %d"}\n' % nth)
        else:
            lines.append(codec.seq_floor_line(seq))
    return lines


@st.composite
def broken_logs(draw):
    """Return the bytes of a log that was sound once."""
    lines = draw(good_lines())
    for _ in range(draw(st.integers(0, 3))):
        if not lines:
            break
        at = draw(st.integers(0, len(lines) - 1))
        each = lines[at]
        place = draw(st.integers(0, len(each)))
        how = draw(
            st.sampled_from(
                [
                    "cut",
                    "no newline",
                    "rot",
                    "nul",
                    "hole",
                    "junk",
                    "gone",
                    "again",
                    "move",
                    "empty",
                ]
            )
        )
        if how == "cut":
            lines[at] = each[:place]
        elif how == "no newline":
            lines[at] = each[:-1]
        elif how == "rot" and place < len(each):
            lines[at] = each[:place] + bytes([each[place] ^ draw(st.integers(1, 255))])
            lines[at] += each[place + 1 :]
        elif how == "nul":
            lines[at] = each[:place] + b"\0" * draw(st.integers(1, 40)) + each[place:]
        elif how == "hole":
            lines[at] = each[:place] + b"\0" * max(0, len(each) - place)
        elif how == "junk":
            lines.insert(
                at, draw(st.sampled_from([b"junk\n", b"junk", b"42\n", b"{", b"}\n", b","]))
            )
        elif how == "gone":
            del lines[at]
        elif how == "again":
            lines.append(each)
        elif how == "move":
            lines.append(lines.pop(at))
        elif how == "empty":
            lines.insert(at, draw(st.sampled_from([b"\n", b" \n", b"\r\n"])))
    data = b"".join(lines)
    if draw(st.booleans()):
        data = data[: draw(st.integers(0, len(data)))]
    return data
