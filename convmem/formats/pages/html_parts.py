"""The parts of a turn as HTML: text to read, everything else folded under one line that says it."""

from __future__ import annotations

from html import escape

from convmem.formats.pages import html_code, html_text
from convmem.formats.pages.html_media import picture, saved
from convmem.formats.pages.pretty import one_line, pretty
from convmem.formats.pages.said import Call, Medium, Other, Result, Text, Thought
from convmem.formats.pages.visible import visible, visible_line, visible_output, without_colours
from convmem.quantities import format_count, format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from convmem.formats.pages.said import Part

_GIST_LETTERS = 160
# A result that is one line so long needs no fold.
_LINE_LETTERS = 100
# An argument that says best what a call does, whatever the tool is called.
_TELLING = ("command", "cmd", "file_path", "path", "notebook_path", "pattern", "query", "url")
_TOLD = ("subject", "title", "summary", "description")
_OLD = ("old_string", "old_str")
_NEW = ("new_string", "new_str")


class Calls:
    """Which tool was called under which id, and in which turn: of the last thousand calls."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, str]] = {}

    def note(self, call: Call, anchor: str) -> None:
        """Remember a call."""
        if call.id and len(call.id) <= 200:
            self._known[call.id] = visible_line(call.name)[:80], anchor
            if len(self._known) > 1000:
                del self._known[next(iter(self._known))]

    def of(self, result: Result) -> tuple[str, str]:
        """Return the name and the anchor of the call that *result* answers, or nothing."""
        name, anchor = self._known.pop(result.call_id, ("", ""))
        return visible_line(result.name)[:80] or name, anchor


def part_html(part: Part, calls: Calls, anchor: str) -> Iterator[str]:
    """Yield one part of the turn at *anchor* as HTML."""
    if isinstance(part, Text):
        yield _output(part.text) if part.is_output else _text(part.text)
    elif isinstance(part, Thought):
        yield _thought(part)
    elif isinstance(part, Call):
        calls.note(part, anchor)
        yield _call(part)
    elif isinstance(part, Result):
        yield from _result(part, calls)
    elif isinstance(part, Medium):
        yield _medium(part)
    else:
        yield _other(part)


def gist(text: str) -> str:
    """Return the first line of *text* that says anything, cut where it is long."""
    start = text[: 20 * _GIST_LETTERS].strip()
    line = visible_line(without_colours(start.partition("\n")[0]))
    return line if len(line) <= _GIST_LETTERS else f"{line[: _GIST_LETTERS - 1]}…"


def _fold(kind: str, what: str, told: str, inside: str, *, size: str = "", of: str = "") -> str:
    """Return *inside* (HTML) folded; *of* is HTML, the rest is text."""
    return (
        f'<details class="{kind}"><summary><span class="what">{escape(what)}</span>{of}'
        + (f' <span class="gist">{escape(told)}</span>' if told else "")
        + (f' <span class="size">{escape(size)}</span>' if size else "")
        + f"</summary>\n{inside}</details>\n"
    )


# --- text --------------------------------------------------------------------------------------


def _text(text: str) -> str:
    if len(text) > html_text.MAX_LETTERS:
        return _fold("long", "Long text", gist(text), _plain(visible(text)), size=_size(text))
    return f'<div class="text" dir="auto">\n{html_text.to_html(visible(text))}</div>\n'


def _plain(text: str) -> str:
    # The newline after the tag is the tag's own: one that begins the text would be lost.
    return f'<pre class="plain" dir="auto">\n{escape(text)}</pre>\n'


def _output(text: str) -> str:
    return (
        f'<pre class="output" dir="auto">\n{escape(visible_output(text).rstrip(_NEWLINE))}</pre>\n'
    )


_NEWLINE = "\n"


def _size(text: str) -> str:
    lines = text.count("\n") + (not text.endswith("\n"))
    if len(text) < 2000:
        return format_count(lines, "line") if lines > 1 else ""
    return f"{format_count(lines, 'line')}, {format_size(len(text.encode(errors='replace')))}"


def _thought(part: Thought) -> str:
    if not part.text.strip():
        return ""
    inside = _text(part.text)
    return _fold("thought", "Thinking", gist(part.text), inside, size=_size(part.text))


# --- tools -------------------------------------------------------------------------------------


def _call(part: Call) -> str:
    name = visible_line(part.name)[:200]
    given = part.given
    if given is None or given == {} or given == "":
        return f'<p class="call"><span class="what">{escape(name)}</span></p>\n'
    if isinstance(given, dict):
        return _fold("call", name, _told(given), "".join(_arguments(given)))
    if isinstance(given, str):
        inside = html_code.block(visible(given), "", label="input")
        return _fold("call", name, gist(given), inside)
    return _fold("call", name, gist(one_line(given)), _json(given))


def _told(given: dict[str, Any]) -> str:
    for key in (*_TELLING, *_TOLD):
        found = given.get(key)
        if isinstance(found, str) and found.strip():
            return gist(found)
        if isinstance(found, list) and found and all(isinstance(each, str) for each in found):
            return gist(" ".join(found[:40]))
    told = []
    for key, value in list(given.items())[:4]:
        if isinstance(value, str | int | float) and value != "":
            shown = value[:_GIST_LETTERS] if isinstance(value, str) else one_line(value)
            told.append(f"{key[:40]} {shown}")
    return gist(", ".join(told))


def _arguments(given: dict[str, Any]) -> Iterator[str]:
    yield '<dl class="given">\n'
    path = next((given[key] for key in _TELLING[2:5] if isinstance(given.get(key), str)), "")
    old = next((key for key in _OLD if isinstance(given.get(key), str)), "")
    new = next((key for key in _NEW if isinstance(given.get(key), str)), "")
    for key, value in given.items():
        if old and new and key == new:
            continue
        if old and new and key == old:
            yield f"<dt>change</dt><dd>{_change(given[old], given[new])}</dd>\n"
            continue
        yield f"<dt>{escape(visible_line(key))}</dt><dd>{_argument(key, value, path)}</dd>\n"
    yield "</dl>\n"


def _argument(key: str, value: Any, path: str) -> str:
    if not isinstance(value, str):
        text = pretty(value)
        if "\n" not in text and len(text) <= _LINE_LETTERS:
            return f"<code>{escape(visible(text))}</code>"
        return _json(value)
    text = visible(value).rstrip("\n")
    if key in ("command", "cmd"):
        return html_code.block(text, "sh")
    if "\n" not in text and len(text) <= _LINE_LETTERS:
        return escape(text) if key in _TOLD else f"<code>{escape(text)}</code>"
    if text.startswith("*** Begin Patch") or key in ("patch", "diff"):
        return html_code.block(text, "diff")
    if key == "code":
        return html_code.block(text, "python")
    if key in ("content", "contents", "new_source", "file_text") and path:
        return html_code.block(text, html_code.language_of_file(path))
    return _plain(text)


def _change(old: str, new: str) -> str:
    """Return what an edit took out and put in, as a difference."""
    lines = [
        f'<span class="{kind}">{sign} {escape(line)}</span>'
        for kind, sign, text in (("d", "-", old), ("i", "+", new))
        if text
        for line in visible(text).removesuffix("\n").split("\n")
    ]
    return f'<div class="code"><pre class="change"><code>{_NEWLINE.join(lines)}</code></pre></div>'


def _result(part: Result, calls: Calls) -> Iterator[str]:
    name, anchor = calls.of(part)
    what = "Failed" if part.has_failed else "Result"
    of = ""
    if name:
        shown = f"{what} of {name}"
        of = f' <a class="of" href="#{anchor}" title="{escape(shown)}">{escape(name)}</a>'
        if not anchor:
            of = f' <span class="of">{escape(name)}</span>'
    kind = "result failed" if part.has_failed else "result"
    pictures = [each for each in part.parts if isinstance(each, Medium) and each.base64]
    rest = [each for each in part.parts if each not in pictures]
    first = rest[0] if rest else None
    told = gist(first.text) if isinstance(first, Text) else ""
    texts = [each.text for each in rest if isinstance(each, Text)]
    if len(rest) == len(texts) <= 1:
        text = visible_output("".join(texts)).strip()
        if "\n" not in text and len(text) <= _LINE_LETTERS:
            shown = f'<span class="line">{escape(text)}</span>' if text else "<i>nothing</i>"
            if text or not pictures:
                yield f'<p class="{kind}"><span class="what">{what}</span>{of} {shown}</p>\n'
            rest = []
    if rest:
        inside = "".join(piece for each in rest for piece in part_html(each, calls, anchor))
        if not told and not isinstance(first, Text):
            told = gist(one_line(first.value)) if isinstance(first, Other) else ""
        size = _size("\n".join(texts)) if texts else ""
        yield _fold(kind, what, told, inside, size=size, of=of)
    # What a tool drew is worth more than a line that says so.
    for each in pictures:
        yield _medium(each)


# --- pictures, files, all else -----------------------------------------------------------------


def _medium(part: Medium) -> str:
    title = visible_line(part.title)
    kind = visible_line(part.media_type)[:100] or part.kind
    if part.text:
        told = title or gist(part.text)
        return _fold("file", part.kind.capitalize(), told, _plain(visible(part.text)))
    if part.base64:
        shown = picture(part.base64, title) if part.kind == "image" else ""
        if shown:
            caption = f"<figcaption>{escape(title)}</figcaption>" if title else ""
            return f"<figure>{shown}{caption}</figure>\n"
        return f'<p class="file">{saved(part.base64, kind, title)}</p>\n'
    place = visible_line(part.place)
    label = f"{part.kind.capitalize()}{f', {title}' if title else ''}, not in this page:"
    return f'<p class="file">{escape(label)} {html_text.link(place, place)}</p>\n'


def _other(part: Other) -> str:
    value = part.value
    kind = value.get("type") if isinstance(value, dict) else None
    what = visible_line(kind)[:60] if isinstance(kind, str) else "JSON"
    text = pretty(value)
    if "\n" not in text and len(text) <= _LINE_LETTERS:
        return f'<p class="other"><code>{escape(visible(text))}</code></p>\n'
    return _fold("other", what, gist(one_line(value)[:1000]), _json(value))


def _json(value: Any) -> str:
    return html_code.block(visible(pretty(value)), "json", label="json")
