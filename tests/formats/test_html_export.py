"""Conversations as HTML pages: whole, safe, the same every time."""

from __future__ import annotations

import base64
import hashlib
import re
import tracemalloc
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convmem.formats.heads import Head
from convmem.formats.pages import html
from convmem.formats.pages.html_code import LANGUAGES, coloured
from convmem.turns import Turn

WHEN = datetime(2026, 4, 18, 13, 18, 42, tzinfo=UTC)
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def said(content, role="assistant", **more) -> Turn:
    more.setdefault("ts", WHEN)
    return Turn(role, content, **more)


def page_of(*turns: Turn, head: Head | None = None) -> str:
    return b"".join(html.write(head or Head("c1", "default"), iter(turns))).decode()


class Page(HTMLParser):
    """What a browser makes of the page: its elements, its text, what is wrong with its nesting."""

    VOID = frozenset("meta img br input hr".split())

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.comments: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_comment(self, data):
        self.comments.append(data)

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


ALLOWED = frozenset(
    "html head meta title style body a div label span input output button nav header h1 h2 h3 h4 "
    "h5 h6 p main article time details summary pre code footer script ul ol li blockquote hr em "
    "strong s table thead tbody tr th td br img figure figcaption dl dt dd i".split()
)
ATTRIBUTES = frozenset(
    "lang charset http-equiv content name id class role hidden type placeholder autocomplete "
    "spellcheck enterkeyhint aria-keyshortcuts for aria-live aria-label aria-pressed title href "
    "dir data-role data-lang datetime target rel src alt loading decoding download start".split()
)


def safe_page(text: str) -> Page:
    """Parse a page, and hold it to what a page may be."""
    page = Page(text)
    assert not page.wrong and not page.open and not page.comments
    for tag, attrs in page.elements:
        assert tag in ALLOWED, tag
        assert not set(attrs) - ATTRIBUTES, (tag, attrs)
        link = attrs.get("href")
        if link is not None:
            assert re.match(
                r"https?://|mailto:|#[tn]|data:application/octet-stream;base64,", link, re.I
            )
            if link.startswith("data:"):
                assert "download" in attrs
            if not link.startswith(("#", "data:")):
                assert attrs["rel"] == "noopener noreferrer"
        if "src" in attrs:
            assert re.fullmatch(r"data:image/(png|jpeg|gif|webp);base64,[\w+/=]+", attrs["src"])
        assert re.fullmatch(r"[tn]\d+|[a-z]+", attrs.get("id", "none"))
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert [tag for tag, _ in page.elements].count("style") == 1
    return page


HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style></title></main></article><img src=x onerror=alert(1)>",
    "<!-- <![CDATA[ <?php --!> -->",
    "[x](javascript:alert(1)) [y](JaVaScRiPt:alert(1)) [z](&#106;avascript:alert(1))",
    "[d](data:text/html;base64,PHNjcmlwdD4=) ![s](data:image/svg+xml;base64,PHN2Zz4=)",
    '[t](http://e.org "\\" onmouseover=alert(1) x=\\"") <http://e.org/"onclick=alert(1)>',
    'http://e.org/"onmouseover="alert(1) http://e.org/<script>',
    "![x](http://e.org/track.png) ![a](javascript:alert(1))",
    '```html"onload=alert(1)\n</code></pre><script>alert(1)</script>\n```',
    "a\u2028b\u2029c\x00d\x0be\x85f\u202eg\u2066h\ufffei\ud800j\U000e0041k",
    '|a|\n|:-:" style=x|\n|<b>|\n\n| a |\n|:-:|\n| `|` <b> |',
    '<style>*{display:none}</style> style="color:red" {{7*7}} ${alert(1)} `${1}`',
    "*" * 3000 + "_" * 3000,
    "[" * 5000,
    "> " * 2000 + "x",
    "- " * 2000 + "x",
    "&lt;script&gt; &#60;script&#62; &amp;",
    "[x]: javascript:alert(1)\n\n[x]",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_that_is_said_becomes_more_than_text(text):
    """Whoever opens the page would run it with all that the browser knows of them."""
    block = {"type": text, "text": text, text: text}
    page = safe_page(
        page_of(
            said(text, role="user"),
            said(text, role=text[:64]),
            said(text, role="tool"),
            said([{"type": "text", "text": text}, {"type": "thinking", "thinking": text}]),
            said([{"type": "tool_use", "id": text, "name": text, "input": {text: text, "a": 1}}]),
            said([{"type": "tool_use", "id": text, "name": "Edit", "input": {"command": text}}]),
            said([{"type": "tool_use", "name": "E", "input": {"old_str": text, "new_str": text}}]),
            said([{"type": "tool_result", "tool_use_id": text, "content": text}], role="tool"),
            said([{"type": "image", "source": {"media_type": text, "data": text}}, block]),
            said([{"type": "document", "title": text, "source": {"data": "QUJD"}}]),
            said([{"type": "image_url", "image_url": {"url": text}}]),
            said("", role="event", meta={"copied": {"from": text, "ids": [text]}}),
            said("x", meta={"model": text, "agent": text, "active": False}),
            head=Head(text, text, text),
        )
    )
    letters = [each for each in text[:200] if each.isalnum() and each.isascii()]
    assert not [each for each in set(letters) if each not in page.text]


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=30),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    "type text content source data input name id tool_use_id url".split()
                )
                | st.text(max_size=5),
                inner
                | st.sampled_from(
                    "text tool_use tool_result image thinking document base64".split()
                ),
                max_size=6,
            )
        ),
        max_leaves=25,
    ),
    st.sampled_from(["user", "assistant", "tool", "system", "x<y"]),
)
def test_any_json_at_all_makes_a_page(content, role):
    """Ten formats that change without notice: whatever they send, the export must not fail."""
    safe_page(page_of(said(content, role=role)))


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="a <>&\"'`*_[]()!#|-\n\\:/=~h{}", max_size=80))
def test_any_text_makes_a_page_that_has_all_its_letters(text):
    """Markdown that swallows a word makes a record false."""
    page = safe_page(page_of(said(f"Before {text}\n\nafter")))
    assert page.text.count("a") >= text.count("a")
    assert page.text.count("h") >= text.count("h")


def test_the_policy_lets_this_script_run_and_no_other():
    """A mistake anywhere else must not be enough to run a stranger's script."""
    text = page_of(said("x"))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy and "http" not in policy
    for tag in ("script", "style"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert text.index("Content-Security-Policy") < text.index("<title>")
    assert "src=" not in text and not re.search(r"url\(|@import|innerHTML|eval\(", text)


def test_a_turn_has_its_place_its_time_and_its_speaker():
    """Links into a page must still lead to the same words after a filter."""
    text = page_of(
        said("Hi", role="user", seq=17),
        said("Yes", seq=20, meta={"model": "m-1"}),
        said("Again", seq=20, meta={"model": "m-1"}),
        said("None"),
        head=Head("c1", "work", "A talk"),
    )
    ids = [attrs["id"] for tag, attrs in Page(text).elements if tag == "article"]
    assert ids == ["t17", "t20", "n3", "n4"]
    assert '<time datetime="2026-04-18">Saturday, 18 April 2026</time>' in text
    assert '<time datetime="2026-04-18T13:18:42Z">13:18:42</time>' in text
    assert text.count("m-1") == 1
    assert "<title>A talk</title>" in text and "<code>work</code>" in text
    assert "4 turns" in text


def test_text_is_laid_out_and_code_is_coloured():
    """It is read by people, for whom Markdown was written."""
    text = page_of(
        said(
            "# Big\n\nOne\ntwo **bold** `x<y` https://e.org/a.\n\n```python\ndef f(): pass\n```\n\n"
            "| a | b |\n|:-:|--:|\n| 1 | 2 |\n\n3. three"
        )
    )
    for piece in (
        "<h3>Big</h3>",
        "One<br>\ntwo <strong>bold</strong> <code>x&lt;y</code>",
        '<a href="https://e.org/a" target="_blank" rel="noopener noreferrer">https://e.org/a</a>.',
        'data-lang="python"><pre>\n<code><span class="k">def</span> <span class="f">f</span>',
        '<th class="center">a</th>',
        '<ol start="3">',
    ):
        assert piece in text


def test_calls_know_their_results_and_edits_are_shown_as_changes():
    """Half of an agent's conversation is these; they must be readable folded and unfolded."""
    text = page_of(
        said(
            [
                {"type": "tool_use", "id": "a", "name": "Bash", "input": {"command": "ls -l\npwd"}},
                {
                    "type": "tool_use",
                    "id": "b",
                    "name": "Edit",
                    "input": {"file_path": "x.py", "old_string": "a\nb", "new_string": "c"},
                },
            ],
            seq=4,
        ),
        said(
            [
                {"type": "tool_result", "tool_use_id": "b", "content": "no\nway", "is_error": True},
                {"type": "tool_result", "tool_use_id": "a", "content": "total 0"},
            ],
            role="tool",
        ),
    )
    assert '<span class="what">Bash</span> <span class="gist">ls -l</span>' in text
    assert (
        '<span class="d">- a</span>\n<span class="d">- b</span>\n<span class="i">+ c</span>' in text
    )
    assert '<details class="result failed"><summary><span class="what">Failed</span>' in text
    assert '<a class="of" href="#t4" title="Failed of Edit">Edit</a>' in text
    assert '<span class="line">total 0</span>' in text


def test_pictures_are_shown_only_where_they_can_only_be_pictures():
    """An image in SVG is a document with scripts, and one from afar tells that it was read."""

    def image(kind: str, data: str) -> dict:
        source = {"type": "base64", "media_type": kind, "data": data}
        return {"type": "image", "source": source}

    svg = base64.b64encode(b"<svg onload=alert(1)></svg>").decode()
    text = page_of(
        said(
            [
                image("image/png", PNG),
                image("image/svg+xml", svg),
                image("image/png", svg),
                image("image/png", 'x" onerror="alert(1)'),
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                {"type": "image_url", "image_url": {"url": "https://e.org/cat.png"}},
                {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
            ]
        )
    )
    page = safe_page(text)
    assert [tag for tag, _ in page.elements].count("img") == 2
    saved = [attrs for _, attrs in page.elements if "download" in attrs]
    assert [attrs["href"].partition(",")[2] for attrs in saved] == [svg, svg]
    assert "https://e.org/cat.png" in page.text and "file_1" in page.text


def test_what_hides_is_shown_and_colours_of_terminals_are_left_out():
    """A name that turns its direction reads as another."""
    text = page_of(said("a\u202eb\x07c\u200fd"), said("\x1b[1;31mred\x1b[0m\nx", role="tool"))
    assert "a⟨U+202E⟩b⟨U+0007⟩c\u200fd" in text
    assert "\nred\nx</pre>" in text and "\x1b" not in text


def test_a_line_of_five_megabytes_is_kept_whole_and_folded():
    """Somebody pasted it; a page that lays it out would not open."""
    line = "x *y* " * 900_000
    text = page_of(said(line))
    assert line.strip() in text
    assert '<details class="long">' in text


def test_unknown_blocks_events_and_thoughts_are_told():
    """What is left out is counted; what is not known is shown."""
    text = page_of(
        said([{"type": "zebra", "stripes": list(range(60))}]),
        said("", role="event"),
        said([{"type": "thinking", "thinking": "", "signature": "x"}]),
        said("", role="event", meta={"copied": {"from": "other", "ids": ["a", "b"]}}),
        Turn("system", "Gist.", extra={"summary": {"first_seq": 1, "last_seq": 9, "turns": 9}}),
    )
    page = safe_page(text)
    assert "59" in page.text and "zebra" in page.text
    assert "2 turns, in other" in page.text
    assert "Summary" in page.text and "of turns 1 to 9" in page.text
    assert "3 turns, 1 event left out, 1 thought of which no text was kept" in page.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_colouring_keeps_every_letter(language):
    """The language is the stranger's choice, and whatever it is, the code must be the code."""
    texts = (
        "<b>&'\"\\\n" * 40,
        "\n\n  x\t\n",
        "'" * 3001,
        "/*" * 99,
        "a=1;" * 99,
        '"""',
        "+a\n-b\n@@",
    )
    for text in texts:
        assert Page(coloured(text, language)).text == text


def test_colouring_names_what_it_found():
    """A colour that means nothing is worse than none."""
    shown = coloured('def f(x):  # why\n    return \'a\' + """b\nc""" + 12', "python")
    assert shown == (
        '<span class="k">def</span> <span class="f">f</span>(x):  <span class="c"># why</span>\n'
        '    <span class="k">return</span> <span class="s">&#x27;a&#x27;</span> + '
        '<span class="s">&quot;&quot;&quot;b\nc&quot;&quot;&quot;</span> + '
        '<span class="n">12</span>'
    )
    assert coloured("echo a#b", "sh") == '<span class="k">echo</span> a#b'
    assert coloured('{"a": null}', "json").count("span class") == 2


def test_memory_follows_the_longest_turn_not_the_conversation():
    """A conversation of a gigabyte must export on a small machine."""

    def peak(count: int) -> int:
        turns = (
            said(
                [{"type": "tool_use", "id": f"i{number}", "name": "T", "input": {"a": "b " * 400}}]
            )
            for number in range(count)
        )
        tracemalloc.start()
        for _ in html.write(Head("c", "n"), turns):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(5)
    assert peak(4000) < peak(1100) + 100_000
