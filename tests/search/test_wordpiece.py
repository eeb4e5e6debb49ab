"""The tokenizer gives the numbers that the model was trained on, and does not waste time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convmem.search.semantic import wordpiece

# What Hugging Face's `tokenizers` 0.23 gives with the model's own tokenizer.json.
KNOWN = {
    "How do I get to Oslo by train?": [2129, 2079, 1045, 2131, 2000, 9977, 2011, 3345, 1029],
    "Unbelievably, naïve CAFÉS re-open!": [
        *(4895, 8671, 2666, 3567, 6321, 1010, 15743, 23812, 2128, 1011, 2330, 999)
    ],
    "你好,世界 カタカナ 한국": [
        *(100, 100, 1010, 1745, 100, 1700, 30235, 30226, 30241, 1469),
        *(30006, 30021, 29991, 30014, 30020),
    ],
    "Straße İstanbul Σίσυφος ﬁn ½": [
        *(2358, 27807, 9960, 1173, 18199, 29733, 29735, 29736, 15297, 1984, 2078, 1092)
    ],
    "a\tb\r\nc\x00d\x0be\u200bf\ufffdg\u3000h\u2028i\x85j": [
        *(1037, 1038, 3729, 12879, 2290, 1044, 1045, 3501)
    ],
    "x = foo_bar(a[0], 'b') # don't": [
        *(1060, 1027, 29379, 1035, 3347, 1006, 1037, 1031, 1014, 1033, 1010, 1005, 1038, 1005),
        *(1007, 1001, 2123, 1005, 1056),
    ],
    "https://example.org/a?b=c&d=%20": [
        *(16770, 1024, 1013, 1013, 2742, 1012, 8917, 1013, 1037, 1029, 1038, 1027, 1039, 1004),
        *(1040, 1027, 1003, 2322),
    ],
    "😀 👍🏽": [100, 100],
    "e\u0301e\u0302": [25212],
    "१२३ ไทย": [100, 100],
    "ا، ب": [1270, 1268, 1271],
    "qwxzj\U0001f9ff zzzz": [100, 1062, 13213, 2480],
    "w" * 101: [100],
    "w" * 100: [7479, *[2860] * 97],
    "": [],
    "  \n ": [],
}


@pytest.mark.parametrize("text", KNOWN, ids=ascii)
def test_a_text_becomes_the_numbers_that_the_model_knows(text):
    """Other numbers are other words: the vectors would be of something else."""
    assert wordpiece.load().encode(text) == KNOWN[text]


# What Unicode has held since long before the reference's tables were made.
OLD = st.one_of(
    st.characters(max_codepoint=0x5FF, exclude_categories=["Cs"]),
    st.characters(min_codepoint=0x1E00, max_codepoint=0x206F),
    st.characters(min_codepoint=0x3000, max_codepoint=0x9FA5),
    st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3),
    st.sampled_from(" \n.,ab#[]'"),
)


@given(text=st.text(OLD, max_size=60))
def test_any_text_is_taken_apart_as_the_reference_does(text):
    """The cases that nobody thinks of are those of other people's languages."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs Hugging Face's tokenizers")
    model = wordpiece.load()
    reference = tokenizers.BertWordPieceTokenizer(dict(model._numbers), lowercase=True)
    encoded = reference.encode(text, add_special_tokens=False)
    assert model.encode(text) == encoded.ids[:254]


def test_marks_of_the_model_in_a_text_are_text():
    """Who writes [SEP] into a turn must not be able to end it for the model."""
    found = wordpiece.load().encode("[CLS] one [SEP] two [MASK]")
    assert not {wordpiece.BEGIN, wordpiece.END, 103} & set(found)


@given(text=st.text(max_size=80), limit=st.integers(1, 20))
def test_a_limit_gives_the_beginning_of_what_would_be_given_without(text, limit):
    """What is kept from one text must not change the next, nor depend on how much is wanted."""
    model = wordpiece.load()
    assert model.encode(text, limit) == model.encode(text, 1000)[:limit]
    assert wordpiece.WordPiece(list(model._numbers)).encode(text, limit) == model.encode(
        text, limit
    )


@pytest.mark.parametrize(
    "text",
    ["word " * 2_000_000, "A" * 10_000_000, "a\n" * 5_000_000, "{" * 10_000_000, "é" * 10_000_000],
    ids=["words", "no spaces", "lines", "signs", "accents"],
)
def test_of_a_huge_text_only_the_beginning_is_looked_at(text, monkeypatch):
    """A turn may hold 64 MiB, and one vector."""
    model = wordpiece.WordPiece(list(wordpiece.load()._numbers))
    looked_at = []
    of_run = wordpiece.WordPiece._pieces_of_word
    monkeypatch.setattr(
        wordpiece.WordPiece,
        "_pieces_of_word",
        lambda self, word: looked_at.append(len(word)) or of_run(self, word),
    )
    assert 0 < len(model.encode(text)) <= 254
    assert sum(looked_at) < 200_000
    assert all(len(run) <= 100 for run in model._kept)


def test_what_is_kept_has_a_bound(monkeypatch):
    """Random names and numbers come in any number, and a server runs for months."""
    monkeypatch.setattr(wordpiece, "_MAX_KEPT_WORDS", 50)
    model = wordpiece.WordPiece(list(wordpiece.load()._numbers))
    for number in range(500):
        model.encode(f"name{number}")
    assert len(model._kept) <= 50
