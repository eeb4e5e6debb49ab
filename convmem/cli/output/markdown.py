"""Markdown as lines for a terminal, with rich. Whatever it cannot show whole is left to others.

Markdown in a conversation is a stranger's, and often none at all: raw HTML, link definitions and
entities are shown as they stand, links with where they lead. What comes out is compared with what
went in, letter by letter: a text of which something would vanish is not laid out.
"""

from __future__ import annotations

import io
import re
import signal
from collections import Counter

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console
from rich.markdown import Markdown
from rich.theme import Theme

from convmem.cli.output.markdown_blocks import BLOCKS
from convmem.cli.output.safe import safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from markdown_it.rules_inline import StateInline

    from convmem.cli.output.terminal import Terminal

# Beyond these a text is shown as it is: laying out costs a hundred times what reading does.
_MAX_LETTERS = 64 * 1024
_PATIENCE_SECONDS = 2.0

# A text without any of these is the same as Markdown and as text.
_MARKS = re.compile(r"[`*_#>|~\[\]<\\]|^ *[-+=]|^ *\d+[.)]|^    |^\t|  $", re.M)
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")

# Sixteen colours, and none behind the text: the reader's own, on dark and on light.
_THEME = Theme(
    {
        "markdown.h1": "bold underline",
        "markdown.h2": "bold underline",
        "markdown.h3": "bold",
        "markdown.h4": "bold",
        "markdown.h5": "bold italic",
        "markdown.h6": "italic",
        "markdown.code": "cyan",
        "markdown.code_block": "none",
        "markdown.block_quote": "dim",
        "markdown.hr": "dim",
        "markdown.item.bullet": "bold",
        "markdown.item.number": "bold",
        "markdown.table.header": "bold",
        "markdown.table.border": "dim",
    }
)


class MarkdownRenderer:
    """Turns Markdown into lines. Call it with a text and a width; `None` is "show it as it is"."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._parser = _parser()

    def __call__(self, text: str, width: int) -> list[str] | None:
        """Return the lines that *text* makes, or ``None`` where it is better shown as it is."""
        if len(text) > _MAX_LETTERS or not _MARKS.search(text):
            return None
        text = safe(text)
        try:
            with _Deadline(_PATIENCE_SECONDS):
                shown = self._shown(text, width)
        except Exception:  # noqa: BLE001 - a mistake in the lay-out must not hide what was said
            return None
        except _TooSlowError:
            return None
        lines = [line.rstrip() for line in _only_colours(shown).split("\n")]
        while lines and not lines[-1]:
            lines.pop()
        return lines if _has_all(text, shown) else None

    def _shown(self, text: str, width: int) -> str:
        out = io.StringIO()
        Console(
            file=out,
            width=width,
            height=1000,
            force_terminal=True,
            force_interactive=False,
            color_system="standard" if self._terminal.has_styles else None,
            no_color=not self._terminal.has_colours,
            legacy_windows=False,
            theme=_THEME,
            markup=False,
            emoji=False,
            highlight=False,
            _environ={},
        ).print(_Chat(self._parser, text))
        return out.getvalue()


# --- parsing -----------------------------------------------------------------------------------


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False})
    parser.enable(["table", "strikethrough"])
    # Definitions of links would vanish, entities could become any letter.
    parser.disable(["reference", "entity"])
    parser.inline.ruler.at("newline", _line_end)
    # Addresses as they were written, not as a browser would ask for them.
    vars(parser).update(normalizeLink=_unchanged, normalizeLinkText=_unchanged)
    return parser


def _line_end(state: StateInline, silent: bool) -> bool:
    """A rule for the parser: a line ends where it was ended, and the next keeps its indent."""
    if state.src[state.pos] != "\n":
        return False
    state.pos += 1
    if not silent:
        state.pending = state.pending.rstrip(" ")
        state.push("hardbreak", "br", 0)
    return True


def _unchanged(url: str) -> str:
    return url


def _readable(tokens: list[Token]) -> list[Token]:
    """Say where links and pictures lead."""
    made: list[Token] = []
    leads: list[str] = []
    for token in tokens:
        if token.type == "image":
            title = f' "{token.attrs["title"]}"' if token.attrs.get("title") else ""
            token = _text(f"![{token.content}]({token.attrs['src']}{title})")
        elif token.type == "link_open":
            title = f' "{token.attrs["title"]}"' if token.attrs.get("title") else ""
            leads.append("" if token.markup == "autolink" else f" ({token.attrs['href']}{title})")
            token = Token("em_open", "em", 1)
        elif token.type == "link_close":
            made.append(Token("em_close", "em", -1))
            token = _text(leads.pop())
        elif token.children:
            token.children = _readable(token.children)
        made.append(token)
    return made


def _text(content: str) -> Token:
    token = Token("text", "", 0)
    token.content = content
    return token


class _Chat(Markdown):
    """Markdown as it is written in conversations."""

    elements = {**Markdown.elements, **BLOCKS}  # noqa: RUF012 - as rich has it

    def __init__(self, parser: MarkdownIt, text: str) -> None:
        super().__init__("", hyperlinks=False)
        self.markup = text
        self.parsed = _readable(parser.parse(text))


# --- safety ------------------------------------------------------------------------------------


def _only_colours(shown: str) -> str:
    """Let nothing but letters and colours through, whatever Markdown may have decoded."""
    pieces = _COLOUR.split(shown)
    pieces[::2] = [safe(piece) for piece in pieces[::2]]
    return "".join(pieces)


def _has_all(text: str, shown: str) -> bool:
    """Whether every letter and digit of *text* is shown as often as it was written."""
    return not _letters(text) - _letters(_COLOUR.sub("", shown))


def _letters(text: str) -> Counter[str]:
    found = Counter(text)
    return Counter({letter: count for letter, count in found.items() if letter.isalnum()})


class _TooSlowError(BaseException):
    """The text takes too long; not an `Exception`, so that nobody on the way catches it."""


class _Deadline:
    """Ends what runs within it after so many seconds, by an alarm."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *error: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)


def _ring(number: int, frame: FrameType | None) -> None:
    raise _TooSlowError
