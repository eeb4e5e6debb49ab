"""What comes in: all of it, once, in its order, whatever was done to the source meanwhile."""

from __future__ import annotations

import json
import os
import zipfile
from datetime import UTC, datetime

import pytest
from desk import Desk
from transcripts_made import (
    LINES,
    MADE,
    SESSION,
    claude_file,
    claude_record,
    claude_records,
    lines,
    uuid,
    values_in,
)

from convmem import ConvmemError
from convmem.errors import UsageError
from convmem.formats import known

every_format = pytest.mark.parametrize("name", MADE)
# In these a record that was there before says something else once there are more.
WHOLE = ("chatgpt", "openai-messages", "sharegpt", "aider")


def talk(desk):
    """Return what was said, in order, of the only conversation there is; of versions the last."""
    (turns,) = desk.all_turns().values()
    last = {}
    for turn in turns:
        replaced = (turn.get("meta") or {}).get("replaces", turn["id"])
        last.pop(replaced, None)
        if turn["role"] != "event":
            last[replaced] = _text(turn["content"])
    return list(last.values())


def _text(content):
    return content if isinstance(content, str) else content[0]["text"]


# --- again and again -----------------------------------------------------------------------------


@every_format
def test_a_second_import_adds_nothing(desk, sources, name):
    """From cron, every quarter of an hour, for years."""
    path = MADE[name](sources, 8)
    first = desk.take(sources)
    assert first.added == first.records > 7
    before = desk.all_turns()
    assert desk.take(sources).added == 0
    os.utime(path, (1, 1))
    assert desk.take(sources).added == 0, "the file was touched"
    assert desk.all_turns() == before


@every_format
def test_without_its_catalogue_an_import_adds_nothing_all_the_same(desk, sources, name):
    """The catalogue is derived: who restores an archive from a backup may not have it."""
    MADE[name](sources, 8)
    desk.take(sources)
    before = desk.all_turns()
    desk.forget()
    again = desk.take(sources)
    assert (again.added, again.skipped) == (0, again.records)
    assert desk.all_turns() == before


@every_format
def test_the_same_source_in_another_folder_adds_nothing(desk, sources, tmp_path, name):
    """People copy their home directory to the next machine, and name it otherwise."""
    MADE[name](sources, 8)
    desk.take(sources)
    before = desk.all_turns()
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    sources.rename(tmp_path / "elsewhere" / "deep" / "down")
    assert desk.take(tmp_path / "elsewhere").added == 0
    assert desk.all_turns() == before


@every_format
def test_a_source_that_grew_adds_what_is_new_in_its_order(desk, sources, tmp_path, name):
    """The talk goes on while it is being archived: nothing twice, nothing left out."""
    MADE[name](sources, 6)
    desk.take(sources)
    MADE[name](sources, 10)
    grown = desk.take(sources)
    # A head that says something else by now is a version of itself.
    assert grown.added == 4 + (name in WHOLE)
    assert talk(desk)[-10:] == [f"turn {nth}" for nth in range(10)] or "talk 0" in talk(desk)[0]
    MADE[name](sources, 12)
    desk.forget()
    assert desk.take(sources).added == 2 + (name in WHOLE), "and without the catalogue"
    assert len(talk(desk)) - (name == "aider") == 12
    assert desk.take(sources).added == 0


@pytest.mark.parametrize("name", LINES)
def test_what_grew_bit_by_bit_comes_back_as_a_whole(desk, sources, tmp_path, name):
    """Native export of something that came in many imports, the last without a newline yet."""
    made = tmp_path / "made"
    made.mkdir()
    whole = MADE[name](made, 12).read_bytes()
    path = sources / MADE[name](made, 12).name
    for end in range(0, len(whole), len(whole) // 7):
        path.write_bytes(whole[:end])
        desk.take(sources)
    path.write_bytes(whole)
    desk.take(sources)
    (back,) = desk.give(tmp_path / "out").values()
    with open(back, "rb") as file:
        assert file.read() == whole


def test_a_last_line_without_a_newline_is_taken_once_and_goes_on(desk, sources, tmp_path):
    """419 of 544 real files do not end in a newline; some of them were being written."""
    path = claude_file(sources)
    whole = lines(claude_records(0, 5))
    path.write_bytes(whole[:-1])
    assert desk.take(sources).added == 5
    (back,) = desk.give(tmp_path / "out").values()
    with open(back, "rb") as file:
        assert file.read() == whole[:-1]
    path.write_bytes(whole + lines(claude_records(5, 7)))
    assert desk.take(sources).added == 2
    (back,) = desk.give(tmp_path / "out").values()
    with open(back, "rb") as file:
        assert file.read() == path.read_bytes()


def test_half_a_line_at_the_end_waits_for_its_other_half(desk, sources):
    """What is being written while it is read is neither damaged nor lost."""
    path = claude_file(sources)
    whole = lines(claude_records(0, 4))
    path.write_bytes(whole[:-40])
    first = desk.take(sources)
    assert (first.added, first.damaged) == (3, 0)
    path.write_bytes(whole)
    assert desk.take(sources).added == 1
    assert talk(desk) == [f"turn {nth} of talk 0" for nth in range(4)]


def test_a_source_that_began_anew_is_read_from_its_beginning(desk, sources):
    """The offset of the last time means nothing in a file that was written anew."""
    path = claude_file(sources)
    path.write_bytes(lines(claude_records(0, 5)))
    desk.take(sources)
    path.write_bytes(lines(claude_records(0, 9, of=7)))
    assert desk.take(sources).added == 9


def test_a_conversation_that_is_gone_is_read_again(desk, sources):
    """The catalogue says that all is known; but the archive was put back to an older state."""
    path = claude_file(sources)
    path.write_bytes(lines(claude_records(0, 5)))
    desk.take(sources)
    os.unlink(os.path.join(desk.root, "default", f"{SESSION.format(1)}.jsonl"))
    assert desk.take(sources).added == 5
    assert len(talk(desk)) == 5


def test_turns_cut_off_the_end_of_the_archive_come_again_when_the_source_grows(desk, sources):
    """A disk lost what was not synced: then what is in the source is not taken as known."""
    path = claude_file(sources)
    path.write_bytes(lines(claude_records(0, 5)))
    desk.take(sources)
    log = os.path.join(desk.root, "default", f"{SESSION.format(1)}.jsonl")
    with open(log, "rb") as file:
        kept = file.read().splitlines(keepends=True)[:3]
    with open(log, "wb") as file:
        file.writelines(kept)
    path.write_bytes(lines(claude_records(0, 6)))
    assert desk.take(sources).added == 3
    assert talk(desk) == [f"turn {nth} of talk 0" for nth in range(6)]


# --- records that look alike ---------------------------------------------------------------------


def test_identical_lines_without_ids_stay_apart(desk, sources, tmp_path):
    """Whoever saves a snapshot three times wrote three lines: the file has them all."""
    snapshot = {"type": "file-history-snapshot", "messageId": "m", "snapshot": {}}
    records = [claude_record(0), snapshot, snapshot, claude_record(1), snapshot]
    path = claude_file(sources)
    path.write_bytes(lines(records))
    assert desk.take(sources).added == 5
    (back,) = desk.give(tmp_path / "out").values()
    with open(back, "rb") as file:
        assert file.read() == path.read_bytes()
    desk.forget()
    assert desk.take(sources).added == 0


def test_one_record_twice_in_a_file_is_there_once_and_given_back_twice(desk, sources, tmp_path):
    """Its words must not double; its file must come back as it was."""
    first, second, third = claude_records(0, 3)
    path = claude_file(sources)
    path.write_bytes(lines([first, second, first, first, third]))
    summary = desk.take(sources)
    assert (summary.added, summary.skipped) == (3, 2)
    assert talk(desk) == [f"turn {nth} of talk 0" for nth in range(3)]
    (back,) = desk.give(tmp_path / "out").values()
    with open(back, "rb") as file:
        assert file.read() == path.read_bytes()
    before = desk.all_turns()
    desk.forget()
    assert desk.take(sources).added == 0
    assert desk.take(tmp_path / "out").added == 0
    assert desk.all_turns() == before


def test_a_record_that_changed_is_kept_as_a_version_and_the_last_one_is_shown(
    desk, sources, tmp_path
):
    """Nothing is edited in place; but what is shown is what the source says now."""
    path = claude_file(sources)
    records = claude_records(0, 3)
    path.write_bytes(lines(records))
    desk.take(sources)
    records[1] = claude_record(1, says="said better")
    path.write_bytes(lines(records))
    desk.forget()
    assert desk.take(sources).added == 1
    last = desk.turns(SESSION.format(1))[-1]
    assert (last.text, last.meta["replaces"]) == ("said better", uuid(0, 1))
    shown = desk.said(format="markdown").decode()
    assert "said better" in shown
    assert "turn 1 of talk 0" not in shown
    for _ in range(2):
        os.utime(path, (1, 1))
        assert desk.take(sources).added == 0
        desk.forget()
    path.write_bytes(lines(claude_records(0, 3)))
    assert desk.take(sources).added == 0, "it is what it was: that is there"


def test_two_records_of_one_id_in_one_file_are_both_kept(desk, sources, tmp_path):
    """An id that was given twice is no reason to lose what was said."""
    records = [*claude_records(0, 2), claude_record(1, says="another"), claude_record(2)]
    path = claude_file(sources)
    path.write_bytes(lines(records))
    assert desk.take(sources).added == 4
    (back,) = desk.give(tmp_path / "out").values()
    with open(back, "rb") as file:
        assert file.read() == path.read_bytes()
    desk.forget()
    assert desk.take(sources).added == 0
    assert desk.take(tmp_path / "out").added == 0


def test_records_that_are_no_strict_json_are_kept_as_text(desk, sources, tmp_path):
    """NaN and half characters occur in files; in the log they would make it unreadable."""
    path = claude_file(sources)
    odd = [
        lines([claude_record(1)]).replace(b'"turn 1', b'"\\ud83d turn 1'),
        lines([claude_record(2, cost=0)]).replace(b'"cost": 0', b'"cost": NaN'),
        lines([claude_record(3, cost=0)]).replace(b'"cost": 0', b'"cost": -Infinity'),
        lines([claude_record(4, deep=0)]).replace(
            b'"deep": 0', b'"deep":' + b"[" * 3000 + b"]" * 3000
        ),
        lines([claude_record(5, long=0)]).replace(b'"long": 0', b'"long": ' + b"9" * 5000),
    ]
    path.write_bytes(lines([claude_record(0)]) + b"".join(odd) + lines([claude_record(6)]))
    assert desk.take(sources).added == 7
    assert len(desk.turns(SESSION.format(1))) == 7
    (back,) = desk.give(tmp_path / "out").values()
    with open(back, "rb") as file:
        assert file.read() == path.read_bytes()
    desk.forget()
    assert desk.take(sources).added == 0
    assert desk.take(tmp_path / "out").added == 0
    exported = tmp_path / "all.jsonl"
    exported.write_bytes(desk.said(format="convmem"))
    other = Desk(tmp_path / "other")
    assert other.take(exported).added == 7
    other.give(tmp_path / "out")
    with open(back, "rb") as file:
        assert file.read() == path.read_bytes()


# --- what is in a source -------------------------------------------------------------------------


def test_an_empty_file_is_no_failure(desk, sources):
    """17 of 99 real sessions are empty files."""
    claude_file(sources).write_bytes(b"")
    (sources / "blank.jsonl").write_bytes(b"\n\n  \n")
    assert desk.take(sources).added == 0
    assert desk.take(claude_file(sources)).added == 0
    claude_file(sources).write_bytes(lines(claude_records(0, 2)))
    assert desk.take(sources).added == 2


def test_damage_is_mined_and_counted(desk, sources):
    """Two records on one line, one cut and another behind it, NULs: all else is there."""
    records = [lines([each])[:-1] for each in claude_records(0, 6)]
    damaged = [
        records[0] + records[1],
        records[2][:50] + records[3],
        b"\0" * 5000 + records[4],
        records[5],
    ]
    claude_file(sources).write_bytes(b"\n".join(damaged) + b"\n")
    summary = desk.take(sources)
    assert (summary.added, summary.damaged) == (5, 4)
    assert talk(desk) == [f"turn {nth} of talk 0" for nth in (0, 1, 3, 4, 5)]
    desk.forget()
    assert desk.take(sources).added == 0


def test_kinds_that_nobody_knows_are_kept_and_counted(desk, sources, tmp_path):
    """Vendors add kinds of records without notice; what they hold is not for us to drop."""
    path = claude_file(sources)
    path.write_bytes(lines([*claude_records(0, 2), {"type": "hologram", "uuid": "h", "x": [1]}]))
    summary = desk.take(sources)
    assert (summary.added, summary.unknown) == (3, 1)
    last = desk.turns(SESSION.format(1))[-1]
    assert (last.role, last.extra["raw"]["x"]) == ("event", [1])


def test_a_new_kind_of_record_alone_in_what_grew_is_kept_and_counted(desk, sources):
    """The file was understood before: one new kind at its end is no change of its format."""
    path = claude_file(sources)
    path.write_bytes(lines(claude_records(0, 2)))
    desk.take(sources)
    path.write_bytes(path.read_bytes() + lines([{"type": "hologram", "uuid": "h"}]))
    summary = desk.take(path)
    assert (summary.added, summary.unknown) == (1, 1)
    path.write_bytes(path.read_bytes() + b'{"type":"user","uu\n')
    assert desk.take(path).damaged == 1
    path.write_bytes(path.read_bytes() + lines(claude_records(2, 3)))
    assert desk.take(path).added == 1


def test_one_odd_talk_does_not_keep_the_others_of_its_file_out(desk, sources):
    """The first conversation of an export may be anything."""
    path = sources / "conversations.json"
    good = values_in(MADE["claude-ai"](sources, 4))[0]
    path.write_text(json.dumps([{"uuid": "odd", "chat_messages": 5}, 17, good]))
    summary = desk.take(path)
    assert summary.added == summary.records == 7
    assert summary.unknown > 0


@pytest.mark.parametrize("name", [name for name in known.MODULES if name != "aider"])
def test_whatever_it_is_said_to_be_what_is_none_of_it_is_not_stored(desk, sources, name):
    """--from is a promise of the user's; what is in the file decides."""
    path = sources / "odd.data"
    path.write_bytes(lines([{"a": 1}, {"b": [2]}, {"c": "three"}]))
    desk.take(path, forced=name, fails=1)
    assert desk.all_turns() == {}


@pytest.mark.parametrize("many", [3, 12_000])
def test_a_source_of_which_nothing_is_understood_is_an_error_and_stores_nothing(
    desk, sources, many
):
    """A format that changed must be noticed on the first day, not by an archive of riddles."""
    path = claude_file(sources)
    path.write_bytes(lines([{"type": "hologram", "uuid": f"h{nth}"} for nth in range(many)]))
    summary = desk.take(path, fails=1, forced="claude-code")
    ((key, error),) = summary.failures
    assert (key, error.kind) == (str(path), "unrecognised")
    assert "0 of " in str(error)
    assert desk.all_turns() == {}
    assert desk.take(path, fails=1, forced="claude-code").added == 0, "and it says so again"


def test_a_source_of_damage_alone_is_an_error(desk, sources):
    """Not a success with nothing in it."""
    path = claude_file(sources)
    path.write_bytes(b'{"type":"user","uuid":\n{"type":"user","uuid":\n' * 3)
    summary = desk.take(path, fails=1, forced="claude-code")
    assert "0 of " in str(summary.failures[0][1])


def test_what_cannot_be_read_does_not_keep_the_others_out(desk, sources):
    """One bad file among thousands: it is named, and the others are there."""
    claude_file(sources).write_bytes(lines(claude_records(0, 3)))
    (sources / "broken.zip").write_bytes(b"PK\x03\x04 and no more than that")
    (sources / "also.jsonl.gz").write_bytes(b"\x1f\x8b\x08\0 no gzip")
    summary = desk.take(sources, fails=2)
    assert summary.added == 3
    assert {os.path.basename(key) for key, _ in summary.failures} == {"broken.zip", "also.jsonl.gz"}
    assert all(isinstance(error, ConvmemError) for _, error in summary.failures)


def test_files_that_are_no_transcripts_are_told_and_need_no_second_look(desk, sources):
    """A folder of transcripts has settings and notes in it."""
    claude_file(sources).write_bytes(lines(claude_records(0, 3)))
    (sources / "settings.json").write_text('{"theme": "dark"}')
    first = desk.take(sources)
    assert [os.path.basename(key) for key in first.unrecognised] == ["settings.json"]
    again = desk.take(sources)
    assert (again.files, again.unchanged, again.passed_over) == (2, 1, 1)


def test_a_zip_is_taken_with_what_else_is_in_it(desk, sources):
    """The zip of an export holds pictures and settings beside the talks."""
    path = MADE["chatgpt"](sources, 4)
    assert desk.take(path).added == 6


def test_a_path_that_is_not_there_is_the_users_mistake(desk):
    """Said before anything is done."""
    with pytest.raises(UsageError):
        desk.take("/nowhere/at/all")
    assert not os.path.exists(desk.root)


# --- which conversations -------------------------------------------------------------------------


def test_sub_agents_are_left_out_until_they_are_asked_for(desk, sources):
    """They outnumber the talks ten to one."""
    claude_file(sources).write_bytes(lines(claude_records(0, 3)))
    beside = sources / SESSION.format(1) / "subagents"
    beside.mkdir(parents=True)
    agent = claude_records(0, 2, of=5, isSidechain=True, agentId="a1b2")
    (beside / "agent-a1b2.jsonl").write_bytes(lines(agent))
    assert desk.take(sources).added == 3
    assert desk.take(sources).added == 0
    assert desk.take(sources, include_agents=True).added == 2
    assert set(desk.all_turns()) == {SESSION.format(1), f"{SESSION.format(1)}.agent-a1b2"}
    assert desk.take(sources).added == 0


def test_only_what_went_on_since(desk, sources):
    """And what was left out comes when it is asked for, or when it goes on."""
    claude_file(sources).write_bytes(lines(claude_records(0, 3)))
    summary = desk.take(sources, since=datetime(2026, 3, 2, tzinfo=UTC))
    assert summary.added == 0
    assert desk.take(sources, since=datetime(2026, 2, 1, tzinfo=UTC)).added == 3


def test_talks_of_one_file_that_were_left_out_come_when_they_are_asked_for(desk, sources):
    """An export holds years; last month's was taken first."""
    talks = []
    for month in (1, 3, 5):
        at = f"2026-{month:02}-01T00:00:00Z"
        message = {"uuid": f"m{month}", "sender": "human", "text": "hi", "content": []}
        times = {"created_at": at, "updated_at": at}
        talks.append({"uuid": f"t{month}", "name": "", **times, "chat_messages": [message]})
    (sources / "conversations.json").write_text(json.dumps([talks[1], talks[0], talks[2]]))
    assert desk.take(sources, since=datetime(2026, 4, 1, tzinfo=UTC)).added == 2
    assert desk.take(sources, since=datetime(2026, 4, 1, tzinfo=UTC)).unchanged == 1
    assert desk.take(sources, since=datetime(2026, 2, 1, tzinfo=UTC)).added == 2
    assert desk.take(sources).added == 2
    assert desk.take(sources).unchanged == 1


@every_format
def test_a_dry_run_says_what_an_import_would_add_and_writes_nothing(desk, sources, name):
    """So that one can look before one leaps."""
    MADE[name](sources, 6)
    told = desk.take(sources, dry_run=True)
    assert not os.path.exists(desk.root) or desk.all_turns() == {}
    done = desk.take(sources)
    assert (told.added, told.records, told.conversations) == (
        done.added,
        done.records,
        done.conversations,
    )
    assert desk.take(sources, dry_run=True).added == 0


# --- names that somebody else chose --------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "a/b",
        "x" * 300,
        "nul\0nul",
        "line\nline",
        "",
        ".",
        "..",
        "ÅØ 漢字",
        " x",
    ],
)
def test_a_conversation_may_have_any_name(desk, sources, tmp_path, name):
    """Ids come from files that anybody may have made; all stay inside, and all come back."""
    talk = {
        "uuid": name,
        "name": "A talk",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "chat_messages": [
            {"uuid": "m1", "sender": "human", "text": "hello", "content": []},
        ],
    }
    path = sources / "conversations.json"
    path.write_text(json.dumps([talk]))
    assert desk.take(sources).added == 2
    desk.forget()
    assert desk.take(sources).added == 0
    archive = os.path.realpath(desk.root)
    found = [os.path.join(folder, each) for folder, _, names in os.walk(tmp_path) for each in names]
    assert all(each.startswith(archive) for each in found if each != str(path))
    (back,) = desk.give(tmp_path / "out").values()
    with open(back, "rb") as file:
        assert json.load(file) == talk


def test_members_of_a_zip_are_never_written_where_their_names_lead(desk, sources, tmp_path):
    """A zip may name its members as it likes."""
    talk = MADE["claude-ai"](tmp_path, 4).read_bytes()
    path = sources / "export.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("../../../escaped.json", talk)
    assert desk.take(sources).added == 5
    out = tmp_path / "out" / "deep" / "down"
    (back,) = desk.give(out).values()
    assert os.path.realpath(back).startswith(os.path.realpath(out))


def test_file_names_that_are_no_text_are_no_obstacle(desk, sources, tmp_path):
    """Newlines, bytes that are not UTF-8, a name that begins with a dash."""
    folder = os.fsencode(sources)
    for nth, name in enumerate(
        (b"two\nlines.jsonl", b"\xff\xfe.jsonl", b"-rf.jsonl", b"a b.jsonl")
    ):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(lines(claude_records(0, 2, session=nth, of=nth)))
    assert desk.take(sources).added == 8
    assert desk.take(sources).unchanged == 4
    found = desk.give(tmp_path / "out")
    assert len(set(found.values())) == 4
    assert all(os.path.isfile(each) for each in found.values())
