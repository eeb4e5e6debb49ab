"""The detector: likely credentials in one text, by Kingfisher's rules and a few of our own.

Kingfisher (MongoDB's, Apache-2.0; the extra ``secrets``) carries the rules of the Betterleaks and
Veles catalogues and runs them all in one pass, linear in the text, without the network. None of
its rules goes by randomness alone. ``rules.yml`` adds what is told by the name beside it.
"""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass

from convmem.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A likely credential: ``text[start:end]``, and the name of the rule that knows it."""

    start: int
    end: int
    rule: str


def find(text: str) -> list[Finding]:
    """Return the likely credentials in *text*, in order and apart from each other.

    Where several rules see parts of one thing, it is one finding, under the rule that sees most of
    it. What a mask covers is none. Linear in the text: some 40 MB/s of talk, 100 of code, and 1 of
    what is made to look like credentials. The first call of a process takes 0.3 s, and the first
    on a machine 3 s: the rules are compiled, and kept in the user's cache folder.

    Raises:
        UsageError: The extra is not installed.
    """
    # Each character counts: what the detector takes for another encoding would move the places.
    plain = text.encode("utf-8", "surrogatepass")
    data = plain.replace(b"\0", b" ").replace(_BYTE_ORDER, b"   ")
    seen = list(_scanned(data))
    loose = _loosened(data)
    if loose != data:
        seen += _scanned(loose)
    if not seen:
        return []
    is_ascii = len(plain) == len(text)
    found = apart(seen if is_ascii else [_on_characters(each, plain) for each in seen])
    if not is_ascii:
        found = list(_in_characters(found, plain))
    if _MASK_BEGINS in text:
        masks = [match.span() for match in _MASK.finditer(text)]
        found = _outside(found, masks)
    return found


def mask_of(rule: str) -> str:
    """Return what stands in the place of a credential that *rule* knows."""
    return f"{_MASK_BEGINS}{rule}]"


def get_ready() -> None:
    """Load the rules now, so that a missing extra is said before anything is done.

    Raises:
        UsageError: The extra is not installed.
    """
    _loaded()


_MASK_BEGINS = "[redacted: "
_MASK = re.compile(r"\[redacted: [a-z0-9.-]{1,80}\]")
_BYTE_ORDER = b"\xef\xbb\xbf"
_BETWEEN = bytes.maketrans(b",;!?)]}>|*", b" " * 10)

# The detector slows down with thousands of findings in one text, so a long one goes in pieces. A
# finding counts for the piece that sees this much on both sides of its beginning.
_SIDE_BYTES = 32 << 10
_PIECE_BYTES = 128 << 10

_lock = threading.Lock()
_scanner: Any = None


def _loaded() -> Any:
    global _scanner
    if _scanner is None:
        with _lock:
            if _scanner is None:
                _scanner = _load()
    return _scanner


def _load() -> Any:
    from importlib import import_module

    try:
        kingfisher = import_module("kingfisher_sdk")
    except ImportError:
        raise UsageError(
            "finding credentials needs kingfisher-secret-scanner, which is not installed",
            hint="pip install 'convmem[secrets]'; nothing was changed",
        ) from None
    own = os.path.join(os.path.dirname(__file__), "rules.yml")
    # Base64 within is not opened, and no comment in a text switches its rules off.
    return kingfisher.Scanner(kingfisher.Rules([own]), base64=False)


def _loosened(data: bytes) -> bytes:
    """Return *data* as long as it is, with space behind words where people and JSON put none.

    Many rules want a credential to end at white space or a quote, as in settings and code. In
    talk a comma follows it, and in a tool's arguments, which are text within text, ``\\n``.
    """
    loose = data.translate(_BETWEEN)
    if b"\\" in loose:
        for letter in b"nrt":
            loose = loose.replace(b"\\%c" % letter, b" \n")
    loose = loose.replace(b". ", b"  ").replace(b".\n", b" \n")
    return loose[:-1] + b" " if loose.endswith(b".") else loose


def _scanned(data: bytes) -> Iterator[tuple[int, int, str, bool]]:
    """Yield start, end, rule and whether the rule is sure, of what the detector sees in *data*."""
    scan = _loaded().scan
    if len(data) <= _PIECE_BYTES + 2 * _SIDE_BYTES:
        yield from _kept(scan(data), data)
        return
    for first in range(0, len(data), _PIECE_BYTES):
        start = max(first - _SIDE_BYTES, 0)
        last = first + _PIECE_BYTES
        piece = data[start : last + _SIDE_BYTES]
        for begin, end, rule, is_sure in _kept(scan(piece), piece):
            if first <= start + begin < last:
                yield start + begin, start + end, rule, is_sure


def _kept(found: list[Any], data: bytes) -> Iterator[tuple[int, int, str, bool]]:
    if not found:
        return
    # Rules for pairs tell of the other half unseen: it counts beside the one that is seen.
    owners = {_short(each.rule_id).partition("-")[0] for each in found if each.visible}
    for each in found:
        rule = _short(each.rule_id)
        if not each.visible and not (
            _SECRET_HALF.search(rule) and rule.partition("-")[0] in owners
        ):
            continue
        place = each.location
        start, end = place["start_offset"], place["end_offset"]
        if rule == "private-key" and not _is_key(data[start:end]):
            continue
        yield start, end, rule, each.confidence == "high"


def _short(rule_id: str) -> str:
    """Return a rule's name without its catalogue's."""
    return rule_id[_CATALOGUE.match(rule_id).end() :]  # type: ignore[union-attr]


_CATALOGUE = re.compile(r"(?:betterleaks\.|veles\.secrets/|convmem\.)?")
_SECRET_HALF = re.compile(r"(?:secret|passphrase|token|consumer-key)(?!.*-(?:id|name|host|url)\b)")
_KEY_RUN = re.compile(rb"[A-Za-z0-9+/=]{16,}")


def _is_key(data: bytes) -> bool:
    """Whether it is a key, and no talk between the beginning of one and the end of another."""
    return sum(map(len, _KEY_RUN.findall(data))) * 2 > len(data)


def _order(seen: tuple[int, int, str, bool]) -> tuple[int, int, bool, str]:
    start, end, rule, is_sure = seen
    return start, -end, not is_sure, rule


def apart(seen: Iterable[tuple[int, int, str, bool]]) -> list[Finding]:
    """Return *seen* in order, with what overlaps as one: under the longest, surest, first name."""
    found: list[Finding] = []
    best: tuple[int, bool] = (0, False)
    for start, end, rule, is_sure in sorted(seen, key=_order):
        if found and start < found[-1].end:
            last = found[-1]
            rank = (end - start, is_sure)
            name = rule if rank > best else last.rule
            best = max(best, rank)
            found[-1] = Finding(last.start, max(last.end, end), name)
        elif end > start:
            found.append(Finding(start, end, rule))
            best = (end - start, is_sure)
    return found


def _on_characters(seen: tuple[int, int, str, bool], data: bytes) -> tuple[int, int, str, bool]:
    """Return what was *seen* with no character cut in two."""
    start, end, rule, is_sure = seen
    while data[start] & 0xC0 == 0x80:
        start -= 1
    while end < len(data) and data[end] & 0xC0 == 0x80:
        end += 1
    return start, end, rule, is_sure


def _in_characters(found: list[Finding], data: bytes) -> Iterator[Finding]:
    """Turn places in bytes into places in text, in one pass."""
    at = characters = 0
    for each in found:
        start = characters + len(data[at : each.start].decode("utf-8", "surrogatepass"))
        end = start + len(data[each.start : each.end].decode("utf-8", "surrogatepass"))
        yield Finding(start, end, each.rule)
        at, characters = each.end, end


def _outside(found: list[Finding], masks: list[tuple[int, int]]) -> list[Finding]:
    kept = []
    at = 0
    for each in found:
        while at < len(masks) and masks[at][1] <= each.start:
            at += 1
        if at == len(masks) or masks[at][0] >= each.end:
            kept.append(each)
    return kept
