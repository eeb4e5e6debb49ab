"""The blocks of Markdown as rich draws them: headings, code, lists, quotations, tables.

Unlike rich's own they have no frames, keep the numbers that were written, and cut nothing off.
"""

from __future__ import annotations

from typing import cast

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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import ConsoleOptions, RenderableType, RenderResult

# Longer code is shown without colours: finding them costs more than all else.
_MAX_CODE_LETTERS = 16 * 1024


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


BLOCKS: dict[str, type[MarkdownElement]] = {
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
"""What draws each kind of token of the parser."""
