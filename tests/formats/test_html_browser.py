"""The page in a real browser: nothing of a stranger's runs or loads, and what it promises works."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from chromium import Browser, find
from test_html_export import HOSTILE, PNG, said

from convmem.formats.heads import Head
from convmem.formats.pages import html
from convmem.turns import Turn

pytestmark = pytest.mark.skipif(find() is None, reason="needs chromium")

START = datetime(2026, 4, 18, 9, tzinfo=UTC)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.size(1400, 900)
        yield opened


@pytest.fixture
def show(browser, tmp_path):
    def show(*turns: Turn, head: Head | None = None, fragment: str = "") -> Browser:
        path = tmp_path / "page.html"
        path.write_bytes(b"".join(html.write(head or Head("c1", "n", "A talk"), iter(turns))))
        browser.open(path, fragment=fragment)
        return browser

    return show


def talk(count: int) -> list[Turn]:
    words = ["An apple a day.", "Pears `and apples`.", "Nothing of the kind."]
    return [
        Turn(
            ("user", "assistant", "assistant")[number % 3],
            f"{words[number % 3]} Number {number}.",
            seq=number + 1,
            ts=START + timedelta(seconds=number),
        )
        for number in range(count)
    ]


def look_for(browser: Browser, word: str) -> None:
    script = f"find.value = {json.dumps(word)}; find.dispatchEvent(new Event('input'))"
    browser.run(f"{{ const find = document.getElementById('find'); {script} }}")


def of_fold(text: str) -> list[dict]:
    return [
        {"type": "thinking", "thinking": f"First line\n\n{text}"},
        {"type": "text", "text": "x"},
    ]


ATTACKS = [
    *HOSTILE,
    "<script>document.title='ran'</script>",
    "</script><script>document.title='ran'</script>",
    "<img src=x onerror=\"document.title='ran'\">",
    "<svg onload=\"document.title='ran'\">",
    "<iframe srcdoc=\"<script>parent.document.title='ran'</script>\"></iframe>",
    "<link rel=stylesheet href=http://127.0.0.1:9/x.css><base href=http://127.0.0.1:9/>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
    "![x](http://127.0.0.1:9/x.png) <form action=http://127.0.0.1:9/><button>",
    "[x](javascript:document.title='ran')",
]


def test_no_script_of_a_strangers_runs_and_nothing_is_loaded(show):
    """The page is opened by somebody who is logged in everywhere."""
    turns = [
        turn
        for text in ATTACKS
        for turn in (
            said(text, role="user"),
            said(text, role=text[:60] or "x"),
            said(of_fold(text)),
            said([{"type": "tool_use", "id": text, "name": text, "input": {text: text}}]),
            said([{"type": "tool_result", "tool_use_id": text, "content": text}], role="tool"),
            said([{"type": "document", "title": text, "source": {"data": "QUJD"}}]),
            said([{"type": "image_url", "image_url": {"url": text}}, {"type": text, "x": text}]),
        )
    ]
    browser = show(*turns, head=Head(ATTACKS[1], ATTACKS[0], "Title </title><script>"))
    browser.run("document.getElementById('open').click()")
    protocols = "[...new Set([...document.links].map(a => a.protocol))].sort().join()"
    assert browser.run(protocols) == "data:,file:,http:"
    assert browser.run("document.querySelectorAll('a[href^=data]:not([download])').length") == 0
    browser.settle()
    assert browser.run("document.title") == "Title </title><script>"
    assert browser.complaints() == []
    asked = [each for each in browser.requests() if not each.startswith(("file:", "data:image/"))]
    assert asked == []
    assert browser.run("document.scripts.length") == 1
    assert browser.run("document.querySelectorAll('main style, main img').length") == 0
    assert browser.run("document.querySelectorAll('article').length") == len(turns)


def test_the_policy_stops_what_would_get_past_everything_else(browser, tmp_path):
    """The negative control: the same attack, put into a finished page by hand."""
    data = b"".join(html.write(Head("c1", "n", "A talk"), iter(talk(1))))
    attack = (
        b"<script>document.title='ran'</script><img src=http://127.0.0.1:9/x.png>"
        b"<p onclick=\"document.title='ran'\" id=bait>x</p><style>body{display:none}</style></main>"
    )
    path = tmp_path / "broken.html"
    path.write_bytes(data.replace(b"</main>", attack))
    browser.open(path)
    browser.run("document.getElementById('bait').click()")
    assert browser.run("document.title") == "A talk"
    assert browser.run("getComputedStyle(document.body).display") == "block"
    assert len([each for each in browser.complaints() if "Content Security Policy" in each]) >= 4
    # Without its policy the same page does run it: the attack is one.
    policy = data[data.index(b"<meta http-equiv") : data.index(b'<meta name="viewport"')]
    path.write_bytes(data.replace(b"</main>", attack).replace(policy, b""))
    browser.open(path)
    assert browser.run("document.title") == "ran"


def test_the_search_counts_highlights_and_goes_from_hit_to_hit(show):
    """A conversation of a thousand turns is read by searching."""
    browser = show(*talk(300), said(of_fold("an apple inside"), seq=301))
    assert browser.run("document.getElementById('count').textContent") == ""
    browser.press("/")
    assert browser.run("document.activeElement.id") == "find"
    browser.type("apple")
    assert browser.until("count.textContent") == "201 hits"
    assert browser.run("CSS.highlights.get('hits').size") == 201
    browser.press("Enter")
    assert browser.run("count.textContent") == "1 of 201"
    browser.press("Enter", shift=True)
    assert browser.run("count.textContent") == "201 of 201"
    browser.settle()
    # The last one lies in a fold, three hundred turns down: it is unfolded and in sight.
    assert browser.run("document.querySelector('#t301 details').open") is True
    box = browser.run(
        "(() => { const b = [...CSS.highlights.get('now')][0].getBoundingClientRect();"
        " return [b.top, b.bottom, innerHeight, document.getElementById('bar').offsetHeight]; })()"
    )
    assert box[3] <= box[0] and box[1] <= box[2]
    assert browser.run("[...CSS.highlights.get('now')][0].toString()") == "apple"
    browser.press("Escape")
    assert browser.run("count.textContent + CSS.highlights.size") == "0"


def test_a_hit_may_lie_across_colours_and_the_pattern_is_plain_text(show):
    """People search for what they see: code too, and brackets."""
    browser = show(said("```python\ndef area(x): return x * [1][0]\n```"), said("a.b axb A.B"))
    for word, told in (
        ("def area(x)", "1 hit"),
        ("x * [1]", "1 hit"),
        ("a.b", "2 hits"),
        ("(", "1 hit"),
        ("\\", "no hits"),
        ("a-z", "no hits"),
    ):
        look_for(browser, word)
        assert browser.until(f"count.textContent === {json.dumps(told)}")


def test_roles_can_be_hidden_and_only_hits_be_shown(show):
    """Reading what was said, without the machinery."""
    browser = show(*talk(30), said("out", role="tool"))
    seen = "[...document.querySelectorAll('.turn')].filter(t => t.offsetParent).length"
    assert browser.run(seen) == 31
    names = "[...document.querySelectorAll('#roles button')].map(b => b.textContent).join()"
    assert browser.run(names) == "User,Assistant,Tools"
    browser.run("document.querySelector('#roles button:nth-child(2)').click()")
    assert browser.run(seen) == 11
    browser.run("document.querySelector('#roles button:nth-child(2)').click()")
    look_for(browser, "pears")
    browser.until("count.textContent === '10 hits'")
    browser.run("document.getElementById('only').click()")
    assert browser.run(seen) == 10


def test_light_and_dark_follow_the_reader_and_the_button(show):
    """Half of all readers read at night."""
    colour = "getComputedStyle(document.body).backgroundColor"
    browser = show(*talk(3))
    browser.run("localStorage.clear()")
    browser.prefer("light")
    light = browser.run(colour)
    browser.prefer("dark")
    dark = browser.run(colour)
    assert light != dark
    browser.run("document.getElementById('theme').click()")
    assert browser.run(colour) == light
    browser.run("localStorage.clear()")


CONTRAST = """(() => {
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255;
  return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
  return .2126 * r + .7152 * g + .0722 * b; };
const behind = (node) => { for (; node; node = node.parentElement) {
  const c = parse(getComputedStyle(node).backgroundColor);
  if (c.length < 4 || c[3] === 1) return c.slice(0, 3); } return [255, 255, 255]; };
const found = [];
const walker = document.createTreeWalker(document.body, 4);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || /SCRIPT|STYLE/.test(node.tagName)) continue;
  if (node.disabled || !node.checkVisibility({visibilityProperty: true})) continue;
  const a = light(parse(getComputedStyle(node).color).slice(0, 3)), b = light(behind(node));
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) found.push([ratio, node.tagName, node.className, node.textContent.slice(0, 20)]);
}
return found;
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_can_be_read(show, scheme):
    """WCAG asks for a contrast of 4.5 to 1, for eyes that are not young any more."""
    code = "```python\n# why\nclass A(int):\n    @x\n    def f(self): return 'a' + str(1)\n```"
    change = {"file_path": "a.py", "old_string": "old", "new_string": "new"}
    failed = {"type": "tool_result", "tool_use_id": "a", "content": "a\nb", "is_error": True}
    browser = show(
        said(f"# Head\n\n{code}\n\n> quoted\n\n[link](https://e.org)", role="user"),
        said(code, meta={"model": "m"}),
        said([{"type": "tool_use", "id": "a", "name": "Edit", "input": change}]),
        said([failed], role="tool"),
        said(of_fold("deep"), meta={"active": False}),
        said("Be brief.", role="system"),
        said("x", role="narrator"),
    )
    browser.prefer(scheme)
    browser.run("document.getElementById('open').click()")
    browser.settle()
    assert browser.run(CONTRAST) == []


def test_a_phone_shows_all_of_it_without_scrolling_sideways(show):
    """That is where things are read."""
    wide = "| " + " | ".join("column" for _ in range(20)) + " |\n|" + "-|" * 20
    browser = show(
        said(f"{'w' * 400}\n\n```\n{'c' * 400}\n```\n\n{wide}"),
        said("o" * 400 + "\nx", role="tool"),
        said([{"type": "tool_use", "name": "T" * 100, "input": {"k" * 90: "v" * 200}}]),
        head=Head("i" * 200, "n", "t" * 200),
    )
    browser.size(390, 844, is_phone=True)
    browser.run("document.getElementById('open').click()")
    browser.settle()
    width = browser.run("document.documentElement.scrollWidth")
    browser.size(1400, 900)
    assert width == 390


def test_pictures_are_painted_and_code_can_be_copied(show):
    """A screenshot is half of many questions."""
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    browser = show(
        said([{"type": "image", "source": source}], role="user"),
        said("```sh\necho 'a  b'\n```"),
    )
    browser.run("document.images[0].scrollIntoView(); document.images[0].decode()")
    assert browser.run("document.images[0].naturalWidth") == 1
    browser.run(
        "navigator.clipboard.writeText = async (text) => { window.got = text; };"
        "document.querySelector('.copy').click()"
    )
    assert browser.run("window.got") == "echo 'a  b'"
    assert browser.until("document.querySelector('.copy').textContent === 'Copied'")


def test_a_link_leads_to_its_turn_below_the_bar(show):
    """ "See the third answer" is how people talk about a page."""
    browser = show(*talk(400), fragment="#t350")
    browser.settle()
    top = browser.run("document.getElementById('t350').getBoundingClientRect().top")
    assert browser.run("document.getElementById('bar').offsetHeight") <= top < 400


def test_ten_thousand_turns_can_be_searched(show):
    """The longest conversations are those that one wants to search."""
    browser = show(*talk(10_000))
    browser.press("/")
    browser.type("number 9999")
    assert browser.until("count.textContent") == "1 hit"
    browser.press("Enter")
    browser.settle()
    box = browser.run("[...CSS.highlights.get('now')][0].getBoundingClientRect().top")
    assert 0 < box < 900
    look_for(browser, "e")
    assert browser.until("count.textContent.endsWith('+ hits') && count.textContent") == (
        "5,000+ hits"
    )


def test_without_script_the_page_still_reads(browser, tmp_path):
    """Some readers run none, and mail programs never do."""
    path = tmp_path / "page.html"
    path.write_bytes(b"".join(html.write(Head("c1", "n", "A talk"), iter(talk(5)))))
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(path, is_settled=False)
        shown = browser.run(
            "[document.getElementById('turns').textContent, document.getElementById('bar').hidden]"
        )
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert "An apple a day. Number 0." in shown[0] and shown[1] is True
