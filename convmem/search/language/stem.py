"""The stem of a word, exactly as SQLite's ``porter`` tokenizer makes it.

The algorithm is M. F. Porter's of 1980, on bytes: every byte that is no ASCII letter counts as a
consonant. Words of fewer than 3 or more than 64 bytes are left alone.
"""

from __future__ import annotations

from functools import lru_cache

LONGEST = 64
"""In bytes; longer words are their own stem."""

_SHORTEST = 3
_VOWELS = frozenset("aeiou")


def _by_length(rules: str) -> list[tuple[str, str]]:
    pairs = [(old, new.strip("-")) for old, new in (rule.split(":") for rule in rules.split())]
    return sorted(pairs, key=lambda pair: -len(pair[0]))


_STEP_2 = _by_length(
    "ational:ate tional:tion enci:ence anci:ance izer:ize logi:log bli:ble alli:al entli:ent eli:e "
    "ousli:ous ization:ize ation:ate ator:ate alism:al iveness:ive fulness:ful ousness:ous "
    "aliti:al iviti:ive biliti:ble"
)
_STEP_3 = _by_length("icate:ic ative:- alize:al iciti:ic ical:ic ful:- ness:-")
_STEP_4 = _by_length(
    "al:- ance:- ence:- er:- ic:- able:- ible:- ant:- ement:- ment:- ent:- ion:- ou:- ism:- "
    "ate:- iti:- ous:- ive:- ize:-"
)


@lru_cache(maxsize=65536)
def stem(token: str) -> str:
    """Return the stem of *token*, which is lower case; as it is where no rule fits.

    >>> stem("paintings"), stem("relational"), stem("café")
    ('paint', 'relat', 'café')
    """
    if token[-1:] > "z" or len(token) < 2:
        return token  # each rule looks for an ASCII ending
    if token.isascii():
        return _stem(token) if _SHORTEST <= len(token) <= LONGEST else token
    coded = token.encode()
    if not _SHORTEST <= len(coded) <= LONGEST:
        return token
    # One character for each byte: lengths and patterns are those of bytes.
    return _stem(coded.decode("latin-1")).encode("latin-1").decode()


def _stem(word: str) -> str:
    word = _without_plural(word)
    word = _without_past(word)
    if word[-1] == "y" and _has_vowel(word[:-1]):
        word = word[:-1] + "i"
    word = _replaced(word, _STEP_2)
    word = _replaced(word, _STEP_3)
    for ending, _ in _STEP_4:
        if word.endswith(ending):
            rest = word[: -len(ending)]
            if _measure(rest) > 1 and (ending != "ion" or rest[-1:] in ("s", "t")):
                word = rest
            break
    if word[-1] == "e":
        rest = word[:-1]
        measure = _measure(rest)
        if measure > 1 or (measure == 1 and not _is_short(rest)):
            word = rest
    if word.endswith("ll") and _measure(word[:-1]) > 1:
        word = word[:-1]
    return word


def _without_plural(word: str) -> str:
    """Step 1a. Here and in step 1b a word that is an ending and nothing else does not have it."""
    if word[-1] != "s":
        return word
    if (word.endswith("sses") and len(word) > 4) or (word.endswith("ies") and len(word) > 3):
        return word[:-2]
    return word if word[-2] == "s" else word[:-1]


def _without_past(word: str) -> str:
    """Step 1b."""
    if word.endswith("eed") and len(word) > 3:
        return word[:-1] if _measure(word[:-3]) > 0 else word
    if word.endswith("ed"):
        rest = word[:-2]
    elif word.endswith("ing"):
        rest = word[:-3]
    else:
        return word
    if not _has_vowel(rest):
        return word
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    last = rest[-1]
    if rest[-2:-1] == last and last not in _VOWELS and last not in "lsz":
        return rest[:-1]
    if _measure(rest) == 1 and _is_short(rest):
        return rest + "e"
    return rest


def _replaced(word: str, rules: list[tuple[str, str]]) -> str:
    """Steps 2 and 3: the longest ending that there is decides."""
    for ending, other in rules:
        if word.endswith(ending):
            rest = word[: -len(ending)]
            return rest + other if _measure(rest) > 0 else word
    return word


def _vowels(word: str) -> list[bool]:
    """Say of each letter whether it is a vowel; ``y`` is one after a consonant."""
    found: list[bool] = []
    is_vowel = True  # a y in front is a consonant
    for letter in word:
        is_vowel = letter in _VOWELS or (letter == "y" and not is_vowel)
        found.append(is_vowel)
    return found


def _has_vowel(word: str) -> bool:
    return any(_vowels(word))


def _measure(word: str) -> int:
    """Count the places where a consonant follows a vowel."""
    vowels = _vowels(word)
    return sum(1 for at in range(1, len(vowels)) if vowels[at - 1] and not vowels[at])


def _is_short(word: str) -> bool:
    """Whether it ends in consonant, vowel, consonant, the last none of ``w``, ``x`` and ``y``."""
    return word[-1:] not in ("w", "x", "y") and _vowels(word)[-3:] == [False, True, False]
