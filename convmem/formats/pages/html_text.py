"""Markdown from strangers as HTML that can do nothing: no tags of theirs, links to the web only.

What would vanish or change in Markdown (definitions of links, entities, raw HTML) is shown as it
was written, and so is a link or a picture that leads anywhere but to the web.
"""

from __future__ import annotations

import re
from html import escape

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML

from convmem.formats.pages import html_code
from convmem.formats.pages.html_media import picture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from markdown_it.token import Token

MAX_LETTERS = 64 * 1024
"""Longer text is shown as it is: the worst that Markdown can be costs seconds at this length."""

_SAFE = re.compile(r"(?:https?://|mailto:)", re.I)
_BARE = re.compile(r"https?://[^\s<>\"'`⟨⟩]+", re.I)
# Text without any of these is the same as Markdown and as text.
_MARKS = re.compile(r"[`*_#>|~\[\]\\]|^ *[-+=]|^ *\d+[.)]|^    |^\t|  $|://", re.M)


def is_safe(address: str) -> bool:
    """Whether a link may lead there."""
    return _SAFE.match(address) is not None


def link(address: str, text: str) -> str:
    """Return a link, or its text alone where it leads where no link may; *text* is no HTML."""
    shown = escape(text)
    if not is_safe(address):
        return shown
    return f'<a href="{escape(address)}"{_APART}>{shown}</a>'


_APART = ' target="_blank" rel="noopener noreferrer"'


def to_html(text: str) -> str:
    """Return *text*, visible already, as HTML."""
    if not _MARKS.search(text):
        return "".join(
            f"<p>{'<br>'.join(escape(each).split(_NEWLINE))}</p>\n"
            for each in re.split(r"\n[ \t]*\n\s*", text.strip())
        )
    return str(_parser().render(text))


_NEWLINE = "\n"


class _Renderer(RendererHTML):
    """Writes tokens as HTML. Whatever has an attribute is written here, not by the library."""

    def text(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        content = tokens[idx].content
        if "://" not in content or env.get("in_link"):
            return escape(content)
        made, at = [], 0
        for found in _BARE.finditer(content):
            address = _trimmed(found[0])
            made += [escape(content[at : found.start()]), link(address, address)]
            at = found.start() + len(address)
        return "".join([*made, escape(content[at:])])

    def link_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        env["in_link"] = True
        attrs = tokens[idx].attrs
        title = f' title="{escape(str(attrs["title"]))}"' if attrs.get("title") else ""
        return f'<a href="{escape(str(attrs["href"]))}"{title}{_APART}>'

    def link_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        env["in_link"] = False
        return "</a>"

    def image(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        token = tokens[idx]
        source, name = str(token.attrs["src"]), token.content
        if not is_safe(source):
            return picture(source.partition(",")[2], name) or escape(f"![{name}](…)")
        shown = f"image: {name or source}"
        return escape(shown) if env.get("in_link") else link(source, shown)

    def fence(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        token = tokens[idx]
        words = token.info.split()
        label = words[0][:40] if words else ""
        language = html_code.language_of(label)
        return html_code.block(token.content.removesuffix("\n"), language, label=label)

    def code_block(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return html_code.block(tokens[idx].content.removesuffix("\n"), "")

    def heading_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f"<{_lower(tokens[idx].tag)}>"

    def heading_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f"</{_lower(tokens[idx].tag)}>\n"

    def table_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return '<div class="table"><table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return "</table></div>\n"

    def th_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f"<{tokens[idx].tag}{_aligned(tokens[idx])}>"

    td_open = th_open


def _lower(tag: str) -> str:
    """Return the heading below the page's own: its title is the first, turns are the second."""
    return f"h{min(6, int(tag[1]) + 2)}"


def _aligned(token: Token) -> str:
    # A class, since the page's policy lets no style stand in a tag.
    side = str(token.attrs.get("style", "")).removeprefix("text-align:")
    return f' class="{side}"' if side in ("left", "center", "right") else ""


def _trimmed(address: str) -> str:
    """Return an address without what ends its sentence: a bracket that it opened itself stays."""
    end = len(address)
    surplus = address.count(")") - address.count("(")
    while end and address[end - 1] in ".,;:!?*_~)]}":
        if address[end - 1] == ")":
            if surplus <= 0:
                break
            surplus -= 1
        end -= 1
    return address[:end]


def _valid(address: str) -> bool:
    return is_safe(address) or address[:11].lower() == "data:image/"


_made: list[MarkdownIt] = []


def _parser() -> MarkdownIt:
    if not _made:
        parser = MarkdownIt(
            "commonmark", {"html": False, "breaks": True, "xhtmlOut": False}, renderer_cls=_Renderer
        )
        parser.enable(["table", "strikethrough"])
        # Definitions would vanish, entities could become any letter, and a line of dashes below
        # a sentence is nearly always meant as a line.
        parser.disable(["reference", "entity", "lheading"])
        vars(parser)["validateLink"] = _valid
        _made.append(parser)
    return _made[0]
