"""The page around the turns: its policy, its bar with search and filters, its head and foot."""

from __future__ import annotations

import base64
import hashlib
from html import escape

from convmem.formats.pages.html_script import SCRIPT
from convmem.formats.pages.html_style import STYLE
from convmem.formats.pages.visible import visible_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.formats.heads import Head


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src {_hash(SCRIPT)}",
        f"style-src {_hash(STYLE)}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""What a browser lets the page do: run this script, use this style, show pictures it carries."""

_BAR = """\
<div id="bar" class="bar" role="search" hidden>
<label class="find"><span class="apart">Search this conversation</span>\
<input id="find" type="search" placeholder="Search" autocomplete="off" spellcheck="false" \
enterkeyhint="search" aria-keyshortcuts="/"></label>
<output id="count" for="find" aria-live="polite"></output>
<span class="group hits"><button id="prev" type="button" aria-label="Previous hit" \
title="Previous hit (Shift+Enter)">↑</button>\
<button id="next" type="button" aria-label="Next hit" title="Next hit (Enter)">↓</button>\
<button id="only" type="button" aria-pressed="false" title="Show only turns with hits">Only hits\
</button></span>
<span id="roles" class="group" role="group" aria-label="Show"></span>
<span class="group end"><button id="open" type="button" aria-pressed="false" \
title="Unfold all tool calls, results and thoughts">Unfold</button>\
<button id="theme" type="button" aria-label="Light or dark">◐</button></span>
</div>
"""


def top(head: Head) -> str:
    """Return the page up to its first turn."""
    name = escape(visible_line(head.name))
    told = f"Conversation <code>{escape(visible_line(head.continuation_id))}</code>"
    if head.namespace not in ("", "default"):
        told += f" in <code>{escape(visible_line(head.namespace))}</code>"
    return (
        "<!doctype html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{name}</title>\n"
        f"<style>{STYLE}</style>\n"
        "</head>\n<body>\n"
        '<a class="apart skip" href="#turns">To the conversation</a>\n'
        f"{_BAR}"
        '<nav id="outline" aria-label="What the user said" hidden></nav>\n'
        f'<header class="top"><h1 dir="auto">{name}</h1>\n'
        f"<p>{told}. Times are in UTC.</p></header>\n"
        '<main id="turns" lang="">\n'
    )


def foot(told: str) -> str:
    """Return the page after its last turn."""
    return (
        f'</main>\n<footer class="foot"><p>{escape(told)}</p></footer>\n'
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
