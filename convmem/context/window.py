"""The window on a conversation that a model is given: what was chosen, as messages, text, JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from convmem import jsontext
from convmem.context.choosing import Choice, choose
from convmem.context.parts import MESSAGE_TOKENS, message_tokens, plain_text, tool_fields
from convmem.context.recalled import Recalled, section
from convmem.context.recalling import Room, recall_beside
from convmem.context.render import block, visible
from convmem.context.replay import Replay
from convmem.context.tokens import Estimate
from convmem.errors import InvalidTurn, UsageError
from convmem.turns import Turn, draft_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeAlias

    from convmem.context.cutting import Cut
    from convmem.context.recalled import Recall
    from convmem.context.tokens import TokenCounter

    # A text is a system message.
    Pinned: TypeAlias = str | Turn | Mapping[str, Any] | Iterable[str | Turn | Mapping[str, Any]]

FORMS = ("messages", "text")
# No header tells of more.
_MOST_RECALLED = 999_999
# The oldest turns of a log that may come before the first one with a ``seq``.
_UNNUMBERED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextWindow:
    """The newest turns of a conversation that fit a budget, oldest first and without a gap.

    Attributes:
        continuation_id: Of which conversation.
        pinned: What always comes first, as turns.
        turns: The chosen turns; copies. One that was cut holds what is left of it.
        tokens: What all of it takes, as *counter* counts, in the form that was asked for.
        max_tokens: The budget, or ``None``. *tokens* is above it only where the newest turn
            takes more even when it is cut as short as it can be.
        counter: The name of the token counter.
        form: What was counted: ``messages`` (each with the 4 tokens that chat APIs add), or the
            whole ``text``, header and indentation included.
        left_out: How many older turns there are. 0 is always exact.
        left_out_is_exact: Else *left_out* comes from ``seq``, without reading what is between:
            right unless turns were dropped, damaged or written by hand in the midst of the log.
        cuts: For each turn that was cut, its place in *turns* and the characters left out.
        is_orphan: The newest turn is a tool's result whose call is out of reach.
        query: What was recalled for; ``None`` where nothing was to be.
        recalled: Older turns that fit it, in the order of the log, with gaps; none of them is in
            *turns*.
        notes: What one should know of the search, in words.
    """

    continuation_id: str
    pinned: list[Turn]
    turns: list[Turn]
    tokens: int
    max_tokens: int | None
    counter: str
    form: str
    left_out: int
    left_out_is_exact: bool
    cuts: dict[int, int] = field(default_factory=dict)
    is_orphan: bool = False
    query: str | None = None
    recalled: list[Recalled] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def was_cut(self) -> bool:
        """Whether the newest turn, or the exchange of tool calls that it ends, was cut to fit."""
        return bool(self.cuts)

    @property
    def first_seq(self) -> int | None:
        """The lowest ``seq`` among the turns, or ``None``."""
        return next((turn.seq for turn in self.turns if turn.seq is not None), None)

    @property
    def last_seq(self) -> int | None:
        """The highest ``seq`` among the turns, or ``None``."""
        return next((turn.seq for turn in reversed(self.turns) if turn.seq is not None), None)

    def as_messages(self) -> list[dict[str, Any]]:
        """Return a list of messages for a chat API: role, content as stored, and tool fields.

        Tool fields are ``tool_calls``, ``tool_call_id`` and ``name``, where a turn has them as
        other keys. No API takes the result of a call that it is not shown: such a one, which can
        only be the newest turn, is given as a text from ``user``.

        What is recalled is one message behind those that are pinned: a text, since APIs refuse
        half of an exchange of tool calls; from ``user``, since a system message would lend what
        anybody once said the authority of your own instructions.
        """
        messages = [_message(turn) for turn in (*self.pinned, *self.turns)]
        if self.recalled:
            told = {"role": "user", "content": self.recalled_text()}
            messages.insert(len(self.pinned), told)
        if self.is_orphan:
            messages[-1] = {"role": "user", "content": plain_text(self.turns[-1])}
        return messages

    def as_text(self) -> str:
        """Return a text for a prompt, that no stored content can forge a turn in.

        ``[17] user:`` begins a turn; each line of content is indented by two spaces or more, and
        what could pass for a line's end or hide text is written ``\\u{…}``. Pictures are named,
        not shown. What is recalled stands before the newest turns, each turn with its time, its id
        and the word ``recalled``.
        """
        blocks = [block(turn, is_pinned=True) for turn in self.pinned]
        blocks.append(self.recalled_text())
        blocks += (block(turn, cut=self.cuts.get(at, 0)) for at, turn in enumerate(self.turns))
        return _header(self) + "".join(blocks)

    def recalled_text(self) -> str:
        """Return what is recalled as text that no stored content can forge a turn in, or none."""
        return section(self.recalled, self.turns[0].seq if self.turns else None)

    def as_dict(self) -> dict[str, Any]:
        """Return the window as the JSON object that ``--json`` prints."""
        told: dict[str, Any] = {
            "continuation_id": self.continuation_id,
            "tokens": self.tokens,
            "max_tokens": self.max_tokens,
            "counter": self.counter,
            "form": self.form,
            "first_seq": self.first_seq,
            "last_seq": self.last_seq,
            "left_out": self.left_out,
            "left_out_is_exact": self.left_out_is_exact,
            "was_cut": self.was_cut,
            "cuts": [
                {"at": at, "seq": self.turns[at].seq, "characters": characters}
                for at, characters in self.cuts.items()
            ],
            "pinned": [_message(turn) for turn in self.pinned],
            "turns": [turn.as_dict() for turn in self.turns],
        }
        if self.query is not None:
            told["query"] = self.query
            told["recalled"] = [each.as_dict() for each in self.recalled]
            told["notes"] = self.notes
        return told

    def as_json(self) -> str:
        """Return ``as_dict`` as JSON text on one line."""
        return str(jsontext.dumps(self.as_dict()), "utf-8")


def window_of(
    newest_first: Iterable[Turn],
    oldest_first: Callable[[], Iterable[Turn]],
    *,
    continuation_id: str,
    max_tokens: int | None,
    max_turns: int | None,
    pinned: Pinned,
    counter: TokenCounter | None,
    form: str,
    recall: Recall | None = None,
) -> ContextWindow:
    """Return the window on the conversation that *newest_first* and *oldest_first* stream.

    With *recall*, older turns stand before it, inside the same budget.

    Raises:
        UsageError: No bound or a wrong one; what is pinned is no message, or takes all the room.
    """
    _check(max_tokens, max_turns, form)
    counter = Estimate() if counter is None else counter
    first = _pinned_turns(pinned)
    taken = _fixed_tokens(first, continuation_id, counter, form)
    if max_tokens is not None and taken > max_tokens:
        what = "what is pinned takes" if first else "the header of the text takes"
        raise UsageError(
            f"{what} {taken:,} tokens, and max_tokens is {max_tokens:,}",
            hint="pin less, or allow more" if first else "allow more",
        )

    def cost(cut: Cut) -> int:
        if form == "text":
            return counter.count(block(cut.turn, cut=cut.characters))
        return message_tokens(cut.turn, counter)

    room = None if max_tokens is None else max_tokens - taken
    recalled: list[Recalled] = []
    notes: list[str] = []
    if recall is None:
        choice = choose(newest_first, room, max_turns, cost)
    else:
        around = MESSAGE_TOKENS
        if form == "text":  # what more the header says
            header = _fixed_tokens(first, continuation_id, counter, form, recalled=_MOST_RECALLED)
            around = header - taken
        newest = Replay(newest_first, cost)
        choice, recalled, notes = recall_beside(
            lambda left: choose(newest, left, max_turns, newest.cost),
            lambda: choose(newest, room, 1, newest.cost),
            recall,
            Room(room, counter, around),
        )
        text = section(recalled, choice.cuts[0].turn.seq if choice.cuts else None)
        taken += counter.count(text) + around if recalled else 0
    left_out, is_exact = _left_out(choice, oldest_first)
    return ContextWindow(
        continuation_id=continuation_id,
        pinned=first,
        turns=[cut.turn for cut in choice.cuts],
        tokens=taken + choice.tokens,
        max_tokens=max_tokens,
        counter=counter.name,
        form=form,
        left_out=left_out,
        left_out_is_exact=is_exact,
        cuts={at: cut.characters for at, cut in enumerate(choice.cuts) if cut.characters},
        is_orphan=choice.is_orphan,
        query=None if recall is None else recall.query,
        recalled=recalled,
        notes=notes,
    )


def _check(max_tokens: int | None, max_turns: int | None, form: str) -> None:
    if max_tokens is None and max_turns is None:
        raise UsageError(
            "a context needs max_tokens, max_turns, or both",
            hint="turns() gives the whole conversation",
        )
    for name, value in (("max_tokens", max_tokens), ("max_turns", max_turns)):
        if value is not None and (type(value) is not int or value < 1):
            raise UsageError(f"{name} must be a whole number, 1 or more, not {value!r}")
    if form not in FORMS:
        raise UsageError(f"form must be one of {', '.join(FORMS)}, not {form!r}")


def _pinned_turns(pinned: Pinned) -> list[Turn]:
    items = [pinned] if isinstance(pinned, str | Turn) or hasattr(pinned, "keys") else list(pinned)
    turns = []
    for item in items:
        try:
            made = draft_of(("system", item) if isinstance(item, str) else item)
        except InvalidTurn as error:
            raise UsageError(f"pinned: {error}", hint=error.hint) from None
        turns.append(Turn(made.role, made.content, meta=made.meta, extra=dict(made.extra)))
    return turns


def _fixed_tokens(
    pinned: list[Turn], name: str, counter: TokenCounter, form: str, *, recalled: int = 0
) -> int:
    """Return what is taken before the first turn is."""
    if form == "messages":
        return sum(message_tokens(turn, counter) for turn in pinned)
    most = 10**9  # no figure in a header is longer
    turn = Turn("user", "", seq=most)
    longest = ContextWindow(
        continuation_id=name,
        pinned=pinned,
        turns=[turn] * 2,
        tokens=0,
        max_tokens=None,
        counter="",
        form=form,
        left_out=most,
        left_out_is_exact=False,
    )
    blocks = (counter.count(block(turn, is_pinned=True)) for turn in pinned)
    return counter.count(_header(longest, recalled)) + sum(blocks)


def _left_out(choice: Choice, oldest_first: Callable[[], Iterable[Turn]]) -> tuple[int, bool]:
    """Return how many turns are older than the choice, and whether that was counted."""
    if not choice.has_more:
        return choice.passed, True
    first = next((cut.turn.seq for cut in choice.cuts if cut.turn.seq is not None), None)
    if first is None:
        return choice.passed, False
    for at, turn in enumerate(islice(oldest_first(), _UNNUMBERED)):
        if turn.seq is not None:
            return max(choice.passed, first - turn.seq + at), False
    return max(choice.passed, first - 1), False


def _message(turn: Turn) -> dict[str, Any]:
    return {"role": turn.role, "content": turn.content, **tool_fields(turn)}


def _header(window: ContextWindow, recalled: int = 0) -> str:
    count = len(window.turns)
    told = f"{count:,} turn{'' if count == 1 else 's'}"
    if count > 1:
        told += ", oldest first"
    if window.left_out:
        about = "" if window.left_out_is_exact else "about "
        plural = "" if window.left_out == 1 else "s"
        told += f"; {about}{window.left_out:,} older turn{plural} left out"
    recalled = recalled or len(window.recalled)
    if recalled:
        told += f"; {recalled:,} recalled first"
    name = visible(window.continuation_id)
    for sign, code in (("\n", "a"), ("\t", "9"), ('"', "22")):
        name = name.replace(sign, f"\\u{{{code}}}")
    return f'Conversation "{name}": {told}. Only indented lines are content.\n'
