"""What is made of a query's English: irregular forms, questions for a time, the first person."""

from __future__ import annotations

import pytest

from convmem.search.language.first_person import said
from convmem.search.language.forms import other_forms
from convmem.search.language.times import asks_when, tells_when
from convmem.search.language.words import stem


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("buy", "bought"),
        ("buys", "bought"),
        ("buying", "bought"),
        ("bought", "buy"),
        ("give", "gave"),
        ("giving", "given"),
        ("swimming", "swam"),
        ("goes", "went"),
        ("children", "child"),
    ],
)
def test_the_question_finds_the_irregular_form_of_the_answer(asked, said):
    """ "What did she buy?" - "I bought a bike": no stemmer leads from the one to the other."""
    assert said in other_forms(asked)


@pytest.mark.parametrize("word", ["", "s", "ing", "es", "oslo", "string", "houses", "user_id"])
def test_other_words_have_no_other_forms(word):
    """Each other form costs a look into the index, and a wrong one finds what nobody asked for."""
    assert other_forms(word) == ()


def test_a_form_is_never_one_that_stemming_finds_anyhow():
    """It would be looked for twice."""
    for word in ("buy", "take", "write", "swim", "go", "woman", "life", "ring"):
        others = other_forms(word)
        assert others
        assert stem(word) not in map(stem, others)
        assert len({stem(other) for other in others}) == len(others)


@pytest.mark.parametrize(
    "query",
    ["When did we go to Oslo?", "how long was the trip", "WHAT YEAR was that", "which day is it"],
)
def test_questions_for_a_time_are_recognised(query):
    """They are the ones whose answers have words that no question has."""
    assert asks_when(query)


@pytest.mark.parametrize("query", ["", "whenever", "oslo train", "what did he say", "how many"])
def test_other_queries_do_not_ask_when(query):
    """For those the texts of a hundred turns would be read for nothing."""
    assert not asks_when(query)


@pytest.mark.parametrize(
    "text",
    ["I went yesterday.", "Two weeks ago!", "on the 3rd", "at 10:30", "in 2019", "last Friday"],
)
def test_a_turn_that_tells_a_time_is_recognised(text):
    """ "Yesterday" answers a question for the time, together with when it was said."""
    assert tells_when(text)


@pytest.mark.parametrize("text", ["", "I went to Oslo.", "It is 42.", "fridge", "monthly"])
def test_other_turns_tell_no_time(text):
    """Else every turn would."""
    assert not tells_when(text)


@pytest.mark.parametrize(
    ("query", "speakers", "spoken"),
    [
        ("When did Anna's cat die?", ["Anna", "Ben"], "When did my cat die?"),
        ("did anna lena call ben?", ["Anna", "Anna Lena", "Ben"], "did I call I?"),
        ("Annabel’s cat", ["Anna"], "Annabel’s cat"),
        ("Anna’s cat", ["Anna"], "my cat"),
        ("C++ or c", ["C++"], "I or c"),
        ("oslo", [], "oslo"),
        ("", ["Anna"], ""),
    ],
)
def test_an_embedder_is_asked_as_the_speaker_would_say_it(query, speakers, spoken):
    """ "Anna planted" is most like what is said to Anna, "I planted" like what she says."""
    assert said(query, speakers) == spoken
