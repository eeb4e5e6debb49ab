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
from typing import cast

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich import box
from rich.console import Console
from rich.containers import Renderables
from rich.markdown import (
    BlockQuote,
    CodeBlock,
    Heading,
    HorizontalRule,
    ListElement,
    ListItem,
    Markdown,
    MarkdownElement,
    Paragraph,
    TableElement,
)
from rich.segment import Segment
from rich.style import Style
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from convmem.cli.output.safe import safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

    from markdown_it.rules_inline import StateInline
    from rich.console import ConsoleOptions, RenderableType, RenderResult

    from convmem.cli.output.terminal import Terminal

# Beyond these a text is shown as it is: laying out costs a hundred times what reading does.
_MAX_LETTERS = 64 * 1024
_MAX_CODE_LETTERS = 16 * 1024
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


# --- laying out --------------------------------------------------------------------------------


class _Title(Heading):
    """A heading at the left, without a frame."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        yield self.text


class _Code(CodeBlock):
    """Code under its language, in from the margin; coloured where that is cheap."""

    @classmethod
    def create(cls, markdown: Markdown, token: Token) -> _Code:
        made = cls("text", "ansi_dark")
        made.info = (token.info or "").strip()
        return made

    info = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.info:
            yield Text(self.info, style="dim")
        code = str(self.text).rstrip("\n").expandtabs(4)
        inner = options.update(width=max(1, options.max_width - 2))
        words = self.info.split()
        body: Syntax | Text = Text(code)
        if words and len(code) <= _MAX_CODE_LETTERS and options.max_width > 4:
            body = Syntax(
                code,
                words[0],
                theme="ansi_dark",
                word_wrap=True,
                background_color="default",
            )
        for line in console.render_lines(body, inner, pad=False):
            yield Segment("  ")
            yield from line
            yield Segment("\n")


class _List(ListElement):
    """A list, with the numbers that were written."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        marks = [getattr(item, "mark", "•") for item in self.items]
        room = max(map(len, marks), default=1) + 1
        for mark, item in zip(marks, self.items, strict=True):
            before = f"{mark.rjust(room - 1)} "
            for line in _stacked(item.elements, console, options, room, apart=(Paragraph,)):
                yield Segment(before, Style(bold=True))
                yield from line
                yield Segment("\n")
                before = " " * room


class _Item(ListItem):
    """An item, with its mark."""

    mark = "•"

    @classmethod
    def create(cls, markdown: Markdown, token: Token) -> _Item:
        made = cls()
        if token.info:
            made.mark = f"{token.info}{token.markup}"
        return made


class _Quote(BlockQuote):
    """A quotation, with a line at its left."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in _stacked(self.elements, console, options, 2, apart=(MarkdownElement,)):
            yield Segment("▌ ", Style(dim=True))
            yield from line
            yield Segment("\n")


class _Line(HorizontalRule):
    """A line from side to side."""

    new_line = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text("─" * options.max_width, style="dim")


def _stacked(
    elements: Renderables,
    console: Console,
    options: ConsoleOptions,
    less: int,
    *,
    apart: tuple[type[MarkdownElement], ...],
) -> Iterator[list[Segment]]:
    """Yield the lines of *elements*, *less* cells narrower; those *apart* after an empty line."""
    inner = options.update(width=max(1, options.max_width - less))
    for at, element in enumerate(cast("Iterable[RenderableType]", elements)):
        if at and isinstance(element, apart):
            yield []
        yield from console.render_lines(element, inner, pad=False)


class _Cells(TableElement):
    """A table; as it was written where the window is too narrow for one."""

    source = ""

    @classmethod
    def create(cls, markdown: Markdown, token: Token) -> _Cells:
        made = cls()
        if token.map is not None:
            made.source = "\n".join(markdown.markup.split("\n")[slice(*token.map)])
        return made

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        assert self.header is not None and self.header.row is not None
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, style="dim")
        heads = self.header.row.cells
        if options.max_width < 8 * len(heads):
            yield Text(self.source)
            return
        for cell in heads:
            justify = "left" if cell.justify == "default" else cell.justify
            table.add_column(
                Text.assemble(cell.content, style="bold"), justify=justify, overflow="fold"
            )
        for row in self.body.rows if self.body is not None else []:
            table.add_row(*(cell.content for cell in row.cells))
        yield table


class _Chat(Markdown):
    """Markdown as it is written in conversations."""

    elements = {  # noqa: RUF012 - as rich has it
        **Markdown.elements,
        "heading_open": _Title,
        "fence": _Code,
        "code_block": _Code,
        "bullet_list_open": _List,
        "ordered_list_open": _List,
        "list_item_open": _Item,
        "blockquote_open": _Quote,
        "hr": _Line,
        "table_open": _Cells,
    }

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
