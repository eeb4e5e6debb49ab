"""``convmem context``: what a model is to be given, within its budget."""

from __future__ import annotations

import os
import sys

from convmem.cli import values
from convmem.cli.output.machine import write_object
from convmem.cli.output.messages import Messages, SkippedDamage, Skipping, write_bytes
from convmem.cli.places import open_archive, settings_of
from convmem.context.tokens import token_counter
from convmem.errors import UsageError, storage_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.cli.spec import Context
    from convmem.context.window import ContextWindow


def run(
    context: Context,
    *,
    continuation_id: str,
    max_tokens: str | None,
    max_turns: str | None,
    pin: list[str],
    format: str | None,
    tokenizer: str | None,
    query: str | None,
    recall_tokens: str | None,
    quiet: bool,
    json: bool,
) -> int:
    """Print the window on the conversation in the form that was asked for."""
    if json and format not in (None, "json"):
        raise UsageError(f"--json and --format {format} contradict each other")
    form = "json" if json else format or "text"
    tokens = values.count("--max-tokens", max_tokens, least=1)
    turns = values.count("--max-turns", max_turns, least=1)
    recalled = values.count("--recall-tokens", recall_tokens)
    if recalled is not None and query is None:
        raise UsageError("--recall-tokens means nothing without --query")
    pinned = [_pinned(text) for text in pin]
    counter = None if tokenizer is None else token_counter(tokenizer)
    messages = Messages(as_json=json, quiet=quiet)
    settings = settings_of(context, messages)
    if tokens is None and turns is None:
        tokens = settings.number("context.max_tokens")
    watch = Skipping(SkippedDamage(messages, continuation_id))
    with open_archive(context, observer=watch, settings=settings) as archive:
        window = archive.conversation(continuation_id).context(
            max_tokens=tokens,
            max_turns=turns,
            pinned=pinned,
            counter=counter,
            form="text" if form == "text" else "messages",
            query=query,
            recall_tokens=recalled,
        )
    if form == "json":
        write_object(window.as_dict())
    elif form == "messages":
        from convmem import jsontext

        write_bytes(jsontext.dumps(window.as_messages()) + b"\n")
    else:
        write_bytes(window.as_text().encode())
    watch.skipped.tell()
    _tell(window, messages, form)
    return 0


def _tell(window: ContextWindow, messages: Messages, form: str) -> None:
    """Say what standard output does not: that something was left out, cut, or does not fit."""
    name = window.continuation_id
    if form == "messages":
        if window.left_out:
            about = "" if window.left_out_is_exact else "about "
            turns = "turn" if window.left_out == 1 else "turns"
            messages.warn("left_out", f"{name}: {about}{window.left_out:,} older {turns} left out")
        if window.was_cut:
            gone = sum(window.cuts.values())
            messages.warn("cut", f"{name}: {gone:,} characters were cut to fit")
    if window.query is not None and not window.recalled and (window.left_out or window.notes):
        messages.warn("nothing_recalled", f"{name}: no older turn was recalled for the query")
    for note in window.notes:
        messages.warn("search", f"{name}: {note}")
    if window.max_tokens is not None and window.tokens > window.max_tokens:
        messages.warn(
            "over_budget",
            f"{name}: the newest turn alone takes {window.tokens:,} tokens, more than"
            f" {window.max_tokens:,}",
            "it was cut as short as it can be; allow more",
        )


def _pinned(text: str) -> str:
    if not text.startswith("@"):
        return text
    if text.startswith("@@"):
        return text[1:]
    path = os.fsdecode(text[1:].encode("utf-8", "surrogateescape"))
    try:
        if path == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                data = file.read()
    except OSError as error:
        raise storage_error(error, f"--pin: cannot read {path}") from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"--pin: {path} is not UTF-8 (byte {error.start})") from None
