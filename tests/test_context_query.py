"""``context(query=…)``: what matters now from long ago, cited, within the one budget."""

from __future__ import annotations

import json
import random
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_context import JSON, TEXT, Characters, call, read_back, result, says, shown

from convmem import Archive, RetentionPolicy, Turn, UsageError
from convmem.context.parts import message_tokens
from convmem.context.recalled import GAP, INTRODUCTION, Recall
from convmem.context.tokens import Estimate
from convmem.context.window import window_of
from convmem.search import memories, trashed
from convmem.search.index.database import Database, NoIndex
from convmem.tools import tool_ids

START = datetime(2026, 5, 1, 9, 0, tzinfo=UTC)
FACT = "We booked the Hotel Astoria near the harbour, for three nights."
QUESTION = "what was that hotel that we were booking at the harbor?"
WORDS = """
    apple banana river mountain code test failing deploy server cloud paper window budget number
    table chart light music garden rain
""".split()


class Found:
    """A memory as a search would give it."""

    def __init__(self, turn, place, *, score=1.0, is_trashed=False):
        self.turn = turn
        self.place = place
        self.score = score
        self.is_trashed = is_trashed

    def excerpt(self, characters):
        return self.turn.text.replace("\n", " ")[:characters]


class Answer:
    def __init__(self, found, notes=()):
        self.found = found
        self.notes = list(notes)


def recalling(found, tokens=None, notes=()):
    """Return the wish for *found*, best first, as far as they are wanted."""

    def find(is_wanted):
        return Answer([each for each in found if is_wanted(each.turn, each.is_trashed)], notes)

    return Recall("query", tokens, find)


def window(turns, found=None, *, tokens=None, **options):
    options = {
        "continuation_id": "trip",
        "max_tokens": None,
        "max_turns": None,
        "pinned": (),
        "counter": Characters(),
        "form": "text",
        **options,
    }
    wish = None if found is None else recalling(found, tokens)
    return window_of(reversed(turns), lambda: iter(turns), recall=wish, **options)


def talk(archive, name="trip", *, turns=1000, facts=None, seed=1):
    """Record idle talk, a minute a turn, with *facts* at their places."""
    chance = random.Random(seed)
    facts = {400: FACT} if facts is None else facts
    chat = archive.conversation(name)
    chat.record_many(
        {
            "role": "user" if at % 2 else "assistant",
            "content": facts.get(at) or " ".join(chance.choices(WORDS, k=12)),
            "ts": START + timedelta(minutes=at),
            "id": f"t{at}",
        }
        for at in range(1, turns + 1)
    )
    return chat


def recalled_seqs(found):
    return [each.turn.seq for each in found.recalled]


# --- what is found ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "messages"])
def test_what_was_said_six_hundred_turns_ago_is_there_when_asked_in_other_words(archive, form):
    """Issue 6, 4: the newest turns alone have forgotten it."""
    chat = talk(archive)
    found = chat.context(max_tokens=2000, query=QUESTION, form=form)
    assert 400 in recalled_seqs(found)
    given = found.as_text() if form == "text" else json.dumps(found.as_messages())
    assert "Hotel Astoria" in given
    assert found.turns[-1].seq == 1000 and len(found.turns) > 20
    assert found.tokens <= 2000
    assert "Astoria" not in chat.context(max_tokens=2000, form=form).as_text()


def test_the_question_itself_may_be_the_newest_turn(archive):
    """Agents record what is asked and then look for what matters; the question fits itself."""
    chat = talk(archive, facts={400: FACT, 700: QUESTION})
    chat.record("user", QUESTION)
    found = chat.context(max_tokens=2000, query=QUESTION)
    assert 400 in recalled_seqs(found) and 1001 not in recalled_seqs(found)


def test_a_compressed_conversation_is_recalled_from_as_well(archive):
    """It is read like any other."""
    chat = talk(archive)
    chat.compress()
    assert 400 in recalled_seqs(chat.context(max_tokens=2000, query=QUESTION))


@pytest.mark.parametrize("is_compacted", [False, True])
def test_without_an_index_the_same_is_recalled_and_that_is_said(archive, monkeypatch, is_compacted):
    """Not every SQLite has FTS5, and not every archive can be written."""
    chat = talk(archive, facts={400: FACT, 980: "The harbour has a hotel."})
    if is_compacted:
        compacted(chat, 50)
    one = chat.context(max_turns=10, query=QUESTION)

    def fail(folder):
        raise NoIndex("none today")

    monkeypatch.setattr(Database, "open", fail)
    monkeypatch.setattr(Database, "as_it_is", lambda folder: folder.close())
    other = chat.context(max_turns=10, query=QUESTION)
    assert one.as_messages() == other.as_messages() and {400, 980} <= {*recalled_seqs(other)}
    assert other.notes == ["searched without an index, which takes longer: none today"]


def test_a_citation_says_which_turn_said_it_and_when(archive):
    """Who reads the answer must be able to look it up."""
    chat = talk(archive)
    found = chat.context(max_tokens=2000, query=QUESTION, form="text")
    assert f"[400] assistant, 2026-05-01T15:40Z, id t400, recalled:\n  {FACT}\n" in found.as_text()
    (cited,) = [each for each in found.as_dict()["recalled"] if each["seq"] == 400]
    (turn,) = [turn for turn in chat.turns() if turn.seq == 400]
    assert cited["turn"] == turn.as_dict()
    assert (cited["id"], cited["ts"], cited["from"], cited["excerpt"]) == (
        "t400",
        "2026-05-01T15:40:00.000000Z",
        "log",
        None,
    )
    assert cited["score"] == max(each["score"] for each in found.as_dict()["recalled"])
    assert found.as_dict()["query"] == QUESTION


def test_nothing_is_shown_twice_and_all_stands_in_the_order_of_the_log(archive):
    """The newest turns fit the query, too; they are there already."""
    chat = talk(archive, facts={100: FACT, 999: FACT, 1000: FACT, 950: FACT})
    found = chat.context(max_tokens=2000, query=QUESTION)
    seqs = recalled_seqs(found)
    assert 100 in seqs and seqs == sorted(set(seqs))
    assert max(seqs) < found.first_seq
    assert [turn.seq for turn in found.turns] == list(range(found.first_seq, 1001))


def test_a_query_that_fits_nothing_gives_the_plain_window(archive):
    """Whatever was asked, the newest turns are as they were."""
    chat = talk(archive, turns=300)
    for query in ("zygomorphic", "", "  ", '"', "role:event", "-apple", "id:other", "\0\ud800"):
        for form in ("text", "messages"):
            plain = chat.context(max_tokens=900, form=form)
            found = chat.context(max_tokens=900, form=form, query=query)
            if not found.recalled:
                assert (found.as_text(), found.tokens) == (plain.as_text(), plain.tokens)
                assert found.as_messages() == plain.as_messages()
            assert found.tokens <= 900
    assert not chat.context(max_tokens=900, query="zygomorphic").recalled
    assert not chat.context(max_tokens=900, query="role:event").recalled


def test_a_query_is_read_as_search_reads_it_but_for_other_conversations(archive):
    """A question may hold anything, and what another conversation says is none of this one's."""
    talk(archive, "other", facts={3: "The hotel is called Ritz."})
    chat = talk(archive, facts={3: FACT, 4: "No hotel is as good as this one."})
    assert 3 in recalled_seqs(chat.context(max_tokens=900, query="hotel id:other ns:none"))
    seqs = recalled_seqs(chat.context(max_tokens=900, query="hotel role:assistant"))
    assert 4 in seqs and not [seq for seq in seqs if seq % 2]
    assert 4 not in recalled_seqs(chat.context(max_tokens=900, query="hotel -good"))
    assert "Ritz" not in chat.context(max_tokens=2000, query="hotel Ritz", form="text").as_text()


def test_what_nobody_said_and_what_was_scrubbed_is_not_recalled(archive):
    """A secret that was taken out must not come back by a side door."""
    chat = talk(archive, facts={5: "the password is swordfish", 6: "swordfish is a fish"})
    chat.record("event", "swordfish", meta={"source": "codex"}, ts=START)
    for at in range(50):
        chat.record("user", f"more {at}")
    chat.scrub("t5")
    found = chat.context(max_turns=10, query="swordfish role:user,assistant,event")
    assert 6 in recalled_seqs(found) and 5 not in recalled_seqs(found)
    assert {each.turn.role for each in found.recalled} <= {"user", "assistant"}
    assert "password" not in found.as_text()


def test_a_turn_by_hand_is_found_too(archive, log):
    """It has no number and no id; its words count as others do."""
    talk(archive, turns=20, facts={})
    with open(log(), "a") as file:
        file.write('{"role":"user","content":"the hotel is Astoria"}\n')
    chat = archive.conversation("trip")
    for at in range(300):
        chat.record("user", f"later {at}")
    found = chat.context(max_tokens=600, query="hotel", form="text")
    (best,) = [each for each in found.recalled if "hotel" in each.turn.text]
    assert "\n[-] user, recalled:\n  the hotel is Astoria\n" in found.as_text()
    assert (best.as_dict()["id"], best.as_dict()["seq"], best.as_dict()["ts"]) == (None,) * 3
    assert chat.context(max_tokens=10_000, query="hotel").recalled == []


# --- the trash ----------------------------------------------------------------------------------


def compacted(chat, keep, told="they talked of fruit"):
    report = chat.compact(RetentionPolicy(keep_last=keep), summarize=lambda lines: told)
    assert report.trash is not None
    return report


def test_what_a_summary_stands_for_is_recalled_from_the_trash(archive):
    """The summary says that something was; what it was is in the trash."""
    chat = talk(archive)
    compacted(chat, 50)
    found = chat.context(max_tokens=2000, query=QUESTION, form="text")
    assert 400 in recalled_seqs(found)
    assert f"id t400, recalled from the trash:\n  {FACT}\n" in found.as_text()
    (cited,) = [each for each in found.as_dict()["recalled"] if each["seq"] == 400]
    assert cited["from"] == "trash"
    assert len(found.turns) == 51 and found.tokens <= 2000
    assert recalled_seqs(found) == sorted(recalled_seqs(found))


def test_summaries_of_summaries_lead_to_what_they_stand_for(archive):
    """Each compaction takes the last one's summary in, and it names its own file."""
    chat = talk(archive, facts={100: FACT})
    for keep in (700, 400, 100):
        compacted(chat, keep)
    assert 100 in recalled_seqs(chat.context(max_tokens=2000, query=QUESTION))


def test_turns_of_the_log_and_of_the_trash_are_ranked_as_one(archive):
    """Where something was put says nothing of how well it answers."""
    facts = {100: FACT, 700: "The harbour has a hotel.", 701: "We were booking it at the harbour."}
    whole = talk(archive, "whole", facts=facts)
    parted = talk(archive, "parted", facts=facts)
    before = whole.context(max_turns=20, query=QUESTION)
    compacted(parted, 500, "-")
    after = parted.context(max_turns=20, query=QUESTION)
    assert recalled_seqs(before) == recalled_seqs(after) and {100, 700} <= {*recalled_seqs(after)}
    assert [each.is_trashed for each in after.recalled] == [
        each.turn.seq <= 500 for each in after.recalled
    ]
    for one, other in zip(before.recalled, after.recalled, strict=True):
        assert one.score == pytest.approx(other.score, rel=0.02), "the summary is one turn more"


def test_what_was_dropped_without_a_summary_stays_forgotten(archive):
    """It was to go; nothing in the log stands for it."""
    chat = talk(archive)
    chat.compact(RetentionPolicy(keep_last=500))
    found = chat.context(max_tokens=2000, query=QUESTION)
    assert not {*recalled_seqs(found)} & set(range(1, 501))
    compacted(chat, 50)
    found = chat.context(max_tokens=2000, query=f"{QUESTION} apple")
    assert found.recalled and min(recalled_seqs(found)) > 500


def test_what_a_person_deleted_stays_forgotten(archive):
    """Also where a new conversation goes by the same name."""
    chat = talk(archive)
    compacted(chat, 50)
    chat.delete()
    for at in range(60):
        chat.record("user", f"anew {at}")
    assert chat.context(max_turns=20, query=QUESTION).recalled == []


def test_once_the_trash_is_purged_nothing_of_it_is_recalled(archive):
    """And nothing fails: the summary still says what it says."""
    chat = talk(archive)
    compacted(chat, 50, "they booked a hotel, and talked")
    archive.purge_trash(timedelta(0))
    found = chat.context(max_turns=20, query=QUESTION, form="text")
    assert not [each for each in found.recalled if each.is_trashed]
    assert "[-] system," in found.as_text() and "summary of turns 1 to 950:" in found.as_text()


def test_a_scrubbed_turn_is_not_recalled_from_the_trash(archive):
    """It is scrubbed there, too."""
    chat = talk(archive)
    compacted(chat, 50)
    chat.scrub("t400")
    assert 400 not in recalled_seqs(chat.context(max_tokens=2000, query=QUESTION))


def test_what_was_restored_is_recalled_once(archive):
    """It is in the log again, and the summary is gone."""
    chat = talk(archive)
    compacted(chat, 50)
    chat.restore()
    found = chat.context(max_tokens=2000, query=QUESTION)
    assert recalled_seqs(found).count(400) == 1
    assert not any(each.is_trashed for each in found.recalled)


@pytest.mark.parametrize(
    ("place", "name"), [(trashed, "MOST_CHARACTERS"), (memories, "MOST_TRASH_BYTES")]
)
def test_of_too_large_a_trash_the_newest_is_looked_at_and_that_is_said(
    archive, monkeypatch, place, name
):
    """A budget of tokens must not take all memory and all day."""
    chat = talk(archive, facts={10: FACT, 800: FACT})
    for keep in (500, 50):
        compacted(chat, keep)
    assert {10, 800} <= {*recalled_seqs(chat.context(max_tokens=2000, query=QUESTION))}
    monkeypatch.setattr(place, name, 100)
    found = chat.context(max_tokens=2000, query=QUESTION)
    assert 800 in recalled_seqs(found), "the newest of it is looked at"
    assert 10 not in recalled_seqs(found)
    assert found.notes == ["the trash has more turns than are looked at: older ones were not"]


def test_damage_in_the_trash_is_passed_over_and_said(archive, log):
    """One bad line in the trash takes nothing but itself."""
    chat = talk(archive)
    report = compacted(chat, 50)
    path = log().parent / ".trash" / report.trash
    lines = path.read_bytes().splitlines(keepends=True)
    lines[7] = lines[7][:20] + b"\n"
    path.write_bytes(b"".join(lines))
    found = chat.context(max_tokens=2000, query=QUESTION)
    assert 400 in recalled_seqs(found)
    assert found.notes == ["1 damaged line in the trash could not be searched"]


# --- the budget ---------------------------------------------------------------------------------


def test_a_third_is_set_aside_and_what_is_not_used_goes_to_the_newest():
    """Neither side may starve the other, nor waste what it does not need."""
    turns = says(*("x" * 100 for _ in range(100)))
    many = [Found(turn, turn.seq) for turn in turns[:60]]
    found = window(turns, many, max_tokens=6000)
    taken = len(found.recalled_text())
    assert 1700 <= taken <= 2000
    few = window(turns, many[:1], max_tokens=6000)
    plain = window(turns, max_tokens=6000)
    assert len(found.turns) < len(few.turns) <= len(plain.turns)
    assert len(plain.turns) - len(few.turns) <= 4
    short = window(
        turns[-10:],
        [Found(turn, turn.seq, is_trashed=True) for turn in turns[:60]],
        max_tokens=6000,
    )
    assert len(short.turns) == 10 and len(short.recalled) > 20
    assert short.tokens > 5500, "what the newest leave goes to what is recalled"


@pytest.mark.parametrize("tokens", [0, 500, 1500, 10**9])
def test_the_share_can_be_set(tokens):
    """Some questions are all about the past."""
    turns = says(*("x" * 100 for _ in range(100)))
    found = window(turns, [Found(turn, turn.seq) for turn in turns], tokens=tokens, max_tokens=3000)
    assert found.turns[-1].seq == 100 and found.tokens <= 3000
    assert len(found.recalled_text()) >= min(tokens, 2700) - 400
    if tokens < 10**9:
        assert len(found.recalled_text()) <= tokens + 300, "but for what the newest left"


def test_without_a_budget_of_tokens_so_many_are_recalled():
    """``max_turns`` counts the newest; what is recalled needs a bound of its own."""
    turns = says(*("x" * 100 for _ in range(100)))
    given = [Found(turn, turn.seq) for turn in turns]
    found = window(turns, given, max_turns=7)
    assert len(found.turns) == 7 and 1700 < len(found.recalled_text()) <= 2000
    found = window(turns, given, max_turns=7, tokens=700)
    assert len(found.turns) == 7 and 400 < len(found.recalled_text()) <= 700


def test_the_newest_turn_comes_before_all_that_is_recalled():
    """What is asked now must be whole, whatever was said before."""
    turns = says(*("x" * 100 for _ in range(20)), "y" * 800)
    found = window(turns, [Found(turns[0], 1)], max_tokens=1000)
    assert found.turns[-1].content == "y" * 800 and not found.recalled
    found = window(
        [*turns[:-1], Turn("user", "y" * 5000, seq=21)], [Found(turns[0], 1)], max_tokens=1000
    )
    assert found.was_cut and not found.recalled


def test_a_long_turn_is_recalled_as_an_excerpt_around_what_was_found(archive):
    """The one sentence that matters may stand in the midst of a long paste."""
    chance = random.Random(2)
    paste = "\n".join(" ".join(chance.choices(WORDS, k=12)) for _ in range(2000))
    middle = len(paste) // 2
    chat = talk(archive, facts={400: f"{paste[:middle]}\n{FACT}\n{paste[middle:]}"})
    found = chat.context(max_tokens=2000, query=QUESTION, form="text")
    (best,) = [each for each in found.recalled if each.turn.seq == 400]
    assert "Hotel Astoria" in best.excerpt and len(best.excerpt) < 3000
    assert "id t400, recalled, an excerpt:\n  …" in found.as_text()
    assert best.as_dict()["turn"]["content"].count(FACT) == 1, "JSON has it whole"
    assert found.tokens <= 2000


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"query": "x", "recall_tokens": -1}, "recall_tokens"),
        ({"query": "x", "recall_tokens": 1.5}, "recall_tokens"),
        ({"query": "x", "recall_tokens": True}, "recall_tokens"),
        ({"recall_tokens": 100}, "without a query"),
    ],
)
def test_a_share_that_means_nothing_is_wrong_usage(archive, options, why):
    """Said at once, and in words."""
    archive.conversation("trip").record("user", "hi")
    with pytest.raises(UsageError, match=why):
        archive.conversation("trip").context(max_turns=3, **options)


# --- tool calls ---------------------------------------------------------------------------------


def test_a_call_is_recalled_as_text_so_that_no_exchange_is_torn(archive):
    """APIs refuse a call without its result, and a result without its call."""
    chat = archive.conversation("trip")
    chat.record_many([call("1", text="Looking up the hotel"), result("1", "hotel: Astoria")])
    for at in range(300):
        chat.record("user", f"idle talk number {at}")
    found = chat.context(max_tokens=500, query="hotel")
    assert {1, 2} & {*recalled_seqs(found)}
    for message in found.as_messages():
        turn = Turn(message["role"], message["content"], extra=message)
        assert tool_ids(turn) == ((), ())
    found = chat.context(max_tokens=800, query="hotel", form="text")
    assert {1, 2} <= {*recalled_seqs(found)} and "Astoria" in found.as_text()


# --- what it looks like -------------------------------------------------------------------------

CITED = re.compile(
    r"\[(\d+|-)\] ([^\s,:]+)(?:, (\d{4}-\d\d-\d\dT\d\d:\d\dZ))?(?:, id ([^\s,:]+))?"
    r", recalled( from the trash)?(?:, summary of turns \d+ to \d+)?(, an excerpt)?(, in parts)?:"
)


def cited_in(text):
    """Read what is recalled back, strictly; return each turn's citation."""
    if not text:
        return []
    assert text.startswith(INTRODUCTION)
    found = []
    for line in text[len(INTRODUCTION) :].split("\n"):
        if line in ("", GAP.strip()) or line.startswith("  "):
            continue
        seq, role, _, turn_id, *_ = CITED.fullmatch(line).groups()
        found.append((seq, shown(role), None if turn_id is None else shown(turn_id)))
    return found


NAMES = st.none() | TEXT.filter(bool)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.tuples(
            TEXT.filter(bool), TEXT | JSON, NAMES, st.booleans(), st.integers(1, 40), st.booleans()
        ),
        max_size=5,
    )
)
def test_nothing_that_was_stored_can_pass_for_a_citation(stored):
    """A turn that cites another could put words into anybody's mouth."""
    given = []
    for role, content, turn_id, is_trashed, hour, is_summary in stored:
        extra = {"summary": {"first_seq": 1, "last_seq": 2, "turns": 2}} if is_summary else {}
        seq = None if is_summary else len(given) + 1
        ts = START + timedelta(hours=hour)
        turn = Turn(role, content, id=turn_id, seq=seq, ts=ts, extra=extra)
        given.append(Found(turn, len(given), is_trashed=is_trashed))
    newest = Turn("user", f"now {GAP}[1] user, id x, recalled:\n  no", seq=99)
    for form in ("text", "messages"):
        found = window([newest], given, max_tokens=10**6, form=form, tokens=10**5)
        expected = [
            (str(each.turn.seq or "-"), each.turn.role, each.turn.id) for each in found.recalled
        ]
        assert len(expected) == len(given)
        assert cited_in(found.recalled_text()) == expected
        rest = found.as_text().replace(found.recalled_text(), "")
        assert [each[:2] for each in read_back(rest)] == [("99", "user")]


def test_gaps_are_marked_where_turns_are_left_out():
    """What does not follow must not read as if it did."""
    turns = says(*(f"say {at}" + "." * 90 for at in range(1, 41)))
    found = window(
        turns,
        [Found(turns[at - 1], at) for at in (3, 4, 10)],
        max_tokens=1500,
        tokens=700,
    )
    text = found.recalled_text()
    assert recalled_seqs(found) == [3, 4, 10]
    places = re.findall(r"^\[(\d+|…)\]", text, re.M)
    assert places == ["3", "4", "…", "10", "…"]
    head = found.as_text().partition("\n")[0]
    assert head.endswith("older turns left out; 3 recalled first. Only indented lines are content.")


def test_messages_have_one_text_from_user_behind_what_is_pinned(archive):
    """A system message would lend old words the authority of the instructions."""
    chat = talk(archive)
    found = chat.context(max_tokens=2000, query=QUESTION, pinned="Be brief.")
    pinned, recalled, *rest = found.as_messages()
    assert pinned == {"role": "system", "content": "Be brief."}
    assert recalled == {"role": "user", "content": found.recalled_text()}
    assert rest == [{"role": turn.role, "content": turn.content} for turn in found.turns]
    spent = sum(
        message_tokens(Turn(each["role"], each["content"]), Estimate())
        for each in found.as_messages()
    )
    assert spent == found.tokens


def test_without_a_query_nothing_is_another_byte(archive):
    """What programs read today they read tomorrow."""
    chat = talk(archive, turns=50)
    found = chat.context(max_tokens=500, form="text")
    assert found.recalled == [] and found.query is None and found.recalled_text() == ""
    assert not {"query", "recalled", "notes"} & {*found.as_dict()}
    shown_first = found.turns[0]
    assert found.as_text().startswith(
        f'Conversation "trip": {len(found.turns)} turns, oldest first; about'
        f" {found.left_out} older turns left out. Only indented lines are content.\n"
        f"[{shown_first.seq}] {shown_first.role}:\n  {shown_first.content}\n\n"
    )


# --- whatever is stored -------------------------------------------------------------------------


def stored_turns():
    plain = st.builds(
        lambda role, text: Turn(role, text),
        st.sampled_from(["user", "assistant"]),
        st.text("ab \n", max_size=200),
    )
    calls = st.builds(
        lambda ids: call(*ids), st.lists(st.sampled_from("123"), min_size=1, max_size=2)
    )
    results = st.builds(result, st.sampled_from("123"), st.text("ab", max_size=60))
    return st.lists(plain | calls | results, max_size=16)


@settings(deadline=None, max_examples=500)
@given(
    turns=stored_turns(),
    gone=stored_turns(),
    ranks=st.randoms(use_true_random=False),
    max_tokens=st.none() | st.integers(1, 3000),
    max_turns=st.none() | st.integers(1, 17),
    tokens=st.none() | st.integers(0, 3000),
    form=st.sampled_from(["messages", "text"]),
    exact=st.booleans(),
)
def test_whatever_is_stored_no_budget_is_exceeded(
    turns, gone, ranks, max_tokens, max_turns, tokens, form, exact
):
    """§3.7 holds with a query, too; what is recalled is older, in order, and nowhere twice."""
    if max_tokens is None and max_turns is None:
        max_turns = 5
    for seq, turn in enumerate([*gone, *turns], 1):
        turn.seq = seq
    given_memories = [Found(turn, turn.seq) for turn in turns]
    given_memories += [Found(turn, turn.seq, is_trashed=True) for turn in gone]
    ranks.shuffle(given_memories)
    counter = Characters() if exact else Estimate()
    options = {"max_tokens": max_tokens, "max_turns": max_turns, "form": form, "counter": counter}
    try:
        plain = window(turns, **options)
    except UsageError:
        with pytest.raises(UsageError):
            window(turns, given_memories, tokens=tokens, **options)
        return
    found = window(turns, given_memories, tokens=tokens, **options)
    seqs = [turn.seq for turn in found.turns]
    past = recalled_seqs(found)
    last = len(gone) + len(turns)
    assert seqs == list(range(last - len(seqs) + 1, last + 1)), "no gap, in order"
    assert bool(seqs) == bool(turns), "the newest is there"
    assert len(seqs) <= len(plain.turns) and found.cuts == plain.cuts
    assert past == sorted({*past}) and not {*past} & {*seqs}
    if max_tokens is not None:
        assert found.tokens <= max(max_tokens, plain.tokens)
    if not past:
        assert found.as_text() == plain.as_text()
        assert found.as_messages() == plain.as_messages() and found.tokens == plain.tokens
    if form == "text":
        assert counter.count(found.as_text()) <= found.tokens
    else:
        extra = found.tokens - plain.tokens
        assert past or extra == 0
        if exact and past:
            body = sum(message_tokens(turn, counter) for turn in found.turns)
            assert found.tokens == body + 4 + len(found.recalled_text())


def test_what_is_recalled_is_a_copy_of_its_own(archive: Archive):
    """Changing it changes nothing that is stored."""
    chat = talk(archive)
    chat.context(max_tokens=2000, query=QUESTION).recalled[0].turn.content = "other"
    found = chat.context(max_tokens=2000, query=QUESTION)
    assert "other" not in [each.turn.content for each in found.recalled]
