"""Conversations as Markdown: what is said reads as it was, and cannot leave its section."""

from __future__ import annotations

import re
import subprocess
import sys
import tracemalloc
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from convmem.formats.heads import Head
from convmem.formats.pages import markdown
from convmem.formats.pages.tame import MAX_LETTERS, code, fenced, inline, tame
from convmem.turns import Turn

WHEN = datetime(2026, 4, 18, 13, 18, 42, tzinfo=UTC)

# A viewer that obeys everything: raw HTML, pictures, tables.
VIEWER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def text_of(*turns: Turn, head: Head | None = None) -> str:
    return b"".join(markdown.write(head or Head("c1", "default"), iter(turns))).decode()


def said(content, role="assistant", **more) -> Turn:
    return Turn(role, content, ts=WHEN, **more)


def test_a_turn_is_a_section_with_its_time_and_its_words_as_they_are():
    """Whoever opens the file a year later wants to read it, not to decode it."""
    words = (
        "Two **ways**:\n\n1. `cp -a`\n2. see <https://example.org/a_b>\n\n```sh\necho '<b>'\n```"
    )
    assert text_of(said("Hi", role="user", seq=1), said(words, seq=2, meta={"model": "m-1"})) == (
        "# c1\n\nConversation `c1`. Times are in UTC.\n"
        "\n## User · 2026-04-18 13:18:42 · turn 1\n\nHi\n"
        f"\n## Assistant · 2026-04-18 13:18:42 · turn 2 · m-1\n\n{words}\n"
        "\n---\n\n*2 turns*\n"
    )


WORDS = """
` `` ``` ~~~ <b> <!-- --> <script> </details> - > 1. 2. + # ## === --- -- a [x] ]: | \\ ! [ * <? </
<![CDATA[ |`| \\` &lt; <http://a.b> http://a www.a.b ![i](u) <h1>x</h1> <a|href='`'>
"""
LINES = ["\n|-|-|\n", "|a|b|\n|-|-|\n|", "[x]: /u", "\n", "\n\n", " ", "    ", "\t", "  \n"]
STARTS = ["- ", "> ", "1. ", "2. ", "# ", "## ", "#\t"]
NASTY = st.lists(st.sampled_from(WORDS.split() + LINES + STARTS), max_size=16).map("".join)


@settings(max_examples=600, deadline=None)
@given(NASTY)
def test_nothing_that_is_said_can_leave_its_section(text):
    """A forged heading would put words into somebody's mouth; a comment would hide the rest."""
    document = f"# Title\n\n## one\n\n{tame(text)}\n\n## two\n\nend [x] here\n"
    tokens = VIEWER.parse(document)
    heads = [
        (each.level, each.tag)
        for each in tokens
        if each.type == "heading_open" and each.tag in ("h1", "h2")
    ]
    assert heads == [(0, "h1"), (0, "h2"), (0, "h2")]
    inner = [each for token in tokens for each in token.children or []]
    kinds = {each.type for each in (*tokens, *inner)}
    assert not kinds & {"html_block", "html_inline", "image"}
    assert "link_open" not in {each.type for each in tokens[-2].children}


def test_the_viewer_of_these_tests_does_obey():
    """A harness that would not see a forged heading shows nothing."""
    kinds = [
        each.type
        for text in ("a\n---", "<!-- x", "![i](u)", "[x]: /u\n\n[x]")
        for token in VIEWER.parse(text)
        for each in (token, *(token.children or []))
    ]
    assert {"heading_open", "html_block", "image", "link_open"} <= set(kinds)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("# Big\n\n###### Small", "### Big\n\n###### Small"),
        ("Title\n===", "Title\n\\==="),
        ("Above\n---\nbelow", "Above\n***\nbelow"),
        ("- item\n\n  ```py\n  if a < b: # x\n  ```", "- item\n\n  ```py\n  if a < b: # x\n  ```"),
        ("`List<int>` and List<int>", "`List<int>` and List\\<int>"),
        ("a \\<b>", "a \\<b>"),
        ("a \\\\<b>", "a \\\\\\<b>"),
        ("![x](http://e/)", "\\![x](http://e/)"),
        ("~~~\nopen", "~~~\nopen\n~~~"),
        ("a < b, c <= d", "a < b, c <= d"),
    ],
)
def test_only_what_reaches_further_is_changed(text, shown):
    """Every backslash more than is needed makes the file harder to read."""
    assert tame(text) == shown


def test_a_fence_is_longer_than_any_in_it():
    """Output of a tool that holds Markdown must end where it ends."""
    assert fenced("a\n````\nb") == "`````\na\n````\nb\n`````"
    assert code("a`b") == "``a`b``"
    assert code("`") == "`` ` ``"
    assert inline("*a* <b>") == "\\*a\\* \\<b\\>"


def test_calls_and_results_stand_under_their_turn_and_long_ones_are_folded():
    """An agent's conversation is mostly these; a heading for each would bury what was said."""
    long = "\n".join(f"line {number}" for number in range(40))
    shown = text_of(
        said([{"type": "text", "text": "Look."}]),
        said([{"type": "tool_use", "id": "a", "name": "Bash", "input": {"command": "ls\npwd"}}]),
        said([{"type": "tool_result", "tool_use_id": "a", "content": long}], role="tool"),
    )
    assert shown.count("\n## ") == 1
    assert "\n**Bash** (13:18:42)\n\n```sh\nls\npwd\n```\n" in shown
    fold = "<details><summary>Result of Bash (13:18:42), 40 lines</summary>\n\n```\nline 0\n"
    assert fold in shown
    assert "line 39\n```\n\n</details>\n" in shown


def test_a_tool_cannot_close_the_fold_that_it_stands_in():
    """The summary line is HTML: a tool's name there must be text."""
    name = "</summary></details><script>"
    shown = text_of(
        said([{"type": "tool_use", "id": "a", "name": name, "input": {"x": "1\n" * 40}}]),
        said([{"type": "thinking", "thinking": "</details>\n\n# x"}]),
    )
    assert "<script>" not in shown
    assert shown.count("\n</details>\n") == shown.count("\n<details>") == 2


def test_unknown_blocks_are_shown_as_json_and_nothing_is_dropped():
    """Formats change; what this program does not know is still somebody's."""
    shown = text_of(
        said([{"type": "zebra", "stripes": 7}, 5, None]),
        said({"any": ["thing"]}),
        said([{"type": "input_text", "text": "typed"}, {"type": "output_text", "text": "told"}]),
        said(None, extra={"tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}]}),
        said("42", role="function", extra={"name": "f"}),
    )
    for piece in ('{"type": "zebra", "stripes": 7}', "\n5\n", "null", '"any": ['):
        assert piece in shown
    assert "\ntyped\n" in shown and "\ntold\n" in shown
    assert '**f** (13:18:42)\n\n```json\n{"a": 1}\n```' in shown
    assert "Result of **f**: `42`" in shown


def test_pictures_are_named_and_files_by_address_are_told():
    """A megabyte of base64 in a line helps nobody; where a picture lies does."""
    shown = text_of(
        said(
            [
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
                },
                {"type": "image_url", "image_url": {"url": "https://e.org/x.png"}},
                {"type": "document", "source": {"type": "text", "data": "body"}, "title": "n_1"},
            ]
        )
    )
    assert "*[image, image/png, 3 B: not in this file]*" in shown
    assert "*image:* `https://e.org/x.png`" in shown
    assert "*document, n\\_1:*\n\n```\nbody\n```" in shown


def test_events_are_counted_and_copied_and_summarised_turns_are_told():
    """What is left out is said, so that nobody takes the file for the whole."""
    shown = text_of(
        said("", role="event"),
        said("", role="event", meta={"copied": {"from": "other", "ids": ["a", "b"]}}),
        said([{"type": "thinking", "thinking": "", "signature": "x"}]),
        Turn("system", "Gist.", extra={"summary": {"first_seq": 1, "last_seq": 9, "turns": 9}}),
        said("Other way", meta={"active": False, "agent": "a7"}),
    )
    assert "\n*2 turns, in* `other`\n" in shown
    assert "\n## Summary of turns 1 to 9\n\nGist.\n" in shown
    assert " · agent a7 · not on the active branch\n" in shown
    assert "*3 turns, 1 event left out, 1 thought of which no text was kept*" in shown


def test_what_hides_is_shown():
    """A text that turns its direction, or drives a terminal, must not do so from a file either."""
    shown = text_of(
        said("a\u202eb\x00c\x1b[2Jd\u2028e\U000e0041f\ud800"),
        said("\x1b[31mred\x1b[0m\r\nline", role="tool"),
        head=Head("id", "x", "t\u202e # \x07 <b>"),
    )
    assert "a⟨U+202E⟩b⟨U+0000⟩c⟨U+001B⟩[2Jd⟨U+2028⟩e⟨U+E0041⟩f⟨U+D800⟩" in shown
    assert "```\nred\nline\n```" in shown
    assert shown.startswith("# t⟨U+202E⟩ \\# ⟨U+0007⟩ \\<b\\>\n")


def test_a_text_too_long_to_parse_stands_in_a_fence():
    """Laying out costs a hundred times what reading does."""
    text = "# x <b>\n" * (MAX_LETTERS // 8 + 1)
    assert tame(text) == fenced(text.strip("\n"))


def test_the_same_turns_give_the_same_bytes_in_another_process():
    """Exports are kept in git: a run that changes nothing must change nothing."""
    program = (
        "from convmem.formats.pages import html, markdown\n"
        "from convmem.formats.heads import Head\nfrom convmem.turns import Turn\nimport hashlib\n"
        "turns = [Turn('user', [{'type': 'zebra', 'b': 1, 'a': {'d': 1, 'c': 2}},"
        " {'type': 'text', 'text': '`x` **y**\\n\\n```py\\ndef f(): pass\\n```'}], seq=1)]\n"
        "for each in (html, markdown):\n"
        "    data = b''.join(each.write(Head('c', 'n'), iter(turns)))\n"
        "    print(hashlib.sha256(data).hexdigest())\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "TZ": zone, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    }
    assert len(found) == 1


def test_memory_follows_the_longest_turn_not_the_conversation():
    """A conversation of a gigabyte must export on a small machine."""

    def peak(count: int) -> int:
        turns = (said(f"Word {number} of **many**.\n" * 20) for number in range(count))
        tracemalloc.start()
        for _ in markdown.write(Head("c", "n"), turns):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(5)
    assert peak(400) < 1.5 * peak(40) + 100_000


@pytest.mark.parametrize("depth", [5, 300, 900])
def test_json_of_any_depth_is_shown_whole(depth):
    """Nesting that no recursion survives is valid JSON, and somebody's."""
    value = 7
    for _ in range(depth):
        value = {"a": [value]} if depth < 900 else [value]
    shown = text_of(said({"deep": value}))
    assert re.sub(r"\s", "", shown).count("[") >= depth
