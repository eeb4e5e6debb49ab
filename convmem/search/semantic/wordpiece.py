"""WordPiece: a text as the numbers that BERT's uncased models read, as their own tokenizer does.

The vocabulary lies beside this file, compressed: ``bert-base-uncased``'s, 30,522 pieces (Google,
Apache-2.0; see ``vocabulary.notice.txt``).
"""

from __future__ import annotations

import os
import threading
import unicodedata
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

UNKNOWN = 100
BEGIN = 101  # [CLS]
END = 102  # [SEP]

_FILE = "vocabulary.txt.gz"
# A longer word is one unknown piece.
_MAX_WORD = 100
# What stands between two spaces is looked up as a whole, up to this length: most of it comes again.
_MAX_KEPT = 32
_MAX_KEPT_WORDS = 1 << 16
# How much of a text without any space is looked at: 64 MiB of base64 are told by their beginning.
_MAX_RUN = 1 << 16


class WordPiece:
    """The tokenizer. Any number of threads may use one.

    Text that names a piece, such as ``[SEP]``, is text like any other: a turn cannot forge the
    marks that the model goes by.
    """

    __slots__ = ("_kept", "_longest", "_numbers")

    def __init__(self, pieces: Sequence[str]) -> None:
        # Pieces that go on with a word begin with ##; no word does, as that is punctuation.
        self._numbers = dict(zip(pieces, range(len(pieces)), strict=True))
        self._longest = max(map(len, pieces))
        self._kept: dict[str, list[int]] = {}

    def encode(self, text: str, limit: int = 254) -> list[int]:
        """Return the first *limit* pieces of *text*, without the marks of beginning and end.

        Reads no more of the text than that takes.
        """
        if not text.isprintable():
            text = _without_controls(text, limit)
        found: list[int] = []
        kept = self._kept
        while text:
            runs = text.split(None, limit)
            text = runs.pop() if len(runs) > limit else ""
            for run in runs:
                ids = kept.get(run)
                if ids is None:
                    ids = self._pieces_of(run)
                found += ids
                if len(found) >= limit:
                    return found[:limit]
        return found

    def _pieces_of(self, run: str) -> list[int]:
        """Return the pieces of what stands between two spaces."""
        kept = self._kept
        found: list[int] = []
        for word in run[:_MAX_RUN].translate(_FOLDED).split(" "):
            if word:
                ids = kept.get(word)
                found += self._pieces_of_word(word) if ids is None else ids
        if len(run) <= _MAX_KEPT:
            if len(kept) >= _MAX_KEPT_WORDS:
                kept.clear()
            kept[run] = found
        return found

    def _pieces_of_word(self, word: str) -> list[int]:
        """Return the longest known beginning, then the longest of the rest, and so on."""
        number = self._numbers.get(word)
        if number is not None:
            return [number]
        length = len(word)
        if length > _MAX_WORD:
            return [UNKNOWN]
        found = []
        before = ""
        start = 0
        while start < length:
            for end in range(min(length, start + self._longest), start, -1):
                number = self._numbers.get(before + word[start:end])
                if number is not None:
                    break
            else:
                return [UNKNOWN]
            found.append(number)
            before = "##"
            start = end
        return found


def load() -> WordPiece:
    """Return the tokenizer, the same for all who ask. The first call takes some 8 ms."""
    global _loaded
    if _loaded is None:
        with _lock:
            if _loaded is None:
                path = os.path.join(os.path.dirname(__file__), _FILE)
                with open(path, "rb") as file:
                    data = zlib.decompress(file.read(), wbits=31)
                _loaded = WordPiece(data.decode().splitlines())
    return _loaded


_lock = threading.Lock()
_loaded: WordPiece | None = None


class _Folded(dict[int, str]):
    """What becomes of a character: its base in lower case, apart from others where it must be.

    Control characters and accents go, punctuation and Chinese characters stand alone. Filled as
    characters are met.
    """

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if _is_dropped(code, character):
            folded = ""
        else:
            bases = unicodedata.normalize("NFD", character)
            folded = "".join(
                f" {each} " if _is_punctuation(each) else each.lower()
                for each in bases
                if unicodedata.category(each) != "Mn"
            )
            if _is_chinese(code):
                folded = f" {folded} "
        self[code] = folded
        return folded


_FOLDED = _Folded()
_CHINESE = (
    *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F)),
    *((0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),
)
# Python splits at these, and BERT's tokenizer drops them.
_DROPPED_SPACES = dict.fromkeys([0x0B, 0x0C, 0x1C, 0x1D, 0x1E, 0x1F, 0x85])
# A piece has a character at least; what may stand between is looked at up to this many times that.
_ROOM = 256


def _without_controls(text: str, limit: int) -> str:
    return text[: max(limit, 1) * _ROOM + _MAX_RUN].translate(_DROPPED_SPACES)


def _is_dropped(code: int, character: str) -> bool:
    if code == 0xFFFD:
        return True
    return unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs")


def _is_chinese(code: int) -> bool:
    return any(first <= code <= last for first, last in _CHINESE)


def _is_punctuation(character: str) -> bool:
    if character < "\x80":
        return character.isprintable() and not character.isalnum() and character != " "
    return unicodedata.category(character).startswith("P")
