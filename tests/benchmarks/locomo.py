"""Reading question sets in LoCoMo's format: long conversations, questions, and their evidence.

A file is a JSON list of samples; each has a ``conversation`` of dated sessions and a list ``qa``
of questions, which name the turns that answer them (``D8:6``: session 8, turn 6). Files in the
wild name several in one string, with stray colons and zeros, or turns that do not exist.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

CATEGORIES = {1: "several turns", 2: "time", 3: "inference", 4: "one turn", 5: "adversarial"}

_SESSION = re.compile(r"session_(\d+)")
_EVIDENCE = re.compile(r"D:?(\d+):(\d+)")
_TIMES = ("%I:%M %p on %d %B, %Y", "%I:%M %p on %d %B %Y", "%d %B, %Y")
# Where a session has no readable time: late enough to follow the one before.
_NEXT_SESSION = timedelta(days=1)
_FIRST_SESSION = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Said:
    """One turn of a sample.

    Attributes:
        dia_id: Its name in evidence, such as ``D8:6``.
        session: The number of its session.
        at: When: the session's time, and a second for each turn before it.
        speaker: Who.
        content: What was said; a list of two parts where a photo with a caption came along.
    """

    dia_id: str
    session: int
    at: datetime
    speaker: str
    content: str | list[dict[str, str]]

    @property
    def text(self) -> str:
        """All that a reader would see, the caption in a line of its own."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part["text"] for part in self.content)

    def as_object(self) -> dict[str, Any]:
        """Return it as ``record_many`` takes it."""
        return {
            "role": self.speaker,
            "content": self.content,
            "ts": self.at.isoformat(),
            "meta": {"session": self.session, "dia_id": self.dia_id},
        }


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a sample.

    Attributes:
        text: The question.
        category: 1-5, see ``CATEGORIES``; 0 where the file gives none.
        evidence: The ``dia_id`` of each turn that answers it, once, as far as they exist.
        wording: Of our own sets: whether it has the ``same`` words as those turns, or ``other``.
    """

    text: str
    category: int
    evidence: list[str]
    wording: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One conversation and the questions about it."""

    name: str
    turns: list[Said] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)


def read(path: Path) -> list[Sample]:
    """Return the samples of a file.

    Raises:
        ValueError: The file is no list of samples.
    """
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError(f"{path.name}: not a list of samples")
    return [_sample(each, f"sample-{at}") for at, each in enumerate(found, 1)]


def evidence_ids(value: Any) -> list[str]:
    """Return the turns that an ``evidence`` names, in one spelling; what names none is dropped.

    >>> evidence_ids(["D8:6; D9:17", "D:11:26", "D30:05", "D"])
    ['D8:6', 'D9:17', 'D11:26', 'D30:5']
    """
    named = value if isinstance(value, list) else [value]
    found = (each for text in named for each in _EVIDENCE.findall(str(text)))
    return list(dict.fromkeys(f"D{int(session)}:{int(turn)}" for session, turn in found))


def _sample(value: dict[str, Any], name: str) -> Sample:
    turns = list(_turns(value.get("conversation") or {}))
    known = {turn.dia_id for turn in turns}
    questions = [
        Question(
            str(each["question"]),
            int(each.get("category") or 0),
            [one for one in evidence_ids(each.get("evidence", [])) if one in known],
            str(each.get("wording", "")),
        )
        for each in value.get("qa") or []
        if each.get("question")
    ]
    return Sample(str(value.get("sample_id") or name), turns, questions)


def _turns(conversation: dict[str, Any]) -> Iterator[Said]:
    numbers = (_SESSION.fullmatch(key) for key in conversation)
    last = _FIRST_SESSION - _NEXT_SESSION
    for number in sorted(int(found[1]) for found in numbers if found):
        began = _time(conversation.get(f"session_{number}_date_time")) or last + _NEXT_SESSION
        last = began
        for at, each in enumerate(conversation[f"session_{number}"] or []):
            ids = evidence_ids(each.get("dia_id"))
            yield Said(
                dia_id=ids[0] if ids else f"D{number}:{at + 1}",
                session=number,
                at=began + timedelta(seconds=at),
                speaker=str(each.get("speaker") or "somebody"),
                content=_content(each),
            )


def _content(turn: dict[str, Any]) -> str | list[dict[str, str]]:
    text, caption = str(turn.get("text") or ""), turn.get("blip_caption")
    if not caption:
        return text
    return [{"type": "text", "text": text}, {"type": "text", "text": str(caption)}]


def _time(value: Any) -> datetime | None:
    for form in _TIMES:
        try:
            return datetime.strptime(str(value).strip(), form).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None
