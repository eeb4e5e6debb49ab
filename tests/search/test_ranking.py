"""Ranking: which turns come first, and that nothing but what they say decides it."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from convmem.search.ranking import MOST_READ, REACH, Facts, Ranked, Unit, rank, rarity

TURNS = 1000


class Talk:
    """Some turns in a row, as an index knows them: their words, and facts of each."""

    def __init__(self, said, *, sizes=None, asking=(), named=(), passing=None, apart=()):
        self.said = [set(words.split()) for words in said]
        self.sizes = sizes or [100] * len(said)
        self.asking, self.named, self.passing = set(asking), set(named), passing
        self.apart = set(apart)  # before these a new talk begins
        self.asked: list[tuple[str, int]] = []

    def ranked(self, query, *, names=(), counts=None, number=int, **more):
        """Rank; rows are counted through by *number*."""
        back = {number(at): at for at in range(len(self.said))}
        units = []
        for word in query.split():
            rows = [number(at) for at, words in enumerate(self.said) if word in words]
            turns = (counts or {}).get(word, 10)
            units.append(Unit(rows, max(turns, len(rows)), is_name=word in names))

        def beside(rows):
            self.asked.append(("beside", len(rows)))
            return {row: self._around(back[row], number) for row in rows}

        def facts(rows):
            self.asked.append(("facts", len(rows)))
            return {row: self._facts(back[row]) for row in rows if self._passes(back[row])}

        def newest(rows, most):
            return sorted(rows, key=lambda row: back[row])[-most:]

        found = rank(units, turns=TURNS, newest=newest, beside=beside, facts=facts, **more)
        return [Ranked(back[each.row], each.score, each.is_match) for each in found]

    def order(self, query, **more):
        return [each.row for each in self.ranked(query, **more)]

    def scores(self, query, **more):
        return {each.row: each.score for each in self.ranked(query, **more)}

    def _around(self, at, number):
        before, behind = [], []
        for other in range(at - 1, max(-1, at - 1 - REACH), -1):
            if other + 1 in self.apart:
                break
            before.append(number(other))
        for other in range(at + 1, min(len(self.said), at + 1 + REACH)):
            if other in self.apart:
                break
            behind.append(number(other))
        return before, behind

    def _facts(self, at):
        return Facts(self.sizes[at], at, is_named=at in self.named, is_asking=at in self.asking)

    def _passes(self, at):
        return self.passing is None or at in self.passing


def _alone(*said, **more):
    """Return turns that are no neighbours of one another."""
    return Talk(said, apart=range(len(said)), **more)


# --- words -------------------------------------------------------------------------------------


def test_a_rare_word_counts_more_than_a_frequent_one():
    """Who asks for "the kubernetes thing" wants the turns with the rare word."""
    talk = _alone("thing", "kubernetes")
    assert talk.order("kubernetes thing", counts={"thing": 500}) == [1, 0]


def test_more_words_of_the_query_count_more():
    """The turn that says all of it is what was asked for."""
    talk = _alone("oslo", "oslo train", "train")
    assert talk.order("oslo train")[0] == 1


def test_a_word_is_worth_something_however_frequent():
    """A word that every turn holds must not count against the turns that hold it."""
    assert rarity(TURNS, TURNS) > 0
    assert rarity(TURNS, 2 * TURNS) > 0  # counted with turns that are gone
    assert rarity(TURNS, 1) > rarity(TURNS, 2) > rarity(TURNS, TURNS)


def test_nothing_is_found_where_nothing_was_asked():
    """No unit of the query is in any turn: no answer, and no error."""
    assert Talk(["oslo"]).order("") == []
    assert Talk([]).order("oslo") == []


# --- neighbours --------------------------------------------------------------------------------


def test_the_answer_behind_a_question_is_found_though_it_has_none_of_its_words():
    """ "When is the train?" - "Half past nine": people search for the first and want the second."""
    found = Talk(["", "when train", "", "", "", "", "", ""]).ranked("train")
    assert [each.row for each in found[:3]] == [1, 2, 3]
    assert [each.row for each in found if each.is_match] == [1]
    assert {each.row for each in found} == {0, 1, 2, 3, 4, 5}


def test_a_turn_behind_counts_more_than_one_before():
    """Answers stand behind the words of the question far more often than before them."""
    scores = Talk(["", "", "train", "", ""]).scores("train")
    assert scores[3] > scores[1] > scores[0]
    assert scores[3] > scores[4] > scores[0]


def test_the_turn_behind_one_that_asks_counts_most():
    """That is where the answer is."""
    asked = Talk(["train", ""], asking=[0]).scores("train")
    told = Talk(["train", ""]).scores("train")
    assert asked[1] > told[1]


def test_a_word_that_all_neighbours_repeat_counts_once():
    """Ten turns about one thing must not drown the turn that holds both words."""
    scores = Talk(["train"] * 10).scores("train")
    assert scores[5] == scores[0] == _alone("train").scores("train")[0]


def test_turns_of_another_talk_are_no_neighbours():
    """What was said the next day answers nothing that was asked today."""
    assert Talk(["", "train", "", ""], apart=[2]).order("train") == [1, 0]


def test_a_neighbour_that_the_filters_leave_out_is_not_found():
    """``role:user`` must never show what somebody else said."""
    assert Talk(["", "train", ""], passing={1, 2}).order("train") == [1, 2]


# --- who, how long, when -----------------------------------------------------------------------


def test_what_the_named_speaker_said_comes_before_what_was_said_to_them():
    """ "What did Anna plant?": Ben's "Hello Anna" has her name in it, her own answers seldom."""
    talk = _alone("hello anna", "planted roses", "planted roses", named=[2])
    assert talk.order("anna planted", names=["anna"]) == [2, 1, 0]


def test_a_name_alone_is_a_word_like_others():
    """Who types nothing but a name wants the turns that say it."""
    talk = _alone("hello anna", "roses", named=[])
    assert talk.order("anna", names=["anna"]) == [0]
    assert talk.scores("anna", names=["anna"])[0] == talk.scores("anna")[0]


def test_a_few_words_and_very_many_answer_less():
    """ "Yes, Oslo!" says little; a megabyte of tool output holds any word by chance."""
    talk = _alone("oslo", "oslo", "oslo", sizes=[10, 400, 1_000_000])
    scores = talk.scores("oslo")
    assert scores[1] > scores[2] > 0
    assert scores[1] > scores[0] > 0


def test_a_turn_that_asks_comes_behind_one_that_tells():
    """A question holds the words of the answer without the answer."""
    assert _alone("oslo", "oslo", asking=[1]).order("oslo") == [0, 1]


def test_where_a_time_is_asked_for_the_turns_that_tell_one_come_first():
    """ "When did we go to Oslo?": "yesterday" is no word of the question."""
    talk = _alone("oslo", "oslo", "oslo")
    assert talk.order("oslo") == [2, 1, 0]
    assert talk.order("oslo", tell_when=lambda rows: [0]) == [0, 2, 1]


def test_only_the_texts_of_the_best_turns_are_read_for_a_time():
    """Each costs a read of its log."""
    asked = []
    talk = _alone(*["oslo"] * (3 * MOST_READ))

    def tell(rows):
        asked.extend(rows)
        return []

    talk.order("oslo", tell_when=tell)
    assert len(asked) == MOST_READ


# --- meaning -----------------------------------------------------------------------------------


def test_a_turn_of_like_meaning_is_found_without_a_word_in_common():
    """That is what an embedder is for."""
    talk = _alone("oslo", "", "", "")
    found = talk.ranked("oslo", alike={1: 0.1, 2: 0.9, 3: 0.5})
    assert [each.row for each in found] == [0, 2, 3, 1]
    assert [each.row for each in found if each.is_match] == [0]


def test_likeness_and_words_add_up():
    """Neither the best of the one nor of the other, but the turn that is good at both."""
    talk = _alone("oslo train", "oslo", "")
    alike = {0: 0.2, 1: 0.9, 2: 0.91}
    assert talk.order("oslo train", alike=alike) == [1, 0, 2]


def test_the_least_alike_gains_nothing():
    """It is as good as the next one, at which nobody looked."""
    talk = _alone("oslo", "oslo")
    scores = talk.scores("oslo", alike={0: 0.3, 1: 0.6})
    assert scores[0] == talk.scores("oslo")[0]
    assert scores[1] > scores[0]


def test_likeness_alone_is_an_answer():
    """No word of the query is anywhere, or all that are alike are so equally."""
    talk = Talk(["", "", ""])
    assert talk.order("", alike={1: 0.5})[0] == 1
    assert talk.order("", alike={}) == []


def test_a_turn_that_the_filters_leave_out_is_not_found_by_likeness():
    """The vectors of turns that are gone can still be there."""
    assert _alone("", "", passing={0}).order("", alike={0: 0.1, 1: 0.9}) == [0]


# --- order and cost ----------------------------------------------------------------------------


def test_of_equal_turns_the_newest_comes_first():
    """The same question tomorrow must give the same answer, whatever the index went through."""
    assert _alone("oslo", "oslo", "oslo").order("oslo") == [2, 1, 0]


@given(
    said=st.lists(st.sampled_from(["", "oslo", "train", "oslo train", "night"]), max_size=40),
    seed=st.integers(0, 99),
    most=st.integers(1, 10),
)
def test_the_numbers_of_the_rows_decide_nothing(said, seed, most):
    """An index that was made anew numbers the turns differently, and must answer the same."""
    numbers = list(range(len(said)))
    random.Random(seed).shuffle(numbers)
    talk = Talk(said, asking=range(0, len(said), 3), named=range(0, len(said), 5))
    plain = talk.ranked("oslo train night", most=most)
    shuffled = talk.ranked("oslo train night", most=most, number=lambda at: numbers[at])
    assert [(each.row, each.score) for each in plain] == [
        (each.row, each.score) for each in shuffled
    ]
    assert all(each.score > 0 for each in plain)
    assert [each.score for each in plain] == sorted((each.score for each in plain), reverse=True)
    assert [each.is_match for each in plain] == [bool(said[each.row]) for each in plain]


def test_what_is_looked_at_is_bounded_and_asked_for_once():
    """A word that stands in a million turns must not make the answer wait for all of them."""
    talk = Talk(["oslo"] * 5000, apart=range(0, 5000, 2))
    found = talk.ranked("oslo", most=50)
    assert talk.asked == [("beside", 50), ("facts", 50)]
    assert [each.row for each in found] == list(range(4999, 4949, -1))


def test_the_best_are_looked_at_not_the_newest():
    """Where there are too many matches, those with rare words must not be cut."""
    talk = _alone("train", *["oslo"] * 100)
    assert talk.order("oslo train", counts={"oslo": 500, "train": 1}, most=10)[0] == 0
