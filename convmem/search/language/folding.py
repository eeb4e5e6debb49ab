"""Folding: letters without their accents and signs as spaces, so that only words are left.

ASCII stays as it is, upper case too. What a letter becomes follows from its Unicode properties, and
so from the version of Unicode that Python knows.
"""

from __future__ import annotations

import re
import unicodedata

# Ranges of characters: the first and the last of each.
# Scripts without spaces between words: Thai, Lao, Burmese, Khmer, Hangul, Han and what stands with
# it, Kana, Yi.
UNSPACED = (
    "\u0e00\u0eff \u1000\u109f \u1100\u11ff \u1780\u17ff \u3005\u3007 \u3021\u3035 \u3040\u30ff "
    "\u3105\u318e \u31a0\u31ff \u3400\u9fff \ua000\ua48f \ua960\ua97f \ua9e0\ua9ff \uaa60\uaa7f "
    "\uac00\ud7ff \uf900\ufaff \U0001b000\U0001b16f \U00020000\U0003ffff"
).split()
# Forms for compatibility, which are folded to the letters they stand for.
_OTHER_FORMS = "\uf900\ufaff \U0002f800\U0002fa1f".split()
# Pictures that people look for: each is a word.
_PICTURES = "\u2300\u23ff \u2600\u27bf \u2b00\u2bff \U0001f000\U0001faff".split()
# Marks that a searcher leaves out: accents, Hebrew points, Arabic vowel signs, variation selectors,
# colours of skin. Others are part of a word, as the vowels of Hindi are.
_LEFT_OUT = (
    "\u0300\u036f \u0483\u0489 \u0591\u05c7 \u0610\u061a \u0640\u0640 \u064b\u065f \u0670\u0670 "
    "\u06d6\u06ed \u180b\u180f \u1ab0\u1aff \u1dc0\u1dff \u20d0\u20ff \u3099\u309a \ufe00\ufe0f "
    "\ufe20\ufe2f \U0001f3fb\U0001f3ff \U000e0100\U000e01ef"
).split()
# Letters that Unicode does not take apart, and signs that must not be taken for letters.
_OTHERS = dict(
    pair.split("=")
    for pair in (
        "ø=o ł=l đ=d ð=d ħ=h ŧ=t ı=i œ=oe æ=ae þ=th ß=ss "
        "Ø=O Ł=L Đ=D Ð=D Ħ=H Ŧ=T Œ=OE Æ=AE Þ=TH ẞ=SS"
    ).split()
) | dict.fromkeys("™℠ʼʻʹ\u200b", " ")

_HALF_WIDTH = re.compile("[\uff66-\uffdc]+")
_ESCAPE = "\x1b"
_ESCAPES = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?)?")
_ASCII = bytes(range(128))
# Replacing so many different letters one by one is faster than a table.
_MAX_REPLACED = 24
_LOOKED_AT = 120


def fold(text: str) -> str:
    """Return *text* with folded letters, and with spaces for signs beyond ASCII.

    Costs next to nothing for ASCII, else some 10 to 50 nanoseconds for each character.
    """
    text = _composed(text)
    if text.isascii():
        return text
    if len(_beyond_ascii(text[:_LOOKED_AT])) > _MAX_REPLACED:
        return _full_width(text).translate(FOLDED)
    distinct = _beyond_ascii(text)
    if len(distinct) > _MAX_REPLACED or any(map(_HALF_WIDTH.match, distinct)):
        return _full_width(text).translate(FOLDED)
    for letter in distinct:
        text = text.replace(letter, FOLDED[ord(letter)])
    return text


def folded(text: str) -> str:
    """Return *text* folded, in lower case, with single spaces: to compare whole values."""
    return " ".join(fold(text).lower().split())


def composed(text: str) -> str:
    """Return *text* as ``fold`` reads it: letters composed, and a terminal's colours left out.

    Each of its characters is then folded by itself.
    """
    return _full_width(_composed(text))


def is_unspaced(token: str) -> bool:
    """Whether *token* is one character of a script that writes no spaces between words."""
    return len(token) == 1 and _is_in(UNSPACED, token)


def _composed(text: str) -> str:
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    return _ESCAPES.sub(" ", text) if _ESCAPE in text else text


def _beyond_ascii(text: str) -> set[str]:
    """Return the characters of *text* that are not ASCII, each once."""
    # By way of bytes: three times as fast as a set of all characters.
    rest = text.encode("utf-8", "surrogatepass").translate(None, _ASCII)
    return set(rest.decode("utf-8", "surrogatepass"))


def _full_width(text: str) -> str:
    # By runs: the sign that makes KA of half width a GA is a character behind it.
    return _HALF_WIDTH.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)


class _Folded(dict[int, str]):
    """What each character becomes, worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        other = self[code] = _folded_letter(chr(code))
        return other


FOLDED = _Folded({code: chr(code) for code in range(128)})
"""What each character becomes, by its number."""


def _folded_letter(letter: str) -> str:
    if letter in _OTHERS:
        return _OTHERS[letter]
    if _is_in(_LEFT_OUT, letter):
        return ""
    kind = unicodedata.category(letter)
    if kind == "Cf":
        return ""  # joins, or turns the direction of writing
    if kind == "Nd":
        return str(unicodedata.decimal(letter))
    is_word = kind[0] in "LMN"
    # Hangul, and Kana with a voice mark, are not to be taken apart.
    if is_word and is_unspaced(letter) and not _is_in(_OTHER_FORMS, letter):
        return letter
    apart = unicodedata.normalize("NFKD", letter)
    if apart == letter and is_word:
        apart = letter.casefold().lower()  # Cherokee is folded to upper case
    if apart != letter:
        return "".join(FOLDED[ord(each)] if _is_letter(each) else " " for each in apart)
    if is_word:
        return letter
    return f" {letter} " if kind == "So" and _is_in(_PICTURES, letter) else " "


def _is_in(ranges: list[str], letter: str) -> bool:
    return any(ends[0] <= letter <= ends[1] for ends in ranges)


def _is_letter(each: str) -> bool:
    # Signs of ASCII part words as well, but a folded letter is never to add a sign to the text.
    return each >= "\x80" or each.isalnum()
