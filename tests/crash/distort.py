"""Bytes distorted the ways that disks, crashes and people do it; each choice follows from a seed.

A few thousand distortions take a second: whole campaigns go through here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from random import Random

_CORPUS = os.path.join(os.path.dirname(__file__), "corpus")
_NUMBER = re.compile(rb"[0-9]+")

# What is put in: marks of JSON and of our own lines, and what only looks like them.
_PIECES = (
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"{",
    b"}",
    b'"',
    b"\\",
    b"[",
    b"]",
    b",",
    b":",
    b"{}\n",
    b"42\n",
    b"null\n",
    b"\n\n",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\\ud800",
    b"\\u0000",
    b"1e999",
    b"-0",
    b"NaN",
    b"[" * 500,
    b'{"a":' * 300,
    b',"_c":"00000000"}',
    b',"_c":"00000000"}\n',
    b',"_b":["9f3a01bc",0,2]',
    b'{"id":"x","seq":1,"_c":"00000000"}{',
    b'{"id":"x","seq":1,"ts":"","role":"user","content":"x","_c":"00000000"}\n',
    b'{"_last_seq":99,"_c":"00000000"}\n',
    b'{"_last_seq":99}\n',
    b'{"role":"user","content":"by another hand"}',
    b'{"role":"user","content":"by another hand"}\n',
    b'{"role":"user","content":"far on","seq":9007199254740991}\n',
    b'{"role":"user","content":"too far on","seq":99999999999999999999}\n',
    b"# text\n",
)
_NUMBERS = (
    b"0",
    b"1",
    b"-1",
    b"9007199254740991",
    b"9007199254740992",
    b"9223372036854775807",
    b"18446744073709551616",
    b"1" + b"0" * 40,
    b"9" * 5000,
    b"007",
    b"1.5",
    b"1e3",
)


def read_corpus(ending: str) -> dict[str, bytes]:
    """Return the files of the corpus that end so, by name."""
    found = {}
    for name in sorted(os.listdir(_CORPUS)):
        if name.endswith(ending):
            with open(os.path.join(_CORPUS, name), "rb") as file:
                found[name] = file.read()
    return found


class Distorter:
    """Distorts bytes. *others* are what pieces of are mixed in.

    ``done`` names what was done to the bytes last.
    """

    def __init__(self, others: tuple[bytes, ...]) -> None:
        self.done: list[str] = []
        self._others = others
        self._ways: tuple[Callable[[Random, bytes], bytes], ...] = (
            _flip,
            _flip,
            _overwrite,
            _insert,
            _insert,
            _cut,
            _cut_end,
            _cut_end,
            _double,
            _swap_lines,
            _drop_line,
            _double_line,
            _fuse,
            _fuse,
            _write_nul,
            _insert_nul,
            _change_number,
            _break_text,
            self._splice,
            self._splice_lines,
        )

    def distort(self, chance: Random, data: bytes, *, most: int = 4) -> bytes:
        """Return *data* with one to *most* distortions, one more likely than many."""
        self.done = []
        while True:
            way = self._ways[int(chance.random() * len(self._ways))]
            data = way(chance, data)
            self.done.append(way.__name__.strip("_"))
            if len(self.done) >= most or chance.random() < 0.5:
                return data

    def in_place(self, chance: Random, data: bytes) -> tuple[bytes, int, int]:
        """Return *data* with bytes overwritten, and from where to where it may differ."""
        if not data:
            return data, 0, 0
        at = _place(chance, data)
        end = min(len(data), at + int(chance.random() ** 4 * 200) + 1)
        kind = int(chance.random() * 3)
        if kind == 0:
            new = bytes([data[at] ^ (1 << int(chance.random() * 8))])
            end = at + 1
        elif kind == 1:
            new = bytes(end - at)
        else:
            new = chance.randbytes(end - at)
        return data[:at] + new + data[end:], at, end

    def _splice(self, chance: Random, data: bytes) -> bytes:
        """Have a piece of another file in the place of some bytes: a write that went astray."""
        other = self._others[int(chance.random() * len(self._others))]
        start, end = _span(chance, other)
        at, behind = _span(chance, data)
        return data[:at] + other[start:end] + data[behind:]

    def _splice_lines(self, chance: Random, data: bytes) -> bytes:
        """Put whole lines of another file somewhere."""
        other = self._others[int(chance.random() * len(self._others))].splitlines(keepends=True)
        lines = data.splitlines(keepends=True)
        first = int(chance.random() * len(other))
        at = int(chance.random() * (len(lines) + 1))
        many = 1 + int(chance.random() ** 2 * 4)
        return b"".join([*lines[:at], *other[first : first + many], *lines[at:]])


def _place(chance: Random, data: bytes) -> int:
    """Return where: anywhere, or, since most that matters is there, near a line's end or start."""
    if not data:
        return 0
    at = int(chance.random() * len(data))
    if chance.random() < 0.3:
        near = data.find(b"\n", at)
        if near >= 0:
            at = near + int(chance.random() * 60) - 30
    return min(max(at, 0), len(data) - 1)


def _span(chance: Random, data: bytes) -> tuple[int, int]:
    at = _place(chance, data)
    # Short mostly, but at times most of the file.
    return at, min(len(data), at + 1 + int(chance.random() ** 5 * len(data)))


def _flip(chance: Random, data: bytes) -> bytes:
    if not data:
        return data
    at = _place(chance, data)
    return data[:at] + bytes([data[at] ^ (1 << int(chance.random() * 8))]) + data[at + 1 :]


def _overwrite(chance: Random, data: bytes) -> bytes:
    at, end = _span(chance, data)
    return data[:at] + chance.randbytes(min(end - at, 4096)) + data[end:]


def _insert(chance: Random, data: bytes) -> bytes:
    at = _place(chance, data)
    return data[:at] + _PIECES[int(chance.random() * len(_PIECES))] + data[at:]


def _cut(chance: Random, data: bytes) -> bytes:
    at, end = _span(chance, data)
    return data[:at] + data[end:]


def _cut_end(chance: Random, data: bytes) -> bytes:
    return data[: _place(chance, data)]


def _double(chance: Random, data: bytes) -> bytes:
    at, end = _span(chance, data)
    return data[:end] + data[at:]


def _swap_lines(chance: Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    one, two = int(chance.random() * len(lines)), int(chance.random() * len(lines))
    lines[one], lines[two] = lines[two], lines[one]
    return b"\n".join(lines)


def _drop_line(chance: Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    del lines[int(chance.random() * len(lines))]
    return b"\n".join(lines)


def _double_line(chance: Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    line = lines[int(chance.random() * len(lines))]
    lines.insert(int(chance.random() * len(lines)), line)
    return b"\n".join(lines)


def _fuse(chance: Random, data: bytes) -> bytes:
    at = data.find(b"\n", _place(chance, data))
    return data if at < 0 else data[:at] + data[at + 1 :]


def _write_nul(chance: Random, data: bytes) -> bytes:
    at, end = _span(chance, data)
    return data[:at] + bytes(end - at) + data[end:]


def _insert_nul(chance: Random, data: bytes) -> bytes:
    at = _place(chance, data)
    return data[:at] + bytes(1 + int(chance.random() ** 3 * 600)) + data[at:]


def _change_number(chance: Random, data: bytes) -> bytes:
    found = _NUMBER.search(data, _place(chance, data))
    if found is None:
        return data
    new = _NUMBERS[int(chance.random() * len(_NUMBERS))]
    return data[: found.start()] + new + data[found.end() :]


def _break_text(chance: Random, data: bytes) -> bytes:
    """Make a backslash or a quote of a byte: where strings end is what hangs on these."""
    if not data:
        return data
    at = _place(chance, data)
    near = max(data.find(b"\\", at), data.find(b'"', at))
    at = near if near >= 0 else at
    return data[:at] + b'\\"}{]x'[int(chance.random() * 6) :][:1] + data[at + 1 :]
