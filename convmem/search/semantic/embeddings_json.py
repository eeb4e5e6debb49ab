"""The form of the questions that an endpoint for embeddings is asked, and of its answers."""

from __future__ import annotations

import numpy as np

from convmem import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

# What is asked for at once.
_MAX_TEXTS = 64
_MAX_CHARACTERS = 128_000
# A model reads some hundred to some thousand words; servers refuse what is longer.
_MAX_TEXT = 8_000


class NoVectors(Exception):
    """An answer holds no vectors for what was asked, but what this says."""


def portions(texts: list[str]) -> list[list[str]]:
    """Return *texts*, each cut to its measure, in portions for one question each."""
    found: list[list[str]] = []
    room = 0
    for text in texts:
        # An empty text is refused by many.
        cut = text[:_MAX_TEXT] if text.strip() else " "
        room -= len(cut)
        if not found or room < 0 or len(found[-1]) >= _MAX_TEXTS:
            found.append([])
            room = _MAX_CHARACTERS - len(cut)
        found[-1].append(cut)
    return found


def question(texts: list[str], model: str, dimensions: int | None) -> bytes:
    """Return what is sent to ask *model* for the vectors of *texts*."""
    asked: dict[str, Any] = {"model": model, "input": texts, "encoding_format": "float"}
    if dimensions is not None:
        asked["dimensions"] = dimensions
    return jsontext.dumps(asked)


def table_of(answer: bytes, texts: int) -> NDArray[np.float32]:
    """Return the vectors in *answer*, a row for each of so many texts.

    Raises:
        NoVectors: It holds other things.
    """
    try:
        value = jsontext.loads(answer)
    except jsontext.NotJson as error:
        raise NoVectors(f"no JSON ({error})") from error
    rows = value.get("data") if isinstance(value, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise NoVectors("JSON without a list of vectors (data)")
    if len(rows) != texts:
        raise NoVectors(f"{len(rows)} vectors for {texts} texts")
    places = [row.get("index", at) for at, row in enumerate(rows)]
    if {at for at in places if type(at) is int} != set(range(texts)):
        raise NoVectors("vectors whose numbers (index) are not those of the texts")
    vectors = [row.get("embedding") for row in rows]
    if not all(isinstance(vector, list) and vector for vector in vectors):
        raise NoVectors("vectors that are no lists of numbers (embedding)")
    widths = {len(vector) for vector in vectors}
    if len(widths) > 1:
        raise NoVectors("vectors of different lengths")
    table = np.empty((texts, widths.pop()), np.float32)
    try:
        for at, vector in zip(places, vectors, strict=True):
            table[at] = vector
    except (TypeError, ValueError) as error:
        raise NoVectors("vectors that hold other things than numbers") from error
    return table
